//! Delivery of the script's signals: the point at which a signal reaches its task, and the signal mask under which its
//! handler runs.
//!
//! The kernel delivers the signal, so that its own state stays consistent (one-shot handlers, alternate stacks). Then
//! the recorded state replaces what differs: the signal mask of the interrupted call, the registers, the signal frame.

use super::{Driver, Next};
use crate::constants::is_restart;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::inject::outcome::Status;
use crate::inject::script::item::{DueSignal, ItemKind};
use crate::recording::{Delivery, SignalEvent};
use crate::tracee::{Regs, Stop, Stopped, TaskMemory, Waited, agent};

/// The offset of `uc.uc_sigmask` in `struct rt_sigframe`, the mask that rt_sigreturn(2) restores: behind `pretcode` (8
/// bytes), `uc_flags`, `uc_link` and `uc_stack` (40), and `uc_mcontext` (256).
const SAVED_MASK: u64 = 8 + 40 + 256;

impl Driver<'_> {
    /// Sends the signals that the script has for the task's present position. The task is about to be resumed.
    pub(super) fn meet_signals(&mut self, task: &mut Stopped) -> Result<()> {
        self.collect_signals(task)?;
        self.unblock_due_signal(task)?;
        self.send_due(task);
        Ok(())
    }

    fn collect_signals(&mut self, task: &Stopped) -> Result<()> {
        let in_a_call = self.me.postponed.is_some() || self.me.step.is_some();
        let tid = self.me.tid;
        let here =
            |item: &crate::inject::script::item::Item| item.tid == tid && is_signal(&item.kind);
        if in_a_call || !self.script.front()?.is_some_and(here) {
            return Ok(());
        }
        let regs = task.regs()?;
        let here =
            |kind: &ItemKind| matches!(kind, ItemKind::Signal(due) if comes_here(due, &regs));
        while let Some(item) = self.script.pop_if(tid, here)? {
            if let ItemKind::Signal(due) = item.kind {
                match self.never_sent(&due) {
                    Some(missing) => self.me.missing = Some(missing),
                    None => self.me.due.push_back(due),
                }
            }
        }
        Ok(())
    }

    pub(super) fn send_due(&mut self, task: &Stopped) {
        if let Some(due) = self.me.due.front_mut()
            && !std::mem::replace(&mut due.sent, true)
        {
            task.send(due.signal);
        }
    }

    /// Unblocks the next due signal in the task's signal mask. Its call may have waited under a temporary mask
    /// (sigsuspend, ppoll), under which the kernel delivered the recorded signal.
    fn unblock_due_signal(&mut self, task: &mut Stopped) -> Result<()> {
        let Some(due) = self.me.due.front() else {
            return Ok(());
        };
        let mask = task.sigmask()?;
        let under = self.me.waited_under.take().unwrap_or(mask) & !(1 << (due.signal - 1));
        if under != mask {
            self.me.masked.get_or_insert(mask);
            task.set_sigmask(under)?;
        }
        Ok(())
    }

    /// Restores the task's signal mask after a due signal that runs no handler.
    pub(super) fn unmask(&mut self, task: &mut Stopped) -> Result<()> {
        if let Some(mask) = self.me.masked.take() {
            task.set_sigmask(mask)?;
        }
        Ok(())
    }

    /// Delivers the signal to its handler. The task is then stopped at the handler's first instruction.
    pub(super) fn deliver(
        &mut self,
        task: Stopped,
        signal: i32,
        recorded: Option<&SignalEvent>,
    ) -> Result<Next> {
        match task.step_with(signal)?.wait()? {
            Waited::Stopped(mut task, Stop::Signal(libc::SIGTRAP)) => {
                self.enter_handler(&mut task, recorded)?;
                self.me.segv.after_mask(&task)?;
                self.resume_task(task)
            }
            Waited::Stopped(task, stop) => self.on_stop(task, stop, None),
            Waited::Ended(exit) => Ok(Next::End(Status::Signaled, Some(exit), None)),
        }
    }

    fn enter_handler(&mut self, task: &mut Stopped, recorded: Option<&SignalEvent>) -> Result<()> {
        let masked = self.me.masked.take();
        let mut under = None;
        let entered = task.regs()?;
        if let Some(Delivery::Handler {
            regs,
            sigmask,
            frame,
        }) = recorded.map(|signal| &signal.delivery)
        {
            under = Some(*sigmask);
            let regs = regs.as_slice().try_into().map(Regs::from_words);
            let same = regs.is_ok_and(|regs| {
                (regs.ip(), regs.sp(), frame.addr) == (entered.ip(), entered.sp(), entered.sp())
            });
            let ours = agent::is_touched(frame.addr, frame.data.len() as u64);
            if !same || ours {
                self.mark_modified();
            }
            if self.is_as_recorded()
                && let Ok(mut regs) = regs
            {
                self.group
                    .shared
                    .write(task.memory(), frame.addr, &frame.data)?;
                regs.set_ip(regs.ip());
                task.set_regs(&regs)?;
                task.set_sigmask(*sigmask)?;
                return Ok(());
            }
        }
        if let Some(mask) = masked {
            let at = entered.sp().wrapping_add(SAVED_MASK);
            task.memory().write(at, &mask.to_le_bytes())?;
            if let Some(under) = under {
                task.set_sigmask(under)?;
            }
        }
        Ok(())
    }

    /// Puts the task into the state of a call that a signal interrupts: the kernel restarts the call or has it fail
    /// with EINTR, as the signal's action (SA_RESTART) says.
    pub(super) fn interrupt(&mut self, task: &mut Stopped, nr: u32, code: i64) -> Result<()> {
        let mut regs = task.regs()?;
        task.to_exit()?;
        regs.interrupt(nr.into(), code);
        task.set_regs(&regs)?;
        self.meet_signals(task)?;
        if self.me.due.is_empty() {
            // The kernel handles restart codes only when a signal is pending. This SIGSTOP is discarded when it
            // arrives.
            task.send(libc::SIGSTOP);
        }
        Ok(())
    }
}

fn is_signal(kind: &ItemKind) -> bool {
    matches!(kind, ItemKind::Signal(_))
}

/// Returns whether a signal is due at the task's present registers. If not, it is due at the entry of the task's next
/// call, to which the task has to run first.
fn comes_here(due: &DueSignal, regs: &Regs) -> bool {
    let interrupted = regs.nr() >= 0 && is_restart(regs.ret());
    let recorded = due.recorded.as_ref();
    let returns_to = recorded.and_then(|signal| signal.returns_to());
    interrupted || returns_to.is_none_or(|ip| ip == regs.ip())
}

/// The signal mask under which a call waits, if the call takes one.
pub(super) fn wait_mask(seen: &HookCall) -> Option<u64> {
    let memory = &seen.memory;
    let word = |at: u64| TaskMemory::word(memory, at).ok().filter(|_| at != 0);
    match seen.call.name {
        "rt_sigsuspend" => word(seen.asked[0]),
        "ppoll" => word(seen.asked[3]),
        "epoll_pwait" | "epoll_pwait2" => word(seen.asked[4]),
        // The argument points to a structure whose first member is the address of the mask.
        "pselect6" | "io_pgetevents" => word(word(seen.asked[5])?),
        _ => None,
    }
}
