//! Memory of which a call's values are made up to a limit: a call may name far more than anybody wants to read.

use super::Memory;
use std::cell::Cell;

/// The bytes of one call's structures and lists, by what they take as values.
const PARTS: usize = 16 << 20;

/// A process's memory, for the values of one call.
pub struct LimitedMemory<'a> {
    memory: &'a dyn Memory,
    /// The bytes of strings that may still be read.
    strings: Cell<usize>,
    parts: Cell<usize>,
    /// The bytes that are shown of a string for which there is no room.
    shown: usize,
}

impl<'a> LimitedMemory<'a> {
    /// Strings of so many bytes together are read. Of one for which there is no room, the first `shown` bytes are, as a
    /// string that is cut; with 0, its value is its address.
    pub fn new(memory: &'a dyn Memory, strings: usize, shown: usize) -> LimitedMemory<'a> {
        LimitedMemory {
            memory,
            strings: Cell::new(strings),
            parts: Cell::new(PARTS),
            shown,
        }
    }
}

/// Takes so many bytes of what is left, if they are there.
fn take(left: &Cell<usize>, len: usize) -> bool {
    match left.get().checked_sub(len) {
        Some(rest) => {
            left.set(rest);
            true
        }
        None => false,
    }
}

impl Memory for LimitedMemory<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.memory.read(addr, buf)
    }

    fn string_part(&self, len: usize) -> usize {
        match take(&self.strings, len) {
            true => len,
            false => len.min(self.shown),
        }
    }

    fn has_room(&self, len: usize) -> bool {
        take(&self.parts, len)
    }
}
