//! Emulation of futex calls that the trace does not have.
//!
//! Driven tasks never wait in the kernel: a task that waits for a futex word stays stopped until the word has changed,
//! while the other tasks run. So the kernel has no waiter to wake.

use super::task::FutexWait;
use super::{Driver, Next};
use crate::constants::Answer;
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::inject::hook::HookCall;
use crate::process::StopPoint;
use crate::syscall::Memory;
use crate::tracee::{Stopped, TaskMemory};

const TID_MASK: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;

/// The futex word at an address; `None` if it cannot be read.
pub fn word(memory: &TaskMemory, addr: u64) -> Option<u32> {
    let mut word = [0; 4];
    (memory.read(addr, &mut word) == 4).then(|| u32::from_le_bytes(word))
}

impl Driver<'_> {
    /// Answers a futex call without the kernel, unless it is a FUTEX_WAKE_OP.
    pub(super) fn futex(&mut self, task: Stopped, seen: Decided) -> Result<Next> {
        let [addr, op, value, timeout, ..] = seen.args;
        let value = value as u32;
        let Some(now) = word(&seen.memory, addr) else {
            return self.conclude(task, seen, Answer::Errno(libc::EFAULT));
        };
        let failed = Answer::Errno;
        let ret = match op as i32 & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI
                if now != value =>
            {
                failed(libc::EAGAIN)
            }
            libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI => {
                return self.wait_for_word(task, seen, value, timeout != 0, false);
            }
            libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 | libc::FUTEX_TRYLOCK_PI => {
                let tries = op as i32 & libc::FUTEX_CMD_MASK == libc::FUTEX_TRYLOCK_PI;
                match now & TID_MASK {
                    0 => self.take_word(&seen, addr)?,
                    owner if owner == self.me.tid as u32 => failed(libc::EDEADLK),
                    _ if tries => failed(libc::EAGAIN),
                    _ => {
                        self.group.shared.write(
                            seen.memory,
                            addr,
                            &(now | WAITERS).to_le_bytes(),
                        )?;
                        return self.wait_for_word(task, seen, now | WAITERS, timeout != 0, true);
                    }
                }
            }
            libc::FUTEX_UNLOCK_PI if now & TID_MASK == self.me.tid as u32 => {
                self.group.shared.write(seen.memory, addr, &[0; 4])?;
                Answer::Value(0)
            }
            libc::FUTEX_UNLOCK_PI => failed(libc::EPERM),
            libc::FUTEX_CMP_REQUEUE | libc::FUTEX_CMP_REQUEUE_PI if now != seen.args[5] as u32 => {
                failed(libc::EAGAIN)
            }
            // FUTEX_WAKE_OP also changes a second word, which the kernel does.
            libc::FUTEX_WAKE_OP => {
                return Ok(Next::ToExit(task, seen));
            }
            _ => Answer::Value(0),
        };
        self.conclude(task, seen, ret)
    }

    fn take_word(&self, seen: &HookCall, addr: u64) -> Result<Answer> {
        let own = self.me.tid as u32;
        self.group
            .shared
            .write(seen.memory, addr, &own.to_le_bytes())?;
        Ok(Answer::Value(0))
    }

    fn wait_for_word(
        &mut self,
        task: Stopped,
        seen: Decided,
        value: u32,
        limited: bool,
        locks: bool,
    ) -> Result<Next> {
        let waits = FutexWait {
            addr: seen.args[0],
            call: seen,
            value,
            limited,
            locks,
        };
        self.park(task, StopPoint::Entry, Some(waits));
        self.schedule()
    }

    /// Resumes a task after a futex wait. `given_up`: the wait ends although the word has not changed.
    pub(super) fn waited(
        &mut self,
        task: Stopped,
        waits: FutexWait,
        given_up: bool,
    ) -> Result<Next> {
        let seen = waits.call;
        let ret = match given_up {
            true if waits.limited => Answer::Errno(libc::ETIMEDOUT),
            // Programs must expect spurious wake-ups.
            true if waits.locks => Answer::Errno(libc::EINTR),
            true => Answer::Value(0),
            false if waits.locks => return self.futex(task, seen),
            false => Answer::Value(0),
        };
        self.conclude(task, seen, ret)
    }
}
