//! What the driver knows of each task of the process.

use crate::inject::exchange::Decided;
use crate::inject::script::item::{DueSignal, ExpectedCall};
use crate::process::{RunTarget, StopPoint, TaskAttributes, Thread};
use crate::tracee::Stopped;
use crate::tracee::interpret::Reads;
use crate::tracee::segv::SegvState;
use std::collections::VecDeque;

/// A task's own state.
#[derive(Default)]
pub struct TaskState {
    /// Its recorded tid.
    pub tid: i32,
    /// The number that it knows itself by, where it asked the kernel and that was not this one.
    pub number: Option<i32>,
    /// What a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
    /// How often in a row it has read the counter.
    pub reads: Reads,
    /// What the kernel keeps of it.
    pub attributes: TaskAttributes,
    /// The call that is expected of it, once it is its turn.
    pub step: Option<ExpectedCall>,
    /// Calls that were cut short and not made again at once: it may come back to them.
    pub cut: Vec<ExpectedCall>,
    /// The call that is expected after one of those.
    pub parked: Option<ExpectedCall>,
    /// Signals of the trace that are to come before its next call, one at a time.
    pub due: VecDeque<DueSignal>,
    /// The signal mask while one of them is let in under another, which its handler gives back.
    pub masked: Option<u64>,
    /// The mask under which the call that it made last waited, where that has one of its own.
    pub waited_under: Option<u64>,
    /// It does not go on by itself: the script says when.
    pub stays: bool,
    /// It has made its last call.
    pub over: bool,
    /// How often the memory of its process had changed when it came to the call at which it stands.
    pub stood_at: Option<u64>,
    /// How often in a row it was stopped without having made a call, and when it is to run again (see
    /// [`super::schedule`]).
    pub spins: u32,
    pub stuck_until: u64,
    /// Where its process's break was before the brk(2) that it is in.
    pub broke: Option<i64>,
    /// Where it runs to, and its signal mask meanwhile.
    pub target: Option<(RunTarget, u64)>,
    /// How often it was woken for nothing.
    pub woken: u32,
}

impl TaskState {
    pub fn new(tid: i32, segv: SegvState, attributes: TaskAttributes) -> TaskState {
        TaskState {
            tid,
            segv,
            attributes,
            ..TaskState::default()
        }
    }
}

impl TaskState {
    /// A thread that is to be driven: its own state, its task, and where that stands.
    pub fn of(thread: Thread) -> (TaskState, Stopped, StopPoint) {
        let Thread {
            tid,
            task,
            place,
            attributes,
            segv,
        } = thread;
        (TaskState::new(tid, segv, attributes), task, place)
    }

    /// The thread again.
    pub fn into_thread(self, task: Stopped, place: StopPoint) -> Thread {
        Thread {
            tid: self.tid,
            task,
            place,
            attributes: self.attributes,
            segv: self.segv,
        }
    }
}

/// A task that stands while another one runs.
pub struct StoppedTask {
    pub me: TaskState,
    pub task: Stopped,
    pub place: StopPoint,
    pub waits: Option<FutexWait>,
}

impl StoppedTask {
    pub fn of(thread: Thread) -> StoppedTask {
        let (me, task, place) = TaskState::of(thread);
        StoppedTask {
            me,
            task,
            place,
            waits: None,
        }
    }

    pub fn into_thread(self) -> Thread {
        self.me.into_thread(self.task, self.place)
    }
}

/// A task that waits in a futex call that the trace does not have.
pub struct FutexWait {
    pub call: Decided,
    /// The word, and the value at which it waits.
    pub addr: u64,
    pub value: u32,
    /// The call has a time limit.
    pub limited: bool,
    /// The call takes the word for itself: `FUTEX_LOCK_PI`.
    pub locks: bool,
}
