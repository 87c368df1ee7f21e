//! Calls that the kernel makes for the process: those that touch the process itself, and all of them in live.

use super::Result;
use super::driver::{Driver, Next};
use super::hook::HookCall;
use super::live::Clocks;
use super::outcome::Status;
use super::step::Step;
use super::task::Me;
use crate::image;
use crate::recording::Effect;
use crate::replay::{Kept, Pages, SharedMemory};
use crate::syscall::{Replay, Syscall};
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{Regs, Remote, Stopped, agent, cpuid};
use std::sync::Arc;

/// The kernel has its own mind about where that much memory is: at huge pages, if it can.
const HUGE: u64 = 2 << 20;

impl Driver<'_> {
    /// Has the kernel make a call that touches the process itself.
    pub(super) fn run_natively(
        &mut self,
        mut task: Stopped,
        mut regs: Regs,
        seen: HookCall,
        expected: bool,
    ) -> Result<Next> {
        let step = if expected { self.me.step.take() } else { None };
        self.answered = step.as_ref().and_then(Step::event).max(self.answered);
        if expected {
            self.me.stays = step.as_ref().is_some_and(|step| step.stays);
            self.collect_signals()?;
        }
        let exact = step.as_ref().and_then(|step| step.exact.clone());
        if seen.call.name == "futex" && !expected {
            return self.futex(task, regs, seen);
        }
        if let Some(ret) = refused(seen.call, &seen.args) {
            return self.conclude(task, regs, seen, ret);
        }
        if seen.args != seen.asked {
            regs.set_args(seen.args);
            task.set_regs(&regs)?;
        }
        if seen.call.name == "sched_getaffinity" && seen.args[0] != 0 {
            // The kernel knows the process's threads by other numbers, and others by these.
            let tid = seen.args[0] as i32;
            let real = match self.resting.get(&tid) {
                Some(resting) => resting.task.tid(),
                None if tid == self.me.tid => task.tid(),
                None => return self.conclude(task, regs, seen, -i64::from(libc::ESRCH)),
            };
            let mut args = seen.args;
            args[0] = real as u64;
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        if let Some(event) = &exact
            && seen.call.name == "mmap"
            && let Some(ret) = self.shared.map(&mut task, &self.recording, event)?
        {
            return self.conclude(task, regs, seen, ret);
        }
        match seen.call.name {
            "exit" | "exit_group" => return self.leave(task, &seen),
            "execve" | "execveat" => {
                let Some(Effect::Exec(image)) = exact.as_ref().map(|event| &event.effect) else {
                    let reason =
                        "the trace goes through an execve, which only a recording can follow";
                    return Ok(self.stopped(&seen, reason.into()));
                };
                self.log.call(&seen, Some(0));
                self.resting.clear();
                self.retired.clear();
                drop(task);
                self.shared = SharedMemory::default();
                let recording = Arc::clone(&self.recording);
                let mut task = image::restore(image, &|id| recording.kept_file(id))?;
                cpuid::trap(&recording.start().cpuid, &mut task)?;
                image::restore_signals(&mut task, image)?;
                let segv = SegvState::at_exec(image.sigmask, image.ignored);
                self.me = Me::new(self.pid, segv, Kept::default());
                self.first_code = None;
                self.pages = self.pages.take().map(|_| Pages::default());
                self.real_pid = task.tid();
                self.limit = Limit::new(self.real_pid, self.limit.left())?;
                if let Some(event) = &exact {
                    self.descriptors.apply(event);
                }
                self.collect_signals()?;
                self.send_due(&task);
                return self.go_on(task);
            }
            "mmap" if seen.args[3] as i32 & libc::MAP_ANONYMOUS == 0 => {
                let ret = self.map_file(&mut task, &seen, exact.as_deref())?;
                return self.conclude(task, regs, seen, ret);
            }
            "mmap" => {
                // Where it was, if that is free.
                let mut args = seen.args;
                if let Some(at) = exact.and_then(|event| event.ret).filter(|&at| at > 0)
                    && seen.args[0] == 0
                    && !insists(&seen.args)
                {
                    args[0] = at as u64;
                }
                // A recording may ask for more memory than there is; what it gets it has to touch.
                args[3] &= !((libc::MAP_POPULATE | libc::MAP_LOCKED | libc::MAP_HUGETLB) as u64);
                if args[0] != seen.args[0] && args[1] >= HUGE {
                    let mut remote = task.remote_at_entry()?;
                    let ret = map_there(&mut remote, args)?;
                    remote.finish()?;
                    return self.conclude(task, regs, seen, ret);
                }
                if args != seen.args {
                    regs.set_args(args);
                    task.set_regs(&regs)?;
                }
            }
            // The system's own segments are not the trace's.
            "shmat" => {
                let recording = Arc::clone(&self.recording);
                let made = match &exact {
                    Some(event) => self.shared.attach(&mut task, &recording, event)?,
                    None => None,
                };
                let ret = made.unwrap_or(-i64::from(libc::EINVAL));
                return self.conclude(task, regs, seen, ret);
            }
            "shmdt" => {
                let ret = self.shared.detach(&mut task, seen.args[0])?;
                return self.conclude(task, regs, seen, ret);
            }
            _ => {}
        }
        Ok(Next::ToExit(task, Box::new(seen)))
    }

    /// Answers a call that rrapper made itself.
    pub(super) fn conclude(
        &mut self,
        mut task: Stopped,
        mut regs: Regs,
        mut seen: HookCall,
        ret: i64,
    ) -> Result<Next> {
        seen.answered(ret);
        let ret = self.settle(&mut seen)?;
        self.note(&seen, ret, None);
        regs.set_args(seen.asked);
        regs.answer(ret);
        task.set_regs(&regs)?;
        self.after(task, seen)
    }

    /// A call that the kernel made is about to return.
    pub(super) fn on_exit(&mut self, mut task: Stopped, mut seen: HookCall) -> Result<Next> {
        let mut regs = task.regs()?;
        self.follow(&task, &seen, regs.ret())?;
        if seen.call.name == "rt_sigreturn" {
            self.send_due(&task);
            return self.go_on(task);
        }
        // What the process asked for, whatever it was made into.
        let args = regs.args();
        let given = match seen.call.name {
            "set_tid_address" => i64::from(self.me.tid),
            "clock_gettime" | "gettimeofday" | "time" if seen.index.is_none() => {
                self.trace_time(&seen, regs.ret())?
            }
            _ => regs.ret(),
        };
        if (-516..=-512).contains(&given) {
            // Interrupted: the kernel deals with the signal first, and makes it again.
            if seen.is_changed() {
                seen.give_back()?;
                regs.set_args(seen.asked);
                task.set_regs(&regs)?;
            }
            return Ok(Next::Resume(task));
        }
        let executed = seen.call.name.starts_with("execve") && given == 0;
        seen.answered(given);
        let ret = self.settle(&mut seen)?;
        self.note(&seen, ret, None);
        if !executed && (ret != regs.ret() || args != seen.asked) {
            regs.set_args(seen.asked);
            regs.set_ret(ret);
            task.set_regs(&regs)?;
        }
        self.after(task, seen)
    }

    /// A call that the trace does not have has been told what the kernel's clocks show: the trace's go on from what they
    /// showed last.
    fn trace_time(&mut self, seen: &HookCall, ret: i64) -> Result<i64> {
        let mut clocks = match self.clocks {
            Some(clocks) => clocks,
            None => Clocks::at(&self.recording, self.event.0)?,
        };
        if let Some(told) = self.told {
            clocks.follow(told);
        }
        self.clocks = Some(clocks);
        clocks.shift_answer(seen, ret)
    }

    pub(super) fn after(&mut self, task: Stopped, mut seen: HookCall) -> Result<Next> {
        if let Some(reason) = seen.stop.take() {
            self.reason = Some(reason);
            return Ok(Next::End(Status::Stopped, None, None));
        }
        self.send_due(&task);
        if let Some(signal) = seen.signal {
            task.send(signal);
        }
        if self.end.is_some() && self.is_past_end()? {
            return Ok(self.at_end(task));
        }
        self.go_on(task)
    }

    /// Keeps up with what a call has told the kernel about the task.
    fn follow(&mut self, task: &Stopped, seen: &HookCall, ret: i64) -> Result<()> {
        let (nr, args) = (seen.call.nr, &seen.args);
        self.me.segv.after_call(task, nr, args, ret)?;
        if ret < 0 {
            return Ok(());
        }
        self.me.kept.follow(nr, args, &seen.memory);
        if seen.call.name == "rt_sigaction" {
            for resting in self.resting.values_mut() {
                resting.me.segv.share_action(&self.me.segv);
            }
        }
        Ok(())
    }

    /// Maps a file privately: the copy that was recorded, or what its path holds.
    pub(super) fn map_file(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        exact: Option<&crate::recording::CallEvent>,
    ) -> Result<i64> {
        let [addr, len, prot, flags, fd, offset] = seen.args;
        let (path, how) = match exact.map(|event| &event.effect) {
            Some(Effect::Map(id)) => {
                let path = self.recording.file_path(*id)?;
                let how = image::kept_file_flags(&path);
                (path.into_os_string().into_encoded_bytes(), how)
            }
            _ => match self.descriptors.get(fd as i32) {
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
            .filter(|&at| at > 0 && addr == 0 && !insists(&seen.args));
        let mut remote = task.remote_at_entry()?;
        let name = remote.put_str(&path)?;
        let mut ret = remote.call(
            libc::SYS_openat,
            [libc::AT_FDCWD as u64, name, how as u64, 0, 0, 0],
        )?;
        let shared = flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE;
        if ret == -i64::from(libc::ENOENT) && shared && prot as i32 & libc::PROT_WRITE != 0 {
            // It was made by the traced program, to share memory, and begins empty. Calls may fill it where it was.
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

/// Maps memory at this place, or elsewhere if that is taken.
fn map_there(remote: &mut Remote<'_>, args: [u64; 6]) -> Result<i64> {
    // A place that is only wished for is not always given, even if it is free.
    let mut exactly = args;
    exactly[3] |= libc::MAP_FIXED_NOREPLACE as u64;
    let ret = remote.call(libc::SYS_mmap, exactly)?;
    if ret != -i64::from(libc::EEXIST) {
        return Ok(ret);
    }
    Ok(remote.call(libc::SYS_mmap, args)?)
}

/// What a call that traced programs must not make is answered with.
pub(super) fn refused(call: &Syscall, args: &[u64; 6]) -> Option<i64> {
    // Only who insists on a place can get one that is taken.
    let fixed = match call.name {
        "mmap" => insists(args),
        "mremap" => args[3] as i32 & libc::MREMAP_FIXED != 0,
        _ => false,
    };
    let place = match (call.name, fixed) {
        ("mmap", true) => args[0],
        ("mremap", true) => args[4],
        // Nowhere.
        _ => u64::MAX,
    };
    if agent::is_touched_by(call.name, args, place as i64) {
        return Some(-i64::from(libc::ENOMEM));
    }
    match call.replay {
        Replay::Refuse(errno) => Some(-i64::from(errno)),
        _ if call.is_nameless() => Some(-i64::from(libc::ENOSYS)),
        _ => None,
    }
}

/// Whether an mmap must be exactly where it says.
fn insists(args: &[u64; 6]) -> bool {
    args[3] as i32 & libc::MAP_FIXED != 0
}
