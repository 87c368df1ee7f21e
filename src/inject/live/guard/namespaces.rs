//! No namespaces within the sandbox, unless its settings allow them. In a user namespace of its own, a process would have
//! all capabilities, and with them parts of the kernel that are not for everyone.

use super::tasks;
use crate::constants::{Answer, CLONE_NEWTIME, NAMESPACES};
use crate::inject::hook::HookCall;
use crate::sandbox::Settings;

/// The calls. Those that make tasks stop for their number.
pub(super) const CALLS: &[i64] = &[libc::SYS_unshare, libc::SYS_setns];

/// Refuses unshare(2) and setns(2).
pub(super) fn guard(settings: &Settings, seen: &HookCall) -> Option<Answer> {
    match seen.call.name {
        _ if settings.namespaces => None,
        "unshare" => refusal(seen.args[0], NAMESPACES),
        "setns" => Some(Answer::Errno(libc::EPERM)),
        _ => None,
    }
}

/// Refuses a new task in new namespaces.
pub(super) fn guard_clone(settings: &Settings, clone: &tasks::Clone) -> Option<Answer> {
    match clone {
        _ if settings.namespaces => None,
        tasks::Clone::Registers { flags } => refusal(*flags, NAMESPACES & !CLONE_NEWTIME),
        tasks::Clone::Memory { flags, .. } => refusal(*flags, NAMESPACES),
    }
}

/// The kernel's answer where the limit on user namespaces is 0, and where the process has no capability for others.
fn refusal(flags: u64, new: u64) -> Option<Answer> {
    match flags & new {
        0 => None,
        new if new & libc::CLONE_NEWUSER as u64 != 0 => Some(Answer::Errno(libc::ENOSPC)),
        _ => Some(Answer::Errno(libc::EPERM)),
    }
}
