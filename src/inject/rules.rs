//! Declarative rules: which calls, under which conditions, and what to do to them.

use super::hook::{HookCall, HookError, Hooks, OnDivergence};
use super::partial::Amount;
use super::select::{Selector, When};
use super::{Divergence, Phase, noise};
use crate::syscall::Syscall;
use crate::trace::{CallFiles, file_names};
use std::collections::HashMap;
use std::time::Duration;

/// A pattern for paths.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// This path, or a shell pattern (`*` stops at no slash).
    Glob(glob::Pattern),
    /// A regular expression, matched anywhere.
    Regex(regex::bytes::Regex),
}

impl PathPattern {
    /// This path, or a shell pattern, however it is written.
    ///
    /// # Errors
    /// If it is no shell pattern.
    pub fn glob(text: &str) -> Result<PathPattern, glob::PatternError> {
        let text = file_names::normalize(text.as_bytes());
        glob::Pattern::new(&String::from_utf8_lossy(&text)).map(PathPattern::Glob)
    }

    /// The path, where it is one and no pattern.
    pub fn exact(&self) -> Option<&str> {
        match self {
            PathPattern::Glob(glob) => {
                Some(glob.as_str()).filter(|text| !text.contains(['*', '?', '[']))
            }
            PathPattern::Regex(_) => None,
        }
    }

    /// Whether one of these files is meant, by any of its names.
    pub fn means(&self, about: &CallFiles) -> bool {
        if about.is_meant(|name| self.matches(name)) {
            return true;
        }
        let Some(path) = self.exact() else {
            return false;
        };
        let mut dirs = about.dirs.iter().filter(|dir| !dir.is_empty());
        dirs.any(|dir| {
            let place = file_names::join(dir, path.as_bytes());
            about
                .files
                .iter()
                .any(|file| file.absolute.contains(&place))
        })
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Glob(glob) => {
                let path = String::from_utf8_lossy(path);
                glob.as_str() == path || glob.matches(&path)
            }
            PathPattern::Regex(regex) => regex.is_match(path),
        }
    }
}

/// What must hold for a hook to run, besides the call's name. Counts how often the rest held.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Which of the calls that pass the others.
    pub when: When,
    /// A path of the call's, or behind its descriptor.
    pub path: Option<PathPattern>,
    /// Its descriptor.
    pub fd: Option<i32>,
    /// The task, as recorded.
    pub tid: Option<i32>,
    /// Whether each call of each task is counted on its own, as strace does.
    pub per_task: bool,
    passed: u64,
    /// By task and call.
    passed_by: HashMap<(i32, u32), u64>,
    fired: u64,
}

impl Conditions {
    /// These conditions, and no others.
    pub fn new(when: When, path: Option<PathPattern>, fd: Option<i32>) -> Conditions {
        Conditions {
            when,
            path,
            fd,
            ..Conditions::default()
        }
    }

    /// Whether all hold for this call. To be asked once per call: it counts.
    pub fn hold(&mut self, call: &HookCall) -> bool {
        self.pass(call) && self.count(call)
    }

    /// Whether all but `when` hold for this call.
    pub fn pass(&self, call: &HookCall) -> bool {
        if self.fd.is_some() && self.fd != call.fd() {
            return false;
        }
        if self.tid.is_some_and(|tid| tid != call.tid()) {
            return false;
        }
        match &self.path {
            Some(pattern) => call.is_about(pattern),
            None => true,
        }
    }

    /// Counts a call that passes, and says whether `when` holds for it.
    pub fn count(&mut self, call: &HookCall) -> bool {
        let passed = match self.per_task {
            true => self.passed_by.entry((call.tid(), call.nr())).or_default(),
            false => &mut self.passed,
        };
        *passed += 1;
        let holds = self.when.holds(*passed);
        self.fired += u64::from(holds);
        holds
    }

    /// Whether they ever held.
    pub fn fired(&self) -> bool {
        self.fired > 0
    }
}

/// What a rule does to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not made, and fails with this errno (positive).
    Fail(i32),
    /// It is not made, and returns this.
    Return(i64),
    /// It moves at most this many bytes.
    Short(u64),
    /// A signal comes with it.
    Signal(i32),
    /// It takes so much longer.
    Delay(Duration),
    /// The process goes live with it.
    Live,
}

impl Action {
    /// Whether this is something to do to such a call: whether a kernel could answer so. `executed` is as in
    /// [`Rule::executed`].
    pub fn suits(&self, call: &Syscall, executed: Option<bool>) -> bool {
        let plausible = match *self {
            Action::Short(_) => return Amount::of(call).is_some(),
            Action::Fail(_) => call.can_fail(),
            Action::Return(ret) if (-4095..0).contains(&ret) => call.can_fail(),
            Action::Return(_) => returns(call.name),
            Action::Signal(_) | Action::Delay(_) | Action::Live => return true,
        };
        match executed {
            // Who says so knows that it is not what a kernel does.
            Some(false) => true,
            Some(true) => plausible && !says_itself(call.name),
            None => plausible,
        }
    }

    /// Whether there is something to do to this very call: what asks for no more anyway cannot be cut short.
    pub fn fits(&self, call: &HookCall, executed: Option<bool>) -> bool {
        let cuts = |len: u64| call.asked_amount().is_none_or(|asked| asked > len);
        self.suits(call.syscall(), executed) && !matches!(*self, Action::Short(len) if !cuts(len))
    }

    /// Does it.
    pub fn apply(&self, call: &mut HookCall, executed: Option<bool>) {
        match *self {
            Action::Fail(errno) => call.fail_how(errno, executed),
            Action::Return(ret) => call.set_ret_how(ret, executed),
            Action::Short(len) => call.short_how(len, executed),
            Action::Signal(signal) => call.send_signal(signal),
            Action::Delay(time) => call.delay(time),
            Action::Live => call.live(),
        }
    }

    /// What it is called in rules.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Fail(_) => "fail",
            Action::Return(_) => "ret",
            Action::Short(_) => "short",
            Action::Signal(_) => "signal",
            Action::Delay(_) => "delay",
            Action::Live => "live",
        }
    }
}

/// Whether a call comes back to who made it.
pub fn returns(call: &str) -> bool {
    !matches!(call, "exit" | "exit_group" | "rt_sigreturn")
}

/// Whether a process knows what a call that was made has come to, whatever it is told: a program that was executed is
/// another one, and brk(2) has no answer for a failure but that the break is where it was.
fn says_itself(call: &str) -> bool {
    matches!(call, "execve" | "execveat" | "brk") || !returns(call)
}

/// Which calls, under which conditions, and what to do to them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How the user would name it.
    pub name: String,
    /// Which calls.
    pub selector: Selector,
    /// Under which conditions.
    pub conditions: Conditions,
    /// What to do; several things at once.
    pub actions: Vec<Action>,
    /// Whether a call that fails, is answered or cut short is made all the same, and its process told otherwise;
    /// where that is not said, as the kernel does (see [`HookCall::fail`]).
    pub executed: Option<bool>,
}

impl Rule {
    /// Applies it to a call at its entry, if it is meant.
    pub fn apply(&mut self, call: &mut HookCall) {
        let executed = self.executed;
        let fits = |action: &&Action| action.fits(call, executed);
        if call.phase() == Phase::Enter
            && self.selector.matches(call.syscall())
            && self.actions.iter().any(|action| fits(&action))
            && self.conditions.hold(call)
        {
            let fitting: Vec<Action> = self.actions.iter().filter(fits).cloned().collect();
            for action in fitting {
                action.apply(call, executed);
            }
            call.note_rule(self.name.clone());
        }
    }
}

/// Rules in order: hooks without Lua.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    on_divergence: Option<OnDivergence>,
    ignored: Option<Selector>,
}

impl RuleSet {
    /// These rules; every one that matches is applied, and the last has the last word.
    pub fn new(rules: Vec<Rule>) -> RuleSet {
        RuleSet {
            rules,
            on_divergence: None,
            ignored: None,
        }
    }

    /// The calls that may appear or be missing without the process having left the trace, besides the usual ones.
    #[must_use]
    pub fn ignore(mut self, calls: Selector) -> RuleSet {
        self.ignored = Some(calls);
        self
    }

    /// What happens when the process leaves the trace; it is stopped unless said otherwise.
    #[must_use]
    pub fn on_divergence(mut self, what: OnDivergence) -> RuleSet {
        self.on_divergence = Some(what);
        self
    }
}

impl Hooks for RuleSet {
    fn enter(&mut self, call: &mut HookCall) -> Result<(), HookError> {
        for rule in &mut self.rules {
            rule.apply(call);
        }
        Ok(())
    }

    fn exit(&mut self, _call: &mut HookCall) -> Result<(), HookError> {
        Ok(())
    }

    fn diverged(&mut self, _divergence: &Divergence) -> Result<OnDivergence, HookError> {
        Ok(self.on_divergence.unwrap_or(OnDivergence::Stop))
    }

    fn is_ignored(&self, call: &str) -> bool {
        let also = self.ignored.as_ref();
        noise::is_ignored(call) || also.is_some_and(|calls| calls.matches_name(call))
    }

    fn wants(&self, call: &Syscall) -> bool {
        let means = |rule: &Rule| rule.selector.matches_any(call);
        self.rules.iter().any(means)
    }

    fn names(&self, call: &Syscall) -> bool {
        self.rules.iter().any(|rule| rule.selector.names(call))
    }

    fn unfired(&self) -> Vec<String> {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for rule in &self.rules {
            *counts.entry(&rule.name).or_default() += u64::from(rule.conditions.fired());
        }
        self.rules
            .iter()
            .filter(|rule| counts.get(rule.name.as_str()) == Some(&0))
            .map(|rule| rule.name.clone())
            .collect()
    }
}
