//! Calls with effects unknown to rrapper. They are made all the same: a call that the kernel refuses has written
//! nothing, and a call that only returns a number can be recorded. Any other success ends the recording.

use super::calls::describe;
use super::task::Task;
use super::{Recorder, Result};
use crate::constants::is_error;
use crate::recording::CallEvent;
use crate::syscall::{Format, Kind, Replay, Syscall};
use crate::tracee::{Stopped, proc};

/// Multiplexers whose unknown operations can only affect a file, a key or the memory in their arguments.
const HARMLESS_WITHOUT_POINTERS: [&str; 3] = ["ioctl", "fcntl", "keyctl"];

/// The error for an unknown call that succeeds.
pub struct UnknownCall {
    what: String,
    why: &'static str,
}

impl Recorder {
    /// At a call's entry: whether the effects of the call are unknown.
    ///
    /// # Errors
    /// If the call must not be made at all, and might succeed. Calls by which tasks would be traced twice are refused
    /// elsewhere.
    pub(super) fn unknown_call(
        &self,
        current: &Task,
        task: &Stopped,
        call: &'static Syscall,
        args: &[u64; 6],
    ) -> Result<Option<UnknownCall>> {
        let why = if call.is_nameless() {
            "its number is unknown"
        } else if !call.described {
            "rrapper does not know all that this call does"
        } else if call.replay == Replay::Unsupported {
            "rrapper cannot record this call yet"
        } else {
            return Ok(None);
        };
        let what = describe(call, args, task.memory());
        match self.may_be_tried(current, call, args) {
            true => Ok(Some(UnknownCall { what, why })),
            false if call.name == "ptrace" => Ok(None),
            false => Err(self.unsupported(&what, why)),
        }
    }

    /// Returns whether the call disturbs neither the tracer nor other processes, whatever its result.
    pub(super) fn may_be_tried(&self, current: &Task, call: &Syscall, args: &[u64; 6]) -> bool {
        match call.name {
            "ptrace" => match args[0] as u32 {
                libc::PTRACE_TRACEME => false,
                libc::PTRACE_ATTACH | libc::PTRACE_SEIZE => {
                    // A task cannot be traced twice, but the attach would succeed without the recorder.
                    let pid = args[1] as i32;
                    let process = proc::process(pid);
                    process.map_or(true, |process| process == current.pid)
                }
                // No task is attached, so the kernel finds none.
                _ => true,
            },
            // The kernel continues at another address, or raises a signal. Most of these calls are invisible to the
            // tracer.
            "uretprobe" | "uprobe" => false,
            _ => true,
        }
    }

    /// At the exit of an unknown call: succeeds where the call failed or can only have returned a number.
    ///
    /// # Errors
    /// If the call may have had another effect.
    pub(super) fn only_if_harmless(
        &self,
        unsure: &UnknownCall,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<()> {
        let ret = event.ret.unwrap_or(0);
        if is_error(ret) {
            return Ok(());
        }
        let variant = !call.described && HARMLESS_WITHOUT_POINTERS.contains(&call.name);
        if variant && !has_place_to_write(task, call, event)? {
            return Ok(());
        }
        Err(self.unsupported(&unsure.what, unsure.why))
    }
}

/// Returns whether an argument points to memory that the process can write to.
fn has_place_to_write(task: &Stopped, call: &Syscall, event: &CallEvent) -> Result<bool> {
    let maps = proc::maps(task.tid())?;
    let formal = call.args.iter().zip(event.args);
    let mut pointers = formal.filter(|(arg, _)| {
        let Kind::Num(num) = &arg.kind else {
            return true;
        };
        num.size == 8 && matches!(num.format, Format::Hex | Format::Addr)
    });
    Ok(pointers.any(|(_, value)| {
        let mut maps = maps.iter();
        maps.any(|map| map.holds(value) && map.prot & libc::PROT_WRITE != 0)
    }))
}
