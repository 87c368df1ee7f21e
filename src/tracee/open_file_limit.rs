//! How many files rrapper may have open. Each piece of shared memory of a replay is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// What rrapper was started with: soft and hard.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Has it be as many as may be, for rrapper itself; returns how many that are.
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

/// The limits that programs are started with, where rrapper has others by now.
pub(super) fn for_programs() -> Option<libc::rlimit> {
    let &(soft, hard) = BEFORE.get()?;
    Some(libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    })
}
