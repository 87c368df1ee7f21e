//! Calls of an emulated process that the kernel makes, since they affect only the process itself.

use super::task::TaskState;
use super::{Driver, Next};
use crate::constants::Answer;
use crate::constants::{is_error, is_restart};
use crate::image;
use crate::inject::Result;
use crate::inject::clock::Clocks;
use crate::inject::exchange::Decided;
use crate::inject::hook::HookCall;
use crate::inject::refused::{fixed_remap, insists, refused};
use crate::inject::script::item::{ExpectedCall, code_base};
use crate::kernel::{Program, stack_limit};
use crate::process::{JumpPages, SharedMemory, TaskAttributes, new_memory, remap_as_recorded};
use crate::recording::{CallEvent, Effect};
use crate::tracee::checked_open::Found;
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{Remote, Stopped, agent, cpuid, replaced_instructions};
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// The size of a huge page. The kernel may place a mapping of at least this length at a multiple of it instead of at
/// the address asked for.
const HUGE: u64 = 2 << 20;

impl Driver<'_> {
    /// Has the kernel make a call that affects only the process itself.
    pub(super) fn run_natively(
        &mut self,
        mut task: Stopped,
        seen: Decided,
        expected: bool,
    ) -> Result<Next> {
        let mut regs = task.regs()?;
        let mut step = if expected { self.me.step.take() } else { None };
        self.side_effects = step
            .as_mut()
            .map(|step| std::mem::take(&mut step.side_effects))
            .unwrap_or_default();
        self.note_answered(step.as_ref().and_then(ExpectedCall::event));
        if expected {
            self.me.waits_for_script = step.as_ref().is_some_and(|step| step.stays);
        }
        let exact = step.as_ref().and_then(|step| step.exact.clone());
        if seen.call.name == "set_tid_address"
            && let Some(told) = exact.as_ref().and_then(|event| event.ret)
        {
            self.me.number = Some(told as i32);
        }
        if seen.call.name == "futex" && !expected {
            return self.futex(task, seen);
        }
        if let Some(ret) = refused(seen.call, &seen.args) {
            return self.conclude(task, seen, ret);
        }
        if seen.call.name == "brk"
            && let Some(event) = exact.as_ref().filter(|event| event.args == seen.args)
            && let Some(end) = event.ret.filter(|&end| end as u64 != seen.args[0])
            && seen.args[0] != 0
        {
            // Memory that brk did not get when it was recorded is refused here, too.
            return self.conclude(task, seen, end);
        }
        if seen.args != seen.asked {
            regs.set_args(seen.args);
            task.set_regs(&regs)?;
        }
        if seen.call.name == "sched_getaffinity" && seen.args[0] != 0 {
            // The kernel knows the process's threads by other tids than the recording, and other tasks by the recorded
            // tids.
            let tid = seen.args[0] as i32;
            let real = match self.resting.get(&tid) {
                Some(resting) => resting.task.tid(),
                None if tid == self.me.tid => task.tid(),
                None => return self.conclude(task, seen, Answer::Errno(libc::ESRCH)),
            };
            let mut args = seen.args;
            args[0] = real as u64;
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        if seen.call.name == "brk" {
            // The program break, to be restored if an exit hook has the call fail.
            self.me.break_before = Some(current_break(&mut task)?);
        }
        let is_file = seen.call.name == "mmap" && seen.args[3] as i32 & libc::MAP_ANONYMOUS == 0;
        let copy = match &mut self.given {
            Some(given) if is_file => {
                given.mapped_copy(seen.args[4] as i32, (&self.group, &mut *self.hooks))?
            }
            _ => None,
        };
        if let Some(event) = &exact
            && seen.call.name == "mmap"
            && copy.is_none()
            && let Some(ret) = self
                .group
                .shared
                .map(&mut task, &self.group.recording, event)?
        {
            return self.conclude(task, seen, ret);
        }
        match seen.call.name {
            "exit" | "exit_group" => return self.on_exit_call(task, &seen),
            "execve" | "execveat" => {
                let Some(Effect::Exec(image)) = exact.as_ref().map(|event| &event.effect) else {
                    let reason =
                        "the trace goes through an execve, which only a recording can follow";
                    return Ok(self.stopped(&seen, reason.into()));
                };
                self.report.log.call(&seen, Some(0));
                if let Some(event) = self.answered.filter(|&event| self.leaves_with(event)) {
                    drop(task);
                    tracing::debug!(
                        "process {} is not followed beyond event {event}",
                        self.me.pid
                    );
                    return self.forget();
                }
                let was_as_recorded = self.is_as_recorded();
                self.drop_tasks();
                drop(task);
                if self.family.followed.is_none() {
                    self.group.shared = SharedMemory::default();
                }
                self.group.memory = new_memory();
                let recording = Arc::clone(&self.group.recording);
                let mut task = image::restore(image, &|id| recording.kept_file(id))?;
                if self.side_effects.traps_cpuid {
                    let mut remote = task.remote_at_boundary()?;
                    cpuid::trap(&recording.start().cpuid, &mut remote)?;
                    remote.finish()?;
                }
                image::restore_signals(&mut task, image)?;
                let program = exact.as_ref().map(|event| Program::executed(image, event));
                self.group.program = Arc::new(program.unwrap_or_default());
                let segv = SegvState::at_exec(image.sigmask, image.ignored);
                let ids = (self.group.pid, self.group.pid);
                self.me = TaskState::new(ids, segv, TaskAttributes::default());
                self.first_code = None;
                if was_as_recorded {
                    let pages = &mut self.family.pages;
                    pages.insert(self.group.memory, JumpPages::default());
                }
                self.group.real_pid = task.tid();
                self.limit = Limit::new(self.group.real_pid, self.limit.left())?;
                if let Some(event) = &exact {
                    self.group.descriptors.apply(event);
                }
                self.meet_signals(&mut task)?;
                return self.resume_task(task);
            }
            "mmap" if is_file => {
                let copy = copy.as_ref().map(NamedTempFile::path);
                let ret = self.map_file(&mut task, &seen, (exact.as_deref(), copy))?;
                return self.conclude(task, seen, ret);
            }
            "mmap" => {
                // The recorded address, if that range is free.
                let mut args = seen.args;
                if let Some(at) = exact.and_then(|event| event.ret).filter(|&at| at > 0)
                    && !insists(&seen.args)
                {
                    args[0] = at as u64;
                }
                // A recording may map more memory than this machine has: pages are allocated when they are touched.
                args[3] &= !((libc::MAP_POPULATE | libc::MAP_LOCKED | libc::MAP_HUGETLB) as u64);
                if args[0] != seen.args[0] && args[1] >= HUGE {
                    let mut remote = task.remote_at_entry()?;
                    let ret = map_there(&mut remote, args)?;
                    remote.finish()?;
                    return self.conclude(task, seen, ret);
                }
                if args != seen.args {
                    regs.set_args(args);
                    task.set_regs(&regs)?;
                }
            }
            "mremap" => {
                let [old, _, new_len, ..] = seen.args;
                self.group.shared.extend(task.tid(), old, new_len)?;
                let formal = if fixed_remap(&seen.args) { 5 } else { 4 };
                if let Some(event) = &exact
                    && event.args[..formal] == seen.args[..formal]
                    && let Some(ret) = remap_as_recorded(&mut task, event)?
                {
                    return self.conclude(task, seen, ret);
                }
            }
            // The machine's own System V segments are not those of the trace.
            "shmat" => {
                let recording = Arc::clone(&self.group.recording);
                let made = match &exact {
                    Some(event) => self.group.shared.attach(&mut task, &recording, event)?,
                    None => None,
                };
                let ret = made.unwrap_or(-i64::from(libc::EINVAL));
                return self.conclude(task, seen, ret);
            }
            "shmdt" => {
                let ret = self.group.shared.detach(&mut task, seen.args[0])?;
                return self.conclude(task, seen, ret);
            }
            _ => {}
        }
        Ok(Next::ToExit(task, seen))
    }

    /// Answers a call with a return value that the engine has computed.
    pub(super) fn conclude(
        &mut self,
        mut task: Stopped,
        seen: Decided,
        answer: impl Into<Answer>,
    ) -> Result<Next> {
        let mut seen = self.settle(seen.answer(answer))?;
        self.note(&seen, None);
        if let Some(end) = self.stop_by_hook(&mut seen) {
            return Ok(end);
        }
        self.apply_side_effects(&mut task, true, &seen, seen.ret)?;
        seen.put_at_entry(&mut task)?;
        self.after(task, &mut seen, true)
    }

    /// Applies the stack limit that a successful setrlimit or prlimit64 sets for the process.
    pub(super) fn limit_stack(&self, task: &mut Stopped, seen: &HookCall, ret: i64) -> Result<()> {
        let set = stack_limit(seen.call.nr, &seen.args, &seen.memory).filter(|_| ret == 0);
        match set {
            Some((pid, size)) if [0, self.group.pid].contains(&pid) => {
                Ok(task.set_stack_limit(size)?)
            }
            _ => Ok(()),
        }
    }

    /// Applies the recorded side effects of a call to the process's memory: mappings, bytes, replaced instructions.
    pub(super) fn apply_side_effects(
        &mut self,
        task: &mut Stopped,
        at_entry: bool,
        seen: &HookCall,
        ret: i64,
    ) -> Result<()> {
        let side_effects = std::mem::take(&mut self.side_effects);
        if !side_effects.pieces.is_empty() {
            let pieces = &side_effects.pieces;
            self.group
                .shared
                .remap(task, at_entry, pieces, &self.group.recording)?;
        }
        for chunk in &side_effects.chunks {
            if !agent::is_touched(chunk.addr, chunk.data.len() as u64) {
                // Bytes at unmapped addresses are left out.
                let _ = self
                    .group
                    .shared
                    .write(task.memory(), chunk.addr, &chunk.data);
            }
        }
        if side_effects.traps_cpuid {
            let mut remote = match at_entry {
                true => task.remote_at_entry()?,
                false => task.remote_at_boundary()?,
            };
            cpuid::trap(&self.group.recording.start().cpuid, &mut remote)?;
            remote.finish()?;
        }
        if let Some(base) = code_base(seen.call.nr, &seen.args, ret) {
            for chunk in &side_effects.code {
                let addr = chunk
                    .addr
                    .wrapping_sub(side_effects.code_base)
                    .wrapping_add(base);
                replaced_instructions::again(task.memory(), addr, &chunk.data)?;
            }
        }
        Ok(())
    }

    /// Handles the exit stop of a call that the kernel made.
    pub(super) fn on_exit(&mut self, mut task: Stopped, seen: Decided) -> Result<Next> {
        let returned = task.regs()?.ret();
        self.follow(&task, &seen, returned)?;
        if seen.call.name == "rt_sigreturn" {
            self.meet_signals(&mut task)?;
            return self.resume_task(task);
        }
        let given = match seen.call.name {
            "set_tid_address" => self.me.number.unwrap_or(self.me.tid).into(),
            "clock_gettime" | "gettimeofday" | "time" if seen.index.is_none() => {
                self.trace_time(&seen, returned)?
            }
            _ => returned,
        };
        if is_restart(given) {
            seen.restart(&mut task)?;
            return Ok(Next::Resume(task));
        }
        self.apply_side_effects(&mut task, false, &seen, given)?;
        let executed = seen.call.name.starts_with("execve") && given == 0;
        let mut seen = self.settle(seen.answer(given))?;
        if let Some(broke) = self.me.break_before.take()
            && is_error(seen.ret)
        {
            let mut remote = task.remote_at_boundary()?;
            seen.ret = remote.call(libc::SYS_brk, [broke as u64, 0, 0, 0, 0, 0])?;
            remote.finish()?;
        }
        self.note(&seen, None);
        if let Some(end) = self.stop_by_hook(&mut seen) {
            return Ok(end);
        }
        if !executed {
            seen.put_at_exit(&mut task)?;
        }
        self.after(task, &mut seen, true)
    }

    /// Shifts the time that the kernel returned for a call that the trace does not have: the trace's clocks go on from
    /// the time that they showed last.
    fn trace_time(&mut self, seen: &HookCall, ret: i64) -> Result<i64> {
        let mut clocks = match self.clocks {
            Some(clocks) => clocks,
            None => Clocks::at(&self.group.recording, self.group.event.0)?,
        };
        if let Some(told) = self.shown_time {
            clocks.follow(told);
        }
        self.clocks = Some(clocks);
        clocks.shift_answer(seen, ret)
    }

    /// Updates the state of the task that a call has changed in the kernel.
    fn follow(&mut self, task: &Stopped, seen: &HookCall, ret: i64) -> Result<()> {
        let (nr, args) = (seen.call.nr, &seen.args);
        self.me.segv.after_call(task, nr, args, ret)?;
        if ret < 0 {
            return Ok(());
        }
        self.me.attributes.follow(nr, args, &seen.memory);
        if seen.call.name == "rt_sigaction" {
            let pid = self.group.pid;
            let siblings = self.resting.values_mut();
            for resting in siblings.filter(|resting| resting.me.pid == pid) {
                resting.me.segv.share_action(&self.me.segv);
            }
        }
        Ok(())
    }

    /// Maps a file privately: a copy of it (`copy`), the recorded one, or else the file at the descriptor's path.
    fn map_file(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        (exact, copy): (Option<&CallEvent>, Option<&Path>),
    ) -> Result<i64> {
        let [addr, len, prot, flags, fd, offset] = seen.args;
        let (path, how) = match (copy, exact.map(|event| &event.effect)) {
            (Some(copy), _) => {
                let path = copy.as_os_str().as_encoded_bytes();
                (path.to_vec(), libc::O_RDONLY | libc::O_CLOEXEC)
            }
            (None, Some(Effect::Map(id))) => {
                let path = self.group.recording.file_path(*id)?;
                let how = image::kept_file_flags(&path);
                (path.into_os_string().into_encoded_bytes(), how)
            }
            _ => match self.group.descriptors.get(fd as i32) {
                Some(file) => {
                    let how = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
                    (file.path.clone(), how)
                }
                None => return Ok(-i64::from(libc::EBADF)),
            },
        };
        let private = flags as i32 & !libc::MAP_TYPE | libc::MAP_PRIVATE;
        let hint = exact
            .and_then(|event| event.ret)
            .filter(|&at| at > 0 && !insists(&seen.args));
        let mut remote = task.remote_at_entry()?;
        let mut ret = open_to_map(&mut remote, &path, how)?;
        let shared = flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE;
        if ret == -i64::from(libc::ENOENT) && shared && prot as i32 & libc::PROT_WRITE != 0 {
            // The traced program created this file to share memory. The mapping begins empty; recorded outputs of calls
            // may fill it at its recorded address.
            let flags = (private | libc::MAP_ANONYMOUS) as u64;
            let args = [addr, len, prot, flags, u64::MAX, 0];
            ret = match hint {
                Some(at) => map_there(&mut remote, [at as u64, len, prot, flags, u64::MAX, 0])?,
                None => remote.call(libc::SYS_mmap, args)?,
            };
        } else if ret >= 0 {
            let file = ret as u64;
            let args = [addr, len, prot, private as u64, file, offset];
            ret = match hint {
                Some(at) => map_there(&mut remote, [at as u64, len, prot, args[3], file, offset])?,
                None => remote.call(libc::SYS_mmap, args)?,
            };
            remote.call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
        }
        remote.finish()?;
        Ok(ret)
    }
}

/// Opens a file that is to be mapped; returns its descriptor or a negative errno. A device other than `/dev/zero` is not
/// opened, nor is any other file of which mapping it could act on something.
fn open_to_map(remote: &mut Remote<'_>, path: &[u8], how: i32) -> Result<i64> {
    let found = match Found::at(remote, path, how & libc::O_NOFOLLOW == 0)? {
        Ok(found) => found,
        Err(error) => return Ok(-i64::from(error.raw_os_error().unwrap_or(libc::EIO))),
    };
    let mut got = -i64::from(libc::ENODEV);
    let regular = found.is(libc::S_IFREG) && !found.is_kernels(remote)?;
    if regular || found.is_device(1, 5) {
        got = found.open(remote, how)?;
    }
    found.forget(remote)?;
    Ok(got)
}

/// Maps memory at this address, or elsewhere if the range is taken.
fn map_there(remote: &mut Remote<'_>, args: [u64; 6]) -> Result<i64> {
    // The kernel does not always follow a hint, even if the range is free.
    let mut exactly = args;
    exactly[3] |= libc::MAP_FIXED_NOREPLACE as u64;
    let ret = remote.call(libc::SYS_mmap, exactly)?;
    if ret != -i64::from(libc::EEXIST) {
        return Ok(ret);
    }
    Ok(remote.call(libc::SYS_mmap, args)?)
}

/// The program break of a task that is at a syscall entry stop.
pub(super) fn current_break(task: &mut Stopped) -> Result<i64> {
    let mut remote = task.remote_at_entry()?;
    let now = remote.call(libc::SYS_brk, [0; 6])?;
    remote.finish()?;
    Ok(now)
}
