//! Prints entries as they were written. The text around an entry's values is printed verbatim as long as parsing it
//! gives the entry's facts; otherwise the entry is printed in strace's spelling.

use super::grammar::context::Context;
use super::grammar::escape::push;
use super::grammar::line::{self, Line};
use super::grammar::result::{ParsedResult, answer};
use super::print::{Spelling, list, pid, result, value};
use crate::trace::{Call, Entry, LineInfo};
use std::io;

/// Writes an entry as it was written in its source text, without the line's end; changed parts, and entries that were
/// not read from a text, in strace's spelling. A call in two parts is written in one.
///
/// # Errors
///
/// The writer's errors.
pub fn write_as_read(entry: &Entry, out: &mut impl io::Write) -> io::Result<()> {
    let mut line = Vec::new();
    as_written(&mut line, entry);
    out.write_all(&line)
}

/// Appends an entry as it was written.
pub(super) fn as_written(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Call(call) => {
            match call.line_info.as_deref().map(LineInfo::front) {
                Some(front) if front_says(front, call.tid) => out.extend_from_slice(front),
                _ => pid(out, call.tid),
            }
            body_as_written(out, call);
        }
        Entry::Signal {
            info, line_info, ..
        } => {
            let start = out.len();
            if let Some(line_info) = line_info {
                out.extend_from_slice(line_info.front());
                value(out, info, Spelling::Text);
                out.extend_from_slice(line_info.back());
            }
            unless_says(out, start, entry);
        }
        Entry::Exit { line_info, .. } => {
            let start = out.len();
            if let Some(line_info) = line_info {
                out.extend_from_slice(line_info.front());
            }
            unless_says(out, start, entry);
        }
    }
}

/// Replaces the text from `start` on by the entry in strace's spelling, if the text does not mean the entry.
fn unless_says(out: &mut Vec<u8>, start: usize, entry: &Entry) {
    let line = out.get(start..).unwrap_or_default();
    let says = match (line::line(&mut Context::default(), line), entry) {
        (
            Ok((
                _,
                (
                    prefix,
                    Line::Signal {
                        signal: s, info: i, ..
                    },
                ),
            )),
            Entry::Signal {
                tid, signal, info, ..
            },
        ) => prefix.tid == *tid && s == *signal && i == *info,
        (Ok((_, (prefix, Line::Exit(e)))), Entry::Exit { tid, exit, .. }) => {
            prefix.tid == *tid && e == *exit
        }
        _ => false,
    };
    if !says {
        out.truncate(start);
        pid(out, entry.tid());
        push(out, format_args!("{entry}"));
    }
}

/// Appends a call as it was written, without the prefix.
pub(super) fn body_as_written(out: &mut Vec<u8>, call: &Call) {
    out.extend_from_slice(call.name.as_bytes());
    out.push(b'(');
    let line_info = call.line_info.as_deref();
    match line_info.and_then(LineInfo::list) {
        Some(text) if list_says(text, call) => out.extend_from_slice(text),
        _ => list(out, &call.args, false, |out, v| {
            value(out, v, Spelling::Text)
        }),
    }
    out.push(b')');
    match line_info.map(LineInfo::back) {
        Some(back) if back_says(back, call) => out.extend_from_slice(back),
        _ => result(out, call),
    }
}

fn front_says(front: &[u8], tid: i32) -> bool {
    line::task(front) == Some(tid)
}

fn list_says(text: &[u8], call: &Call) -> bool {
    let mut args = Vec::new();
    let closed = [text, b")"].concat();
    let mut cx = Context::default();
    cx.labels = line::has_labels(call.name.as_bytes());
    let read = line::arguments(&mut cx, &closed, &mut args);
    matches!(read, Ok(([], _))) && args == call.args
}

fn back_says(back: &[u8], call: &Call) -> bool {
    match answer(&mut Context::default(), back) {
        Ok(([], ParsedResult { answer, notes, .. })) => {
            answer == call.answer && notes == call.notes
        }
        _ => false,
    }
}
