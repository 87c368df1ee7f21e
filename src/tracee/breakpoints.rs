//! Places in a program that stop a task just before it executes the instruction there: the processor's debug
//! registers. Memory stays as it is, and only the task itself stops.
//!
//! The stop is a SIGTRAP, which the kernel forces upon the task: one that blocks the signal finds it unblocked
//! afterwards, so whoever drops it puts the mask back. Having stopped, the task passes the place when it is resumed (the
//! resume flag is among its registers).

use super::{Regs, Result, SigInfo, Stopped, sys};
use std::mem::offset_of;

/// The most that a task can have at once.
pub const MOST: usize = 4;

/// `si_code` of the signal: `TRAP_HWBKPT`.
const HARDWARE_BREAKPOINT: i32 = 4;

/// The register that says which of the others count.
const CONTROL: usize = 7;

impl Stopped {
    /// Has it stop at these addresses, and no longer at others; at most [`MOST`].
    ///
    /// # Errors
    /// If it has been killed meanwhile, or this machine has no debug registers for it.
    pub fn set_breakpoints(&mut self, points: &[u64]) -> Result<()> {
        const WORD: usize = size_of::<libc::c_ulonglong>();
        let register = |number| offset_of!(libc::user, u_debugreg) + number * WORD;
        let tid = self.tid();
        let points = &points[..points.len().min(MOST)];
        for (number, &point) in points.iter().enumerate() {
            sys::poke_user(tid, register(number), point)?;
        }
        // Two bits for each register, the lower of which is for this task alone; zeros in the upper half mean execution.
        let control = (0..points.len()).fold(0, |control, number| control | 1 << (2 * number));
        sys::poke_user(tid, register(CONTROL), control)
    }

    /// Its registers, if it has stopped for a place: maybe for one at which it stops no longer.
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

/// Whether a signal says that a task has come to such a place.
fn is_breakpoint(info: &SigInfo) -> bool {
    info.signal() == libc::SIGTRAP && info.code() == HARDWARE_BREAKPOINT
}
