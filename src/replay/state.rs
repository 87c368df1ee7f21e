//! All that runs in a replay: address spaces, each in a kernel process, and the recorded tasks that take
//! turns in them.
//!
//! A recorded task has no kernel task: it is a [`Context`], whose registers are loaded into
//! its space's process for its turn. All tasks are therefore copied by forking their spaces.

use super::check;
use super::context::{self, Context};
use super::doubt::Doubt;
use super::signal_state::{Actions, Masks};
use super::space::Space;
use super::{Error, Result};
use crate::history::Recording;
use crate::image::{self, Chunk, Image};
use crate::kernel::ProcessTree;
use crate::process::{Objects, RunTarget, StopPoint};
use crate::recording::{Delivery, Event, EventKind, Frame, Reach, SignalEvent};
use crate::tracee::interpret::Reads;
use crate::tracee::{self, Regs, Stop, Stopped, agent, proc, tsc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All recorded tasks at a position of a recording, and their memory.
pub struct ReplayState {
    pub(super) recording: Arc<Recording>,
    /// The next event to answer, for messages.
    pub(super) number: u64,
    pub(super) spaces: BTreeMap<u32, Space>,
    pub(super) tasks: BTreeMap<i32, Context>,
    pub(super) actions: BTreeMap<u32, Actions>,
    pub(super) tree: ProcessTree,
    pub(super) objects: Objects,
    /// The number of objects at which unmapped ones are searched for next.
    pub(super) objects_looked_for: usize,
    /// The vector registers with which a program and a signal handler start.
    pub(super) fresh: Arc<Vec<u8>>,
    /// The last number given to a space or a set of actions.
    pub(super) next: u32,
    /// The count of possible changes to memory.
    pub(super) changes: u64,
}

impl ReplayState {
    /// The tasks at the beginning: one, in which the recording's first program has just been executed.
    pub fn new(recording: Arc<Recording>, image: &Image) -> Result<ReplayState> {
        let mut state = ReplayState {
            number: 1,
            spaces: BTreeMap::new(),
            tasks: BTreeMap::new(),
            actions: BTreeMap::new(),
            tree: ProcessTree::at_start(recording.start()),
            objects: Objects::default(),
            objects_looked_for: 0,
            fresh: Arc::default(),
            next: 0,
            changes: 0,
            recording,
        };
        let pid = state.recording.start().pid;
        let task = state.restore(image)?;
        state.fresh = Arc::new(context::vector(&task)?);
        state.add_program(pid, task, image)?;
        Ok(state)
    }

    /// A copy, which is replayed independently.
    pub fn copy(&mut self) -> Result<ReplayState> {
        let objects = self.objects.duplicate()?;
        let mut spaces = BTreeMap::new();
        for (&number, space) in &mut self.spaces {
            let mut copy = space.copy()?;
            if copy.shares {
                objects.replace(&self.objects, &mut copy.task)?;
            }
            spaces.insert(number, copy);
        }
        Ok(ReplayState {
            recording: Arc::clone(&self.recording),
            number: self.number,
            spaces,
            tasks: self.tasks.clone(),
            actions: self.actions.clone(),
            tree: self.tree.clone(),
            objects,
            objects_looked_for: self.objects_looked_for,
            fresh: Arc::clone(&self.fresh),
            next: self.next,
            changes: self.changes,
        })
    }

    /// The memory that the processes take, in bytes; shared pages count in part.
    pub fn memory(&self) -> Result<u64> {
        let sizes = self
            .spaces
            .values()
            .map(|s| proc::memory_taken(s.task.tid()));
        let processes: u64 = sizes.sum::<tracee::Result<u64>>()?;
        Ok(processes + self.objects.memory()?)
    }

    /// Ends all processes: the recording has no further event.
    pub fn clear(&mut self) {
        self.tasks.clear();
        self.spaces.clear();
        self.objects = Objects::default();
    }

    pub(super) fn diverged(&self, expected: impl Into<String>, actual: impl Into<String>) -> Error {
        Error::Diverged {
            event: self.number,
            expected: expected.into(),
            actual: actual.into(),
            doubt: Doubt::default(),
        }
    }

    /// The error, with a possible reason where a task has left the recording.
    pub(super) fn doubted(&self, tid: i32, mut error: Error) -> Error {
        if let Error::Diverged { doubt, .. } = &mut error
            && let Some(me) = self.tasks.get(&tid)
            && let Some(space) = self.spaces.get(&me.space)
        {
            let at = (space.memory(), &me.regs);
            *doubt = Doubt::about(&self.recording, self.number, tid, at);
        }
        error
    }

    pub(super) fn senseless(&self, what: impl Into<String>) -> Error {
        Error::Senseless {
            event: self.number,
            what: what.into(),
        }
    }

    fn no_task(&self, tid: i32) -> Error {
        self.senseless(format!("there is no task {tid}"))
    }

    /// A task.
    pub(super) fn task(&self, tid: i32) -> Result<&Context> {
        self.tasks.get(&tid).ok_or_else(|| self.no_task(tid))
    }

    /// A task, mutably.
    pub(super) fn task_mut(&mut self, tid: i32) -> Result<&mut Context> {
        let no_task = self.no_task(tid);
        self.tasks.get_mut(&tid).ok_or(no_task)
    }

    /// The space of a task.
    pub(super) fn space_mut(&mut self, tid: i32) -> Result<&mut Space> {
        let space = self.task(tid)?.space;
        // Every task has a space: see `remove`.
        self.spaces.get_mut(&space).ok_or(Error::AtEnd)
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn restore(&self, image: &Image) -> Result<Stopped> {
        Ok(image::restore(image, &|id| self.recording.kept_file(id))?)
    }

    /// Adds a task that is the only one of a new program.
    fn add_program(&mut self, pid: i32, task: Stopped, image: &Image) -> Result<()> {
        let mut regs = task.regs()?;
        regs.set_ip(regs.ip());
        let (space, actions) = (self.number(), self.number());
        self.actions
            .insert(actions, Actions::ignoring(image.ignored));
        self.spaces.insert(space, Space::new(task, pid));
        let masks = Masks::at_exec(image.sigmask);
        self.tasks
            .insert(pid, Context::new(pid, space, regs, actions, masks));
        Ok(())
    }

    /// Executes a program: the task goes on as the only one of its process.
    pub(super) fn exec(&mut self, tid: i32, image: &Image) -> Result<()> {
        let pid = self.task(tid)?.pid;
        let task = self.restore(image)?;
        self.remove(tid);
        if self.tasks.contains_key(&pid) {
            return Err(self.senseless(format!(
                "task {tid} executes a program while {pid} is still there"
            )));
        }
        self.add_program(pid, task, image)
    }

    /// Removes a task, and its space if no other task has it.
    pub(super) fn remove(&mut self, tid: i32) -> Option<Context> {
        let gone = self.tasks.remove(&tid)?;
        let others = || self.tasks.values();
        if !others().any(|task| task.space == gone.space) {
            self.spaces.remove(&gone.space);
        } else if let Some(space) = self.spaces.get_mut(&gone.space)
            && space.loaded == Some(tid)
        {
            space.loaded = None;
        }
        if !others().any(|task| task.actions == gone.actions) {
            self.actions.remove(&gone.actions);
        }
        Some(gone)
    }

    /// Writes to a task's memory.
    pub(super) fn write(&mut self, tid: i32, chunks: &[Chunk]) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let touches = |chunk: &Chunk| agent::is_touched(chunk.addr, chunk.data.len() as u64);
        if chunks.iter().any(touches) {
            return Err(self.senseless(format!("task {tid} has memory of rrapper's own written")));
        }
        self.changes += 1;
        let space = self.task(tid)?.space;
        let Some(space) = self.spaces.get_mut(&space) else {
            return Ok(());
        };
        space.changes += 1;
        let memory = space.memory();
        for chunk in chunks {
            match memory.write(chunk.addr, &chunk.data) {
                Err(_) if space.shares => self.objects.write(memory, chunk.addr, &chunk.data)?,
                done => done?,
            }
        }
        Ok(())
    }

    /// Runs a task to its next stop; `wanted` describes the expected one.
    pub fn run(&mut self, tid: i32, wanted: &dyn Fn() -> String) -> Result<()> {
        self.run_until(tid, None, wanted)
    }

    /// Runs a task to the place at which it was preempted.
    pub fn run_to(&mut self, reach: &Reach) -> Result<()> {
        let goal = RunTarget::of(reach).map_err(|what| self.senseless(what))?;
        let wanted = || format!("task {} to come to {:#x}", reach.tid, goal.regs.ip());
        self.run_until(reach.tid, Some(&goal), &wanted)
    }

    fn run_until(
        &mut self,
        tid: i32,
        goal: Option<&RunTarget>,
        wanted: &dyn Fn() -> String,
    ) -> Result<()> {
        if self.task(tid)?.place == StopPoint::Entry {
            return Err(self.senseless(format!("task {tid} goes on in the middle of a call")));
        }
        self.changes += 1;
        let (number, changes) = (self.number, self.changes);
        let left = |actual: String| Error::Diverged {
            event: number,
            expected: wanted(),
            actual,
            doubt: Doubt::default(),
        };
        let space = self.task(tid)?.space;
        let space = self.spaces.get_mut(&space).ok_or(Error::AtEnd)?;
        space.load(tid, &mut self.tasks)?;
        let Some(me) = self.tasks.get_mut(&tid) else {
            return Ok(());
        };
        space.changes += 1;
        space.entered = false;
        let cpuid = &self.recording.start().cpuid;
        me.fault = None;
        if let Some(restart) = me.restart.take() {
            me.regs.rewind(restart.again);
        }
        let task = &mut space.task;
        task.set_regs(&me.regs)?;
        if let Some(goal) = goal {
            task.set_breakpoints(&[goal.regs.ip()])?;
        }
        let mut times = 0;
        let mut reads = Reads::default();
        loop {
            let stop = match task.go_on() {
                Ok(stop) => stop,
                Err(tracee::Error::Ended { exit, .. }) => {
                    let how = exit.in_words();
                    return Err(left(format!("the end of the process ({how})")));
                }
                Err(error) => return Err(error.into()),
            };
            match stop {
                Stop::Entry if goal.is_some() => {
                    me.regs = task.regs()?;
                    return Err(left(check::describe_stop(task, stop)));
                }
                Stop::Entry => {
                    me.regs = task.regs()?;
                    if task.is_foreign_call()? {
                        let nr = me.regs.nr();
                        return Err(left(format!("call {nr} of the 32-bit ABI")));
                    }
                    me.place = StopPoint::Entry;
                    space.entered = true;
                    break;
                }
                Stop::Signal(signal) => {
                    if let Some(goal) = goal
                        && let Some(regs) = task.at_breakpoint()?
                    {
                        times += 1;
                        if times < goal.times {
                            continue;
                        }
                        if !regs.look_like(&goal.regs) {
                            return Err(left("the same place with other registers".into()));
                        }
                        me.put(regs);
                        break;
                    }
                    let mut regs = task.regs()?;
                    if signal == libc::SIGSEGV
                        && let Some(read) = tsc::Instruction::at(&regs, &task.memory())
                    {
                        let Some(value) = me.tsc.pop_front() else {
                            return Err(left(read.name().into()));
                        };
                        read.execute(&mut regs, value);
                        if goal.is_none() {
                            let mut answer = |_: tsc::Instruction| me.tsc.pop_front();
                            reads.go_on(&mut regs, &task.memory(), &mut answer)?;
                        }
                        task.set_regs(&regs)?;
                    } else if signal == libc::SIGSEGV && cpuid.execute(&mut regs, &task.memory()) {
                        task.set_regs(&regs)?;
                    } else if task.siginfo()?.is_fault() {
                        if goal.is_some() {
                            return Err(left(format!("signal {signal}")));
                        }
                        me.put(regs);
                        me.fault = Some(signal);
                        break;
                    }
                    // Signals from outside have no effect on a replayed process.
                }
                Stop::Group(_) | Stop::Attached | Stop::Other(_) => {}
                other => return Err(left(check::describe_stop(task, other))),
            }
        }
        if goal.is_some() {
            task.set_breakpoints(&[])?;
        }
        me.tsc.clear();
        me.stood_at = (space.changes, changes);
        Ok(())
    }

    /// Whether a task does not run although it was resumed, because this is the next frame.
    pub fn stays(&self, tid: i32, next: &Frame) -> bool {
        match next {
            Frame::Jump(jump) => jump.tid == tid,
            Frame::Gone { tid: gone, .. } => *gone == tid,
            Frame::Event(Event {
                tid: other,
                kind: EventKind::Signal(signal),
            }) => *other == tid && !signal.fault && !self.was_put_off(tid, signal),
            _ => false,
        }
    }

    /// Whether a signal arrived at the entry of the task's next call, so that the call was postponed.
    fn was_put_off(&self, tid: i32, signal: &SignalEvent) -> bool {
        let here = self.tasks.get(&tid).filter(|me| me.restart.is_none());
        here.zip(signal.returns_to())
            .is_some_and(|(me, ip)| me.regs.ip() != ip)
    }

    /// Checks that the task of the next event has reached it.
    pub fn meet(&mut self, event: &Event) -> Result<()> {
        let me = self.task(event.tid)?;
        let Some(space) = self.spaces.get(&me.space) else {
            return Ok(());
        };
        let as_recorded = match &event.kind {
            EventKind::Call(call) => {
                // Other tasks may have written there since.
                let untouched = me.stood_at.0 == space.changes
                    && (!space.shares || me.stood_at.1 == self.changes);
                me.place == StopPoint::Entry
                    && check::same_call(call, &me.regs)
                    && (!untouched || check::same_inputs(call, space.memory()))
            }
            EventKind::Signal(signal) if signal.fault => me.fault == Some(signal.signal),
            EventKind::Signal(signal) => {
                let put_off = me.place == StopPoint::Entry
                    && signal
                        .returns_to()
                        .is_some_and(|ip| ip == me.regs.ip().wrapping_sub(2));
                if put_off {
                    let me = self.task_mut(event.tid)?;
                    let mut regs = me.regs;
                    regs.rewind(regs.nr() as u64);
                    me.put(regs);
                    return Ok(());
                }
                true
            }
        };
        if !as_recorded {
            let actual = check::describe(me, &space.task);
            return Err(self.diverged(check::expected(event), actual));
        }
        Ok(())
    }

    /// Answers an event that has been reached. Returns the task that runs next, if one does.
    pub fn answer(&mut self, event: &Event) -> Result<Option<i32>> {
        let goes_on = match &event.kind {
            EventKind::Call(call) => self.answer_call(event.tid, call)?,
            EventKind::Signal(signal) => self.answer_signal(event.tid, signal)?,
        };
        self.tree.follow_event(event);
        Ok(goes_on)
    }

    fn answer_signal(&mut self, tid: i32, signal: &SignalEvent) -> Result<Option<i32>> {
        let (regs, sigmask, frame) = match &signal.delivery {
            Delivery::Fatal => return Ok(None),
            Delivery::Ignored => {
                let between = self.task(tid)?.place == StopPoint::Between;
                return Ok(between.then_some(tid));
            }
            Delivery::Handler {
                regs,
                sigmask,
                frame,
            } => (regs, *sigmask, frame),
        };
        let words = regs.as_slice().try_into().map_err(|_| {
            self.diverged(
                "a signal handler's registers",
                format!("{} words", regs.len()),
            )
        })?;
        self.write(tid, std::slice::from_ref(frame))?;
        let fresh = Arc::clone(&self.fresh);
        self.set_vector(tid, &fresh)?;
        let me = self.task_mut(tid)?;
        me.put(Regs::from_words(words));
        me.masks.enter_handler(sigmask);
        let actions = me.actions;
        if let Some(actions) = self.actions.get_mut(&actions) {
            actions.enter(signal.signal);
        }
        Ok(Some(tid))
    }
}
