//! Calls in a sandbox of which the kernel alone would let too much through: rrapper answers or changes them.
//!
//! Each file is about one thing that a sandbox promises. It names the calls by which a program could break the promise,
//! which stop even where no hook asks for them, and decides on each of them before the kernel makes it.

pub(super) mod core_files;
mod memory;
mod quotas;
mod tasks;
mod used_parts;

use super::engine::{Engine, Task};
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::trace::Answer;
use crate::tracee::Stopped;
use crate::tracee::filter::CallWith;
pub(super) use quotas::Quotas;

/// The calls that stop in a sandbox, by number.
pub(super) fn calls() -> impl Iterator<Item = i64> {
    let lists = [
        tasks::CALLS,
        used_parts::CALLS,
        memory::CALLS,
        quotas::CALLS,
    ];
    lists.into_iter().flatten().copied()
}

/// The calls that stop in every live program, by number.
pub(super) fn always() -> impl Iterator<Item = i64> {
    core_files::CALLS.iter().copied()
}

/// The calls that stop in a sandbox with a certain argument.
pub(super) fn calls_with() -> impl Iterator<Item = CallWith> {
    quotas::CALLS_WITH.iter().copied()
}

impl Engine<'_> {
    /// Guards a call that is about to be made. Returns the answer where the kernel must not make it; it may change the
    /// arguments (`seen.args`) with which the kernel makes it.
    pub(super) fn guard(
        &mut self,
        me: &mut Task,
        task: &mut Stopped,
        seen: &mut Decided,
    ) -> Result<Option<Answer>> {
        if let Some(answer) = self.guard_core_files(me, task, seen)? {
            return Ok(Some(answer));
        }
        if !self.is_sandboxed() {
            return Ok(None);
        }
        self.note_used_parts(seen);
        if let Some(answer) = self.guard_tasks(seen) {
            self.note_refused_task();
            return Ok(Some(answer));
        }
        Ok(self
            .guard_memory(seen)
            .or_else(|| self.guard_quotas(me, task, seen)))
    }

    /// Notes the result of a call that the kernel has made.
    pub(super) fn note_guarded(&mut self, seen: &Decided, ret: i64) {
        if !self.is_sandboxed() {
            return;
        }
        if matches!(seen.call.name, "fork" | "vfork" | "clone" | "clone3")
            && ret == -i64::from(libc::EAGAIN)
        {
            self.note_refused_task();
        }
        self.note_segments(seen, ret);
        self.note_keys(seen, ret);
    }

    /// Says once that a task was refused.
    fn note_refused_task(&mut self) {
        let limit = self.settings.limits.processes;
        let sentence = format!(
            "tasks beyond {limit}, the limit of its sandbox: making more failed with EAGAIN"
        );
        self.report.miss(sentence);
    }
}
