//! Going to an event of a recording, and spinning live copies of a process off there.
//!
//! [`Replay`] is what an engine can do; [`Replayer`] is the embedded one. It keeps one kernel process for each
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
mod world;

pub use checkpoint::CheckpointLimits;
pub use doubt::Doubt;
pub use embedded::{Output, Replayer};
pub use error::{Error, Result};

use crate::history::Recording;
use crate::process::Process;
use crate::recording::Event;
use std::sync::Arc;

/// An engine that can go to the events of a recording.
pub trait Replay {
    /// The recording that it goes through.
    fn recording(&self) -> &Arc<Recording>;

    /// Goes to an event: its call has been made and not yet answered. Forwards or backwards.
    ///
    /// # Errors
    /// If there is no such event, or the replay leaves the recording on the way.
    fn replay_to(&mut self, event: u64) -> Result<()>;

    /// Where it stands: the event that has not been answered yet; `None` behind the last.
    fn position(&self) -> Option<(u64, &Event)>;

    /// A live copy of a recorded process as it is now, with all its threads; the replay can go on afterwards.
    /// `pid` is as recorded, of the process or one of its threads; the process at the event where there is none.
    ///
    /// # Errors
    /// If there is no such process at this event.
    fn spin_off(&mut self, pid: Option<i32>) -> Result<Process>;
}
