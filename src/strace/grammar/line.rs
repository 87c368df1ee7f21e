//! The grammar of lines: the kind of a line. Prefixes, arguments and results have grammars of their own.

use super::context::Context;
use super::other_lines;
use super::other_lines::OtherLine;
use super::pasted;
use super::prefix::{Prefix, prefix};
use super::result::{ParsedResult, answer};
use super::scalar::text;
use super::symbol::signal;
use super::tokens::*;
use super::user_comments;
use super::value::{argument, value};
use crate::trace::{Exit, Value};
use memchr::memmem;
use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::sequence::preceded;

/// The ends of first parts that are never resumed: the task was detached, or does not exist any more
/// (`<Cannot restart pid 12 with ptrace(PTRACE_SYSCALL): No such process>`).
const GONE: [&[u8]; 3] = [b"<detached ...>", b"<Cannot restart pid ", b"<ptrace("];

/// The beginnings of exits, behind the `+++ `.
const ENDS: [&[u8]; 3] = [b"exited with ", b"killed by ", b"superseded by execve"];

/// A parsed line.
#[derive(Debug, PartialEq)]
pub(in crate::strace) enum Line<'a> {
    /// A line without an entry.
    Other(OtherLine),
    /// A whole call.
    Call(&'a [u8]),
    /// The first part of a call, up to `<unfinished ...>`.
    Unfinished(&'a [u8]),
    /// A first part that is never resumed: `<detached ...>`, or the task could not be restarted.
    Abandoned(&'a [u8]),
    /// A first part of a call that is resumed under this tid: `<pid changed to 12 ...>`.
    Moved(&'a [u8], i32),
    /// The rest of the call that began on the line before, without a mark: `)  = ?`.
    Tail(&'a [u8]),
    /// The rest of a call, behind `<... read resumed>`.
    Resumed { name: &'a [u8], rest: &'a [u8] },
    /// `--- SIGCHLD {…} ---`: `front` begins with the values as written, `back` is the text behind them.
    Signal {
        signal: i32,
        info: Value,
        front: &'a [u8],
        back: &'a [u8],
    },
    /// `+++ exited with 0 +++`.
    Exit(Exit),
    /// `+++ superseded by execve in pid 12 +++`: that task continues under this line's pid.
    Superseded(i32),
}

/// Parses a line with its prefix.
pub(in crate::strace) fn line<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, (Prefix, Line<'a>)> {
    let plain = pasted::plainly_unquoted(i);
    if let Some(other) = other_lines::indented(plain)
        && !is_quoted(plain)
    {
        return Ok((&[], (Prefix::default(), Line::Other(other))));
    }
    let (i, found) = prefix(i)?;
    let (i, found) = behind_unnamed(i).unwrap_or((i, found));
    let line = match i.trim_ascii_end() {
        [] => Line::Other(OtherLine::Blank),
        [b'-', b'-', b'-', b' ', ..] => match delivered(cx, i) {
            Err(_) if !names_signal(i) => Line::Other(OtherLine::Remark),
            other => other?.1,
        },
        [b'+', b'+', b'+', b' ', rest @ ..] => match ended(rest) {
            Err(_) if !ENDS.iter().any(|end| rest.starts_with(end)) => {
                Line::Other(OtherLine::Remark)
            }
            other => other?.1,
        },
        [b'<', b'.', b'.', b'.', b' ', ..] => match resumed(i) {
            Err(_) if memmem::find(i, b"resumed").is_none() => Line::Other(OtherLine::Remark),
            other => other?.1,
        },
        [b')', b' ', ..] => Line::Tail(i),
        _ if is_call(i) => begun(i),
        _ if other_lines::is_message(i) => Line::Other(OtherLine::Message),
        trimmed => match other_lines::trimmed(trimmed) {
            Some(other) => Line::Other(other),
            None if user_comments::is_remark(trimmed) => Line::Other(OtherLine::Remark),
            None => return expected(i, "a system call, a signal or an exit"),
        },
    };
    Ok((&[], (found, line)))
}

/// Whether an indented line is a line of strace's behind quotation marks rather than a frame of a stack.
fn is_quoted(i: &[u8]) -> bool {
    let behind = pasted::unquoted(i);
    behind.len() < blanks(i).len()
        && prefix(behind).is_ok_and(|(rest, found)| {
            found != Prefix::default()
                || is_call(rest)
                || rest.starts_with(b"--- ")
                || rest.starts_with(b"+++ ")
        })
}

/// Whether `--- ` begins a signal, be it garbled.
fn names_signal(i: &[u8]) -> bool {
    let name = i.get(b"--- ".len()..).unwrap_or_default();
    name.starts_with(b"SIG") || name.starts_with(b"{si_")
}

/// Parses a call's name, with the parenthesis behind it. `????` stands for a name that strace could not read; names of
/// the x32 ABI may end in `#64`.
pub(in crate::strace) fn call_name(i: &[u8]) -> Res<'_, &[u8]> {
    let (rest, name) = take_while1(|b| is_word(b) || b == b'?' || b == b'#').parse(i)?;
    match rest.strip_prefix(b"(") {
        Some(rest) => Ok((rest, name)),
        None => expected(rest, "`(`"),
    }
}

/// The text of the call that begins in this line behind the prefix, if any.
pub(in crate::strace) fn begins_call(i: &[u8]) -> Option<&[u8]> {
    let (rest, _) = prefix(i).ok()?;
    is_call(rest).then_some(rest)
}

fn is_call(i: &[u8]) -> bool {
    call_name(i).is_ok()
}

/// The entry of another task on the line of a task that ended before its call had a name; with `-e status=`, strace
/// does not end such a line: `12 ???(13 kill(12, SIGKILL) = 0`.
fn behind_unnamed(i: &[u8]) -> Option<(&[u8], Prefix)> {
    let found = after_unnamed(i)?;
    (found.1.tid != 0 && is_call(found.0)).then_some(found)
}

/// The text behind `???(`, without the prefix there.
fn after_unnamed(i: &[u8]) -> Option<(&[u8], Prefix)> {
    let name = i.iter().take_while(|&&b| b == b'?').count();
    let inside = i.get(name..)?.strip_prefix(b"(").filter(|_| name > 0)?;
    prefix(inside).ok()
}

/// The task of a prefix, if the text is nothing else.
pub(in crate::strace) fn task(front: &[u8]) -> Option<i32> {
    match prefix(front).ok()? {
        ([], found) => Some(found.tid),
        (rest, _) => match after_unnamed(rest)? {
            ([], found) => Some(found.tid),
            _ => None,
        },
    }
}

/// Distinguishes whole calls from first parts by their ends.
fn begun(whole: &[u8]) -> Line<'_> {
    let i = whole.trim_ascii_end();
    let end = &i[i.len().saturating_sub(160)..];
    let mark = match i.last() {
        Some(b'>') => memchr::memrchr(b'<', end).map(|n| &end[n..]),
        _ => None,
    };
    let Some(mark) = mark else {
        return with_note(whole, end);
    };
    let first = without(i, mark.len());
    // Or `<unfinished ... exit status 0>`.
    if mark.starts_with(b"<unfinished ...") {
        return Line::Unfinished(first);
    }
    if let Some(to) = mark.strip_prefix(b"<pid changed to ") {
        let to = to.strip_suffix(b" ...>");
        let to = to.and_then(|to| std::str::from_utf8(to).ok()?.parse().ok());
        return to.map_or(Line::Call(whole), |to| Line::Moved(first, to));
    }
    if GONE.iter().any(|gone| mark.starts_with(gone)) {
        return Line::Abandoned(first);
    }
    with_note(whole, end)
}

/// A first part that ends in `end` with an optional user note behind it: `<unfinished ...>   <-- here`.
fn with_note<'a>(whole: &'a [u8], end: &[u8]) -> Line<'a> {
    let first = memchr::memchr(b'<', end)
        .and_then(|_| user_comments::up_to(whole, b"<unfinished ...>"))
        .filter(|first| first.len() < whole.len());
    match first {
        Some(first) => Line::Unfinished(first.strip_suffix(b" ").unwrap_or(first)),
        None => Line::Call(whole),
    }
}

/// The text without its last bytes and the blank before them.
fn without(i: &[u8], last: usize) -> &[u8] {
    let i = &i[..i.len() - last];
    i.strip_suffix(b" ").unwrap_or(i)
}

/// `<... read resumed>rest`; older versions have a blank behind it, which is not part of the call.
fn resumed(i: &[u8]) -> Res<'_, Line<'_>> {
    let (rest, name) = preceded(
        tag("<... "),
        take_while1(|b| is_word(b) || b == b'?' || b == b'#'),
    )
    .parse(i)?;
    let Some(rest) = rest.strip_prefix(b" resumed>") else {
        return expected(rest, "` resumed>`");
    };
    let rest = match rest {
        [b' ', b'=', b'>', ..] => rest,
        [b' ', rest @ ..] => rest,
        _ => rest,
    };
    Ok((&[], Line::Resumed { name, rest }))
}

/// Parses the text behind `--- `.
fn delivered<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Line<'a>> {
    let i = i.get(b"--- ".len()..).unwrap_or_default();
    // A stop; the signal that caused it has a line of its own.
    if i.starts_with(b"stopped by ") {
        return Ok((&[], Line::Other(OtherLine::Stopped)));
    }
    let (rest, name) = word(i)?;
    let named = std::str::from_utf8(name).ok().and_then(signal_number);
    if named.is_none() && !i.starts_with(b"{") {
        return expected(i, "a signal");
    }
    let Some(info) = user_comments::up_to(rest, b"---") else {
        return expected(&rest[rest.len()..], "`---` at the end");
    };
    let front = rest.trim_ascii_start();
    // Versions 4.6 and 4.7 describe the signal behind it: `{…} (Interrupt)`.
    let written = info.trim_ascii();
    let written = match memmem::rfind(written, b"} (") {
        Some(end) if written.starts_with(b"{") => &written[..=end],
        _ => written,
    };
    let back = match written.is_empty() {
        true => front,
        false => front.get(written.len()..).unwrap_or_default(),
    };
    let info = match written.first() {
        // `(Child exited) @ 0 (0)`, before version 4.6.
        Some(b'(') | None => {
            let around = cx.begin(written)?;
            let found = Value::Raw(text(cx, written));
            cx.end(around, written, b"", found, 0)
        }
        _ => match value(cx, written) {
            Ok(([], info)) => info,
            _ => return expected(written, "what came with the signal"),
        },
    };
    // Version 4.6 has the signal's name in there only.
    let told = || i32::try_from(info.field("si_signo")?.as_i64()?).ok();
    let Some(signal) = named.or_else(told) else {
        return expected(written, "a signal");
    };
    let line = Line::Signal {
        signal,
        info,
        front,
        back,
    };
    Ok((&[], line))
}

/// A signal's name, or its number where strace has none.
fn signal_number(name: &str) -> Option<i32> {
    signal(name).or_else(|| {
        let number = name.strip_prefix("SIG_").unwrap_or(name);
        number.parse().ok()
    })
}

/// Parses the text behind `+++ `.
fn ended(i: &[u8]) -> Res<'_, Line<'_>> {
    let Some(what) = user_comments::up_to(i, b" +++") else {
        return expected(&i[i.len()..], "`+++` at the end");
    };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    let line = if let Some(code) = what.strip_prefix(b"exited with ") {
        number(code).map(|code| Line::Exit(Exit::Code(code)))
    } else if let Some(killer) = what.strip_prefix(b"killed by ") {
        let (name, core) = match killer.strip_suffix(b" (core dumped)") {
            Some(name) => (name, true),
            None => (killer, false),
        };
        let signal = std::str::from_utf8(name).ok().and_then(signal_number);
        signal.map(|signal| Line::Exit(Exit::Signal { signal, core }))
    } else if let Some(pid) = what.strip_prefix(b"superseded by execve in pid ") {
        number(pid).map(Line::Superseded)
    } else {
        None
    };
    match line {
        Some(line) => Ok((&[], line)),
        None => expected(i, "how the process ended"),
    }
}

/// A call in one piece.
pub(in crate::strace) struct Whole<'a> {
    pub name: String,
    pub args: Vec<Value>,
    pub result: ParsedResult,
    /// The text between the parentheses, where its separators are unusual.
    pub list: Option<&'a [u8]>,
    /// The text behind them.
    pub back: &'a [u8],
}

/// `name(arguments) = result`.
pub(in crate::strace) fn call<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Whole<'a>> {
    let (rest, name) = call_name(i)?;
    let mut args = Vec::new();
    cx.labels = has_labels(name);
    let (back, odd) = arguments(cx, rest, &mut args)?;
    let list = until(rest, back);
    let list = odd.then(|| list.strip_suffix(b")").unwrap_or(list));
    let (rest, result) = answer(cx, back)?;
    let call = Whole {
        name: text(cx, name),
        args,
        result,
        list,
        back,
    };
    Ok((rest, call))
}

/// Whether strace always labels this call's arguments, in an order that differs from the man page.
pub(in crate::strace) fn has_labels(name: &[u8]) -> bool {
    matches!(name, b"clone" | b"clone2")
}

/// Parses the first part of an unfinished call: its name, and the arguments that were written in full.
pub(in crate::strace) fn part(cx: &mut Context, i: &[u8]) -> (String, Vec<Value>) {
    let mut args = Vec::new();
    let name = match call_name(i) {
        Ok((rest, name)) => {
            cx.labels = has_labels(name);
            // The parser fails for want of a parenthesis; the arguments up to there are complete.
            let _ = arguments(cx, rest, &mut args);
            name
        }
        Err(_) => i,
    };
    let name = text(cx, name);
    // Doubts about a truncated argument mean nothing.
    cx.take_doubts();
    (name, args)
}

/// Parses arguments up to the closing parenthesis. Returns whether a separator is unusual.
pub(in crate::strace) fn arguments<'a>(
    cx: &mut Context,
    i: &'a [u8],
    args: &mut Vec<Value>,
) -> Res<'a, bool> {
    if let Some(rest) = i.strip_prefix(b")") {
        return Ok((rest, false));
    }
    if let Some(rest) = blanks(i).strip_prefix(b")") {
        return Ok((rest, true));
    }
    let mut odd = false;
    let mut rest = i;
    while !rest.is_empty() {
        // A truncated argument followed by the end of the call.
        if let Some(rest) = blanks(rest).strip_prefix(b"<unfinished ...>)") {
            return Ok((rest, true));
        }
        let (after, arg) = argument(cx, rest)?;
        args.push(arg);
        rest = match after {
            [b',', b' ', after @ ..] => after,
            [b',', after @ ..] => {
                odd = true;
                after
            }
            [b')', after @ ..] => {
                // A label without a value, as in `getpid(strace: )`, would be printed as no argument at all.
                let nothing = |arg: &Value| matches!(arg.meaning(), Value::Sym { text, .. } if text.is_empty());
                if args.len() == 1 && args.iter().all(nothing) {
                    cx.doubt(i, "a value");
                }
                return Ok((after, odd));
            }
            // The comma is missing; see `value::is_next`.
            [b'{' | b'N', ..] if after.len() < rest.len() => {
                odd = true;
                after
            }
            [] => after,
            _ => return expected(after, "`,` or `)`"),
        };
    }
    expected(rest, "`)`")
}
