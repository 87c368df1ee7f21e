//! Recording by a separate process.
//!
//! The process that starts the program (the front) stays a member of the job's process group for the user's shell, and
//! only waits. The recorder is another process in a process group of its own, so that signals of the program or of the
//! terminal to their group do not end the recording. The program is the front's child, in the front's group: it has the
//! parent that it would have without rrapper, and its signals to that parent do no harm. If the front is killed,
//! recorder and program are killed, too; but if the program killed it, the recording continues to its end.
//!
//! A signal to the front from outside is passed on to the program, unless the program has received it already as a
//! member of the group. A second signal that asks for the program's end ends the recording; so does SIGTERM where the
//! program has not ended after [`GRACE`]. Signals of a terminal go to the program alone.

use super::messages::{ASKING, FrontLink, Order, Report, Wire, receive, send};
use super::{Error, Options, Recorded, Result, record_as};
use crate::trace::Exit;
use crate::tracee::caught_signals::{CaughtSignal, Faults, SignalCatcher};
use crate::tracee::{self, Kin, process_group};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time that a program has to end after a SIGTERM.
pub const GRACE: Duration = Duration::from_secs(5);

/// The time that the recorder has to end all processes on request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Within this time, the same signal from the same sender to the front and to its group counts as one.
const ONCE: Duration = Duration::from_millis(500);

/// The time within which a signal to the group reaches the program.
const SETTLING: Duration = Duration::from_millis(20);

/// The interval for waking the recorder until it has taken an order: a signal that comes just before a wait is lost.
const WAKE: Duration = Duration::from_millis(20);

/// The time within which a signal that killed the program reaches the front, too.
const LATE: Duration = Duration::from_millis(200);

/// The role of the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The front stands for the program and ends as the program does: the program's signals to its parent are passed to
    /// the front's parent.
    StandsForProgram,
    /// The front continues after the program: it is the program's parent.
    IsParent,
}

/// The end of a recording by a separate process.
#[derive(Debug)]
pub struct Ended {
    /// The recording, or the error.
    pub result: Result<Recorded>,
    /// The last signal that asked this process to end.
    pub signal: Option<i32>,
    /// The signal because of which rrapper ended the program.
    pub forced: Option<i32>,
}

/// Records a program from its start to its end in a separate process.
pub fn record_in_separate_process(options: Options, front: Front) -> Ended {
    let mut watch = None;
    let result = start(options, front).and_then(|mut begun| {
        let result = begun.attend();
        if front == Front::IsParent {
            begun.wait_for_the_late(result.as_ref().ok().map(|recorded| recorded.exit));
        }
        watch = Some((begun.signal, begun.forced));
        result
    });
    let (signal, forced) = watch.unwrap_or_default();
    Ended {
        result,
        signal,
        forced,
    }
}

fn start(options: Options, front: Front) -> Result<Supervisor> {
    let pipe = || io::pipe().map_err(|e| tracee::Error::os("make a pipe", 0, e));
    let (notes, say) = pipe()?;
    let (take, orders) = pipe()?;
    let Options {
        command,
        dir,
        on_full,
        on_start,
        observer,
        wait_all,
        alone,
        kept,
        discard,
        kept_limits,
    } = options;
    let there = dir.clone();
    let caught = SignalCatcher::new(Faults::Caught)?;
    let mut given = Some((say, take));
    let recorder = process_group::fork(|| {
        let Some((say, take)) = given.take() else {
            return 1;
        };
        caught.leave_faults();
        let options = Options {
            command,
            dir,
            on_full,
            on_start: None,
            observer,
            wait_all,
            alone,
            kept,
            discard,
            kept_limits,
        };
        work(options, take, say)
    })?;
    drop(given);
    Ok(Supervisor {
        front,
        recorder,
        notes,
        orders,
        caught,
        dir: there,
        on_start,
        program: None,
        came: VecDeque::new(),
        last: Vec::new(),
        sent: VecDeque::new(),
        signal: None,
        asked: false,
        forced: None,
        deadline: None,
    })
}

/// The main function of the recorder process.
fn work(options: Options, take: PipeReader, say: PipeWriter) -> i32 {
    // If the front is not alive, this process has ended with it.
    let front = process_group::parent();
    let last = say.try_clone();
    let result = FrontLink::new(front, take, say)
        .map_err(Error::from)
        .and_then(|link| record_as(options, Kin::Sibling, Some(link)));
    let result = result.map(Wire::from).map_err(|error| in_words(&error));
    if process_group::parent() == front {
        process_group::send(front, libc::SIGCONT);
    }
    match last.and_then(|last| send(&last, &Report::Done(result))) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// An error with its causes, each once: many messages contain their cause.
fn in_words(error: &Error) -> String {
    let mut said = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}

/// The front's side: waits for the recorder, and passes signals to it.
struct Supervisor {
    front: Front,
    recorder: i32,
    notes: PipeReader,
    orders: PipeWriter,
    caught: SignalCatcher,
    dir: PathBuf,
    on_start: Option<Box<dyn FnOnce(i32)>>,
    program: Option<i32>,
    /// Signals to pass on, with their times.
    came: VecDeque<(CaughtSignal, Instant)>,
    /// The latest signals, with their times.
    last: Vec<(CaughtSignal, Instant)>,
    /// The number of orders that the recorder has not taken.
    sent: VecDeque<Order>,
    signal: Option<i32>,
    /// The time at which the end was requested.
    asked: bool,
    forced: Option<i32>,
    deadline: Option<(Instant, i32)>,
}

impl Supervisor {
    fn attend(&mut self) -> Result<Recorded> {
        let result = loop {
            match self.wait() {
                Ok(true) => match receive(&self.notes) {
                    Ok(Report::Done(result)) => break Some(result),
                    Ok(note) => self.hear(note),
                    // The recorder has ended without a report.
                    Err(_) => break None,
                },
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!("cannot wait for the recorder: {error}");
                    break None;
                }
            }
            self.check_signals();
        };
        if result.is_none() {
            process_group::send(self.recorder, libc::SIGKILL);
        }
        let status = process_group::wait_for(self.recorder);
        if let Some(program) = self.program {
            process_group::wait_for(program);
        }
        match result {
            Some(Ok(wire)) => Ok(wire.into()),
            Some(Err(said)) => Err(Error::Beside(said)),
            None => Err(Error::RecorderEnded {
                how: how(status),
                dir: self.dir.clone(),
            }),
        }
    }

    /// Waits for a report, a signal, or the next deadline. Returns whether there is a report.
    fn wait(&self) -> io::Result<bool> {
        let now = Instant::now();
        let settled = self.came.front().map(|&(_, at)| at + SETTLING);
        let wake = (!self.sent.is_empty()).then(|| now + WAKE);
        let deadline = self.deadline.map(|(at, _)| at);
        let next = [settled, wake, deadline].into_iter().flatten().min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(now).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.notes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.caught.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&mut self, note: Report) {
        match note {
            Report::Started(pid) => {
                self.program = Some(pid);
                if let Some(on_start) = self.on_start.take() {
                    on_start(pid);
                }
            }
            Report::Got(came) => self.keep(came),
            Report::Taken(outside) => {
                if let Some(Order::Signal(came)) = self.sent.pop_front()
                    && outside
                {
                    self.count(came);
                }
            }
            Report::ForParent(signal) if self.front == Front::StandsForProgram => {
                let parent = process_group::parent();
                // Only the process that started the front is meant, not init, which adopts orphans.
                if parent > 1 {
                    process_group::send(parent, signal);
                }
            }
            Report::ForParent(_) | Report::Done(_) => {}
        }
    }

    /// Keeps a signal until it has reached the whole group, if it was sent to the group.
    fn keep(&mut self, came: CaughtSignal) {
        let now = Instant::now();
        self.last.retain(|&(_, at)| now - at < ONCE);
        let twin = |&(other, _): &(CaughtSignal, Instant)| other == came;
        if came.pid != 0 && self.last.iter().any(twin) {
            return;
        }
        self.last.push((came, now));
        self.came.push_back((came, now));
    }

    /// Passes on the signals whose time has come, and ends the recorder after its deadline.
    fn check_signals(&mut self) {
        while let Some(came) = self.caught.take() {
            self.keep(came);
        }
        let now = Instant::now();
        while let Some(&(came, at)) = self.came.front()
            && now - at >= SETTLING
        {
            self.came.pop_front();
            self.order(Order::Signal(came));
        }
        if let Some((at, signal)) = self.deadline
            && now >= at
        {
            if self.forced.is_none() {
                self.force(signal);
            } else {
                // The recorder does not react; its tracees end with it.
                process_group::send(self.recorder, libc::SIGKILL);
                self.deadline = None;
            }
        }
        if !self.sent.is_empty() {
            process_group::send(self.recorder, libc::SIGURG);
        }
    }

    fn order(&mut self, order: Order) {
        if let Err(error) = send(&self.orders, &order) {
            tracing::debug!("cannot give the order {order:?}: {error}");
            return;
        }
        self.sent.push_back(order);
    }

    /// Handles a signal from outside of the recorded processes.
    fn count(&mut self, came: CaughtSignal) {
        if !ASKING.contains(&came.signal) {
            return;
        }
        self.signal = Some(came.signal);
        if came.of_kernel() {
            return;
        }
        if self.asked {
            self.force(came.signal);
        } else if came.signal == libc::SIGTERM {
            self.deadline = Some((Instant::now() + GRACE, came.signal));
        }
        self.asked = true;
    }

    fn force(&mut self, signal: i32) {
        if self.forced.is_none() {
            self.forced = Some(signal);
            self.deadline = Some((Instant::now() + PATIENCE, signal));
            self.order(Order::End);
        }
    }

    /// Waits for the signal that killed the program: it may be on its way to this process, too.
    fn wait_for_the_late(&mut self, exit: Option<Exit>) {
        let of = |signal: i32| ASKING.contains(&signal).then_some(signal);
        let died_of = match exit {
            Some(Exit::Signal { signal, .. }) => of(signal),
            Some(Exit::Code(code)) => of(code - 128),
            None => None,
        };
        let begun = Instant::now();
        while let Some(signal) = died_of
            && self.signal.is_none()
            && begun.elapsed() < LATE
        {
            let kept = self.came.pop_front().map(|(came, _)| came);
            match self.caught.take().or(kept) {
                Some(came) if came.signal == signal && Some(came.pid) != self.program => {
                    self.signal = Some(signal);
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

fn how(status: Option<i32>) -> String {
    match status {
        Some(status) if libc::WIFSIGNALED(status) => {
            let name = crate::constants::signal_name(libc::WTERMSIG(status));
            format!("was killed by {name}")
        }
        Some(status) => format!("ended with status {}", libc::WEXITSTATUS(status)),
        None => String::from("ended"),
    }
}
