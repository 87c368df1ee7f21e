//! Executions of `/proc/self/exe`, where the system does not let that link be the recorded program.

use super::engine::Engine;
use super::task::Task;
use crate::inject::Result;
use crate::inject::hook::{HookCall, ScratchPiece};
use crate::restore;
use crate::tracee::{Error, Stopped, proc, spawn};
use std::fs::File;
use std::os::fd::AsRawFd;

/// The name that the kernel gives to a program that is executed by such a link.
const NAME: &[u8] = b"exe";

/// A path that replaces the argument of a call until the call ends.
pub(super) struct ReplacedPath {
    piece: ScratchPiece,
    /// The file that the path leads to.
    _file: File,
}

impl ReplacedPath {
    /// The address of the path.
    pub fn addr(&self) -> u64 {
        self.piece.addr
    }
}

impl Engine<'_> {
    /// The argument and the replaced path for a call that is to execute the process's own program.
    pub(super) fn replace_proc_self_exe(
        &self,
        me: &Task,
        seen: &HookCall,
    ) -> Result<Option<(usize, ReplacedPath)>> {
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
        let member = self.members.get(&me.process);
        let program = member.and_then(|member| member.program.as_ref());
        let program = program.unwrap_or(&self.program);
        if !named || program.path.is_empty() || !is_ours(tid) {
            return Ok(None);
        }
        let what = || {
            format!(
                "open the program {}",
                String::from_utf8_lossy(&program.path)
            )
        };
        let file = restore::program(recording, program).map_err(|e| Error::os(what(), tid, e))?;
        let mut path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into_bytes();
        path.push(0);
        let Some(piece) = me.scratch.take(path.len()) else {
            return Ok(None);
        };
        seen.memory.write(piece.addr, &path)?;
        Ok(Some((arg, ReplacedPath { piece, _file: file })))
    }
}

/// Whether the kernel's executable of a process is rrapper's empty program, in which images are restored.
fn is_ours(tid: i32) -> bool {
    proc::exe(tid).is_ok_and(|exe| exe == spawn::EMPTY_EXE)
}

/// Sets the name of a process that has executed such a path, as the kernel would have set it.
pub(super) fn set_name(task: &mut Stopped) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    let at = remote.put_str(NAME)?;
    let args = [libc::PR_SET_NAME as u64, at, 0, 0, 0, 0];
    remote.must("set its name", libc::SYS_prctl, args)?;
    Ok(remote.finish()?)
}
