//! Calls of which rrapper does not know all that they do. The kernel is asked: what it refuses has written nothing, and
//! what only returns a number can be recorded as well. Whatever else succeeds ends the recording.

use super::calls::describe;
use super::task::Task;
use super::{Recorder, Result};
use crate::recording::CallEvent;
use crate::syscall::{Format, Kind, Replay, Syscall};
use crate::tracee::{Stopped, proc};

/// Multiplexers of which a variant that nobody knows can only do something to a file, a key or memory that it is given.
const HARMLESS_WITHOUT_POINTERS: [&str; 3] = ["ioctl", "fcntl", "keyctl"];

/// What is said of a call if it succeeds.
pub struct UnknownCall {
    what: String,
    why: &'static str,
}

impl Recorder {
    /// Whether it is not known what this call does, at whose entry the task stands.
    ///
    /// # Errors
    /// If it must not even be tried, and need not fail. Those by which tasks would be traced twice are refused otherwise.
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

    /// Whether the call disturbs neither the tracer nor anybody else, whatever comes of it.
    pub(super) fn may_be_tried(&self, current: &Task, call: &Syscall, args: &[u64; 6]) -> bool {
        match call.name {
            "ptrace" => match args[0] as u32 {
                libc::PTRACE_TRACEME => false,
                libc::PTRACE_ATTACH | libc::PTRACE_SEIZE => {
                    // Nobody can be attached to twice, but would be if nothing were recorded.
                    let pid = args[1] as i32;
                    let process = proc::process(pid);
                    process.map_or(true, |process| process == current.pid)
                }
                // Nobody is attached to, so the kernel finds none.
                _ => true,
            },
            // The kernel goes on elsewhere from there, or has it raise a signal. Most show nobody that they are made.
            "uretprobe" | "uprobe" => false,
            _ => true,
        }
    }

    /// At the exit of such a call: nothing, where it failed or can have done nothing else than return a number.
    ///
    /// # Errors
    /// Where it can.
    pub(super) fn only_if_harmless(
        &self,
        unsure: &UnknownCall,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<()> {
        let ret = event.ret.unwrap_or(0);
        if (-4095..0).contains(&ret) {
            return Ok(());
        }
        let variant = !call.described && HARMLESS_WITHOUT_POINTERS.contains(&call.name);
        if variant && !has_place_to_write(task, call, event)? {
            return Ok(());
        }
        Err(self.unsupported(&unsure.what, unsure.why))
    }
}

/// Whether an argument points to memory that the process can write to.
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
