//! Ctrl-C and other signals that end rrapper.
//!
//! While a program is recorded, signals are the program's: see [`crate::record::record_in_separate_process`]. Otherwise
//! a first signal interrupts a script by an error: files are flushed and closed. So does a signal that ended the
//! program which the script had recorded. A second signal ends rrapper at once, as does the first where no script runs,
//! or where the script cannot react (it is blocked in a function of the C library): files are flushed then, too, as far
//! as that does not block. All traced processes end with rrapper.

use super::output;
use crate::constants;
use crate::lua::{self, RecordingEnd, Watch};
use crate::trace::Exit;
use crate::tracee::{interrupt, proc};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time limit for flushing files.
const FLUSHING: Duration = Duration::from_millis(200);

/// The time within which a script must react to a signal.
const DEAF: Duration = Duration::from_secs(5);

/// The receiver of signals.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    /// Whether a signal has not been handled yet.
    came: Arc<AtomicBool>,
    /// The signal that interrupted the script; 0 before that.
    script: Arc<AtomicI32>,
    /// The directory of the recording that the script made at that time.
    left: Arc<Mutex<Option<PathBuf>>>,
    /// Whether a script runs.
    scripted: bool,
    quiet: bool,
}

impl Interrupts {
    /// Begins to handle signals.
    pub fn listen(quiet: bool) -> Interrupts {
        Interrupts::start(quiet, false)
    }

    /// Begins to handle signals for a script, which a first signal interrupts.
    pub fn listen_for_script(quiet: bool) -> Interrupts {
        Interrupts::start(quiet, true)
    }

    /// Ends rrapper by the signal that interrupted the script, if any.
    pub fn conclude(&self) {
        match self.script.load(Ordering::SeqCst) {
            0 => {}
            signal => {
                let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                end(signal, left.as_deref());
            }
        }
    }

    /// Interrupts the script, if one runs and has not been interrupted yet.
    fn interrupt(&self, signal: i32) -> bool {
        let first = self.scripted
            && self
                .script
                .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        if first {
            interrupt::ask();
            self.came.store(false, Ordering::SeqCst);
            // The script may not react.
            let watching = std::thread::Builder::new().name("interrupt".into());
            let watching = watching.spawn(move || {
                std::thread::sleep(DEAF);
                if !lua::is_interrupted() {
                    interrupt::flush(FLUSHING);
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
        // A signal that was ignored at rrapper's start, as by nohup(1), stays ignored in rrapper and its programs.
        let ignored = proc::ignored(std::process::id() as i32).unwrap_or(0);
        let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
        let heard = heard.filter(|signal| ignored & 1 << (signal - 1) == 0);
        for signal in heard.clone() {
            // If this fails, the next step fails, too.
            let _ = signal_hook::flag::register(signal, Arc::clone(&interrupts.came));
        }
        let started = Signals::new(heard).and_then(|mut signals| {
            let thread = std::thread::Builder::new().name("signals".into());
            thread.spawn(move || {
                for signal in signals.forever() {
                    if !listener.interrupt(signal) {
                        end(signal, None);
                    }
                }
            })
        });
        if let Err(error) = started {
            tracing::warn!("cannot listen for signals, so they end rrapper at once: {error}");
        }
        interrupts
    }

    /// Waits for the end by a pending signal, which may have killed a child process first.
    pub fn settle(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        while self.came.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends rrapper after an interrupted recording.
    fn end_with(&self, recording: &RecordingEnd<'_>, signal: i32) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = Some(recording.dir.to_path_buf());
        drop(left);
        if !self.interrupt(signal) {
            end(signal, Some(recording.dir));
        }
    }
}

/// Prints a message, and ends by the same signal.
pub(super) fn end(signal: i32, dir: Option<&Path>) -> ! {
    let name = constants::signal_name(signal);
    // Nothing is recorded before the setup commands have ended.
    match dir.filter(|dir| dir.join("events").exists()) {
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
    fn ended(&self, recording: &RecordingEnd<'_>) {
        if let Some(signal) = recording.forced {
            return self.end_with(recording, signal);
        }
        let Some(signal) = recording.signal else {
            return;
        };
        // A program that handled the signal and continued is not ended; neither is the script.
        let died_of_it = match recording.exit {
            Some(Exit::Code(code)) => code == 128 + signal,
            Some(Exit::Signal { .. }) | None => true,
        };
        if died_of_it {
            self.end_with(recording, signal);
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            output::complain(message);
        }
    }
}
