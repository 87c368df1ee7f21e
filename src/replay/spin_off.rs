//! A recorded process becomes one of its own: a fork of its space, in which the kernel is told all that the replay
//! only wrote down, and the process's other threads are made again.

use super::context::Context;
use super::signal_state::Action;
use super::world::World;
use super::{Error, Result};
use crate::history::KernelChanges;
use crate::process::{
    Process, SharedMemory, StopPoint, Thread, ThreadGroup, ThreadState, new_thread,
};
use crate::recording::{Event, EventKind};
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, SigInfo, Stopped};
use std::sync::Arc;

/// The call of the kernel's own code for probes: made by other code it raises SIGILL, and stops for no filter.
const URETPROBE: u64 = 335;

/// Whether a signal event is what the kernel makes of [`URETPROBE`], behind which its task stands.
fn is_raised_by_call(event: &Event) -> bool {
    const SI_KERNEL: i32 = 0x80;
    let EventKind::Signal(signal) = &event.kind else {
        return false;
    };
    let info = signal.info.as_slice().try_into().map(SigInfo);
    signal.fault && signal.signal == libc::SIGILL && info.is_ok_and(|i| i.code() == SI_KERNEL)
}

impl World {
    /// A copy of a process, at this pending event; of the event's own where none is named.
    pub fn spin_off(&mut self, pid: Option<i32>, event: Event) -> Result<Process> {
        let tid = self.driven(pid, event.tid)?;
        let me = self.task(tid)?.clone();
        let others: Vec<i32> = self
            .tasks
            .iter()
            .filter(|&(&other, task)| other != tid && task.pid == me.pid)
            .map(|(&other, _)| other)
            .collect();
        let space = self.spaces.get_mut(&me.space).ok_or(Error::AtEnd)?;
        // So that the copy has the right vector registers, which the space's process cannot show while it runs.
        space.load(tid, &mut self.tasks)?;
        let shares = space.shares;
        let pages = space.pages.clone();
        let mut task = space.fork()?;
        let shared = match shares {
            true => SharedMemory::of_copy(&self.objects, &mut task)?,
            false => SharedMemory::default(),
        };
        let actions = self.actions.get(&me.actions);
        if let Some(actions) = actions {
            let mut remote = task.remote_at_boundary()?;
            for (signal, action) in actions.iter() {
                remote.reset_scratch();
                let at = remote.put(action)?;
                let args = [signal as u64, at, 0, 8, 0, 0];
                remote.must("set its signal handlers", libc::SYS_rt_sigaction, args)?;
            }
            remote.finish()?;
        }
        let segv = actions.and_then(|actions| actions.get(libc::SIGSEGV));
        let segv = segv.filter(|action| action[..8] != [0; 8]);
        let mut threads = Vec::new();
        for other in others {
            threads.push(self.thread(other, segv, &mut task)?);
        }
        let mut regs = self.registers(tid, &me)?;
        if event.tid == tid && is_raised_by_call(&event) {
            regs.rewind(URETPROBE);
        }
        let driven = ThreadState {
            tid,
            place: me.place,
            regs,
            vector: None,
            sigmask: me.masks.blocked,
            kept: me.kept(),
            segv: SegvState::of(me.masks.blocked, segv),
        };
        let driven = driven.give_to(task)?;
        Ok(Process {
            group: ThreadGroup {
                recording: Arc::clone(&self.recording),
                event: (self.number, event),
                program: self.family.program(tid).unwrap_or_default(),
                pid: me.pid,
                ppid: self.family.ppid(tid).unwrap_or(0),
                real_pid: driven.task.tid(),
                descriptors: self.family.descriptors(tid).unwrap_or_default(),
                changes: KernelChanges::new(self.number, me.pid),
                shared,
                pages: Some(pages),
                retired: Vec::new(),
                sandboxes: self.sandboxes.clone(),
            },
            driven,
            threads,
        })
    }

    /// The task that is driven when this process (or thread) is spun off: if it can be the one at the event, that one.
    fn driven(&self, pid: Option<i32>, at_event: i32) -> Result<i32> {
        let Some(pid) = pid else {
            self.task(at_event)?;
            return Ok(at_event);
        };
        let asked = pid;
        let pid = self.tasks.get(&asked).map_or(asked, |task| task.pid);
        let here = |tid: &i32| self.tasks.get(tid).is_some_and(|task| task.pid == pid);
        // Its first thread may have ended.
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

    /// Makes one of the other threads again, in a copy of its space.
    fn thread(&mut self, tid: i32, segv: Option<Action>, copy: &mut Stopped) -> Result<Thread> {
        let me = self.task(tid)?.clone();
        let task = new_thread(copy)?;
        let state = ThreadState {
            tid,
            place: me.place,
            regs: self.registers(tid, &me)?,
            sigmask: me.masks.blocked,
            kept: me.kept(),
            segv: SegvState::of(me.masks.blocked, segv),
            vector: me.vector,
        };
        Ok(state.give_to(task)?)
    }

    /// The registers of a task in a copy. The kernel's own codes for an interrupted call are not for the program: either
    /// the call is made again, or it fails, as what the task was recorded to do next tells.
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
            // It may be made again by another name: restart_syscall.
            _ => regs.rewind(restart.again),
        }
        Ok(regs)
    }
}
