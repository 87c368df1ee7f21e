//! The grammar of lines: columns in front, and what kind of line it is. Calls' arguments and results are left
//! to the other grammars.

use super::answer::answer;
use super::lex::*;
use super::symbol::{Symbols, signal};
use super::value::{argument, text, value};
use crate::trace::{Answer, Exit, Field, Value};
use memchr::memmem;
use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::digit1;
use nom::sequence::delimited;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// Nothing about what the program did: a message of strace's, a stack, a dump, an empty line.
    Nothing,
    /// A whole call.
    Call(&'a [u8]),
    /// The first part of a call, up to `<unfinished ...>`.
    Unfinished(&'a [u8]),
    /// A first part that nothing follows: `<detached ...>`.
    Abandoned(&'a [u8]),
    /// The rest of a call, behind `<... read resumed>`.
    Resumed { name: &'a [u8], rest: &'a [u8] },
    /// `--- SIGCHLD {…} ---`.
    Signal { signal: i32, info: Value },
    /// `+++ exited with 0 +++`.
    Exit(Exit),
    /// `+++ superseded by execve in pid 12 +++`: that task goes on under this line's pid.
    Superseded(i32),
}

/// The task in front, and what the line says.
pub(super) fn line<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, (i32, Line<'a>)> {
    // The stacks of `-k` and the dumps of `-e read=` stand under their calls.
    if i.starts_with(b" > ") || i.starts_with(b" | ") {
        return Ok((&[], (0, Line::Nothing)));
    }
    let (i, tid) = columns(i)?;
    let line = match i {
        [] => Line::Nothing,
        [b'-', b'-', b'-', b' ', rest @ ..] => delivered(symbols, rest)?.1,
        [b'+', b'+', b'+', b' ', rest @ ..] => ended(rest)?.1,
        [b'<', b'.', b'.', b'.', b' ', rest @ ..] => resumed(rest)?.1,
        _ if is_call(i) => begun(i),
        _ if is_message(i) => Line::Nothing,
        _ => return expected(i, "a system call, a signal or an exit"),
    };
    Ok((&[], (tid, line)))
}

/// Pid, times, numbers and addresses of calls. A pid has at most seven digits; `-ttt` without fractions has ten.
fn columns(i: &[u8]) -> Res<'_, i32> {
    let mut rest = blanks(i);
    let mut tid = 0;
    if let Some(inside) = rest.strip_prefix(b"[pid ") {
        let (after, found) = pid(blanks(inside))?;
        match blanks(after).strip_prefix(b"]") {
            Some(after) => (rest, tid) = (blanks(after), found),
            None => return expected(after, "`]`"),
        }
    } else if let Ok((after, found)) = pid(rest)
        && matches!(after.first(), Some(b' '))
    {
        (rest, tid) = (gap(after)?.0, found);
    }
    // `-r` may come with another kind.
    for _ in 0..2 {
        let time = rest.strip_prefix(b"(+").map_or(rest, blanks);
        let Ok((after, time)) =
            take_while1::<_, _, Expected<'_>>(|b: u8| b.is_ascii_digit() || b":.".contains(&b))
                .parse(time)
        else {
            break;
        };
        let after = after.strip_prefix(b")").unwrap_or(after);
        if time.len() < 8 || !matches!(after.first(), Some(b' ')) {
            break;
        }
        rest = blanks(after);
    }
    while let Ok((after, _)) = column(rest) {
        rest = blanks(after);
    }
    Ok((rest, tid))
}

/// The number of the call (`-n`: `[  59]`) or where it was made (`-i`: `[00007fc60956dad7]`).
fn column(i: &[u8]) -> Res<'_, &[u8]> {
    let inside = take_while1(|b: u8| b.is_ascii_hexdigit() || b" ?".contains(&b));
    delimited(tag("["), inside, tag("] ")).parse(i)
}

/// A pid, with the command that `-Y` writes behind it.
fn pid(i: &[u8]) -> Res<'_, i32> {
    let (rest, digits) = digit1.parse(i)?;
    if digits.len() > 7 {
        return expected(i, "a pid");
    }
    let tid = digits.iter().fold(0, |n, d| n * 10 + i32::from(d - b'0'));
    match rest.first() {
        Some(b'<') => Ok((close_path(rest)?.0, tid)),
        _ => Ok((rest, tid)),
    }
}

/// A call's name, with the parenthesis behind it. `????` stands for one that strace could not read.
fn call_name(i: &[u8]) -> Res<'_, &[u8]> {
    let (rest, name) = take_while1(|b| is_word(b) || b == b'?').parse(i)?;
    match rest.strip_prefix(b"(") {
        Some(rest) => Ok((rest, name)),
        None => expected(rest, "`(`"),
    }
}

fn is_call(i: &[u8]) -> bool {
    call_name(i).is_ok()
}

fn is_message(i: &[u8]) -> bool {
    i.starts_with(b"strace: ")
        || i.starts_with(b"Process ")
        || i.starts_with(b"[ Process ")
        || memmem::find(&i[..i.len().min(256)], b"strace: ").is_some_and(|n| i[..n].ends_with(b"/"))
}

/// The first part of a line that a message runs into, which happens where strace writes to a terminal or a
/// pipe: `clone(child_stack=NULLstrace: Process 12 attached`. The next line has the rest.
pub(super) fn interrupted(i: &[u8]) -> Option<&[u8]> {
    let start = i.strip_suffix(b" attached")?;
    let digits = start
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let start = start[..start.len() - digits].strip_suffix(b"strace: Process ")?;
    (!start.is_empty() && start.last() != Some(&b'/')).then_some(start)
}

/// Distinguishes whole calls from first parts, by their ends.
fn begun(i: &[u8]) -> Line<'_> {
    let i = i.trim_ascii_end();
    if i.last() == Some(&b'>') {
        let end = &i[i.len().saturating_sub(64)..];
        // Or `<unfinished ... exit status 0>`.
        if let Some(n) = memmem::rfind(end, b"<unfinished ...") {
            return Line::Unfinished(without(i, end.len() - n));
        }
        if end.ends_with(b"<detached ...>") {
            return Line::Abandoned(without(i, b"<detached ...>".len()));
        }
    }
    Line::Call(i)
}

/// All but the last bytes, and the blank before them.
fn without(i: &[u8], last: usize) -> &[u8] {
    let i = &i[..i.len() - last];
    i.strip_suffix(b" ").unwrap_or(i)
}

/// `read resumed>rest`; older versions have a blank behind it.
fn resumed(i: &[u8]) -> Res<'_, Line<'_>> {
    let (rest, name) = take_while1(|b| is_word(b) || b == b'?').parse(i)?;
    match rest.strip_prefix(b" resumed>") {
        Some(rest) => Ok((&[], Line::Resumed { name, rest })),
        None => expected(rest, "` resumed>`"),
    }
}

/// What follows `--- `.
fn delivered<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Line<'a>> {
    // The task has stopped; the signal that stopped it has a line of its own.
    if i.starts_with(b"stopped by ") {
        return Ok((&[], Line::Nothing));
    }
    let (rest, name) = word(i)?;
    let Some(signal) = std::str::from_utf8(name).ok().and_then(signal_number) else {
        return expected(i, "a signal");
    };
    let Some(info) = rest.trim_ascii_end().strip_suffix(b"---") else {
        return expected(&rest[rest.len()..], "`---` at the end");
    };
    let info = info.trim_ascii();
    let info = match value(symbols, info) {
        Ok(([], info)) => info,
        // `(Child exited) @ 0 (0)`, before version 4.6.
        _ => Value::Raw(text(info)),
    };
    Ok((&[], Line::Signal { signal, info }))
}

/// A signal's name, or its number where strace has none.
fn signal_number(name: &str) -> Option<i32> {
    signal(name).or_else(|| {
        let number = name.strip_prefix("SIG_").unwrap_or(name);
        number.parse().ok()
    })
}

/// What follows `+++ `.
fn ended(i: &[u8]) -> Res<'_, Line<'_>> {
    let Some(what) = i.trim_ascii_end().strip_suffix(b" +++") else {
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
pub(super) struct Whole {
    pub name: String,
    pub args: Vec<Value>,
    pub answer: Answer,
    pub notes: Vec<Field>,
}

/// `name(arguments) = result`.
pub(super) fn call<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Whole> {
    let (rest, name) = call_name(i)?;
    let name = text(name);
    let mut args = Vec::new();
    let rest = arguments(symbols, rest, &mut args)?.0;
    let (rest, (answer, notes)) = answer(symbols, rest)?;
    let call = Whole {
        name,
        args,
        answer,
        notes,
    };
    Ok((rest, call))
}

/// The first part of a call that never ended: its name, and the arguments that were written in full.
pub(super) fn part(symbols: &mut Symbols, i: &[u8]) -> (String, Vec<Value>) {
    let mut args = Vec::new();
    match call_name(i) {
        Ok((rest, name)) => {
            // It ends in an error, for want of a parenthesis; what was read before is all there is.
            let _ = arguments(symbols, rest, &mut args);
            (text(name), args)
        }
        Err(_) => (text(i), args),
    }
}

/// Arguments up to the closing parenthesis.
fn arguments<'a>(symbols: &mut Symbols, i: &'a [u8], args: &mut Vec<Value>) -> Res<'a, ()> {
    let mut rest = gap(i)?.0;
    if let Some(rest) = rest.strip_prefix(b")") {
        return Ok((rest, ()));
    }
    while !rest.is_empty() {
        let (after, arg) = argument(symbols, rest)?;
        args.push(arg);
        rest = match after {
            [b',', after @ ..] => gap(after)?.0,
            [b')', after @ ..] => return Ok((after, ())),
            [] => after,
            _ => return expected(after, "`,` or `)`"),
        };
    }
    expected(rest, "`)`")
}
