//! The calls that may appear or be missing without the process having left the trace.
//!
//! They depend on the libraries' versions, on how full the heap is and on the machine, not on what the
//! program was told.
//!
//! A script can change the list: `ignore = { "ioctl", "%memory" }` adds calls to it, `ignore = { "!futex" }` takes some
//! out, `ignore = { only = { "brk" } }` puts others in its place, `ignore = false` empties it. In Rust,
//! [`Hooks::is_ignored`](super::Hooks::is_ignored) says so. Of those that a script adds, calls that the trace would
//! answer are answered with 0 where the trace has none, and nothing is done; those that only touch the process itself
//! are made.

use crate::syscall::{Replay, Syscall};

/// Their names. A process may make them where the trace has none, and need not where it has.
pub const IGNORED: &[&str] = &[
    "brk",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "membarrier",
    "futex",
    "set_robust_list",
    "set_tid_address",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "getcpu",
    "getrandom",
    "prlimit64",
    "getrlimit",
    "sysinfo",
];

/// Whether a call is one of them.
pub(crate) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// Whether a call that the trace does not have is answered without being made: it may have effects on others.
pub(super) fn is_left_out(call: &Syscall) -> bool {
    !is_ignored(call.name) && matches!(call.replay, Replay::Emulate)
}
