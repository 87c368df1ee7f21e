//! Signals of live tasks: all are real; only what traps the time stamp counter and cpuid is ours.

use super::engine::{Engine, Task, Then};
use crate::inject::Result;
use crate::tracee::{Stopped, tsc};

impl Engine<'_> {
    pub(super) fn on_signal(
        &mut self,
        me: &mut Task,
        mut task: Stopped,
        signal: i32,
    ) -> Result<Then> {
        if signal == libc::SIGSEGV && self.answer_trap(me, &mut task)? {
            return Ok(Then::on(me, task));
        }
        // A call that it interrupts comes to its exit all the same.
        Ok(match me.pending {
            Some(_) => Then::ToExit(task, signal),
            None => Then::Resume(task, signal),
        })
    }

    /// Executes the instruction that it stopped at, if it is one that only we may.
    fn answer_trap(&mut self, me: &Task, task: &mut Stopped) -> Result<bool> {
        let mut regs = task.regs()?;
        let memory = task.memory();
        let cpuid = self.recording.as_ref().map(|r| &r.start().cpuid);
        if cpuid.is_none_or(|table| !table.execute(&mut regs, &memory)) {
            let Some(instruction) = tsc::Instruction::at(&regs, &memory) else {
                return Ok(false);
            };
            instruction.execute(&mut regs, tsc::now());
        }
        task.set_regs(&regs)?;
        me.segv.restore(task)?;
        Ok(true)
    }
}
