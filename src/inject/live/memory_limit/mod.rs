//! The limit on the memory of all processes in a sandbox together.
//!
//! No limit of the kernel is about a family of processes without a cgroup of its own, and some kinds of memory have no
//! limit at all. So a thread looks at the processes of all runs every few milliseconds ([`monitor`]), and kills those of a
//! run that has taken too much ([`usage`]), or of the largest run where the machine is about to have no memory left
//! ([`available`]). Where a memory cgroup can be made, it puts the processes of a run that it sees into one, in which the
//! kernel counts what no process has mapped, and has the last word ([`group`]). The same thread notes the processor time
//! that processes have used, and ends a run where the machine is about to have no open files left.

mod available;
mod group;
mod monitor;
mod usage;

use crate::sandbox::Limits;
use crate::tracee::process_dir::ProcessDir;
use available::{Cgroups, files_on_machine};
use group::GroupOfRun;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use usage::{Usage, mib};

/// The limit where the settings have none: this, or half of the available memory if that is less.
const DEFAULT: u64 = 4 << 30;

/// The limit of a run, in force until it is dropped.
pub(super) struct MemoryLimit(Arc<Family>);

/// The processes of a run.
struct Family {
    number: u64,
    bytes: Option<u64>,
    tmpfs_bytes: u64,
    state: Mutex<State>,
    start: OnceLock<Start>,
    group: GroupOfRun,
    /// The reason for which it was ended.
    ended: OnceLock<String>,
}

/// The memory that a run began with.
struct Start {
    cgroups: Cgroups,
    /// The bytes that were available.
    available: u64,
    /// The files that could be opened on the machine.
    files: u64,
}

#[derive(Default)]
struct State {
    /// By the kernel's numbers.
    processes: BTreeMap<i32, Arc<Member>>,
    /// The sizes of the System V segments, by id.
    segments: BTreeMap<i32, u64>,
    has_memfds: bool,
}

/// A process.
#[derive(Debug)]
struct Member {
    /// By the kernel's number.
    pid: i32,
    dir: ProcessDir,
    /// The nanoseconds of processor time that it had used at the last look.
    run_time: AtomicU64,
}

/// The processes of a family at one moment, and the objects that they have made.
#[derive(Debug)]
struct Members {
    processes: Vec<Arc<Member>>,
    segments: BTreeMap<i32, u64>,
    has_memfds: bool,
    tmpfs_bytes: u64,
}

impl MemoryLimit {
    /// Starts to look at the processes of a run.
    pub fn new(limits: &Limits) -> MemoryLimit {
        let family = Family {
            number: monitor::next_number(),
            bytes: limits.memory_bytes,
            tmpfs_bytes: limits.tmpfs_bytes,
            state: Mutex::default(),
            start: OnceLock::new(),
            group: GroupOfRun::default(),
            ended: OnceLock::new(),
        };
        let family = Arc::new(family);
        monitor::add(&family);
        MemoryLimit(family)
    }

    /// Adds a process, by the kernel's number. One that has ended already is left out.
    pub fn add(&self, process: i32) {
        let Ok(dir) = ProcessDir::open(process) else {
            return;
        };
        let run_time = AtomicU64::new(0);
        let pid = process;
        let member = Arc::new(Member { pid, dir, run_time });
        self.0.lock().processes.insert(process, member);
    }

    /// Removes a process that has ended. Returns the processor time that it had used at the last look.
    pub fn remove(&self, process: i32) -> Duration {
        let member = self.0.lock().processes.remove(&process);
        let used = member.map_or(0, |member| member.run_time.load(Ordering::Relaxed));
        Duration::from_nanos(used)
    }

    /// A process was killed: finds out whether the kernel did it, since the memory of the run was used up.
    pub fn process_killed(&self) {
        let group = &self.0.group;
        if self.0.ended.get().is_none()
            && let Some(bytes) = group.killed_at()
        {
            self.0.end(format!(
                "its memory is more than {}: the kernel ended a process when its control group had {}, also of memory that \
                 no process has mapped",
                self.0.limit_told(),
                mib(bytes)
            ));
        }
    }

    /// Processes of the run may have memory files from now on.
    pub fn has_memfds(&self) {
        self.0.lock().has_memfds = true;
    }

    /// Whether System V segments would be more than three quarters of the limit with one of this size: a segment counts
    /// with its size, however much of it is used.
    pub fn forbids_segment(&self, bytes: u64) -> bool {
        let held: u64 = self.0.lock().segments.values().sum();
        let limit = self.0.limit();
        held.saturating_add(bytes) > limit - limit / 4
    }

    /// Notes a System V segment.
    pub fn made_segment(&self, id: i32, bytes: u64) {
        let mut state = self.0.lock();
        let size = state.segments.entry(id).or_default();
        // shmget(2) of an existing segment may name a smaller size.
        *size = bytes.max(*size);
    }

    /// Forgets a System V segment that is deleted once nobody has it attached.
    pub fn removed_segment(&self, id: i32) {
        self.0.lock().segments.remove(&id);
    }

    /// The reason for which the processes were killed, if they were.
    pub fn ended(&self) -> Option<&str> {
        self.0.ended.get().map(String::as_str)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        monitor::remove(&self.0);
        self.0.group.end();
    }
}

impl Family {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> Members {
        let state = self.lock();
        Members {
            processes: state.processes.values().map(Arc::clone).collect(),
            segments: state.segments.clone(),
            has_memfds: state.has_memfds,
            tmpfs_bytes: self.tmpfs_bytes,
        }
    }

    /// The descriptors that its processes have, as the size of the directory says (since Linux 6.2).
    fn descriptors(&self) -> u64 {
        let members = self.members();
        let sizes = members
            .processes
            .iter()
            .map(|member| fs::metadata(member.dir.path("fd")));
        sizes.map(|meta| meta.map_or(0, |meta| meta.len())).sum()
    }

    /// What it began with; measured when this is first asked for, with what it has taken until then.
    fn start(&self) -> &Start {
        self.start.get_or_init(|| {
            let cgroups = Cgroups::of_self();
            let taken = Usage::at_most(&self.members()).total();
            Start {
                available: cgroups.available().saturating_add(taken),
                files: files_on_machine(),
                cgroups,
            }
        })
    }

    fn limit(&self) -> u64 {
        let default = || DEFAULT.min(self.start().available / 2);
        self.bytes.unwrap_or_else(default)
    }

    /// The limit for a message.
    fn limit_told(&self) -> String {
        let which = match self.bytes {
            Some(_) => "the limit of its sandbox",
            None => "the limit of its sandbox (4 GiB or half of what was available)",
        };
        format!("{}, {which}", mib(self.limit()))
    }

    /// Kills all processes. New ones of theirs stop before their first instruction, and the engine kills those.
    fn end(&self, reason: String) {
        let _ = self.ended.set(reason);
        for member in self.lock().processes.values() {
            member.dir.kill();
        }
    }
}
