//! Going on with the kernel instead of the trace: what the program does now.
//!
//! All tasks of a process run at once, and so do the threads and processes that they make; each call stops,
//! is shown to the hooks, and is then made for real. The same engine runs the programs of `live{}`.

mod calls;
mod clock;
mod engine;
mod family;
mod files;
mod filters;
mod hang;
mod identity;
mod own_program;
mod place;
mod program;
mod signals;
mod streams;

pub(super) use engine::Ended;
pub use program::run;

use super::calls::Log;
use super::driver::{self, Driven, Sandbox};
use super::hook::{HookCall, Hooks};
use super::{Options, Result};
use crate::replay::{Place, Process};
use crate::restore::{self, restore};
use crate::sandbox::{Limits, Request};
use crate::tracee::Stopped;
pub(super) use clock::{Clocks, TimeTold};
use engine::{Engine, Start};
use identity::Numbers;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tracing::trace_span;

/// How a process goes on live.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// How long it may take.
    pub timeout: Duration,
    /// Where it runs.
    pub sandbox: Sandbox,
    /// How far its clocks are ahead.
    pub ahead: Duration,
}

impl From<&Options> for How {
    fn from(options: &Options) -> How {
        How {
            timeout: options.timeout,
            sandbox: options.sandbox,
            ahead: Duration::ZERO,
        }
    }
}

/// Lets a process go on live, everything real from here; of the options, those that are about the time and the
/// sandbox count.
///
/// # Errors
/// If a hook fails, the process cannot be traced, or it cannot have the sandbox. The process is then killed.
pub fn live(process: Process, hooks: &mut dyn Hooks, options: &Options) -> Result<Driven> {
    driver::go_on(process, hooks, options)
}

/// The same for a process that stands somewhere in an injection; `met` is the call at whose entry its task stands,
/// where hooks have seen that already.
pub(super) fn go_on(
    mut process: Process,
    mut met: Option<Box<HookCall>>,
    hooks: &mut dyn Hooks,
    log: &mut Log,
    how: How,
) -> Result<Ended> {
    let numbers = Numbers::of(&process)?;
    let mut clocks = Clocks::at(&process.recording, process.event.0)?;
    clocks.advance(how.ahead);
    let mut sandbox = None;
    let restored;
    let mut missing;
    match how.sandbox {
        Sandbox::None => {
            if !process.retired.is_empty() || process.task.tid() != process.real_pid {
                // Threads that are no more for the program are still there for the kernel.
                process = process.fork()?;
            }
            let state = restore::State {
                recording: &process.recording,
                program: &process.program,
                place: process.place,
                table: &process.descriptors,
                changes: &process.since,
            };
            restored = restore(&mut process.task, &state)?;
            missing = Vec::new();
        }
        Sandbox::Cow => {
            let writable = place::writable(&process);
            let table = process.descriptors.clone();
            let request = Request {
                writable: &writable,
                cwd: table.cwd(),
                pid: numbers.own(process.pid),
                limits: Limits::default(),
                clocks: None,
            };
            let (since, recording) = (process.since.clone(), Arc::clone(&process.recording));
            let program = Arc::clone(&process.program);
            let state = restore::State {
                recording: &recording,
                program: &program,
                place: Place::Between,
                table: &table,
                changes: &since,
            };
            let told =
                |task: &mut Stopped| trace_span!("restore").in_scope(|| restore(task, &state));
            let (copy, made, told) = trace_span!("sandbox")
                .in_scope(|| process.into_sandbox(&request, |tid| numbers.own(tid), told))?;
            process = copy;
            restored = told?;
            missing = made.notes.clone();
            sandbox = Some(made);
        }
    }
    if let Some(seen) = &mut met {
        seen.memory = process.task.memory();
        seen.shared = process.shared.clone();
    }
    missing.extend(restored.missing);
    missing.extend(restored.timers.start(&mut process.task, process.place)?);
    let streams = Streams::of(restored.streams, &process.descriptors);
    let start = Start {
        process,
        numbers,
        met,
        missing,
        streams,
        clocks,
        sandbox,
    };
    let (engine, standing) = Engine::new(start, hooks, log, how.timeout)?;
    engine.run(standing)
}
