//! The signals that processes sent each other, and their ends.
//!
//! A standard signal that is sent while the same one is pending is not received on its own: whoever takes one takes all that
//! the sender has sent and nobody has taken yet.

use super::reading::Reading;
use crate::constants::is_restart;
use crate::image::Chunk;
use crate::kernel::{
    ChannelId, ChannelUse, FIRST_REAL_TIME, ProcessTree, Target, Told, Use, output_descriptors,
    sends_signal,
};
use crate::recording::{CallEvent, ChunkMemory, Delivery, Event, EventKind, NewTask, SignalEvent};
use crate::trace::Exit;
use std::collections::HashMap;
use std::ops::Range;

/// The last call of a task, behind which nothing has happened to it.
#[derive(Clone, Copy)]
struct LastCall {
    event: u64,
    nr: i64,
    ret: Option<i64>,
}

/// What was sent so far.
#[derive(Default)]
pub(super) struct Signals {
    /// How many signals have been sent to a channel, and how many of them taken.
    flows: HashMap<ChannelId, (u64, u64)>,
    /// The sender of a signal, by the receiver, the number of the signal, and the sender's pid as the receiver knows it.
    senders: HashMap<(i32, i32, i32), i32>,
    /// The process that has sent a process this signal last.
    last: HashMap<(i32, i32), i32>,
    /// The processes behind pidfds, by open file.
    behind: HashMap<u64, i32>,
    /// The processes that have ended, by the depth of a pid namespace and their pid there.
    ended: HashMap<(usize, i32), i32>,
    /// How many processes with a pid have ended.
    ends: HashMap<i32, u64>,
    /// The last event of each process.
    last_events: HashMap<i32, u64>,
    calls: HashMap<i32, LastCall>,
    /// The task that has made a process, or that has taken its place.
    makers: HashMap<i32, i32>,
    /// The signal that a process gets at the end of the task that has made it.
    of_maker: HashMap<i32, i32>,
    /// The tasks that were killed by nobody who is known yet.
    killed: Vec<Killed>,
}

/// A task that was killed.
struct Killed {
    /// Its last event.
    event: u64,
    pid: i32,
    /// Its tids in its pid namespaces.
    numbers: Vec<i32>,
    /// Its process group.
    pgid: Option<i32>,
}

impl Signals {
    /// A process sends a signal to another one, by the pid that this one knows it by.
    fn send(&mut self, (from, named): (i32, i32), to: i32, signal: i32) -> ChannelUse {
        self.senders.insert((to, signal, named), from);
        self.last.insert((to, signal), from);
        let channel = ChannelId::Signal { from, to, signal };
        let (sent, _) = self.flows.entry(channel.clone()).or_default();
        let range = *sent..*sent + 1;
        *sent = range.end;
        used(channel, Use::Sends, range)
    }

    /// A task of a process takes what it is told of.
    pub fn take(
        &mut self,
        tree: &ProcessTree,
        (tid, pid): (i32, i32),
        told: Told,
    ) -> Option<ChannelUse> {
        match told {
            Told::Sent { signal, by } => {
                let from = match by {
                    Some(named) => *self.senders.get(&(pid, signal, named))?,
                    None => *self.last.get(&(pid, signal))?,
                };
                let channel = ChannelId::Signal {
                    from,
                    to: pid,
                    signal,
                };
                let (sent, taken) = self.flows.get_mut(&channel)?;
                // One may be pending for the process, and another one for its thread.
                let start = (*taken).min(sent.saturating_sub(1));
                let end = match signal {
                    FIRST_REAL_TIME.. => start + 1,
                    _ => *sent,
                };
                *taken = end;
                Some(used(channel, Use::Takes, start..end))
            }
            Told::Ended(number) => {
                let gone = self.ended.get(&(tree.depth(tid), number)).copied();
                let child = gone.or_else(|| tree.pid(tree.named(tid, number)?))?;
                let ends = self.ends.get(&child).copied().unwrap_or(0);
                let at = ends.saturating_sub(u64::from(gone.is_some()));
                Some(used(ChannelId::End(child), Use::Takes, at..at + 1))
            }
            Told::Stopped { pid: number, by } => {
                let gone = self.ended.get(&(tree.depth(tid), number)).copied();
                let to = gone.or_else(|| tree.pid(tree.named(tid, number)?))?;
                self.last_sent(to, by, Use::Looks)
            }
        }
    }

    /// What a process was sent last of this signal.
    fn last_sent(&self, to: i32, signal: i32, what: Use) -> Option<ChannelUse> {
        let from = *self.last.get(&(to, signal))?;
        let channel = ChannelId::Signal { from, to, signal };
        let &(sent, _) = self.flows.get(&channel)?;
        Some(used(channel, what, sent.checked_sub(1)?..sent))
    }

    /// The end of the process behind a pidfd, where the open file is one.
    pub fn end_behind(&self, id: u64) -> Option<ChannelUse> {
        let &pid = self.behind.get(&id)?;
        let ends = self.ends.get(&pid).copied().unwrap_or(0);
        let at = ends.saturating_sub(1);
        Some(used(ChannelId::End(pid), Use::Looks, at..at + 1))
    }
}

fn used(channel: ChannelId, what: Use, range: Range<u64>) -> ChannelUse {
    ChannelUse {
        channel,
        what,
        range,
        counts_messages: true,
    }
}

impl Reading {
    /// Notes the signals that an event has sent or received, and what it was told of the ends of processes.
    pub fn note_signals(&mut self, tree: &ProcessTree, pid: i32, event: &Event) {
        let tid = event.tid;
        self.signals.last_events.insert(pid, self.event);
        match &event.kind {
            EventKind::Signal(signal) => self.note_received(tree, (tid, pid), signal),
            EventKind::Call(call) => {
                let last = LastCall {
                    event: self.event,
                    nr: call.nr.into(),
                    ret: call.ret,
                };
                self.signals.calls.insert(tid, last);
                self.note_sent(tree, (tid, pid), call);
                let told = Told::by_call(call);
                let taken = told.and_then(|told| self.signals.take(tree, (tid, pid), told));
                if let Some(taken) = taken {
                    self.note(self.event, pid, taken);
                }
            }
        }
    }

    fn note_received(&mut self, tree: &ProcessTree, (tid, pid): (i32, i32), signal: &SignalEvent) {
        let interrupted = self.signals.calls.remove(&tid).filter(|last| {
            let is_eintr = |ret: i64| ret == -i64::from(libc::EINTR);
            last.ret.is_some_and(|ret| is_restart(ret) || is_eintr(ret))
        });
        let info = [Chunk {
            addr: 0,
            data: signal.info.clone(),
        }];
        let told = Told::by_info(signal.signal, &ChunkMemory(&info), 0);
        let told = told.filter(|_| !signal.fault);
        let Some(taken) = told.and_then(|told| self.signals.take(tree, (tid, pid), told)) else {
            return;
        };
        // Without a tracer, the kernel would not even have sent it.
        if signal.delivery == Delivery::Ignored {
            return;
        }
        if let Some(call) = interrupted {
            self.note(call.event, pid, taken.clone());
        }
        self.note(self.event, pid, taken);
    }

    fn note_sent(&mut self, tree: &ProcessTree, (tid, pid): (i32, i32), call: &CallEvent) {
        let nr = i64::from(call.nr);
        if nr == libc::SYS_prctl
            && call.args[0] as i32 == libc::PR_SET_PDEATHSIG
            && call.ret == Some(0)
        {
            match call.args[1] as i32 {
                0 => self.signals.of_maker.remove(&pid),
                signal => self.signals.of_maker.insert(pid, signal),
            };
        }
        if !sends_signal(nr) {
            return;
        }
        let of_descriptor = |fd: i32| {
            let known = tree.file_id(tid, fd);
            let known = known.and_then(|id| self.signals.behind.get(&id)).copied();
            let of_directory = || {
                let path = &tree.open_file(tid, fd)?.path;
                let number = std::str::from_utf8(path.strip_prefix(b"/proc/")?).ok()?;
                tree.pid(tree.named(tid, number.parse().ok()?)?)
            };
            known.or_else(of_directory)
        };
        let Some((signal, target)) = tree.sent_signal(tid, call, of_descriptor) else {
            return;
        };
        for to in tree.receivers(tid, target) {
            let named = tree.number_for(to, pid);
            let sent = self.signals.send((pid, named), to, signal);
            self.note(self.event, pid, sent);
        }
        if signal != libc::SIGKILL {
            return;
        }
        // Who is killed may have ended before the call returns.
        let depth = tree.depth(tid);
        let is_meant = |killed: &mut Killed| match target {
            Target::Named(number) => killed.numbers.get(depth - 1) == Some(&number),
            Target::Process(pid) => killed.pid == pid,
            Target::Group(group) => killed.pgid == Some(group),
            Target::All => true,
        };
        let all: Vec<Killed> = self.signals.killed.extract_if(.., is_meant).collect();
        for killed in all {
            let sent = self.signals.send((pid, 0), killed.pid, signal);
            self.note(self.event, pid, sent);
            self.note_killed(killed);
        }
    }

    /// Notes the process behind a pidfd that a call has made.
    pub fn note_opened(&mut self, tree: &ProcessTree, tid: i32, call: &CallEvent) {
        let Some(ret @ 0..) = call.ret else { return };
        let (fd, number) = match i64::from(call.nr) {
            libc::SYS_pidfd_open => (Some(ret as i32), call.args[0] as i32),
            libc::SYS_clone | libc::SYS_clone3 => {
                (output_descriptors(call).first().copied(), ret as i32)
            }
            _ => return,
        };
        let Some(id) = fd.and_then(|fd| tree.file_id(tid, fd)) else {
            return;
        };
        let alive = tree.named(tid, number).and_then(|tid| tree.pid(tid));
        let gone = || self.signals.ended.get(&(tree.depth(tid), number)).copied();
        if let Some(pid) = alive.or_else(gone) {
            self.signals.behind.insert(id, pid);
        }
    }

    /// Notes a new process.
    pub fn note_born(&mut self, tree: &ProcessTree, born: &NewTask) {
        if born.pid != born.tid {
            return;
        }
        for (at, number) in tree.numbers(born.pid).into_iter().enumerate() {
            self.signals.ended.remove(&(at + 1, number));
        }
        let of_parent = born.flags & libc::CLONE_PARENT as u64 != 0;
        let makers = &mut self.signals.makers;
        let parent = tree
            .pid(born.maker)
            .and_then(|pid| makers.get(&pid))
            .copied();
        let maker = parent.filter(|_| of_parent).unwrap_or(born.maker);
        makers.insert(born.pid, maker);
        self.signals.of_maker.remove(&born.pid);
        self.signals.last.remove(&(born.pid, libc::SIGKILL));
        self.signals.killed.retain(|killed| killed.pid != born.pid);
    }

    /// Notes that a task ends that made this event last: perhaps it is killed.
    pub fn note_ending(
        &mut self,
        tree: &ProcessTree,
        event: u64,
        (tid, pid): (i32, i32),
        exit: Exit,
    ) {
        let call = self.signals.calls.remove(&tid);
        let is_killed = matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL);
        let ends_itself =
            call.is_some_and(|call| matches!(call.nr, libc::SYS_exit | libc::SYS_exit_group));
        if !is_killed || ends_itself {
            return;
        }
        self.note_killed(Killed {
            event,
            pid,
            numbers: tree.numbers(tid),
            pgid: tree.job_control(pid).and_then(|job| job.pgid),
        });
    }

    fn note_killed(&mut self, killed: Killed) {
        let by = self
            .signals
            .last_sent(killed.pid, libc::SIGKILL, Use::IsKilled);
        match by {
            Some(by) => self.note(killed.event, killed.pid, by),
            None => self.signals.killed.push(killed),
        }
    }

    /// Notes the end of a task that made this event last, and that of its process, whose pids these were.
    pub fn note_end(
        &mut self,
        tree: &ProcessTree,
        event: u64,
        (tid, pid): (i32, i32),
        numbers: &[i32],
        exit: Exit,
    ) {
        let heir = tree.tasks(pid).next();
        let children = self
            .signals
            .makers
            .iter()
            .filter(|(_, maker)| **maker == tid);
        let children: Vec<i32> = children.map(|(&child, _)| child).collect();
        for child in children {
            match heir {
                Some(heir) => self.signals.makers.insert(child, heir),
                None => self.signals.makers.remove(&child),
            };
            let signal = self.signals.of_maker.get(&child).copied();
            if let Some(signal) = signal.filter(|_| tree.is_alive(child)) {
                let depth = tree.depth(child);
                let named = numbers.get(depth - 1).copied().unwrap_or(0);
                let sent = self.signals.send((pid, named), child, signal);
                self.note(event, pid, sent);
            }
        }
        if tree.is_alive(pid) {
            return;
        }
        self.signals.makers.remove(&pid);
        self.signals.of_maker.remove(&pid);
        for (at, &number) in numbers.iter().enumerate() {
            self.signals.ended.insert((at + 1, number), pid);
        }
        let ends = self.signals.ends.entry(pid).or_default();
        let at = *ends;
        *ends += 1;
        let event = self.signals.last_events.remove(&pid).unwrap_or(event);
        self.channels.ends.insert(pid, (event, exit));
        self.note(
            event,
            pid,
            used(ChannelId::End(pid), Use::Sends, at..at + 1),
        );
    }
}
