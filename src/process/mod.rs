//! A process as an engine hands it to its driver: a copy of a recorded process, stopped, with all that is known of it.
//!
//! This module knows neither how an engine makes a process nor what drives it.

mod pages;
pub(crate) mod remap;
mod run_target;
mod shared_memory;
mod shared_objects;
mod thread;

pub use pages::JumpPages;
pub use run_target::RunTarget;
pub use shared_memory::{SharedMemory, remap_as_recorded};
pub(crate) use shared_memory::{page_end, remap, segment_prot, unmap};
pub(crate) use shared_objects::Objects;
pub(crate) use thread::{NO_ALTERNATE_STACK, new_thread};
pub use thread::{StopPoint, TaskAttributes, Thread, ThreadState};

use crate::history::{FileChanges, KernelChanges, Recording};
use crate::kernel::{DescriptorTable, Program};
use crate::recording::Event;
use crate::sandbox;
use crate::tracee::{Error, Result, Stopped, TaskMemory};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

/// The state that the threads of a process share, and the facts that are known of the recorded process.
#[derive(Debug)]
pub struct ThreadGroup {
    /// The recording from which the process comes.
    pub recording: Arc<Recording>,
    /// The number of the event at which the process was spun off, and the event.
    pub event: (u64, Event),
    /// The file of the program that the process runs.
    pub program: Arc<Program>,
    /// The recorded pid.
    pub pid: i32,
    /// The recorded pid of the parent.
    pub ppid: i32,
    /// The pid in the kernel.
    pub real_pid: i32,
    /// The descriptors. The kernel has none of them before the process goes live.
    pub descriptors: DescriptorTable,
    /// The changes that the process's calls have made to the kernel's state since the spin-off.
    pub changes: KernelChanges,
    /// The calls since the spin-off that had other effects on files than the recorded ones.
    pub files: FileChanges,
    /// The memory that several mappings of the process share: see [`SharedMemory`].
    pub shared: SharedMemory,
    /// The pages of the jumps so far (see [`Frame::Jump`](crate::recording::Frame::Jump)), as long as the process is in
    /// every respect as it was recorded.
    pub pages: Option<JumpPages>,
    /// Threads that have ended for the program. Their tasks are kept: the kernel's thread group leader must outlive the
    /// other threads, and killing one of the threads kills all of them.
    pub retired: Vec<Stopped>,
}

impl ThreadGroup {
    /// The same group without its tasks, for what is asked about its files.
    pub fn for_files(&self) -> ThreadGroup {
        ThreadGroup {
            recording: Arc::clone(&self.recording),
            event: self.event.clone(),
            program: Arc::clone(&self.program),
            pid: self.pid,
            ppid: self.ppid,
            real_pid: 0,
            descriptors: self.descriptors.clone(),
            changes: self.changes.clone(),
            files: self.files.clone(),
            shared: self.shared.clone(),
            pages: None,
            retired: Vec::new(),
        }
    }
}

/// A copy of a recorded process, stopped, with all of its threads. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The state that the threads share.
    pub group: ThreadGroup,
    /// The thread that is driven.
    pub driven: Thread,
    /// The other threads.
    pub threads: Vec<Thread>,
}

impl Process {
    /// The pid in the kernel.
    pub fn real_pid(&self) -> i32 {
        self.group.real_pid
    }

    /// The memory of the process.
    pub fn memory(&self) -> TaskMemory {
        self.driven.task.memory()
    }

    /// The recorded tids of the threads, in ascending order.
    pub fn tids(&self) -> Vec<i32> {
        let all = std::iter::once(&self.driven).chain(&self.threads);
        let mut tids: Vec<i32> = all.map(|thread| thread.tid).collect();
        tids.sort_unstable();
        tids
    }

    /// Makes a copy of this copy.
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
        driven.attributes.apply(&mut task, true)?;
        let mut threads = Vec::new();
        for thread in &self.threads {
            let thread = ThreadState::of(thread)?;
            let mut copy = new_thread(&mut task)?;
            thread.attributes.apply(&mut copy, false)?;
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
                files: group.files.clone(),
                shared,
                pages: group.pages.clone(),
                retired: Vec::new(),
            },
            driven: driven.settle(task)?,
            threads,
        })
    }

    /// Moves the process into a new sandbox. The result is a copy, whose threads have the tids by which the program
    /// knows them (`number` maps the recorded tids to these) if the kernel can give them. `is_right` and `put` prepare the
    /// sandbox before the copy is inside ([`prepared`](sandbox::Sandboxes::prepared)), with the memory that it shares; `restore`
    /// is called once the copy is inside, while it is stopped between calls and has no other threads yet.
    ///
    /// # Errors
    /// If the system refuses a step.
    pub fn into_sandbox<R>(
        self,
        request: &sandbox::Request<'_>,
        number: impl Fn(i32) -> i32,
        is_right: impl FnOnce(&dyn Any) -> bool,
        put: impl FnOnce(
            &mut sandbox::Sandbox,
            Option<Rc<dyn Any>>,
            &SharedMemory,
        ) -> sandbox::Result<()>,
        restore: impl FnOnce(&sandbox::Sandbox, &SharedMemory, &ThreadGroup, &mut Stopped) -> R,
    ) -> sandbox::Result<(Process, sandbox::Sandbox, R)> {
        let Process {
            mut group,
            mut driven,
            threads,
        } = self;
        let tid = driven.tid;
        // Remote calls unblock SIGTRAP in the task, so the states are taken first.
        let mut standing = vec![ThreadState::of(&driven)?];
        for thread in &threads {
            standing.push(ThreadState::of(thread)?);
        }
        // A process with several threads cannot enter namespaces.
        let mut remote = driven.remote()?;
        let mut shell = match threads.is_empty() && group.retired.is_empty() {
            true => {
                drop(remote);
                driven.task
            }
            false => remote.fork_between()?,
        };
        // Inside of the sandbox, the copy cannot open the shared memory in the /proc of this process.
        let shared = SharedMemory::of_copy(&group.shared.objects(), &mut shell)?;
        let sandboxes = sandbox::Sandboxes::of_thread();
        let put = |sandbox: &mut sandbox::Sandbox, kept| put(sandbox, kept, &shared);
        let (mut first, sandbox) = sandboxes.enter_prepared(shell, request, is_right, put)?;
        group.real_pid = first.tid();
        let restored = restore(&sandbox, &shared, &group, &mut first);
        // The kernel takes this task for the thread group leader.
        let leader = standing.iter().position(|thread| thread.tid == group.pid);
        standing.swap(0, leader.unwrap_or(0));
        let mut copies = Vec::new();
        for (at, thread) in standing.iter().enumerate() {
            if at == 0 {
                thread.attributes.apply(&mut first, thread.tid == tid)?;
                continue;
            }
            let (mut copy, _) = sandbox.thread(&mut first, number(thread.tid))?;
            thread.attributes.apply(&mut copy, false)?;
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
