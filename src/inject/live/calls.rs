//! Calls of live tasks, at their entry and at their exit.

use super::engine::Engine;
use super::filters::FilterVerdict;
use super::guard::Locking;
use super::proc_self_exe;
use super::task::{NextStep, Task};
use crate::constants::Answer;
use crate::constants::is_restart;
use crate::image;
use crate::inject::Result;
use crate::inject::exchange::{Decided, Entered, Settled};
use crate::inject::hook::{Decision, HookCall, ScratchMemory};
use crate::inject::log::Log;
use crate::inject::outcome::Status;
use crate::inject::refused::refused;
use crate::syscall::{self, Moved, Syscall};
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, Stopped, proc, tsc_off};

/// linux/errno.h: a call that a signal has interrupted, to be restarted unless a handler of the signal forbids that.
const ERESTARTSYS: i64 = -512;

/// The default capacity of a pipe.
const PIPE: u64 = 16 << 12;

impl Engine<'_> {
    /// Handles a call that a task makes.
    pub(super) fn on_entry(&mut self, me: &mut Task, mut task: Stopped) -> Result<NextStep> {
        let mut regs = task.regs()?;
        let args = regs.args();
        let known = match task.is_foreign_call()? {
            true => None,
            false => syscall::of_number(regs.nr() as u32),
        };
        let Some(call) = known else {
            regs.answer(Answer::Errno(libc::ENOSYS));
            task.set_regs(&regs)?;
            return Ok(NextStep::Resume(task, 0));
        };
        let seen = self.see(me, &task, call.resolve(&args), regs);
        let mut seen = seen.decide(self.hooks)?;
        if let Some(reason) = seen.stop.take() {
            self.note(&seen, seen.ret());
            return Ok(NextStep::End(Status::Stopped, Some(reason)));
        }
        self.make_call(me, task, seen)
    }

    /// Continues a call whose enter hooks have run.
    pub(super) fn make_call(
        &mut self,
        me: &mut Task,
        task: Stopped,
        mut seen: Decided,
    ) -> Result<NextStep> {
        self.note_given(&seen);
        let delay = seen.take_delay();
        if !delay.is_zero() {
            let until = tsc_off::now().checked_add(delay);
            me.pending = Some(seen);
            return Ok(match until {
                Some(until) => NextStep::Later(until, Box::new(NextStep::Enter(task))),
                None => NextStep::Listen(task),
            });
        }
        if seen.dies_first() {
            self.note(&seen, None);
            task.send_to(me.process, libc::SIGKILL);
            return Ok(NextStep::Resume(task, 0));
        }
        let (later, now): (Vec<i32>, _) = std::mem::take(&mut seen.signals)
            .into_iter()
            .partition(|&signal| signal == libc::SIGKILL);
        seen.signals = later;
        for signal in now {
            task.send_to(me.process, signal);
        }
        me.checked = None;
        if let Some(holder) = me.holder.take().filter(|one| self.holding.contains(one)) {
            me.pending = Some(seen);
            return Ok(NextStep::Held(holder, task));
        }
        let made = me.made.take();
        let half_done = me.half_done.take();
        if let Decision::Answer(ret) = seen.decision {
            return self.conclude(me, task, seen, ret);
        }
        if let Some(made) = made {
            // The thread or the process exists already.
            return self.conclude(me, task, seen, i64::from(made));
        }
        let (mut task, mut seen) = match self.filter(me, task, seen)? {
            FilterVerdict::Passes(task, seen) => (task, seen),
            FilterVerdict::Done(then) => return Ok(then),
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
            return Ok(NextStep::Resume(task, 0));
        }
        if let Some(answer) = self.guard(me, &mut task, &mut seen)? {
            return self.conclude(me, task, seen, answer);
        }
        match self.guard_locks(me, &task, &seen) {
            Locking::Kernel => {}
            Locking::Done(answer) => return self.conclude(me, task, seen, answer),
            Locking::Waits(until) => {
                me.pending = Some(seen);
                return Ok(NextStep::Later(until, Box::new(NextStep::Enter(task))));
            }
            Locking::Interrupted => {
                // The signal ends this call at once, unless another thread takes it.
                let mut regs = task.regs()?;
                regs.set_nr(libc::SYS_poll as u64);
                regs.set_args([0, 0, 1, 0, 0, 0]);
                task.set_regs(&regs)?;
                me.locks_again = true;
                me.pending = Some(seen);
                return Ok(NextStep::ToExit(task, 0));
            }
        }
        let refused = self
            .recording
            .as_ref()
            .and_then(|_| refused(seen.call, &seen.args));
        let own = || self.own_identity(me, &seen).map(Answer::from_raw);
        if let Some(answer) = refused.or_else(own) {
            return self.conclude(me, task, seen, answer);
        }
        let mut args = match seen.decision {
            Decision::Short(len) => seen.shorten(len)?,
            // brk without an argument asks for the present break.
            Decision::Break => [0; 6],
            _ => self.translate(me, &seen).unwrap_or(seen.args),
        };
        if let Some(checked) = &me.checked {
            args = checked.args;
        }
        if let Some(mut half_done) = half_done {
            match half_done.rest(me, &seen, args)? {
                Some(rest) => {
                    args = rest;
                    me.half_done = Some(half_done);
                }
                None => {
                    let whole = half_done.answer(None);
                    return self.conclude(me, task, seen, whole);
                }
            }
        }
        if let Some((arg, replaced_path)) = self.replace_proc_self_exe(me, &seen)? {
            args[arg] = replaced_path.addr();
            me.replaced_path = Some(replaced_path);
        }
        let mut regs = task.regs()?;
        let nr = me.checked.as_ref().and_then(|checked| checked.nr);
        if args != regs.args() || nr.is_some() {
            regs.set_args(args);
            if let Some(nr) = nr {
                regs.set_nr(nr as u64);
            }
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
        me.pending = Some(seen);
        Ok(NextStep::ToExit(task, 0))
    }

    /// The log, if the outcome lists the call: some calls of programs that were not recorded stop for rrapper's purposes alone.
    fn log_of(&mut self, seen: &HookCall) -> Option<&mut Log> {
        (self.recording.is_some() || self.hooks.wants(seen.call)).then_some(&mut self.report.log)
    }

    /// Lists a call that is not settled.
    pub(super) fn note(&mut self, seen: &HookCall, ret: Option<i64>) {
        if let Some(log) = self.log_of(seen) {
            log.call(seen, ret);
        }
    }

    /// Answers a call that the kernel does not make.
    pub(super) fn conclude(
        &mut self,
        me: &Task,
        mut task: Stopped,
        seen: Decided,
        answer: impl Into<Answer>,
    ) -> Result<NextStep> {
        let seen = seen.answer(answer).settle(self.hooks)?;
        seen.log(self.log_of(&seen));
        seen.put_at_entry(&mut task)?;
        self.after(me, task, seen)
    }

    /// Handles the exit of a call that the kernel made.
    pub(super) fn on_exit(&mut self, me: &mut Task, mut task: Stopped) -> Result<NextStep> {
        me.floods = false;
        let other_call = me.checked.take().and_then(|checked| checked.nr).is_some();
        let replaced_path = me.replaced_path.take();
        let fresh = std::mem::take(&mut me.fresh);
        if fresh && let Some(exe) = task.foreign_program()? {
            return Ok(NextStep::End(Status::Stopped, Some(foreign(&exe))));
        }
        let Some(seen) = me.pending.take() else {
            if fresh && let Some(reason) = self.executed(me, &mut task)? {
                return Ok(NextStep::End(Status::Stopped, Some(reason)));
            }
            return Ok(NextStep::Resume(task, 0));
        };
        if let Some(moved) = me.moved.take() {
            moved.restore(task.memory())?;
        }
        let mut given = task.regs()?.ret();
        if std::mem::take(&mut me.locks_again) {
            let mut regs = task.regs()?;
            match is_restart(given) {
                // The kernel restarts the call, or has the handler of the signal interrupt it.
                true => regs.interrupt(seen.call.nr.into(), ERESTARTSYS),
                false => regs.rewind(seen.call.nr.into()),
            }
            task.set_regs(&regs)?;
            given = ERESTARTSYS;
        }
        me.segv.after_call(&task, seen.call.nr, &seen.args, given)?;
        if let Some(half_done) = me.half_done.take() {
            given = half_done.answer(Some(given));
            let mut regs = task.regs()?;
            regs.set_ret(given);
            task.set_regs(&regs)?;
        }
        self.note_promise(me, &seen, given);
        self.note_guarded(me, &seen, given);
        if seen.call.name == "rt_sigreturn" {
            return Ok(NextStep::Resume(task, 0));
        }
        if is_restart(given) {
            if other_call {
                let mut regs = task.regs()?;
                regs.interrupt(seen.call.nr.into(), given);
                task.set_regs(&regs)?;
            }
            seen.restart(&mut task)?;
            return Ok(NextStep::Resume(task, 0));
        }
        if other_call {
            given = Self::answer_messages(&seen, given);
        }
        let executed = matches!(seen.call.name, "execve" | "execveat") && given == 0;
        if executed {
            if let Some(reason) = self.executed(me, &mut task)? {
                return Ok(NextStep::End(Status::Stopped, Some(reason)));
            }
            if replaced_path.is_some() {
                proc_self_exe::set_name(&mut task)?;
            }
        } else if self.clocks.is_shifted() {
            given = self.clocks.shift_answer(&seen, given)?;
        }
        if given == 0 {
            self.show_same_file(&mut task, &seen)?;
            self.follow_chdir(&mut task, &seen)?;
        } else if given < 0 {
            given = self.work_around_overlays(&mut task, &seen, given)?;
        }
        given = self.go_on_listing(me.process, &mut task, &seen, given)?;
        if seen.call.moves_data() == Some(Moved::In) {
            self.drain();
            self.streams.note(&seen, given, &mut self.report.log);
            self.note_written(me, &seen, given);
        }
        if !self.identity.is_real() && seen.call.name == "set_tid_address" {
            given = me.tid.into();
        }
        let seen = seen.made(given).settle(self.hooks)?;
        seen.log(self.log_of(&seen));
        if !executed {
            seen.put_at_exit(&mut task)?;
        }
        self.after(me, task, seen)
    }

    fn after(&mut self, me: &Task, task: Stopped, mut seen: Settled) -> Result<NextStep> {
        if let Some(reason) = seen.stop.take() {
            return Ok(NextStep::End(Status::Stopped, Some(reason)));
        }
        for signal in seen.signals.drain(..) {
            task.send_to(me.process, signal);
        }
        let delay = seen.take_delay();
        if delay.is_zero() {
            return Ok(NextStep::Resume(task, 0));
        }
        Ok(match tsc_off::now().checked_add(delay) {
            Some(until) => NextStep::Later(until, Box::new(NextStep::Resume(task, 0))),
            None => NextStep::Listen(task),
        })
    }

    /// Handles the execution of a program: its memory image is prepared as the first one's was. Returns the reason why it
    /// cannot be followed, if so.
    fn executed(&mut self, me: &mut Task, task: &mut Stopped) -> Result<Option<String>> {
        let tid = task.tid();
        me.scratch = ScratchMemory::default();
        self.identity.executed(me.process);
        if let Some(member) = self.members.get_mut(&me.process) {
            member.program = None;
        }
        me.segv = SegvState::at_exec(task.sigmask()?, proc::ignored(tid)?);
        me.agent = match image::prepare_live(task, self.shows_clocks) {
            Ok(agent) => agent,
            Err(crate::tracee::Error::Os { source, .. })
                if source.raw_os_error() == Some(libc::ENOMEM) =>
            {
                let reason = "the limits on its memory (RLIMIT_AS, RLIMIT_DATA) leave a program no room for a page of \
                              rrapper's";
                return Ok(Some(reason.into()));
            }
            Err(error) => return Err(error.into()),
        };
        self.hide_from_dumps(task)?;
        Ok(None)
    }

    /// Describes a call for hooks.
    fn see(&mut self, me: &Task, task: &Stopped, call: &'static Syscall, regs: Regs) -> Entered {
        // Only hooks use the descriptor, and the capture of output that is written to /dev/null.
        let is_of_interest =
            self.hooks.wants(call) || self.streams.go_nowhere() || self.may_tell(call);
        let mut seen = HookCall::new(
            call,
            regs.args(),
            (me.pid, me.tid),
            task.memory(),
            self.shared.clone(),
        )
        .with_began(&self.began)
        .of_child(me.child, me.is_relative)
        .with_count(self.report.log.count(call.nr))
        .with_scratch(&me.scratch)
        .with_regs(regs);
        if let Some(member) = self.members.get(&me.process)
            && let Some(program) = &member.program
        {
            seen = seen.with_program(program, member.ppid);
        }
        if is_of_interest {
            let same = self
                .tasks
                .values()
                .filter(|task| task.process == me.process);
            seen = seen.with_tids(std::iter::once(me.tid).chain(same.map(|task| task.tid)));
            seen.find_descriptor();
        }
        Entered::new(seen)
    }
}

/// The reason for ending a program of another ABI.
fn foreign(exe: &[u8]) -> String {
    let exe = String::from_utf8_lossy(exe);
    format!("it executed a 32-bit program, {exe}, and only 64-bit ones can be followed")
}
