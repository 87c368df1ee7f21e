//! Declarative rules: which calls, under which conditions, and what to do to them.

use super::hook::{HookCall, HookError, Hooks, OnDivergence};
use super::{Divergence, Phase};
use crate::syscall::{self, Syscall};
use std::collections::HashMap;

/// Which calls a rule is about: an expression in strace's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    negated: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    All,
    Class(String),
    Name(&'static str),
}

/// A name that no call has, or that of no class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCall {
    /// A call.
    #[error("unknown system call {name:?}{}", did_you_mean(.suggestions))]
    Name {
        /// The name.
        name: String,
        /// Names that are near.
        suggestions: Vec<&'static str>,
    },
    /// A class.
    #[error(
        "unknown class {name:?}: classes are %file, %desc, %network, %process, %signal, %memory, %ipc, %%stat \
         and the others of strace's"
    )]
    Class {
        /// The name.
        name: String,
    },
}

fn did_you_mean(names: &[&'static str]) -> String {
    match names {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("; did you mean {}?", names.join(" or "))
        }
    }
}

impl Selector {
    /// Reads `name`, `name,name`, `%class`, `!name`, `*`. Old and i386 names are aliases.
    ///
    /// # Errors
    /// If a name is that of no call.
    pub fn parse(text: &str) -> Result<Selector, UnknownCall> {
        let mut terms = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (negated, name) = match part.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, part),
            };
            let what = if matches!(name, "*" | "all" | "%all") {
                What::All
            } else if name.starts_with('%') {
                class(name)?
            } else {
                What::Name(lookup(name)?.name)
            };
            terms.push(Term { negated, what });
        }
        Ok(Selector {
            text: text.to_string(),
            terms,
        })
    }

    /// Whether a call is among them.
    pub fn matches(&self, call: &Syscall) -> bool {
        let hit = |term: &Term| match &term.what {
            What::All => true,
            What::Class(class) => call.is_in_class(class),
            What::Name(name) => *name == call.name,
        };
        let only_negated = self.terms.iter().all(|term| term.negated);
        let wanted = only_negated || self.terms.iter().any(|term| !term.negated && hit(term));
        wanted && !self.terms.iter().any(|term| term.negated && hit(term))
    }

    /// Whether the call of this name is among them. One that is not known has no class, and no name that could be asked for.
    pub fn matches_name(&self, name: &str) -> bool {
        match syscall::by_name(name) {
            Some(call) => self.matches(call),
            None => self
                .terms
                .iter()
                .all(|term| term.negated != (term.what == What::All)),
        }
    }

    /// How specific it is: all calls (0), classes (1), names (2).
    pub fn rank(&self) -> u8 {
        let rank = |term: &Term| match term.what {
            What::All => 0,
            What::Class(_) => 1,
            What::Name(_) => 2,
        };
        self.terms.iter().map(rank).min().unwrap_or(0)
    }
}

fn class(name: &str) -> Result<What, UnknownCall> {
    let mut calls = syscall::names().filter_map(syscall::by_name);
    if calls.any(|call| call.is_in_class(name)) {
        return Ok(What::Class(name.to_string()));
    }
    Err(UnknownCall::Class {
        name: name.to_string(),
    })
}

/// The call of this name, or of which this is an old name.
///
/// # Errors
/// If there is none; says which are near.
pub(crate) fn lookup(name: &str) -> Result<&'static Syscall, UnknownCall> {
    syscall::by_name(name).ok_or_else(|| UnknownCall::Name {
        name: name.to_string(),
        suggestions: syscall::suggest(name),
    })
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// strace's `when`: `first`, `first+`, `first+step`, `first..last`, `first..last+step`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    first: u64,
    last: u64,
    step: u64,
}

impl Default for When {
    fn default() -> When {
        When {
            first: 1,
            last: u64::MAX,
            step: 1,
        }
    }
}

impl When {
    /// Reads strace's syntax.
    ///
    /// # Errors
    /// If it is not that; says what would be.
    pub fn parse(text: &str) -> Result<When, String> {
        let wrong =
            || format!("{text:?} is not first[..last][+step], as in \"3\", \"2..5\" or \"1+2\"");
        let number = |text: &str| {
            text.trim()
                .parse::<u64>()
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(wrong)
        };
        let (range, step) = match text.split_once('+') {
            Some((range, "")) => (range, Some(1)),
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, Some(number(last)?)),
            None => (number(range)?, None),
        };
        let last = match (last, step) {
            (Some(last), _) if last < first => return Err(wrong()),
            (Some(last), _) => last,
            (None, Some(_)) => u64::MAX,
            (None, None) => first,
        };
        Ok(When {
            first,
            last,
            step: step.unwrap_or(1),
        })
    }

    /// Whether it holds for the nth call, from 1.
    pub fn holds(&self, n: u64) -> bool {
        (self.first..=self.last).contains(&n) && (n - self.first).is_multiple_of(self.step)
    }
}

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
    passed: u64,
    fired: u64,
}

impl Conditions {
    /// These conditions, and no others.
    pub fn new(when: When, path: Option<PathPattern>, fd: Option<i32>) -> Conditions {
        Conditions {
            when,
            path,
            fd,
            passed: 0,
            fired: 0,
        }
    }

    /// Whether all hold for this call. To be asked once per call: it counts.
    pub fn hold(&mut self, call: &HookCall) -> bool {
        if self.fd.is_some() && self.fd != call.fd() {
            return false;
        }
        if let Some(pattern) = &self.path
            && !call.is_about(|path| pattern.matches(path))
        {
            return false;
        }
        self.passed += 1;
        let holds = self.when.holds(self.passed);
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
    /// The process goes live with it.
    Live,
}

impl Action {
    /// Does it.
    pub fn apply(&self, call: &mut HookCall) {
        match *self {
            Action::Fail(errno) => call.fail(errno),
            Action::Return(ret) => call.set_ret(ret),
            Action::Short(len) => call.short(len),
            Action::Signal(signal) => call.send_signal(signal),
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
}

impl RuleSet {
    /// These rules; every one that matches is applied, and the last has the last word.
    pub fn new(rules: Vec<Rule>) -> RuleSet {
        RuleSet {
            rules,
            on_divergence: None,
        }
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
