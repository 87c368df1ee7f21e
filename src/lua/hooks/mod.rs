//! A script's hooks as the core's [`Hooks`].

mod call;
mod table;
mod time;

pub(super) use time::install as keep_time;

use super::convert::{self, shown};
use super::error::{ScriptError, near, raise};
use super::outcome;
use crate::inject::{
    self, Action, Conditions, Divergence, Finally, HookCall, HookError, Hooks, OnDivergence,
    Sandbox, Selector,
};
use call::CallData;
use mlua::{AnyUserData, Function, Lua, MultiValue, Value};
use std::time::{Duration, Instant};

/// One key of the table, or one element of its array part.
struct Hook {
    /// How the user would name it.
    name: String,
    selector: Selector,
    conditions: Conditions,
    tid: Option<i32>,
    where_: Option<Function>,
    actions: Vec<Action>,
    enter: Option<Function>,
    exit: Option<Function>,
    /// Whether its conditions held when the call was entered.
    active: bool,
}

impl Hook {
    /// One without conditions, which does nothing yet.
    fn new(name: String, selector: Selector) -> Hook {
        Hook {
            name,
            selector,
            conditions: Conditions::default(),
            tid: None,
            where_: None,
            actions: Vec::new(),
            enter: None,
            exit: None,
            active: false,
        }
    }
}

/// What happens when the process leaves the trace.
enum Diverged {
    Always(OnDivergence),
    Ask(Function),
}

/// Everything that a hooks table says.
pub(super) struct LuaHooks {
    lua: Lua,
    hooks: Vec<Hook>,
    diverged: Diverged,
    finally: Finally,
    sandbox: Sandbox,
    timeout: Duration,
    /// Whether a hook's error goes into the outcome.
    keep_errors: bool,
    deadline: Instant,
    /// What a hook raised, to be raised again once the process is gone.
    raised: Option<mlua::Error>,
    error: Option<String>,
}

/// A stand-in for what was raised: the error itself is kept in [`LuaHooks`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct HookRaised(String);

impl LuaHooks {
    /// Reads a hooks table, or calls the function that returns one.
    pub fn read(lua: &Lua, hooks: &Value) -> mlua::Result<LuaHooks> {
        let made;
        let hooks = match hooks {
            Value::Function(function) => {
                made = function.call::<Value>(())?;
                &made
            }
            other => other,
        };
        let mut this = LuaHooks {
            lua: lua.clone(),
            hooks: Vec::new(),
            diverged: Diverged::Always(OnDivergence::Stop),
            finally: Finally::Kill,
            sandbox: Sandbox::default(),
            timeout: Duration::from_secs(10),
            keep_errors: false,
            deadline: Instant::now(),
            raised: None,
            error: None,
        };
        match hooks {
            Value::Nil => {}
            Value::Table(table) => this.read_table(table)?,
            other => {
                let other = shown(other);
                return Err(raise(format!(
                    "hooks are a table, or a function that returns one, not {other}"
                )));
            }
        }
        Ok(this)
    }

    /// What it says to the driver.
    pub fn options(&self) -> inject::Options {
        inject::Options {
            start: 0,
            end: None,
            finally: self.finally,
            sandbox: self.sandbox,
            timeout: self.timeout,
            ..inject::Options::default()
        }
    }

    /// The injection's time begins.
    pub fn begin(&mut self) {
        let now = Instant::now();
        self.deadline = now
            .checked_add(self.timeout)
            .unwrap_or(now + Duration::from_secs(u32::MAX.into()));
    }

    /// What a hook raised.
    pub fn take_raised(&mut self) -> Option<mlua::Error> {
        self.raised.take()
    }

    /// The message of a hook's error that belongs into the outcome.
    pub fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    /// Calls a function of the script, with an end to its time.
    fn run<R: mlua::FromLuaMulti>(
        &self,
        function: &Function,
        args: impl mlua::IntoLuaMulti,
    ) -> mlua::Result<R> {
        let _limit = time::Limit::new(&self.lua, self.deadline, self.timeout);
        function.call(args)
    }

    /// A hook raised: where does the error go?
    fn failed(&mut self, error: mlua::Error) -> Result<(), HookError> {
        let message = ScriptError::of(&error).message;
        if self.keep_errors {
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
        if let Err(error) = ran {
            self.failed(error)?;
            call.stop("a hook failed");
        }
        Ok(())
    }

    /// Runs all that applies to a call at its entry.
    fn on_enter(&mut self, call: &mut HookCall) -> mlua::Result<()> {
        let mut data = Shared::default();
        for at in 0..self.hooks.len() {
            let active = self.is_meant(at, call, &mut data)?;
            let Some(hook) = self.hooks.get_mut(at) else {
                break;
            };
            hook.active = active;
            if !active {
                continue;
            }
            if !hook.actions.is_empty() {
                for action in &hook.actions {
                    action.apply(call);
                }
                call.note_rule(hook.name.clone());
            }
            if let Some(enter) = hook.enter.clone() {
                let name = hook.name.clone();
                self.call_hook(&enter, &name, call, &mut data)?;
            }
        }
        data.end();
        Ok(())
    }

    fn on_exit(&mut self, call: &mut HookCall) -> mlua::Result<()> {
        let mut data = Shared::default();
        for at in 0..self.hooks.len() {
            let Some(hook) = self.hooks.get_mut(at) else {
                break;
            };
            if !std::mem::take(&mut hook.active) {
                continue;
            }
            if let Some(exit) = hook.exit.clone() {
                let name = hook.name.clone();
                self.call_hook(&exit, &name, call, &mut data)?;
            }
        }
        data.end();
        Ok(())
    }

    /// Whether a hook's conditions hold; asked once per call, since it counts.
    fn is_meant(
        &mut self,
        at: usize,
        call: &mut HookCall,
        data: &mut Shared,
    ) -> mlua::Result<bool> {
        let Some(hook) = self.hooks.get(at) else {
            return Ok(false);
        };
        if !hook.selector.matches(call.syscall()) || hook.tid.is_some_and(|tid| tid != call.tid()) {
            return Ok(false);
        }
        if let Some(condition) = hook.where_.clone() {
            let conditions = &hook.conditions;
            let fd_differs = conditions.fd.is_some() && conditions.fd != call.fd();
            let path = conditions.path.as_ref();
            if fd_differs || path.is_some_and(|path| !call.paths().iter().any(|p| path.matches(p)))
            {
                return Ok(false);
            }
            let name = hook.name.clone();
            if !self.call_hook(&condition, &name, call, data)? {
                return Ok(false);
            }
        }
        Ok(self
            .hooks
            .get_mut(at)
            .is_some_and(|hook| hook.conditions.hold(call)))
    }

    /// Lends the call to a function of the script; whether it returned something true.
    fn call_hook(
        &self,
        function: &Function,
        name: &str,
        call: &mut HookCall,
        data: &mut Shared,
    ) -> mlua::Result<bool> {
        let shared = data.lend(&self.lua, call)?;
        let result = self.run::<Value>(function, shared);
        if data.take_back(call) {
            call.note_rule(name);
        }
        let result = result?;
        Ok(!matches!(result, Value::Nil | Value::Boolean(false)))
    }
}

/// The userdata that the hooks of one call and phase share.
#[derive(Default)]
struct Shared {
    data: Option<(CallData, AnyUserData)>,
}

impl Shared {
    fn lend(&mut self, lua: &Lua, call: &HookCall) -> mlua::Result<AnyUserData> {
        if let Some((cell, data)) = &self.data {
            cell.lend(call);
            return Ok(data.clone());
        }
        let cell = CallData::default();
        cell.lend(call);
        let data = lua.create_userdata(cell.clone())?;
        self.data = Some((cell, data.clone()));
        Ok(data)
    }

    /// Whether the hook interfered.
    fn take_back(&self, call: &mut HookCall) -> bool {
        match &self.data {
            Some((cell, _)) => cell.take_back(call),
            None => false,
        }
    }

    fn end(self) {
        if let Some((cell, _)) = self.data {
            cell.end();
        }
    }
}

impl Hooks for LuaHooks {
    fn enter(&mut self, call: &mut HookCall) -> Result<(), HookError> {
        if self.hooks.is_empty() {
            return Ok(());
        }
        let ran = self.on_enter(call);
        self.stop_if_failed(ran, call)
    }

    fn exit(&mut self, call: &mut HookCall) -> Result<(), HookError> {
        if self.hooks.is_empty() {
            return Ok(());
        }
        let ran = self.on_exit(call);
        self.stop_if_failed(ran, call)
    }

    fn diverged(&mut self, divergence: &Divergence) -> Result<OnDivergence, HookError> {
        let function = match &self.diverged {
            Diverged::Always(what) => return Ok(*what),
            Diverged::Ask(function) => function.clone(),
        };
        let answer = outcome::divergence(&self.lua, divergence)
            .and_then(|table| self.run::<MultiValue>(&function, table))
            .and_then(answer_of);
        match answer {
            Ok(what) => Ok(what),
            Err(error) => {
                self.failed(error)?;
                Ok(OnDivergence::Stop)
            }
        }
    }

    fn unfired(&self) -> Vec<String> {
        let silent = self
            .hooks
            .iter()
            .filter(|hook| !hook.actions.is_empty() && !hook.conditions.fired());
        silent.map(|hook| hook.name.clone()).collect()
    }
}

/// What a function for `on_divergence` returned.
fn answer_of(values: MultiValue) -> mlua::Result<OnDivergence> {
    let mut values = values.into_iter();
    let what = values.next().unwrap_or(Value::Nil);
    let second = values.next().unwrap_or(Value::Nil);
    let Value::String(word) = &what else {
        return match what {
            Value::Nil => Ok(OnDivergence::Stop),
            other => Err(wrong_divergence(&shown(&other))),
        };
    };
    match &*word.to_string_lossy() {
        "stop" | "kill" => Ok(OnDivergence::Stop),
        "live" => Ok(OnDivergence::Live),
        "skip" => match second {
            Value::Nil => Ok(OnDivergence::Skip(1)),
            n => Ok(OnDivergence::Skip(
                convert::count(&n, "how many calls to skip")? as usize,
            )),
        },
        "answer" => convert::integer(&second, "the answer").map(OnDivergence::Answer),
        word => Err(wrong_divergence(&format!("{word:?}"))),
    }
}

fn wrong_divergence(what: &str) -> mlua::Error {
    let word = what.trim_matches('"');
    let near = near(word, ["stop", "live", "skip", "answer", "kill"]);
    let hint = super::error::did_you_mean(&near);
    raise(format!(
        "on_divergence is \"stop\" or \"live\", or a function that returns one of them, \"skip\", n or \"answer\", ret: \
         not {what}{hint}"
    ))
}
