//! Conversions of values that scripts pass: numbers, errnos, signals, bytes, times.

use super::error::{did_you_mean, near, raise, shown};
use crate::constants;
use crate::recording;
use crate::strace;
use mlua::{Table, Value};
use std::time::Duration;

/// An integer: as such, or in strace's syntax (`"S_IFIFO|0644"`).
pub(super) fn integer(value: &Value, what: &str) -> mlua::Result<i64> {
    let wrong = || raise(format!("{what} must be an integer, not {}", shown(value)));
    match value {
        Value::Integer(n) => Ok(*n),
        Value::Number(n) if n.fract() == 0.0 && n.abs() < 9e18 => Ok(*n as i64),
        Value::String(text) => {
            let text = text.to_str().map_err(|_| wrong())?;
            let parsed = strace::value_from_text(&text).map_err(|_| wrong())?;
            parsed.as_i64().ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// A return value: an integer, negative for an errno. The name of an errno alone is refused, since its number would be a
/// success.
pub(super) fn ret(value: &Value, what: &str) -> mlua::Result<i64> {
    if let Value::String(name) = value
        && let Some(errno) = constants::errno(&name.to_string_lossy())
    {
        let name = name.to_string_lossy();
        return Err(raise(format!(
            "{what} is what the call returns, which is no error where it is {name} ({errno}): \"-{name}\" is one"
        )));
    }
    integer(value, what)
}

/// An integer that is not negative.
pub(super) fn count(value: &Value, what: &str) -> mlua::Result<u64> {
    let n = integer(value, what)?;
    u64::try_from(n).map_err(|_| raise(format!("{what} must not be negative, and is {n}")))
}

/// An errno by its name or number; positive.
pub(super) fn errno(value: &Value) -> mlua::Result<i32> {
    match value {
        Value::String(name) => {
            let name = name.to_string_lossy();
            constants::errno(&name).ok_or_else(|| unknown_errno(&name))
        }
        other => {
            let n = integer(other, "an errno")?.unsigned_abs();
            match i32::try_from(n) {
                Ok(errno @ 1..=4095) => Ok(errno),
                _ => Err(raise(format!("{n} is no errno: they are 1 to 4095"))),
            }
        }
    }
}

/// An unknown errno's error.
pub(super) fn unknown_errno(name: &str) -> mlua::Error {
    let names = constants::suggest_errno(name);
    raise(format!("unknown errno {name:?}{}", did_you_mean(&names)))
}

/// A signal by its name or number.
pub(super) fn signal(value: &Value) -> mlua::Result<i32> {
    match value {
        Value::String(name) => {
            let name = name.to_string_lossy();
            constants::signal(&name).ok_or_else(|| unknown_signal(&name))
        }
        other => match integer(other, "a signal")? {
            n @ 1..=64 => Ok(n as i32),
            n => Err(raise(format!("{n} is no signal: they are 1 to 64"))),
        },
    }
}

/// An unknown signal's error.
pub(super) fn unknown_signal(name: &str) -> mlua::Error {
    let names: Vec<String> = (1..=31).map(constants::signal_name).collect();
    let near = near(name, names.iter().map(String::as_str));
    raise(format!("unknown signal {name:?}{}", did_you_mean(&near)))
}

/// A boolean.
pub(super) fn boolean(value: &Value, what: &str) -> mlua::Result<bool> {
    match value {
        Value::Boolean(boolean) => Ok(*boolean),
        other => Err(raise(format!(
            "{what} is true or false, not {}",
            shown(other)
        ))),
    }
}

/// A time in seconds.
pub(super) fn seconds(value: &Value, what: &str) -> mlua::Result<Duration> {
    let seconds = match value {
        Value::Integer(n) => *n as f64,
        Value::Number(n) => *n,
        other => {
            return Err(raise(format!(
                "{what} is a number of seconds, not {}",
                shown(other)
            )));
        }
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(raise(format!(
            "{what} must be more than 0 seconds, and is {seconds}"
        ))),
    }
}

/// A number of bytes: as such, or with a unit (`"512M"`, `"1.5 GiB"`; 1 K is 1024).
pub(super) fn size(value: &Value, what: &str) -> mlua::Result<u64> {
    let wrong = || {
        raise(format!(
            "{what} is a number of bytes, or text as \"512M\" or \"2 GiB\", not {}",
            shown(value)
        ))
    };
    let size = match value {
        Value::Integer(size) => u64::try_from(*size).map_err(|_| wrong())?,
        Value::Number(size) if size.fract() == 0.0 && (0.0..1e18).contains(size) => *size as u64,
        Value::String(text) => {
            recording::size_of_text(&text.to_string_lossy()).ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    match size {
        0 => Err(raise(format!("{what} must be more than 0 bytes"))),
        size => Ok(size),
    }
}

/// Bytes: a string.
pub(super) fn bytes(value: &Value, what: &str) -> mlua::Result<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(_) | Value::Number(_) => Ok(value.to_string()?.into_bytes()),
        other => Err(raise(format!(
            "{what} must be a string, not {}",
            shown(other)
        ))),
    }
}

/// Text: a string that is UTF-8.
pub(super) fn text(value: &Value, what: &str) -> mlua::Result<String> {
    String::from_utf8(bytes(value, what)?).map_err(|_| raise(format!("{what} must be UTF-8")))
}

/// An option that is true or false, and false where it is not given.
pub(super) fn flag(table: &Table, name: &str) -> mlua::Result<bool> {
    match table.get::<Value>(name)? {
        Value::Nil => Ok(false),
        value => boolean(&value, name),
    }
}

/// Refuses names that an options table may not have.
pub(super) fn only_options(table: &Table, known: &[&str], whose: &str) -> mlua::Result<()> {
    table.for_each(|key: Value, _: Value| match &key {
        Value::String(name) => {
            let name = name.to_string_lossy();
            if known.contains(&name.as_ref()) {
                return Ok(());
            }
            let near = near(&name, known.iter().copied());
            Err(raise(format!(
                "{whose} has no option {name:?}{}",
                did_you_mean(&near)
            )))
        }
        _ => Ok(()),
    })
}

/// Texts as strings of Lua.
pub(super) fn strings(lua: &mlua::Lua, texts: &[Vec<u8>]) -> mlua::Result<Vec<mlua::LuaString>> {
    texts.iter().map(|text| lua.create_string(text)).collect()
}
