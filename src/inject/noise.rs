//! The calls that may appear or be missing without the process having left the trace.
//!
//! They depend on the libraries' versions, on how full the heap is and on the machine, not on what the
//! program was told.

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
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}
