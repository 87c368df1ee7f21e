//! Names and paths as scripts write them: a text, a list, or `re"…"`.

use super::error::{raise, shown};
use crate::inject::{PathPattern, Selector};
use mlua::{Lua, MetaMethod, UserData, UserDataMethods, Value};

/// `re"…"`: a regular expression in the syntax of Rust's `regex`.
#[derive(Clone)]
pub(super) struct Re(regex::bytes::Regex);

impl UserData for Re {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.name()));
        methods.add_method("matches", |_, this, text: mlua::LuaString| {
            Ok(this.0.is_match(&text.as_bytes()))
        });
    }
}

impl Re {
    fn name(&self) -> String {
        format!("re{:?}", self.0.as_str())
    }
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let re = lua.create_function(|_, text: String| match regex::bytes::Regex::new(&text) {
        Ok(regex) => Ok(Re(regex)),
        Err(error) => {
            let lines = error.to_string();
            let why = lines
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Err(raise(format!("{text:?} is no regular expression: {why}")))
        }
    })?;
    lua.globals().set("re", re)
}

/// A pattern for paths.
pub(super) fn path(value: &Value) -> mlua::Result<PathPattern> {
    match value {
        Value::UserData(data) if data.is::<Re>() => {
            Ok(PathPattern::Regex(data.borrow::<Re>()?.0.clone()))
        }
        Value::String(text) => {
            let text = text.to_string_lossy();
            PathPattern::glob(&text)
                .map_err(|e| raise(format!("{text:?} is no shell pattern: {}", e.msg)))
        }
        other => Err(raise(format!(
            "path is a path, a shell pattern or re\"…\", not {}",
            shown(other)
        ))),
    }
}

/// A selection of calls, and how the user would name it.
pub(super) fn calls(value: &Value) -> mlua::Result<(Selector, String)> {
    match value {
        Value::String(text) => {
            let text = text.to_string_lossy();
            Ok((selector(&text)?, text.to_string()))
        }
        Value::Table(list) => {
            let mut names = Vec::new();
            for name in list.sequence_values::<Value>() {
                match name? {
                    Value::String(name) => names.push(name.to_string_lossy()),
                    other => {
                        return Err(raise(format!(
                            "a list of calls holds names, not {}",
                            shown(&other)
                        )));
                    }
                }
            }
            let text = names.join(",");
            Ok((selector(&text)?, text))
        }
        Value::UserData(data) if data.is::<Re>() => {
            let re = data.borrow::<Re>()?;
            let matches = |name: &str| re.0.is_match(name.as_bytes());
            let selector = Selector::matching(re.name(), matches).map_err(raise)?;
            Ok((selector, re.name()))
        }
        other => Err(raise(format!(
            "calls are a name, a list, a class (\"%file\") or re\"…\", not {}",
            shown(other)
        ))),
    }
}

fn selector(text: &str) -> mlua::Result<Selector> {
    if text.split(',').all(|part| part.trim().is_empty()) {
        return Err(raise("no system call is named"));
    }
    Selector::parse(text).map_err(raise)
}
