//! `call.args` and `call.raw`: views of the process's memory and registers, both ways.

use super::super::convert;
use super::super::error::{did_you_mean, raise, shown};
use super::super::values::pairs;
use super::loan::CallData;
use super::structure::{look, set};
use crate::inject::HookCall;
use crate::syscall;
use crate::trace::Value as Arg;
use mlua::{AnyUserData, Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

/// The arguments of a call.
pub(super) struct Args(pub CallData);

/// The registers of a call.
pub(super) struct Raw(pub CallData);

impl Args {
    /// The argument that a key names; `None` where it is another call's.
    fn find(&self, key: &Value) -> mlua::Result<Option<usize>> {
        match key {
            Value::Integer(i) => self.0.with(|call| {
                let index = usize::try_from(*i).ok()?.checked_sub(1)?;
                call.syscall().shown_args(&call.raw()).get(index).copied()
            }),
            Value::String(name) => {
                let name = name.to_string_lossy();
                let found = self.0.with(|call| call.formal(&name))?;
                if found.is_none() && !syscall::is_argument(&name) {
                    let own = self.0.with(|call| call.arg_names())?;
                    let near = super::super::error::near(&name, own);
                    let near = match near.is_empty() {
                        true => syscall::near_argument(&name),
                        false => near,
                    };
                    let hint = did_you_mean(&near);
                    return Err(raise(format!("no call has an argument {name:?}{hint}")));
                }
                Ok(found)
            }
            other => Err(raise(format!(
                "arguments have names and numbers, not {}",
                shown(other)
            ))),
        }
    }
}

impl UserData for Args {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Arguments");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            match this.find(&key)? {
                Some(arg) => look(lua, &this.0, arg, Vec::new()),
                None => Ok(Value::Nil),
            }
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, this, (key, value): (Value, Value)| match this.find(&key)? {
                Some(arg) => set(&this.0, arg, &[], &value),
                None => {
                    let (name, key) = (this.0.with(HookCall::name)?, shown(&key));
                    Err(raise(format!("{name} has no argument {key}")))
                }
            },
        );
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| {
            this.0
                .with(|call| call.syscall().shown_args(&call.raw()).len())
        });
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let shown = this.0.with(|call| call.syscall().shown_args(&call.raw()))?;
            let mut entries = Vec::new();
            for (i, arg) in shown.into_iter().enumerate() {
                let value = look(lua, &this.0, arg, Vec::new())?;
                entries.push((Value::Integer(i as i64 + 1), value));
            }
            pairs(lua, entries)
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0.with(|call| {
                let values: Vec<String> = call.values().iter().map(Arg::to_string).collect();
                values.join(", ")
            })
        });
    }
}

impl Raw {
    fn index(key: &Value) -> Option<usize> {
        let index = usize::try_from(key.as_integer()?).ok()?.checked_sub(1)?;
        (index < 6).then_some(index)
    }
}

impl UserData for Raw {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Registers");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, key: Value| {
            match Raw::index(&key) {
                Some(index) => this.0.with(|call| Some(call.raw()[index] as i64)),
                None => Ok(None),
            }
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, this, (key, value): (Value, Value)| {
                let Some(index) = Raw::index(&key) else {
                    let key = shown(&key);
                    return Err(raise(format!("registers are numbered 1 to 6, not {key}")));
                };
                let value = convert::integer(&value, "a register")?;
                this.0
                    .with_mut(|call| call.set_raw(index, value as u64).map_err(raise))
            },
        );
        methods.add_meta_method(MetaMethod::Len, |_, _, ()| Ok(6));
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let raw = this.0.with(HookCall::raw)?;
            let entries = raw.iter().enumerate().map(|(i, &word)| {
                let key = Value::Integer(i as i64 + 1);
                (key, Value::Integer(word as i64))
            });
            pairs(lua, entries.collect())
        });
    }
}

/// `call.args` of a call.
pub(super) fn userdata(lua: &Lua, call: &CallData) -> mlua::Result<AnyUserData> {
    lua.create_userdata(Args(call.clone()))
}
