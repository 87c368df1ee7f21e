//! A recording as a script: the actions of the tasks of one process, in recorded order.

use super::item::{DueSignal, ExpectedCall, Item, ItemKind, SideEffects, code_base};
use crate::inject::Result;
use crate::recording::{
    CallEvent, Delivery, Effect, Event, EventKind, Frame, Frames, NewTask, SignalEvent,
};
use crate::tracee::{SigInfo, replaced_instructions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The maximum number of frames between the creation of a task and the return of the creating call.
const MOST_AHEAD: usize = 4096;

/// The actions of the tasks of a process.
pub struct RecordingScript {
    frames: Frames,
    pid: i32,
    tids: BTreeSet<i32>,
    /// The number of the next event.
    number: u64,
    /// The number of calls so far.
    index: usize,
    /// Whether an event has been read: frames before the first one have had their effect already.
    begun: bool,
    tsc: BTreeMap<i32, VecDeque<u64>>,
    ahead: VecDeque<Frame>,
    /// The events of calls that were returned early, at the creation of their task.
    early: BTreeSet<u64>,
    /// The task whose last event was a fault.
    faulted: Option<i32>,
    /// The task whose last event was a signal without effect.
    ignored: Option<i32>,
}

impl RecordingScript {
    /// `frames` begin behind the event before this one.
    pub fn new(frames: Frames, number: u64, pid: i32, tids: &[i32]) -> RecordingScript {
        RecordingScript {
            frames,
            pid,
            tids: tids.iter().copied().collect(),
            number,
            index: 0,
            begun: false,
            tsc: BTreeMap::new(),
            ahead: VecDeque::new(),
            early: BTreeSet::new(),
            faulted: None,
            ignored: None,
        }
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        match self.ahead.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => Ok(self.frames.next_frame()?),
        }
    }

    /// The next item.
    pub fn next(&mut self) -> Result<Option<Item>> {
        while !self.tids.is_empty() {
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
                Frame::Tsc { tid, values } if self.tids.contains(&tid) => {
                    self.tsc.entry(tid).or_default().extend(values);
                }
                Frame::NewTask(born) if born.pid == self.pid && born.tid != self.pid => {
                    if let Some(item) = self.born(&born)? {
                        return Ok(Some(item));
                    }
                }
                Frame::Run { tid } if self.tids.contains(&tid) => {
                    let kind = ItemKind::Run;
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Jump(jump) if self.tids.contains(&jump.tid) => {
                    let tid = jump.tid;
                    let tsc = self.tsc.remove(&tid).unwrap_or_default();
                    let kind = ItemKind::Spin(Box::new(jump), tsc);
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Reach(reach) if self.tids.contains(&reach.tid) => {
                    let tid = reach.tid;
                    let tsc = self.tsc.remove(&tid).unwrap_or_default();
                    let kind = ItemKind::Reach(Box::new(reach), tsc);
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Gone { tid, exit, left } if self.tids.remove(&tid) => {
                    let by_fault = self.faulted == Some(tid);
                    let kind = ItemKind::Gone {
                        exit,
                        left,
                        by_fault,
                    };
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Poke { tid, chunks } if self.tids.contains(&tid) => {
                    let kind = ItemKind::Poke(chunks);
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Remap { tid, pieces } if self.tids.contains(&tid) => {
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
                Frame::Remap { tid, pieces } if self.tids.contains(tid) => {
                    side_effects.pieces.append(pieces);
                }
                Frame::Poke { tid, chunks }
                    if self.tids.contains(tid) && !side_effects.pieces.is_empty() =>
                {
                    side_effects.chunks.append(chunks);
                }
                Frame::Poke { tid, chunks }
                    if self.tids.contains(tid)
                        && code_base.is_some()
                        && chunks
                            .iter()
                            .all(|chunk| replaced_instructions::is_replaced(&chunk.data)) =>
                {
                    side_effects.code.append(chunks);
                }
                Frame::TrapCpuid { tid } if self.tids.contains(tid) => {
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
        if !self.tids.contains(&tid) {
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
            }),
            EventKind::Call(_) if self.early.remove(&number) => ItemKind::Run,
            EventKind::Call(call) => ItemKind::Call(Box::new(self.step(number, tid, call))),
        };
        Some(Item { tid, kind })
    }

    fn step(&mut self, number: u64, tid: i32, call: CallEvent) -> ExpectedCall {
        if matches!(call.effect, Effect::Exec(_)) {
            self.tids = BTreeSet::from([self.pid]);
        }
        let mut step = ExpectedCall::of_event(self.index, number, call);
        self.index += 1;
        step.tsc = self.tsc.remove(&tid).unwrap_or_default();
        step
    }

    /// A thread is created while the creating task stands in the call. The call is answered here already, but the task goes on
    /// only where it was recorded to.
    fn born(&mut self, born: &NewTask) -> Result<Option<Item>> {
        self.tids.insert(born.tid);
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
                    step.born = Some(born.clone());
                    let (tid, kind) = (born.maker, ItemKind::Call(Box::new(step)));
                    return Ok(Some(Item { tid, kind }));
                }
                Frame::Event(_) => number += 1,
                Frame::Gone { tid, .. } if *tid == born.maker => break,
                _ => {}
            }
        }
        // The creating call did not return.
        self.tids.remove(&born.tid);
        Ok(None)
    }
}

/// Whether a signal, after one without effect, is the SIGSEGV that replaces it since its handler had no room on its
/// stack.
fn is_instead(signal: &SignalEvent) -> bool {
    let info = signal.info.clone().try_into().ok().map(SigInfo);
    let handled = matches!(signal.delivery, Delivery::Handler { .. });
    handled && signal.signal == libc::SIGSEGV && info.is_some_and(|info| info.is_fault())
}
