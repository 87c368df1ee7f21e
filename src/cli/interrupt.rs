//! Ctrl-C and its kin: how rrapper ends.
//!
//! What comes while nothing is recorded ends rrapper; all traced processes die with it. While a program is recorded,
//! signals are the program's: see [`crate::record::record_beside`]. If it ends of one, so does the script that had it
//! recorded.

use super::output;
use crate::lua::{RecordingEnd, Watch};
use crate::syscall::consts;
use crate::trace::Exit;
use crate::tracee::proc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who gets the signals.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    /// Whether a signal has come.
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
                if let Some(signal) = signals.forever().next() {
                    end(signal, None);
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
            end(signal, Some(recording.dir));
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
            end(signal, Some(recording.dir));
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            output::complain(message);
        }
    }
}
