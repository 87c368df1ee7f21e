//! Signals between processes: whom kill(2) and its kin mean, and what siginfo, wait(2) and signalfd(2) tell of a sender.

use super::ProcessTree;
use super::memory::{read_i32, read_u32};
use crate::constants::is_error;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;

/// The size of `struct signalfd_siginfo`.
const SIGNALFD_INFO: usize = 128;

/// The first real-time signal: each that is sent is received, while several standard ones may be received as one.
pub(crate) const FIRST_REAL_TIME: i32 = 32;

/// What a process was told about another one. Pids are as its own pid namespace has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A process has sent it this signal; which one, where that was told.
    Sent { signal: i32, by: Option<i32> },
    /// A process has ended.
    Ended(i32),
    /// This signal has stopped a process, or SIGCONT has continued it.
    Stopped { pid: i32, by: i32 },
}

/// Whether a call sends a signal.
pub(crate) fn sends_signal(nr: i64) -> bool {
    matches!(
        nr,
        libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo
            | libc::SYS_pidfd_send_signal
    )
}

impl Told {
    /// What a `siginfo_t` tells.
    pub fn by_info(signal: i32, info: &dyn Memory, at: u64) -> Option<Told> {
        let int = |offset: u64| read_i32(info, at.wrapping_add(offset));
        Told::by(signal, int(8)?, int(16)?, || int(24))
    }

    fn by(signal: i32, code: i32, pid: i32, status: impl Fn() -> Option<i32>) -> Option<Told> {
        match (signal, code) {
            (libc::SIGCHLD, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) => {
                Some(Told::Ended(pid))
            }
            (libc::SIGCHLD, libc::CLD_STOPPED) => Some(Told::Stopped { pid, by: status()? }),
            (libc::SIGCHLD, libc::CLD_CONTINUED) => {
                let by = libc::SIGCONT;
                Some(Told::Stopped { pid, by })
            }
            // The kernel's.
            (_, libc::SI_TIMER | libc::SI_MESGQ | libc::SI_ASYNCIO | libc::SI_SIGIO | 1..) => None,
            _ => Some(Told::Sent {
                signal,
                by: Some(pid),
            }),
        }
    }

    /// What a read from a signalfd tells.
    pub fn by_signalfd(data: &[u8]) -> impl Iterator<Item = Told> + use<'_> {
        data.chunks_exact(SIGNALFD_INFO).filter_map(|info| {
            let int = |at: usize| {
                let bytes = info.get(at..at + 4)?;
                Some(i32::from_le_bytes(bytes.try_into().ok()?))
            };
            // ssi_signo, ssi_code, ssi_pid, ssi_status.
            Told::by(int(0)?, int(8)?, int(12)?, || int(40))
        })
    }

    /// What a call that waits for signals or for children tells.
    pub fn by_call(call: &CallEvent) -> Option<Told> {
        let ret = call.ret.filter(|&ret| !is_error(ret) && call.was_made())? as i32;
        let memory = ChunkMemory(&call.outs);
        let [first, second, third, fourth, ..] = call.args;
        match i64::from(call.nr) {
            libc::SYS_wait4 if ret > 0 => match read_u32(&memory, second) {
                Some(status) => Some(by_status(ret, status)),
                None => may_only_end(third).then_some(Told::Ended(ret)),
            },
            libc::SYS_waitid if third != 0 => match read_i32(&memory, third)? {
                libc::SIGCHLD => Told::by_info(libc::SIGCHLD, &memory, third),
                _ => None,
            },
            libc::SYS_waitid => {
                let is_pid = first as libc::idtype_t == libc::P_PID;
                let waits = fourth as i32 & libc::WNOHANG == 0;
                (is_pid && waits && may_only_end(fourth)).then_some(Told::Ended(second as i32))
            }
            libc::SYS_rt_sigtimedwait if ret > 0 => match second {
                0 => Some(Told::Sent {
                    signal: ret,
                    by: None,
                }),
                _ => Told::by_info(ret, &memory, second),
            },
            _ => None,
        }
    }
}

/// Whether wait(2) with these options tells of no other change than the end.
fn may_only_end(options: u64) -> bool {
    options as i32 & (libc::WSTOPPED | libc::WCONTINUED) == 0
}

fn by_status(pid: i32, status: u32) -> Told {
    let status = status as i32;
    match status {
        _ if libc::WIFSTOPPED(status) => Told::Stopped {
            pid,
            by: libc::WSTOPSIG(status),
        },
        _ if libc::WIFCONTINUED(status) => Told::Stopped {
            pid,
            by: libc::SIGCONT,
        },
        _ => Told::Ended(pid),
    }
}

/// Whom a signal is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The process of the task with this tid in the sender's pid namespace.
    Named(i32),
    /// The process with this pid.
    Process(i32),
    /// The processes of this group.
    Group(i32),
    /// All in the sender's pid namespace but its first process and the sender.
    All,
}

impl ProcessTree {
    /// The signal that a call of a task sends, and whom it means. `of_descriptor` gives the process of a pidfd. A
    /// signal for one thread is one for its process.
    pub(crate) fn sent_signal(
        &self,
        tid: i32,
        call: &CallEvent,
        of_descriptor: impl Fn(i32) -> Option<i32>,
    ) -> Option<(i32, Target)> {
        const TO_GROUP: u64 = 1 << 2;
        // Who kills itself does not return.
        if call.ret.is_some_and(|ret| ret != 0) || !call.was_made() {
            return None;
        }
        let group_of = |pid: i32| self.job_control(pid)?.pgid.map(Target::Group);
        let [first, second, third, fourth, ..] = call.args;
        let (signal, target) = match i64::from(call.nr) {
            libc::SYS_kill => {
                let target = match first as i32 {
                    0 => group_of(self.pid(tid)?)?,
                    -1 => Target::All,
                    number @ 1.. => Target::Named(number),
                    number => {
                        // A group may have outlived the process that it is named after.
                        let number = number.checked_neg()?;
                        Target::Group(self.named(tid, number).unwrap_or(number))
                    }
                };
                (second, target)
            }
            libc::SYS_tkill | libc::SYS_rt_sigqueueinfo => (second, Target::Named(first as i32)),
            libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => (third, Target::Named(second as i32)),
            libc::SYS_pidfd_send_signal => {
                let pid = of_descriptor(first as i32)?;
                let target = match fourth & TO_GROUP {
                    0 => Target::Process(pid),
                    _ => group_of(pid)?,
                };
                (second, target)
            }
            _ => return None,
        };
        let signal = signal as i32;
        (signal != 0).then_some((signal, target))
    }

    /// The processes that are there to get a signal of a task.
    pub(crate) fn receivers(&self, tid: i32, target: Target) -> Vec<i32> {
        let alone = |pid: Option<i32>| pid.into_iter().collect();
        match target {
            Target::Named(number) => alone(self.named(tid, number).and_then(|tid| self.pid(tid))),
            Target::Process(pid) => alone(Some(pid).filter(|&pid| self.is_alive(pid))),
            Target::Group(group) => self.group(group).collect(),
            Target::All => {
                let own = self.pid(tid);
                let is_meant = |pid: &i32| Some(*pid) != own && self.number_for(tid, *pid) > 1;
                self.pids().filter(is_meant).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Chunk;
    use crate::kernel::forked;
    use crate::recording::{Effect, Start};

    fn call(nr: i64, args: [u64; 6], ret: i64, outs: Vec<Chunk>) -> CallEvent {
        CallEvent {
            nr: nr as u32,
            args,
            ip: 0,
            ret: Some(ret),
            ins: Vec::new(),
            outs,
            effect: Effect::None,
        }
    }

    /// Memory at 64 with these numbers at these offsets.
    fn memory(numbers: &[(usize, i32)]) -> Vec<Chunk> {
        let mut data = vec![0; SIGNALFD_INFO];
        for &(at, number) in numbers {
            data[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        vec![Chunk { addr: 64, data }]
    }

    #[test]
    fn what_is_told_names_the_process() {
        let told = |nr, args, ret, numbers: &[(usize, i32)]| {
            Told::by_call(&call(nr, args, ret, memory(numbers)))
        };
        let wait4 = |status| told(libc::SYS_wait4, [0, 64, 0, 0, 0, 0], 12, &[(0, status)]);
        assert_eq!(wait4(0x300), Some(Told::Ended(12)));
        assert_eq!(wait4(9), Some(Told::Ended(12)));
        let stopped = |by| Some(Told::Stopped { pid: 12, by });
        assert_eq!(wait4((libc::SIGTSTP << 8) | 0x7f), stopped(libc::SIGTSTP));
        assert_eq!(wait4(0xffff), stopped(libc::SIGCONT));
        let info = |code| [(0, libc::SIGCHLD), (8, code), (16, 12), (24, libc::SIGSTOP)];
        let waitid = |code| told(libc::SYS_waitid, [0, 0, 64, 4, 0, 0], 0, &info(code));
        assert_eq!(waitid(libc::CLD_KILLED), Some(Told::Ended(12)));
        assert_eq!(waitid(libc::CLD_STOPPED), stopped(libc::SIGSTOP));
        let nothing = told(libc::SYS_waitid, [0, 0, 64, 4, 0, 0], 0, &[]);
        assert_eq!(nothing, None);
        let sent = Some(Told::Sent {
            signal: libc::SIGUSR1,
            by: Some(12),
        });
        let timed = |code| {
            let args = [0, 64, 0, 8, 0, 0];
            let ret = i64::from(libc::SIGUSR1);
            told(libc::SYS_rt_sigtimedwait, args, ret, &info(code))
        };
        assert_eq!(timed(libc::SI_USER), sent);
        assert_eq!(timed(libc::SI_TKILL), sent);
        assert_eq!((timed(libc::SI_TIMER), timed(0x80)), (None, None));
        let infos = memory(&[(0, libc::SIGUSR1), (8, libc::SI_QUEUE), (12, 12)]);
        assert_eq!(Told::by_signalfd(&infos[0].data).next(), sent);
    }

    #[test]
    fn a_group_and_all_but_the_sender_get_a_signal() {
        let mut tree = ProcessTree::at_start(&Start {
            pid: 10,
            ppid: 1,
            ..Start::default()
        });
        for pid in [11, 12, 13] {
            tree.follow(&forked(10, pid));
        }
        tree.call(11, &call(libc::SYS_setpgid, [0; 6], 0, Vec::new()));
        tree.call(
            12,
            &call(libc::SYS_setpgid, [0, 11, 0, 0, 0, 0], 0, Vec::new()),
        );
        let to = |tid, nr, args, ret| {
            let of_descriptor = |fd| (fd == 3).then_some(12);
            let call = call(nr, args, ret, Vec::new());
            let (signal, target) = tree.sent_signal(tid, &call, of_descriptor)?;
            Some((signal, tree.receivers(tid, target)))
        };
        let term = libc::SIGTERM as u64;
        let kill = |tid, pid: i32| {
            let found = to(tid, libc::SYS_kill, [pid as u64, term, 0, 0, 0, 0], 0);
            found.map(|(signal, pids)| {
                assert_eq!(signal, libc::SIGTERM);
                pids
            })
        };
        assert_eq!(kill(10, 12), Some(vec![12]));
        assert_eq!(kill(12, 0), Some(vec![11, 12]));
        assert_eq!(kill(13, -11), Some(vec![11, 12]));
        assert_eq!(kill(11, -1), Some(vec![10, 12, 13]));
        assert_eq!(kill(11, i32::MIN), None);
        assert_eq!(kill(10, 99), Some(vec![]));
        let tgkill = [11, 11, term, 0, 0, 0];
        assert_eq!(to(10, libc::SYS_tgkill, tgkill, 0).unwrap().1, [11]);
        let by_pidfd = |flags| [3, term, 0, flags, 0, 0];
        let nr = libc::SYS_pidfd_send_signal;
        assert_eq!(to(10, nr, by_pidfd(0), 0).unwrap().1, [12]);
        assert_eq!(to(10, nr, by_pidfd(4), 0).unwrap().1, [11, 12]);
        // What failed, and what only asks.
        assert_eq!(to(10, libc::SYS_kill, [11, term, 0, 0, 0, 0], -1), None);
        assert_eq!(to(10, libc::SYS_kill, [11, 0, 0, 0, 0, 0], 0), None);
    }
}
