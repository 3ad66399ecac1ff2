//! What becomes of a server that finds itself wrong.

/// Ends the process when any of its threads panics, once the panic is told. A broker of which a thread is
/// gone would be half a broker: it would beat, and not fetch, or not hear who leads. One that is gone is
/// replaced in less than a second.
pub fn end_process_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const INSIDE: &str = "MK_TEST_PANIC";

    /// The thread that took in what a broker fetched had panicked; the broker beat on and never was in sync
    /// again.
    #[test]
    fn a_thread_that_panics_takes_the_process_with_it() {
        if std::env::var_os(INSIDE).is_some() {
            end_process_on_panic();
            let _ = std::thread::spawn(|| panic!("as it is meant")).join();
            std::process::exit(0);
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "panic::tests::a_thread_that_panics_takes_the_process_with_it"]);
        let ended = again.env(INSIDE, "1").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert_eq!(ended.unwrap().signal(), Some(6), "SIGABRT");
    }
}
