//! The recorded pids and tids of live processes, whatever numbers the kernel gave them.
//!
//! In a pid namespace of the sandbox the kernel's numbers are the recorded ones. Without one, only the first process sees its
//! recorded numbers, and signals reach no other processes than those of the run.

use super::engine::Engine;
use super::task::Task;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::process::{Process, Thread, ThreadGroup};
use crate::tracee::memory::Dumpable;
use crate::tracee::proc;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The recorded numbers of a process that was spun off and its relatives, their threads and their parents.
pub(in crate::inject) struct RecordedNumbers {
    own: BTreeMap<i32, i32>,
    /// By the recorded pids of the children.
    parents: BTreeMap<i32, i32>,
}

impl RecordedNumbers {
    pub fn of(process: &Process) -> Result<RecordedNumbers> {
        let group = &process.group;
        let threads = [&process.driven].into_iter().chain(&process.threads);
        let mut numbers = RecordedNumbers {
            own: BTreeMap::new(),
            parents: BTreeMap::new(),
        };
        numbers.add(group, threads)?;
        for relative in &process.relatives {
            numbers.add(&relative.group, relative.threads.iter())?;
        }
        Ok(numbers)
    }

    fn add<'a>(
        &mut self,
        group: &ThreadGroup,
        threads: impl Iterator<Item = &'a Thread>,
    ) -> Result<()> {
        let tids = threads.map(|thread| thread.tid).chain([group.pid]);
        let (own, parent) = group.recording.process_tree_at(group.event.0, |tree| {
            let parent = match tree.depth(group.pid) {
                1 => group.ppid,
                _ => tree.number_for(group.pid, group.ppid),
            };
            let own = tids.map(|tid| (tid, tree.own_number(tid)));
            let own: Vec<(i32, i32)> = own.filter(|(tid, own)| tid != own).collect();
            (own, parent)
        })?;
        self.own.extend(own);
        self.parents.insert(group.pid, parent);
        Ok(())
    }

    /// The tid that a task knows itself by.
    pub fn own(&self, tid: i32) -> i32 {
        self.own.get(&tid).copied().unwrap_or(tid)
    }

    /// The pid that a process, by its recorded pid, knows its parent by.
    pub fn parent(&self, pid: i32) -> i32 {
        self.parents.get(&pid).copied().unwrap_or(0)
    }
}

/// The numbers of all processes of the run.
pub(super) struct Identity {
    /// The first process, by the kernel's number.
    first: i32,
    /// The recorded pid of the first process.
    pid: i32,
    /// The pids of parents that are not there, as their children, by the kernel's numbers, know them.
    parents: BTreeMap<i32, i32>,
    /// Whether the kernel's numbers of tasks are the recorded ones.
    own_namespace: bool,
    /// The processes, by the kernel's numbers, that were made leaders of sessions, as they were not when they were recorded.
    leads: RefCell<BTreeSet<i32>>,
    /// The processes that have set themselves undumpable, by the kernel's numbers.
    hidden: RefCell<BTreeSet<i32>>,
}

impl Identity {
    /// Those of a first process with this recorded pid. The others are to be added.
    pub fn of(first: i32, pid: i32) -> Result<Identity> {
        let own_namespace = proc::innermost_pid(first)? == pid;
        Ok(Identity {
            first,
            pid,
            parents: BTreeMap::new(),
            own_namespace,
            leads: RefCell::default(),
            hidden: RefCell::default(),
        })
    }

    /// Notes what a recorded process believes of itself: its parent where that is not there, whether it was made the leader of
    /// a session, and whether it has set itself undumpable.
    pub fn add(&mut self, real_pid: i32, parent: Option<i32>, leads: bool, hidden: bool) {
        if let Some(parent) = parent {
            self.parents.insert(real_pid, parent);
        }
        if leads {
            self.leads.get_mut().insert(real_pid);
        }
        if hidden {
            self.hidden.get_mut().insert(real_pid);
        }
    }

    /// The numbers of a program that was not recorded: the kernel's.
    pub fn of_program(first: i32) -> Result<Identity> {
        let pid = proc::innermost_pid(first)?;
        Identity::of(first, pid)
    }

    /// The pid of the first process, as it knows it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the kernel's numbers are those that the program knows.
    pub fn is_real(&self) -> bool {
        self.own_namespace
    }

    /// Follows a prctl(2) on the dumpable attribute of a process; returns the answer where the kernel's would be wrong.
    pub fn follow_dumpable(&self, operation: Dumpable, process: i32) -> Option<i64> {
        operation.follow(&mut self.hidden.borrow_mut(), process)
    }

    /// Follows the execution of a program, which makes its process dumpable.
    pub fn executed(&self, process: i32) {
        self.hidden.borrow_mut().remove(&process);
    }

    /// The tid and pid of a new task, as the program knows them.
    pub fn of_child(&self, tid: i32, process: i32, maker: &Task) -> (i32, i32) {
        let mut hidden = self.hidden.borrow_mut();
        if hidden.contains(&maker.process) {
            hidden.insert(process);
        }
        let inner = |tid: i32| proc::innermost_pid(tid).unwrap_or(tid);
        let pid = match process == maker.process {
            true => maker.pid,
            false => inner(process),
        };
        (inner(tid), pid)
    }
}

impl Engine<'_> {
    /// The answer to a call that asks for the task's numbers, or names a process by number; `None` where the
    /// kernel's answer is right.
    pub(super) fn own_identity(&self, me: &Task, seen: &HookCall) -> Option<i64> {
        let id = &self.identity;
        let is_first = me.process == id.first;
        match seen.call.name {
            "getppid" => id.parents.get(&me.process).map(|&parent| parent.into()),
            "setsid" if id.leads.borrow_mut().remove(&me.process) => Some(me.pid.into()),
            "setpgid" if id.leads.borrow().contains(&me.process) => {
                let own = |arg: u64| [0, me.pid].contains(&(arg as i32));
                (own(seen.args[0]) && own(seen.args[1])).then_some(0)
            }
            "prctl" => {
                let operation = Dumpable::of(seen.call.nr, &seen.args)?;
                id.follow_dumpable(operation, me.process)
            }
            _ if id.own_namespace => None,
            "getpid" if is_first => Some(id.pid.into()),
            "gettid" if is_first => Some(me.tid.into()),
            "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => {
                let pids = match seen.call.name {
                    "tgkill" | "rt_tgsigqueueinfo" => 2,
                    _ => 1,
                };
                let known = seen.args[..pids]
                    .iter()
                    .all(|&pid| self.knows(me, pid as i32));
                (!known).then_some(-i64::from(libc::ESRCH))
            }
            "pidfd_send_signal" => Some(-i64::from(libc::ESRCH)),
            _ => None,
        }
    }

    /// Whether a number means a task or a process group of the run, by its recorded or by the kernel's number.
    fn knows(&self, me: &Task, pid: i32) -> bool {
        let own = |tid: i32| {
            let is = |(&real, task): (&i32, &Task)| real == tid || task.tid == tid;
            self.tasks.iter().any(is) || tid == me.tid || tid == me.process
        };
        match pid {
            0 => true,
            -1 => false,
            group if group < 0 => own(-group),
            pid => own(pid),
        }
    }

    /// The arguments with recorded numbers replaced by the kernel's, where these differ.
    pub(super) fn translate(&self, me: &Task, seen: &HookCall) -> Option<[u64; 6]> {
        if self.identity.own_namespace {
            return None;
        }
        let pids: &[usize] = match seen.call.name {
            "kill" | "tkill" | "rt_sigqueueinfo" | "sched_getaffinity" | "sched_setaffinity"
            | "prlimit64" | "getpgid" | "getsid" | "sched_getscheduler" | "sched_getparam" => &[0],
            "tgkill" | "rt_tgsigqueueinfo" => &[0, 1],
            _ => return None,
        };
        let mut args = seen.args;
        for &arg in pids {
            let asked = args[arg] as i32;
            let found = self.tasks.iter().find(|(_, task)| task.tid == asked);
            if let Some((&real, _)) = found {
                args[arg] = real as u64;
            } else if asked == me.tid {
                args[arg] = seen.memory.tid() as u64;
            } else if asked == self.identity.pid {
                args[arg] = self.identity.first as u64;
            }
        }
        (args != seen.args).then_some(args)
    }
}
