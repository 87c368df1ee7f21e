//! Extended attributes and flags of files, which the standard library lacks.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The first 16 bytes of an extended attribute of a file; `None` where the file does not have it. Symbolic links are
/// not followed.
///
/// # Errors
/// If the file cannot be accessed, or its file system has no extended attributes.
pub fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let text =
        |bytes: &[u8]| CString::new(bytes).map_err(|e| Error::new(ErrorKind::InvalidInput, e));
    let path = text(path.as_os_str().as_bytes())?;
    let name = text(name.as_bytes())?;
    let mut value = [0u8; 16];
    // SAFETY: both strings and the buffer live for the call, which writes at most the buffer's length.
    let len = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    if len >= 0 {
        return Ok(Some(value[..len as usize].to_vec()));
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA) => Ok(None),
        Some(libc::ERANGE) => Ok(Some(Vec::new())),
        _ => Err(error),
    }
}

/// The flags of a file as of chattr(1): `FS_*_FL`, ioctl_iflags(2). There are none where its file system has no flags.
///
/// # Errors
/// If the file cannot be asked.
pub fn flags(file: &File) -> Result<i32> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int to the variable, which is larger.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    if ret == 0 {
        return Ok(flags as i32);
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EOPNOTSUPP) => Ok(0),
        _ => Err(error),
    }
}
