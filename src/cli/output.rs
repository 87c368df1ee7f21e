//! Printing, and ending rrapper in the way another program ended.

use crate::trace::Exit;
use crate::tracee::process_group;
use anyhow::Context;
use std::io::{self, ErrorKind, Write};

/// Prints a sentence on standard error.
pub(super) fn complain(message: impl std::fmt::Display) {
    // A failure cannot be reported.
    let _ = writeln!(io::stderr(), "rrapper: {}", lines(&message.to_string()));
}

/// A text of one line without control characters: names, paths and arguments may be hostile.
pub(super) fn plain(text: &str) -> String {
    escaped(text, |_| false)
}

/// A text of several lines without control characters.
pub(super) fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, may_stay: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if may_stay(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || turns_text(c) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Characters that change the direction of text, which can make a text look like another one.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Prints on standard output, unbuffered.
pub(super) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Returns status 0 after printing. Where the reader has closed the pipe, ends rrapper by SIGPIPE as other programs
/// end.
pub(super) fn finish(printed: io::Result<()>) -> anyhow::Result<i32> {
    match printed {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(die(libc::SIGPIPE)),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Ends as a program ended: with its exit status, or by the same signal. Returns the status to exit with.
pub(super) fn end_as(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal { signal, .. } => die(signal),
    }
}

/// Ends by a signal, without a core file. Returns the status that a shell would show, where the signal does not end it.
pub(super) fn die(signal: i32) -> i32 {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::debug!("cannot turn core files off: {error}");
    }
    process_group::die_of(signal);
    let status = 128 + signal;
    tracing::debug!("still alive after signal {signal}");
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_obey_nothing() {
        assert_eq!(
            plain("a\x1b[31mb\x07\r\nc\u{9b}d"),
            "a\\x1b[31mb\\x07\\r\\nc\\u{9b}d"
        );
        assert_eq!(lines("a\n\tb\x1b\u{202e}"), "a\n\tb\\x1b\\u{202e}");
        assert_eq!(plain("Größe 大きさ"), "Größe 大きさ");
    }
}
