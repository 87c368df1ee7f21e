//! Bytes that were written and not read yet: what is in a pipe or a socket.

use std::collections::VecDeque;
use std::sync::Arc;

/// What is in a pipe, or has come to a socket.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    parts: VecDeque<Arc<[u8]>>,
    len: usize,
    /// Bytes went in or out that are not known: what is left is not all, or not the right ones.
    pub incomplete: bool,
}

impl Queue {
    /// No pipe and no socket of who is not root holds more.
    const MOST: usize = 4 << 20;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        if self.len + data.len() > Queue::MOST {
            self.incomplete = true;
            return;
        }
        self.len += data.len();
        self.parts.push_back(data.into());
    }

    /// Takes so many bytes from its beginning, or all that there are.
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

    /// Takes one message.
    pub(super) fn take_part(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.len -= part.len();
        }
    }

    /// Its messages, or its bytes in parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &**part)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
