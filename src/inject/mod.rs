//! Driving one process through a trace of system calls: match, answer, call hooks, notice where
//! the process leaves the trace, and say what became of it.
//!
//! Knows neither Lua nor where the process came from.

mod amount;
mod answer;
mod clock;
mod diff;
mod emulated;
mod exchange;
mod hook;
mod live;
mod log;
mod options;
mod outcome;
mod partial;
mod refused;
mod report;
mod rules;
mod script;
mod select;
mod step_data;
mod tolerated;

pub use emulated::inject;
pub use hook::{
    ACTIONS, Action, ActionKind, ActionValue, ChangeError, Finally, HookCall, HookError, HookExit,
    HookSignal, Hooks, NoHooks, OnDivergence, Phase, STAT, ScratchMemory, SignalAction, VECTOR,
    returns,
};
pub use live::{live, run};
pub use options::{Options, Sandbox};
pub use outcome::{ChangedFile, Divergence, Injected, Outcome, Status};
pub use report::Driven;
pub use rules::{Conditions, Rule, RuleError, RuleSet};
pub use script::Script;
pub use select::{PathPattern, Selector, When};
pub use tolerated::IGNORED;

use crate::{recording, restore, tracee};

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an injection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// It cannot be kept apart from the machine.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The recording that drives it cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
    /// The kernel cannot be told what it must know of a process that goes live.
    #[error(transparent)]
    Restore(#[from] restore::Error),
    /// An entry of the trace cannot be turned into what the kernel would have answered.
    #[error("{place}: cannot answer {call} as the trace says: {reason}")]
    Effect {
        /// File and line, or event.
        place: String,
        /// The call.
        call: String,
        /// Why not.
        reason: String,
    },
    /// `start` or `end` is outside of the trace.
    #[error("the trace has {len} calls, numbered 0 to {}: there is no call {index}", len.saturating_sub(1))]
    Range {
        /// The index asked for.
        index: usize,
        /// How many calls there are.
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
    /// `pids` says something of a task that is not there.
    #[error("pids: {0}")]
    Pids(String),
    /// A hook raised.
    #[error("a hook failed: {0}")]
    Hook(#[source] HookError),
}
