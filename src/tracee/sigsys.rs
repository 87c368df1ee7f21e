//! What becomes of a task whose own filter does not let it make a call: it gets SIGSYS, or is ended by it.

use super::regs::Regs;
use super::remote::Remote;
use super::sys::SigInfo;
use super::task::{Running, Stop, Stopped};
use super::{Error, Result, filter, proc, sys};
use crate::seccomp::{Call, Kill, NATIVE, State, Verdict};

const TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const BIT: u64 = 1 << (libc::SIGSYS - 1);

/// How SIGSYS meets a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigsysDisposition {
    /// It has a handler.
    Handler,
    /// It ends its process.
    Default,
    /// It is blocked or ignored: the kernel, which does not wait, ends the process.
    BlockedOrIgnored,
}

impl Regs {
    /// The call at whose entry a task with these registers stands, as its filters see it.
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
    /// What a filter says of a call that it traps, with this as its `si_errno`.
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
    /// At a call's entry: what this state of its filters says of the call.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn verdict(&self, state: &State) -> Result<Verdict> {
        match state.is_off() {
            true => Ok(Verdict::Make),
            false => Ok(state.verdict(&self.regs()?.call())),
        }
    }

    /// How it would meet SIGSYS now.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
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

    /// At a call's entry, where SIGSYS does not meet [`SigsysDisposition::BlockedOrIgnored`]: the call is not made, and it stands at the
    /// delivery of this signal instead. `pid` is its process.
    ///
    /// # Errors
    /// If it ends or stops for another reason.
    pub fn trap_call(&mut self, pid: i32, info: &SigInfo) -> Result<()> {
        let mut regs = self.regs()?;
        // The handler finds the registers as they were.
        regs.answer(regs.nr());
        self.set_regs(&regs)?;
        let mask = self.sigmask()?;
        // No other signal comes before it.
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

    /// At a call's entry: from here on all calls of its process stop, and of those that it makes, for good.
    ///
    /// # Errors
    /// If the kernel refuses, or the task ends.
    pub fn stop_at_all_calls(&mut self) -> Result<()> {
        let mut remote = self.remote_at_entry()?;
        install(&mut remote, TSYNC, &filter::of_all_calls())?;
        remote.finish()
    }

    /// At a call's entry: the kernel ends it, or its process, as for a call that a filter does not allow. What it reports
    /// next is its end.
    ///
    /// # Errors
    /// If it ends before.
    pub fn end_by_filter(mut self, kill: Kill) -> Result<Running> {
        let tid = self.tid();
        if kill == Kill::Strict {
            let mut regs = self.regs()?;
            if proc::process(tid)? != tid {
                // Its process goes on, and nobody learns how it ended.
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
        // It makes the call again, under a real filter.
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

/// Installs a real filter.
fn install(remote: &mut Remote<'_>, flags: u64, code: &[u8]) -> Result<()> {
    let at = remote.put(code)?;
    // struct sock_fprog.
    let words = [(code.len() / filter::INSTRUCTION) as u64, at];
    let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let program = remote.put(&words)?;
    let mode = libc::SECCOMP_SET_MODE_FILTER.into();
    let args = [mode, flags, program, 0, 0, 0];
    match remote.call(libc::SYS_seccomp, args)? {
        // The other threads have one already.
        1.. if flags & TSYNC != 0 => install(remote, 0, code),
        0 => Ok(()),
        ret => {
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            Err(Error::os("have its calls filtered", remote.tid(), source))
        }
    }
}
