//! Remote calls: system calls made in a stopped task on rrapper's behalf.
//!
//! A [`Remote`] borrows a task; its calls are made from the agent's page. [`Remote::finish`] restores the registers
//! and, where the task stood at a call's entry, has it make that call again, so that it stands there as before.

use super::regs::SYSCALL_LEN;
use super::task::{Running, Stop, Stopped, Waited};
use super::{Error, Regs, Result, TaskMemory, agent, sys, watchdog};
use crate::constants::is_error;
use crate::trace::Exit;

/// The position of a task when it was borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The entry of this call.
    Entry(u64),
    /// Between calls: registers alone determine the position.
    Boundary,
}

/// Signals that came while rrapper had a task make a call, to be sent again afterwards.
#[derive(Default)]
struct Kept {
    signals: Vec<i32>,
    faults: u32,
}

impl Kept {
    /// The apparent faults in a row after which the task is taken to be dying.
    const FAULTS: u32 = 256;

    /// Keeps a signal for which the task stopped, and lets the task go on.
    ///
    /// What looks like a fault is none of rrapper's code: a process may send itself any siginfo, and the kernel raises
    /// SIGSEGV where a task leaves it whose rseq(2) area cannot be written. That recurs until the task dies of it.
    fn keep(&mut self, task: &mut Stopped, signal: i32, what: &'static str) -> Result<()> {
        self.faults += u32::from(task.siginfo()?.is_fault());
        if self.faults > Kept::FAULTS {
            let stop = task.resume_with_signal(signal)?;
            return Err(unexpected(task, what, stop));
        }
        // Standard signals do not queue.
        if signal >= libc::SIGRTMIN() || !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
        Ok(())
    }

    fn send_to(self, task: &Stopped) {
        for signal in self.signals {
            task.send(signal);
        }
    }
}

/// A task, borrowed for making calls in it.
pub struct Remote<'a> {
    task: &'a mut Stopped,
    saved: Regs,
    at: At,
    scratch: u64,
    children: Vec<i32>,
    signals: Kept,
    /// The signal mask, where the kernel unblocks SIGTRAP for the agent's trap.
    mask: Option<u64>,
}

impl Stopped {
    /// Borrows a task that stands at a call's entry.
    ///
    /// # Errors
    /// If its registers cannot be read.
    pub fn remote_at_entry(&mut self) -> Result<Remote<'_>> {
        let saved = self.regs()?;
        Remote::new(self, saved, At::Entry(saved.nr() as u64))
    }

    /// Borrows a task that is not inside a call: at a call's exit, at an exec or a signal.
    /// After [`Remote::finish`] the task is between calls, with the same registers.
    ///
    /// # Errors
    /// If its registers cannot be read.
    pub fn remote_at_boundary(&mut self) -> Result<Remote<'_>> {
        let mut saved = self.regs()?;
        saved.set_ip(saved.ip());
        Remote::new(self, saved, At::Boundary)
    }

    /// Makes one call where no agent is mapped yet, by temporarily writing `syscall; int3` over the code at the
    /// instruction pointer. Code and registers are restored.
    ///
    /// # Errors
    /// If the task ends or stops for another reason.
    pub fn bootstrap_call(&mut self, nr: i64, args: [u64; 6]) -> Result<i64> {
        let saved = self.regs()?;
        let memory = self.memory();
        let mut code = [0; agent::CODE.len()];
        memory.read_exact(saved.ip(), &mut code)?;
        memory.write(saved.ip(), &agent::CODE)?;
        let mut regs = saved;
        regs.set_ip(saved.ip());
        regs.set_ret(nr);
        regs.set_args(args);
        self.set_regs(&regs)?;
        let after = saved.ip() + agent::CODE.len() as u64;
        // The first stop is the filter's, since the call does not come from the agent.
        let mut kept = Kept::default();
        let mut how = libc::PTRACE_CONT;
        loop {
            match self.resume_by(how)? {
                Stop::Entry => how = libc::PTRACE_SYSCALL,
                Stop::Syscall => break,
                // No filter is installed.
                Stop::Signal(libc::SIGTRAP)
                    if self.siginfo()?.is_fault() && self.regs()?.ip() == after =>
                {
                    break;
                }
                Stop::Signal(signal) => kept.keep(self, signal, MAKE)?,
                other => return Err(unexpected(self, MAKE, other)),
            }
        }
        let ret = self.regs()?.ret();
        memory.write(saved.ip(), &code)?;
        let mut back = saved;
        back.set_ip(saved.ip());
        self.set_regs(&back)?;
        kept.send_to(self);
        Ok(ret)
    }

    /// Makes up to four calls, one after the other, where no agent is mapped yet and one task alone has the memory: by
    /// temporarily writing code over the page at the instruction pointer. `calls` gets the address at which `data` is
    /// meanwhile. Code and registers are restored. Returns what the calls returned.
    ///
    /// # Errors
    /// If the task ends or stops for another reason.
    pub fn bootstrap_calls<const N: usize>(
        &mut self,
        data: &[u8],
        calls: impl FnOnce(u64) -> [(i64, [u64; 6]); N],
    ) -> Result<[i64; N]> {
        const { assert!(N <= 4) };
        // movabs to rdi, rsi, rdx, r10, r8, r9, rax.
        const MOVES: [[u8; 2]; 7] = [
            [0x48, 0xbf],
            [0x48, 0xbe],
            [0x48, 0xba],
            [0x49, 0xba],
            [0x49, 0xb8],
            [0x49, 0xb9],
            [0x48, 0xb8],
        ];
        // mov to r12, r13, r14, r15 from rax.
        const KEEP: [[u8; 3]; 4] = [
            [0x49, 0x89, 0xc4],
            [0x49, 0x89, 0xc5],
            [0x49, 0x89, 0xc6],
            [0x49, 0x89, 0xc7],
        ];
        const INT3: u8 = 0xcc;
        let saved = self.regs()?;
        let memory = self.memory();
        let page = saved.ip() & !(agent::CODE_LEN - 1);
        let mut code = data.to_vec();
        for ((nr, args), keep) in calls(page).iter().zip(KEEP) {
            for (to, value) in MOVES.iter().zip(args.iter().chain([&(*nr as u64)])) {
                code.extend(to);
                code.extend(value.to_le_bytes());
            }
            code.extend(agent::SYSCALL_CODE);
            code.extend(keep);
        }
        code.push(INT3);
        let end = page + code.len() as u64;
        let mut before = vec![0; code.len()];
        memory.read_exact(page, &mut before)?;
        memory.write(page, &code)?;
        let mut regs = saved;
        regs.set_ip(page + data.len() as u64);
        self.set_regs(&regs)?;
        let mut kept = Kept::default();
        loop {
            match self.resume_in_place()? {
                Stop::Entry => {}
                Stop::Signal(libc::SIGTRAP)
                    if self.siginfo()?.is_fault() && self.regs()?.ip() == end =>
                {
                    break;
                }
                Stop::Signal(signal) => kept.keep(self, signal, MAKE)?,
                other => return Err(unexpected(self, MAKE, other)),
            }
        }
        let regs = self.regs()?.0;
        let results = [regs.r12, regs.r13, regs.r14, regs.r15];
        memory.write(page, &before)?;
        let mut back = saved;
        back.set_ip(saved.ip());
        self.set_regs(&back)?;
        kept.send_to(self);
        Ok(std::array::from_fn(|at| results[at] as i64))
    }

    /// From a call's entry: makes the call and waits for its exit.
    ///
    /// # Errors
    /// If the task ends instead.
    pub fn to_exit(&mut self) -> Result<Stop> {
        self.resume_by(libc::PTRACE_SYSCALL)
    }

    /// Resumes it and waits for its next stop, as [`Stopped::resume`] and a wait do together.
    ///
    /// # Errors
    /// If the task ends instead.
    pub fn go_on(&mut self) -> Result<Stop> {
        self.resume_in_place()
    }

    /// From between calls: proceeds to these registers at the entry of call `nr`, by having the task make that call.
    ///
    /// # Errors
    /// If the task ends or stops for another reason.
    pub fn enter(&mut self, regs: &Regs, nr: u64) -> Result<()> {
        give_back(self, regs, At::Entry(nr))
    }

    /// At a call's entry: whether this is call `nr` from the agent, with these arguments if given.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn is_at_agent_call(&self, nr: i64, args: Option<[u64; 6]>) -> Result<bool> {
        let regs = self.regs()?;
        Ok(regs.ip() == agent::SYSCALL + SYSCALL_LEN
            && regs.nr() == nr
            && args.is_none_or(|args| args == regs.args())
            && !self.is_foreign_call()?)
    }

    fn resume_in_place(&mut self) -> Result<Stop> {
        self.resume_by(libc::PTRACE_CONT)
    }

    fn resume_with_signal(&mut self, signal: i32) -> Result<Stop> {
        self.resume_as(libc::PTRACE_CONT, signal)
    }

    fn resume_by(&mut self, request: libc::c_uint) -> Result<Stop> {
        self.resume_as(request, 0)
    }

    /// Resumes the task and waits for the next stop, keeping the ownership.
    fn resume_as(&mut self, request: libc::c_uint, signal: i32) -> Result<Stop> {
        let tid = self.tid_for_resume();
        sys::resume(request, tid, signal)?;
        // The ownership stays where it is.
        let mut waited = Running::of_another(tid).wait()?;
        if let Waited::Stopped(task, Stop::Exit) = waited {
            waited = task.resume()?.wait()?;
        }
        match waited {
            // A flood of signals could keep the task from ever getting further.
            Waited::Stopped(..) if watchdog::is_over() => Err(Error::Timeout { tid }),
            Waited::Stopped(_, stop) => Ok(stop),
            Waited::Ended(exit) => {
                self.mark_reaped();
                Err(Error::Ended {
                    what: MAKE,
                    tid,
                    exit,
                })
            }
        }
    }
}

fn unexpected(task: &Stopped, what: &'static str, stop: Stop) -> Error {
    let place = task
        .regs()
        .map(|r| format!(" at {:#x}", r.ip()))
        .unwrap_or_default();
    Error::Unexpected {
        what,
        tid: task.tid(),
        stop: format!("{stop:?}{place}"),
    }
}

impl<'a> Remote<'a> {
    fn new(task: &'a mut Stopped, saved: Regs, at: At) -> Result<Remote<'a>> {
        const TRAP: u64 = 1 << (libc::SIGTRAP - 1);
        let mask = task.sigmask()?;
        Ok(Remote {
            task,
            saved,
            at,
            scratch: agent::SCRATCH,
            children: Vec::new(),
            signals: Kept::default(),
            mask: Some(mask).filter(|mask| mask & TRAP != 0),
        })
    }

    /// The task's memory.
    pub fn memory(&self) -> TaskMemory {
        self.task.memory()
    }

    /// The task's real tid.
    pub(super) fn tid(&self) -> i32 {
        self.task.tid()
    }

    /// The registers with which the task was borrowed.
    pub fn saved(&self) -> &Regs {
        &self.saved
    }

    /// Makes a call; the result is the kernel's, negative is -errno.
    ///
    /// # Errors
    /// If the task ends or stops for another reason.
    pub fn call(&mut self, nr: i64, args: [u64; 6]) -> Result<i64> {
        let mut regs = self.saved.plain_at(agent::SYSCALL);
        regs.set_ret(nr);
        regs.set_args(args);
        self.task.set_regs(&regs)?;
        let mut how = libc::PTRACE_CONT;
        loop {
            match self.task.resume_by(how)? {
                // The code there may be hostile: only this very call is let through. The task does not reach the trap
                // behind it, which would make the kernel reset an ignored or blocked SIGTRAP.
                Stop::Entry if self.task.is_at_agent_call(nr, Some(args))? => {
                    how = libc::PTRACE_SYSCALL;
                }
                Stop::Syscall => return Ok(self.task.regs()?.ret()),
                // No filter is installed.
                Stop::Signal(libc::SIGTRAP)
                    if self.task.siginfo()?.is_fault()
                        && self.task.regs()?.ip() == agent::AFTER_TRAP =>
                {
                    return Ok(self.task.regs()?.ret());
                }
                Stop::Clone(child) => self.children.push(child),
                Stop::Signal(signal) => self.signals.keep(self.task, signal, MAKE)?,
                other => return Err(unexpected(self.task, MAKE, other)),
            }
        }
    }

    /// Makes a call that must succeed.
    ///
    /// # Errors
    /// As for [`Remote::call`], and if the kernel refuses; `what` completes "cannot …".
    pub fn must(&mut self, what: &str, nr: i64, args: [u64; 6]) -> Result<u64> {
        let ret = self.call(nr, args)?;
        if is_error(ret) {
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::os(what, self.task.tid(), source));
        }
        Ok(ret as u64)
    }

    /// Puts bytes into the scratch memory and returns their address there. What was put
    /// before stays until [`Remote::reset_scratch`].
    ///
    /// # Errors
    /// If there is no room left, or the agent's pages are gone.
    pub fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.scratch;
        let end = at + (bytes.len() as u64).next_multiple_of(16);
        if end > agent::END {
            return Err(Error::os(
                format!("pass {} bytes to it", bytes.len()),
                self.task.tid(),
                std::io::Error::from_raw_os_error(libc::ENAMETOOLONG),
            ));
        }
        self.task.memory().write(at, bytes)?;
        self.scratch = end;
        Ok(at)
    }

    /// Puts a NUL-terminated string into the scratch memory.
    ///
    /// # Errors
    /// As for [`Remote::put`].
    pub fn put_str(&mut self, text: &[u8]) -> Result<u64> {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.put(&bytes)
    }

    /// Forgets what was put into the scratch memory.
    pub fn reset_scratch(&mut self) {
        self.scratch = agent::SCRATCH;
    }

    /// A copy of the task: a fork whose parent is rrapper, standing where the task
    /// stands, with the same registers. Shared mappings stay shared.
    ///
    /// # Errors
    /// If the kernel refuses, or the copy dies at once.
    pub fn fork(&mut self) -> Result<Stopped> {
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        let mut copy = self.clone_task("copy it", flags)?;
        give_back(&mut copy, &self.saved, self.at)?;
        if let Some(mask) = self.mask {
            copy.set_sigmask(mask)?;
        }
        Ok(copy)
    }

    /// A process in the address space of the task's, whose parent is rrapper; its registers are to be set.
    ///
    /// # Errors
    /// If the kernel refuses, or the process dies at once.
    pub fn process_beside(&mut self) -> Result<Stopped> {
        let flags = libc::CLONE_PARENT | libc::CLONE_VM | libc::SIGCHLD;
        self.clone_task("make a process in its memory", flags)
    }

    /// A fork that stands between calls wherever the task stands.
    ///
    /// # Errors
    /// If the kernel refuses, or the copy dies at once.
    pub fn fork_between(&mut self) -> Result<Stopped> {
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        let mut copy = self.clone_task("copy it", flags)?;
        let mut regs = self.saved;
        regs.set_ip(regs.ip());
        copy.set_regs(&regs)?;
        Ok(copy)
    }

    /// A fork with additional flags of clone(2), as for new namespaces, and with this pid in the innermost pid
    /// namespace of children; the inner error is the kernel's where it refuses.
    ///
    /// # Errors
    /// If the task is gone, or the copy dies at once.
    pub fn fork_as(
        &mut self,
        what: &'static str,
        more: u64,
        pid: Option<i32>,
    ) -> Result<std::io::Result<Stopped>> {
        // With CLONE_PARENT the exit signal is inherited, and must be 0 here.
        let flags = libc::CLONE_PARENT as u64 | more;
        let copy = self.clone3(what, flags, 0, pid)?;
        let Ok(mut copy) = copy else {
            return Ok(copy);
        };
        let mut regs = self.saved;
        regs.set_ip(regs.ip());
        copy.set_regs(&regs)?;
        Ok(Ok(copy))
    }

    /// A child of the task's process that stands between calls, with additional flags of clone(2), with this exit signal, and
    /// this pid in its pid namespace, for which the task needs privileges there; the inner error is the kernel's where it
    /// refuses.
    ///
    /// # Errors
    /// If the task is gone, or the child dies at once.
    pub fn child_as(
        &mut self,
        more: u64,
        exit_signal: i32,
        pid: i32,
    ) -> Result<std::io::Result<Stopped>> {
        let child = self.clone3(NEW_CHILD, more, exit_signal, Some(pid))?;
        let Ok(mut child) = child else {
            return Ok(child);
        };
        let mut regs = self.saved;
        regs.set_ip(regs.ip());
        child.set_regs(&regs)?;
        Ok(Ok(child))
    }

    /// A new thread of the task's process, which has not run yet; its registers are to be set.
    ///
    /// # Errors
    /// If the kernel refuses, or the thread dies at once.
    pub fn thread(&mut self) -> Result<Stopped> {
        self.clone_task(NEW_THREAD, THREAD)
    }

    /// A new thread with this tid in its pid namespace, for which the task needs privileges there; the inner error is
    /// the kernel's where it refuses.
    ///
    /// # Errors
    /// If the task is gone, or the thread dies at once.
    pub fn thread_as(&mut self, tid: i32) -> Result<std::io::Result<Stopped>> {
        self.clone3(NEW_THREAD, THREAD as u64, 0, Some(tid))
    }

    fn clone_task(&mut self, what: &'static str, flags: i32) -> Result<Stopped> {
        self.must(what, libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0])?;
        self.new_task(what)
    }

    fn clone3(
        &mut self,
        what: &'static str,
        flags: u64,
        exit_signal: i32,
        pid: Option<i32>,
    ) -> Result<std::io::Result<Stopped>> {
        let pids = match pid {
            Some(pid) => self.put(&pid.to_le_bytes())?,
            None => 0,
        };
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        // set_tid_size.
        let count = pid.is_some().into();
        let words = [flags, 0, 0, 0, exit_signal as u64, 0, 0, 0, pids, count];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = self.put(&bytes)?;
        let ret = self.call(libc::SYS_clone3, [at, bytes.len() as u64, 0, 0, 0, 0])?;
        if ret < 0 {
            return Ok(Err(std::io::Error::from_raw_os_error(-ret as i32)));
        }
        self.new_task(what).map(Ok)
    }

    fn new_task(&mut self, what: &'static str) -> Result<Stopped> {
        let Some(child) = self.children.pop() else {
            return Err(Error::Unexpected {
                what,
                tid: self.task.tid(),
                stop: "no new task was reported".into(),
            });
        };
        let (copy, stop) = Running::adopt(child).wait()?.stopped(what, child)?;
        if stop != Stop::Attached {
            return Err(unexpected(&copy, what, stop));
        }
        Ok(copy)
    }

    /// Restores the task.
    ///
    /// # Errors
    /// If the task ends before it stands there again.
    pub fn finish(self) -> Result<()> {
        give_back(self.task, &self.saved, self.at)?;
        if let Some(mask) = self.mask {
            self.task.set_sigmask(mask)?;
        }
        self.signals.send_to(self.task);
        Ok(())
    }
}

const MAKE: &str = "make a call in it";
const RETURN: &str = "return to its call";
const NEW_THREAD: &str = "make a thread in it";
const NEW_CHILD: &str = "make a child of it";
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

fn give_back(task: &mut Stopped, saved: &Regs, at: At) -> Result<()> {
    let mut regs = *saved;
    let At::Entry(nr) = at else {
        return task.set_regs(&regs);
    };
    regs.rewind(nr);
    // Any other instruction may run without end.
    let mut code = [0; agent::SYSCALL_CODE.len()];
    task.memory().read_exact(regs.ip(), &mut code)?;
    if code != agent::SYSCALL_CODE {
        return Err(Error::Unexpected {
            what: RETURN,
            tid: task.tid(),
            stop: format!("no call at {:#x} any more", regs.ip()),
        });
    }
    task.set_regs(&regs)?;
    let mut kept = Kept::default();
    loop {
        match task.resume_in_place()? {
            Stop::Entry => {
                debug_assert_eq!(task.regs()?.ip(), regs.ip().wrapping_add(SYSCALL_LEN));
                break;
            }
            Stop::Signal(signal) => kept.keep(task, signal, RETURN)?,
            other => return Err(unexpected(task, RETURN, other)),
        }
    }
    kept.send_to(task);
    Ok(())
}

/// The end of a process, where an error carries it.
pub fn ended(error: &Error) -> Option<Exit> {
    match error {
        Error::Ended { exit, .. } => Some(*exit),
        _ => None,
    }
}
