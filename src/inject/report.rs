//! The findings of an injection, of which its outcome is made.

use super::hook::Hooks;
use super::log::Log;
use super::outcome::{ChangedFile, Divergence, Outcome, Status};
use crate::backtrace::Frame;
use crate::process::Process;
use crate::trace::Exit;

/// An injection's result.
#[derive(Debug)]
pub struct Driven {
    /// What became of the process.
    pub outcome: Outcome,
    /// The process itself, with [`Finally::Keep`](super::Finally::Keep) at the end of the trace.
    pub process: Option<Process>,
}

/// The findings so far.
#[derive(Default)]
pub(super) struct Report {
    /// The calls and the output.
    pub log: Log,
    /// The first place at which the process left the trace.
    pub divergence: Option<Divergence>,
    /// The reason that a hook gave for stopping it.
    pub reason: Option<String>,
    /// The stack where a signal killed it or its time was up.
    pub backtrace: Vec<Frame>,
    /// The call or the code that it was at when its time was up.
    pub hang: Option<String>,
    /// The state that could not be restored for live, and what the sandbox lacks, a sentence each.
    pub missing: Vec<String>,
    /// The files that it has changed in its sandbox.
    pub files: Vec<ChangedFile>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub status: Status,
    pub exit: Option<Exit>,
}

impl Report {
    /// The outcome of a process that ended so, under these hooks.
    pub fn outcome(mut self, ended: Ended, hooks: &dyn Hooks) -> Outcome {
        let Ended { status, exit } = ended;
        Outcome {
            divergence: self.divergence,
            exit,
            calls: self.log.trace(),
            stdout: self.log.stdout,
            stderr: self.log.stderr,
            injected: self.log.injected,
            unfired: hooks.unfired(),
            missing: self.missing,
            files: self.files,
            backtrace: self.backtrace,
            hang: self.hang,
            reason: self.reason,
            sent: self.log.sent,
            ..Outcome::new(status)
        }
    }
}
