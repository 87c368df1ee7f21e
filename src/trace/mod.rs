//! Observed calls, wherever they came from: a [`Trace`] is a list of [`Entry`]s,
//! and a call's arguments are [`Value`]s.
//!
//! This module knows neither strace's syntax (see [`crate::strace`]) nor
//! processes. Constants are looked up in [`crate::syscall::consts`].

mod value;

pub use value::{Field, Value};

use std::sync::Arc;

/// Where an entry came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line (from 1) of a text in strace's syntax.
    Text {
        /// The file's name, or what stands for it (`<string>`).
        file: Arc<str>,
        /// The line on which the call began, from 1.
        line: u32,
    },
    /// An event of a recording, from 1.
    Event(u64),
    /// Made by a script or a test.
    Made,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It returned this value.
    Value(i64),
    /// It failed with this errno (positive).
    Errno(i32),
    /// It was interrupted and will be made again by the kernel
    /// (`? ERESTARTSYS` and kin; the kernel's number, 512 to 516).
    Restart(i32),
    /// It never returned (`= ?`): exit_group, or the process died.
    Never,
}

impl Answer {
    /// The value that the kernel leaves in the return register: negative is -errno.
    /// `None` where the call never returned.
    pub fn raw(&self) -> Option<i64> {
        match *self {
            Answer::Value(v) => Some(v),
            Answer::Errno(e) | Answer::Restart(e) => Some(-i64::from(e)),
            Answer::Never => None,
        }
    }

    /// The answer that a raw return value stands for.
    pub fn from_raw(raw: i64) -> Answer {
        match raw {
            -516..=-512 => Answer::Restart(-raw as i32),
            -4095..=-1 => Answer::Errno(-raw as i32),
            v => Answer::Value(v),
        }
    }
}

/// One observed system call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Pid or tid as written in the trace; 0 where the text has no such column.
    pub tid: i32,
    /// The call's name as written (`send`, `stat64` and other old names are kept).
    pub name: String,
    /// The arguments, in the order of the man page.
    pub args: Vec<Value>,
    /// How it ended.
    pub answer: Answer,
    /// Where it came from.
    pub origin: Origin,
}

/// One line of a trace.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A system call.
    Call(Call),
    /// A signal was delivered (`--- SIGCHLD {si_signo=SIGCHLD, …} ---`).
    Signal {
        /// The task that got it; 0 where unknown.
        tid: i32,
        /// The signal's number.
        signal: i32,
        /// Its siginfo, as a struct.
        info: Value,
        /// Where it came from.
        origin: Origin,
    },
    /// The task ended (`+++ exited with 0 +++`, `+++ killed by SIGKILL +++`).
    Exit {
        /// The task that ended; 0 where unknown.
        tid: i32,
        /// How.
        exit: Exit,
        /// Where it came from.
        origin: Origin,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel said that it dumped core.
        core: bool,
    },
}

impl Exit {
    /// The exit status that a shell reports: the code, or 128 plus the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal { signal, .. } => 128 + signal,
        }
    }
}

/// Observed calls in order, with the signals and exits between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    entries: Vec<Entry>,
    calls: Vec<usize>,
}

impl Trace {
    /// A trace of these entries.
    pub fn new(entries: Vec<Entry>) -> Trace {
        let calls = (0..entries.len())
            .filter(|&i| matches!(entries[i], Entry::Call(_)))
            .collect();
        Trace { entries, calls }
    }

    /// Everything: calls, signals and exits.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is no call in it.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The call with this index, from 0.
    pub fn call(&self, index: usize) -> Option<&Call> {
        match self.entries.get(*self.calls.get(index)?) {
            Some(Entry::Call(call)) => Some(call),
            _ => None,
        }
    }

    /// The calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        (0..self.len()).filter_map(|i| self.call(i))
    }
}
