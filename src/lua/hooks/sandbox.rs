//! The option `sandbox`: `"cow"`, `"none"`, or a table of the settings of a sandbox.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use crate::inject::{Options, Sandbox};
use crate::record::Discard;
use crate::sandbox::Settings;
use mlua::{Table, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

const NAMES: [&str; 8] = [
    "network",
    "namespaces",
    "memory",
    "tasks",
    "time",
    "writable",
    "readonly",
    "hide",
];

/// Reads the option.
pub(super) fn read(value: &Value, options: &mut Options) -> mlua::Result<()> {
    let mut settings = Settings::default();
    let word = match value {
        Value::String(word) => word.to_string_lossy(),
        _ => String::new(),
    };
    options.sandbox = match (value, word.as_str()) {
        (_, "cow") => Sandbox::Cow,
        (_, "none") => Sandbox::None,
        (Value::Table(table), _) => {
            settings = read_settings(table, Settings::default(), false)?;
            Sandbox::Cow
        }
        _ => {
            let hint = did_you_mean(&near(&word, ["cow", "none"]));
            return Err(raise(format!(
                "sandbox is \"cow\", \"none\" or a table of settings, not {}{hint}",
                shown(value)
            )));
        }
    };
    options.settings = Arc::new(settings);
    Ok(())
}

/// The settings that limit live processes, and no recorded ones.
const OF_LIVE: [&str; 3] = ["memory", "tasks", "time"];

/// Reads the options `sandbox` and `setup` of a recording.
pub(in crate::lua) fn read_for_recording(spec: &Table) -> mlua::Result<Option<Discard>> {
    let setup: Value = spec.get("setup")?;
    let value: Value = spec.get("sandbox")?;
    let word = match &value {
        Value::String(word) => word.to_string_lossy(),
        _ => String::new(),
    };
    let mut discard = Discard::default();
    match (&value, word.as_str()) {
        (Value::Nil, _) | (_, "none") if setup.is_nil() => return Ok(None),
        (Value::Nil, _) | (_, "none") => {
            return Err(raise(
                "setup is run in the sandbox of the recording, which sandbox = \"cow\" gives it",
            ));
        }
        (_, "cow") => {}
        (Value::Table(table), _) => read_recording_settings(table, &mut discard)?,
        _ => {
            let hint = did_you_mean(&near(&word, ["cow", "none"]));
            return Err(raise(format!(
                "sandbox is \"cow\", \"none\" or a table of settings, not {}{hint}",
                shown(&value)
            )));
        }
    }
    discard.setup = commands(&setup)?;
    Ok(Some(discard))
}

fn read_recording_settings(table: &Table, discard: &mut Discard) -> mlua::Result<()> {
    const MACHINE: &[u8] = b"machine";
    for name in OF_LIVE {
        if table.contains_key(name)? {
            return Err(raise(format!(
                "{name} limits live processes; a recorded program has the limits that it would have without rrapper"
            )));
        }
    }
    let network: Value = table.get("network")?;
    discard.machines_network = match &network {
        Value::Nil | Value::Boolean(true) => false,
        Value::String(word) if word.as_bytes() == MACHINE => true,
        _ => {
            return Err(raise(format!(
                "network of a recording is true, for a loopback of its own, or \"machine\", not {}",
                shown(&network)
            )));
        }
    };
    discard.settings = read_settings(table, Settings::for_recording(), true)?;
    Ok(())
}

/// A command, or a list of them.
fn commands(value: &Value) -> mlua::Result<Vec<OsString>> {
    let wrong = |value: &Value| {
        raise(format!(
            "setup is a command for sh -c or a list of them, not {}",
            shown(value)
        ))
    };
    let one = |value: &Value| match value {
        Value::String(text) => Ok(OsString::from_vec(text.as_bytes().to_vec())),
        other => Err(wrong(other)),
    };
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::Table(list) => {
            convert::only_options(list, &[], "setup")?;
            let all = list.sequence_values::<Value>();
            all.map(|command| one(&command?)).collect()
        }
        one_only => Ok(vec![one(one_only)?]),
    }
}

fn read_settings(
    table: &Table,
    mut settings: Settings,
    of_recording: bool,
) -> mlua::Result<Settings> {
    convert::only_options(table, &NAMES, "sandbox")?;
    let limits = &mut settings.limits;
    table.for_each(|key: Value, value: Value| {
        let Value::String(name) = &key else {
            return Err(raise(format!(
                "sandbox is a table of settings by name, and has {}",
                shown(&key)
            )));
        };
        match name.to_string_lossy().as_str() {
            // For a recording it is read apart.
            "network" if of_recording => {}
            "network" => settings.network = convert::boolean(&value, "network")?,
            "namespaces" => settings.namespaces = convert::boolean(&value, "namespaces")?,
            "memory" => {
                limits.memory_bytes = Some(convert::size(&value, "memory")?);
            }
            "tasks" => {
                limits.processes = convert::count(&value, "tasks")?;
                if limits.processes == 0 {
                    return Err(raise("tasks must be 1 at least, and is 0"));
                }
            }
            // The kernel counts whole seconds.
            "time" => {
                limits.cpu_seconds = convert::seconds(&value, "time")?.as_secs_f64().ceil() as u64
            }
            "writable" => settings.writable = paths(&value, "writable")?,
            "readonly" => settings.readonly = paths(&value, "readonly")?,
            _ => settings.hide = paths(&value, "hide")?,
        }
        Ok(())
    })?;
    Ok(settings)
}

/// A list of paths; relative ones begin at the current directory.
fn paths(value: &Value, what: &str) -> mlua::Result<Vec<PathBuf>> {
    let wrong = |value: &Value| {
        raise(format!(
            "{what} is a list of paths, as {{ \"/srv\" }}, not {}",
            shown(value)
        ))
    };
    let Value::Table(list) = value else {
        return Err(wrong(value));
    };
    convert::only_options(list, &[], what)?;
    let here = std::env::current_dir().unwrap_or_default();
    let mut paths = Vec::new();
    for path in list.sequence_values::<Value>() {
        let path = path?;
        let Value::String(text) = &path else {
            return Err(raise(format!(
                "a path in {what} is a string, not {}",
                shown(&path)
            )));
        };
        let bytes = text.as_bytes().to_vec();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(raise(format!("{} in {what} is no path", shown(&path))));
        }
        paths.push(here.join(OsString::from_vec(bytes)));
    }
    Ok(paths)
}
