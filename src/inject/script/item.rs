//! What a script is made of: one thing after the other that a task does, or that happens to it.

use crate::image::Chunk;
use crate::recording::{Born, CallEvent, Jump, Piece, Reach, SignalEvent};
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, Attachment, Call, Exit, Field, Origin, Value};
use crate::tracee::SigInfo;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Something that a task of the process does, or that happens to it.
pub(in crate::inject) struct Item {
    /// The task, by its recorded tid.
    pub tid: i32,
    /// What.
    pub kind: ItemKind,
}

impl Item {
    /// How much memory it takes, about.
    pub fn weight(&self) -> usize {
        let len = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.data.len()).sum::<usize>();
        match &self.kind {
            ItemKind::Call(step) => step
                .exact
                .as_ref()
                .map_or(0, |event| len(&event.ins) + len(&event.outs)),
            ItemKind::Spin(jump, _) => len(&jump.pages),
            ItemKind::Poke(chunks) => len(chunks),
            _ => 0,
        }
    }

    /// Forgets the state that a task is not put into.
    pub fn lighten(&mut self) {
        if let ItemKind::Spin(jump, _) = &mut self.kind {
            jump.pages = Vec::new();
        }
    }
}

/// What a task does.
pub(in crate::inject) enum ItemKind {
    /// It makes a call.
    Call(Box<ExpectedCall>),
    /// It gets a signal.
    Signal(DueSignal),
    /// It begins to run: a new one, or one that was preempted.
    Run,
    /// It ran by itself until it was preempted in this state, and read these values of the time stamp counter.
    Spin(Box<Jump>, VecDeque<u64>),
    /// It ran by itself to where it waits for others, and read these values of the time stamp counter.
    Reach(Box<Reach>, VecDeque<u64>),
    /// It is no more.
    Gone {
        /// How it ended.
        exit: Exit,
        /// What the kernel wrote to memory that others have, too.
        left: Vec<Chunk>,
        /// Whether an instruction of its own ended it.
        by_fault: bool,
    },
    /// What others do has changed its memory.
    Poke(Vec<Chunk>),
    /// What others do has changed what its memory shows.
    Remap(Vec<Piece>),
}

/// What a call does to its process's memory besides its outputs.
#[derive(Debug, Default)]
pub(in crate::inject) struct SideEffects {
    /// What the memory shows then.
    pub pieces: Vec<Piece>,
    /// What is written there afterwards.
    pub chunks: Vec<Chunk>,
    /// The instructions that are replaced in code that it maps or has executed.
    pub code: Vec<Chunk>,
    /// Where that code was, as [`code_base`] has it.
    pub code_base: u64,
}

/// The address by which the code is found that a call has mapped or made executable.
pub(in crate::inject) fn code_base(nr: u32, args: &[u64; 6], ret: i64) -> Option<u64> {
    match i64::from(nr) {
        libc::SYS_mmap => u64::try_from(ret).ok(),
        libc::SYS_mprotect | libc::SYS_pkey_mprotect if ret == 0 => Some(args[0]),
        _ => None,
    }
}

/// A signal that came between two calls, and not of the program's own fault.
pub(in crate::inject) struct DueSignal {
    pub signal: i32,
    pub info: Option<SigInfo>,
    /// What came of it, where it was recorded.
    pub recorded: Option<Box<SignalEvent>>,
    /// It is on its way: of the real-time signals, each that is sent arrives.
    pub sent: bool,
}

/// One expected call.
pub(in crate::inject) struct ExpectedCall {
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
    /// It says what it would have said had it been this run.
    pub adapted: bool,
    /// How many bytes of its data the process has been given already; how many messages, where it moves those.
    pub used: u64,
    /// Values of the time stamp counter that the task reads before it.
    pub tsc: VecDeque<u64>,
    /// Its task does not go on by itself once it is answered.
    pub stays: bool,
    /// What else it does.
    pub side_effects: SideEffects,
    /// The thread that it makes.
    pub born: Option<Born>,
}

impl ExpectedCall {
    /// A call of a trace.
    pub fn of_call(index: usize, call: &Call) -> ExpectedCall {
        ExpectedCall {
            index,
            name: call.name.clone(),
            call: syscall::by_name(&call.name).or_else(|| syscall::of_name(&call.name)),
            answer: call.answer,
            origin: call.origin.clone(),
            exact: call.attachment.as_ref().and_then(Attachment::get),
            values: OnceCell::from(call.args.clone()),
            notes: call.notes.clone(),
            adapted: false,
            used: 0,
            tsc: VecDeque::new(),
            stays: false,
            side_effects: SideEffects::default(),
            born: None,
        }
    }

    /// A call of a recording.
    pub fn of_event(index: usize, number: u64, event: CallEvent) -> ExpectedCall {
        let call = syscall::of_number(event.nr);
        ExpectedCall {
            index,
            name: syscall::name_of(event.nr),
            call,
            answer: event.ret.map_or(Answer::Never, Answer::from_raw),
            origin: Origin::Event(number),
            exact: Some(Arc::new(event)),
            values: OnceCell::new(),
            notes: Vec::new(),
            adapted: false,
            used: 0,
            tsc: VecDeque::new(),
            stays: false,
            side_effects: SideEffects::default(),
            born: None,
        }
    }

    /// Its arguments.
    pub fn values(&self) -> &[Value] {
        self.values.get_or_init(|| match &self.exact {
            Some(event) => event.values(),
            None => Vec::new(),
        })
    }

    /// Has other arguments from now on.
    pub fn become_like(&mut self, values: Vec<Value>) {
        self.values = OnceCell::from(values);
    }

    /// The call, whole.
    pub fn to_call(&self) -> Call {
        Call {
            tid: 0,
            name: self.name.clone(),
            args: self.values().to_vec(),
            answer: self.answer,
            notes: self.notes.clone(),
            origin: self.origin.clone(),
            attachment: self.exact.clone().map(Attachment::new),
            line_info: None,
        }
    }

    /// Whether a filter of the program's own answered it, so that the kernel did not make it.
    pub fn is_filtered(&self) -> bool {
        self.exact.as_ref().is_some_and(|event| !event.was_made())
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
