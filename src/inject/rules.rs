//! Rules: declarative hooks, of calls, conditions and actions.

use super::hook::{Action, ActionKind, HookCall, HookError, Hooks, OnDivergence};
use super::select::{PathPattern, Selector, When};
use super::{Divergence, Phase, tolerated};
use crate::syscall::{self, Syscall};
use std::collections::HashMap;

/// The conditions of a hook, besides the calls that it is for. They count the calls for which the others hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The selection among the calls for which the other conditions hold.
    pub when: When,
    /// A path of the call, or that of its descriptor.
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

    /// Whether all hold for this call. It counts the call, and so is called once for each.
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

    /// Whether the conditions have ever held.
    pub fn fired(&self) -> bool {
        self.fired > 0
    }
}

/// A rule: calls, conditions, and actions.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name that the user knows it by.
    pub name: String,
    /// The calls.
    pub selector: Selector,
    /// The conditions.
    pub conditions: Conditions,
    /// The actions, all of which are done.
    pub actions: Vec<Action>,
    /// Whether a call that fails, is answered or cut short is made all the same; `None` is as the kernel does (see
    /// [`HookCall::fail`]).
    pub executed: Option<bool>,
}

/// The reasons for which a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// More than one action that decides the answer.
    #[error(
        "the rule for {rule} has more than one of {}: a call has one answer",
        ActionKind::answering("and")
    )]
    Answers {
        /// The rule.
        rule: String,
    },
    /// [`Rule::executed`] without an action that decides the answer.
    #[error(
        "the rule for {rule} has executed, which says how {} are meant, and none of these",
        ActionKind::answering("or")
    )]
    Executed {
        /// The rule.
        rule: String,
    },
    /// An action that suits none of the calls.
    #[error("the rule for {rule} cannot have {action}: {call} {why}")]
    Unsuited {
        /// The rule.
        rule: String,
        /// The action.
        action: &'static str,
        /// One of the calls, or `no such call`.
        call: &'static str,
        /// Why not.
        why: &'static str,
    },
}

impl Rule {
    /// A rule for these calls, without conditions and actions.
    pub fn new(name: String, selector: Selector) -> Rule {
        Rule {
            name,
            selector,
            conditions: Conditions::default(),
            actions: Vec::new(),
            executed: None,
        }
    }

    /// The rule with this action in addition.
    #[must_use]
    pub fn with(mut self, action: Action) -> Rule {
        self.actions.push(action);
        self
    }

    /// Brings the actions into the order of the table, and looks whether they can be together, and whether there are
    /// calls that they suit.
    ///
    /// # Errors
    /// If they cannot, or there are none.
    pub fn check(&mut self) -> Result<(), RuleError> {
        self.actions.sort();
        let rule = || self.name.clone();
        let answers = self.actions.iter().filter(|action| action.kind().answers);
        match answers.count() {
            0 if self.executed.is_some() => return Err(RuleError::Executed { rule: rule() }),
            0 | 1 => {}
            _ => return Err(RuleError::Answers { rule: rule() }),
        }
        for action in &self.actions {
            self.check_calls(action)?;
        }
        Ok(())
    }

    /// Whether the action suits one of the calls.
    fn check_calls(&self, action: &Action) -> Result<(), RuleError> {
        let calls = || {
            let known = syscall::names().filter_map(syscall::by_name);
            known.filter(|call| self.selector.matches_any(call))
        };
        let suits = |call: &Syscall| {
            let mut variants = call.variants();
            action.suits(call, self.executed)
                || variants.any(|(_, call)| action.suits(call, self.executed))
        };
        if calls().any(suits) {
            return Ok(());
        }
        let (call, why) = match (action, calls().next()) {
            (Action::Short(_), _) | (_, None) => {
                ("no such call", "moves anything that could be cut short")
            }
            (_, Some(call)) => (call.name, action.why_not(call)),
        };
        Err(RuleError::Unsuited {
            rule: self.name.clone(),
            action: action.kind().name,
            call,
            why,
        })
    }

    /// Whether one of the actions can be done to this call.
    pub fn fits(&self, call: &HookCall) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| action.fits(call, self.executed))
    }

    /// Does the actions to a call that can be done to it, whatever the conditions.
    pub fn act(&self, call: &mut HookCall) {
        let mut acted = false;
        for action in &self.actions {
            if action.fits(call, self.executed) {
                action.apply(call, self.executed);
                acted = true;
            }
        }
        if acted {
            call.note_rule(self.name.as_str());
        }
    }

    /// Applies it to a call at its entry, if it is for that call.
    pub fn apply(&mut self, call: &mut HookCall) {
        if call.phase() == Phase::Enter
            && self.selector.matches(call.syscall())
            && self.fits(call)
            && self.conditions.hold(call)
        {
            self.act(call);
        }
    }
}

/// A list of rules: hooks without Lua.
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

    /// Sets the reaction to a process that leaves the trace; without it, the process is stopped.
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
        tolerated::is_ignored(call) || also.is_some_and(|calls| calls.matches_name(call))
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
