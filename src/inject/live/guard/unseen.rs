//! Calls by which a program would act, or wait, where no tracer sees it: they fail as on a kernel that does not have them.
//!
//! A ring of io_uring makes calls that do not stop; syscall user dispatch diverts calls before they stop, or ends the
//! process at them; userfaultfd has the kernel wait for the program in the middle of any call, even one of rrapper's.

use crate::constants::Answer;
use crate::inject::hook::HookCall;
use crate::inject::live::engine::Engine;

/// The calls. prctl(2) always stops, for the program's own filters.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_prctl,
];

const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;

impl Engine<'_> {
    /// Answers such a call.
    pub(super) fn guard_unseen(&mut self, seen: &HookCall) -> Option<Answer> {
        let (what, errno) = match seen.call.name {
            "io_uring_setup" => ("io_uring", libc::ENOSYS),
            "io_uring_enter" | "io_uring_register" => return Some(Answer::Errno(libc::ENOSYS)),
            "userfaultfd" => ("userfaultfd", libc::ENOSYS),
            "prctl" if seen.args[0] as i32 == PR_SET_SYSCALL_USER_DISPATCH => {
                // Nothing is on that could be turned off.
                if seen.args[1..5] == [0; 4][..] {
                    return None;
                }
                ("syscall user dispatch", libc::EINVAL)
            }
            _ => return None,
        };
        // Recorded programs were told the same.
        if self.recording.is_none() {
            self.report.miss(format!(
                "{what}: calls would be made or diverted that nobody sees, so it was told that the kernel has none"
            ));
        }
        Some(Answer::Errno(errno))
    }
}
