//! The user's request to end: waits for tracees return soon.

use super::watchdog;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Requests the end: all time limits expire, and replays stop at their next event.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
    watchdog::end_all();
}

/// Whether the end was requested.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Flushes the C library's open files, for at most this long: a file may be locked by a blocked thread.
pub fn flush(patience: Duration) {
    let (done, flushed) = std::sync::mpsc::channel();
    let flushing = std::thread::Builder::new().name("flush".into());
    let started = flushing.spawn(move || {
        // SAFETY: fflush(3) with NULL flushes all output streams; it locks each of them.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        // Sending fails where the time is over.
        let _ = done.send(());
    });
    match started {
        Ok(_) => _ = flushed.recv_timeout(patience),
        Err(error) => tracing::debug!("cannot flush files: {error}"),
    }
}
