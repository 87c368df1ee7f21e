//! What the recorder knows of each task.

use super::calls::Pending;
use super::polling::Repeated;
use super::preempt;
use super::spin_points::SpinWatch;
use crate::recording::CallEvent;
use crate::syscall::Syscall;
use crate::tracee::interpret::Reads;
use crate::tracee::proc::Map;
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, SigInfo, Stop, Stopped, ticker};

/// A recorded task.
pub struct Task {
    pub tid: i32,
    /// Its process.
    pub pid: i32,
    /// Its address space, by a number of ours: tasks with the same share one.
    pub space: u32,
    pub state: TaskState,
    /// The call that it is in.
    pub pending: Option<Pending>,
    /// The call that was interrupted, and that restart_syscall goes on with.
    pub restarts: Option<(&'static Syscall, CallEvent)>,
    /// It has made its last call.
    pub leaving: bool,
    /// Signals that came between calls and wait for the next one.
    pub held: Vec<SigInfo>,
    /// Those of them that rrapper has sent again, and that have not arrived.
    pub sent: Vec<SigInfo>,
    /// What a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
    /// The registers with which the task left its last call: while they have
    /// not changed, it has not executed anything since.
    pub boundary: Option<Regs>,
    /// Counter values that have not been written yet.
    pub tsc: Vec<u64>,
    /// How many it has read in a row.
    pub reads: Reads,
    /// Nothing that was written says that it runs on.
    pub unannounced: bool,
    /// How long it has run without a call.
    pub burst: CpuBurst,
    /// It has given way in the call that it is in.
    pub yielded: bool,
    /// The call that it makes again and again.
    pub repeated: Repeated,
    /// How many times in a row it has only asked for the time.
    pub clock_calls: u32,
    /// It was preempted although it did not wait for anybody; and the tick at which it was.
    pub busy_since: Option<u64>,
    /// Where in its program it stops.
    pub watch: SpinWatch,
    /// Where the kernel writes a zero at its end; 0 for nowhere.
    pub clear_tid: u64,
    /// The head of its list of robust futexes; 0 for none.
    pub robust: u64,
    /// The robust futexes that it holds as it ends.
    pub robust_words: Vec<u64>,
    /// Its mappings that others may share, if it holds any.
    pub shared_maps: Vec<Map>,
    /// The CPUs that it wished to run on.
    pub affinity: Option<Vec<u8>>,
    /// It, or those that it makes, may be in another pid namespace than the recorder.
    pub numbered_apart: bool,
}

/// Where a task is.
pub enum TaskState {
    /// It stands, for this reason, until it is its turn.
    Ready(Stopped, Stop),
    /// It is in a call, or stopped by job control.
    InKernel,
    /// Whoever it is with looks after it; or it has ended.
    Taken,
}

/// A stretch of running without a call.
pub struct CpuBurst {
    /// The tick at which it began.
    pub begun: u64,
    /// The tick at which it was last thought of.
    pub ticked: u64,
    /// rrapper has asked it to stop.
    pub interrupted: bool,
    /// The range that its instruction pointer was last seen in, and how often in a row.
    pub around: (u64, u64, u32),
    /// After how many ticks it is looked at next.
    pub next_look: u64,
}

impl CpuBurst {
    /// One that begins now.
    pub fn new() -> CpuBurst {
        let now = ticker::ticks();
        CpuBurst {
            begun: now,
            ticked: now,
            interrupted: false,
            around: (0, 0, 0),
            next_look: 1,
        }
    }

    /// It was looked at, with its instruction pointer there. The longer it lasts, the rarer it is.
    pub fn sample(&mut self, ip: u64) {
        let (low, high, seen) = self.around;
        let (low, high) = (low.min(ip), high.max(ip));
        self.around = if seen > 0 && high - low <= preempt::PLACE {
            (low, high, seen + 1)
        } else {
            (ip, ip, 1)
        };
        self.next_look = self.ticks() + (self.ticks() / 4).max(2);
    }

    /// How many ticks it has lasted.
    pub fn ticks(&self) -> u64 {
        ticker::ticks() - self.begun
    }
}

impl Task {
    /// A task that nothing is known of yet.
    pub fn new(tid: i32, pid: i32, space: u32) -> Task {
        Task {
            tid,
            pid,
            space,
            state: TaskState::Taken,
            pending: None,
            restarts: None,
            leaving: false,
            held: Vec::new(),
            sent: Vec::new(),
            segv: SegvState::default(),
            boundary: None,
            tsc: Vec::new(),
            reads: Reads::default(),
            unannounced: false,
            burst: CpuBurst::new(),
            yielded: false,
            repeated: Repeated::default(),
            clock_calls: 0,
            busy_since: None,
            watch: SpinWatch::default(),
            clear_tid: 0,
            robust: 0,
            robust_words: Vec::new(),
            shared_maps: Vec::new(),
            affinity: None,
            numbered_apart: false,
        }
    }

    /// It has executed a program, in a new address space.
    pub fn executed(&mut self, space: u32, segv: SegvState) {
        self.space = space;
        self.segv = segv;
        self.clear_tid = 0;
        self.robust = 0;
        self.watch = SpinWatch::default();
        self.reads = Reads::default();
    }

    /// Follows what a call set for its end.
    pub fn after_call(&mut self, event: &CallEvent) {
        match (i64::from(event.nr), event.ret) {
            (libc::SYS_set_tid_address, _) => self.clear_tid = event.args[0],
            (libc::SYS_unshare | libc::SYS_setns, Some(0)) => self.numbered_apart = true,
            (libc::SYS_set_robust_list, Some(0)) => self.robust = event.args[0],
            _ => {}
        }
    }

    /// Whether a task with these registers stands behind a call that the kernel will make again for it.
    pub fn makes_call_again(&self, regs: &Regs) -> bool {
        let interrupted = |then: &Regs| (-516..=-512).contains(&then.ret());
        let behind = self.boundary.filter(interrupted);
        behind.is_some_and(|then| then.is_same_place(regs))
    }

    /// Whether it executes its own instructions when it is resumed, rather than the kernel's.
    pub fn in_program(&self) -> bool {
        self.pending.is_none() && !self.leaving
    }
}
