//! eventfd(2): a counter.

use crate::recording::CallEvent;

/// The state of an eventfd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eventfd {
    /// The counter.
    pub count: u64,
    /// `EFD_SEMAPHORE`: a read takes 1 rather than all.
    pub semaphore: bool,
}

impl Eventfd {
    /// The eventfd that a call made.
    pub(super) fn new(call: &CallEvent) -> Eventfd {
        let has_flags = i64::from(call.nr) == libc::SYS_eventfd2;
        Eventfd {
            count: u64::from(call.args[0] as u32),
            semaphore: has_flags && call.args[1] as i32 & libc::EFD_SEMAPHORE != 0,
        }
    }

    /// Follows a write of this data.
    pub(super) fn write(&mut self, data: &[u8]) {
        let added = data.first_chunk().map_or(0, |&n| u64::from_le_bytes(n));
        self.count = self.count.saturating_add(added);
    }

    /// Follows a read.
    pub(super) fn read(&mut self) {
        self.count = match self.semaphore {
            true => self.count.saturating_sub(1),
            false => 0,
        };
    }
}
