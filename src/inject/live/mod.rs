//! Going on with the kernel instead of the trace: what the program does now.
//!
//! All tasks of a process run at once, and so do the threads and processes that they make; each call stops,
//! is shown to the hooks, and is then made for real. The same engine runs the programs of `live{}`.

mod calls;
mod clock;
mod engine;
mod family;
mod identity;
mod signals;
mod streams;

pub(super) use engine::Ended;

use super::calls::Log;
use super::driver::{self, Driven};
use super::hook::{HookCall, Hooks};
use super::{Options, Result, descriptors};
use crate::replay::Process;
use clock::Clocks;
use engine::{Engine, Start};
use std::time::Duration;
use streams::Streams;

/// Lets a process go on live, everything real from here.
///
/// # Errors
/// If a hook fails, or the process cannot be traced. The process is then killed.
pub fn live(process: Process, hooks: &mut dyn Hooks, timeout: Duration) -> Result<Driven> {
    let options = Options {
        timeout,
        ..Options::default()
    };
    driver::go_on(process, hooks, &options)
}

/// The same for a process that stands somewhere in an injection; `met` is the call at whose entry its task stands,
/// where hooks have seen that already.
pub(super) fn go_on(
    mut process: Process,
    met: Option<Box<HookCall>>,
    hooks: &mut dyn Hooks,
    log: &mut Log,
    timeout: Duration,
) -> Result<Ended> {
    let clocks = Clocks::at(&process.recording, process.event.0)?;
    let missing = descriptors::recreate(&mut process.task, process.place, &process.descriptors)?;
    let streams = Streams::of(process.task.tid(), &process.descriptors);
    let start = Start {
        process,
        met,
        missing,
        streams,
        clocks,
    };
    let (engine, standing) = Engine::new(start, hooks, log, timeout)?;
    engine.run(standing)
}
