//! Errors of replays.

use super::doubt::Doubt;
use crate::{recording, tracee};

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why a replay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
    /// The process cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The process did not do what was recorded.
    #[error(
        "the replay left the recording at event {event}: expected {expected}, got {actual}{doubt}"
    )]
    Diverged {
        /// The event.
        event: u64,
        /// The recorded action, in strace's syntax.
        expected: String,
        /// The action of the process.
        actual: String,
        /// A possible reason.
        doubt: Doubt,
    },
    /// The recording does not begin with a program's start.
    #[error(
        "the recording {recording} does not begin with a program's start: it cannot be replayed"
    )]
    NoProgram {
        /// The recording.
        recording: String,
    },
    /// The frames of the recording contradict each other.
    #[error("the recording makes no sense at event {event}: {what}")]
    Senseless {
        /// The event.
        event: u64,
        /// The contradiction.
        what: String,
    },
    /// More tasks than the limit for untrusted recordings.
    #[error(
        "the recording has more than {tasks} tasks or {spaces} processes at once at event {event}: it is not followed further"
    )]
    TooMany {
        /// The event.
        event: u64,
        /// The limit of tasks.
        tasks: usize,
        /// The limit of address spaces.
        spaces: usize,
    },
    /// More shared objects than the limit of open files admits.
    #[error(
        "the recording has more than {most} pieces of shared memory at once at event {event}, and each takes an open file: `ulimit -Hn` says how many there may be"
    )]
    TooMuchShared {
        /// The event.
        event: u64,
        /// The limit.
        most: usize,
    },
    /// No process with this pid.
    #[error("there is no process {pid} at event {event} of the recording; there is {there}")]
    NoSuchProcess {
        /// The pid asked for.
        pid: i32,
        /// The event.
        event: u64,
        /// The pids that exist.
        there: String,
    },
    /// The replay is behind the last event, where no process is left.
    #[error("the replay is at the end of the recording: no process is left to spin off")]
    AtEnd,
    /// An error of another engine.
    #[error(transparent)]
    Engine(Box<dyn std::error::Error + Send + Sync>),
    /// The user interrupted the replay.
    #[error("the replay was interrupted")]
    Interrupted,
}
