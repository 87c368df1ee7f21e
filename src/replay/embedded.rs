//! The embedded engine: follows a recording frame by frame with processes restored from its images.

use super::check;
use super::checkpoint::{CheckpointLimits, Checkpoints};
use super::state::ReplayState;
use super::{Error, Output, Replay, Result};
use crate::history::{Kin, Recording};
use crate::kernel::DescriptorTable;
use crate::process::Process;
use crate::recording::{CallEvent, ChunkMemory, Effect, Event, Frame, Frames};
use crate::syscall::{self, Memory, Moved};
use crate::trace::Exit;
use crate::tracee::interrupt;
use crate::tracee::tsc_off::TscOff;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of bytes of output that are passed on at a time.
const MOST_AT_ONCE: usize = 1 << 20;

/// The embedded engine. It starts processes only when it is asked to go to an event.
pub struct Replayer {
    recording: Arc<Recording>,
    position: Option<Position>,
    output: Option<Output>,
    checkpoints: Checkpoints,
}

/// The position of a replay, and its processes.
struct Position {
    /// Reads on behind the pending event.
    frames: Frames,
    /// The number of the event that is pending, or one more than the last.
    number: u64,
    pending: Option<Event>,
    exit: Option<Exit>,
    state: ReplayState,
}

impl Replayer {
    /// A replay of this recording.
    pub fn new(recording: Arc<Recording>) -> Replayer {
        Replayer {
            recording,
            position: None,
            output: None,
            checkpoints: Checkpoints::new(CheckpointLimits::default()),
        }
    }

    /// The present position; event 1, at which the program has just been executed, where there was none.
    fn begun(&mut self) -> Result<&mut Position> {
        match &mut self.position {
            Some(position) => Ok(position),
            none => Ok(none.insert(begin(&self.recording)?)),
        }
    }

    /// Gives up the present position and ends its processes.
    fn leave(&mut self) {
        if let Some(mut position) = self.position.take() {
            position.state.clear();
        }
    }

    /// Starts again at event 1.
    fn restart(&mut self) -> Result<()> {
        self.leave();
        self.position = Some(begin(&self.recording)?);
        self.checkpoints.set_out(1);
        Ok(())
    }

    /// Goes to the checkpoint at this event.
    fn resume(&mut self, number: u64) -> Result<()> {
        self.leave();
        let Some((state, event)) = self.checkpoints.resume(number)? else {
            return self.restart();
        };
        let position = Position::at(&self.recording, number, event, state)?;
        self.position = Some(position);
        Ok(())
    }
}

impl Position {
    /// The position at this event, which is pending in that state.
    fn at(
        recording: &Recording,
        number: u64,
        event: Event,
        state: ReplayState,
    ) -> Result<Position> {
        let mut frames = recording.frames_from(number)?;
        // The frames before the event have been followed.
        while !matches!(frames.next_frame()?, Some(Frame::Event(_)) | None) {}
        Ok(Position {
            frames,
            number,
            pending: Some(event),
            exit: None,
            state,
        })
    }

    /// Another one with copies of all processes.
    fn fork(&mut self, recording: &Recording) -> Result<Position> {
        let event = self.pending.clone().ok_or(Error::AtEnd)?;
        Position::at(recording, self.number, event, self.state.copy()?)
    }

    /// Answers the pending event and goes to the next.
    fn step(&mut self, output: &mut Option<Output>) -> Result<()> {
        let Some(event) = self.pending.take() else {
            return Ok(());
        };
        let done = self.advance(&event, output);
        if self.pending.is_none() {
            // No task is left, or the remaining ones are in no defined state.
            self.state.clear();
        }
        done
    }

    fn advance(&mut self, event: &Event, output: &mut Option<Output>) -> Result<()> {
        if let Some(call) = event.call() {
            self.print(event.tid, call, output)?;
        }
        // The other effects of the event, and the counter values that its task reads next. Outputs may need the new size of
        // memory.
        let mut more = Vec::new();
        let mut next = self.frames.next_frame()?;
        while let Some(frame) = next.take_if(|frame| comes_along(frame)) {
            if matches!(frame, Frame::Resize { .. }) {
                self.state.follow(&frame)?;
            }
            more.push(frame);
            next = self.frames.next_frame()?;
        }
        let mut goes_on = self.state.answer(event)?;
        for frame in more {
            self.state.follow(&frame)?;
        }
        self.number += 1;
        self.state.number = self.number;
        while let Some(frame) = next.take() {
            if let Some(tid) = goes_on.take() {
                match &frame {
                    Frame::Reach(reach) if reach.tid == tid => {
                        let ran = self.state.run_to(reach);
                        ran.map_err(|error| self.state.doubted(tid, error))?;
                        next = self.next_but_additions()?;
                        continue;
                    }
                    _ if self.state.stays(tid, &frame) => self.state.task_mut(tid)?.tsc.clear(),
                    _ => {
                        let ran = self.state.run(tid, &|| wanted(tid, &frame));
                        ran.map_err(|error| self.state.doubted(tid, error))?;
                    }
                }
            }
            match frame {
                Frame::Event(event) => {
                    let met = self.state.meet(&event);
                    met.map_err(|error| self.state.doubted(event.tid, error))?;
                    self.pending = Some(event);
                    return Ok(());
                }
                Frame::Run { tid } => goes_on = Some(tid),
                Frame::End { exit } => {
                    self.exit = Some(exit);
                    return Ok(());
                }
                _ => self.state.follow(&frame)?,
            }
            next = self.next_but_additions()?;
        }
        Ok(())
    }

    /// The next frame, after the additions to the one before.
    fn next_but_additions(&mut self) -> Result<Option<Frame>> {
        let mut next = self.frames.next_frame()?;
        while let Some(frame) = next.take_if(|frame| comes_along(frame)) {
            self.state.follow(&frame)?;
            next = self.frames.next_frame()?;
        }
        Ok(next)
    }

    /// Passes on the data that the call writes to a standard stream.
    fn print(&mut self, tid: i32, event: &CallEvent, output: &mut Option<Output>) -> Result<()> {
        let wrote = event.ret.filter(|&ret| ret > 0 && event.was_made());
        let (Some(output), Some(ret)) = (output, wrote) else {
            return Ok(());
        };
        let Some(call) = syscall::by_nr(event.nr.into()) else {
            return Ok(());
        };
        let tree = &self.state.tree;
        if let Effect::Moved(data) = &event.effect {
            let fd = match call.name {
                "sendfile" => 0,
                "tee" => 1,
                _ => 2,
            };
            if let Some(stream) = tree.output_stream(tid, event.args[fd] as i32) {
                output(stream, data);
            }
            return Ok(());
        }
        if call.moves_data() != Some(Moved::In) {
            return Ok(());
        }
        let Some(stream) = call
            .fd_arg()
            .and_then(|arg| tree.output_stream(tid, event.args[arg] as i32))
        else {
            return Ok(());
        };
        // The memory of the process has the data, unless it may have been changed since the call was made: then it is recorded.
        let recorded = ChunkMemory(&event.ins);
        for region in call.data_regions(&event.args, ret as u64, &recorded) {
            let mut at = region.addr;
            let mut left = region.len;
            while left > 0 {
                let mut data = vec![0; left.min(MOST_AT_ONCE)];
                if recorded.read(at, &mut data) != data.len() {
                    let memory = self.state.space_mut(tid)?.memory();
                    memory.read_exact(at, &mut data)?;
                }
                output(stream, &data);
                at = at.wrapping_add(data.len() as u64);
                left -= data.len();
            }
        }
        Ok(())
    }
}

/// Whether a frame is an addition to the one before.
fn comes_along(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Tsc { .. }
            | Frame::Poke { .. }
            | Frame::Resize { .. }
            | Frame::Remap { .. }
            | Frame::Fill { .. }
            | Frame::TrapCpuid { .. }
            | Frame::Addresses(_)
            | Frame::JobControl(_)
    )
}

/// The expected action of a task, if the next frame has it.
fn wanted(tid: i32, next: &Frame) -> String {
    match next {
        Frame::Event(event) if event.tid == tid => check::expected(event),
        _ => format!("task {tid} to make its next call"),
    }
}

impl Replay for Replayer {
    fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    fn another(&self) -> Box<dyn Replay> {
        Box::new(Replayer::new(Arc::clone(&self.recording)))
    }

    fn set_checkpoints(&mut self, limits: CheckpointLimits) {
        self.checkpoints = Checkpoints::new(limits);
    }

    fn checkpoints(&self) -> Vec<u64> {
        self.checkpoints.events()
    }

    fn set_output(&mut self, output: Output) {
        self.output = Some(output);
    }

    fn replay_to(&mut self, event: u64) -> Result<()> {
        if event == 0 || event > self.recording.len() {
            // The error names the events that there are.
            self.recording.event(event)?;
        }
        let _quiet = TscOff::new();
        // The position is behind the event, or undefined after an error.
        let here = self.position.as_ref().filter(|at| at.pending.is_some());
        let here = here.map(|at| at.number).filter(|&here| here <= event);
        if let Some(number) = self.checkpoints.before(event)
            && here.is_none_or(|here| here < number)
        {
            self.resume(number)?;
        } else if here.is_none() {
            self.restart()?;
        }
        let Some(position) = &mut self.position else {
            return Ok(());
        };
        while position.number < event && position.pending.is_some() {
            if interrupt::is_asked() {
                return Err(Error::Interrupted);
            }
            position.step(&mut self.output)?;
            if let Some(next) = &position.pending {
                let (number, state) = (position.number, &mut position.state);
                self.checkpoints.pass(number, next, state);
            }
        }
        Ok(())
    }

    fn run_to_end(&mut self) -> Result<Option<Exit>> {
        let _quiet = TscOff::new();
        self.begun()?;
        let Some(position) = &mut self.position else {
            return Ok(None);
        };
        while position.pending.is_some() {
            position.step(&mut self.output)?;
        }
        Ok(position.exit)
    }

    fn position(&self) -> Option<(u64, &Event)> {
        let position = self.position.as_ref()?;
        let pending = position.pending.as_ref();
        pending.map(|event| (position.number, event))
    }

    fn pid(&self) -> Option<i32> {
        let position = self.position.as_ref()?;
        let task = position.state.tasks.get(&position.pending.as_ref()?.tid);
        task.map(|task| task.pid)
    }

    fn processes(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut processes: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let tasks = self.position.iter().flat_map(|at| &at.state.tasks);
        for (&tid, task) in tasks {
            processes.entry(task.pid).or_default().push(tid);
        }
        processes
    }

    fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        self.position.as_ref()?.state.tree.descriptors(tid)
    }

    fn spin_off(&mut self, pid: Option<i32>) -> Result<Process> {
        let _quiet = TscOff::new();
        let position = self.begun()?;
        let event = position.pending.clone().ok_or(Error::AtEnd)?;
        position.state.spin_off(pid, &event)
    }

    fn add_relatives(&mut self, process: &mut Process, kin: &Kin) -> Result<()> {
        let _quiet = TscOff::new();
        self.replay_to(process.group.event.0)?;
        let position = self.begun()?;
        let event = position.pending.clone().ok_or(Error::AtEnd)?;
        position.state.add_relatives(process, &event, kin)
    }

    fn add_family(&mut self, process: &mut Process, event: u64) -> Result<()> {
        let _quiet = TscOff::new();
        let from = process.group.changes.event();
        let left = process.changes.left.clone();
        let ended = process.changes.ended.keys();
        let gone: BTreeSet<i32> = ended.chain(&process.changes.unmade).copied().collect();
        // Who took a part of what a call was still sending left the recording before that call's event.
        let alive = left.iter().filter(|(pid, _)| !gone.contains(pid));
        let from = alive.fold(from, |first, (_, &since)| first.min(since.max(1)));
        let here = self.position().map(|(number, _)| number);
        if here.is_none_or(|here| here != from) {
            self.replay_to(from)?;
        }
        let is_there = |pid: i32, number: u64| {
            !gone.contains(&pid) && left.get(&pid).is_none_or(|&since| since > number)
        };
        let position = self.begun()?;
        if event <= from {
            let pending = position.pending.clone().ok_or(Error::AtEnd)?;
            return position
                .state
                .add_copies(process, &pending, |pid| is_there(pid, event));
        }
        let recording = Arc::clone(&position.state.recording);
        let mut ahead = position.fork(&recording)?;
        while let Some(pending) = ahead.pending.clone() {
            if interrupt::is_asked() {
                return Err(Error::Interrupted);
            }
            let number = ahead.number;
            let is_last = number >= event;
            let leaves = |pid: i32| left.get(&pid) == Some(&number) && !gone.contains(&pid);
            let is_meant = |pid: i32| leaves(pid) || is_last && is_there(pid, number);
            if is_last || left.values().any(|&since| since == number) {
                ahead.state.add_copies(process, &pending, is_meant)?;
            }
            if is_last {
                break;
            }
            ahead.step(&mut None)?;
        }
        ahead.state.clear();
        Ok(())
    }
}

/// The position at the recording's first event: the program has just been executed.
fn begin(recording: &Arc<Recording>) -> Result<Position> {
    if recording.is_empty() {
        return Err(no_program(recording));
    }
    let _quiet = TscOff::new();
    let mut frames = recording.frames_from(1)?;
    let mut before = Vec::new();
    let mut next = frames.next_frame()?;
    while let Some(frame) = next.take_if(|frame| matches!(frame, Frame::JobControl(_))) {
        before.push(frame);
        next = frames.next_frame()?;
    }
    let Some(Frame::Event(first)) = next else {
        return Err(no_program(recording));
    };
    let mut state = match first.call().map(|call| &call.effect) {
        Some(Effect::Exec(image)) if first.tid == recording.start().pid => {
            ReplayState::new(Arc::clone(recording), image)?
        }
        _ => return Err(no_program(recording)),
    };
    for frame in before {
        state.follow(&frame)?;
    }
    Ok(Position {
        frames,
        number: 1,
        pending: Some(first),
        exit: None,
        state,
    })
}

fn no_program(recording: &Recording) -> Error {
    Error::NoProgram {
        recording: recording.dir().display().to_string(),
    }
}
