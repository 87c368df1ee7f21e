//! Ctrl-C and its kin: whose they are, and how rrapper ends.
//!
//! While a program is recorded, a first signal is the program's: one from the terminal has reached it already, one
//! that was sent to rrapper alone is passed on. A second one, or one while nothing is recorded, ends rrapper; all
//! traced processes die with it.

use super::output;
use crate::lua::Watch;
use crate::syscall::consts;
use crate::trace::Exit;
use crate::tracee::proc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a signal that killed the program may take to be seen here, too.
const LATE: Duration = Duration::from_millis(200);

/// The program that is being recorded.
struct Recorded {
    pid: i32,
    dir: PathBuf,
    /// The signal that came.
    signal: Option<i32>,
}

/// Who gets the signals.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    recorded: Arc<Mutex<Option<Recorded>>>,
    /// Whether a signal has come that nobody has dealt with.
    came: Arc<AtomicBool>,
    quiet: bool,
}

impl Interrupts {
    /// Listens from now on.
    pub fn listen(quiet: bool) -> Interrupts {
        let interrupts = Interrupts {
            quiet,
            ..Interrupts::default()
        };
        let listener = interrupts.clone();
        // What was ignored when rrapper was started, as by nohup(1), is ignored by it and its programs.
        let ignored = proc::ignored(std::process::id() as i32).unwrap_or(0);
        let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
        let heard = heard.filter(|signal| ignored & 1 << (signal - 1) == 0);
        for signal in heard.clone() {
            // Where that fails, so does what follows.
            let _ = signal_hook::flag::register(signal, Arc::clone(&interrupts.came));
        }
        let signals = SignalsInfo::<WithOrigin>::new(heard);
        let started = signals.and_then(|mut signals| {
            let thread = std::thread::Builder::new().name("signals".into());
            thread.spawn(move || {
                for origin in signals.forever() {
                    listener.on_signal(&origin);
                }
            })
        });
        if let Err(error) = started {
            tracing::warn!("cannot listen for signals, so they end rrapper at once: {error}");
        }
        interrupts
    }

    fn lock(&self) -> MutexGuard<'_, Option<Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be ended, if a signal is about to do that: it may have killed a process of ours first.
    pub fn settle(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        while self.came.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing is recorded any more, whatever signals there were.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn on_signal(&self, origin: &Origin) {
        let mut recorded = self.lock();
        let Some(program) = recorded.as_mut() else {
            drop(recorded);
            end(origin.signal, None);
        };
        if program.signal.is_some() {
            let dir = program.dir.clone();
            drop(recorded);
            end(origin.signal, Some(&dir));
        }
        program.signal = Some(origin.signal);
        self.came.store(false, Ordering::SeqCst);
        if !matches!(origin.cause, Cause::Kernel)
            && let Ok(signal) = Signal::try_from(origin.signal)
            && let Err(error) = kill(Pid::from_raw(program.pid), signal)
        {
            tracing::debug!("cannot pass {signal} on to {}: {error}", program.pid);
        }
    }
}

/// Says what happened, and ends by the same signal.
fn end(signal: i32, dir: Option<&Path>) -> ! {
    let name = consts::signal_name(signal);
    match dir {
        Some(dir) => {
            let dir = dir.display();
            output::complain(format!(
                "interrupted by {name}; what was recorded up to here is in {dir}"
            ));
        }
        None => output::complain(format!("interrupted by {name}")),
    }
    let status = output::die(signal);
    signal_hook::low_level::exit(status)
}

impl Watch for Interrupts {
    fn started(&self, pid: i32, dir: &Path) {
        *self.lock() = Some(Recorded {
            pid,
            dir: dir.to_path_buf(),
            signal: None,
        });
    }

    fn ended(&self, exit: Option<Exit>) {
        let of_ours = |signal: i32| [SIGINT, SIGTERM, SIGHUP].contains(&signal);
        let died_of = match exit {
            Some(Exit::Signal { signal, .. }) if of_ours(signal) => Some(signal),
            Some(Exit::Code(code)) if of_ours(code - 128) => Some(code - 128),
            _ => None,
        };
        // The same signal may be on its way to us.
        let begun = Instant::now();
        let seen = |this: &Interrupts| this.lock().as_ref().and_then(|program| program.signal);
        while died_of.is_some() && seen(self).is_none() && begun.elapsed() < LATE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(Recorded {
            signal: Some(signal),
            dir,
            ..
        }) = self.lock().take()
        else {
            return;
        };
        // A program that took the signal and went on has had its way; so has the script.
        if died_of.is_some() || !matches!(exit, Some(Exit::Code(_))) {
            end(signal, Some(&dir));
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            output::complain(message);
        }
    }
}
