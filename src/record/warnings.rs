//! Warnings about answers to the recorded program that differ from the kernel's: given once for each kind and
//! recording.

use super::Recorder;
use super::calls::describe;
use super::task::Task;
use crate::constants;
use crate::recording::CallEvent;
use crate::syscall::Syscall;
use crate::tracee::xattr::attribute;
use crate::tracee::{Stopped, TaskMemory, proc};
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The warnings given so far.
#[derive(Default)]
pub struct Warnings {
    mapping: HashSet<Vec<u8>>,
    /// Calls, by the addresses of their descriptions.
    refused: HashSet<*const Syscall>,
    programs: HashSet<Vec<u8>>,
}

impl Recorder {
    /// Warns of a call that is answered with an error where the kernel may succeed.
    pub(super) fn warn_of_refusal(
        &mut self,
        call: &'static Syscall,
        errno: i32,
        args: &[u64; 6],
        memory: TaskMemory,
    ) {
        if !self.warnings.refused.insert(call) {
            return;
        }
        let line = describe(call, args, memory);
        let errno = constants::errno_name(errno).unwrap_or("an error");
        match call.asked_early {
            true => tracing::debug!("{line} is answered with {errno}"),
            false => tracing::warn!(
                "{line} is answered with {errno}: what it does cannot be recorded, and programs do without"
            ),
        }
    }

    /// Refuses a mapping of a device: its content changes without a call that could be recorded.
    pub(super) fn refuse_mapping(&mut self, current: &Task, event: &CallEvent) -> Option<i64> {
        let [_, _, _, flags, fd, _] = event.args;
        if i64::from(event.nr) != libc::SYS_mmap || flags as i32 & libc::MAP_ANONYMOUS != 0 {
            return None;
        }
        let link = format!("/proc/{}/fd/{}", current.tid, fd as i32);
        let kind = std::fs::metadata(&link).ok()?.file_type();
        let path = proc::fd_path(current.tid, fd as i32).ok()?;
        let is_file = kind.is_file() && !path.starts_with(b"anon_inode:");
        if is_file || kind.is_dir() || kind.is_block_device() || path == b"/dev/zero" {
            return None;
        }
        // The kernel refuses these, too.
        let never = kind.is_fifo() || path == b"/dev/null";
        if !never && self.warnings.mapping.insert(path.clone()) {
            tracing::warn!(
                "{} is not mapped, and mmap answers ENODEV: what it shows could change unseen",
                String::from_utf8_lossy(&path)
            );
        }
        Some(-i64::from(libc::ENODEV))
    }

    /// Warns that the first process of a pid namespace is ended by SIGKILL instead of this fault.
    pub(super) fn warn_of_kill(&self, task: &Stopped, fault: i32) {
        let exe = proc::exe(task.tid()).unwrap_or_default();
        tracing::warn!(
            "{}, the first process of a pid namespace, is ended by SIGKILL instead of {}: \
             a traced one does not die of its faults",
            String::from_utf8_lossy(&exe),
            constants::signal_name(fault),
        );
    }

    /// Warns that a program runs without the privileges of its set-user-ID or capability file.
    pub(super) fn warn_of_privilege(&mut self, task: &Stopped) {
        let exe = proc::exe(task.tid()).unwrap_or_default();
        let file = PathBuf::from(format!("/proc/{}/exe", task.tid()));
        if gives_rights(&file, task.tid()) && self.warnings.programs.insert(exe.clone()) {
            tracing::warn!(
                "{} runs without the rights that its file gives (set-user-ID, set-group-ID or capabilities): \
                 a traced program does not get them",
                String::from_utf8_lossy(&exe)
            );
        }
    }
}

/// Returns whether a program would get other privileges if it were not traced.
fn gives_rights(file: &Path, tid: i32) -> bool {
    let Ok(meta) = std::fs::metadata(file) else {
        return false;
    };
    let mode = meta.mode();
    let group = libc::S_ISGID | libc::S_IXGRP;
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    // The effective id is the second of four.
    let effective = |name: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let user = effective("Uid:");
    let gives = mode & libc::S_ISUID != 0 && user != Some(meta.uid())
        || mode & group == group && effective("Gid:") != Some(meta.gid())
        || user != Some(0) && has_capabilities(file);
    gives && !would_do_without(file)
}

/// Returns whether a file has capabilities (capabilities(7)); the path is its link in `/proc`.
fn has_capabilities(file: &Path) -> bool {
    let path = std::fs::read_link(file).ok();
    let value = path.and_then(|path| attribute(&path, "security.capability").ok());
    value.flatten().is_some()
}

/// Returns whether the kernel would grant no privileges anyway: the file system is mounted `nosuid`, or rrapper itself
/// has `no_new_privs`.
fn would_do_without(file: &Path) -> bool {
    let nosuid = nix::sys::statvfs::statvfs(file)
        .is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID));
    nosuid || nix::sys::prctl::get_no_new_privs().unwrap_or(false)
}
