//! Locks of parts of files: fcntl(2).

/// The most locks of a file, unless the recording is damaged.
const MOST: usize = 1 << 16;

/// A lock of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLock {
    /// The first byte.
    pub start: u64,
    /// The byte behind the last; `u64::MAX` for all that the file may ever have.
    pub end: u64,
    /// Whether it excludes all others.
    pub is_exclusive: bool,
}

/// The locks of a file that belong to one owner: they do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeLocks(Vec<RangeLock>);

impl RangeLocks {
    /// The locks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = RangeLock> {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Locks a part, which had other locks or none; unlocks it for `None`.
    pub(super) fn set(&mut self, start: u64, end: u64, exclusive: Option<bool>) {
        if start >= end {
            return;
        }
        let around = |lock: RangeLock| {
            let before = RangeLock {
                end: lock.end.min(start),
                ..lock
            };
            let behind = RangeLock {
                start: lock.start.max(end),
                ..lock
            };
            [before, behind]
                .into_iter()
                .filter(|part| part.start < part.end)
        };
        self.0 = self.0.iter().copied().flat_map(around).collect();
        if let Some(is_exclusive) = exclusive
            && self.0.len() < MOST
        {
            self.0.push(RangeLock {
                start,
                end,
                is_exclusive,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lock_of_a_byte_holds() {
        let mut locks = RangeLocks::default();
        locks.set(10, 20, Some(false));
        locks.set(12, 14, Some(true));
        locks.set(18, u64::MAX, None);
        locks.set(5, 5, Some(true));
        let holds = |at: u64| {
            let mut found = locks
                .iter()
                .filter(|lock| (lock.start..lock.end).contains(&at));
            (found.next().map(|lock| lock.is_exclusive), found.count())
        };
        assert_eq!(holds(9), (None, 0));
        assert_eq!(holds(11), (Some(false), 0));
        assert_eq!(holds(12), (Some(true), 0));
        assert_eq!(holds(14), (Some(false), 0));
        assert_eq!(holds(18), (None, 0));
        locks.set(0, u64::MAX, None);
        assert!(locks.is_empty());
    }
}
