//! `call.stat` and `call.process`.

use super::super::convert;
use super::super::error::{no_such, raise};
use super::super::values;
use super::super::view;
use super::loan::CallData;
use super::parts::to_arg;
use crate::inject::{HookCall, STAT};
use crate::tracee::proc;
use mlua::{MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

/// A file's status, as a call tells it.
pub(super) struct Stat(pub CallData);

fn name(key: &Value) -> mlua::Result<String> {
    match key {
        Value::String(name) if STAT.contains(&name.to_string_lossy().as_ref()) => {
            Ok(name.to_string_lossy())
        }
        _ => Err(no_such("a file's status", key, &STAT)),
    }
}

impl UserData for Stat {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Stat");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, key: Value| {
            let name = name(&key)?;
            this.0.see(|call| call.stat(&name))
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, this, (key, value): (Value, Value)| {
                let name = name(&key)?;
                let value = to_arg(&value, 0)?;
                this.0
                    .touch(|call| call.set_stat(&name, &value).map_err(raise))
            },
        );
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0.see(|call| {
                let members = STAT.iter().filter_map(|name| {
                    let value = call.stat(name)?;
                    Some(format!("{name}={value}"))
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            })
        });
    }
}

/// The process that makes a call, as far as it can be used meanwhile.
pub(super) struct Caller(pub CallData);

const NAMES: [&str; 10] = [
    "read", "write", "regs", "maps", "fds", "threads", "tids", "pid", "tid", "real_pid",
];

impl UserData for Caller {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Process");
        fields.add_field_method_get("pid", |_, this| this.0.see(HookCall::pid));
        fields.add_field_method_get("tid", |_, this| this.0.see(HookCall::tid));
        fields.add_field_method_get("real_pid", |_, this| this.0.see(|call| call.memory().tid()));
        fields.add_field_method_get("tids", |_, this| this.0.see(HookCall::tids));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("read", |lua, this, (addr, len): (Value, Value)| {
            let (addr, len) = view::range(&addr, &len)?;
            this.0.see(|call| {
                let mut bytes = vec![0; len];
                call.memory().read_exact(addr, &mut bytes).map_err(raise)?;
                lua.create_string(bytes)
            })?
        });
        methods.add_method("write", |_, this, (addr, bytes): (Value, Value)| {
            let addr = convert::integer(&addr, "an address")? as u64;
            let bytes = convert::bytes(&bytes, "what is written")?;
            this.0.touch(|call| call.write(addr, &bytes).map_err(raise))
        });
        methods.add_method("regs", |lua, this, ()| {
            let regs = this.0.see(|call| call.regs().copied())?;
            let regs = regs.ok_or_else(|| raise("its registers are not known here"))?;
            lua.create_table_from(regs.named().map(|(name, value)| (name, value as i64)))
        });
        methods.add_method("maps", |lua, this, ()| {
            let tid = this.0.see(|call| call.memory().tid())?;
            view::maps_of(lua, &proc::maps(tid).map_err(raise)?)
        });
        methods.add_method("fds", |lua, this, ()| {
            let table = match this.0.see(|call| call.files())? {
                Some(table) => view::descriptors(lua, &table)?,
                None => {
                    let tid = this.0.see(|call| call.memory().tid())?;
                    view::kernels_descriptors(lua, &proc::descriptors(tid).map_err(raise)?)?
                }
            };
            values::read_only(lua, &table, "a process's descriptors cannot be set")
        });
        methods.add_method("threads", |_, this, ()| this.0.see(HookCall::tids));
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0
                .see(|call| format!("Process {}, in {}", call.pid(), call.name()))
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> {
                Err(no_such("a process in a hook", &key, &NAMES))
            },
        );
    }
}
