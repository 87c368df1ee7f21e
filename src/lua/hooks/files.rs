//! The option `files`: files that have another content for the process.

use super::super::convert;
use super::super::error::{raise, shown};
use crate::inject::{OtherContent, OtherFile};
use mlua::{Function, Table, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A file that has another content.
pub(super) struct File {
    pub file: OtherFile,
    /// The function that makes the content, if one does.
    pub function: Option<Function>,
    /// Whether the process has read it.
    pub is_met: bool,
}

/// `{ ["/etc/x"] = "other.bin", y = { bytes = "…" }, z = function(content) … end }`, in the order of the paths.
pub(super) fn read(value: &Value) -> mlua::Result<Vec<File>> {
    let Value::Table(table) = value else {
        return Err(raise(format!(
            "files is a table {{ [path] = content }}, not {}",
            shown(value)
        )));
    };
    let mut files = Vec::new();
    table.for_each(|key: Value, value: Value| {
        if !matches!(key, Value::String(_)) {
            let key = shown(&key);
            return Err(raise(format!(
                "files is a table {{ [path] = content }}, and has {key} for a path"
            )));
        }
        files.push(file(path(&key)?, &value)?);
        Ok(())
    })?;
    files.sort_by(|a: &File, b: &File| a.file.path.cmp(&b.file.path));
    Ok(files)
}

fn file(path: PathBuf, value: &Value) -> mlua::Result<File> {
    let mut function = None;
    let content = match value {
        Value::String(_) => OtherContent::File(self::path(value)?),
        Value::Function(made) => {
            function = Some(made.clone());
            OtherContent::Made
        }
        Value::Table(table) => OtherContent::Bytes(bytes(table, &path)?.into()),
        other => {
            return Err(raise(format!(
                "the content of {} in files is a file's name, {{ bytes = … }} or a function, not {}",
                path.display(),
                shown(other)
            )));
        }
    };
    Ok(File {
        file: OtherFile { path, content },
        function,
        is_met: false,
    })
}

/// `{ bytes = "…" }`.
fn bytes(table: &Table, path: &std::path::Path) -> mlua::Result<Vec<u8>> {
    let what = format!("the content of {} in files", path.display());
    convert::only_options(table, &["bytes"], &what)?;
    match table.get("bytes")? {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        other => Err(raise(format!(
            "{what} has bytes = a string, not {}",
            shown(&other)
        ))),
    }
}

fn path(value: &Value) -> mlua::Result<PathBuf> {
    let bytes = convert::bytes(value, "a path in files")?;
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(raise(format!("{} in files is no path", shown(value))));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}
