//! Prints values, calls and whole traces in strace's syntax and spelling. [`super::verbatim`] prints them as they were
//! written.

use super::grammar::escape::{self, push};
use super::grammar::result::RESTARTS;
use crate::constants;
use crate::trace::{Answer, Call, Entry, Exit, Field, Trace, Value};
use std::fmt::{self, Display, Formatter};
use std::io;

/// The column in which strace writes ` = `, where the arguments leave room.
const RESULT_COLUMN: usize = 39;
/// Calls whose results are addresses.
const ADDRESSES: [&str; 9] = [
    "brk",
    "mmap",
    "mmap2",
    "mremap",
    "shmat",
    "membarrier",
    "personality",
    "sched_getscheduler",
    "ioprio_get",
];

/// The spelling to print.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Spelling {
    /// strace's.
    Ours,
    /// The spelling of the source text, where it differs.
    Text,
}

/// Writes a trace as `strace -f -o` does: pid column (where pids are known), results aligned. The spelling of the
/// source text is not kept; for that, see [`Piece::print`](super::Piece::print).
///
/// # Errors
///
/// The writer's errors.
pub fn write(trace: &Trace, out: &mut impl io::Write) -> io::Result<()> {
    let mut line = Vec::new();
    for entry in trace.entries() {
        line.clear();
        pid(&mut line, entry.tid());
        match entry {
            Entry::Call(call) => aligned(&mut line, call, true),
            _ => push(&mut line, format_args!("{entry}")),
        }
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// The pid column, where the pid is known.
pub(super) fn pid(out: &mut Vec<u8>, tid: i32) {
    if tid != 0 {
        push(out, format_args!("{tid:<5} "));
    }
}

/// Writes what was appended to a vector.
fn display(f: &mut Formatter<'_>, append: impl FnOnce(&mut Vec<u8>)) -> fmt::Result {
    let mut out = Vec::new();
    append(&mut out);
    f.write_str(&String::from_utf8_lossy(&out))
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        display(f, |out| value(out, self, Spelling::Ours))
    }
}

/// Without the pid. Alternate (`{:#}`) aligns the result as strace does.
impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let align = f.alternate();
        display(f, |out| aligned(out, self, align))
    }
}

/// Without the pid. Alternate (`{:#}`) aligns the result as strace does.
impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Call(call) => call.fmt(f),
            Entry::Signal { signal, info, .. } => {
                write!(f, "--- {} {info} ---", constants::signal_name(*signal))
            }
            Entry::Exit { exit, .. } => exit.fmt(f),
        }
    }
}

/// `+++ exited with 0 +++`
impl Display for Exit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "+++ exited with {code} +++"),
            Exit::Signal { signal, core } => {
                let core = if core { " (core dumped)" } else { "" };
                write!(
                    f,
                    "+++ killed by {}{core} +++",
                    constants::signal_name(signal)
                )
            }
        }
    }
}

/// As strace writes it behind ` = `; addresses in decimal, for want of the call.
impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        display(f, |out| answer(out, "", self))
    }
}

/// Appends a call to a line that may have columns in front.
fn aligned(line: &mut Vec<u8>, call: &Call, align: bool) {
    line.extend_from_slice(call.name.as_bytes());
    line.push(b'(');
    list(line, &call.args, false, |out, v| {
        value(out, v, Spelling::Ours)
    });
    line.push(b')');
    if align && line.len() < RESULT_COLUMN {
        line.resize(RESULT_COLUMN, b' ');
    }
    result(line, call);
}

/// Appends ` = ` and the result, with its notes.
pub(super) fn result(line: &mut Vec<u8>, call: &Call) {
    line.extend_from_slice(b" = ");
    // The result with its path; stale where the answer was changed since.
    let (path, notes) = match call.notes.split_first() {
        Some((first, rest))
            if first.name.is_empty() && matches!(first.value.meaning(), Value::Fd { .. }) =>
        {
            (Some(&first.value), rest)
        }
        _ => (None, call.notes.as_slice()),
    };
    match (&call.answer, path) {
        (Answer::Value(v), Some(path)) if path.as_i64() == Some(*v) => {
            value(line, path, Spelling::Ours);
        }
        (Answer::Value(v), _) if notes.first().is_some_and(|n| n.name == "flags") => {
            push(line, format_args!("{v:#x}"));
        }
        (other, _) => answer(line, &call.name, other),
    }
    if !notes.is_empty() {
        line.extend_from_slice(b" (");
        list(line, notes, false, note);
        line.push(b')');
    }
}

fn answer(out: &mut Vec<u8>, call: &str, answer: &Answer) {
    match *answer {
        Answer::Value(v) if v != 0 && ADDRESSES.contains(&call) => {
            push(out, format_args!("{v:#x}"))
        }
        Answer::Value(v) if v >= 0 && call == "umask" => octal(out, v as u64),
        Answer::Value(v) => push(out, format_args!("{v}")),
        Answer::Errno(errno) => match constants::errno_name(errno) {
            Some(name) => {
                let text = constants::errno_text(errno);
                push(out, format_args!("-1 {name} ({text})"));
            }
            None => push(out, format_args!("-1 (errno {errno})")),
        },
        Answer::Restart(number) => match RESTARTS.iter().find(|r| r.0 == number) {
            Some((_, name, text)) => push(out, format_args!("? {name} ({text})")),
            None => push(out, format_args!("-1 (errno {number})")),
        },
        Answer::Never => out.push(b'?'),
    }
}

fn octal(out: &mut Vec<u8>, v: u64) {
    // At least three digits, of which the first is 0.
    if v == 0 {
        out.extend_from_slice(b"000");
    } else {
        push(out, format_args!("0{v:02o}"));
    }
}

/// Appends a decimal number. Most values are, and formatting is slow.
fn decimal(out: &mut Vec<u8>, v: i64) {
    let mut digits = [0u8; 20];
    let mut rest = v.unsigned_abs();
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    if v < 0 {
        out.push(b'-');
    }
    out.extend(digits.iter().skip(digits.len() - used));
}

/// Appends a value.
pub(super) fn value(out: &mut Vec<u8>, v: &Value, how: Spelling) {
    match v {
        Value::Int(v) => decimal(out, *v),
        Value::Addr(0) => out.extend_from_slice(b"NULL"),
        Value::Addr(v) => push(out, format_args!("{v:#x}")),
        Value::Octal(v) => octal(out, *v),
        Value::Fd { fd, path } => {
            match fd {
                -100 => out.extend_from_slice(b"AT_FDCWD"),
                _ => decimal(out, i64::from(*fd)),
            }
            if let Some(path) = path {
                escape::path(out, path);
            }
        }
        Value::Sym { text, .. } | Value::Raw(text) => out.extend_from_slice(text.as_bytes()),
        Value::Str { bytes, cut } => {
            escape::quoted(out, bytes);
            out.extend_from_slice(if *cut { b"..." } else { b"" });
        }
        Value::Array { items, cut } => {
            out.push(b'[');
            list(out, items, *cut, |out, v| value(out, v, how));
            out.push(b']');
        }
        Value::Struct { fields, cut } => {
            out.push(b'{');
            list(out, fields, *cut, |out, f| member(out, f, how));
            out.push(b'}');
        }
        Value::Set { negated, items } => {
            out.extend_from_slice(if *negated { b"~[" } else { b"[" });
            for (i, item) in items.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b" " } else { b"" });
                out.extend_from_slice(item.as_bytes());
            }
            out.push(b']');
        }
        Value::Change { before, after } => {
            value(out, before, how);
            out.extend_from_slice(b" => ");
            value(out, after, how);
        }
        Value::Written { text, value: inner } => match how {
            Spelling::Text => out.extend_from_slice(text),
            Spelling::Ours => value(out, inner, how),
        },
    }
}

/// Items with commas between them, and an ellipsis where they were cut.
pub(super) fn list<T>(out: &mut Vec<u8>, items: &[T], cut: bool, item: impl Fn(&mut Vec<u8>, &T)) {
    for (i, it) in items.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b", " } else { b"" });
        item(out, it);
    }
    out.extend_from_slice(match (cut, items.is_empty()) {
        (true, true) => b"...",
        (true, false) => b", ...",
        (false, _) => b"",
    });
}

fn member(out: &mut Vec<u8>, field: &Field, how: Spelling) {
    if !field.name.is_empty() {
        out.extend_from_slice(field.name.as_bytes());
        out.push(b'=');
    }
    let shown = match how {
        Spelling::Text => &field.value,
        Spelling::Ours => field.value.meaning(),
    };
    match shown {
        // An abstract socket's name begins with a NUL, which strace writes in front of the quotes.
        Value::Str { bytes, cut } if field.name == "sun_path" && bytes.first() == Some(&0) => {
            out.push(b'@');
            escape::quoted(out, bytes.get(1..).unwrap_or_default());
            out.extend_from_slice(if *cut { b"..." } else { b"" });
        }
        other => value(out, other, how),
    }
}

fn note(out: &mut Vec<u8>, field: &Field) {
    if !field.name.is_empty() {
        out.extend_from_slice(field.name.as_bytes());
        out.push(b' ');
    }
    value(out, &field.value, Spelling::Ours);
}
