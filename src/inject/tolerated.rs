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
//!
//! In the calls themselves, a trace of another run may have other addresses, other pids, other names where programs make them
//! up, and other times: those until which, or how long, a call waits, and those that files are given. What is made of these
//! for the process is said in [`super::script::other_run`].

use crate::syscall::{Replay, Syscall};
use crate::trace::Value;

/// Their names. A process may make them where the trace has none, and need not where it has.
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

/// Whether a call is one of them.
pub(crate) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name)
}

/// Whether a call is about the process's memory alone: which there are depends on where the kernel puts it.
pub(super) fn is_about_memory(name: &str) -> bool {
    matches!(
        name,
        "brk" | "madvise" | "mmap" | "mprotect" | "mremap" | "munmap"
    )
}

/// Whether a call that the trace does not have is answered without being made: it may have effects on others.
pub(super) fn is_left_out(call: &Syscall) -> bool {
    !is_ignored(call.name) && matches!(call.replay, Replay::Emulate)
}

/// Whether an argument says how long a call waits for something else, or is one such time.
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

/// Whether both wait for a time, for ever, or not at all.
pub(super) fn waits_alike(expected: &Value, actual: &Value) -> bool {
    let kind = |value: &Value| match value.meaning() {
        Value::Change { before, .. } => length(before),
        other => length(other),
    };
    kind(expected).is_some() && kind(expected) == kind(actual)
}

/// -1 for ever, 0 not at all, 1 for a time.
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

/// Whether an argument is a point in time.
pub(super) fn is_time(call: &Syscall, args: &[u64; 6], arg: usize) -> bool {
    let Some(name) = call.args.get(arg).map(|arg| arg.name) else {
        return false;
    };
    // TIMER_ABSTIME and TFD_TIMER_ABSTIME are the same.
    let absolute = args[1] & libc::TIMER_ABSTIME as u64 != 0;
    match name {
        "times" | "abs_timeout" => true,
        "request" => call.name == "clock_nanosleep" && absolute,
        "new_value" => matches!(call.name, "timer_settime" | "timerfd_settime") && absolute,
        _ => false,
    }
}

/// Whether a member of such an argument is part of the time, and not an order such as `UTIME_NOW`.
pub(super) fn is_part_of_time(name: &str, value: &Value) -> bool {
    let is_number = value.as_i64().is_some_and(|number| number < 1_000_000_000);
    matches!(name, "tv_sec" | "actime" | "modtime")
        || matches!(name, "tv_nsec" | "tv_usec") && is_number
}
