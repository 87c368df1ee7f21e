//! The number of processes and threads.

use crate::constants::Answer;
use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;

/// The calls that make tasks.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
];

impl Engine<'_> {
    /// Refuses a task more than the limit. The kernel applies no limit to root.
    pub(super) fn guard_tasks(&self, seen: &Decided) -> Option<Answer> {
        let makes = matches!(seen.call.name, "fork" | "vfork" | "clone" | "clone3");
        let is_full = self.tasks.len() as u64 >= self.settings.limits.processes;
        (makes && is_full).then_some(Answer::Errno(libc::EAGAIN))
    }
}
