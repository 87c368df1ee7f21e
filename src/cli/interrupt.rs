//! Ctrl-C and its kin: how rrapper ends.
//!
//! While a program is recorded, signals are the program's: see [`crate::record::record_in_separate_process`]. Otherwise a first signal
//! interrupts a script, by an error: files are flushed, and what is to be closed is closed. So it does where it ended the
//! program that the script had recorded. A second one ends rrapper at once, as does the first where no script runs,
//! or where the script is not there to hear of it (it waits in a function of the C library): files are flushed then, too,
//! as far as that does not wait. All traced processes die with rrapper.

use super::output;
use crate::lua::{self, RecordingEnd, Watch};
use crate::syscall::consts;
use crate::trace::Exit;
use crate::tracee::{interrupt, proc};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long flushing files may take.
const FLUSHING: Duration = Duration::from_millis(200);

/// How long a script may take to hear of a signal.
const DEAF: Duration = Duration::from_secs(5);

/// Who gets the signals.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
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
        // What was ignored when rrapper was started, as by nohup(1), is ignored by it and its programs.
        let ignored = proc::ignored(std::process::id() as i32).unwrap_or(0);
        let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
        let heard = heard.filter(|signal| ignored & 1 << (signal - 1) == 0);
        for signal in heard.clone() {
            // Where that fails, so does what follows.
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

    /// Waits to be ended, if a signal is about to do that: it may have killed a process of ours first.
    pub fn settle(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        while self.came.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The end of what is recorded is the end of all.
    fn end_with(&self, recording: &RecordingEnd<'_>, signal: i32) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = Some(recording.dir.to_path_buf());
        drop(left);
        if !self.interrupt(signal) {
            end(signal, Some(recording.dir));
        }
    }
}

/// Says what happened, and ends by the same signal.
pub(super) fn end(signal: i32, dir: Option<&Path>) -> ! {
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
    fn ended(&self, recording: &RecordingEnd<'_>) {
        if let Some(signal) = recording.forced {
            return self.end_with(recording, signal);
        }
        let Some(signal) = recording.signal else {
            return;
        };
        // A program that took the signal and went on has had its way; so has the script.
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
