//! Tolerated calls, which may appear or be missing without the process having left the trace.
//!
//! They depend on the versions of libraries, on the state of the heap and on the machine, not on the answers that the
//! program got.
//!
//! A script can change the list: `ignore = { "ioctl", "%memory" }` adds calls to it, `ignore = { "!futex" }` removes
//! some, `ignore = { only = { "brk" } }` replaces it, `ignore = false` empties it. In Rust, the method is
//! [`Hooks::is_ignored`](super::Hooks::is_ignored). If the trace does not have an added call, a call that only affects
//! the process itself is made; any other is answered with 0 and has no effect.
//!
//! The calls of a trace of another run may have other addresses, pids, temporary file names and times (deadlines,
//! timeouts, timestamps of files). [`super::script::other_run`] adapts them to the process.

use crate::syscall::{Replay, Syscall};
use crate::trace::Value;

/// The names of tolerated calls.
pub const IGNORED: &[&str] = &[
    "brk",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "membarrier",
    "mincore",
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

/// Returns whether a call is tolerated by default.
pub(crate) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// Returns whether a call is about the process's memory alone. Such calls depend on the addresses that the kernel
/// chooses.
pub(super) fn is_about_memory(name: &str) -> bool {
    matches!(
        name,
        "brk" | "madvise" | "mmap" | "mprotect" | "mremap" | "munmap"
    )
}

/// Returns whether a call that the trace does not have is answered without being made, since it may have effects
/// outside of the process.
pub(super) fn is_left_out(call: &Syscall) -> bool {
    !is_ignored(call.name) && matches!(call.replay, Replay::Emulate)
}

/// Returns whether an argument is the time limit of a wait.
pub(super) fn is_time_limit(call: &Syscall, arg: usize) -> bool {
    let calls = [
        "poll",
        "ppoll",
        "select",
        "pselect6",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "rt_sigtimedwait",
        "recvmmsg",
        "semtimedop",
        "io_getevents",
    ];
    let name = call.args.get(arg).map(|arg| arg.name);
    calls.contains(&call.name) && matches!(name, Some("timeout" | "tmo_p"))
}

/// Returns whether both values are time limits of the same kind: finite, infinite, or zero.
pub(super) fn waits_alike(expected: &Value, actual: &Value) -> bool {
    let kind = |value: &Value| match value.meaning() {
        Value::Change { before, .. } => length(before),
        other => length(other),
    };
    kind(expected).is_some() && kind(expected) == kind(actual)
}

/// -1 for an infinite time limit, 0 for none at all, 1 for a finite one.
fn length(value: &Value) -> Option<i64> {
    match value {
        Value::Struct { .. } => {
            let member = |name| value.field(name).and_then(Value::as_i64).unwrap_or(0);
            let parts = [member("tv_sec"), member("tv_nsec"), member("tv_usec")];
            Some(i64::from(parts != [0, 0, 0]))
        }
        Value::Int(number) => Some(number.signum()),
        _ => None,
    }
}

/// Returns whether an argument is a point in time.
pub(super) fn is_time(call: &Syscall, args: &[u64; 6], arg: usize) -> bool {
    let Some(name) = call.args.get(arg).map(|arg| arg.name) else {
        return false;
    };
    // TIMER_ABSTIME and TFD_TIMER_ABSTIME have the same value.
    let absolute = args[1] & libc::TIMER_ABSTIME as u64 != 0;
    match name {
        "times" | "abs_timeout" => true,
        "request" => call.name == "clock_nanosleep" && absolute,
        "new_value" => matches!(call.name, "timer_settime" | "timerfd_settime") && absolute,
        _ => false,
    }
}

/// Returns whether a member of such an argument is part of the time, and not a request such as `UTIME_NOW`.
pub(super) fn is_part_of_time(name: &str, value: &Value) -> bool {
    let is_number = value.as_i64().is_some_and(|number| number < 1_000_000_000);
    matches!(name, "tv_sec" | "actime" | "modtime")
        || matches!(name, "tv_nsec" | "tv_usec") && is_number
}
