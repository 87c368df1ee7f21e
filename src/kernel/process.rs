//! What the kernel keeps of a process besides its memory, its descriptors and its signals.

use super::timer::{Clock, Timer, read_itimerspec, read_u32, read_u64};
use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use crate::syscall::Memory;
use std::collections::BTreeMap;

/// A timer of timer_create(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PosixTimer {
    /// How it tells: a `struct sigevent`; `None` for SIGALRM.
    pub event: Option<Vec<u8>>,
    /// How far it is.
    pub timer: Timer,
}

/// What a process has set of itself.
#[derive(Clone, Debug, Default)]
pub struct ProcessState {
    /// The limits that were set: soft and hard, by resource.
    pub limits: BTreeMap<u32, (u64, u64)>,
    /// ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF.
    pub itimers: [Timer; 3],
    /// Its timers, by their numbers.
    pub timers: BTreeMap<i32, PosixTimer>,
    /// Whether it leads a session.
    pub leads_session: bool,
    /// Whether it leads a process group.
    pub leads_group: bool,
    /// Whether it takes the orphans of those below it.
    pub subreaper: bool,
    /// Whether its root is another directory.
    pub changed_root: bool,
    /// Whether it took on another user or other groups.
    pub changed_credentials: bool,
    /// Whether it asked not to be dumpable, and so not to be read by others.
    pub not_dumpable: bool,
    /// The namespaces that are not those which the recording began in: `CLONE_NEW*`, or 1 for one of an unknown kind.
    pub namespaces: u64,
}

/// All kinds of namespaces: `CLONE_NEW*`.
const NAMESPACES: u64 = CLONE_NEWTIME
    | (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET) as u64;

const CLONE_NEWTIME: u64 = 0x80;

/// The new namespaces that clone(2) is asked for, whose lowest byte is a signal.
pub(super) fn new_namespaces(flags: u64) -> u64 {
    flags & NAMESPACES & !0xff
}

/// Whether a call sets something of this.
pub(super) fn sets(call: &CallEvent) -> bool {
    match i64::from(call.nr) {
        libc::SYS_setrlimit
        | libc::SYS_setitimer
        | libc::SYS_alarm
        | libc::SYS_timer_create
        | libc::SYS_setsid
        | libc::SYS_setpgid
        | libc::SYS_chroot
        | libc::SYS_setns
        | libc::SYS_setuid
        | libc::SYS_setgid
        | libc::SYS_setreuid
        | libc::SYS_setregid
        | libc::SYS_setresuid
        | libc::SYS_setresgid
        | libc::SYS_setgroups => true,
        libc::SYS_unshare => call.args[0] & NAMESPACES != 0,
        libc::SYS_prlimit64 => call.args[2] != 0,
        libc::SYS_prctl => matches!(
            call.args[0] as i32,
            libc::PR_SET_CHILD_SUBREAPER | libc::PR_SET_DUMPABLE
        ),
        _ => false,
    }
}

impl ProcessState {
    /// No process has more timers, except in a damaged recording.
    const TIMERS: usize = 4096;

    /// What a fork of the process has.
    pub(super) fn child(&self) -> ProcessState {
        ProcessState {
            limits: self.limits.clone(),
            changed_root: self.changed_root,
            changed_credentials: self.changed_credentials,
            not_dumpable: self.not_dumpable,
            namespaces: self.namespaces,
            ..ProcessState::default()
        }
    }

    /// Follows a call of the process's, which knows itself by the number `pid`.
    pub(super) fn follow(&mut self, pid: i32, call: &CallEvent, now: &Clock) {
        let [a, b, c, ..] = call.args;
        let ret = call.ret.unwrap_or(-1);
        let itimer = |which: u64| usize::try_from(which).unwrap_or(3);
        match i64::from(call.nr) {
            libc::SYS_setrlimit => self.limit(a, &ChunkMemory(&call.ins), b),
            libc::SYS_prlimit64 if [0, pid].contains(&(a as i32)) => {
                self.limit(b, &ChunkMemory(&call.ins), c);
            }
            libc::SYS_setitimer => {
                if let Some(timer) = self.itimers.get_mut(itimer(a)) {
                    timer.set(
                        read_itimerspec(call, b, 1000).unwrap_or_default(),
                        false,
                        now,
                    );
                }
            }
            libc::SYS_alarm => {
                let seconds = u64::from(a as u32);
                self.itimers[0].set((0, seconds * 1_000_000_000), false, now);
            }
            libc::SYS_timer_create => {
                let memory = LeftMemory {
                    ins: &call.ins,
                    outs: &call.outs,
                };
                let mut event = vec![0; 64];
                let n = ChunkMemory(&call.ins).read(b, &mut event);
                event.truncate(n);
                if let Some(id) =
                    read_u32(&memory, c).filter(|_| self.timers.len() < ProcessState::TIMERS)
                {
                    let timer = PosixTimer {
                        event: Some(event).filter(|event| b != 0 && event.len() >= 16),
                        timer: Timer::new(a as i32),
                    };
                    self.timers.insert(id as i32, timer);
                }
            }
            libc::SYS_timer_settime => {
                if let Some(own) = self.timers.get_mut(&(a as i32)) {
                    let absolute = b as i32 & libc::TIMER_ABSTIME != 0;
                    own.timer.set(
                        read_itimerspec(call, c, 1).unwrap_or_default(),
                        absolute,
                        now,
                    );
                }
            }
            libc::SYS_timer_delete => _ = self.timers.remove(&(a as i32)),
            libc::SYS_execve | libc::SYS_execveat => {
                self.timers.clear();
                self.not_dumpable = false;
            }
            libc::SYS_setsid => (self.leads_session, self.leads_group) = (true, true),
            libc::SYS_setpgid if [0, pid].contains(&(a as i32)) => {
                self.leads_group = [0, pid].contains(&(b as i32));
            }
            libc::SYS_prctl if a as i32 == libc::PR_SET_CHILD_SUBREAPER && ret == 0 => {
                self.subreaper = b != 0;
            }
            libc::SYS_prctl if a as i32 == libc::PR_SET_DUMPABLE && ret == 0 => {
                self.not_dumpable = b == 0;
            }
            libc::SYS_chroot => self.changed_root = true,
            libc::SYS_unshare => self.namespaces |= a & NAMESPACES,
            libc::SYS_setns => self.namespaces |= (b & NAMESPACES).max(1),
            libc::SYS_setuid
            | libc::SYS_setgid
            | libc::SYS_setreuid
            | libc::SYS_setregid
            | libc::SYS_setresuid
            | libc::SYS_setresgid
            | libc::SYS_setgroups => self.changed_credentials = true,
            _ => {}
        }
    }

    fn limit(&mut self, resource: u64, memory: &dyn Memory, at: u64) {
        const RESOURCES: u32 = 16;
        let limit = (read_u64(memory, at), read_u64(memory, at.wrapping_add(8)));
        if let ((Some(soft), Some(hard)), resource @ 0..RESOURCES) = (limit, resource as u32) {
            self.limits.insert(resource, (soft, hard));
        }
    }

    /// A signal has come to the process.
    pub(super) fn deliver_signal(&mut self, signal: i32, info: &[u8]) {
        const SI_KERNEL: i32 = 128;
        const SI_TIMER: i32 = -2;
        let int = |at: usize| {
            let bytes = info.get(at..at + 4)?;
            Some(i32::from_le_bytes(bytes.try_into().ok()?))
        };
        // siginfo_t: si_code at 8; si_timerid at 16, si_overrun at 20.
        match int(8) {
            Some(SI_KERNEL) => {
                let which = match signal {
                    libc::SIGALRM => 0,
                    libc::SIGVTALRM => 1,
                    libc::SIGPROF => 2,
                    _ => return,
                };
                self.itimers[which].seen(1);
            }
            Some(SI_TIMER) => {
                if let Some(own) = int(16).and_then(|id| self.timers.get_mut(&id)) {
                    let overrun = int(20).and_then(|n| u64::try_from(n).ok());
                    own.timer.seen(1 + overrun.unwrap_or(0));
                }
            }
            _ => {}
        }
    }
}
