//! The loop that drives a process: what it asks, what it gets, and how it ends.

use super::calls::Log;
use super::hook::{Finally, HookCall, HookExit, Hooks, Room};
use super::live::{self, Ended};
use super::outcome::{Divergence, Outcome, Status};
use super::script::{Due, Script, Step};
use super::{Error, Result};
use crate::backtrace::Frame;
use crate::recording::{DescriptorTable, Event, Recording, Since};
use crate::replay::{Kept, Place, Process, SharedMemory, Thread};
use crate::sandbox::Shared;
use crate::syscall;
use crate::trace::Exit;
use crate::tracee::quiet::Quiet;
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{Running, Stop, Stopped, Waited};
use std::collections::{BTreeMap, VecDeque};
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
    /// Which recorded task goes through the calls of which one of the trace, where that is not plain.
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
    script.start_at(options.start)?;
    if let Some(end) = options.end {
        if end < options.start {
            return Err(Error::Reversed {
                start: options.start,
                end,
            });
        }
        script.check_end(end)?;
    }
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

pub(super) struct Driver<'a> {
    pub(super) hooks: &'a mut dyn Hooks,
    pub(super) script: Option<Script>,
    pub(super) step: Option<Step>,
    pub(super) end: Option<usize>,
    pub(super) finally: Finally,
    pub(super) limit: Limit,
    pub(super) log: Log,
    pub(super) divergence: Option<Divergence>,
    pub(super) reason: Option<String>,
    pub(super) backtrace: Vec<Frame>,
    pub(super) hang: Option<String>,
    pub(super) descriptors: DescriptorTable,
    pub(super) since: Since,
    pub(super) segv: SegvState,
    pub(super) recording: Arc<Recording>,
    pub(super) event: (u64, Event),
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) ppid: i32,
    /// The process's other threads, which stay where they are.
    pub(super) threads: Vec<Thread>,
    pub(super) shared: SharedMemory,
    pub(super) kept: Kept,
    pub(super) sandboxes: Shared,
    /// Where it runs once it is live.
    pub(super) sandbox: Sandbox,
    /// Where hooks' strings are put.
    pub(super) room: Room,
    /// How far the clocks that the process sees are ahead of the trace's: what hooks delayed it by.
    pub(super) delayed: Duration,
    /// Calls that were cut short and not made again at once: the process may come back to them.
    pub(super) cut: Vec<Step>,
    /// The call that is expected after one of those.
    pub(super) parked: Option<Step>,
    /// Signals of the trace that are to come before the next call, one at a time.
    pub(super) due: VecDeque<Due>,
    /// The signal mask of a task that waits in a call with another, which its handler gives back.
    pub(super) waited_under: Option<u64>,
    /// The event that was answered last, where the script is a recording.
    pub(super) answered: Option<u64>,
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
        script: Script,
        hooks: &'a mut dyn Hooks,
        options: &Options,
    ) -> Result<Driver<'a>> {
        let limit = Limit::new(process.task.tid(), options.timeout)?;
        let Process {
            task,
            place,
            recording,
            event,
            pid,
            ppid,
            descriptors,
            since,
            segv,
            tid,
            threads,
            shared,
            kept,
            sandboxes,
        } = process;
        Ok(Driver {
            hooks,
            script: Some(script),
            step: None,
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
            segv,
            recording,
            event,
            pid,
            tid,
            ppid,
            threads,
            shared,
            kept,
            sandboxes,
            sandbox: options.sandbox,
            room: Room::default(),
            delayed: Duration::ZERO,
            cut: Vec::new(),
            parked: None,
            due: VecDeque::new(),
            waited_under: None,
            answered: None,
            place: Place::Between,
            begin: Some((task, place)),
        })
    }

    fn run(mut self) -> Result<Driven> {
        let _quiet = Quiet::new();
        let Some((mut task, place)) = self.begin.take() else {
            return self.finish(Status::Stopped, None, None);
        };
        self.skip_first_exec(place)?;
        let mut next = match place {
            Place::Entry => self.on_entry(task)?,
            Place::Between => {
                self.collect_signals()?;
                self.let_in(&mut task)?;
                self.send_due(&task);
                match self.is_past_end()? {
                    true => self.at_end(task),
                    false => Next::Resume(task),
                }
            }
        };
        loop {
            let (waited, pending) = match next {
                Next::Resume(task) => (self.wait(task.resume()?)?, None),
                Next::ToExit(task, call) => (self.wait(task.resume_to_exit()?)?, Some(call)),
                Next::Again(task, seen) => {
                    next = self.meet(task, *seen)?;
                    continue;
                }
                Next::Live(task, met) => return self.go_live(task, met),
                Next::End(status, exit, task) => return self.finish(status, exit, task),
            };
            let (task, stop) = match waited {
                Waited::Stopped(task, stop) => (task, stop),
                Waited::Ended(exit) => {
                    let status = match exit {
                        Exit::Code(_) => Status::Exited,
                        Exit::Signal { .. } => Status::Signaled,
                    };
                    return self.finish(status, Some(exit), None);
                }
            };
            next = self.on_stop(task, stop, pending)?;
        }
    }

    fn wait(&self, task: Running) -> Result<Waited> {
        Ok(match self.threads.is_empty() {
            true => task.wait()?,
            false => task.wait_beside(self.threads.iter().map(|thread| thread.task.tid()))?,
        })
    }

    pub(super) fn on_stop(
        &mut self,
        task: Stopped,
        stop: Stop,
        pending: Option<Box<HookCall>>,
    ) -> Result<Next> {
        match stop {
            Stop::Entry => self.on_entry(task),
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
            Stop::Clone(_) | Stop::Group(_) | Stop::Attached | Stop::Other(_) => {
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

    /// The process as it stands, and what is known of its injection.
    fn into_process(mut self, task: Option<Stopped>) -> (Option<Process>, Told<'a>) {
        if let Some(next) = self.answered.map(|event| event + 1)
            && let Ok(event) = self.recording.event(next)
        {
            self.event = (next, event);
        }
        let process = task.map(|task| Process {
            task,
            place: self.place,
            recording: self.recording,
            event: self.event,
            pid: self.pid,
            tid: self.tid,
            ppid: self.ppid,
            descriptors: self.descriptors,
            since: self.since,
            segv: self.segv,
            threads: self.threads,
            shared: self.shared,
            kept: self.kept,
            sandboxes: self.sandboxes,
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

    /// The call that is expected now.
    pub(super) fn peek(&mut self) -> Result<Option<&mut Step>> {
        if self.step.is_none() {
            self.step = self.parked.take();
        }
        if self.step.is_none()
            && let Some(script) = &mut self.script
        {
            self.step = script.next_step()?;
            if self.step.is_none()
                && let Some(end) = self.end
            {
                return Err(Error::Range {
                    index: end,
                    len: script.position(),
                });
            }
        }
        let end = self.end.unwrap_or(usize::MAX);
        Ok(self.step.as_mut().filter(|step| step.index <= end))
    }

    pub(super) fn advance(&mut self) {
        if let Some(step) = self.step.take() {
            self.answered = step.event().or(self.answered);
        }
    }

    /// Whether the last expected call has been answered.
    pub(super) fn is_past_end(&mut self) -> Result<bool> {
        // Without an end given, it takes the next call to know; the cheap check comes first.
        match (&self.step, self.end) {
            (None, Some(end)) => Ok(self.script.as_ref().is_some_and(|s| s.position() > end)),
            _ => Ok(self.peek()?.is_none()),
        }
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
    pub(super) fn on_entry(&mut self, task: Stopped) -> Result<Next> {
        if self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        let regs = task.regs()?;
        let args = regs.args();
        // Calls of other ABIs have other numbers; none of them can be recorded either.
        let known = match task.is_foreign_call()? {
            true => None,
            false => syscall::by_nr(regs.nr() as u64),
        };
        let Some(call) = known else {
            return self.answer_now(task, regs, -i64::from(libc::ENOSYS));
        };
        let call = call.resolve(&args);
        let seen = self.see(&task, call, args).with_regs(regs);
        self.meet(task, seen)
    }

    /// A call in which the process of the trace ended: it sent itself a SIGKILL, or somebody else did.
    pub(super) fn never_returns(&mut self, seen: &HookCall) -> Next {
        self.log.call(seen, None);
        let exit = self.recording.exit().unwrap_or(Exit::Signal {
            signal: libc::SIGKILL,
            core: false,
        });
        match exit {
            Exit::Code(_) => Next::End(Status::Exited, Some(exit), None),
            Exit::Signal { .. } => Next::End(Status::Signaled, Some(exit), None),
        }
    }
}
