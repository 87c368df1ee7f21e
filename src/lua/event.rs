//! `Event`, and what scripts ask events by.

use super::convert;
use super::error::{no_such, raise, shown};
use super::pattern;
use super::values;
use crate::constants;
use crate::history::{Failed, Filter, Found};
use crate::recording::EventKind;
use crate::syscall;
use crate::trace::{Answer, Entry};
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

/// An event of a recording.
pub(super) struct EventData(pub Found);

impl EventData {
    fn answer(&self) -> Option<Answer> {
        self.0.event.call()?.ret.map(Answer::from_raw)
    }

    fn entry(&self) -> Entry {
        self.0.event.to_entry(self.0.number)
    }

    fn name(&self) -> String {
        match &self.0.event.kind {
            EventKind::Call(call) => call.name(),
            EventKind::Signal(signal) => constants::signal_name(signal.signal),
        }
    }

    fn args(&self, lua: &Lua) -> mlua::Result<Option<Table>> {
        let Some(call) = self.0.event.call() else {
            return Ok(None);
        };
        let known = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args));
        let names = known.map_or_else(Vec::new, |known| known.shown_names(&call.args));
        values::arguments(lua, &call.values(), &names).map(Some)
    }
}

impl UserData for EventData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Event");
        fields.add_field_method_get("event", |_, this| Ok(this.0.number));
        fields.add_field_method_get("pid", |_, this| Ok(this.0.pid));
        fields.add_field_method_get("tid", |_, this| Ok(this.0.event.tid));
        fields.add_field_method_get("name", |_, this| Ok(this.name()));
        fields.add_field_method_get("kind", |_, this| {
            Ok(if this.0.event.call().is_some() {
                "call"
            } else {
                "signal"
            })
        });
        fields.add_field_method_get("args", |lua, this| this.args(lua));
        fields.add_field_method_get("ret", |_, this| {
            Ok(this.0.event.call().and_then(|call| call.ret))
        });
        fields.add_field_method_get("errno", |_, this| {
            Ok(match this.answer() {
                Some(Answer::Errno(errno)) => Some(errno),
                _ => None,
            })
        });
        fields.add_field_method_get("path", |lua, this| {
            let path = this.0.about.paths().next();
            path.map(|path| lua.create_string(path)).transpose()
        });
        fields.add_field_method_get("paths", |lua, this| {
            let paths = this.0.about.paths().map(|path| lua.create_string(path));
            lua.create_sequence_from(paths.collect::<mlua::Result<Vec<_>>>()?)
        });
        fields.add_field_method_get("file", |lua, this| {
            let file = this.0.about.file();
            file.map(|file| lua.create_string(file)).transpose()
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(this.entry().to_string())
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> {
                let known = [
                    "event", "pid", "tid", "name", "kind", "args", "ret", "errno", "path", "paths",
                    "file",
                ];
                Err(no_such("an event", &key, &known))
            },
        );
    }
}

/// An event's number: as such, or an `Event`, or anything else with an `.event`.
pub(super) fn number(value: &Value) -> mlua::Result<u64> {
    match value {
        Value::UserData(data) if data.is::<EventData>() => Ok(data.borrow::<EventData>()?.0.number),
        Value::Integer(_) | Value::Number(_) => convert::count(value, "an event"),
        other => Err(raise(format!(
            "an event is a number or an Event, not {}",
            shown(other)
        ))),
    }
}

const CONDITIONS: [&str; 8] = [
    "pid", "syscall", "path", "fd", "from", "to", "failed", "nth",
];

/// Reads `{ pid=, syscall=, path=, fd=, from=, to=, failed=, nth= }`.
pub(super) fn filter(table: Option<&Table>) -> mlua::Result<Filter> {
    let mut filter = Filter::default();
    let Some(table) = table else {
        return Ok(filter);
    };
    convert::only_options(table, &CONDITIONS, "the search for events")?;
    let get = |name: &str| table.get::<Option<Value>>(name);
    if let Some(calls) = get("syscall")? {
        let (selector, _) = pattern::calls(&calls)?;
        filter.calls = Some(Box::new(move |call| selector.matches(call)));
    }
    if let Some(path) = get("path")? {
        let pattern = pattern::path(&path)?;
        filter.path = Some(Box::new(move |about| pattern.means(about)));
    }
    let number32 = |value: &Value, what: &str| {
        i32::try_from(convert::integer(value, what)?)
            .map_err(|_| raise(format!("{what} is out of range")))
    };
    filter.pid = get("pid")?.map(|pid| number32(&pid, "pid")).transpose()?;
    filter.fd = get("fd")?.map(|fd| number32(&fd, "fd")).transpose()?;
    filter.from = get("from")?.map(|from| number(&from)).transpose()?;
    filter.to = get("to")?.map(|to| number(&to)).transpose()?;
    filter.nth = get("nth")?
        .map(|nth| convert::count(&nth, "nth"))
        .transpose()?;
    if filter.nth == Some(0) {
        return Err(raise("nth counts from 1"));
    }
    filter.failed = match get("failed")? {
        None | Some(Value::Boolean(false)) => None,
        Some(Value::Boolean(true)) => Some(Failed::Any),
        Some(errno) => Some(Failed::With(convert::errno(&errno)?)),
    };
    Ok(filter)
}
