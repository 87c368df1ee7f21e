//! Files of rrapper's own that are passed to the process: making, opening and filling them.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

pub(super) fn as_file(fd: impl Into<OwnedFd>) -> File {
    File::from(fd.into())
}

/// Sets the file status flags that the process's file had.
pub(super) fn set_status(file: &File, flags: i32) -> io::Result<()> {
    const SETTABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK;
    let wanted = flags & SETTABLE;
    if wanted != 0 {
        fcntl(file, FcntlArg::F_SETFL(OFlag::from_bits_retain(wanted)))?;
    }
    Ok(())
}

/// Makes an anonymous file.
pub(super) fn anonymous(name: &str) -> io::Result<File> {
    // A kernel before 6.3 does not know MFD_NOEXEC_SEAL, and it is not needed.
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// Opens the file again, as open(2) would with these flags.
pub(super) fn reopen(file: &File, flags: i32) -> io::Result<File> {
    let mode = flags & libc::O_ACCMODE;
    let status = flags & (libc::O_APPEND | libc::O_NONBLOCK);
    File::options()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(status)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Writes data until the file is full; returns the number of bytes.
pub(super) fn fill(mut file: &File, data: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.write(&data[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
