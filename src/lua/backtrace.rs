//! Backtraces as lists of tables.

use crate::backtrace::Frame;
use mlua::{Lua, Table, Value};

/// A list of frames, the innermost first. Each is a table; as text it is a line, and so is the list.
pub(super) fn list(lua: &Lua, frames: &[Frame]) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    let mut lines = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        list.raw_push(table(lua, frame)?)?;
        lines.push(format!("#{number:<3}{frame}"));
    }
    named(lua, &list, "Backtrace", lines.join("\n"))?;
    Ok(list)
}

fn table(lua: &Lua, frame: &Frame) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("address", frame.address as i64)?;
    let module = frame.module.as_ref();
    table.set(
        "module",
        module.map(|name| lua.create_string(name)).transpose()?,
    )?;
    table.set("offset", frame.offset as i64)?;
    table.set("func", frame.function.as_deref())?;
    table.set("file", frame.file.as_deref())?;
    table.set("line", frame.line)?;
    table.set("inlined", frame.inlined)?;
    named(lua, &table, "Frame", frame.to_string())?;
    Ok(table)
}

fn named(lua: &Lua, table: &Table, name: &str, text: String) -> mlua::Result<()> {
    let meta = lua.create_table()?;
    let show = move |_: &Lua, _: Value| Ok(text.clone());
    meta.set("__tostring", lua.create_function(show)?)?;
    meta.set("__name", name)?;
    table.set_metatable(Some(meta))?;
    Ok(())
}
