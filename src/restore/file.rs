//! Files, directories and devices, opened again by their paths.

use super::{Description, Restorer, Result, broken};
use crate::kernel::{FileKind, OpenFile};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Devices without state.
const STATELESS: [&[u8]; 5] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
];

/// Whether the file is a device without state, which can be opened again at any time.
pub(super) fn is_stateless(file: &OpenFile) -> bool {
    STATELESS.contains(&file.path.as_slice())
}

/// Whether it can be opened again by its path: no terminal, no FIFO.
pub(super) fn has_path(file: &OpenFile) -> bool {
    let kind = file.kind();
    kind == FileKind::Path || kind == FileKind::Device && file.path.starts_with(b"/dev/")
}

/// The permission bits of the file at a path; an error says why it cannot be opened again.
fn look(file: &OpenFile) -> Result<u32, String> {
    if file.path.ends_with(b" (deleted)") {
        return Err("it was deleted".into());
    }
    let path = Path::new(OsStr::from_bytes(&file.path));
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // The process may see other files.
        Err(_) => return Ok(0o644),
    };
    let kind = meta.file_type();
    let special = kind.is_char_device() || kind.is_block_device() || kind.is_socket();
    if is_stateless(file) && special || kind.is_file() || kind.is_dir() {
        return Ok(meta.permissions().mode() & 0o7777);
    }
    if kind.is_symlink() && file.flags & libc::O_PATH != 0 {
        return Ok(0o777);
    }
    Err("only regular files and directories can be opened again".into())
}

impl Restorer<'_> {
    /// Opens a file at its number and its offset, as it was opened, without making or truncating anything.
    pub(super) fn open(&mut self, description: &Description<'_>) -> Result<()> {
        let file = description.file;
        let permissions = match look(file) {
            Ok(permissions) => permissions,
            Err(why) => {
                self.report_lost(description, &why);
                return self.install_broken(description);
            }
        };
        let got = self.try_open(file, permissions)?;
        if got < 0 {
            let error = io::Error::from_raw_os_error(-got as i32);
            self.report_lost(description, &format!("it cannot be opened again: {error}"));
            return self.install_broken(description);
        }
        if file.offset > 0 && file.flags & libc::O_PATH == 0 {
            let args = [got as u64, file.offset, libc::SEEK_SET as u64, 0, 0, 0];
            self.remote.call(libc::SYS_lseek, args)?;
        }
        self.install(got as u64, description)
    }

    fn try_open(&mut self, file: &OpenFile, permissions: u32) -> Result<i64> {
        const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_ASYNC;
        const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let flags = file.flags & !(ONCE | TMPFILE) | libc::O_NOCTTY;
        self.remote.reset_scratch();
        let Ok(path) = self.remote.put_str(&file.path) else {
            return Ok(-i64::from(libc::ENAMETOOLONG));
        };
        let got = self.open_at(path, flags)?;
        match -got as i32 {
            // O_DIRECT needs a file system, O_NOATIME a user that supports it.
            libc::EINVAL | libc::EPERM if flags & (libc::O_DIRECT | libc::O_NOATIME) != 0 => {
                self.open_at(path, flags & !(libc::O_DIRECT | libc::O_NOATIME))
            }
            // The program may have made the file with a mode that forbids writing.
            libc::EACCES if permissions & 0o600 != 0o600 => {
                let chmod = |mode: u32| [path, mode.into(), 0, 0, 0, 0];
                let at = self
                    .remote
                    .call(libc::SYS_chmod, chmod(permissions | 0o600))?;
                if at < 0 {
                    return Ok(got);
                }
                let got = self.open_at(path, flags)?;
                self.remote.call(libc::SYS_chmod, chmod(permissions))?;
                Ok(got)
            }
            _ => Ok(got),
        }
    }

    fn open_at(&mut self, path: u64, flags: i32) -> Result<i64> {
        let args = [libc::AT_FDCWD as u64, path, flags as u64, 0, 0, 0];
        Ok(self.remote.call(libc::SYS_openat, args)?)
    }

    /// Puts a file at the descriptor's number that fails as a broken disk does.
    pub(super) fn install_broken(&mut self, description: &Description<'_>) -> Result<()> {
        match broken::file(&mut self.remote, description.file.flags)? {
            Some(got) => self.install(got, description),
            // The descriptor stays closed: EBADF.
            None => Ok(()),
        }
    }
}
