//! The arguments of `on_signal` and `on_exit`.

use super::super::convert;
use super::super::error::{no_such, raise, shown};
use super::super::outcome::exit_in_words;
use super::super::values;
use crate::constants;
use crate::inject::{HookExit, HookSignal, SignalAction};
use crate::trace::Exit;
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// A signal on loan to a script.
#[derive(Clone)]
pub(super) struct SignalData(Rc<RefCell<Option<HookSignal>>>);

const NAMES: [&str; 9] = [
    "signal", "name", "info", "pid", "tid", "index", "ignore", "replace", "stop",
];

impl SignalData {
    pub fn lend(signal: &HookSignal) -> SignalData {
        SignalData(Rc::new(RefCell::new(Some(signal.clone()))))
    }

    /// The signal with the changes that the script has made.
    pub fn take_back(&self) -> Option<HookSignal> {
        self.0.borrow_mut().take()
    }

    fn with<R>(&self, look: impl FnOnce(&HookSignal) -> R) -> mlua::Result<R> {
        self.with_mut(|signal| Ok(look(signal)))
    }

    fn with_mut<R>(&self, act: impl FnOnce(&mut HookSignal) -> mlua::Result<R>) -> mlua::Result<R> {
        match &mut *self.0.borrow_mut() {
            Some(signal) => act(signal),
            None => Err(raise(
                "this signal has come: it can be used only while its hook runs",
            )),
        }
    }

    fn act(&self, action: SignalAction) -> mlua::Result<()> {
        self.with_mut(|signal| {
            if signal.is_fault() && action == SignalAction::Ignore {
                let name = constants::signal_name(signal.signal);
                return Err(raise(format!(
                    "this {name} cannot be ignored: the instruction that raised it would raise it again"
                )));
            }
            signal.action = action;
            signal.rules = vec![String::from("on_signal")];
            Ok(())
        })
    }
}

impl UserData for SignalData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Signal");
        fields.add_field_method_get("signal", |_, this| this.with(|signal| signal.signal));
        fields.add_field_method_get("name", |_, this| {
            this.with(|signal| constants::signal_name(signal.signal))
        });
        fields.add_field_method_get("pid", |_, this| this.with(|signal| signal.pid));
        fields.add_field_method_get("tid", |_, this| this.with(|signal| signal.tid));
        fields.add_field_method_get("index", |_, this| this.with(|signal| signal.index));
        fields.add_field_method_get("info", |lua, this| {
            let info = this.with(HookSignal::decoded)?;
            match values::to_lua(lua, &info)? {
                Value::Table(table) => {
                    values::read_only(lua, &table, "a signal's info cannot be set")
                        .map(Value::Table)
                }
                other => Ok(other),
            }
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("ignore", |_, this, ()| this.act(SignalAction::Ignore));
        methods.add_method("replace", |_, this, signal: Value| {
            let signal = convert::signal(&signal)?;
            this.act(SignalAction::Replace(signal))
        });
        methods.add_method("stop", |_, this, reason: Option<String>| {
            this.with_mut(|signal| {
                let reason = reason.unwrap_or_else(|| String::from("stopped by the script"));
                signal.stop = Some(reason);
                Ok(())
            })
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.with(|signal| {
                let name = constants::signal_name(signal.signal);
                format!("--- {name} {} ---", signal.decoded())
            })
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, _, (key, _): (Value, Value)| -> mlua::Result<()> {
                Err(raise(format!(
                    "a signal's {} cannot be set: it has s:ignore(), s:replace(name) and s:stop(reason)",
                    shown(&key)
                )))
            },
        );
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a signal", &key, &NAMES)) },
        );
    }
}

/// The end of a process, for `on_exit`.
pub(super) fn exit_table(lua: &Lua, exit: &HookExit) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("pid", exit.pid)?;
    match exit.exit {
        Exit::Code(code) => table.set("exit_code", code)?,
        Exit::Signal { signal, .. } => table.set("signal", constants::signal_name(signal))?,
    }
    let text = format!("process {} {}", exit.pid, exit_in_words(exit.exit));
    let names = &["pid", "exit_code", "signal"];
    values::record(lua, table, ("End", "the end of a process"), names, text)
}
