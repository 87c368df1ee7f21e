//! The decisions of hooks about a call: its answer, a signal, a delay, the end of the trace.
//!
//! At the entry a decided answer is either given in the place of the call, which is not made then, or it overrides that of
//! a call which is made all the same (`executed`). At the exit the answer is changed. A call that the kernel has made by
//! then stays made, which is rarely meant: [`super::Action::check`] refuses it.

use super::{Action, ChangeError, HookCall, MOST_DATA, Phase};
use crate::inject::amount::{self, Amount, whole_entries};
use std::time::Duration;

/// The answer that enter hooks decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// That of the trace, or of the kernel.
    Default,
    /// The call is not made, and returns this.
    Answer(i64),
    /// The call moves at most this many bytes.
    Short(u64),
    /// brk(2) changes nothing and returns the old break, which is its only way to fail.
    Break,
}

impl HookCall {
    /// The return value: negative is -errno. `None` while there is none: at entry, unless a hook that ran before set it.
    pub fn ret(&self) -> Option<i64> {
        match (self.phase, self.decision) {
            (Phase::Enter, Decision::Answer(ret)) => Some(ret),
            (Phase::Enter, _) => None,
            (Phase::Exit, _) => self.ret,
        }
    }

    /// Sets the return value (negative is -errno). At entry, the call is then not made.
    pub fn set_ret(&mut self, ret: i64) {
        match self.phase {
            Phase::Enter => self.decide(Decision::Answer(ret)),
            Phase::Exit => self.ret = Some(ret),
        }
    }

    /// Lets the call fail with this errno (positive), as the kernel does: it is not made, but for close(2), which has
    /// released the descriptor whatever error it returns. brk(2) returns the old break.
    pub fn fail(&mut self, errno: i32) {
        self.answer(-i64::from(errno), None);
    }

    /// Answers the call with this return value; `executed` says whether the call is made nevertheless. `Some(false)` gives
    /// an errno to a call that the kernel would make, too: so does strace.
    pub fn answer(&mut self, ret: i64, executed: Option<bool>) {
        let fails_by_break = self.name() == "brk" && is_errno(ret) && executed.is_none();
        match executed.unwrap_or_else(|| self.releases(ret)) {
            true => self.override_answer(Action::Return(ret)),
            false if fails_by_break && self.phase == Phase::Enter => self.decide(Decision::Break),
            false => self.set_ret(ret),
        }
    }

    /// The call moves at most this many bytes (or messages, where it moves those); the rest comes when it is made
    /// again. Nothing happens where it moves none.
    pub fn short(&mut self, len: u64) {
        if !self.can_be_short() {
            return;
        }
        match self.phase {
            Phase::Enter => self.decide(Decision::Short(len)),
            Phase::Exit => {
                let len = match self.call.name {
                    // Half an entry is none.
                    "getdents" | "getdents64" => {
                        let most = usize::try_from(len).unwrap_or(usize::MAX);
                        let entries = self.first_data(MOST_DATA).unwrap_or_default();
                        whole_entries(&entries, most) as i64
                    }
                    _ => i64::try_from(len).unwrap_or(i64::MAX),
                };
                self.ret = self.ret.map(|ret| ret.min(len));
            }
        }
    }

    /// Answers the call with at most this many bytes; `executed` says whether the call moves all of them nevertheless.
    pub fn cut_short(&mut self, len: u64, executed: Option<bool>) {
        match executed {
            Some(true) => self.override_answer(Action::Short(len)),
            _ => self.short(len),
        }
    }

    /// Whether the call moves something of which it could move less.
    pub fn can_be_short(&self) -> bool {
        Amount::of(self.call).is_some()
    }

    /// The number of bytes or messages that the call asks for, where it moves some.
    pub fn asked_amount(&self) -> Option<u64> {
        let amount = Amount::of(self.call)?;
        if let Some(arg) = amount::asked_arg(self.call) {
            return self.args.get(arg).copied();
        }
        let regions = self.call.data_regions(&self.args, u64::MAX, &self.memory);
        let bytes = regions.iter().map(|region| region.len as u64).sum();
        (amount == Amount::Bytes).then_some(bytes)
    }

    /// The process goes on live, from this call.
    pub fn live(&mut self) {
        self.goes_live = true;
    }

    /// The injection ends here.
    pub fn stop(&mut self, reason: impl Into<String>) {
        self.stop = Some(reason.into());
    }

    /// Sends the process this signal with the call.
    pub fn send_signal(&mut self, signal: i32) {
        self.signals.push(signal);
    }

    /// Makes the call take this much longer.
    pub fn delay(&mut self, time: Duration) {
        self.delay = self.delay.saturating_add(time);
    }

    /// Takes the delay that hooks have asked for; none is left.
    pub fn take_delay(&mut self) -> Duration {
        std::mem::take(&mut self.delay)
    }

    /// The decision of the enter hooks.
    #[allow(dead_code, reason = "for engines outside of this module")]
    pub(crate) fn decision(&self) -> Decision {
        self.decision
    }

    /// The call has been answered: the exit hooks come next.
    pub fn answered(&mut self, ret: i64) {
        self.phase = Phase::Exit;
        (self.ret, self.given) = (Some(ret), Some(ret));
        if let Some(action) = self.afterwards.take() {
            self.override_answer(action);
        }
    }

    /// Whether a SIGKILL ends the process before the call does anything. Beside a decided answer it comes behind the
    /// call.
    pub(crate) fn dies_first(&self) -> bool {
        let waits = self.decision != Decision::Default || self.afterwards.is_some();
        !waits && self.signals.contains(&libc::SIGKILL)
    }

    /// Decides at the entry; an earlier decision does not count any more.
    fn decide(&mut self, decision: Decision) {
        (self.decision, self.afterwards) = (decision, None);
    }

    /// Does this action to the answer of a call that is made: at the entry, once it has been answered.
    pub(super) fn override_answer(&mut self, action: Action) {
        if self.phase == Phase::Enter {
            self.decide(Decision::Default);
            self.afterwards = Some(action);
            return;
        }
        action.apply(self, Some(false));
        self.done = self.given;
    }

    /// Whether the call has had its effect although the kernel answers so: close(2) closes the file whatever error it
    /// returns.
    pub(super) fn releases(&self, ret: i64) -> bool {
        self.name() == "close" && is_errno(ret) && ret != -i64::from(libc::EBADF)
    }

    /// Whether the call has been answered with this return value.
    pub(super) fn has_returned(&self, ret: i64) -> bool {
        self.phase == Phase::Exit && self.ret == Some(ret)
    }

    /// Whether the answer can still be changed: not that of a call by which the kernel has changed something.
    pub(super) fn check_in_time(&self, action: &'static str) -> Result<(), ChangeError> {
        let given = self.given.unwrap_or(0);
        let happened = given >= 0 || given == -i64::from(libc::EINPROGRESS);
        match self.phase == Phase::Exit && self.made && happened && self.call.has_effects() {
            true => Err(ChangeError::TooLate {
                call: self.name(),
                action,
            }),
            false => Ok(()),
        }
    }
}

fn is_errno(ret: i64) -> bool {
    crate::constants::is_error(ret)
}
