//! The attributes of a process that its own calls set: limits, timers, session, credentials, namespaces. Not its
//! memory, its descriptors and its signals.

use super::clock::{Clock, read_itimerspec};
use super::memory::read_u64;
use super::timer::{PosixTimer, Timer};
use crate::constants::NAMESPACES;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;
use std::collections::BTreeMap;

/// The attributes of a process that calls of its own set.
#[derive(Clone, Debug, Default)]
pub struct ProcessState {
    /// The resource limits that were set: soft and hard, by resource.
    pub limits: BTreeMap<u32, (u64, u64)>,
    /// ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF.
    pub itimers: [Timer; 3],
    /// The timers of timer_create(2), by ID.
    pub timers: BTreeMap<i32, PosixTimer>,
    /// Whether it is a session leader.
    pub leads_session: bool,
    /// Whether it is a process group leader.
    pub leads_group: bool,
    /// Whether it is a child subreaper: prctl(2).
    pub subreaper: bool,
    /// Whether it changed its root directory.
    pub changed_root: bool,
    /// Whether it changed its user or its groups.
    pub changed_credentials: bool,
    /// Whether it cleared its dumpable attribute, so that other processes cannot read it: prctl(2).
    pub not_dumpable: bool,
    /// Its namespaces other than those of the recording's start: `CLONE_NEW*`, or 1 for one of an unknown kind.
    pub namespaces: u64,
}

/// The new namespaces that clone(2) is asked for, whose lowest byte is a signal.
pub(super) fn new_namespaces(flags: u64) -> u64 {
    flags & NAMESPACES & !0xff
}

/// Whether a call sets an attribute of its process.
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
    /// More timers than a process has, except in a damaged recording.
    const MOST_TIMERS: usize = 4096;

    /// The attributes that a child inherits at fork(2).
    pub(super) fn forked(&self) -> ProcessState {
        ProcessState {
            limits: self.limits.clone(),
            changed_root: self.changed_root,
            changed_credentials: self.changed_credentials,
            not_dumpable: self.not_dumpable,
            namespaces: self.namespaces,
            ..ProcessState::default()
        }
    }

    /// Follows a call of the process, whose number in its own pid namespace is `pid`.
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
                let made = PosixTimer::new(call);
                if let Some((id, timer)) = made
                    && self.timers.len() < ProcessState::MOST_TIMERS
                {
                    self.timers.insert(id, timer);
                }
            }
            libc::SYS_timer_settime => {
                if let Some(posix) = self.timers.get_mut(&(a as i32)) {
                    let absolute = b as i32 & libc::TIMER_ABSTIME != 0;
                    posix.timer.set(
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

    /// Follows a signal to the process: it may report a timer's expiration.
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
                self.itimers[which].expired(1);
            }
            Some(SI_TIMER) => {
                if let Some(posix) = int(16).and_then(|id| self.timers.get_mut(&id)) {
                    let overrun = int(20).and_then(|n| u64::try_from(n).ok());
                    posix.timer.expired(1 + overrun.unwrap_or(0));
                }
            }
            _ => {}
        }
    }
}
