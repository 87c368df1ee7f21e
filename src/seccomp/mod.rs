//! A program's own seccomp filters: what the kernel would make of its calls, worked out without the kernel.
//!
//! Where they are installed for real, they also meet the calls that rrapper makes in the process. So they are only
//! kept here, per task, and whoever traces it asks what they say at the entry of each call: [`State::verdict`]. The
//! calls that install them are answered by [`FilterCall`], as the kernel does (kernel/seccomp.c).

mod filter_calls;
mod program;

pub use filter_calls::FilterCall;
pub use program::{Call, Program};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// `AUDIT_ARCH_X86_64`: the ABI of the calls that filters are asked about.
pub const NATIVE: u32 = 0xc000_003e;

/// The most instructions of all of a task's filters, and what each filter counts besides its own.
const MOST_INSTRUCTIONS: usize = 32768;
const EACH: usize = 4;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It makes it.
    Make,
    /// It makes it not, and answers this.
    Answer(i64),
    /// It makes it not, and raises SIGSYS with this `si_errno`.
    Trap(u16),
    /// It ends something instead.
    Kill(Kill),
}

/// What a call ends that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The task, by SIGSYS; its process if it is the last one.
    Thread,
    /// The process, by SIGSYS.
    Process,
    /// The task, by SIGKILL: strict mode.
    Strict,
}

/// What the kernel keeps for a task about its calls. Tasks inherit it from who made them, and keep it over an exec.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// It has said that it gets no new privileges.
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

/// A filter, and those that were there before it.
#[derive(Debug)]
struct Filter {
    program: Program,
    before: Option<Arc<Filter>>,
    /// How many instructions this and the others count.
    size: usize,
    /// What all of them say of a call with this number, whatever else there is about it.
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

    /// Whether no call is asked about.
    pub fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    /// What becomes of a call.
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

    /// Adds a filter; the kernel's errno where it may not.
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

    /// Whether a task with this state may be given that of another one of its process (`SECCOMP_FILTER_FLAG_TSYNC`).
    fn may_follow(&self, other: &State) -> bool {
        match (&self.mode, &other.mode) {
            (Mode::Off, _) => true,
            (Mode::Filtered(mine), Mode::Filtered(theirs)) => theirs
                .all()
                .any(|filter| std::ptr::eq(filter, &raw const **mine)),
            _ => false,
        }
    }

    /// Gives it the filters of another task of its process.
    fn follow(&mut self, other: &State) {
        self.mode = other.mode.clone();
        self.no_new_privs |= other.no_new_privs;
    }
}

impl Filter {
    /// This one and those before it, newest first.
    fn all(&self) -> impl Iterator<Item = &Filter> {
        std::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// What is to be done: of all that the filters say the gravest, and of the same the newest.
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
        // There are not many numbers that a program makes calls by, unless it is up to something.
        const MOST_KNOWN: usize = 1024;
        if !by_details && call.arch == NATIVE && known.len() < MOST_KNOWN {
            known.insert(call.nr, gravest);
        }
        gravest
    }
}

/// `SECCOMP_RET_ACTION_FULL`; the rest is data.
const ACTION: u32 = 0xffff_0000;

fn verdict_of(action: u32) -> Verdict {
    const MOST_ERRNO: u16 = 4095;
    let data = (action & !ACTION) as u16;
    match action & ACTION {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => Verdict::Make,
        libc::SECCOMP_RET_ERRNO => Verdict::Answer(-i64::from(data.min(MOST_ERRNO))),
        libc::SECCOMP_RET_TRAP => Verdict::Trap(data),
        // Nobody traces it, as far as it knows, and nobody listens.
        libc::SECCOMP_RET_TRACE | libc::SECCOMP_RET_USER_NOTIF => {
            Verdict::Answer(-i64::from(libc::ENOSYS))
        }
        libc::SECCOMP_RET_KILL_THREAD => Verdict::Kill(Kill::Thread),
        _ => Verdict::Kill(Kill::Process),
    }
}

#[cfg(test)]
mod tests;
