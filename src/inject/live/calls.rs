//! Calls of live tasks, at their entry and at their exit.

use super::engine::{Engine, Task, Then};
use super::filters::Filtered;
use super::own_program;
use crate::image;
use crate::inject::hook::{Decision, HookCall, Room};
use crate::inject::native::refused;
use crate::inject::outcome::Status;
use crate::inject::{Error, Result};
use crate::syscall::{self, Moved, Syscall};
use crate::tracee::segv::SegvState;
use crate::tracee::{Stopped, cpuid, proc, tsc_off};

/// How much a pipe takes, if nobody has made it smaller.
const PIPE: u64 = 16 << 12;

impl Engine<'_> {
    /// A task has made a call.
    pub(super) fn on_entry(&mut self, me: &mut Task, mut task: Stopped) -> Result<Then> {
        let mut regs = task.regs()?;
        let args = regs.args();
        let known = match task.is_foreign_call()? {
            true => None,
            false => syscall::of_number(regs.nr() as u32),
        };
        let Some(call) = known else {
            regs.answer(-i64::from(libc::ENOSYS));
            task.set_regs(&regs)?;
            return Ok(Then::Resume(task, 0));
        };
        let mut seen = self
            .see(me, &task, call.resolve(&args), args)
            .with_regs(regs);
        self.hooks.enter(&mut seen).map_err(Error::Hook)?;
        if let Some(reason) = seen.stop.take() {
            self.note(&seen, seen.ret());
            return Ok(Then::End(Status::Stopped, Some(reason)));
        }
        self.make_call(me, task, seen)
    }

    /// A call whose hooks have run at its entry.
    pub(super) fn make_call(
        &mut self,
        me: &mut Task,
        task: Stopped,
        seen: HookCall,
    ) -> Result<Then> {
        let mut seen = seen;
        let delay = seen.take_delay();
        if !delay.is_zero() {
            let until = tsc_off::now().checked_add(delay);
            me.pending = Some(Box::new(seen));
            return Ok(match until {
                Some(until) => Then::Later(until, Box::new(Then::Enter(task))),
                None => Then::Listen(task),
            });
        }
        if seen.dies_first() {
            self.note(&seen, None);
            task.send_to(me.process, libc::SIGKILL);
            return Ok(Then::Resume(task, 0));
        }
        let (later, now): (Vec<i32>, _) = std::mem::take(&mut seen.signals)
            .into_iter()
            .partition(|&signal| signal == libc::SIGKILL);
        seen.signals = later;
        for signal in now {
            task.send_to(me.process, signal);
        }
        let made = me.made.take();
        if let Decision::Answer(ret) = seen.decision {
            return self.conclude(me, task, seen, ret);
        }
        if let Some(made) = made {
            // The thread runs already.
            return self.conclude(me, task, seen, made.into());
        }
        let (mut task, mut seen) = match self.filter(me, task, seen)? {
            Filtered::Passes(task, seen) => (task, *seen),
            Filtered::Done(then) => return Ok(then),
        };
        if let Some(ret) = self.answer_about_filters(me, &mut task, &seen)? {
            return self.conclude(me, task, seen, ret);
        }
        if matches!(seen.call.name, "exit" | "exit_group") {
            self.note(&seen, None);
            if seen.args != seen.asked {
                let mut regs = task.regs()?;
                regs.set_args(seen.args);
                task.set_regs(&regs)?;
            }
            return Ok(Then::Resume(task, 0));
        }
        if self.has_enough_tasks()
            && matches!(seen.call.name, "fork" | "vfork" | "clone" | "clone3")
        {
            return self.conclude(me, task, seen, -i64::from(libc::EAGAIN));
        }
        let refused = self
            .recording
            .as_ref()
            .and_then(|_| refused(seen.call, &seen.args));
        if let Some(ret) = refused.or_else(|| self.own_identity(me, &seen)) {
            return self.conclude(me, task, seen, ret);
        }
        let args = match seen.decision {
            Decision::Short(len) => seen.shorten(len)?,
            // It asks where the break is.
            Decision::Break => [0; 6],
            _ => self.translate(me, &seen).unwrap_or(seen.args),
        };
        let mut args = args;
        if let Some((arg, lent)) = self.own_program(me, &seen)? {
            args[arg] = lent.addr();
            me.lent = Some(lent);
        }
        let mut regs = task.regs()?;
        if args != regs.args() {
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        if self.clocks.is_shifted() {
            me.moved = self.clocks.shift_deadline(&seen)?;
        }
        if seen.call.moves_data() == Some(Moved::In) {
            self.drain();
            me.floods = self.recording.is_some() && seen.size().is_none_or(|size| size > PIPE);
        }
        if matches!(seen.call.name, "execve" | "execveat") {
            seen.keep_passed();
        }
        me.pending = Some(Box::new(seen));
        Ok(Then::ToExit(task, 0))
    }

    /// Adds a call to what the outcome lists. Some calls of programs that were not recorded are of interest to us alone.
    pub(super) fn note(&mut self, seen: &HookCall, ret: Option<i64>) {
        if self.recording.is_some() || self.hooks.wants(seen.call) {
            self.log.call(seen, ret);
        }
    }

    /// Answers a call that the kernel does not get to see.
    pub(super) fn conclude(
        &mut self,
        me: &Task,
        mut task: Stopped,
        mut seen: HookCall,
        ret: i64,
    ) -> Result<Then> {
        let mut regs = task.regs()?;
        seen.answered(ret);
        let ret = self.settle(&mut seen)?;
        self.note(&seen, Some(ret));
        seen.give_back()?;
        regs.set_args(seen.asked);
        regs.answer(ret);
        task.set_regs(&regs)?;
        self.after(me, task, seen)
    }

    /// A call that the kernel made is about to return.
    pub(super) fn on_exit(&mut self, me: &mut Task, mut task: Stopped) -> Result<Then> {
        me.floods = false;
        let lent = me.lent.take();
        let fresh = std::mem::take(&mut me.fresh);
        if fresh && let Some(exe) = task.foreign_program()? {
            return Ok(Then::End(Status::Stopped, Some(foreign(&exe))));
        }
        let Some(mut seen) = me.pending.take() else {
            if fresh {
                self.executed(me, &mut task)?;
            }
            return Ok(Then::Resume(task, 0));
        };
        if let Some(moved) = me.moved.take() {
            moved.restore(task.memory())?;
        }
        let mut regs = task.regs()?;
        let mut given = regs.ret();
        me.segv.after_call(&task, seen.call.nr, &seen.args, given)?;
        self.note_promise(me, &seen, given);
        if seen.call.name == "rt_sigreturn" {
            return Ok(Then::Resume(task, 0));
        }
        if (-516..=-512).contains(&given) {
            // Interrupted: the kernel deals with the signal first, and makes it again.
            if seen.is_changed() {
                seen.give_back()?;
                regs.set_args(seen.asked);
                task.set_regs(&regs)?;
            }
            return Ok(Then::Resume(task, 0));
        }
        let executed = matches!(seen.call.name, "execve" | "execveat") && given == 0;
        if executed {
            self.executed(me, &mut task)?;
            if lent.is_some() {
                own_program::name(&mut task)?;
            }
            regs = task.regs()?;
        } else if self.clocks.is_shifted() {
            given = self.clocks.shift_answer(&seen, given)?;
        }
        if given == 0 {
            self.show_same_file(&mut task, &seen)?;
        } else if given == -i64::from(libc::EXDEV) {
            given = self.rename_directory(&mut task, &seen)?;
        }
        if seen.call.moves_data() == Some(Moved::In) {
            self.drain();
            self.streams.note(&seen, given, self.log);
        }
        let called = regs.args();
        if !self.identity.is_real() && seen.call.name == "set_tid_address" {
            given = me.tid.into();
        }
        seen.made = true;
        seen.answered(given);
        let ret = self.settle(&mut seen)?;
        self.note(&seen, Some(ret));
        if !executed {
            seen.give_back()?;
        }
        if !executed && (ret != regs.ret() || called != seen.asked) {
            regs.set_args(seen.asked);
            regs.set_ret(ret);
            task.set_regs(&regs)?;
        }
        self.after(me, task, *seen)
    }

    fn after(&mut self, me: &Task, task: Stopped, mut seen: HookCall) -> Result<Then> {
        if let Some(reason) = seen.stop.take() {
            return Ok(Then::End(Status::Stopped, Some(reason)));
        }
        for signal in seen.signals.drain(..) {
            task.send_to(me.process, signal);
        }
        let delay = seen.take_delay();
        if delay.is_zero() {
            return Ok(Then::Resume(task, 0));
        }
        Ok(match tsc_off::now().checked_add(delay) {
            Some(until) => Then::Later(until, Box::new(Then::Resume(task, 0))),
            None => Then::Listen(task),
        })
    }

    /// A new program: it is made to show its calls as the first one was.
    fn executed(&mut self, me: &mut Task, task: &mut Stopped) -> Result<()> {
        let tid = task.tid();
        me.room = Room::default();
        self.identity.executed(me.process);
        me.segv = SegvState::at_exec(task.sigmask()?, proc::ignored(tid)?);
        match self.shows_clocks {
            true => image::prepare(task)?,
            false => image::map_agent(task)?,
        }
        if let Some(recording) = &self.recording {
            cpuid::trap(&recording.start().cpuid, task)?;
        }
        Ok(())
    }

    /// Describes a call for hooks.
    fn see(
        &mut self,
        me: &Task,
        task: &Stopped,
        call: &'static Syscall,
        args: [u64; 6],
    ) -> HookCall {
        // Only hooks ask, and who takes what is written to nowhere.
        let is_of_interest = self.hooks.wants(call) || self.streams.go_nowhere();
        let mut seen = HookCall::new(
            call,
            args,
            (me.pid, me.tid),
            task.memory(),
            self.shared.clone(),
        )
        .with_began(&self.began)
        .with_count(self.log.count(call.nr))
        .with_room(&me.room);
        if is_of_interest {
            let same = self
                .tasks
                .values()
                .filter(|task| task.process == me.process);
            seen = seen.with_tids(std::iter::once(me.tid).chain(same.map(|task| task.tid)));
            seen.find_descriptor();
        }
        seen
    }

    /// Runs the exit hooks, makes memory agree with what they decided, and returns the final answer.
    fn settle(&mut self, seen: &mut HookCall) -> Result<i64> {
        let given = seen.ret.unwrap_or(0);
        self.hooks.exit(seen).map_err(Error::Hook)?;
        let ret = seen.ret.unwrap_or(0);
        if ret < 0 && given >= 0 {
            seen.undo()?;
        }
        Ok(ret)
    }
}

/// Why it does not go on with a program of another ABI.
fn foreign(exe: &[u8]) -> String {
    let exe = String::from_utf8_lossy(exe);
    format!("it executed a 32-bit program, {exe}, and only 64-bit ones can be followed")
}
