//! The items of a script: actions of a task, and signals and memory changes that reach it.

use crate::image::Chunk;
use crate::recording::{CallEvent, Jump, NewTask, Piece, Reach, SignalEvent};
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, Attachment, Call, Exit, Field, Origin, Value};
use crate::tracee::SigInfo;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// An action of a task of the process, or an effect on it.
pub(in crate::inject) struct Item {
    /// The task, by its recorded tid.
    pub tid: i32,
    /// The action or effect.
    pub kind: ItemKind,
}

impl Item {
    /// The approximate size in memory.
    pub fn weight(&self) -> usize {
        let len = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.data.len()).sum::<usize>();
        match &self.kind {
            ItemKind::Call(step) => step
                .exact
                .as_ref()
                .map_or(0, |event| len(&event.ins) + len(&event.outs)),
            ItemKind::Spin(jump, _) => len(&jump.pages),
            ItemKind::Poke { chunks, .. } => len(chunks),
            ItemKind::Fill { data, .. } => data.len(),
            _ => 0,
        }
    }

    /// Drops the recorded state that a task is not set to.
    pub fn lighten(&mut self) {
        if let ItemKind::Spin(jump, _) = &mut self.kind {
            jump.pages = Vec::new();
        }
    }
}

/// An action of a task, or an effect on it.
pub(in crate::inject) enum ItemKind {
    /// It makes a call.
    Call(Box<ExpectedCall>),
    /// It receives a signal.
    Signal(DueSignal),
    /// It starts to run: a new task, or one that was preempted.
    Run,
    /// It ran until it was preempted in this state, and read these values of the time stamp counter.
    Spin(Box<Jump>, VecDeque<u64>),
    /// It ran to the place where it waits for others, and read these values of the time stamp counter.
    Reach(Box<Reach>, VecDeque<u64>),
    /// It ended.
    Gone {
        /// The end.
        exit: Exit,
        /// The kernel's writes to memory that is shared with other tasks.
        left: Vec<Chunk>,
        /// Whether a fault of its own ended it.
        by_fault: bool,
    },
    /// Other tasks have changed its memory.
    Poke {
        /// The new content.
        chunks: Vec<Chunk>,
        /// The event that changed it.
        by: u64,
    },
    /// Other tasks have changed its mappings.
    Remap(Vec<Piece>),
    /// A call has written to a part of a shared object that may be mapped nowhere.
    Fill {
        /// The object.
        object: u32,
        /// The offset in it.
        offset: u64,
        /// The new content.
        data: Vec<u8>,
        /// The event of the call.
        by: u64,
    },
}

/// The task that a call creates.
pub(in crate::inject) struct Birth {
    /// The task.
    pub task: NewTask,
    /// Whether it is a process that is followed, whatever its maker was answered.
    pub is_followed: bool,
}

impl Birth {
    /// Whether it is the first task of a process.
    pub fn is_process(&self) -> bool {
        self.task.pid == self.task.tid
    }
}

/// The effects of a call on its process's memory besides its outputs.
#[derive(Debug, Default)]
pub(in crate::inject) struct SideEffects {
    /// The mappings.
    pub pieces: Vec<Piece>,
    /// The data that are written afterwards.
    pub chunks: Vec<Chunk>,
    /// The instructions that are replaced in code that it maps or makes executable.
    pub code: Vec<Chunk>,
    /// The recorded address of that code: see [`code_base`].
    pub code_base: u64,
    /// Whether the processor traps `cpuid` from then on.
    pub traps_cpuid: bool,
}

/// The address by which the code is found that a call has mapped or made executable.
pub(in crate::inject) fn code_base(nr: u32, args: &[u64; 6], ret: i64) -> Option<u64> {
    match i64::from(nr) {
        libc::SYS_mmap => u64::try_from(ret).ok(),
        libc::SYS_mprotect | libc::SYS_pkey_mprotect if ret == 0 => Some(args[0]),
        _ => None,
    }
}

/// A signal that arrived between two calls, and is no fault of an instruction.
pub(in crate::inject) struct DueSignal {
    pub signal: i32,
    pub info: Option<SigInfo>,
    /// The recorded delivery.
    pub recorded: Option<Box<SignalEvent>>,
    /// Whether it has been sent: each real-time signal that is sent arrives.
    pub sent: bool,
    /// The event, where it comes from a recording.
    pub event: Option<u64>,
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
    /// The place in the trace or recording.
    pub origin: Origin,
    /// The registers and memory, where they are known exactly.
    pub exact: Option<Arc<CallEvent>>,
    values: OnceCell<Vec<Value>>,
    /// The comment on the result, as strace prints it.
    pub notes: Vec<Field>,
    /// Whether it has been adapted to this run.
    pub adapted: bool,
    /// The number of bytes of its data that the process has been given already; of messages, where it moves those.
    pub used: u64,
    /// The values of the time stamp counter that the task reads before it.
    pub tsc: VecDeque<u64>,
    /// Whether its task waits for another item after it is answered.
    pub stays: bool,
    /// Its other effects.
    pub side_effects: SideEffects,
    /// The task that it creates.
    pub born: Option<Birth>,
    /// Whether it is a call of another process than the driven one, whose calls alone are counted by the script.
    pub is_relatives: bool,
}

impl ExpectedCall {
    /// A call of a trace.
    pub fn of_call(index: usize, call: &Call) -> ExpectedCall {
        ExpectedCall {
            exact: call.attachment.as_ref().and_then(Attachment::get),
            values: OnceCell::from(call.args.clone()),
            notes: call.notes.clone(),
            ..ExpectedCall::new(
                index,
                call.name.clone(),
                syscall::by_name(&call.name).or_else(|| syscall::of_name(&call.name)),
                call.answer,
                call.origin.clone(),
            )
        }
    }

    /// A call of a recording.
    pub fn of_event(index: usize, number: u64, event: CallEvent) -> ExpectedCall {
        let (nr, answer) = (event.nr, event.ret.map_or(Answer::Never, Answer::from_raw));
        ExpectedCall {
            exact: Some(Arc::new(event)),
            ..ExpectedCall::new(
                index,
                syscall::name_of(nr),
                syscall::of_number(nr),
                answer,
                Origin::Event(number),
            )
        }
    }

    /// A call of which no more is known.
    fn new(
        index: usize,
        name: String,
        call: Option<&'static Syscall>,
        answer: Answer,
        origin: Origin,
    ) -> ExpectedCall {
        ExpectedCall {
            index,
            name,
            call,
            answer,
            origin,
            exact: None,
            values: OnceCell::new(),
            notes: Vec::new(),
            adapted: false,
            used: 0,
            tsc: VecDeque::new(),
            stays: false,
            side_effects: SideEffects::default(),
            born: None,
            is_relatives: false,
        }
    }

    /// Its arguments.
    pub fn values(&self) -> &[Value] {
        self.values.get_or_init(|| match &self.exact {
            Some(event) => event.values(),
            None => Vec::new(),
        })
    }

    /// Replaces the arguments.
    pub fn become_like(&mut self, values: Vec<Value>) {
        self.values = OnceCell::from(values);
    }

    /// The call in full.
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

    /// Whether it comes behind the call of the driven process with this index.
    pub fn is_behind(&self, index: usize) -> bool {
        !self.is_relatives && self.index > index
    }

    /// The event, where it comes from a recording.
    pub fn event(&self) -> Option<u64> {
        self.origin.event()
    }

    /// The place in the trace or recording, for messages.
    pub fn place(&self) -> String {
        match &self.origin {
            Origin::Text { file, line } => format!("{file}:{line}"),
            Origin::Event(number) => format!("event {number}"),
            Origin::Made => format!("call {}", self.index),
        }
    }
}
