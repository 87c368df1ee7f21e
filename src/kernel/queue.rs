//! Data that was written and not read yet: the buffer of a pipe or a socket.

use std::collections::VecDeque;
use std::sync::Arc;

/// The data in a pipe, or received by a socket.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    parts: VecDeque<Arc<[u8]>>,
    len: usize,
    /// The bytes that were taken before the call which sent them had returned.
    owed: usize,
    /// Unknown data was written or read, so that the data here may be others than the real ones.
    pub incomplete: bool,
}

impl Queue {
    /// More than a pipe or a socket of a user other than root holds.
    const MOST: usize = 4 << 20;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        let early = self.owed.min(data.len());
        self.owed -= early;
        let data = &data[early..];
        if data.is_empty() && early > 0 {
            return;
        }
        if self.len + data.len() > Queue::MOST {
            self.incomplete = true;
            return;
        }
        self.len += data.len();
        self.parts.push_back(data.into());
    }

    /// Removes so many bytes from the front, or all.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(part) = self.parts.pop_front()
        {
            let n = part.len().min(count - taken.len());
            taken.extend_from_slice(&part[..n]);
            if n < part.len() {
                self.parts.push_front(part[n..].into());
            }
        }
        self.len -= taken.len();
        taken
    }

    /// Notes that so many bytes were taken of what a call sends that has not returned yet.
    pub(super) fn owe(&mut self, count: usize) {
        // Of unknown data nobody knows who sent them.
        if !self.incomplete {
            self.owed = self.owed.saturating_add(count);
        }
    }

    /// The bytes that were taken of what calls send that have not returned yet.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Puts what is in another one before this.
    pub(super) fn begin_with(&mut self, other: Queue) {
        self.len += other.len;
        self.incomplete |= other.incomplete;
        self.owed += other.owed;
        for part in other.parts.into_iter().rev() {
            self.parts.push_front(part);
        }
    }

    /// Removes the first message.
    pub(super) fn take_message(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.len -= part.len();
        }
    }

    /// The messages, or the bytes in parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &**part)
    }

    /// Whether it holds no data.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
