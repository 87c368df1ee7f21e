//! Hardware breakpoints: addresses at which the processor stops a task before it executes the instruction there (debug
//! registers). Memory is not changed, and only the task itself stops.
//!
//! The stop is a SIGTRAP that the kernel forces upon the task: it unblocks the signal, so whoever suppresses the signal
//! must restore the mask. A resumed task passes the breakpoint at which it stands (the resume flag is set).

use super::{Regs, Result, SigInfo, Stopped, sys};
use std::mem::offset_of;

/// The number of breakpoints that a task can have.
pub const MOST: usize = 4;

/// `si_code` of the signal: `TRAP_HWBKPT`.
const HARDWARE_BREAKPOINT: i32 = 4;

/// The control register, which enables the others.
const CONTROL: usize = 7;

impl Stopped {
    /// Replaces the task's breakpoints by these, at most [`MOST`].
    ///
    /// # Errors
    /// If the task has been killed meanwhile, or this machine provides no debug registers.
    pub fn set_breakpoints(&mut self, points: &[u64]) -> Result<()> {
        const WORD: usize = size_of::<libc::c_ulonglong>();
        let register = |number| offset_of!(libc::user, u_debugreg) + number * WORD;
        let tid = self.tid();
        let points = &points[..points.len().min(MOST)];
        for (number, &point) in points.iter().enumerate() {
            sys::poke_user(tid, register(number), point)?;
        }
        // Two bits for each register, the lower of which is for this task alone; zeros in the upper half mean
        // execution.
        let control = (0..points.len()).fold(0, |control, number| control | 1 << (2 * number));
        sys::poke_user(tid, register(CONTROL), control)
    }

    /// The registers, if the task stopped at a breakpoint, which may have been removed since.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn at_breakpoint(&self) -> Result<Option<Regs>> {
        match is_breakpoint(&self.siginfo()?) {
            true => self.regs().map(Some),
            false => Ok(None),
        }
    }
}

/// Whether a signal is that of a hardware breakpoint.
fn is_breakpoint(info: &SigInfo) -> bool {
    info.signal() == libc::SIGTRAP && info.code() == HARDWARE_BREAKPOINT
}
