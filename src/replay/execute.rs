//! Answering a recorded call in a replayed process: from the recording, and for calls that
//! touch the process itself by making them, at the recorded addresses.

use super::{Error, Result};
use crate::image::KEPT_FILE;
use crate::recording::{CallEvent, Effect, Recording};
use crate::syscall::{self, Replay};
use crate::tracee::{Regs, Remote, Stop, Stopped};
use std::os::unix::ffi::OsStrExt;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;

/// Answers the call at whose entry the task stands; it is then between calls.
pub fn answer(
    task: &mut Stopped,
    event: &CallEvent,
    ret: i64,
    number: u64,
    recording: &Recording,
) -> Result<()> {
    let call = syscall::by_nr(event.nr.into()).map(|call| call.resolve(&event.args));
    let failed = (-4095..0).contains(&ret);
    let mut regs = task.regs()?;
    // What it seems to return is the interrupted call's result, and may look like an error.
    if call.is_some_and(|call| call.name == "rt_sigreturn") {
        return sigreturn(task, number);
    }
    if let Some(call) = call.filter(|call| call.replay == Replay::Run && !failed) {
        match call.name {
            "arch_prctl" => match event.args[0] {
                ARCH_SET_FS => regs.set_fs_base(event.args[1]),
                ARCH_SET_GS => regs.set_gs_base(event.args[1]),
                _ => {}
            },
            "mmap" | "mremap" | "madvise" => {
                make(task, &mut regs, call.name, event, ret, number, recording)?;
            }
            name => repeat(task, name, ret, number)?,
        }
    }
    let memory = task.memory();
    for chunk in &event.outs {
        memory.write(chunk.addr, &chunk.data)?;
    }
    regs.answer(ret);
    Ok(task.set_regs(&regs)?)
}

fn sigreturn(task: &mut Stopped, number: u64) -> Result<()> {
    match task.to_exit()? {
        Stop::Syscall => Ok(()),
        other => Err(Error::Diverged {
            event: number,
            expected: "rt_sigreturn()".into(),
            actual: format!("{other:?}"),
        }),
    }
}

/// Has the process make the very call at whose entry it stands.
///
/// Only what cannot reach beyond the process: a recording may be a stranger's, and claim that its execve
/// has no new image.
fn repeat(task: &mut Stopped, name: &str, ret: i64, number: u64) -> Result<()> {
    const OWN: [&str; 9] = [
        "brk",
        "mprotect",
        "munmap",
        "pkey_mprotect",
        "rt_sigaction",
        "rt_sigprocmask",
        "set_robust_list",
        "set_tid_address",
        "sigaltstack",
    ];
    let diverged = |actual: String| Error::Diverged {
        event: number,
        expected: format!("{name} to return {ret:#x}"),
        actual,
    };
    if !OWN.contains(&name) {
        return Err(diverged("a call that replay does not make".into()));
    }
    match task.to_exit()? {
        Stop::Syscall => {}
        other => return Err(diverged(format!("{other:?}"))),
    }
    let made = task.regs()?.ret();
    // The kernel answers with the tid, and the recorded one stands.
    if made != ret && name != "set_tid_address" {
        return Err(diverged(format!("{made:#x}")));
    }
    Ok(())
}

/// Makes the call in the process, at the recorded place.
fn make(
    task: &mut Stopped,
    regs: &mut Regs,
    name: &str,
    event: &CallEvent,
    ret: i64,
    number: u64,
    recording: &Recording,
) -> Result<()> {
    // Out of the call first: the agent's calls then come from between calls.
    regs.answer(ret);
    task.set_regs(regs)?;
    let mut remote = task.remote_at_boundary()?;
    let made = match name {
        "mmap" => Some(map(&mut remote, event, ret, recording)?),
        "mremap" => Some(remap(&mut remote, event.args, ret)?),
        _ => advise(&mut remote, event.args)?,
    };
    remote.finish()?;
    match made {
        Some(made) if made != ret => Err(Error::Diverged {
            event: number,
            expected: format!("{name} to return {ret:#x}"),
            actual: format!("{made:#x}"),
        }),
        _ => Ok(()),
    }
}

/// mmap at the recorded address. Mappings of files are private ones of the kept copy; shared anonymous
/// memory is private, since no other process of the recording has it, and a copy of the process
/// must not write into the replay.
fn map(remote: &mut Remote<'_>, event: &CallEvent, ret: i64, recording: &Recording) -> Result<i64> {
    let [_, len, prot, flags, _, offset] = event.args;
    let keep = libc::MAP_ANONYMOUS
        | libc::MAP_GROWSDOWN
        | libc::MAP_NORESERVE
        | libc::MAP_STACK
        | libc::MAP_DENYWRITE;
    let flags = flags as i32 & keep | libc::MAP_PRIVATE | libc::MAP_FIXED;
    let Effect::Map(file) = event.effect else {
        // What has no kept file is anonymous, or /dev/zero.
        let flags = flags | libc::MAP_ANONYMOUS;
        let args = [ret as u64, len, prot, flags as u64, u64::MAX, 0];
        return Ok(remote.call(libc::SYS_mmap, args)?);
    };
    let path = recording.file_path(file);
    remote.reset_scratch();
    let name = remote.put_str(path.as_os_str().as_bytes())?;
    let how = KEPT_FILE as u64;
    let args = [libc::AT_FDCWD as u64, name, how, 0, 0, 0];
    let fd = remote.must(&format!("open {}", path.display()), libc::SYS_openat, args)?;
    let made = remote.call(
        libc::SYS_mmap,
        [ret as u64, len, prot, flags as u64, fd, offset],
    )?;
    remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    Ok(made)
}

/// mremap to the recorded place.
fn remap(remote: &mut Remote<'_>, args: [u64; 6], ret: i64) -> Result<i64> {
    let [old, old_len, new_len, flags, ..] = args;
    let kept = flags & libc::MREMAP_DONTUNMAP as u64;
    let moved = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64 | kept;
    let args = if ret as u64 == old {
        [old, old_len, new_len, 0, 0, 0]
    } else {
        [old, old_len, new_len, moved, ret as u64, 0]
    };
    Ok(remote.call(libc::SYS_mremap, args)?)
}

/// Only the advice that changes contents counts; the rest would take pages from copies of the process
/// (DONTFORK, WIPEONFORK) or at times of the kernel's choosing (FREE).
fn advise(remote: &mut Remote<'_>, args: [u64; 6]) -> Result<Option<i64>> {
    match args[2] as i32 {
        libc::MADV_DONTNEED | libc::MADV_REMOVE | libc::MADV_DONTNEED_LOCKED => {
            let args = [args[0], args[1], libc::MADV_DONTNEED as u64, 0, 0, 0];
            Ok(Some(remote.call(libc::SYS_madvise, args)?))
        }
        _ => Ok(None),
    }
}
