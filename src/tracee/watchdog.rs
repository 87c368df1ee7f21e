//! Time limits for tracees.
//!
//! wait(2) for a tracee has no time limit. Instead a thread sends the tracee a SIGSTOP when its time is up; the tracer,
//! which sees every signal first, finds the limit [`Limit::expired`] and the task stopped.
//!
//! A task that job control has stopped, or that waits for its child to execute a program (vfork(2)), receives no
//! signal: so a wait for several tasks is interrupted besides ([`Limit::wakes`]). So is a wait for one task in the middle
//! of a step ([`Limit::hold`]): the task may have memory behind its calls that never comes.

use super::{Error, Result, interrupt, tsc_off};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

struct Armed {
    target: OwnedFd,
    expired: Arc<AtomicBool>,
    /// The waiting thread; 0 where no thread waits.
    waiting: Arc<AtomicI32>,
}

#[derive(Default)]
struct State {
    armed: BTreeMap<(Instant, u64), Armed>,
    /// The limits whose time is up.
    over: BTreeMap<(Instant, u64), Armed>,
    next: u64,
}

/// The interval for waking waits whose time is up: a signal that comes just before a wait is lost.
const WAKE: Duration = Duration::from_millis(10);

struct Watchdog {
    state: Mutex<State>,
    changed: Condvar,
}

impl Watchdog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            while let Some(entry) = state.armed.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let (key, armed) = entry.remove_entry();
                armed.expired.store(true, Ordering::SeqCst);
                stop(&armed.target);
                state.over.insert(key, armed);
            }
            for armed in state.over.values() {
                wake(armed.waiting.load(Ordering::SeqCst));
            }
            let next = state.armed.first_key_value().map(|(&(at, _), _)| at);
            let next = match state.over.is_empty() {
                true => next,
                false => Some(next.map_or(now + WAKE, |next| next.min(now + WAKE))),
            };
            state = match next {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at.saturating_duration_since(Instant::now());
                    self.changed
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

static WATCHDOG: LazyLock<Arc<Watchdog>> = LazyLock::new(|| {
    let dog = Arc::new(Watchdog {
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let runner = Arc::clone(&dog);
    let started = std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || runner.run());
    if let Err(error) = started {
        tracing::warn!("cannot start the watchdog, so time limits are not kept: {error}");
    }
    dog
});

fn stop(target: &OwnedFd) {
    // SAFETY: pidfd_send_signal(2) with a descriptor that we own and no siginfo.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            target.as_raw_fd(),
            libc::SIGSTOP,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        );
    }
}

/// Interrupts the wait of one of rrapper's threads.
fn wake(tid: i32) {
    if tid != 0 {
        // SAFETY: getpid(2) and tgkill(2) with numbers; the signal has a handler (see `woken`).
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGURG) };
    }
}

/// Installs an empty handler for the waking signal, so that it interrupts a call.
fn install_handler() {
    extern "C" fn nothing(_: libc::c_int) {}
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: sigaction(2) with a valid action (a zeroed one is valid), whose handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut());
        }
    });
}

/// Expires all limits.
pub(super) fn end_all() {
    let mut state = WATCHDOG.lock();
    while let Some((key, armed)) = state.armed.pop_first() {
        armed.expired.store(true, Ordering::SeqCst);
        stop(&armed.target);
        state.over.insert(key, armed);
    }
    drop(state);
    WATCHDOG.changed.notify_one();
}

/// A limit as the waits of a thread see it.
#[derive(Clone)]
struct InForce {
    expired: Arc<AtomicBool>,
    waiting: Arc<AtomicI32>,
}

thread_local! {
    /// The limits that the calling thread's waits have, the innermost last.
    static HELD: RefCell<Vec<InForce>> = const { RefCell::new(Vec::new()) };
}

/// While this lives, waits of the calling thread for one task end with the limit: see [`Limit::hold`].
#[must_use]
pub struct Held(std::marker::PhantomData<*const ()>);

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.pop());
    }
}

/// Whether the time of the limit that the calling thread holds is up.
pub(super) fn is_over() -> bool {
    HELD.with_borrow(|held| {
        held.last()
            .is_some_and(|limit| limit.expired.load(Ordering::SeqCst))
    })
}

/// Calls `wait`, which a signal interrupts when the time of the limit that the calling thread holds is up.
pub(super) fn interrupts<T>(wait: impl FnOnce() -> T) -> T {
    let held = HELD.with_borrow(|held| held.last().map(|limit| Arc::clone(&limit.waiting)));
    match held {
        Some(waiting) => wakes(&waiting, wait),
        None => wait(),
    }
}

fn wakes<T>(waiting: &AtomicI32, wait: impl FnOnce() -> T) -> T {
    install_handler();
    // SAFETY: gettid(2) has no arguments.
    waiting.store(unsafe { libc::gettid() }, Ordering::SeqCst);
    let waited = wait();
    waiting.store(0, Ordering::SeqCst);
    waited
}

/// A time limit, in force until it is dropped.
pub struct Limit {
    key: (Instant, u64),
    expired: Arc<AtomicBool>,
    waiting: Arc<AtomicI32>,
}

impl Limit {
    /// Sets a time limit for the process `pid`. When it expires, the process gets a SIGSTOP.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn new(pid: i32, after: Duration) -> Result<Limit> {
        // SAFETY: pidfd_open(2) takes numbers; the descriptor is owned at once.
        let target = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd;
            if fd < 0 {
                return Err(Error::last("set a time limit for it", pid));
            }
            OwnedFd::from_raw_fd(fd)
        };
        let now = tsc_off::now();
        let after = match interrupt::is_asked() {
            true => Duration::ZERO,
            false => after,
        };
        let at = now
            .checked_add(after)
            .unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()));
        let expired = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicI32::new(0));
        let mut state = WATCHDOG.lock();
        let key = (at, state.next);
        state.next += 1;
        let earliest = state
            .armed
            .first_key_value()
            .is_none_or(|(first, _)| key < *first);
        let armed = Armed {
            target,
            expired: Arc::clone(&expired),
            waiting: Arc::clone(&waiting),
        };
        state.armed.insert(key, armed);
        drop(state);
        if earliest {
            WATCHDOG.changed.notify_one();
        }
        Ok(Limit {
            key,
            expired,
            waiting,
        })
    }

    /// Calls `wait`, which a signal interrupts when the time is up.
    pub fn wakes<T>(&self, wait: impl FnOnce() -> T) -> T {
        wakes(&self.waiting, wait)
    }

    /// Has the waits of the calling thread for one task fail with [`Error::Timeout`] when the time is up, until the
    /// result is dropped.
    pub fn hold(&self) -> Held {
        let limit = InForce {
            expired: Arc::clone(&self.expired),
            waiting: Arc::clone(&self.waiting),
        };
        HELD.with_borrow_mut(|held| held.push(limit));
        Held(std::marker::PhantomData)
    }

    /// Whether the time is up.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::SeqCst)
    }

    /// The remaining time.
    pub fn left(&self) -> Duration {
        self.key.0.saturating_duration_since(tsc_off::now())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let mut state = WATCHDOG.lock();
        state.armed.remove(&self.key);
        state.over.remove(&self.key);
    }
}
