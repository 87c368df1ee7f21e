//! Scratch memory in the process, for arguments of hooks that are longer than those that they replace.

use crate::tracee::agent;
use std::cell::RefCell;
use std::rc::Rc;

/// The upper half of the agent's writable pages; the lower is for remote calls.
const START: u64 = agent::SCRATCH + agent::SCRATCH_LEN / 2;

/// The size of the scratch memory in bytes.
pub(crate) const SCRATCH_SIZE: u64 = agent::END - START;

/// The scratch memory of a process: the parts that its calls use.
#[derive(Clone, Debug, Default)]
pub struct ScratchMemory(Rc<RefCell<Vec<(u64, u64)>>>);

/// A part of it, in use until this is dropped.
#[derive(Debug)]
pub(crate) struct ScratchPiece {
    memory: ScratchMemory,
    pub addr: u64,
}

impl Drop for ScratchPiece {
    fn drop(&mut self) {
        self.memory
            .0
            .borrow_mut()
            .retain(|&(at, _)| at != self.addr);
    }
}

impl ScratchMemory {
    /// Takes so many bytes, if there are as many in one piece.
    pub(crate) fn take(&self, len: usize) -> Option<ScratchPiece> {
        let len = u64::try_from(len)
            .ok()?
            .max(1)
            .checked_next_multiple_of(16)?;
        let mut used = self.0.borrow_mut();
        let mut addr = START;
        for &(from, to) in used.iter() {
            if from - addr >= len {
                break;
            }
            addr = to;
        }
        let end = addr.checked_add(len).filter(|&end| end <= agent::END)?;
        used.push((addr, end));
        used.sort_unstable();
        Some(ScratchPiece {
            memory: self.clone(),
            addr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_come_back() {
        let room = ScratchMemory::default();
        let a = room.take(100).unwrap();
        let b = room.take(5000).unwrap();
        assert!(a.addr + 100 <= b.addr && b.addr + 5000 <= agent::END);
        assert!(room.take(SCRATCH_SIZE as usize - 100).is_none());
        let at = a.addr;
        drop(a);
        assert_eq!(room.take(50).unwrap().addr, at);
        drop(b);
        assert!(room.take(SCRATCH_SIZE as usize).is_some());
    }
}
