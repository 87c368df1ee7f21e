//! A periodic timer for the tracing thread: its signal does nothing but interrupt a wait, so that the thread can
//! examine a task that does not stop by itself.

use super::{Error, Result};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::time::Duration;

/// The time between two ticks.
pub const TICK: Duration = Duration::from_millis(1);

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// The number of ticks of the calling thread so far.
pub fn ticks() -> u64 {
    TICKS.get()
}

/// A timer of the calling thread.
pub struct Ticker {
    timer: libc::timer_t,
    ticking: bool,
}

/// The signal: the last real-time one, which hardly any program uses.
fn signal() -> libc::c_int {
    libc::SIGRTMAX()
}

extern "C" fn on_tick(_signal: libc::c_int) {
    // A thread that is ending has no thread-local storage any more.
    let _ = TICKS.try_with(|ticks| ticks.set(ticks.get() + 1));
}

impl Ticker {
    /// A stopped timer.
    ///
    /// # Errors
    /// If there are no more timers.
    pub fn new() -> Result<Ticker> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // SAFETY: sigaction(2) with a valid pointer; a zeroed sigaction is a valid one. The handler only
            // touches a number of its own thread.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_tick as *const () as usize;
                libc::sigaction(signal(), &raw const action, std::ptr::null_mut());
            }
        });
        let mut timer = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: timer_create(2) and pthread_sigmask(3) with valid pointers; a zeroed sigevent and an
        // emptied set are valid ones. The thread is the calling one.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal());
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal();
            event.sigev_notify_thread_id = libc::gettid();
            let made =
                libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr());
            if made != 0 {
                return Err(Error::last("make a timer", 0));
            }
            Ok(Ticker {
                timer: timer.assume_init(),
                ticking: false,
            })
        }
    }

    /// Starts or stops the timer.
    pub fn set(&mut self, ticking: bool) {
        if self.ticking == ticking {
            return;
        }
        self.ticking = ticking;
        let nanos = if ticking { TICK.subsec_nanos() } else { 0 };
        let every = libc::timespec {
            tv_sec: 0,
            tv_nsec: nanos.into(),
        };
        let times = libc::itimerspec {
            it_interval: every,
            it_value: every,
        };
        // SAFETY: timer_settime(2) with a timer of ours, alive until dropped, and valid pointers.
        unsafe { libc::timer_settime(self.timer, 0, &raw const times, std::ptr::null_mut()) };
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: timer_delete(2) with a timer of ours, which nobody uses afterwards.
        unsafe { libc::timer_delete(self.timer) };
    }
}
