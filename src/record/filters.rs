//! The program's own seccomp filters: see [`crate::seccomp`].

use super::calls::inputs;
use super::task::Task;
use super::{Recorder, Result};
use crate::recording::{CallEvent, ChunkMemory, Effect};
use crate::seccomp::{Asked, Kill, Verdict};
use crate::syscall;
use crate::tracee::{Regs, Running, SigInfo, SigsysDisposition, Stopped, proc};

impl Recorder {
    /// A call that the program's own filters do not let it make.
    pub(super) fn filtered(
        &mut self,
        me: &mut Task,
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
        let answered = |ret| CallEvent {
            ret: Some(ret),
            ..event.clone()
        };
        let mut after = regs;
        match verdict {
            Verdict::Make => Ok(task.resume()?),
            Verdict::Answer(ret) => {
                after.answer(ret);
                task.set_regs(&after)?;
                me.boundary = Some(after);
                self.write_call(me.tid, answered(ret))?;
                self.watch(me, &mut task)?;
                Ok(task.resume()?)
            }
            Verdict::Trap(errno) => {
                let meets = task.sigsys_disposition()?;
                if meets == SigsysDisposition::BlockedOrIgnored {
                    return self.end_by_filter(me, task, event, Kill::Process);
                }
                after.answer(nr);
                me.boundary = Some(after);
                self.write_call(me.tid, answered(nr))?;
                let info = SigInfo::of_trap(&regs.call(), errno);
                task.trap_call(me.pid, &info)?;
                self.deliver(
                    me,
                    task,
                    info,
                    false,
                    meets == SigsysDisposition::Handler,
                    false,
                )
            }
            Verdict::Kill(kill) => self.end_by_filter(me, task, event, kill),
        }
    }

    fn end_by_filter(
        &mut self,
        me: &mut Task,
        task: Stopped,
        event: CallEvent,
        kill: Kill,
    ) -> Result<Running> {
        me.leaving = true;
        self.note_robust(me, task.memory());
        self.write_call(me.tid, event)?;
        self.writer.flush()?;
        Ok(task.end_by_filter(kill)?)
    }

    /// What is answered to a call about filters; `None` where the kernel's answer is right.
    pub(super) fn answer_about_filters(&self, me: &Task, event: &CallEvent) -> Result<Option<i64>> {
        let Some(asked) = Asked::by(event.nr.into(), &event.args) else {
            return Ok(None);
        };
        let state = self.family.filters(me.tid);
        let privileged = asked.changes() && proc::administers(me.tid)?;
        let others: Vec<_> = self.family.filters_beside(me.tid).collect();
        let others = others
            .iter()
            .map(|(tid, state)| (self.family.number_for(me.tid, *tid), state));
        let memory = ChunkMemory(&event.ins);
        Ok(Some(asked.answer(&state, &memory, privileged, others)))
    }
}
