//! Signals of an injected process: its own faults, those that the trace has between calls, and the time stamp
//! counter, whose reading arrives as one.

use super::calls::observe;
use super::driver::{Driver, Next};
use super::hook::HookSignal;
use super::outcome::{Injected, Status};
use super::step::Kind;
use super::{Error, Result};
use crate::backtrace::{self, Frame};
use crate::replay::Place;
use crate::syscall;
use crate::trace::Exit;
use crate::tracee::{Regs, Stop, Stopped, Waited, proc, tsc};

impl Driver<'_> {
    /// Has the signals come that the trace has behind the call that was answered last.
    pub(super) fn collect_signals(&mut self) -> Result<()> {
        if self.me.parked.is_some() {
            return Ok(());
        }
        let tid = self.me.tid;
        while let Some(item) = self
            .script
            .pop_if(tid, |kind| matches!(kind, Kind::Signal(_)))?
        {
            if let Kind::Signal(due) = item.kind {
                self.me.due.push_back(due);
            }
        }
        Ok(())
    }

    pub(super) fn send_due(&self, task: &Stopped) {
        if let Some(due) = self.me.due.front() {
            task.send(due.signal);
        }
    }

    pub(super) fn on_signal(&mut self, mut task: Stopped, signal: i32) -> Result<Next> {
        if signal == libc::SIGSTOP && self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        let tid = task.tid();
        if signal == libc::SIGSEGV {
            let mut regs = task.regs()?;
            let cpuid = &self.recording.start().cpuid;
            if cpuid.execute(&mut regs, &task.memory()) {
                task.set_regs(&regs)?;
                self.me.segv.restore(&mut task)?;
                return Ok(Next::Resume(task));
            }
            if let Some(instruction) = tsc::Instruction::at(&regs, &task.memory()) {
                let recorded = self.next_step()?.and_then(|step| step.tsc.pop_front());
                if recorded.is_none() {
                    self.leaves_recording();
                }
                instruction.execute(&mut regs, recorded.unwrap_or_else(|| instruction.value()));
                task.set_regs(&regs)?;
                self.me.segv.restore(&mut task)?;
                return Ok(Next::Resume(task));
            }
        }
        if signal == libc::SIGTRAP
            && let Some(there) = self.comes_to_goal(&mut task)?
        {
            if !there {
                return Ok(Next::Resume(task));
            }
            self.rest(task, Place::Between, None);
            return self.turn();
        }
        if self.me.due.front().is_some_and(|due| due.signal == signal)
            && let Some(due) = self.me.due.pop_front()
        {
            if let Some(info) = due.info {
                self.since.signal(signal, &info.0);
                task.set_siginfo(&info)?;
            }
            self.send_due(&task);
        }
        if is_stop(signal) {
            return Ok(Next::Resume(task));
        }
        let signal = match self.ask_hooks(&task, signal)? {
            Ok(Some(signal)) => signal,
            Ok(None) => {
                if let Some(mask) = self.me.waited_under.take() {
                    task.set_sigmask(mask)?;
                }
                return Ok(Next::Resume(task));
            }
            Err(reason) => {
                self.reason = Some(reason);
                return Ok(Next::End(Status::Stopped, None, None));
            }
        };
        if proc::catches(tid, signal)? {
            return self.deliver(task, signal);
        }
        let fault = task.siginfo()?.is_fault();
        if !fault && (proc::ignores(tid, signal)? || is_harmless(signal)) {
            if let Some(mask) = self.me.waited_under.take() {
                task.set_sigmask(mask)?;
            }
            return self.go_on(task);
        }
        self.backtrace = self.backtrace_of(&task);
        // Not left to the kernel, whose core dump would run outside.
        let exit = Exit::Signal {
            signal,
            core: false,
        };
        Ok(Next::End(Status::Signaled, Some(exit), None))
    }

    /// The signal that the hooks let through, or why one ends the injection here.
    fn ask_hooks(
        &mut self,
        task: &Stopped,
        signal: i32,
    ) -> Result<std::result::Result<Option<i32>, String>> {
        let mut seen = HookSignal::new(signal, task.siginfo()?, (self.pid, self.me.tid));
        seen.index = Some(match &self.me.step {
            Some(step) => step.index,
            None => self.script.position(),
        });
        self.hooks.signal(&mut seen).map_err(Error::Hook)?;
        if !seen.rules.is_empty() || seen.delivered() != Some(signal) {
            self.leaves_recording();
        }
        if !seen.rules.is_empty() {
            self.log.injected.push(Injected {
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

    /// Has the handler run; the task stands at its first instruction.
    pub(super) fn deliver(&mut self, task: Stopped, signal: i32) -> Result<Next> {
        match task.step_with(signal)?.wait()? {
            Waited::Stopped(mut task, Stop::Signal(libc::SIGTRAP)) => {
                if let Some(mask) = self.me.waited_under.take() {
                    // Behind the return address and the mcontext: uc_sigmask of struct rt_sigframe.
                    const SAVED_MASK: u64 = 8 + 40 + 256;
                    let at = task.regs()?.sp().wrapping_add(SAVED_MASK);
                    task.memory().write(at, &mask.to_le_bytes())?;
                    let now = task.sigmask()?;
                    task.set_sigmask(now | mask)?;
                }
                self.me.segv.after_mask(&task)?;
                self.go_on(task)
            }
            Waited::Stopped(task, stop) => self.on_stop(task, stop, None),
            Waited::Ended(exit) => Ok(Next::End(Status::Signaled, Some(exit), None)),
        }
    }

    /// Has the kernel do what it does with a call that a signal interrupted: make it again, or let it fail
    /// with EINTR, as the signal's action says.
    pub(super) fn interrupt(
        &mut self,
        task: &mut Stopped,
        mut regs: Regs,
        nr: u32,
        code: i64,
    ) -> Result<()> {
        task.to_exit()?;
        regs.interrupt(nr.into(), code);
        task.set_regs(&regs)?;
        if self.me.due.is_empty() {
            // The kernel looks only when there is a signal; this one is dropped when it comes.
            task.send(libc::SIGSTOP);
        }
        self.let_in(task)
    }

    /// A call that waited under a mask of its own let the next signal in, whatever the mask is now.
    pub(super) fn let_in(&mut self, task: &mut Stopped) -> Result<()> {
        if let Some(due) = self.me.due.front() {
            let mask = task.sigmask()?;
            let without = mask & !(1 << (due.signal - 1));
            if without != mask {
                self.me.waited_under = Some(mask);
                task.set_sigmask(without)?;
            }
        }
        Ok(())
    }
}

impl Driver<'_> {
    /// Where the task is.
    fn backtrace_of(&self, task: &Stopped) -> Vec<Frame> {
        let event = self.answered.unwrap_or(self.event.0);
        let files = backtrace::recorded(&self.recording, event, task.tid());
        backtrace::of(task, &files)
    }

    /// The time is up. The task stands at a call's entry, or where a signal found it.
    pub(super) fn out_of_time(&mut self, task: &Stopped) -> Next {
        self.backtrace = self.backtrace_of(task);
        let call = self.call_under_way(task);
        let frames = || self.backtrace.iter().map(Frame::to_string);
        let hang = call.unwrap_or_else(|| frames().collect::<Vec<_>>().join("\n"));
        self.hang = Some(hang).filter(|hang| !hang.is_empty());
        Next::End(Status::Timeout, None, None)
    }

    /// The call that a task makes, or that the signal which it stopped for has interrupted.
    fn call_under_way(&mut self, task: &Stopped) -> Option<String> {
        let regs = task.regs().ok()?;
        let nr = u64::try_from(regs.nr()).ok()?;
        let entered = regs.ret() == -i64::from(libc::ENOSYS);
        if !entered && !(-516..=-512).contains(&regs.ret()) {
            return None;
        }
        let args = regs.args();
        let seen = self.see(task, syscall::by_nr(nr)?.resolve(&args), args);
        Some(observe(&seen, None).brief().to_string())
    }
}

fn is_stop(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// signal(7): the signals whose default is to be ignored.
fn is_harmless(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT
    )
}
