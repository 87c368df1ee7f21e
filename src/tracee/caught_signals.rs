//! Signals to rrapper, with their senders: caught and queued while a program is recorded.

use super::{Error, Result, sys::SigInfo};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

/// A caught signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaughtSignal {
    /// The signal's number.
    pub signal: i32,
    /// `si_code`: positive where the kernel sent it, as for a terminal.
    pub code: i32,
    /// The sending process, if any.
    pub pid: i32,
}

impl CaughtSignal {
    /// Whether the kernel sent it, on behalf of a terminal, to the whole group.
    pub fn of_kernel(&self) -> bool {
        self.code > 0
    }
}

/// Signals that are not caught: their default is harmless, rrapper uses them (child ended, job control, the
/// watchdog's), or they cannot be caught.
const UNCAUGHT: [i32; 10] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGPIPE,
];

/// Signals that rrapper's own instructions may raise, too.
const FAULTS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

const COUNT: usize = 65;

/// The descriptor to which the handler writes; -1 for none.
static WRITER: AtomicI32 = AtomicI32::new(-1);

/// Whether a signal came since the last [`SignalCatcher::any_caught`].
static CAME: AtomicBool = AtomicBool::new(false);

/// The process whose end ends this one; 0 for none.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// The former actions, by signal number, while signals are caught.
static BEFORE: AtomicPtr<[libc::sigaction; COUNT]> = AtomicPtr::new(std::ptr::null_mut());

/// Whether faults that a process sent are caught as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Sent faults are caught.
    Caught,
    /// Faults are not caught, since the thread raises some itself: see [`super::tsc_off`].
    Left,
}

/// Catches signals until it is dropped: those that would end the process or call a handler. Ignored signals stay
/// ignored.
#[derive(Debug)]
pub struct SignalCatcher {
    reader: File,
    writer: RawFd,
    /// The actions of an outer catcher.
    outer: RawFd,
    before: *mut [libc::sigaction; COUNT],
    outer_before: *mut [libc::sigaction; COUNT],
    signals: Vec<i32>,
}

impl SignalCatcher {
    /// Begins to catch signals; besides, a SIGURG may be sent to wake the process.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn new(faults: Faults) -> Result<SignalCatcher> {
        let mut fds = [0; 2];
        // SAFETY: pipe2(2) with room for two descriptors, which are owned at once.
        let reader = unsafe {
            if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) != 0 {
                return Err(Error::last("make a pipe", 0));
            }
            File::from_raw_fd(fds[0])
        };
        // SAFETY: a zeroed sigaction is a valid one.
        let before: Box<[libc::sigaction; COUNT]> =
            Box::new(unsafe { MaybeUninit::zeroed().assume_init() });
        let before = Box::into_raw(before);
        let mut caught = SignalCatcher {
            reader,
            writer: fds[1],
            outer: WRITER.swap(fds[1], Ordering::SeqCst),
            before,
            outer_before: BEFORE.swap(before, Ordering::SeqCst),
            signals: Vec::new(),
        };
        // The last signal is the ticker's in a process that traces.
        let last = match faults {
            Faults::Caught => libc::SIGRTMAX(),
            Faults::Left => libc::SIGRTMAX() - 1,
        };
        for signal in (1..32).chain(libc::SIGRTMIN()..=last) {
            let is_fault = FAULTS.contains(&signal);
            if UNCAUGHT.contains(&signal) || is_fault && faults == Faults::Left {
                continue;
            }
            caught.catch(signal);
        }
        if faults == Faults::Left {
            // The signal that wakes a wait for tracees.
            caught.catch(libc::SIGURG);
        }
        Ok(caught)
    }

    fn catch(&mut self, signal: i32) {
        // SAFETY: sigaction(2) with valid pointers; `before` is alive until this is dropped, and the handler only reads
        // what is there. A zeroed sigaction is a valid one.
        unsafe {
            let old = &raw mut (*self.before)[signal as usize];
            if libc::sigaction(signal, std::ptr::null(), old) != 0
                || (*old).sa_sigaction == libc::SIG_IGN
            {
                return;
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            // Interrupted calls must fail with EINTR.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        self.signals.push(signal);
    }

    /// In a fork of the process: restores the former actions for faults.
    pub fn leave_faults(&self) {
        for signal in FAULTS {
            self.restore(signal);
        }
    }

    fn restore(&self, signal: i32) {
        if self.signals.contains(&signal) {
            // SAFETY: sigaction(2) with what it gave us; `before` is alive.
            unsafe {
                let old = &raw const (*self.before)[signal as usize];
                libc::sigaction(signal, old, std::ptr::null_mut());
            }
        }
    }

    /// The next caught signal, if any.
    pub fn take(&self) -> Option<CaughtSignal> {
        let mut words = [0; 12];
        (&self.reader).read_exact(&mut words).ok()?;
        let word = |at: usize| {
            i32::from_ne_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]])
        };
        Some(CaughtSignal {
            signal: word(0),
            code: word(4),
            pid: word(8),
        })
    }

    /// Whether a signal came since the last call. Costs no system call.
    pub fn any_caught(&self) -> bool {
        CAME.load(Ordering::Relaxed) && CAME.swap(false, Ordering::SeqCst)
    }
}

impl AsFd for SignalCatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for SignalCatcher {
    fn drop(&mut self) {
        for &signal in &self.signals {
            self.restore(signal);
        }
        WRITER.store(self.outer, Ordering::SeqCst);
        BEFORE.store(self.outer_before, Ordering::SeqCst);
        // SAFETY: the descriptor is ours and used by nobody any more; `before` came from a box, and no handler of ours
        // is in force that would look there.
        unsafe {
            libc::close(self.writer);
            drop(Box::from_raw(self.before));
        }
    }
}

/// From now on, this process is killed when its parent ends, or (0) has its SIGURG handler called and continues.
///
/// To be called by the thread that was made first, which catches SIGURG.
pub(super) fn die_with_parent(parent: i32) {
    PARENT.store(parent, Ordering::SeqCst);
    // SAFETY: calls with numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGURG);
        // It may have ended before.
        if parent != 0 && libc::getppid() != parent {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
}

/// The handler. A fault that no process sent is raised again, with the former action.
extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid pointer to a SA_SIGINFO handler; errno is the thread's own; write(2) and
    // sigaction(2) may be called in handlers, with memory that lives for the calls.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let parent = PARENT.load(Ordering::SeqCst);
        if signal == libc::SIGURG && parent != 0 && libc::getppid() != parent {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        let info = SigInfo(*info.cast::<[u8; 128]>());
        if info.is_fault() || FAULTS.contains(&signal) && info.code() > 0 {
            let before = BEFORE.load(Ordering::SeqCst);
            if before.is_null() {
                libc::signal(signal, libc::SIG_DFL);
            } else {
                let old = &raw const (*before)[signal as usize];
                libc::sigaction(signal, old, std::ptr::null_mut());
            }
        } else {
            CAME.store(true, Ordering::SeqCst);
            let mut words = [0; 12];
            words[..4].copy_from_slice(&signal.to_ne_bytes());
            words[4..8].copy_from_slice(&info.code().to_ne_bytes());
            words[8..].copy_from_slice(&info.sender().to_ne_bytes());
            let fd = WRITER.load(Ordering::SeqCst);
            if fd >= 0 && signal != libc::SIGURG {
                libc::write(fd, words.as_ptr().cast(), words.len());
            }
        }
        *errno = kept;
    }
}
