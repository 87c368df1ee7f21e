//! Which file is which: in its sandbox a process is told the same numbers as before.
//!
//! The kernel has other device numbers there, and other inode numbers for directories and for files once they are
//! changed. Files that were replaced since they were recorded have others, too. A program that has compared them, as databases and walks of trees do, would see files replaced under it.

use super::engine::Engine;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::syscall::{FileNumbers, StatusLayout};
use crate::tracee::{Stopped, proc};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Engine<'_> {
    /// Changes the numbers in a status that the kernel has just told to what the process knows.
    pub(super) fn show_same_file(&self, task: &mut Stopped, seen: &HookCall) -> Result<()> {
        let (Some(recording), Some(sandbox)) = (&self.recording, &self.sandbox) else {
            return Ok(());
        };
        let Some((arg, is_statx)) = seen.stat_arg() else {
            return Ok(());
        };
        let layout = match is_statx {
            true => StatusLayout::STATX,
            false => StatusLayout::STAT,
        };
        let (memory, at) = (seen.memory, seen.args[arg]);
        // Another thread may have unmapped it meanwhile.
        let Some(here) = layout.read(&memory, at) else {
            return Ok(());
        };
        // What is copied on write has no device of its own.
        if libc::major(here.device) != 0 {
            return Ok(());
        }
        let Some(path) = path_of(task, seen)? else {
            return Ok(());
        };
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
        let place = Path::new(OsStr::from_bytes(path));
        let Some(outside) = sandbox.outside(place, here) else {
            return Ok(());
        };
        let told = match outside.is_new {
            true => None,
            // It may have been replaced since it was recorded.
            false => recording.kernel_at(self.event, |_, kernel| kernel.told().numbers(path))?,
        };
        let same_kind = |told: &FileNumbers| told.is_dir == here.is_dir;
        let numbers = told.filter(same_kind).unwrap_or(outside.numbers);
        for (at, bytes) in layout.written(at, numbers) {
            memory.write(at, &bytes)?;
        }
        Ok(())
    }
}

/// The path of the file whose status a call told, without symbolic links.
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
