//! What a process is told of a call that was made all the same.
//!
//! To fail a call is not to make it, for the most part. It can be made first: [`HookCall::fail_how`] and its kin say so
//! at the entry. At the exit of a call that the kernel has made for real there is nothing else left to do, which is
//! rarely what is wanted: [`super::Action::check`] is for whoever lets people write hooks.

use super::call::Decision;
use super::{ChangeError, HookCall, Phase};
use crate::inject::amount::{self, Amount};

/// What the process is told of a call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// That it returned this.
    Ret(i64),
    /// That it moved at most so much.
    Short(u64),
}

impl HookCall {
    /// Lets the call fail with this errno (positive), as the kernel does: it is not made, but for close(2), which has
    /// released the descriptor whatever it says of the file. brk(2) is told where the break is.
    pub fn fail(&mut self, errno: i32) {
        self.fail_how(errno, None);
    }

    /// The same; `executed` says whether the call is made nevertheless. If that is said to be false, it gets the errno
    /// and nothing else happens, whatever the kernel would do: so does strace.
    pub fn fail_how(&mut self, errno: i32, executed: Option<bool>) {
        self.set_ret_how(-i64::from(errno), executed);
    }

    /// Sets what the call returns; `executed` says whether it is made nevertheless.
    pub fn set_ret_how(&mut self, ret: i64, executed: Option<bool>) {
        let fails_by_break = self.name() == "brk" && is_errno(ret) && executed.is_none();
        match executed.unwrap_or_else(|| self.releases(ret)) {
            true => self.tell(Told::Ret(ret)),
            false if fails_by_break && self.phase == Phase::Enter => self.decide(Decision::Break),
            false => self.set_ret(ret),
        }
    }

    /// Whether the kernel has done what it was asked for when it answers so: close(2) fails for what it heard of the
    /// file, which is closed.
    pub(super) fn releases(&self, ret: i64) -> bool {
        self.name() == "close" && is_errno(ret) && ret != -i64::from(libc::EBADF)
    }

    /// The process is told that the call moved at most this much; `executed` says whether it moves all nevertheless.
    pub fn short_how(&mut self, len: u64, executed: Option<bool>) {
        match executed {
            Some(true) => self.tell(Told::Short(len)),
            _ => self.short(len),
        }
    }

    /// The call is made, and the process told this of it.
    pub(super) fn tell(&mut self, told: Told) {
        if self.phase == Phase::Enter {
            self.decide(Decision::Default);
            self.told = Some(told);
            return;
        }
        match told {
            Told::Ret(ret) => self.set_ret(ret),
            Told::Short(len) => self.short(len),
        }
        self.done = self.given;
    }

    /// Whether a SIGKILL ends the process before the call does anything: it does not wait for calls to return, but
    /// comes behind what else hooks want of this one.
    pub(crate) fn dies_first(&self) -> bool {
        let waits = self.decision != Decision::Default || self.told.is_some();
        !waits && self.signals.contains(&libc::SIGKILL)
    }

    /// Whether the call has been answered with this return value.
    pub(super) fn has_returned(&self, ret: i64) -> bool {
        self.phase == Phase::Exit && self.ret == Some(ret)
    }

    /// How much the call asks for, in bytes or messages, where it moves some.
    pub fn asked_amount(&self) -> Option<u64> {
        let amount = Amount::of(self.call)?;
        if let Some(arg) = amount::asked_arg(self.call) {
            return self.args.get(arg).copied();
        }
        let regions = self.call.data_regions(&self.args, u64::MAX, &self.memory);
        let bytes = regions.iter().map(|region| region.len as u64).sum();
        (amount == Amount::Bytes).then_some(bytes)
    }

    /// Whether the process can still be told that the call came to something else, and it is no lie about what the
    /// kernel has done.
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
    (-4095..0).contains(&ret)
}
