//! The actions of hooks: one table.
//!
//! A rule (`write = { fail = "ENOSPC" }`) or a hook's function (`call:fail "ENOSPC"`) does an [`Action`] to a call.
//! [`ACTIONS`] describes each; rules in Rust and in Lua, the methods of Lua's `call`, and the messages about them follow
//! from it. A new action needs a variant, its row and its arms here, its effect as a method of [`HookCall`], and its
//! annotations in `lua-stdlib/rrapper.d.lua`.

use super::{ChangeError, HookCall, Phase};
use crate::inject::amount::Amount;
use crate::syscall::Syscall;
use std::time::Duration;

/// An action of a rule or a hook on a call. The actions of one rule are done in the order of the variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The call is not made, and fails with this errno (positive).
    Fail(i32),
    /// The call is not made, and returns this.
    Return(i64),
    /// The call moves at most this many bytes.
    Short(u64),
    /// A signal comes with the call.
    Signal(i32),
    /// The call takes this much longer.
    Delay(Duration),
    /// The process goes live with the call.
    Live,
}

/// A row of [`ACTIONS`].
#[derive(Debug)]
pub struct ActionKind {
    /// The name of its member in rules.
    pub name: &'static str,
    /// strace's name for the same, which rules take as well.
    pub alias: Option<&'static str>,
    /// The name of the method of `call` that does it.
    pub method: &'static str,
    /// The value that it takes.
    pub value: ActionValue,
    /// Whether it decides the call's answer: a rule has one such action at most, of which `executed` says whether the
    /// call is made nevertheless.
    pub answers: bool,
    /// Whether it can be done when the call has been answered, too.
    pub at_exit: bool,
    /// Whether it means nothing to a process that is live from its beginning.
    pub leaves_trace: bool,
}

/// The kind of value that an action takes, and how the action is made of one.
#[derive(Debug)]
pub enum ActionValue {
    /// An errno, positive.
    Errno(fn(i32) -> Action),
    /// A return value: negative is -errno.
    Ret(fn(i64) -> Action),
    /// A number of bytes, or of messages.
    Count(fn(u64) -> Action),
    /// A signal's number.
    Signal(fn(i32) -> Action),
    /// A time.
    Time(fn(Duration) -> Action),
    /// None.
    Nothing(Action),
}

/// All actions, in the order in which those of one rule are done.
pub static ACTIONS: [&ActionKind; 6] = [&FAIL, &RETURN, &SHORT, &SIGNAL, &DELAY, &LIVE];

static FAIL: ActionKind = ActionKind {
    name: "fail",
    alias: Some("error"),
    method: "fail",
    value: ActionValue::Errno(Action::Fail),
    answers: true,
    at_exit: true,
    leaves_trace: false,
};

static RETURN: ActionKind = ActionKind {
    name: "ret",
    alias: Some("retval"),
    method: "skip",
    value: ActionValue::Ret(Action::Return),
    answers: true,
    at_exit: true,
    leaves_trace: false,
};

static SHORT: ActionKind = ActionKind {
    name: "short",
    alias: None,
    method: "short",
    value: ActionValue::Count(Action::Short),
    answers: true,
    at_exit: true,
    leaves_trace: false,
};

static SIGNAL: ActionKind = ActionKind {
    name: "signal",
    alias: None,
    method: "signal",
    value: ActionValue::Signal(Action::Signal),
    answers: false,
    at_exit: true,
    leaves_trace: false,
};

static DELAY: ActionKind = ActionKind {
    name: "delay",
    alias: None,
    method: "delay",
    value: ActionValue::Time(Action::Delay),
    answers: false,
    at_exit: true,
    leaves_trace: false,
};

static LIVE: ActionKind = ActionKind {
    name: "live",
    alias: None,
    method: "live",
    value: ActionValue::Nothing(Action::Live),
    answers: false,
    at_exit: false,
    leaves_trace: true,
};

impl ActionKind {
    /// The action that a member of a rule means, by its name or by strace's.
    pub fn of_member(name: &str) -> Option<&'static ActionKind> {
        let mut kinds = ACTIONS.into_iter();
        kinds.find(|kind| kind.name == name || kind.alias == Some(name))
    }

    /// The names of those that exclude each other, as in `fail, ret and short`.
    pub(crate) fn answering(last: &str) -> String {
        let kinds = ACTIONS.iter().filter(|kind| kind.answers);
        let names: Vec<&str> = kinds.map(|kind| kind.name).collect();
        match names.split_last() {
            Some((name, rest)) if !rest.is_empty() => format!("{} {last} {name}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

impl Action {
    /// Its row in the table.
    pub fn kind(&self) -> &'static ActionKind {
        match self {
            Action::Fail(_) => &FAIL,
            Action::Return(_) => &RETURN,
            Action::Short(_) => &SHORT,
            Action::Signal(_) => &SIGNAL,
            Action::Delay(_) => &DELAY,
            Action::Live => &LIVE,
        }
    }

    /// Does it. `executed` is as in [`crate::inject::Rule::executed`].
    pub fn apply(&self, call: &mut HookCall, executed: Option<bool>) {
        match *self {
            Action::Fail(errno) => call.answer(-i64::from(errno), executed),
            Action::Return(ret) if call.has_returned(ret) => {}
            Action::Return(ret) => call.answer(ret, executed),
            Action::Short(len) => call.cut_short(len, executed),
            Action::Signal(signal) => call.send_signal(signal),
            Action::Delay(time) => call.delay(time),
            Action::Live => call.live(),
        }
    }

    /// Whether a kernel could answer such a call so; always for an action that is no answer.
    pub fn suits(&self, call: &Syscall, executed: Option<bool>) -> bool {
        let plausible = match *self {
            Action::Short(_) => return Amount::of(call).is_some(),
            Action::Fail(_) => call.can_fail(),
            Action::Return(ret) if crate::constants::is_error(ret) => call.can_fail(),
            Action::Return(_) => returns(call.name),
            Action::Signal(_) | Action::Delay(_) | Action::Live => return true,
        };
        match executed {
            // The rule says that it is not what a kernel does.
            Some(false) => true,
            Some(true) => plausible && !shows_its_result(call.name),
            None => plausible,
        }
    }

    /// Whether it can be done to this very call: a call that asks for no more anyway cannot be cut short.
    pub fn fits(&self, call: &HookCall, executed: Option<bool>) -> bool {
        let cuts = |len: u64| call.asked_amount().is_none_or(|asked| asked > len);
        self.suits(call.syscall(), executed) && !matches!(*self, Action::Short(len) if !cuts(len))
    }

    /// Whether a hook can do it to this call now.
    ///
    /// # Errors
    /// If no kernel would answer so (the call never fails, never returns, moves nothing, or asks for less), or if it is
    /// too late.
    pub fn check(&self, call: &HookCall, executed: Option<bool>) -> Result<(), ChangeError> {
        let kind = self.kind();
        if call.phase() == Phase::Exit && !kind.at_exit {
            return Err(ChangeError::EnterOnly(kind.method));
        }
        if !kind.answers || matches!(*self, Action::Return(ret) if call.has_returned(ret)) {
            return Ok(());
        }
        let name = call.name();
        if self.fits(call, executed) {
            let releases = match *self {
                Action::Fail(errno) => call.releases(-i64::from(errno)),
                Action::Return(ret) => call.releases(ret),
                _ => false,
            };
            return match executed.unwrap_or(releases) {
                true => Ok(()),
                false => call.check_in_time(kind.name),
            };
        }
        if let (&Action::Short(len), Some(asked)) = (self, call.asked_amount()) {
            return match call.phase() == Phase::Enter && len > asked {
                true => Err(ChangeError::NotShort {
                    call: name,
                    asked,
                    len,
                }),
                // It is no longer than that.
                false => Ok(()),
            };
        }
        Err(ChangeError::Impossible {
            call: name,
            why: self.why_not(call.syscall()),
        })
    }

    /// Why such a call cannot have that answer.
    pub(crate) fn why_not(&self, call: &Syscall) -> &'static str {
        match self {
            Action::Short(_) => "moves nothing that could be cut short",
            _ if !returns(call.name) => "never returns",
            _ if !call.can_fail() => "never fails",
            _ => "that was made shows itself, whatever its process is told",
        }
    }
}

/// Whether a call returns to the code that made it.
pub fn returns(call: &str) -> bool {
    !matches!(call, "exit" | "exit_group" | "rt_sigreturn")
}

/// Whether a process can tell that a call was made, whatever its answer: another program has been executed, and brk(2)
/// has no answer for a failure but the old break.
fn shows_its_result(call: &str) -> bool {
    matches!(call, "execve" | "execveat" | "brk") || !returns(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_variants_belong_together() {
        for kind in ACTIONS {
            let action = match &kind.value {
                ActionValue::Errno(make) | ActionValue::Signal(make) => make(1),
                ActionValue::Ret(make) => make(1),
                ActionValue::Count(make) => make(1),
                ActionValue::Time(make) => make(Duration::from_secs(1)),
                ActionValue::Nothing(action) => action.clone(),
            };
            assert!(std::ptr::eq(action.kind(), kind), "{kind:?}");
            assert!(std::ptr::eq(
                ActionKind::of_member(kind.name).unwrap(),
                kind
            ));
        }
        assert_eq!(ActionKind::answering("and"), "fail, ret and short");
    }
}
