//! One key of a hooks table, or one element of its array part: a rule or a function.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use super::super::pattern;
use super::actions::of_member;
use crate::inject::{ACTIONS, ActionKind, Pid, Rule, Selector, When};
use mlua::{Function, Table, Value};

/// One key of the table, or one element of its array part: a rule, and functions.
pub(super) struct Hook {
    pub rule: Rule,
    pub where_: Option<Function>,
    pub enter: Option<Function>,
    pub exit: Option<Function>,
}

/// The members of a rule besides its actions.
const MEMBERS: [&str; 12] = [
    "executed", "when", "path", "fd", "tid", "pid", "exe", "child", "per", "where", "enter", "exit",
];

impl Hook {
    /// A hook without conditions, actions and functions.
    fn new(name: String, selector: Selector) -> Hook {
        Hook {
            rule: Rule::new(name, selector),
            where_: None,
            enter: None,
            exit: None,
        }
    }

    /// Reads the value of a key.
    pub(super) fn keyed(key: &Value, value: &Value) -> mlua::Result<Hook> {
        let (selector, name) = pattern::calls(key)?;
        let mut hook = Hook::new(name, selector);
        match value {
            Value::Function(exit) => hook.exit = Some(exit.clone()),
            Value::Table(rule) => hook.read(rule, &[])?,
            other => {
                let (name, other) = (&hook.rule.name, shown(other));
                return Err(raise(format!(
                    "the hook for {name} is a rule (a table) or a function, not {other}"
                )));
            }
        }
        Ok(hook)
    }

    /// Reads an element of the array part: `{ on = …, … }`.
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
                    self.rule.name,
                    shown(&value)
                )));
            };
            let key = key.to_string_lossy();
            if more.contains(&key.as_ref()) {
                return Ok(());
            }
            self.read_member(&key, &value)
        })?;
        // Whatever order the table gives its members in, they act in that of the actions.
        self.rule.check().map_err(raise)?;
        if self.rule.actions.is_empty() && self.enter.is_none() && self.exit.is_none() {
            let name = &self.rule.name;
            let actions = ACTIONS.map(|kind| kind.name).join(", ");
            return Err(raise(format!(
                "the rule for {name} does nothing: it needs {actions}, enter or exit (a member that is nil is none: \
                 fail = EIO is fail = nil where nothing is called EIO, and fail = \"EIO\" is meant)"
            )));
        }
        Ok(())
    }

    fn read_member(&mut self, key: &str, value: &Value) -> mlua::Result<()> {
        if let Some(kind) = ActionKind::of_member(key) {
            self.rule.actions.extend(of_member(kind, value)?);
            return Ok(());
        }
        let function = || match value {
            Value::Function(function) => Ok::<Function, mlua::Error>(function.clone()),
            other => Err(raise(format!("{key} is a function, not {}", shown(other)))),
        };
        let small = |what: &str| {
            i32::try_from(convert::integer(value, what)?)
                .map_err(|_| raise(format!("{what} is out of range")))
        };
        let conditions = &mut self.rule.conditions;
        match key {
            "executed" => self.rule.executed = Some(convert::boolean(value, "executed")?),
            "when" => {
                let text = convert::text(value, "when")?;
                conditions.when = When::parse(&text).map_err(raise)?;
            }
            "path" => conditions.path = Some(pattern::path(value)?),
            "fd" => conditions.fd = Some(small("fd")?),
            "tid" => conditions.tid = Some(small("tid")?),
            "pid" => {
                conditions.processes.pid = Some(match value {
                    Value::String(word) if word.as_bytes() == b"any" => Pid::Any,
                    Value::String(word) => {
                        let word = word.to_string_lossy();
                        return Err(raise(format!("pid is a number or \"any\", not {word:?}")));
                    }
                    _ => Pid::Of(small("pid")?),
                });
            }
            "exe" => conditions.processes.exe = Some(pattern::path(value)?),
            "child" => {
                let number = small("child")?;
                let number = u32::try_from(number).ok().filter(|&number| number > 0);
                conditions.processes.child = Some(number.ok_or_else(|| {
                    raise("child is 1 for the first process that is made since, 2 for the next one, …")
                })?);
            }
            "per" => match value {
                Value::String(word) if word.as_bytes() == b"task" => conditions.per_task = true,
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
                let actions = ACTIONS.iter().map(|kind| kind.name);
                let hint = did_you_mean(&near(key, actions.chain(MEMBERS)));
                let name = &self.rule.name;
                return Err(raise(format!("the rule for {name} has no {key:?}{hint}")));
            }
        }
        Ok(())
    }
}
