//! The findings of an injection, from which its outcome is made.

use super::hook::Hooks;
use super::log::Log;
use super::outcome::{ChangedFile, Divergence, Outcome, ProcessOutcome, Status};
use crate::backtrace::Frame;
use crate::process::Process;
use crate::trace::Exit;

/// The result of an injection.
#[derive(Debug)]
pub struct Driven {
    /// The outcome of the process.
    pub outcome: Outcome,
    /// The process itself, if [`Finally::Keep`](super::Finally::Keep) keeps it at the end of the trace.
    pub process: Option<Process>,
    /// Whether the process went on live.
    pub went_live: bool,
}

/// The findings so far.
#[derive(Default)]
pub(super) struct Report {
    /// The calls and the output.
    pub log: Log,
    /// The first place at which the process left the trace.
    pub divergence: Option<Divergence>,
    /// The reason for which a hook stopped the process.
    pub reason: Option<String>,
    /// The backtrace at a deadly signal or at the time limit.
    pub backtrace: Vec<Frame>,
    /// The call or the code at which the process was at the time limit.
    pub hang: Option<String>,
    /// The state that could not be restored for live, and the limits of the sandbox, a sentence each.
    pub missing: Vec<String>,
    /// The files that the process has changed in its sandbox.
    pub files: Vec<ChangedFile>,
    /// The recorded pid of the process; 0 where it was not recorded.
    pub pid: i32,
    /// What the other processes did that were driven with it.
    pub relatives: Vec<ProcessOutcome>,
    /// The end of the process itself, where the outcome has that of another one.
    pub own: Option<Ended>,
}

/// The outcome of a process that was driven with another one.
pub(super) fn of_relative(
    pid: i32,
    ended: Option<Ended>,
    log: Log,
    backtrace: Vec<Frame>,
) -> ProcessOutcome {
    let log = log.take();
    ProcessOutcome {
        pid,
        status: ended.map(|ended| ended.status),
        exit: ended.and_then(|ended| ended.exit),
        stdout: log.stdout,
        stderr: log.stderr,
        backtrace,
        injected: log.injected,
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub status: Status,
    pub exit: Option<Exit>,
}

/// The most objects that are listed as missing one by one.
const MOST_MISSING: usize = 1000;

impl Report {
    /// Adds an object that is missing, once, if the list is not full.
    pub fn miss(&mut self, what: String) {
        if self.missing.len() < MOST_MISSING && !self.missing.contains(&what) {
            self.missing.push(what);
        }
    }

    /// Makes the outcome of a process that ended like this under these hooks.
    pub fn outcome(self, ended: Ended, hooks: &dyn Hooks) -> Outcome {
        let Ended { status, exit } = ended;
        let log = self.log.take();
        let relatives = self.relatives.iter().flat_map(|one| one.injected.clone());
        let injected: Vec<_> = log.injected.into_iter().chain(relatives).collect();
        let own = self.own.unwrap_or(ended);
        let mut processes = self.relatives;
        let is_told = |process: &ProcessOutcome| process.pid == self.pid;
        if !processes.is_empty() && !processes.iter().any(is_told) {
            processes.push(ProcessOutcome {
                pid: self.pid,
                status: Some(own.status),
                exit: own.exit,
                stdout: log.stdout.clone(),
                stderr: log.stderr.clone(),
                backtrace: self.backtrace.clone(),
                injected: Vec::new(),
            });
            processes.sort_by_key(|process| process.pid);
        }
        let mut missing = self.missing;
        missing.extend(log.missing);
        Outcome {
            pid: self.pid,
            processes,
            divergence: self.divergence,
            exit,
            calls: log.calls,
            stdout: log.stdout,
            stderr: log.stderr,
            injected,
            unfired: hooks.unfired(),
            missing,
            files: self.files,
            backtrace: self.backtrace,
            hang: self.hang,
            reason: self.reason,
            sent: log.sent,
            ..Outcome::new(status)
        }
    }
}
