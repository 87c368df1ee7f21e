//! What is written down of an execution.

use crate::image::{Chunk, FileId, Image};
use crate::trace::Exit;
use serde::{Deserialize, Serialize};

/// How the recording began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program's arguments, with its name first.
    pub argv: Vec<Vec<u8>>,
    /// The program's pid.
    pub pid: i32,
    /// Its parent's pid.
    pub ppid: i32,
    /// The directory in which it was started.
    #[serde(with = "serde_bytes")]
    pub cwd: Vec<u8>,
    /// Its open descriptors.
    pub descriptors: Vec<StartFd>,
    /// The CPU that it was pinned to.
    pub cpu: u32,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// A descriptor that the program was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFd {
    /// Its number.
    pub fd: i32,
    /// What `/proc/PID/fd` shows.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The offset.
    pub offset: u64,
    /// The open flags.
    pub flags: i32,
}

/// One frame of the `events` file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// How it began.
    Start(Start),
    /// A numbered event.
    Event(Event),
    /// Values of the time stamp counter that the task read before the next event.
    Tsc {
        /// The task.
        tid: i32,
        /// In order.
        values: Vec<u64>,
    },
    /// The program's end: the recording is complete.
    End {
        /// How it ended.
        exit: Exit,
    },
}

/// Something that happened to a task, numbered from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The task, by its recorded tid.
    pub tid: i32,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// It made a call.
    Call(CallEvent),
    /// It got a signal.
    Signal(SignalEvent),
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEvent {
    /// The call's number.
    pub nr: u32,
    /// The argument registers.
    pub args: [u64; 6],
    /// The instruction pointer behind the `syscall` instruction; 0 for the first execve.
    pub ip: u64,
    /// What it returned (negative is -errno; -512 to -516 where a signal interrupted it); `None` where it never did.
    pub ret: Option<i64>,
    /// Memory that went in.
    pub ins: Vec<Chunk>,
    /// Memory that came out.
    pub outs: Vec<Chunk>,
    /// What else it did.
    pub effect: Effect,
}

/// What a call did besides its return value and its outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// A new program took over.
    Exec(Box<Image>),
    /// A file was mapped.
    Map(FileId),
    /// A descriptor was made for this path, or the directory changed to it.
    Path(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Bytes went to a standard stream without passing through the program's memory.
    Moved(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalEvent {
    /// Its number.
    pub signal: i32,
    /// The kernel's `siginfo_t`.
    #[serde(with = "serde_bytes")]
    pub info: Vec<u8>,
    /// Whether the task's own instruction raised it, so that it will again in replay.
    pub fault: bool,
    /// What came of it.
    pub delivery: Delivery,
}

/// What came of a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Delivery {
    /// The task ignores it.
    Ignored,
    /// It ends the process.
    Fatal,
    /// A handler was entered.
    Handler {
        /// The registers at the handler's first instruction.
        regs: Vec<u64>,
        /// The signal mask in the handler.
        sigmask: u64,
        /// The frame that the kernel built.
        frame: Chunk,
    },
}

impl SignalEvent {
    /// Where its handler returns to: the saved instruction pointer. `None` where no handler ran.
    pub fn returns_to(&self) -> Option<u64> {
        // struct rt_sigframe: the return address, then struct ucontext up to its mcontext, whose
        // 17th word it is.
        const SAVED_IP: usize = 8 + 40 + 16 * 8;
        let Delivery::Handler { frame, .. } = &self.delivery else {
            return None;
        };
        let word = frame.data.get(SAVED_IP..SAVED_IP + 8)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    }
}

impl Event {
    /// The call, if it is one.
    pub fn call(&self) -> Option<&CallEvent> {
        match &self.kind {
            EventKind::Call(call) => Some(call),
            EventKind::Signal(_) => None,
        }
    }
}
