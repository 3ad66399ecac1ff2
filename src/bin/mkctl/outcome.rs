//! How a command ends.

use std::io;
use std::process::ExitCode;

use mk::client::ClientError;

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub enum Failure {
    /// Whoever reads our output has gone: nothing is wrong.
    NobodyReads,
    /// Something failed; it was not reported yet.
    Failed(String),
    /// Something failed, and was reported where it happened.
    Reported,
    /// No broker was reached, or the time is up.
    Unreachable(String),
    /// The command line makes no sense.
    Usage(String),
    /// The cluster is not well; what is wrong was printed.
    Unhealthy,
}

impl Failure {
    /// Says what happened, and answers the exit code.
    pub fn report(self) -> ExitCode {
        let (code, message) = match self {
            Failure::NobodyReads => return ExitCode::SUCCESS,
            Failure::Reported => return ExitCode::from(1),
            Failure::Unhealthy => return ExitCode::from(10),
            Failure::Failed(message) => (1, message),
            Failure::Usage(message) => (2, message),
            Failure::Unreachable(message) => (3, message),
        };
        say!("mkctl: {message}");
        ExitCode::from(code)
    }

    /// The worse of two: to reach nobody is worse than to fail.
    pub fn of(error: &ClientError) -> Failure {
        let message = describe(error);
        if error.is_unreachable() && error.code().is_none() {
            Failure::Unreachable(message)
        } else {
            Failure::Failed(message)
        }
    }
}

/// The error, and what to do about it.
pub fn describe(error: &ClientError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::of(&error)
    }
}

/// An error of writing to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Failed(format!("cannot write the output: {error}")),
        }
    }
}
