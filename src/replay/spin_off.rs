//! Spinning off: a fork of a process's space, to which the kernel state is applied that the replay
//! only keeps as data, and in which the process's other threads are created again.

use super::context::{self, Context};
use super::signal_state::Action;
use super::state::ReplayState;
use super::{Error, Result};
use crate::history::{FileChanges, KernelChanges, Kin};
use crate::process::{
    Process, Relative, SharedMemory, StopPoint, Thread, ThreadGroup, ThreadState, new_memory,
    new_thread, set_actions,
};
use crate::recording::{Event, EventKind};
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, SigInfo, Stopped};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The call that the kernel's uretprobes make: made by other code it raises SIGILL, and seccomp does not see it.
const URETPROBE: u64 = 335;

/// Whether a signal event is the kernel's reaction to [`URETPROBE`], behind which its task stands.
fn is_raised_by_call(event: &Event) -> bool {
    const SI_KERNEL: i32 = 0x80;
    let EventKind::Signal(signal) = &event.kind else {
        return false;
    };
    let info = signal.info.as_slice().try_into().map(SigInfo);
    signal.fault && signal.signal == libc::SIGILL && info.is_ok_and(|i| i.code() == SI_KERNEL)
}

impl ReplayState {
    /// A copy of a process, at this pending event; of the event's process where none is named. It has no relatives.
    pub fn spin_off(&mut self, pid: Option<i32>, event: &Event) -> Result<Process> {
        let tid = self.driven(pid, event.tid)?;
        let (group, driven, threads) = self.copy_process(tid, event, None, None)?;
        Ok(Process::alone(group, driven, threads))
    }

    /// Adds copies of the processes that are followed with a copy which was made at this pending event.
    pub fn add_relatives(&mut self, process: &mut Process, event: &Event, kin: &Kin) -> Result<()> {
        let recording = Arc::clone(&self.recording);
        let followed = recording.followed(process.group.pid, self.number, kin)?;
        let number = self.number;
        self.add_copies(process, event, |pid| followed.has(pid, number))?;
        process.followed = Arc::new(followed);
        Ok(())
    }

    /// Adds copies of those processes of which this says so, and that the copy's family does not have yet.
    pub fn add_copies(
        &mut self,
        process: &mut Process,
        event: &Event,
        is_meant: impl Fn(i32) -> bool,
    ) -> Result<()> {
        let there: BTreeSet<i32> = process.pids().collect();
        let pids: BTreeSet<i32> = self.tasks.values().map(|task| task.pid).collect();
        for &pid in pids.difference(&there).filter(|&&pid| is_meant(pid)) {
            let tid = self.driven(Some(pid), event.tid)?;
            let space = self.task(tid)?.space;
            let others = self.tasks.iter().filter(|(_, task)| task.space == space);
            let others: BTreeSet<i32> = others.map(|(_, task)| task.pid).collect();
            let shared = process.group.shared.clone();
            let memory = match others.contains(&process.group.pid) {
                true => Some(process.group.memory),
                false => {
                    let mut relatives = process.relatives.iter();
                    let twin = relatives.find(|relative| others.contains(&relative.group.pid));
                    twin.map(|relative| relative.group.memory)
                }
            };
            let beside = memory.and_then(|memory| process.in_memory(memory));
            let (mut group, first, threads) =
                self.copy_process(tid, event, beside, Some(&shared))?;
            group.memory = memory.unwrap_or(group.memory);
            let threads = std::iter::once(first).chain(threads).collect();
            process.relatives.push(Relative { group, threads });
        }
        Ok(())
    }

    /// A copy of the process of a task, which is the first thread of the result: a fork of its space, or a process in the
    /// address space of `beside`, which is a copy of it. What it shares with its `family` is theirs.
    fn copy_process(
        &mut self,
        tid: i32,
        event: &Event,
        beside: Option<&mut Thread>,
        family: Option<&SharedMemory>,
    ) -> Result<(ThreadGroup, Thread, Vec<Thread>)> {
        let me = self.task(tid)?.clone();
        let others: Vec<i32> = self
            .tasks
            .iter()
            .filter(|&(&other, task)| other != tid && task.pid == me.pid)
            .map(|(&other, _)| other)
            .collect();
        let space = self.spaces.get_mut(&me.space).ok_or(Error::AtEnd)?;
        // The copy gets the vector registers, which cannot be read from the space's process while it runs.
        space.load(tid, &mut self.tasks)?;
        // What it had written to files by way of memory that it maps no more is kept there, too.
        let shares = space.shares || self.objects.has_files();
        let pages = space.pages.clone();
        let actions = self.actions.get(&me.actions).cloned().unwrap_or_default();
        let (mut task, shared, vector) = match beside {
            Some(beside) => {
                let vector = context::vector(&space.task)?;
                let mut task = beside.process_beside()?;
                let all: Vec<Action> = (1..=64)
                    .map(|signal| actions.get(signal).unwrap_or_default())
                    .collect();
                set_actions(&mut task, &all, &[])?;
                (task, family.cloned().unwrap_or_default(), Some(vector))
            }
            None => {
                let mut task = space.fork()?;
                let shared = match (shares, family) {
                    (true, Some(family)) => family.join(&self.objects, &mut task)?,
                    (true, None) => SharedMemory::of_copy(&self.objects, &mut task)?,
                    (false, family) => family.cloned().unwrap_or_default(),
                };
                let mut remote = task.remote_at_boundary()?;
                for (signal, action) in actions.iter() {
                    remote.reset_scratch();
                    let at = remote.put(action)?;
                    let args = [signal as u64, at, 0, 8, 0, 0];
                    remote.must("set its signal handlers", libc::SYS_rt_sigaction, args)?;
                }
                remote.finish()?;
                (task, shared, None)
            }
        };
        let segv = actions.get(libc::SIGSEGV);
        let segv = segv.filter(|action| action[..8] != [0; 8]);
        let mut threads = Vec::new();
        for other in others {
            threads.push(self.thread(other, segv, &mut task)?);
        }
        let mut regs = self.registers(tid, &me)?;
        if event.tid == tid && is_raised_by_call(event) {
            regs.rewind(URETPROBE);
        }
        let driven = ThreadState {
            tid,
            place: me.place,
            regs,
            vector,
            sigmask: me.masks.blocked,
            attributes: me.attributes(),
            segv: SegvState::of(me.masks.blocked, segv),
        };
        let driven = driven.give_to(task)?;
        let group = ThreadGroup {
            recording: Arc::clone(&self.recording),
            event: (self.number, event.clone()),
            program: self.tree.program(tid).unwrap_or_default(),
            pid: me.pid,
            ppid: self.tree.ppid(tid).unwrap_or(0),
            real_pid: driven.task.tid(),
            descriptors: self.tree.descriptors(tid).unwrap_or_default(),
            changes: KernelChanges::new(self.number, me.pid),
            files: FileChanges::new(self.number),
            memory: new_memory(),
            shared,
            pages: Some(pages),
            retired: Vec::new(),
        };
        Ok((group, driven, threads))
    }

    /// The task that is driven when this process (or thread) is spun off: that of the event where it belongs to the process.
    fn driven(&self, pid: Option<i32>, at_event: i32) -> Result<i32> {
        let Some(pid) = pid else {
            self.task(at_event)?;
            return Ok(at_event);
        };
        let asked = pid;
        let pid = self.tasks.get(&asked).map_or(asked, |task| task.pid);
        let here = |tid: &i32| self.tasks.get(tid).is_some_and(|task| task.pid == pid);
        // The first thread of the process may have ended.
        let any = || self.tasks.keys().copied().find(here);
        let wanted = [at_event, asked].into_iter().find(here);
        wanted.or_else(any).ok_or_else(|| {
            let mut there: Vec<i32> = self.tasks.values().map(|task| task.pid).collect();
            there.sort_unstable();
            there.dedup();
            let there: Vec<String> = there.iter().map(i32::to_string).collect();
            Error::NoSuchProcess {
                pid,
                event: self.number,
                there: there.join(", "),
            }
        })
    }

    /// Creates one of the other threads in a copy of the space.
    fn thread(&mut self, tid: i32, segv: Option<Action>, copy: &mut Stopped) -> Result<Thread> {
        let me = self.task(tid)?.clone();
        let task = new_thread(copy)?;
        let state = ThreadState {
            tid,
            place: me.place,
            regs: self.registers(tid, &me)?,
            sigmask: me.masks.blocked,
            attributes: me.attributes(),
            segv: SegvState::of(me.masks.blocked, segv),
            vector: me.vector,
        };
        Ok(state.give_to(task)?)
    }

    /// The registers of a task in a copy. The kernel's internal codes for an interrupted call are not visible to programs: the
    /// call is either made again or fails, which the next recorded event of the task decides.
    fn registers(&self, tid: i32, me: &Context) -> Result<Regs> {
        let mut regs = me.regs;
        let Some(restart) = me.restart.filter(|_| me.place == StopPoint::Between) else {
            return Ok(regs);
        };
        let mut later = self.recording.events_from(self.number)?;
        let next = later.find_map(|next| match next {
            Ok((_, event)) => (event.tid == tid).then_some(Ok(event)),
            Err(error) => Some(Err(error)),
        });
        let next = next.transpose()?.map(|event| event.kind);
        match next {
            Some(EventKind::Signal(s)) if s.returns_to() == Some(restart.ip) => {
                regs.set_ret(-i64::from(libc::EINTR));
            }
            Some(EventKind::Signal(s)) if s.returns_to().is_some() => {
                regs.rewind(restart.nr.into());
            }
            // The kernel may make it again as restart_syscall.
            _ => regs.rewind(restart.again),
        }
        Ok(regs)
    }
}
