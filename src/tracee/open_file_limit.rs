//! The limit on rrapper's open files (`RLIMIT_NOFILE`). Each piece of shared memory of a replay is an open file.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// The limits with which rrapper was started: soft and hard.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises rrapper's own soft limit to the hard limit, and returns it.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    BEFORE.get_or_init(|| (soft, hard));
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// The limits for started programs, where rrapper's own were raised.
pub(super) fn for_programs() -> Option<libc::rlimit> {
    let &(soft, hard) = BEFORE.get()?;
    Some(libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    })
}
