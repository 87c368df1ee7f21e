//! Locks of files: flock(2), fcntl(2).

use super::{Description, Restorer, Result};
use crate::kernel::{FileKind, OpenFile, RangeLock};
use crate::world::is_apart;
use std::io;

/// Whether a file is the sandbox's own: devices and the kernel's objects are the machine's.
fn is_own(file: &OpenFile) -> bool {
    file.kind() == FileKind::Path && !is_apart(&file.path)
}

impl Restorer<'_, '_> {
    /// Has the process hold its locks again: no other process of the sandbox gets them.
    pub(super) fn locks(&mut self, descriptions: &[Description<'_>]) -> Result<()> {
        for description in descriptions {
            let (fd, file) = (description.fd, description.file);
            if !is_own(file) {
                continue;
            }
            if let Some(is_exclusive) = file.flock {
                let how = match is_exclusive {
                    true => libc::LOCK_EX,
                    false => libc::LOCK_SH,
                } | libc::LOCK_NB;
                let args = [fd as u64, how as u64, 0, 0, 0, 0];
                let got = self.remote.call(libc::SYS_flock, args)?;
                self.note_lock(fd, got);
            }
            for lock in file.locks.iter() {
                self.lock_range(fd, libc::F_OFD_SETLK, lock)?;
            }
        }
        let table = &self.state.descriptors;
        let locks = table.locks();
        for (fd, lock) in locks.filter(|(fd, _)| table.get(*fd).is_some_and(is_own)) {
            self.lock_range(fd, libc::F_SETLK, lock)?;
        }
        Ok(())
    }

    fn lock_range(&mut self, fd: i32, op: i32, lock: RangeLock) -> Result<()> {
        let kind = match lock.is_exclusive {
            true => libc::F_WRLCK,
            false => libc::F_RDLCK,
        };
        let len = match lock.end {
            u64::MAX => 0,
            end => end - lock.start,
        };
        // struct flock: l_type, l_whence, and behind four bytes l_start, l_len, l_pid.
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&(kind as i16).to_le_bytes());
        bytes[2..4].copy_from_slice(&(libc::SEEK_SET as i16).to_le_bytes());
        bytes[8..16].copy_from_slice(&lock.start.to_le_bytes());
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        self.remote.reset_scratch();
        let at = self.remote.put(&bytes)?;
        let args = [fd as u64, op as u64, at, 0, 0, 0];
        let got = self.remote.call(libc::SYS_fcntl, args)?;
        self.note_lock(fd, got);
        Ok(())
    }

    fn note_lock(&mut self, fd: i32, got: i64) {
        // The descriptor itself is missing already.
        if got < 0 && got != -i64::from(libc::EBADF) {
            let error = io::Error::from_raw_os_error(-got as i32);
            self.report_missing(format!("the lock of descriptor {fd}: {error}"));
        }
    }
}
