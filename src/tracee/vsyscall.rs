//! Calls through the vsyscall page: code of the kernel's that old programs jump to for the time.
//!
//! The kernel makes such a call when the task comes to the page, and then has it return. There is no exit to stop at,
//! and no instruction to make the call again. So the task makes the same call from the agent's page, and returns
//! from there.

use super::task::{Stop, Stopped, Waited};
use super::{Result, agent, sys};

/// From the entry of a call through the page: goes to the entry of the call that is made instead.
pub(super) fn leave(mut task: Stopped) -> Result<Waited> {
    let regs = task.regs()?;
    let nr = regs.nr();
    let mut skipped = regs;
    skipped.answer(0);
    task.set_regs(&skipped)?;
    // It must not get further than to where the kernel has it return.
    sys::resume(libc::PTRACE_INTERRUPT, task.tid(), 0)?;
    let (mut task, stop) = match task.resume()?.wait()? {
        Waited::Stopped(task, stop) => (task, stop),
        ended @ Waited::Ended(_) => return Ok(ended),
    };
    if stop == Stop::Exit {
        return Ok(Waited::Stopped(task, stop));
    }
    let mut instead = regs;
    instead.set_ip(agent::VSYSCALL);
    instead.set_ret(nr);
    task.set_regs(&instead)?;
    match stop {
        Stop::Attached => task.resume()?.wait(),
        // It goes there when that is over.
        other => Ok(Waited::Stopped(task, other)),
    }
}
