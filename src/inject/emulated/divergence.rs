//! Divergences: the calls at which a task leaves the script, and the signals that it never gets since nobody has sent them.

use super::matching::is_exit;
use super::unreceived::Lost;
use super::{Driver, Next};
use crate::constants::signal_name;
use crate::inject::exchange::Entered;
use crate::inject::hook::{HookCall, OnDivergence};
use crate::inject::options::Sandbox;
use crate::inject::outcome::{Divergence, Status};
use crate::inject::script::item::{DueSignal, ExpectedCall};
use crate::inject::script::other_run::OtherRun;
use crate::inject::{Error, Result};
use crate::kernel::sends_signal;
use crate::process::StopPoint;
use crate::replay::Doubt;
use crate::syscall;
use crate::trace::{Exit, Origin};
use crate::tracee::Stopped;

/// A signal of the script that was never sent.
#[derive(Clone)]
pub struct Missing {
    /// Why it was not.
    pub reason: String,
    /// The signal, in strace's syntax.
    pub expected: String,
    /// Its event.
    pub event: Option<u64>,
    /// Whether that has been told, and the task goes live at its next call.
    pub is_told: bool,
}

impl Driver<'_> {
    /// What the present process never gets in the place of a signal, if that was never sent.
    pub(super) fn never_sent(&self, due: &DueSignal) -> Option<Missing> {
        let number = due.event.filter(|_| !self.unreceived.is_empty())?;
        let recorded = self.group.recording.event(number).ok()?;
        let reason = self.unreceived.reason(number, &recorded)?;
        let name = signal_name(due.signal);
        let info = due.info.as_ref().map_or(String::new(), |info| {
            format!("{} ", syscall::signal_info(due.signal, &info.0))
        });
        Some(Missing {
            reason,
            expected: format!("--- {name} {info}---"),
            event: due.event,
            is_told: false,
        })
    }

    /// What a process never gets in the place of the SIGKILL that ended it when it was recorded, if that was never sent.
    pub(super) fn never_killed(&self, pid: i32, exit: Exit) -> Option<Missing> {
        let is_killed = matches!(exit, Exit::Signal { signal, .. } if signal == libc::SIGKILL);
        if !is_killed || self.unreceived.is_empty() {
            return None;
        }
        Some(Missing {
            reason: self.unreceived.survives(pid)?,
            expected: "+++ killed by SIGKILL +++".to_owned(),
            event: None,
            is_told: false,
        })
    }

    /// Runs a task that never gets a signal to its next call, where it leaves the script; `None` if there is no such task.
    pub(super) fn miss(&mut self, tid: i32, missing: Missing) -> Result<Option<Next>> {
        let Some((task, place)) = self.wake(tid) else {
            return Ok(None);
        };
        self.me.missing = Some(missing);
        match place {
            StopPoint::Entry => self.match_again(task).map(Some),
            StopPoint::Between => Ok(Some(Next::Resume(task))),
        }
    }

    pub(super) fn diverge(&mut self, task: Stopped, seen: Entered) -> Result<Next> {
        self.diverge_since(task, seen, None)
    }

    /// Handles a call that is not the expected one, or to which the recorded answer does not hold any more for this reason.
    pub(super) fn diverge_since(
        &mut self,
        task: Stopped,
        seen: Entered,
        reason: Option<String>,
    ) -> Result<Next> {
        let tid = self.me.tid;
        self.peek()?;
        let Some(step) = &mut self.me.step else {
            return Ok(Next::End(Status::Completed, None, None));
        };
        let mut divergence = describe(step, &seen, tid, self.script.other_run());
        divergence.moment = self.answered;
        // In a process that is as it was recorded, the cause is in its code.
        if let Some(reason) = reason {
            divergence.doubt = Doubt::known(reason);
        } else if self.is_as_recorded() {
            let at = (task.memory(), &task.regs()?);
            let event = self.answered.unwrap_or(self.group.event.0);
            divergence.doubt = Doubt::about(&self.group.recording, event, tid, at);
        }
        let decision = self.ask_about(divergence)?;
        self.leave_script(task, seen, decision, 0)
    }

    /// Handles the first call of a task that never got a signal of the script.
    pub(super) fn diverge_missing(
        &mut self,
        task: Stopped,
        seen: Entered,
        missing: Missing,
    ) -> Result<Next> {
        let divergence = self.without(missing, called(&seen));
        let decision = self.ask_about(divergence)?;
        // The signal itself has been dropped.
        self.leave_script(task, seen, decision, 1)
    }

    /// Handles a task that never got a signal of the script, and makes no call.
    pub(super) fn diverge_between(&mut self, task: Stopped, missing: Missing) -> Result<Next> {
        let kept = Missing {
            is_told: true,
            ..missing.clone()
        };
        let divergence = self.without(missing, "no call".into());
        match self.ask_about(divergence)? {
            OnDivergence::Stop => return Ok(Next::End(Status::Diverged, None, None)),
            OnDivergence::Live => self.me.missing = Some(kept),
            OnDivergence::Skip(_) | OnDivergence::Answer(_) => {}
        }
        Ok(Next::Resume(task))
    }

    /// The divergence of a task that never got a signal, but did this.
    fn without(&self, missing: Missing, actual: String) -> Divergence {
        Divergence {
            pid: self.group.pid,
            moment: self.answered,
            index: self.index(),
            event: missing.event,
            tid: self.me.tid,
            expected: missing.expected,
            actual,
            arg: None,
            origin: missing.event.map_or(Origin::Made, Origin::Event),
            doubt: Doubt::known(missing.reason),
        }
    }

    /// Whether the process that was asked for dies, of a signal that it did not get when it was recorded, where the other
    /// processes of the recording go on live and see it.
    pub(super) fn others_see_death(&mut self, signal: i32) -> Result<bool> {
        if !self.has_others() || !self.group.recording.has_family()? {
            return Ok(false);
        }
        let (pid, tid, moment) = (self.group.pid, self.me.tid, self.answered);
        let position = self.script.position();
        // In a family, it may be another's turn.
        let (index, event, expected, origin) = match self.peek()? {
            Some(step) => {
                let expected = step.to_call().brief().to_string();
                (step.index, step.event(), expected, step.origin.clone())
            }
            None => (position, None, "its next call".to_owned(), Origin::Made),
        };
        let divergence = Divergence {
            pid,
            moment,
            index,
            event,
            tid,
            expected,
            actual: format!("+++ killed by {} +++", signal_name(signal)),
            arg: None,
            origin,
            doubt: Doubt::default(),
        };
        self.goes_live_for(divergence)
    }

    /// Whether the process that was asked for ends as recorded, while others have left the recording: they go on live.
    pub(super) fn others_go_on(&mut self) -> Result<bool> {
        if !self.has_others() || self.unreceived.is_empty() {
            return Ok(false);
        }
        let answered = self.answered.unwrap_or(0);
        let (own, family) = (self.group.pid, &self.family);
        // Those that are driven say themselves that they never get something; nobody would be there to go live then.
        let always = self.hooks.always_goes_live();
        let counts = |pid: i32, since: u64| !family.drives(pid) || always && since > answered;
        let recording = &self.group.recording;
        let first = self.unreceived.first_but(own, recording, counts)?;
        let Some((pid, since, reason)) = first else {
            return Ok(false);
        };
        let event = recording.event(since)?;
        let called = event.call().map(|call| format!("{}(...)", call.name()));
        let divergence = Divergence {
            pid,
            moment: self.answered,
            index: self.index(),
            event: Some(since),
            tid: event.tid,
            expected: called.unwrap_or_else(|| "a signal".to_owned()),
            actual: "nothing that it could take".to_owned(),
            arg: None,
            origin: Origin::Event(since),
            doubt: Doubt::known(reason),
        };
        self.goes_live_for(divergence)
    }

    /// Whether other processes of the recording would go live with the present one, because it is the one that was asked for.
    fn has_others(&self) -> bool {
        self.source.is_some() && !self.is_relative() && self.sandbox != Sandbox::None
    }

    /// The index of the present task's next call in the script, or of whatever is next there.
    pub(super) fn index(&self) -> usize {
        let step = self.me.step.as_ref();
        step.map_or_else(|| self.script.position(), |step| step.index)
    }

    /// Whether the hooks have the family go live for that.
    fn goes_live_for(&mut self, divergence: Divergence) -> Result<bool> {
        let decision = self.hooks.diverged(&divergence).map_err(Error::Hook)?;
        let goes_on = matches!(decision, OnDivergence::Live);
        if goes_on {
            self.mark_modified();
            self.report.divergence.get_or_insert(divergence);
        }
        Ok(goes_on)
    }

    /// Tells the hooks of a divergence.
    fn ask_about(&mut self, divergence: Divergence) -> Result<OnDivergence> {
        self.mark_modified();
        let decision = self.hooks.diverged(&divergence).map_err(Error::Hook)?;
        self.report.divergence.get_or_insert(divergence);
        Ok(decision)
    }

    /// Does what was decided on a divergence at a call, before which so many items of the script have been dropped.
    fn leave_script(
        &mut self,
        task: Stopped,
        seen: Entered,
        decision: OnDivergence,
        dropped: usize,
    ) -> Result<Next> {
        match decision {
            OnDivergence::Stop => {
                self.report.log.call(&seen, None);
                Ok(Next::End(Status::Diverged, None, None))
            }
            OnDivergence::Live => Ok(Next::Live(task, None)),
            OnDivergence::Skip(n) => {
                for _ in dropped..n.max(1) {
                    if !self.skip()? {
                        break;
                    }
                }
                Ok(Next::Again(task, seen))
            }
            // An exit call ends its task whatever the hooks answer.
            OnDivergence::Answer(_) if is_exit(&seen) => self.on_exit_call(task, &seen),
            OnDivergence::Answer(ret) => {
                self.report.log.call(&seen, Some(ret));
                self.answer_now(task, ret)
            }
        }
    }

    /// Drops the task's next expected call; returns whether there was one.
    fn skip(&mut self) -> Result<bool> {
        if self.peek()?.is_none() {
            self.me.step = self.script.drop_call(self.me.tid)?;
        }
        let Some(step) = &self.me.step else {
            return Ok(false);
        };
        if let (Some(event), Some(call)) = (step.event(), step.call) {
            let others = self.group.recording.has_family().unwrap_or(true);
            if others || sends_signal(call.nr.into()) {
                self.lose_call((event, call), Lost::NotMade);
            }
        }
        self.advance();
        Ok(true)
    }
}

/// The divergence between a call and the expected one.
fn describe(
    step: &mut ExpectedCall,
    seen: &HookCall,
    tid: i32,
    another: Option<&mut OtherRun>,
) -> Divergence {
    let mismatch = step
        .call
        .filter(|call| call.nr == seen.call.nr)
        .and_then(|_| match another {
            Some(another) => another.adapt(step, seen).err(),
            None => seen
                .call
                .compare(&seen.args, &seen.memory, step.values())
                .err(),
        });
    let arg = mismatch.map(|mismatch| match seen.call.args.get(mismatch.arg) {
        Some(arg) => arg.name.to_string(),
        None => mismatch.arg.to_string(),
    });
    Divergence {
        pid: seen.pid(),
        moment: None,
        index: step.index,
        event: step.event(),
        tid,
        expected: step.to_call().brief().to_string(),
        actual: called(seen),
        arg,
        origin: step.origin.clone(),
        doubt: Doubt::default(),
    }
}

/// A call, in strace's syntax.
fn called(seen: &HookCall) -> String {
    let values = seen.values();
    let values: Vec<String> = values.iter().map(|v| v.brief().to_string()).collect();
    format!("{}({})", seen.name(), values.join(", "))
}
