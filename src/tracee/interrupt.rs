//! The user wants an end: what waits for tracees gives up soon.

use super::watchdog;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Asks all to end: time limits are over from now on, and replays stop at their next event.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
    watchdog::end_all();
}

/// Whether that was asked.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Flushes the files that the C library has open, as far as that takes no longer than this: one that somebody waits for
/// is locked.
pub fn flush(patience: Duration) {
    let (done, flushed) = std::sync::mpsc::channel();
    let flushing = std::thread::Builder::new().name("flush".into());
    let started = flushing.spawn(move || {
        // SAFETY: fflush(3) with NULL flushes all output streams; it locks each of them.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        // Nobody waits any more where this fails.
        let _ = done.send(());
    });
    match started {
        Ok(_) => _ = flushed.recv_timeout(patience),
        Err(error) => tracing::debug!("cannot flush files: {error}"),
    }
}
