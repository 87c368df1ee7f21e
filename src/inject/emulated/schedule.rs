//! The schedule: one task runs at a time, in the order of the script.
//!
//! A task whose call has been answered runs on to its next call, and stays stopped there until the script's next call
//! is that one. A task may wait for others where it did not wait in the trace: it polls a word of memory, or waits for
//! a futex word in a call that the trace does not have. Then the others run first.

use super::divergence::Missing;
use super::futex;
use super::{Driver, Next};
use crate::inject::Result;
use crate::inject::outcome::Status;
use crate::inject::script::item::{Item, ItemKind};
use crate::process::StopPoint;
use crate::tracee::{Stopped, TaskMemory};
use std::collections::BTreeSet;
use std::time::Duration;

/// Time slices, after which other tasks run: `SLICE` if the script preempts the task or the task has used up a slice
/// before, `PATIENCE` otherwise.
const SLICE: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_millis(200);

/// The sleep before a task gets another spurious wake-up.
const NAP: Duration = Duration::from_millis(1);

impl Driver<'_> {
    /// The time slice of the running task; `None` for no limit.
    pub(super) fn slice(&self) -> Option<Duration> {
        if self.me.exited {
            return None;
        }
        if self.spins {
            return Some(SLICE);
        }
        if self.me.missing.is_some() {
            return Some(PATIENCE);
        }
        let others = !self.resting.is_empty() && !self.is_as_recorded();
        others.then_some(if self.me.spins > 0 { SLICE } else { PATIENCE })
    }

    /// The memory of the present process, read and written by way of a stopped task.
    pub(super) fn memory(&self) -> Option<TaskMemory> {
        let resting = self.siblings().map(|resting| &resting.task);
        resting
            .chain(&self.group.retired)
            .next()
            .map(Stopped::memory)
    }

    /// Handles the end of a time slice in which the task made no call.
    pub(super) fn on_time_slice_end(&mut self, task: Stopped) -> Result<Next> {
        if self.limit.expired() {
            return Ok(Next::End(Status::Timeout, None, None));
        }
        let is_missing = |missing: &mut Missing| !missing.is_told;
        if let Some(missing) = self.me.missing.take_if(is_missing) {
            return self.diverge_between(task, missing);
        }
        if !std::mem::take(&mut self.spins) {
            // Each slice that the task waits in vain doubles its pause: what it waits for may take long.
            self.me.not_before = self.progress + (1 << self.me.spins.min(8));
            self.me.spins += 1;
        }
        self.park(task, StopPoint::Between, None);
        self.schedule()
    }

    /// Resumes a task that has been answered, unless the script has something else for it now.
    pub(super) fn resume_task(&mut self, task: Stopped) -> Result<Next> {
        match self.resume_or_park(task)? {
            Some(next) => Ok(next),
            None => self.schedule(),
        }
    }

    /// Like `go_on`; `None` if the task stays stopped, and other tasks are next.
    fn resume_or_park(&mut self, mut task: Stopped) -> Result<Option<Next>> {
        if !self.me.due.is_empty() {
            // The script's next items follow once these signals have been delivered.
            return Ok(Some(Next::Resume(task)));
        }
        let stays = std::mem::take(&mut self.me.waits_for_script);
        let tid = self.me.tid;
        if self.is_as_recorded() {
            self.follow_pokes()?;
        }
        let preempted = |kind: &ItemKind| matches!(kind, ItemKind::Spin(..) | ItemKind::Reach(..));
        match self.script.pop_if(tid, preempted)?.map(|item| item.kind) {
            Some(ItemKind::Spin(jump, tsc)) => {
                if self.jump(&mut task, &jump)? {
                    self.park(task, StopPoint::Between, None);
                    return Ok(None);
                }
                self.reads(tid, tsc)?;
                self.spins = true;
                self.skip_pieces(tid)?;
                return Ok(Some(Next::Resume(task)));
            }
            Some(ItemKind::Reach(reach, tsc)) => return self.run_to(task, &reach, tsc).map(Some),
            _ => {}
        }
        self.meet_signals(&mut task)?;
        if !self.me.due.is_empty() || self.me.missing.is_some() {
            self.me.waits_for_script = stays;
            return Ok(Some(Next::Resume(task)));
        }
        let script = &mut self.script;
        let run = script.pop_if(tid, |kind| matches!(kind, ItemKind::Run))?;
        let gone = script.front()?.is_some_and(|item| {
            let ends = matches!(
                item.kind,
                ItemKind::Gone {
                    by_fault: false,
                    ..
                }
            );
            item.tid == tid && ends
        });
        if gone || stays && run.is_none() {
            self.park(task, StopPoint::Between, None);
            return Ok(None);
        }
        Ok(Some(Next::Resume(task)))
    }

    /// Writes the memory changes that the script has behind the call answered last.
    fn follow_pokes(&mut self) -> Result<()> {
        while matches!(self.script.front()?, Some(item) if matches!(item.kind, ItemKind::Poke { .. }))
        {
            if let Some(item) = self.script.pop() {
                self.play_at_once(item)?;
            }
        }
        Ok(())
    }

    /// Returns whether the script's next call is the running task's.
    pub(super) fn is_next(&mut self) -> Result<bool> {
        if self.me.step.is_some() {
            return Ok(true);
        }
        let tid = self.me.tid;
        let alone = self.resting.is_empty();
        Ok(match self.script.front()? {
            Some(item) => item.tid == tid && matches!(item.kind, ItemKind::Call(_)),
            None => alone,
        })
    }

    /// Returns whether a stopped task can be resumed.
    fn can_go(&self, tid: i32) -> bool {
        let Some(resting) = self.resting.get(&tid) else {
            return false;
        };
        match (&resting.waits, resting.place) {
            _ if resting.me.exited => false,
            (Some(waits), _) => {
                futex::word(&resting.task.memory(), waits.addr) != Some(waits.value)
            }
            (None, StopPoint::Between) => resting.me.not_before <= self.progress,
            (None, StopPoint::Entry) => true,
        }
    }

    /// Returns whether a task has to wait for other tasks.
    fn is_awaited(&self, tid: i32) -> bool {
        let over = self.resting.get(&tid).is_none_or(|r| r.me.exited);
        !over && !self.can_go(tid)
    }

    /// Chooses the next task and resumes it. No task runs.
    pub(super) fn schedule(&mut self) -> Result<Next> {
        loop {
            if self.limit.expired() {
                return Ok(Next::End(Status::Timeout, None, None));
            }
            // Tasks that have their expected call already, in the script's order.
            let holders = self.resting.values();
            let holders = holders.filter_map(|r| Some((r.me.step.as_ref()?.index, r.me.tid)));
            let mut holders: Vec<(usize, i32)> = holders.collect();
            holders.sort_unstable();
            if let Some(&(_, tid)) = holders.iter().find(|&&(_, tid)| self.can_go(tid)) {
                return self.run_task(tid);
            }
            let next = self
                .script
                .front()?
                .map(|item| (item.tid, matches!(item.kind, ItemKind::Call(_))));
            match next {
                Some((tid, true)) if self.is_awaited(tid) => {}
                Some(_) => {
                    if let Some(item) = self.script.pop()
                        && let Some(next) = self.play(item)?
                    {
                        return Ok(next);
                    }
                    continue;
                }
                None if holders.is_empty() => return self.at_script_end(),
                None => {}
            }
            return self.schedule_out_of_order();
        }
    }

    /// Performs the next item of the script; `None` if that resumes no task.
    fn play(&mut self, item: Item) -> Result<Option<Next>> {
        let tid = item.tid;
        let Some(item) = self.play_at_once(item)? else {
            return Ok(None);
        };
        if let Some(pid) = self.pid_of(tid) {
            self.enter(pid);
        }
        let resting = self.resting.get(&tid);
        let going = resting.filter(|r| !r.me.exited).map(|r| r.me.pid);
        let missing = match (&item.kind, going) {
            (ItemKind::Signal(due), Some(_)) => self.never_sent(due),
            (&ItemKind::Gone { exit, .. }, Some(pid)) => self.never_killed(pid, exit),
            _ => None,
        };
        if let Some(missing) = missing {
            return self.miss(tid, missing);
        }
        if let ItemKind::Gone { exit, left, .. } = item.kind {
            return Ok(self.on_task_end(tid, exit, &left));
        }
        let Some(resting) = self.resting.get_mut(&tid) else {
            return Ok(None);
        };
        match item.kind {
            ItemKind::Call(step) => {
                if resting.me.exited {
                    return Ok(None);
                }
                resting.me.step = Some(*step);
                self.run_task(tid).map(Some)
            }
            ItemKind::Signal(due) => {
                resting.me.due.push_back(due);
                let Some((mut task, place)) = self.wake(tid) else {
                    return Ok(None);
                };
                if place == StopPoint::Entry {
                    // The signal came just before the call, which is then made again.
                    let mut regs = task.regs()?;
                    regs.rewind(regs.nr() as u64);
                    task.set_regs(&regs)?;
                }
                self.meet_signals(&mut task)?;
                Ok(Some(Next::Resume(task)))
            }
            ItemKind::Run if resting.place == StopPoint::Between => {
                let Some((task, _)) = self.wake(tid) else {
                    return Ok(None);
                };
                self.resume_or_park(task)
            }
            ItemKind::Spin(jump, tsc) if resting.place == StopPoint::Between => {
                let Some((mut task, place)) = self.wake(tid) else {
                    return Ok(None);
                };
                if self.jump(&mut task, &jump)? {
                    self.park(task, place, None);
                    return Ok(None);
                }
                self.reads(tid, tsc)?;
                self.spins = true;
                self.skip_pieces(tid)?;
                Ok(Some(Next::Resume(task)))
            }
            ItemKind::Reach(reach, tsc) if resting.place == StopPoint::Between => {
                let Some((task, _)) = self.wake(tid) else {
                    return Ok(None);
                };
                self.run_to(task, &reach, tsc).map(Some)
            }
            ItemKind::Run | ItemKind::Spin(..) | ItemKind::Reach(..) => {
                self.mark_modified();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Performs an item that only changes memory; returns any other one.
    fn play_at_once(&mut self, item: Item) -> Result<Option<Item>> {
        let pid = self.pid_of(item.tid);
        match item.kind {
            // It has not happened.
            ItemKind::Fill { by, .. } | ItemKind::Poke { by, .. } if self.unmade.contains(&by) => {}
            ItemKind::Fill {
                object,
                offset,
                data,
                ..
            } => {
                self.changes += 1;
                self.group.shared.fill(object, offset, &data)?;
            }
            ItemKind::Poke { chunks, .. } => {
                let here = self.group.pid;
                self.enter(pid.unwrap_or(here));
                self.write_left(&chunks);
                self.enter(here);
            }
            ItemKind::Remap(pieces) => {
                let pid = pid.unwrap_or(self.group.pid);
                let mut resting = self.resting.values_mut();
                if let Some(resting) = resting.find(|resting| resting.me.pid == pid) {
                    let at_entry = resting.place == StopPoint::Entry;
                    let (task, recording) = (&mut resting.task, &self.group.recording);
                    self.group
                        .shared
                        .remap(task, at_entry, &pieces, recording)?;
                }
            }
            kind => {
                return Ok(Some(Item {
                    tid: item.tid,
                    kind,
                }));
            }
        }
        Ok(None)
    }

    /// Resumes this task.
    fn run_task(&mut self, tid: i32) -> Result<Next> {
        let waits = self
            .resting
            .get_mut(&tid)
            .and_then(|resting| resting.waits.take());
        let Some((task, place)) = self.wake(tid) else {
            return self.schedule();
        };
        match (waits, place) {
            (Some(waits), _) => self.waited(task, waits, false),
            (None, StopPoint::Entry) => self.match_again(task),
            (None, StopPoint::Between) => Ok(Next::Resume(task)),
        }
    }

    /// Makes a stopped task the running one.
    pub(super) fn wake(&mut self, tid: i32) -> Option<(Stopped, StopPoint)> {
        let resting = self.resting.remove(&tid)?;
        self.enter(resting.me.pid);
        self.me = resting.me;
        self.last = tid;
        Some((resting.task, resting.place))
    }

    /// Resumes another task, since those whose turn it is cannot be resumed.
    fn schedule_out_of_order(&mut self) -> Result<Next> {
        self.mark_modified();
        let can_go: Vec<i32> = self.resting.keys().copied().collect();
        let can_go: Vec<i32> = can_go.into_iter().filter(|&tid| self.can_go(tid)).collect();
        let at_entry = |tid: &i32| {
            let resting = self.resting.get(tid);
            resting.is_some_and(|r| r.place == StopPoint::Entry && r.waits.is_none())
        };
        if let Some(&tid) = can_go.iter().find(|tid| !at_entry(tid)) {
            return self.run_task(tid);
        }
        let standing: BTreeSet<i32> = can_go.into_iter().collect();
        if !standing.is_empty()
            && let Some(item) = self.script.take_first(&standing)?
        {
            return match self.play(item)? {
                Some(next) => Ok(next),
                None => self.schedule(),
            };
        }
        // All tasks wait for each other: a spinning task goes on spinning, and the others get spurious wake-ups.
        let waiting = |r: &&super::task::StoppedTask| !r.me.exited;
        let spinning = self.resting.values().filter(waiting);
        let spinning = spinning.filter(|r| r.place == StopPoint::Between);
        if let Some(tid) = spinning.min_by_key(|r| r.me.not_before).map(|r| r.me.tid) {
            self.progress += 1;
            return self.run_task(tid);
        }
        // Waits with a time limit end first.
        let waiting = self.resting.values().filter_map(|r| {
            let limited = r.waits.as_ref()?.limited;
            Some((r.me.spurious_wakeups, !limited, r.me.tid))
        });
        let Some((woken, _, tid)) = waiting.min() else {
            return self.at_script_end();
        };
        if woken > 0 {
            std::thread::sleep(NAP);
        }
        let waits = self.resting.get_mut(&tid).and_then(|r| r.waits.take());
        match (waits, self.wake(tid)) {
            (Some(waits), Some((task, _))) => {
                self.me.spurious_wakeups += 1;
                self.waited(task, waits, true)
            }
            _ => self.schedule(),
        }
    }

    /// Handles the end of the script.
    fn at_script_end(&mut self) -> Result<Next> {
        // It has not come to the call at which it leaves the script.
        let mut going = self.resting.values().filter(|r| !r.me.exited);
        let missing = going.find(|r| r.me.missing.is_some()).map(|r| r.me.tid);
        if let Some(tid) = missing {
            return self.run_task(tid);
        }
        let ended = !self.resting.contains_key(&self.last);
        let any = || self.resting.keys().next().copied();
        let tid = if ended { any() } else { Some(self.last) };
        let between = tid.filter(|&tid| {
            let resting = self.resting.get(&tid);
            resting.is_some_and(|r| r.place == StopPoint::Between) && self.can_go(tid)
        });
        if let Some(tid) = between {
            return self.run_task(tid);
        }
        let Some((task, place)) = tid.and_then(|tid| self.wake(tid)) else {
            return Ok(Next::End(Status::Completed, None, None));
        };
        self.place = place;
        match place {
            StopPoint::Entry => self.behind_the_end(task),
            StopPoint::Between => Ok(self.at_end(task)),
        }
    }
}
