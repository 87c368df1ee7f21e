//! A table of descriptors: the open file behind each number.

use super::locks::{RangeLock, RangeLocks};
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
pub(in crate::kernel) struct FdTable {
    fds: BTreeMap<i32, Descriptor>,
    /// The locks of files that belong to the table rather than to open files, by the indices of those.
    locks: BTreeMap<usize, RangeLocks>,
}

impl FdTable {
    pub fn get(&self, fd: i32) -> Option<Descriptor> {
        self.fds.get(&fd).copied()
    }

    pub fn get_mut(&mut self, fd: i32) -> Option<&mut Descriptor> {
        self.fds.get_mut(&fd)
    }

    pub fn len(&self) -> usize {
        self.fds.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i32, Descriptor)> {
        self.fds.iter().map(|(&fd, &descriptor)| (fd, descriptor))
    }

    /// Sets a descriptor, which takes over a reference to its file; a descriptor of the same number is closed.
    pub fn put(&mut self, fd: i32, descriptor: Descriptor, files: &mut Pool<OpenFile>) {
        if fd < 0 {
            files.release(descriptor.file);
        } else if let Some(old) = self.fds.insert(fd, descriptor) {
            self.close(old, files);
        }
    }

    pub fn remove(&mut self, fd: i32, files: &mut Pool<OpenFile>) {
        if let Some(descriptor) = self.fds.remove(&fd) {
            self.close(descriptor, files);
        }
    }

    /// Drops a descriptor's reference. The locks of its file go, whichever descriptor they were made by.
    fn close(&mut self, descriptor: Descriptor, files: &mut Pool<OpenFile>) {
        if !self.locks.is_empty()
            && let Some(file) = files.get(descriptor.file)
        {
            self.locks.retain(|&locked, _| {
                files
                    .get(locked)
                    .is_some_and(|locked| locked.path != file.path)
            });
        }
        files.release(descriptor.file);
    }

    /// Locks a part of the file behind a descriptor, or unlocks it.
    pub fn lock(
        &mut self,
        fd: i32,
        (start, end): (u64, u64),
        exclusive: Option<bool>,
        files: &Pool<OpenFile>,
    ) {
        let Some((at, file)) = self
            .get(fd)
            .and_then(|d| Some((d.file, files.get(d.file)?)))
        else {
            return;
        };
        let same = |other: &&usize| {
            files
                .get(**other)
                .is_some_and(|other| other.path == file.path)
        };
        let known = self.locks.keys().find(same).copied().unwrap_or(at);
        let locks = self.locks.entry(known).or_default();
        locks.set(start, end, exclusive);
        if locks.is_empty() {
            self.locks.remove(&known);
        }
    }

    /// The locks, with the indices of open files.
    pub fn locks(&self) -> impl Iterator<Item = (usize, RangeLock)> {
        let all = self.locks.iter();
        all.flat_map(|(&file, locks)| locks.iter().map(move |lock| (file, lock)))
    }

    /// Takes over the locks of another table, whose open files have these indices here.
    pub fn take_locks(&mut self, other: &FdTable, index: impl Fn(usize) -> Option<usize>) {
        let all = other.locks.iter();
        let known = all.filter_map(|(&file, locks)| Some((index(file)?, locks.clone())));
        self.locks.extend(known);
    }

    /// Keeps the descriptors for which `keep` returns `true`.
    pub fn retain(
        &mut self,
        files: &mut Pool<OpenFile>,
        mut keep: impl FnMut(i32, &mut Descriptor) -> bool,
    ) {
        let mut closed = Vec::new();
        self.fds.retain(|&fd, descriptor| {
            let kept = keep(fd, descriptor);
            if !kept {
                closed.push(*descriptor);
            }
            kept
        });
        for descriptor in closed {
            self.close(descriptor, files);
        }
    }

    /// A copy with the same open files, and without the locks.
    pub fn copy(&self, files: &mut Pool<OpenFile>) -> FdTable {
        for descriptor in self.fds.values() {
            files.acquire(descriptor.file);
        }
        FdTable {
            fds: self.fds.clone(),
            locks: BTreeMap::new(),
        }
    }
}
