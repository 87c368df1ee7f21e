//! The tasks of live processes, and what each does next.

use super::guard::CheckedArgs;
use super::half_done::HalfDone;
use super::proc_self_exe::ReplacedPath;
use crate::inject::clock::Moved;
use crate::inject::exchange::Decided;
use crate::inject::hook::ScratchMemory;
use crate::inject::outcome::Status;
use crate::seccomp;
use crate::tracee::agent_page::AgentPage;
use crate::tracee::segv::SegvState;
use crate::tracee::{Running, Stopped};
use std::time::Instant;

/// The next step of a task.
pub(super) enum NextStep {
    /// It runs to its next stop, with this signal (0: none).
    Resume(Stopped, i32),
    /// It runs to the first instruction of its handler of this signal.
    Handle(Stopped, i32),
    /// It runs to the exit of its present call, with this signal first (0: none).
    ToExit(Stopped, i32),
    /// It makes the call at whose entry it stands, which hooks have seen.
    Enter(Stopped),
    /// It stays stopped by job control.
    Listen(Stopped),
    /// It waits until a time, and then takes this step.
    Later(Instant, Box<NextStep>),
    /// It makes the call at whose entry it stands once this process has executed a program or ended.
    Held(i32, Stopped),
    /// It runs already.
    Goes(Running),
    /// The run ends for all tasks.
    End(Status, Option<String>),
}

/// A task that runs live.
pub(super) struct Task {
    /// Its process, by the kernel's number.
    pub process: i32,
    /// Its tid, as the program knows it.
    pub tid: i32,
    /// Its pid, as the program knows it.
    pub pid: i32,
    /// The call that it is inside of.
    pub pending: Option<Decided>,
    /// Whether that call may write more than a captured pipe takes at once.
    pub floods: bool,
    /// The deadline of that call, shifted for the kernel.
    pub moved: Option<Moved>,
    /// The SIGSEGV state that a trapped read of the time stamp counter must not reset.
    pub segv: SegvState,
    /// Whether it has just executed a program, and is about to reach the exit of that call.
    pub fresh: bool,
    /// Whether it is about to enter a handler.
    pub enters_handler: bool,
    /// Whether the signal that ends it has been sent again: see [`super::guard::core_files`].
    pub dies: bool,
    /// The agent's page of its memory; `None` where that is memory of the program's own.
    pub agent: Option<AgentPage>,
    /// What the kernel gets in place of the arguments of the call that it is inside of.
    pub checked: Option<CheckedArgs>,
    /// The descriptors that the message may have which it is sending.
    pub sends: usize,
    /// The arguments of the call that made it, as the program passed them, where the kernel got others.
    pub passed: Option<[u64; 6]>,
    /// Scratch memory for values of hooks that are longer than the process's own.
    pub scratch: ScratchMemory,
    /// The seccomp filters of the program.
    pub filters: seccomp::State,
    /// The replaced path of the call that it is inside of.
    pub replaced_path: Option<ReplacedPath>,
    /// Whether it is to make the call again that it is inside of: it waited for a lock when a signal came.
    pub locks_again: bool,
    /// The thread that was created by the call at whose entry it starts, by the number that the call returns.
    pub made: Option<i32>,
    /// The process, by the kernel's number, for which that call waits until it executes a program or ends: vfork(2).
    pub holder: Option<i32>,
    /// Whether its process is a relative of that which was asked for, or was made by one.
    pub is_relative: bool,
    /// The part of the call at whose entry it starts that is done.
    pub half_done: Option<HalfDone>,
    /// The signal that is on its way to it, and of which hooks know already.
    pub asked: Option<i32>,
    /// Its process's number among those that were made in live, from 1; 0 for the first process.
    pub child: u32,
    pub run_state: RunState,
}

/// How far the event loop is with a task.
pub(super) enum RunState {
    /// Runs to its next stop.
    Runs(Running),
    /// Waits until then.
    Waits(Instant, Box<NextStep>),
    /// Waits for this process, and then makes the call at whose entry it stands.
    Held(i32, Stopped),
    /// Waits for a continuing signal.
    Stopped(Stopped),
    /// Handled by the loop now.
    Taken,
}

impl Task {
    pub fn new(process: i32, pid: i32, tid: i32, segv: SegvState) -> Task {
        Task {
            process,
            tid,
            pid,
            pending: None,
            floods: false,
            moved: None,
            segv,
            fresh: false,
            enters_handler: false,
            dies: false,
            agent: None,
            checked: None,
            sends: 0,
            passed: None,
            scratch: ScratchMemory::default(),
            child: 0,
            filters: seccomp::State::default(),
            replaced_path: None,
            locks_again: false,
            made: None,
            holder: None,
            is_relative: false,
            half_done: None,
            asked: None,
            run_state: RunState::Taken,
        }
    }

    pub fn runs(mut self, running: Running) -> Task {
        self.run_state = RunState::Runs(running);
        self
    }
}

impl NextStep {
    /// Continues a task: to the exit of its call, if it is inside of one.
    pub fn on(me: &Task, task: Stopped) -> NextStep {
        match me.pending.is_some() || me.fresh {
            true => NextStep::ToExit(task, 0),
            false => NextStep::Resume(task, 0),
        }
    }
}
