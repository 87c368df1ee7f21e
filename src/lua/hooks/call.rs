//! `call`, as hooks see it.

use super::super::convert::{self, shown};
use super::super::error::raise;
use super::super::event::no_such;
use super::super::values;
use crate::inject::{HookCall, Phase};
use crate::trace::{Answer, Call};
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// A call on loan to a script; taken back when the hook returns.
#[derive(Clone, Default)]
pub(super) struct CallData(Rc<RefCell<Loan>>);

#[derive(Default)]
struct Loan {
    call: Option<HookCall>,
    /// Whether the hook interfered.
    touched: bool,
}

impl CallData {
    /// Gives the call to a hook.
    pub fn lend(&self, call: &HookCall) {
        *self.0.borrow_mut() = Loan {
            call: Some(call.clone()),
            touched: false,
        };
    }

    /// Takes the call back with what was done to it; whether anything was.
    pub fn take_back(&self, call: &mut HookCall) -> bool {
        let mut loan = self.0.borrow_mut();
        if let Some(lent) = loan.call.take() {
            *call = lent;
        }
        loan.touched
    }

    /// No hook will see it again.
    pub fn end(&self) {
        self.0.borrow_mut().call = None;
    }

    fn see<R>(&self, look: impl FnOnce(&HookCall) -> R) -> mlua::Result<R> {
        match &self.0.borrow().call {
            Some(call) => Ok(look(call)),
            None => Err(raise(
                "this call is over: a call can be used only while its hook runs",
            )),
        }
    }

    fn touch<R>(&self, act: impl FnOnce(&mut HookCall) -> mlua::Result<R>) -> mlua::Result<R> {
        let mut loan = self.0.borrow_mut();
        loan.touched = true;
        match &mut loan.call {
            Some(call) => act(call),
            None => Err(raise(
                "this call is over: a call can be used only while its hook runs",
            )),
        }
    }

    fn args(&self, lua: &Lua) -> mlua::Result<Table> {
        let (list, names) = self.see(|call| (call.values(), call.arg_names()))?;
        let table = values::arguments(lua, &list, &names)?;
        values::read_only(
            lua,
            &table,
            "a call's arguments cannot be set yet: set .ret, or call:data(bytes)",
        )
    }

    /// In strace's syntax: the whole call, or one argument.
    fn text(&self, arg: Option<&Value>) -> mlua::Result<String> {
        match arg {
            None => self.see(text),
            Some(arg) => {
                let (list, index) = self.see(|call| {
                    let index = match arg {
                        Value::Integer(i) => {
                            usize::try_from(*i).ok().and_then(|i| i.checked_sub(1))
                        }
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
        }
    }

    fn data(&self, lua: &Lua, bytes: Option<&Value>) -> mlua::Result<Value> {
        let Some(bytes) = bytes else {
            let data = self.see(HookCall::data)?;
            return data.map_or(Ok(Value::Nil), |data| {
                lua.create_string(data).map(Value::String)
            });
        };
        let bytes = convert::bytes(bytes, "a call's data")?;
        self.touch(|call| call.set_data(&bytes).map_err(raise))?;
        Ok(Value::Nil)
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

const NAMES: [&str; 30] = [
    "name", "nr", "index", "count", "event", "pid", "tid", "phase", "args", "raw", "ret", "errno",
    "fd", "path", "paths", "size", "fail", "skip", "short", "signal", "live", "stop", "text",
    "data", "process", "offset", "stat", "time", "delay", "run",
];
/// Of the contract, and not there yet.
const LATER: [&str; 5] = ["process", "offset", "stat", "time", "delay"];

impl UserData for CallData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Call");
        fields.add_field_method_get("name", |_, this| this.see(HookCall::name));
        fields.add_field_method_get("nr", |_, this| this.see(HookCall::nr));
        fields.add_field_method_get("index", |_, this| this.see(HookCall::index));
        fields.add_field_method_get("count", |_, this| this.see(HookCall::count));
        fields.add_field_method_get("event", |_, this| this.see(HookCall::event));
        fields.add_field_method_get("pid", |_, this| this.see(HookCall::pid));
        fields.add_field_method_get("tid", |_, this| this.see(HookCall::tid));
        fields.add_field_method_get("phase", |_, this| {
            this.see(|call| match call.phase() {
                Phase::Enter => "enter",
                Phase::Exit => "exit",
            })
        });
        fields.add_field_method_get("args", |lua, this| this.args(lua));
        fields.add_field_method_get("raw", |lua, this| {
            let raw = this.see(HookCall::raw)?;
            let table = lua.create_sequence_from(raw.map(|word| word as i64))?;
            values::read_only(lua, &table, "a call's registers cannot be set yet")
        });
        fields.add_field_method_get("ret", |_, this| this.see(HookCall::ret));
        fields.add_field_method_set("ret", |_, this, value: Value| {
            let ret = convert::integer(&value, "ret")?;
            this.touch(|call| {
                call.set_ret(ret);
                Ok(())
            })
        });
        fields.add_field_method_get("errno", |_, this| {
            let ret = this.see(HookCall::ret)?;
            Ok(ret.filter(|ret| (-4095..0).contains(ret)).map(|ret| -ret))
        });
        fields.add_field_method_set("errno", |_, this, value: Value| {
            let errno = convert::errno(&value)?;
            this.touch(|call| {
                call.fail(errno);
                Ok(())
            })
        });
        fields.add_field_method_get("fd", |_, this| this.see(HookCall::fd));
        fields.add_field_method_get("path", |lua, this| {
            let path = this.see(HookCall::path)?;
            path.map(|path| lua.create_string(path)).transpose()
        });
        fields.add_field_method_get("paths", |lua, this| {
            let paths = this.see(HookCall::paths)?;
            let paths = paths.iter().map(|path| lua.create_string(path));
            lua.create_sequence_from(paths.collect::<mlua::Result<Vec<_>>>()?)
        });
        fields.add_field_method_get("size", |_, this| {
            Ok(this.see(HookCall::size)?.map(|size| size as i64))
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("fail", |_, this, errno: Value| {
            let errno = convert::errno(&errno)?;
            this.touch(|call| {
                call.fail(errno);
                Ok(())
            })
        });
        methods.add_method("skip", |_, this, ret: Value| {
            let ret = match ret {
                Value::Nil => 0,
                ret => convert::integer(&ret, "what skip returns")?,
            };
            this.touch(|call| {
                call.set_ret(ret);
                Ok(())
            })
        });
        methods.add_method("short", |_, this, len: Value| {
            let len = convert::count(&len, "a number of bytes")?;
            this.touch(|call| {
                call.short(len);
                Ok(())
            })
        });
        methods.add_method("signal", |_, this, signal: Value| {
            let signal = convert::signal(&signal)?;
            this.touch(|call| {
                call.send_signal(signal);
                Ok(())
            })
        });
        methods.add_method("live", |_, this, ()| {
            this.touch(|call| match call.phase() {
                Phase::Enter => {
                    call.live();
                    Ok(())
                }
                Phase::Exit => Err(raise(
                    "call:live() is for enter hooks: at exit the call has been answered",
                )),
            })
        });
        methods.add_method("stop", |_, this, reason: Option<String>| {
            this.touch(|call| {
                call.stop(reason.unwrap_or_else(|| String::from("stopped by the script")));
                Ok(())
            })
        });
        methods.add_method("text", |_, this, arg: Option<Value>| {
            this.text(arg.as_ref())
        });
        methods.add_method("data", |lua, this, bytes: Option<Value>| {
            this.data(lua, bytes.as_ref())
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| match this.see(text) {
            Ok(text) => Ok(text),
            Err(_) => Ok(String::from("a call that is over")),
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(unknown(&key)) },
        );
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, _, (key, _): (Value, Value)| -> mlua::Result<()> {
                match &key {
                    Value::String(name) if NAMES.contains(&name.to_string_lossy().as_ref()) => {
                        Err(raise(format!(
                            "a call's {} cannot be set: only .ret and .errno can",
                            name.to_string_lossy()
                        )))
                    }
                    _ => Err(unknown(&key)),
                }
            },
        );
    }
}

fn unknown(key: &Value) -> mlua::Error {
    match key {
        Value::String(name) if LATER.contains(&name.to_string_lossy().as_ref()) => raise(format!(
            "a call's {:?} is not there yet",
            name.to_string_lossy()
        )),
        _ => no_such("a call", key, &NAMES),
    }
}
