//! The scheduler: one task runs at a time, so that the order of the recorded events is the order in which they
//! happened.
//!
//! A task runs until it blocks in the kernel, and then the others do. A task that was in a call comes back at the
//! call's exit, stops there until its turn, and only then is the call recorded.

use super::task::{CpuBurst, Task, TaskState};
use super::{Error, Recorder, Result, polling};
use crate::trace::Exit;
use crate::tracee::{self, AnyWait, Running, Stop, Stopped, Waited, proc, ticker};

/// The number of ticks that a task may make calls while others wait.
const SLICE: u64 = 20;

/// The number of ticks that a task may print.
const PRINTING: u64 = 10 * SLICE;

/// The number of ticks for which a busy task, after a preemption, has lower priority.
const STEPS_BACK: u64 = 20;

/// The number of samples in uninterruptible sleep after which a task counts as blocked.
const LOOKS: u32 = 200;

/// The end of a turn.
enum TurnEnd {
    Stopped(Stopped, Stop),
    Ended(Exit),
    /// The task blocks in the kernel.
    Blocked,
    /// The task was a thread group leader, and another of its threads has executed a program, with this status.
    Replaced(i32),
}

/// A task's next step.
pub enum TaskStep {
    Stopped(Stopped, Stop),
    Running(Running),
    /// The task is back among the waiting tasks.
    Parked,
}

impl Recorder {
    /// Runs all tasks to their end. `first` stands at the entry of its first call.
    pub(super) fn run(&mut self, first: Task, at: Stopped) -> Result<()> {
        self.follow(first, TaskStep::Stopped(at, Stop::Entry))?;
        loop {
            self.write_exits()?;
            self.follow_orders(None);
            if let Some(tid) = self.next_turn()? {
                let Some(mut current) = self.tasks.remove(&tid) else {
                    continue;
                };
                match std::mem::replace(&mut current.state, TaskState::Taken) {
                    TaskState::Ready(task, stop) => {
                        self.slice = ticker::ticks();
                        self.follow(current, TaskStep::Stopped(task, stop))?;
                    }
                    kernel => {
                        current.state = kernel;
                        self.tasks.insert(tid, current);
                    }
                }
            } else if self.tasks.is_empty() {
                return Ok(());
            } else {
                let leftovers = self.only_leftovers(None);
                self.ticker.set(leftovers);
                if let AnyWait::Task(tid, status) = tracee::wait_any(true)? {
                    self.keep_stop(tid, status)?;
                }
            }
        }
    }

    /// Runs a task until it ends, blocks, or its turn is over.
    fn follow(&mut self, mut current: Task, mut step: TaskStep) -> Result<()> {
        loop {
            let running = match step {
                TaskStep::Stopped(task, stop) => {
                    step = match self.handle_stop(&mut current, task, stop) {
                        Ok(step) => step,
                        Err(Error::Tracee(tracee::Error::Ended { tid, exit, .. }))
                            if tid == current.tid =>
                        {
                            return self.write_exit(current, exit);
                        }
                        // The task was killed while it was stopped. No event may come between its resumption and its
                        // end.
                        Err(_) if !tracee::stands(current.tid) => {
                            TaskStep::Running(Running::of_another(current.tid))
                        }
                        Err(error) => return Err(error),
                    };
                    continue;
                }
                TaskStep::Running(running) => running,
                TaskStep::Parked => {
                    self.tasks.insert(current.tid, current);
                    return Ok(());
                }
            };
            step = match self.wait(&mut current, running)? {
                TurnEnd::Stopped(task, stop) => TaskStep::Stopped(task, stop),
                TurnEnd::Blocked => {
                    if current.leaving {
                        self.left_zombie(&current)?;
                    } else {
                        self.changed_by_waiting(&current)?;
                    }
                    current.state = TaskState::InKernel;
                    TaskStep::Parked
                }
                TurnEnd::Ended(exit) => return self.write_exit(current, exit),
                TurnEnd::Replaced(status) => {
                    let pid = current.pid;
                    self.write_exit(current, Exit::Code(0))?;
                    return self.keep_stop(pid, status);
                }
            };
        }
    }

    pub(super) fn handle_stop(
        &mut self,
        current: &mut Task,
        task: Stopped,
        stop: Stop,
    ) -> Result<TaskStep> {
        // A stop that was pending when the task was interrupted comes first.
        let is_signal = matches!(stop, Stop::Signal(_));
        let interrupted = !is_signal && std::mem::take(&mut current.burst.interrupted);
        // A held signal changes nothing, and the counter may be read in a loop.
        if !(stop == Stop::Attached && interrupted || is_signal) {
            current.burst = CpuBurst::new();
            current.reads.begin_anew();
        }
        Ok(TaskStep::Running(match stop {
            Stop::Entry if interrupted => return self.stop_before_call(current, task),
            Stop::Entry => {
                if std::mem::take(&mut current.unannounced) {
                    self.write_run(current)?;
                }
                self.write_tsc(current)?;
                self.write_exits_during_turn(current)?;
                if !current.held.is_empty() {
                    return self.interrupt_entry(current, task);
                }
                self.on_entry(current, task)?
            }
            Stop::Syscall if self.has_had_its_turn(current, &task)? => {
                return Ok(self.requeue(current, task, stop));
            }
            Stop::Syscall => {
                // The effects of the ended tasks precede the task's next step.
                self.write_exits_during_turn(current)?;
                self.on_exit(current, task)?
            }
            Stop::Exec => {
                // The other threads end before the program is executed.
                self.write_exits()?;
                task.resume_to_exit()?
            }
            Stop::Clone(child) => {
                self.task_created(current, child)?;
                task.resume_to_exit()?
            }
            Stop::Signal(libc::SIGTRAP) => match task.at_breakpoint()? {
                Some(regs) => return self.on_point(current, task, regs),
                None => self.on_signal(current, task)?,
            },
            Stop::Signal(_) => self.on_signal(current, task)?,
            Stop::Group(signal) => {
                self.note_stopped(current, signal);
                // The task does not continue before SIGCONT. An interrupted call is restarted at once, without an event
                // in between.
                let waits = self.executed && current.in_program() && !current.unannounced;
                if waits && !current.makes_call_again(&task.regs()?) {
                    self.write_preemption(current, &task)?;
                }
                task.listen()?;
                current.state = TaskState::InKernel;
                return Ok(TaskStep::Parked);
            }
            Stop::Attached if interrupted => return self.on_interrupt(current, task),
            Stop::Attached => {
                self.note_continued(current);
                self.resume(current, task)?
            }
            Stop::Exit => self.about_to_end(current, task)?,
            Stop::Other(_) => task.resume()?,
        }))
    }

    /// Handles a task that reached a call's entry with an interrupt pending, which would stop it within the call: a
    /// blocking call would be interrupted, and some show that. The task stops first, and reaches the call once more.
    fn stop_before_call(&mut self, current: &mut Task, mut task: Stopped) -> Result<TaskStep> {
        let tid = task.tid();
        let mut regs = task.regs()?;
        regs.rewind(regs.nr() as u64);
        // Visits of spin points are counted, and a replay comes here once.
        if current.watch.stops_at(regs.ip()) {
            return self.handle_stop(current, task, Stop::Entry);
        }
        task.set_regs(&regs)?;
        let (task, stop) = task
            .resume()?
            .wait()?
            .stopped("stop it before a call", tid)?;
        match stop {
            Stop::Attached => Ok(TaskStep::Running(task.resume()?)),
            _ => self.handle_stop(current, task, stop),
        }
    }

    /// Queues a task for its next turn.
    pub(super) fn requeue(&mut self, current: &mut Task, task: Stopped, stop: Stop) -> TaskStep {
        current.state = TaskState::Ready(task, stop);
        self.queue.push_back(current.tid);
        TaskStep::Parked
    }

    /// Resumes a task's own instructions.
    pub(super) fn resume(&mut self, current: &mut Task, mut task: Stopped) -> Result<Running> {
        if std::mem::take(&mut current.unannounced) {
            self.write_run(current)?;
            self.watch(current, &mut task)?;
        }
        Ok(task.resume()?)
    }

    /// The next task to run. Busy tasks have lower priority for a while.
    fn next_turn(&mut self) -> Result<Option<i32>> {
        let mut first = self.first_not_busy();
        if first.is_none() && !self.queue.is_empty() {
            // A task that has just been woken gets the chance to stop.
            tracee::give_way();
            while let AnyWait::Task(tid, status) = tracee::wait_any(false)? {
                self.keep_stop(tid, status)?;
            }
            first = self.first_not_busy();
        }
        Ok(self.queue.remove(first.unwrap_or(0)))
    }

    fn first_not_busy(&self) -> Option<usize> {
        let now = ticker::ticks();
        let steps_back = |tid: &i32| {
            let since = self.tasks.get(tid).and_then(|task| task.busy_since);
            since.is_some_and(|since| now - since < STEPS_BACK)
        };
        self.queue.iter().position(|tid| !steps_back(tid))
    }

    fn has_had_its_turn(&self, current: &mut Task, task: &Stopped) -> Result<bool> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        let waits = !current.yielded && polling::waits(current, task.regs()?.ret());
        current.yielded |= waits;
        let had = ticker::ticks() - self.slice;
        Ok(waits || had >= SLICE && (had >= PRINTING || !self.has_printed(current)))
    }

    /// Returns whether the present call of a task has written to a standard stream. Output of other tasks before the
    /// call's event would be printed first in a replay.
    fn has_printed(&self, current: &Task) -> bool {
        let Some(event) = current.pending.as_ref().map(|pending| &pending.event) else {
            return false;
        };
        let to = match i64::from(event.nr) {
            libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwrite64
            | libc::SYS_pwritev
            | libc::SYS_pwritev2
            | libc::SYS_sendfile => 0,
            libc::SYS_tee => 1,
            libc::SYS_splice | libc::SYS_copy_file_range => 2,
            _ => return false,
        };
        let stream = self
            .family
            .output_stream(current.tid, event.args[to] as i32);
        stream.is_some()
    }

    /// Waits for the running task's next stop. Stops of other tasks are kept for their turns.
    fn wait(&mut self, current: &mut Task, mut running: Running) -> Result<TurnEnd> {
        let mut looks = 0;
        // A tick between two waits interrupts nothing.
        if current.in_program() && ticker::ticks() != current.burst.ticked {
            self.on_tick(current, &running)?;
        }
        loop {
            self.follow_orders(Some(current));
            let in_program = current.in_program();
            // A leader that ends before its threads is not reported until they have ended.
            let may_linger =
                current.leaving && current.tid == current.pid && self.has_threads(current.pid);
            let impatient =
                may_linger || (!in_program && !current.leaving && !self.queue.is_empty());
            self.ticker.set(
                !self.queue.is_empty()
                    || !current.held.is_empty()
                    || self.only_leftovers(Some(current)),
            );
            match tracee::wait_any(!impatient)? {
                AnyWait::Task(tid, status)
                    if tid == current.tid
                        && tracee::is_exec(status)
                        && tracee::former_tid(tid)? != tid =>
                {
                    return Ok(TurnEnd::Replaced(status));
                }
                AnyWait::Task(tid, status) if tid == current.tid => {
                    return Ok(match running.decode_status(status)? {
                        Waited::Stopped(task, stop) => TurnEnd::Stopped(task, stop),
                        Waited::Ended(exit) => TurnEnd::Ended(exit),
                    });
                }
                AnyWait::Task(tid, status) => {
                    if tid == current.pid && tracee::is_exec(status) {
                        running = self.take_over(current)?;
                        return Ok(match running.decode_status(status)? {
                            Waited::Stopped(task, stop) => TurnEnd::Stopped(task, stop),
                            Waited::Ended(exit) => TurnEnd::Ended(exit),
                        });
                    }
                    self.keep_stop(tid, status)?;
                }
                AnyWait::Nothing => {
                    looks += 1;
                    if looks > 1 {
                        match proc::state(current.tid) {
                            Some(b'S' | b'Z' | b'I') => return Ok(TurnEnd::Blocked),
                            Some(b'D')
                                if looks > LOOKS
                                    || current.pending.as_ref().is_some_and(|p| p.vfork) =>
                            {
                                return Ok(TurnEnd::Blocked);
                            }
                            _ => {}
                        }
                    }
                    tracee::give_way();
                }
                AnyWait::Interrupted if in_program => self.on_tick(current, &running)?,
                AnyWait::Interrupted => {}
            }
        }
    }

    /// Keeps the status of a task that is not running.
    fn keep_stop(&mut self, tid: i32, status: i32) -> Result<()> {
        if tracee::is_exec(status) {
            self.move_to_leader(tid)?;
        }
        let Some(other) = self.tasks.get_mut(&tid) else {
            // A new task whose parent's clone event has not come yet.
            self.early.insert(tid, status);
            return Ok(());
        };
        if tracee::is_ending(status) {
            // A killed task does not wait for its turn.
            other.state = TaskState::InKernel;
            if let Some(mut other) = self.tasks.remove(&tid) {
                let ended = match Running::of_another(tid).decode_status(status)? {
                    Waited::Stopped(task, _) => self.about_to_end(&mut other, task).map(|_| ()),
                    Waited::Ended(_) => Ok(()),
                };
                self.tasks.insert(tid, other);
                return ended;
            }
            return Ok(());
        }
        // A stopped task can be killed.
        match Running::of_another(tid).decode_status(status)? {
            Waited::Stopped(task, stop) => {
                other.state = TaskState::Ready(task, stop);
                self.queue.push_back(tid);
            }
            Waited::Ended(exit) => {
                other.state = TaskState::Taken;
                self.dead.push((tid, exit));
            }
        }
        Ok(())
    }

    /// Handles an execve by a thread other than the leader: it continues under the leader's tid.
    fn move_to_leader(&mut self, pid: i32) -> Result<()> {
        let former = tracee::former_tid(pid)?;
        let Some(mut task) = (former != pid)
            .then(|| self.tasks.remove(&former))
            .flatten()
        else {
            return Ok(());
        };
        self.take_over(&mut task)?;
        task.state = TaskState::InKernel;
        self.tasks.insert(pid, task);
        Ok(())
    }

    /// Handles an execve by another thread while the leader runs.
    fn take_over(&mut self, current: &mut Task) -> Result<Running> {
        if let Some(leader) = self.tasks.remove(&current.pid) {
            self.dead.retain(|&(tid, _)| tid != current.pid);
            self.write_exit(leader, Exit::Code(0))?;
        }
        self.alive.0.remove(&current.tid);
        self.alive.0.insert(current.pid);
        current.tid = current.pid;
        Ok(Running::of_another(current.pid))
    }
}
