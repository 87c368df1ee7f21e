//! The recorder's state of a task.

use super::calls::Pending;
use super::polling::Repeated;
use super::preempt;
use super::spin_points::SpinWatch;
use crate::constants::is_restart;
use crate::recording::CallEvent;
use crate::syscall::Syscall;
use crate::tracee::interpret::Reads;
use crate::tracee::proc::Map;
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, SigInfo, Stop, Stopped, ticker};

/// A recorded task.
pub struct Task {
    pub tid: i32,
    /// The pid of the task's process.
    pub pid: i32,
    /// The number of the task's address space.
    pub space: u32,
    pub state: TaskState,
    /// The present call of the task.
    pub pending: Option<Pending>,
    /// The interrupted call that restart_syscall continues.
    pub restarts: Option<(&'static Syscall, CallEvent)>,
    /// True if the task has made its last call.
    pub leaving: bool,
    /// Signals that came between calls and are held for the next one.
    pub held: Vec<SigInfo>,
    /// Held signals that rrapper has sent again and that have not arrived.
    pub sent: Vec<SigInfo>,
    /// The state of SIGSEGV, to restore after a trapped read of the time stamp counter.
    pub segv: SegvState,
    /// The registers at the exit of the last call: while they have not changed, the task has executed nothing since.
    pub boundary: Option<Regs>,
    /// Counter values that have not been written yet.
    pub tsc: Vec<u64>,
    /// The number of consecutive reads.
    pub reads: Reads,
    /// True if no recorded event shows that the task continues to run.
    pub unannounced: bool,
    /// The present run of the task without a call.
    pub burst: CpuBurst,
    /// True if the task has yielded in its present call.
    pub yielded: bool,
    /// The call that the task repeats.
    pub repeated: Repeated,
    /// The number of consecutive clock reads.
    pub clock_calls: u32,
    /// The tick of the last preemption of the task while it was busy.
    pub busy_since: Option<u64>,
    /// The task's breakpoints at spin points.
    pub watch: SpinWatch,
    /// The address at which the kernel writes a zero at the task's end (`clear_child_tid`); 0 for none.
    pub clear_tid: u64,
    /// The head of the task's list of robust futexes; 0 for none.
    pub robust: u64,
    /// The robust futexes that the task holds at its exit stop.
    pub robust_words: Vec<u64>,
    /// The task's mappings that other processes may share, if it holds robust futexes.
    pub shared_maps: Vec<Map>,
    /// The CPU affinity that the task requested.
    pub affinity: Option<Vec<u8>>,
    /// True if the task or its children may be in another pid namespace than the recorder.
    pub numbered_apart: bool,
    /// True if the processor traps the task's `cpuid`.
    pub traps_cpuid: bool,
}

/// The state of a task.
pub enum TaskState {
    /// Stopped for this reason, until its turn.
    Ready(Stopped, Stop),
    /// In a call, or stopped by job control.
    InKernel,
    /// Owned by the scheduler at present, or ended.
    Taken,
}

/// A run without a call.
pub struct CpuBurst {
    /// The tick at which the run began.
    pub begun: u64,
    /// The tick at which it was last handled.
    pub ticked: u64,
    /// True if rrapper has requested a stop.
    pub interrupted: bool,
    /// The code range of the latest samples, and the number of consecutive samples in it.
    pub around: (u64, u64, u32),
    /// The number of ticks until the next sample.
    pub next_look: u64,
}

impl CpuBurst {
    /// A run that begins now.
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

    /// Adds a sample of the instruction pointer. The interval between samples grows.
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

    /// The duration in ticks.
    pub fn ticks(&self) -> u64 {
        ticker::ticks() - self.begun
    }
}

impl Task {
    /// A new task.
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
            traps_cpuid: false,
        }
    }

    /// Handles an execve into a new address space.
    pub fn executed(&mut self, space: u32, segv: SegvState) {
        self.space = space;
        self.segv = segv;
        self.clear_tid = 0;
        self.robust = 0;
        self.traps_cpuid = false;
        self.watch = SpinWatch::default();
        self.reads = Reads::default();
    }

    /// Follows calls that set effects of the task's end.
    pub fn after_call(&mut self, event: &CallEvent) {
        match (i64::from(event.nr), event.ret) {
            (libc::SYS_set_tid_address, _) => self.clear_tid = event.args[0],
            (libc::SYS_unshare | libc::SYS_setns, Some(0)) => self.numbered_apart = true,
            (libc::SYS_set_robust_list, Some(0)) => self.robust = event.args[0],
            _ => {}
        }
    }

    /// Returns whether a task with these registers stands behind a call that the kernel will restart.
    pub fn makes_call_again(&self, regs: &Regs) -> bool {
        let interrupted = |then: &Regs| is_restart(then.ret());
        let behind = self.boundary.filter(interrupted);
        behind.is_some_and(|then| then.is_same_place(regs))
    }

    /// Returns whether the task executes the program's instructions when resumed, rather than a call.
    pub fn in_program(&self) -> bool {
        self.pending.is_none() && !self.leaving
    }
}
