//! Limits of the sandbox that the kernel keeps by killing a process: processor time and the size of files.

use super::engine::Engine;
use super::task::Task;
use crate::inject::Result;
use crate::inject::outcome::Status;
use crate::trace::Exit;
use crate::tracee::{Stopped, proc};
use std::collections::BTreeMap;
use std::time::Duration;

/// The limits that are about to end processes.
#[derive(Default)]
pub(super) struct DeadlyLimits {
    /// The signals that the kernel has sent for them, by process.
    sent: BTreeMap<i32, i32>,
    /// The limit that ended the first process.
    of_first: Option<String>,
}

/// The age of the last known processor time of a process, at most.
const AGE: Duration = Duration::from_millis(500);

impl Engine<'_> {
    /// Notes a signal that the kernel sent because of a limit of the sandbox.
    pub(super) fn note_limit(&mut self, me: &Task, task: &Stopped, signal: i32) -> Result<()> {
        let limits = &self.settings.limits;
        let (resource, limit) = match signal {
            libc::SIGXCPU => (libc::RLIMIT_CPU, limits.cpu_seconds),
            libc::SIGXFSZ => (libc::RLIMIT_FSIZE, limits.file_bytes),
            _ => return Ok(()),
        };
        // The program may have limits of its own, and may send itself such signals.
        if self.is_sandboxed()
            && task.siginfo()?.is_of_limit(me.pid)
            && proc::soft_limit(task.tid(), resource)? >= limit
        {
            self.deadly.sent.insert(me.process, signal);
        }
        Ok(())
    }

    /// Finds out whether a process that has ended was ended by a limit of the sandbox.
    pub(super) fn note_end_by_limit(&mut self, me: &Task, exit: Exit) {
        let memory = self.memory.as_ref();
        let used = memory.map_or(Duration::ZERO, |memory| memory.remove(me.process));
        let sent = self.deadly.sent.remove(&me.process);
        let Exit::Signal { signal, .. } = exit else {
            return;
        };
        if let Some(memory) = &self.memory
            && signal == libc::SIGKILL
        {
            memory.process_killed();
        }
        let limits = &self.settings.limits;
        // A process that does not die of the signal is killed a second later.
        let hard = Duration::from_secs(limits.cpu_seconds.saturating_add(1));
        let limit = match signal {
            libc::SIGXFSZ if sent == Some(signal) => {
                let mib = limits.file_bytes >> 20;
                format!("a file may have {mib} MiB in its sandbox, and it wrote more")
            }
            libc::SIGXCPU | libc::SIGKILL
                if (sent == Some(signal)) || (signal == libc::SIGKILL && used + AGE > hard) =>
            {
                let seconds = limits.cpu_seconds;
                format!(
                    "it used the {seconds} s of processor time that its sandbox gives a process"
                )
            }
            _ => return,
        };
        match me.process == self.first {
            true => self.deadly.of_first = Some(limit),
            false => self
                .report
                .missing
                .push(format!("a longer life of its process {}: {limit}", me.pid)),
        }
    }

    /// The end of the first process.
    pub(super) fn end_of_first(&mut self) -> (Status, Option<String>) {
        match (self.deadly.of_first.take(), self.exit) {
            (Some(limit), _) => (Status::Limit, Some(limit)),
            (None, Some(Exit::Signal { .. })) => (Status::Signaled, None),
            (None, _) => (Status::Exited, None),
        }
    }
}
