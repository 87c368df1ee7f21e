//! What became of an injected process.

use crate::backtrace::Frame;
use crate::replay::Doubt;
use crate::trace::{Exit, Origin, Trace};
use std::collections::BTreeMap;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It followed the trace to its end.
    Completed,
    /// It left the trace, and was stopped there.
    Diverged,
    /// It exited.
    Exited,
    /// A signal killed it.
    Signaled,
    /// Its time was up.
    Timeout,
    /// A hook stopped it.
    Stopped,
}

impl Status {
    /// The word that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            Status::Completed => "completed",
            Status::Diverged => "diverged",
            Status::Exited => "exited",
            Status::Signaled => "signaled",
            Status::Timeout => "timeout",
            Status::Stopped => "stopped",
        }
    }
}

/// The first place at which the process left the trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The index of the trace's call.
    pub index: usize,
    /// The event, where the trace is a recording's.
    pub event: Option<u64>,
    /// The thread that left it, by its recorded tid.
    pub tid: i32,
    /// The call that the trace has there, in strace's syntax.
    pub expected: String,
    /// The call that the process made, or what it did instead.
    pub actual: String,
    /// The argument that differs, by name; `None` where it is another call.
    pub arg: Option<String>,
    /// Where the trace has it.
    pub origin: Origin,
    /// Why it may have, if something speaks for that and nothing else has interfered with it.
    pub doubt: Doubt,
}

/// A call whose answer was not the trace's (or the kernel's).
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The index in the trace; `None` in live.
    pub index: Option<usize>,
    /// The event, where the trace is a recording's.
    pub event: Option<u64>,
    /// The call with the answer that it got, in strace's syntax.
    pub call: String,
    /// The rule or hook that did it.
    pub rule: String,
}

/// What became of an injected process.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Where it left the trace, whatever came after.
    pub divergence: Option<Divergence>,
    /// Its exit status or signal, where it came to that.
    pub exit: Option<Exit>,
    /// What it wrote to its standard output since the spin-off.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error since the spin-off.
    pub stderr: Vec<u8>,
    /// The calls that it made, with the answers that it got. Once they have 16 MiB of data together, longer strings are
    /// cut; and there are 100,000 calls at most.
    pub calls: Trace,
    /// The calls that were interfered with.
    pub injected: Vec<Injected>,
    /// Rules that never fired.
    pub unfired: Vec<String>,
    /// What could not be re-created when it went live, a sentence each.
    pub missing: Vec<String>,
    /// Why a hook stopped it.
    pub reason: Option<String>,
    /// The files that it changed, or would have.
    pub files: Vec<ChangedFile>,
    /// Where it hung, where its time was up: a call, or a place in its code.
    pub hang: Option<String>,
    /// Where it was when a signal killed it or its time was up, innermost first.
    pub backtrace: Vec<Frame>,
    /// What it wrote to each descriptor that is a socket or a pipe, up to a limit.
    pub sent: BTreeMap<i32, Vec<u8>>,
}

impl Outcome {
    /// The outcome of a process that ended so and did nothing.
    pub fn new(status: Status) -> Outcome {
        Outcome {
            status,
            divergence: None,
            exit: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            calls: Trace::default(),
            injected: Vec::new(),
            unfired: Vec::new(),
            missing: Vec::new(),
            reason: None,
            files: Vec::new(),
            hang: None,
            backtrace: Vec::new(),
            sent: BTreeMap::new(),
        }
    }
}

/// A file that a process changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path.
    pub path: Vec<u8>,
    /// What was done to it: `created`, `changed`, `deleted`, ….
    pub kind: String,
}
