//! Words for people, on stderr.

/// Says something. Where nobody takes it, the work goes on: `eprintln!` would panic.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
