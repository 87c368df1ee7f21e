//! The engine that answers the system calls of a process and of its family from a script, and runs one of their tasks at a
//! time.
//!
//! The loop and the state of the engine are here. These modules handle the stops of the running task:
//!
//! - [`matching`]: syscall entry stops; the expected call is found and answered, or the process diverges
//! - [`divergence`]: what happens then, and where a signal does not come
//! - [`kernel_calls`]: calls that the kernel makes, since they affect only the process
//! - [`futex`]: futex calls that the script does not have
//! - [`follow`]: the output and the descriptors of a settled call
//! - [`altered`]: what is otherwise than recorded; [`given`]: files that have another content; [`unreceived`]: what other
//!   processes never got or sent, since
//! - [`signals`], [`delivery`]: the process's own faults, and the script's signals
//! - [`schedule`]: the order of the tasks; [`preemption`]: tasks that were preempted between calls
//! - [`family`]: the processes that are driven together
//! - [`ending`]: the end of an injection, and what goes on after it
//! - [`threads`]: creation and exit of threads; [`task`]: the state of a task

mod altered;
mod delivery;
mod divergence;
mod ending;
mod family;
mod follow;
mod futex;
mod given;
mod kernel_calls;
mod matching;
mod preemption;
mod schedule;
mod signals;
mod task;
mod threads;
mod unreceived;

use crate::inject::clock::{Clocks, ShownTime};
use crate::inject::exchange::{Answered, Decided, Entered, Settled};

use crate::constants::is_error;
use crate::history::{FamilyChanges, Followed, ToldCall};
use crate::inject::given_files::{self, GivenFiles};
use crate::inject::hook::{Decision, Finally, HookCall, Hooks, ScratchMemory};
use crate::inject::options::{Options, Sandbox};
use crate::inject::outcome::Status;
use crate::inject::report::{Driven, Report};
use crate::inject::script::Script;
use crate::inject::script::item::{ExpectedCall, ItemKind, SideEffects};
use crate::inject::{Error, Result, live};
use crate::process::{FamilySource, Process, Relative, StopPoint, ThreadGroup};
use crate::recording::CallEvent;
use crate::restore::Peers;
use crate::sandbox::Settings;
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, Exit};
use crate::tracee::tsc_off::{self, TscOff};
use crate::tracee::watchdog::Limit;
use crate::tracee::{Stop, Stopped, Waited};
use crate::world;
use altered::Altered;
use family::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use task::{StoppedTask, TaskState};
use unreceived::Unreceived;

/// Drives a process through a script.
///
/// # Errors
/// If a hook fails, the range of calls is not in the script, or the process cannot be traced. The process is then
/// killed.
pub fn inject(
    mut process: Process,
    mut script: Script,
    hooks: &mut dyn Hooks,
    options: &Options,
) -> Result<Driven> {
    if let Some(end) = options.end {
        if end < options.start {
            return Err(Error::Reversed {
                start: options.start,
                end,
            });
        }
        script.end_at(options.start, end)?;
    }
    live::check_servers(hooks, options.sandbox, &options.settings)?;
    script.start_at(options.start, &process, &options.pids)?;
    if !script.is_recording() || options.start > 0 {
        // The others stay where the copy was spun off.
        let is_driven = |tid: i32| options.pids.values().any(|&mapped| mapped == tid);
        let drives = |relative: &Relative| relative.threads.iter().any(|one| is_driven(one.tid));
        process.relatives.retain(drives);
        process.followed = Arc::new(Followed::none());
    }
    let mut driven = Driver::new(process, script, hooks, options)?.run()?;
    driven.outcome = driven.outcome.within(options.timeout);
    Ok(driven)
}

/// The next step of the engine's loop.
pub(super) enum Next {
    /// Resume the task, which has got its answer.
    Resume(Stopped),
    /// Resume the task up to the exit stop of the call, which the kernel makes.
    ToExit(Stopped, Decided),
    /// Look for the call again: the task is still at its entry stop, and the script has moved on.
    Again(Stopped, Entered),
    /// Go on live from the call at whose entry the task is stopped; with the enter hooks' decision, if they have run.
    Live(Stopped, Option<Decided>),
    /// End the injection, and keep the task if there is one.
    End(Status, Option<Exit>, Option<Stopped>),
}

/// The end of the engine's loop.
enum Over {
    /// The process goes on live: see [`Next::Live`].
    Live(Stopped, Option<Decided>),
    /// The injection ends: see [`Next::End`].
    End(Status, Option<Exit>, Option<Stopped>),
}

pub(super) struct Driver<'a> {
    pub(super) hooks: &'a mut dyn Hooks,
    pub(super) script: Script,
    pub(super) end: Option<usize>,
    pub(super) finally: Finally,
    pub(super) limit: Limit,
    pub(super) report: Report,
    /// The process whose task runs, or ran last.
    pub(super) group: ThreadGroup,
    /// The processes that are driven with it.
    family: Family,
    /// The directory in which the recorded program began.
    pub(super) began: Arc<[u8]>,
    /// The sandbox in which the process runs once it is live.
    pub(super) sandbox: Sandbox,
    /// The settings of that sandbox.
    pub(super) settings: Arc<Settings>,
    /// What other ends of connections do in live that are not there.
    pub(super) peers: Peers,
    /// The memory in the process for hooks' strings.
    pub(super) room: ScratchMemory,
    /// The sum of the delays by hooks: the process's clocks are ahead of the trace's by this.
    pub(super) delayed: Duration,
    /// The clocks for calls that the trace does not have; `None` before the first such call.
    pub(super) clocks: Option<Clocks>,
    /// The time that the trace showed the process last.
    pub(super) shown_time: Option<ShownTime>,
    /// The state of the task that runs, or ran last.
    pub(super) me: TaskState,
    /// The other tasks, which are stopped, by recorded tid.
    pub(super) resting: BTreeMap<i32, StoppedTask>,
    /// The tid of the task that was last chosen to run.
    pub(super) last: i32,
    /// The number of calls that tasks have come to.
    pub(super) progress: u64,
    /// The number of times at which the process's memory may have changed.
    pub(super) changes: u64,
    /// The running task gets a time slice, since the script has it preempted.
    pub(super) spins: bool,
    /// The exit code of the thread group leader, if it exited before other threads.
    pub(super) first_code: Option<i32>,
    /// The event that was answered last, if the script is a recording.
    pub(super) answered: Option<u64>,
    /// The recorded side effects of the call that is being made.
    pub(super) side_effects: SideEffects,
    /// The stop point of a process that is kept.
    pub(super) place: StopPoint,
    /// What is otherwise than recorded.
    altered: Altered,
    /// What other processes never got or sent.
    unreceived: Unreceived,
    /// The events that were answered without what they did when they were recorded.
    unmade: BTreeSet<u64>,
    /// The files that have another content than recorded, if there are some.
    given: Option<GivenFiles>,
    /// What has become otherwise than recorded, for those that go on live.
    pub(super) otherwise: FamilyChanges,
    /// The signal that ends the process that was asked for, of which the others are to learn.
    fatal: Option<i32>,
    /// Where the rest of the family comes from then.
    pub(super) source: Option<FamilySource>,
    /// The first task and its stop point, until the loop begins.
    pub(super) begin: Option<(Stopped, StopPoint)>,
}

impl<'a> Driver<'a> {
    fn new(
        process: Process,
        mut script: Script,
        hooks: &'a mut dyn Hooks,
        options: &Options,
    ) -> Result<Driver<'a>> {
        let Process {
            mut group,
            driven,
            threads,
            relatives,
            followed,
            changes,
            source,
        } = process;
        let pid = group.pid;
        let limit = Limit::new(group.real_pid, options.timeout)?;
        group.pages = group
            .pages
            .filter(|_| script.is_recording() && options.start == 0);
        if group.pages.is_none() {
            script.lighten();
        }
        let (me, task, place) = TaskState::of(driven, pid);
        let given = given_files::give(&mut group, me.tid, hooks)?;
        let mut altered = Altered::default();
        for file in group.files.given().filter(|file| file.is_new) {
            altered.note_new(&file.path);
        }
        let family = Family::new(&mut group, followed, options.awaits_family);
        let mut driver = Driver {
            resting: threads
                .into_iter()
                .map(|thread| (thread.tid, StoppedTask::of(thread, pid)))
                .collect(),
            family,
            hooks,
            script,
            end: options.end,
            finally: options.finally,
            limit,
            report: Report::default(),
            began: group.recording.start().cwd.as_slice().into(),
            group,
            last: me.tid,
            me,
            progress: 0,
            changes: 0,
            spins: false,
            first_code: None,
            sandbox: options.sandbox,
            settings: Arc::clone(&options.settings),
            peers: options.peers,
            room: ScratchMemory::default(),
            delayed: Duration::ZERO,
            clocks: None,
            shown_time: None,
            answered: None,
            side_effects: SideEffects::default(),
            place: StopPoint::Between,
            altered,
            unreceived: Unreceived::default(),
            unmade: BTreeSet::new(),
            given,
            otherwise: changes,
            fatal: None,
            source,
            begin: Some((task, place)),
        };
        driver.add_relatives(relatives)?;
        Ok(driver)
    }

    fn run(mut self) -> Result<Driven> {
        let _quiet = TscOff::new();
        let Some((task, place)) = self.begin.take() else {
            return self.finish(Status::Stopped, None, None);
        };
        match self.drive(task, place) {
            Ok(Over::Live(task, met)) => self.go_live(task, met),
            Ok(Over::End(status, exit, task)) => self.finish(status, exit, task),
            // A SIGKILL from outside ended the process while it was stopped.
            Err(Error::Tracee(error)) if error.is_of_killed() => {
                let exit = Exit::Signal {
                    signal: libc::SIGKILL,
                    core: false,
                };
                self.finish(Status::Signaled, Some(exit), None)
            }
            Err(error) => Err(error),
        }
    }

    fn drive(&mut self, mut task: Stopped, place: StopPoint) -> Result<Over> {
        self.skip_first_exec(place)?;
        let mut next = match place {
            StopPoint::Entry => self.on_entry(task)?,
            StopPoint::Between => {
                self.meet_signals(&mut task)?;
                match self.is_past_end()? {
                    true => self.at_end(task),
                    false => self.begin_between(task)?,
                }
            }
        };
        loop {
            tsc_off::again();
            let (waited, pending) = match next {
                Next::Resume(task) => (self.wait(task)?, None),
                Next::ToExit(task, call) => {
                    let running = task.resume_to_exit()?;
                    (running.wait_beside(self.standing())?, Some(call))
                }
                Next::Again(task, seen) => {
                    next = self.match_call(task, seen)?;
                    continue;
                }
                Next::Live(task, met) => return Ok(Over::Live(task, met)),
                Next::End(status, Some(exit), None) if status.is_end() => {
                    match self.on_process_end(status, exit)? {
                        Some(then) => next = then,
                        None => return Ok(Over::End(status, Some(exit), None)),
                    }
                    continue;
                }
                Next::End(status, exit, task) => return Ok(Over::End(status, exit, task)),
            };
            let (task, stop) = match waited {
                Waited::Stopped(task, stop) => (task, stop),
                Waited::Ended(Exit::Code(_)) if self.me.exited && self.has_siblings() => {
                    next = self.schedule()?;
                    continue;
                }
                Waited::Ended(exit) => {
                    let status = match exit {
                        Exit::Code(_) => Status::Exited,
                        Exit::Signal { .. } => Status::Signaled,
                    };
                    next = Next::End(status, Some(exit), None);
                    continue;
                }
            };
            next = self.on_stop(task, stop, pending)?;
        }
    }

    /// Starts the injection with a task that is stopped between calls.
    fn begin_between(&mut self, task: Stopped) -> Result<Next> {
        if self.resting.is_empty() || self.is_next()? || !self.me.due.is_empty() {
            return Ok(Next::Resume(task));
        }
        self.park(task, StopPoint::Between, None);
        self.schedule()
    }

    /// The kernel's tids of the stopped threads of the present process, retired ones included.
    fn standing(&self) -> impl Iterator<Item = i32> + Clone {
        let resting = self.siblings().map(|resting| resting.task.tid());
        let tids: Vec<i32> = resting
            .chain(self.group.retired.iter().map(Stopped::tid))
            .collect();
        tids.into_iter()
    }

    fn wait(&mut self, task: Stopped) -> Result<Waited> {
        self.changes += 1;
        let running = task.resume()?;
        Ok(match self.slice() {
            Some(slice) => running.wait_for(slice, self.standing())?,
            None if !self.has_siblings() && self.group.retired.is_empty() => running.wait()?,
            None => running.wait_beside(self.standing())?,
        })
    }

    pub(super) fn on_stop(
        &mut self,
        task: Stopped,
        stop: Stop,
        pending: Option<Decided>,
    ) -> Result<Next> {
        match stop {
            Stop::Entry => {
                self.me.reads.begin_anew();
                self.me.changes_at_entry = Some(self.changes);
                self.on_entry(task)
            }
            Stop::Syscall => match pending {
                Some(call) => self.on_exit(task, call),
                None => Ok(Next::Resume(task)),
            },
            // The exit stop of the execve follows.
            Stop::Exec => match pending {
                Some(call) => Ok(Next::ToExit(task, call)),
                None => Ok(Next::Resume(task)),
            },
            Stop::Signal(signal) => self.on_signal(task, signal),
            Stop::Attached if self.slice().is_some() => self.on_time_slice_end(task),
            Stop::Clone(_) | Stop::Group(_) | Stop::Attached | Stop::Exit | Stop::Other(_) => {
                Ok(Next::Resume(task))
            }
        }
    }

    /// Skips an execve at the start of the script if the process was spun off at its program's start, behind that
    /// execve.
    fn skip_first_exec(&mut self, place: StopPoint) -> Result<()> {
        let is_exec = |name: &str| matches!(name, "execve" | "execveat");
        let at_exec = place == StopPoint::Between
            && self
                .group
                .event
                .1
                .call()
                .is_some_and(|call| is_exec(&call.name()) && call.ip == 0);
        if at_exec && self.peek()?.is_some_and(|step| is_exec(&step.name)) {
            self.advance();
        }
        Ok(())
    }

    /// The call that is expected of the task now; `None` if another task's is next, or there are no more.
    pub(super) fn peek(&mut self) -> Result<Option<&mut ExpectedCall>> {
        let me = &mut self.me;
        if me.step.is_none() {
            me.step = me.postponed.take();
        }
        if me.step.is_none()
            && let Some(item) = self
                .script
                .pop_if(me.tid, |kind| matches!(kind, ItemKind::Call(_)))?
            && let ItemKind::Call(step) = item.kind
        {
            me.step = Some(*step);
        }
        Ok(me.step.as_mut())
    }

    pub(super) fn advance(&mut self) {
        if let Some(step) = self.me.step.take() {
            self.note_answered(step.event());
            self.me.waits_for_script = step.stays;
            self.side_effects = step.side_effects;
        }
    }

    /// Returns whether the last expected call has been answered.
    pub(super) fn is_past_end(&mut self) -> Result<bool> {
        if self.me.step.is_some() || self.me.postponed.is_some() {
            return Ok(false);
        }
        if self
            .resting
            .values()
            .any(|resting| resting.me.step.is_some())
        {
            return Ok(false);
        }
        Ok(self.script.front()?.is_none())
    }

    /// The next step at the end of the trace.
    pub(super) fn at_end(&mut self, task: Stopped) -> Next {
        match self.finally {
            Finally::Kill => Next::End(Status::Completed, None, None),
            Finally::Keep => Next::End(Status::Completed, None, Some(task)),
            // The process goes live at the task's next call.
            Finally::Live => Next::Resume(task),
        }
    }

    /// Handles a syscall entry stop.
    pub(super) fn on_entry(&mut self, mut task: Stopped) -> Result<Next> {
        self.cancel_target(&mut task)?;
        if self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        self.progress += 1;
        if self.spins {
            // The recorded task was preempted before this call.
            self.mark_modified();
        }
        (self.me.spins, self.me.not_before, self.spins) = (0, 0, false);
        let Some(call) = known_call(&task)? else {
            return self.answer_now(task, Answer::Errno(libc::ENOSYS));
        };
        if self.me.missing.is_none() && !self.is_next()? {
            // A process that is as it was recorded waits for the task's turn.
            if !self.is_as_recorded() && self.hooks.is_ignored(call.name) {
                let seen = self.see(&task, call)?;
                if !self.is_listed(&seen)? {
                    return self.answer_expected(task, seen, false);
                }
            }
            let leaves = self.leaves_early(&task, call)?;
            if !leaves {
                self.park(task, StopPoint::Entry, None);
                return self.schedule();
            }
        }
        self.match_again(task)
    }

    /// Handles the call of a task that is at its entry stop, when the task's turn comes.
    pub(super) fn match_again(&mut self, task: Stopped) -> Result<Next> {
        let Some(call) = known_call(&task)? else {
            return self.answer_now(task, Answer::Errno(libc::ENOSYS));
        };
        let seen = self.see(&task, call)?;
        self.match_call(task, seen)
    }

    /// The call at whose entry a task is stopped.
    pub(super) fn see(&mut self, task: &Stopped, call: &'static Syscall) -> Result<Entered> {
        let regs = task.regs()?;
        let ids = (self.group.pid, self.me.tid);
        let shared = self.group.shared.clone();
        let call = HookCall::new(call, regs.args(), ids, task.memory(), shared)
            .with_began(&self.began)
            .with_descriptor(&self.group.descriptors)
            .with_scratch(&self.room)
            .with_tids(std::iter::once(self.me.tid).chain(self.siblings().map(|r| r.me.tid)))
            .of_child(self.child(), self.is_relative())
            .with_program(&self.group.program, self.group.ppid)
            .with_regs(regs);
        Ok(Entered::new(call))
    }

    /// Adds the delay that hooks gave the call to the process's clocks.
    fn delay(&mut self, seen: &mut HookCall) {
        self.delayed = self.delayed.saturating_add(seen.take_delay());
    }

    /// Runs the exit hooks.
    pub(super) fn settle(&mut self, mut seen: Answered) -> Result<Settled> {
        self.delay(&mut seen);
        if !self.delayed.is_zero() && !matches!(seen.decision, Decision::Answer(_)) {
            let moved = seen.move_clock(self.delayed);
            moved.map_err(|error| Error::Hook(error.into()))?;
        }
        let mut settled = seen.settle(self.hooks)?;
        self.delay(&mut settled);
        self.note_interference(&settled, settled.is_changed_at_exit);
        Ok(settled)
    }

    /// Logs a settled call and applies it to the process's descriptors; `moved` is the data that the call moved inside
    /// the kernel.
    pub(super) fn note(&mut self, seen: &Settled, moved: Option<&[u8]>) {
        self.mark(seen);
        let changes = world::is_changed_by(seen.call.name);
        let told = if changes { self.tell(seen) } else { None };
        let is_followed = told.is_some() || changes && self.given.is_some();
        let effect = is_followed.then(|| altered::told(seen, follow::done(seen), !is_unmade(seen)));
        let log = &mut self.report.log;
        follow::written(&self.group.descriptors, log, seen, moved);
        seen.log(Some(log));
        let before = effect.as_ref().map(|_| self.group.descriptors.clone());
        let tells = seen.event.is_none() || is_other(seen);
        let call = follow::state(&mut self.group, seen, tells);
        self.note_told(seen, call);
        let Some(call) = effect else { return };
        let before = before.filter(|_| !world::opens(&call));
        let table = before.unwrap_or_else(|| self.group.descriptors.clone());
        if let Some(given) = &mut self.given {
            given.follow(&call, &table);
        }
        if let Some(at) = told {
            self.group.files.note(at, self.me.tid, call, table);
        }
    }

    /// Notes a call that had another effect than the recorded one, or is none of the recording's; `call` is what it did to the
    /// kernel's state.
    fn note_told(&mut self, seen: &Settled, call: Option<CallEvent>) {
        let told = &mut self.otherwise.told;
        let tid = self.me.tid;
        let (event, replaces) = match seen.event {
            Some(event) => {
                let at =
                    told.partition_point(|known| (known.event, known.replaces) < (event, true));
                if told.get(at).is_some_and(|known| known.event == event) {
                    told.remove(at);
                }
                if !is_other(seen) {
                    return;
                }
                (event, true)
            }
            None if call.is_none() || told.len() >= MOST_TOLD => return,
            None => (
                self.answered.map_or(self.group.event.0, |last| last + 1),
                false,
            ),
        };
        let at = told.partition_point(|known| (known.event, known.replaces) <= (event, replaces));
        told.insert(
            at,
            ToldCall {
                event,
                replaces,
                tid,
                call,
            },
        );
    }

    /// Notes which files are otherwise than recorded after a settled call.
    fn mark(&mut self, seen: &Settled) {
        let ret = follow::done(seen);
        if let Some(event) = seen.event {
            match is_unmade(seen) {
                true => self.unmade.insert(event),
                false => self.unmade.remove(&event),
            };
            if is_other(seen) {
                self.note_altered(seen, event);
                self.lose(seen, event);
                self.lose_child_of(seen, event);
                return;
            }
            self.find_again(event);
            if self.group.files.has(event) {
                self.altered.forget(event);
            } else if !self.altered.is_empty() && ret >= 0 {
                match seen.call.name {
                    "dup2" | "dup3" => self.altered.opened(seen.pid, ret as i32),
                    _ if seen.call.returns_fd() => self.altered.opened(seen.pid, ret as i32),
                    _ => {}
                }
            }
        }
    }

    /// The event in whose place a call has changed files, or before which, if that is not what was recorded; the latter is
    /// `false`.
    fn tell(&mut self, seen: &Settled) -> Option<(u64, bool)> {
        let table = &self.group.descriptors;
        let given = self.given.as_mut();
        let is_of_given = given.is_some_and(|given| {
            let takes = given.source(seen, table).is_some();
            if takes && let Ok(files) = self.group.recording.recorded_files() {
                // What the content went to.
                self.altered.note(seen, follow::done(seen), table, &files);
            }
            let opens = matches!(seen.call.name, "open" | "creat" | "openat" | "openat2");
            !opens && given.concerns(seen, table)
        });
        let Some(event) = seen.event else {
            let next = self.answered.map_or(self.group.event.0, |last| last + 1);
            return (!is_error(follow::done(seen))).then_some((next, false));
        };
        let again = self.group.files.has(event);
        (is_other(seen) || again || is_of_given).then_some((event, true))
    }

    /// Notes what is otherwise than recorded since an event had another answer.
    fn note_altered(&mut self, seen: &HookCall, event: u64) {
        let recording = &self.group.recording;
        if let Ok(recorded) = recording.event(event)
            && let Some(was) = recorded.call().and_then(|call| call.ret)
            && !is_error(was)
            && let Ok(files) = recording.recorded_files()
        {
            let table = &self.group.descriptors;
            self.altered.note(seen, was, table, &files);
        }
    }

    /// Whether a call takes the content of a file that has another one than recorded: it is answered from that.
    pub(super) fn is_of_given(&mut self, seen: &HookCall) -> bool {
        let table = &self.group.descriptors;
        let given = self.given.as_mut();
        given.is_some_and(|given| given.source(seen, table).is_some())
    }

    /// Why a call about a file that has another content than recorded can have no answer here, if so.
    pub(super) fn given_reason(&mut self, seen: &HookCall) -> Option<String> {
        let table = &self.group.descriptors;
        let step = self.me.step.as_ref().filter(|_| seen.index.is_some());
        self.given.as_mut()?.reason(seen, step, table)
    }

    /// Why the recorded answer to a call does not hold any more, if so.
    pub(super) fn does_not_hold(&mut self, seen: &HookCall) -> Option<String> {
        if let Some(reason) = self.given_reason(seen) {
            return Some(reason);
        }
        if self.is_of_given(seen) {
            return None;
        }
        if let Some(reason) = self.never_got(seen) {
            return Some(reason);
        }
        if self.altered.is_empty() {
            return None;
        }
        let files = self.group.recording.recorded_files().ok()?;
        self.altered.reason(seen, &self.group.descriptors, &files)
    }

    /// Resumes the task after a settled call; `expected` if it is the trace's.
    pub(super) fn after(
        &mut self,
        mut task: Stopped,
        seen: &mut Settled,
        expected: bool,
    ) -> Result<Next> {
        let interrupted = matches!(seen.answer(), Answer::Restart(_));
        match interrupted {
            true => self.interrupt(&mut task, seen.nr(), seen.ret)?,
            false => self.meet_signals(&mut task)?,
        }
        self.send_due(&task);
        for signal in seen.signals.drain(..) {
            task.send(signal);
        }
        if expected && self.end.is_some() && self.is_past_end()? {
            return Ok(self.at_end(task));
        }
        self.resume_task(task)
    }

    /// The end of the injection, if a hook asks for it.
    pub(super) fn stop_by_hook(&mut self, seen: &mut HookCall) -> Option<Next> {
        let reason = seen.stop.take()?;
        Some(self.stopped(seen, reason))
    }

    /// Handles a call in which the recorded process ended: a SIGKILL, its own or another process's, killed it.
    pub(super) fn never_returns(&mut self, task: Stopped, seen: &HookCall) -> Result<Next> {
        self.report.log.call(seen, None);
        self.advance();
        if self.has_siblings() || self.script.tells_ends() {
            // The script has the end of each task, this one included: the others run until then.
            self.me.exited = true;
            self.park(task, StopPoint::Entry, None);
            return self.schedule();
        }
        let killed = Exit::Signal {
            signal: libc::SIGKILL,
            core: false,
        };
        let recorded = || {
            let mut processes = self.group.recording.processes().ok()?.into_iter();
            processes.find(|life| life.pid == self.group.pid)?.exit
        };
        let told = self.script.end_of(self.me.tid);
        let exit = told.or_else(recorded).unwrap_or(killed);
        Ok(match exit {
            Exit::Code(_) => Next::End(Status::Exited, Some(exit), None),
            Exit::Signal { .. } => Next::End(Status::Signaled, Some(exit), None),
        })
    }
}

/// The most calls that the recording does not have and that are noted for a family.
const MOST_TOLD: usize = 1 << 16;

/// Whether a call has had another effect than that of the script's call.
fn is_other(seen: &Settled) -> bool {
    is_unmade(seen)
        || matches!(seen.decision, Decision::Short(_))
        || seen.done.is_none() && seen.is_changed_at_exit
        || seen.is_changed()
}

/// Whether a call was answered in the place of being made.
fn is_unmade(seen: &Settled) -> bool {
    matches!(seen.decision, Decision::Answer(_)) && seen.done.is_none()
}

/// The call at whose entry a task is stopped; `None` for an unknown number and for another ABI, whose numbers differ
/// and whose calls cannot be recorded either.
fn known_call(task: &Stopped) -> Result<Option<&'static Syscall>> {
    if task.is_foreign_call()? {
        return Ok(None);
    }
    let regs = task.regs()?;
    let call = syscall::of_number(regs.nr() as u32);
    Ok(call.map(|call| call.resolve(&regs.args())))
}
