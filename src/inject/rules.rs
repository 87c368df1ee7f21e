//! Rules: declarative hooks of calls, conditions and actions.

use super::hook::{Action, ActionKind, HookCall, HookError, Hooks, OnDivergence};
use super::select::{PathPattern, Selector, When};
use super::{Divergence, OtherFile, Phase, tolerated};
use crate::history::Kin;
use crate::syscall::{self, Syscall};
use std::collections::{BTreeSet, HashMap};

/// The conditions of a hook, besides its calls. They count the calls for which all conditions but `when` hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The selection among the calls for which the other conditions hold.
    pub when: When,
    /// The path of the call, or of its descriptor.
    pub path: Option<PathPattern>,
    /// The descriptor of the call.
    pub fd: Option<i32>,
    /// The recorded tid of the calling task.
    pub tid: Option<i32>,
    /// The processes; those that were asked for, or are live, where nothing is said.
    pub processes: Processes,
    /// True to count each call of each task separately, as strace does.
    pub per_task: bool,
    passed: u64,
    /// The counts by tid and call number.
    passed_by: HashMap<(i32, u32), u64>,
    fired: u64,
}

/// A condition on the process of a call.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The process, by its recorded pid.
    pub pid: Option<Pid>,
    /// The program that it runs: a pattern for the path, or for the name of the file where it has no slash.
    pub exe: Option<PathPattern>,
    /// The process's number among those that are made since the injection began, from 1.
    pub child: Option<u32>,
}

/// A process or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pid {
    /// The process with this recorded pid.
    Of(i32),
    /// All processes.
    Any,
}

impl Processes {
    /// Whether other processes than the one that was asked for may be meant.
    pub fn are_named(&self) -> bool {
        self.pid.is_some() || self.exe.is_some() || self.child.is_some()
    }

    /// Whether a process that runs the program at this path is meant, as far as it can be told without a call.
    pub fn may_have(&self, pid: i32, exe: &[u8]) -> bool {
        self.is_pid(pid) && self.runs(exe)
    }

    fn is_pid(&self, pid: i32) -> bool {
        match self.pid {
            None | Some(Pid::Any) => true,
            Some(Pid::Of(of)) => of == pid,
        }
    }

    fn runs(&self, exe: &[u8]) -> bool {
        let Some(pattern) = &self.exe else {
            return true;
        };
        let name = exe.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        pattern.matches(exe) || pattern.matches(name)
    }

    fn have(&self, call: &HookCall) -> bool {
        if !self.are_named() {
            return !call.is_relatives();
        }
        let is_child = self.child.is_none_or(|child| child == call.child());
        let runs = || self.exe.is_none() || call.exe().is_some_and(|exe| self.runs(&exe));
        self.is_pid(call.pid()) && is_child && runs()
    }
}

impl Kin {
    /// The relatives that rules with these conditions need.
    pub fn of<'a>(conditions: impl IntoIterator<Item = &'a Processes>) -> Kin {
        let named = conditions
            .into_iter()
            .filter(|processes| processes.are_named());
        let named: Vec<Processes> = named.cloned().collect();
        let is_all = |processes: &Processes| {
            processes.child.is_some() || processes.exe.is_none() && processes.pid == Some(Pid::Any)
        };
        match named.iter().any(is_all) {
            _ if named.is_empty() => Kin::Sharing,
            true => Kin::All,
            false => Kin::Those(Box::new(move |pid, exe| {
                named.iter().any(|processes| processes.may_have(pid, exe))
            })),
        }
    }
}

impl Conditions {
    /// These conditions alone.
    pub fn new(when: When, path: Option<PathPattern>, fd: Option<i32>) -> Conditions {
        Conditions {
            when,
            path,
            fd,
            ..Conditions::default()
        }
    }

    /// Returns whether all conditions hold for this call. Counts the call, so that it must be called once for each.
    pub fn hold(&mut self, call: &HookCall) -> bool {
        self.pass(call) && self.count(call)
    }

    /// Returns whether all conditions but `when` hold for this call.
    pub fn pass(&self, call: &HookCall) -> bool {
        if self.fd.is_some() && self.fd != call.fd() {
            return false;
        }
        if self.tid.is_some_and(|tid| tid != call.tid()) || !self.processes.have(call) {
            return false;
        }
        match &self.path {
            Some(pattern) => call.is_about(pattern),
            None => true,
        }
    }

    /// Counts a call for which the other conditions hold; returns whether `when` holds for it.
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

    /// Returns whether the conditions have ever held.
    pub fn fired(&self) -> bool {
        self.fired > 0
    }
}

/// A rule: calls, conditions, and actions.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name by which the user knows the rule.
    pub name: String,
    /// The calls.
    pub selector: Selector,
    /// The conditions.
    pub conditions: Conditions,
    /// The actions, all of which are applied.
    pub actions: Vec<Action>,
    /// True if the kernel makes a call that fails, is answered or cut short all the same; `None` to do what the kernel
    /// does in such a failure (see [`HookCall::fail`]).
    pub executed: Option<bool>,
}

/// The reasons for which a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The rule has more than one action that decides the answer.
    #[error(
        "the rule for {rule} has more than one of {}: a call has one answer",
        ActionKind::answering("and")
    )]
    Answers {
        /// The rule.
        rule: String,
    },
    /// The rule has [`Rule::executed`] without an action that decides the answer.
    #[error(
        "the rule for {rule} has executed, which says how {} are meant, and none of these",
        ActionKind::answering("or")
    )]
    Executed {
        /// The rule.
        rule: String,
    },
    /// The rule has an action that suits none of its calls.
    #[error("the rule for {rule} cannot have {action}: {call} {why}")]
    Unsuited {
        /// The rule.
        rule: String,
        /// The action.
        action: &'static str,
        /// One of the calls, or `no such call`.
        call: &'static str,
        /// The reason.
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
    /// If the actions cannot be combined, or one suits none of the calls.
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

    /// Returns an error if the action suits none of the calls.
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

    /// Returns whether one of the actions can be applied to this call.
    pub fn fits(&self, call: &HookCall) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| action.fits(call, self.executed))
    }

    /// Applies the actions that suit a call, whatever the conditions say.
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

    /// Applies the rule to a call at its entry, if the rule is for that call.
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
    files: Vec<OtherFile>,
    met: BTreeSet<usize>,
}

impl RuleSet {
    /// These rules. All that match a call are applied in order: a later one overrides an earlier one.
    pub fn new(rules: Vec<Rule>) -> RuleSet {
        RuleSet {
            rules,
            on_divergence: None,
            ignored: None,
            files: Vec::new(),
            met: BTreeSet::new(),
        }
    }

    /// Gives a file another content for the process. Rules make no content ([`OtherContent::Made`]): the file keeps its own
    /// then.
    ///
    /// [`OtherContent::Made`]: super::OtherContent::Made
    #[must_use]
    pub fn file(mut self, file: OtherFile) -> RuleSet {
        self.files.push(file);
        self
    }

    /// The relatives of a process that its injection needs: see [`Replay::add_relatives`](crate::replay::Replay::add_relatives).
    pub fn kin(&self) -> Kin {
        Kin::of(self.rules.iter().map(|rule| &rule.conditions.processes))
    }

    /// Adds calls that may appear or be missing without the process having left the trace.
    #[must_use]
    pub fn ignore(mut self, calls: Selector) -> RuleSet {
        self.ignored = Some(calls);
        self
    }

    /// Sets the reaction to a process that leaves the trace; the default is to stop it.
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

    fn always_goes_live(&self) -> bool {
        matches!(self.on_divergence, Some(OnDivergence::Live))
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
        let files = self.files.iter().enumerate();
        let unread = files
            .filter(|(number, _)| !self.met.contains(number))
            .map(|(_, file)| file.name());
        self.rules
            .iter()
            .filter(|rule| counts.get(rule.name.as_str()) == Some(&0))
            .map(|rule| rule.name.clone())
            .chain(unread)
            .collect()
    }

    fn files(&self) -> Vec<OtherFile> {
        self.files.clone()
    }

    fn met(&mut self, file: usize) {
        self.met.insert(file);
    }
}
