//! Signals of an injected process: its own faults, the script's signals between calls, and the SIGSEGV of a trapped
//! instruction (cpuid, rdtsc).

use super::{Driver, Next};
use crate::backtrace::{self, Frame};
use crate::constants::default_action::{is_harmless, is_stop};
use crate::constants::is_restart;
use crate::inject::hook::HookSignal;
use crate::inject::log::observe;
use crate::inject::outcome::{Injected, Status};
use crate::inject::{Error, Result};
use crate::process::StopPoint;
use crate::recording::Delivery;
use crate::syscall;
use crate::trace::Exit;
use crate::tracee::{Regs, Stopped, proc, tsc};
use crate::value::BRIEF;

impl Driver<'_> {
    pub(super) fn on_signal(&mut self, mut task: Stopped, signal: i32) -> Result<Next> {
        if signal == libc::SIGSTOP && self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        let tid = task.tid();
        if signal == libc::SIGSEGV {
            let mut regs = task.regs()?;
            let cpuid = &self.group.recording.start().cpuid;
            if cpuid.execute(&mut regs, &task.memory()) {
                task.set_regs(&regs)?;
                self.me.segv.restore(&mut task)?;
                return Ok(Next::Resume(task));
            }
            if let Some(instruction) = tsc::Instruction::at(&regs, &task.memory()) {
                let recorded = self.next_step()?.and_then(|step| step.tsc.pop_front());
                instruction.execute(&mut regs, recorded.unwrap_or_else(|| instruction.value()));
                if recorded.is_none() {
                    self.mark_modified();
                } else if self.me.target.is_none() {
                    self.read_on(&task, &mut regs)?;
                }
                task.set_regs(&regs)?;
                self.me.segv.restore(&mut task)?;
                return Ok(Next::Resume(task));
            }
        }
        if signal == libc::SIGTRAP
            && let Some(there) = self.reached_target(&mut task)?
        {
            if !there {
                return Ok(Next::Resume(task));
            }
            self.park(task, StopPoint::Between, None);
            return self.schedule();
        }
        let mut recorded = None;
        if self.me.due.front().is_some_and(|due| due.signal == signal)
            && let Some(due) = self.me.due.pop_front()
        {
            if let Some(info) = due.info {
                self.group.changes.signal(signal, &info.0);
                task.set_siginfo(&info)?;
            }
            recorded = due.recorded;
            self.send_due(&task);
        }
        if signal == libc::SIGSTOP || is_stop(signal) && !proc::catches(tid, signal)? {
            self.unmask(&mut task)?;
            return self.resume_task(task);
        }
        let came = signal;
        let signal = match self.ask_hooks(&task, signal)? {
            Ok(Some(signal)) => signal,
            Ok(None) => {
                self.unmask(&mut task)?;
                return self.resume_task(task);
            }
            Err(reason) => {
                self.report.reason = Some(reason);
                return Ok(Next::End(Status::Stopped, None, None));
            }
        };
        if proc::catches(tid, signal)? {
            let recorded = recorded.as_deref().filter(|_| signal == came);
            return self.deliver(task, signal, recorded);
        }
        let fault = task.siginfo()?.is_fault();
        // The kernel spares the first process of a pid namespace, and the copy runs in another namespace.
        let spared = recorded
            .as_ref()
            .is_some_and(|recorded| recorded.delivery == Delivery::Ignored);
        if !fault
            && (spared && signal == came || proc::ignores(tid, signal)? || is_harmless(signal))
        {
            self.unmask(&mut task)?;
            return self.resume_task(task);
        }
        let others_go_on = match recorded {
            Some(_) if signal == came => self.others_go_on()?,
            _ => self.others_see_death(signal)?,
        };
        if others_go_on {
            self.fatal = Some(signal);
            return Ok(Next::Live(task, None));
        }
        self.report.backtrace = self.backtrace_of(&task);
        // The kernel does not get the signal: its core dump would run outside of the sandbox.
        let exit = Exit::Signal {
            signal,
            core: false,
        };
        Ok(Next::End(Status::Signaled, Some(exit), None))
    }

    /// Continues a task behind a read of the time stamp counter; the task may read it many times in a row.
    fn read_on(&mut self, task: &Stopped, regs: &mut Regs) -> Result<()> {
        let mut reads = std::mem::take(&mut self.me.reads);
        if let Some(step) = self.next_step()? {
            reads.go_on(regs, &task.memory(), &mut |_| step.tsc.pop_front())?;
        }
        self.me.reads = reads;
        Ok(())
    }

    /// The signal that the hooks let through, or the reason for which one ends the injection.
    fn ask_hooks(
        &mut self,
        task: &Stopped,
        signal: i32,
    ) -> Result<std::result::Result<Option<i32>, String>> {
        let mut seen = HookSignal::new(signal, task.siginfo()?, (self.group.pid, self.me.tid));
        seen.index = Some(self.index());
        self.hooks.signal(&mut seen).map_err(Error::Hook)?;
        if !seen.rules.is_empty() || seen.delivered() != Some(signal) {
            self.mark_modified();
        }
        if !seen.rules.is_empty() {
            self.report.log.injected(Injected {
                index: seen.index,
                event: None,
                call: seen.decoded_line(),
                rule: seen.rules.join(", "),
            });
        }
        Ok(match seen.stop.take() {
            Some(reason) => Err(reason),
            None => Ok(seen.delivered()),
        })
    }
}

impl Driver<'_> {
    /// The backtrace of a stopped task.
    fn backtrace_of(&self, task: &Stopped) -> Vec<Frame> {
        let event = self.answered.unwrap_or(self.group.event.0);
        let files = backtrace::recorded(&self.group.recording, event, task.tid());
        backtrace::of(task, &files)
    }

    /// Ends the injection at its time limit. The task is at a syscall entry stop or at a signal stop.
    pub(super) fn out_of_time(&mut self, task: &Stopped) -> Next {
        self.report.backtrace = self.backtrace_of(task);
        let call = self.call_under_way(task);
        let frames = || self.report.backtrace.iter().map(Frame::to_string);
        let hang = call.unwrap_or_else(|| frames().collect::<Vec<_>>().join("\n"));
        self.report.hang = Some(hang).filter(|hang| !hang.is_empty());
        Next::End(Status::Timeout, None, None)
    }

    /// The call that a task makes, or that the signal of its present stop has interrupted.
    fn call_under_way(&mut self, task: &Stopped) -> Option<String> {
        let regs = task.regs().ok()?;
        let nr = u32::try_from(regs.nr()).ok()?;
        let entered = regs.ret() == -i64::from(libc::ENOSYS);
        if !entered && !is_restart(regs.ret()) {
            return None;
        }
        let call = syscall::of_number(nr)?.resolve(&regs.args());
        let seen = self.see(task, call).ok()?;
        Some(observe(&seen, None, BRIEF).brief().to_string())
    }
}
