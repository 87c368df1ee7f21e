//! Scripts: the calls that a process is driven through, from a trace or from its own recording.
//!
//! Both are a list of the actions of each task of the process, in order; calls are counted over all of them. In a recording,
//! the calls of the process's own tasks count; in a trace, all.
//!
//! A trace of one task drives the task that is driven, whatever its number. Where there are several,
//! [`Options::pids`](super::Options) can map numbers to threads; a number that is not mapped there and is that of a thread
//! means that thread. The task that makes the first call is the one that is driven, unless it has been mapped. Those that
//! it has created before with `CLONE_THREAD` are the threads of the process, in order; those that it creates later are the
//! ones that the process creates. The rest belongs to other processes, and is skipped.

mod from_recording;
mod from_trace;
pub(in crate::inject) mod item;
pub(in crate::inject) mod other_run;
mod temporary_names;

use crate::history::{Followed, Recording};
use crate::inject::{Error, Result};
use crate::process::Process;
use crate::trace::{Exit, Trace};
use from_recording::RecordingScript;
use from_trace::TraceScript;
use item::{ExpectedCall, Item, ItemKind};
use other_run::OtherRun;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The number of items up to which a task's next call is searched for behind those of others.
const MOST_AHEAD: usize = 8192;

/// The size of items in bytes up to which it is searched for.
const MOST_WEIGHT: usize = 64 << 20;

/// The calls that a process is driven through. The mapping from numbers in a trace to threads is given by
/// [`Options::pids`](super::Options), or derived: the task that makes the first call is the one that is driven, and the
/// threads that it has created are the others.
pub struct Script {
    source: Source,
    queue: VecDeque<Item>,
    /// The index behind that of the last call in the queue.
    next: usize,
    /// The index of the last call.
    end: Option<usize>,
    /// Whether the recorded states of tasks are left out.
    light: bool,
}

enum Source {
    Trace(Box<TraceScript>),
    Recording {
        events: Box<RecordingScript>,
        recording: Arc<Recording>,
        pid: i32,
        tids: Vec<i32>,
        first: u64,
    },
}

impl Script {
    /// The calls of a trace.
    pub fn of_trace(trace: Arc<Trace>) -> Script {
        Script::of(Source::Trace(Box::new(TraceScript::new(trace))))
    }

    /// The process's own recording, from the event on at which it was spun off.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn of_recording(process: &Process) -> Result<Script> {
        let recording = &process.group.recording;
        let (first, pid, tids) = (process.group.event.0, process.group.pid, process.tids());
        let frames = recording.frames_from(first)?;
        let mut tasks = of_process(&tids, pid);
        for relative in &process.relatives {
            let threads = relative.threads.iter();
            tasks.extend(threads.map(|thread| (thread.tid, relative.group.pid)));
        }
        let followed = Arc::clone(&process.followed);
        let events = RecordingScript::new(frames, first, pid, tasks, followed);
        Ok(Script::of(Source::Recording {
            events: Box::new(events),
            recording: Arc::clone(recording),
            pid,
            tids,
            first,
        }))
    }

    fn of(source: Source) -> Script {
        Script {
            source,
            queue: VecDeque::new(),
            next: 0,
            end: None,
            light: false,
        }
    }

    /// Goes to the call with this index, and maps the numbers of a trace to threads; `pids` maps some of them.
    ///
    /// # Errors
    /// If there is no such call.
    pub(in crate::inject) fn start_at(
        &mut self,
        index: usize,
        process: &Process,
        pids: &BTreeMap<i32, i32>,
    ) -> Result<()> {
        if index > 0 || matches!(self.source, Source::Trace(_)) {
            self.check_end(index)?;
        }
        match &mut self.source {
            Source::Trace(written) => {
                written.check(process, pids)?;
                written.assign(index, process, pids)?;
            }
            Source::Recording { .. } if !pids.is_empty() => {
                let why =
                    "the process's own recording has its own numbers: they are for other traces";
                return Err(Error::Pids(why.into()));
            }
            Source::Recording { .. } => {}
        }
        if index == 0 {
            return Ok(());
        }
        while let Some(item) = self.front()? {
            if matches!(&item.kind, ItemKind::Call(step) if step.index >= index) {
                break;
            }
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Ends the script after the call with index `end`; it begins with that of index `start`.
    ///
    /// # Errors
    /// If there is none.
    pub(in crate::inject) fn end_at(&mut self, start: usize, end: usize) -> Result<()> {
        self.end = Some(end);
        if let Err(error) = self.check_end(end) {
            // An index that is out of range already at the start is reported first.
            self.check_end(start)?;
            return Err(error);
        }
        Ok(())
    }

    fn check_end(&self, index: usize) -> Result<()> {
        let len = match &self.source {
            Source::Trace(written) => written.trace().len(),
            // Nearly every event is a call: the others are only counted where it matters.
            Source::Recording {
                recording,
                pid,
                tids,
                first,
                ..
            } => {
                let frames = recording.frames_from(*first)?;
                let tasks = of_process(tids, *pid);
                let alone = Arc::new(Followed::none());
                let mut events = RecordingScript::new(frames, *first, *pid, tasks, alone);
                let mut calls = 0;
                while calls <= index
                    && let Some(item) = events.next()?
                {
                    calls += usize::from(matches!(item.kind, ItemKind::Call(_)));
                }
                calls
            }
        };
        if index >= len {
            return Err(Error::Range { index, len });
        }
        Ok(())
    }

    fn read(&mut self) -> Result<bool> {
        let item = match &mut self.source {
            Source::Trace(written) => written.next(),
            Source::Recording { events, .. } => events.next()?,
        };
        let Some(mut item) = item else {
            return Ok(false);
        };
        if self.light {
            item.lighten();
        }
        match &item.kind {
            ItemKind::Call(step) if !step.is_relatives => self.next = step.index + 1,
            // Traces are untrusted.
            ItemKind::Signal(due) if !(1..=64).contains(&due.signal) => return Ok(true),
            _ => {}
        }
        self.queue.push_back(item);
        Ok(true)
    }

    /// Leaves out the recorded states of tasks from now on.
    pub(in crate::inject) fn lighten(&mut self) {
        if !std::mem::replace(&mut self.light, true) {
            self.queue.iter_mut().for_each(Item::lighten);
        }
    }

    /// Whether it is the process's own recording.
    pub(in crate::inject) fn is_recording(&self) -> bool {
        matches!(self.source, Source::Recording { .. })
    }

    /// Whether it has the end of each task.
    pub(in crate::inject) fn tells_ends(&self) -> bool {
        self.is_recording()
    }

    /// The end of a task, as in the trace.
    pub(in crate::inject) fn end_of(&self, tid: i32) -> Option<Exit> {
        match &self.source {
            Source::Trace(written) => written.end_of(tid),
            Source::Recording { .. } => None,
        }
    }

    /// The differences between the trace's run and this one, where the script is a trace.
    pub(in crate::inject) fn other_run(&mut self) -> Option<&mut OtherRun> {
        match &mut self.source {
            Source::Trace(written) => written.other_run(),
            Source::Recording { .. } => None,
        }
    }

    /// The next item; `None` at the end.
    pub(in crate::inject) fn front(&mut self) -> Result<Option<&Item>> {
        while self.queue.is_empty() {
            if self.end.is_some_and(|end| self.next > end) || !self.read()? {
                return Ok(None);
            }
        }
        let end = self.end.unwrap_or(usize::MAX);
        let over = |item: &Item| matches!(&item.kind, ItemKind::Call(step) if step.is_behind(end));
        Ok(self.queue.front().filter(|item| !over(item)))
    }

    /// The index of the call that comes next.
    pub(in crate::inject) fn position(&self) -> usize {
        let mut calls = self.queue.iter().filter_map(|item| match &item.kind {
            ItemKind::Call(step) if !step.is_relatives => Some(step.index),
            _ => None,
        });
        calls.next().unwrap_or(self.next)
    }

    /// Takes the next item.
    pub(in crate::inject) fn pop(&mut self) -> Option<Item> {
        self.queue.pop_front()
    }

    /// Takes the next item if it is this task's and satisfies a condition.
    pub(in crate::inject) fn pop_if(
        &mut self,
        tid: i32,
        like: impl FnOnce(&ItemKind) -> bool,
    ) -> Result<Option<Item>> {
        let wanted = self
            .front()?
            .is_some_and(|item| item.tid == tid && like(&item.kind));
        Ok(if wanted { self.pop() } else { None })
    }

    /// The place in the queue of the first item of these tasks, within the limits.
    fn find(&mut self, of: impl Fn(&Item) -> bool) -> Result<Option<usize>> {
        let end = self.end.unwrap_or(usize::MAX);
        let mut weight = 0;
        for at in 0..MOST_AHEAD {
            if at == self.queue.len()
                && (self.next > end || weight > MOST_WEIGHT || !self.read()?)
            {
                return Ok(None);
            }
            weight += self.queue.get(at).map_or(0, Item::weight);
            match self.queue.get(at) {
                Some(Item {
                    kind: ItemKind::Call(step),
                    ..
                }) if step.is_behind(end) => return Ok(None),
                Some(item) if of(item) => return Ok(Some(at)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next call of a task, whatever items of others precede it.
    pub(in crate::inject) fn call_of(&mut self, tid: i32) -> Result<Option<&mut ExpectedCall>> {
        let call = |item: &Item| item.tid == tid && matches!(item.kind, ItemKind::Call(_));
        let at = self.find(call)?;
        Ok(at.and_then(|at| match &mut self.queue.get_mut(at)?.kind {
            ItemKind::Call(step) => Some(&mut **step),
            _ => None,
        }))
    }

    /// The result of a function on the first calls of a task, whatever items of others precede them.
    pub(in crate::inject) fn next_of<T>(
        &mut self,
        tid: i32,
        says: impl Fn(&ExpectedCall) -> Option<T>,
    ) -> Result<Option<T>> {
        const MOST: usize = 16;
        let (said, left) = (Cell::new(None), Cell::new(MOST));
        self.find(|item| match &item.kind {
            ItemKind::Call(step) if item.tid == tid => {
                let says = says(step);
                let is_said = says.is_some();
                said.set(says);
                left.set(left.get() - 1);
                is_said || left.get() == 0
            }
            _ => false,
        })?;
        Ok(said.into_inner())
    }

    /// Drops the next call of a task, whatever items of others precede it.
    pub(in crate::inject) fn drop_call(&mut self, tid: i32) -> Result<Option<ExpectedCall>> {
        let call = |item: &Item| item.tid == tid && matches!(item.kind, ItemKind::Call(_));
        let at = self.find(call)?;
        let dropped = at.and_then(|at| self.queue.remove(at));
        Ok(dropped.and_then(|item| match item.kind {
            ItemKind::Call(step) => Some(*step),
            _ => None,
        }))
    }

    /// Whether the first item of these tasks that counts, whatever items of others precede it, is such a one.
    pub(in crate::inject) fn is_first_of(
        &mut self,
        of: &BTreeSet<i32>,
        is_such: impl Fn(&Item) -> bool,
    ) -> Result<bool> {
        let at = self.find(|item| of.contains(&item.tid))?;
        Ok(at.and_then(|at| self.queue.get(at)).is_some_and(is_such))
    }

    /// Takes the first item of these tasks, whatever items of others precede it.
    pub(in crate::inject) fn take_first(&mut self, of: &BTreeSet<i32>) -> Result<Option<Item>> {
        let counts = |item: &Item| {
            of.contains(&item.tid)
                && matches!(
                    item.kind,
                    ItemKind::Call(_) | ItemKind::Signal(_) | ItemKind::Gone { .. }
                )
        };
        let at = self.find(counts)?;
        Ok(at.and_then(|at| self.queue.remove(at)))
    }

    /// Keeps a process beyond the programs that it executes.
    pub(in crate::inject) fn keep(&mut self, pid: i32) {
        if let Source::Recording { events, .. } = &mut self.source {
            events.keep(pid);
        }
    }

    /// Whether the script has more of a process, or may have.
    pub(in crate::inject) fn has(&self, pid: i32) -> bool {
        match &self.source {
            Source::Recording { events, .. } => events.has(pid),
            _ => true,
        }
    }

    /// Leaves a process out that a call has made, and those that it makes.
    pub(in crate::inject) fn refuse(&mut self, pid: i32) {
        if let Source::Recording { events, .. } = &mut self.source {
            let gone = events.refuse(pid);
            self.queue.retain(|item| !gone.contains(&item.tid));
        }
    }

    /// The event of the first call or signal that is left, where the script is a recording.
    pub(in crate::inject) fn event(&self) -> Option<u64> {
        let mut calls = self.queue.iter().filter_map(|item| match &item.kind {
            ItemKind::Call(step) => step.event(),
            _ => None,
        });
        calls.next()
    }
}

/// The tasks of a process, each with its process.
fn of_process(tids: &[i32], pid: i32) -> BTreeMap<i32, i32> {
    tids.iter().map(|&tid| (tid, pid)).collect()
}
