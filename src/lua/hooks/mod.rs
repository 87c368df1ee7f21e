//! A script's hooks as the core's [`Hooks`].

mod args;
mod call;
mod parts;
mod rule;
mod signal;
mod table;
mod time;
mod views;

pub(super) use time::install as keep_time;

use super::convert::{self, shown};
use super::error::{ScriptError, is_of_absence, near, raise, raise_at};
use super::outcome;
use crate::inject::{
    self, Action, Conditions, Divergence, HookCall, HookError, HookExit, HookSignal, Hooks,
    OnDivergence, Selector,
};
use crate::syscall::{self, Syscall};
use crate::tracee::{self, tsc_off};
use call::CallData;
use mlua::{AnyUserData, Function, Lua, MultiValue, Value};
use signal::SignalData;
use std::rc::Rc;
use table::Ignored;
use time::Clock;

/// One key of the table, or one element of its array part.
struct Hook {
    /// How the user would name it.
    name: String,
    selector: Selector,
    conditions: Conditions,
    where_: Option<Function>,
    actions: Vec<Action>,
    executed: Option<bool>,
    enter: Option<Function>,
    exit: Option<Function>,
}

impl Hook {
    /// One without conditions, for which there is nothing to do.
    fn new(name: String, selector: Selector) -> Hook {
        Hook {
            name,
            selector,
            conditions: Conditions::default(),
            where_: None,
            actions: Vec::new(),
            executed: None,
            enter: None,
            exit: None,
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
    hooks: Rc<[Hook]>,
    /// Which of them could mean a call, by its number.
    by_nr: Vec<Vec<usize>>,
    conditions: Vec<Conditions>,
    diverged: Diverged,
    on_signal: Option<Function>,
    on_exit: Option<Function>,
    ignored: Ignored,
    /// An option that is there and is about traces.
    about_traces: Option<&'static str>,
    options: inject::Options,
    /// Whether a hook's error goes into the outcome.
    keep_errors: bool,
    clock: Clock,
    /// What lies in a call's place while a script has it.
    spare: Option<HookCall>,
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
        let options = inject::Options::default();
        let mut this = LuaHooks {
            lua: lua.clone(),
            hooks: Rc::new([]),
            by_nr: Vec::new(),
            conditions: Vec::new(),
            diverged: Diverged::Always(OnDivergence::Stop),
            on_signal: None,
            on_exit: None,
            ignored: Ignored::default(),
            about_traces: None,
            clock: Clock::new(lua, options.timeout),
            options,
            keep_errors: false,
            spare: None,
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

    /// The same for a process that is live from its beginning: what is about traces means nothing there.
    pub fn read_live(lua: &Lua, hooks: &Value) -> mlua::Result<LuaHooks> {
        let this = LuaHooks::read(lua, hooks)?;
        if let Some(name) = this.about_traces {
            return Err(raise(format!(
                "{name} is about a trace that a process is driven through: all of this one is live, and it means nothing \
                 here"
            )));
        }
        let mut hooks = this.hooks.iter();
        if let Some(hook) = hooks.find(|hook| hook.actions.contains(&Action::Live)) {
            let name = &hook.name;
            return Err(raise(format!(
                "the rule for {name} has live, which means nothing here: all of this process is live"
            )));
        }
        Ok(this)
    }

    /// Takes the hooks, in the order in which they run.
    fn set_hooks(&mut self, mut hooks: Vec<Hook>) {
        self.by_nr.clear();
        for name in syscall::names() {
            let Some(call) = syscall::by_name(name) else {
                continue;
            };
            let nr = call.nr as usize;
            if self.by_nr.len() <= nr {
                self.by_nr.resize(nr + 1, Vec::new());
            }
            let hooks = hooks.iter().enumerate();
            let meant = hooks.filter(|(_, hook)| hook.selector.matches_any(call));
            self.by_nr[nr].extend(meant.map(|(at, _)| at));
        }
        let conditions = |hook: &mut Hook| std::mem::take(&mut hook.conditions);
        self.conditions = hooks.iter_mut().map(conditions).collect();
        self.hooks = hooks.into();
    }

    /// What it says to the driver.
    pub fn options(&self) -> inject::Options {
        self.options.clone()
    }

    /// The injection's time begins.
    pub fn begin(&mut self) {
        self.clock = Clock::new(&self.lua, self.options.timeout);
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
        let result: mlua::Result<R> = {
            let _limit = self.clock.limit();
            function.call(args)
        };
        tsc_off::again();
        result.map_err(|error| at(function, error))
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
        let mut lent = None;
        for nth in 0.. {
            let meant = self.by_nr.get(call.nr() as usize);
            let Some(&at) = meant.and_then(|meant| meant.get(nth)) else {
                break;
            };
            let hook = &hooks[at];
            if !self.is_meant((at, hook), call, &mut lent)? {
                continue;
            }
            if hook.exit.is_some() {
                call.marks().push(at);
            }
            let fits = |action: &&Action| action.fits(call, hook.executed);
            let actions: Vec<&Action> = hook.actions.iter().filter(fits).collect();
            if !actions.is_empty() {
                for action in actions {
                    action.apply(call, hook.executed);
                }
                call.note_rule(hook.name.as_str());
            }
            if let Some(enter) = &hook.enter {
                self.call_hook(enter, &hook.name, call, &mut lent)?;
            }
        }
        Ok(())
    }

    fn on_exit(&mut self, call: &mut HookCall) -> mlua::Result<()> {
        let hooks = Rc::clone(&self.hooks);
        let mut lent = None;
        for at in std::mem::take(call.marks()) {
            let hook = &hooks[at];
            if let Some(exit) = &hook.exit {
                self.call_hook(exit, &hook.name, call, &mut lent)?;
            }
        }
        Ok(())
    }

    /// Whether a hook's conditions hold; asked once per call, since it counts.
    fn is_meant(
        &mut self,
        (at, hook): (usize, &Hook),
        call: &mut HookCall,
        lent: &mut Option<Lent>,
    ) -> mlua::Result<bool> {
        if !hook.selector.matches(call.syscall()) || !self.conditions[at].pass(call) {
            return Ok(false);
        }
        let mut actions = hook.actions.iter();
        let acts = actions.any(|action| action.fits(call, hook.executed));
        if !acts && hook.enter.is_none() && hook.exit.is_none() {
            return Ok(false);
        }
        if let Some(condition) = &hook.where_
            && !self.call_hook(condition, &hook.name, call, lent)?
        {
            return Ok(false);
        }
        Ok(self.conditions[at].count(call))
    }

    /// Lends the call to a function of the script; whether it returned something true.
    fn call_hook(
        &mut self,
        function: &Function,
        name: &str,
        call: &mut HookCall,
        lent: &mut Option<Lent>,
    ) -> mlua::Result<bool> {
        let lent = match lent {
            Some(lent) => lent,
            None => lent.insert(Lent::new(&self.lua)?),
        };
        let spare = self.spare.take().unwrap_or_else(|| call.empty());
        lent.cell.lend(call, spare);
        let result = self.run::<Value>(function, &lent.data);
        let (spare, touched) = lent.cell.take_back(call);
        self.spare = spare;
        if touched {
            call.note_rule(name);
        }
        Ok(!matches!(result?, Value::Nil | Value::Boolean(false)))
    }
}

/// The userdata that the hooks of one call and phase share. No script can use it beyond: it is empty then.
struct Lent {
    cell: CallData,
    data: AnyUserData,
}

impl Lent {
    fn new(lua: &Lua) -> mlua::Result<Lent> {
        let cell = CallData::default();
        let data = lua.create_userdata(cell.clone())?;
        Ok(Lent { cell, data })
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

    fn diverged(&mut self, divergence: &Divergence) -> Result<OnDivergence, HookError> {
        let function = match &self.diverged {
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
        hooks
            .filter(|(hook, conditions)| !hook.actions.is_empty() && !conditions.fired())
            .map(|(hook, _)| hook.name.clone())
            .collect()
    }

    fn signal(&mut self, signal: &mut HookSignal) -> Result<(), HookError> {
        let Some(function) = self.on_signal.clone() else {
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
        let Some(function) = self.on_exit.clone() else {
            return Ok(());
        };
        let ran =
            signal::exit_table(&self.lua, exit).and_then(|table| self.run::<()>(&function, table));
        match ran {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    fn is_ignored(&self, call: &str) -> bool {
        self.ignored.contains(call)
    }

    fn wants(&self, call: &Syscall) -> bool {
        let meant = self.by_nr.get(call.nr as usize);
        meant.is_some_and(|meant| !meant.is_empty())
    }

    fn names(&self, call: &Syscall) -> bool {
        let hooks = self.by_nr.get(call.nr as usize).into_iter().flatten();
        let mut hooks = hooks.filter_map(|&at| self.hooks.get(at));
        hooks.any(|hook| hook.selector.names(call))
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
            n => match convert::count(&n, "how many calls to skip")? {
                0 => Err(raise(
                    "how many calls to skip must be more than 0: the same one would be met again",
                )),
                n => Ok(OnDivergence::Skip(usize::try_from(n).unwrap_or(usize::MAX))),
            },
        },
        "answer" => convert::ret(&second, "the answer").map(OnDivergence::Answer),
        word => Err(wrong_divergence(&format!("{word:?}"))),
    }
}

fn wrong_divergence(what: &str) -> mlua::Error {
    let word = what.trim_matches('"');
    let known = ["stop", "live", "skip", "answer", "kill"];
    let near = match known.contains(&word) {
        true => Vec::new(),
        false => near(word, known),
    };
    let hint = super::error::did_you_mean(&near);
    raise(format!(
        "on_divergence is \"stop\" or \"live\", or a function that returns one of them, \"skip\", n or \"answer\", ret: \
         not {what}{hint}"
    ))
}
