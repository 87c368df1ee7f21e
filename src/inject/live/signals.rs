//! Signals of live tasks. All are delivered by the kernel, except those of trapped time stamp counter and cpuid reads.

use super::engine::Engine;
use super::task::{NextStep, Task};
use crate::inject::hook::HookSignal;
use crate::inject::outcome::{Injected, Status};
use crate::inject::{Error, Result};
use crate::tracee::{Stopped, proc, tsc};

impl Engine<'_> {
    pub(super) fn on_signal(
        &mut self,
        me: &mut Task,
        mut task: Stopped,
        signal: i32,
    ) -> Result<NextStep> {
        if std::mem::take(&mut me.enters_handler) && signal == libc::SIGTRAP {
            // The task is at its first instruction, under the handler's mask.
            me.segv.after_mask(&task)?;
            return Ok(NextStep::Resume(task, 0));
        }
        if signal == libc::SIGSEGV && self.recording.is_some() && self.answer_trap(me, &mut task)? {
            return Ok(NextStep::on(me, task));
        }
        if me.dies {
            return Ok(NextStep::Resume(task, signal));
        }
        let mut seen = HookSignal::new(signal, task.siginfo()?, (me.pid, me.tid));
        if me.asked.take_if(|asked| *asked == signal).is_none() {
            self.hooks.signal(&mut seen).map_err(Error::Hook)?;
        }
        if !seen.rules.is_empty() {
            self.report.log.injected(Injected {
                index: None,
                event: None,
                call: seen.decoded_line(),
                rule: seen.rules.join(", "),
            });
        }
        if let Some(reason) = seen.stop.take() {
            return Ok(NextStep::End(Status::Stopped, Some(reason)));
        }
        let signal = seen.delivered().unwrap_or(0);
        self.note_fatal(me.process, &task, signal);
        self.note_limit(me, &task, signal)?;
        if self.hide_before(&mut task, signal)? {
            me.dies = true;
            task.send_to(me.process, signal);
            return Ok(NextStep::Resume(task, 0));
        }
        // A call that the signal interrupts reaches its exit nevertheless.
        Ok(match me.pending {
            None if self.recording.is_some()
                && signal != 0
                && proc::catches(task.tid(), signal)? =>
            {
                NextStep::Handle(task, signal)
            }
            Some(_) => NextStep::ToExit(task, signal),
            None => NextStep::Resume(task, signal),
        })
    }

    /// Executes the trapped instruction at which the task stopped, if it is a read of the counter or cpuid.
    fn answer_trap(&mut self, me: &Task, task: &mut Stopped) -> Result<bool> {
        let mut regs = task.regs()?;
        let memory = task.memory();
        let cpuid = self.recording.as_ref().map(|r| &r.start().cpuid);
        if cpuid.is_none_or(|table| !table.execute(&mut regs, &memory)) {
            let Some(instruction) = tsc::Instruction::at(&regs, &memory) else {
                return Ok(false);
            };
            instruction.execute(&mut regs, instruction.value());
        }
        task.set_regs(&regs)?;
        me.segv.restore(task)?;
        Ok(true)
    }
}
