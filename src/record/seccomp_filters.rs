//! Calls rejected by the program's own seccomp filters: see [`crate::seccomp`].

use super::calls::inputs;
use super::task::Task;
use super::{Recorder, Result};
use crate::constants::Answer;
use crate::recording::{CallEvent, ChunkMemory, Effect};
use crate::seccomp::{FilterCall, Kill, Verdict};
use crate::syscall;
use crate::tracee::{Regs, Running, SigInfo, SigsysDisposition, Stopped, proc};

impl Recorder {
    /// Handles a call that the program's own filters reject.
    pub(super) fn filtered(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
        regs: Regs,
        verdict: Verdict,
    ) -> Result<Running> {
        let (nr, args) = (regs.nr(), regs.args());
        let known = syscall::of_number(nr as u32).map(|call| call.resolve(&args));
        let event = CallEvent {
            nr: nr as u32,
            args,
            ip: regs.ip(),
            ret: None,
            ins: known.map_or_else(Vec::new, |call| inputs(task.memory(), call, &args)),
            outs: Vec::new(),
            effect: Effect::Unmade,
        };
        let answered = |answer: Answer| CallEvent {
            ret: answer.raw(),
            ..event.clone()
        };
        let mut after = regs;
        match verdict {
            Verdict::Make => Ok(task.resume()?),
            Verdict::Answer(answer) => {
                after.answer(answer);
                task.set_regs(&after)?;
                current.boundary = Some(after);
                self.write_call(current.tid, answered(answer))?;
                self.watch(current, &mut task)?;
                Ok(task.resume()?)
            }
            Verdict::Trap(errno) => {
                let meets = task.sigsys_disposition()?;
                if meets == SigsysDisposition::BlockedOrIgnored {
                    return self.end_by_filter(current, task, event, Kill::Process);
                }
                after.answer(nr);
                current.boundary = Some(after);
                self.write_call(current.tid, answered(nr.into()))?;
                let info = SigInfo::of_trap(&regs.call(), errno);
                task.trap_call(current.pid, &info)?;
                self.deliver(
                    current,
                    task,
                    info,
                    false,
                    meets == SigsysDisposition::Handler,
                    false,
                )
            }
            Verdict::Kill(kill) => self.end_by_filter(current, task, event, kill),
        }
    }

    fn end_by_filter(
        &mut self,
        current: &mut Task,
        task: Stopped,
        event: CallEvent,
        kill: Kill,
    ) -> Result<Running> {
        current.leaving = true;
        self.note_robust(current, task.memory());
        self.write_call(current.tid, event)?;
        self.writer.flush()?;
        Ok(task.end_by_filter(kill)?)
    }

    /// The answer to a call about filters; `None` where the kernel's answer is right.
    pub(super) fn answer_about_filters(
        &self,
        current: &Task,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let Some(asked) = FilterCall::by(event.nr.into(), &event.args) else {
            return Ok(None);
        };
        let state = self.family.filters(current.tid);
        let privileged = asked.changes() && proc::administers(current.tid)?;
        let others: Vec<_> = self.family.filters_beside(current.tid).collect();
        let others = others
            .iter()
            .map(|(tid, state)| (self.family.number_for(current.tid, *tid), state));
        let memory = ChunkMemory(&event.ins);
        Ok(Some(asked.answer(&state, &memory, privileged, others)))
    }
}
