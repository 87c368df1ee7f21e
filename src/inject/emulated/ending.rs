//! The end of an injection: its outcome, and the process as it goes on live or is kept.

use super::Driver;
use super::task::StoppedTask;
use crate::inject::exchange::Decided;
use crate::inject::hook::{Finally, HookExit, Hooks};
use crate::inject::live;
use crate::inject::outcome::Status;
use crate::inject::report::{Driven, Ended, Report};
use crate::inject::script::item::ExpectedCall;
use crate::inject::{Error, Result};
use crate::process::{Process, StopPoint};
use crate::trace::Exit;
use crate::tracee::Stopped;
use std::sync::Arc;

impl<'a> Driver<'a> {
    pub(super) fn finish(
        mut self,
        status: Status,
        exit: Option<Exit>,
        task: Option<Stopped>,
    ) -> Result<Driven> {
        let is_over = task.is_none() || self.finally != Finally::Keep;
        if let Some(task) = task {
            let place = self.place;
            self.park(task, place, None);
        }
        let own = Ended { status, exit };
        let before = self.come_back();
        let pid = self.group.pid;
        let tid = match self.me.pid == pid {
            true => self.me.tid,
            false => self.siblings().map(|r| r.me.tid).next().unwrap_or(pid),
        };
        let left = (is_over && self.hooks.wants_aftermath()).then(|| {
            let event = match status {
                // The others go on as recorded.
                Status::Exited | Status::Signaled if self.unreceived.all_are_there() => {
                    self.group.recording.len()
                }
                _ => self.next_event().unwrap_or(self.group.event.0),
            };
            (self.group.for_files(), (tid, event), self.how_live())
        });
        let own = before.unwrap_or(own);
        let ended = match status {
            Status::Exited | Status::Signaled | Status::Completed => self.end_of_family(own),
            // In one of them, it is of all.
            _ => Ended { status, exit },
        };
        let (process, hooks, mut report) = self.into_process(!is_over);
        if let Some(exit) = exit.filter(|_| before.is_none()) {
            let exit = HookExit { pid, exit };
            hooks.exited(&exit).map_err(Error::Hook)?;
        }
        report.pid = pid;
        report.own = Some(own);
        let mut outcome = report.outcome(ended, hooks);
        if let Some((group, at, how)) = left {
            live::show_left(&group, at, &how, hooks, &mut outcome)?;
            outcome.unfired = hooks.unfired();
        }
        Ok(Driven {
            outcome,
            process,
            went_live: false,
        })
    }

    fn how_live(&self) -> live::LiveOptions {
        live::LiveOptions {
            timeout: self.limit.left(),
            sandbox: self.sandbox,
            settings: Arc::clone(&self.settings),
            peers: self.peers,
            fatal: self.fatal,
            ahead: self.delayed,
            given: self
                .given
                .as_ref()
                .map(|given| given.asked_for.clone())
                .unwrap_or_default(),
        }
    }

    /// Notes which processes have left the recording, and which have ended, for the family that goes on live.
    fn note_departures(&mut self) {
        let (left, lost) = self.unreceived.departures();
        self.otherwise.left.extend(left);
        for (pid, since) in lost {
            match since {
                0 => _ = self.otherwise.unmade.insert(pid),
                since => _ = self.otherwise.ended.insert(pid, (since, None)),
            }
        }
        for gone in self.family.ended() {
            if let (Some(exit), Some(known)) = (gone.exit, self.otherwise.ended.get_mut(&gone.pid))
            {
                known.1 = Some(exit);
            }
        }
    }

    /// Hands the process over to the live engine.
    pub(super) fn go_live(mut self, task: Stopped, met: Option<Decided>) -> Result<Driven> {
        // Where a relative leaves the recording, the process that was asked for is where the schedule has it.
        let met = met.filter(|_| !self.is_relative());
        self.last = self.me.tid;
        let place = match self.fatal {
            Some(_) => StopPoint::Between,
            None => StopPoint::Entry,
        };
        self.park(task, place, None);
        if let Some(ended) = self.come_back() {
            return self.finish(ended.status, ended.exit, None);
        }
        let how = self.how_live();
        self.note_departures();
        let (process, hooks, report) = self.into_process(true);
        let Some(process) = process else {
            return Err(Error::Range { index: 0, len: 0 });
        };
        let outcome = live::go_on(process, met, hooks, report, how)?;
        Ok(Driven {
            outcome,
            process: None,
            went_live: true,
        })
    }

    /// Takes the process that was asked for with all of its threads and relatives, if it is wanted, and the report. No task
    /// runs.
    fn into_process(mut self, is_wanted: bool) -> (Option<Process>, &'a mut dyn Hooks, Report) {
        if let Some(next) = self.next_event()
            && let Ok(event) = self.group.recording.event(next)
        {
            self.group.event = (next, event);
        }
        let event = self.group.event.clone();
        let pid = self.group.pid;
        let (outcomes, mut relatives) = self.relatives();
        self.report.relatives = outcomes;
        for relative in &mut relatives {
            relative.group.event.clone_from(&event);
        }
        self.group.pages = self.family.pages.remove(&self.group.memory);
        let mut threads = self.resting;
        threads.retain(|_, resting| resting.me.pid == pid);
        // The one that stopped last, or the first that has not ended.
        let last = threads.get(&self.last).map(|resting| resting.me.tid);
        let going = threads.values().find(|resting| !resting.me.exited);
        let driven = last.or_else(|| going.map(|resting| resting.me.tid));
        let driven = driven.filter(|_| is_wanted);
        let driven = driven.and_then(|tid| threads.remove(&tid));
        let process = driven.map(|driven| Process {
            group: self.group,
            driven: driven.into_thread(),
            threads: threads
                .into_values()
                .map(StoppedTask::into_thread)
                .collect(),
            relatives,
            followed: self.family.followed,
            changes: self.otherwise,
            source: self.source,
        });
        (process, self.hooks, self.report)
    }

    /// The event that a process which has followed its recording comes to next.
    fn next_event(&self) -> Option<u64> {
        let behind = self.answered? + 1;
        let holders = self.resting.values().map(|resting| &resting.me);
        let steps = holders.chain([&self.me]).filter_map(|me| me.step.as_ref());
        // The expected calls of other tasks may come before.
        let waiting = steps.filter_map(ExpectedCall::event).min();
        let first = [waiting, self.script.event()].into_iter().flatten().min();
        Some(first.map_or(behind, |first| first.min(behind)))
    }
}
