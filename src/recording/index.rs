//! The offsets of blocks: from the file `index`, or from the heads of all blocks where that is missing or wrong. An
//! index is a hint: the block at an offset is checked.

use super::block::{HEAD, Slice};
use super::{HEADER, INDEX_MAGIC, VERSION};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const ENTRY: usize = 16;

/// The entry of a block: the number in its head, and its offset.
pub(super) fn entry(first: u64, offset: u64) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&offset.to_le_bytes());
    bytes
}

/// A block that a frame begins in: the number of its first event, and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub first: u64,
    pub offset: u64,
}

/// The blocks that frames begin in, in order.
pub(super) enum Index {
    /// In a file.
    File(Slice),
    /// In memory, made from the heads in `events`.
    Memory(Vec<Entry>),
}

impl Index {
    /// The index in this file, if it begins like one.
    pub fn of(slice: Slice) -> Option<Index> {
        let mut magic = [0; 8];
        slice.read(&mut magic, 0).ok()?;
        (magic == INDEX_MAGIC).then_some(Index::File(slice))
    }

    /// The index of a recording's directory, if it has one.
    pub fn open(dir: &Path) -> Option<Index> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(dir.join("index"))
            .ok()?;
        file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Index::of(Slice::of(file).ok()?)
    }

    fn len(&self) -> u64 {
        match self {
            Index::File(slice) => slice.len.saturating_sub(HEADER) / ENTRY as u64,
            Index::Memory(entries) => entries.len() as u64,
        }
    }

    fn get(&self, at: u64) -> Option<Entry> {
        match self {
            Index::File(slice) => {
                let mut bytes = [0; ENTRY];
                let from = at.checked_mul(ENTRY as u64)?.checked_add(HEADER)?;
                slice.read(&mut bytes, from).ok()?;
                let ([first, offset], _) = bytes.as_chunks::<8>() else {
                    return None;
                };
                Some(Entry {
                    first: u64::from_le_bytes(*first),
                    offset: u64::from_le_bytes(*offset),
                })
            }
            Index::Memory(entries) => entries.get(usize::try_from(at).ok()?).copied(),
        }
    }

    /// The last entry for which `holds` is true; it must be true for all entries before.
    fn last(&self, holds: impl Fn(Entry) -> bool) -> Option<Entry> {
        let (mut low, mut high) = (0, self.len());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).filter(|&entry| holds(entry)) {
                Some(entry) => {
                    found = Some(entry);
                    low = middle + 1;
                }
                None => high = middle,
            }
        }
        found
    }

    /// The last block that can end before this offset.
    pub fn before(&self, end: u64) -> Option<Entry> {
        self.last(|entry| {
            let head = entry.offset.checked_add(HEAD as u64);
            head.is_some_and(|head| head < end)
        })
    }

    /// The block that this event is in, or the last one before, of those before `end`.
    pub fn of_event(&self, number: u64, end: u64) -> Option<Entry> {
        self.last(|entry| entry.first <= number && entry.offset < end)
    }

    /// The index once blocks of these lengths, which have no events, are put before that at `at`, in which the first event is.
    pub fn with(&self, at: u64, lens: &[u64]) -> Index {
        let mut entries: Vec<Entry> = (0..self.len()).filter_map(|at| self.get(at)).collect();
        let by = lens.iter().sum::<u64>();
        let place = entries.partition_point(|entry| entry.offset < at);
        for entry in &mut entries[place..] {
            entry.offset += by;
        }
        let mut next = at;
        let new = lens.iter().map(|len| {
            let offset = next;
            next += len;
            Entry { first: 1, offset }
        });
        entries.splice(place..place, new);
        Index::Memory(entries)
    }

    /// The content of a file with the same entries.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = INDEX_MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in (0..self.len()).filter_map(|at| self.get(at)) {
            bytes.extend_from_slice(&self::entry(entry.first, entry.offset));
        }
        bytes
    }
}
