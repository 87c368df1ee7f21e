//! `call.args` and `call.raw`: views of the process's memory and registers, both ways.

use super::super::convert::{self, shown};
use super::super::error::{did_you_mean, raise};
use super::call::CallData;
use super::parts::{Part, detach, look};
use crate::inject::HookCall;
use crate::strace;
use crate::syscall::{self, Step};
use crate::trace::{Field, Value as Arg};
use mlua::{
    AnyUserData, Lua, MetaMethod, MultiValue, Table, UserData, UserDataFields, UserDataMethods,
    Value,
};

/// The arguments of a call.
pub(super) struct Args(pub CallData);

/// The registers of a call.
pub(super) struct Raw(pub CallData);

/// How deep tables may be that are given for structures.
const DEEPEST: usize = 16;

impl Args {
    /// The argument that a key names; `None` where it is another call's.
    fn find(&self, key: &Value) -> mlua::Result<Option<usize>> {
        match key {
            Value::Integer(i) => self.0.see(|call| {
                let index = usize::try_from(*i).ok()?.checked_sub(1)?;
                call.syscall().shown_args(&call.raw()).get(index).copied()
            }),
            Value::String(name) => {
                let name = name.to_string_lossy();
                let found = self.0.see(|call| call.formal(&name))?;
                if found.is_none() && !syscall::is_argument(&name) {
                    let own = self.0.see(|call| call.arg_names())?;
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

/// Sets an argument, or a part of one.
pub(super) fn set(call: &CallData, arg: usize, way: &[Step], value: &Value) -> mlua::Result<()> {
    let vector = match value {
        Value::UserData(data) if data.is::<Part>() => data.borrow::<Part>()?.vector()?,
        _ => None,
    };
    let value = to_arg(value, 0)?;
    detach(call, arg, way)?;
    if let Some(vector) = vector
        && call.touch(|call| call.set_vector(arg, way, vector).map_err(raise))?
    {
        return Ok(());
    }
    call.touch(|call| call.change(arg, way, &value).map_err(raise))
}

/// What a script writes, as a value of strace's: text is kept as well as what it means, since only who takes it knows
/// whether it is text.
pub(super) fn to_arg(value: &Value, depth: usize) -> mlua::Result<Arg> {
    if depth > DEEPEST {
        return Err(raise("a table in a table in a table …: too deep"));
    }
    match value {
        Value::Integer(n) => Ok(Arg::Int(*n)),
        Value::String(text) => {
            let text = text.as_bytes().to_vec();
            let parsed = std::str::from_utf8(&text).ok().and_then(|text| {
                let parsed = strace::value_from_text(text).ok();
                parsed.filter(|value| !matches!(value, Arg::Written { .. }))
            });
            let raw = || Arg::Raw(format!("{:?}", String::from_utf8_lossy(&text)));
            Ok(Arg::Written {
                value: Box::new(parsed.unwrap_or_else(raw)),
                text: text.into(),
            })
        }
        Value::Table(table) => of_table(table, depth),
        Value::UserData(data) if data.is::<Part>() => data.borrow::<Part>()?.value(),
        number @ Value::Number(_) => convert::integer(number, "a number in a call").map(Arg::Int),
        other => Err(raise(format!(
            "an argument is a number, a string or a table, not {}",
            shown(other)
        ))),
    }
}

/// A list, or a structure.
fn of_table(table: &Table, depth: usize) -> mlua::Result<Arg> {
    let mut fields = Vec::new();
    let mut items = 0;
    table.for_each(|key: Value, value: Value| {
        match key {
            Value::Integer(_) => items += 1,
            Value::String(name) => {
                let value = to_arg(&value, depth + 1)?;
                fields.push(Field::new(name.to_string_lossy(), value));
            }
            other => {
                return Err(raise(format!(
                    "members have names and elements numbers, not {}",
                    shown(&other)
                )));
            }
        }
        Ok(())
    })?;
    if !fields.is_empty() {
        if items > 0 {
            return Err(raise("a table is a structure or a list, not both"));
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let cut = false;
        return Ok(Arg::Struct { fields, cut });
    }
    let mut list = Vec::new();
    for item in table.sequence_values::<Value>() {
        list.push(to_arg(&item?, depth + 1)?);
    }
    if list.len() != items {
        return Err(raise("a list has no holes, and begins at 1"));
    }
    let (items, cut) = (list, false);
    Ok(Arg::Array { items, cut })
}

/// A table of pairs, to go through.
pub(super) fn pairs(lua: &Lua, entries: Vec<(Value, Value)>) -> mlua::Result<MultiValue> {
    let mut entries = entries.into_iter();
    let next = lua.create_function_mut(move |_, _: MultiValue| {
        Ok(entries.next().unwrap_or((Value::Nil, Value::Nil)))
    })?;
    Ok(MultiValue::from_iter([Value::Function(next)]))
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
                    let (name, key) = (this.0.see(HookCall::name)?, shown(&key));
                    Err(raise(format!("{name} has no argument {key}")))
                }
            },
        );
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| {
            this.0
                .see(|call| call.syscall().shown_args(&call.raw()).len())
        });
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let shown = this.0.see(|call| call.syscall().shown_args(&call.raw()))?;
            let mut entries = Vec::new();
            for (i, arg) in shown.into_iter().enumerate() {
                let value = look(lua, &this.0, arg, Vec::new())?;
                entries.push((Value::Integer(i as i64 + 1), value));
            }
            pairs(lua, entries)
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0.see(|call| {
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
                Some(index) => this.0.see(|call| Some(call.raw()[index] as i64)),
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
                    .touch(|call| call.set_raw(index, value as u64).map_err(raise))
            },
        );
        methods.add_meta_method(MetaMethod::Len, |_, _, ()| Ok(6));
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let raw = this.0.see(HookCall::raw)?;
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
