//! The two system calls that send.

use std::io::{self, IoSlice};

use mio::net::TcpStream;

use crate::outgoing::FileRange;

/// Sends bytes; `more` asks the kernel to wait for what follows before it sends a packet that is
/// not full.
#[cfg(target_os = "linux")]
pub fn send(stream: &TcpStream, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

    let more = if more { SendFlags::MORE } else { SendFlags::empty() };
    let mut nothing = SendAncillaryBuffer::default();
    Ok(sendmsg(stream, slices, &mut nothing, SendFlags::NOSIGNAL | more)?)
}

/// Sends bytes.
#[cfg(not(target_os = "linux"))]
pub fn send(mut stream: &TcpStream, slices: &[IoSlice<'_>], _more: bool) -> io::Result<usize> {
    use std::io::Write;

    stream.write_vectored(slices)
}

/// Sends the start of a piece of a file without copying it through this process. 0: the file has
/// ended before the piece does.
#[cfg(target_os = "linux")]
pub fn send_file(stream: &TcpStream, range: &FileRange) -> io::Result<usize> {
    let mut position = range.position;
    let most = usize::try_from(range.length).unwrap_or(usize::MAX);
    Ok(rustix::fs::sendfile(stream, &*range.file, Some(&mut position), most)?)
}

/// Sends the start of a piece of a file, by way of a small buffer.
#[cfg(not(target_os = "linux"))]
pub fn send_file(mut stream: &TcpStream, range: &FileRange) -> io::Result<usize> {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    let mut buffer = [0; 64 << 10];
    let most = buffer.len().min(range.length as usize);
    let read = range.file.read_at(&mut buffer[..most], range.position)?;
    stream.write(&buffer[..read])
}
