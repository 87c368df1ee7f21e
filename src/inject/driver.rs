//! The loop that drives a process: what it asks, what it gets, and how it ends.

use super::calls::Log;
use super::hook::{Finally, HookCall, HookExit, Hooks, Room};
use super::live::{self, Clocks, Ended, TimeTold};
use super::outcome::{Divergence, Outcome, Status};
use super::script::Script;
use super::step::{Aftermath, Kind, Step};
use super::task::{Me, Resting};
use super::{Error, Result};
use crate::backtrace::Frame;
use crate::history::{KernelChanges, Recording};
use crate::kernel::{DescriptorTable, Program};
use crate::recording::Event;
use crate::replay::{Pages, Place, Process, SharedMemory, Thread};
use crate::sandbox::Shared;
use crate::syscall::{self, Syscall};
use crate::trace::Exit;
use crate::tracee::quiet::{self, Quiet};
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{Stop, Stopped, Waited};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Which part of the script to drive through, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The index of the first call, from 0.
    pub start: usize,
    /// The index of the last call, itself included; the end of the trace where there is none.
    pub end: Option<usize>,
    /// What happens at the end of the trace.
    pub finally: Finally,
    /// How long the injection may take in all.
    pub timeout: Duration,
    /// Where the process runs once it is live.
    pub sandbox: Sandbox,
    /// Which thread, by its recorded tid, is meant by which number of a trace (see [`Script`]).
    pub pids: BTreeMap<i32, i32>,
}

/// Where a live process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// On a copy of the file system that is made where it writes, and thrown away.
    #[default]
    Cow,
    /// On the machine itself.
    None,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            start: 0,
            end: None,
            finally: Finally::Kill,
            timeout: Duration::from_secs(10),
            sandbox: Sandbox::default(),
            pids: BTreeMap::new(),
        }
    }
}

/// An injection's result.
#[derive(Debug)]
pub struct Driven {
    /// What became of the process.
    pub outcome: Outcome,
    /// The process itself, with [`Finally::Keep`] at the end of the trace.
    pub process: Option<Process>,
}

/// Drives a process through a script.
///
/// # Errors
/// If a hook fails, the script has no such calls, or the process cannot be traced. The
/// process is then killed.
pub fn inject(
    process: Process,
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
    script.start_at(options.start, &process, &options.pids)?;
    Driver::new(process, script, hooks, options)?.run()
}

/// Lets a process go on live, everything real from here.
pub(super) fn go_on(process: Process, hooks: &mut dyn Hooks, options: &Options) -> Result<Driven> {
    let mut log = Log::default();
    let ended = live::go_on(process, None, hooks, &mut log, options.into())?;
    Ok(Driven {
        outcome: outcome(ended, None, log, hooks),
        process: None,
    })
}

pub(super) fn outcome(
    ended: Ended,
    divergence: Option<Divergence>,
    mut log: Log,
    hooks: &dyn Hooks,
) -> Outcome {
    Outcome {
        divergence,
        exit: ended.exit,
        calls: log.trace(),
        stdout: log.stdout,
        stderr: log.stderr,
        injected: log.injected,
        unfired: hooks.unfired(),
        missing: ended.missing,
        files: ended.files,
        backtrace: ended.backtrace,
        hang: ended.hang,
        reason: ended.reason,
        sent: log.sent,
        ..Outcome::new(ended.status)
    }
}

/// What comes next.
pub(super) enum Next {
    /// The task has been given its answer: resume it.
    Resume(Stopped),
    /// The task runs for real up to the exit of the call.
    ToExit(Stopped, Box<HookCall>),
    /// The task still stands at the entry of this call: the trace was moved on instead.
    Again(Stopped, Box<HookCall>),
    /// It goes on live from the call at whose entry it stands; with what the hooks have said about that, if they have
    /// been asked.
    Live(Stopped, Option<Box<HookCall>>),
    /// It is over.
    End(Status, Option<Exit>, Option<Stopped>),
}

/// How the driving came to its end.
enum Over {
    /// It goes on live: see [`Next::Live`].
    Live(Stopped, Option<Box<HookCall>>),
    /// It is over: see [`Next::End`].
    End(Status, Option<Exit>, Option<Stopped>),
}

pub(super) struct Driver<'a> {
    pub(super) hooks: &'a mut dyn Hooks,
    pub(super) script: Script,
    pub(super) end: Option<usize>,
    pub(super) finally: Finally,
    pub(super) limit: Limit,
    pub(super) log: Log,
    pub(super) divergence: Option<Divergence>,
    pub(super) reason: Option<String>,
    pub(super) backtrace: Vec<Frame>,
    pub(super) hang: Option<String>,
    pub(super) descriptors: DescriptorTable,
    pub(super) since: KernelChanges,
    pub(super) recording: Arc<Recording>,
    /// The directory in which the recorded program began.
    pub(super) began: Arc<[u8]>,
    pub(super) event: (u64, Event),
    pub(super) program: Arc<Program>,
    pub(super) pid: i32,
    pub(super) ppid: i32,
    /// The pid that the kernel knows the process by.
    pub(super) real_pid: i32,
    pub(super) shared: SharedMemory,
    pub(super) sandboxes: Shared,
    /// Where it runs once it is live.
    pub(super) sandbox: Sandbox,
    /// See [`Process::pages`].
    pub(super) pages: Option<Pages>,
    /// Where hooks' strings are put.
    pub(super) room: Room,
    /// How far the clocks that the process sees are ahead of the trace's: what hooks delayed it by.
    pub(super) delayed: Duration,
    /// The clocks of calls that the trace does not have, once there are such.
    pub(super) clocks: Option<Clocks>,
    /// What the trace last said of the time.
    pub(super) told: Option<TimeTold>,
    /// The task that runs, or ran last.
    pub(super) me: Me,
    /// The others, by tid.
    pub(super) resting: BTreeMap<i32, Resting>,
    /// See [`Process::retired`].
    pub(super) retired: Vec<Stopped>,
    /// The task that was last chosen to run.
    pub(super) last: i32,
    /// How often a task has come to a call.
    pub(super) progress: u64,
    /// How often something may have changed the memory of the process.
    pub(super) changes: u64,
    /// The script has the task that runs interrupted.
    pub(super) spins: bool,
    /// What the process's first thread has exited with, while others went on.
    pub(super) first_code: Option<i32>,
    /// The event that was answered last, where the script is a recording.
    pub(super) answered: Option<u64>,
    /// What the call that is being made does besides.
    pub(super) aftermath: Aftermath,
    /// Where a process that is kept stands.
    pub(super) place: Place,
    /// The task and where it stands, until the loop begins.
    pub(super) begin: Option<(Stopped, Place)>,
}

/// What is known of an injection.
struct Told<'a> {
    hooks: &'a mut dyn Hooks,
    log: Log,
    divergence: Option<Divergence>,
    reason: Option<String>,
    backtrace: Vec<Frame>,
    hang: Option<String>,
}

impl<'a> Driver<'a> {
    fn new(
        process: Process,
        mut script: Script,
        hooks: &'a mut dyn Hooks,
        options: &Options,
    ) -> Result<Driver<'a>> {
        let limit = Limit::new(process.real_pid, options.timeout)?;
        let Process {
            task,
            place,
            recording,
            event,
            program,
            pid,
            ppid,
            descriptors,
            since,
            segv,
            tid,
            threads,
            retired,
            shared,
            kept,
            sandboxes,
            real_pid,
            pages,
        } = process;
        let pages = pages.filter(|_| script.is_recording() && options.start == 0);
        if pages.is_none() {
            script.lighten();
        }
        let others = threads.into_iter().map(|thread| {
            let mut state = SegvState::default();
            state.share_action(&segv);
            state.after_mask(&thread.task)?;
            let resting = Resting {
                me: Me::new(thread.tid, state, thread.kept),
                task: thread.task,
                place: thread.place,
                waits: None,
            };
            Ok((thread.tid, resting))
        });
        Ok(Driver {
            resting: others.collect::<Result<_>>()?,
            hooks,
            script,
            end: options.end,
            finally: options.finally,
            limit,
            log: Log::default(),
            divergence: None,
            reason: None,
            backtrace: Vec::new(),
            hang: None,
            descriptors,
            since,
            began: recording.start().cwd.as_slice().into(),
            recording,
            event,
            program,
            pid,
            ppid,
            real_pid,
            me: Me::new(tid, segv, kept),
            retired,
            last: tid,
            progress: 0,
            changes: 0,
            spins: false,
            first_code: None,
            shared,
            sandboxes,
            sandbox: options.sandbox,
            pages,
            room: Room::default(),
            delayed: Duration::ZERO,
            clocks: None,
            told: None,
            answered: None,
            aftermath: Aftermath::default(),
            place: Place::Between,
            begin: Some((task, place)),
        })
    }

    fn run(mut self) -> Result<Driven> {
        let _quiet = Quiet::new();
        let Some((task, place)) = self.begin.take() else {
            return self.finish(Status::Stopped, None, None);
        };
        match self.drive(task, place) {
            Ok(Over::Live(task, met)) => self.go_live(task, met),
            Ok(Over::End(status, exit, task)) => self.finish(status, exit, task),
            // Somebody has killed it as it stood.
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

    fn drive(&mut self, mut task: Stopped, place: Place) -> Result<Over> {
        self.skip_first_exec(place)?;
        let mut next = match place {
            Place::Entry => self.on_entry(task)?,
            Place::Between => {
                self.meet_signals(&mut task)?;
                match self.is_past_end()? {
                    true => self.at_end(task),
                    false => self.begin_between(task)?,
                }
            }
        };
        loop {
            quiet::again();
            let (waited, pending) = match next {
                Next::Resume(task) => (self.wait(task)?, None),
                Next::ToExit(task, call) => {
                    let running = task.resume_to_exit()?;
                    (running.wait_beside(self.standing())?, Some(call))
                }
                Next::Again(task, seen) => {
                    next = self.meet(task, *seen)?;
                    continue;
                }
                Next::Live(task, met) => return Ok(Over::Live(task, met)),
                Next::End(status, exit, task) => return Ok(Over::End(status, exit, task)),
            };
            let (task, stop) = match waited {
                Waited::Stopped(task, stop) => (task, stop),
                Waited::Ended(Exit::Code(_)) if self.me.over && !self.resting.is_empty() => {
                    next = self.turn()?;
                    continue;
                }
                Waited::Ended(exit) => {
                    let status = match exit {
                        Exit::Code(_) => Status::Exited,
                        Exit::Signal { .. } => Status::Signaled,
                    };
                    return Ok(Over::End(status, Some(exit), None));
                }
            };
            next = self.on_stop(task, stop, pending)?;
        }
    }

    /// The task stands between calls as the injection begins.
    fn begin_between(&mut self, task: Stopped) -> Result<Next> {
        if self.resting.is_empty() || self.is_my_turn()? || !self.me.due.is_empty() {
            return Ok(Next::Resume(task));
        }
        self.rest(task, Place::Between, None);
        self.turn()
    }

    /// The threads that stand.
    fn standing(&self) -> impl Iterator<Item = i32> + Clone {
        let resting = self.resting.values().map(|resting| resting.task.tid());
        let tids: Vec<i32> = resting
            .chain(self.retired.iter().map(Stopped::tid))
            .collect();
        tids.into_iter()
    }

    fn wait(&mut self, task: Stopped) -> Result<Waited> {
        self.changes += 1;
        let running = task.resume()?;
        Ok(match self.slice() {
            Some(slice) => running.wait_for(slice, self.standing())?,
            None if self.resting.is_empty() && self.retired.is_empty() => running.wait()?,
            None => running.wait_beside(self.standing())?,
        })
    }

    pub(super) fn on_stop(
        &mut self,
        task: Stopped,
        stop: Stop,
        pending: Option<Box<HookCall>>,
    ) -> Result<Next> {
        match stop {
            Stop::Entry => {
                self.me.reads.begin_anew();
                self.me.stood_at = Some(self.changes);
                self.on_entry(task)
            }
            Stop::Syscall => match pending {
                Some(call) => self.on_exit(task, *call),
                None => Ok(Next::Resume(task)),
            },
            // An exec under way: its exit comes after.
            Stop::Exec => match pending {
                Some(call) => Ok(Next::ToExit(task, call)),
                None => Ok(Next::Resume(task)),
            },
            Stop::Signal(signal) => self.on_signal(task, signal),
            Stop::Attached if self.slice().is_some() => self.spun(task),
            Stop::Clone(_) | Stop::Group(_) | Stop::Attached | Stop::Exit | Stop::Other(_) => {
                Ok(Next::Resume(task))
            }
        }
    }

    fn finish(self, status: Status, exit: Option<Exit>, task: Option<Stopped>) -> Result<Driven> {
        let pid = self.pid;
        let (process, told) = self.into_process(task);
        if let Some(exit) = exit {
            // Tells the hooks how the process ended.
            let exit = HookExit { pid, exit };
            told.hooks.exited(&exit).map_err(Error::Hook)?;
        }
        let ended = Ended {
            status,
            exit,
            reason: told.reason,
            missing: Vec::new(),
            files: Vec::new(),
            backtrace: told.backtrace,
            hang: told.hang,
        };
        Ok(Driven {
            outcome: outcome(ended, told.divergence, told.log, told.hooks),
            process,
        })
    }

    /// The process goes on live.
    fn go_live(mut self, task: Stopped, met: Option<Box<HookCall>>) -> Result<Driven> {
        self.place = Place::Entry;
        let how = live::How {
            timeout: self.limit.left(),
            sandbox: self.sandbox,
            ahead: self.delayed,
        };
        let (process, mut told) = self.into_process(Some(task));
        let Some(process) = process else {
            return Err(Error::Range { index: 0, len: 0 });
        };
        let ended = live::go_on(process, met, told.hooks, &mut told.log, how)?;
        Ok(Driven {
            outcome: outcome(ended, told.divergence, told.log, told.hooks),
            process: None,
        })
    }

    /// The process as it stands, with all of its threads, wherever each is; and what is known of its injection.
    fn into_process(mut self, task: Option<Stopped>) -> (Option<Process>, Told<'a>) {
        if let Some(next) = self.next_event()
            && let Ok(event) = self.recording.event(next)
        {
            self.event = (next, event);
        }
        let resting = self.resting.into_values().map(|resting| Thread {
            tid: resting.me.tid,
            task: resting.task,
            place: resting.place,
            kept: resting.me.kept,
        });
        let threads: Vec<Thread> = resting.collect();
        let process = task.map(|task| Process {
            threads,
            retired: self.retired,
            task,
            place: self.place,
            recording: self.recording,
            event: self.event,
            program: self.program,
            pid: self.pid,
            tid: self.me.tid,
            ppid: self.ppid,
            descriptors: self.descriptors,
            since: self.since,
            segv: self.me.segv,
            shared: self.shared,
            kept: self.me.kept,
            sandboxes: self.sandboxes,
            real_pid: self.real_pid,
            pages: self.pages,
        });
        let told = Told {
            hooks: self.hooks,
            log: self.log,
            divergence: self.divergence,
            reason: self.reason,
            backtrace: self.backtrace,
            hang: self.hang,
        };
        (process, told)
    }

    /// The event at which a process stands that has followed its recording.
    fn next_event(&self) -> Option<u64> {
        let behind = self.answered? + 1;
        let holders = self.resting.values().map(|resting| &resting.me);
        let steps = holders.chain([&self.me]).filter_map(|me| me.step.as_ref());
        // What is expected of others may come before.
        let waiting = steps.filter_map(Step::event).min();
        let first = [waiting, self.script.event()].into_iter().flatten().min();
        Some(first.map_or(behind, |first| first.min(behind)))
    }

    /// A process spun off at its program's start has its execve behind it.
    fn skip_first_exec(&mut self, place: Place) -> Result<()> {
        let is_exec = |name: &str| matches!(name, "execve" | "execveat");
        let at_exec = place == Place::Between
            && self
                .event
                .1
                .call()
                .is_some_and(|call| is_exec(&call.name()) && call.ip == 0);
        if at_exec && self.peek()?.is_some_and(|step| is_exec(&step.name)) {
            self.advance();
        }
        Ok(())
    }

    /// The call that is expected of the task now; `None` where it is another's turn, or there are no more.
    pub(super) fn peek(&mut self) -> Result<Option<&mut Step>> {
        let me = &mut self.me;
        if me.step.is_none() {
            me.step = me.parked.take();
        }
        if me.step.is_none()
            && let Some(item) = self
                .script
                .pop_if(me.tid, |kind| matches!(kind, Kind::Call(_)))?
            && let Kind::Call(step) = item.kind
        {
            me.step = Some(*step);
        }
        Ok(me.step.as_mut())
    }

    pub(super) fn advance(&mut self) {
        if let Some(step) = self.me.step.take() {
            self.answered = step.event().max(self.answered);
            self.me.stays = step.stays;
            self.aftermath = step.aftermath;
        }
    }

    /// Whether the last expected call has been answered.
    pub(super) fn is_past_end(&mut self) -> Result<bool> {
        if self.me.step.is_some() || self.me.parked.is_some() {
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

    /// The trace has been followed to its end.
    pub(super) fn at_end(&mut self, task: Stopped) -> Next {
        match self.finally {
            Finally::Kill => Next::End(Status::Completed, None, None),
            Finally::Keep => Next::End(Status::Completed, None, Some(task)),
            // It goes live with its next call.
            Finally::Live => Next::Resume(task),
        }
    }

    /// The process has made a call.
    pub(super) fn on_entry(&mut self, mut task: Stopped) -> Result<Next> {
        self.misses_goal(&mut task)?;
        if self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        self.progress += 1;
        if self.spins {
            // It did not come so far.
            self.leaves_recording();
        }
        (self.me.spins, self.me.stuck_until, self.spins) = (0, 0, false);
        let Some(call) = known_call(&task)? else {
            let regs = task.regs()?;
            return self.answer_now(task, regs, -i64::from(libc::ENOSYS));
        };
        if !self.is_my_turn()? {
            // Who does as was recorded has its turn.
            if self.pages.is_none() && self.hooks.is_ignored(call.name) {
                let regs = task.regs()?;
                let seen = self.see(&task, call, regs.args()).with_regs(regs);
                if !self.is_listed(&seen)? {
                    return self.answer_expected(task, regs, seen, false);
                }
            }
            self.rest(task, Place::Entry, None);
            return self.turn();
        }
        self.meet_again(task)
    }

    /// It is the turn of a task that stands at a call's entry.
    pub(super) fn meet_again(&mut self, task: Stopped) -> Result<Next> {
        let regs = task.regs()?;
        let Some(call) = known_call(&task)? else {
            return self.answer_now(task, regs, -i64::from(libc::ENOSYS));
        };
        let seen = self.see(&task, call, regs.args()).with_regs(regs);
        self.meet(task, seen)
    }

    /// A call in which the process of the trace ended: it sent itself a SIGKILL, or somebody else did.
    pub(super) fn never_returns(&mut self, task: Stopped, seen: &HookCall) -> Result<Next> {
        self.log.call(seen, None);
        self.advance();
        if !self.resting.is_empty() || self.script.tells_ends() {
            // The others go on until they are told to end, and so is this one.
            self.me.over = true;
            self.rest(task, Place::Entry, None);
            return self.turn();
        }
        let killed = Exit::Signal {
            signal: libc::SIGKILL,
            core: false,
        };
        let recorded = || {
            let mut processes = self.recording.processes().ok()?.into_iter();
            processes.find(|life| life.pid == self.pid)?.exit
        };
        let told = self.script.end_of(self.me.tid);
        let exit = told.or_else(recorded).unwrap_or(killed);
        Ok(match exit {
            Exit::Code(_) => Next::End(Status::Exited, Some(exit), None),
            Exit::Signal { .. } => Next::End(Status::Signaled, Some(exit), None),
        })
    }
}

/// The call at whose entry a task stands. Calls of other ABIs have other numbers; none of them can be recorded either.
fn known_call(task: &Stopped) -> Result<Option<&'static Syscall>> {
    if task.is_foreign_call()? {
        return Ok(None);
    }
    let regs = task.regs()?;
    let call = syscall::of_number(regs.nr() as u32);
    Ok(call.map(|call| call.resolve(&regs.args())))
}
