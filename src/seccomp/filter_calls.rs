//! Emulation of the calls that install and query seccomp filters: seccomp(2) and prctl(2).

use super::program::{INSTRUCTION, LONGEST};
use super::{Mode, Program, State};
use crate::syscall::Memory;

const TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const TSYNC_ESRCH: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
const NEW_LISTENER: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
const WAIT_KILLABLE: u64 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
const FLAGS: u64 = TSYNC
    | TSYNC_ESRCH
    | NEW_LISTENER
    | WAIT_KILLABLE
    | libc::SECCOMP_FILTER_FLAG_LOG
    | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;

/// The operation of a call about filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterCall {
    /// Query the mode.
    Mode,
    /// Query `no_new_privs`.
    Privileges,
    /// Enter strict mode.
    Strict,
    /// Install a filter: flags, and the address of a `struct sock_fprog`.
    Filter(u64, u64),
    /// An invalid operation.
    Nonsense,
}

impl FilterCall {
    /// The operation of a call; `None` where the kernel's own answer is right.
    pub fn by(nr: i64, args: &[u64; 6]) -> Option<FilterCall> {
        match nr {
            libc::SYS_seccomp => match (args[0] as u32, args[1] as u32, args[2]) {
                (libc::SECCOMP_SET_MODE_STRICT, 0, 0) => Some(FilterCall::Strict),
                (libc::SECCOMP_SET_MODE_STRICT, ..) => Some(FilterCall::Nonsense),
                (libc::SECCOMP_SET_MODE_FILTER, flags, at) => {
                    Some(FilterCall::Filter(flags.into(), at))
                }
                (libc::SECCOMP_GET_ACTION_AVAIL | libc::SECCOMP_GET_NOTIF_SIZES, ..) => None,
                _ => Some(FilterCall::Nonsense),
            },
            libc::SYS_prctl => match (args[0] as i32, args[1]) {
                (libc::PR_GET_SECCOMP, _) => Some(FilterCall::Mode),
                (libc::PR_GET_NO_NEW_PRIVS, 0) if args[2..5] == [0; 3] => {
                    Some(FilterCall::Privileges)
                }
                (libc::PR_SET_SECCOMP, 1) => Some(FilterCall::Strict),
                (libc::PR_SET_SECCOMP, 2) => Some(FilterCall::Filter(0, args[2])),
                (libc::PR_SET_SECCOMP, _) => Some(FilterCall::Nonsense),
                _ => None,
            },
            _ => None,
        }
    }

    /// The kernel's answer to a task in this state.
    ///
    /// `privileged`: the task has CAP_SYS_ADMIN. `others`: the other tasks of its process, by the tids in its
    /// namespace.
    pub fn answer<'a>(
        self,
        state: &State,
        memory: &dyn Memory,
        privileged: bool,
        others: impl IntoIterator<Item = (i32, &'a State)>,
    ) -> i64 {
        let mut after = state.clone();
        match self {
            FilterCall::Mode => state.mode(),
            FilterCall::Privileges => state.no_new_privs.into(),
            FilterCall::Nonsense => -i64::from(libc::EINVAL),
            FilterCall::Strict | FilterCall::Filter(..) => {
                match self.change(&mut after, memory, privileged) {
                    Ok(()) if self.is_for_all() => {
                        let apart = others
                            .into_iter()
                            .find(|(_, other)| !other.may_follow(state));
                        match apart {
                            None => 0,
                            Some(_) if self.flags() & TSYNC_ESRCH != 0 => -i64::from(libc::ESRCH),
                            Some((tid, _)) => tid.into(),
                        }
                    }
                    Ok(()) => 0,
                    Err(errno) => -i64::from(errno),
                }
            }
        }
    }

    /// Whether the operation changes the task's filters, if the answer is 0.
    pub fn changes(self) -> bool {
        matches!(self, FilterCall::Strict | FilterCall::Filter(..))
    }

    /// Applies an operation whose answer was 0.
    pub fn follow(self, state: &mut State, memory: &dyn Memory) {
        // An accepted operation is not checked again.
        let _ = self.change(state, memory, true);
    }

    /// Applies the operation to another task of the same process, if it is for all tasks.
    pub fn share(self, maker: &State, other: &mut State) {
        if self.is_for_all() {
            other.follow(maker);
        }
    }

    /// Whether the operation is for all tasks of the process.
    pub fn is_for_all(self) -> bool {
        self.flags() & TSYNC != 0
    }

    fn flags(self) -> u64 {
        match self {
            FilterCall::Filter(flags, _) => flags,
            _ => 0,
        }
    }

    fn change(self, state: &mut State, memory: &dyn Memory, privileged: bool) -> Result<(), i32> {
        match self {
            FilterCall::Strict => match state.mode {
                Mode::Filtered(_) => return Err(libc::EINVAL),
                Mode::Off | Mode::Strict => state.mode = Mode::Strict,
            },
            FilterCall::Filter(flags, at) => {
                let listens = flags & NEW_LISTENER != 0;
                if flags & !FLAGS != 0
                    || listens && flags & TSYNC != 0 && flags & TSYNC_ESRCH == 0
                    || !listens && flags & WAIT_KILLABLE != 0
                {
                    return Err(libc::EINVAL);
                }
                let allowed = state.no_new_privs || privileged;
                let program = program_at(at, memory, allowed)?;
                if listens {
                    // There can be no listener.
                    return Err(libc::EINVAL);
                }
                state.add(program)?;
            }
            FilterCall::Mode | FilterCall::Privileges | FilterCall::Nonsense => {}
        }
        Ok(())
    }
}

/// The program of a `struct sock_fprog`, checked in the kernel's order.
fn program_at(at: u64, memory: &dyn Memory, allowed: bool) -> Result<Program, i32> {
    let mut head = [0; 16];
    if memory.read(at, &mut head) < head.len() {
        return Err(libc::EFAULT);
    }
    let [a, b, _, _, _, _, _, _, place @ ..] = head;
    let len = usize::from(u16::from_le_bytes([a, b]));
    let place = u64::from_le_bytes(place);
    if len == 0 || len > LONGEST {
        return Err(libc::EINVAL);
    }
    if !allowed {
        return Err(libc::EACCES);
    }
    if place == 0 {
        return Err(libc::EINVAL);
    }
    let mut code = vec![0; len * INSTRUCTION];
    if memory.read(place, &mut code) < code.len() {
        return Err(libc::EFAULT);
    }
    Program::new(&code).ok_or(libc::EINVAL)
}
