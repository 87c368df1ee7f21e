//! Errors of scripts: one message with the file, the line and the mistake.

use crate::sandbox::Sandboxes;
use mlua::{Error, Lua, MultiValue, Value};
use std::fmt;

/// The error with which a script ended.
#[derive(Clone, Debug)]
pub struct ScriptError {
    /// A sentence with the file, the line, the mistake and its correction.
    pub message: String,
    /// Lua's traceback, where there is one.
    pub traceback: Option<String>,
}

/// An error of a binding. Its file and line are found in the traceback, which mlua takes when the error is raised.
#[derive(Debug)]
struct Raised {
    message: String,
    /// File and line, where the traceback would not show them.
    place: Option<String>,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Raised {}

/// An error with this message, at the line of the script that is running.
pub(super) fn raise(message: impl fmt::Display) -> Error {
    Error::external(Raised {
        message: message.to_string(),
        place: None,
    })
}

/// An error with this message at this place.
pub(super) fn raise_at(place: String, message: impl fmt::Display) -> Error {
    Error::external(Raised {
        message: message.to_string(),
        place: Some(place),
    })
}

/// Whether the end of a process can be the cause of an error: a binding raised it, or Lua, for a value that is nil.
pub(super) fn is_of_absence(error: &Error) -> bool {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => {
            is_of_absence(cause)
        }
        Error::RuntimeError(message) => message.contains(": attempt to "),
        other => other.downcast_ref::<Raised>().is_some(),
    }
}

/// `; did you mean "a" or "b"?`, or nothing.
pub(super) fn did_you_mean<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect();
    match quoted.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

/// The at most three of these that are near to a name, best first.
pub(super) fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = name.len() / 3 + 1;
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|&(distance, _)| distance <= limit)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// A value for messages: its type or its content.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Integer(n) => n.to_string(),
        Value::Number(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Nil => String::from("nil"),
        other => format!("a {}", other.type_name()),
    }
}

/// The error for a field that an object does not have.
pub(super) fn no_such(whose: &str, key: &Value, known: &[&str]) -> mlua::Error {
    let name = match key {
        Value::String(name) => name.to_string_lossy(),
        other => shown(other),
    };
    let near = near(&name, known.iter().copied());
    raise(format!("{whose} has no {name:?}{}", did_you_mean(&near)))
}

/// The longest name that Lua does not cut in messages.
const LONGEST_NAME: usize = 57;

/// The name under which a script is loaded, as Lua wants it.
pub(super) fn chunk_name(name: &str) -> String {
    let short = match name.rsplit_once('/') {
        Some((_, file)) if name.len() > LONGEST_NAME => file,
        _ => name,
    };
    format!("={short}")
}

impl ScriptError {
    /// Translates an error of mlua's for the author of the script.
    pub(super) fn of(error: &Error) -> ScriptError {
        let mut cause = error;
        let mut traceback = None;
        loop {
            cause = match cause {
                Error::CallbackError {
                    traceback: t,
                    cause,
                } => {
                    traceback = Some(t.as_str());
                    cause
                }
                Error::WithContext { cause, .. } => cause,
                _ => break,
            };
        }
        let raised = cause.downcast_ref::<Raised>();
        let text = match cause {
            Error::SyntaxError { message, .. } | Error::RuntimeError(message) => message.clone(),
            Error::FromLuaConversionError { from, to, .. } => expected(to, from),
            Error::BadArgument {
                pos, name, cause, ..
            } => bad_argument(*pos, name.as_deref(), cause),
            other => other.to_string(),
        };
        // What Lua raised says where; its traceback is in the message.
        if let Error::RuntimeError(_) | Error::SyntaxError { .. } = cause {
            let (message, inner) = match text.split_once("\nstack traceback:") {
                Some((message, inner)) => (message.to_string(), Some(inner.trim_end().to_string())),
                None => (text, traceback.map(str::to_string)),
            };
            // `require` lists every place in which it looked.
            let message = match message.split_once(" not found:\n") {
                Some((module, _)) => format!("{module} not found"),
                None if message.starts_with("table: 0x") => {
                    String::from("the script raised a table, not a message")
                }
                None => message,
            };
            return ScriptError {
                message,
                traceback: inner,
            };
        }
        let place = match raised {
            Some(Raised {
                place: Some(place), ..
            }) => Some(place.clone()),
            _ => traceback.and_then(place),
        };
        ScriptError {
            message: place.map_or(text.clone(), |place| format!("{place}: {text}")),
            traceback: traceback.map(|t| t.trim_start_matches("stack traceback:").to_string()),
        }
    }
}

fn bad_argument(pos: usize, name: Option<&str>, cause: &Error) -> String {
    if name == Some("self") {
        return String::from(
            "this is a method: call it with a colon on its object, as in object:method()",
        );
    }
    let cause = match cause {
        Error::FromLuaConversionError { from, to, .. } => expected(to, from),
        Error::BadArgument { cause, .. } => return bad_argument(pos, name, cause),
        Error::ExternalError(error) => return error.to_string(),
        other => other.to_string(),
    };
    match name {
        Some(name) => format!("bad argument {name}: {cause}"),
        None => format!("bad argument #{pos}: {cause}"),
    }
}

/// In Lua's words, where mlua has Rust's.
fn expected(to: &str, from: &str) -> String {
    let to = match to {
        "i32" | "i64" | "u32" | "u64" | "usize" => "integer",
        "String" => "string",
        to => to,
    };
    format!("expected {to}, got {from}")
}

/// The first `file:line` of a traceback that is not one of our own modules.
fn place(traceback: &str) -> Option<String> {
    traceback.lines().find_map(|line| {
        let line = line.trim();
        let mut parts = line.splitn(3, ':');
        let (file, number) = (parts.next()?, parts.next()?);
        parts.next()?;
        let is_line = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (is_line && !file.starts_with("rrapper.") && !file.starts_with("__mlua"))
            .then(|| format!("{file}:{number}"))
    })
}

/// Has `pcall` and its kin give scripts an error's message where a binding raised it.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let message = lua.create_function(|lua, error: Value| match error {
        Value::Error(error) => lua
            .create_string(ScriptError::of(&error).message)
            .map(Value::String),
        other => Ok(other),
    })?;
    let traceback = lua.create_function(|lua, args: MultiValue| {
        let mut args = args.into_iter();
        let message = match args.next() {
            Some(Value::String(message)) => Some(message.to_string_lossy()),
            Some(Value::Error(error)) => Some(ScriptError::of(&error).message),
            _ => None,
        };
        lua.traceback(message.as_deref(), 1)
    })?;
    let note_changes = lua.create_function(|_, lasting: bool| {
        Sandboxes::of_thread().note_changes(lasting);
        Ok(())
    })?;
    lua.load(include_str!("prelude.lua"))
        .set_name("=rrapper.prelude")
        .call::<()>((
            message,
            traceback,
            super::interrupt::function(lua)?,
            note_changes,
        ))
}
