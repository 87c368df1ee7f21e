//! The place of a live process when it was killed or its time was up.

use super::engine::Engine;
use crate::backtrace::{self, Frame};
use crate::constants::default_action::is_fatal;
use crate::inject::log::observe;
use crate::tracee::{Stopped, interrupt, proc};
use crate::value::BRIEF;

impl Engine<'_> {
    /// Notes the place of a recorded process before a signal that ends it.
    pub(super) fn note_fatal(&mut self, process: i32, task: &Stopped, signal: i32) {
        let tid = task.tid();
        let survives = signal == 0
            || !is_fatal(signal)
            || proc::catches(tid, signal).unwrap_or(true)
            || proc::ignores(tid, signal).unwrap_or(true);
        let is_told = process == self.first || self.members.contains_key(&process);
        if survives || !is_told {
            return;
        }
        let backtrace = self.backtrace_of(task);
        if let Some(member) = self.members.get_mut(&process) {
            member.dies_at(backtrace.clone());
        }
        if process == self.first {
            self.report.backtrace = backtrace;
        }
    }

    /// Notes the call or code of the first process when its time is up.
    pub(super) fn find_hang(&mut self) {
        // An interrupted run does not need the place.
        if interrupt::is_asked() {
            return;
        }
        let own = self
            .tasks
            .iter()
            .filter(|(_, task)| task.process == self.first);
        // Other threads may only wait for the one that computes.
        let Some((&tid, _)) = own.min_by_key(|(_, task)| task.pending.is_some()) else {
            return;
        };
        let pending = self.tasks.get(&tid).and_then(|task| task.pending.as_ref());
        let call = pending.map(|seen| observe(seen, None, BRIEF).brief().to_string());
        let Some(task) = self.stop_task(tid) else {
            self.report.hang = call;
            return;
        };
        self.report.backtrace = self.backtrace_of(&task);
        let frames = || self.report.backtrace.iter().map(Frame::to_string);
        let hang = call.unwrap_or_else(|| frames().collect::<Vec<_>>().join("\n"));
        self.report.hang = Some(hang).filter(|hang| !hang.is_empty());
    }

    fn backtrace_of(&self, task: &Stopped) -> Vec<Frame> {
        match &self.recording {
            Some(recording) => {
                let files = backtrace::recorded(recording, self.event, task.tid());
                backtrace::of(task, &files)
            }
            None => backtrace::of(task, &backtrace::real(task.tid())),
        }
    }
}
