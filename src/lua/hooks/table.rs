//! Reading a hooks table: which keys are calls, which are options.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use super::super::pattern;
use super::divergence::Diverged;
use super::files::{self, File};
use super::listen::{self, Listener};
use super::rule::Hook;
use super::sandbox;
use crate::inject::{Finally, IGNORED, Options, Peers, Sandbox, Selector};
use crate::syscall;
use mlua::{Function, Table, Value};

const OPTIONS: [&str; 13] = [
    "peer",
    "listen",
    "after",
    "files",
    "on_divergence",
    "on_signal",
    "on_exit",
    "on_error",
    "finally",
    "timeout",
    "sandbox",
    "ignore",
    "pids",
];
/// The options that are about a trace.
const ABOUT_TRACES: [&str; 4] = ["on_divergence", "finally", "ignore", "pids"];

/// The calls that may appear or be missing without a divergence.
pub(super) struct Ignored {
    usual: bool,
    also: Option<Selector>,
    not: Option<Selector>,
}

impl Default for Ignored {
    fn default() -> Ignored {
        Ignored {
            usual: true,
            also: None,
            not: None,
        }
    }
}

impl Ignored {
    pub fn contains(&self, call: &str) -> bool {
        let is_in = |calls: &Option<Selector>| {
            let calls = calls.as_ref();
            calls.is_some_and(|calls| calls.matches_name(call))
        };
        !is_in(&self.not) && (is_in(&self.also) || (self.usual && IGNORED.contains(&call)))
    }

    /// `{ "ioctl", "!futex" }`, `{ only = { … } }`, `"ioctl"`, or `false`.
    fn read(value: &Value) -> mlua::Result<Ignored> {
        let mut this = Ignored::default();
        let list = match value {
            Value::Boolean(false) => {
                this.usual = false;
                return Ok(this);
            }
            Value::Table(table) if !table.get::<Value>("only")?.is_nil() => {
                convert::only_options(table, &["only"], "ignore")?;
                if table.raw_len() > 0 {
                    return Err(raise("ignore is a list, or { only = … }, not both"));
                }
                this.usual = false;
                table.get("only")?
            }
            Value::Table(_) | Value::String(_) | Value::UserData(_) => value.clone(),
            other => {
                return Err(raise(format!(
                    "ignore is a list of calls, {{ only = … }} or false, not {}",
                    shown(other)
                )));
            }
        };
        let mut names = vec![list.clone()];
        if let Value::Table(list) = &list {
            convert::only_options(list, &[], "ignore")?;
            names = list.sequence_values().collect::<mlua::Result<_>>()?;
        }
        let (mut also, mut not) = (Vec::new(), Vec::new());
        for name in names {
            let (selector, text) = pattern::calls(&name)?;
            if !matches!(name, Value::String(_)) {
                also.push(selector);
                continue;
            }
            for part in text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                match part.strip_prefix('!') {
                    Some(part) => not.push(part.to_string()),
                    None => also.push(Selector::parse(part).map_err(raise)?),
                }
            }
        }
        this.also = also.into_iter().reduce(Selector::or);
        if !not.is_empty() {
            this.not = Some(Selector::parse(&not.join(",")).map_err(raise)?);
        }
        Ok(this)
    }
}

/// The content of a hooks table.
#[derive(Default)]
pub(super) struct HooksTable {
    /// The rules and functions, in the order in which they run.
    pub hooks: Vec<Hook>,
    pub diverged: Diverged,
    pub on_signal: Option<Function>,
    pub on_exit: Option<Function>,
    pub after: Option<Function>,
    /// What the other end of a connection answers that is not there.
    pub peer: Option<Function>,
    /// The servers that are played.
    pub listen: Vec<Listener>,
    /// The files that have another content.
    pub files: Vec<File>,
    pub ignored: Ignored,
    /// An option that is there and is about traces.
    pub about_traces: Option<&'static str>,
    pub options: Options,
    /// Whether the environment has chosen that there is no sandbox.
    pub lacks_sandbox: bool,
    /// Whether the error of a hook goes into the outcome.
    pub keep_errors: bool,
}

impl HooksTable {
    /// Reads a hooks table, or calls the function that returns one.
    pub fn read(hooks: &Value) -> mlua::Result<HooksTable> {
        let made;
        let hooks = match hooks {
            Value::Function(function) => {
                made = function.call::<Value>(())?;
                &made
            }
            other => other,
        };
        let mut this = HooksTable::default();
        if let Some(named) = Sandbox::of_environment().map_err(raise)? {
            this.options.sandbox = named;
            this.lacks_sandbox = named == Sandbox::None;
        }
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

    fn read_table(&mut self, table: &Table) -> mlua::Result<()> {
        let mut named: Vec<Hook> = Vec::new();
        let mut rules: Vec<i64> = Vec::new();
        table.for_each(|key: Value, value: Value| {
            match &key {
                Value::Integer(number) => rules.push(*number),
                Value::String(name) => {
                    let name = name.to_string_lossy();
                    if OPTIONS.contains(&name.as_ref()) {
                        self.read_option(&name, &value)?;
                    } else {
                        check_key(&name)?;
                        named.push(Hook::keyed(&key, &value)?);
                    }
                }
                _ => named.push(Hook::keyed(&key, &value)?),
            }
            Ok(())
        })?;
        rules.sort_unstable();
        if let Some((_, number)) = (1..).zip(&rules).find(|(at, number)| at != *number) {
            return Err(raise(format!(
                "rule {number} of the hooks would never be looked at: the list of rules begins at 1 and has no holes"
            )));
        }
        // General to specific; the names decide between equals, since a table has no order.
        named.sort_by(|Hook { rule: a, .. }, Hook { rule: b, .. }| {
            (a.selector.rank(), &a.name).cmp(&(b.selector.rank(), &b.name))
        });
        for (i, rule) in table.sequence_values::<Value>().enumerate() {
            named.push(Hook::element(&rule?, i + 1)?);
        }
        self.hooks = named;
        Ok(())
    }

    /// Reads an option.
    pub fn read_option(&mut self, name: &str, value: &Value) -> mlua::Result<()> {
        if let Some(name) = ABOUT_TRACES.iter().find(|about| **about == name) {
            self.about_traces = Some(name);
        }
        let word = match value {
            Value::String(word) => word.to_string_lossy(),
            _ => String::new(),
        };
        let function = || match value {
            Value::Function(function) => Ok(function.clone()),
            other => Err(raise(format!("{name} is a function, not {}", shown(other)))),
        };
        match (name, word.as_str()) {
            ("on_divergence", _) => self.diverged = Diverged::read(value)?,
            ("on_signal", _) => self.on_signal = Some(function()?),
            ("after", _) => self.after = Some(function()?),
            ("files", _) => self.files = files::read(value)?,
            ("listen", _) => self.listen = listen::read(value)?,
            ("on_exit", _) => self.on_exit = Some(function()?),
            ("peer", _) if matches!(value, Value::Function(_)) => {
                self.peer = Some(function()?);
                self.options.peers = Peers::Answer;
            }
            ("peer", "reset") => self.options.peers = Peers::Reset,
            ("peer", "closed") => self.options.peers = Peers::Closed,
            ("peer", "silent") => self.options.peers = Peers::Silent,
            ("peer", "drain") => self.options.peers = Peers::Drain,
            ("finally", "kill") => self.options.finally = Finally::Kill,
            ("finally", "live") => self.options.finally = Finally::Live,
            ("finally", "keep") => self.options.finally = Finally::Keep,
            ("on_error", "raise") => self.keep_errors = false,
            ("on_error", "outcome") => self.keep_errors = true,
            ("sandbox", _) => {
                sandbox::read(value, &mut self.options)?;
                self.lacks_sandbox = false;
            }
            ("timeout", _) => self.options.timeout = convert::seconds(value, "timeout")?,
            ("ignore", _) => self.ignored = Ignored::read(value)?,
            ("pids", _) => self.read_pids(value)?,
            _ => {
                let words: &[&str] = match name {
                    "finally" => &["kill", "live", "keep"],
                    "peer" => &["reset", "closed", "silent", "drain"],
                    _ => &["raise", "outcome"],
                };
                let hint = did_you_mean(&near(&word, words.iter().copied()));
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                return Err(raise(format!(
                    "{name} is {}, not {}{hint}",
                    words.join(" or "),
                    shown(value)
                )));
            }
        }
        Ok(())
    }

    /// `{ [in the trace] = as recorded }`.
    fn read_pids(&mut self, value: &Value) -> mlua::Result<()> {
        let Value::Table(table) = value else {
            return Err(raise(format!(
                "pids is a table {{ [in the trace] = as recorded }}, not {}",
                shown(value)
            )));
        };
        table.for_each(|key: Value, value: Value| {
            let pid = |value: &Value| {
                let Value::Integer(pid) = *value else {
                    return Err(raise(format!(
                        "a pid in pids is an integer, not {}",
                        shown(value)
                    )));
                };
                let small = i32::try_from(pid).ok().filter(|&pid| pid > 0);
                small.ok_or_else(|| raise(format!("{pid} is no pid")))
            };
            self.options.pids.insert(pid(&key)?, pid(&value)?);
            Ok(())
        })
    }
}

/// A key that is no option: it must name calls.
fn check_key(name: &str) -> mlua::Result<()> {
    let is_name = !name.is_empty() && !name.contains(['%', ',', '!', '*', '?', '[']);
    if is_name && syscall::by_name(name).is_none() {
        let calls = syscall::suggest(name);
        let options = near(name, OPTIONS);
        let both: Vec<&str> = options.into_iter().chain(calls).take(3).collect();
        return Err(raise(format!(
            "{name:?} is neither a system call nor an option of hooks{}",
            did_you_mean(&both)
        )));
    }
    Ok(())
}
