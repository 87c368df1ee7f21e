//! `Stop`, where a replay stands, and `spin_off`.

use super::convert;
use super::error::{no_such, raise};
use super::handle::RecordingHandle;
use super::process::ProcessHandle;
use super::session;
use super::view::{View, range};
use crate::history::Kin;
use crate::process::Process;
use crate::replay::Replay;
use mlua::{Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

/// An event that a replay was taken to.
pub(super) struct StopData {
    handle: RecordingHandle,
    event: u64,
    pid: i32,
    tid: i32,
    call: String,
}

impl StopData {
    /// The event of a task of this process.
    pub fn new(handle: RecordingHandle, event: u64, pid: Option<i32>) -> mlua::Result<StopData> {
        let recorded = handle.recording.event(event).map_err(raise)?;
        Ok(StopData {
            pid: pid.unwrap_or(recorded.tid),
            tid: recorded.tid,
            call: recorded.to_entry(event).to_string(),
            event,
            handle,
        })
    }

    fn spin_off(&self, lua: &Lua, asked: &Value) -> mlua::Result<ProcessHandle> {
        spin_off(lua, &self.handle, Some(self.event), asked)
    }

    /// Looks at a process there, or at one of its threads.
    fn look<R>(
        &self,
        pid: Option<i32>,
        then: impl FnOnce(&mut Process) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        // A fork of the replay's shows all that it is, and the replay stays as it was.
        self.handle.at(self.event, |replay| {
            then(&mut replay.spin_off(pid).map_err(raise)?)
        })
    }
}

/// Spins a process off at an event, or where the replay stands.
fn spin_off(
    lua: &Lua,
    handle: &RecordingHandle,
    event: Option<u64>,
    asked: &Value,
) -> mlua::Result<ProcessHandle> {
    let (pid, alone) = asked_for(asked)?;
    let kin = match alone {
        true => Kin::Alone,
        false => Kin::Sharing,
    };
    let make = |replay: &mut dyn Replay| {
        let mut process = replay.spin_off(pid).map_err(raise)?;
        replay.add_relatives(&mut process, &kin).map_err(raise)?;
        Ok(process)
    };
    let process = match event {
        Some(event) => handle.at(event, make)?,
        None => handle.here(make)?,
    };
    let process = ProcessHandle::new(process, Some(handle.clone()).filter(|_| !alone));
    session::set_current(lua, process.clone());
    Ok(process)
}

/// The process of `spin_off(pid?)` or `spin_off{ pid=, alone= }`, and whether it is to be alone.
fn asked_for(asked: &Value) -> mlua::Result<(Option<i32>, bool)> {
    let pid = |value: &Value| match value {
        Value::Nil => Ok(None),
        value => {
            let pid = convert::integer(value, "a pid")?;
            let pid = i32::try_from(pid).map_err(|_| raise(format!("{pid} is no pid")))?;
            Ok::<_, mlua::Error>(Some(pid))
        }
    };
    match asked {
        Value::Table(table) => {
            convert::only_options(table, &["pid", "alone"], "spin_off")?;
            Ok((pid(&table.get("pid")?)?, convert::flag(table, "alone")?))
        }
        value => Ok((pid(value)?, false)),
    }
}

const NAMES: [&str; 10] = [
    "event",
    "pid",
    "tid",
    "call",
    "spin_off",
    "read",
    "regs",
    "maps",
    "fds",
    "backtrace",
];

impl UserData for StopData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Stop");
        fields.add_field_method_get("event", |_, this| Ok(this.event));
        fields.add_field_method_get("pid", |_, this| Ok(this.pid));
        fields.add_field_method_get("tid", |_, this| Ok(this.tid));
        fields.add_field_method_get("call", |_, this| Ok(this.call.clone()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("spin_off", |lua, this, asked: Value| {
            this.spin_off(lua, &asked)
        });
        methods.add_method(
            "read",
            |lua, this, (addr, len, pid): (Value, Value, Option<i32>)| {
                let part = range(&addr, &len)?;
                this.look(pid, |process| process.bytes(lua, part))
            },
        );
        methods.add_method("regs", |lua, this, pid: Option<i32>| {
            this.look(pid, |process| process.registers(lua))
        });
        methods.add_method("maps", |lua, this, pid: Option<i32>| {
            this.look(pid, |process| process.mappings(lua))
        });
        methods.add_method("fds", |lua, this, pid: Option<i32>| {
            this.look(pid, |process| process.files(lua))
        });
        methods.add_method("backtrace", |lua, this, pid: Option<i32>| {
            this.look(pid, |process| process.frames(lua))
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(format!(
                "Stop at event {} of {}: {}",
                this.event, this.pid, this.call
            ))
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a stop", &key, &NAMES)) },
        );
        methods.add_meta_method(MetaMethod::Close, |_, _, _: Value| Ok(()));
    }
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let spin = lua.create_function(|lua, asked: Value| {
        spin_off(lua, &RecordingHandle::current(lua)?, None, &asked)
    })?;
    lua.globals().set("spin_off", spin)
}
