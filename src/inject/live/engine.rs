//! The event loop: waits for stops of tasks, and handles them.

use super::family::LiveMember;
use super::guard::core_files::CoreFiles;
use super::guard::{Locks, Quotas};
use super::identity::Identity;
use super::limits::DeadlyLimits;
use super::listings::Listings;
use super::memory_limit::MemoryLimit;
use super::peers::LivePeers;
use super::streams::Streams;
use super::task::{NextStep, RunState, Task};
use crate::history::Recording;
use crate::inject::clock::Clocks;
use crate::inject::exchange::Decided;
use crate::inject::hook::Hooks;
use crate::inject::outcome::{ChangedFile, Status};
use crate::inject::report::{Ended, Report};
use crate::inject::{Error, Result};
use crate::kernel::Program;
use crate::process::{SharedMemory, StopPoint};
use crate::sandbox::{Change, Sandbox, Settings, with_renames};
use crate::trace::Exit;
use crate::tracee::tsc_off::{self, TscOff};
use crate::tracee::watchdog::Limit;
use crate::tracee::{self, AnyWait, KillOnDrop, Running, Stop, Stopped, Waited};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing::trace_span;

/// The time that the other processes may go on after the first one has ended.
const GRACE: Duration = Duration::from_secs(1);

/// The interval at which delayed tasks are checked.
const NAP: Duration = Duration::from_micros(500);

/// Stopped tasks, by the kernel's numbers.
pub(in crate::inject) type StoppedTasks = Vec<(i32, Stopped, StopPoint)>;

/// An engine that runs a tree of processes to its end.
pub(in crate::inject) struct Engine<'a> {
    pub(super) kill_on_drop: KillOnDrop,
    pub(super) hooks: &'a mut dyn Hooks,
    pub(super) report: Report,
    pub(super) limit: Limit,
    /// The tasks, by the kernel's numbers.
    pub(super) tasks: BTreeMap<i32, Task>,
    /// The stops of new tasks before their parents have reported them.
    pub(super) early: HashMap<i32, i32>,
    /// The first process.
    pub(super) first: i32,
    /// The end of the first process.
    pub(super) exit: Option<Exit>,
    pub(super) recording: Option<Arc<Recording>>,
    pub(super) shared: SharedMemory,
    pub(super) identity: Identity,
    pub(super) streams: Streams,
    pub(super) clocks: Clocks,
    /// Whether clocks are read by calls.
    pub(super) shows_clocks: bool,
    /// The event at which it left its recording.
    pub(super) event: u64,
    /// The directory in which the program began.
    pub(super) began: Arc<[u8]>,
    pub(super) sandbox: Option<Sandbox>,
    /// The settings of the sandbox.
    pub(super) settings: Arc<Settings>,
    /// The limits on core files that the processes believe to have.
    pub(super) core_files: CoreFiles,
    /// The limit on the memory of the processes in the sandbox.
    pub(super) memory: Option<MemoryLimit>,
    /// The limits of the sandbox that are about to end processes.
    pub(super) deadly: DeadlyLimits,
    /// The directories that processes were listing, by the kernel's numbers of these.
    pub(super) listings: BTreeMap<i32, Listings>,
    /// What the processes in the sandbox have taken of the user's quotas.
    pub(super) quotas: Quotas,
    /// The locks that they have of the machine's files.
    pub(super) locks: Locks,
    /// The process that was asked for.
    pub(super) asked_for: i32,
    /// The program of the first process, as recorded.
    pub(super) program: Arc<Program>,
    /// Whether programs may install filters without `PR_SET_NO_NEW_PRIVS` (see [`seccomp::FilterCall`]).
    pub(super) privileged: bool,
    /// The files that have another content, with their numbers among those of the hooks.
    pub(super) given: Vec<(usize, PathBuf)>,
    pub(super) met: Option<(i32, Decided)>,
    /// The number of processes that were made in live.
    pub(super) children: u32,
    /// The recorded processes of a family, by the kernel's numbers.
    pub(super) members: BTreeMap<i32, LiveMember>,
    /// The processes, by the kernel's numbers, whose makers wait until they execute a program or end: vfork(2).
    pub(super) holding: BTreeSet<i32>,
    /// The other ends of connections that nobody has.
    pub(super) peers: LivePeers,
}

impl<'a> Engine<'a> {
    /// Runs all tasks to their end, from these stops on. Returns their sandbox as well.
    pub fn run(mut self, stopped: StoppedTasks) -> Result<(Report, Ended, Option<Sandbox>)> {
        // A program that was started live reads the counter, and a switch is cheap where tracer and tracee may both read it.
        let _quiet = self.recording.as_ref().map(|_| TscOff::new());
        let result = trace_span!("run").in_scope(|| self.drive(stopped));
        if self.sandbox.is_none() {
            self.freeze();
        }
        self.drain();
        let (status, reason) = match self.out_of_memory() {
            Some(over) => {
                // It was killed, even if its end has not been seen.
                let killed = Exit::Signal {
                    signal: libc::SIGKILL,
                    core: false,
                };
                self.exit.get_or_insert(killed);
                over
            }
            None => result?,
        };
        self.tell_of_members();
        self.report.files = trace_span!("changes").in_scope(|| self.changed_files());
        // The recorded part may have been interrupted before, for another reason.
        self.report.reason = reason;
        let exit = self.exit;
        Ok((self.report, Ended { status, exit }, self.sandbox))
    }

    fn drive(&mut self, stopped: StoppedTasks) -> Result<(Status, Option<String>)> {
        for (tid, task, place) in stopped {
            let over = match place {
                StopPoint::Between => self.with(tid, |_, me| Ok(NextStep::on(me, task)))?,
                StopPoint::Entry => {
                    let met = self.met.take_if(|(met, _)| *met == tid);
                    self.with(tid, |engine, me| match met {
                        Some((_, seen)) => engine.make_call(me, task, seen),
                        None => engine.on_entry(me, task),
                    })?
                }
            };
            if let Some(over) = over {
                return Ok(over);
            }
        }
        while !self.tasks.is_empty() {
            if let Some(over) = self.step()? {
                return Ok(over);
            }
        }
        Ok(self.end_of_first())
    }

    /// Waits for the next stop.
    fn step(&mut self) -> Result<Option<(Status, Option<String>)>> {
        tsc_off::again();
        self.serve_peers()?;
        let mut delayed = self.peers.are_busy();
        let mut due = None;
        for (&tid, task) in &self.tasks {
            delayed |= task.floods;
            match task.run_state {
                RunState::Waits(until, _) => {
                    delayed = true;
                    if until <= tsc_off::now() {
                        due = Some(tid);
                    }
                }
                RunState::Held(holder, _) if !self.holding.contains(&holder) => due = Some(tid),
                _ => {}
            }
        }
        if let Some(tid) = due {
            let Some(me) = self.tasks.get_mut(&tid) else {
                return Ok(None);
            };
            return match std::mem::replace(&mut me.run_state, RunState::Taken) {
                RunState::Waits(_, then) => self.take_step(tid, *then),
                RunState::Held(_, task) => self.take_step(tid, NextStep::Enter(task)),
                _ => Ok(None),
            };
        }
        match self.limit.wakes(|| tracee::wait_any(!delayed))? {
            AnyWait::Task(tid, status) => {
                let over = self.came(tid, status)?;
                return Ok(self.out_of_memory().or(over));
            }
            AnyWait::Nothing => {
                self.drain();
                std::thread::sleep(NAP);
            }
            AnyWait::Interrupted => {}
        }
        Ok(self.limit.expired().then(|| self.out_of_time()))
    }

    /// Handles a stop or an end of a task.
    pub(super) fn came(
        &mut self,
        tid: i32,
        status: i32,
    ) -> Result<Option<(Status, Option<String>)>> {
        if tracee::is_exec(status) {
            self.replaced(tid)?;
        }
        let Some(me) = self.tasks.get_mut(&tid) else {
            self.unknown(tid, status);
            return Ok(None);
        };
        let running = match std::mem::replace(&mut me.run_state, RunState::Taken) {
            RunState::Runs(running) => running,
            // The task was killed during its stop.
            RunState::Waits(..) | RunState::Held(..) | RunState::Stopped(_) | RunState::Taken => {
                Running::of_another(tid)
            }
        };
        let waited = {
            let _held = self.limit.hold();
            running.decode_status(status)
        };
        match waited {
            Err(tracee::Error::Timeout { .. }) => {
                if let Some(me) = self.tasks.get_mut(&tid) {
                    me.run_state = RunState::Runs(Running::of_another(tid));
                }
                Ok(Some(self.out_of_time()))
            }
            // It was killed during its stop: its end is reported as any other.
            Err(_) if !tracee::stands(tid) => {
                if let Some(me) = self.tasks.get_mut(&tid) {
                    me.run_state = RunState::Runs(Running::of_another(tid));
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
            Ok(waited) => self.take_waited(tid, waited),
        }
    }

    fn take_waited(
        &mut self,
        tid: i32,
        waited: Waited,
    ) -> Result<Option<(Status, Option<String>)>> {
        match waited {
            Waited::Ended(exit) => Ok(self.ended(tid, exit)?),
            Waited::Stopped(task, stop) => self.on_stop(tid, task, stop),
        }
    }

    fn on_stop(
        &mut self,
        tid: i32,
        task: Stopped,
        stop: Stop,
    ) -> Result<Option<(Status, Option<String>)>> {
        if self.limit.expired() {
            // The task stays stopped.
            self.note_made(stop);
            if let Some(me) = self.tasks.get_mut(&tid) {
                me.run_state = RunState::Stopped(task);
            }
            return Ok(Some(self.out_of_time()));
        }
        self.with(tid, |engine, me| match stop {
            Stop::Entry => engine.on_entry(me, task),
            Stop::Syscall => engine.on_exit(me, task),
            Stop::Exec => {
                me.fresh = true;
                engine.holding.remove(&me.process);
                Ok(NextStep::on(me, task))
            }
            Stop::Clone(child) => {
                engine.born(me, child)?;
                me.checked = None;
                Ok(NextStep::on(me, task))
            }
            Stop::Signal(signal) => engine.on_signal(me, task, signal),
            Stop::Group(_) => Ok(NextStep::Listen(task)),
            Stop::Attached | Stop::Exit | Stop::Other(_) => {
                let mut task = task;
                if let Some(passed) = me.passed.take() {
                    let mut regs = task.regs()?;
                    regs.set_args(passed);
                    task.set_regs(&regs)?;
                }
                Ok(NextStep::on(me, task))
            }
        })
    }

    /// Takes a step of a task, and the steps that follow from it.
    fn with(
        &mut self,
        tid: i32,
        act: impl FnOnce(&mut Self, &mut Task) -> Result<NextStep>,
    ) -> Result<Option<(Status, Option<String>)>> {
        let Some(mut me) = self.tasks.remove(&tid) else {
            return Ok(None);
        };
        let done = {
            let _held = self.limit.hold();
            act(self, &mut me)
        };
        self.tasks.insert(tid, me);
        match done {
            Ok(then) => self.take_step(tid, then),
            // A call that rrapper made in the task did not return in time.
            Err(Error::Tracee(tracee::Error::Timeout { .. })) => {
                if !tracee::stands(tid)
                    && let Some(me) = self.tasks.get_mut(&tid)
                {
                    me.run_state = RunState::Runs(Running::of_another(tid));
                }
                Ok(Some(self.out_of_time()))
            }
            // The task ended during the step.
            Err(Error::Tracee(tracee::Error::Ended {
                tid: ended, exit, ..
            })) if ended == tid => self.ended(tid, exit),
            // The task was killed during its stop: its end is reported as any other.
            Err(Error::Tracee(_)) if !tracee::stands(tid) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_step(&mut self, tid: i32, then: NextStep) -> Result<Option<(Status, Option<String>)>> {
        let running = match then {
            NextStep::Resume(task, 0) => task.resume(),
            NextStep::Resume(task, signal) => task.resume_with(signal),
            NextStep::Handle(task, signal) => {
                if let Some(me) = self.tasks.get_mut(&tid) {
                    me.enters_handler = true;
                }
                task.step_with(signal)
            }
            NextStep::ToExit(task, signal) => task.resume_to_exit_with(signal),
            NextStep::Goes(running) => Ok(running),
            NextStep::Enter(task) => {
                return self.with(tid, |engine, me| match me.pending.take() {
                    Some(seen) => engine.make_call(me, task, seen),
                    None => Ok(NextStep::Resume(task, 0)),
                });
            }
            NextStep::Listen(task) => task.listen(),
            NextStep::Later(until, then) => {
                if let Some(me) = self.tasks.get_mut(&tid) {
                    me.run_state = RunState::Waits(until, then);
                }
                return Ok(None);
            }
            NextStep::Held(holder, task) => {
                if let Some(me) = self.tasks.get_mut(&tid) {
                    me.run_state = RunState::Held(holder, task);
                }
                return Ok(None);
            }
            NextStep::End(status, reason) => return Ok(Some((status, reason))),
        };
        let running = match running {
            Ok(running) => running,
            Err(_) => Running::of_another(tid),
        };
        if let Some(me) = self.tasks.get_mut(&tid) {
            me.run_state = RunState::Runs(running);
        }
        Ok(None)
    }

    /// Starts the grace period when the last process of interest has ended.
    pub(super) fn start_grace_period(&mut self) -> Result<()> {
        let Some(other) = self.tasks.values().map(|task| task.process).next() else {
            return Ok(());
        };
        let left = self.limit.left();
        let left = match self.exit {
            Some(_) if self.recording.is_some() => left.min(GRACE),
            _ => left,
        };
        self.limit = Limit::new(other, left)?;
        Ok(())
    }

    /// The end of a run whose processes were killed, since they had taken too much memory.
    fn out_of_memory(&self) -> Option<(Status, Option<String>)> {
        let reason = self.memory.as_ref()?.ended()?;
        Some((Status::Limit, Some(reason.to_string())))
    }

    fn out_of_time(&mut self) -> (Status, Option<String>) {
        if self.exit.is_none() || self.recording.is_none() {
            self.find_hang();
            return (Status::Timeout, None);
        }
        let mut left: Vec<i32> = self.tasks.values().map(|task| task.pid).collect();
        left.sort_unstable();
        left.dedup();
        let left: Vec<String> = left.iter().map(i32::to_string).collect();
        self.report.missing.push(format!(
            "an end of its processes {}: they were still there after it had ended, and were killed",
            left.join(", ")
        ));
        self.end_of_first()
    }

    /// The tasks that are running.
    pub(super) fn running(&self) -> impl Iterator<Item = i32> {
        let runs = |(_, task): &(&i32, &Task)| matches!(task.run_state, RunState::Runs(_));
        self.tasks.iter().filter(runs).map(|(&tid, _)| tid)
    }

    /// A task stopped: as it is, or by an interrupt.
    pub(super) fn stop_task(&mut self, tid: i32) -> Option<Stopped> {
        // A machine may have much else to do.
        const PATIENCE: Duration = Duration::from_secs(1);
        let me = self.tasks.get_mut(&tid)?;
        let running = match std::mem::replace(&mut me.run_state, RunState::Taken) {
            RunState::Runs(running) => running,
            RunState::Stopped(task) => return Some(task),
            RunState::Waits(..) | RunState::Held(..) | RunState::Taken => return None,
        };
        running.interrupt().ok()?;
        let until = tsc_off::now() + PATIENCE;
        match running.wait_until(until).ok()?? {
            Waited::Stopped(task, stop) => {
                self.note_made(stop);
                Some(task)
            }
            Waited::Ended(_) => {
                self.kill_on_drop.0.remove(&tid);
                None
            }
        }
    }

    /// Kills a new task that will not be driven, together with the others.
    fn note_made(&mut self, stop: Stop) {
        if let Stop::Clone(child) = stop {
            self.kill_on_drop.0.insert(child);
        }
    }

    /// Whether the tasks run in a sandbox.
    pub(super) fn is_sandboxed(&self) -> bool {
        self.sandbox.is_some()
    }

    /// The files that were changed in the sandbox.
    fn changed_files(&mut self) -> Vec<ChangedFile> {
        let Some(sandbox) = &self.sandbox else {
            return Vec::new();
        };
        let changes = match sandbox.changes() {
            Ok(changes) => changes,
            Err(error) => {
                self.report
                    .missing
                    .push(format!("the files that it changed: {error}"));
                return Vec::new();
            }
        };
        let file = |change: Change| ChangedFile {
            path: change.path.into_os_string().into_vec(),
            kind: change.kind.name().to_string(),
            from: change
                .from
                .map(|from| from.path.into_os_string().into_vec()),
        };
        with_renames(changes).into_iter().map(file).collect()
    }

    /// Takes the captured output.
    pub(super) fn drain(&mut self) {
        self.streams.drain(&mut self.report.log);
    }
}
