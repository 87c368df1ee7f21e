//! What can go wrong while tracing.

use crate::trace::Exit;
use std::io;

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What was attempted on which task, and what the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {what} (task {tid}): {source}")]
    Os {
        /// What was attempted, as the words after "cannot".
        what: String,
        /// The task; 0 where there is none yet.
        tid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The task ended while something was being done to it.
    #[error("the process {tid} ended ({}) while rrapper was about to {what}", exit.in_words())]
    Ended {
        /// What was attempted.
        what: &'static str,
        /// The task.
        tid: i32,
        /// How it ended.
        exit: Exit,
    },
    /// The task stopped for a reason that has no place here.
    #[error("unexpected stop of task {tid} while rrapper was about to {what}: {stop}")]
    Unexpected {
        /// What was attempted.
        what: &'static str,
        /// The task.
        tid: i32,
        /// The stop, described.
        stop: String,
    },
    /// `/proc` does not tell of the processes that there are.
    #[error("no process can be looked at: {why}")]
    NoProc {
        /// What is wrong with it, and what to do about that.
        why: String,
    },
    /// A time limit ran out.
    #[error("task {tid} did not stop within its time limit")]
    Timeout {
        /// The task.
        tid: i32,
    },
}

impl Error {
    /// Whether the task was not there any more: somebody has killed it as it stood.
    pub(crate) fn is_of_killed(&self) -> bool {
        match self {
            Error::Os { source, .. } => source.raw_os_error() == Some(libc::ESRCH),
            Error::Ended { exit, .. } => matches!(exit, Exit::Signal { .. }),
            Error::Unexpected { .. } | Error::NoProc { .. } | Error::Timeout { .. } => false,
        }
    }

    /// The error of the system call that just failed.
    pub(crate) fn last(what: impl Into<String>, tid: i32) -> Error {
        Error::os(what, tid, io::Error::last_os_error())
    }

    /// An error with its cause given.
    pub(crate) fn os(what: impl Into<String>, tid: i32, source: impl Into<io::Error>) -> Error {
        Error::Os {
            what: what.into(),
            tid,
            source: source.into(),
        }
    }
}
