//! Errors of tracing.

use crate::trace::Exit;
use std::io;

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An attempted operation, the task, and the kernel's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {what} (task {tid}): {source}")]
    Os {
        /// The attempted operation, as the words after "cannot".
        what: String,
        /// The task; 0 where there is none yet.
        tid: i32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The task ended during the operation.
    #[error("the process {tid} ended ({}) while rrapper was about to {what}", exit.in_words())]
    Ended {
        /// The attempted operation.
        what: &'static str,
        /// The task.
        tid: i32,
        /// The task's end.
        exit: Exit,
    },
    /// The task stopped for an unexpected reason.
    #[error("unexpected stop of task {tid} while rrapper was about to {what}: {stop}")]
    Unexpected {
        /// The attempted operation.
        what: &'static str,
        /// The task.
        tid: i32,
        /// The description of the stop.
        stop: String,
    },
    /// `/proc` does not show the processes.
    #[error("no process can be looked at: {why}")]
    NoProc {
        /// The problem, with advice.
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
    /// Whether the task does not exist any more: it was killed while it was stopped.
    pub(crate) fn is_of_killed(&self) -> bool {
        match self {
            Error::Os { source, .. } => source.raw_os_error() == Some(libc::ESRCH),
            Error::Ended { exit, .. } => matches!(exit, Exit::Signal { .. }),
            Error::Unexpected { .. } | Error::NoProc { .. } | Error::Timeout { .. } => false,
        }
    }

    /// The error of the last system call, from errno.
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
