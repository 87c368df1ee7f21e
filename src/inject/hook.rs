//! Hooks: the trait that users implement, and the calls and signals that its methods receive.

mod actions;
mod call;
mod change;
mod clock;
mod decision;
mod error;
mod files;
mod messages;
mod offset;
mod peer;
mod scratch;
mod server;
mod signal;
mod stat;

pub use actions::{ACTIONS, Action, ActionKind, ActionValue, returns};
pub use call::{HookCall, MOST_DATA};
pub use change::VECTOR;
pub(crate) use decision::Decision;
pub use error::ChangeError;
pub use peer::PeerData;
pub use scratch::ScratchMemory;
pub(crate) use scratch::ScratchPiece;
pub use server::{Server, ServerData};
pub use signal::{HookExit, HookSignal, SignalAction};
pub use stat::STAT;

use super::live::Aftermath;
use super::{Divergence, OtherFile, Outcome, tolerated};
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
    /// The process is stopped.
    Stop,
    /// The process goes on live, from this call.
    Live,
    /// This many calls of the trace are dropped, and the next one is expected.
    Skip(usize),
    /// The call is answered with this value, and the expected call stays the same.
    Answer(i64),
}

/// The treatment of the process at the end of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finally {
    /// The process is killed.
    #[default]
    Kill,
    /// The process goes on live.
    Live,
    /// The process stays stopped, and can be driven on.
    Keep,
}

/// A user's functions that see and change the calls of a process.
pub trait Hooks {
    /// Handles a call that has been made and not been answered yet.
    ///
    /// # Errors
    /// Any error of the hook; the process is killed.
    fn enter(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// Handles a call whose answer is known.
    ///
    /// # Errors
    /// Any error of the hook; the process is killed.
    fn exit(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// Whether every divergence lets the process go on live, without a question.
    fn always_goes_live(&self) -> bool {
        false
    }

    /// Decides how to go on with a process that left the trace.
    ///
    /// # Errors
    /// Any error of the hook; the process is killed.
    fn diverged(&mut self, divergence: &Divergence)
    -> std::result::Result<OnDivergence, HookError>;

    /// The files that have another content for the process, from the beginning. Asked for once, before it goes on.
    fn files(&self) -> Vec<OtherFile> {
        Vec::new()
    }

    /// Makes the content of one of [`Hooks::files`], by its number there, where that is
    /// [`OtherContent::Made`](super::OtherContent::Made). `was` is the content that the process would find; `None` where
    /// there is no file.
    ///
    /// # Errors
    /// Any error of the hook.
    fn content(
        &mut self,
        _file: usize,
        was: Option<&[u8]>,
    ) -> std::result::Result<Vec<u8>, HookError> {
        Ok(was.unwrap_or_default().to_vec())
    }

    /// Notes that the process has been told of the content of one of [`Hooks::files`], by its number there. Those that were
    /// never read belong to [`Hooks::unfired`].
    fn met(&mut self, _file: usize) {}

    /// Whether [`Hooks::after`] does anything.
    fn wants_aftermath(&self) -> bool {
        false
    }

    /// Looks at the sandbox in which the process was live, once it has ended.
    ///
    /// # Errors
    /// Any error of the hook.
    fn after(
        &mut self,
        _aftermath: &mut Aftermath,
        _outcome: &mut Outcome,
    ) -> std::result::Result<(), HookError> {
        Ok(())
    }

    /// The rules that never fired, and the files that were never read, each by the name that the user gave it.
    fn unfired(&self) -> Vec<String>;

    /// Handles a signal that is about to be delivered to a task.
    ///
    /// # Errors
    /// Any error of the hook; the process is killed.
    fn signal(&mut self, _signal: &mut HookSignal) -> std::result::Result<(), HookError> {
        Ok(())
    }

    /// Answers for the other end of a connection that is not there, where [`Peers::Answer`](crate::restore::Peers) asks for that: the
    /// result is sent.
    ///
    /// # Errors
    /// Any error of the hook; all processes are killed.
    fn peer(&mut self, _sent: &PeerData<'_>) -> std::result::Result<Vec<u8>, HookError> {
        Ok(Vec::new())
    }

    /// The servers that are played for live processes, which need the sandbox for that. Asked for when they go live.
    fn servers(&self) -> Vec<Server> {
        Vec::new()
    }

    /// Answers for one of [`Hooks::servers`] that is to do [`Peers::Answer`](crate::restore::Peers): the result is sent.
    ///
    /// # Errors
    /// Any error of the hook; all processes are killed.
    fn serve(&mut self, _sent: &ServerData<'_>) -> std::result::Result<Vec<u8>, HookError> {
        Ok(Vec::new())
    }

    /// Handles the end of a process.
    ///
    /// # Errors
    /// Any error of the hook; all remaining processes are killed.
    fn exited(&mut self, _exit: &HookExit) -> std::result::Result<(), HookError> {
        Ok(())
    }

    /// Returns whether calls of this name may appear or be missing without the process having left the trace.
    fn is_ignored(&self, call: &str) -> bool {
        tolerated::is_ignored(call)
    }

    /// Returns whether [`Hooks::enter`] or [`Hooks::exit`] could ever do anything with a call. Live processes make the
    /// other calls without a stop.
    fn wants(&self, _call: &Syscall) -> bool {
        true
    }

    /// Returns whether the hooks want this very call, and not all calls. A program that was not recorded then makes it
    /// as a system call where it would otherwise use the vdso.
    fn names(&self, call: &Syscall) -> bool {
        self.wants(call)
    }
}

/// No hooks: calls get the trace's answers, and a divergence stops the process.
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
