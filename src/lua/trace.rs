//! `Trace` and its entries, `trace.load`, `trace.parse`.

use super::convert;
use super::error::{no_such, raise, shown};
use super::{pattern, session, values};
use crate::strace;
use crate::syscall;
use crate::trace::{Answer, Call, Entry, Origin, Trace};
use mlua::{Function, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A trace; scripts see its calls.
#[derive(Clone)]
pub(super) struct TraceData(Arc<Trace>, Files);

/// The absolute path of the file that each call is about; found when it is first asked for.
type Files = Rc<OnceCell<Vec<Option<Box<[u8]>>>>>;

/// One call of a trace, with its index from 0.
#[derive(Clone)]
pub(super) struct EntryData {
    call: Call,
    index: usize,
    of: TraceData,
}

impl TraceData {
    pub fn new(trace: Trace) -> TraceData {
        TraceData(Arc::new(trace), Files::default())
    }

    pub fn shared(&self) -> Arc<Trace> {
        Arc::clone(&self.0)
    }

    fn entry(&self, index: usize) -> Option<EntryData> {
        let call = self.0.call(index)?.clone();
        let of = self.clone();
        Some(EntryData { call, index, of })
    }

    /// The absolute path of the file that a call is about.
    fn file(&self, index: usize) -> Option<&[u8]> {
        let find = || {
            let calls = self.0.calls_with_files();
            calls
                .map(|(_, about)| about.file().map(Box::from))
                .collect()
        };
        self.1.get_or_init(find).get(index)?.as_deref()
    }

    fn text(&self) -> mlua::Result<Vec<u8>> {
        let mut text = Vec::new();
        strace::write(&self.0, &mut text).map_err(raise)?;
        Ok(text)
    }

    fn find(&self, table: &Table) -> mlua::Result<Option<EntryData>> {
        convert::only_options(
            table,
            &["syscall", "path", "failed", "nth", "pid"],
            "the search in a trace",
        )?;
        let get = |name: &str| table.get::<Option<Value>>(name);
        let calls = get("syscall")?
            .map(|calls| pattern::calls(&calls))
            .transpose()?;
        let path = get("path")?.map(|path| pattern::path(&path)).transpose()?;
        let failed = get("failed")?;
        let errno = match &failed {
            None | Some(Value::Boolean(_)) => None,
            Some(errno) => Some(convert::errno(errno)?),
        };
        let pid = get("pid")?
            .map(|pid| convert::integer(&pid, "pid"))
            .transpose()?;
        let mut nth = get("nth")?.map_or(Ok(1), |nth| convert::count(&nth, "nth"))?;
        let found = self.0.calls_with_files().position(|(call, about)| {
            let known = syscall::by_name(&call.name);
            let hit = calls
                .as_ref()
                .is_none_or(|(selector, _)| known.is_some_and(|known| selector.matches(known)))
                && path.as_ref().is_none_or(|path| path.means(&about))
                && match (&failed, &call.answer) {
                    (None | Some(Value::Boolean(false)), _) => true,
                    (Some(_), Answer::Errno(got)) => errno.is_none_or(|wanted| wanted == *got),
                    _ => false,
                }
                && pid.is_none_or(|pid| pid == i64::from(call.tid));
            nth = nth.saturating_sub(u64::from(hit));
            hit && nth == 0
        });
        Ok(found.and_then(|index| self.entry(index)))
    }

    /// `fn(entry)`: nil deletes, an entry or text in strace's syntax replaces, a list of them inserts.
    fn map(&self, function: &Function) -> mlua::Result<TraceData> {
        let mut entries = Vec::new();
        let mut index = 0;
        for entry in self.0.entries() {
            let Entry::Call(call) = entry else {
                entries.push(entry.clone());
                continue;
            };
            let seen = EntryData {
                call: call.clone(),
                index,
                of: self.clone(),
            };
            index += 1;
            match function.call::<Value>(seen)? {
                Value::Nil => {}
                Value::Table(list) => {
                    for item in list.sequence_values::<Value>() {
                        entries.push(made(&item?)?);
                    }
                }
                one => entries.push(made(&one)?),
            }
        }
        Ok(TraceData::new(Trace::new(entries)))
    }
}

/// The entry that a function given to `map` returned.
fn made(value: &Value) -> mlua::Result<Entry> {
    match value {
        Value::UserData(data) if data.is::<EntryData>() => {
            Ok(Entry::Call(data.borrow::<EntryData>()?.call.clone()))
        }
        Value::String(line) => match strace::line(&line.as_bytes()) {
            Ok(Some(entry)) => Ok(entry.with_origin(Origin::Made)),
            Ok(None) => Err(raise("an empty line is no call")),
            Err(problem) => {
                let (column, message) = (problem.column, problem.message);
                let line = line.to_string_lossy();
                Err(raise(format!(
                    "{line:?} is no call in strace's syntax: at column {column}, {message}"
                )))
            }
        },
        other => {
            let other = shown(other);
            Err(raise(format!(
                "map wants nil, a call, its text, or a list of them, not {other}"
            )))
        }
    }
}

/// A call's index, from 0: as such, or by its entry.
pub(super) fn index(value: &Value, what: &str) -> mlua::Result<usize> {
    match value {
        Value::UserData(data) if data.is::<EntryData>() => Ok(data.borrow::<EntryData>()?.index),
        other => {
            let index = convert::count(other, &format!("{what} (an index from 0)"))?;
            usize::try_from(index).map_err(raise)
        }
    }
}

impl UserData for TraceData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Trace");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.0.len()));
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| match key {
            Value::Integer(i) => {
                let index = usize::try_from(i).ok().and_then(|i| i.checked_sub(1));
                index
                    .and_then(|index| this.entry(index))
                    .map_or(Ok(Value::Nil), |entry| {
                        lua.create_userdata(entry).map(Value::UserData)
                    })
            }
            key => Err(no_such(
                "a trace",
                &key,
                &["slice", "find", "map", "save", "signals"],
            )),
        });
        methods.add_meta_method(MetaMethod::ToString, |lua, this, ()| {
            lua.create_string(this.text()?)
        });
        // From i to j, both included, counted as in t[i].
        methods.add_method("slice", |_, this, (i, j): (Value, Option<Value>)| {
            let first = convert::count(&i, "the first index")? as usize;
            let last = match j {
                Some(j) => convert::count(&j, "the last index")? as usize,
                None => this.0.len(),
            };
            let len = this.0.len();
            let slice = first
                .checked_sub(1)
                .and_then(|first| this.0.slice(first, last.checked_sub(1)?));
            slice.map(TraceData::new).ok_or_else(|| {
                raise(format!(
                    "there is no slice {first} to {last} of a trace of {len} calls"
                ))
            })
        });
        methods.add_method("find", |_, this, table: Table| this.find(&table));
        methods.add_method("map", |_, this, function: Function| this.map(&function));
        methods.add_method("signals", |lua, this, ()| {
            lua.create_sequence_from(this.0.signals().map(ToString::to_string))
        });
        methods.add_method("save", |_, this, path: mlua::LuaString| {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path.as_bytes()));
            std::fs::write(&path, this.text()?)
                .map_err(|e| raise(format!("cannot write the trace to {}: {e}", path.display())))
        });
    }
}

impl UserData for EntryData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Entry");
        fields.add_field_method_get("index", |_, this| Ok(this.index));
        fields.add_field_method_get("pid", |_, this| Ok(this.call.tid));
        fields.add_field_method_get("tid", |_, this| Ok(this.call.tid));
        fields.add_field_method_get("name", |_, this| Ok(this.call.name.clone()));
        fields.add_field_method_get("args", |lua, this| {
            let known = syscall::by_name(&this.call.name);
            let names = known.map_or_else(Vec::new, |known| {
                known.args.iter().map(|arg| arg.name).collect()
            });
            values::arguments(lua, &this.call.args, &names)
        });
        fields.add_field_method_get("file", |lua, this| {
            let file = this.of.file(this.index);
            file.map(|file| lua.create_string(file)).transpose()
        });
        fields.add_field_method_get("ret", |_, this| Ok(this.call.answer.raw()));
        fields.add_field_method_get("errno", |_, this| {
            Ok(match this.call.answer {
                Answer::Errno(errno) => Some(errno),
                _ => None,
            })
        });
        fields.add_field_method_get("event", |_, this| {
            Ok(match this.call.origin {
                Origin::Event(event) => Some(event),
                _ => None,
            })
        });
        fields.add_field_method_get("line", |_, this| {
            Ok(match this.call.origin {
                Origin::Text { line, .. } => Some(line),
                _ => None,
            })
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(this.call.to_string())
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> {
                let known = [
                    "index", "pid", "tid", "name", "args", "file", "ret", "errno", "event", "line",
                ];
                Err(no_such("a call of a trace", &key, &known))
            },
        );
    }
}

/// Reads a trace; warns about the lines that are not understood.
pub(super) fn load(lua: &Lua, path: &Path) -> mlua::Result<TraceData> {
    let parsed = strace::load(path).map_err(raise)?;
    checked(lua, parsed, &path.display().to_string())
}

/// Refuses a text of which no line is understood, and warns about lines that are not understood.
fn checked(lua: &Lua, parsed: strace::Parsed, name: &str) -> mlua::Result<TraceData> {
    if let Some(problem) = parsed.problems.first() {
        if parsed.trace.is_empty() {
            return Err(raise(format!("{name} is no trace: {problem}")));
        }
        let watch = session::watch(lua);
        watch.warn(&format!("warning: {problem}"));
        if parsed.problems.len() > 1 {
            let more = parsed.problems.len() - 1;
            watch.warn(&format!(
                "warning: {name}: {more} more lines were not understood"
            ));
        }
    }
    Ok(TraceData::new(parsed.trace))
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let table = lua.create_table()?;
    let load = lua.create_function(|lua, path: mlua::LuaString| {
        load(
            lua,
            Path::new(std::ffi::OsStr::from_bytes(&path.as_bytes())),
        )
    })?;
    table.set("load", load)?;
    let parse = lua.create_function(|lua, text: mlua::LuaString| {
        let name = "<string>";
        checked(lua, strace::parse(&text.as_bytes(), name), name)
    })?;
    table.set("parse", parse)?;
    lua.globals().set("trace", table)
}
