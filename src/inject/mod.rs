//! Injection: drives a process, and those that are followed with it, through a trace of system calls. It matches and answers calls, runs hooks, detects a
//! divergence from the trace, and reports the outcome.
//!
//! This module knows neither Lua nor how the process was made.

mod amount;
mod answer;
mod clock;
mod diff;
mod emulated;
mod ends;
mod exchange;
mod given_files;
mod hook;
mod live;
mod log;
mod lost_content;
mod options;
mod outcome;
mod refused;
mod report;
mod rules;
mod script;
mod select;
mod short_transfer;
mod step_data;
mod tolerated;

pub use crate::restore::Peers;
pub use crate::sandbox::ServerAddress;
pub use emulated::inject;
pub use given_files::{OtherContent, OtherFile};
pub use hook::{
    ACTIONS, Action, ActionKind, ActionValue, ChangeError, Finally, HookCall, HookError, HookExit,
    HookSignal, Hooks, NoHooks, OnDivergence, PeerData, Phase, STAT, ScratchMemory, Server,
    ServerData, SignalAction, VECTOR, returns,
};
pub use live::{Aftermath, AftermathFile, live, run};
pub use options::{Options, SANDBOX_VARIABLE, Sandbox};
pub use outcome::{ChangedFile, Divergence, Injected, Outcome, ProcessOutcome, Status};
pub use report::Driven;
pub use rules::{Conditions, Pid, Processes, Rule, RuleError, RuleSet};
pub use script::Script;
pub(crate) use select::lookup;
pub use select::{PathPattern, Selector, When};
pub use tolerated::IGNORED;

use crate::{recording, restore, tracee};

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// The reasons for which an injection fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// The sandbox cannot be made.
    #[error(transparent)]
    Sandbox(crate::sandbox::Error),
    /// The recording that the calls come from cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
    /// The kernel's state of a process that goes live cannot be restored.
    #[error(transparent)]
    Restore(#[from] restore::Error),
    /// The outputs of the trace's call cannot be encoded.
    #[error("{place}: cannot answer {call} as the trace says: {reason}")]
    Effect {
        /// The file and line, or the event.
        place: String,
        /// The call.
        call: String,
        /// The reason.
        reason: String,
    },
    /// `start` or `end` is outside of the trace.
    #[error("the trace has {len} calls, numbered 0 to {}: there is no call {index}", len.saturating_sub(1))]
    Range {
        /// The index asked for.
        index: usize,
        /// The number of calls in the trace.
        len: usize,
    },
    /// `end` is before `start`.
    #[error("the range {start} to {end} of the trace is empty: its end is before its start")]
    Reversed {
        /// The first index.
        start: usize,
        /// The last index.
        end: usize,
    },
    /// `pids` has a task that does not exist.
    #[error("pids: {0}")]
    Pids(String),
    /// A file cannot have the content that hooks ask for.
    #[error("files: cannot give {path} another content: {reason}")]
    File {
        /// The path, as the hooks name it.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A server cannot be played for live processes.
    #[error("listen: nobody can be played at {address}: {reason}")]
    Server {
        /// The address, as it is written.
        address: String,
        /// The reason.
        reason: &'static str,
    },
    /// The other processes of the family of a process that goes live cannot be made.
    #[error("cannot make the other processes of its family: {0}")]
    Family(#[source] crate::process::SourceError),
    /// A hook raised an error.
    #[error("a hook failed: {0}")]
    Hook(#[source] HookError),
}

impl From<crate::sandbox::Error> for Error {
    fn from(error: crate::sandbox::Error) -> Error {
        match error {
            // It may have ended in the middle, as anywhere.
            crate::sandbox::Error::Tracee(error) => Error::Tracee(error),
            error => Error::Sandbox(error),
        }
    }
}
