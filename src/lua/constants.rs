//! `C`, `errno`, `signal`: constants by name; a name that there is not raises.

use super::convert;
use super::error::{did_you_mean, raise, shown};
use crate::constants;
use crate::inject;
use crate::syscall::plausible::{Plausible, plausible_answers};
use mlua::{Lua, Table, Value};

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    globals.set("C", looked_up(lua, lua.create_table()?, "C", constant)?)?;
    globals.set(
        "signal",
        looked_up(lua, lua.create_table()?, "signal", signal)?,
    )?;
    let errnos = lua.create_table()?;
    errnos.set("all", lua.create_function(|lua, (): ()| all_errnos(lua))?)?;
    errnos.set("of", lua.create_function(errnos_of)?)?;
    globals.set("errno", looked_up(lua, errnos, "errno", errno)?)
}

type Lookup = fn(&Lua, &Value) -> mlua::Result<Value>;

/// A table that looks its members up when they are asked for.
fn looked_up(lua: &Lua, table: Table, name: &'static str, get: Lookup) -> mlua::Result<Table> {
    let meta = lua.create_table()?;
    let index = lua.create_function(move |lua, (_, key): (Table, Value)| get(lua, &key))?;
    meta.set("__index", index)?;
    let set = lua.create_function(move |_, (_, key): (Table, Value)| -> mlua::Result<()> {
        let key = shown(&key);
        Err(raise(format!(
            "{name} holds constants: {key} cannot be set"
        )))
    })?;
    meta.set("__newindex", set)?;
    meta.set("__name", name)?;
    table.set_metatable(Some(meta))?;
    Ok(table)
}

fn constant(_: &Lua, key: &Value) -> mlua::Result<Value> {
    let name = convert::text(key, "a constant's name")?;
    constants::value(&name).map(Value::Integer).ok_or_else(|| {
        let near = constants::suggest(&name);
        raise(format!("unknown constant {name:?}{}", did_you_mean(&near)))
    })
}

fn errno(lua: &Lua, key: &Value) -> mlua::Result<Value> {
    if let Value::Integer(n) = key {
        let name = i32::try_from(*n).ok().and_then(constants::errno_name);
        return match name {
            Some(name) => lua.create_string(name).map(Value::String),
            None => Err(raise(format!("there is no errno {n}"))),
        };
    }
    convert::errno(key).map(|n| Value::Integer(n.into()))
}

fn signal(lua: &Lua, key: &Value) -> mlua::Result<Value> {
    let n = convert::signal(key)?;
    match key {
        Value::Integer(_) => lua
            .create_string(constants::signal_name(n))
            .map(Value::String),
        _ => Ok(Value::Integer(n.into())),
    }
}

fn all_errnos(lua: &Lua) -> mlua::Result<Table> {
    lua.create_sequence_from(constants::errnos().map(|(name, _)| name))
}

/// `errno.of(call, { all = true })`: the plausible failures of a call, and with `all` the errors of the programmer.
fn errnos_of(lua: &Lua, (call, options): (Value, Option<Table>)) -> mlua::Result<Table> {
    let name = convert::text(&call, "a system call's name")?;
    let call = inject::lookup(&name).map_err(|error| raise(error.to_string()))?;
    let all = match &options {
        None => false,
        Some(options) => {
            convert::only_options(options, &["all"], "errno.of")?;
            convert::flag(options, "all")?
        }
    };
    let answers = plausible_answers(call.name).unwrap_or_default().iter();
    let wanted = answers.filter(|answer| all || !answer.is_misuse());
    let listed = wanted.map(|answer| plausible(lua, answer));
    lua.create_sequence_from(listed.collect::<mlua::Result<Vec<_>>>()?)
}

fn plausible(lua: &Lua, answer: &Plausible) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    if answer.errno.is_some() {
        table.set("errno", answer.name())?;
    }
    table.set("class", answer.class.name())?;
    table.set("scope", answer.scope.name())?;
    table.set("when", answer.when())?;
    Ok(table)
}
