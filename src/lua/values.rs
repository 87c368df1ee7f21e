//! Decoded arguments as Lua's values.

use super::error::{no_such, raise, shown};
use crate::trace::Value as Arg;
use mlua::{Lua, MultiValue, Table, Value};

/// Strings become strings, numbers and flags integers, structures tables with their members' names, arrays lists.
pub(super) fn to_lua(lua: &Lua, arg: &Arg) -> mlua::Result<Value> {
    if let Some(n) = arg.as_i64() {
        return Ok(Value::Integer(n));
    }
    match arg.meaning() {
        Arg::Str { bytes, .. } => lua.create_string(bytes).map(Value::String),
        Arg::Array { items, .. } => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for (i, item) in items.iter().enumerate() {
                list.raw_set(i + 1, to_lua(lua, item)?)?;
            }
            Ok(Value::Table(list))
        }
        Arg::Struct { fields, .. } => {
            let table = lua.create_table()?;
            for field in fields {
                let value = to_lua(lua, &field.value)?;
                match field.name.as_str() {
                    "" => table.raw_push(value)?,
                    name => table.raw_set(name, value)?,
                }
            }
            Ok(Value::Table(table))
        }
        Arg::Set { items, .. } => lua
            .create_sequence_from(items.iter().map(String::as_str))
            .map(Value::Table),
        Arg::Change { after, .. } => to_lua(lua, after),
        Arg::Sym { text, .. } | Arg::Raw(text) => lua.create_string(text).map(Value::String),
        Arg::Int(_) | Arg::Addr(_) | Arg::Octal(_) | Arg::Fd { .. } | Arg::Written { .. } => {
            Ok(Value::Nil)
        }
    }
}

/// Arguments by position (from 1) and by name.
pub(super) fn arguments(lua: &Lua, args: &[Arg], names: &[&'static str]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(args.len(), 0)?;
    let named = lua.create_table()?;
    for (i, arg) in args.iter().enumerate() {
        let value = to_lua(lua, arg)?;
        if let Some(name) = names.get(i) {
            named.raw_set(*name, &value)?;
        }
        table.raw_set(i + 1, value)?;
    }
    let meta = lua.create_table()?;
    meta.set("__index", named)?;
    table.set_metatable(Some(meta))?;
    Ok(table)
}

/// A table of pairs, to go through.
pub(super) fn pairs(lua: &Lua, entries: Vec<(Value, Value)>) -> mlua::Result<MultiValue> {
    let mut entries = entries.into_iter();
    let next = lua.create_function_mut(move |_, _: MultiValue| {
        Ok(entries.next().unwrap_or((Value::Nil, Value::Nil)))
    })?;
    Ok(MultiValue::from_iter([Value::Function(next)]))
}

/// A view of a table, and of the tables in it, through which nothing can be set.
pub(super) fn read_only(lua: &Lua, table: &Table, why: &'static str) -> mlua::Result<Table> {
    let meta = lua.create_table()?;
    let inner = table.clone();
    let index = lua.create_function(move |lua, (_, key): (Table, Value)| {
        match inner.get::<Value>(key)? {
            Value::Table(table) => read_only(lua, &table, why).map(Value::Table),
            other => Ok(other),
        }
    })?;
    meta.set("__index", index)?;
    let inner = table.clone();
    meta.set(
        "__len",
        lua.create_function(move |_, _: MultiValue| Ok(inner.raw_len()))?,
    )?;
    let (inner, next) = (table.clone(), lua.globals().get::<Value>("next")?);
    let pairs =
        lua.create_function(move |_, _: MultiValue| Ok((next.clone(), inner.clone(), Value::Nil)))?;
    meta.set("__pairs", pairs)?;
    let refuse =
        lua.create_function(move |_, _: MultiValue| -> mlua::Result<()> { Err(raise(why)) })?;
    meta.set("__newindex", refuse)?;
    let view = lua.create_table()?;
    view.set_metatable(Some(meta))?;
    Ok(view)
}

/// A table with these fields; reading any other raises.
pub(super) fn record(
    lua: &Lua,
    table: Table,
    (kind, whose): (&'static str, &'static str),
    names: &'static [&'static str],
    text: String,
) -> mlua::Result<Table> {
    let view = lua.create_table()?;
    let meta = lua.create_table()?;
    let (known, next) = (table.clone(), lua.globals().get::<Value>("next")?);
    let index = lua.create_function(move |_, (_, key): (Table, Value)| {
        let name = key.as_string().map(mlua::LuaString::to_string_lossy);
        match known.get::<Value>(&key)? {
            Value::Nil if !name.is_some_and(|name| names.contains(&name.as_ref())) => {
                Err(no_such(whose, &key, names))
            }
            value => Ok(value),
        }
    })?;
    meta.set("__index", index)?;
    let refuse = lua.create_function(move |_, (_, key): (Table, Value)| -> mlua::Result<()> {
        Err(raise(format!(
            "{whose} is as it is: its {} cannot be set",
            shown(&key)
        )))
    })?;
    meta.set("__newindex", refuse)?;
    let pairs =
        lua.create_function(move |_, _: MultiValue| Ok((next.clone(), table.clone(), Value::Nil)))?;
    meta.set("__pairs", pairs)?;
    let shown = lua.create_function(move |_, _: Value| Ok(text.clone()))?;
    meta.set("__tostring", shown)?;
    meta.set("__name", kind)?;
    view.set_metatable(Some(meta))?;
    Ok(view)
}
