//! Declarative rules: which calls, under which conditions, and what to do to them.

use super::hook::{HookCall, HookError, Hooks, OnDivergence};
use super::partial::Amount;
use super::select::{Selector, When};
use super::{Divergence, Phase, noise};
use crate::syscall::Syscall;
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
            Some(pattern) => call.is_about(|path| pattern.matches(path)),
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
    /// Whether this is something to do to such a call.
    pub fn suits(&self, call: &Syscall) -> bool {
        !matches!(self, Action::Short(_)) || Amount::of(call).is_some()
    }

    /// Does it.
    pub fn apply(&self, call: &mut HookCall) {
        match *self {
            Action::Fail(errno) => call.fail(errno),
            Action::Return(ret) => call.set_ret(ret),
            Action::Short(len) => call.short(len),
            Action::Signal(signal) => call.send_signal(signal),
            Action::Delay(time) => call.delay(time),
            Action::Live => call.live(),
        }
    }
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
}

impl Rule {
    /// Applies it to a call at its entry, if it is meant.
    pub fn apply(&mut self, call: &mut HookCall) {
        if call.phase() == Phase::Enter
            && self.selector.matches(call.syscall())
            && self
                .actions
                .iter()
                .any(|action| action.suits(call.syscall()))
            && self.conditions.hold(call)
        {
            for action in &self.actions {
                action.apply(call);
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
