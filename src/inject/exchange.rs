//! The lifecycle of a call: entered, decided, answered, settled.
//!
//! Both engines, the one that answers from a trace and the one that lets the kernel answer, take every call through
//! these states. Each state has only the steps that may come next, and a step consumes the state:
//!
//! ```text
//! Entered --decide: enter hooks--> Decided --answer | made: a return value--> Answered
//!     --settle: exit hooks--> Settled --log, put_at_entry | put_at_exit--> the task goes on
//! ```
//!
//! A call that a signal interrupts goes back to the kernel by [`Decided::restart`], and is entered anew. An engine
//! keeps a [`Decided`] with the task that is inside of the call, since several tasks may be inside of calls at once.

use super::hook::{HookCall, Hooks};
use super::log::Log;
use super::{Error, Result};
use crate::trace::Answer;
use crate::tracee::Stopped;
use std::ops::{Deref, DerefMut};

/// A call at whose entry a task is stopped, and which no hook has seen.
#[derive(Debug)]
pub(super) struct Entered(Box<HookCall>);

/// A call whose enter hooks have run: see [`HookCall::decision`].
#[derive(Debug)]
pub(super) struct Decided(Box<HookCall>);

/// A call with a return value, whose exit hooks have not run.
#[derive(Debug)]
pub(super) struct Answered(Box<HookCall>);

/// A call whose exit hooks have run. Its task still has the registers and the memory that it had at the entry.
#[derive(Debug)]
pub(super) struct Settled {
    call: Box<HookCall>,
    /// The value that the program gets.
    pub ret: i64,
    /// The exit hooks have changed the value or the outputs.
    pub is_changed_at_exit: bool,
}

macro_rules! is_a_call {
    ($($state:ident: $field:tt),*) => {
        $(
            impl Deref for $state {
                type Target = HookCall;

                fn deref(&self) -> &HookCall {
                    &self.$field
                }
            }

            impl DerefMut for $state {
                fn deref_mut(&mut self) -> &mut HookCall {
                    &mut self.$field
                }
            }
        )*
    };
}

is_a_call!(Entered: 0, Decided: 0, Answered: 0, Settled: call);

impl Entered {
    /// A call at whose entry a task is stopped.
    pub fn new(call: HookCall) -> Entered {
        Entered(Box::new(call))
    }

    /// Runs the enter hooks.
    ///
    /// # Errors
    /// If one fails.
    pub fn decide(mut self, hooks: &mut dyn Hooks) -> Result<Decided> {
        hooks.enter(&mut self.0).map_err(Error::Hook)?;
        Ok(Decided(self.0))
    }
}

impl Decided {
    /// Gives the call this return value (negative is -errno), without effects on anything outside of the process.
    pub fn answer(mut self, answer: impl Into<Answer>) -> Answered {
        self.0.answered(answer.into().raw().unwrap_or(0));
        Answered(self.0)
    }

    /// Gives the call the return value of the kernel, which has made the call; its effects stay.
    pub fn made(mut self, ret: i64) -> Answered {
        self.0.made = true;
        self.answer(ret)
    }

    /// Restores the process's memory after a call that gets no return value.
    pub fn give_back(&self) {
        give_back(self);
    }

    /// Restores the registers and the memory with which the call was made. The task is at the exit stop of the
    /// interrupted call: the kernel handles the signal first, and then restarts the call.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn restart(&self, task: &mut Stopped) -> Result<()> {
        if self.is_changed() {
            give_back(self);
        }
        let mut regs = task.regs()?;
        if regs.args() != self.asked {
            regs.set_args(self.asked);
            task.set_regs(&regs)?;
        }
        Ok(())
    }
}

impl Answered {
    /// Runs the exit hooks. If they have a successful call fail, restores the memory that the call has written.
    ///
    /// # Errors
    /// If a hook fails, or the memory cannot be written.
    pub fn settle(self, hooks: &mut dyn Hooks) -> Result<Settled> {
        let mut call = self.0;
        let (given, overwritten) = (call.ret, call.before.len());
        hooks.exit(&mut call).map_err(Error::Hook)?;
        let is_changed_at_exit = call.ret != given || call.before.len() != overwritten;
        let (given, ret) = (given.unwrap_or(0), call.ret.unwrap_or(0));
        if ret < 0 && given >= 0 && call.done.is_none() {
            call.undo()?;
        }
        Ok(Settled {
            call,
            ret,
            is_changed_at_exit,
        })
    }
}

impl Settled {
    /// The return value, by its kind.
    pub fn answer(&self) -> Answer {
        Answer::from_raw(self.ret)
    }

    /// Logs the call, if there is a log, and restores the process's memory that was changed for the kernel or the trace
    /// to read.
    pub fn log(&self, log: Option<&mut Log>) {
        if let Some(log) = log {
            log.call(self, Some(self.ret));
        }
        // An execve has replaced that memory.
        if !(self.name().starts_with("execve") && self.given == Some(0)) {
            give_back(self);
        }
    }

    /// Returns from the call at whose entry the task is stopped.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn put_at_entry(&self, task: &mut Stopped) -> Result<()> {
        let mut regs = task.regs()?;
        regs.set_args(self.asked);
        regs.answer(self.answer());
        Ok(task.set_regs(&regs)?)
    }

    /// Returns from the call at whose exit the task is stopped.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn put_at_exit(&self, task: &mut Stopped) -> Result<()> {
        let mut regs = task.regs()?;
        if self.ret != regs.ret() || regs.args() != self.asked {
            regs.set_args(self.asked);
            regs.set_ret(self.ret);
            task.set_regs(&regs)?;
        }
        Ok(())
    }
}

/// Restores the process's memory. A process that has unmapped it goes on without.
fn give_back(call: &HookCall) {
    if let Err(error) = call.give_back() {
        tracing::warn!("cannot give back what a hook changed: {error}");
    }
}
