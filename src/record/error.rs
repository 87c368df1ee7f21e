//! Errors of recording.

use crate::{recording, sandbox, tracee};
use std::path::PathBuf;

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why a recording could not be made or completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recording cannot be written.
    #[error(transparent)]
    Recording(#[from] recording::Error),
    /// The program cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The kernel cannot execute the program.
    #[error("cannot execute {}: {source}", exe.display())]
    Execute {
        /// The program's file.
        exe: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The process ended before it executed the program.
    #[error("cannot start {}: it could not be set up (is its directory there?)", exe.display())]
    NotStarted {
        /// The program's file.
        exe: PathBuf,
    },
    /// A mapped file cannot be copied into the recording.
    #[error("cannot keep a copy of {path}, which the program maps at event {event}: {source}")]
    Keep {
        /// The file.
        path: String,
        /// The number of the event.
        event: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("{source}; the program was ended, and the recording up to event {events} is in {}", dir.display())]
    Full {
        /// The data that could not be written.
        source: Box<Error>,
        /// The last event that was written.
        events: u64,
        /// The recording's directory.
        dir: PathBuf,
    },
    /// The system does not allow the sandbox in which the program would be recorded.
    #[error(
        "there is no sandbox to be had here: its first process could not {step}: {source}; {}, or record without a sandbox",
        sandbox::advice(step, source)
    )]
    NoSandbox {
        /// The step, as the words after "could not".
        step: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A setup command failed.
    #[error("the setup command {command:?} {how}; nothing was recorded")]
    Setup {
        /// The command.
        command: String,
        /// How it ended, in words.
        how: String,
    },
    /// The setup commands have not made the directory in which the program is to start.
    #[error("cannot start the program in {}: there is no such directory in the sandbox", dir.display())]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// An error in the separate recorder process.
    #[error("{0}")]
    Beside(String),
    /// The separate recorder process ended, and with it the program.
    #[error("the recorder {how}, and the program with it; what was recorded up to there is in {}", dir.display())]
    RecorderEnded {
        /// The end of the process, in words.
        how: String,
        /// The recording's directory.
        dir: PathBuf,
    },
    /// The program did something that cannot be recorded yet.
    #[error("cannot record {what} at event {event}{}; the recording up to there is in {}", reason(.why), dir.display())]
    Unsupported {
        /// The program's action.
        what: String,
        /// The reason why it cannot be recorded; may be empty.
        why: String,
        /// The number that the event would have had.
        event: u64,
        /// The recording's directory.
        dir: PathBuf,
    },
}

impl From<sandbox::Error> for Error {
    fn from(error: sandbox::Error) -> Error {
        match error {
            sandbox::Error::Refused { step, source } => Error::NoSandbox { step, source },
            sandbox::Error::Tracee(error) => Error::Tracee(error),
        }
    }
}

impl Error {
    /// Returns whether the error is a full disk.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Error::Recording(error) => error.is_full(),
            Error::Keep { source, .. } => recording::is_full(source),
            Error::Tracee(tracee::Error::Os { source, .. }) => recording::is_full(source),
            _ => false,
        }
    }
}

fn reason(why: &str) -> String {
    if why.is_empty() {
        String::from(" yet")
    } else {
        format!(": {why}")
    }
}
