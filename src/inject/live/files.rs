//! Files in a sandbox: device and inode numbers, which are as recorded, and what the kernel does not do in overlays.
//!
//! The kernel has other device numbers there, and other inode numbers for directories and for files once they are changed.
//! Files that were replaced since they were recorded have others, too. A program that compares them, as databases and walks
//! of trees do, would take its files for replaced ones.

use super::engine::Engine;
use super::unmapped_owners;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::sandbox;
use crate::syscall::{FileNumbers, Memory, StatusLayout};
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

impl Engine<'_> {
    /// Replaces the numbers and owners in a file status from the kernel by those that the process knows.
    pub(super) fn show_same_file(&self, task: &mut Stopped, seen: &HookCall) -> Result<()> {
        let Some(sandbox) = &self.sandbox else {
            return Ok(());
        };
        let hides_owners = unmapped_owners::are_there();
        if self.recording.is_none() && !hides_owners {
            return Ok(());
        }
        let Some((arg, is_statx)) = seen.stat_arg() else {
            return Ok(());
        };
        let layout = match is_statx {
            true => StatusLayout::STATX,
            false => StatusLayout::STAT,
        };
        let (memory, at) = (seen.memory, seen.args[arg]);
        // Another thread may have unmapped the memory meanwhile.
        let Some(here) = layout.read(&memory, at) else {
            return Ok(());
        };
        // Files that are copied on write have the overlay's device.
        if libc::major(here.device) != 0 {
            return Ok(());
        }
        let Some(path) = path_of(task, seen)? else {
            return Ok(());
        };
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
        let file = Path::new(OsStr::from_bytes(path));
        if hides_owners
            && let Some(shown) = layout.status(&memory, at)
            && let Some(real) = sandbox.with_owner(file, shown)
        {
            for (at, bytes) in layout.with_owner(at, &real) {
                memory.write(at, &bytes)?;
            }
        }
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        let Some(outside) = sandbox.outside(file, here) else {
            return Ok(());
        };
        let known = match outside.is_new {
            true => None,
            // The file may have been replaced since it was recorded.
            false => {
                recording.kernel_at(self.event, |_, kernel| kernel.file_numbers().get(path))?
            }
        };
        let same_kind = |known: &FileNumbers| known.is_dir == here.is_dir;
        let numbers = known.filter(same_kind).unwrap_or(outside.numbers);
        for (at, bytes) in layout.written(at, numbers) {
            memory.write(at, &bytes)?;
        }
        Ok(())
    }
}

/// A parent directory, held open, and a name in it.
struct PathInDir {
    dir: OwnedFd,
    name: CString,
}

/// The calls that the kernel may refuse for the overlays of a sandbox.
pub(super) const REFUSED: [i64; 6] = [
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_rmdir,
];

/// The same, where only some arguments are of interest.
pub(super) const REFUSED_RULE: StopRule = StopRule {
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
    fn of(seen: &HookCall, ret: i64) -> Option<Refused> {
        let args = &seen.args;
        let here = |arg: usize| (libc::AT_FDCWD, args[arg]);
        let at = |dir: usize, path: usize| (args[dir] as i32, args[path]);
        let (from, to) = match seen.call.name {
            "rename" | "link" => (here(0), here(1)),
            "renameat" | "renameat2" | "linkat" => (at(0, 1), at(2, 3)),
            "rmdir" if ret == -i64::from(libc::EBUSY) => return Some(Refused::Rmdir(here(0))),
            "unlinkat" if ret == -i64::from(libc::EBUSY) => return Some(Refused::Rmdir(at(0, 1))),
            _ => return None,
        };
        match seen.call.name {
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

impl Engine<'_> {
    /// Does what the kernel does not do in and between overlays. Returns the value for the call.
    pub(super) fn work_around_overlays(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        ret: i64,
    ) -> Result<i64> {
        let ret = self.work_around_owners(task, seen, ret)?;
        let Some(refused) = Refused::of(seen, ret).filter(|_| self.sandbox.is_some()) else {
            return Ok(ret);
        };
        match refused {
            Refused::Rename { from, to, flags } => {
                let (Some(old), Some(new)) = (path_in_dir(task, from)?, path_in_dir(task, to)?)
                else {
                    return Ok(ret);
                };
                self.rename(task, seen, (&old, &new), flags, ret)
            }
            Refused::Link { from, to } => {
                let (Some(old), Some(new)) = (path_in_dir(task, from)?, path_in_dir(task, to)?)
                else {
                    return Ok(ret);
                };
                let sandbox = self.sandbox.as_ref();
                if sandbox.is_some_and(|sandbox| sandbox.are_near(&old.dir, &new.dir)) {
                    self.say_refused(&old, "linked", Errno::EXDEV);
                }
                Ok(ret)
            }
            Refused::Rmdir(path) => {
                let Some(path) = path_in_dir(task, path)?.and_then(|path| path.whole()) else {
                    return Ok(ret);
                };
                let Some(sandbox) = &mut self.sandbox else {
                    return Ok(ret);
                };
                match sandbox.free_directory(&path)? {
                    true => again(task, seen),
                    false => Ok(ret),
                }
            }
        }
    }

    fn rename(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        (old, new): (&PathInDir, &PathInDir),
        flags: u32,
        ret: i64,
    ) -> Result<i64> {
        // These no kernel renames.
        let is_dots = |path: &PathInDir| matches!(path.name.to_bytes(), b"" | b"." | b"..");
        if is_dots(old) || is_dots(new) {
            return Ok(ret);
        }
        let (Ok(here), Ok(there)) = (fstat(&old.dir), fstat(&new.dir)) else {
            return Ok(ret);
        };
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(ret);
        };
        let is_exchange = flags & libc::RENAME_EXCHANGE != 0;
        if ret == -i64::from(libc::EBUSY) {
            let (Some(from), Some(to)) = (old.whole(), new.whole()) else {
                return Ok(ret);
            };
            return Ok(match !is_exchange && sandbox.rename_overlay(&from, &to)? {
                true => 0,
                false => ret,
            });
        }
        if here.st_dev == there.st_dev {
            let mut movable = sandbox::make_renamable(old.dir.as_fd(), &old.name);
            if is_exchange && movable.is_ok() {
                movable = sandbox::make_renamable(new.dir.as_fd(), &new.name);
            }
            if let Err(error) = movable {
                self.say_refused(old, "renamed", error);
                return Ok(ret);
            }
            return again(task, seen);
        }
        if !sandbox.are_near(&old.dir, &new.dir) {
            return Ok(ret);
        }
        let is_there = || fstatat(&new.dir, &*new.name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
        if flags & libc::RENAME_NOREPLACE != 0 && is_there() {
            return Ok(-i64::from(libc::EEXIST));
        }
        let moved = match is_exchange {
            true => Err(Errno::EXDEV),
            false => {
                sandbox::move_between((old.dir.as_fd(), &old.name), (new.dir.as_fd(), &new.name))
            }
        };
        if let Err(error) = moved {
            self.say_refused(old, "renamed", error);
            return Ok(ret);
        }
        Ok(0)
    }

    fn say_refused(&mut self, path: &PathInDir, what: &str, error: Errno) {
        self.report.miss(format!(
            "{}, {what}: in the sandbox that was refused ({error})",
            path.name.to_string_lossy()
        ));
    }
}

/// Makes a call that has failed again.
pub(super) fn again(task: &mut Stopped, seen: &HookCall) -> Result<i64> {
    let mut remote = task.remote_at_boundary()?;
    let ret = remote.call(seen.call.nr as i64, seen.args)?;
    remote.finish()?;
    Ok(ret)
}

impl PathInDir {
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
fn path_of(task: &mut Stopped, seen: &HookCall) -> Result<Option<Vec<u8>>> {
    let tid = task.tid();
    let arg = |name| seen.call.arg(name).map(|arg| seen.args[arg]);
    let flags = arg("flags").unwrap_or(0) as i32;
    let (dir, path) = match seen.call.name {
        "fstat" => return Ok(proc::fd_path(tid, seen.args[0] as i32).ok()),
        "stat" | "lstat" => (libc::AT_FDCWD, seen.args[0]),
        _ => (seen.args[0] as i32, seen.args[1]),
    };
    let is_empty = || seen.memory.word(path).is_ok_and(|word| word as u8 == 0);
    if flags & libc::AT_EMPTY_PATH != 0 && dir >= 0 && (path == 0 || is_empty()) {
        return Ok(proc::fd_path(tid, dir).ok());
    }
    let no_follow = seen.call.name == "lstat" || flags & libc::AT_SYMLINK_NOFOLLOW != 0;
    let how = match no_follow {
        true => libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
        false => libc::O_PATH | libc::O_CLOEXEC,
    };
    if let Some(name) = text(seen.memory, path)
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
