//! The embedded engine: follows the recorded events with a process restored from the recorded image.

use super::process::copy;
use super::{Error, Place, Process, Replay, Result};
use crate::image;
use crate::recording::{
    CallEvent, ChunkMemory, Delivery, DescriptorTable, Effect, Event, EventKind, Frame, Frames,
    Recording, SignalEvent, Stream,
};
use crate::syscall::{self, Memory, Moved};
use crate::trace::Exit;
use crate::tracee::quiet::Quiet;
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, Stop, Stopped, TaskMemory, Waited, proc, tsc};
use std::collections::VecDeque;
use std::sync::Arc;

/// Takes what the replayed program writes to its standard output and error.
pub type Output = Box<dyn FnMut(Stream, &[u8])>;

/// A replay of a recording of ours.
pub struct Replayer {
    recording: Arc<Recording>,
    frames: Frames,
    /// The number of the event that is pending, or one more than the last.
    number: u64,
    pending: Option<Event>,
    /// Counter values that the task will read before the pending event.
    tsc: VecDeque<u64>,
    exit: Option<Exit>,
    task: Option<Stopped>,
    place: Place,
    /// The last call was interrupted, and the kernel makes it again.
    restart: bool,
    /// What a trapped read of the time stamp counter must not undo.
    segv: SegvState,
    table: DescriptorTable,
    output: Option<Output>,
}

impl Replayer {
    /// Begins a replay: the program has just been executed, event 1 is pending.
    ///
    /// # Errors
    /// If the recording cannot be read or its first image not be restored.
    pub fn new(recording: Arc<Recording>) -> Result<Replayer> {
        let _quiet = Quiet::new();
        if recording.is_empty() {
            return Err(no_program(&recording));
        }
        let frames = recording.frames_from(1)?;
        let table = DescriptorTable::at_start(recording.start());
        let mut replay = Replayer {
            frames,
            number: 1,
            pending: None,
            tsc: VecDeque::new(),
            exit: None,
            task: None,
            place: Place::Between,
            restart: false,
            segv: SegvState::default(),
            table,
            output: None,
            recording,
        };
        replay.load_next()?;
        match replay.pending.as_ref().and_then(Event::call) {
            Some(CallEvent {
                effect: Effect::Exec(image),
                ..
            }) => {
                let (task, segv) = replay.restore(image)?;
                replay.task = Some(task);
                replay.segv = segv;
            }
            _ => return Err(no_program(&replay.recording)),
        }
        Ok(replay)
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
        let _quiet = Quiet::new();
        while self.pending.is_some() {
            self.step()?;
        }
        Ok(self.exit)
    }

    /// What each descriptor is at the pending event.
    pub fn descriptors(&self) -> &DescriptorTable {
        &self.table
    }

    fn restore(&self, image: &image::Image) -> Result<(Stopped, SegvState)> {
        let file = |id| self.recording.file_path(id);
        let segv = SegvState::at_exec(image.sigmask, image.ignored);
        Ok((image::restore(image, &file)?, segv))
    }

    /// Reads on to the next event.
    fn load_next(&mut self) -> Result<()> {
        self.tsc.clear();
        self.pending = None;
        loop {
            match self.frames.next_frame()? {
                Some(Frame::Event(event)) => {
                    self.pending = Some(event);
                    return Ok(());
                }
                Some(Frame::Tsc { values, .. }) => self.tsc.extend(values),
                Some(Frame::End { exit }) => {
                    self.exit = Some(exit);
                    return Ok(());
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Answers the pending event and goes to the next.
    fn step(&mut self) -> Result<()> {
        let Some(event) = self.pending.take() else {
            return Ok(());
        };
        match &event.kind {
            EventKind::Call(call) => self.answer(call)?,
            EventKind::Signal(signal) => self.signal(signal)?,
        }
        self.number += 1;
        self.load_next()?;
        match self.pending.take() {
            None => self.task = None,
            Some(next) => {
                match &next.kind {
                    EventKind::Call(call) => self.run_to_call(call)?,
                    EventKind::Signal(signal) if signal.fault => self.run_to_fault(signal)?,
                    // Delivered where the task stands now.
                    EventKind::Signal(_) => {}
                }
                self.pending = Some(next);
            }
        }
        Ok(())
    }

    fn task(&mut self) -> Result<&mut Stopped> {
        self.task.as_mut().ok_or(Error::AtEnd)
    }

    fn answer(&mut self, event: &CallEvent) -> Result<()> {
        self.print(event)?;
        if let Effect::Exec(image) = &event.effect {
            // The first was restored when the replay began.
            if self.number != 1 {
                self.task = None;
                let (task, segv) = self.restore(image)?;
                self.task = Some(task);
                self.segv = segv;
            }
            self.place = Place::Between;
        } else if let Some(ret) = event.ret {
            let number = self.number;
            let recording = Arc::clone(&self.recording);
            super::execute::answer(self.task()?, event, ret, number, &recording)?;
            if let Some(task) = &self.task {
                self.segv.after_call(task, event.nr, &event.args, ret)?;
            }
            self.place = Place::Between;
            self.restart = (-516..=-512).contains(&ret);
        }
        self.table.apply(event);
        Ok(())
    }

    /// Passes on what the call writes to a standard stream, from the replayed process's own memory.
    fn print(&mut self, event: &CallEvent) -> Result<()> {
        let (Some(output), Some(task)) = (&mut self.output, &self.task) else {
            return Ok(());
        };
        let Some(ret) = event.ret.filter(|&ret| ret > 0) else {
            return Ok(());
        };
        let Some(call) = syscall::by_nr(event.nr.into()) else {
            return Ok(());
        };
        if let Effect::Moved(data) = &event.effect {
            let fd = if call.name == "sendfile" { 0 } else { 2 };
            if let Some(stream) = self.table.output_stream(event.args[fd] as i32) {
                output(stream, data);
            }
            return Ok(());
        }
        if call.moves_data() != Some(Moved::In) {
            return Ok(());
        }
        let Some(stream) = call
            .fd_arg()
            .and_then(|arg| self.table.output_stream(event.args[arg] as i32))
        else {
            return Ok(());
        };
        let memory = task.memory();
        for region in call.data_regions(&event.args, ret as u64, &memory) {
            let mut data = vec![0; region.len];
            memory.read_exact(region.addr, &mut data)?;
            output(stream, &data);
        }
        Ok(())
    }

    fn signal(&mut self, event: &SignalEvent) -> Result<()> {
        let Delivery::Handler {
            regs,
            sigmask,
            frame,
        } = &event.delivery
        else {
            return Ok(());
        };
        let number = self.number;
        let words = regs.as_slice().try_into().map_err(|_| Error::Diverged {
            event: number,
            expected: "a signal handler's registers".into(),
            actual: format!("{} words", regs.len()),
        })?;
        let task = self.task()?;
        task.memory().write(frame.addr, &frame.data)?;
        let mut regs = Regs::from_words(words);
        regs.set_ip(regs.ip());
        task.set_regs(&regs)?;
        task.set_sigmask(*sigmask)?;
        if let Some(task) = &self.task {
            self.segv.after_mask(task)?;
        }
        self.restart = false;
        self.place = Place::Between;
        Ok(())
    }

    /// Resumes the task up to the entry of the next call, which must be this one.
    fn run_to_call(&mut self, next: &CallEvent) -> Result<()> {
        if std::mem::take(&mut self.restart) {
            let nr = u64::from(next.nr);
            let task = self.task()?;
            let mut regs = task.regs()?;
            regs.rewind(nr);
            task.set_regs(&regs)?;
        }
        let (task, stop) = self.run(|event| expected(next, event))?;
        if stop != Stop::Entry {
            let actual = describe_stop(&task, stop);
            return Err(self.diverged(expected(next, self.number), actual));
        }
        let regs = task.regs()?;
        if task.is_foreign_call()? {
            let actual = format!("call {} of the 32-bit ABI", regs.nr());
            return Err(self.diverged(expected(next, self.number), actual));
        }
        if !same_call(next, &regs) || !same_inputs(next, task.memory()) {
            let actual = made(&regs, task.memory());
            return Err(self.diverged(expected(next, self.number), actual));
        }
        self.task = Some(task);
        self.place = Place::Entry;
        Ok(())
    }

    /// Resumes the task up to the fault that was recorded next.
    fn run_to_fault(&mut self, next: &SignalEvent) -> Result<()> {
        let what = format!("signal {}", syscall::consts::signal_name(next.signal));
        let (mut task, stop) = self.run(|_| what.clone())?;
        if stop != Stop::Signal(next.signal) {
            let actual = describe_stop(&task, stop);
            return Err(self.diverged(what, actual));
        }
        // The stop itself is not needed: put the task back to before the instruction that faults.
        let mut regs = task.regs()?;
        regs.set_ip(regs.ip());
        task.set_regs(&regs)?;
        self.task = Some(task);
        self.place = Place::Between;
        Ok(())
    }

    /// Resumes the task until it stops for something that matters.
    fn run(&mut self, expected: impl Fn(u64) -> String) -> Result<(Stopped, Stop)> {
        let mut task = self.task.take().ok_or(Error::AtEnd)?;
        loop {
            let (mut stopped, stop) = match task.resume()?.wait()? {
                Waited::Stopped(task, stop) => (task, stop),
                Waited::Ended(exit) => {
                    let actual = format!("the end of the process ({})", exit.in_words());
                    return Err(self.diverged(expected(self.number), actual));
                }
            };
            match stop {
                Stop::Signal(libc::SIGSEGV) => {
                    let mut regs = stopped.regs()?;
                    let Some(instruction) = tsc::Instruction::at(&regs, &stopped.memory()) else {
                        return Ok((stopped, stop));
                    };
                    let Some(value) = self.tsc.pop_front() else {
                        return Err(self.diverged(expected(self.number), "rdtsc".into()));
                    };
                    instruction.execute(&mut regs, value);
                    stopped.set_regs(&regs)?;
                    self.segv.restore(&mut stopped)?;
                }
                // Signals from outside mean nothing to a replayed process.
                Stop::Signal(_) if !stopped.siginfo()?.is_fault() => {}
                Stop::Group(_) | Stop::Attached | Stop::Other(_) => {}
                _ => return Ok((stopped, stop)),
            }
            task = stopped;
        }
    }

    fn diverged(&self, expected: String, actual: String) -> Error {
        Error::Diverged {
            event: self.number,
            expected,
            actual,
        }
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
        // Behind, or left where the replay could not go on.
        if event < self.number || self.pending.is_none() {
            let output = self.output.take();
            *self = Replayer::new(Arc::clone(&self.recording))?;
            self.output = output;
        }
        let _quiet = Quiet::new();
        while self.number < event && self.pending.is_some() {
            self.step()?;
        }
        Ok(())
    }

    fn position(&self) -> Option<(u64, &Event)> {
        self.pending.as_ref().map(|event| (self.number, event))
    }

    fn spin_off(&mut self, pid: Option<i32>) -> Result<Process> {
        let _quiet = Quiet::new();
        let there = self.recording.start().pid;
        if let Some(pid) = pid.filter(|&pid| pid != there) {
            return Err(Error::NoSuchProcess {
                pid,
                event: self.number,
                there,
            });
        }
        let event = self.pending.clone().ok_or(Error::AtEnd)?;
        let place = self.place;
        let restart = self.restart;
        let task = self.task()?;
        let mut task = copy(task, place)?;
        if restart && let Some(call) = self.recording.event(self.number - 1)?.call() {
            let mut regs = task.regs()?;
            // The kernel's own codes are not for the program: either the call is made again, or it fails.
            match &event.kind {
                EventKind::Signal(s) if s.returns_to().is_some_and(|ip| ip == call.ip) => {
                    regs.set_ret(-i64::from(libc::EINTR));
                }
                EventKind::Signal(s) if s.returns_to().is_some() => regs.rewind(call.nr.into()),
                // It may be made again by another name: restart_syscall.
                _ => {
                    let mut later = self.recording.events_from(self.number)?;
                    let next = later
                        .find_map(|next| next.map(|(_, e)| e.call().map(|c| c.nr)).transpose());
                    regs.rewind(next.transpose()?.unwrap_or(call.nr).into());
                }
            }
            task.set_regs(&regs)?;
        }
        Ok(Process {
            task,
            place,
            recording: Arc::clone(&self.recording),
            event: (self.number, event),
            pid: there,
            ppid: self.recording.start().ppid,
            descriptors: self.table.clone(),
            segv: self.segv.clone(),
        })
    }
}

fn no_program(recording: &Recording) -> Error {
    Error::NoProgram {
        recording: recording.dir().display().to_string(),
    }
}

fn same_call(recorded: &CallEvent, regs: &Regs) -> bool {
    let args = regs.args();
    let formal = syscall::by_nr(recorded.nr.into())
        .map_or(6, |call| call.resolve(&recorded.args).args.len());
    regs.nr() == i64::from(recorded.nr)
        && regs.ip() == recorded.ip
        && args[..formal.min(6)] == recorded.args[..formal.min(6)]
}

/// Whether memory holds what went into the recorded call.
fn same_inputs(recorded: &CallEvent, memory: TaskMemory) -> bool {
    let mut buf = Vec::new();
    recorded.ins.iter().all(|chunk| {
        buf.resize(chunk.data.len(), 0);
        memory.read(chunk.addr, &mut buf) == chunk.data.len() && buf == chunk.data
    })
}

fn expected(call: &CallEvent, _event: u64) -> String {
    let memory = ChunkMemory(&call.ins);
    text(call.nr.into(), &call.args, &memory)
}

fn made(regs: &Regs, memory: TaskMemory) -> String {
    text(regs.nr() as u64, &regs.args(), &memory)
}

/// A call in strace's syntax, as far as it is known at its entry.
fn text(nr: u64, args: &[u64; 6], memory: &dyn Memory) -> String {
    let Some(call) = syscall::by_nr(nr) else {
        return format!("system call {nr}");
    };
    let call = call.resolve(args);
    let values: Vec<String> = call
        .decode(args, None, memory, memory)
        .iter()
        .map(|value| value.brief().to_string())
        .collect();
    format!("{}({})", call.name, values.join(", "))
}

fn describe_stop(task: &Stopped, stop: Stop) -> String {
    match stop {
        Stop::Signal(signal) => {
            let ip = task.regs().map_or(0, |regs| regs.ip());
            let place = proc::maps(task.tid())
                .ok()
                .and_then(|maps| maps.into_iter().find(|m| (m.start..m.end).contains(&ip)))
                .map(|m| {
                    format!(
                        " in {}+{:#x}",
                        String::from_utf8_lossy(&m.name),
                        ip - m.start + m.offset
                    )
                })
                .unwrap_or_default();
            format!(
                "signal {} at {ip:#x}{place}",
                syscall::consts::signal_name(signal)
            )
        }
        Stop::Entry => task
            .regs()
            .map_or_else(|e| e.to_string(), |regs| made(&regs, task.memory())),
        other => format!("{other:?}"),
    }
}
