//! Tasks that were preempted between calls.
//!
//! No counter tells at which instruction a task was preempted. As long as the process is in every respect as it was
//! recorded, the task is put into its recorded state, or runs to a breakpoint. Once anything differs (a hook changed a
//! call, a call was added or left out), the task runs for a time slice instead.

use super::{Driver, Next};
use crate::inject::Result;
use crate::inject::hook::{Decision, HookCall};
use crate::inject::script::item::{ExpectedCall, ItemKind};
use crate::process::{JumpPages, RunTarget};
use crate::recording::{Jump, Reach};
use crate::tracee::{Regs, Stopped, agent};
use std::collections::VecDeque;

impl Driver<'_> {
    /// Notes that the process is no longer as it was recorded: recorded states are not put into it any more.
    #[track_caller]
    pub(super) fn mark_modified(&mut self) {
        if self.is_as_recorded() {
            self.forget_pages();
            let by = std::panic::Location::caller();
            tracing::debug!(
                "task {} is not as it was recorded any more ({}:{})",
                self.me.tid,
                by.file(),
                by.line()
            );
        }
        if self.family.pages.is_empty() {
            self.script.lighten();
        }
    }

    /// Forgets the jumps of the present process, and of those that share memory with it.
    fn forget_pages(&mut self) {
        let shares = self.group.shared.objects().len() > 0;
        match shares {
            true => self.family.pages.clear(),
            false => {
                self.family.pages.remove(&self.group.memory);
            }
        }
    }

    /// Calls `leaves_recording` if hooks have changed a call.
    #[track_caller]
    pub(super) fn note_interference(&mut self, seen: &HookCall, is_changed: bool) {
        let as_recorded = seen.decision == Decision::Default
            && seen.afterwards.is_none()
            && !seen.goes_live
            && seen.args == seen.asked
            && !is_changed
            && seen.signals.is_empty()
            && self.delayed.is_zero();
        if !as_recorded {
            self.note_altered_process();
            self.mark_modified();
        }
    }

    /// Calls `leaves_recording` if an expected call's arguments are not quite the recorded ones.
    #[track_caller]
    pub(super) fn compare_registers(&mut self, seen: &HookCall) {
        let exact = self.me.step.as_ref().and_then(|step| step.exact.as_ref());
        let formal = seen.call.args.len().min(6);
        if exact.is_none_or(|event| event.args[..formal] != seen.asked[..formal]) {
            if self.is_as_recorded() {
                tracing::debug!("{:?}: {}{:x?}", seen.event, seen.call.name, seen.asked);
            }
            self.mark_modified();
        }
    }

    /// Returns whether the task's call is the recorded one although its inputs in memory differ: as long as the process
    /// is as it was recorded, other tasks or the kernel have written there since the call's entry.
    pub(super) fn was_written_over(&self, seen: &HookCall) -> bool {
        let exact = self.me.step.as_ref().and_then(|step| step.exact.as_ref());
        let formal = seen.call.args.len().min(6);
        self.is_as_recorded()
            && self.me.changes_at_entry != Some(self.changes)
            && exact.is_some_and(|event| {
                event.nr == seen.call.nr && event.args[..formal] == seen.asked[..formal]
            })
    }

    /// Puts a task that is stopped between calls into the state in which it was preempted; returns whether that was
    /// possible.
    pub(super) fn jump(&mut self, task: &mut Stopped, jump: &Jump) -> Result<bool> {
        let pages = self.family.pages.remove(&self.group.memory);
        let (Some(mut pages), Ok(words)) = (pages, jump.regs.as_slice().try_into()) else {
            return Ok(false);
        };
        let touches = |addr: u64, len: usize| agent::is_touched(addr, len as u64);
        let ours = jump
            .pages
            .iter()
            .any(|chunk| touches(chunk.addr, chunk.data.len()));
        if ours || jump.vector.len() != task.vector()?.len() {
            return Ok(false);
        }
        self.changes += 1;
        let memory = task.memory();
        for chunk in jump
            .pages
            .iter()
            .chain(&JumpPages::follow(&mut pages, jump))
        {
            self.group.shared.write(memory, chunk.addr, &chunk.data)?;
        }
        let mut regs = Regs::from_words(words);
        regs.set_ip(regs.ip());
        task.set_vector(&jump.vector)?;
        task.set_regs(&regs)?;
        self.family.pages.insert(self.group.memory, pages);
        Ok(true)
    }

    /// Resumes a task that is stopped between calls: up to the instruction at which it was preempted, or for a time
    /// slice.
    pub(super) fn run_to(
        &mut self,
        mut task: Stopped,
        reach: &Reach,
        tsc: VecDeque<u64>,
    ) -> Result<Next> {
        self.reads(self.me.tid, tsc)?;
        let target = RunTarget::of(reach).ok().filter(|_| self.is_as_recorded());
        match target {
            Some(target) if task.set_breakpoints(&[target.regs.ip()]).is_ok() => {
                self.me.target = Some((target, task.sigmask()?));
            }
            _ => {
                self.mark_modified();
                self.spins = true;
            }
        }
        Ok(Next::Resume(task))
    }

    /// Handles a stop at the breakpoint of the task's target: `Some(true)` at the target, `Some(false)` on the way
    /// there, `None` for another stop.
    pub(super) fn reached_target(&mut self, task: &mut Stopped) -> Result<Option<bool>> {
        let Some((target, mask)) = &mut self.me.target else {
            return Ok(None);
        };
        let Some(regs) = task.at_breakpoint()? else {
            return Ok(None);
        };
        task.set_sigmask(*mask)?;
        target.times -= 1;
        if target.times > 0 {
            return Ok(Some(false));
        }
        let as_recorded = regs.look_like(&target.regs);
        self.me.target = None;
        task.set_breakpoints(&[])?;
        if !as_recorded {
            self.mark_modified();
        }
        Ok(Some(true))
    }

    /// Gives up the task's target, if it has one: the task will not come to it.
    pub(super) fn cancel_target(&mut self, task: &mut Stopped) -> Result<()> {
        if self.me.target.take().is_some() {
            task.set_breakpoints(&[])?;
            self.mark_modified();
        }
        Ok(())
    }

    /// Queues time stamp counter values for a task that runs instead of being put into a recorded state.
    pub(super) fn reads(&mut self, tid: i32, tsc: VecDeque<u64>) -> Result<()> {
        if let Some(step) = self.script.call_of(tid)? {
            for value in tsc.into_iter().rev() {
                step.tsc.push_front(value);
            }
        }
        Ok(())
    }

    /// Drops the rest of a recorded state that the task is not put into.
    pub(super) fn skip_pieces(&mut self, tid: i32) -> Result<()> {
        let piece = |kind: &ItemKind| matches!(kind, ItemKind::Spin(..));
        while self.script.pop_if(tid, piece)?.is_some() {}
        Ok(())
    }

    /// The running task's next call, whichever other tasks' calls come before it.
    pub(super) fn next_step(&mut self) -> Result<Option<&mut ExpectedCall>> {
        match &mut self.me.step {
            Some(step) => Ok(Some(step)),
            None => self.script.call_of(self.me.tid),
        }
    }
}
