//! A process as an engine hands it to its driver: a copy of a recorded process, stopped, with all that is known of it.
//!
//! This module knows neither how an engine makes a process nor what drives it.

mod moved_memory;
mod pages;
pub(crate) mod remap;
mod run_target;
mod shared_memory;
mod shared_objects;
mod thread;
mod tree;

pub use pages::JumpPages;
pub use run_target::RunTarget;
pub use shared_memory::{SharedMemory, remap_as_recorded};
pub(crate) use shared_memory::{page_end, remap, segment_prot, unmap};
pub(crate) use shared_objects::Objects;
pub(crate) use thread::{NO_ALTERNATE_STACK, new_thread, set_actions};
pub use thread::{StopPoint, TaskAttributes, Thread, ThreadState};
pub use tree::{Ended, Inside, Masters, Place, Terminal};

use crate::history::{FamilyChanges, FileChanges, Followed, KernelChanges, Recording};
use crate::kernel::{DescriptorTable, Program};
use crate::recording::Event;
use crate::tracee::{Result, Stopped, TaskMemory};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The number of its address space: processes that share one have the same (see [`new_memory`]).
    pub memory: u64,
    /// The memory that several mappings of the process, or of its family, share: see [`SharedMemory`].
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
            memory: self.memory,
            shared: self.shared.clone(),
            pages: None,
            retired: Vec::new(),
        }
    }

    /// The group of a process that is made by this one at an event: it has what fork(2) hands down.
    pub fn child(&self, pid: i32, event: (u64, Event), memory: u64) -> ThreadGroup {
        ThreadGroup {
            changes: KernelChanges::new(event.0, pid),
            event,
            pid,
            ppid: self.pid,
            memory,
            pages: Some(JumpPages::default()),
            ..self.for_files()
        }
    }
}

/// A number for a new address space.
pub fn new_memory() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Another process of the family of a copy, stopped, with all of its threads. Killed when dropped.
#[derive(Debug)]
pub struct Relative {
    /// The state that the threads share.
    pub group: ThreadGroup,
    /// The threads: at least one.
    pub threads: Vec<Thread>,
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
    /// The other processes of its family that are followed with it, as far as they have been made.
    pub relatives: Vec<Relative>,
    /// The processes that are followed with it, now and later.
    pub followed: Arc<Followed>,
    /// What has become otherwise than recorded in its family.
    pub changes: FamilyChanges,
    /// Where the rest of its family comes from when it goes on live; `None` where it goes alone.
    pub source: Option<FamilySource>,
}

/// The reason why the rest of a family cannot be made.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

type AddRelatives = dyn Fn(&mut Process, u64) -> std::result::Result<(), SourceError>;

/// Adds copies of all other processes of a process's family as they are at an event, or where they have left the recording
/// before.
#[derive(Clone)]
pub struct FamilySource(Rc<AddRelatives>);

impl FamilySource {
    /// A source that calls this function.
    pub fn new(
        add: impl Fn(&mut Process, u64) -> std::result::Result<(), SourceError> + 'static,
    ) -> FamilySource {
        FamilySource(Rc::new(add))
    }

    /// Adds those that the process does not have yet.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn add(&self, process: &mut Process, event: u64) -> std::result::Result<(), SourceError> {
        (self.0)(process, event)
    }
}

impl std::fmt::Debug for FamilySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FamilySource")
    }
}

impl Process {
    /// A process without relatives.
    pub fn alone(group: ThreadGroup, driven: Thread, threads: Vec<Thread>) -> Process {
        Process {
            group,
            driven,
            threads,
            relatives: Vec::new(),
            followed: Arc::new(Followed::none()),
            changes: FamilyChanges::default(),
            source: None,
        }
    }

    /// The pid in the kernel.
    pub fn real_pid(&self) -> i32 {
        self.group.real_pid
    }

    /// The memory of the process.
    pub fn memory(&self) -> TaskMemory {
        self.driven.task.memory()
    }

    /// The process's group and those of its relatives.
    pub fn groups(&self) -> impl Iterator<Item = &ThreadGroup> {
        let relatives = self.relatives.iter().map(|relative| &relative.group);
        std::iter::once(&self.group).chain(relatives)
    }

    /// The recorded tids of the threads, in ascending order.
    pub fn tids(&self) -> Vec<i32> {
        let all = std::iter::once(&self.driven).chain(&self.threads);
        let mut tids: Vec<i32> = all.map(|thread| thread.tid).collect();
        tids.sort_unstable();
        tids
    }

    /// The recorded pids of the process and its relatives.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        let others = self.relatives.iter().map(|relative| relative.group.pid);
        std::iter::once(self.group.pid).chain(others)
    }

    /// Makes a copy of this copy, with its relatives.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(&mut self) -> Result<Process> {
        let (group, mut threads) = copy(&self.group, &mut self.driven, &self.threads, None, None)?;
        let driven = threads.remove(0);
        let mut copied = Process {
            group,
            driven,
            threads,
            relatives: Vec::new(),
            followed: Arc::clone(&self.followed),
            changes: self.changes.clone(),
            source: self.source.clone(),
        };
        // The number of each address space, and of its copy.
        let mut memories = vec![(self.group.memory, copied.group.memory)];
        for relative in &mut self.relatives {
            let Some((first, others)) = relative.threads.split_first_mut() else {
                continue;
            };
            let known = memories.iter().find(|(of, _)| *of == relative.group.memory);
            let known = known.map(|&(_, copy)| copy);
            let shared = copied.group.shared.clone();
            let beside = known.and_then(|memory| copied.in_memory(memory));
            let (mut group, threads) = copy(&relative.group, first, others, beside, Some(&shared))?;
            match known {
                Some(memory) => group.memory = memory,
                None => memories.push((relative.group.memory, group.memory)),
            }
            copied.relatives.push(Relative { group, threads });
        }
        Ok(copied)
    }

    /// A thread in the address space of this number, to make others in it.
    pub fn in_memory(&mut self, memory: u64) -> Option<&mut Thread> {
        if self.group.memory == memory {
            return Some(&mut self.driven);
        }
        let mut relatives = self.relatives.iter_mut();
        let there = relatives.find(|relative| relative.group.memory == memory);
        there.and_then(|relative| relative.threads.first_mut())
    }
}

/// A copy of a process: a fork, or a process in the address space of `beside`. Its shared memory is a copy, too, for the
/// whole `family`.
fn copy(
    group: &ThreadGroup,
    first: &mut Thread,
    others: &[Thread],
    beside: Option<&mut Thread>,
    family: Option<&SharedMemory>,
) -> Result<(ThreadGroup, Vec<Thread>)> {
    let standing = ThreadState::of(first)?;
    let (mut task, shared, memory) = match beside {
        Some(beside) => {
            let memory = group.memory;
            let actions = first.actions()?;
            let mut task = beside.process_beside()?;
            set_actions(&mut task, &actions, &[])?;
            (task, family.cloned().unwrap_or_default(), memory)
        }
        None => {
            let mut remote = first.remote()?;
            let mut task = remote.fork_between()?;
            remote.finish()?;
            let objects = group.shared.objects();
            let shared = match family {
                Some(family) => family.join(&objects, &mut task)?,
                None => SharedMemory::of_copy(&objects, &mut task)?,
            };
            (task, shared, new_memory())
        }
    };
    standing.attributes.apply(&mut task, true)?;
    let mut copies = Vec::new();
    for thread in others {
        let thread = ThreadState::of(thread)?;
        let mut copy = new_thread(&mut task)?;
        thread.attributes.apply(&mut copy, false)?;
        copies.push(thread.settle(copy)?);
    }
    let real_pid = task.tid();
    copies.insert(0, standing.settle(task)?);
    let group = ThreadGroup {
        real_pid,
        memory,
        shared,
        pages: group.pages.clone(),
        ..group.for_files()
    };
    Ok((group, copies))
}
