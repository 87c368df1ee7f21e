//! Going on with the kernel instead of the trace.
//!
//! The process gets its files back (see [`super::descriptors`]); its standard output and error are
//! captured; it keeps the pid that it was recorded with. It cannot make other processes yet.

use super::driver::{Driver, Next};
use super::hook::{Decision, HookCall};
use super::native::refused;
use super::{Error, Result, descriptors};
use crate::replay::Place;
use crate::syscall::{Memory, Moved};
use crate::tracee::{Regs, Stopped, memory};

impl Driver<'_> {
    /// From here on, calls go to the kernel. The task stands at a call's entry.
    pub(super) fn go_live(&mut self, task: &mut Stopped) -> Result<()> {
        self.live = true;
        self.recreate(task, Place::Entry)
    }

    /// Gives the kernel what it must know of the process.
    pub(super) fn recreate(&mut self, task: &mut Stopped, place: Place) -> Result<()> {
        let missing = descriptors::recreate(task, place, &self.descriptors)?;
        self.missing.extend(missing);
        Ok(())
    }

    /// A call in live, at its entry.
    pub(super) fn live_entry(
        &mut self,
        task: Stopped,
        regs: Regs,
        mut seen: HookCall,
    ) -> Result<Next> {
        seen.index = None;
        seen.event = None;
        self.hooks.enter(&mut seen).map_err(Error::Hook)?;
        if let Some(reason) = seen.stop.take() {
            return Ok(self.stopped(&seen, reason));
        }
        self.live_call(task, regs, seen)
    }

    /// A call in live whose enter hooks have run.
    pub(super) fn live_call(
        &mut self,
        mut task: Stopped,
        mut regs: Regs,
        seen: HookCall,
    ) -> Result<Next> {
        if let Decision::Answer(ret) = seen.decision {
            return self.conclude(task, regs, seen, ret);
        }
        if matches!(seen.call.name, "exit" | "exit_group") {
            return Ok(self.leave(task, &seen));
        }
        if let Some(ret) = refused(seen.call, &seen.args).or_else(|| self.own_identity(&seen)) {
            return self.conclude(task, regs, seen, ret);
        }
        if let Some(ret) = self.captured(&seen) {
            return self.conclude(task, regs, seen, ret);
        }
        if let Some(args) = self.translate(&task, &seen) {
            regs.set_args(args);
            task.set_regs(&regs)?;
        } else if let Decision::Short(len) = seen.decision
            && let Some(arg) = seen.call.size_arg()
        {
            let mut args = seen.args;
            args[arg] = args[arg].min(len);
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        Ok(Next::ToExit(task, Box::new(seen)))
    }

    /// Calls that ask who the process is, or would make another one.
    fn own_identity(&mut self, seen: &HookCall) -> Option<i64> {
        match seen.call.name {
            "getpid" => Some(self.pid.into()),
            "gettid" => Some(self.tid.into()),
            "getppid" => Some(self.ppid.into()),
            "fork" | "vfork" | "clone" | "clone3" => {
                let what = "new processes and threads: a live process cannot make them yet (answered with EAGAIN)";
                if !self.missing.iter().any(|m| m == what) {
                    self.missing.push(what.to_string());
                }
                Some(-i64::from(libc::EAGAIN))
            }
            "prctl" if memory::is_hidden_by(seen.call.nr, &seen.args) => Some(0),
            // Signals reach the process itself and nobody else.
            "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo"
                if !self.is_self(seen) =>
            {
                Some(-i64::from(libc::ESRCH))
            }
            "pidfd_send_signal" => Some(-i64::from(libc::ESRCH)),
            _ => None,
        }
    }

    fn is_self(&self, seen: &HookCall) -> bool {
        let pids = match seen.call.name {
            "tgkill" | "rt_tgsigqueueinfo" => 2,
            _ => 1,
        };
        seen.args[..pids].iter().all(|&pid| pid as i32 == self.pid)
    }

    /// The arguments with recorded pids made real.
    fn translate(&self, task: &Stopped, seen: &HookCall) -> Option<[u64; 6]> {
        let pids: &[usize] = match seen.call.name {
            "kill" | "tkill" | "rt_sigqueueinfo" | "sched_getaffinity" | "sched_setaffinity"
            | "prlimit64" | "getpgid" | "getsid" | "sched_getscheduler" | "sched_getparam" => &[0],
            "tgkill" | "rt_tgsigqueueinfo" => &[0, 1],
            _ => return None,
        };
        let mut args = seen.args;
        for &arg in pids {
            if args[arg] as i32 == self.pid {
                args[arg] = task.tid() as u64;
            }
        }
        (args != seen.args).then_some(args)
    }

    /// The answer of a call that writes to a captured stream.
    fn captured(&self, seen: &HookCall) -> Option<i64> {
        let target = match seen.call.name {
            "copy_file_range" | "splice" => seen.args[2] as i32,
            _ => seen.fd()?,
        };
        self.descriptors.output_stream(target)?;
        match seen.call.name {
            // Inside the kernel there is nothing to capture: programs then read and write.
            "sendfile" | "copy_file_range" | "splice" | "tee" => Some(-i64::from(libc::EINVAL)),
            _ if seen.call.moves_data() == Some(Moved::In) => {
                let limit = match seen.decision {
                    Decision::Short(len) => len,
                    _ => u64::MAX,
                };
                let mut written = 0;
                for region in seen.call.data_regions(&seen.args, limit, &seen.memory) {
                    if !readable(&seen.memory, region.addr, region.len) {
                        return Some(-i64::from(libc::EFAULT));
                    }
                    written += region.len as i64;
                }
                Some(written)
            }
            _ => None,
        }
    }
}

fn readable(memory: &dyn Memory, addr: u64, len: usize) -> bool {
    let Some(last) = len.checked_sub(1) else {
        return true;
    };
    let mut byte = [0];
    memory.read(addr, &mut byte) == 1 && memory.read(addr.wrapping_add(last as u64), &mut byte) == 1
}
