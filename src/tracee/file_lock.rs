//! flock(2) on files that are open elsewhere, too: nothing is unlocked when rrapper closes its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks or unlocks a file: `LOCK_SH`, `LOCK_EX` or `LOCK_UN`, with `LOCK_NB`.
///
/// # Errors
/// The kernel's.
pub fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: flock only takes numbers.
    match unsafe { libc::flock(file.as_raw_fd(), operation) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
