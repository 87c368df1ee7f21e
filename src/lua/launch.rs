//! `rr.record{ … }` and `live{ … }`: programs that scripts start.

use super::convert;
use super::error::{raise, shown};
use super::handle::RecordingHandle;
use super::hooks::{LuaHooks, sandbox};
use super::interrupt;
use super::outcome::OutcomeData;
use super::session::{self, RecordingEnd};
use crate::inject;
use crate::record::{self, Front, KeptFiles, OnFull, Program};
use crate::recording::{KeptLimits, mark_latest, new_directory};
use crate::sandbox::Sandboxes;
use crate::tracee::Stdin;
use mlua::{AnyUserData, Lua, ObjectLike, Table, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

const OPTIONS: [&str; 8] = [
    "cwd", "env", "stdin", "out", "wait_all", "world", "sandbox", "setup",
];
const LIVE: [&str; 10] = [
    "cwd", "env", "stdin", "tty", "hooks", "timeout", "sandbox", "after", "files", "listen",
];
/// The word for rrapper's own standard input.
const INHERIT: &[u8] = b"inherit";

const LATER: [&str; 3] = ["engine", "ready", "during"];

pub(super) fn record(lua: &Lua, spec: &Table) -> mlua::Result<AnyUserData> {
    for name in LATER {
        if spec.contains_key(name)? {
            return Err(raise(format!("rr.record cannot do {name:?} yet")));
        }
    }
    convert::only_options(spec, &OPTIONS, "rr.record")?;
    let program = program(spec, stdin(&spec.get("stdin")?, Stdin::Inherit)?)?;
    let (kept, kept_limits) = world(&spec.get("world")?)?;
    let name = program.name();
    let out = spec.get::<Option<Value>>("out")?;
    let out = out.map(|dir| path(&dir, "out")).transpose()?;
    let discard = sandbox::read_for_recording(spec)?;
    let command = match &discard {
        Some(discard) if !discard.setup.is_empty() => program.command_after_setup(),
        _ => program.command(),
    };
    let command = command.map_err(raise)?;
    let dir = match &out {
        Some(dir) => dir.clone(),
        None => new_directory(&name).map_err(raise)?,
    };
    flush_output(lua)?;
    let watch = session::watch(lua);
    let options = record::Options {
        command,
        dir: dir.clone(),
        on_full: OnFull::Stop,
        on_start: None,
        observer: None,
        wait_all: convert::flag(spec, "wait_all")?,
        alone: false,
        kept,
        kept_limits,
        discard,
    };
    let ended = record::record_in_separate_process(options, Front::IsParent);
    watch.ended(&RecordingEnd {
        dir: &dir,
        exit: ended.result.as_ref().ok().map(|recorded| recorded.exit),
        signal: ended.signal,
        forced: ended.forced,
    });
    Sandboxes::of_thread().note_changes(false);
    interrupt::check()?;
    let recorded = ended.result.map_err(raise)?;
    if let Some(note) = recorded.leftovers() {
        watch.warn(&format!(
            "{note}; wait_all = true records until the last one ends"
        ));
    }
    if out.is_none() {
        mark_latest(&recorded.dir);
    }
    let handle = RecordingHandle::open(&recorded.dir)?;
    session::set_current(lua, handle.clone());
    lua.create_userdata(handle)
}

/// The files whose content before the recording is kept, by a name or `{ keep = …, file = …, total = … }`.
fn world(value: &Value) -> mlua::Result<(KeptFiles, KeptLimits)> {
    let Value::Table(table) = value else {
        return Ok((kept_files(value, "world")?, KeptLimits::default()));
    };
    convert::only_options(table, &["keep", "file", "total"], "world")?;
    let limit = |name: &str, default: u64| match table.get::<Value>(name)? {
        Value::Nil => Ok(default),
        value => convert::size(&value, &format!("world.{name}")),
    };
    let default = KeptLimits::default();
    let limits = KeptLimits {
        one: limit("file", default.one)?,
        all: limit("total", default.all)?,
    };
    Ok((kept_files(&table.get("keep")?, "world.keep")?, limits))
}

fn kept_files(value: &Value, what: &str) -> mlua::Result<KeptFiles> {
    let known = || KeptFiles::NAMES.join("\", \"");
    match value {
        Value::Nil => Ok(KeptFiles::default()),
        Value::String(name) => KeptFiles::named(&name.to_string_lossy()).ok_or_else(|| {
            let (known, name) = (known(), shown(value));
            raise(format!("{what} is one of \"{known}\", not {name}"))
        }),
        other => Err(raise(format!(
            "{what} is one of \"{}\", not {}",
            known(),
            shown(other)
        ))),
    }
}

/// `live{ … }`: a program that runs now.
pub(super) fn live(lua: &Lua, spec: &Table) -> mlua::Result<OutcomeData> {
    convert::only_options(spec, &LIVE, "live")?;
    let mut hooks = LuaHooks::read_live(lua, &spec.get::<Value>("hooks")?)?;
    for name in ["timeout", "sandbox", "after", "files", "listen"] {
        let value: Value = spec.get(name)?;
        if !value.is_nil() {
            hooks.read_option(name, &value)?;
        }
    }
    let command = program(spec, live_stdin(spec)?)?.command().map_err(raise)?;
    flush_output(lua)?;
    hooks.warn_of_machine();
    hooks.begin();
    let options = hooks.options();
    let result = inject::run(&command, &mut hooks, &options);
    interrupt::check()?;
    match result {
        Ok(outcome) => {
            let watch = session::watch(lua);
            for rule in &outcome.unfired {
                watch.warn(&format!("warning: the rule {rule} never fired"));
            }
            Ok(OutcomeData::new(outcome, hooks.take_error()))
        }
        Err(error) => Err(hooks.take_raised().unwrap_or_else(|| raise(error))),
    }
}

fn os(value: &Value, what: &str) -> mlua::Result<OsString> {
    convert::bytes(value, what).map(OsString::from_vec)
}

fn path(value: &Value, what: &str) -> mlua::Result<PathBuf> {
    os(value, what).map(PathBuf::from)
}

pub(super) fn program(spec: &Table, stdin: Stdin) -> mlua::Result<Program> {
    let argv = spec.sequence_values::<Value>();
    let argv = argv.map(|arg| os(&arg?, "an argument of the program"));
    let mut env = Vec::new();
    if let Some(changes) = spec.get::<Option<Table>>("env")? {
        changes.for_each(|key: Value, value: Value| {
            env.push((
                os(&key, "an environment variable's name")?,
                os(&value, "an environment variable")?,
            ));
            Ok(())
        })?;
    }
    Ok(Program {
        argv: argv.collect::<mlua::Result<_>>()?,
        env,
        cwd: spec
            .get::<Option<Value>>("cwd")?
            .map(|dir| path(&dir, "cwd"))
            .transpose()?,
        stdin,
    })
}

/// A string is what the program reads, and a file is read from where it stands; "inherit" is rrapper's own input.
pub(super) fn stdin(value: &Value, default: Stdin) -> mlua::Result<Stdin> {
    match value {
        Value::Nil => Ok(default),
        Value::String(text) if text.as_bytes() == INHERIT => Ok(Stdin::Inherit),
        Value::String(text) => Ok(Stdin::Bytes(text.as_bytes().to_vec())),
        Value::UserData(file) => {
            let text: Value = file.call_method("read", "a")?;
            convert::bytes(&text, "stdin").map(Stdin::Bytes)
        }
        other => Err(raise(format!(
            "stdin is a string or a file, not {}",
            shown(other)
        ))),
    }
}

/// The input of a program that runs now: by default nothing. With `tty`, it is typed at a terminal.
fn live_stdin(spec: &Table) -> mlua::Result<Stdin> {
    let stdin = stdin(&spec.get("stdin")?, Stdin::Nothing)?;
    match (convert::flag(spec, "tty")?, stdin) {
        (false, stdin) => Ok(stdin),
        (true, Stdin::Nothing) => Ok(Stdin::Terminal(Vec::new())),
        (true, Stdin::Bytes(typed)) => Ok(Stdin::Terminal(typed)),
        (true, _) => Err(raise(
            "stdin = \"inherit\" cannot be typed at the terminal of tty = true; a string or a file can",
        )),
    }
}

/// Flushes the script's output, so that it comes before that of the program.
fn flush_output(lua: &Lua) -> mlua::Result<()> {
    let io: Table = lua.globals().get("io")?;
    let stdout: AnyUserData = io.get("stdout")?;
    stdout.call_method::<Value>("flush", ())?;
    Ok(())
}
