//! An emulation of the kernel's seccomp filters for a program's own filters.
//!
//! If the filters were installed in the kernel, they would also apply to rrapper's calls in the process. So each task's
//! filters are only kept here, and the tracer evaluates them at the entry of each call: [`State::verdict`].
//! [`FilterCall`] answers the calls that install filters as the kernel does (kernel/seccomp.c).

mod filter_calls;
mod program;

pub use filter_calls::FilterCall;
pub use program::{Call, Program};

use crate::constants::{Answer, MAX_ERRNO};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// `AUDIT_ARCH_X86_64`: the ABI of the calls that filters see.
pub const NATIVE: u32 = 0xc000_003e;

/// The limit on the instructions of all of a task's filters, and the overhead that each filter counts.
const MOST_INSTRUCTIONS: usize = 32768;
const EACH: usize = 4;

/// The kernel's action on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel makes the call.
    Make,
    /// The kernel does not make the call, and returns this value.
    Answer(Answer),
    /// The kernel does not make the call, and raises SIGSYS with this `si_errno`.
    Trap(u16),
    /// The kernel kills the task or its process.
    Kill(Kill),
}

/// The target and the signal of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The task, by SIGSYS; its process if it is the last one.
    Thread,
    /// The process, by SIGSYS.
    Process,
    /// The task, by SIGKILL: strict mode.
    Strict,
}

/// The seccomp state of a task. Children inherit it, and execve keeps it.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// `no_new_privs` is set.
    pub no_new_privs: bool,
    mode: Mode,
}

#[derive(Clone, Debug, Default)]
enum Mode {
    #[default]
    Off,
    Strict,
    Filtered(Arc<Filter>),
}

/// A filter, with the filters installed before it.
#[derive(Debug)]
struct Filter {
    program: Program,
    before: Option<Arc<Filter>>,
    /// The number of instructions of this filter and the earlier ones, with overhead.
    size: usize,
    /// Actions of all filters by call number, where they depend on the number alone.
    known: Mutex<HashMap<i32, u32>>,
}

impl State {
    /// `SECCOMP_MODE_*`.
    pub fn mode(&self) -> i64 {
        match self.mode {
            Mode::Off => 0,
            Mode::Strict => 1,
            Mode::Filtered(_) => 2,
        }
    }

    /// Whether no call is filtered.
    pub fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    /// The action on a call.
    pub fn verdict(&self, call: &Call) -> Verdict {
        match &self.mode {
            Mode::Off => Verdict::Make,
            Mode::Strict => match i64::from(call.nr) {
                libc::SYS_read | libc::SYS_write | libc::SYS_exit | libc::SYS_rt_sigreturn => {
                    Verdict::Make
                }
                _ => Verdict::Kill(Kill::Strict),
            },
            Mode::Filtered(filter) => verdict_of(filter.action(call)),
        }
    }

    /// Adds a filter; the error is the kernel's errno.
    fn add(&mut self, program: Program) -> Result<(), i32> {
        let before = match &self.mode {
            Mode::Off => None,
            Mode::Strict => return Err(libc::EINVAL),
            Mode::Filtered(filter) => Some(Arc::clone(filter)),
        };
        let others = before.as_ref().map_or(0, |before| before.size + EACH);
        let size = program.size() + others;
        if size > MOST_INSTRUCTIONS {
            return Err(libc::ENOMEM);
        }
        self.mode = Mode::Filtered(Arc::new(Filter {
            program,
            before,
            size,
            known: Mutex::default(),
        }));
        Ok(())
    }

    /// Whether `SECCOMP_FILTER_FLAG_TSYNC` may replace this state by that of another task of the process.
    fn may_follow(&self, other: &State) -> bool {
        match (&self.mode, &other.mode) {
            (Mode::Off, _) => true,
            (Mode::Filtered(mine), Mode::Filtered(theirs)) => theirs
                .all()
                .any(|filter| std::ptr::eq(filter, &raw const **mine)),
            _ => false,
        }
    }

    /// Takes over the filters of another task of the process.
    fn follow(&mut self, other: &State) {
        self.mode = other.mode.clone();
        self.no_new_privs |= other.no_new_privs;
    }
}

impl Filter {
    /// This filter and the earlier ones, newest first.
    fn all(&self) -> impl Iterator<Item = &Filter> {
        std::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// The action on a call: the gravest of all filters' actions, and of equal ones the newest.
    fn action(&self, call: &Call) -> u32 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&action) = known.get(&call.nr) {
            return action;
        }
        let gravity = |action: u32| (action & ACTION) as i32;
        let (mut gravest, mut by_details) = (libc::SECCOMP_RET_ALLOW, false);
        for filter in self.all() {
            let said = filter.program.run(call);
            by_details |= said.by_details;
            if gravity(said.action) < gravity(gravest) {
                gravest = said.action;
            }
        }
        // A program uses few call numbers, unless it is hostile.
        const MOST_KNOWN: usize = 1024;
        if !by_details && call.arch == NATIVE && known.len() < MOST_KNOWN {
            known.insert(call.nr, gravest);
        }
        gravest
    }
}

/// `SECCOMP_RET_ACTION_FULL`; the other bits are data.
const ACTION: u32 = 0xffff_0000;

fn verdict_of(action: u32) -> Verdict {
    let data = (action & !ACTION) as u16;
    match action & ACTION {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => Verdict::Make,
        libc::SECCOMP_RET_ERRNO => Verdict::Answer(match data.min(MAX_ERRNO) {
            0 => Answer::Value(0),
            errno => Answer::Errno(errno.into()),
        }),
        libc::SECCOMP_RET_TRAP => Verdict::Trap(data),
        // There is no tracer and no listener, as far as the program can see.
        libc::SECCOMP_RET_TRACE | libc::SECCOMP_RET_USER_NOTIF => {
            Verdict::Answer(Answer::Errno(libc::ENOSYS))
        }
        libc::SECCOMP_RET_KILL_THREAD => Verdict::Kill(Kill::Thread),
        _ => Verdict::Kill(Kill::Process),
    }
}

#[cfg(test)]
mod tests;
