//! A process that executes its own program by `/proc/self/exe`, where the system does not let that be the recorded one.

use super::engine::{Engine, Task};
use crate::inject::Result;
use crate::inject::hook::{HookCall, ScratchPiece};
use crate::restore;
use crate::tracee::{Error, Stopped, proc, spawn};
use std::fs::File;
use std::os::fd::AsRawFd;

/// What the kernel calls a program that is executed by such a link.
const NAME: &[u8] = b"exe";

/// A path that a call is given for a while.
pub(super) struct Lent {
    piece: ScratchPiece,
    /// What it leads to.
    _file: File,
}

impl Lent {
    /// Where it is.
    pub fn addr(&self) -> u64 {
        self.piece.addr
    }
}

impl Engine<'_> {
    /// The path of its program, for a call that is to execute that: which argument, and what to pass.
    pub(super) fn own_program(&self, me: &Task, seen: &HookCall) -> Result<Option<(usize, Lent)>> {
        let arg = match seen.call.name {
            "execve" => 0,
            "execveat" => 1,
            _ => return Ok(None),
        };
        let Some(recording) = &self.recording else {
            return Ok(None);
        };
        let tid = seen.memory.tid();
        let named = seen.path().is_some_and(|path| {
            let who = path
                .strip_prefix(b"/proc/")
                .and_then(|path| path.strip_suffix(b"/exe"));
            let who = who.and_then(|who| std::str::from_utf8(who).ok());
            who.is_some_and(|who| {
                let number = who.parse::<i32>().ok();
                matches!(who, "self" | "thread-self")
                    || number.is_some_and(|n| [me.pid, me.tid, me.process, tid].contains(&n))
            })
        });
        if !named || self.program.path.is_empty() || !is_ours(tid) {
            return Ok(None);
        }
        let what = || {
            format!(
                "open the program {}",
                String::from_utf8_lossy(&self.program.path)
            )
        };
        let file =
            restore::program(recording, &self.program).map_err(|e| Error::os(what(), tid, e))?;
        let mut path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into_bytes();
        path.push(0);
        let Some(piece) = me.room.take(path.len()) else {
            return Ok(None);
        };
        seen.memory.write(piece.addr, &path)?;
        Ok(Some((arg, Lent { piece, _file: file })))
    }
}

/// Whether the kernel takes a process for one of rrapper's program, in which images are restored.
fn is_ours(tid: i32) -> bool {
    proc::exe(tid).is_ok_and(|exe| exe == spawn::EMPTY_EXE)
}

/// Calls a process that has executed such a path as the kernel would have called it.
pub(super) fn name(task: &mut Stopped) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    let at = remote.put_str(NAME)?;
    let args = [libc::PR_SET_NAME as u64, at, 0, 0, 0, 0];
    remote.must("set its name", libc::SYS_prctl, args)?;
    Ok(remote.finish()?)
}
