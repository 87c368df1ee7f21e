//! Data that was written and not read yet: the buffer of a pipe or a socket.

use super::OpenFile;
use std::collections::VecDeque;
use std::sync::Arc;

/// The data in a pipe, or received by a socket.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    parts: VecDeque<Part>,
    len: usize,
    /// The bytes that were taken before the call which sent them had returned.
    owed: usize,
    /// The messages that were taken before the calls which sent them had returned, as far as they were read.
    owed_messages: VecDeque<Arc<[u8]>>,
    /// Unknown data was written or read, so that the data here may be others than the real ones.
    pub incomplete: bool,
}

/// What one call sent: a message, or some bytes.
#[derive(Clone, Debug)]
pub struct Part {
    /// The data.
    pub data: Arc<[u8]>,
    /// The number of the open file by which a datagram was sent.
    pub from: Option<u64>,
    /// The open files that come with its first byte, by their numbers: `SCM_RIGHTS`.
    pub passed: Arc<[(u64, OpenFile)]>,
}

impl From<&[u8]> for Part {
    fn from(data: &[u8]) -> Part {
        Part {
            data: data.into(),
            from: None,
            passed: Arc::default(),
        }
    }
}

impl Queue {
    /// The most messages that are taken before the calls which send them return: more than there are processors.
    const MOST_OWED: usize = 64;

    /// More than a pipe or a socket of a user other than root holds.
    const MOST: usize = 4 << 20;

    /// More than a socket's buffer has room for, with what the kernel needs for each.
    const MOST_MESSAGES: usize = 1 << 14;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, mut part: Part) {
        let early = self.owed.min(part.data.len());
        self.owed -= early;
        if early > 0 {
            part = part.data[early..].into();
            if part.data.is_empty() {
                return;
            }
        }
        if self.len + part.data.len() > Queue::MOST {
            self.incomplete = true;
            return;
        }
        self.len += part.data.len();
        self.parts.push_back(part);
    }

    /// Adds a message, unless it was taken already.
    pub(super) fn push_message(&mut self, message: Part) {
        let mut owed = self.owed_messages.iter();
        if let Some(at) = owed.position(|read| message.data.starts_with(read)) {
            self.owed_messages.remove(at);
        } else if self.len + message.data.len() > Queue::MOST
            || self.parts.len() >= Queue::MOST_MESSAGES
        {
            self.incomplete = true;
        } else {
            self.len += message.data.len();
            self.parts.push_back(message);
        }
    }

    /// Removes so many bytes from the front, or all.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(part) = self.parts.pop_front()
        {
            let n = part.data.len().min(count - taken.len());
            taken.extend_from_slice(&part.data[..n]);
            if n < part.data.len() {
                self.parts.push_front(part.data[n..].into());
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
        self.owed_messages.extend(other.owed_messages);
        for part in other.parts.into_iter().rev() {
            self.parts.push_front(part);
        }
    }

    /// Removes the first message.
    pub(super) fn take_message(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.len -= part.data.len();
        }
    }

    /// Removes the first message that begins with what was read. One that others than recorded calls sent is not here;
    /// `owes` says that a recorded call sends it, which has not returned yet if it is not here.
    pub(super) fn take_this_message(&mut self, read: &[u8], owes: bool) {
        let found = self
            .parts
            .iter()
            .position(|part| part.data.starts_with(read));
        if let Some(part) = found.and_then(|at| self.parts.remove(at)) {
            self.len -= part.data.len();
        } else if owes && !self.incomplete {
            self.owed_messages.push_back(read.into());
            if self.owed_messages.len() > Queue::MOST_OWED {
                self.owed_messages.pop_front();
            }
        }
    }

    /// The messages, or the bytes in parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// All bytes, one after the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.parts().flat_map(|part| &*part.data).copied().collect()
    }

    /// Whether it holds no data.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
