//! The recorded pids and tids of live processes, whatever numbers the kernel gave them.
//!
//! In a pid namespace of the sandbox the kernel's numbers are the recorded ones. Without one, only the first process sees its
//! recorded numbers, and signals reach no other processes than those of the run.

use super::engine::{Engine, Task};
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::process::Process;
use crate::tracee::memory::Dumpable;
use crate::tracee::proc;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// The recorded numbers of a process that was spun off, its threads and its parent.
pub(in crate::inject) struct RecordedNumbers {
    own: BTreeMap<i32, i32>,
    parent: i32,
}

impl RecordedNumbers {
    pub fn of(process: &Process) -> Result<RecordedNumbers> {
        let recording = &process.group.recording;
        Ok(recording.process_tree_at(process.group.event.0, |tree| {
            let mut all = process.tids();
            all.push(process.group.pid);
            let parent = match tree.depth(process.group.pid) {
                1 => process.group.ppid,
                _ => tree.number_for(process.group.pid, process.group.ppid),
            };
            let own = all.into_iter().map(|tid| (tid, tree.own_number(tid)));
            RecordedNumbers {
                own: own.filter(|(tid, own)| tid != own).collect(),
                parent,
            }
        })?)
    }

    /// The tid that a task knows itself by.
    pub fn own(&self, tid: i32) -> i32 {
        self.own.get(&tid).copied().unwrap_or(tid)
    }

    /// The pid that it knows its parent by.
    pub fn parent(&self) -> i32 {
        self.parent
    }
}

/// The numbers of all processes of the run.
pub(super) struct Identity {
    /// The first process, by the kernel's number.
    first: i32,
    /// The recorded pid of the first process.
    pid: i32,
    ppid: Option<i32>,
    /// Whether the kernel's numbers of tasks are the recorded ones.
    own_namespace: bool,
    /// Whether the first process was made the leader of a session, as it was not when it was recorded.
    leads: Cell<bool>,
    /// The processes that have set themselves undumpable, by the kernel's numbers.
    hidden: RefCell<BTreeSet<i32>>,
}

impl Identity {
    pub fn of(first: i32, pid: i32, ppid: i32, (leads, hidden): (bool, bool)) -> Result<Identity> {
        let own_namespace = proc::innermost_pid(first)? == pid;
        Ok(Identity {
            first,
            pid,
            ppid: Some(ppid),
            own_namespace,
            leads: Cell::new(leads),
            hidden: RefCell::new(hidden.then_some(first).into_iter().collect()),
        })
    }

    /// The numbers of a program that was not recorded: the kernel's.
    pub fn of_program(first: i32) -> Result<Identity> {
        Ok(Identity {
            first,
            pid: proc::innermost_pid(first)?,
            ppid: None,
            own_namespace: true,
            leads: Cell::new(false),
            hidden: RefCell::default(),
        })
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
            "getppid" if is_first => id.ppid.map(i64::from),
            "setsid" if is_first && id.leads.replace(false) => Some(id.pid.into()),
            "setpgid" if is_first && id.leads.get() => {
                let own = |arg: u64| [0, id.pid].contains(&(arg as i32));
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
