//! `rr` and `Recording`.

use super::error::{no_such, raise};
use super::event::{EventData, filter, number};
use super::handle::RecordingHandle;
use super::outcome::{OutcomeData, exit_in_words, exit_table};
use super::stop::StopData;
use super::trace::TraceData;
use super::{launch, session};
use crate::history::{Found, RecordedProcess};
use crate::recording::resolve;
use mlua::{
    AnyUserData, Function, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value,
};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

impl RecordingHandle {
    fn event(&self, event: u64) -> mlua::Result<EventData> {
        self.recording.found(event).map(EventData).map_err(raise)
    }

    fn find(
        &self,
        table: Option<&Table>,
    ) -> mlua::Result<impl Iterator<Item = mlua::Result<Found>> + use<>> {
        let found = self.recording.find(filter(table)?).map_err(raise)?;
        Ok(found.map(|found| found.map_err(raise)))
    }

    fn iterate(&self, lua: &Lua, table: Option<&Table>) -> mlua::Result<Function> {
        let mut events = self.find(table)?;
        lua.create_function_mut(move |_, ()| {
            events.next().transpose().map(|found| found.map(EventData))
        })
    }

    fn replay_to(&self, event: &Value) -> mlua::Result<StopData> {
        let event = number(event)?;
        let pid = self.at(event, |replay| Ok(replay.pid()))?;
        StopData::new(self.clone(), event, pid)
    }

    fn segment(&self, first: &Value, last: &Value, pid: Option<i32>) -> mlua::Result<TraceData> {
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(raise(format!(
                "the segment {first} to {last} ends before it starts"
            )));
        }
        self.recording
            .segment(first, last, pid)
            .map(TraceData::new)
            .map_err(raise)
    }
}

const NAMES: [&str; 11] = [
    "events",
    "find",
    "event",
    "segment",
    "processes",
    "outcome",
    "replay_to",
    "dir",
    "argv",
    "exit",
    "complete",
];

impl UserData for RecordingHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Recording");
        fields.add_field_method_get("dir", |lua, this| {
            lua.create_string(this.recording.dir().as_os_str().as_bytes())
        });
        fields.add_field_method_get("argv", |lua, this| {
            let argv = this
                .recording
                .start()
                .argv
                .iter()
                .map(|arg| lua.create_string(arg));
            lua.create_sequence_from(argv.collect::<mlua::Result<Vec<_>>>()?)
        });
        fields.add_field_method_get("exit", |lua, this| {
            this.recording
                .exit()
                .map(|exit| exit_table(lua, exit))
                .transpose()
        });
        fields.add_field_method_get("complete", |_, this| Ok(this.recording.exit().is_some()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("events", |lua, this, table: Option<Table>| {
            this.iterate(lua, table.as_ref())
        });
        methods.add_method("find", |_, this, table: Option<Table>| {
            this.find(table.as_ref())?
                .next()
                .transpose()
                .map(|found| found.map(EventData))
        });
        methods.add_method("event", |_, this, event: Value| this.event(number(&event)?));
        methods.add_method(
            "segment",
            |_, this, (first, last, pid): (Value, Value, Option<i32>)| {
                this.segment(&first, &last, pid)
            },
        );
        methods.add_method("processes", |lua, this, ()| {
            let all = this.recording.processes().map_err(raise)?;
            let all = all.iter().map(|life| process(lua, life));
            lua.create_sequence_from(all.collect::<mlua::Result<Vec<_>>>()?)
        });
        methods.add_method("outcome", |_, this, ()| {
            let outcome = this.outcome()?;
            Ok(OutcomeData::new(outcome, None))
        });
        methods.add_method("replay_to", |_, this, event: Value| this.replay_to(&event));
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.recording.len()));
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a recording", &key, &NAMES)) },
        );
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            let recording = &this.recording;
            let argv: Vec<_> = recording
                .start()
                .argv
                .iter()
                .map(|arg| String::from_utf8_lossy(arg))
                .collect();
            let end = match recording.exit() {
                Some(exit) => exit_in_words(exit),
                None => String::from("incomplete"),
            };
            let (dir, len) = (recording.dir().display(), recording.len());
            Ok(format!(
                "Recording of \"{}\": {len} events, {end}, in {dir}",
                argv.join(" ")
            ))
        });
        methods.add_meta_method(MetaMethod::Close, |_, this, _: Value| {
            this.close();
            Ok(())
        });
    }
}

/// A process of a recording, as a table: `pid ppid argv exe`, the first and the last event, how it ended.
fn process(lua: &Lua, life: &RecordedProcess) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("pid", life.pid)?;
    table.set("ppid", life.ppid)?;
    let argv = life.argv.iter().map(|arg| lua.create_string(arg));
    let argv = argv.collect::<mlua::Result<Vec<_>>>()?;
    table.set("argv", lua.create_sequence_from(argv)?)?;
    table.set("exe", lua.create_string(&life.exe)?)?;
    if let Some((first, last)) = life.events {
        table.set("first", first)?;
        table.set("last", last)?;
    }
    let exit = life.exit.map(|exit| exit_table(lua, exit));
    table.set("exit", exit.transpose()?)?;
    Ok(table)
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let rr = lua.create_table()?;
    rr.set(
        "record",
        lua.create_function(|lua, spec: Table| launch::record(lua, &spec))?,
    )?;
    rr.set("open", lua.create_function(open)?)?;
    let replay_to =
        lua.create_function(|lua, event: Value| RecordingHandle::current(lua)?.replay_to(&event))?;
    rr.set("replay_to", replay_to)?;
    let events = lua.create_function(|lua, table: Option<Table>| {
        RecordingHandle::current(lua)?.iterate(lua, table.as_ref())
    })?;
    rr.set("events", events)?;
    let find = lua.create_function(|lua, table: Option<Table>| {
        let found = RecordingHandle::current(lua)?.find(table.as_ref())?.next();
        found.transpose().map(|found| found.map(EventData))
    })?;
    rr.set("find", find)?;
    let meta = lua.create_table()?;
    let index = lua.create_function(|_, (_, key): (Table, Value)| -> mlua::Result<Value> {
        Err(no_such(
            "rr",
            &key,
            &["record", "open", "replay_to", "events", "find"],
        ))
    })?;
    meta.set("__index", index)?;
    rr.set_metatable(Some(meta))?;
    let live = lua.create_function(|lua, spec: Table| launch::live(lua, &spec))?;
    lua.globals().set("live", live)?;
    lua.globals().set("rr", rr)
}

fn open(lua: &Lua, dir: mlua::LuaString) -> mlua::Result<AnyUserData> {
    let dir = PathBuf::from(std::ffi::OsStr::from_bytes(&dir.as_bytes()));
    let handle = RecordingHandle::open(&resolve(&dir))?;
    session::set_current(lua, handle.clone());
    lua.create_userdata(handle)
}
