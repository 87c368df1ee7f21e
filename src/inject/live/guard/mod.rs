//! Calls in a sandbox of which the kernel alone would let too much through: rrapper answers or changes them.
//!
//! Each file is about one thing that a sandbox promises. It names the calls by which a program could break the promise,
//! which stop even where no hook asks for them, and decides on each of them before the kernel makes it.

pub(super) mod core_files;
mod tasks;
mod used_parts;

use super::engine::{Engine, Task};
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::trace::Answer;
use crate::tracee::Stopped;

/// The calls that stop in a sandbox, by number.
pub(super) fn calls() -> impl Iterator<Item = i64> {
    let all = [tasks::CALLS, used_parts::CALLS];
    all.into_iter().flatten().copied()
}

/// The calls that stop in every live program, by number.
pub(super) fn always() -> impl Iterator<Item = i64> {
    core_files::CALLS.iter().copied()
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
        let _ = (me, task);
        self.note_used_parts(seen);
        Ok(self.guard_tasks(seen))
    }
}
