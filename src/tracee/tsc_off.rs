//! The time stamp counter off for the tracing thread, for cheap switches between tracer and tracee.
//!
//! Tracees cannot read the time stamp counter (see [`super::tsc`]), which is a bit in a control register; where two
//! tasks differ in it, each switch between them writes that register, and in a virtual machine that may cost several
//! microseconds: more than the stop itself. So the tracing thread disables the counter, too, while it traces.
//!
//! An instruction that reads the counter meanwhile (in the vdso's clocks) raises a SIGSEGV, whose handler enables the
//! counter for the thread, and the instruction is restarted.

use super::tsc::Instruction;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Instant;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether the handler has enabled the counter.
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// The former action for SIGSEGV; set before the handler is installed.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Keeps the time stamp counter off for the calling thread until it is dropped. Processes that the thread starts
/// meanwhile (but for tracees) cannot read it either: see [`with_tsc`].
pub struct TscOff {
    /// Neither `Send` nor `Sync`.
    thread: PhantomData<*const ()>,
}

impl TscOff {
    /// Disables the counter until this is dropped.
    pub fn new() -> TscOff {
        install_handler();
        if DEPTH.replace(DEPTH.get() + 1) == 0 {
            set(libc::PR_TSC_SIGSEGV);
        }
        TscOff {
            thread: PhantomData,
        }
    }
}

impl Default for TscOff {
    fn default() -> TscOff {
        TscOff::new()
    }
}

impl Drop for TscOff {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            set(libc::PR_TSC_ENABLE);
        }
    }
}

/// Disables the counter again if the handler has enabled it: to be called after code that may read it, such as a
/// script's function.
pub fn again() {
    if TAKEN.replace(false) && DEPTH.get() > 0 {
        set(libc::PR_TSC_SIGSEGV);
    }
}

/// Runs `f` with the counter enabled: for code that reads it, and for starting other programs.
pub fn with_tsc<T>(f: impl FnOnce() -> T) -> T {
    /// Disables the counter again, even if `f` panics.
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            set(libc::PR_TSC_SIGSEGV);
        }
    }
    if DEPTH.get() == 0 {
        return f();
    }
    set(libc::PR_TSC_ENABLE);
    let _again = Again;
    f()
}

/// Whether the counter is off for the calling thread.
pub(super) fn is_off() -> bool {
    DEPTH.get() > 0
}

/// The present time, read with the counter enabled.
pub fn now() -> Instant {
    with_tsc(Instant::now)
}

/// The time of a kernel clock in nanoseconds; 0 where there is no such clock. It is read by a system call, since the
/// vdso reads the counter.
pub fn clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) with a valid pointer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn set(mode: libc::c_int) {
    // SAFETY: prctl(2) with numbers. It cannot fail on x86; if it did, tracing would only be slower.
    unsafe { libc::prctl(libc::PR_SET_TSC, mode, 0, 0, 0) };
}

fn install_handler() {
    PREVIOUS.get_or_init(|| {
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: sigaction(2) with valid pointers. The handler only makes system calls, and looks at
        // PREVIOUS, which is set when another thread's fault could first reach it, or the
        // fault is not ours and is met again. A zeroed sigaction is a valid one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(libc::SIGSEGV, &raw const action, previous.as_mut_ptr());
            previous.assume_init()
        }
    });
}

/// The handler: enables the counter if the fault was an attempt to read it; otherwise restores the former handler,
/// which handles the fault as the instruction is restarted.
extern "C" fn on_fault(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    const SI_KERNEL: libc::c_int = 0x80;
    // SAFETY: the kernel passes valid pointers to a SA_SIGINFO handler. With SI_KERNEL the fault is a
    // general protection fault of an instruction that was fetched, so its bytes are
    // readable; three of them might not be at a page's end, hence two first.
    unsafe {
        if (*info).si_code == SI_KERNEL {
            let context = context.cast::<libc::ucontext_t>();
            let ip = (*context).uc_mcontext.gregs[libc::REG_RIP as usize] as *const u8;
            let two = [*ip, *ip.add(1)];
            let is_read = Instruction::of(&two).is_some()
                || (two == [0x0f, 0x01] && Instruction::of(&[0x0f, 0x01, *ip.add(2)]).is_some());
            if is_read {
                set(libc::PR_TSC_ENABLE);
                TAKEN.set(true);
                return;
            }
        }
        match PREVIOUS.get() {
            Some(previous) => libc::sigaction(libc::SIGSEGV, previous, std::ptr::null_mut()),
            None => {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracee::tsc;

    #[test]
    fn counter_can_be_read_while_given_up() {
        let _quiet = TscOff::new();
        let first = tsc::now();
        // The vdso reads the counter.
        let clock = std::time::Instant::now();
        assert!(tsc::now() > first);
        assert!(clock.elapsed().as_secs() < 60);
    }

    #[test]
    fn programs_started_in_suspension_can_read_it() {
        let _quiet = TscOff::new();
        let status = with_tsc(|| std::process::Command::new("true").status()).unwrap();
        assert!(status.success());
    }
}
