//! The calls that a process is driven through: a trace, or its own recording from where it stands.

use super::{Error, Result};
use crate::recording::{CallEvent, Event, EventKind, Frame, Frames, Recording};
use crate::replay::Process;
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, Attachment, Call, Entry, Field, Origin, Trace, Value};
use crate::tracee::SigInfo;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// The calls that a process is driven through, from the first on.
pub struct Script {
    source: Source,
    next: usize,
}

enum Source {
    Trace(Arc<Trace>),
    Recording {
        events: Box<Events>,
        recording: Arc<Recording>,
        tid: i32,
        first: u64,
    },
}

/// The events of one task of a recording, with the counter values that were read before each.
struct Events {
    frames: Frames,
    tid: i32,
    number: u64,
    ahead: Option<Ahead>,
}

struct Ahead {
    number: u64,
    event: Event,
    tsc: VecDeque<u64>,
}

impl Events {
    fn next(&mut self) -> Result<Option<Ahead>> {
        if self.ahead.is_some() {
            return Ok(self.ahead.take());
        }
        let mut tsc = VecDeque::new();
        loop {
            match self.frames.next_frame()? {
                Some(Frame::Event(event)) => {
                    let number = self.number;
                    self.number += 1;
                    if event.tid == self.tid {
                        return Ok(Some(Ahead { number, event, tsc }));
                    }
                }
                Some(Frame::Tsc { tid, values }) if tid == self.tid => tsc.extend(values),
                // It is over for this task.
                Some(Frame::Gone { tid, .. }) if tid == self.tid => return Ok(None),
                Some(Frame::End { .. }) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

/// A signal that came between two calls, and not of the program's own fault.
pub(super) struct Due {
    pub signal: i32,
    pub info: Option<SigInfo>,
}

/// One expected call.
pub(super) struct Step {
    /// Its index in the trace.
    pub index: usize,
    /// Its name, as written.
    pub name: String,
    /// Its description, where there is such a call.
    pub call: Option<&'static Syscall>,
    /// Its answer.
    pub answer: Answer,
    /// Where it came from.
    pub origin: Origin,
    /// The registers and memory, where they are known exactly.
    pub exact: Option<Arc<CallEvent>>,
    values: OnceCell<Vec<Value>>,
    /// What a text says about the result besides.
    pub notes: Vec<Field>,
    /// How many bytes of its data the process has been given already.
    pub used: u64,
    /// Values of the time stamp counter that the task reads before it.
    pub tsc: VecDeque<u64>,
}

impl Script {
    /// The calls of a trace.
    pub fn of_trace(trace: Arc<Trace>) -> Script {
        Script {
            source: Source::Trace(trace),
            next: 0,
        }
    }

    /// The process's own recording, from the event on at which it was spun off: what its task did that is driven.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn of_recording(process: &Process) -> Result<Script> {
        let (recording, tid) = (&process.recording, process.tid);
        let first = process.event.0;
        Ok(Script {
            source: Source::Recording {
                events: Box::new(Events {
                    frames: recording.frames_from(first)?,
                    tid,
                    number: first,
                    ahead: None,
                }),
                recording: Arc::clone(recording),
                tid,
                first,
            },
            next: 0,
        })
    }

    /// Goes to the call with this index, from where the script stands.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn start_at(&mut self, index: usize) -> Result<()> {
        if index > 0 || matches!(self.source, Source::Trace(_)) {
            self.check_end(index)?;
        }
        while self.next < index {
            self.next_step()?;
        }
        Ok(())
    }

    /// The index of the call that [`Script::next_step`] gives next.
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Whether there is a call with this index.
    pub(super) fn check_end(&self, index: usize) -> Result<()> {
        let len = match &self.source {
            Source::Trace(trace) => trace.len(),
            // Hardly any event is no call: they are only counted where it matters.
            Source::Recording {
                recording,
                tid,
                first,
                ..
            } => calls_from(recording, *tid, *first, index)?,
        };
        if index >= len {
            return Err(Error::Range { index, len });
        }
        Ok(())
    }

    /// The next call; `None` behind the last.
    pub(super) fn next_step(&mut self) -> Result<Option<Step>> {
        let index = self.next;
        let step = match &mut self.source {
            Source::Trace(trace) => trace.call(index).map(|call| Step::of_call(index, call)),
            Source::Recording { events, .. } => loop {
                match events.next()? {
                    None => break None,
                    Some(Ahead { number, event, tsc }) => {
                        if let EventKind::Call(call) = event.kind {
                            let mut step = Step::of_event(index, number, call);
                            step.tsc = tsc;
                            break Some(step);
                        }
                    }
                }
            },
        };
        self.next += usize::from(step.is_some());
        Ok(step)
    }

    /// The signals between the call that [`Script::next_step`] gave last and the next one.
    pub(super) fn signals(&mut self) -> Result<Vec<Due>> {
        let mut list = Vec::new();
        match &mut self.source {
            Source::Trace(trace) => list.extend(trace.before_call(self.next).filter_map(due)),
            Source::Recording { events, .. } => {
                while let Some(next) = events.next()? {
                    match next.event.kind {
                        EventKind::Signal(signal) if signal.fault => {}
                        EventKind::Signal(signal) => list.push(Due {
                            signal: signal.signal,
                            info: signal.info.try_into().ok().map(SigInfo),
                        }),
                        EventKind::Call(_) => {
                            events.ahead = Some(next);
                            break;
                        }
                    }
                }
            }
        }
        // Traces are untrusted.
        list.retain(|due| (1..=64).contains(&due.signal));
        Ok(list)
    }
}

/// A signal of a trace, unless the program's own instruction raises it again.
fn due(entry: &Entry) -> Option<Due> {
    let Entry::Signal { signal, info, .. } = entry else {
        return None;
    };
    let of_fault = matches!(
        *signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
    );
    let sent = match info.field("si_code") {
        Some(Value::Sym { text, .. }) => text.starts_with("SI_") && text != "SI_KERNEL",
        Some(code) => code.as_i64().is_some_and(|code| code <= 0),
        None => false,
    };
    (sent || !of_fault).then_some(Due {
        signal: *signal,
        info: None,
    })
}

/// How many calls a task of a recording makes from this event on; those behind the one with this index are not counted.
fn calls_from(recording: &Recording, tid: i32, first: u64, enough: usize) -> Result<usize> {
    let mut calls = 0;
    for event in recording.events_from(first)? {
        let event = event?.1;
        calls += usize::from(event.tid == tid && event.call().is_some());
        if calls > enough {
            break;
        }
    }
    Ok(calls)
}

impl Step {
    fn of_call(index: usize, call: &Call) -> Step {
        Step {
            index,
            name: call.name.clone(),
            call: syscall::by_name(&call.name),
            answer: call.answer.clone(),
            origin: call.origin.clone(),
            exact: call.attachment.as_ref().and_then(Attachment::get),
            values: OnceCell::from(call.args.clone()),
            notes: call.notes.clone(),
            used: 0,
            tsc: VecDeque::new(),
        }
    }

    fn of_event(index: usize, number: u64, event: CallEvent) -> Step {
        let call = syscall::by_nr(event.nr.into());
        Step {
            index,
            name: call.map_or_else(
                || format!("syscall_{:#x}", event.nr),
                |c| c.name.to_string(),
            ),
            call,
            answer: event.ret.map_or(Answer::Never, Answer::from_raw),
            origin: Origin::Event(number),
            exact: Some(Arc::new(event)),
            values: OnceCell::new(),
            notes: Vec::new(),
            used: 0,
            tsc: VecDeque::new(),
        }
    }

    /// Its arguments.
    pub fn values(&self) -> &[Value] {
        self.values.get_or_init(|| match &self.exact {
            Some(event) => event.values(),
            None => Vec::new(),
        })
    }

    /// The call, whole.
    pub fn to_call(&self) -> Call {
        Call {
            tid: 0,
            name: self.name.clone(),
            args: self.values().to_vec(),
            answer: self.answer.clone(),
            notes: self.notes.clone(),
            origin: self.origin.clone(),
            attachment: self.exact.clone().map(Attachment::new),
            remarks: None,
        }
    }

    /// The event, where it comes from a recording.
    pub fn event(&self) -> Option<u64> {
        match self.origin {
            Origin::Event(number) => Some(number),
            _ => None,
        }
    }

    /// Where it comes from, for messages.
    pub fn place(&self) -> String {
        match &self.origin {
            Origin::Text { file, line } => format!("{file}:{line}"),
            Origin::Event(number) => format!("event {number}"),
            Origin::Made => format!("call {}", self.index),
        }
    }
}
