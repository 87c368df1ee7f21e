//! What is printed, and how rrapper ends as another program did.

use crate::trace::Exit;
use crate::tracee::beside;
use anyhow::Context;
use std::io::{self, ErrorKind, Write};

/// Prints a sentence on standard error.
pub(super) fn complain(message: impl std::fmt::Display) {
    // Nobody is left to hear of it where this fails.
    let _ = writeln!(io::stderr(), "rrapper: {message}");
}

/// Prints on standard output, at once.
pub(super) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Status 0 after printing. Where nobody reads the output any more, rrapper ends as other programs do.
pub(super) fn finish(printed: io::Result<()>) -> anyhow::Result<i32> {
    match printed {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(die(libc::SIGPIPE)),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Ends as a program did: its exit status, or killed by the same signal. Returns the status to exit with.
pub(super) fn end_as(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal { signal, .. } => die(signal),
    }
}

/// Dies of a signal, without a core file. Returns the status that a shell would show, where that does not work.
pub(super) fn die(signal: i32) -> i32 {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::debug!("cannot turn core files off: {error}");
    }
    beside::die_of(signal);
    let status = 128 + signal;
    tracing::debug!("still alive after signal {signal}");
    status
}
