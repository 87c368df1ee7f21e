//! Memory that calls write outside of their arguments' reach: memory of other recorded tasks, or other memory of their
//! own.

use super::task::Task;
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory, Frame};
use crate::syscall::Memory;
use crate::tracee::TaskMemory;

/// A range of memory: its address, and its length in bytes.
pub type Range = (u64, usize);

/// `IOV_MAX`.
const MOST_RANGES: u64 = 1024;

impl Recorder {
    /// Records the content of ranges of the memory of `tid` that a call has just written: among the call's outputs for
    /// the caller's own process, and in a frame for another one. `None` where that task is not recorded.
    pub(super) fn written_in(
        &self,
        current: &Task,
        tid: i32,
        ranges: &[Range],
        event: &mut CallEvent,
    ) -> Option<Frame> {
        let chunks = |tid: i32| -> Vec<Chunk> {
            let memory = TaskMemory::new(tid);
            let each = ranges.iter().map(|&(addr, len)| Chunk {
                addr,
                data: memory.bytes(addr, len),
            });
            each.filter(|chunk| !chunk.data.is_empty()).collect()
        };
        let space = match tid == current.tid || tid == current.pid {
            true => current.space,
            false => self.tasks.get(&tid)?.space,
        };
        if space == current.space {
            event.outs.extend(chunks(current.tid));
            return None;
        }
        let chunks = chunks(tid);
        (!chunks.is_empty()).then_some(Frame::Poke { tid, chunks })
    }

    /// Records the memory that process_vm_writev wrote.
    pub(super) fn written_by_writev(
        &self,
        current: &Task,
        event: &mut CallEvent,
    ) -> Result<Option<Frame>> {
        let [pid, _, _, iov, count, _] = event.args;
        let ranges = first_of(&ChunkMemory(&event.ins), iov, count, event.ret.unwrap_or(0));
        Ok(self.written_in(current, pid as i32, &ranges, event))
    }
}

/// The first `bytes` bytes of the ranges in an array of `struct iovec`.
pub fn first_of(memory: &dyn Memory, iov: u64, count: u64, bytes: i64) -> Vec<Range> {
    let mut left = usize::try_from(bytes).unwrap_or(0);
    let mut ranges = Vec::new();
    for nth in 0..count.min(MOST_RANGES) {
        let mut words = [0; 16];
        if left == 0 || memory.read(iov.wrapping_add(nth * 16), &mut words) != words.len() {
            break;
        }
        let word = |at: usize| {
            words[at..at + 8]
                .iter()
                .rev()
                .fold(0, |w, &b| w << 8 | u64::from(b))
        };
        let len = usize::try_from(word(8)).unwrap_or(usize::MAX).min(left);
        left -= len;
        ranges.push((word(0), len));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_with_the_bytes() {
        let words: [u64; 6] = [0x1000, 3, 0x2000, 0, 0x3000, 9];
        let data = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let chunks = [Chunk { addr: 0x10, data }];
        let ranges = |count, bytes| first_of(&ChunkMemory(&chunks), 0x10, count, bytes);
        assert_eq!(ranges(3, 5), [(0x1000, 3), (0x2000, 0), (0x3000, 2)]);
        assert_eq!(ranges(1, 5), [(0x1000, 3)]);
        assert_eq!(ranges(9, 100).len(), 3);
        assert!(ranges(3, -14).is_empty());
    }
}
