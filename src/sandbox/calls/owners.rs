//! Changes of files and directories whose owners are not mapped in the sandbox of a user without privileges. The kernel
//! refuses them with `EOVERFLOW`; the sandbox makes them possible, and the call is made again.

use super::{FileCall, again};
use crate::constants::Answer;
use crate::sandbox::{Result, Sandbox};
use crate::syscall::Memory;
use crate::tracee::filter::{StopRule, Test};
use crate::tracee::path_lookup::Root;
use crate::tracee::proc::Descriptor;
use crate::tracee::{Remote, Stopped, proc};
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The calls that change files or directories, those that tell their owners, and those after which a process is in another
/// directory. bind(2) and those of [`super::REFUSED`] stop in all sandboxes.
pub const CALLS_OF_OWNERS: &[i64] = &[
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_creat,
    libc::SYS_openat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_truncate,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
];

const CHANGES: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;

/// The same, where only some arguments change a file.
pub const RULES_OF_OWNERS: &[StopRule] = &[
    StopRule {
        nr: libc::SYS_open,
        when: &[Test::Any(1, CHANGES)],
    },
    StopRule {
        nr: libc::SYS_openat,
        when: &[Test::Any(2, CHANGES)],
    },
];

/// Whether a sandbox has owners who are not mapped.
pub fn are_there() -> bool {
    !nix::unistd::geteuid().is_root()
}

impl Sandbox {
    /// Makes a call again that failed because of an owner. Returns the value for the call.
    pub(super) fn work_around_owners(
        &mut self,
        task: &mut Stopped,
        made: FileCall<'_>,
        mut ret: i64,
    ) -> Result<i64> {
        const OVERFLOW: i64 = -(libc::EOVERFLOW as i64);
        // The kernel looks first whether it would move a directory at all.
        let is_move = made.call.name.starts_with("rename") && ret == -i64::from(libc::EXDEV);
        if !are_there() || ret != OVERFLOW && !is_move {
            return Ok(ret);
        }
        let files = files_of(task, made);
        let mut is_open = false;
        for file in &files {
            is_open |= self.open_up(changed_dir(made.call.name, file))?;
        }
        if is_open || ret == OVERFLOW {
            enter_overlays(task, self)?;
            // Between overlays the kernel has not looked at the owners.
            if self.refuses(task, made).is_some() {
                return Ok(-i64::from(libc::EPERM));
            }
            ret = again(task, made)?;
        }
        if ret == OVERFLOW {
            let mut is_taken = false;
            for file in &files {
                is_taken |= self.take_over(file)?;
            }
            if is_taken {
                ret = again(task, made)?;
            }
        }
        Ok(ret)
    }

    /// Refuses what only the owner may do with a file or directory of which the user has got a copy.
    pub fn refuses(&self, task: &Stopped, made: FileCall<'_>) -> Option<Answer> {
        if !self.has_anothers() {
            return None;
        }
        let is_removal = match made.call.name {
            "unlink" | "unlinkat" | "rmdir" | "rename" | "renameat" | "renameat2" => true,
            "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "chown" | "fchown" | "lchown"
            | "fchownat" => false,
            "utime" | "utimes" | "futimesat" | "utimensat" if sets_times(made) => false,
            _ => return None,
        };
        let mut files = files_of(task, made).into_iter();
        let is_refused = files.any(|file| match is_removal {
            true => self.is_sticky(&file),
            false => self.is_anothers(&file),
        });
        is_refused.then_some(Answer::Errno(libc::EPERM))
    }

    /// The error that renaming another's directory has outside. The kernel can only be asked in a sandbox where that directory
    /// could be renamed: it lets no overlay of a user's hide such a directory, be it by moving it or by removing it.
    pub(super) fn refuses_move(&self, from: &Path, to: &Path, is_exchange: bool) -> Option<i32> {
        let machine = fs::symlink_metadata(from).ok()?;
        let is_anothers = machine.uid() != nix::unistd::geteuid().as_raw();
        if !are_there() || !machine.is_dir() || !is_anothers {
            return None;
        }
        // What the program has made is its own.
        let refuses = |dir: &Path, how| dir.exists() && access(dir, how).is_err();
        let closed = |dir: &Path| refuses(dir, AccessFlags::W_OK | AccessFlags::X_OK);
        let (old, new) = (from.parent()?, to.parent()?);
        // In another directory, its entry `..` is another one.
        let is_elsewhere = old != new;
        if closed(old) || closed(new) || is_elsewhere && refuses(from, AccessFlags::W_OK) {
            return Some(libc::EACCES);
        }
        let entries = fs::read_dir(self.inside(to));
        let is_full = entries.is_ok_and(|mut entries| entries.next().is_some());
        (is_full && !is_exchange).then_some(libc::ENOTEMPTY)
    }

    /// Prepares a directory that a process has entered for changes: processes that it makes are there, too, and those
    /// among them that change nothing would not see what others do.
    ///
    /// # Errors
    /// If no call can be made in the task, or the keeper of the sandbox is gone.
    pub fn follow_chdir(&mut self, task: &mut Stopped, made: FileCall<'_>) -> Result<()> {
        if !are_there() || !matches!(made.call.name, "chdir" | "fchdir") {
            return Ok(());
        }
        let Ok(cwd) = proc::cwd(task.tid()) else {
            return Ok(());
        };
        let cwd = Path::new(OsStr::from_bytes(&cwd));
        if access(cwd, AccessFlags::W_OK).is_ok() && self.open_up(cwd)? {
            enter_overlays(task, self)?;
        }
        Ok(())
    }
}

/// Whether a call sets the times of a file to others than the present, which only its owner may do.
fn sets_times(made: FileCall<'_>) -> bool {
    const NOW: u64 = 0x3fff_ffff;
    const OMIT: u64 = 0x3fff_fffe;
    let at = match made.call.name {
        "utime" | "utimes" => return made.args[1] != 0,
        "futimesat" => return made.args[2] != 0,
        _ => made.args[2],
    };
    // struct timespec: seconds, nanoseconds; of the access and of the change.
    let [access, change] = [8, 24].map(|part| made.memory.word(at.wrapping_add(part)).unwrap_or(0));
    at != 0 && !(access == change && [NOW, OMIT].contains(&access))
}

/// The directory that has to be changeable for a call about a file.
fn changed_dir<'f>(call: &str, file: &'f Path) -> &'f Path {
    let around = file.parent().unwrap_or(file);
    match call {
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink" | "symlinkat" | "unlink"
        | "unlinkat" | "rmdir" | "link" | "linkat" | "rename" | "renameat" | "renameat2"
        | "bind" => around,
        _ if fs::symlink_metadata(file).is_ok_and(|meta| meta.is_dir()) => file,
        _ => around,
    }
}

/// The files that a call is about, by absolute paths.
fn files_of(task: &Stopped, made: FileCall<'_>) -> Vec<PathBuf> {
    let tid = task.tid();
    let paths = match made.call.name {
        "bind" => socket_path(tid, made).into_iter().collect(),
        _ => made.places(),
    };
    paths
        .into_iter()
        .map(|path| PathBuf::from(OsString::from_vec(path)))
        .collect()
}

/// The path of a local socket that is about to get a name.
fn socket_path(tid: i32, made: FileCall<'_>) -> Option<Vec<u8>> {
    // struct sockaddr_un: the family in two bytes, then the path.
    let mut address = [0; 110];
    let len = address.len().min(made.args[2] as usize);
    let len = Memory::read(&made.memory, made.args[1], &mut address[..len]);
    let (family, path) = address.get(..len)?.split_at_checked(2)?;
    let path = path.split(|&byte| byte == 0).next()?;
    if family != (libc::AF_UNIX as u16).to_ne_bytes() || path.is_empty() {
        return None;
    }
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        whole = proc::cwd(tid).ok()?;
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    Root::of(tid)?.place(&whole, false)
}

/// Has a process that is below an overlay, or has files open there, be in the overlay.
fn enter_overlays(task: &mut Stopped, sandbox: &Sandbox) -> Result<()> {
    let tid = task.tid();
    if fs::read_link(format!("/proc/{tid}/root")).is_ok_and(|root| root != Path::new("/")) {
        return Ok(());
    }
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let is_below = |name: &str, path: &[u8]| {
        let path = Path::new(OsStr::from_bytes(path));
        if !sandbox.is_opened_up(path) || path.as_os_str().len() >= libc::PATH_MAX as usize {
            return false;
        }
        let there = device(&sandbox.inside(path));
        there.is_some() && there != device(Path::new(&format!("/proc/{tid}/{name}")))
    };
    let cwd = proc::cwd(tid).unwrap_or_default();
    let files = proc::descriptors(tid).unwrap_or_default().into_iter();
    let files: Vec<Descriptor> = files
        .filter(|file| file.flags & libc::O_ACCMODE == libc::O_RDONLY)
        .filter(|file| is_below(&format!("fd/{}", file.fd), &file.path))
        .collect();
    let mut remote = task.remote_at_boundary()?;
    if is_below("cwd", &cwd) {
        let at = remote.put_str(&cwd)?;
        remote.call(libc::SYS_chdir, [at, 0, 0, 0, 0, 0])?;
    }
    for file in files {
        reopen(&mut remote, &file)?;
    }
    Ok(remote.finish()?)
}

/// Opens a file again by its path, and puts it in the place of its descriptor.
fn reopen(remote: &mut Remote<'_>, file: &Descriptor) -> Result<()> {
    remote.reset_scratch();
    let at = remote.put_str(&file.path)?;
    let flags = file.flags | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let here = libc::AT_FDCWD as u64;
    let new = remote.call(libc::SYS_openat, [here, at, flags as u64, 0, 0, 0])?;
    if new < 0 {
        return Ok(());
    }
    let new = new as u64;
    if file.offset != 0 {
        let args = [new, file.offset, libc::SEEK_SET as u64, 0, 0, 0];
        remote.call(libc::SYS_lseek, args)?;
    }
    if file.flags & libc::O_NONBLOCK == 0 {
        let status = (file.flags & !libc::O_CLOEXEC) as u64;
        let args = [new, libc::F_SETFL as u64, status, 0, 0, 0];
        remote.call(libc::SYS_fcntl, args)?;
    }
    let close = (file.flags & libc::O_CLOEXEC) as u64;
    remote.call(libc::SYS_dup3, [new, file.fd as u64, close, 0, 0, 0])?;
    remote.call(libc::SYS_close, [new, 0, 0, 0, 0, 0])?;
    Ok(())
}
