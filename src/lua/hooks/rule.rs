//! What one key of a hooks table says, or one element of its array part: a rule or a function.

use super::super::convert::{self, shown};
use super::super::error::{did_you_mean, near, raise};
use super::super::pattern;
use super::Hook;
use crate::inject::{self, Action, When};
use crate::syscall::{self, Syscall};
use mlua::{Function, Table, Value};

const MEMBERS: [&str; 15] = [
    "fail", "ret", "short", "signal", "delay", "live", "executed", "when", "path", "fd", "tid",
    "per", "where", "enter", "exit",
];

/// strace's names for two of them.
const ALIASES: [(&str, &str); 2] = [("error", "fail"), ("retval", "ret")];

impl Hook {
    /// What a key says.
    pub(super) fn keyed(key: &Value, value: &Value) -> mlua::Result<Hook> {
        let (selector, name) = pattern::calls(key)?;
        let mut hook = Hook::new(name, selector);
        match value {
            Value::Function(exit) => hook.exit = Some(exit.clone()),
            Value::Table(rule) => hook.read(rule, &[])?,
            other => {
                let (name, other) = (&hook.name, shown(other));
                return Err(raise(format!(
                    "the hook for {name} is a rule (a table) or a function, not {other}"
                )));
            }
        }
        Ok(hook)
    }

    /// What an element of the array part says: `{ on = …, … }`.
    pub(super) fn element(value: &Value, number: usize) -> mlua::Result<Hook> {
        let Value::Table(rule) = value else {
            return Err(raise(format!(
                "rule {number} of the hooks is a table {{ on = …, … }}, not {}",
                shown(value)
            )));
        };
        let on: Value = rule.get("on")?;
        if on.is_nil() {
            return Err(raise(format!(
                "rule {number} of the hooks does not say on which calls: on = \"read\""
            )));
        }
        let (selector, name) = pattern::calls(&on)?;
        let mut hook = Hook::new(format!("{number} ({name})"), selector);
        hook.read(rule, &["on"])?;
        Ok(hook)
    }

    fn read(&mut self, rule: &Table, more: &[&str]) -> mlua::Result<()> {
        rule.for_each(|key: Value, value: Value| {
            let Value::String(key) = &key else {
                return Err(raise(format!(
                    "the rule for {} has {}, which says nothing",
                    self.name,
                    shown(&value)
                )));
            };
            let key = key.to_string_lossy();
            if more.contains(&key.as_ref()) {
                return Ok(());
            }
            let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
            self.read_member(alias.map_or(key.as_ref(), |(_, name)| name), &value)
        })?;
        // Whatever order the table gives its members in, they act in this one.
        self.actions.sort_by_key(|action| match action {
            Action::Fail(_) | Action::Return(_) => 0,
            Action::Short(_) => 1,
            Action::Signal(_) => 2,
            Action::Delay(_) => 3,
            Action::Live => 4,
        });
        let answers = self.actions.iter().filter(|action| {
            matches!(
                action,
                Action::Fail(_) | Action::Return(_) | Action::Short(_)
            )
        });
        let answers = answers.count();
        let has_answer = answers > 0;
        if answers > 1 {
            return Err(raise(format!(
                "the rule for {} has more than one of fail, ret and short: a call has one answer",
                self.name
            )));
        }
        self.check_actions(has_answer)
    }

    /// Whether there are calls with which that can be done.
    fn check_actions(&self, has_answer: bool) -> mlua::Result<()> {
        let name = &self.name;
        if self.executed.is_some() && !has_answer {
            return Err(raise(format!(
                "the rule for {name} has executed, which says how fail, ret or short are meant, and none of these"
            )));
        }
        let calls = || {
            let known = syscall::names().filter_map(syscall::by_name);
            known.filter(|call| self.selector.matches_any(call))
        };
        for action in &self.actions {
            let suits = |call: &Syscall| {
                let mut variants = call.variants();
                action.suits(call, self.executed)
                    || variants.any(|(_, call)| action.suits(call, self.executed))
            };
            if calls().any(suits) {
                continue;
            }
            let action_name = action.name();
            return Err(raise(match (action, calls().next()) {
                (Action::Short(_), _) | (_, None) => format!(
                    "the rule for {name} cannot have {action_name}: no such call moves anything that could be cut short"
                ),
                (_, Some(call)) => {
                    let (call, why) = (call.name, inject::why_not(call, action));
                    format!("the rule for {name} cannot have {action_name}: {call} {why}")
                }
            }));
        }
        if self.actions.is_empty() && self.enter.is_none() && self.exit.is_none() {
            return Err(raise(format!(
                "the rule for {name} does nothing: it needs fail, ret, short, signal, delay, live, enter or exit (a member \
                 that is nil is none: fail = EIO is fail = nil where nothing is called EIO, and fail = \"EIO\" is meant)"
            )));
        }
        Ok(())
    }

    fn read_member(&mut self, key: &str, value: &Value) -> mlua::Result<()> {
        let function = || match value {
            Value::Function(function) => Ok::<Function, mlua::Error>(function.clone()),
            other => Err(raise(format!("{key} is a function, not {}", shown(other)))),
        };
        let small = |what: &str| {
            i32::try_from(convert::integer(value, what)?)
                .map_err(|_| raise(format!("{what} is out of range")))
        };
        let action = match key {
            "fail" => Action::Fail(convert::errno(value)?),
            "ret" => Action::Return(convert::ret(value, "ret")?),
            "short" => Action::Short(convert::count(value, "short")?),
            "signal" => Action::Signal(convert::signal(value)?),
            "delay" => Action::Delay(convert::seconds(value, "delay")?),
            "live" => match value {
                Value::Boolean(true) => Action::Live,
                Value::Boolean(false) => return Ok(()),
                other => return Err(raise(format!("live is true, not {}", shown(other)))),
            },
            "executed" => match value {
                Value::Boolean(executed) => {
                    self.executed = Some(*executed);
                    return Ok(());
                }
                other => {
                    return Err(raise(format!(
                        "executed is true or false, not {}",
                        shown(other)
                    )));
                }
            },
            _ => {
                let conditions = &mut self.conditions;
                match key {
                    "when" => {
                        let text = convert::text(value, "when")?;
                        conditions.when = When::parse(&text).map_err(raise)?;
                    }
                    "path" => conditions.path = Some(pattern::path(value)?),
                    "fd" => conditions.fd = Some(small("fd")?),
                    "tid" => conditions.tid = Some(small("tid")?),
                    "per" => match value {
                        Value::String(word) if word.as_bytes() == b"task" => {
                            conditions.per_task = true;
                        }
                        other => {
                            let other = shown(other);
                            return Err(raise(format!(
                                "per is \"task\", not {other}: left out, all tasks are counted together"
                            )));
                        }
                    },
                    "where" => self.where_ = Some(function()?),
                    "enter" => self.enter = Some(function()?),
                    "exit" => self.exit = Some(function()?),
                    _ => {
                        let hint = did_you_mean(&near(key, MEMBERS));
                        let name = &self.name;
                        return Err(raise(format!("the rule for {name} has no {key:?}{hint}")));
                    }
                }
                return Ok(());
            }
        };
        self.actions.push(action);
        Ok(())
    }
}
