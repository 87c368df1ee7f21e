//! A table of descriptors: the open file behind each number.

use super::{OpenFile, Pool, Stream};
use std::collections::BTreeMap;

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Descriptor {
    /// The index of its open file in the pool.
    pub file: usize,
    /// Whether exec closes it.
    pub cloexec: bool,
    /// The standard stream that it is. Streams that share an open file are distinguished all the same.
    pub stream: Option<Stream>,
}

/// A table. Its open files are in a pool that other tables use, too.
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

    /// Sets a descriptor, which takes over a reference to its file; a descriptor of the same number is closed.
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

    /// Keeps the descriptors for which `keep` returns `true`.
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

    /// A copy with the same open files.
    pub fn copy(&self, files: &mut Pool<OpenFile>) -> FdTable {
        for descriptor in self.0.values() {
            files.acquire(descriptor.file);
        }
        self.clone()
    }
}
