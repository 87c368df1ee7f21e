//! Calls that traced programs must not make, in any engine.

use crate::constants::Answer;
use crate::syscall::{Replay, Syscall};
use crate::tracee::agent;

/// The return value of a refused call; `None` for all other calls.
pub(super) fn refused(call: &Syscall, args: &[u64; 6]) -> Option<Answer> {
    // Only a call with a fixed address can map over memory that is in use.
    let fixed = match call.name {
        "mmap" => insists(args),
        "mremap" => fixed_remap(args),
        _ => false,
    };
    let place = match (call.name, fixed) {
        ("mmap", true) => args[0],
        ("mremap", true) => args[4],
        // No address.
        _ => u64::MAX,
    };
    if agent::is_touched_by(call.name, args, place as i64) {
        return Some(Answer::Errno(libc::ENOMEM));
    }
    match call.replay {
        Replay::Refuse(errno) => Some(Answer::Errno(errno)),
        _ if call.is_nameless() => Some(Answer::Errno(libc::ENOSYS)),
        _ => None,
    }
}

/// Returns whether an mmap has a fixed address.
pub(super) fn insists(args: &[u64; 6]) -> bool {
    args[3] as i32 & libc::MAP_FIXED != 0
}

/// Returns whether an mremap has a fixed address.
pub(super) fn fixed_remap(args: &[u64; 6]) -> bool {
    args[3] as i32 & libc::MREMAP_FIXED != 0
}
