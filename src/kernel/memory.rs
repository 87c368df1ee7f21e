//! Numbers in a program's memory.

use crate::syscall::Memory;

pub(super) fn read_u64(memory: &dyn Memory, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory.read(at, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
}

pub(super) fn read_u32(memory: &dyn Memory, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    (memory.read(at, &mut bytes) == bytes.len()).then(|| u32::from_le_bytes(bytes))
}

pub(super) fn read_i32(memory: &dyn Memory, at: u64) -> Option<i32> {
    read_u32(memory, at).map(u32::cast_signed)
}
