//! Partial effects of failed calls on memory.

use super::{Recorder, Result};
use crate::constants::is_error;
use crate::image::Chunk;
use crate::recording::{CallEvent, Piece, Shows};
use crate::tracee::{TaskMemory, agent, proc};
use std::ops::Range;

const PAGE: u64 = 0x1000;

impl Recorder {
    /// The memory of the calling task that a failed call changed. `before` is the result of [`several`] at the entry.
    pub(super) fn left_by_failure(
        &self,
        tid: i32,
        event: &CallEvent,
        before: &[Range<u64>],
    ) -> Result<Vec<Piece>> {
        let [addr, len, new_len, flags, to, _] = event.args;
        let ranges = match i64::from(event.nr) {
            libc::SYS_mprotect | libc::SYS_pkey_mprotect => {
                return protections(tid, &pages(addr, len));
            }
            libc::SYS_madvise if drops(event.args[2] as i32) => {
                return dropped(tid, &pages(addr, len));
            }
            libc::SYS_munmap => vec![pages(addr, len)],
            libc::SYS_mmap if flags as i32 & libc::MAP_FIXED != 0 => vec![pages(addr, len)],
            libc::SYS_mremap => {
                let mut ranges = vec![pages(addr, len)];
                if flags as i32 & libc::MREMAP_FIXED != 0 {
                    ranges.push(pages(to, new_len));
                }
                let mut pieces = moved(tid, before, addr, to)?;
                pieces.append(&mut holes(tid, &ranges)?);
                return Ok(pieces);
            }
            _ => return Ok(Vec::new()),
        };
        holes(tid, &ranges)
    }

    /// The memory after a failed MADV_REMOVE: the kernel removes as much as it can, and shared memory is empty for all
    /// processes.
    pub(super) fn removed_by_failure(&self, tid: i32, event: &CallEvent) -> Result<Vec<Chunk>> {
        let [addr, len, advice, ..] = event.args;
        let removes = i64::from(event.nr) == libc::SYS_madvise
            && advice as i32 == libc::MADV_REMOVE
            && event.ret.is_some_and(is_error);
        if !removes {
            return Ok(Vec::new());
        }
        let range = pages(addr, len);
        let memory = TaskMemory::new(tid);
        let mut left = Vec::new();
        for piece in dropped(tid, &range)? {
            let data = memory.bytes(piece.start, piece.len as usize);
            if !data.is_empty() {
                left.push(Chunk {
                    addr: piece.start,
                    data,
                });
            }
        }
        Ok(left)
    }
}

/// The mappings that an mremap(2) of several mappings moves one by one. Where it fails, it may have moved the first
/// ones.
pub(super) fn several(tid: i32, event: &CallEvent) -> Result<Vec<Range<u64>>> {
    let [addr, len, new_len, flags, ..] = event.args;
    let fixed = flags as i32 & libc::MREMAP_FIXED != 0;
    if i64::from(event.nr) != libc::SYS_mremap || !fixed || len != new_len {
        return Ok(Vec::new());
    }
    let range = pages(addr, len);
    let maps = proc::maps(tid)?;
    let parts: Vec<_> = maps.iter().filter_map(|map| map.overlap(&range)).collect();
    Ok(if parts.len() > 1 { parts } else { Vec::new() })
}

/// The mappings that a failed mremap has moved.
fn moved(tid: i32, before: &[Range<u64>], from: u64, to: u64) -> Result<Vec<Piece>> {
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let maps = proc::maps(tid)?;
    let gone = |part: &&Range<u64>| maps.iter().all(|map| map.overlap(part).is_none());
    let moved = before.iter().filter(gone).filter_map(|part| {
        let there = to.checked_add(part.start - from)?;
        let map = maps.iter().find(|map| map.holds(there))?;
        let range = there..there + (part.end - part.start);
        Some(piece(&range, map.prot, Shows::Moved { from: part.start }))
    });
    Ok(moved.collect())
}

/// Returns whether an madvise(2) advice drops pages at once.
pub(super) fn drops(advice: i32) -> bool {
    matches!(advice, libc::MADV_DONTNEED | libc::MADV_DONTNEED_LOCKED)
}

/// The whole pages of a range; empty where the range is not page-aligned or invalid: the kernel did nothing then.
pub(super) fn pages(addr: u64, len: u64) -> Range<u64> {
    let end = len
        .checked_next_multiple_of(PAGE)
        .and_then(|len| addr.checked_add(len));
    match end {
        Some(end) if addr.is_multiple_of(PAGE) => addr..end,
        _ => addr..addr,
    }
}

fn piece(range: &Range<u64>, prot: i32, shows: Shows) -> Piece {
    Piece {
        start: range.start,
        len: range.end - range.start,
        prot,
        shows,
    }
}

/// The protections in a range.
fn protections(tid: i32, range: &Range<u64>) -> Result<Vec<Piece>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let maps = proc::maps(tid)?;
    let parts = maps.iter().filter(|map| !is_ours(map)).filter_map(|map| {
        let part = map.overlap(range)?;
        Some(piece(&part, map.prot, Shows::Same))
    });
    Ok(parts.collect())
}

/// The parts of a range that are not in memory, since they were dropped.
fn dropped(tid: i32, range: &Range<u64>) -> Result<Vec<Piece>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let page_map = proc::PageMap::open(tid)?;
    let mut gone = Vec::new();
    for map in proc::maps(tid)?.iter().filter(|map| !is_ours(map)) {
        let Some(part) = map.overlap(range) else {
            continue;
        };
        let mut from = part.start;
        let there = page_map.present(part.start, part.end)?;
        for page in there.into_iter().chain([part.end]) {
            if from < page {
                gone.push(piece(&(from..page), map.prot, Shows::Fresh));
            }
            from = page + PAGE;
        }
    }
    Ok(gone)
}

/// The unmapped parts of ranges.
fn holes(tid: i32, ranges: &[Range<u64>]) -> Result<Vec<Piece>> {
    let mut found = Vec::new();
    if ranges.iter().all(Range::is_empty) {
        return Ok(found);
    }
    let maps = proc::maps(tid)?;
    for range in ranges {
        let mut from = range.start;
        let mapped = maps.iter().filter_map(|map| map.overlap(range));
        for part in mapped.chain(std::iter::once(range.end..range.end)) {
            if from < part.start {
                found.push(piece(&(from..part.start), 0, Shows::Nothing));
            }
            from = part.end;
        }
    }
    Ok(found)
}

fn is_ours(map: &proc::Map) -> bool {
    agent::overlaps(map.start, map.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ranges_of_pages_have_been_touched() {
        assert_eq!(pages(0x1000, 1), 0x1000..0x2000);
        assert_eq!(pages(0x1000, 0x1001), 0x1000..0x3000);
        assert!(pages(0x1001, 0x1000).is_empty());
        assert!(pages(0x1000, u64::MAX).is_empty());
        assert!(pages(0xffff_ffff_ffff_f000, 0x2000).is_empty());
    }

    #[test]
    fn holes_are_what_nobody_maps() {
        let current = std::process::id() as i32;
        let maps = proc::maps(current).unwrap();
        let first = &maps[0];
        let range = 0x1000..first.start + PAGE;
        let found = holes(current, std::slice::from_ref(&range)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].start, found[0].len),
            (0x1000, first.start - 0x1000)
        );
    }
}
