//! The end of a recording: with the program, or on request.
//!
//! As for a shell, the recording ends with the program that was started. Processes that are left when it has ended
//! continue while they are busy, but not for long: a reader of a pipe reaches the end of its data. Then they are asked
//! to end, and finally killed: they could not continue without a tracer.

use super::Recorder;
use super::messages::{Order, Report};
use super::task::{Task, TaskState};
use crate::recording::CallEvent;
use crate::tracee::{Stop, proc, process_group, ticker, tsc_off};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The number of ticks without an event after which leftovers count as idle.
const IDLE: u64 = 50;

/// The number of ticks that leftovers have altogether before they are asked to end, and again before they are killed.
const MOST: u64 = 400;

/// Within this time, a signal from the same sender to the program and to the front counts as one.
const TOGETHER: Duration = Duration::from_secs(1);

/// The state of ending leftovers.
pub struct Leftovers {
    /// The next signal to send.
    signal: i32,
    /// The tick at which the current step began.
    begun: u64,
    /// The tick and the number of the last event.
    event: (u64, u64),
}

impl Recorder {
    /// Returns whether the program has ended and only leftovers run.
    pub(super) fn only_leftovers(&self, current: Option<&Task>) -> bool {
        let is_program = |task: &Task| task.pid == self.first;
        self.exit.is_some()
            && !self.wait_all
            && !current.is_some_and(is_program)
            && !self.tasks.values().any(is_program)
    }

    /// Follows the front's orders, and ends leftovers. Cheap: it is called all the time.
    pub(super) fn follow_orders(&mut self, current: Option<&Task>) {
        if let Some(front) = self.front.as_ref().filter(|front| front.has_news()) {
            let orders: Vec<Order> = std::iter::from_fn(|| front.take()).collect();
            for order in orders {
                self.follow_order(order, current);
            }
        }
        if self.exit.is_some() && self.only_leftovers(current) {
            self.end_leftovers(current);
        }
    }

    fn follow_order(&mut self, order: Order, current: Option<&Task>) {
        let outside = match order {
            Order::End => {
                self.signal_all(libc::SIGKILL, current);
                true
            }
            Order::Signal(came) => {
                let outside = !self.everyone.contains(&came.pid);
                // Signals of a terminal go to the group; but SIGHUP at its end goes only to the session leader.
                let alone = !came.of_kernel() || came.signal == libc::SIGHUP;
                if outside && alone && !self.has_it(came.signal, came.pid, current) {
                    process_group::send(self.first, came.signal);
                }
                outside
            }
        };
        if let Some(front) = &self.front {
            front.say(&Report::Taken(outside));
        }
    }

    /// Returns whether the same sender sent this signal to the program, too.
    fn has_it(&mut self, signal: i32, sender: i32, current: Option<&Task>) -> bool {
        let now = tsc_off::now();
        self.received.retain(|&(_, _, at)| now - at < TOGETHER);
        let twin = |&(s, pid, _): &(i32, i32, Instant)| (s, pid) == (signal, sender);
        match self.received.iter().position(twin) {
            Some(at) => {
                self.received.remove(at);
                true
            }
            None => {
                let meets = |task: &Task| {
                    let held = task.held.iter().any(|held| held.signal() == signal);
                    held || matches!(task.state, TaskState::Ready(_, Stop::Signal(s)) if s == signal)
                };
                let mut tasks = self.tasks.values().chain(current);
                self.exit.is_some()
                    || tasks.any(|task| task.pid == self.first && meets(task))
                    || proc::has_pending(self.first, signal).unwrap_or(false)
            }
        }
    }

    /// Notes a signal to a task of the program.
    pub(super) fn note_received(&mut self, current: &Task, signal: i32, sender: i32) {
        const MOST: usize = 16;
        if self.front.is_none() || current.pid != self.first {
            return;
        }
        if self.received.len() >= MOST {
            self.received.remove(0);
        }
        self.received.push((signal, sender, tsc_off::now()));
    }

    /// Handles a stop by job control. If it stops the program, the front is stopped, too.
    pub(super) fn note_stopped(&mut self, current: &Task, signal: i32) {
        if let Some(front) = self.front.as_ref().filter(|_| current.tid == self.first) {
            self.stopped = true;
            if proc::state(front.front) != Some(b'T') {
                front.signal_front(signal);
            }
        }
    }

    /// Handles the continuation of a task that job control may have stopped.
    pub(super) fn note_continued(&mut self, current: &Task) {
        if current.tid == self.first
            && std::mem::take(&mut self.stopped)
            && let Some(front) = &self.front
        {
            front.signal_front(libc::SIGCONT);
        }
    }

    /// Before a call that may kill the front: detaches the recorder from the front's end.
    pub(super) fn note_kill(&self, current: &Task, event: &CallEvent) {
        let Some((front, (pid, signal))) = self.front.as_ref().zip(sends(event)) else {
            return;
        };
        let group = || process_group::of(front.front);
        let is_meant = match pid {
            0 => process_group::of(current.pid) == group(),
            -1 => true,
            pid if pid < 0 => group() == Some(-pid),
            pid => pid == front.front,
        };
        if is_meant && signal == libc::SIGKILL {
            front.ends_with_front(false);
        }
    }

    /// Passes on a signal to the program's parent, which is the front rather than the front's parent.
    pub(super) fn note_sent(&self, current: &Task, event: &CallEvent) {
        let Some((front, (pid, signal))) = self.front.as_ref().zip(sends(event)) else {
            return;
        };
        if event.ret != Some(0) {
            // The signal has not killed the front, whose death would take a moment.
            if signal == libc::SIGKILL && front.is_there() {
                front.ends_with_front(true);
            }
            return;
        }
        let is_parent = current.pid == self.first && pid == front.front;
        let is_caught = signal > 0 && signal != libc::SIGKILL && signal != libc::SIGSTOP;
        if is_parent && is_caught {
            front.say(&Report::ForParent(signal));
        }
    }

    fn signal_all(&self, signal: i32, current: Option<&Task>) {
        let tasks = self.tasks.values().chain(current);
        let pids: BTreeSet<i32> = tasks.map(|task| task.pid).collect();
        pids.into_iter()
            .for_each(|pid| process_group::send(pid, signal));
    }

    fn end_leftovers(&mut self, current: Option<&Task>) {
        let (now, events) = (ticker::ticks(), self.writer.events());
        let left = self.leftovers.get_or_insert(Leftovers {
            signal: libc::SIGTERM,
            begun: now,
            event: (now, events),
        });
        if left.event.1 != events {
            left.event = (now, events);
        }
        if now - left.event.0 < IDLE && now - left.begun < MOST {
            return;
        }
        let signal = std::mem::replace(&mut left.signal, libc::SIGKILL);
        left.begun = now;
        left.event.0 = now;
        if signal == libc::SIGTERM {
            self.left = self.names(current);
        }
        self.signal_all(signal, current);
        if signal == libc::SIGTERM {
            // A stopped process does not end before it is continued.
            self.signal_all(libc::SIGCONT, current);
        }
    }

    /// The names and pids of all processes.
    fn names(&self, current: Option<&Task>) -> Vec<String> {
        let tasks = self.tasks.values().chain(current);
        let pids: BTreeSet<i32> = tasks.map(|task| task.pid).collect();
        let named = pids.into_iter().map(|pid| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} {pid}", comm.trim_end())
        });
        named.collect()
    }
}

/// The target and the signal of a call that sends one.
fn sends(event: &CallEvent) -> Option<(i32, i32)> {
    let [first, second, third, ..] = event.args.map(|arg| arg as i32);
    match i64::from(event.nr) {
        libc::SYS_kill | libc::SYS_tkill | libc::SYS_rt_sigqueueinfo => Some((first, second)),
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => Some((second, third)),
        _ => None,
    }
}
