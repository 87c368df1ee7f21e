//! Files, directories and devices, opened again by their paths.

use super::{Description, Restorer, Result, broken};
use crate::kernel::{FileKind, OpenFile};
use crate::tracee::checked_open::{self, Found};
use crate::tracee::path_lookup::Root;
use nix::sys::stat::fstat;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};

/// Devices without state.
const STATELESS: [&[u8]; 5] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
];

/// Their major and minor numbers.
const NUMBERS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Whether the file is a device without state, which can be opened again at any time.
pub(super) fn is_stateless(file: &OpenFile) -> bool {
    STATELESS.contains(&file.path.as_slice())
}

/// Whether it can be opened again by its path: no terminal, no FIFO.
pub(super) fn has_path(file: &OpenFile) -> bool {
    let kind = file.kind();
    kind == FileKind::Path || kind == FileKind::Device && file.path.starts_with(b"/dev/")
}

/// Says why a file cannot be opened again, if so.
fn refusal(file: &OpenFile, found: &Found) -> Option<&'static str> {
    let is_link = found.is(libc::S_IFLNK) && file.flags & libc::O_PATH != 0;
    let is_stateless = is_stateless(file) && NUMBERS.iter().any(|&(a, b)| found.is_device(a, b));
    let may = found.is(libc::S_IFREG) || found.is(libc::S_IFDIR) || is_link || is_stateless;
    (!may).then_some("only regular files and directories can be opened again")
}

/// The flags with which a file is opened again: nothing is made or truncated.
fn flags_again(file: &OpenFile) -> i32 {
    const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_ASYNC;
    const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
    file.flags & !(ONCE | TMPFILE)
}

/// Opens a file at its offset, as the process sees it, so that it can be passed to the process: many files are passed as
/// fast as the process opens one. `None` where the process has to do it, or to find out why it cannot.
pub(super) fn for_passing(root: &Root, file: &OpenFile) -> Option<File> {
    const OWN: [&[u8]; 2] = [b"/proc/", b"/sys/"];
    let is_own = OWN.iter().any(|own| file.path.starts_with(own));
    let is_deleted = file.path.ends_with(b" (deleted)");
    if is_own || is_deleted || file.flags & libc::O_PATH != 0 || !file.path.starts_with(b"/") {
        return None;
    }
    let found = root.find(&file.path, false)?;
    let status = fstat(&found).ok()?;
    let kind = status.st_mode & libc::S_IFMT;
    let is_number = |&(a, b): &(u32, u32)| status.st_rdev == libc::makedev(a, b);
    let is_stateless = kind == libc::S_IFCHR && is_stateless(file) && NUMBERS.iter().any(is_number);
    if !is_stateless && ![libc::S_IFREG, libc::S_IFDIR].contains(&kind) {
        return None;
    }
    let mut opened = checked_open::reopen(&found, flags_again(file)).ok()?;
    if file.offset > 0 {
        opened.seek(SeekFrom::Start(file.offset)).ok()?;
    }
    Some(opened)
}

impl Restorer<'_, '_> {
    /// Opens a file at its number and its offset, as it was opened, without making or truncating anything.
    pub(super) fn open(&mut self, description: &Description<'_>) -> Result<()> {
        let file = description.file;
        if file.path.ends_with(b" (deleted)") {
            return self.give_up(description, "it was deleted");
        }
        let found = match Found::at(&mut self.remote, &file.path, false)? {
            Ok(found) => found,
            Err(error) => {
                return self.give_up(description, &format!("it cannot be opened again: {error}"));
            }
        };
        if let Some(why) = refusal(file, &found) {
            found.forget(&mut self.remote)?;
            return self.give_up(description, why);
        }
        if file.flags & libc::O_PATH != 0 {
            return self.install(found.fd, description);
        }
        let got = self.try_open(file, &found)?;
        found.forget(&mut self.remote)?;
        if got < 0 {
            let error = io::Error::from_raw_os_error(-got as i32);
            return self.give_up(description, &format!("it cannot be opened again: {error}"));
        }
        if file.offset > 0 {
            let args = [got as u64, file.offset, libc::SEEK_SET as u64, 0, 0, 0];
            self.remote.call(libc::SYS_lseek, args)?;
        }
        self.install(got as u64, description)
    }

    fn try_open(&mut self, file: &OpenFile, found: &Found) -> Result<i64> {
        let flags = flags_again(file);
        let permissions = found.mode & 0o7777;
        let got = found.open(&mut self.remote, flags)?;
        match -got as i32 {
            // O_DIRECT needs a file system, O_NOATIME a user that supports it.
            libc::EINVAL | libc::EPERM if flags & (libc::O_DIRECT | libc::O_NOATIME) != 0 => {
                let flags = flags & !(libc::O_DIRECT | libc::O_NOATIME);
                Ok(found.open(&mut self.remote, flags)?)
            }
            // The program may have made the file with a mode that forbids writing.
            libc::EACCES if permissions & 0o600 != 0o600 => {
                if self.set_mode(found, permissions | 0o600)? < 0 {
                    return Ok(got);
                }
                let got = found.open(&mut self.remote, flags)?;
                self.set_mode(found, permissions)?;
                Ok(got)
            }
            _ => Ok(got),
        }
    }

    fn set_mode(&mut self, found: &Found, mode: u32) -> Result<i64> {
        let path = found.link(&mut self.remote)?;
        let args = [path, mode.into(), 0, 0, 0, 0];
        Ok(self.remote.call(libc::SYS_chmod, args)?)
    }

    fn give_up(&mut self, description: &Description<'_>, why: &str) -> Result<()> {
        self.report_lost(description, why);
        self.install_broken(description)
    }

    /// Puts a file at the descriptor's number that fails as a broken disk does.
    pub(super) fn install_broken(&mut self, description: &Description<'_>) -> Result<()> {
        let tid = self.remote.memory().tid();
        match broken::file(tid, description.file.flags) {
            Some(file) => self.pass(&[(description, file)]),
            // The descriptor stays closed: EBADF.
            None => Ok(()),
        }
    }
}
