//! The states of a traced task: [`Running`] → wait → [`Stopped`] → resume → [`Running`].

use super::sys::{self, SigInfo};
use super::{Error, Regs, Result, TaskMemory, tsc_off};
use crate::constants::default_action::is_stop;
use crate::trace::Exit;
use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::time::Duration;

/// The ownership of a traced task. Dropping it kills and reaps the task.
#[derive(Debug)]
struct Owned {
    tid: i32,
    /// The task has been reaped, or has another owner.
    released: bool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.released {
            end(self.tid);
        }
    }
}

/// Kills a tracee and reaps it; if it is a process's first thread, the other threads too, since it cannot be reaped
/// before them. Reaped tasks are not signalled: their tids may be in use again.
fn end(tid: i32) {
    match sys::wait_now(tid) {
        Ok(Some(status)) if has_ended(status) => return,
        Ok(_) => {}
        Err(_) => return,
    }
    // This also resumes a task that stands at its exit stop.
    sys::kill(tid, libc::SIGKILL);
    for thread in super::proc::threads_to_reap(tid) {
        reap(thread);
    }
    reap(tid);
}

/// Kills and reaps many tasks in any order: the first process of a pid namespace cannot be reaped before all others
/// in the namespace.
pub(super) fn end_all(tids: &mut BTreeSet<i32>) {
    const NAP: Duration = Duration::from_micros(100);
    /// The number of naps before a search for unknown threads.
    const PATIENT: u32 = 32;
    let gone = |tid: i32| match sys::wait_now(tid) {
        Ok(Some(status)) if is_ending(status) => {
            // If it has been let go meanwhile, it reports its end.
            let _ = sys::resume(libc::PTRACE_CONT, tid, 0);
            false
        }
        Ok(Some(status)) => has_ended(status),
        Ok(None) => false,
        Err(_) => true,
    };
    tids.retain(|&tid| !gone(tid));
    for &tid in tids.iter() {
        sys::kill(tid, libc::SIGKILL);
    }
    let mut naps = 0;
    while !tids.is_empty() {
        let before = tids.len();
        tids.retain(|&tid| !gone(tid));
        if tids.len() < before {
            continue;
        }
        std::thread::sleep(NAP);
        naps += 1;
        if naps % PATIENT == 0 {
            for tid in tids.clone() {
                tids.extend(super::proc::threads_to_reap(tid));
            }
        }
    }
}

fn reap(tid: i32) {
    // A killed tracee may still report a stop that was under way before it reports its end.
    while let Ok(status) = sys::wait(tid) {
        if has_ended(status) {
            break;
        }
        if is_ending(status) {
            // If it has been let go meanwhile, it reports its end.
            let _ = sys::resume(libc::PTRACE_CONT, tid, 0);
        }
    }
}

/// Kills the first process of a pid namespace, and with it all others there. It does not end before they have been
/// reaped, so all children of ours among them are reaped, whoever owns them.
pub(crate) fn end_namespace(mut init: Stopped) {
    const PATIENT: u32 = 100;
    const NAP: Duration = Duration::from_micros(100);
    /// The number of naps before the first search for other processes: mostly there are none.
    const FIRST_LOOK: u32 = 32;
    const MOST_LOOKS: u32 = 100_000;
    let tid = init.tid();
    let namespace = super::proc::pid_namespace(tid);
    init.release();
    sys::kill(tid, libc::SIGKILL);
    let (mut naps, mut next_look) = (0, FIRST_LOOK);
    for looks in 0..MOST_LOOKS {
        match sys::wait_now(tid) {
            Ok(Some(status)) if has_ended(status) => return,
            Ok(_) => {}
            Err(_) => return,
        }
        if looks < PATIENT {
            give_way();
            continue;
        }
        std::thread::sleep(NAP);
        naps += 1;
        if naps < next_look {
            continue;
        }
        next_look += FIRST_LOOK;
        for inner in super::proc::tasks_in(namespace) {
            // Most are children of other processes.
            if inner != tid {
                let _ = sys::wait_now(inner);
            }
        }
    }
}

/// Reaps the children of ours in a pid namespace that have ended, except for its first process.
pub(crate) fn end_rest_of_namespace(namespace: Option<u64>, init: i32) {
    const NAP: Duration = Duration::from_micros(100);
    std::thread::sleep(NAP);
    for tid in super::proc::tasks_in(namespace) {
        if tid != init {
            // Most are children of other processes.
            let _ = sys::wait_now(tid);
        }
    }
}

/// Whether a status of [`super::wait_any`] says that the task has ended.
pub(crate) fn has_ended(status: i32) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

/// The reason of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The entry of a call (`PTRACE_EVENT_SECCOMP`).
    Entry,
    /// The exit of a call that was resumed with [`Stopped::resume_to_exit`], or its entry where no filter is installed
    /// yet.
    Syscall,
    /// A new program has taken the place of the old one (`PTRACE_EVENT_EXEC`).
    Exec,
    /// The task made a new task with this tid.
    Clone(i32),
    /// A signal is about to be delivered (signal-delivery-stop).
    Signal(i32),
    /// Job control stopped the task with this signal (group-stop).
    Group(i32),
    /// The initial stop of an automatically attached task, or another `PTRACE_EVENT_STOP`.
    Attached,
    /// Another ptrace event.
    Other(i32),
    /// The task is about to end, and still has its memory (`PTRACE_EVENT_EXIT`): see `Stopped::announce_end`.
    Exit,
}

/// A stopped task.
#[derive(Debug)]
pub struct Stopped {
    owned: Owned,
    known: Known,
}

/// A cache of facts about a stopped task, valid until it is resumed: each query is a system call.
#[derive(Debug, Default)]
struct Known {
    regs: OnceCell<Box<Regs>>,
    /// The event message of the stop: `PTRACE_GETEVENTMSG`.
    message: Cell<Option<u64>>,
}

/// A running task.
#[derive(Debug)]
pub struct Running {
    owned: Owned,
}

/// The result of a wait.
#[derive(Debug)]
pub enum Waited {
    /// The task stopped.
    Stopped(Stopped, Stop),
    /// The task ended and has been reaped.
    Ended(Exit),
}

impl Waited {
    /// The stopped task and the reason.
    ///
    /// # Errors
    /// If the task ended instead; `what` names the intended operation.
    pub fn stopped(self, what: &'static str, tid: i32) -> Result<(Stopped, Stop)> {
        match self {
            Waited::Stopped(task, stop) => Ok((task, stop)),
            Waited::Ended(exit) => Err(Error::Ended { what, tid, exit }),
        }
    }
}

impl Running {
    /// Takes ownership of a running task that has just become a tracee.
    pub(crate) fn adopt(tid: i32) -> Running {
        Running {
            owned: Owned {
                tid,
                released: false,
            },
        }
    }

    /// A running task with another owner: dropping it does nothing.
    pub(crate) fn of_another(tid: i32) -> Running {
        Running {
            owned: Owned {
                tid,
                released: true,
            },
        }
    }

    /// Its real tid.
    pub fn tid(&self) -> i32 {
        self.owned.tid
    }

    /// Requests a stop (`PTRACE_INTERRUPT`): the task stops as [`Stop::Attached`], unless it stops for another reason
    /// first.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn interrupt(&self) -> Result<()> {
        sys::resume(libc::PTRACE_INTERRUPT, self.owned.tid, 0)
    }

    /// Waits until it stops or ends.
    ///
    /// # Errors
    /// If the kernel refuses, which for our own child means a bug, or if a time limit runs out that the calling thread
    /// holds (see [`Limit::hold`](super::watchdog::Limit::hold)).
    pub fn wait(self) -> Result<Waited> {
        let status = sys::wait_in_time(self.owned.tid)?;
        self.decode_status(status)
    }

    /// Waits until the task stops or ends, or until a point in time; `None` if it does neither.
    ///
    /// # Errors
    /// If the kernel refuses, which for our own child means a bug.
    pub fn wait_until(self, until: std::time::Instant) -> Result<Option<Waited>> {
        const NAP: std::time::Duration = std::time::Duration::from_micros(200);
        loop {
            if let Some(status) = sys::wait_now(self.owned.tid)? {
                return self.decode_status(status).map(Some);
            }
            if tsc_off::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(NAP);
        }
    }

    /// Waits until the task stops or ends, while these threads of its process are stopped. If the process is killed,
    /// the kernel does not report its end before they have been reaped.
    ///
    /// # Errors
    /// If the kernel refuses, which for our own child means a bug.
    pub fn wait_beside(self, threads: impl Iterator<Item = i32> + Clone) -> Result<Waited> {
        self.wait_looking(threads, |_| {})
    }

    fn wait_looking(
        self,
        threads: impl Iterator<Item = i32> + Clone,
        mut now_and_then: impl FnMut(&Running),
    ) -> Result<Waited> {
        const PATIENT: u32 = 100;
        const NAP: Duration = Duration::from_micros(200);
        let mut looks = 0;
        loop {
            if let Some(status) = sys::wait_now(self.owned.tid)? {
                return self.decode_status(status);
            }
            looks += 1;
            give_way();
            if looks > PATIENT {
                std::thread::sleep(NAP);
                now_and_then(&self);
                for thread in threads.clone() {
                    // An error means that the thread has been reaped already.
                    let _ = sys::wait_now(thread);
                }
            }
        }
    }

    /// Waits, and interrupts the task when it has used this much processor time: the stop is then [`Stop::Attached`].
    ///
    /// # Errors
    /// If the kernel refuses, which for our own child means a bug.
    pub fn wait_for(
        self,
        patience: Duration,
        threads: impl Iterator<Item = i32> + Clone,
    ) -> Result<Waited> {
        let tid = self.owned.tid;
        // Most tasks stop before the first check.
        let mut began = None;
        let mut patient = true;
        self.wait_looking(threads, |running| {
            let now = tsc_off::now();
            let (began, before) = *began.get_or_insert_with(|| (now, super::proc::run_time(tid)));
            let elapsed = now - began;
            if !patient || elapsed < patience {
                return;
            }
            // The task need not have had the processor all the time.
            let ran = match (before, super::proc::run_time(tid)) {
                (Some(before), Some(now)) => now.saturating_sub(before),
                _ => patience,
            };
            if ran * 2 >= patience || elapsed > patience * 20 {
                patient = false;
                // The end of a task that was killed meanwhile is reported by the next wait.
                let _ = running.interrupt();
            }
        })
    }

    /// Decodes a status of the task from [`super::wait_any`].
    pub(crate) fn decode_status(mut self, status: i32) -> Result<Waited> {
        if libc::WIFEXITED(status) {
            self.owned.released = true;
            return Ok(Waited::Ended(Exit::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            self.owned.released = true;
            return Ok(Waited::Ended(Exit::Signal {
                signal: libc::WTERMSIG(status),
                core: libc::WCOREDUMP(status),
            }));
        }
        let task = Stopped {
            owned: self.owned,
            known: Known::default(),
        };
        let signal = libc::WSTOPSIG(status);
        let stop = match status >> 16 {
            0 if signal == sys::SYSCALL_STOP => Stop::Syscall,
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_SECCOMP => {
                if task.message()? == u64::from(super::filter::LEGACY) {
                    return super::vsyscall::leave(task);
                }
                Stop::Entry
            }
            libc::PTRACE_EVENT_EXIT => Stop::Exit,
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                Stop::Clone(task.message()? as i32)
            }
            libc::PTRACE_EVENT_STOP if is_stop(signal) => Stop::Group(signal),
            libc::PTRACE_EVENT_STOP => Stop::Attached,
            other => Stop::Other(other),
        };
        Ok(Waited::Stopped(task, stop))
    }
}

/// Whether a status of [`super::wait_any`] says that the task is about to end: [`Stop::Exit`].
pub(crate) fn is_ending(status: i32) -> bool {
    libc::WIFSTOPPED(status) && status >> 16 == libc::PTRACE_EVENT_EXIT
}

/// Whether a status of [`super::wait_any`] says that a new program has been executed.
pub fn is_exec(status: i32) -> bool {
    libc::WIFSTOPPED(status) && status >> 16 == libc::PTRACE_EVENT_EXEC
}

/// Whether a status of [`super::wait_any`] may be the first of a new task.
pub(crate) fn is_new(status: i32) -> bool {
    libc::WIFSTOPPED(status) && status >> 16 == libc::PTRACE_EVENT_STOP
}

/// If a status of [`super::wait_any`] says that the task has made another one: that one's tid.
pub(crate) fn made(tid: i32, status: i32) -> Option<i32> {
    let is_stop = libc::WIFSTOPPED(status);
    let event = status >> 16;
    let makes = matches!(
        event,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE
    );
    let child = || sys::event_message(tid).ok();
    (is_stop && makes).then(child)?.map(|child| child as i32)
}

/// At [`Stop::Exec`]: the tid that the thread had which executed the program.
///
/// # Errors
/// If it has been killed meanwhile.
pub fn former_tid(tid: i32) -> Result<i32> {
    Ok(sys::event_message(tid)? as i32)
}

/// Lets other tasks on this CPU run first: sched_yield(2).
pub fn give_way() {
    // SAFETY: the call has no arguments and always succeeds.
    unsafe { libc::sched_yield() };
}

/// Whether a task is stopped, and has not been killed meanwhile.
pub(crate) fn stands(tid: i32) -> bool {
    sys::getregs(tid).is_ok()
}

impl Stopped {
    /// Its real tid.
    pub fn tid(&self) -> i32 {
        self.owned.tid
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        TaskMemory::new(self.owned.tid)
    }

    /// Its registers.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn regs(&self) -> Result<Regs> {
        if let Some(regs) = self.known.regs.get() {
            return Ok(**regs);
        }
        let regs = sys::getregs(self.owned.tid).map(Regs)?;
        Ok(**self.known.regs.get_or_init(|| Box::new(regs)))
    }

    fn message(&self) -> Result<u64> {
        if let Some(message) = self.known.message.get() {
            return Ok(message);
        }
        let message = sys::event_message(self.owned.tid)?;
        self.known.message.set(Some(message));
        Ok(message)
    }

    /// Sets its registers.
    ///
    /// # Errors
    /// If it has been killed meanwhile, or a register's value is not allowed.
    pub fn set_regs(&mut self, regs: &Regs) -> Result<()> {
        // The kernel ignores bits of some registers.
        self.known.regs.take();
        sys::setregs(self.owned.tid, &regs.0)
    }

    /// Resumes it until its next stop: a call's entry, a signal, or its end.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn resume(self) -> Result<Running> {
        self.resume_with(0)
    }

    /// Resumes it and delivers the signal that it stopped for (0: none).
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn resume_with(self, signal: i32) -> Result<Running> {
        sys::resume(libc::PTRACE_CONT, self.owned.tid, signal)?;
        Ok(Running { owned: self.owned })
    }

    /// From a call's entry: resumes it until the call's exit.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn resume_to_exit(self) -> Result<Running> {
        self.resume_to_exit_with(0)
    }

    /// From a call's entry: delivers this signal (0: none) and resumes the task until the call's exit.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn resume_to_exit_with(self, signal: i32) -> Result<Running> {
        sys::resume(libc::PTRACE_SYSCALL, self.owned.tid, signal)?;
        Ok(Running { owned: self.owned })
    }

    /// Single-steps the task, delivering this signal first (0: none): with a handler, the task stops at the handler's
    /// first instruction.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn step_with(self, signal: i32) -> Result<Running> {
        sys::resume(libc::PTRACE_SINGLESTEP, self.owned.tid, signal)?;
        Ok(Running { owned: self.owned })
    }

    /// From a group-stop: leaves the task stopped by job control until it is continued (`PTRACE_LISTEN`).
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn listen(self) -> Result<Running> {
        sys::resume(libc::PTRACE_LISTEN, self.owned.tid, 0)?;
        Ok(Running { owned: self.owned })
    }

    /// The signal that it stopped for.
    ///
    /// # Errors
    /// If it is not in a signal-delivery stop.
    pub fn siginfo(&self) -> Result<SigInfo> {
        sys::siginfo(self.owned.tid)
    }

    /// Changes the signal that it stopped for.
    ///
    /// # Errors
    /// If it is not in a signal-delivery stop.
    pub fn set_siginfo(&mut self, info: &SigInfo) -> Result<()> {
        sys::set_siginfo(self.owned.tid, info)
    }

    /// Its signal mask: bit n-1 for signal n.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn sigmask(&self) -> Result<u64> {
        sys::sigmask(self.owned.tid)
    }

    /// Sets its signal mask.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn set_sigmask(&mut self, mask: u64) -> Result<()> {
        sys::set_sigmask(self.owned.tid, mask)
    }

    /// At a call's entry: whether the call is of another ABI (see [`super::filter`]).
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn is_foreign_call(&self) -> Result<bool> {
        Ok(self.message()? == u64::from(super::filter::FOREIGN))
    }

    /// At the exit of an execve: the path of the new program, if that is not a 64-bit one.
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn foreign_program(&self) -> Result<Option<Vec<u8>>> {
        let foreign = !self.regs()?.is_native();
        Ok(foreign.then(|| super::proc::exe(self.owned.tid).unwrap_or_default()))
    }

    /// Sends the task a signal, which is delivered when it is resumed.
    pub fn send(&self, signal: i32) {
        sys::tkill(self.owned.tid, signal);
    }

    /// Sends the task, a thread of the process `pid`, a signal by tgkill(2).
    pub fn send_to(&self, pid: i32, signal: i32) {
        sys::tgkill(pid, self.owned.tid, signal);
    }

    /// Makes the task and its future children stop before they end: [`Stop::Exit`].
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub(crate) fn announce_end(&mut self) -> Result<()> {
        sys::set_options(self.owned.tid, sys::OPTIONS | libc::PTRACE_O_TRACEEXIT)
    }

    /// The limit on the process's stack, in bytes (`RLIMIT_STACK`).
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn stack_limit(&self) -> Result<u64> {
        super::proc::stack_limit(self.owned.tid)
    }

    /// Sets the limit on the process's stack, up to the hard limit.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_stack_limit(&mut self, size: u64) -> Result<()> {
        let tid = self.owned.tid;
        let set = sys::set_soft_limit(tid, libc::RLIMIT_STACK, size);
        set.map_err(|e| Error::os("limit its stack", tid, e))
    }

    /// Lowers a resource limit of the process (`RLIMIT_…`); a lower one stays.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn limit(&mut self, resource: u32, soft: u64, hard: u64) -> Result<()> {
        let tid = self.owned.tid;
        sys::set_limit(tid, resource, soft, hard).map_err(|e| Error::os("limit it", tid, e))
    }

    /// The soft limit of the process for a resource (`RLIMIT_…`).
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn soft_limit(&self, resource: u32) -> Result<u64> {
        super::proc::soft_limit(self.owned.tid, resource)
    }

    /// Gives up the ownership: dropping the task does nothing any more.
    pub(crate) fn release(&mut self) {
        self.owned.released = true;
    }

    /// Its vector registers, in the layout of the processor's `xsave` instruction (`NT_X86_XSTATE`).
    ///
    /// # Errors
    /// If it has been killed meanwhile.
    pub fn vector(&self) -> Result<Vec<u8>> {
        sys::vector(self.owned.tid)
    }

    /// Sets its vector registers.
    ///
    /// # Errors
    /// If it has been killed meanwhile, or the processor cannot have them.
    pub fn set_vector(&mut self, state: &[u8]) -> Result<()> {
        sys::set_vector(self.owned.tid, state)
    }

    /// Has it, the only task of its process, die of a signal that it neither blocks nor catches.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn die_of(self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            self.kill();
            return Ok(());
        }
        self.send(signal);
        let mut waited = self.resume()?.wait()?;
        while let Waited::Stopped(task, stop) = waited {
            waited = match stop {
                Stop::Signal(came) if came == signal => task.resume_with(signal)?.wait()?,
                Stop::Exit => task.resume()?.wait()?,
                // It is not to go on in its own code.
                _ => {
                    task.kill();
                    return Ok(());
                }
            };
        }
        Ok(())
    }

    /// Kills it and waits for its end.
    pub fn kill(self) {
        drop(self);
    }

    /// Splits off the ownership for a resumption behind a mutable reference.
    pub(super) fn tid_for_resume(&mut self) -> i32 {
        self.known = Known::default();
        self.owned.tid
    }

    /// Marks the task as reaped, where a wait behind a mutable reference saw its end.
    pub(super) fn mark_reaped(&mut self) {
        self.owned.released = true;
    }
}
