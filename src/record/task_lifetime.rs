//! The creation and the end of tasks.

use super::task::{Task, TaskState};
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory, Frame, NewTask};
use crate::syscall::CloneArgs;
use crate::trace::Exit;
use crate::tracee::{Running, Stop, Stopped, TaskMemory, Waited, proc};

/// Flags of clone(2).
const VM: u64 = libc::CLONE_VM as u64;
const VFORK: u64 = libc::CLONE_VFORK as u64;
const THREAD: u64 = libc::CLONE_THREAD as u64;
const PIDFD: u64 = libc::CLONE_PIDFD as u64;
const PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
const CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
const NEWPID: u64 = libc::CLONE_NEWPID as u64;
const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// The kernel's limit on the length of a list of robust futexes (`ROBUST_LIST_LIMIT`).
const ROBUST_LIMIT: usize = 2048;

/// The arguments of a clone; `None` where the call makes no task.
fn asked_for(event: &CallEvent) -> Option<CloneArgs> {
    CloneArgs::of(event.nr, &event.args, &ChunkMemory(&event.ins))
}

impl Recorder {
    /// Refuses to make a task that could not be recorded. Returns whether its parent will wait for it (vfork).
    pub(super) fn check_clone(&self, event: &CallEvent) -> Result<bool> {
        let Some(asked) = asked_for(event) else {
            return Ok(false);
        };
        if i64::from(event.nr) == libc::SYS_clone3 && asked.flags & UNTRACED != 0 {
            return Err(self.unsupported("clone3 with CLONE_UNTRACED", ""));
        }
        Ok(asked.flags & VFORK != 0)
    }

    /// Handles a new task of the running one.
    pub(super) fn task_created(&mut self, current: &mut Task, tid: i32) -> Result<()> {
        let Some(asked) = current.pending.as_ref().and_then(|p| asked_for(&p.event)) else {
            return Err(self.unsupported("a new task outside of any call", ""));
        };
        self.alive.0.insert(tid);
        self.everyone.insert(tid);
        let running = Running::of_another(tid);
        let waited = match self.early.remove(&tid) {
            Some(status) => running.decode_status(status)?,
            None => running.wait()?,
        };
        let flags = asked.flags;
        let pid = if flags & THREAD != 0 {
            current.pid
        } else {
            tid
        };
        let space = if flags & VM != 0 {
            current.space
        } else {
            self.new_space()
        };
        self.replaced_is_copied(current.space, space);
        if self.hidden.contains(&current.space) {
            self.hidden.insert(space);
        }
        if let Some(makers) = self
            .spaces
            .get(&current.space)
            .filter(|_| space != current.space)
        {
            let own = makers.child();
            self.spaces.insert(space, own);
        }
        let mut child = Task::new(tid, pid, space);
        child.segv = current.segv.clone();
        child.affinity = current.affinity.clone();
        child.traps_cpuid = current.traps_cpuid;
        child.unannounced = true;
        child.numbered_apart = current.numbered_apart || flags & NEWPID != 0;
        let mut numbers = Vec::new();
        if child.numbered_apart {
            numbers = proc::numbers(tid).unwrap_or_default();
            if numbers.len() <= 1 {
                numbers.clear();
            }
        }
        let depth = self.family.depth(current.tid);
        let named = numbers.get(depth - 1).copied().unwrap_or(tid);
        if flags & CHILD_CLEARTID != 0 {
            child.clear_tid = asked.child_tid;
        }
        self.write(Frame::NewTask(NewTask {
            tid,
            pid,
            maker: current.tid,
            flags,
            stack: asked.stack,
            tls: asked.given(libc::CLONE_SETTLS, asked.tls),
            parent_tid: asked.given(libc::CLONE_PARENT_SETTID, asked.parent_tid),
            child_tid: asked.given(
                libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID,
                asked.child_tid,
            ),
            numbers,
            named,
        }))?;
        match waited {
            Waited::Stopped(task, stop) => {
                child.boundary = task.regs().ok();
                // A signal may precede its first instruction.
                let stop = match stop {
                    Stop::Signal(_) | Stop::Group(_) => stop,
                    _ => Stop::Attached,
                };
                child.state = TaskState::Ready(task, stop);
                self.queue.push_back(tid);
            }
            Waited::Ended(exit) => self.dead.push((tid, exit)),
        }
        self.tasks.insert(tid, child);
        Ok(())
    }

    /// The memory of the parent that the kernel wrote at a clone.
    pub(super) fn written_tids(&self, event: &CallEvent, memory: TaskMemory) -> Vec<Chunk> {
        let made = event.ret.is_some_and(|ret| ret > 0);
        let Some(asked) = asked_for(event).filter(|_| made) else {
            return Vec::new();
        };
        let words = [(PARENT_SETTID, asked.parent_tid), (PIDFD, asked.pidfd)];
        let written = words.iter().filter(|(flag, _)| asked.flags & flag != 0);
        written
            .map(|&(_, addr)| Chunk {
                addr,
                data: memory.bytes(addr, 4),
            })
            .collect()
    }

    /// Returns whether the process has another live task.
    pub(super) fn has_threads(&self, pid: i32) -> bool {
        self.tasks.values().any(|task| task.pid == pid)
    }

    /// Writes the ends of tasks that ended out of turn.
    pub(super) fn write_exits(&mut self) -> Result<()> {
        while let Some((tid, exit)) = self.dead.pop() {
            if let Some(task) = self.tasks.remove(&tid) {
                self.write_exit(task, exit)?;
            }
        }
        Ok(())
    }

    /// Writes the ends of other tasks while this task has its turn.
    pub(super) fn write_exits_during_turn(&mut self, current: &Task) -> Result<()> {
        self.beside = Some((current.tid, current.space));
        let done = self.write_exits();
        self.beside = None;
        done
    }

    /// Writes a task's end.
    pub(super) fn write_exit(&mut self, mut current: Task, exit: Exit) -> Result<()> {
        self.alive.0.remove(&current.tid);
        self.write_tsc(&mut current)?;
        if let Some(pending) = current.pending.take()
            && self.executed
        {
            self.write_call(pending.tid, pending.event)?;
        }
        let left = self.written_at_exit(&current);
        let elsewhere = self.written_at_exit_elsewhere(&current)?;
        self.write(Frame::Gone {
            tid: current.tid,
            exit,
            left,
        })?;
        for frame in elsewhere {
            self.write(frame)?;
        }
        if current.tid == self.first {
            self.exit = Some(exit);
        }
        if !self.tasks.values().any(|task| task.space == current.space) {
            self.spaces.remove(&current.space);
            self.hidden.remove(&current.space);
        }
        Ok(())
    }

    /// Handles the end of a thread group leader before its threads; it is reaped after them.
    pub(super) fn left_zombie(&mut self, current: &Task) -> Result<()> {
        let chunks = self.written_at_exit(current);
        let sharer = self.tasks.values().find(|t| t.space == current.space);
        match sharer.map(|t| t.tid).filter(|_| !chunks.is_empty()) {
            Some(tid) => self.write(Frame::Poke { tid, chunks }),
            None => Ok(()),
        }
    }

    /// The shared memory that the kernel wrote at a task's end.
    fn written_at_exit(&self, current: &Task) -> Vec<Chunk> {
        let sharer = self.tasks.values().find(|t| {
            t.space == current.space && !t.leaving && !matches!(t.state, TaskState::Taken)
        });
        let beside = self.beside.filter(|&(_, space)| space == current.space);
        let sharer = sharer.map(|task| task.tid).or(beside.map(|(tid, _)| tid));
        let Some(memory) = sharer.map(TaskMemory::new) else {
            return Vec::new();
        };
        let words = current.robust_words.iter().copied();
        words
            .chain((current.clear_tid != 0).then_some(current.clear_tid))
            .map(|addr| Chunk {
                addr,
                data: memory.bytes(addr, 4),
            })
            .filter(|chunk| !chunk.data.is_empty())
            .collect()
    }

    /// The same memory in other processes that map it, as frames.
    fn written_at_exit_elsewhere(&self, current: &Task) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        if current.shared_maps.is_empty() {
            return Ok(frames);
        }
        for tid in self.one_of_each_other_space(current) {
            let memory = TaskMemory::new(tid);
            let mut chunks = Vec::new();
            for map in self.maps_of(tid)?.iter().filter(|map| map.shared) {
                for &word in &current.robust_words {
                    let place = current.shared_maps.iter().find(|m| m.holds(word));
                    let addr = place.and_then(|place| map.same_place(place, word));
                    chunks.extend(addr.map(|addr| Chunk {
                        addr,
                        data: memory.bytes(addr, 4),
                    }));
                }
            }
            if !chunks.is_empty() {
                frames.push(Frame::Poke { tid, chunks });
            }
        }
        Ok(frames)
    }

    /// Writes the change of a futex word by a task that begins to wait: a priority-inheritance futex has a flag for
    /// waiters.
    pub(super) fn changed_by_waiting(&mut self, current: &Task) -> Result<()> {
        const OPERATION: u64 = 0x7f;
        let Some(event) = current.pending.as_ref().map(|pending| &pending.event) else {
            return Ok(());
        };
        if i64::from(event.nr) != libc::SYS_futex {
            return Ok(());
        }
        let addr = match (event.args[1] & OPERATION) as i32 {
            libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => event.args[0],
            libc::FUTEX_WAIT_REQUEUE_PI => event.args[4],
            _ => return Ok(()),
        };
        let data = TaskMemory::new(current.tid).bytes(addr, 4);
        let chunks = vec![Chunk { addr, data }];
        self.write(Frame::Poke {
            tid: current.tid,
            chunks,
        })
    }

    /// Handles a task at its exit stop, which still has its memory.
    pub(super) fn about_to_end(&self, current: &mut Task, task: Stopped) -> Result<Running> {
        self.note_robust(current, task.memory());
        match task.resume() {
            Ok(running) => Ok(running),
            // The task was killed meanwhile.
            Err(_) => Ok(Running::of_another(current.tid)),
        }
    }

    /// Notes the robust futexes that a task holds at its exit stop: set_robust_list(2).
    pub(super) fn note_robust(&self, current: &mut Task, memory: TaskMemory) {
        if current.robust == 0 {
            return;
        }
        // struct robust_list_head: the first entry, the offset of the futex in an entry, the pending entry.
        let head: Vec<u64> = (0..3)
            .map_while(|n| memory.word(current.robust + n * 8).ok())
            .collect();
        let &[first, offset, under_way] = head.as_slice() else {
            return;
        };
        current.robust_words.clear();
        // The lowest bit marks priority-inheritance futexes.
        let mut entry = first & !1;
        while entry != current.robust && entry != 0 && current.robust_words.len() < ROBUST_LIMIT {
            current.robust_words.push(entry.wrapping_add(offset));
            entry = memory.word(entry).map_or(0, |next| next & !1);
        }
        if under_way & !1 != 0 {
            current
                .robust_words
                .push((under_way & !1).wrapping_add(offset));
        }
        if !current.robust_words.is_empty() {
            let maps = proc::maps(current.tid).unwrap_or_default();
            current.shared_maps = maps.into_iter().filter(|map| map.shared).collect();
        }
    }
}
