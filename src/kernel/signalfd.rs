//! signalfd(2): a descriptor that accepts signals.

use super::memory::read_u64;
use crate::recording::{CallEvent, ChunkMemory};

/// The state of a signalfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalfd {
    /// The signals that it accepts.
    pub mask: u64,
}

impl Signalfd {
    /// The signalfd that a call made.
    pub(super) fn new(call: &CallEvent) -> Signalfd {
        Signalfd {
            mask: mask(call).unwrap_or(0),
        }
    }

    /// Follows a call on it.
    pub(super) fn follow(&mut self, call: &CallEvent) {
        if matches!(i64::from(call.nr), libc::SYS_signalfd | libc::SYS_signalfd4) {
            self.mask = mask(call).unwrap_or(self.mask);
        }
    }
}

fn mask(call: &CallEvent) -> Option<u64> {
    read_u64(&ChunkMemory(&call.ins), call.args[1])
}
