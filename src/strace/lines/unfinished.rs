//! Unfinished calls, at most [`MOST_BEGUN`] of them with [`MOST_BYTES`] of text.

use crate::strace::LONGEST_LINE;
use crate::strace::grammar::prefix::Prefix;
use std::collections::BTreeMap;

/// The limit on the number of unfinished calls.
const MOST_BEGUN: usize = 1 << 16;
/// The limit on their text, in bytes.
const MOST_BYTES: usize = LONGEST_LINE as usize;

/// The first part of a call.
#[derive(Debug)]
pub(in crate::strace) struct UnfinishedCall {
    pub line: u64,
    /// The column at which the text begins.
    pub column: usize,
    pub prefix: Prefix,
    /// The text in front of the call's name.
    pub front: Vec<u8>,
    pub text: Vec<u8>,
    pub order: u64,
}

impl UnfinishedCall {
    /// The call that begins on a line with this prefix; `text` is its part of the line.
    pub(in crate::strace) fn new(
        line: u64,
        prefix: Prefix,
        own: &[u8],
        text: &[u8],
    ) -> UnfinishedCall {
        let at = (text.as_ptr() as usize).wrapping_sub(own.as_ptr() as usize);
        let at = at.min(own.len());
        UnfinishedCall {
            line,
            column: at + 1,
            prefix,
            front: own.get(..at).unwrap_or_default().to_vec(),
            text: text.to_vec(),
            order: line,
        }
    }
}

/// The unfinished calls.
#[derive(Debug, Default)]
pub(in crate::strace) struct UnfinishedCalls {
    /// The calls by task.
    begun: BTreeMap<i32, UnfinishedCall>,
    /// The tasks in the order in which their calls began.
    order: BTreeMap<u64, i32>,
    /// The bytes of their text.
    bytes: usize,
    /// The tids under which calls are resumed, with the tids under which they began.
    moved: BTreeMap<i32, i32>,
}

impl UnfinishedCalls {
    /// The task whose call began first.
    pub(in crate::strace) fn oldest(&self) -> Option<i32> {
        self.order.first_key_value().map(|(_, &tid)| tid)
    }

    /// The task whose call began last.
    pub(in crate::strace) fn latest(&self) -> Option<i32> {
        self.order.last_key_value().map(|(_, &tid)| tid)
    }

    /// The call that began last, with its task.
    pub(in crate::strace) fn last(&self) -> Option<(i32, &UnfinishedCall)> {
        let tid = self.latest()?;
        Some((tid, self.begun.get(&tid)?))
    }

    /// The task whose unfinished call must be given up before the next one can be kept.
    pub(in crate::strace) fn without_room(&self, next: &UnfinishedCall) -> Option<i32> {
        let full = self.begun.len() >= MOST_BEGUN
            || (self.bytes > 0 && self.bytes + next.text.len() > MOST_BYTES);
        if full { self.oldest() } else { None }
    }

    /// Keeps the first part of a task's call. The task must have no other.
    pub(in crate::strace) fn insert(&mut self, tid: i32, begun: UnfinishedCall) {
        self.bytes += begun.text.len();
        self.order.insert(begun.order, tid);
        self.begun.insert(tid, begun);
    }

    /// Takes the first part of this task's call.
    pub(in crate::strace) fn remove(&mut self, tid: i32) -> Option<UnfinishedCall> {
        let begun = self.begun.remove(&tid)?;
        self.order.remove(&begun.order);
        self.bytes -= begun.text.len();
        Some(begun)
    }

    /// Notes that the call of a task is resumed under another tid.
    pub(in crate::strace) fn moves(&mut self, tid: i32, to: i32) {
        if self.moved.len() < MOST_BEGUN {
            self.moved.insert(to, tid);
        }
    }

    /// The tid under which the call that is resumed under this tid began, if any.
    pub(in crate::strace) fn moved_to(&mut self, tid: i32) -> Option<i32> {
        let from = self.moved.remove(&tid)?;
        self.begun.contains_key(&from).then_some(from)
    }

    /// Moves the unfinished call of a task to another tid after an execve, and drops the call that had this tid.
    pub(in crate::strace) fn supersede(&mut self, tid: i32, by: i32) {
        self.moved.remove(&by);
        if let Some(begun) = self.remove(tid) {
            self.insert(by, begun);
        }
    }

    /// The pid under which this task's call began. Without `-o`, strace writes pids only while there are several tasks.
    pub(in crate::strace) fn known_as(&self, tid: i32) -> i32 {
        if self.begun.contains_key(&tid) {
            return tid;
        }
        match self.begun.first_key_value() {
            Some((&only, _)) if tid == 0 && self.begun.len() == 1 => only,
            _ if self.begun.contains_key(&0) => 0,
            _ => tid,
        }
    }
}
