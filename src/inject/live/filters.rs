//! The program's own seccomp filters: see [`crate::seccomp`].

use super::engine::Engine;
use super::task::{NextStep, Task};
use crate::inject::Result;
use crate::inject::exchange::Decided;
use crate::inject::hook::HookCall;
use crate::seccomp::{FilterCall, Kill, Verdict};
use crate::tracee::{SigInfo, SigsysDisposition, Stopped};

/// The verdict of a program's filters on its call.
pub(super) enum FilterVerdict {
    /// The call is made.
    Passes(Stopped, Decided),
    /// The call is not made.
    Done(NextStep),
}

impl Engine<'_> {
    /// Evaluates the program's own filters on a call that hooks let through.
    pub(super) fn filter(
        &mut self,
        me: &mut Task,
        mut task: Stopped,
        seen: Decided,
    ) -> Result<FilterVerdict> {
        let mut call = task.regs()?.call();
        call.args = seen.args;
        let then = match me.filters.verdict(&call) {
            Verdict::Make => return Ok(FilterVerdict::Passes(task, seen)),
            Verdict::Answer(ret) => self.conclude(me, task, seen, ret)?,
            Verdict::Trap(errno) => {
                let nr = i64::from(call.nr);
                self.note(&seen, Some(nr));
                seen.give_back();
                if task.sigsys_disposition()? == SigsysDisposition::BlockedOrIgnored {
                    self.end_by_filter(me, task, Kill::Process)?
                } else {
                    task.trap_call(me.process, &SigInfo::of_trap(&call, errno))?;
                    self.on_signal(me, task, libc::SIGSYS)?
                }
            }
            Verdict::Kill(kill) => {
                self.note(&seen, None);
                self.end_by_filter(me, task, kill)?
            }
        };
        Ok(FilterVerdict::Done(then))
    }

    fn end_by_filter(&mut self, me: &Task, task: Stopped, kill: Kill) -> Result<NextStep> {
        if kill != Kill::Strict {
            self.note_fatal(me.process, &task, libc::SIGSYS);
        }
        Ok(NextStep::Goes(task.end_by_filter(kill)?))
    }

    /// Answers calls that install or query filters, where the kernel's answer would be wrong.
    pub(super) fn answer_about_filters(
        &mut self,
        me: &mut Task,
        task: &mut Stopped,
        seen: &HookCall,
    ) -> Result<Option<i64>> {
        let Some(asked) = FilterCall::by(seen.call.nr.into(), &seen.args) else {
            return Ok(None);
        };
        let same = |other: &&mut Task| other.process == me.process;
        let memory = task.memory();
        let others = self.tasks.values();
        let others = others.filter(|other| other.process == me.process);
        let others = others.map(|other| (other.tid, &other.filters));
        let ret = asked.answer(&me.filters, &memory, self.privileged, others);
        if ret != 0 || !asked.changes() {
            return Ok(Some(ret));
        }
        if self.recording.is_none() && me.filters.is_off() {
            // Most calls of the program did not stop.
            task.stop_at_all_calls()?;
        }
        asked.follow(&mut me.filters, &memory);
        for other in self.tasks.values_mut().filter(same) {
            asked.share(&me.filters, &mut other.filters);
        }
        Ok(Some(0))
    }

    /// Notes `PR_SET_NO_NEW_PRIVS`.
    pub(super) fn note_promise(&self, me: &mut Task, seen: &HookCall, ret: i64) {
        if ret == 0 && seen.call.name == "prctl" && seen.args[0] as i32 == libc::PR_SET_NO_NEW_PRIVS
        {
            me.filters.no_new_privs = true;
        }
    }
}
