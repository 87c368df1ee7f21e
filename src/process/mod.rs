//! A process as every engine leaves it to whoever drives it: a copy of a recorded one, stopped, with what is known of it.
//!
//! Knows neither how an engine made it nor what drives it.

mod goal;
mod pages;
pub mod pieces;
mod shared_memory;
mod shared_objects;
mod thread;

pub use goal::Goal;
pub use pages::Pages;
pub use shared_memory::{SharedMemory, remap_as_recorded};
pub(crate) use shared_memory::{page_end, remap, segment_prot, unmap};
pub use shared_objects::Objects;
pub use thread::{Kept, Place, Thread};
pub(crate) use thread::{NO_ALTERNATE_STACK, new_thread, settle};

use crate::recording::{DescriptorTable, Event, Program, Recording, Since};
use crate::sandbox;
use crate::tracee::segv::SegvState;
use crate::tracee::{Error, Result, Stopped, TaskMemory};
use std::sync::Arc;

/// A process spun off a replay: a copy of its own, stopped, with what is known of the recorded one.
/// Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// Its other threads.
    pub threads: Vec<Thread>,
    /// Threads that have ended, as far as the program knows: one that the kernel takes for the process's first must outlive
    /// the others, and one that is killed takes them along.
    pub retired: Vec<Stopped>,
    /// The task that is driven.
    pub task: Stopped,
    /// Where that stands.
    pub place: Place,
    /// The recording that it comes from.
    pub recording: Arc<Recording>,
    /// The event at which it was spun off, and what it is.
    pub event: (u64, Event),
    /// The file of the program that it runs.
    pub program: Arc<Program>,
    /// Its pid as recorded.
    pub pid: i32,
    /// The tid of the task, as recorded.
    pub tid: i32,
    /// Its parent's pid as recorded.
    pub ppid: i32,
    /// What its descriptors are; the kernel knows none of them before it goes live.
    pub descriptors: DescriptorTable,
    /// What it did to what the kernel keeps, since it was spun off.
    pub since: Since,
    /// What a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
    /// The memory that it shares with itself: see [`SharedMemory`].
    pub shared: SharedMemory,
    /// What the kernel keeps of the task.
    pub kept: Kept,
    /// What makes sandboxes for it.
    pub sandboxes: sandbox::Shared,
    /// The pid that the kernel knows it by.
    pub real_pid: i32,
    /// What jumps have brought so far (see [`Frame::Jump`](crate::recording::Frame::Jump)), for as long as the process
    /// is in every respect as it was recorded.
    pub pages: Option<Pages>,
}

impl Process {
    /// The pid that the kernel knows it by.
    pub fn real_pid(&self) -> i32 {
        self.real_pid
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        self.task.memory()
    }

    /// Its threads' tids as recorded, by rising number.
    pub fn tids(&self) -> Vec<i32> {
        let others = self.threads.iter().map(|thread| thread.tid);
        let mut tids: Vec<i32> = others.chain([self.tid]).collect();
        tids.sort_unstable();
        tids
    }

    /// A copy of the copy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(&mut self) -> Result<Process> {
        let mut remote = match self.place {
            Place::Entry => self.task.remote_at_entry()?,
            Place::Between => self.task.remote_at_boundary()?,
        };
        let regs = *remote.saved();
        let mut task = remote.fork_between()?;
        remote.finish()?;
        let shared = SharedMemory::of_copy(&self.shared.objects(), &mut task)?;
        let sigmask = self.task.sigmask()?;
        let vector = self.task.vector()?;
        self.kept.apply(&mut task, true)?;
        let mut threads = Vec::new();
        for thread in &self.threads {
            let regs = thread.task.regs()?;
            let vector = thread.task.vector()?;
            let mut copy = new_thread(&mut task)?;
            thread.kept.apply(&mut copy, false)?;
            let sigmask = thread.task.sigmask()?;
            settle(&mut copy, &regs, Some(&vector), sigmask, thread.place)?;
            threads.push(Thread {
                tid: thread.tid,
                task: copy,
                place: thread.place,
                kept: thread.kept.clone(),
            });
        }
        settle(&mut task, &regs, Some(&vector), sigmask, self.place)?;
        Ok(Process {
            threads,
            retired: Vec::new(),
            real_pid: task.tid(),
            pages: self.pages.clone(),
            task,
            place: self.place,
            recording: Arc::clone(&self.recording),
            event: self.event.clone(),
            program: Arc::clone(&self.program),
            pid: self.pid,
            tid: self.tid,
            ppid: self.ppid,
            descriptors: self.descriptors.clone(),
            since: self.since.clone(),
            segv: self.segv.clone(),
            shared,
            kept: self.kept.clone(),
            sandboxes: self.sandboxes.clone(),
        })
    }

    /// Takes the process into a sandbox of its own: what comes back is a copy, with its recorded numbers where they are
    /// to be had: those by which `number` says that its threads know themselves. `revive` is called when the copy is inside and has no other threads yet; it stands between calls.
    ///
    /// # Errors
    /// If the system refuses a step.
    pub fn into_sandbox<R>(
        mut self,
        request: &sandbox::Request<'_>,
        number: impl Fn(i32) -> i32,
        revive: impl FnOnce(&mut Stopped) -> R,
    ) -> sandbox::Result<(Process, sandbox::Sandbox, R)> {
        // Calls of ours unblock signals of ours.
        let sigmask = self.task.sigmask()?;
        let vector = self.task.vector()?;
        let mut remote = match self.place {
            Place::Entry => self.task.remote_at_entry()?,
            Place::Between => self.task.remote_at_boundary()?,
        };
        let regs = *remote.saved();
        // What has threads does not get into namespaces.
        let mut shell = match self.threads.is_empty() && self.retired.is_empty() {
            true => {
                drop(remote);
                self.task
            }
            false => remote.fork_between()?,
        };
        // Inside it does not see us, who have what it shares.
        let shared = SharedMemory::of_copy(&self.shared.objects(), &mut shell)?;
        let (mut first, sandbox) = self.sandboxes.enter(shell, request)?;
        let real_pid = first.tid();
        let revived = revive(&mut first);
        // The kernel takes the task that is there for the process's first.
        let mut standing = vec![(self.tid, &self.kept, self.place, regs, vector, sigmask)];
        for thread in &self.threads {
            let (regs, sigmask) = (thread.task.regs()?, thread.task.sigmask()?);
            let vector = thread.task.vector()?;
            standing.push((
                thread.tid,
                &thread.kept,
                thread.place,
                regs,
                vector,
                sigmask,
            ));
        }
        let leader = standing.iter().position(|(tid, ..)| *tid == self.pid);
        standing.swap(0, leader.unwrap_or(0));
        let mut copies = Vec::new();
        for (at, (tid, kept, ..)) in standing.iter().enumerate() {
            if at == 0 {
                kept.apply(&mut first, *tid == self.tid)?;
                continue;
            }
            let (mut copy, _) = sandbox.thread(&mut first, number(*tid))?;
            kept.apply(&mut copy, false)?;
            copies.push(copy);
        }
        let mut driven = None;
        let mut threads = Vec::new();
        for ((tid, kept, place, regs, vector, sigmask), mut copy) in standing
            .into_iter()
            .zip(std::iter::once(first).chain(copies))
        {
            sandbox.seal(&mut copy)?;
            settle(&mut copy, &regs, Some(&vector), sigmask, place)?;
            match tid == self.tid {
                true => driven = Some(copy),
                false => threads.push(Thread {
                    tid,
                    task: copy,
                    place,
                    kept: kept.clone(),
                }),
            }
        }
        let Some(task) = driven else {
            return Err(Error::os(
                "find its task",
                self.tid,
                std::io::Error::from(std::io::ErrorKind::NotFound),
            )
            .into());
        };
        let process = Process {
            real_pid,
            retired: Vec::new(),
            task,
            threads,
            shared,
            ..self
        };
        Ok((process, sandbox, revived))
    }
}
