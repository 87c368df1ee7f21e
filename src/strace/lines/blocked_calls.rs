//! Text that other programs write into a blocked call, where strace's text goes to the same terminal:
//!
//! ```text
//! wait4(-1, compiling
//! linking
//! [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 4102
//! ```
//!
//! The terminal's echo of typed characters is such text, too: `read(0, ^C"", 1024) = 0`.
//!
//! strace writes the input arguments of a call at its entry; output arguments and the result follow at its exit. A
//! table has the number of input arguments of the calls that block; of other calls strace writes all arguments at once.

use crate::constants;
use crate::strace::grammar::context::Context;
use crate::strace::grammar::line::{self, Line};
use crate::strace::grammar::tokens::*;
use crate::strace::grammar::value::{argument, name};
use crate::syscall::{self, Abi};
use crate::trace::Value;
use memchr::memmem;
use nom::character::complete::digit1;

/// The limit on the text of a call up to its blocking, since that is parsed again at each line.
const LONGEST: usize = 1 << 12;
/// The number of offsets in a line that are tried as the beginning of the output arguments.
const MOST_TRIED: usize = 16;
/// All arguments are input.
const ALL: u8 = u8::MAX;

/// Calls that block: the number of arguments written at the entry, and the least and the greatest number of arguments.
const CALLS: [(&[u8], u8, u8, u8); 46] = [
    (b"accept", 1, 3, 3),
    (b"accept4", 1, 4, 4),
    (b"clock_nanosleep", 3, 4, 4),
    (b"clone", ALL, 2, 5),
    (b"clone3", ALL, 2, 2),
    (b"connect", ALL, 3, 3),
    (b"epoll_pwait", 1, 5, 6),
    (b"epoll_pwait2", 1, 5, 6),
    (b"epoll_wait", 1, 4, 4),
    (b"execve", ALL, 3, 3),
    (b"exit", ALL, 1, 1),
    (b"exit_group", ALL, 1, 1),
    (b"fcntl", ALL, 2, 3),
    (b"fcntl64", ALL, 2, 3),
    (b"flock", ALL, 2, 2),
    (b"fork", ALL, 0, 0),
    (b"futex", ALL, 3, 6),
    (b"io_getevents", 3, 5, 5),
    (b"io_pgetevents", 3, 5, 6),
    (b"ioctl", ALL, 2, 3),
    (b"mq_timedreceive", 1, 5, 5),
    (b"msgrcv", 1, 5, 5),
    (b"nanosleep", 1, 2, 2),
    (b"open", ALL, 2, 3),
    (b"openat", ALL, 3, 4),
    (b"pause", ALL, 0, 0),
    (b"poll", ALL, 3, 3),
    (b"ppoll", ALL, 4, 5),
    (b"pread64", 1, 4, 4),
    (b"pselect6", ALL, 6, 6),
    (b"read", 1, 3, 3),
    (b"readv", 1, 3, 3),
    (b"recv", 1, 4, 4),
    (b"recvfrom", 1, 6, 6),
    (b"recvmmsg", 1, 5, 5),
    (b"recvmsg", 1, 3, 3),
    (b"restart_syscall", ALL, 1, 1),
    (b"rt_sigsuspend", ALL, 1, 2),
    (b"rt_sigtimedwait", 1, 4, 4),
    (b"select", ALL, 5, 5),
    (b"_newselect", ALL, 5, 5),
    (b"sigsuspend", ALL, 1, 3),
    (b"vfork", ALL, 0, 0),
    (b"wait4", 1, 4, 4),
    (b"waitid", 2, 4, 5),
    (b"waitpid", 1, 3, 3),
];

/// A blocked call, with the expected shape of its rest.
#[derive(Clone, Debug)]
pub(in crate::strace) struct BlockedCall {
    /// The text written at the entry.
    begun: Vec<u8>,
    /// Whether arguments follow.
    more: bool,
    least: usize,
    most: usize,
}

/// The relation of a line to a blocked call.
pub(in crate::strace) enum Next {
    /// A line of another program.
    Foreign,
    /// The end of the call, from this byte on.
    End(usize),
    /// A line of strace's: the call does not end.
    Line,
}

/// The blocked call that begins with this text, and the length of its own part of the text.
pub(in crate::strace) fn begun(cx: &mut Context, text: &[u8]) -> Option<(usize, BlockedCall)> {
    let (inside, called) = line::call_name(text).ok()?;
    let (before, least, most) = known(called)?;
    cx.take_doubts();
    cx.labels = line::has_labels(called);
    let rest = match before {
        ALL => all(cx, inside, least, most),
        before => some(cx, inside, before),
    };
    cx.take_doubts();
    let rest = rest?;
    let begun = until(text, rest);
    (begun.len() <= LONGEST).then(|| {
        let blocked = BlockedCall {
            begun: begun.to_vec(),
            more: before != ALL,
            least: usize::from(least),
            most: usize::from(most),
        };
        (begun.len(), blocked)
    })
}

/// The number of arguments written at the entry, and the range of their number.
fn known(called: &[u8]) -> Option<(u8, u8, u8)> {
    if let Some((_, before, least, most)) = CALLS.iter().find(|(name, ..)| *name == called) {
        return Some((*before, *least, *most));
    }
    let name = std::str::from_utf8(called).ok()?;
    let found = syscall::by_name(name).or_else(|| syscall::by_name_in(Abi::I386, name))?;
    let shown = found.args.iter().filter(|arg| !arg.hidden).count();
    let count = u8::try_from(shown).ok()?;
    Some((ALL, count, count))
}

/// Skips so many arguments and the comma behind them.
fn some<'a>(cx: &mut Context, i: &'a [u8], count: u8) -> Option<&'a [u8]> {
    let mut rest = i;
    for _ in 0..count {
        let after = argument(cx, rest).ok()?.0;
        rest = after.strip_prefix(b",")?;
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    (!cx.has_doubts()).then_some(rest)
}

/// Skips all arguments, where no text of strace's follows the last.
fn all<'a>(cx: &mut Context, i: &'a [u8], least: u8, most: u8) -> Option<&'a [u8]> {
    let mut rest = i;
    for nth in 1..=most {
        if nth < most
            && let Ok((after, arg)) = argument(cx, rest)
            && !cx.has_doubts()
            && !matches!(arg.meaning(), Value::Sym { value: None, .. })
            && let Some(after) = after.strip_prefix(b", ")
        {
            rest = after;
            continue;
        }
        cx.take_doubts();
        if nth < least {
            return None;
        }
        rest = after_value(rest)?;
        break;
    }
    // Too many arguments: the call is garbled.
    (!matches!(rest.first(), Some(b',' | b'|' | b'=' | b')'))).then_some(rest)
}

/// Skips a value that foreign text may follow without a gap: `NULLhello`, `-1hello`, `{tv_sec=1}hello`.
fn after_value(i: &[u8]) -> Option<&[u8]> {
    let i = name(i).map_or(i, |(rest, _)| rest);
    let rest = match i {
        [b'{' | b'[', ..] => bracketed(i).ok()?.0,
        [b'~', inside @ ..] if inside.first() == Some(&b'[') => bracketed(inside).ok()?.0,
        [b'"', ..] => {
            let rest = string(i).ok()?.0;
            rest.strip_prefix(b"...").unwrap_or(rest)
        }
        [b'<', ..] => close_path(i).ok()?.0,
        [b'0', b'x', digits @ ..] => {
            let hex = digits.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            &digits[hex..]
        }
        [b'-', digits @ ..] => number(digits)?,
        [b'0'..=b'9', ..] => number(i)?,
        _ => after_constant(i)?,
    };
    // The text of -y, and comments.
    let rest = match rest.first() {
        Some(b'<') => close_path(rest).map_or(rest, |(rest, ())| rest),
        _ => rest,
    };
    match rest {
        [b' ', b'/', b'*', ..] => comment(&rest[1..]).map_or(Some(rest), |(rest, ())| Some(rest)),
        _ => Some(rest),
    }
}

fn number(i: &[u8]) -> Option<&[u8]> {
    let taken: Res<'_, _> = digit1(i);
    taken.ok().map(|(rest, _)| rest)
}

/// Skips the longest known constants, alone or joined.
fn after_constant(i: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 128;
    let (words, _) = term(i);
    let words = std::str::from_utf8(words.get(..LONGEST).unwrap_or(words)).ok()?;
    let known = |len: &usize| {
        words.get(..*len).is_some_and(|text| {
            text == "NULL" || (!text.ends_with('|') && constants::eval(text).is_some())
        })
    };
    let len = (1..=words.len()).rev().find(known)?;
    i.get(len..)
}

/// The offset of a call's result in a line: the closing parenthesis in front of `= `.
fn closing(i: &[u8]) -> Option<usize> {
    memmem::rfind_iter(i, b"= ").take(4).find_map(|equals| {
        let before = i.get(..equals)?.trim_ascii_end();
        before.ends_with(b")").then(|| before.len() - 1)
    })
}

/// Whether a call's result is in this text.
pub(in crate::strace) fn has_result(i: &[u8]) -> bool {
    closing(i).is_some()
}

impl BlockedCall {
    /// The offset in this text at which the rest of the call begins, if it is there.
    pub(in crate::strace) fn end(&self, cx: &mut Context, i: &[u8]) -> Option<usize> {
        let closing = closing(i)?;
        if !self.more {
            // The parenthesis must not belong to the foreign text.
            let open = |b: u8| memchr::memchr_iter(b, &i[..closing]).count();
            let fits = open(b'(') <= open(b')') && self.fits(cx, &i[closing..]);
            return fits.then_some(closing);
        }
        let begins = |at: &usize| {
            let i = i.get(*at..).unwrap_or_default();
            matches!(i.first(), Some(b'[' | b'{' | b'"'))
                || i.starts_with(b"NULL")
                || i.starts_with(b"0x")
        };
        let inside = (1..closing).filter(begins).take(MOST_TRIED);
        let mut tried = std::iter::once(0).chain(inside);
        tried.find(|at| self.fits(cx, &i[*at..]))
    }

    /// Whether a call with this rest is understood without a doubt.
    fn fits(&self, cx: &mut Context, rest: &[u8]) -> bool {
        let joined = [&self.begun, rest].concat();
        let fits = match line::call(cx, &joined) {
            Ok((_, whole)) => {
                let args = &whole.args;
                !cx.has_doubts()
                    && (self.least..=self.most).contains(&args.len())
                    && args.iter().all(is_plausible)
            }
            Err(_) => false,
        };
        cx.take_doubts();
        fits
    }

    /// The relation of this line to the call.
    pub(in crate::strace) fn next(&self, cx: &mut Context, i: &[u8]) -> Next {
        let is_line = match line::line(cx, i) {
            Ok((_, (_, Line::Call(text)))) => {
                let whole = line::call(cx, text).is_ok() && !cx.has_doubts();
                cx.take_doubts();
                whole || begun(cx, text).is_some()
            }
            Ok((_, (_, Line::Other(_) | Line::Tail(_)))) | Err(_) => false,
            Ok(_) => true,
        };
        cx.take_doubts();
        match self.end(cx, i).or_else(|| unfinished(i)) {
            _ if is_line => Next::Line,
            Some(at) => Next::End(at),
            None => Next::Foreign,
        }
    }
}

/// The offset of the mark in a line that the call is resumed later or given up.
fn unfinished(i: &[u8]) -> Option<usize> {
    let trimmed = i.trim_ascii_end();
    let mark = [&b"<unfinished ...>"[..], b"<detached ...>"]
        .into_iter()
        .find(|mark| trimmed.ends_with(mark))?;
    let at = trimmed.len() - mark.len();
    let at = at - usize::from(trimmed[..at].ends_with(b" "));
    // A line of another task has another call.
    (line::begins_call(&trimmed[..at]).is_none()).then_some(at)
}

/// Whether a text may be an argument: a word in lower case is foreign text.
fn is_plausible(arg: &Value) -> bool {
    match arg.meaning() {
        Value::Sym { text, value: None } => text.starts_with(|c: char| !c.is_ascii_lowercase()),
        _ => true,
    }
}

/// The foreign text in the first part of a call, from its first byte on.
pub(in crate::strace) fn foreign(cx: &mut Context, text: &[u8]) -> Option<usize> {
    let (at, _) = begun(cx, text)?;
    let inside = text.get(at..)?.trim_ascii();
    if inside.is_empty() {
        return None;
    }
    cx.take_doubts();
    // With -e raw=, all arguments are written at once, as numbers.
    let closed = [text, b")"].concat();
    let mut args = Vec::new();
    let own = line::call_name(&closed).is_ok_and(|(rest, called)| {
        cx.labels = line::has_labels(called);
        line::arguments(cx, rest, &mut args).is_ok()
    });
    let own = own && !cx.has_doubts() && args.iter().all(is_plausible);
    cx.take_doubts();
    (!own).then_some(at)
}
