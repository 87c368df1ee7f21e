//! Forks of rrapper in a process group of their own, and signals between processes.
//!
//! A signal to the caller's group does not reach the fork. The fork ends with the caller, however that ends.

use super::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The exit status of a fork whose setup failed.
const FAILED: i32 = 2;

/// Forks. The new process calls `run` and exits with the status that it returns. Returns the pid.
///
/// The other threads of the calling process do not exist in the new one, and their locks stay locked; so `run` must not
/// use any lock that another thread of rrapper may hold.
///
/// # Errors
/// If the process cannot be made.
pub fn fork(run: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: getpid(2) has no arguments.
    let parent = unsafe { libc::getpid() };
    // Signals stay blocked until the fork has a process group of its own.
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|e| Error::os("block signals", 0, e))?;
    // SAFETY: fork(3) leaves memory allocation usable in the child, and nothing else is used there that another thread
    // may hold: see above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: calls with numbers only.
        let alone = unsafe {
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() != parent
        };
        let status = match alone {
            // The caller has ended already.
            true => FAILED,
            false => catch_unwind(AssertUnwindSafe(|| {
                let unblocked = mask.thread_set_mask();
                tracing::trace!("a process beside {parent}: {unblocked:?}");
                run()
            }))
            .unwrap_or(FAILED),
        };
        // SAFETY: nothing that the caller owns is dropped here: its tracees, files and threads are its own.
        unsafe { libc::_exit(status) };
    }
    let failed = (pid < 0).then(|| Error::last("make a process", 0));
    mask.thread_set_mask()
        .map_err(|e| Error::os("unblock signals", 0, e))?;
    failed.map_or(Ok(pid), Err)
}

/// For the calling thread and those that it makes: blocks SIGTTOU, so that a process in the background may write to the
/// terminal, and unblocks SIGURG, which wakes it.
pub fn write_from_background() {
    let blocked = SigSet::from(Signal::SIGTTOU).thread_block();
    let unblocked = SigSet::from(Signal::SIGURG).thread_unblock();
    tracing::trace!("SIGTTOU: {blocked:?}, SIGURG: {unblocked:?}");
}

/// For a process that was made by [`fork`] and catches its signals ([`super::caught_signals`]): sets the parent whose
/// end ends it. At first, that is the process that made it.
pub fn die_with_parent(parent: Option<i32>) {
    super::caught_signals::die_with_parent(parent.unwrap_or(0));
}

/// Ends this process by a signal with its default action. Returns where the default does not end processes.
pub fn die_of(signal: i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: signal(2), sigprocmask(2) and raise(3) with numbers, and a set that is emptied first.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// The parent of this process.
pub fn parent() -> i32 {
    std::os::unix::process::parent_id() as i32
}

/// The process group of a process; `None` where there is no such process.
pub fn of(pid: i32) -> Option<i32> {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)))
        .ok()
        .map(nix::unistd::Pid::as_raw)
}

/// Waits for the end of a child. Returns its wait status; `None` where it is no child (any more).
pub fn wait_for(pid: i32) -> Option<i32> {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives for the call.
        let r = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if r == pid {
            return Some(status);
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// kill(2). Errors are ignored: there is no such process, or it is another user's.
pub fn send(pid: i32, signal: i32) {
    if pid > 0 {
        // SAFETY: kill(2) touches no memory of ours.
        unsafe { libc::kill(pid, signal) };
    }
}
