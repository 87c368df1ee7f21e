//! Calls of processes in a sandbox about files: device and inode numbers, which are those outside, and what the kernel does
//! not do in overlays.
//!
//! The kernel has other device numbers there, and other inode numbers for directories and for files once they are changed.
//! Files that were replaced since they were recorded have others, too. A program that compares them, as databases and walks
//! of trees do, would take its files for replaced ones.

mod owners;

pub use owners::{CALLS_OF_OWNERS, RULES_OF_OWNERS, are_there as has_unmapped_owners};

use super::{Outside, Result, Sandbox, renames};
use crate::syscall::{FileNumbers, Memory, StatusLayout, Syscall};
use crate::trace::file_names;
use crate::tracee::filter::{StopRule, Test};
use crate::tracee::path_lookup::Root;
use crate::tracee::{Stopped, TaskMemory, proc};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, fstatat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A call of a process in a sandbox, which stands at its entry or its exit.
#[derive(Clone, Copy, Debug)]
pub struct FileCall<'c> {
    /// The call.
    pub call: &'static Syscall,
    /// Its arguments.
    pub args: &'c [u64; 6],
    /// The memory of the process.
    pub memory: TaskMemory,
}

/// A file status from the kernel, in the memory of a process.
pub struct ShownStatus {
    layout: StatusLayout,
    at: u64,
    memory: TaskMemory,
    here: FileNumbers,
    /// The path of the file in the sandbox, without symbolic links.
    pub path: Vec<u8>,
}

impl ShownStatus {
    /// What the file is outside of the sandbox that it is in; `None` where its numbers are the same there.
    pub fn outside(&self, sandbox: &Sandbox) -> Option<Outside> {
        sandbox.outside(Path::new(OsStr::from_bytes(&self.path)), self.here)
    }

    /// Puts numbers into it: the known ones, if they are of a file of the same kind, or those outside.
    ///
    /// # Errors
    /// If the memory cannot be written.
    pub fn show(&self, outside: &Outside, known: Option<FileNumbers>) -> Result<()> {
        let same_kind = |known: &FileNumbers| known.is_dir == self.here.is_dir;
        let numbers = known.filter(same_kind).unwrap_or(outside.numbers);
        for (at, bytes) in self.layout.written(self.at, numbers) {
            self.memory.write(at, &bytes)?;
        }
        Ok(())
    }
}

impl FileCall<'_> {
    /// The absolute paths of the files that the call names, without symbolic links; where there are none, the path behind
    /// the first descriptor.
    fn places(&self) -> Vec<Vec<u8>> {
        let tid = self.memory.tid();
        let root = Root::of(tid);
        let place = |file: crate::syscall::NamedFile| {
            let text = text(self.memory, self.args[file.path])?;
            let mut text = text.to_bytes().to_vec();
            if text.is_empty() {
                return None;
            }
            if self.call.is_shut_in(self.args, &self.memory) {
                text = file_names::normalize(&[b"/", &text[..]].concat());
                text.remove(0);
            }
            let mut whole = Vec::new();
            if !text.starts_with(b"/") {
                whole = match file.dir.map(|dir| self.args[dir] as i32) {
                    None | Some(libc::AT_FDCWD) => proc::cwd(tid).ok()?,
                    Some(fd) => proc::fd_path(tid, fd).ok()?,
                };
                whole.push(b'/');
            }
            whole.extend_from_slice(&text);
            let follows = self.call.follows_link(file, self.args, &self.memory);
            root.as_ref()?.place(&whole, follows)
        };
        let mut places: Vec<Vec<u8>> = self.call.named_files().filter_map(place).collect();
        if places.is_empty()
            && let Ok(path) = proc::fd_path(tid, self.args[0] as i32)
        {
            places.push(path.strip_suffix(b" (deleted)").unwrap_or(&path).to_vec());
        }
        places.retain(|path| path.starts_with(b"/"));
        places
    }
}

impl Sandbox {
    /// Has the file status that a call has returned show the owners outside. Returns it, if the file may have other numbers
    /// there.
    ///
    /// # Errors
    /// If no call can be made in the task.
    pub fn show_owners(
        &self,
        task: &mut Stopped,
        made: FileCall<'_>,
    ) -> Result<Option<ShownStatus>> {
        let Some((arg, is_statx)) = made.call.status_arg() else {
            return Ok(None);
        };
        let layout = match is_statx {
            true => StatusLayout::STATX,
            false => StatusLayout::STAT,
        };
        let (memory, at) = (made.memory, made.args[arg]);
        // Another thread may have unmapped the memory meanwhile.
        let Some(here) = layout.read(&memory, at) else {
            return Ok(None);
        };
        // Files that are copied on write have the overlay's device.
        if libc::major(here.device) != 0 {
            return Ok(None);
        }
        let Some(path) = path_of(task, made)? else {
            return Ok(None);
        };
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path).to_vec();
        let file = Path::new(OsStr::from_bytes(&path));
        if owners::are_there()
            && let Some(shown) = layout.status(&memory, at)
            && let Some(real) = self.with_owner(file, shown)
        {
            for (at, bytes) in layout.with_owner(at, &real) {
                memory.write(at, &bytes)?;
            }
        }
        Ok(Some(ShownStatus {
            layout,
            at,
            memory,
            here,
            path,
        }))
    }
}

/// A parent directory, held open, and a name in it.
struct PathInDir {
    dir: OwnedFd,
    name: CString,
}

/// The calls that the kernel may refuse for the overlays of a sandbox.
pub const REFUSED: [i64; 6] = [
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_rmdir,
];

/// The same, where only some arguments are of interest.
pub const REFUSED_RULE: StopRule = StopRule {
    nr: libc::SYS_unlinkat,
    when: &[Test::Any(2, libc::AT_REMOVEDIR as u32)],
};

/// A call that the kernel refuses for the overlays of a sandbox, and not for the files.
enum Refused {
    Rename {
        from: (i32, u64),
        to: (i32, u64),
        flags: u32,
    },
    Link {
        from: (i32, u64),
        to: (i32, u64),
    },
    Rmdir((i32, u64)),
}

impl Refused {
    fn of(made: FileCall<'_>, ret: i64) -> Option<Refused> {
        let args = made.args;
        let here = |arg: usize| (libc::AT_FDCWD, args[arg]);
        let at = |dir: usize, path: usize| (args[dir] as i32, args[path]);
        let (from, to) = match made.call.name {
            "rename" | "link" => (here(0), here(1)),
            "renameat" | "renameat2" | "linkat" => (at(0, 1), at(2, 3)),
            "rmdir" if ret == -i64::from(libc::EBUSY) => return Some(Refused::Rmdir(here(0))),
            "unlinkat" if ret == -i64::from(libc::EBUSY) => return Some(Refused::Rmdir(at(0, 1))),
            _ => return None,
        };
        match made.call.name {
            "link" | "linkat" if ret == -i64::from(libc::EXDEV) => Some(Refused::Link { from, to }),
            "link" | "linkat" => None,
            name if [libc::EXDEV, libc::EBUSY].contains(&(-ret as i32)) => Some(Refused::Rename {
                from,
                to,
                flags: if name == "renameat2" {
                    args[4] as u32
                } else {
                    0
                },
            }),
            _ => None,
        }
    }
}

impl Sandbox {
    /// Does what the kernel does not do in and between overlays, after a call has failed with this value. Returns the value
    /// for the call. What cannot be done is added to `refused`, in sentences.
    ///
    /// # Errors
    /// If no call can be made in the task, or the keeper of the sandbox is gone.
    pub fn work_around(
        &mut self,
        task: &mut Stopped,
        made: FileCall<'_>,
        ret: i64,
        refused: &mut Vec<String>,
    ) -> Result<i64> {
        let ret = self.work_around_owners(task, made, ret)?;
        let Some(call) = Refused::of(made, ret) else {
            return Ok(ret);
        };
        match call {
            Refused::Rename { from, to, flags } => {
                let (Some(old), Some(new)) = (path_in_dir(task, from)?, path_in_dir(task, to)?)
                else {
                    return Ok(ret);
                };
                self.rename(task, made, (&old, &new), (flags, ret), refused)
            }
            Refused::Link { from, to } => {
                let (Some(old), Some(new)) = (path_in_dir(task, from)?, path_in_dir(task, to)?)
                else {
                    return Ok(ret);
                };
                if self.are_near(&old.dir, &new.dir) {
                    refused.push(old.refused("linked", Errno::EXDEV));
                }
                Ok(ret)
            }
            Refused::Rmdir(path) => {
                let Some(path) = path_in_dir(task, path)?.and_then(|path| path.whole()) else {
                    return Ok(ret);
                };
                match self.free_directory(&path)? {
                    true => again(task, made),
                    false => Ok(ret),
                }
            }
        }
    }

    fn rename(
        &mut self,
        task: &mut Stopped,
        made: FileCall<'_>,
        (old, new): (&PathInDir, &PathInDir),
        (flags, ret): (u32, i64),
        refused: &mut Vec<String>,
    ) -> Result<i64> {
        // These no kernel renames.
        let is_dots = |path: &PathInDir| matches!(path.name.to_bytes(), b"" | b"." | b"..");
        if is_dots(old) || is_dots(new) {
            return Ok(ret);
        }
        let (Ok(here), Ok(there)) = (fstat(&old.dir), fstat(&new.dir)) else {
            return Ok(ret);
        };
        let is_exchange = flags & libc::RENAME_EXCHANGE != 0;
        let paths = old.whole().zip(new.whole());
        if let Some((from, to)) = &paths
            && let Some(errno) = self.refuses_move(from, to, is_exchange)
        {
            return Ok(-i64::from(errno));
        }
        if ret == -i64::from(libc::EBUSY) {
            let Some((from, to)) = paths else {
                return Ok(ret);
            };
            if !is_exchange && self.rename_overlay(&from, &to)? {
                return Ok(0);
            }
            // The kernel refuses to rename the machine's mount points outside, too.
            if !self.is_opened_up(&from) && !self.is_opened_up(&to) {
                return Ok(ret);
            }
            // As between file systems, for which programs are prepared.
            refused.push(old.refused("renamed", Errno::EBUSY));
            return Ok(-i64::from(libc::EXDEV));
        }
        if here.st_dev == there.st_dev {
            let mut movable = renames::make_renamable(old.dir.as_fd(), &old.name);
            if is_exchange && movable.is_ok() {
                movable = renames::make_renamable(new.dir.as_fd(), &new.name);
            }
            if let Err(error) = movable {
                refused.push(old.refused("renamed", error));
                return Ok(ret);
            }
            return again(task, made);
        }
        if !self.are_near(&old.dir, &new.dir) {
            return Ok(ret);
        }
        let is_there = || fstatat(&new.dir, &*new.name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
        if flags & libc::RENAME_NOREPLACE != 0 && is_there() {
            return Ok(-i64::from(libc::EEXIST));
        }
        let moved = match is_exchange {
            true => Err(Errno::EXDEV),
            false => {
                renames::move_between((old.dir.as_fd(), &old.name), (new.dir.as_fd(), &new.name))
            }
        };
        if let Err(error) = moved {
            refused.push(old.refused("renamed", error));
            return Ok(ret);
        }
        Ok(0)
    }
}

/// Makes a call that has failed again.
fn again(task: &mut Stopped, made: FileCall<'_>) -> Result<i64> {
    let mut remote = task.remote_at_boundary()?;
    let ret = remote.call(made.call.nr as i64, *made.args)?;
    remote.finish()?;
    Ok(ret)
}

impl PathInDir {
    fn refused(&self, what: &str, error: Errno) -> String {
        format!(
            "{}, {what}: in the sandbox that was refused ({error})",
            self.name.to_string_lossy()
        )
    }

    /// The path in the sandbox.
    fn whole(&self) -> Option<PathBuf> {
        let dir = std::fs::read_link(format!("/proc/self/fd/{}", self.dir.as_raw_fd())).ok()?;
        Some(dir.join(OsStr::from_bytes(self.name.to_bytes())))
    }
}

/// Resolves a path except for its last part.
fn path_in_dir(task: &mut Stopped, (dir, path): (i32, u64)) -> Result<Option<PathInDir>> {
    let Some(path) = text(task.memory(), path) else {
        return Ok(None);
    };
    let mut path = path.to_bytes();
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    let at = path.iter().rposition(|&byte| byte == b'/');
    let (parent, name) = path.split_at(at.map_or(0, |at| at + 1));
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    let parent: &[u8] = if parent.is_empty() { b"." } else { parent };
    let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let tid = task.tid();
    let mut remote = task.remote_at_boundary()?;
    let at = remote.put_str(parent)?;
    let fd = remote.call(libc::SYS_openat, [dir as u64, at, how as u64, 0, 0, 0])?;
    let mut found = None;
    if fd >= 0 {
        // The link leads to the directory itself.
        let link = format!("/proc/{tid}/fd/{fd}");
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        found = nix::fcntl::open(link.as_str(), how, Mode::empty()).ok();
        remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
    }
    remote.finish()?;
    Ok(found.map(|dir| PathInDir { dir, name }))
}

/// The path of the file of a status call, without symbolic links.
fn path_of(task: &mut Stopped, made: FileCall<'_>) -> Result<Option<Vec<u8>>> {
    let tid = task.tid();
    let arg = |name| made.call.arg(name).map(|arg| made.args[arg]);
    let flags = arg("flags").unwrap_or(0) as i32;
    let (dir, path) = match made.call.name {
        "fstat" => return Ok(proc::fd_path(tid, made.args[0] as i32).ok()),
        "stat" | "lstat" => (libc::AT_FDCWD, made.args[0]),
        _ => (made.args[0] as i32, made.args[1]),
    };
    let is_empty = || made.memory.word(path).is_ok_and(|word| word as u8 == 0);
    if flags & libc::AT_EMPTY_PATH != 0 && dir >= 0 && (path == 0 || is_empty()) {
        return Ok(proc::fd_path(tid, dir).ok());
    }
    let no_follow = made.call.name == "lstat" || flags & libc::AT_SYMLINK_NOFOLLOW != 0;
    let how = match no_follow {
        true => libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
        false => libc::O_PATH | libc::O_CLOEXEC,
    };
    if let Some(name) = text(made.memory, path)
        && let Some(found) = resolve(tid, dir, name.to_bytes(), !no_follow)
    {
        return Ok(Some(found));
    }
    let mut remote = task.remote_at_boundary()?;
    let fd = remote.call(libc::SYS_openat, [dir as u64, path, how as u64, 0, 0, 0])?;
    let mut found = None;
    if fd >= 0 {
        found = proc::fd_path(tid, fd as i32).ok();
        remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
    }
    remote.finish()?;
    Ok(found)
}

/// Resolves a path without the task's help; `None` for files such as `/proc/self`.
fn resolve(tid: i32, dir: i32, path: &[u8], follows: bool) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        whole = match dir {
            libc::AT_FDCWD => proc::cwd(tid).ok()?,
            fd => proc::fd_path(tid, fd).ok()?,
        };
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    Root::of(tid)?.existing(&whole, follows)
}

/// A path argument of a call.
fn text(memory: TaskMemory, at: u64) -> Option<CString> {
    let mut bytes = vec![0; libc::PATH_MAX as usize];
    let n = Memory::read(&memory, at, &mut bytes);
    CStr::from_bytes_until_nul(&bytes[..n])
        .ok()
        .map(CString::from)
}
