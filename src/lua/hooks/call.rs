//! `call`: the object that hooks get.

use super::super::convert;
use super::super::error::{no_such, raise, shown};
use super::actions;
use super::args::{self, Raw};
use super::caller::Caller;
use super::loan::CallData;
use super::stat::Stat;
use super::structure::to_arg;
use crate::inject::{ACTIONS, Action, HookCall, Phase};
use crate::trace::{Answer, Call};
use mlua::{
    IntoLua, Lua, MetaMethod, MultiValue, UserData, UserDataFields, UserDataMethods, Value,
};

impl CallData {
    /// In strace's syntax: the whole call, or one argument.
    fn text(&self, arg: Option<&Value>) -> mlua::Result<String> {
        let Some(arg) = arg else {
            return self.with(text);
        };
        let (list, index) = self.with(|call| {
            let index = match arg {
                Value::Integer(i) => usize::try_from(*i).ok().and_then(|i| i.checked_sub(1)),
                Value::String(name) => call.arg_index(&name.to_string_lossy()),
                _ => None,
            };
            (call.values(), index)
        })?;
        let value = index.and_then(|index| list.get(index));
        value
            .map(ToString::to_string)
            .ok_or_else(|| raise(format!("the call has no argument {}", shown(arg))))
    }

    /// `data()`, `data(bytes)`, `data(name, bytes)`.
    fn data(&self, lua: &Lua, mut args: MultiValue) -> mlua::Result<Value> {
        let (first, second) = (args.pop_front(), args.pop_front());
        match (first, second) {
            (None, None) => {
                let data = self.with(HookCall::data)?.map_err(raise)?;
                data.map_or(Ok(Value::Nil), |data| {
                    lua.create_string(data).map(Value::String)
                })
            }
            (Some(Value::Table(list)), None) => {
                let mut messages = Vec::new();
                for message in list.sequence_values::<Value>() {
                    messages.push(convert::bytes(&message?, "a message's data")?);
                }
                if list.len()? as usize != messages.len()
                    || list.pairs::<Value, Value>().count() != messages.len()
                {
                    return Err(raise("messages are a list of strings"));
                }
                self.with_mut(|call| call.set_messages(&messages).map_err(raise))?;
                Ok(Value::Nil)
            }
            (Some(bytes), None) => {
                let bytes = convert::bytes(&bytes, "a call's data")?;
                self.with_mut(|call| call.set_data(&bytes).map_err(raise))?;
                Ok(Value::Nil)
            }
            (name, Some(bytes)) => {
                let Some(Value::String(name)) = &name else {
                    let name = shown(&name.unwrap_or(Value::Nil));
                    return Err(raise(format!("an argument's name is a string, not {name}")));
                };
                let name = name.to_string_lossy();
                let bytes = convert::bytes(&bytes, "an argument's data")?;
                self.with_mut(|call| {
                    let Some(arg) = call.formal(&name) else {
                        let call = call.name();
                        return Err(raise(format!("{call} has no argument {name:?}")));
                    };
                    let value = crate::trace::Value::str(bytes);
                    call.change(arg, &[], &value).map_err(raise)
                })?;
                Ok(Value::Nil)
            }
        }
    }
}

fn text(call: &HookCall) -> String {
    let values = call.values();
    match call.ret() {
        Some(ret) => Call::new(call.name(), values, Answer::from_raw(ret)).to_string(),
        None => {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("{}({})", call.name(), values.join(", "))
        }
    }
}

const NAMES: [&str; 24] = [
    "name", "nr", "index", "count", "event", "pid", "tid", "phase", "args", "raw", "ret", "errno",
    "fd", "path", "paths", "file", "size", "stop", "text", "data", "process", "offset", "stat",
    "time",
];

/// The names of all fields and methods.
fn names() -> Vec<&'static str> {
    let methods = ACTIONS.iter().map(|kind| kind.method);
    NAMES.into_iter().chain(methods).collect()
}

impl UserData for CallData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Call");
        fields.add_field_method_get("name", |_, this| this.with(HookCall::name));
        fields.add_field_method_get("nr", |_, this| this.with(HookCall::nr));
        fields.add_field_method_get("index", |_, this| this.with(HookCall::index));
        fields.add_field_method_get("count", |_, this| this.with(HookCall::count));
        fields.add_field_method_get("event", |_, this| this.with(HookCall::event));
        fields.add_field_method_get("pid", |_, this| this.with(HookCall::pid));
        fields.add_field_method_get("tid", |_, this| this.with(HookCall::tid));
        fields.add_field_method_get("phase", |_, this| {
            this.with(|call| match call.phase() {
                Phase::Enter => "enter",
                Phase::Exit => "exit",
            })
        });
        fields.add_field_method_get("args", args::userdata);
        fields.add_field_method_get("raw", |_, this| Ok(Raw(this.clone())));
        fields.add_field_method_get("process", |_, this| Ok(Caller(this.clone())));
        fields.add_field_method_get("ret", |_, this| this.with(HookCall::ret));
        fields.add_field_method_set("ret", |_, this, value: Value| {
            let ret = convert::ret(&value, "ret")?;
            this.act(&Action::Return(ret), None)
        });
        fields.add_field_method_get("errno", |_, this| {
            let ret = this.with(HookCall::ret)?;
            Ok(ret
                .filter(|&ret| crate::constants::is_error(ret))
                .map(|ret| -ret))
        });
        fields.add_field_method_set("errno", |_, this, value: Value| {
            let errno = convert::errno(&value)?;
            this.act(&Action::Fail(errno), None)
        });
        fields.add_field_method_get("fd", |_, this| this.with(HookCall::fd));
        fields.add_field_method_get("path", |lua, this| {
            let path = this.with(HookCall::path)?;
            path.map(|path| lua.create_string(path)).transpose()
        });
        fields.add_field_method_get("file", |lua, this| {
            let file = this.with(HookCall::file)?;
            file.map(|file| lua.create_string(file)).transpose()
        });
        fields.add_field_method_get("paths", |lua, this| {
            let paths = this.with(HookCall::paths)?;
            let paths = paths.iter().map(|path| lua.create_string(path));
            lua.create_sequence_from(paths.collect::<mlua::Result<Vec<_>>>()?)
        });
        add_views(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        actions::add_methods(methods);
        methods.add_method("stop", |_, this, reason: Option<String>| {
            this.with_mut(|call| {
                call.stop(reason.unwrap_or_else(|| String::from("stopped by the script")));
                Ok(())
            })
        });
        methods.add_method("text", |_, this, arg: Option<Value>| {
            this.text(arg.as_ref())
        });
        methods.add_method("data", |lua, this, args: MultiValue| this.data(lua, args));
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| match this.with(text) {
            Ok(text) => Ok(text),
            Err(_) => Ok(String::from("a call that is over")),
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a call", &key, &names())) },
        );
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, _, (key, _): (Value, Value)| -> mlua::Result<()> {
                match &key {
                    Value::String(name) if names().contains(&name.to_string_lossy().as_ref()) => {
                        Err(raise(format!(
                            "a call's {} cannot be set: .ret, .errno, .size, .offset, .time, .fd and what is in \
                             .args, .raw and .stat can",
                            name.to_string_lossy()
                        )))
                    }
                    _ => Err(no_such("a call", &key, &names())),
                }
            },
        );
    }
}

/// The fields that follow from the kinds of the arguments, for every call.
fn add_views<F: UserDataFields<CallData>>(fields: &mut F) {
    fields.add_field_method_set("fd", |_, this, value: Value| {
        let value = to_arg(&value, 0)?;
        this.with_mut(|call| match call.syscall().fd_arg() {
            Some(arg) => call.change(arg, &[], &value).map_err(raise),
            None => Err(raise(format!("{} has no descriptor", call.name()))),
        })
    });
    fields.add_field_method_get("size", |_, this| {
        Ok(this.with(HookCall::size)?.map(|size| size as i64))
    });
    fields.add_field_method_set("size", |_, this, value: Value| {
        let value = to_arg(&value, 0)?;
        this.with_mut(|call| match call.syscall().size_arg() {
            Some(arg) => call.change(arg, &[], &value).map_err(raise),
            None => Err(raise(format!("{} has no size", call.name()))),
        })
    });
    fields.add_field_method_get("offset", |_, this| this.with(HookCall::offset));
    fields.add_field_method_set("offset", |_, this, value: Value| {
        let offset = convert::integer(&value, "offset")?;
        this.with_mut(|call| call.set_offset(offset).map_err(raise))
    });
    fields.add_field_method_get("time", |_, this| this.with(HookCall::time));
    fields.add_field_method_set("time", |_, this, value: Value| {
        let time = convert::integer(&value, "time")?;
        this.with_mut(|call| call.set_time(time).map_err(raise))
    });
    fields.add_field_method_get("stat", |lua, this| match this.with(HookCall::has_stat)? {
        true => Stat(this.clone()).into_lua(lua),
        false => Ok(Value::Nil),
    });
}
