//! `Outcome`, and the tables for divergences and ends of processes.

use super::backtrace;
use super::error::no_such;
use super::trace::TraceData;
use super::values;
use crate::constants;
use crate::inject::{Divergence, Outcome, ProcessOutcome, Status};
use crate::trace::{Exit, Origin};
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

/// An outcome, and the error of a hook where it is kept here.
pub(super) struct OutcomeData {
    outcome: Outcome,
    error: Option<String>,
    /// Made when it is first asked for.
    calls: TraceData,
}

impl OutcomeData {
    pub fn new(mut outcome: Outcome, error: Option<String>) -> OutcomeData {
        let calls = std::mem::take(&mut outcome.calls);
        OutcomeData {
            calls: TraceData::new(calls),
            outcome,
            error,
        }
    }
}

/// What each of the processes did that were driven.
impl OutcomeData {
    fn processes(&self) -> Vec<ProcessOutcome> {
        let outcome = &self.outcome;
        if !outcome.processes.is_empty() {
            return outcome.processes.clone();
        }
        vec![ProcessOutcome {
            pid: outcome.pid,
            status: Some(outcome.status),
            exit: outcome.exit,
            stdout: outcome.stdout.clone(),
            stderr: outcome.stderr.clone(),
            backtrace: outcome.backtrace.clone(),
            injected: Vec::new(),
        }]
    }
}

/// What a process did, as a table: `pid status exit_code signal stdout stderr backtrace`.
fn process(lua: &Lua, process: &ProcessOutcome) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("pid", process.pid)?;
    table.set("status", process.status.map(Status::name))?;
    match process.exit {
        Some(Exit::Code(code)) => table.set("exit_code", code)?,
        Some(Exit::Signal { signal, .. }) => {
            table.set("signal", constants::signal_name(signal))?;
        }
        None => {}
    }
    table.set("stdout", lua.create_string(&process.stdout)?)?;
    table.set("stderr", lua.create_string(&process.stderr)?)?;
    table.set("backtrace", backtrace::list(lua, &process.backtrace)?)?;
    Ok(table)
}

/// The fields of a divergence.
const DIVERGENCE: [&str; 11] = [
    "moment", "index", "event", "pid", "tid", "expected", "actual", "arg", "file", "line", "doubt",
];

/// A divergence as a table, for outcomes and for `on_divergence`.
pub(super) fn divergence(lua: &Lua, d: &Divergence) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("index", d.index)?;
    table.set("event", d.event)?;
    table.set("pid", d.pid)?;
    table.set("moment", d.moment)?;
    table.set("tid", d.tid)?;
    table.set("expected", d.expected.as_str())?;
    table.set("actual", d.actual.as_str())?;
    table.set("arg", d.arg.as_deref())?;
    table.set("doubt", d.doubt.reason())?;
    if let Origin::Text { file, line } = &d.origin {
        table.set("file", &**file)?;
        table.set("line", *line)?;
    }
    values::record(
        lua,
        table,
        ("Divergence", "a divergence"),
        &DIVERGENCE,
        d.to_string(),
    )
}

/// The end of a program in words.
pub(super) fn exit_in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::Signal { signal, .. } => format!("killed by {}", constants::signal_name(signal)),
    }
}

/// The end of a recorded program as a table.
pub(super) fn exit_table(lua: &Lua, exit: Exit) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    match exit {
        Exit::Code(code) => table.set("code", code)?,
        Exit::Signal { signal, core } => {
            table.set("signal", constants::signal_name(signal))?;
            table.set("core", core)?;
        }
    }
    let text = exit_in_words(exit);
    let meta = lua.create_table()?;
    meta.set(
        "__tostring",
        lua.create_function(move |_, _: Value| Ok(text.clone()))?,
    )?;
    meta.set("__name", "Exit")?;
    table.set_metatable(Some(meta))?;
    Ok(table)
}

const NAMES: [&str; 19] = [
    "processes",
    "of",
    "status",
    "divergence",
    "exit_code",
    "signal",
    "stdout",
    "stderr",
    "calls",
    "injected",
    "unfired",
    "missing",
    "reason",
    "backtrace",
    "hang",
    "error",
    "files",
    "sent",
    "diff",
];

impl UserData for OutcomeData {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Outcome");
        fields.add_field_method_get("status", |_, this| Ok(this.outcome.status.name()));
        fields.add_field_method_get("divergence", |lua, this| {
            this.outcome
                .divergence
                .as_ref()
                .map(|d| divergence(lua, d))
                .transpose()
        });
        fields.add_field_method_get("exit_code", |_, this| Ok(this.outcome.exit_code()));
        fields.add_field_method_get("signal", |_, this| Ok(this.outcome.signal()));
        fields.add_field_method_get("processes", |lua, this| {
            let all = this.processes();
            let all = all.iter().map(|one| process(lua, one));
            lua.create_sequence_from(all.collect::<mlua::Result<Vec<_>>>()?)
        });
        fields.add_field_method_get("stdout", |lua, this| {
            lua.create_string(&this.outcome.stdout)
        });
        fields.add_field_method_get("stderr", |lua, this| {
            lua.create_string(&this.outcome.stderr)
        });
        fields.add_field_method_get("calls", |_, this| Ok(this.calls.clone()));
        fields.add_field_method_get("injected", |lua, this| {
            let list = lua.create_table()?;
            for injected in &this.outcome.injected {
                let entry = lua.create_table()?;
                entry.set("index", injected.index)?;
                entry.set("event", injected.event)?;
                entry.set("call", injected.call.as_str())?;
                entry.set("rule", injected.rule.as_str())?;
                list.raw_push(entry)?;
            }
            Ok(list)
        });
        fields.add_field_method_get("unfired", |lua, this| {
            lua.create_sequence_from(this.outcome.unfired.iter().map(String::as_str))
        });
        fields.add_field_method_get("missing", |lua, this| {
            lua.create_sequence_from(this.outcome.missing.iter().map(String::as_str))
        });
        fields.add_field_method_get("reason", |_, this| Ok(this.outcome.reason.clone()));
        fields.add_field_method_get("backtrace", |lua, this| {
            backtrace::list(lua, &this.outcome.backtrace)
        });
        fields.add_field_method_get("hang", |_, this| Ok(this.outcome.hang.clone()));
        fields.add_field_method_get("error", |_, this| Ok(this.error.clone()));
        fields.add_field_method_get("files", |lua, this| {
            let list = lua.create_table()?;
            for file in &this.outcome.files {
                let entry = lua.create_table()?;
                entry.set("path", lua.create_string(&file.path)?)?;
                entry.set("kind", file.kind.as_str())?;
                if let Some(from) = &file.from {
                    entry.set("from", lua.create_string(from)?)?;
                }
                list.raw_push(entry)?;
            }
            Ok(list)
        });
        fields.add_field_method_get("sent", |lua, this| {
            let table = lua.create_table()?;
            for (fd, data) in &this.outcome.sent {
                table.raw_set(*fd, lua.create_string(data)?)?;
            }
            Ok(table)
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("of", |lua, this, pid: i32| {
            let all = this.processes();
            let one = all.iter().find(|process| process.pid == pid);
            one.map(|one| process(lua, one)).transpose()
        });
        methods.add_method(
            "diff",
            |lua, this, other: mlua::UserDataRef<OutcomeData>| {
                let calls = (this.calls.shared(), other.calls.shared());
                let lines = this.outcome.diff(&other.outcome, (&calls.0, &calls.1));
                lua.create_sequence_from(lines)
            },
        );
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(this.outcome.to_string())
        });
        methods.add_meta_method(
            MetaMethod::Index,
            |_, _, key: Value| -> mlua::Result<Value> { Err(no_such("an outcome", &key, &NAMES)) },
        );
    }
}
