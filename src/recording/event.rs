//! The frames of a recording: the events of an execution, and its schedule.

use crate::cpuid;
use crate::image::{Chunk, FileId, Image};
use crate::trace::Exit;
use serde::{Deserialize, Serialize};

/// The beginning of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The time of the start, in seconds since 1970.
    pub time: u64,
    /// The times of the clocks at the start.
    pub clocks: StartClocks,
    /// The answers of `cpuid`, if it is trapped.
    pub cpuid: cpuid::Table,
    /// The kept file with all of its standard input, where the recorder provided that.
    pub stdin: Option<crate::image::FileId>,
    /// The program's umask.
    pub umask: u32,
}

/// The times of the clocks when a program was started, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartClocks {
    /// `CLOCK_REALTIME`.
    pub realtime: i64,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime: i64,
}

/// A descriptor that the program was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFd {
    /// Its number.
    pub fd: i32,
    /// Its path as in `/proc/PID/fd`.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The offset.
    pub offset: u64,
    /// The open flags.
    pub flags: i32,
    /// Whether reads and writes move its offset.
    pub moves: bool,
    /// The lowest descriptor that shares its open file, if one does.
    pub twin: Option<i32>,
}

/// One frame of a recording. The order of the frames is the schedule: see [`Frame::Run`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// The beginning of the recording.
    Start(Start),
    /// A numbered event. Once it is answered, its task runs on to where it stops next: the entry of its next call, or
    /// a fault. The exceptions are a task whose next frame is [`Frame::Jump`], [`Frame::Gone`] or a signal
    /// that is no fault: it stays where the event left it; and one whose next frame is [`Frame::Reach`].
    Event(Event),
    /// The values of the time stamp counter, and the processor's random numbers, that the task read as it ran last.
    Tsc {
        /// The task.
        tid: i32,
        /// The values, in order.
        values: Vec<u64>,
    },
    /// The program's end: the recording is complete.
    End {
        /// The exit of its first process.
        exit: Exit,
    },
    /// A task was made; it has not run yet. Its parent is in the call that makes it, whose event comes when the call
    /// returns.
    NewTask(NewTask),
    /// A task that no event sets going (newly made, or preempted) runs on to where it stops next.
    Run {
        /// The task.
        tid: i32,
    },
    /// A task that ran was preempted: instead of running, it is put into this state. More of it may follow in
    /// further frames of this kind, with the same registers and other pages.
    Jump(Jump),
    /// A task has ended.
    Gone {
        /// The task.
        tid: i32,
        /// Its exit.
        exit: Exit,
        /// The kernel's writes to memory that the task shared with others: its robust futexes, its clear-tid word.
        left: Vec<Chunk>,
    },
    /// The event before changed the memory of another task, or that of its own task in a way that no call does.
    Poke {
        /// The task whose memory it is.
        tid: i32,
        /// The new content.
        chunks: Vec<Chunk>,
    },
    /// The event before changed the size of a shared object (see [`Effect::Share`]).
    Resize {
        /// The object.
        object: u32,
        /// Its new size in bytes.
        size: u64,
    },
    /// The event before changed the mappings of parts of a task's memory, or their protection. The same event's
    /// writes to them follow, except where the event is the task's own.
    Remap {
        /// The task whose memory it is.
        tid: i32,
        /// The parts.
        pieces: Vec<Piece>,
    },
    /// The event before wrote to a part of a shared object that may be mapped nowhere.
    Fill {
        /// The object.
        object: u32,
        /// The offset in it.
        offset: u64,
        /// The new content.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// A task that ran was preempted where it waits for others: it runs on to there.
    Reach(Reach),
    /// From the event before on, the task's memory may have a `cpuid` in it that is not replaced: the processor traps
    /// the instruction.
    TrapCpuid {
        /// The task whose memory it is.
        tid: i32,
    },
    /// A file as it was before the recording: see [`Source::files_before`](super::Source::files_before).
    Before(FileBefore),
    /// The time at which calls change files from here on, in nanoseconds since 1970.
    Clock(i64),
    /// The addresses that a socket has behind the event before.
    Addresses(Addresses),
    /// The process group, session and terminal of a process, where they do not follow from the calls before.
    JobControl(JobControl),
    /// Who has started the program.
    User(User),
}

/// The addresses of a socket, as getsockname(2) and getpeername(2) give them: each a `struct sockaddr`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// A task that has the socket.
    pub tid: i32,
    /// Its descriptor.
    pub fd: i32,
    /// The address of the socket.
    #[serde(with = "serde_bytes")]
    pub local: Vec<u8>,
    /// The address of the other end; empty where there is none yet.
    #[serde(with = "serde_bytes")]
    pub peer: Vec<u8>,
    /// The process that made the other end of a connection of AF_UNIX (`SO_PEERCRED`): that which connected it, or that
    /// which listens. 0 where that is not known.
    pub peer_pid: i32,
}

/// The process group, session and controlling terminal of a process: credentials(7). Numbers are those of the
/// recorder's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobControl {
    /// The process.
    pub pid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// The device number of its controlling terminal, as in `/proc/PID/stat`; 0 where it has none.
    pub tty: i32,
    /// The foreground process group of that terminal; 0 where it has none.
    pub foreground: i32,
}

/// A user and one of his groups, as files and processes have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

impl User {
    /// Who runs rrapper.
    pub fn current() -> User {
        User {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }
}

/// What was known of a file when the first call named it, before any recorded call had changed it. There is one for each
/// path, and another one with the content where that was kept later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBefore {
    /// The absolute path; no part of it but the last is a symbolic link.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What was there.
    pub was: Before,
}

/// What was at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A file.
    File(Box<Status>),
    /// The content of the file that another entry is about.
    Content(ContentBefore),
    /// The entries of the directory that another entry is about, as it was when the program listed it first.
    Entries(Vec<EntryBefore>),
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBefore {
    /// The name.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// The kind of file: `S_IFMT` bits.
    pub kind: u32,
}

/// The status of a file: stat(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its type and permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device and the inode number.
    pub inode: (u64, u64),
    /// The device that it is.
    pub device: u64,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change of the content, in seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// The time of the last change of the file.
    pub changed: (i64, i64),
    /// The text of a symbolic link.
    #[serde(with = "serde_bytes")]
    pub link: Vec<u8>,
    /// The extended attributes that programs can set: names and values.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The content of a file before the recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentBefore {
    /// These bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A kept file, of which no checksum is known.
    Kept(FileId),
    /// It was not kept, for this reason.
    Missing(String),
    /// A kept file.
    Checked {
        /// Its number.
        id: FileId,
        /// A checksum of what is in it.
        sum: u32,
    },
}

/// A range of memory whose mapping or protection has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its first address.
    pub start: u64,
    /// Its length.
    pub len: u64,
    /// `PROT_*` bits.
    pub prot: i32,
    /// Its new content.
    pub shows: Shows,
}

/// The content of a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shows {
    /// Unchanged; only the protection has changed.
    Same,
    /// The initial content of its mapping, without later writes.
    Fresh,
    /// None: the range is not mapped.
    Nothing,
    /// None: the range is behind the end of the mapped file.
    Past,
    /// Private zeros.
    Zeros,
    /// The kept copy of a file, from this offset on.
    File {
        /// The file.
        file: FileId,
        /// The offset.
        offset: u64,
    },
    /// A shared object (see [`Effect::Share`]), from this offset on.
    Object {
        /// The object.
        object: u32,
        /// The offset.
        offset: u64,
    },
    /// The content of another range, which is not mapped any more.
    Moved {
        /// The first address of that range.
        from: u64,
    },
}

/// A new task: clone(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// The new task.
    pub tid: i32,
    /// Its process: itself, unless it is a thread.
    pub pid: i32,
    /// The task that made it, which is at the entry of the call.
    pub maker: i32,
    /// `CLONE_*` flags; those of fork(2) and vfork(2), too.
    pub flags: u64,
    /// The new task's stack pointer; 0 for its maker's.
    pub stack: u64,
    /// The base of its thread-local storage, with `CLONE_SETTLS`.
    pub tls: u64,
    /// The address in its maker's memory that gets its tid, with `CLONE_PARENT_SETTID`.
    pub parent_tid: u64,
    /// The address in its own memory that gets its tid (`CLONE_CHILD_SETTID`), and zero at its end
    /// (`CLONE_CHILD_CLEARTID`).
    pub child_tid: u64,
    /// Its tid in each of its pid namespaces, from the recorder's inward; empty where that is its only one.
    pub numbers: Vec<i32>,
    /// The tid that the call returned to its maker.
    pub named: i32,
}

impl NewTask {
    /// Its tid in its own pid namespace.
    pub fn own_number(&self) -> i32 {
        self.numbers.last().copied().unwrap_or(self.tid)
    }
}

/// An instruction up to which a task ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The task.
    pub tid: i32,
    /// The number of times that it came to this instruction since it was last resumed; it stops there the last time.
    pub times: u32,
    /// Its registers there.
    pub regs: Vec<u64>,
}

/// The state of a task that was preempted between calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jump {
    /// The task.
    pub tid: i32,
    /// Its registers, as [`crate::tracee::Regs::to_words`] gives them.
    pub regs: Vec<u64>,
    /// Its vector registers, as `NT_X86_XSTATE` gives them.
    #[serde(with = "serde_bytes")]
    pub vector: Vec<u8>,
    /// Pages of its memory as they are now.
    pub pages: Vec<Chunk>,
    /// Pages that are now as they were at the last jump in this address space, whatever they were meanwhile:
    /// address of the first, and how many.
    pub same: Vec<(u64, u32)>,
}

/// Something that happened to a task, numbered from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The task, by its recorded tid.
    pub tid: i32,
    /// The kind of event.
    pub kind: EventKind,
}

/// The kind of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// The task made a call.
    Call(CallEvent),
    /// The task got a signal.
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
    /// The contents of the return register, as [`Answer`](crate::constants::Answer) reads them; `None` where the call
    /// never returned.
    pub ret: Option<i64>,
    /// The memory that the kernel read.
    pub ins: Vec<Chunk>,
    /// The memory that the kernel wrote.
    pub outs: Vec<Chunk>,
    /// Its other effects.
    pub effect: Effect,
}

/// The effects of a call besides its return value and its outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// A new program was executed.
    Exec(Box<Image>),
    /// A file was mapped privately, or for reading only.
    Map(FileId),
    /// Memory was mapped that is shared with other mappings: a file shared and writable, shared anonymous memory,
    /// a System V segment. It begins at the offset in the call's arguments.
    Share {
        /// The number of the mapped object: the same for later mappings of it.
        object: u32,
        /// Its content when it was first mapped, if not zeros.
        file: Option<FileId>,
        /// Its size in bytes.
        size: u64,
    },
    /// A descriptor was made for this path, or the directory changed to it.
    Path(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Bytes went to a standard stream without passing through the program's memory.
    Moved(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The new offset of the descriptor that is its first argument, where it does not follow from the call.
    Offset(u64),
    /// Descriptors were made, with properties that do not follow from the call.
    Opened(Vec<Opened>),
    /// The kernel did not make the call: a filter of the program's own answered it.
    Unmade,
}

/// A new descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its number.
    pub fd: i32,
    /// Its path as in `/proc/PID/fd`.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The open flags, with `O_CLOEXEC`.
    pub flags: i32,
    /// The offset.
    pub offset: u64,
    /// Whether reading and writing move it.
    pub moves: bool,
    /// A descriptor of some task that shares its open file: the task, and the number.
    pub twin: Option<(i32, i32)>,
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalEvent {
    /// Its number.
    pub signal: i32,
    /// The kernel's `siginfo_t`.
    #[serde(with = "serde_bytes")]
    pub info: Vec<u8>,
    /// Whether an instruction of the task raised it, which will raise it again in replay.
    pub fault: bool,
    /// Its delivery.
    pub delivery: Delivery,
}

/// The delivery of a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Delivery {
    /// The task ignores it.
    Ignored,
    /// The signal ends the process.
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
    /// The address that its handler returns to: the saved instruction pointer. `None` where no handler ran.
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

impl CallEvent {
    /// Whether the kernel made the call: no seccomp filter of the program answered it.
    pub fn was_made(&self) -> bool {
        self.effect != Effect::Unmade
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
