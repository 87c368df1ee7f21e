//! What has a path: files, directories, devices.

use super::captured::Sort;
use super::{Group, Result, Work, broken};
use crate::kernel::OpenFile;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Devices that hold no state, so that opening them again is the same.
const STATELESS: [&[u8]; 5] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
];

/// Whether opening it again is the same at any time.
pub(super) fn is_stateless(file: &OpenFile) -> bool {
    STATELESS.contains(&file.path.as_slice())
}

/// Whether it can be opened again by its path: no terminal, no FIFO.
pub(super) fn has_path(file: &OpenFile) -> bool {
    let sort = Sort::of(file);
    sort == Sort::Path || sort == Sort::Device && file.path.starts_with(b"/dev/")
}

/// The permission bits of what is at a path; an error says why it cannot be opened again.
fn look(file: &OpenFile) -> Result<u32, String> {
    if file.path.ends_with(b" (deleted)") {
        return Err("it was deleted".into());
    }
    let path = Path::new(OsStr::from_bytes(&file.path));
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // There may be other files where the process is.
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

impl Work<'_> {
    /// Opens a file at its number and its offset, as it was opened, without making or truncating anything.
    pub(super) fn open(&mut self, group: &Group<'_>) -> Result<()> {
        let file = group.file;
        let permissions = match look(file) {
            Ok(permissions) => permissions,
            Err(why) => {
                self.lost(group, &why);
                return self.break_file(group);
            }
        };
        let got = self.try_open(file, permissions)?;
        if got < 0 {
            let error = io::Error::from_raw_os_error(-got as i32);
            self.lost(group, &format!("it cannot be opened again: {error}"));
            return self.break_file(group);
        }
        if file.offset > 0 && file.flags & libc::O_PATH == 0 {
            let args = [got as u64, file.offset, libc::SEEK_SET as u64, 0, 0, 0];
            self.remote.call(libc::SYS_lseek, args)?;
        }
        self.place(got as u64, group)
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
            // Not all file systems can do without their caches, and not all users may leave access times alone.
            libc::EINVAL | libc::EPERM if flags & (libc::O_DIRECT | libc::O_NOATIME) != 0 => {
                self.open_at(path, flags & !(libc::O_DIRECT | libc::O_NOATIME))
            }
            // What may not be written now may have been when it was made.
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

    /// Puts something in a file's place that fails as a broken disk does.
    pub(super) fn break_file(&mut self, group: &Group<'_>) -> Result<()> {
        match broken::file(&mut self.remote, group.file.flags)? {
            Some(got) => self.place(got, group),
            // It stays closed: EBADF.
            None => Ok(()),
        }
    }
}
