//! `call.process`: the process that makes a call, while a hook runs.

use super::super::convert::strings;
use super::super::error::{no_such, raise};
use super::super::{convert, values, view};
use super::loan::CallData;
use crate::inject::HookCall;
use crate::tracee::proc;
use mlua::{MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

/// The process that makes a call, as far as it can be used meanwhile.
pub(super) struct Caller(pub CallData);

const NAMES: [&str; 13] = [
    "read", "write", "regs", "maps", "fds", "threads", "tids", "pid", "tid", "real_pid", "ppid",
    "exe", "argv",
];

impl UserData for Caller {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Process");
        fields.add_field_method_get("pid", |_, this| this.0.with(HookCall::pid));
        fields.add_field_method_get("tid", |_, this| this.0.with(HookCall::tid));
        fields.add_field_method_get("real_pid", |_, this| {
            this.0.with(|call| call.memory().tid())
        });
        fields.add_field_method_get("tids", |_, this| this.0.with(HookCall::tids));
        fields.add_field_method_get("ppid", |_, this| this.0.with(HookCall::ppid));
        fields.add_field_method_get("exe", |lua, this| {
            let exe = this.0.with(HookCall::exe)?;
            exe.map(|exe| lua.create_string(exe)).transpose()
        });
        fields.add_field_method_get("argv", |lua, this| {
            let argv = this.0.with(HookCall::argv)?;
            argv.map(|argv| lua.create_sequence_from(strings(lua, &argv)?))
                .transpose()
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("read", |lua, this, (addr, len): (Value, Value)| {
            let (addr, len) = view::range(&addr, &len)?;
            this.0.with(|call| {
                let mut bytes = vec![0; len];
                call.memory().read_exact(addr, &mut bytes).map_err(raise)?;
                lua.create_string(bytes)
            })?
        });
        methods.add_method("write", |_, this, (addr, bytes): (Value, Value)| {
            let addr = convert::integer(&addr, "an address")? as u64;
            let bytes = convert::bytes(&bytes, "what is written")?;
            this.0
                .with_mut(|call| call.write(addr, &bytes).map_err(raise))
        });
        methods.add_method("regs", |lua, this, ()| {
            let regs = this.0.with(|call| call.regs().copied())?;
            let regs = regs.ok_or_else(|| raise("its registers are not known here"))?;
            lua.create_table_from(regs.named().map(|(name, value)| (name, value as i64)))
        });
        methods.add_method("maps", |lua, this, ()| {
            let tid = this.0.with(|call| call.memory().tid())?;
            view::maps_of(lua, &proc::maps(tid).map_err(raise)?)
        });
        methods.add_method("fds", |lua, this, ()| {
            let table = match this.0.with(|call| call.files())? {
                Some(table) => view::descriptors(lua, &table)?,
                None => {
                    let tid = this.0.with(|call| call.memory().tid())?;
                    view::kernels_descriptors(lua, &proc::descriptors(tid).map_err(raise)?)?
                }
            };
            values::read_only(lua, &table, "a process's descriptors cannot be set")
        });
        methods.add_method("threads", |_, this, ()| this.0.with(HookCall::tids));
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0
                .with(|call| format!("Process {}, in {}", call.pid(), call.name()))
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> {
                Err(no_such("a process in a hook", &key, &NAMES))
            },
        );
    }
}
