//! A live copy of a recorded process.

use crate::recording::{DescriptorTable, Event, Recording};
use crate::tracee::segv::SegvState;
use crate::tracee::{Result, Stopped, TaskMemory};
use std::sync::Arc;

/// Where a stopped process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the entry of a call: made and not yet answered.
    Entry,
    /// Between calls.
    Between,
}

/// A process spun off a replay: a copy of its own, stopped, with what is known of the recorded one.
/// Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The task.
    pub task: Stopped,
    /// Where it stands.
    pub place: Place,
    /// The recording that it comes from.
    pub recording: Arc<Recording>,
    /// The event at which it was spun off, and what it is.
    pub event: (u64, Event),
    /// Its pid as recorded.
    pub pid: i32,
    /// Its parent's pid as recorded.
    pub ppid: i32,
    /// What its descriptors are; the kernel knows none of them before it goes live.
    pub descriptors: DescriptorTable,
    /// What a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
}

impl Process {
    /// The pid that the kernel knows it by.
    pub fn real_pid(&self) -> i32 {
        self.task.tid()
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        self.task.memory()
    }

    /// A copy of the copy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(&mut self) -> Result<Process> {
        let task = copy(&mut self.task, self.place)?;
        Ok(Process {
            task,
            place: self.place,
            recording: Arc::clone(&self.recording),
            event: self.event.clone(),
            pid: self.pid,
            ppid: self.ppid,
            descriptors: self.descriptors.clone(),
            segv: self.segv.clone(),
        })
    }
}

/// A copy of a task that stands at this place.
pub(super) fn copy(task: &mut Stopped, place: Place) -> Result<Stopped> {
    let mut remote = match place {
        Place::Entry => task.remote_at_entry()?,
        Place::Between => task.remote_at_boundary()?,
    };
    let copy = remote.fork()?;
    remote.finish()?;
    Ok(copy)
}
