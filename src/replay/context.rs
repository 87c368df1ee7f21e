//! The state of a recorded task while it does not run.

use super::signal_state::Masks;
use crate::constants::{Answer, RESTART_BLOCK};
use crate::process::{StopPoint, TaskAttributes};
use crate::tracee::{Regs, Stopped};
use std::collections::VecDeque;

/// A call that was interrupted, which the kernel makes again if no handler runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The call.
    pub nr: u32,
    /// The number by which the kernel makes it again.
    pub again: u64,
    /// The instruction pointer behind the call.
    pub ip: u64,
}

impl Restart {
    /// A return register with [`Answer::Restart`] says that the call is made again.
    pub fn of(nr: u32, ip: u64, ret: i64) -> Option<Restart> {
        let again = match Answer::from_raw(ret) {
            Answer::Restart(RESTART_BLOCK) => libc::SYS_restart_syscall as u64,
            Answer::Restart(_) => nr.into(),
            _ => return None,
        };
        Some(Restart { nr, again, ip })
    }
}

/// A recorded task that does not run.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its process, as recorded.
    pub pid: i32,
    /// Its address space, by its number in the replay.
    pub space: u32,
    /// Its general registers.
    pub regs: Regs,
    /// Its vector registers; `None` while they are in the kernel process of its address space.
    pub vector: Option<Vec<u8>>,
    /// The kind of stop that it is at.
    pub place: StopPoint,
    /// It stands before an instruction that raises this signal.
    pub fault: Option<i32>,
    /// The call that was answered last was interrupted.
    pub restart: Option<Restart>,
    /// Counter values that it reads when it runs next.
    pub tsc: VecDeque<u64>,
    /// The signal actions of its process, by their number in the replay.
    pub actions: u32,
    /// Its signal mask and alternate stack.
    pub masks: Masks,
    /// The address at which the kernel writes zero when the task ends; 0 for none.
    pub clear_tid: u64,
    /// The head of its list of robust futexes, and the size of that head.
    pub robust: (u64, u64),
    /// The name that it set with `PR_SET_NAME`.
    pub name: Option<Vec<u8>>,
    /// The thread that was created by the call at whose entry the task stands, by the number that the call returns.
    pub made: Option<i32>,
    /// The counts of changes to its space, and to all spaces, at the time when it stopped.
    pub stood_at: (u64, u64),
}

impl Context {
    /// A task of a program that has just been executed.
    pub fn new(pid: i32, space: u32, regs: Regs, actions: u32, masks: Masks) -> Context {
        Context {
            pid,
            space,
            regs,
            vector: None,
            place: StopPoint::Between,
            fault: None,
            restart: None,
            tsc: VecDeque::new(),
            actions,
            masks,
            clear_tid: 0,
            robust: (0, 0),
            name: None,
            made: None,
            stood_at: (0, 0),
        }
    }

    /// Sets the task between calls, with these registers.
    pub fn put(&mut self, mut regs: Regs) {
        regs.set_ip(regs.ip());
        self.regs = regs;
        self.place = StopPoint::Between;
        self.fault = None;
        self.restart = None;
    }

    /// The kernel's state of the task besides its registers.
    pub fn attributes(&self) -> TaskAttributes {
        TaskAttributes {
            stack: self.masks.stack(),
            robust: self.robust,
            clear_tid: self.clear_tid,
            name: self.name.clone(),
            made: self.made,
        }
    }
}

/// The vector registers of a task, so that setting them again sets all of them: the kernel leaves MXCSR alone
/// where the state says that neither x87 nor SSE registers were ever used.
pub fn vector(task: &Stopped) -> super::Result<Vec<u8>> {
    // The header of the XSAVE area begins with the set of features that are in it; bits 0 and 1 are x87 and SSE.
    const HEADER: usize = 512;
    let mut state = task.vector()?;
    if let Some(features) = state.get_mut(HEADER) {
        *features |= 3;
    }
    Ok(state)
}
