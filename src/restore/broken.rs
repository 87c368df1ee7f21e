//! Stand-ins for files that cannot be restored, which fail as a broken file does.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

/// A file whose reads and writes fail with EIO: the process's own memory, at its beginning, which is never mapped. It is
/// opened here, since `/proc` is read-only in a sandbox. `None` where there is no `/proc`.
pub(super) fn file(tid: i32, flags: i32) -> Option<File> {
    const STATUS: i32 = libc::O_APPEND | libc::O_NONBLOCK;
    let mode = flags & libc::O_ACCMODE;
    let opened = File::options()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(flags & STATUS)
        .open(format!("/proc/{tid}/mem"));
    opened.ok()
}
