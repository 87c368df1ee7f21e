//! The tree of tasks: creation, execution of programs, ends.

use super::engine::Engine;
use super::task::Task;
use crate::inject::hook::HookExit;
use crate::inject::outcome::Status;
use crate::inject::{Error, Result};
use crate::trace::Exit;
use crate::tracee::{self, AnyWait, Running, proc};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Engine<'_> {
    /// Stops all tasks before they are killed: running ones could create others, which
    /// would remain.
    pub(super) fn freeze(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const SHORT: Duration = Duration::from_millis(50);
        const NAP: Duration = Duration::from_micros(200);
        let begun = Instant::now();
        let made = std::mem::take(&mut self.early).into_iter();
        let made = made.filter(|&(_, status)| tracee::is_new(status));
        self.kill_on_drop.0.extend(made.map(|(tid, _)| tid));
        let mut running: BTreeSet<i32> = self.running().collect();
        running.retain(|&tid| Running::of_another(tid).interrupt().is_ok());
        while !running.is_empty() && begun.elapsed() < PATIENCE {
            let (tid, status) = match tracee::wait_any(false) {
                Ok(AnyWait::Task(tid, status)) => (tid, status),
                Ok(_) => {
                    std::thread::sleep(NAP);
                    // A parent waits in vfork(2) until its child executes a program.
                    let deaf = begun.elapsed() > SHORT;
                    running.retain(|&tid| !deaf || proc::state(tid) != Some(b'D'));
                    continue;
                }
                Err(_) => return,
            };
            running.remove(&tid);
            if tracee::has_ended(status) {
                self.kill_on_drop.0.remove(&tid);
            } else if let Some(child) = tracee::made(tid, status) {
                // A new task stops before its first instruction.
                self.kill_on_drop.0.insert(child);
            }
        }
    }

    /// Adds a task that another one created.
    pub(super) fn born(&mut self, maker: &Task, tid: i32) -> Result<()> {
        self.kill_on_drop.0.insert(tid);
        let process = match proc::process(tid) {
            Ok(process) => process,
            // The task has ended already; its end is reported later.
            Err(_) => tid,
        };
        let (own_tid, pid) = self.identity.of_child(tid, process, maker);
        if process != maker.process {
            self.core_files.born(process, maker.process);
        }
        let mut child = Task::new(process, pid, own_tid, maker.segv.clone());
        child.filters = maker.filters.clone();
        child.agent = maker.agent.clone();
        child.passed = maker.checked.as_ref().map(|checked| checked.passed);
        child.child = maker.child;
        child.is_relative = maker.is_relative;
        if process != maker.process {
            self.children += 1;
            child.child = self.children;
        }
        if process == maker.process {
            child.scratch = maker.scratch.clone();
        } else if let Some(memory) = &self.memory {
            memory.add(process);
        }
        let child = child.runs(Running::of_another(tid));
        self.tasks.insert(tid, child);
        if let Some(status) = self.early.remove(&tid) {
            self.came(tid, status)?;
        }
        Ok(())
    }

    /// Handles a stop of a task that is not known: its parent has not reported it yet, or it is another child of rrapper.
    pub(super) fn unknown(&mut self, tid: i32, status: i32) {
        const MOST: usize = 4096;
        if self.early.len() < MOST {
            self.early.insert(tid, status);
        }
    }

    /// Handles the execution of a program: the task goes on by its process's number, and the other threads are gone.
    pub(super) fn replaced(&mut self, process: i32) -> Result<()> {
        let former = tracee::former_tid(process)?;
        let gone: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(tid, task)| task.process == process && **tid != former)
            .map(|(&tid, _)| tid)
            .collect();
        for tid in gone {
            self.tasks.remove(&tid);
            if tid != process {
                self.kill_on_drop.0.remove(&tid);
            }
        }
        if former != process
            && let Some(mut me) = self.tasks.remove(&former)
        {
            self.kill_on_drop.0.remove(&former);
            self.kill_on_drop.0.insert(process);
            me.tid = me.pid;
            self.tasks
                .insert(process, me.runs(Running::of_another(process)));
        }
        Ok(())
    }

    /// Handles the end of a task, which has been reaped.
    pub(super) fn ended(
        &mut self,
        tid: i32,
        exit: Exit,
    ) -> Result<Option<(Status, Option<String>)>> {
        self.kill_on_drop.0.remove(&tid);
        let Some(me) = self.tasks.remove(&tid) else {
            return Ok(None);
        };
        self.quotas.task_ended(tid);
        if self.tasks.values().any(|task| task.process == me.process) {
            return Ok(None);
        }
        self.holding.remove(&me.process);
        self.core_files.ended(me.process);
        self.quotas.process_ended();
        self.note_end_by_limit(&me, exit);
        if me.process == self.first {
            self.exit = Some(exit);
        }
        if let Some(member) = self.members.get_mut(&me.process) {
            member.ended(exit);
        }
        self.drain();
        let ended = HookExit { pid: me.pid, exit };
        self.hooks.exited(&ended).map_err(Error::Hook)?;
        self.start_grace_period()?;
        Ok(None)
    }
}
