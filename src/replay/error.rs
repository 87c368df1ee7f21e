//! What can go wrong while replaying.

use super::doubt::Doubt;
use crate::{recording, tracee};

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a replay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
    /// The process cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The process did something else than was recorded.
    #[error(
        "the replay left the recording at event {event}: expected {expected}, got {actual}{doubt}"
    )]
    Diverged {
        /// At which event.
        event: u64,
        /// What was recorded, in strace's syntax.
        expected: String,
        /// What the process did.
        actual: String,
        /// Why it may have, if something speaks for that.
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
        /// At which event.
        event: u64,
        /// What about it.
        what: String,
    },
    /// More tasks than are believed.
    #[error(
        "the recording has more than {tasks} tasks or {spaces} processes at once at event {event}: it is not followed further"
    )]
    TooMany {
        /// At which event.
        event: u64,
        /// How many tasks there may be.
        tasks: usize,
        /// How many address spaces there may be.
        spaces: usize,
    },
    /// More shared objects than are believed.
    #[error(
        "the recording has more than {most} pieces of shared memory at once at event {event}, and each takes an open file: `ulimit -Hn` says how many there may be"
    )]
    TooMuchShared {
        /// At which event.
        event: u64,
        /// How many there may be.
        most: usize,
    },
    /// No process with this pid.
    #[error("there is no process {pid} at event {event} of the recording; there is {there}")]
    NoSuchProcess {
        /// The pid asked for.
        pid: i32,
        /// The event.
        event: u64,
        /// Which there are.
        there: String,
    },
    /// The replay is behind the last event, where no process is left.
    #[error("the replay is at the end of the recording: no process is left to spin off")]
    AtEnd,
    /// An error of another engine.
    #[error(transparent)]
    Engine(Box<dyn std::error::Error + Send + Sync>),
    /// The user wants an end.
    #[error("the replay was interrupted")]
    Interrupted,
}
