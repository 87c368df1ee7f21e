//! `Process`, `spin_off`, `inject`.

use super::backtrace;
use super::convert;
use super::error::raise;
use super::event::no_such;
use super::hooks::LuaHooks;
use super::interrupt;
use super::outcome::OutcomeData;
use super::stop::spin_off;
use super::trace::{self, TraceData};
use super::{session, values};
use crate::inject::{self, Driven, Script};
use crate::kernel::DescriptorTable;
use crate::process::{Process, StopPoint};
use crate::tracee::proc;
use mlua::{
    AnyUserData, Lua, MetaMethod, MultiValue, Table, UserData, UserDataFields, UserDataMethods,
    Value,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Reads longer than this are a mistake.
const LONGEST_READ: u64 = 1 << 30;

enum State {
    Alive(Box<Process>),
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
}

impl ProcessHandle {
    pub fn new(process: Process) -> ProcessHandle {
        ProcessHandle {
            pid: process.group.pid,
            real_pid: process.real_pid(),
            event: process.group.event.0,
            state: Rc::new(RefCell::new(State::Alive(Box::new(process)))),
        }
    }

    /// Does something with the stopped process.
    fn with<R>(&self, then: impl FnOnce(&mut Process) -> mlua::Result<R>) -> mlua::Result<R> {
        match &mut *self.state.borrow_mut() {
            State::Alive(process) => then(process),
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
            State::Alive(process) => Ok(process),
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

    /// What became of the process after it was driven.
    fn conclude(
        &self,
        lua: &Lua,
        result: inject::Result<Driven>,
        mut hooks: LuaHooks,
    ) -> mlua::Result<OutcomeData> {
        match result {
            Ok(Driven { outcome, process }) => {
                *self.state.borrow_mut() = match process {
                    Some(process) => State::Alive(Box::new(process)),
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
        let process = self.take()?;
        let script = match request.trace {
            Some(trace) => Script::of_trace(trace),
            None => match Script::of_recording(&process) {
                Ok(script) => script,
                Err(error) => {
                    *self.state.borrow_mut() = State::Alive(process);
                    return Err(raise(error));
                }
            },
        };
        hooks.begin();
        let result = inject::inject(*process, script, &mut hooks, &options);
        interrupt::check()?;
        self.conclude(lua, result, hooks)
    }

    fn live(&self, lua: &Lua, table: &Value) -> mlua::Result<OutcomeData> {
        let mut hooks = LuaHooks::read_live(lua, table)?;
        let process = self.take()?;
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
                let other = convert::shown(&other);
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

const NAMES: [&str; 15] = [
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
            this.with(|process| process.fork().map(ProcessHandle::new).map_err(raise))
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
                State::Alive(process) => {
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

/// What can be seen of a process that stands still.
pub(super) trait View {
    /// Its memory, at an address, so many bytes.
    fn bytes(&self, lua: &Lua, part: (u64, usize)) -> mlua::Result<mlua::LuaString>;
    /// The registers of the task that is driven.
    fn registers(&self, lua: &Lua) -> mlua::Result<Table>;
    /// Its mappings.
    fn mappings(&self, lua: &Lua) -> mlua::Result<Table>;
    /// Its descriptors, as recorded.
    fn files(&self, lua: &Lua) -> mlua::Result<Table>;
    /// Where the task that is driven is.
    fn frames(&mut self, lua: &Lua) -> mlua::Result<Table>;
}

impl View for Process {
    fn bytes(&self, lua: &Lua, (addr, len): (u64, usize)) -> mlua::Result<mlua::LuaString> {
        let mut bytes = vec![0; len];
        let read = self.memory().read_exact(addr, &mut bytes);
        read.map_err(raise)?;
        lua.create_string(bytes)
    }

    fn registers(&self, lua: &Lua) -> mlua::Result<Table> {
        let regs = self.driven.task.regs().map_err(raise)?;
        lua.create_table_from(regs.named().map(|(name, value)| (name, value as i64)))
    }

    fn mappings(&self, lua: &Lua) -> mlua::Result<Table> {
        maps_of(lua, &proc::maps(self.real_pid()).map_err(raise)?)
    }

    fn files(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = descriptors(lua, &self.group.descriptors)?;
        values::read_only(lua, &table, "a process's descriptors cannot be set")
    }

    fn frames(&mut self, lua: &Lua) -> mlua::Result<Table> {
        backtrace::list(lua, &crate::backtrace::of_process(self))
    }
}

/// An address and a number of bytes.
pub(super) fn range(addr: &Value, len: &Value) -> mlua::Result<(u64, usize)> {
    let addr = convert::integer(addr, "an address")? as u64;
    let len = convert::count(len, "a number of bytes")?;
    if len > LONGEST_READ {
        return Err(raise(format!("{len} bytes are too many to read at once")));
    }
    Ok((addr, len as usize))
}

pub(super) fn maps_of(lua: &Lua, maps: &[proc::Map]) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    for map in maps {
        let entry = lua.create_table()?;
        entry.set("first", map.start as i64)?;
        entry.set("last", map.end.wrapping_sub(1) as i64)?;
        entry.set("size", map.end.wrapping_sub(map.start) as i64)?;
        let bit = |bit: i32, letter: &'static str| if map.prot & bit != 0 { letter } else { "-" };
        let perms = [
            bit(libc::PROT_READ, "r"),
            bit(libc::PROT_WRITE, "w"),
            bit(libc::PROT_EXEC, "x"),
        ]
        .concat();
        entry.set("perms", perms + if map.shared { "s" } else { "p" })?;
        entry.set("offset", map.offset as i64)?;
        entry.set("name", lua.create_string(&map.name)?)?;
        list.raw_push(entry)?;
    }
    Ok(list)
}

pub(super) fn descriptors(lua: &Lua, files: &DescriptorTable) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (fd, file, cloexec) in files.iter() {
        let entry = descriptor(lua, &file.path, (file.flags, file.offset, cloexec))?;
        table.set(fd, entry)?;
    }
    Ok(table)
}

/// The same of a process that is live.
pub(super) fn kernels_descriptors(lua: &Lua, files: &[proc::Descriptor]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for file in files {
        let cloexec = file.flags & libc::O_CLOEXEC != 0;
        let flags = file.flags & !libc::O_CLOEXEC;
        table.set(
            file.fd,
            descriptor(lua, &file.path, (flags, file.offset, cloexec))?,
        )?;
    }
    Ok(table)
}

fn descriptor(
    lua: &Lua,
    path: &[u8],
    (flags, offset, cloexec): (i32, u64, bool),
) -> mlua::Result<Table> {
    let entry = lua.create_table()?;
    entry.set("path", lua.create_string(path)?)?;
    entry.set("flags", flags)?;
    entry.set("offset", offset as i64)?;
    entry.set("cloexec", cloexec)?;
    Ok(entry)
}

pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    let spin = lua.create_function(|lua, pid: Option<i32>| -> mlua::Result<AnyUserData> {
        spin_off(lua, &session::recording(lua)?, None, pid)
    })?;
    globals.set("spin_off", spin)?;
    let inject =
        lua.create_function(|lua, args: MultiValue| session::process(lua)?.inject(lua, args))?;
    globals.set("inject", inject)
}
