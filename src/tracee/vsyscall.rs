//! Calls through the vsyscall page: kernel code that old programs jump to for the time.
//!
//! The kernel emulates such a call when the task jumps to the page, and then returns to the caller. There is no exit to
//! stop at, and no instruction to restart. So the task makes the same call from the agent's page, and returns from
//! there.

use super::task::{Stop, Stopped, Waited};
use super::{Result, agent, sys};

/// From the entry of a call through the page: proceeds to the entry of the replacing call.
pub(super) fn leave(mut task: Stopped) -> Result<Waited> {
    let regs = task.regs()?;
    let nr = regs.nr();
    let mut skipped = regs;
    skipped.answer(0);
    task.set_regs(&skipped)?;
    // The requested stop comes at the return address, before the task executes another instruction.
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
        // The task returns there afterwards.
        other => Ok(Waited::Stopped(task, other)),
    }
}
