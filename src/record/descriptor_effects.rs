//! Effects of calls on descriptors that the call alone does not show: read from `/proc` right after the call.

use super::Result;
use crate::kernel::{ProcessTree, output_descriptors, path_has_offset};
use crate::recording::{CallEvent, Effect, Opened};
use crate::syscall::Syscall;
use crate::tracee::{Stopped, TaskMemory, kcmp, proc};
use std::os::unix::fs::FileTypeExt;

/// The effect of a successful call on descriptors.
pub(super) fn effect(
    family: &ProcessTree,
    task: &Stopped,
    call: &Syscall,
    event: &CallEvent,
) -> Result<Effect> {
    let tid = task.tid();
    let ret = event.ret.unwrap_or(0);
    match i64::from(call.nr) {
        libc::SYS_write | libc::SYS_writev => return appended(family, tid, event),
        libc::SYS_pwritev2 if event.args[3] == u64::MAX => return appended(family, tid, event),
        // At the end of a directory, some filesystems advance the offset without an entry that has the new one.
        libc::SYS_getdents | libc::SYS_getdents64 if ret == 0 => {
            return offset(family, tid, event);
        }
        libc::SYS_dup | libc::SYS_dup2 | libc::SYS_dup3 | libc::SYS_fcntl => {
            return Ok(Effect::None);
        }
        libc::SYS_signalfd | libc::SYS_signalfd4 if event.args[0] as i32 != -1 => {
            return Ok(Effect::None);
        }
        libc::SYS_chdir | libc::SYS_fchdir | libc::SYS_setns | libc::SYS_pivot_root => {
            return Ok(Effect::Path(proc::cwd(tid)?));
        }
        _ => {}
    }
    let numbers = match i64::from(call.nr) {
        libc::SYS_pidfd_getfd => vec![ret as i32],
        libc::SYS_ioctl | libc::SYS_bpf if call.returns_fd() => vec![ret as i32],
        libc::SYS_read => notified(family, task.memory(), tid, event, ret),
        _ => output_descriptors(event),
    };
    if !numbers.is_empty() {
        let mut all = Vec::new();
        for fd in numbers {
            let new = opened(family, tid, fd, &all)?;
            all.push(new);
        }
        return Ok(Effect::Opened(all));
    }
    if !call.returns_fd() {
        return Ok(Effect::None);
    }
    let fd = ret as i32;
    let path = proc::fd_path(tid, fd).unwrap_or_default();
    // Devices and FIFOs have paths like files.
    if path.first() == Some(&b'/') && is_movable(tid, fd) != path_has_offset(&path) {
        return Ok(Effect::Opened(vec![opened(family, tid, fd, &[])?]));
    }
    Ok(Effect::Path(path))
}

/// The files that a fanotify(7) group opened for the reader of its events.
fn notified(
    family: &ProcessTree,
    memory: TaskMemory,
    tid: i32,
    event: &CallEvent,
    ret: i64,
) -> Vec<i32> {
    const NAME: &[u8] = b"anon_inode:[fanotify]";
    // struct fanotify_event_metadata: its length first, the descriptor at 16.
    const LEN: usize = 24;
    let group = family.open_file(tid, event.args[0] as i32);
    if group.is_none_or(|file| file.path != NAME) {
        return Vec::new();
    }
    let data = memory.bytes(event.args[1], usize::try_from(ret).unwrap_or(0));
    let (mut numbers, mut rest) = (Vec::new(), data.as_slice());
    while let Some(head) = rest.get(..LEN) {
        let int = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let fd = i32::from_le_bytes(int(16));
        if fd >= 0 {
            numbers.push(fd);
        }
        let len = u32::from_le_bytes(int(0)) as usize;
        rest = rest.get(len.max(LEN)..).unwrap_or_default();
    }
    numbers
}

/// The offset after a write with `O_APPEND`.
fn appended(family: &ProcessTree, tid: i32, event: &CallEvent) -> Result<Effect> {
    let file = family.open_file(tid, event.args[0] as i32);
    match file.is_some_and(|file| file.moves && file.flags & libc::O_APPEND != 0) {
        true => offset(family, tid, event),
        false => Ok(Effect::None),
    }
}

fn offset(family: &ProcessTree, tid: i32, event: &CallEvent) -> Result<Effect> {
    let fd = event.args[0] as i32;
    let now = proc::descriptor(tid, fd)?.offset;
    let known = family.open_file(tid, fd).map(|file| file.offset);
    Ok(match known == Some(now) {
        true => Effect::None,
        false => Effect::Offset(now),
    })
}

/// Returns whether reads and writes advance a descriptor's offset.
pub(super) fn moves(tid: i32, d: &proc::Descriptor) -> bool {
    d.path.first() == Some(&b'/') && is_movable(tid, d.fd)
}

fn is_movable(tid: i32, fd: i32) -> bool {
    let kind = std::fs::metadata(format!("/proc/{tid}/fd/{fd}")).map(|meta| meta.file_type());
    kind.map_or(true, |kind| {
        !kind.is_char_device() && !kind.is_fifo() && !kind.is_socket()
    })
}

/// The properties of a new descriptor; `before` are those that the same call opened earlier.
fn opened(family: &ProcessTree, tid: i32, fd: i32, before: &[Opened]) -> Result<Opened> {
    let seen = proc::descriptor(tid, fd)?;
    Ok(Opened {
        fd,
        moves: moves(tid, &seen),
        twin: twin(family, tid, &seen, before),
        path: seen.path,
        flags: seen.flags,
        offset: seen.offset,
    })
}

/// An existing descriptor of the same open file as a new one.
fn twin(
    family: &ProcessTree,
    tid: i32,
    seen: &proc::Descriptor,
    before: &[Opened],
) -> Option<(i32, i32)> {
    let status = |flags: i32| flags & !libc::O_CLOEXEC;
    let same = |task: i32, fd: i32, path: &[u8], flags: i32, offset: u64| {
        path == seen.path
            && flags == status(seen.flags)
            && kcmp::share_file((task, fd), (tid, seen.fd)).unwrap_or(offset == seen.offset)
    };
    let new = |task: i32, fd: i32| {
        let one_of_them = fd == seen.fd || before.iter().any(|opened| opened.fd == fd);
        one_of_them && family.share_descriptors(task, tid)
    };
    let mut made = before.iter();
    let made = made.find(|o| same(tid, o.fd, &o.path, status(o.flags), o.offset));
    if let Some(made) = made {
        return Some((tid, made.fd));
    }
    family.all_tasks().find_map(|task| {
        let mut all = family.each_descriptor(task);
        let found = all.find(|&(fd, file, _)| {
            // The former descriptor of this number is closed.
            !new(task, fd) && same(task, fd, &file.path, file.flags, file.offset)
        });
        found.map(|(fd, ..)| (task, fd))
    })
}
