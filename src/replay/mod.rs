//! Going to an event of a recording, and spinning live copies of a process off there.
//!
//! [`Replay`] is the trait of engines; [`Replayer`] is the embedded one. It keeps one kernel process for each
//! recorded address space, in which the recorded tasks take turns.

mod check;
mod checkpoint;
mod context;
mod doubt;
mod embedded;
mod error;
mod execute;
mod frames;
mod signal_state;
mod space;
mod spin_off;
mod state;

pub use checkpoint::CheckpointLimits;
pub use doubt::Doubt;
pub use embedded::Replayer;
pub use error::{Error, Result};

use crate::history::{Kin, Recording};
use crate::kernel::{DescriptorTable, Stream};
use crate::process::Process;
use crate::recording::Event;
use crate::trace::Exit;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// A sink for the output of a replayed program: the stream, and the bytes that are written to it.
pub type Output = Box<dyn FnMut(Stream, &[u8])>;

/// An engine on one recording, with everything that its users need.
///
/// An engine starts processes only when it is asked to go to an event. After an error the position is undefined; going to an
/// event starts again.
pub trait Replay {
    /// The recording: its events, its processes, and the kernel's state at each event.
    fn recording(&self) -> &Arc<Recording>;

    /// A second, independent replay of the same recording.
    fn another(&self) -> Box<dyn Replay>;

    /// Sets the limits of checkpoints, and drops the present ones. An engine without checkpoints
    /// ignores it.
    fn set_checkpoints(&mut self, limits: CheckpointLimits);

    /// The events at which there are checkpoints, by rising number.
    fn checkpoints(&self) -> Vec<u64>;

    /// Passes the output of the program to this sink from now on.
    fn set_output(&mut self, output: Output);

    /// Goes to an event: its call has been made and not yet answered. Forwards or backwards.
    ///
    /// # Errors
    /// If there is no such event, or the replay leaves the recording on the way.
    fn replay_to(&mut self, event: u64) -> Result<()>;

    /// Goes to the end of the recording. Returns the end of the program, or `None` where the recording is incomplete.
    ///
    /// # Errors
    /// If the replay leaves the recording.
    fn run_to_end(&mut self) -> Result<Option<Exit>>;

    /// The position: the event that has not been answered yet. `None` before the first [`Replay::replay_to`], and after
    /// the last event.
    fn position(&self) -> Option<(u64, &Event)>;

    /// The process of the pending event's task; `None` where there is no such event.
    fn pid(&self) -> Option<i32>;

    /// The processes that exist at the pending event, and the threads of each, by rising number.
    fn processes(&self) -> BTreeMap<i32, Vec<i32>>;

    /// The descriptors of a task at the pending event; `None` where there is no such task.
    fn descriptors(&self, tid: i32) -> Option<DescriptorTable>;

    /// A live copy of a recorded process in its present state, with all its threads; the replay can go on afterwards.
    /// `pid` is the recorded pid of the process or of one of its threads; `None` means the process of the pending event.
    ///
    /// The copy can read neither the time stamp counter (an engine makes it under
    /// [`TscOff`](crate::tracee::tsc_off::TscOff)) nor, where the recording has answers of `cpuid`, the processor's
    /// ([`cpuid::trap`](crate::tracee::cpuid::trap)); its threads get their state by
    /// [`ThreadState::give_to`](crate::process::ThreadState::give_to).
    ///
    /// # Errors
    /// If there is no such process at this event.
    fn spin_off(&mut self, pid: Option<i32>) -> Result<Process>;

    /// Adds copies of the processes that are followed with a copy which [`Replay::spin_off`] has made and nothing has driven.
    /// The replay goes to its event. An engine that cannot make them leaves the copy alone.
    ///
    /// # Errors
    /// If the replay leaves the recording on the way there, or the kernel refuses.
    fn add_relatives(&mut self, _process: &mut Process, _kin: &Kin) -> Result<()> {
        Ok(())
    }

    /// Adds copies of all other processes of a copy's family as they are at an event, which is not before its own; those that
    /// have left the recording before (see [`Process::changes`]) as they were then. The replay goes to the event at which the copy
    /// was spun off. An engine that cannot make them leaves the copy alone.
    ///
    /// # Errors
    /// If the replay leaves the recording on the way there, or the kernel refuses.
    fn add_family(&mut self, _process: &mut Process, _event: u64) -> Result<()> {
        Ok(())
    }
}

/// A function that opens recordings of one engine; `None` where the directory belongs to another engine.
pub type Opener = fn(&Path) -> Option<Result<Box<dyn Replay>>>;

static OPENERS: RwLock<Vec<Opener>> = RwLock::new(Vec::new());

/// Adds an engine, which [`open`] asks before the embedded one.
pub fn add_engine(opener: Opener) {
    let mut openers = OPENERS.write().unwrap_or_else(PoisonError::into_inner);
    openers.push(opener);
}

/// Opens a recording with the engine that recognises it. No process is started.
///
/// # Errors
/// If there is no recording, or its beginning cannot be read.
pub fn open(dir: &Path) -> Result<Box<dyn Replay>> {
    let openers = OPENERS.read().unwrap_or_else(PoisonError::into_inner);
    let other = openers.iter().find_map(|opener| opener(dir));
    other.unwrap_or_else(|| Ok(Box::new(Replayer::new(Arc::new(Recording::open(dir)?)))))
}
