//! `Process` and `inject`.

use super::convert;
use super::error::{no_such, raise, shown};
use super::handle::RecordingHandle;
use super::hooks::LuaHooks;
use super::interrupt;
use super::outcome::OutcomeData;
use super::session;
use super::trace::{self, TraceData};
use super::view::{View, range};
use crate::history::Kin;
use crate::inject::{self, Driven, Script};
use crate::process::{FamilySource, Process, StopPoint};
use mlua::{Lua, MetaMethod, MultiValue, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

enum State {
    KillOnDrop(Box<Process>),
    /// Being driven.
    Busy,
    /// Over, and why.
    Ended(String),
}

/// A process that was spun off.
#[derive(Clone)]
pub(super) struct ProcessHandle {
    state: Rc<RefCell<State>>,
    pid: i32,
    real_pid: i32,
    event: u64,
    /// The recording of which it is a copy that nothing has driven; `None` where its family is left out.
    handle: Option<RecordingHandle>,
}

impl ProcessHandle {
    pub fn new(process: Process, handle: Option<RecordingHandle>) -> ProcessHandle {
        ProcessHandle {
            handle,
            pid: process.group.pid,
            real_pid: process.real_pid(),
            event: process.group.event.0,
            state: Rc::new(RefCell::new(State::KillOnDrop(Box::new(process)))),
        }
    }

    /// Calls a function with the stopped process.
    fn with<R>(&self, then: impl FnOnce(&mut Process) -> mlua::Result<R>) -> mlua::Result<R> {
        match &mut *self.state.borrow_mut() {
            State::KillOnDrop(process) => then(process),
            gone => Err(self.gone(gone)),
        }
    }

    fn gone(&self, state: &State) -> mlua::Error {
        match state {
            State::Ended(why) => raise(format!("process {} has ended: {why}", self.pid)),
            _ => raise(format!(
                "process {} is being injected into: a hook cannot use it",
                self.pid
            )),
        }
    }

    fn take(&self) -> mlua::Result<Box<Process>> {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Busy) {
            State::KillOnDrop(process) => Ok(process),
            other => {
                let error = self.gone(&other);
                *state = other;
                Err(error)
            }
        }
    }

    fn end(&self, why: impl Into<String>) {
        *self.state.borrow_mut() = State::Ended(why.into());
    }

    /// Makes the outcome of an injection, and keeps the process where it goes on.
    fn conclude(
        &self,
        lua: &Lua,
        result: inject::Result<Driven>,
        mut hooks: LuaHooks,
    ) -> mlua::Result<OutcomeData> {
        match result {
            Ok(Driven {
                outcome,
                process,
                went_live,
            }) => {
                if went_live {
                    hooks.warn_of_machine();
                }
                *self.state.borrow_mut() = match process {
                    Some(process) => State::KillOnDrop(Box::new(process)),
                    None => {
                        State::Ended(format!("its injection is over ({})", outcome.status.name()))
                    }
                };
                let watch = session::watch(lua);
                for rule in &outcome.unfired {
                    watch.warn(&format!("warning: the rule {rule} never fired"));
                }
                Ok(OutcomeData::new(outcome, hooks.take_error()))
            }
            Err(error) => {
                self.end("its injection failed");
                Err(hooks.take_raised().unwrap_or_else(|| raise(error)))
            }
        }
    }

    fn inject(&self, lua: &Lua, args: MultiValue) -> mlua::Result<OutcomeData> {
        let request = Request::read(lua, args)?;
        let mut hooks = LuaHooks::read(lua, &request.hooks)?;
        let mut options = hooks.options();
        options.start = request.start.unwrap_or(0);
        options.end = request.end;
        let mut process = self.take()?;
        // The whole family goes live, or with a trace only those that it drives.
        process.source = self.source().filter(|_| request.trace.is_none());
        if let Err(error) = self.add_relatives(&mut process, &hooks, request.trace.is_some()) {
            *self.state.borrow_mut() = State::KillOnDrop(process);
            return Err(error);
        }
        let script = match request.trace {
            Some(trace) => Script::of_trace(trace),
            None => match Script::of_recording(&process) {
                Ok(script) => script,
                Err(error) => {
                    *self.state.borrow_mut() = State::KillOnDrop(process);
                    return Err(raise(error));
                }
            },
        };
        hooks.begin();
        let result = inject::inject(*process, script, &mut hooks, &options);
        interrupt::check()?;
        self.conclude(lua, result, hooks)
    }

    /// Adds the relatives that the hooks name.
    fn add_relatives(
        &self,
        process: &mut Process,
        hooks: &LuaHooks,
        has_trace: bool,
    ) -> mlua::Result<()> {
        let mapped = hooks.mapped_tasks();
        let kin = match has_trace {
            true if mapped.is_empty() => Kin::Alone,
            true => Kin::Those(Box::new(move |pid, _| mapped.contains(&pid))),
            false => hooks.kin(),
        };
        let Some(handle) = &self.handle else {
            return match kin {
                Kin::Sharing | Kin::Alone => Ok(()),
                Kin::Those(_) | Kin::All => Err(raise(format!(
                    "process {} was spun off alone: pid, exe and child mean nothing in its hooks",
                    self.pid
                ))),
            };
        };
        // Where it was driven before, its relatives are those that were driven with it.
        let is_fresh = process.group.event.0 == self.event;
        if !is_fresh || matches!(kin, Kin::Sharing | Kin::Alone) {
            return Ok(());
        }
        handle.at(self.event, |replay| {
            replay.add_relatives(process, &kin).map_err(raise)
        })
    }

    /// Where its family comes from.
    fn source(&self) -> Option<FamilySource> {
        self.handle.as_ref().map(RecordingHandle::family_source)
    }

    /// The other recorded processes that are there at its event, as tables: `pid ppid argv exe`.
    fn family(&self, lua: &Lua) -> mlua::Result<Vec<mlua::Table>> {
        let Some(handle) = &self.handle else {
            return Ok(Vec::new());
        };
        let tables = handle.recording.process_tree_at(self.event, |tree| {
            let others = tree.pids().filter(|&pid| pid != self.pid);
            let others = others.map(|pid| {
                let program = tree
                    .tasks(pid)
                    .next()
                    .and_then(|tid| tree.program(tid))
                    .unwrap_or_default();
                let table = lua.create_table()?;
                table.set("pid", pid)?;
                table.set(
                    "ppid",
                    tree.tasks(pid).next().and_then(|tid| tree.ppid(tid)),
                )?;
                table.set("exe", lua.create_string(&program.path)?)?;
                let argv = convert::strings(lua, &program.argv)?;
                table.set("argv", lua.create_sequence_from(argv)?)?;
                Ok(table)
            });
            others.collect::<mlua::Result<Vec<_>>>()
        });
        tables.map_err(raise)?
    }

    fn live(&self, lua: &Lua, table: &Value) -> mlua::Result<OutcomeData> {
        let mut hooks = LuaHooks::read_live(lua, table)?;
        let mut process = self.take()?;
        process.source = self.source();
        hooks.begin();
        let options = hooks.options();
        let result = inject::live(*process, &mut hooks, &options);
        interrupt::check()?;
        self.conclude(lua, result, hooks)
    }
}

/// The arguments of `inject`.
struct Request {
    trace: Option<Arc<crate::trace::Trace>>,
    start: Option<usize>,
    end: Option<usize>,
    hooks: Value,
}

impl Request {
    /// `(trace, start, end, hooks)`, `(trace, hooks)`, `(hooks)`; trailing ones may be left out.
    fn read(lua: &Lua, args: MultiValue) -> mlua::Result<Request> {
        let mut args: VecDeque<Value> = args.into_iter().collect();
        while matches!(args.back(), Some(Value::Nil)) {
            args.pop_back();
        }
        let hooks = match args.back() {
            Some(Value::Table(_) | Value::Function(_)) => args.pop_back().unwrap_or(Value::Nil),
            _ => Value::Nil,
        };
        if args.len() > 3 {
            return Err(raise(
                "inject takes a trace, its first and last call, and hooks: hooks are a table",
            ));
        }
        let trace = match args.pop_front() {
            None | Some(Value::Nil) => None,
            Some(Value::String(path)) => {
                Some(trace::load(lua, Path::new(&*path.to_str()?))?.shared())
            }
            Some(Value::UserData(data)) if data.is::<TraceData>() => {
                Some(data.borrow::<TraceData>()?.shared())
            }
            Some(Value::Integer(_)) => {
                return Err(raise(
                    "inject's first argument is the trace, or nil for the process's own recording",
                ));
            }
            Some(other) => {
                let other = shown(&other);
                return Err(raise(format!(
                    "a trace is a path, a Trace or nil, not {other}"
                )));
            }
        };
        let mut index = |what: &str| match args.pop_front() {
            None | Some(Value::Nil) => Ok(None),
            Some(value) => trace::index(&value, what).map(Some),
        };
        let (start, end) = (index("the first call")?, index("the last call")?);
        Ok(Request {
            trace,
            start,
            end,
            hooks,
        })
    }
}

const NAMES: [&str; 16] = [
    "family",
    "inject",
    "live",
    "kill",
    "fork",
    "read",
    "write",
    "regs",
    "maps",
    "fds",
    "threads",
    "backtrace",
    "pid",
    "real_pid",
    "event",
    "alive",
];

impl UserData for ProcessHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Process");
        fields.add_field_method_get("pid", |_, this| Ok(this.pid));
        fields.add_field_method_get("real_pid", |_, this| Ok(this.real_pid));
        fields.add_field_method_get("event", |_, this| Ok(this.event));
        fields.add_field_method_get("family", |lua, this| {
            lua.create_sequence_from(this.family(lua)?)
        });
        fields.add_field_method_get("alive", |_, this| {
            Ok(!matches!(&*this.state.borrow(), State::Ended(_)))
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("inject", |lua, this, args: MultiValue| {
            this.inject(lua, args)
        });
        methods.add_method("live", |lua, this, hooks: Value| this.live(lua, &hooks));
        methods.add_method("kill", |_, this, ()| {
            drop(this.take()?);
            this.end("it was killed");
            Ok(())
        });
        methods.add_method("fork", |_, this, ()| {
            let handle = this.handle.clone();
            this.with(|process| {
                let copy = process.fork().map_err(raise)?;
                Ok(ProcessHandle::new(copy, handle))
            })
        });
        methods.add_method("read", |lua, this, (addr, len): (Value, Value)| {
            let part = range(&addr, &len)?;
            this.with(|process| process.bytes(lua, part))
        });
        methods.add_method("write", |_, this, (addr, bytes): (Value, Value)| {
            let addr = convert::integer(&addr, "an address")? as u64;
            let bytes = convert::bytes(&bytes, "what is written")?;
            this.with(|process| {
                process.group.pages = None;
                process.memory().write(addr, &bytes).map_err(raise)
            })
        });
        methods.add_method("regs", |lua, this, ()| {
            this.with(|process| process.registers(lua))
        });
        methods.add_method("maps", |lua, this, ()| {
            this.with(|process| process.mappings(lua))
        });
        methods.add_method("backtrace", |lua, this, ()| {
            this.with(|process| process.frames(lua))
        });
        methods.add_method("fds", |lua, this, ()| {
            this.with(|process| process.files(lua))
        });
        methods.add_method("threads", |lua, this, ()| {
            this.with(|process| lua.create_sequence_from(process.tids()))
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            let ProcessHandle {
                pid,
                real_pid,
                event,
                ..
            } = this;
            Ok(match &*this.state.borrow() {
                State::KillOnDrop(process) => {
                    let place = match process.driven.place {
                        StopPoint::Entry => "in a call",
                        StopPoint::Between => "between calls",
                    };
                    format!("Process {pid} (really {real_pid}) of event {event}, stopped {place}")
                }
                State::Busy => format!(
                    "Process {pid} (really {real_pid}) of event {event}, being injected into"
                ),
                State::Ended(why) => format!("Process {pid} of event {event}, ended: {why}"),
            })
        });
        methods.add_meta_method(MetaMethod::Close, |_, this, _: Value| {
            if this.take().is_ok() {
                this.end("it was closed");
            }
            Ok(())
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("a process", &key, &NAMES)) },
        );
    }
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    let inject = lua.create_function(|lua, args: MultiValue| {
        let process = session::current::<ProcessHandle>(lua);
        let none = || raise("no process has been spun off: call spin_off first");
        process.ok_or_else(none)?.inject(lua, args)
    })?;
    globals.set("inject", inject)
}
