//! The actions of the core's table, with their values as scripts write them: members of rules, methods of `call`.

use super::super::convert;
use super::super::error::{raise, shown};
use super::loan::CallData;
use crate::inject::{ACTIONS, Action, ActionKind, ActionValue};
use mlua::{UserDataMethods, Value};

/// The action that a rule's member means; `None` for one that is `false`.
pub(super) fn of_member(kind: &ActionKind, value: &Value) -> mlua::Result<Option<Action>> {
    let name = kind.name;
    match (&kind.value, value) {
        (ActionValue::Ret(make), value) => convert::ret(value, name).map(|ret| Some(make(ret))),
        (ActionValue::Count(make), value) => convert::count(value, name).map(|n| Some(make(n))),
        (ActionValue::Time(make), value) => convert::seconds(value, name).map(|t| Some(make(t))),
        (ActionValue::Nothing(action), Value::Boolean(true)) => Ok(Some(action.clone())),
        (ActionValue::Nothing(_), Value::Boolean(false)) => Ok(None),
        (ActionValue::Nothing(_), other) => {
            Err(raise(format!("{name} is true, not {}", shown(other))))
        }
        (ActionValue::Errno(_) | ActionValue::Signal(_), value) => of_method(kind, value).map(Some),
    }
}

/// The action that a method of `call` does.
fn of_method(kind: &ActionKind, value: &Value) -> mlua::Result<Action> {
    let name = kind.method;
    Ok(match (&kind.value, value) {
        (ActionValue::Errno(make), value) => make(convert::errno(value)?),
        (ActionValue::Ret(make), Value::Nil) => make(0),
        (ActionValue::Ret(make), value) => {
            make(convert::ret(value, &format!("what {name} returns"))?)
        }
        (ActionValue::Count(make), value) => make(convert::count(value, "a number of bytes")?),
        (ActionValue::Signal(make), value) => make(convert::signal(value)?),
        (ActionValue::Time(make), value) => make(convert::seconds(value, &format!("a {name}"))?),
        (ActionValue::Nothing(action), _) => action.clone(),
    })
}

/// `{ executed = true }` behind the value of an action.
fn executed(options: &Value) -> mlua::Result<Option<bool>> {
    let table = match options {
        Value::Nil => return Ok(None),
        Value::Table(table) => table,
        other => {
            return Err(raise(format!(
                "what follows is {{ executed = true }}, not {}",
                shown(other)
            )));
        }
    };
    convert::only_options(table, &["executed"], "an action")?;
    match table.get::<Value>("executed")? {
        Value::Nil => Ok(None),
        value => convert::boolean(&value, "executed").map(Some),
    }
}

impl CallData {
    /// Does an action to the call, if that can and may be.
    pub fn act(&self, action: &Action, executed: Option<bool>) -> mlua::Result<()> {
        self.with(|call| action.check(call, executed))?
            .map_err(raise)?;
        self.with_mut(|call| {
            action.apply(call, executed);
            Ok(())
        })
    }
}

/// Adds a method for each action.
pub(super) fn add_methods<M: UserDataMethods<CallData>>(methods: &mut M) {
    for kind in ACTIONS {
        methods.add_method(kind.method, |_, this, (value, options): (Value, Value)| {
            let action = of_method(kind, &value)?;
            let executed = match kind.answers {
                true => executed(&options)?,
                false => None,
            };
            this.act(&action, executed)
        });
    }
}
