//! Calls of live processes of which the kernel alone would let too much through: rrapper answers or changes them.
//!
//! Each file is about one promise: of live execution itself, or of a sandbox. It names the calls by which a program could
//! break the promise, which stop even where no hook asks for them, and decides on each of them before the kernel makes it.

mod agent_page;
mod machine;
mod namespaces;
mod sockets;
mod tasks;
mod unseen;
mod used_parts;

pub(super) use tasks::CheckedClone;

use super::engine::{Engine, Task};
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::trace::Answer;
use crate::tracee::Stopped;
use crate::tracee::filter::StopRule;

/// The calls that stop whatever their arguments are, by number.
pub(super) fn calls(in_sandbox: bool) -> impl Iterator<Item = i64> {
    let always = [tasks::CALLS, agent_page::CALLS, unseen::CALLS];
    let sandboxed = [
        tasks::COUNTED,
        namespaces::CALLS,
        sockets::CALLS,
        machine::CALLS,
        used_parts::CALLS,
    ];
    let sandboxed = sandboxed.into_iter().filter(move |_| in_sandbox);
    always.into_iter().chain(sandboxed).flatten().copied()
}

/// The calls that stop with some arguments.
pub(super) fn rules() -> Vec<StopRule> {
    [agent_page::RULES, tasks::RULES].concat()
}

impl Engine<'_> {
    /// Guards a call that is about to be made. Returns the answer where the kernel must not make it. A call that makes a
    /// task may be made with other arguments ([`Task::checked`]).
    pub(super) fn guard(
        &mut self,
        me: &mut Task,
        task: &mut Stopped,
        seen: &mut Decided,
    ) -> Result<Option<Answer>> {
        if let Some(answer) = agent_page::guard(seen) {
            return Ok(Some(answer));
        }
        if let Some(answer) = self.guard_unseen(seen) {
            return Ok(Some(answer));
        }
        if self.is_sandboxed() {
            let refused = namespaces::guard(&self.settings, seen)
                .or_else(|| sockets::guard(&self.settings, seen))
                .or_else(|| machine::guard(seen));
            if refused.is_some() {
                return Ok(refused);
            }
            self.note_used_parts(seen);
        }
        Ok(self.guard_tasks(me, task, seen))
    }
}
