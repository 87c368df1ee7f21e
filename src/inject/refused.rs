//! Calls that traced programs must not make, in any engine.

use crate::constants::Answer;
use crate::syscall::{Replay, Syscall};
use crate::tracee::agent;

/// The return value of a refused call; `None` for all other calls.
pub(super) fn refused(call: &Syscall, args: &[u64; 6]) -> Option<Answer> {
    if touches_agent(call.name, args) {
        return Some(Answer::Errno(libc::ENOMEM));
    }
    match call.replay {
        Replay::Refuse(errno) => Some(Answer::Errno(errno)),
        _ if call.is_nameless() => Some(Answer::Errno(libc::ENOSYS)),
        _ => None,
    }
}

/// Whether a call would change the agent's pages.
pub(super) fn touches_agent(call: &str, args: &[u64; 6]) -> bool {
    // Only a call with a fixed address can map over memory that is in use.
    let fixed = match call {
        "mmap" => insists(args),
        "mremap" => fixed_remap(args),
        _ => false,
    };
    let place = match (call, fixed) {
        ("mmap", true) => args[0],
        ("mremap", true) => args[4],
        // No address.
        _ => u64::MAX,
    };
    agent::is_touched_by(call, args, place as i64)
}

/// Returns whether an mmap has a fixed address.
pub(super) fn insists(args: &[u64; 6]) -> bool {
    args[3] as i32 & libc::MAP_FIXED != 0
}

/// Returns whether an mremap has a fixed address.
pub(super) fn fixed_remap(args: &[u64; 6]) -> bool {
    args[3] as i32 & libc::MREMAP_FIXED != 0
}
