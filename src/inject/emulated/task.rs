//! The engine's state of each task of the process.

use super::divergence::Missing;
use crate::inject::exchange::Decided;
use crate::inject::script::item::{DueSignal, ExpectedCall};
use crate::process::{RunTarget, StopPoint, TaskAttributes, Thread};
use crate::tracee::Stopped;
use crate::tracee::interpret::Reads;
use crate::tracee::segv::SegvState;
use std::collections::VecDeque;

/// The state of a task.
#[derive(Default)]
pub struct TaskState {
    /// The recorded tid.
    pub tid: i32,
    /// The recorded pid of its process.
    pub pid: i32,
    /// The tid that the recorded set_tid_address(2) returned, once the task has made that call.
    pub number: Option<i32>,
    /// The signal mask and action for SIGSEGV, which a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
    /// The consecutive reads of the time stamp counter.
    pub reads: Reads,
    /// The task's attributes in the kernel.
    pub attributes: TaskAttributes,
    /// The call that is expected of the task, once its turn has come.
    pub step: Option<ExpectedCall>,
    /// Calls that were partly answered and not made again at once; the task may continue them later.
    pub partly_answered: Vec<ExpectedCall>,
    /// The call that is expected after one of those.
    pub postponed: Option<ExpectedCall>,
    /// Signals of the trace that are due before the task's next call; they are sent one at a time.
    pub due: VecDeque<DueSignal>,
    /// The task's own signal mask while a due signal is unblocked; the return from its handler restores it.
    pub masked: Option<u64>,
    /// The temporary signal mask under which the task's last call waited.
    pub waited_under: Option<u64>,
    /// The task stays stopped after its call until the script resumes it.
    pub waits_for_script: bool,
    /// The task has made its last call.
    pub exited: bool,
    /// The driver's `changes` when the task came to its present call.
    pub changes_at_entry: Option<u64>,
    /// The number of consecutive time slices without a call, and the driver's `progress` from which on the task may run
    /// again (see [`super::schedule`]).
    pub spins: u32,
    pub not_before: u64,
    /// The program break before the brk(2) that the task is in.
    pub break_before: Option<i64>,
    /// The target to which the task runs, and the signal mask to restore at its breakpoint.
    pub target: Option<(RunTarget, u64)>,
    /// The number of spurious wake-ups.
    pub spurious_wakeups: u32,
    /// The signal of the script that it never gets: it leaves the recording here.
    pub missing: Option<Missing>,
}

impl TaskState {
    pub fn new((pid, tid): (i32, i32), segv: SegvState, attributes: TaskAttributes) -> TaskState {
        TaskState {
            tid,
            pid,
            segv,
            attributes,
            ..TaskState::default()
        }
    }
}

impl TaskState {
    /// Splits a thread of a process into its state, its task and its stop point.
    pub fn of(thread: Thread, pid: i32) -> (TaskState, Stopped, StopPoint) {
        let Thread {
            tid,
            task,
            place,
            attributes,
            segv,
        } = thread;
        (TaskState::new((pid, tid), segv, attributes), task, place)
    }

    /// Makes a thread of a state, a task and a stop point.
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

/// A task that is stopped while another one runs.
pub struct StoppedTask {
    pub me: TaskState,
    pub task: Stopped,
    pub place: StopPoint,
    pub waits: Option<FutexWait>,
}

impl StoppedTask {
    pub fn of(thread: Thread, pid: i32) -> StoppedTask {
        let (me, task, place) = TaskState::of(thread, pid);
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

/// The wait of a task in a futex call that the trace does not have.
pub struct FutexWait {
    pub call: Decided,
    /// The address of the futex word, and the value at which the task waits.
    pub addr: u64,
    pub value: u32,
    /// The call has a time limit.
    pub limited: bool,
    /// The call acquires the futex: `FUTEX_LOCK_PI`.
    pub locks: bool,
}
