//! Calls about the machine as a whole, which no namespace separates. Most need capabilities that a sandbox drops, and are
//! refused here besides.

use crate::constants::Answer;
use crate::inject::hook::HookCall;

/// The calls.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_bpf,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
];

/// The first process of the pid namespace, which is the sandbox's and stays.
const FIRST: i32 = 1;

/// Refuses such a call, as the kernel refuses it to users without privileges.
pub(super) fn guard(seen: &HookCall) -> Option<Answer> {
    let errno = match i64::from(seen.call.nr) {
        libc::SYS_perf_event_open => libc::EACCES,
        nr if CALLS.contains(&nr) => libc::EPERM,
        libc::SYS_prlimit64 if seen.args[0] as i32 == FIRST => libc::EPERM,
        _ => return None,
    };
    Some(Answer::Errno(errno))
}
