//! One table of descriptors: which numbers there are, and the open file behind each.

use super::{OpenFile, Pool, Stream};
use std::collections::BTreeMap;

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Descriptor {
    /// Its open file's number in the pool.
    pub file: usize,
    /// Whether exec closes it.
    pub cloexec: bool,
    /// Which standard stream it is. Those may share an open file, and are told apart all the same.
    pub stream: Option<Stream>,
}

/// A table. Its open files are in a pool that other tables may share.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel) struct FdTable(BTreeMap<i32, Descriptor>);

impl FdTable {
    pub fn get(&self, fd: i32) -> Option<Descriptor> {
        self.0.get(&fd).copied()
    }

    pub fn get_mut(&mut self, fd: i32) -> Option<&mut Descriptor> {
        self.0.get_mut(&fd)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i32, Descriptor)> {
        self.0.iter().map(|(&fd, &descriptor)| (fd, descriptor))
    }

    /// Puts a file, of which the table is a holder from now on, at a number; what was there goes.
    pub fn put(&mut self, fd: i32, descriptor: Descriptor, files: &mut Pool<OpenFile>) {
        if fd < 0 {
            files.release(descriptor.file);
        } else if let Some(old) = self.0.insert(fd, descriptor) {
            files.release(old.file);
        }
    }

    pub fn remove(&mut self, fd: i32, files: &mut Pool<OpenFile>) {
        if let Some(descriptor) = self.0.remove(&fd) {
            files.release(descriptor.file);
        }
    }

    /// Keeps only some.
    pub fn retain(
        &mut self,
        files: &mut Pool<OpenFile>,
        mut keep: impl FnMut(i32, &mut Descriptor) -> bool,
    ) {
        self.0.retain(|&fd, descriptor| {
            let kept = keep(fd, descriptor);
            if !kept {
                files.release(descriptor.file);
            }
            kept
        });
    }

    /// A table with the same open files.
    pub fn copy(&self, files: &mut Pool<OpenFile>) -> FdTable {
        for descriptor in self.0.values() {
            files.acquire(descriptor.file);
        }
        self.clone()
    }
}
