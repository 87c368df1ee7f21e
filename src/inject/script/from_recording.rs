//! A recording as a script: the actions of the tasks of one process, and of those that are followed with it, in recorded
//! order.

use super::item::{Birth, DueSignal, ExpectedCall, Item, ItemKind, SideEffects, code_base};
use crate::history::Followed;
use crate::inject::Result;
use crate::kernel::sends_signal;
use crate::recording::{
    CallEvent, Delivery, Effect, Event, EventKind, Frame, Frames, NewTask, SignalEvent,
};
use crate::syscall::Syscall;
use crate::trace::{Answer, Exit};
use crate::tracee::{SigInfo, replaced_instructions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The maximum number of frames between the creation of a task and the return of the creating call.
const MOST_AHEAD: usize = 4096;

/// The actions of the tasks of a process and of its relatives.
pub struct RecordingScript {
    frames: Frames,
    /// The process that is driven.
    pid: i32,
    /// The tasks, and the process of each.
    tasks: BTreeMap<i32, i32>,
    /// The other processes.
    followed: Arc<Followed>,
    /// The number of the next event.
    number: u64,
    /// The number of calls so far, of each process.
    counts: BTreeMap<i32, usize>,
    /// Whether an event has been read: frames before the first one have had their effect already.
    begun: bool,
    tsc: BTreeMap<i32, VecDeque<u64>>,
    ahead: VecDeque<Frame>,
    /// The maker of each process that was made since.
    makers: BTreeMap<i32, i32>,
    /// Processes that are followed beyond the programs that they execute.
    kept: BTreeSet<i32>,
    /// The events of calls that were returned early, at the creation of their task.
    early: BTreeSet<u64>,
    /// The task whose last event was a fault.
    faulted: Option<i32>,
    /// The task whose last event was a signal without effect.
    ignored: Option<i32>,
    /// Items that come next.
    held: VecDeque<Item>,
}

impl RecordingScript {
    /// `frames` begin behind the event before this one.
    pub fn new(
        frames: Frames,
        number: u64,
        pid: i32,
        tasks: BTreeMap<i32, i32>,
        followed: Arc<Followed>,
    ) -> RecordingScript {
        RecordingScript {
            frames,
            pid,
            tasks,
            followed,
            number,
            counts: BTreeMap::new(),
            begun: false,
            tsc: BTreeMap::new(),
            ahead: VecDeque::new(),
            makers: BTreeMap::new(),
            kept: BTreeSet::new(),
            early: BTreeSet::new(),
            faulted: None,
            ignored: None,
            held: VecDeque::new(),
        }
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        match self.ahead.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => Ok(self.frames.next_frame()?),
        }
    }

    /// The next item. Who is killed may have ended before the call returns that does it, but not before that call is made: it
    /// comes first here.
    pub fn next(&mut self) -> Result<Option<Item>> {
        while self.held.iter().all(is_of_killed) && self.held.len() < MOST_AHEAD {
            let Some(item) = self.read()? else { break };
            if kills(&item) || self.held.is_empty() && !is_of_killed(&item) {
                return Ok(Some(item));
            }
            self.held.push_back(item);
        }
        Ok(self.held.pop_front())
    }

    fn read(&mut self) -> Result<Option<Item>> {
        while !self.tasks.is_empty() {
            let Some(frame) = self.frame()? else {
                break;
            };
            match frame {
                Frame::Event(event) => {
                    self.begun = true;
                    let number = self.number;
                    self.number += 1;
                    if let Some(mut item) = self.event(number, event) {
                        if let ItemKind::Call(step) = &mut item.kind {
                            let call = step.exact.as_ref();
                            let base = call.and_then(|c| code_base(c.nr, &c.args, c.ret?));
                            step.side_effects = self.side_effects(base)?;
                        }
                        return Ok(Some(item));
                    }
                }
                Frame::End { .. } => break,
                _ if !self.begun => {}
                Frame::Tsc { tid, values } if self.tasks.contains_key(&tid) => {
                    self.tsc.entry(tid).or_default().extend(values);
                }
                Frame::NewTask(born) if self.is_followed(&born) => {
                    if let Some(item) = self.born(&born)? {
                        return Ok(Some(item));
                    }
                }
                Frame::Run { tid } if self.tasks.contains_key(&tid) => {
                    let kind = ItemKind::Run;
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Jump(jump) if self.tasks.contains_key(&jump.tid) => {
                    let tid = jump.tid;
                    let tsc = self.tsc.remove(&tid).unwrap_or_default();
                    let kind = ItemKind::Spin(Box::new(jump), tsc);
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Reach(reach) if self.tasks.contains_key(&reach.tid) => {
                    let tid = reach.tid;
                    let tsc = self.tsc.remove(&tid).unwrap_or_default();
                    let kind = ItemKind::Reach(Box::new(reach), tsc);
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Fill {
                    object,
                    offset,
                    data,
                } if !self.followed.is_none() => {
                    let kind = ItemKind::Fill {
                        object,
                        offset,
                        data,
                        by: self.number - 1,
                    };
                    return Ok(Some(Item { tid: 0, kind }));
                }
                Frame::Gone { tid, exit, left } if self.tasks.remove(&tid).is_some() => {
                    let by_fault = self.faulted == Some(tid);
                    let kind = ItemKind::Gone {
                        exit,
                        left,
                        by_fault,
                    };
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Poke { tid, chunks } if self.tasks.contains_key(&tid) => {
                    let by = self.number - 1;
                    let kind = ItemKind::Poke { chunks, by };
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Remap { tid, pieces } if self.tasks.contains_key(&tid) => {
                    let kind = ItemKind::Remap(pieces);
                    return Ok(Some(Item { tid, kind }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The effects of the last event on the process's memory besides its outputs, which precede the task's next step.
    fn side_effects(&mut self, code_base: Option<u64>) -> Result<SideEffects> {
        let mut side_effects = SideEffects {
            code_base: code_base.unwrap_or(0),
            ..SideEffects::default()
        };
        let mut at = 0;
        loop {
            if at == self.ahead.len() {
                let Some(frame) = self.frames.next_frame()? else {
                    return Ok(side_effects);
                };
                self.ahead.push_back(frame);
            }
            match &mut self.ahead[at] {
                Frame::Remap { tid, pieces } if self.tasks.contains_key(tid) => {
                    side_effects.pieces.append(pieces);
                }
                Frame::Poke { tid, chunks }
                    if self.tasks.contains_key(tid) && !side_effects.pieces.is_empty() =>
                {
                    side_effects.chunks.append(chunks);
                }
                Frame::Poke { tid, chunks }
                    if self.tasks.contains_key(tid)
                        && code_base.is_some()
                        && chunks
                            .iter()
                            .all(|chunk| replaced_instructions::is_replaced(&chunk.data)) =>
                {
                    side_effects.code.append(chunks);
                }
                Frame::TrapCpuid { tid } if self.tasks.contains_key(tid) => {
                    side_effects.traps_cpuid = true;
                }
                Frame::TrapCpuid { .. }
                | Frame::Tsc { .. }
                | Frame::Poke { .. }
                | Frame::Resize { .. }
                | Frame::Remap { .. }
                | Frame::Fill { .. } => {
                    at += 1;
                    continue;
                }
                _ => return Ok(side_effects),
            }
            self.ahead.remove(at);
        }
    }

    fn event(&mut self, number: u64, event: Event) -> Option<Item> {
        let tid = event.tid;
        if !self.tasks.contains_key(&tid) {
            return None;
        }
        self.faulted = None;
        let after_ignored = self.ignored.take() == Some(tid);
        if let EventKind::Signal(signal) = &event.kind
            && matches!(signal.delivery, Delivery::Ignored)
        {
            self.ignored = Some(tid);
        }
        let kind = match event.kind {
            // The instruction raises the signal again.
            EventKind::Signal(signal) if signal.fault => {
                self.faulted = Some(tid);
                return None;
            }
            // The kernel sends it again, where a handler has no room on its stack.
            EventKind::Signal(signal) if after_ignored && is_instead(&signal) => return None,
            EventKind::Signal(signal) => ItemKind::Signal(DueSignal {
                signal: signal.signal,
                info: signal.info.as_slice().try_into().ok().map(SigInfo),
                recorded: Some(Box::new(signal)),
                sent: false,
                event: Some(number),
            }),
            EventKind::Call(_) if self.early.remove(&number) => ItemKind::Run,
            EventKind::Call(call) => ItemKind::Call(Box::new(self.step(number, tid, call))),
        };
        Some(Item { tid, kind })
    }

    fn step(&mut self, number: u64, tid: i32, call: CallEvent) -> ExpectedCall {
        let pid = self.tasks.get(&tid).copied().unwrap_or(self.pid);
        if matches!(call.effect, Effect::Exec(_)) {
            self.tasks.retain(|_, of| *of != pid);
            let is_kept = self.kept.contains(&pid) || self.followed.has(pid, number + 1);
            if pid == self.pid || is_kept {
                self.tasks.insert(pid, pid);
            }
        }
        let index = self.counts.entry(pid).or_default();
        let mut step = ExpectedCall::of_event(*index, number, call);
        *index += 1;
        step.is_relatives = pid != self.pid;
        step.tsc = self.tsc.remove(&tid).unwrap_or_default();
        step
    }

    /// Whether a new task is a thread of these processes, or a process that may be followed from its birth on.
    fn is_followed(&self, born: &NewTask) -> bool {
        let Some(&maker) = self.tasks.get(&born.maker) else {
            return false;
        };
        match born.pid == born.tid {
            true => born.pid != maker && !self.followed.is_alone(),
            false => born.pid == maker,
        }
    }

    /// Keeps a process beyond the programs that it executes.
    pub fn keep(&mut self, pid: i32) {
        self.kept.insert(pid);
    }

    /// Whether there may be more of a process.
    pub fn has(&self, pid: i32) -> bool {
        self.tasks.values().any(|&of| of == pid)
    }

    /// Leaves a process out that a call has made, and those that it makes. Returns the tasks of which items have been read.
    pub fn refuse(&mut self, pid: i32) -> BTreeSet<i32> {
        let mut pids = BTreeSet::from([pid]);
        while let Some((&made, _)) = self
            .makers
            .iter()
            .find(|(made, maker)| pids.contains(maker) && !pids.contains(made))
        {
            pids.insert(made);
        }
        self.makers.retain(|made, _| !pids.contains(made));
        let gone = self.tasks.iter().filter(|(_, pid)| pids.contains(pid));
        let gone: BTreeSet<i32> = gone.map(|(&tid, _)| tid).collect();
        self.tasks.retain(|tid, _| !gone.contains(tid));
        gone
    }

    /// A task is created while the creating task stands in the call. The call is answered here already, but the task goes on
    /// only where it was recorded to.
    fn born(&mut self, born: &NewTask) -> Result<Option<Item>> {
        self.tasks.insert(born.tid, born.pid);
        if born.tid == born.pid
            && let Some(&maker) = self.tasks.get(&born.maker)
        {
            self.makers.insert(born.pid, maker);
        }
        let is_followed = self.followed.has(born.pid, self.number);
        let mut number = self.number;
        for at in 0..MOST_AHEAD {
            if at == self.ahead.len() {
                let Some(frame) = self.frames.next_frame()? else {
                    break;
                };
                self.ahead.push_back(frame);
            }
            match &self.ahead[at] {
                Frame::Event(event) if event.tid == born.maker => {
                    let made = event.call().filter(|c| c.ret == Some(born.named.into()));
                    let Some(call) = made.cloned() else {
                        break;
                    };
                    self.early.insert(number);
                    let mut step = self.step(number, born.maker, call);
                    step.stays = true;
                    step.born = Some(Birth {
                        task: born.clone(),
                        is_followed,
                    });
                    let (tid, kind) = (born.maker, ItemKind::Call(Box::new(step)));
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Event(_) => number += 1,
                Frame::Gone { tid, .. } if *tid == born.maker => break,
                _ => {}
            }
        }
        // The creating call did not return.
        self.tasks.remove(&born.tid);
        Ok(None)
    }
}

/// Whether an item is the end of a task by SIGKILL, or the call in which that comes.
fn is_of_killed(item: &Item) -> bool {
    match &item.kind {
        ItemKind::Call(step) => {
            let is_exit = matches!(step.name.as_str(), "exit" | "exit_group");
            step.answer == Answer::Never && !is_exit
        }
        ItemKind::Gone { exit, .. } => {
            matches!(exit, Exit::Signal { signal, .. } if *signal == libc::SIGKILL)
        }
        _ => false,
    }
}

/// Whether an item is a call that sends SIGKILL.
fn kills(item: &Item) -> bool {
    let ItemKind::Call(step) = &item.kind else {
        return false;
    };
    let sends = |call: &Syscall| sends_signal(call.nr.into());
    let signal = step
        .call
        .filter(|call| sends(call))
        .and_then(|call| call.arg("sig"));
    let event = step.exact.as_ref();
    let sent = event.zip(signal).map(|(event, at)| event.args[at] as i32);
    sent == Some(libc::SIGKILL)
}

/// Whether a signal, after one without effect, is the SIGSEGV that replaces it since its handler had no room on its
/// stack.
fn is_instead(signal: &SignalEvent) -> bool {
    let info = signal.info.clone().try_into().ok().map(SigInfo);
    let handled = matches!(signal.delivery, Delivery::Handler { .. });
    handled && signal.signal == libc::SIGSEGV && info.is_some_and(|info| info.is_fault())
}
