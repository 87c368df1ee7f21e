//! Reading a hooks table: which keys are calls, which are options; what a rule may say.

use super::super::convert::{self, shown};
use super::super::error::{did_you_mean, near, raise};
use super::super::pattern;
use super::{Diverged, Hook, LuaHooks, answer_of};
use crate::inject::{Action, Finally, Sandbox, When};
use crate::syscall;
use mlua::{Function, MultiValue, Table, Value};

const OPTIONS: [&str; 5] = ["on_divergence", "finally", "timeout", "on_error", "sandbox"];
/// Of the contract, and not there yet.
const LATER: [&str; 7] = [
    "on_signal",
    "on_exit",
    "after",
    "files",
    "peer",
    "per",
    "pids",
];
const RULE: [&str; 12] = [
    "fail", "ret", "short", "signal", "live", "when", "path", "fd", "tid", "where", "enter", "exit",
];
const RULE_LATER: [&str; 2] = ["delay", "per"];

impl LuaHooks {
    pub(super) fn read_table(&mut self, table: &Table) -> mlua::Result<()> {
        let mut named: Vec<Hook> = Vec::new();
        table.for_each(|key: Value, value: Value| {
            match &key {
                Value::Integer(_) => {}
                Value::String(name) => {
                    let name = name.to_string_lossy();
                    if OPTIONS.contains(&name.as_ref()) {
                        self.read_option(&name, &value)?;
                    } else {
                        named.push(self.read_key(&key, &name, &value)?);
                    }
                }
                _ => named.push(self.read_key(&key, "", &value)?),
            }
            Ok(())
        })?;
        // General to specific; the names decide between equals, since a table has no order.
        named.sort_by(|a, b| (a.selector.rank(), &a.name).cmp(&(b.selector.rank(), &b.name)));
        self.hooks = named;
        for (i, rule) in table.sequence_values::<Value>().enumerate() {
            let hook = element(&rule?, i + 1)?;
            self.hooks.push(hook);
        }
        Ok(())
    }

    fn read_key(&self, key: &Value, name: &str, value: &Value) -> mlua::Result<Hook> {
        if LATER.contains(&name) {
            return Err(raise(format!("hooks cannot have {name:?} yet")));
        }
        let is_name = !name.is_empty() && !name.contains(['%', ',', '!', '*']);
        if is_name && syscall::by_name(name).is_none() {
            let calls = syscall::suggest(name);
            let options = near(name, OPTIONS);
            let both: Vec<&str> = options.into_iter().chain(calls).take(3).collect();
            return Err(raise(format!(
                "{name:?} is neither a system call nor an option of hooks{}",
                did_you_mean(&both)
            )));
        }
        let (selector, shown_name) = pattern::calls(key)?;
        let mut hook = Hook::new(shown_name, selector);
        match value {
            Value::Function(exit) => hook.exit = Some(exit.clone()),
            Value::Table(rule) => read_rule(&mut hook, rule, &[])?,
            other => {
                let (name, other) = (&hook.name, shown(other));
                return Err(raise(format!(
                    "the hook for {name} is a rule (a table) or a function, not {other}"
                )));
            }
        }
        Ok(hook)
    }

    fn read_option(&mut self, name: &str, value: &Value) -> mlua::Result<()> {
        let word = match value {
            Value::String(word) => word.to_string_lossy(),
            _ => String::new(),
        };
        match (name, word.as_str()) {
            ("on_divergence", _) => {
                self.diverged = match value {
                    Value::Function(function) => Diverged::Ask(function.clone()),
                    other => Diverged::Always(fixed_answer(other)?),
                }
            }
            ("finally", "kill") => self.finally = Finally::Kill,
            ("finally", "live") => self.finally = Finally::Live,
            ("finally", "keep") => self.finally = Finally::Keep,
            ("on_error", "raise") => self.keep_errors = false,
            ("on_error", "outcome") => self.keep_errors = true,
            ("sandbox", "none") => self.sandbox = Sandbox::None,
            ("sandbox", "cow") => self.sandbox = Sandbox::Cow,
            ("timeout", _) => self.timeout = convert::seconds(value, "timeout")?,
            _ => {
                let words: &[&str] = match name {
                    "finally" => &["kill", "live", "keep"],
                    "on_error" => &["raise", "outcome"],
                    _ => &["cow", "none"],
                };
                let hint = did_you_mean(&near(&word, words.iter().copied()));
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                return Err(raise(format!(
                    "{name} is {}, not {}{hint}",
                    words.join(" or "),
                    shown(value)
                )));
            }
        }
        Ok(())
    }
}

/// A word for `on_divergence`; what needs a number beside it needs a function.
fn fixed_answer(value: &Value) -> mlua::Result<crate::inject::OnDivergence> {
    match value {
        Value::String(word) if matches!(&*word.as_bytes(), b"stop" | b"live" | b"kill") => {
            answer_of(MultiValue::from_iter([value.clone()]))
        }
        Value::String(word) => Err(super::wrong_divergence(&format!(
            "{:?}",
            word.to_string_lossy()
        ))),
        other => Err(super::wrong_divergence(&shown(other))),
    }
}

/// An element of the array part: `{ on = …, … }`.
fn element(value: &Value, number: usize) -> mlua::Result<Hook> {
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
    read_rule(&mut hook, rule, &["on"])?;
    Ok(hook)
}

fn read_rule(hook: &mut Hook, rule: &Table, more: &[&str]) -> mlua::Result<()> {
    let name = hook.name.clone();
    rule.for_each(|key: Value, value: Value| {
        let Value::String(key) = &key else {
            return Err(raise(format!(
                "the rule for {name} has {}, which says nothing",
                shown(&value)
            )));
        };
        let key = key.to_string_lossy();
        if more.contains(&key.as_ref()) {
            return Ok(());
        }
        if RULE_LATER.contains(&key.as_ref()) {
            return Err(raise(format!("rules cannot have {key:?} yet")));
        }
        read_member(hook, &key, &value)
    })?;
    // Whatever order the table gives its members in, they act in this one.
    hook.actions.sort_by_key(|action| match action {
        Action::Fail(_) | Action::Return(_) => 0,
        Action::Short(_) => 1,
        Action::Signal(_) => 2,
        Action::Delay(_) => 3,
        Action::Live => 4,
    });
    if hook.actions.is_empty() && hook.enter.is_none() && hook.exit.is_none() {
        return Err(raise(format!(
            "the rule for {name} does nothing: it needs fail, ret, short, signal, live, enter or exit"
        )));
    }
    Ok(())
}

fn read_member(hook: &mut Hook, key: &str, value: &Value) -> mlua::Result<()> {
    let function = || match value {
        Value::Function(function) => Ok::<Function, mlua::Error>(function.clone()),
        other => Err(raise(format!("{key} is a function, not {}", shown(other)))),
    };
    let small = |what: &str| {
        i32::try_from(convert::integer(value, what)?)
            .map_err(|_| raise(format!("{what} is out of range")))
    };
    match key {
        "fail" => hook.actions.push(Action::Fail(convert::errno(value)?)),
        "ret" => hook
            .actions
            .push(Action::Return(convert::integer(value, "ret")?)),
        "short" => hook
            .actions
            .push(Action::Short(convert::count(value, "short")?)),
        "signal" => hook.actions.push(Action::Signal(convert::signal(value)?)),
        "live" => {
            if !matches!(value, Value::Boolean(_)) {
                return Err(raise(format!("live is true, not {}", shown(value))));
            }
            if matches!(value, Value::Boolean(true)) {
                hook.actions.push(Action::Live);
            }
        }
        "when" => {
            hook.conditions.when = When::parse(&convert::text(value, "when")?).map_err(raise)?
        }
        "path" => hook.conditions.path = Some(pattern::path(value)?),
        "fd" => hook.conditions.fd = Some(small("fd")?),
        "tid" => hook.tid = Some(small("tid")?),
        "where" => hook.where_ = Some(function()?),
        "enter" => hook.enter = Some(function()?),
        "exit" => hook.exit = Some(function()?),
        _ => {
            let hint = did_you_mean(&near(key, RULE));
            return Err(raise(format!(
                "the rule for {} has no {key:?}{hint}",
                hook.name
            )));
        }
    }
    Ok(())
}
