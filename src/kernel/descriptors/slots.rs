//! One table of descriptors: which numbers there are, and the open file behind each.

use super::{OpenFile, Pool, Stream};
use std::collections::BTreeMap;

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Slot {
    /// Its open file's number in the pool.
    pub file: usize,
    /// Whether exec closes it.
    pub cloexec: bool,
    /// Which standard stream it is. Those may share an open file, and are told apart all the same.
    pub stream: Option<Stream>,
}

/// A table. Its open files are in a pool that other tables may share.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel) struct Slots(BTreeMap<i32, Slot>);

impl Slots {
    pub fn get(&self, fd: i32) -> Option<Slot> {
        self.0.get(&fd).copied()
    }

    pub fn get_mut(&mut self, fd: i32) -> Option<&mut Slot> {
        self.0.get_mut(&fd)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i32, Slot)> {
        self.0.iter().map(|(&fd, &slot)| (fd, slot))
    }

    /// Puts a file, of which the table is a holder from now on, at a number; what was there goes.
    pub fn put(&mut self, fd: i32, slot: Slot, files: &mut Pool<OpenFile>) {
        if fd < 0 {
            files.let_go(slot.file);
        } else if let Some(old) = self.0.insert(fd, slot) {
            files.let_go(old.file);
        }
    }

    pub fn remove(&mut self, fd: i32, files: &mut Pool<OpenFile>) {
        if let Some(slot) = self.0.remove(&fd) {
            files.let_go(slot.file);
        }
    }

    /// Keeps only some.
    pub fn retain(
        &mut self,
        files: &mut Pool<OpenFile>,
        mut keep: impl FnMut(i32, &mut Slot) -> bool,
    ) {
        self.0.retain(|&fd, slot| {
            let kept = keep(fd, slot);
            if !kept {
                files.let_go(slot.file);
            }
            kept
        });
    }

    /// A table with the same open files.
    pub fn copy(&self, files: &mut Pool<OpenFile>) -> Slots {
        for slot in self.0.values() {
            files.hold(slot.file);
        }
        self.clone()
    }
}
