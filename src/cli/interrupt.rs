//! Ctrl-C and its kin: whose they are, and how rrapper ends.
//!
//! While a program is recorded, a first signal is the program's: one from the terminal has reached it already, one
//! that was sent to rrapper alone is passed on. Otherwise a first signal interrupts a script, by an error: files are
//! flushed, and what is to be closed is closed. A second one ends rrapper at once, as does the first where no script runs,
//! or where the script is not there to hear of it (it waits in a function of the C library): files are flushed then, too,
//! as far as that does not wait. All traced processes die with rrapper.

use super::output;
use crate::lua::{self, Watch};
use crate::syscall::consts;
use crate::trace::Exit;
use crate::tracee::{interrupt, proc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a signal that killed the program may take to be seen here, too.
const LATE: Duration = Duration::from_millis(200);

/// How long a script may take to hear of a signal.
const DEAF: Duration = Duration::from_secs(5);

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
    /// The signal by which a script is interrupted; 0 before that.
    script: Arc<AtomicI32>,
    /// Where what it recorded then is.
    left: Arc<Mutex<Option<PathBuf>>>,
    /// Whether a script runs.
    scripted: bool,
    quiet: bool,
}

impl Interrupts {
    /// Listens from now on.
    pub fn listen(quiet: bool) -> Interrupts {
        Interrupts::start(quiet, false)
    }

    /// The same for a script, which a first signal interrupts.
    pub fn listen_for_script(quiet: bool) -> Interrupts {
        Interrupts::start(quiet, true)
    }

    /// Ends as the signal wants by which the script was interrupted, if it was.
    pub fn conclude(&self) {
        match self.script.load(Ordering::SeqCst) {
            0 => {}
            signal => {
                let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                end(signal, left.as_deref());
            }
        }
    }

    /// Interrupts the script, if there is one that has not been interrupted.
    fn interrupt(&self, signal: i32) -> bool {
        let first = self.scripted
            && self
                .script
                .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if first {
            interrupt::ask();
            self.came.store(false, Ordering::SeqCst);
            // It may not come to hear of it.
            let watching = std::thread::Builder::new().name("interrupt".into());
            let watching = watching.spawn(move || {
                std::thread::sleep(DEAF);
                if !lua::is_interrupted() {
                    interrupt::flush(LATE);
                    end(signal, None);
                }
            });
            if let Err(error) = watching {
                tracing::warn!("cannot wait for the script: {error}");
                end(signal, None);
            }
        }
        first
    }

    fn start(quiet: bool, scripted: bool) -> Interrupts {
        let interrupts = Interrupts {
            quiet,
            scripted,
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
            if self.interrupt(origin.signal) {
                return;
            }
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
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = Some(dir.clone());
            drop(left);
            if self.interrupt(signal) {
                return;
            }
            end(signal, Some(&dir));
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            output::complain(message);
        }
    }
}
