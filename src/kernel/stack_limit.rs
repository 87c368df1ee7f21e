//! The limits that programs set to their stacks: `RLIMIT_STACK`.

use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;

/// The stack limit that a call sets: the process (0 for the task's own) and the size in bytes. `memory` has the call's
/// inputs.
pub fn stack_limit(nr: u32, args: &[u64; 6], memory: &dyn Memory) -> Option<(i32, u64)> {
    let (pid, resource, at) = match i64::from(nr) {
        libc::SYS_setrlimit => (0, args[0], args[1]),
        libc::SYS_prlimit64 => (args[0] as i32, args[1], args[2]),
        _ => return None,
    };
    let mut word = [0; 8];
    let is_set = resource as u32 == libc::RLIMIT_STACK && at != 0;
    (is_set && memory.read(at, &mut word) == word.len()).then(|| (pid, u64::from_le_bytes(word)))
}

impl CallEvent {
    /// The stack limit that a recorded call set, if it did not fail.
    pub fn stack_limit(&self) -> Option<(i32, u64)> {
        let set = stack_limit(self.nr, &self.args, &ChunkMemory(&self.ins));
        set.filter(|_| self.ret == Some(0))
    }
}
