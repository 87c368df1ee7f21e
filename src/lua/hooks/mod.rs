//! The hooks of a script, as the core's [`Hooks`]: runs the rules and the functions of a hooks table.

mod actions;
mod aftermath;
mod args;
mod call;
mod caller;
mod divergence;
mod files;
mod listen;
mod loan;
mod rule;
pub(super) mod sandbox;
mod signal;
mod stat;
mod structure;
mod table;
mod time_limit;

pub(super) use time_limit::install as install_time_limit;

use super::convert;
use super::error::{ScriptError, is_of_absence, raise, raise_at, shown};
use super::outcome::{self, OutcomeData};
use super::session;
use crate::history::Kin;
use crate::inject::{
    self, Action, Aftermath, Conditions, Divergence, HookCall, HookError, HookExit, HookSignal,
    Hooks, OnDivergence, OtherFile, Outcome, PeerData, Server, ServerData,
};
use crate::syscall::{self, Syscall};
use crate::tracee::{self, tsc_off};
use aftermath::BoxData;
use divergence::{Diverged, answer_of};
use loan::CallData;
use mlua::{AnyUserData, Function, Lua, MultiValue, Table, Value};
use rule::Hook;
use signal::SignalData;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use table::HooksTable;
use time_limit::TimeLimit;

/// The hooks of one injection.
pub(super) struct LuaHooks {
    lua: Lua,
    hooks: Rc<[Hook]>,
    /// The indices of the hooks that a call may concern, by its number.
    by_nr: Vec<Vec<usize>>,
    conditions: Vec<Conditions>,
    table: HooksTable,
    time_limit: TimeLimit,
    /// The call that takes another's place while a script has that.
    spare: Option<HookCall>,
    /// The error that a hook raised, to be raised again when the process has ended.
    raised: Option<mlua::Error>,
    /// Whether the function for the sandbox's files has run.
    has_looked: bool,
    /// What functions get for the connections with servers, by the numbers of these.
    connections: BTreeMap<u64, Table>,
    error: Option<String>,
}

/// The error for the core; that of Lua is kept in [`LuaHooks`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct HookRaised(String);

impl LuaHooks {
    /// Reads a hooks table, or calls the function that returns one.
    pub fn read(lua: &Lua, hooks: &Value) -> mlua::Result<LuaHooks> {
        let mut table = HooksTable::read(hooks)?;
        let mut hooks = std::mem::take(&mut table.hooks);
        let conditions = |hook: &mut Hook| std::mem::take(&mut hook.rule.conditions);
        Ok(LuaHooks {
            lua: lua.clone(),
            by_nr: by_number(&hooks),
            conditions: hooks.iter_mut().map(conditions).collect(),
            hooks: hooks.into(),
            time_limit: TimeLimit::new(lua, table.options.timeout),
            table,
            spare: None,
            raised: None,
            has_looked: false,
            connections: BTreeMap::new(),
            error: None,
        })
    }

    /// The same for a process that is live from its beginning: what is about traces means nothing there.
    pub fn read_live(lua: &Lua, hooks: &Value) -> mlua::Result<LuaHooks> {
        let this = LuaHooks::read(lua, hooks)?;
        if let Some(name) = this.table.about_traces {
            return Err(raise(format!(
                "{name} is about a trace that a process is driven through: all of this one is live, and it means nothing \
                 here"
            )));
        }
        for Hook { rule, .. } in this.hooks.iter() {
            let mut kinds = rule.actions.iter().map(Action::kind);
            if let Some(kind) = kinds.find(|kind| kind.leaves_trace) {
                let (name, action) = (&rule.name, kind.name);
                return Err(raise(format!(
                    "the rule for {name} has {action}, which means nothing here: all of this process is live"
                )));
            }
        }
        Ok(this)
    }

    /// Reads an option that stands beside the hooks.
    pub fn read_option(&mut self, name: &str, value: &Value) -> mlua::Result<()> {
        self.table.read_option(name, value)
    }

    /// The options for the driver.
    pub fn options(&self) -> inject::Options {
        let mut conditions = self.conditions.iter();
        inject::Options {
            awaits_family: conditions.any(|conditions| conditions.processes.are_named()),
            ..self.table.options.clone()
        }
    }

    /// The relatives of a process that its injection needs.
    pub fn kin(&self) -> Kin {
        Kin::of(
            self.conditions
                .iter()
                .map(|conditions| &conditions.processes),
        )
    }

    /// The recorded tasks that `pids` maps those of a trace to.
    pub fn mapped_tasks(&self) -> BTreeSet<i32> {
        self.table.options.pids.values().copied().collect()
    }

    /// Says that a process was live on the machine itself, if the environment has chosen that.
    pub fn warn_of_machine(&self) {
        if self.table.lacks_sandbox {
            let variable = inject::SANDBOX_VARIABLE;
            session::watch(&self.lua).warn(&format!(
                "warning: a process is live without a sandbox, on the machine's own files ({variable}=none)"
            ));
        }
    }

    /// Starts the time limit of the injection.
    pub fn begin(&mut self) {
        self.time_limit = TimeLimit::new(&self.lua, self.table.options.timeout);
    }

    /// Takes the error that a hook raised.
    pub fn take_raised(&mut self) -> Option<mlua::Error> {
        self.raised.take()
    }

    /// Takes the message of a hook's error that goes into the outcome.
    pub fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    /// Calls a function of the script within the time limit.
    fn run<R: mlua::FromLuaMulti>(
        &self,
        function: &Function,
        args: impl mlua::IntoLuaMulti,
    ) -> mlua::Result<R> {
        let result: mlua::Result<R> = {
            let _limit = self.time_limit.start();
            function.call(args)
        };
        tsc_off::again();
        result.map_err(|error| at(function, error))
    }

    /// Keeps the error of a hook, in the outcome or to be raised again.
    fn failed(&mut self, error: mlua::Error) -> Result<(), HookError> {
        let message = ScriptError::of(&error).message;
        if self.table.keep_errors {
            self.error.get_or_insert(message);
            return Ok(());
        }
        self.raised = Some(error);
        Err(Box::new(HookRaised(message)))
    }

    /// Ends the injection at this call if a hook has failed and its error is kept in the outcome.
    fn stop_if_failed(
        &mut self,
        ran: mlua::Result<()>,
        call: &mut HookCall,
    ) -> Result<(), HookError> {
        let Err(error) = ran else { return Ok(()) };
        if is_of_absence(&error) && !tracee::stands(call.memory().tid()) {
            // Its process was killed meanwhile, which is no mistake of the script's.
            return Ok(());
        }
        self.failed(error)?;
        call.stop("a hook failed");
        Ok(())
    }

    /// Runs all that applies to a call at its entry.
    fn on_enter(&mut self, call: &mut HookCall) -> mlua::Result<()> {
        let hooks = Rc::clone(&self.hooks);
        let mut object = None;
        for nth in 0.. {
            let meant = self.by_nr.get(call.nr() as usize);
            let Some(&at) = meant.and_then(|meant| meant.get(nth)) else {
                break;
            };
            let hook = &hooks[at];
            if !self.is_meant((at, hook), call, &mut object)? {
                continue;
            }
            if hook.exit.is_some() {
                call.marks().push(at);
            }
            hook.rule.act(call);
            if let Some(enter) = &hook.enter {
                self.call_hook(enter, &hook.rule.name, call, &mut object)?;
            }
        }
        Ok(())
    }

    fn on_exit(&mut self, call: &mut HookCall) -> mlua::Result<()> {
        let hooks = Rc::clone(&self.hooks);
        let mut object = None;
        for at in std::mem::take(call.marks()) {
            let hook = &hooks[at];
            if let Some(exit) = &hook.exit {
                self.call_hook(exit, &hook.rule.name, call, &mut object)?;
            }
        }
        Ok(())
    }

    /// Whether a hook's conditions hold for a call. It counts the call, and so is called once for each.
    fn is_meant(
        &mut self,
        (at, hook): (usize, &Hook),
        call: &mut HookCall,
        object: &mut Option<CallObject>,
    ) -> mlua::Result<bool> {
        if !hook.rule.selector.matches(call.syscall()) || !self.conditions[at].pass(call) {
            return Ok(false);
        }
        if !hook.rule.fits(call) && hook.enter.is_none() && hook.exit.is_none() {
            return Ok(false);
        }
        if let Some(condition) = &hook.where_
            && !self.call_hook(condition, &hook.rule.name, call, object)?
        {
            return Ok(false);
        }
        Ok(self.conditions[at].count(call))
    }

    /// The content that a function of the script makes of a file's.
    fn make_content(&self, file: usize, was: Option<&[u8]>) -> mlua::Result<Vec<u8>> {
        let file = self.table.files.get(file);
        let Some((file, function)) = file.and_then(|file| Some((file, file.function.as_ref()?)))
        else {
            return Ok(was.unwrap_or_default().to_vec());
        };
        let was = was.map(|was| self.lua.create_string(was)).transpose()?;
        match self.run::<Value>(function, was)? {
            Value::String(made) => Ok(made.as_bytes().to_vec()),
            other => {
                let path = file.file.path.display();
                let other = shown(&other);
                let message = format!(
                    "the function for {path} in files returns the content as a string, not {other}"
                );
                Err(at(function, raise(message)))
            }
        }
    }

    /// What the function of a server answers.
    fn ask_server(&mut self, sent: &ServerData<'_>) -> mlua::Result<Vec<u8>> {
        let listener = self.table.listen.get(sent.server);
        let Some((listener, function)) =
            listener.and_then(|one| Some((one, one.function.as_ref()?)))
        else {
            return Ok(Vec::new());
        };
        let address = &listener.server.address;
        let conn = match self.connections.get(&sent.connection) {
            Some(conn) => conn.clone(),
            None => {
                let conn = self.lua.create_table()?;
                conn.set("address", address.to_string())?;
                conn.set("number", sent.connection)?;
                self.connections.insert(sent.connection, conn.clone());
                conn
            }
        };
        let data = sent.data.map(|data| self.lua.create_string(data));
        match self.run::<Value>(function, (conn, data.transpose()?))? {
            Value::Nil => Ok(Vec::new()),
            answer => convert::bytes(&answer, &format!("what the server at {address} answers"))
                .map_err(|error| at(function, error)),
        }
    }

    /// Lends the call to a function of the script; whether it returned something true.
    fn call_hook(
        &mut self,
        function: &Function,
        name: &str,
        call: &mut HookCall,
        object: &mut Option<CallObject>,
    ) -> mlua::Result<bool> {
        let object = match object {
            Some(object) => object,
            None => object.insert(CallObject::new(&self.lua)?),
        };
        let spare = self.spare.take().unwrap_or_else(|| call.empty());
        object.cell.lend(call, spare);
        let result = self.run::<Value>(function, &object.data);
        let (spare, touched) = object.cell.take_back(call);
        self.spare = spare;
        if touched {
            call.note_rule(name);
        }
        Ok(!matches!(result?, Value::Nil | Value::Boolean(false)))
    }
}

/// The indices of the hooks that a call may concern, by its number.
fn by_number(hooks: &[Hook]) -> Vec<Vec<usize>> {
    let mut by_nr: Vec<Vec<usize>> = Vec::new();
    for call in syscall::names().filter_map(syscall::by_name) {
        let nr = call.nr as usize;
        if by_nr.len() <= nr {
            by_nr.resize(nr + 1, Vec::new());
        }
        let hooks = hooks.iter().enumerate();
        let meant = hooks.filter(|(_, hook)| hook.rule.selector.matches_any(call));
        by_nr[nr].extend(meant.map(|(at, _)| at));
    }
    by_nr
}

/// The userdata that the hooks of one call and phase share. No script can use it beyond: it is empty then.
struct CallObject {
    cell: CallData,
    data: AnyUserData,
}

impl CallObject {
    fn new(lua: &Lua) -> mlua::Result<CallObject> {
        let cell = CallData::default();
        let data = lua.create_userdata(cell.clone())?;
        Ok(CallObject { cell, data })
    }
}

impl Hooks for LuaHooks {
    fn enter(&mut self, call: &mut HookCall) -> Result<(), HookError> {
        if !self.wants(call.syscall()) {
            return Ok(());
        }
        let ran = self.on_enter(call);
        self.stop_if_failed(ran, call)
    }

    fn exit(&mut self, call: &mut HookCall) -> Result<(), HookError> {
        if call.marks().is_empty() {
            return Ok(());
        }
        let ran = self.on_exit(call);
        self.stop_if_failed(ran, call)
    }

    fn always_goes_live(&self) -> bool {
        matches!(self.table.diverged, Diverged::Always(OnDivergence::Live))
    }

    fn diverged(&mut self, divergence: &Divergence) -> Result<OnDivergence, HookError> {
        let function = match &self.table.diverged {
            Diverged::Always(what) => return Ok(*what),
            Diverged::Ask(function) => function.clone(),
        };
        let answer = outcome::divergence(&self.lua, divergence)
            .and_then(|table| self.run::<MultiValue>(&function, table))
            .and_then(|values| answer_of(values).map_err(|error| at(&function, error)));
        match answer {
            Ok(what) => Ok(what),
            Err(error) => {
                self.failed(error)?;
                Ok(OnDivergence::Stop)
            }
        }
    }

    fn unfired(&self) -> Vec<String> {
        let hooks = self.hooks.iter().zip(&self.conditions);
        let unread = self.table.files.iter().filter(|file| !file.is_met);
        hooks
            .filter(|(hook, conditions)| !hook.rule.actions.is_empty() && !conditions.fired())
            .map(|(hook, _)| hook.rule.name.clone())
            .chain(unread.map(|file| file.file.name()))
            .chain((self.table.after.is_some() && !self.has_looked).then(|| "after".into()))
            .collect()
    }

    fn signal(&mut self, signal: &mut HookSignal) -> Result<(), HookError> {
        let Some(function) = self.table.on_signal.clone() else {
            return Ok(());
        };
        let data = SignalData::lend(signal);
        let ran = self.run::<()>(&function, data.clone());
        if let Some(changed) = data.take_back() {
            *signal = changed;
        }
        if let Err(error) = ran {
            self.failed(error)?;
            signal.stop = Some(String::from("a hook failed"));
        }
        Ok(())
    }

    fn exited(&mut self, exit: &HookExit) -> Result<(), HookError> {
        let Some(function) = self.table.on_exit.clone() else {
            return Ok(());
        };
        let ran =
            signal::exit_table(&self.lua, exit).and_then(|table| self.run::<()>(&function, table));
        match ran {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    fn peer(&mut self, sent: &PeerData<'_>) -> Result<Vec<u8>, HookError> {
        let Some(function) = self.table.peer.clone() else {
            return Ok(Vec::new());
        };
        let answer = self.lua.create_table().and_then(|conn| {
            conn.set("pid", sent.pid)?;
            conn.set("fd", sent.fd)?;
            conn.set("address", sent.address.map(|address| address.to_string()))?;
            let data = self.lua.create_string(sent.data)?;
            match self.run::<Value>(&function, (conn, data))? {
                Value::Nil => Ok(Vec::new()),
                answer => convert::bytes(&answer, "what a peer answers"),
            }
        });
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => self.failed(error).map(|()| Vec::new()),
        }
    }

    fn servers(&self) -> Vec<Server> {
        let all = self.table.listen.iter();
        all.map(|one| one.server.clone()).collect()
    }

    fn serve(&mut self, sent: &ServerData<'_>) -> Result<Vec<u8>, HookError> {
        match self.ask_server(sent) {
            Ok(answer) => Ok(answer),
            Err(error) => self.failed(error).map(|()| Vec::new()),
        }
    }

    fn files(&self) -> Vec<OtherFile> {
        let files = self.table.files.iter();
        files.map(|file| file.file.clone()).collect()
    }

    fn content(&mut self, file: usize, was: Option<&[u8]>) -> Result<Vec<u8>, HookError> {
        let made = self.make_content(file, was);
        made.map_err(|error| {
            let message = ScriptError::of(&error).message;
            self.raised = Some(error);
            HookError::from(HookRaised(message))
        })
    }

    fn met(&mut self, file: usize) {
        if let Some(file) = self.table.files.get_mut(file) {
            file.is_met = true;
        }
    }

    fn wants_aftermath(&self) -> bool {
        self.table.after.is_some()
    }

    fn after(&mut self, aftermath: &mut Aftermath, outcome: &mut Outcome) -> Result<(), HookError> {
        let Some(function) = self.table.after.clone() else {
            return Ok(());
        };
        self.has_looked = true;
        let lent = BoxData::lend(aftermath);
        let shown = OutcomeData::new(outcome.clone(), None);
        // What it runs has limits of its own.
        let ran = function.call::<()>((lent.clone(), shown));
        lent.take_back(aftermath);
        match ran {
            Ok(()) => Ok(()),
            Err(error) => self.failed(at(&function, error)),
        }
    }

    fn is_ignored(&self, call: &str) -> bool {
        self.table.ignored.contains(call)
    }

    fn wants(&self, call: &Syscall) -> bool {
        let meant = self.by_nr.get(call.nr as usize);
        meant.is_some_and(|meant| !meant.is_empty())
    }

    fn names(&self, call: &Syscall) -> bool {
        let hooks = self.by_nr.get(call.nr as usize).into_iter().flatten();
        let mut hooks = hooks.filter_map(|&at| self.hooks.get(at));
        hooks.any(|hook| hook.rule.selector.names(call))
    }
}

/// An error of a hook; where it does not say its place, that is where the hook is.
fn at(hook: &Function, error: mlua::Error) -> mlua::Error {
    let message = ScriptError::of(&error).message;
    if has_place(&message) {
        return error;
    }
    let info = hook.info();
    match (info.short_src, info.line_defined) {
        (Some(file), Some(line)) => raise_at(format!("{file}:{line}"), message),
        _ => error,
    }
}

/// Whether a message begins with `file:line: `.
fn has_place(message: &str) -> bool {
    let mut parts = message.splitn(3, ':');
    let _file = parts.next();
    let line = parts.next().unwrap_or("");
    let is_number = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    is_number && parts.next().is_some()
}
