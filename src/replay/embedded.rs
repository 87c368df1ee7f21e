//! The embedded engine: follows a recording frame by frame with processes restored from its images.

use super::check;
use super::checkpoint::{CheckpointLimits, Checkpoints};
use super::world::World;
use super::{Error, Replay, Result};
use crate::history::Recording;
use crate::kernel::{DescriptorTable, Stream};
use crate::process::Process;
use crate::recording::{CallEvent, ChunkMemory, Effect, Event, Frame, Frames};
use crate::syscall::{self, Memory, Moved};
use crate::trace::Exit;
use crate::tracee::interrupt;
use crate::tracee::tsc_off::TscOff;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much output is passed on at a time.
const MOST_AT_ONCE: usize = 1 << 20;

/// Takes what the replayed program writes to its standard output and error.
pub type Output = Box<dyn FnMut(Stream, &[u8])>;

/// A replay of a recording of ours.
pub struct Replayer {
    recording: Arc<Recording>,
    /// Behind the pending event.
    frames: Frames,
    /// The number of the event that is pending, or one more than the last.
    number: u64,
    pending: Option<Event>,
    exit: Option<Exit>,
    world: World,
    output: Option<Output>,
    checkpoints: Checkpoints,
}

impl Replayer {
    /// Begins a replay: the program has just been executed, event 1 is pending.
    ///
    /// # Errors
    /// If the recording cannot be read or its first image not be restored.
    pub fn new(recording: Arc<Recording>) -> Result<Replayer> {
        let _quiet = TscOff::new();
        let (frames, first, world) = begin(&recording)?;
        Ok(Replayer {
            frames,
            number: 1,
            pending: Some(first),
            exit: None,
            world,
            output: None,
            checkpoints: Checkpoints::new(CheckpointLimits::default()),
            recording,
        })
    }

    /// Has checkpoints kept within these limits from now on; those that there are go.
    pub fn set_checkpoints(&mut self, limits: CheckpointLimits) {
        self.checkpoints = Checkpoints::new(limits);
    }
    /// The events at which there are checkpoints, by rising number.
    pub fn checkpoints(&self) -> Vec<u64> {
        self.checkpoints.events()
    }

    /// Has what the program writes passed on to `output` from now on.
    pub fn set_output(&mut self, output: Output) {
        self.output = Some(output);
    }

    /// Follows the recording to its end; how the program ended, or `None` where
    /// the recording is incomplete.
    ///
    /// # Errors
    /// If the replay leaves the recording.
    pub fn run_to_end(&mut self) -> Result<Option<Exit>> {
        let _quiet = TscOff::new();
        while self.pending.is_some() {
            self.step()?;
        }
        Ok(self.exit)
    }

    /// What the descriptors of a task are at the pending event; `None` where there is no such task.
    pub fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        self.world.family.descriptors(tid)
    }

    /// The process of the pending event's task; `None` behind the last event.
    pub fn pid(&self) -> Option<i32> {
        let event = self.pending.as_ref()?;
        self.world.tasks.get(&event.tid).map(|task| task.pid)
    }

    /// The processes that there are at the pending event, and the threads of each, by rising number.
    pub fn processes(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut processes: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (&tid, task) in &self.world.tasks {
            processes.entry(task.pid).or_default().push(tid);
        }
        processes
    }

    /// Begins anew.
    fn restart(&mut self) -> Result<()> {
        self.world.clear();
        let (frames, first, world) = begin(&self.recording)?;
        self.stand(1, frames, first, world);
        self.checkpoints.set_out(1);
        Ok(())
    }

    /// Goes to the checkpoint at this event.
    fn resume(&mut self, number: u64) -> Result<()> {
        self.world.clear();
        self.pending = None;
        let Some((world, event)) = self.checkpoints.resume(number)? else {
            return Ok(());
        };
        let mut frames = self.recording.frames_from(number)?;
        // Those before the event have been followed.
        while !matches!(frames.next_frame()?, Some(Frame::Event(_)) | None) {}
        self.stand(number, frames, event, world);
        Ok(())
    }

    fn stand(&mut self, number: u64, frames: Frames, event: Event, world: World) {
        self.frames = frames;
        self.number = number;
        self.pending = Some(event);
        self.exit = None;
        self.world = world;
    }

    /// Answers the pending event and goes to the next.
    fn step(&mut self) -> Result<()> {
        let Some(event) = self.pending.take() else {
            return Ok(());
        };
        let done = self.advance(&event);
        if self.pending.is_none() {
            // Nobody is left, or what is left stands nowhere.
            self.world.clear();
        }
        done
    }

    fn advance(&mut self, event: &Event) -> Result<()> {
        if let Some(call) = event.call() {
            self.print(event.tid, call)?;
        }
        // What else the event did, and what its task reads as it runs. What is written to memory may need its new size.
        let mut more = Vec::new();
        let mut next = self.frames.next_frame()?;
        while let Some(frame) = next.take_if(|frame| comes_along(frame)) {
            if matches!(frame, Frame::Resize { .. }) {
                self.world.follow(&frame)?;
            }
            more.push(frame);
            next = self.frames.next_frame()?;
        }
        let mut goes_on = self.world.answer(event)?;
        for frame in more {
            self.world.follow(&frame)?;
        }
        self.number += 1;
        self.world.number = self.number;
        while let Some(frame) = next.take() {
            if let Some(tid) = goes_on.take() {
                match &frame {
                    Frame::Reach(reach) if reach.tid == tid => {
                        let ran = self.world.run_to(reach);
                        ran.map_err(|error| self.world.doubted(tid, error))?;
                        next = self.next_but_additions()?;
                        continue;
                    }
                    _ if self.world.stays(tid, &frame) => self.world.task_mut(tid)?.tsc.clear(),
                    _ => {
                        let ran = self.world.run(tid, &|| wanted(tid, &frame));
                        ran.map_err(|error| self.world.doubted(tid, error))?;
                    }
                }
            }
            match frame {
                Frame::Event(event) => {
                    let met = self.world.meet(&event);
                    met.map_err(|error| self.world.doubted(event.tid, error))?;
                    self.pending = Some(event);
                    return Ok(());
                }
                Frame::Run { tid } => goes_on = Some(tid),
                Frame::End { exit } => {
                    self.exit = Some(exit);
                    return Ok(());
                }
                _ => self.world.follow(&frame)?,
            }
            next = self.next_but_additions()?;
        }
        Ok(())
    }

    /// The next frame, after those that belong to the one before.
    fn next_but_additions(&mut self) -> Result<Option<Frame>> {
        let mut next = self.frames.next_frame()?;
        while let Some(frame) = next.take_if(|frame| comes_along(frame)) {
            self.world.follow(&frame)?;
            next = self.frames.next_frame()?;
        }
        Ok(next)
    }

    /// Passes on what the call writes to a standard stream.
    fn print(&mut self, tid: i32, event: &CallEvent) -> Result<()> {
        let wrote = event.ret.filter(|&ret| ret > 0 && event.was_made());
        let (Some(output), Some(ret)) = (&mut self.output, wrote) else {
            return Ok(());
        };
        let Some(call) = syscall::by_nr(event.nr.into()) else {
            return Ok(());
        };
        let family = &self.world.family;
        if let Effect::Moved(data) = &event.effect {
            let fd = match call.name {
                "sendfile" => 0,
                "tee" => 1,
                _ => 2,
            };
            if let Some(stream) = family.output_stream(tid, event.args[fd] as i32) {
                output(stream, data);
            }
            return Ok(());
        }
        if call.moves_data() != Some(Moved::In) {
            return Ok(());
        }
        let Some(stream) = call
            .fd_arg()
            .and_then(|arg| family.output_stream(tid, event.args[arg] as i32))
        else {
            return Ok(());
        };
        // What the process has there, unless others may have written to it since the call was made.
        let recorded = ChunkMemory(&event.ins);
        for region in call.data_regions(&event.args, ret as u64, &recorded) {
            let mut at = region.addr;
            let mut left = region.len;
            while left > 0 {
                let mut data = vec![0; left.min(MOST_AT_ONCE)];
                if recorded.read(at, &mut data) != data.len() {
                    let memory = self.world.space_mut(tid)?.memory();
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

/// Whether a frame belongs to the one before.
fn comes_along(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Tsc { .. }
            | Frame::Poke { .. }
            | Frame::Resize { .. }
            | Frame::Remap { .. }
            | Frame::Fill { .. }
    )
}

/// What a task was recorded to do, where the next frame says so.
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

    fn replay_to(&mut self, event: u64) -> Result<()> {
        if event == 0 || event > self.recording.len() {
            // Says which events there are.
            self.recording.event(event)?;
        }
        let _quiet = TscOff::new();
        // Behind, or left where the replay could not go on.
        let here = Some(self.number).filter(|&here| here <= event && self.pending.is_some());
        if let Some(number) = self.checkpoints.before(event)
            && here.is_none_or(|here| here < number)
        {
            self.resume(number)?;
        } else if here.is_none() {
            self.restart()?;
        }
        while self.number < event && self.pending.is_some() {
            if interrupt::is_asked() {
                return Err(Error::Interrupted);
            }
            self.step()?;
            if let Some(next) = &self.pending {
                self.checkpoints.pass(self.number, next, &mut self.world);
            }
        }
        Ok(())
    }

    fn position(&self) -> Option<(u64, &Event)> {
        self.pending.as_ref().map(|event| (self.number, event))
    }

    fn spin_off(&mut self, pid: Option<i32>) -> Result<Process> {
        let _quiet = TscOff::new();
        let event = self.pending.clone().ok_or(Error::AtEnd)?;
        self.world.spin_off(pid, event)
    }
}

/// The recording's first event, what comes behind it, and the world in which it has just happened.
fn begin(recording: &Arc<Recording>) -> Result<(Frames, Event, World)> {
    if recording.is_empty() {
        return Err(no_program(recording));
    }
    let mut frames = recording.frames_from(1)?;
    let Some(Frame::Event(first)) = frames.next_frame()? else {
        return Err(no_program(recording));
    };
    let world = match first.call().map(|call| &call.effect) {
        Some(Effect::Exec(image)) if first.tid == recording.start().pid => {
            World::new(Arc::clone(recording), image)?
        }
        _ => return Err(no_program(recording)),
    };
    Ok((frames, first, world))
}

fn no_program(recording: &Recording) -> Error {
    Error::NoProgram {
        recording: recording.dir().display().to_string(),
    }
}
