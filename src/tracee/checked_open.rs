//! Opening files by paths at which there may be anything by now: a FIFO, which blocks, or a device, on which opening it
//! acts.
//!
//! The file is found first (`O_PATH`, which opens nothing), looked at, and then opened through its descriptor: it is the
//! very file that was looked at, whatever has happened to the path meanwhile. Nothing here waits: not for the other end
//! of a FIFO, and not for the owner of a lease. Paths into one's own memory or descriptors are not for this module.

use super::{Remote, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The flags that open(2) applies to the path, and not to the file.
const OF_PATH: i32 = libc::O_NOFOLLOW | libc::O_PATH;

/// The flags that do not make a file, change it, or wait.
const HARMLESS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// fcntl(2): the flags that can be set later.
const STATUS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// Opens a regular file for reading. `flags` may have `O_NOFOLLOW`; reading never blocks.
///
/// # Errors
/// If there is no such file, it is not a regular one, or it cannot be read.
pub fn regular(path: &Path, flags: i32) -> io::Result<File> {
    let how = libc::O_PATH | flags & libc::O_NOFOLLOW;
    let found = File::options().read(true).custom_flags(how).open(path)?;
    if !found.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    reopen(found, flags | libc::O_NONBLOCK)
}

/// Opens a file or directory that was found (`O_PATH`), without waiting, with these flags of open(2). `O_NONBLOCK` is
/// only left set where it was asked for.
///
/// # Errors
/// The kernel's.
pub fn reopen(found: impl AsFd, flags: i32) -> io::Result<File> {
    let link = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
    let mode = flags & libc::O_ACCMODE;
    let file = File::options()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(flags & !OF_PATH & !libc::O_ACCMODE | HARMLESS)
        .open(link)?;
    if flags & libc::O_NONBLOCK == 0 {
        let status = OFlag::from_bits_retain(flags & STATUS);
        fcntl(&file, FcntlArg::F_SETFL(status))?;
    }
    Ok(file)
}

/// A file that a task has found and not opened. It keeps a descriptor until [`Found::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The task's descriptor (`O_PATH`).
    pub fd: u64,
    /// Its type and permission bits (`st_mode`).
    pub mode: u32,
    /// The number of the device that it is (`st_rdev`).
    pub device: u64,
}

impl Found {
    /// Finds a file as the task sees it; `follows` says whether symbolic links at the end of the path are followed.
    /// Overwrites the remote call's scratch memory. The kernel's error is the inner one.
    ///
    /// # Errors
    /// If no call can be made in the task.
    pub fn at(remote: &mut Remote<'_>, path: &[u8], follows: bool) -> Result<io::Result<Found>> {
        remote.reset_scratch();
        let Ok(at) = remote.put_str(path) else {
            return Ok(Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
        };
        let mut how = libc::O_PATH;
        if !follows {
            how |= libc::O_NOFOLLOW;
        }
        let args = [libc::AT_FDCWD as u64, at, how as u64, 0, 0, 0];
        let got = remote.call(libc::SYS_openat, args)?;
        let Ok(fd) = u64::try_from(got) else {
            return Ok(Err(io::Error::from_raw_os_error(-got as i32)));
        };
        let mut found = Found {
            fd,
            mode: 0,
            device: 0,
        };
        if let Err(error) = found.look(remote)? {
            found.forget(remote)?;
            return Ok(Err(error));
        }
        Ok(Ok(found))
    }

    fn look(&mut self, remote: &mut Remote<'_>) -> Result<io::Result<()>> {
        /// The size of struct stat, and the offsets of `st_mode` and `st_rdev`.
        const STAT: (usize, u64, u64) = (144, 24, 40);
        remote.reset_scratch();
        let at = remote.put(&[0; STAT.0])?;
        let ret = remote.call(libc::SYS_fstat, [self.fd, at, 0, 0, 0, 0])?;
        if ret < 0 {
            return Ok(Err(io::Error::from_raw_os_error(-ret as i32)));
        }
        let memory = remote.memory();
        let (mut mode, mut device) = ([0; 4], [0; 8]);
        memory.read_exact(at + STAT.1, &mut mode)?;
        memory.read_exact(at + STAT.2, &mut device)?;
        self.mode = u32::from_le_bytes(mode);
        self.device = u64::from_le_bytes(device);
        Ok(Ok(()))
    }

    /// Whether it is of this type: `S_IFREG` and the like.
    pub fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    /// Whether it is the character device with these numbers.
    pub fn is_device(&self, major: u32, minor: u32) -> bool {
        self.is(libc::S_IFCHR) && self.device == libc::makedev(major, minor)
    }

    /// Whether it lies in a file system through which the kernel is asked and told things: opening or mapping a regular
    /// file there can act as on a device.
    ///
    /// # Errors
    /// If no call can be made in the task.
    pub fn is_kernels(&self, remote: &mut Remote<'_>) -> Result<bool> {
        const KERNELS: [i64; 6] = [
            libc::PROC_SUPER_MAGIC,
            libc::SYSFS_MAGIC,
            libc::DEBUGFS_MAGIC,
            libc::TRACEFS_MAGIC,
            libc::SECURITYFS_MAGIC,
            libc::BPF_FS_MAGIC,
        ];
        /// The size of struct statfs, which begins with the type.
        const STATFS: usize = 120;
        remote.reset_scratch();
        let at = remote.put(&[0; STATFS])?;
        let ret = remote.call(libc::SYS_fstatfs, [self.fd, at, 0, 0, 0, 0])?;
        let kind = remote.memory().word(at).unwrap_or(0) as i64;
        Ok(ret < 0 || KERNELS.contains(&kind))
    }

    /// Opens the file, with these flags of open(2), without waiting; returns the descriptor, or the kernel's negative
    /// errno. `O_NONBLOCK` is only left set where it was asked for. Overwrites the scratch memory.
    ///
    /// # Errors
    /// If no call can be made in the task.
    pub fn open(&self, remote: &mut Remote<'_>, flags: i32) -> Result<i64> {
        let at = self.link(remote)?;
        let how = flags & !OF_PATH | HARMLESS;
        let args = [libc::AT_FDCWD as u64, at, how as u64, 0, 0, 0];
        let got = remote.call(libc::SYS_openat, args)?;
        if got >= 0 && flags & libc::O_NONBLOCK == 0 {
            let status = (flags & STATUS) as u64;
            let args = [got as u64, libc::F_SETFL as u64, status, 0, 0, 0];
            remote.call(libc::SYS_fcntl, args)?;
        }
        Ok(got)
    }

    /// Puts a path of the file itself into the scratch memory; returns its address. The path is a link, to be followed.
    ///
    /// # Errors
    /// If the memory cannot be written.
    pub fn link(&self, remote: &mut Remote<'_>) -> Result<u64> {
        remote.reset_scratch();
        remote.put_str(format!("/proc/self/fd/{}", self.fd).as_bytes())
    }

    /// Closes the descriptor.
    ///
    /// # Errors
    /// If no call can be made in the task.
    pub fn forget(self, remote: &mut Remote<'_>) -> Result<()> {
        remote.call(libc::SYS_close, [self.fd, 0, 0, 0, 0, 0])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(regular(&at("file"), libc::O_NOFOLLOW).is_ok());
        assert!(regular(&at("link"), 0).is_ok());
        for (path, flags) in [
            (at("link"), libc::O_NOFOLLOW),
            (at("fifo"), 0),
            (at("missing"), 0),
            (dir.path().into(), 0),
            ("/dev/null".into(), 0),
        ] {
            assert!(regular(&path, flags).is_err(), "{}", path.display());
        }
    }
}
