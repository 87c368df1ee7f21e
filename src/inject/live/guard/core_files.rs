//! Core dumps: a program of the system that gets them (core(5), "Piping core dumps to a program") runs outside of any
//! sandbox, with privileges.
//!
//! A limit of one byte keeps core files from being written and the kernel from starting that program; 0 does not keep it
//! from the latter. Helper processes have it from their start ([`crate::tracee::spawn`]), and every process inherits it.
//! Programs that set or ask for the limit are answered from a table, so they see what they have set. Where the kernel
//! heeds no limit, processes are made not dumpable, which programs are not told either.

use crate::constants::Answer;
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;
use crate::inject::live::task::Task;
use crate::tracee::memory::Dumpable;
use crate::tracee::{Stopped, proc};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;

/// The calls that set the limit or ask for it. prctl(2) stops everywhere.
pub(in crate::inject::live) const CALLS: &[i64] = &[
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
];

/// signal(7): the signals whose default is to dump core.
const DUMPING: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// Soft and hard limit, in bytes.
type Limits = (u64, u64);

/// The limits on core files that programs believe to have.
#[derive(Debug)]
pub(in crate::inject::live) struct CoreFiles {
    /// The limits of the first process.
    initial: Limits,
    /// The limits that were set, by process.
    set: BTreeMap<i32, Limits>,
    /// Whether processes are made not dumpable.
    hides: bool,
}

impl CoreFiles {
    /// The limits of a first process: those that it had set when it was recorded, or rrapper's.
    pub fn new(first: i32, recorded: Option<Limits>, sandboxed: bool) -> CoreFiles {
        let own = getrlimit(Resource::RLIMIT_CORE).unwrap_or((0, 0));
        let pattern = proc::read_file("/proc/sys/kernel/core_pattern").unwrap_or_default();
        let is_kept = proc::core_limit(first).is_ok_and(|soft| soft == 1);
        CoreFiles {
            initial: recorded.unwrap_or(own),
            set: BTreeMap::new(),
            hides: sandboxed && escapes(&pattern, is_kept),
        }
    }

    /// Notes the limits that another recorded process had set.
    pub fn add(&mut self, process: i32, recorded: Option<Limits>) {
        if let Some(limits) = recorded {
            self.set.insert(process, limits);
        }
    }

    fn of(&self, process: i32) -> Limits {
        self.set.get(&process).copied().unwrap_or(self.initial)
    }

    /// A process was made by another one.
    pub fn born(&mut self, process: i32, maker: i32) {
        if let Some(&limits) = self.set.get(&maker) {
            self.set.insert(process, limits);
        }
    }

    /// A process has ended.
    pub fn ended(&mut self, process: i32) {
        self.set.remove(&process);
    }

    /// Sets the limits of a process as the kernel would: setrlimit(2).
    fn change(
        &mut self,
        process: i32,
        new: Limits,
        may_raise: bool,
    ) -> std::result::Result<(), i32> {
        if new.0 > new.1 {
            return Err(libc::EINVAL);
        }
        if new.1 > self.of(process).1 && !may_raise {
            return Err(libc::EPERM);
        }
        self.set.insert(process, new);
        Ok(())
    }
}

/// Whether a core dump reaches something outside: a socket (`@`), which no limit keeps from it, or a program where the
/// limit is not in force.
fn escapes(pattern: &[u8], is_limited: bool) -> bool {
    match pattern.first() {
        Some(b'@') => true,
        Some(b'|') => !is_limited,
        _ => false,
    }
}

impl Engine<'_> {
    /// Answers a call that is about core dumps; `None` where the kernel's answer is right.
    pub(in crate::inject::live) fn guard_core_files(
        &mut self,
        me: &Task,
        task: &mut Stopped,
        seen: &Decided,
    ) -> Result<Option<Answer>> {
        if let Some(operation) = Dumpable::of(seen.call.nr, &seen.args)
            && self.core_files.hides
        {
            let answer = self.identity.follow_dumpable(operation, me.process);
            let own = match operation {
                Dumpable::Queried => 1,
                Dumpable::Set | Dumpable::Cleared => 0,
            };
            return Ok(Some(Answer::from_raw(answer.unwrap_or(own))));
        }
        let args = &seen.args;
        let (process, resource, new, old) = match seen.call.name {
            "getrlimit" => (Some(me.process), args[0], 0, args[1]),
            "setrlimit" => (Some(me.process), args[0], args[1], 0),
            "prlimit64" => (self.named(me, args[0] as i32), args[1], args[2], args[3]),
            _ => return Ok(None),
        };
        if resource as u32 != libc::RLIMIT_CORE {
            return Ok(None);
        }
        let Some(process) = process else {
            return Ok(None);
        };
        let answer = self.limit_core_files(task, process, new, old, seen.call.name);
        Ok(Some(
            answer.map_or_else(Answer::Errno, |_| Answer::Value(0)),
        ))
    }

    /// Reads new limits from an address of the task's, and writes the old ones to another; prlimit(2) does without those
    /// at address 0.
    fn limit_core_files(
        &mut self,
        task: &Stopped,
        process: i32,
        new: u64,
        old: u64,
        call: &str,
    ) -> std::result::Result<(), i32> {
        let memory = task.memory();
        let before = self.core_files.of(process);
        if new != 0 || call == "setrlimit" {
            let word = |at: u64| memory.word(at).map_err(|_| libc::EFAULT);
            let new = (word(new)?, word(new.wrapping_add(8))?);
            // A sandbox takes from root the capability to raise limits.
            let may_raise = nix::unistd::geteuid().is_root();
            self.core_files.change(process, new, may_raise)?;
        }
        if old != 0 || call == "getrlimit" {
            let words = [before.0, before.1].map(u64::to_le_bytes).concat();
            memory.write(old, &words).map_err(|_| libc::EFAULT)?;
        }
        Ok(())
    }

    /// The process of the run that a program means by a number of its own; `None` for others.
    fn named(&self, me: &Task, number: i32) -> Option<i32> {
        if [0, me.pid, me.tid].contains(&number) {
            return Some(me.process);
        }
        let mut tasks = self.tasks.values();
        let found = tasks.find(|task| [task.pid, task.tid].contains(&number));
        found.map(|task| task.process)
    }

    /// Makes a copy of a recorded process not dumpable that is about to die of a signal, if need be: earlier, a tracer
    /// without privileges could not read its memory any more. Returns whether it did, so that the signal must be sent
    /// again.
    pub(in crate::inject::live) fn hide_before(
        &self,
        task: &mut Stopped,
        signal: i32,
    ) -> Result<bool> {
        let tid = task.tid();
        let may_escape = self.core_files.hides && self.recording.is_some();
        if !may_escape
            || !DUMPING.contains(&signal)
            || proc::catches(tid, signal)?
            || proc::ignores(tid, signal)?
        {
            return Ok(false);
        }
        self.hide_from_dumps(task)?;
        Ok(true)
    }

    /// Makes a process not dumpable that is about to run a program, if need be.
    pub(in crate::inject::live) fn hide_from_dumps(&self, task: &mut Stopped) -> Result<()> {
        if !self.core_files.hides {
            return Ok(());
        }
        let mut remote = task.remote_at_boundary()?;
        let args = [libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0, 0];
        let what = "keep its core dumps in its sandbox";
        remote.must(what, libc::SYS_prctl, args)?;
        Ok(remote.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inherited_by_children_and_kept_apart() {
        let mut files = CoreFiles {
            initial: (0, u64::MAX),
            set: BTreeMap::new(),
            hides: false,
        };
        assert_eq!(files.change(1, (5, 4), true), Err(libc::EINVAL));
        assert_eq!(files.change(1, (4, 10), false), Ok(()));
        files.born(2, 1);
        assert_eq!(files.of(2), (4, 10));
        assert_eq!(files.change(2, (4, 11), false), Err(libc::EPERM));
        assert_eq!(files.change(2, (4, 11), true), Ok(()));
        assert_eq!((files.of(1), files.of(3)), ((4, 10), (0, u64::MAX)));
        files.ended(2);
        assert_eq!(files.of(2), (0, u64::MAX));
    }

    #[test]
    fn only_some_patterns_need_more_than_the_limit() {
        for (pattern, is_limited, expected) in [
            ("core", false, false),
            ("|/usr/bin/helper %P", true, false),
            ("|/usr/bin/helper %P", false, true),
            ("@/run/dumps.socket", true, true),
            ("", true, false),
        ] {
            let found = escapes(pattern.as_bytes(), is_limited);
            assert_eq!(found, expected, "{pattern} {is_limited}");
        }
    }
}
