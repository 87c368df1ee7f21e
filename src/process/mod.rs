//! A process as every engine leaves it to whoever drives it: a copy of a recorded one, stopped, with what is known of it.
//!
//! Knows neither how an engine made it nor what drives it.

mod goal;
mod pages;
pub(crate) mod pieces;
mod shared_memory;
mod shared_objects;
mod thread;

pub use goal::Goal;
pub use pages::Pages;
pub use shared_memory::{SharedMemory, remap_as_recorded};
pub(crate) use shared_memory::{page_end, remap, segment_prot, unmap};
pub(crate) use shared_objects::Objects;
pub use thread::{Kept, StopPoint, Thread, ThreadState};
pub(crate) use thread::{NO_ALTERNATE_STACK, new_thread};

use crate::history::{KernelChanges, Recording};
use crate::kernel::{DescriptorTable, Program};
use crate::recording::Event;
use crate::sandbox;
use crate::tracee::{Error, Result, Stopped, TaskMemory};
use std::sync::Arc;

/// The state that the threads of a process share, and what is known of the recorded process.
#[derive(Debug)]
pub struct ThreadGroup {
    /// The recording that it comes from.
    pub recording: Arc<Recording>,
    /// The event at which it was spun off, and what it is.
    pub event: (u64, Event),
    /// The file of the program that it runs.
    pub program: Arc<Program>,
    /// Its pid as recorded.
    pub pid: i32,
    /// Its parent's pid as recorded.
    pub ppid: i32,
    /// The pid that the kernel knows it by.
    pub real_pid: i32,
    /// Its descriptors; the kernel knows none of them before the process goes live.
    pub descriptors: DescriptorTable,
    /// The changes that its calls have made to the kernel's state since it was spun off.
    pub changes: KernelChanges,
    /// The memory that it shares with itself: see [`SharedMemory`].
    pub shared: SharedMemory,
    /// The pages that jumps have brought so far (see [`Frame::Jump`](crate::recording::Frame::Jump)), for as long as the
    /// process is in every respect as it was recorded.
    pub pages: Option<Pages>,
    /// Threads that have ended, as far as the program knows: one that the kernel takes for the process's first must outlive
    /// the others, and one that is killed takes them along.
    pub retired: Vec<Stopped>,
    /// The maker of sandboxes for it.
    pub sandboxes: sandbox::SharedSandboxes,
}

/// A copy of a recorded process, stopped, with all of its threads. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The state that its threads share.
    pub group: ThreadGroup,
    /// The thread that is driven.
    pub driven: Thread,
    /// Its other threads.
    pub threads: Vec<Thread>,
}

impl Process {
    /// The pid that the kernel knows it by.
    pub fn real_pid(&self) -> i32 {
        self.group.real_pid
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        self.driven.task.memory()
    }

    /// Its threads' tids as recorded, by rising number.
    pub fn tids(&self) -> Vec<i32> {
        let all = std::iter::once(&self.driven).chain(&self.threads);
        let mut tids: Vec<i32> = all.map(|thread| thread.tid).collect();
        tids.sort_unstable();
        tids
    }

    /// A copy of the copy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(&mut self) -> Result<Process> {
        let group = &self.group;
        let driven = ThreadState::of(&self.driven)?;
        let mut remote = self.driven.remote()?;
        let mut task = remote.fork_between()?;
        remote.finish()?;
        let shared = SharedMemory::of_copy(&group.shared.objects(), &mut task)?;
        driven.kept.apply(&mut task, true)?;
        let mut threads = Vec::new();
        for thread in &self.threads {
            let thread = ThreadState::of(thread)?;
            let mut copy = new_thread(&mut task)?;
            thread.kept.apply(&mut copy, false)?;
            threads.push(thread.settle(copy)?);
        }
        Ok(Process {
            group: ThreadGroup {
                recording: Arc::clone(&group.recording),
                event: group.event.clone(),
                program: Arc::clone(&group.program),
                pid: group.pid,
                ppid: group.ppid,
                real_pid: task.tid(),
                descriptors: group.descriptors.clone(),
                changes: group.changes.clone(),
                shared,
                pages: group.pages.clone(),
                retired: Vec::new(),
                sandboxes: group.sandboxes.clone(),
            },
            driven: driven.settle(task)?,
            threads,
        })
    }

    /// Takes the process into a sandbox of its own. The result is a copy whose threads have their recorded numbers where the
    /// kernel has them to give: those by which `number` says that the threads know themselves. `restore` is called once
    /// the copy is inside, where it stands between calls and has no other threads yet.
    ///
    /// # Errors
    /// If the system refuses a step.
    pub fn into_sandbox<R>(
        self,
        request: &sandbox::Request<'_>,
        number: impl Fn(i32) -> i32,
        restore: impl FnOnce(&ThreadGroup, &mut Stopped) -> R,
    ) -> sandbox::Result<(Process, sandbox::Sandbox, R)> {
        let Process {
            mut group,
            mut driven,
            threads,
        } = self;
        let tid = driven.tid;
        // Calls of ours unblock signals of ours: this comes first.
        let mut standing = vec![ThreadState::of(&driven)?];
        for thread in &threads {
            standing.push(ThreadState::of(thread)?);
        }
        // What has threads does not get into namespaces.
        let mut remote = driven.remote()?;
        let mut shell = match threads.is_empty() && group.retired.is_empty() {
            true => {
                drop(remote);
                driven.task
            }
            false => remote.fork_between()?,
        };
        // Inside it does not see us, who have what it shares.
        let shared = SharedMemory::of_copy(&group.shared.objects(), &mut shell)?;
        let (mut first, sandbox) = group.sandboxes.enter(shell, request)?;
        group.real_pid = first.tid();
        let restored = restore(&group, &mut first);
        // The kernel takes the task that is there for the process's first.
        let leader = standing.iter().position(|thread| thread.tid == group.pid);
        standing.swap(0, leader.unwrap_or(0));
        let mut copies = Vec::new();
        for (at, thread) in standing.iter().enumerate() {
            if at == 0 {
                thread.kept.apply(&mut first, thread.tid == tid)?;
                continue;
            }
            let (mut copy, _) = sandbox.thread(&mut first, number(thread.tid))?;
            thread.kept.apply(&mut copy, false)?;
            copies.push(copy);
        }
        let tasks = std::iter::once(first).chain(copies);
        let mut inside = Vec::new();
        for (thread, mut task) in standing.into_iter().zip(tasks) {
            sandbox.seal(&mut task)?;
            inside.push(thread.settle(task)?);
        }
        let Some(at) = inside.iter().position(|thread| thread.tid == tid) else {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::os("find its task", tid, missing).into());
        };
        let driven = inside.remove(at);
        group.shared = shared;
        group.retired.clear();
        let process = Process {
            group,
            driven,
            threads: inside,
        };
        Ok((process, sandbox, restored))
    }
}
