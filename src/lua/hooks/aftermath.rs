//! The box of `after`: a sandbox after the run in it, on loan to a script until the function returns.

use super::super::convert;
use super::super::error::{no_such, raise};
use super::super::launch;
use super::super::outcome::OutcomeData;
use crate::inject::Aftermath;
use crate::tracee::Stdin;
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;

const OVER: &str = "this box is over: it can be used only while its function runs";

const NAMES: [&str; 6] = ["read", "write", "files", "run", "save", "diff"];

/// A box on loan to a script.
#[derive(Clone)]
pub(super) struct BoxData(Rc<RefCell<Option<Aftermath>>>);

impl BoxData {
    pub fn lend(aftermath: &mut Aftermath) -> BoxData {
        BoxData(Rc::new(RefCell::new(Some(std::mem::take(aftermath)))))
    }

    pub fn take_back(&self, aftermath: &mut Aftermath) {
        if let Some(lent) = self.0.borrow_mut().take() {
            *aftermath = lent;
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Aftermath) -> mlua::Result<R>) -> mlua::Result<R> {
        match &mut *self.0.borrow_mut() {
            Some(aftermath) => act(aftermath),
            None => Err(raise(OVER)),
        }
    }
}

fn path(value: &Value, what: &str) -> mlua::Result<PathBuf> {
    Ok(PathBuf::from(OsString::from_vec(convert::bytes(
        value, what,
    )?)))
}

/// The changed files as a list, ordered by path.
fn files(lua: &Lua, aftermath: &Aftermath) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    for file in aftermath.files().map_err(raise)? {
        let entry = lua.create_table()?;
        entry.set("path", lua.create_string(file.path.as_os_str().as_bytes())?)?;
        entry.set("kind", file.kind)?;
        if let Some(from) = &file.from {
            entry.set("from", lua.create_string(from.as_os_str().as_bytes())?)?;
        }
        entry.set("size", file.size)?;
        entry.set("hash", file.hash)?;
        list.push(entry)?;
    }
    Ok(list)
}

/// What changed files are, by their paths: the change, the former path, and the hash of the content.
type ByPath = BTreeMap<Vec<u8>, (String, Option<Vec<u8>>, Option<String>)>;

fn by_path(list: &Table) -> mlua::Result<ByPath> {
    let mut all = ByPath::new();
    for entry in list.sequence_values::<Table>() {
        let entry = entry?;
        let path = convert::bytes(&entry.get("path")?, "path")?;
        let from = match entry.get("from")? {
            Value::Nil => None,
            from => Some(convert::bytes(&from, "from")?),
        };
        all.insert(path, (entry.get("kind")?, from, entry.get("hash")?));
    }
    Ok(all)
}

/// The paths that are not the same in two lists of changed files.
fn diff(lua: &Lua, ours: &Table, theirs: &Table) -> mlua::Result<Table> {
    let (ours, theirs) = (by_path(ours)?, by_path(theirs)?);
    let paths: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let list = lua.create_table()?;
    for path in paths {
        if ours.get(path) != theirs.get(path) {
            list.push(lua.create_string(path)?)?;
        }
    }
    Ok(list)
}

impl UserData for BoxData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Box");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("read", |lua, this, name: Value| {
            let place = path(&name, "path")?;
            let bytes = this.with(|aftermath| {
                let read = aftermath.read(&place);
                read.map_err(|e| raise(format!("cannot read {} in the box: {e}", place.display())))
            })?;
            lua.create_string(bytes)
        });
        methods.add_method("write", |_, this, (name, bytes): (Value, Value)| {
            let place = path(&name, "path")?;
            let bytes = convert::bytes(&bytes, "what to write")?;
            this.with(|aftermath| {
                let written = aftermath.write(&place, &bytes);
                written
                    .map_err(|e| raise(format!("cannot write {} in the box: {e}", place.display())))
            })
        });
        methods.add_method("files", |lua, this, ()| {
            this.with(|aftermath| files(lua, aftermath))
        });
        methods.add_method("save", |_, this, (dir, what): (Value, Option<Value>)| {
            let dir = path(&dir, "the directory")?;
            let what = what.map(|what| path(&what, "path")).transpose()?;
            this.with(|aftermath| {
                let saved = aftermath.save(&dir, what.as_deref());
                saved.map_err(|e| {
                    raise(format!(
                        "cannot save files of the box in {}: {e}",
                        dir.display()
                    ))
                })
            })
        });
        methods.add_method("run", |_, this, spec: Table| {
            convert::only_options(&spec, &["timeout", "stdin", "cwd", "env"], "box:run")?;
            let stdin = launch::stdin(&spec.get("stdin")?, Stdin::Nothing)?;
            let command = launch::program(&spec, stdin)?.command().map_err(raise)?;
            let timeout = match spec.get::<Value>("timeout")? {
                Value::Nil => None,
                value => Some(convert::seconds(&value, "timeout")?),
            };
            this.with(|aftermath| {
                let outcome = aftermath.run(command, timeout).map_err(raise)?;
                Ok(OutcomeData::new(outcome, None))
            })
        });
        methods.add_method("diff", |lua, this, other: Value| {
            let theirs = match &other {
                Value::Table(list) => list.clone(),
                _ => return Err(raise("diff takes what files() of another box returned")),
            };
            let ours = this.with(|aftermath| files(lua, aftermath))?;
            diff(lua, &ours, &theirs)
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a box", &key, &NAMES)) },
        );
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            let is_over = this.0.borrow().is_none();
            Ok(if is_over { "Box (over)" } else { "Box" })
        });
    }
}
