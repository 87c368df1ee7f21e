//! Values, calls and whole traces in strace's syntax.

use super::answer::RESTARTS;
use super::escape;
use crate::syscall::consts;
use crate::trace::{Answer, Call, Entry, Exit, Field, Trace, Value};
use std::fmt::{self, Display, Formatter, Write};
use std::io;

/// The column in which strace writes ` = `, where the arguments leave room.
const RESULT_COLUMN: usize = 39;
/// Calls whose results are addresses.
const ADDRESSES: [&str; 5] = ["brk", "mmap", "mmap2", "mremap", "shmat"];

/// Writes a trace as `strace -f -o` does: pid column (where pids are known), results aligned.
///
/// # Errors
///
/// Those of the writer.
pub fn write(trace: &Trace, out: &mut impl io::Write) -> io::Result<()> {
    let mut line = String::new();
    for entry in trace.entries() {
        line.clear();
        if entry.tid() != 0 {
            line = format!("{:<5} ", entry.tid());
        }
        let written = match entry {
            Entry::Call(call) => aligned(&mut line, call, true),
            _ => write!(line, "{entry}"),
        };
        written.map_err(|_| io::Error::other("a value could not be printed"))?;
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        value(f, self)
    }
}

/// Without the pid. Alternate (`{:#}`) aligns the result as strace does.
impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        aligned(&mut line, self, f.alternate())?;
        f.write_str(&line)
    }
}

/// Without the pid. Alternate (`{:#}`) aligns the result as strace does.
impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Call(call) => call.fmt(f),
            Entry::Signal { signal, info, .. } => {
                write!(f, "--- {} {info} ---", consts::signal_name(*signal))
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
                write!(f, "+++ killed by {}{core} +++", consts::signal_name(signal))
            }
        }
    }
}

/// As strace writes it behind ` = `; addresses in decimal, for want of the call.
impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        answer(f, "", self)
    }
}

/// Appends a call to a line that may have columns in front.
fn aligned(line: &mut String, call: &Call, align: bool) -> fmt::Result {
    line.push_str(&call.name);
    line.push('(');
    list(line, &call.args, false, value)?;
    line.push(')');
    if align && line.len() < RESULT_COLUMN {
        line.extend(std::iter::repeat_n(' ', RESULT_COLUMN - line.len()));
    }
    line.push_str(" = ");
    // The result with its path; stale where the answer was changed since.
    let (path, notes) = match call.notes.split_first() {
        Some((first, rest)) if first.name.is_empty() && matches!(first.value, Value::Fd { .. }) => {
            (Some(&first.value), rest)
        }
        _ => (None, call.notes.as_slice()),
    };
    match (&call.answer, path) {
        (Answer::Value(v), Some(path)) if path.as_i64() == Some(*v) => value(line, path)?,
        (Answer::Value(v), _) if notes.first().is_some_and(|n| n.name == "flags") => {
            write!(line, "{v:#x}")?;
        }
        (other, _) => answer(line, &call.name, other)?,
    }
    if !notes.is_empty() {
        line.push_str(" (");
        list(line, notes, false, note)?;
        line.push(')');
    }
    Ok(())
}

fn answer(out: &mut impl Write, call: &str, answer: &Answer) -> fmt::Result {
    match *answer {
        Answer::Value(v) if v != 0 && ADDRESSES.contains(&call) => write!(out, "{v:#x}"),
        Answer::Value(v) if v >= 0 && call == "umask" => octal(out, v as u64),
        Answer::Value(v) => write!(out, "{v}"),
        Answer::Errno(errno) => match consts::errno_name(errno) {
            Some(name) => write!(out, "-1 {name} ({})", consts::errno_text(errno)),
            None => write!(out, "-1 (errno {errno})"),
        },
        Answer::Restart(number) => match RESTARTS.iter().find(|r| r.0 == number) {
            Some((_, name, text)) => write!(out, "? {name} ({text})"),
            None => write!(out, "-1 (errno {number})"),
        },
        Answer::Never => out.write_char('?'),
    }
}

fn octal(out: &mut impl Write, v: u64) -> fmt::Result {
    // At least three digits, of which the first is 0.
    if v == 0 {
        out.write_str("000")
    } else {
        write!(out, "0{v:02o}")
    }
}

fn value(out: &mut impl Write, v: &Value) -> fmt::Result {
    match v {
        Value::Int(v) => write!(out, "{v}"),
        Value::Addr(0) => out.write_str("NULL"),
        Value::Addr(v) => write!(out, "{v:#x}"),
        Value::Octal(v) => octal(out, *v),
        Value::Fd { fd, path } => {
            match fd {
                -100 => out.write_str("AT_FDCWD")?,
                _ => write!(out, "{fd}")?,
            }
            path.as_deref()
                .map_or(Ok(()), |path| escape::path(out, path))
        }
        Value::Sym { text, .. } | Value::Raw(text) => out.write_str(text),
        Value::Str { bytes, cut } => {
            escape::quoted(out, bytes)?;
            out.write_str(if *cut { "..." } else { "" })
        }
        Value::Array { items, cut } => {
            out.write_char('[')?;
            list(out, items, *cut, value)?;
            out.write_char(']')
        }
        Value::Struct { fields, cut } => {
            out.write_char('{')?;
            list(out, fields, *cut, member)?;
            out.write_char('}')
        }
        Value::Set { negated, items } => {
            out.write_str(if *negated { "~[" } else { "[" })?;
            for (i, item) in items.iter().enumerate() {
                out.write_str(if i > 0 { " " } else { "" })?;
                out.write_str(item)?;
            }
            out.write_char(']')
        }
        Value::Change { before, after } => {
            value(out, before)?;
            out.write_str(" => ")?;
            value(out, after)
        }
    }
}

/// Items with commas between them, and an ellipsis where they were cut.
fn list<W: Write, T>(
    out: &mut W,
    items: &[T],
    cut: bool,
    item: impl Fn(&mut W, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, it) in items.iter().enumerate() {
        out.write_str(if i > 0 { ", " } else { "" })?;
        item(out, it)?;
    }
    match (cut, items.is_empty()) {
        (true, true) => out.write_str("..."),
        (true, false) => out.write_str(", ..."),
        (false, _) => Ok(()),
    }
}

fn member(out: &mut impl Write, field: &Field) -> fmt::Result {
    if !field.name.is_empty() {
        write!(out, "{}=", field.name)?;
    }
    match &field.value {
        // An abstract socket's name begins with a NUL, which strace writes in front of the quotes.
        Value::Str { bytes, cut: false }
            if field.name == "sun_path" && bytes.first() == Some(&0) =>
        {
            out.write_char('@')?;
            escape::quoted(out, &bytes[1..])
        }
        other => value(out, other),
    }
}

fn note(out: &mut impl Write, field: &Field) -> fmt::Result {
    if !field.name.is_empty() {
        write!(out, "{} ", field.name)?;
    }
    value(out, &field.value)
}
