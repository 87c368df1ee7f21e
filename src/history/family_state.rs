//! The kernel's state for a family of copies: as recorded, but for what one of them was told, and for those that left the
//! recording.

use super::Recording;
use crate::kernel::{Kernel, ProcessTree};
use crate::recording::{CallEvent, Event, EventKind, Frame, Result};
use crate::trace::Exit;
use std::collections::{BTreeMap, BTreeSet};

/// A call of a copy that had another effect than the recorded one.
#[derive(Clone, Debug)]
pub struct ToldCall {
    /// The event in whose place it was made, or before which.
    pub event: u64,
    /// Whether it took the place of the event.
    pub replaces: bool,
    /// The recorded tid of the task.
    pub tid: i32,
    /// The call with what it did; `None` where it did nothing.
    pub call: Option<CallEvent>,
}

/// What became otherwise than recorded since the copies of a family were spun off.
#[derive(Clone, Debug, Default)]
pub struct FamilyChanges {
    /// The calls of driven processes that had another effect, in order.
    pub told: Vec<ToldCall>,
    /// The processes that have left the recording without having been driven, by pid, each with the first event that it did not
    /// come to.
    pub left: BTreeMap<i32, u64>,
    /// Those of them that were never made.
    pub unmade: BTreeSet<i32>,
    /// The driven processes that have ended otherwise than recorded, each with the first event that it did not come to, and the
    /// end.
    pub ended: BTreeMap<i32, (u64, Option<Exit>)>,
}

impl FamilyChanges {
    /// Whether a process has not done what was recorded as this event.
    pub fn has_left(&self, pid: i32, event: u64) -> bool {
        let left = self.left.get(&pid).copied();
        let ended = self.ended.get(&pid).map(|(since, _)| *since);
        left.into_iter().chain(ended).any(|since| since <= event)
    }
}

impl Recording {
    /// Passes the process tree and the kernel's state at an event, before its call is answered, to `then`: as it is for copies
    /// that were spun off at the event `from`.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn family_at<R>(
        &self,
        (from, to): (u64, u64),
        changes: &FamilyChanges,
        then: impl FnOnce(&ProcessTree, &Kernel) -> R,
    ) -> Result<R> {
        // A process that was not made may have done something before the copies were spun off.
        let unmade = changes
            .unmade
            .iter()
            .filter_map(|pid| changes.left.get(pid));
        let from = unmade.copied().chain([from]).min().unwrap_or(from);
        let start = self.kernel_at(from, |tree, kernel| (tree.clone(), kernel.clone()))?;
        let (mut tree, mut kernel) = start;
        let mut frames = self.frames_from(from)?;
        let mut number = from.saturating_sub(1);
        let mut told = changes.told.iter().peekable();
        // What comes before the first event has been followed.
        let mut is_behind = false;
        while let Some(frame) = frames.next_frame()? {
            let is_event = matches!(frame, Frame::Event(_));
            number += u64::from(is_event);
            is_behind |= is_event;
            if is_event {
                while let Some(extra) = told.next_if(|told| told.event <= number && !told.replaces)
                {
                    follow_told(&mut tree, &mut kernel, extra);
                }
            }
            if is_event && number >= to {
                break;
            }
            if !is_behind {
                continue;
            }
            let tid = match &frame {
                Frame::Event(event) => Some(event.tid),
                Frame::NewTask(born) => Some(born.maker),
                Frame::Gone { tid, .. } => Some(*tid),
                _ => None,
            };
            let pid = tid.and_then(|tid| tree.pid(tid));
            let born = match &frame {
                Frame::NewTask(born) => changes.unmade.contains(&born.pid),
                _ => false,
            };
            if born || pid.is_some_and(|pid| changes.has_left(pid, number)) {
                continue;
            }
            if is_event
                && let Some(instead) = told.next_if(|told| told.event == number && told.replaces)
            {
                follow_told(&mut tree, &mut kernel, instead);
                continue;
            }
            kernel.follow(&mut tree, &frame);
        }
        for &pid in changes.ended.keys().chain(&changes.unmade) {
            let tids: Vec<i32> = tree.tasks(pid).collect();
            for tid in tids {
                let gone = Frame::Gone {
                    tid,
                    exit: Exit::Code(0),
                    left: Vec::new(),
                };
                kernel.follow(&mut tree, &gone);
            }
        }
        Ok(then(&tree, &kernel))
    }
}

fn follow_told(tree: &mut ProcessTree, kernel: &mut Kernel, told: &ToldCall) {
    if let Some(call) = &told.call {
        let event = Event {
            tid: told.tid,
            kind: EventKind::Call(call.clone()),
        };
        kernel.follow(tree, &Frame::Event(event));
    }
}
