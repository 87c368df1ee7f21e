//! Extended attributes of files, which the standard library lacks.

use std::ffi::CString;
use std::io::{Error, ErrorKind, Result};
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
