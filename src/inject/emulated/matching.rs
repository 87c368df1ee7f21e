//! Calls that the trace answers: finding the expected call, answering it, and detecting a divergence.

use super::delivery::wait_mask;
use super::kernel_calls::current_break;
use super::unreceived::Lost;
use super::{Driver, Next, is_unmade};
use crate::inject::answer::{self, Answered};
use crate::inject::clock::ShownTime;
use crate::inject::exchange::{Entered, Settled};
use crate::inject::hook::{Decision, Finally, HookCall};
use crate::inject::outcome::Status;
use crate::inject::script::item::{Birth, ExpectedCall, SideEffects};
use crate::inject::script::other_run::{self, OtherRun};
use crate::inject::tolerated;
use crate::inject::{Result, short_transfer};
use crate::kernel::resolved_path;
use crate::process::StopPoint;
use crate::recording::Effect;
use crate::syscall::Replay;
use crate::trace::{Answer, Exit};
use crate::tracee::Stopped;

impl Driver<'_> {
    /// Looks for the call in the script, and answers it or diverges.
    pub(super) fn match_call(&mut self, task: Stopped, mut seen: Entered) -> Result<Next> {
        if self.limit.expired() {
            return Ok(self.out_of_time(&task));
        }
        if let Some(missing) = self.me.missing.take() {
            return match missing.is_told {
                true => Ok(Next::Live(task, None)),
                false => self.diverge_missing(task, seen, missing),
            };
        }
        match self.find_step(&mut seen)? {
            Found::Expected => match self.does_not_hold(&seen) {
                Some(reason) => self.diverge_since(task, seen, Some(reason)),
                None => self.answer_expected(task, seen, true),
            },
            Found::Tolerated => match self.given_reason(&seen) {
                Some(reason) => self.diverge_since(task, seen, Some(reason)),
                None => self.answer_expected(task, seen, false),
            },
            Found::Other => self.diverge(task, seen),
            Found::Nothing if self.is_past_end()? && self.resting.is_empty() => {
                self.behind_the_end(task)
            }
            Found::Nothing => {
                // The script's next call is another task's.
                self.park(task, StopPoint::Entry, None);
                self.schedule()
            }
        }
    }

    /// Handles a call behind the end of the trace.
    pub(super) fn behind_the_end(&mut self, task: Stopped) -> Result<Next> {
        match self.finally {
            Finally::Live => Ok(Next::Live(task, None)),
            Finally::Kill => Ok(Next::End(Status::Completed, None, None)),
            Finally::Keep => {
                self.place = StopPoint::Entry;
                Ok(Next::End(Status::Completed, None, Some(task)))
            }
        }
    }

    /// Returns whether the task's next call in the script is this one, whichever task comes first there. Tolerated
    /// calls about memory are passed over.
    pub(super) fn is_listed(&mut self, seen: &HookCall) -> Result<bool> {
        let hooks = &self.hooks;
        let passed = |name: &str| tolerated::is_about_memory(name) && hooks.is_ignored(name);
        let listed = self.script.next_of(self.me.tid, |step| {
            let is_this = matches(step, seen);
            let passes = step.call.is_some_and(|call| passed(call.name));
            (is_this || !passes).then_some(is_this)
        })?;
        Ok(listed.unwrap_or(false))
    }

    /// Compares the call with the expected one. Expected calls that may be missing are passed over.
    fn find_step(&mut self, seen: &mut HookCall) -> Result<Found> {
        // The descriptor has another position or another file now: the rest of a partly answered call is not read next.
        let moved = match seen.call.name {
            "close" | "lseek" => Some(seen.args[0] as i32),
            "dup2" | "dup3" => Some(seen.args[1] as i32),
            _ => None,
        };
        if let Some(fd) = moved {
            self.me
                .partly_answered
                .retain(|step| answer::descriptor(step) != Some(fd));
        }
        let again = |step: &ExpectedCall| answer::continues(step, seen);
        if self.me.postponed.is_none()
            && !self.me.partly_answered.is_empty()
            && self.peek()?.is_none_or(|step| step.used == 0)
            && let Some(at) = self.me.partly_answered.iter().position(again)
        {
            let rest = self.me.partly_answered.remove(at);
            seen.index = Some(rest.index);
            seen.event = rest.event();
            self.me.postponed = self.me.step.replace(rest);
            return Ok(Found::Expected);
        }
        let takes_given = self.is_of_given(seen);
        loop {
            self.peek()?;
            if let Some(found) = self.find_given(seen, takes_given) {
                return Ok(found);
            }
            let written_over = self.was_written_over(seen);
            let Some(step) = &mut self.me.step else {
                return Ok(Found::Nothing);
            };
            let same = written_over || matches(step, seen);
            let tells = other_run::returns_either(seen.call.name);
            let adapted = (!same || tells) && adapts(step, seen, self.script.other_run());
            if same || adapted {
                seen.index = Some(step.index);
                seen.event = step.event();
                return Ok(Found::Expected);
            }
            // Limits of other processes are not tolerated.
            let (name, used) = (step.call.map(|call| call.name), step.used);
            if self.hooks.is_ignored(seen.name())
                && (seen.name() != "prlimit64" || seen.args[0] == 0)
            {
                return Ok(Found::Tolerated);
            }
            let skippable = used > 0 || name.is_some_and(|name| self.hooks.is_ignored(name));
            if !skippable && !self.is_given_next() {
                return Ok(Found::Other);
            }
            self.mark_modified();
            if used > 0
                && let Some(step) = self.me.step.take()
            {
                self.me.partly_answered.push(step);
            }
            self.advance();
        }
    }

    /// The relation to the trace of a call that takes the content of a file that has another one than recorded. Such calls
    /// need not be those of the trace.
    fn find_given(&mut self, seen: &mut HookCall, takes_given: bool) -> Option<Found> {
        let (Some(given), true, Some(step)) = (&mut self.given, takes_given, &self.me.step) else {
            return None;
        };
        if !given.is_alike(step, seen, &self.group.descriptors) {
            return Some(Found::Tolerated);
        }
        seen.index = Some(step.index);
        seen.event = step.event();
        Some(Found::Expected)
    }

    /// Answers a call that takes the content of such a file.
    fn answer_given(&mut self, seen: &mut HookCall, expected: bool) -> Result<Option<i64>> {
        let step = self.me.step.as_ref().filter(|_| expected);
        let limit = match seen.decision {
            Decision::Short(len) => Some(len),
            Decision::Default => None,
            Decision::Answer(_) | Decision::Break => return Ok(None),
        };
        let Some(given) = &mut self.given else {
            return Ok(None);
        };
        if step.is_some_and(ExpectedCall::is_filtered) {
            return Ok(None);
        }
        let answer = given.answer(seen, step, limit, (&self.group, &mut *self.hooks))?;
        if answer.is_some() {
            self.mark_modified();
        }
        Ok(answer)
    }

    /// Whether the expected call takes the content of such a file.
    fn is_given_next(&mut self) -> bool {
        let (Some(given), Some(step)) = (&mut self.given, &self.me.step) else {
            return false;
        };
        given.is_source(step, &self.group.descriptors)
    }

    /// Answers a call with a return value and no outputs.
    pub(super) fn answer_now(
        &mut self,
        mut task: Stopped,
        answer: impl Into<Answer>,
    ) -> Result<Next> {
        let mut regs = task.regs()?;
        regs.answer(answer);
        task.set_regs(&regs)?;
        Ok(Next::Resume(task))
    }

    pub(super) fn answer_expected(
        &mut self,
        mut task: Stopped,
        mut seen: Entered,
        expected: bool,
    ) -> Result<Next> {
        seen.count = self.report.log.count(seen.call.nr);
        if expected && let Some(step) = &self.me.step {
            let path = step.exact.as_deref().and_then(resolved_path);
            seen.resolved_path = path.map(<[u8]>::to_vec);
        }
        let mut seen = seen.decide(self.hooks)?;
        self.note_interference(&seen, false);
        match expected {
            true => self.compare_registers(&seen),
            false => self.mark_modified(),
        }
        if let Some(end) = self.stop_by_hook(&mut seen) {
            return Ok(end);
        }
        if seen.goes_live {
            return Ok(Next::Live(task, Some(seen)));
        }
        if seen.dies_first() {
            if self.others_see_death(libc::SIGKILL)? {
                if let Some(event) = seen.event.filter(|_| expected) {
                    self.lose_call((event, seen.call), Lost::NotMade);
                }
                return Ok(Next::Live(task, Some(seen)));
            }
            self.report.log.call(&seen, None);
            let exit = Exit::Signal {
                signal: libc::SIGKILL,
                core: false,
            };
            return Ok(Next::End(Status::Signaled, Some(exit), None));
        }
        let ends = match seen.call.name {
            "exit_group" => true,
            "exit" => !self.has_siblings(),
            _ => false,
        };
        if expected && ends && self.others_go_on()? {
            return Ok(Next::Live(task, Some(seen)));
        }
        let before = self.me.step.as_ref().map_or(0, |step| step.used);
        let given = self.answer_given(&mut seen, expected)?;
        let (answered, moved) = match (given, seen.decision) {
            (Some(ret), _) => (Answered { ret, done: true }, moved_now(&seen)),
            (None, Decision::Answer(ret)) => (Answered { ret, done: true }, None),
            (None, Decision::Break) => {
                let ret = current_break(&mut task)?;
                (Answered { ret, done: true }, None)
            }
            (None, decision) => {
                let limit = match decision {
                    Decision::Short(len) => Some(len),
                    _ => asked_for_less(&seen),
                };
                if !expected && tolerated::is_left_out(seen.call) {
                    return self.conclude(task, seen, 0);
                }
                // The return register of rt_sigreturn is the interrupted code's, and no error.
                let failed = expected
                    && seen.call.name != "rt_sigreturn"
                    && self
                        .me
                        .step
                        .as_ref()
                        .is_some_and(|step| matches!(step.answer, Answer::Errno(_)));
                // An answer of the program's own seccomp filter comes from the trace. A call that recording refuses is
                // refused here, too, whatever another machine's trace says.
                let filtered =
                    expected && self.me.step.as_ref().is_some_and(ExpectedCall::is_filtered);
                let real = match seen.call.replay {
                    _ if filtered => false,
                    Replay::Run => !failed,
                    Replay::Refuse(_) => true,
                    Replay::Emulate | Replay::Unsupported => false,
                };
                let never = |step: &ExpectedCall| step.answer == Answer::Never;
                if expected && !is_exit(&seen) && self.me.step.as_ref().is_some_and(never) {
                    return self.never_returns(task, &seen);
                }
                if !expected || real {
                    return self.run_natively(task, seen, expected);
                }
                let Some(step) = &mut self.me.step else {
                    return self.run_natively(task, seen, expected);
                };
                let answered = answer::from_step(step, &mut seen, limit)?;
                seen.opened = opened(step);
                if answered.ret == 0
                    && let Some(given) = &mut self.given
                {
                    given.tell_size(&mut seen, &self.group.descriptors, &mut *self.hooks)?;
                }
                self.shown_time = ShownTime::by(&seen)
                    .filter(|_| answered.ret == 0)
                    .or(self.shown_time);
                (answered, moved_data(step, before))
            }
        };
        let mut seen = self.settle(seen.answer(answered.ret))?;
        let step = self.me.step.as_mut().filter(|_| expected);
        let born = step.and_then(|step| step.born.take());
        let is_left = match given {
            Some(given) => {
                if (0..given).contains(&seen.ret) && seen.done.is_none() && !seen.replaced {
                    let less = given - seen.ret;
                    short_transfer::take_back(&mut seen, less)?;
                }
                false
            }
            None if expected && answered.done => self.is_left(&mut seen, before, answered.ret)?,
            None => false,
        };
        if expected && answered.done && !is_left {
            self.advance();
        }
        if let Some(end) = self.stop_by_hook(&mut seen) {
            return Ok(end);
        }
        self.note(&seen, moved.as_deref());
        self.me.attributes.take_made();
        if !matches!(seen.decision, Decision::Answer(_)) && seen.opened != Some(Effect::Unmade) {
            self.make_thread(&mut task, &seen, seen.ret, born)?;
        } else if let Some(born) = born.filter(Birth::is_process) {
            self.script.refuse(born.task.pid);
            self.lose_child(born.task.pid);
        }
        if is_unmade(&seen) {
            self.side_effects = SideEffects::default();
        }
        self.apply_side_effects(&mut task, true, &seen, seen.ret)?;
        self.limit_stack(&mut task, &seen, seen.ret)?;
        seen.put_at_entry(&mut task)?;
        // epoll_pwait is not restarted, but waits under a temporary signal mask, too.
        let interrupted = matches!(
            seen.answer(),
            Answer::Restart(_) | Answer::Errno(libc::EINTR)
        );
        self.me.waited_under = interrupted.then(|| wait_mask(&seen)).flatten();
        self.after(task, &mut seen, expected)
    }

    /// Returns whether hooks had a call get less than `given`, so that the rest is left for the next call. `before` is
    /// the amount of the expected call that had been used before.
    fn is_left(&mut self, seen: &mut Settled, before: u64, given: i64) -> Result<bool> {
        let ret = seen.ret;
        if seen.done.is_some() {
            // The call took effect in full, whatever value its process gets.
            return Ok(false);
        }
        let Some(step) = self.me.step.as_mut() else {
            return Ok(false);
        };
        let unmade = matches!(seen.decision, Decision::Answer(_));
        let given = match unmade {
            true => step.answer.raw().unwrap_or(0) - before as i64,
            false => given,
        };
        if is_retried(ret) && (unmade || ret != given) {
            step.used = before;
            return Ok(true);
        }
        let less = (1..given).contains(&ret)
            && !seen.replaced
            && short_transfer::Amount::of(seen.call).is_some();
        if less {
            step.used = before + ret as u64;
            if !unmade {
                short_transfer::take_back(seen, given - ret)?;
            }
        }
        Ok(less)
    }

    /// Ends the injection for this reason.
    pub(super) fn stopped(&mut self, seen: &HookCall, reason: String) -> Next {
        self.report.log.call(seen, seen.ret());
        self.report.reason = Some(reason);
        Next::End(Status::Stopped, None, None)
    }
}

/// The relation of a call to the trace.
enum Found {
    /// The call is the expected one.
    Expected,
    /// The call is tolerated: it may be made although the trace does not have it.
    Tolerated,
    /// Another call is expected.
    Other,
    /// No call is expected of this task now.
    Nothing,
}

/// Returns whether the process's call is the expected one.
pub(super) fn matches(step: &ExpectedCall, seen: &HookCall) -> bool {
    if step.call.is_none_or(|call| call.nr != seen.call.nr) {
        return false;
    }
    if step.used > 0 {
        return answer::continues(step, seen);
    }
    if let Some(event) = &step.exact {
        let formal = seen.call.args.len().min(6);
        if event.args[..formal] == seen.args[..formal] && answer::same_memory(seen, event) {
            return true;
        }
    }
    seen.call
        .compare(&seen.args, &seen.memory, step.values())
        .is_ok()
}

/// Returns whether the call is the expected one apart from values that differ between two runs.
fn adapts(step: &mut ExpectedCall, seen: &HookCall, another: Option<&mut OtherRun>) -> bool {
    let same_call = step.call.is_some_and(|call| call.nr == seen.call.nr);
    same_call && step.used == 0 && another.is_some_and(|it| it.adapt(step, seen).is_ok())
}

/// Returns whether the call ends its task, so that it has no return value.
pub(super) fn is_exit(seen: &HookCall) -> bool {
    matches!(seen.call.name, "exit" | "exit_group")
}

/// The number of bytes or messages that a call asks for, if a hook has reduced it.
fn asked_for_less(seen: &HookCall) -> Option<u64> {
    let arg = short_transfer::asked_arg(seen.call)?;
    let (now, before) = (*seen.args.get(arg)?, *seen.asked.get(arg)?);
    (now < before).then_some(now)
}

/// The data that a call has moved inside the kernel.
fn moved_now(seen: &HookCall) -> Option<Vec<u8>> {
    match &seen.opened {
        Some(Effect::Moved(data)) => Some(data.clone()),
        _ => None,
    }
}

/// The data that a recorded call moved inside the kernel, from this offset on.
fn moved_data(step: &ExpectedCall, from: u64) -> Option<Vec<u8>> {
    match &step.exact.as_ref()?.effect {
        Effect::Moved(data) => Some(data.get(from as usize..).unwrap_or_default().to_vec()),
        _ => None,
    }
}

/// The effect of a recorded call that opened something.
fn opened(step: &ExpectedCall) -> Option<Effect> {
    match &step.exact.as_ref()?.effect {
        effect @ (Effect::Path(_) | Effect::Opened(_) | Effect::Unmade) => Some(effect.clone()),
        _ => None,
    }
}

/// Returns whether programs usually retry a call that returns this.
fn is_retried(ret: i64) -> bool {
    ret == -i64::from(libc::EINTR) || ret == -i64::from(libc::EAGAIN)
}
