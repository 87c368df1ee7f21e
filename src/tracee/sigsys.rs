//! SIGSYS for a call that a task's own filters reject: its delivery, or the end of the task.

use super::regs::Regs;
use super::remote::Remote;
use super::sys::SigInfo;
use super::task::{Running, Stop, Stopped};
use super::{Error, Result, filter, proc, sys};
use crate::seccomp::{Call, Kill, NATIVE, State, Verdict};

const TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const BIT: u64 = 1 << (libc::SIGSYS - 1);

/// The disposition of SIGSYS in a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigsysDisposition {
    /// The signal has a handler.
    Handler,
    /// The signal ends the process.
    Default,
    /// The signal is blocked or ignored: the kernel ends the process at once.
    BlockedOrIgnored,
}

impl Regs {
    /// The call of a task at an entry with these registers, as filters see it.
    pub fn call(&self) -> Call {
        Call {
            nr: self.nr() as i32,
            arch: NATIVE,
            ip: self.ip(),
            args: self.args(),
        }
    }
}

impl SigInfo {
    /// The siginfo for a call that a filter traps, with this `si_errno`.
    pub fn of_trap(call: &Call, errno: u16) -> SigInfo {
        const SYS_SECCOMP: i32 = 1;
        let mut bytes = [0; 128];
        // siginfo_t: si_signo, si_errno, si_code; si_call_addr, si_syscall, si_arch from 16 on.
        let words = [
            (0, libc::SIGSYS as u32),
            (4, errno.into()),
            (8, SYS_SECCOMP as u32),
            (16, call.ip as u32),
            (20, (call.ip >> 32) as u32),
            (24, call.nr as u32),
            (28, call.arch),
        ];
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        SigInfo(bytes)
    }
}

impl Stopped {
    /// At a call's entry: the action of these filters on the call.
    ///
    /// # Errors
    /// If the task has been killed meanwhile.
    pub fn verdict(&self, state: &State) -> Result<Verdict> {
        match state.is_off() {
            true => Ok(Verdict::Make),
            false => Ok(state.verdict(&self.regs()?.call())),
        }
    }

    /// The task's present disposition of SIGSYS.
    ///
    /// # Errors
    /// If the task has been killed meanwhile.
    pub fn sigsys_disposition(&self) -> Result<SigsysDisposition> {
        let tid = self.tid();
        if self.sigmask()? & BIT != 0 {
            return Ok(SigsysDisposition::BlockedOrIgnored);
        }
        Ok(match proc::catches(tid, libc::SIGSYS)? {
            true => SigsysDisposition::Handler,
            false if proc::ignores(tid, libc::SIGSYS)? => SigsysDisposition::BlockedOrIgnored,
            false => SigsysDisposition::Default,
        })
    }

    /// At a call's entry, unless the disposition is [`SigsysDisposition::BlockedOrIgnored`]: skips the call and
    /// proceeds to the delivery of this signal. `pid` is the task's process.
    ///
    /// # Errors
    /// If it ends or stops for another reason.
    pub fn trap_call(&mut self, pid: i32, info: &SigInfo) -> Result<()> {
        let mut regs = self.regs()?;
        // The handler sees the registers of the call.
        regs.answer(regs.nr());
        self.set_regs(&regs)?;
        let mask = self.sigmask()?;
        // No other signal may be delivered first.
        self.set_sigmask(!BIT)?;
        self.send_to(pid, libc::SIGSYS);
        let mut signals = Vec::new();
        loop {
            match self.go_on()? {
                Stop::Signal(libc::SIGSYS) => break,
                Stop::Signal(signal) => signals.push(signal),
                Stop::Group(_) | Stop::Attached => {}
                other => {
                    return Err(Error::Unexpected {
                        what: "have a call of it trapped",
                        tid: self.tid(),
                        stop: format!("{other:?}"),
                    });
                }
            }
        }
        self.set_sigmask(mask)?;
        for signal in signals {
            self.send(signal);
        }
        self.set_siginfo(info)
    }

    /// At a call's entry: makes all calls of the process and its descendants stop from now on, permanently.
    ///
    /// # Errors
    /// If the kernel refuses, or the task ends.
    pub fn stop_at_all_calls(&mut self) -> Result<()> {
        let mut remote = self.remote_at_entry()?;
        install(&mut remote, TSYNC, &filter::of_all_calls())?;
        remote.finish()
    }

    /// At a call's entry: has the kernel end the task, or its process, as for a call that a filter rejects. The next
    /// event of the task is its end.
    ///
    /// # Errors
    /// If it ends before.
    pub fn end_by_filter(mut self, kill: Kill) -> Result<Running> {
        let tid = self.tid();
        if kill == Kill::Strict {
            let mut regs = self.regs()?;
            if proc::process(tid)? != tid {
                // The process continues, and the task's exit status is not visible.
                regs.set_nr(libc::SYS_exit as u64);
                regs.set_args([0; 6]);
                self.set_regs(&regs)?;
            } else {
                sys::kill(tid, libc::SIGKILL);
            }
            return self.resume();
        }
        let action = match kill {
            Kill::Thread => libc::SECCOMP_RET_KILL_THREAD,
            _ => libc::SECCOMP_RET_KILL_PROCESS,
        };
        // The task makes the call again, under a filter in the kernel.
        let code = filter::always(action);
        let mut remote = self.remote_at_entry()?;
        let mut regs = *remote.saved();
        install(&mut remote, 0, &code)?;
        drop(remote);
        regs.rewind(regs.nr() as u64);
        self.set_regs(&regs)?;
        self.set_sigmask(u64::MAX)?;
        self.resume()
    }
}

/// Installs a filter in the kernel.
fn install(remote: &mut Remote<'_>, flags: u64, code: &[u8]) -> Result<()> {
    let at = remote.put(code)?;
    // struct sock_fprog.
    let words = [(code.len() / filter::INSTRUCTION) as u64, at];
    let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let program = remote.put(&words)?;
    let mode = libc::SECCOMP_SET_MODE_FILTER.into();
    let args = [mode, flags, program, 0, 0, 0];
    match remote.call(libc::SYS_seccomp, args)? {
        // The other threads have this filter already.
        1.. if flags & TSYNC != 0 => install(remote, 0, code),
        0 => Ok(()),
        ret => {
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            Err(Error::os("have its calls filtered", remote.tid(), source))
        }
    }
}
