//! Calls of live processes of which the kernel alone would let too much through: rrapper answers or changes them.
//!
//! Each file is about one promise: of live execution itself, or of a sandbox. It names the calls by which a program could
//! break the promise, which stop even where no hook asks for them, and decides on each of them before the kernel makes it.

mod agent_page;
pub(super) mod core_files;
mod counted;
mod locks;
mod machine;
mod memory;
mod namespaces;
mod quotas;
mod sockets;
mod tasks;
mod unseen;
mod used_parts;

pub(super) use tasks::CheckedArgs;

use super::engine::Engine;
use super::files;
use super::task::Task;
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::trace::Answer;
use crate::tracee::Stopped;
use crate::tracee::filter::StopRule;
pub(super) use locks::{Locking, Locks};
pub(super) use quotas::Quotas;

/// The calls that stop whatever their arguments are, by number.
pub(super) fn calls(in_sandbox: bool) -> impl Iterator<Item = i64> {
    let always = [
        tasks::CALLS,
        agent_page::CALLS,
        unseen::CALLS,
        core_files::CALLS,
    ];
    let sandboxed = [
        tasks::COUNTED,
        namespaces::CALLS,
        sockets::CALLS,
        machine::CALLS,
        memory::CALLS,
        quotas::CALLS,
        counted::CALLS,
        used_parts::CALLS,
        locks::CALLS,
    ];
    let sandboxed = sandboxed.into_iter().filter(move |_| in_sandbox);
    always.into_iter().chain(sandboxed).flatten().copied()
}

/// The calls that stop with some arguments.
pub(super) fn rules(in_sandbox: bool) -> Vec<StopRule> {
    let mut rules = [agent_page::RULES, tasks::RULES].concat();
    if in_sandbox {
        rules.extend_from_slice(quotas::RULES);
        rules.extend_from_slice(counted::RULES);
        rules.extend_from_slice(locks::RULES);
    }
    rules
}

impl Engine<'_> {
    /// Guards a call that is about to be made. Returns the answer where the kernel must not make it. A call may be
    /// made with other arguments ([`Task::checked`]).
    pub(super) fn guard(
        &mut self,
        me: &mut Task,
        task: &mut Stopped,
        seen: &mut Decided,
    ) -> Result<Option<Answer>> {
        if let Some(answer) = self.guard_core_files(me, task, seen)? {
            return Ok(Some(answer));
        }
        if let Some(answer) = agent_page::guard(seen) {
            return Ok(Some(answer));
        }
        if let Some(answer) = self.guard_unseen(seen) {
            return Ok(Some(answer));
        }
        if self.is_sandboxed() {
            let refused = namespaces::guard(&self.settings, seen)
                .or_else(|| sockets::guard(&self.settings, seen))
                .or_else(|| machine::guard(seen))
                .or_else(|| self.guard_memory(seen))
                .or_else(|| {
                    let sandbox = self.sandbox.as_ref()?;
                    sandbox.refuses(task, files::file_call(seen))
                })
                .or_else(|| self.guard_quotas(me, task, seen))
                .or_else(|| self.guard_counted(me, task, seen));
            if refused.is_some() {
                return Ok(refused);
            }
            self.note_used_parts(seen);
        }
        let refused = self.guard_tasks(me, task, seen);
        if refused == Some(Answer::Errno(libc::EAGAIN)) {
            self.note_refused_task();
        }
        Ok(refused)
    }

    /// Notes the result of a call that the kernel has made.
    pub(super) fn note_guarded(&mut self, me: &Task, seen: &Decided, ret: i64) {
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
        self.note_contexts(me, seen, ret);
        self.note_counted(me, seen, ret);
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
