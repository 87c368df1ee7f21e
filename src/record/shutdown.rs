//! How a recording ends: with the program, or because somebody wants it to.
//!
//! As for a shell, the program is what was started, and not what it leaves behind. Processes that are left when it has
//! ended go on for as long as they are at work, but not for long: what reads the last of a pipe comes to its end.
//! Then they are asked to end, and at last are killed: without a tracer they could not go on.

use super::Recorder;
use super::messages::{Order, Report};
use super::task::{Task, TaskState};
use crate::recording::CallEvent;
use crate::tracee::{Stop, proc, process_group, ticker, tsc_off};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How many ticks without any event make a process one that waits for something to come.
const IDLE: u64 = 50;

/// How many ticks those that are left have altogether, before they are asked to end, and again before they are killed.
const MOST: u64 = 400;

/// Within this time, a signal from the same sender to the program and to the front is one.
const TOGETHER: Duration = Duration::from_secs(1);

/// The end of what the program left behind.
pub struct Leftovers {
    /// The signal that they get next.
    signal: i32,
    /// The tick at which this began.
    begun: u64,
    /// The tick of the last event, and its number.
    event: (u64, u64),
}

impl Recorder {
    /// Whether the program has ended, and others have not that nobody waits for.
    pub(super) fn only_leftovers(&self, current: Option<&Task>) -> bool {
        let is_program = |task: &Task| task.pid == self.first;
        self.exit.is_some()
            && !self.wait_all
            && !current.is_some_and(is_program)
            && !self.tasks.values().any(is_program)
    }

    /// Looks whether something is to be ended, or to be passed on. Cheap: it is called all the time.
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
                // The terminal's are for the group; but as it goes away, only the session's leader is told.
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

    /// Whether the program has been sent this signal, too, by the same sender.
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

    /// Notes a signal that came to a task of the program.
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

    /// Job control has stopped a task by this signal. If it is the program, so is who stands for it.
    pub(super) fn note_stopped(&mut self, current: &Task, signal: i32) {
        if let Some(front) = self.front.as_ref().filter(|_| current.tid == self.first) {
            self.stopped = true;
            if proc::state(front.front) != Some(b'T') {
                front.signal_front(signal);
            }
        }
    }

    /// A task goes on that may have been stopped by job control.
    pub(super) fn note_continued(&mut self, current: &Task) {
        if current.tid == self.first
            && std::mem::take(&mut self.stopped)
            && let Some(front) = &self.front
        {
            front.signal_front(libc::SIGCONT);
        }
    }

    /// Before a call that may kill the front: the recording is to go on then.
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

    /// Passes on what was sent to the program's parent, which is not who it would be without rrapper.
    pub(super) fn note_sent(&self, current: &Task, event: &CallEvent) {
        let Some((front, (pid, signal))) = self.front.as_ref().zip(sends(event)) else {
            return;
        };
        if event.ret != Some(0) {
            // The front has not been killed by that, which takes a moment otherwise.
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
            // One that is stopped does not end before it is continued.
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

/// To whom a call sends which signal, if it is one that does.
fn sends(event: &CallEvent) -> Option<(i32, i32)> {
    let [first, second, third, ..] = event.args.map(|arg| arg as i32);
    match i64::from(event.nr) {
        libc::SYS_kill | libc::SYS_tkill | libc::SYS_rt_sigqueueinfo => Some((first, second)),
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => Some((second, third)),
        _ => None,
    }
}
