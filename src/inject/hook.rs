//! Hooks: the trait that users implement, and the calls and signals that its methods get.

mod actions;
mod call;
mod change;
mod clock;
mod decision;
mod error;
mod files;
mod messages;
mod offset;
mod scratch;
mod signal;
mod stat;

pub use actions::{ACTIONS, Action, ActionKind, ActionValue, returns};
pub use call::HookCall;
pub use change::VECTOR;
pub(crate) use decision::Decision;
pub use error::ChangeError;
pub use scratch::ScratchMemory;
pub(crate) use scratch::ScratchPiece;
pub use signal::{HookExit, HookSignal, SignalAction};
pub use stat::STAT;

use super::{Divergence, tolerated};
use crate::syscall::Syscall;

/// An error that a hook raises.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// The time at which a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The call has been made and not been answered.
    Enter,
    /// The answer is known, and can still be changed.
    Exit,
}

/// The reaction to a process that leaves the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDivergence {
    /// It is stopped.
    Stop,
    /// It goes on live, from this call.
    Live,
    /// This many calls of the trace are dropped, and the next one is expected.
    Skip(usize),
    /// This call is answered with this value, and the trace stays where it is.
    Answer(i64),
}

/// The treatment of the process at the end of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finally {
    /// The process is killed.
    #[default]
    Kill,
    /// It goes on live.
    Live,
    /// It stays stopped, and can be driven on.
    Keep,
}

/// A user's functions that see and change the calls of a process.
pub trait Hooks {
    /// A call has been made and not been answered yet.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn enter(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// The answer of a call is known.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn exit(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// The process left the trace.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn diverged(&mut self, divergence: &Divergence)
    -> std::result::Result<OnDivergence, HookError>;

    /// Rules that never fired, each as the user would name it.
    fn unfired(&self) -> Vec<String>;

    /// A signal is about to reach a task.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn signal(&mut self, _signal: &mut HookSignal) -> std::result::Result<(), HookError> {
        Ok(())
    }

    /// A process has ended.
    ///
    /// # Errors
    /// Whatever went wrong; all processes that are left are killed.
    fn exited(&mut self, _exit: &HookExit) -> std::result::Result<(), HookError> {
        Ok(())
    }

    /// Whether calls of this name may appear or be missing without the process having left the trace.
    fn is_ignored(&self, call: &str) -> bool {
        tolerated::is_ignored(call)
    }

    /// Whether a call could be of interest: false only where neither [`Hooks::enter`] nor [`Hooks::exit`] would ever
    /// do anything with it. Live processes make such calls without a stop.
    fn wants(&self, _call: &Syscall) -> bool {
        true
    }

    /// Whether a call is of interest for itself, and not because all are. A program that was not recorded then makes it
    /// where it would ask the vdso.
    fn names(&self, call: &Syscall) -> bool {
        self.wants(call)
    }
}

/// No hooks: the trace's own answers, and a divergence stops the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn enter(&mut self, _call: &mut HookCall) -> std::result::Result<(), HookError> {
        Ok(())
    }

    fn exit(&mut self, _call: &mut HookCall) -> std::result::Result<(), HookError> {
        Ok(())
    }

    fn diverged(&mut self, _: &Divergence) -> std::result::Result<OnDivergence, HookError> {
        Ok(OnDivergence::Stop)
    }

    fn unfired(&self) -> Vec<String> {
        Vec::new()
    }

    fn wants(&self, _call: &Syscall) -> bool {
        false
    }
}
