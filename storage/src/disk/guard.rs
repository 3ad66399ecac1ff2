//! Stores through a map that cannot reach the disk.
//!
//! A store to a mapped page raises SIGBUS when the file system refuses the page: the volume has
//! turned read-only, the device is gone, the file was shortened by somebody else. The handler here
//! puts a page of plain memory in its place, so that the store goes through and leads nowhere, and
//! takes note of it; [`copy`] then answers an error. A SIGBUS from anywhere else ends the process,
//! as it would without the handler.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{Ordering, compiler_fence};

/// Where this thread copies to, and whether a store there was refused.
#[derive(Clone, Copy)]
struct Guarded {
    start: usize,
    end: usize,
    refused: bool,
}

const NOTHING: Guarded = Guarded { start: 0, end: 0, refused: false };

thread_local! {
    // Constant and without a destructor: a signal handler may look at it at any time.
    static GUARDED: Cell<Guarded> = const { Cell::new(NOTHING) };
}

/// Makes [`copy`] answer errors instead of ending the process. To be called once before it.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus;
        // SAFETY: an all-zero sigaction is a valid one; its fields are set as sigaction(2) wants
        // them, and the handler does only what signal-safety(7) allows.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
        }
    });
}

/// Copies `from` into a map. After an error nothing of the map may be used any more: some of its
/// pages may be plain memory.
pub(super) fn copy(into: &mut [u8], from: &[u8]) -> io::Result<()> {
    let start = into.as_ptr() as usize;
    GUARDED.set(Guarded { start, end: start + into.len(), refused: false });
    compiler_fence(Ordering::SeqCst);
    into.copy_from_slice(from);
    compiler_fence(Ordering::SeqCst);
    if GUARDED.replace(NOTHING).refused {
        return Err(io::Error::other("the file system refused a page of the mapped file"));
    }
    Ok(())
}

extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let guarded = GUARDED.get();
    // SAFETY: the kernel hands a valid siginfo_t to a handler with SA_SIGINFO, and for SIGBUS its
    // si_addr is the address of the access.
    let address = unsafe { (*info).si_addr() } as usize;
    if (guarded.start..guarded.end).contains(&address) && replace_page(address) {
        GUARDED.set(Guarded { refused: true, ..guarded });
        return;
    }
    let message = b"mk: SIGBUS: a mapped file was shortened or its disk is gone\n";
    // SAFETY: write(2) and signal(2) may be called in a handler. With the default action restored
    // the access is made once more when the handler returns, and ends the process.
    unsafe {
        libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Puts plain memory in place of the page at this address, in a map that this thread writes to.
fn replace_page(address: usize) -> bool {
    // SAFETY: sysconf(3) has no preconditions. mmap(2) replaces one page of a map that the thread
    // that was interrupted holds by a mutable reference (see `copy`), so nobody else looks at it;
    // whoever unmaps the whole map unmaps this page with it.
    unsafe {
        let page_size = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let page = (address & !(page_size - 1)) as *mut libc::c_void;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page, page_size, access, flags, -1, 0) == page
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapOptions;

    use super::*;

    /// The file is shortened under its map: a store behind its end raises SIGBUS.
    #[test]
    fn a_refused_store_is_an_error() {
        install();
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 10).unwrap();
        // SAFETY: the file is changed by this test alone, which means to.
        let mut map = unsafe { MmapOptions::new().len(64 << 10).map_mut(&file).unwrap() };
        copy(&mut map[..10_000], &[1; 10_000]).unwrap();
        file.set_len(8 << 10).unwrap();
        copy(&mut map[..8000], &[2; 8000]).unwrap();
        assert!(copy(&mut map[20_000..50_000], &[3; 30_000]).is_err());
        copy(&mut map[..8000], &[4; 8000]).unwrap();
    }
}
