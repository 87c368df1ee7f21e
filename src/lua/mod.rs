//! Bindings for scripts: userdata, argument conversion, errors. A Rust caller needs nothing of this.
//!
//! [`run`] runs one script. `lua-stdlib/rrapper.d.lua` describes the globals. From the bottom up, the layers are: errors
//! and conversions (`error`, `convert`, `values`, `pattern`); the state of a script (`session`); traces, outcomes
//! and views of processes; `hooks`; processes, stops and recordings.

mod backtrace;
mod constants;
mod convert;
mod error;
mod event;
mod handle;
mod hooks;
mod interrupt;
mod launch;
mod memory;
mod modules;
mod outcome;
mod pattern;
mod process;
mod recording;
mod session;
mod stop;
#[cfg(test)]
mod tests;
mod trace;
mod values;
mod view;

pub use error::ScriptError;
pub use interrupt::has_come as is_interrupted;
pub use session::{NoWatch, RecordingEnd, Watch};

use crate::tracee::tsc_off;
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// A script to run.
pub struct Script {
    /// Its text.
    pub text: Vec<u8>,
    /// Its name in messages, and `arg[0]`.
    pub name: String,
    /// The arguments that follow it on the command line.
    pub args: Vec<OsString>,
}

/// Runs a script to its end.
///
/// # Errors
/// If the script is wrong or raises an error: its message and its traceback.
pub fn run(script: &Script, watch: Rc<dyn Watch>) -> Result<(), ScriptError> {
    execute(script, watch).map_err(|error| {
        let mut told = ScriptError::of(&error);
        if memory::is_of_memory(&error) && !told.message.starts_with(&script.name) {
            told.message = format!("{}: {}", script.name, told.message);
        }
        told
    })
}

fn execute(script: &Script, watch: Rc<dyn Watch>) -> mlua::Result<()> {
    if script.text.starts_with(b"\x1bLua") {
        return Err(error::raise_at(
            format!("{}:1", script.name),
            "this is a compiled chunk: a script is text",
        ));
    }
    let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::default())?;
    session::set_watch(&lua, watch);
    hooks::install_time_limit(&lua)?;
    install(&lua)?;
    let globals = lua.globals();
    globals.set("arg", arguments(&lua, script)?)?;
    find_modules_beside(&lua, &script.name)?;
    let args = script
        .args
        .iter()
        .map(|arg| lua.create_string(arg.as_bytes()).map(Value::String))
        .collect::<mlua::Result<MultiValue>>()?;
    lua.load(without_shebang(&script.text))
        .set_name(error::chunk_name(&script.name))
        .set_mode(mlua::chunk::ChunkMode::Text)
        .call::<()>(args)
}

fn install(lua: &Lua) -> mlua::Result<()> {
    error::install(lua)?;
    constants::install(lua)?;
    pattern::install(lua)?;
    recording::install(lua)?;
    stop::install(lua)?;
    process::install(lua)?;
    trace::install(lua)?;
    wrap_program_starts(lua)?;
    memory::install(lua)?;
    modules::install(lua)
}

/// Lets programs that a hook starts use the time stamp counter, which is off for the thread while hooks run.
fn wrap_program_starts(lua: &Lua) -> mlua::Result<()> {
    for (library, name) in [("os", "execute"), ("io", "popen")] {
        let library: Table = lua.globals().get(library)?;
        let original: Function = library.get(name)?;
        let wrapped = lua.create_function(move |_, args: MultiValue| {
            tsc_off::with_tsc(|| original.call::<MultiValue>(args))
        })?;
        library.set(name, wrapped)?;
    }
    Ok(())
}

/// Lets `require` look beside the script, too.
fn find_modules_beside(lua: &Lua, script: &str) -> mlua::Result<()> {
    let dir = Path::new(script)
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty());
    let Some(dir) = dir.and_then(Path::to_str) else {
        return Ok(());
    };
    let package: Table = lua.globals().get("package")?;
    let path: String = package.get("path")?;
    package.set("path", format!("{dir}/?.lua;{dir}/?/init.lua;{path}"))
}

fn arguments(lua: &Lua, script: &Script) -> mlua::Result<Table> {
    let arg = lua.create_table()?;
    arg.set(0, script.name.as_str())?;
    for (i, value) in script.args.iter().enumerate() {
        arg.set(i + 1, lua.create_string(value.as_bytes())?)?;
    }
    if let Some(program) = std::env::args_os().next() {
        arg.set(-1, lua.create_string(program.as_bytes())?)?;
    }
    Ok(arg)
}

/// A first line that begins with `#` is for the shell; its newline stays, so that lines keep their numbers.
fn without_shebang(text: &[u8]) -> &[u8] {
    match text.first() {
        Some(b'#') => {
            let end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
            text.get(end..).unwrap_or_default()
        }
        _ => text,
    }
}
