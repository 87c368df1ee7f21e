//! Stand-ins for files that cannot be restored, which fail as a broken file does.

use super::Result;
use crate::tracee::Remote;

/// A file whose reads and writes fail with EIO: the process's own memory, at its beginning, which is never mapped.
/// `None` where there is no `/proc`.
pub(super) fn file(remote: &mut Remote<'_>, flags: i32) -> Result<Option<u64>> {
    const KEPT: i32 = libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK;
    remote.reset_scratch();
    let path = remote.put_str(b"/proc/self/mem")?;
    let at = libc::AT_FDCWD as u64;
    let args = [at, path, (flags & KEPT) as u64, 0, 0, 0];
    let got = remote.call(libc::SYS_openat, args)?;
    Ok(u64::try_from(got).ok())
}
