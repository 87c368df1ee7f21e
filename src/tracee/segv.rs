//! The mask and the action of a task for SIGSEGV.
//!
//! The kernel changes both when it traps a read of the time stamp counter (see [`super::tsc`]) in a task that blocks or
//! ignores the signal: it unblocks the signal and resets its action. The tracer restores both when it supplies the
//! value.

use super::{Result, Stopped};

const SIGSEGV: i32 = libc::SIGSEGV;
const BIT: u64 = 1 << (SIGSEGV - 1);

/// The size of the kernel's `struct sigaction` on x86-64: handler, flags, restorer, mask.
const ACTION: usize = 32;

/// A task's mask and action for SIGSEGV, as the program set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegvState {
    blocked: bool,
    /// The action; `None` for the default.
    action: Option<[u8; ACTION]>,
}

impl SegvState {
    /// The state of a program that has just been executed with this mask and these ignored signals (bit n-1 for signal
    /// n).
    pub fn at_exec(sigmask: u64, ignored: u64) -> SegvState {
        let mut ignore = [0; ACTION];
        ignore[..8].copy_from_slice(&(libc::SIG_IGN as u64).to_le_bytes());
        SegvState {
            blocked: sigmask & BIT != 0,
            action: (ignored & BIT != 0).then_some(ignore),
        }
    }

    /// The state of a task with this mask and this action, `None` for the default.
    pub fn of(sigmask: u64, action: Option<[u8; ACTION]>) -> SegvState {
        SegvState {
            blocked: sigmask & BIT != 0,
            action,
        }
    }

    /// Follows a call that returned `ret`, where it may have changed the mask or the action.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn after_call(&mut self, task: &Stopped, nr: u32, args: &[u64; 6], ret: i64) -> Result<()> {
        match i64::from(nr) {
            // rt_sigreturn returns a register of the interrupted code.
            libc::SYS_rt_sigreturn => self.after_mask(task),
            _ if ret < 0 => Ok(()),
            libc::SYS_rt_sigaction if args[0] == SIGSEGV as u64 && args[1] != 0 => {
                let mut action = [0; ACTION];
                task.memory().read_exact(args[1], &mut action)?;
                self.action = (action[..8] != [0; 8]).then_some(action);
                Ok(())
            }
            libc::SYS_rt_sigprocmask => self.after_mask(task),
            _ => Ok(()),
        }
    }

    /// Takes over the action that another task of the same process has set.
    pub fn share_action(&mut self, other: &SegvState) {
        self.action = other.action;
    }

    /// Follows a change of the mask.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn after_mask(&mut self, task: &Stopped) -> Result<()> {
        self.blocked = task.sigmask()? & BIT != 0;
        Ok(())
    }

    /// Restores the mask and the action after a trap. The task stands at the signal, which is suppressed.
    ///
    /// # Errors
    /// If the task ends meanwhile.
    pub fn restore(&self, task: &mut Stopped) -> Result<()> {
        let ignored = self
            .action
            .is_some_and(|action| action[..8] == (libc::SIG_IGN as u64).to_le_bytes());
        if !self.blocked && !ignored {
            return Ok(());
        }
        if let Some(action) = &self.action {
            let mut remote = task.remote_at_boundary()?;
            let at = remote.put(action)?;
            let args = [SIGSEGV as u64, at, 0, 8, 0, 0];
            remote.must("restore its handler", libc::SYS_rt_sigaction, args)?;
            remote.finish()?;
        }
        if self.blocked {
            task.set_sigmask(task.sigmask()? | BIT)?;
        }
        Ok(())
    }
}
