//! The processes that are driven together: that which was asked for, and those that are followed with it.
//!
//! The tasks of all of them stand in one schedule, in the order of the script. The state of the process whose task runs, or
//! ran last, is in the driver itself; [`Driver::enter`] puts that of another one there.

use super::task::StoppedTask;
use super::unreceived::{Lost, Unreceived};
use super::{Driver, Next};
use crate::backtrace::Frame;
use crate::history::{Filter, Followed, Recording};
use crate::inject::Result;
use crate::inject::given_files::GivenFiles;
use crate::inject::hook::{HookCall, HookExit, ScratchMemory};
use crate::inject::log::Log;
use crate::inject::outcome::{ProcessOutcome, Status};
use crate::inject::report::Ended;
use crate::inject::script::item::{Birth, Item, ItemKind};
use crate::inject::{Error, report};
use crate::kernel::sends_signal;
use crate::process::{JumpPages, Relative, Thread, ThreadGroup};
use crate::recording::NewTask;
use crate::syscall::{Moved, Syscall};
use crate::trace::Exit;
use crate::tracee::Stopped;
use crate::tracee::watchdog::Limit;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The processes that are driven at once, besides one.
const MOST_MEMBERS: usize = 1000;

/// The state of a process of which no task runs.
pub(super) struct Member {
    pub group: ThreadGroup,
    log: Log,
    room: ScratchMemory,
    first_code: Option<i32>,
    given: Option<GivenFiles>,
    limit: Limit,
}

/// The processes besides that of the task which runs, or ran last.
pub(super) struct Family {
    /// The process that was asked for.
    pub asked_for: i32,
    /// The processes that are followed with it.
    pub followed: Arc<Followed>,
    /// The injection goes on until all have ended.
    awaits_all: bool,
    /// The others.
    members: BTreeMap<i32, Member>,
    /// The pages of the jumps so far in each address space that is in every respect as it was recorded.
    pub pages: BTreeMap<u64, JumpPages>,
    /// The processes that have had another answer than the recorded one, and those that they have made since.
    altered: BTreeSet<i32>,
    /// The processes that were made since the injection began, in order.
    made: Vec<i32>,
    /// The last event that each has been answered.
    answered: BTreeMap<i32, u64>,
    /// The processes that have ended.
    gone: Vec<ProcessOutcome>,
    /// The end and the backtrace of the process that was asked for, while others go on.
    over: Option<(Member, Ended, Vec<Frame>)>,
}

impl Family {
    /// Whether it is a driven process, but not the present one.
    pub fn drives(&self, pid: i32) -> bool {
        self.members.contains_key(&pid)
    }

    /// The driven processes that have ended.
    pub fn ended(&self) -> &[ProcessOutcome] {
        &self.gone
    }

    /// The family of a process that is driven; takes over its jumps.
    pub fn new(group: &mut ThreadGroup, followed: Arc<Followed>, awaits_all: bool) -> Family {
        let pages = group.pages.take().map(|pages| (group.memory, pages));
        Family {
            asked_for: group.pid,
            followed,
            awaits_all,
            members: BTreeMap::new(),
            pages: pages.into_iter().collect(),
            altered: BTreeSet::new(),
            made: Vec::new(),
            answered: BTreeMap::new(),
            gone: Vec::new(),
            over: None,
        }
    }

    /// Adds a process.
    fn add(&mut self, mut group: ThreadGroup, limit: Limit) {
        if let Some(pages) = group.pages.take() {
            self.pages.entry(group.memory).or_insert(pages);
        }
        let member = Member {
            log: Log::default(),
            room: ScratchMemory::default(),
            first_code: None,
            given: None,
            limit,
            group,
        };
        self.members.insert(member.group.pid, member);
    }
}

impl Driver<'_> {
    /// Adds relatives, whose threads stand.
    pub(super) fn add_relatives(&mut self, relatives: Vec<Relative>) -> Result<()> {
        for Relative { group, threads } in relatives {
            let pid = group.pid;
            for thread in threads {
                let tid = thread.tid;
                self.resting.insert(tid, StoppedTask::of(thread, pid));
            }
            let limit = Limit::new(group.real_pid, self.limit.left())?;
            self.family.add(group, limit);
        }
        Ok(())
    }

    /// Whether the process whose task runs is another than the one that was asked for.
    pub(super) fn is_relative(&self) -> bool {
        self.group.pid != self.family.asked_for
    }

    /// Whether the present process is in every respect as it was recorded.
    pub(super) fn is_as_recorded(&self) -> bool {
        self.family.pages.contains_key(&self.group.memory)
    }

    /// The present process's number among those that were made since the injection began: see [`HookCall::child`].
    pub(super) fn child(&self) -> u32 {
        let pid = self.group.pid;
        let at = self.family.made.iter().rposition(|&made| made == pid);
        at.map_or(0, |at| at as u32 + 1)
    }

    /// Notes that an event has been answered.
    pub(super) fn note_answered(&mut self, event: Option<u64>) {
        self.answered = event.max(self.answered);
        if let Some(event) = event {
            self.family.answered.insert(self.group.pid, event);
        }
    }

    /// Notes what other processes do not get, since a call had another effect than the recorded one.
    pub(super) fn lose(&mut self, seen: &HookCall, event: u64) {
        let takes = seen.call.moves_data() == Some(Moved::Out);
        let signals = sends_signal(seen.call.nr.into());
        let fd = seen.fd();
        if !signals && (takes || fd.is_none()) {
            return;
        }
        let file = fd.and_then(|fd| self.group.descriptors.get(fd));
        let is_channel = signals || file.is_some_and(|file| !file.path.starts_with(b"/"));
        if is_channel || self.group.recording.has_family().unwrap_or(true) {
            self.lose_call((event, seen.call), Lost::Answered);
        }
    }

    /// Notes what other processes do not get, since a call of the recording is lost.
    pub(super) fn lose_call(&mut self, (event, call): (u64, &'static Syscall), how: Lost) {
        if !self.family.followed.is_alone() {
            self.unreceive(|unreceived, recording, is_driven| {
                unreceived.lose(event, (call.name, how), recording, is_driven)
            });
        }
    }

    /// Notes that what an event sends was sent after all.
    pub(super) fn find_again(&mut self, event: u64) {
        if self.unreceived.has(event) {
            self.altered.sent(event);
            self.unreceive(|unreceived, recording, is_driven| {
                unreceived.forget(event, recording, is_driven)
            });
        }
    }

    /// Notes that a process has not been made which had begun already when the copy was spun off at the call that made it.
    pub(super) fn lose_child_of(&mut self, seen: &HookCall, event: u64) {
        let makes = matches!(seen.call.name, "clone" | "clone3" | "fork" | "vfork");
        if !makes || event != self.group.event.0 {
            return;
        }
        let births = self.group.recording.births();
        let made = births.ok().and_then(|births| {
            let made = births.iter().find(|birth| birth.answered == Some(event));
            made.map(|birth| birth.pid)
        });
        if let Some(pid) = made {
            self.lose_child(pid);
        }
    }

    /// Notes that a process has not been made that the recording has.
    pub(super) fn lose_child(&mut self, pid: i32) {
        self.unreceive(|unreceived, recording, is_driven| {
            unreceived.lose_process(pid, 0, recording, is_driven)
        });
    }

    /// Notes that the present process ends, perhaps before it has come to the end of its recorded events.
    fn lose_process(&mut self, exit: Exit) {
        if self.family.altered.is_empty() {
            return;
        }
        let pid = self.group.pid;
        let last = self.family.answered.get(&pid).copied();
        let filter = Filter {
            pid: Some(pid),
            from: Some(last.map_or(self.group.event.0, |last| last + 1)),
            calls: Some(Box::new(|_| true)),
            ..Filter::default()
        };
        let next = self.group.recording.find(filter);
        let next = next.ok().and_then(|mut calls| calls.next());
        let since = next.and_then(|next| Some(next.ok()?.number));
        self.unreceive(|unreceived, recording, is_driven| {
            let is_driven = |other: i32| other != pid && is_driven(other);
            match since {
                Some(since) => unreceived.lose_process(pid, since, recording, is_driven),
                None => unreceived.end_process(pid, exit, recording, is_driven),
            }
        });
    }

    fn unreceive(
        &mut self,
        note: impl FnOnce(
            &mut Unreceived,
            &Recording,
            &dyn Fn(i32) -> bool,
        ) -> crate::recording::Result<()>,
    ) {
        let recording = Arc::clone(&self.group.recording);
        let (own, members) = (self.group.pid, &self.family.members);
        let is_driven = |pid: i32| pid == own || members.contains_key(&pid);
        let before = self.unreceived.gone();
        let mut noted = note(&mut self.unreceived, &recording, &is_driven);
        let gone = self.unreceived.gone();
        if gone != before && noted.is_ok() {
            self.group.files.leave_out(gone);
            noted = self.unreceived.files(&recording).map(|files| {
                self.altered.leave_out(files.into_iter());
            });
        }
        if let Err(error) = noted {
            tracing::warn!("what other processes have not got is not known: {error}");
        }
    }

    /// Why the recorded answer to a call does not hold any more, since another process has not sent or taken something, if so.
    pub(super) fn never_got(&self, seen: &HookCall) -> Option<String> {
        let event = seen.event.filter(|_| !self.unreceived.is_empty())?;
        let recorded = self.group.recording.event(event).ok()?;
        let reason = self.unreceived.reason(event, &recorded);
        reason.or_else(|| {
            let recording = &self.group.recording;
            self.unreceived.has_no_taker(event, recording)
        })
    }

    /// Whether the call of a task whose turn has not come is already none that the recording has for it. With others that are
    /// driven with it, it does not wait for its turn to be found out.
    pub(super) fn leaves_early(&mut self, task: &Stopped, call: &'static Syscall) -> Result<bool> {
        if self.family.members.is_empty() || self.is_as_recorded() {
            return Ok(false);
        }
        let seen = self.see(task, call)?;
        if self.hooks.is_ignored(call.name) {
            return Ok(false);
        }
        let hooks = &self.hooks;
        let listed = self.script.next_of(self.me.tid, |step| {
            let passes = step.call.is_some_and(|call| hooks.is_ignored(call.name));
            let is_this = super::matching::matches(step, &seen);
            (is_this || !passes).then_some(is_this)
        })?;
        if listed != Some(false) {
            return Ok(false);
        }
        let tid = BTreeSet::from([self.me.tid]);
        // What comes first may be a signal, which is met in its turn.
        let is_call = |item: &Item| matches!(item.kind, ItemKind::Call(_));
        if !self.script.is_first_of(&tid, is_call)? {
            return Ok(false);
        }
        if let Some(item) = self.script.take_first(&tid)?
            && let ItemKind::Call(step) = item.kind
        {
            self.me.step = Some(*step);
        }
        Ok(true)
    }

    /// The process of a task.
    pub(super) fn pid_of(&self, tid: i32) -> Option<i32> {
        match tid == self.me.tid && tid != 0 {
            true => Some(self.me.pid),
            false => self.resting.get(&tid).map(|resting| resting.me.pid),
        }
    }

    /// The stopped tasks of the present process.
    pub(super) fn siblings(&self) -> impl Iterator<Item = &StoppedTask> {
        let pid = self.group.pid;
        self.resting
            .values()
            .filter(move |resting| resting.me.pid == pid)
    }

    /// Whether the present process has tasks besides the one that runs.
    pub(super) fn has_siblings(&self) -> bool {
        self.siblings().next().is_some()
    }

    /// Makes a process the present one. No task runs.
    pub(super) fn enter(&mut self, pid: i32) {
        if pid == self.group.pid {
            return;
        }
        let Some(next) = self.family.members.remove(&pid) else {
            return;
        };
        let before = self.swap(next);
        self.family.members.insert(before.group.pid, before);
    }

    fn swap(&mut self, mut next: Member) -> Member {
        // There is one world of files, and one position in the recording.
        std::mem::swap(&mut next.group.files, &mut self.group.files);
        Member {
            group: std::mem::replace(&mut self.group, next.group),
            log: std::mem::replace(&mut self.report.log, next.log),
            room: std::mem::replace(&mut self.room, next.room),
            first_code: std::mem::replace(&mut self.first_code, next.first_code),
            given: std::mem::replace(&mut self.given, next.given),
            limit: std::mem::replace(&mut self.limit, next.limit),
        }
    }

    /// Whether a process is followed that a call of the present process makes: as the recording says, or since it is not made
    /// by a process that was always answered as recorded.
    pub(super) fn is_followed(&mut self, born: &Birth) -> bool {
        let is_meant = born.is_followed || self.family.altered.contains(&self.group.pid);
        if is_meant && self.family.members.len() >= MOST_MEMBERS {
            self.report.miss(format!(
                "process {}: more than {MOST_MEMBERS} processes would be driven at once",
                born.task.pid
            ));
            return false;
        }
        is_meant
    }

    /// Notes that the present process has had another answer than the recorded one.
    pub(super) fn note_altered_process(&mut self) {
        self.family.altered.insert(self.group.pid);
    }

    /// Creates the process that a call of the trace has created, if it is followed.
    pub(super) fn make_process(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        born: &NewTask,
    ) -> Result<()> {
        let is_there = born.pid == self.group.pid || self.family.members.contains_key(&born.pid);
        let Some(event) = seen.event.filter(|_| !is_there) else {
            return Ok(());
        };
        let shares = born.flags & libc::CLONE_VM as u64 != 0;
        let memory = match shares {
            true => self.group.memory,
            false => crate::process::new_memory(),
        };
        let thread = Thread::born(task, &self.me.segv, &self.me.attributes, born)?;
        let recorded = (event, self.group.recording.event(event)?);
        let mut group = self.group.child(born.pid, recorded, memory);
        group.real_pid = thread.task.tid();
        if !shares && !self.is_as_recorded() {
            group.pages = None;
        }
        let limit = Limit::new(group.real_pid, self.limit.left())?;
        self.resting
            .insert(born.tid, StoppedTask::of(thread, born.pid));
        self.family.made.push(born.pid);
        if self.family.altered.contains(&self.group.pid) {
            self.family.altered.insert(born.pid);
            if !self.altered.is_empty() {
                self.script.keep(born.pid);
            }
            self.altered.forked(self.group.pid, born.pid);
        }
        self.family.add(group, limit);
        Ok(())
    }

    /// Whether a relative is not followed any more once it has executed the program of this event.
    pub(super) fn leaves_with(&self, event: u64) -> bool {
        let pid = self.group.pid;
        let is_over = || !self.family.followed.has(pid, event + 1);
        // What it is told of altered files and descriptors may not hold.
        let is_kept = || self.family.altered.contains(&pid) && self.script.has(pid);
        self.is_relative() && self.script.is_recording() && is_over() && !is_kept()
    }

    /// Drops the present process, a relative. Goes on with the others.
    pub(super) fn forget(&mut self) -> Result<Next> {
        self.drop_tasks();
        let log = std::mem::take(&mut self.report.log);
        let outcome = report::of_relative(self.group.pid, None, log, Vec::new());
        self.family.gone.push(outcome);
        self.leave();
        if !self.unreceived.is_empty() {
            // It is as the others now that are not driven.
            self.unreceive(|unreceived, recording, is_driven| {
                unreceived.follow(recording, is_driven)
            });
        }
        self.schedule()
    }

    /// Kills the stopped tasks of the present process.
    pub(super) fn drop_tasks(&mut self) {
        let pid = self.group.pid;
        self.resting.retain(|_, resting| resting.me.pid != pid);
        self.group.retired.clear();
    }

    /// Makes another process than the present one the present one, and returns the latter, whose tasks are gone.
    fn leave(&mut self) -> Option<Member> {
        let asked_for = self.family.asked_for;
        let heir = match self.family.members.contains_key(&asked_for) {
            true => asked_for,
            false => *self.family.members.keys().next()?,
        };
        let heir = self.family.members.remove(&heir)?;
        Some(self.swap(heir))
    }

    /// Handles the end of the present process. Returns the next step if the injection is not over with it.
    pub(super) fn on_process_end(&mut self, status: Status, exit: Exit) -> Result<Option<Next>> {
        let goes_on = !self.family.members.is_empty();
        if !(self.is_relative() || goes_on && self.family.awaits_all) {
            return Ok(None);
        }
        self.drop_tasks();
        let pid = self.group.pid;
        let backtrace = std::mem::take(&mut self.report.backtrace);
        let ended = Ended {
            status,
            exit: Some(exit),
        };
        let hook = HookExit { pid, exit };
        self.hooks.exited(&hook).map_err(Error::Hook)?;
        self.lose_process(exit);
        if self.is_relative() {
            let log = std::mem::take(&mut self.report.log);
            let outcome = report::of_relative(pid, Some(ended), log, backtrace);
            self.family.gone.push(outcome);
            if self.leave().is_none() {
                return Ok(None);
            }
        } else if let Some(member) = self.leave() {
            self.family.over = Some((member, ended, backtrace));
        }
        self.schedule().map(Some)
    }

    /// Brings the process that was asked for back for the end of the injection. Returns its end if it has ended before.
    pub(super) fn come_back(&mut self) -> Option<Ended> {
        let Some((member, ended, backtrace)) = self.family.over.take() else {
            self.enter(self.family.asked_for);
            return None;
        };
        let other = self.swap(member);
        let pid = other.group.pid;
        if !self.family.gone.iter().any(|gone| gone.pid == pid) {
            self.family.members.insert(pid, other);
        }
        self.report.backtrace = backtrace;
        Some(ended)
    }

    /// What the relatives did, and those that are still there.
    pub(super) fn relatives(&mut self) -> (Vec<ProcessOutcome>, Vec<Relative>) {
        let mut outcomes = std::mem::take(&mut self.family.gone);
        let mut relatives = Vec::new();
        for (pid, member) in std::mem::take(&mut self.family.members) {
            outcomes.push(report::of_relative(pid, None, member.log, Vec::new()));
            let of_it = self
                .resting
                .values()
                .filter(|resting| resting.me.pid == pid);
            let tids: Vec<i32> = of_it.map(|resting| resting.me.tid).collect();
            let threads = tids.into_iter().filter_map(|tid| self.resting.remove(&tid));
            let threads: Vec<Thread> = threads.map(StoppedTask::into_thread).collect();
            let mut group = member.group;
            group.pages = self.family.pages.get(&group.memory).cloned();
            if !threads.is_empty() {
                relatives.push(Relative { group, threads });
            }
        }
        outcomes.sort_by_key(|outcome| outcome.pid);
        (outcomes, relatives)
    }

    /// The end by which the family is judged: that of the recording's first process where it has ended here, or else that of
    /// the process that was asked for.
    pub(super) fn end_of_family(&self, own: Ended) -> Ended {
        let first = self.group.recording.start().pid;
        let mut gone = self.family.gone.iter();
        let told = gone.find(|outcome| outcome.pid == first && first != self.family.asked_for);
        match told.and_then(|outcome| Some((outcome.status?, outcome.exit))) {
            Some((status, exit)) => Ended { status, exit },
            None => own,
        }
    }
}
