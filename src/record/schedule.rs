//! Which task runs: one at a time, so that the order of what is written is the order of what happened.
//!
//! A task runs until the kernel has it wait, and then the others do. One that was in a call comes back at
//! the call's exit, stands there until it is its turn, and only then is the call written.

use super::task::{Kernel, Spell, Task};
use super::{Error, Recorder, Result, idle};
use crate::trace::Exit;
use crate::tracee::{self, AnyWait, Running, Stop, Stopped, Waited, proc, ticker};

/// How many ticks a task may go on making calls while others wait.
const SLICE: u64 = 20;

/// How many it may go on printing.
const PRINTING: u64 = 10 * SLICE;

/// How many ticks a task that was preempted as it was busy lets others go first.
const STEPS_BACK: u64 = 20;

/// How often a task that sleeps without listening to signals is looked at before it counts as blocked.
const LOOKS: u32 = 200;

/// What became of the task that runs.
enum Came {
    Stopped(Stopped, Stop),
    Ended(Exit),
    /// The kernel has it wait.
    Blocked,
    /// It was a process's first thread, and another of its threads has executed a program: that one's status.
    Replaced(i32),
}

/// A task's next step.
pub enum Step {
    Met(Stopped, Stop),
    Runs(Running),
    /// It is out of the scheduler's hands, and back among the tasks.
    Rests,
}

impl Recorder {
    /// Runs all tasks to their end. `first` stands at the entry of its first call.
    pub(super) fn run(&mut self, first: Task, at: Stopped) -> Result<()> {
        self.follow(first, Step::Met(at, Stop::Entry))?;
        loop {
            self.bury()?;
            self.look(None);
            if let Some(tid) = self.next_turn()? {
                let Some(mut me) = self.tasks.remove(&tid) else {
                    continue;
                };
                match std::mem::replace(&mut me.kernel, Kernel::Taken) {
                    Kernel::Ready(task, stop) => {
                        self.slice = ticker::ticks();
                        self.follow(me, Step::Met(task, stop))?;
                    }
                    kernel => {
                        me.kernel = kernel;
                        self.tasks.insert(tid, me);
                    }
                }
            } else if self.tasks.is_empty() {
                return Ok(());
            } else {
                let leftovers = self.only_leftovers(None);
                self.ticker.set(leftovers);
                if let AnyWait::Task(tid, status) = tracee::wait_any(true)? {
                    self.note(tid, status)?;
                }
            }
        }
    }

    /// Follows a task until it ends, waits, or has had its turn.
    fn follow(&mut self, mut me: Task, mut step: Step) -> Result<()> {
        loop {
            let running = match step {
                Step::Met(task, stop) => {
                    step = match self.met(&mut me, task, stop) {
                        Ok(step) => step,
                        Err(Error::Tracee(tracee::Error::Ended { tid, exit, .. }))
                            if tid == me.tid =>
                        {
                            return self.gone(me, exit);
                        }
                        // Killed as it stood. Nothing may come between what set it going and its end.
                        Err(_) if !tracee::stands(me.tid) => {
                            Step::Runs(Running::of_another(me.tid))
                        }
                        Err(error) => return Err(error),
                    };
                    continue;
                }
                Step::Runs(running) => running,
                Step::Rests => {
                    self.tasks.insert(me.tid, me);
                    return Ok(());
                }
            };
            step = match self.wait(&mut me, running)? {
                Came::Stopped(task, stop) => Step::Met(task, stop),
                Came::Blocked => {
                    if me.leaving {
                        self.left_zombie(&me)?;
                    } else {
                        self.changed_by_waiting(&me)?;
                    }
                    me.kernel = Kernel::Away;
                    Step::Rests
                }
                Came::Ended(exit) => return self.gone(me, exit),
                Came::Replaced(status) => {
                    let pid = me.pid;
                    self.gone(me, Exit::Code(0))?;
                    return self.note(pid, status);
                }
            };
        }
    }

    pub(super) fn met(&mut self, me: &mut Task, task: Stopped, stop: Stop) -> Result<Step> {
        // One that was on its way as the task was asked to stop comes first.
        let is_signal = matches!(stop, Stop::Signal(_));
        let interrupted = !is_signal && std::mem::take(&mut me.spell.interrupted);
        // A signal that is held changes nothing, and the counter may be read in a loop.
        if !(stop == Stop::Attached && interrupted || is_signal) {
            me.spell = Spell::new();
            me.reads.begin_anew();
        }
        Ok(Step::Runs(match stop {
            Stop::Entry if interrupted => return self.stop_before_call(me, task),
            Stop::Entry => {
                if std::mem::take(&mut me.unannounced) {
                    self.write_run(me)?;
                }
                self.write_tsc(me)?;
                self.bury_beside(me)?;
                if !me.held.is_empty() {
                    return self.interrupt_entry(me, task);
                }
                self.on_entry(me, task)?
            }
            Stop::Syscall if self.has_had_its_turn(me, &task)? => {
                return Ok(self.put_off(me, task, stop));
            }
            Stop::Syscall => {
                // What they left behind is there before the task goes on.
                self.bury_beside(me)?;
                self.on_exit(me, task)?
            }
            Stop::Exec => {
                // The other threads are gone before the program is executed.
                self.bury()?;
                task.resume_to_exit()?
            }
            Stop::Clone(child) => {
                self.born(me, child)?;
                task.resume_to_exit()?
            }
            Stop::Signal(libc::SIGTRAP) => match task.at_breakpoint()? {
                Some(regs) => return self.on_point(me, task, regs),
                None => self.on_signal(me, task)?,
            },
            Stop::Signal(_) => self.on_signal(me, task)?,
            Stop::Group(signal) => {
                self.note_stopped(me, signal);
                // Wherever it stands, it does not go on until it is continued. A call that was interrupted is made again
                // at once, and nothing comes between.
                let waits = self.executed && me.in_program() && !me.unannounced;
                if waits && !me.makes_call_again(&task.regs()?) {
                    self.jump(me, &task)?;
                }
                task.listen()?;
                me.kernel = Kernel::Away;
                return Ok(Step::Rests);
            }
            Stop::Attached if interrupted => return self.on_interrupt(me, task),
            Stop::Attached => {
                self.note_continued(me);
                self.resume(me, task)?
            }
            Stop::Exit => self.about_to_end(me, task)?,
            Stop::Other(_) => task.resume()?,
        }))
    }

    /// A task has come to a call as it was asked to stop, and would stop within that: a call that waits would be
    /// interrupted, and some say so. It stops first, and comes to the call once more.
    fn stop_before_call(&mut self, me: &mut Task, mut task: Stopped) -> Result<Step> {
        let tid = task.tid();
        let mut regs = task.regs()?;
        regs.rewind(regs.nr() as u64);
        // How often it comes to a place is counted, and a replay comes to this once.
        if me.watch.stops_at(regs.ip()) {
            return self.met(me, task, Stop::Entry);
        }
        task.set_regs(&regs)?;
        let (task, stop) = task
            .resume()?
            .wait()?
            .stopped("stop it before a call", tid)?;
        match stop {
            Stop::Attached => Ok(Step::Runs(task.resume()?)),
            _ => self.met(me, task, stop),
        }
    }

    /// Has the task wait for its next turn.
    pub(super) fn put_off(&mut self, me: &mut Task, task: Stopped, stop: Stop) -> Step {
        me.kernel = Kernel::Ready(task, stop);
        self.queue.push_back(me.tid);
        Step::Rests
    }

    /// Resumes a task's own instructions.
    pub(super) fn resume(&mut self, me: &mut Task, mut task: Stopped) -> Result<Running> {
        if std::mem::take(&mut me.unannounced) {
            self.write_run(me)?;
            self.watch(me, &mut task)?;
        }
        Ok(task.resume()?)
    }

    /// Who is next. Those that were busy step back for a while.
    fn next_turn(&mut self) -> Result<Option<i32>> {
        let mut first = self.first_not_busy();
        if first.is_none() && !self.queue.is_empty() {
            // Who has been woken just now gets the chance to say so.
            tracee::give_way();
            while let AnyWait::Task(tid, status) = tracee::wait_any(false)? {
                self.note(tid, status)?;
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

    fn has_had_its_turn(&self, me: &mut Task, task: &Stopped) -> Result<bool> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        let waits = !me.yielded && idle::waits(me, task.regs()?.ret());
        me.yielded |= waits;
        let had = ticker::ticks() - self.slice;
        Ok(waits || had >= SLICE && (had >= PRINTING || !self.has_printed(me)))
    }

    /// Whether the call that a task is in has written to a standard stream. What others write before this is an event
    /// would be printed first by a replay.
    fn has_printed(&self, me: &Task) -> bool {
        let Some(event) = me.pending.as_ref().map(|pending| &pending.event) else {
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
        let stream = self.family.output_stream(me.tid, event.args[to] as i32);
        stream.is_some()
    }

    /// Waits for what the running task does next. What others do meanwhile is kept for their turn.
    fn wait(&mut self, me: &mut Task, mut running: Running) -> Result<Came> {
        let mut looks = 0;
        // A tick that came as somebody else was looked after interrupts nothing.
        if me.in_program() && ticker::ticks() != me.spell.ticked {
            self.on_tick(me, &running)?;
        }
        loop {
            self.look(Some(me));
            let in_program = me.in_program();
            // A leader that leaves before its threads reports nothing until they have gone.
            let may_linger = me.leaving && me.tid == me.pid && self.has_threads(me.pid);
            let impatient = may_linger || (!in_program && !me.leaving && !self.queue.is_empty());
            self.ticker.set(
                !self.queue.is_empty() || !me.held.is_empty() || self.only_leftovers(Some(me)),
            );
            match tracee::wait_any(!impatient)? {
                AnyWait::Task(tid, status)
                    if tid == me.tid
                        && tracee::is_exec(status)
                        && tracee::former_tid(tid)? != tid =>
                {
                    return Ok(Came::Replaced(status));
                }
                AnyWait::Task(tid, status) if tid == me.tid => {
                    return Ok(match running.met(status)? {
                        Waited::Stopped(task, stop) => Came::Stopped(task, stop),
                        Waited::Ended(exit) => Came::Ended(exit),
                    });
                }
                AnyWait::Task(tid, status) => {
                    if tid == me.pid && tracee::is_exec(status) {
                        running = self.take_over(me)?;
                        return Ok(match running.met(status)? {
                            Waited::Stopped(task, stop) => Came::Stopped(task, stop),
                            Waited::Ended(exit) => Came::Ended(exit),
                        });
                    }
                    self.note(tid, status)?;
                }
                AnyWait::Nothing => {
                    looks += 1;
                    if looks > 1 {
                        match proc::state(me.tid) {
                            Some(b'S' | b'Z' | b'I') => return Ok(Came::Blocked),
                            Some(b'D')
                                if looks > LOOKS
                                    || me.pending.as_ref().is_some_and(|p| p.vfork) =>
                            {
                                return Ok(Came::Blocked);
                            }
                            _ => {}
                        }
                    }
                    tracee::give_way();
                }
                AnyWait::Interrupted if in_program => self.on_tick(me, &running)?,
                AnyWait::Interrupted => {}
            }
        }
    }

    /// Keeps what a task did that it is not the turn of.
    fn note(&mut self, tid: i32, status: i32) -> Result<()> {
        if tracee::is_exec(status) {
            self.move_to_leader(tid)?;
        }
        let Some(other) = self.tasks.get_mut(&tid) else {
            // A new task whose maker has not said so yet.
            self.early.insert(tid, status);
            return Ok(());
        };
        if tracee::is_ending(status) {
            // Killed: it does not wait for its turn.
            other.kernel = Kernel::Away;
            if let Some(mut other) = self.tasks.remove(&tid) {
                let ended = match Running::of_another(tid).met(status)? {
                    Waited::Stopped(task, _) => self.about_to_end(&mut other, task).map(|_| ()),
                    Waited::Ended(_) => Ok(()),
                };
                self.tasks.insert(tid, other);
                return ended;
            }
            return Ok(());
        }
        // One that stands can be killed all the same.
        match Running::of_another(tid).met(status)? {
            Waited::Stopped(task, stop) => {
                other.kernel = Kernel::Ready(task, stop);
                self.queue.push_back(tid);
            }
            Waited::Ended(exit) => {
                other.kernel = Kernel::Taken;
                self.dead.push((tid, exit));
            }
        }
        Ok(())
    }

    /// A thread other than the first has executed a program: it goes on under the process's number.
    fn move_to_leader(&mut self, pid: i32) -> Result<()> {
        let former = tracee::former_tid(pid)?;
        let Some(mut task) = (former != pid)
            .then(|| self.tasks.remove(&former))
            .flatten()
        else {
            return Ok(());
        };
        self.take_over(&mut task)?;
        task.kernel = Kernel::Away;
        self.tasks.insert(pid, task);
        Ok(())
    }

    /// The same for the task that runs.
    fn take_over(&mut self, me: &mut Task) -> Result<Running> {
        if let Some(leader) = self.tasks.remove(&me.pid) {
            self.dead.retain(|&(tid, _)| tid != me.pid);
            self.gone(leader, Exit::Code(0))?;
        }
        self.alive.0.remove(&me.tid);
        self.alive.0.insert(me.pid);
        me.tid = me.pid;
        Ok(Running::of_another(me.pid))
    }
}
