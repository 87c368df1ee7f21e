//! Memory that no mapping shows: memory files, and System V segments.

use crate::constants::Answer;
use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;

/// The calls that make or delete it.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_shmctl,
];

impl Engine<'_> {
    /// Notes that there may be memory files, and refuses a segment beyond the limit, as the kernel does where
    /// `kernel.shmall` is less.
    pub(super) fn guard_memory(&self, seen: &Decided) -> Option<Answer> {
        let memory = self.memory.as_ref()?;
        match seen.call.name {
            "memfd_create" | "memfd_secret" => memory.has_memfds(),
            "shmget" if memory.forbids_segment(seen.args[1]) => {
                return Some(Answer::Errno(libc::ENOSPC));
            }
            _ => {}
        }
        None
    }

    /// Notes a segment that was made or deleted.
    pub(super) fn note_segments(&self, seen: &Decided, ret: i64) {
        const COMMAND: u64 = 0xff;
        let (Some(memory), true) = (&self.memory, ret >= 0) else {
            return;
        };
        let [first, second, ..] = seen.args;
        match seen.call.name {
            "shmget" if second > 0 => memory.made_segment(ret as i32, second),
            "shmctl" if second & COMMAND == libc::IPC_RMID as u64 => {
                memory.removed_segment(first as i32);
            }
            _ => {}
        }
    }
}
