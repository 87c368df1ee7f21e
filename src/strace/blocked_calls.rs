//! What other programs write into the midst of a call that waits, where strace's text goes to the same terminal:
//!
//! ```text
//! wait4(-1, compiling
//! linking
//! [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 4102
//! ```
//!
//! Or what the terminal shows of what is typed meanwhile: `read(0, ^C"", 1024) = 0`.
//!
//! strace writes the beginning of a call when it is made: what goes in. What comes out, and the result, follow when it
//! returns. Which arguments are which is known of the calls that wait; of the others strace writes all of them at once.

use super::context::Context;
use super::line_grammar::{self, Line};
use super::tokens::*;
use super::value::{argument, name};
use crate::syscall::{self, Abi, consts};
use crate::trace::Value;
use memchr::memmem;
use nom::character::complete::digit1;

/// No call is longer up to where it waits; what is looked at again at each line must be short.
const LONGEST: usize = 1 << 12;
/// How many places in a line are tried as the beginning of what comes out of a call.
const MOST_TRIED: usize = 16;
/// All arguments go in.
const ALL: u8 = u8::MAX;

/// Calls that wait: how many arguments are written before they do, and how many they have at least and at most.
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

/// A call that has begun: what is known of its end.
#[derive(Clone, Debug)]
pub(super) struct BlockedCall {
    /// Its text up to where it waits.
    begun: Vec<u8>,
    /// Whether arguments follow.
    more: bool,
    least: usize,
    most: usize,
}

/// What a line is to a call that waits.
pub(super) enum Next {
    /// Somebody else's.
    Foreign,
    /// The end of the call, from this byte on.
    End(usize),
    /// A line of strace's: the call does not end.
    Line,
}

/// The call that begins with this text: how long its own part of that is.
pub(super) fn begun(cx: &mut Context, text: &[u8]) -> Option<(usize, BlockedCall)> {
    let (inside, called) = line_grammar::call_name(text).ok()?;
    let (before, least, most) = known(called)?;
    cx.take_doubts();
    cx.labels = line_grammar::has_labels(called);
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

/// How many arguments are written at first, and how many there are.
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

/// What follows so many arguments and the comma behind them.
fn some<'a>(cx: &mut Context, i: &'a [u8], count: u8) -> Option<&'a [u8]> {
    let mut rest = i;
    for _ in 0..count {
        let after = argument(cx, rest).ok()?.0;
        rest = after.strip_prefix(b",")?;
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    (!cx.has_doubts()).then_some(rest)
}

/// What follows all arguments, of which the last is not followed by anything of strace's.
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
    // More arguments than there are belong to a call that is garbled.
    (!matches!(rest.first(), Some(b',' | b'|' | b'=' | b')'))).then_some(rest)
}

/// What follows a value to which text may be stuck: `NULLhello`, `-1hello`, `{tv_sec=1}hello`.
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
    // What -y says, and comments.
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

/// The longest constants that are known, alone or with others.
fn after_constant(i: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 128;
    let (words, _) = term(i);
    let words = std::str::from_utf8(words.get(..LONGEST).unwrap_or(words)).ok()?;
    let known = |len: &usize| {
        words.get(..*len).is_some_and(|text| {
            text == "NULL" || (!text.ends_with('|') && consts::eval(text).is_some())
        })
    };
    let len = (1..=words.len()).rev().find(known)?;
    i.get(len..)
}

/// Where the result of a call is in a line: at the closing parenthesis in front of `= `.
fn closing(i: &[u8]) -> Option<usize> {
    memmem::rfind_iter(i, b"= ").take(4).find_map(|equals| {
        let before = i.get(..equals)?.trim_ascii_end();
        before.ends_with(b")").then(|| before.len() - 1)
    })
}

/// Whether a call's result is in this text.
pub(super) fn has_result(i: &[u8]) -> bool {
    closing(i).is_some()
}

impl BlockedCall {
    /// Where in this text the rest of the call begins, if it is there.
    pub(super) fn end(&self, cx: &mut Context, i: &[u8]) -> Option<usize> {
        let closing = closing(i)?;
        if !self.more {
            // The parenthesis must not be one of what was written into the call.
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
        let fits = match line_grammar::call(cx, &joined) {
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

    /// What this line is to the call.
    pub(super) fn next(&self, cx: &mut Context, i: &[u8]) -> Next {
        let is_line = match line_grammar::line(cx, i) {
            Ok((_, (_, Line::Call(text)))) => {
                let whole = line_grammar::call(cx, text).is_ok() && !cx.has_doubts();
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

/// Where a line says that the call before it goes on later, or is given up.
fn unfinished(i: &[u8]) -> Option<usize> {
    let trimmed = i.trim_ascii_end();
    let mark = [&b"<unfinished ...>"[..], b"<detached ...>"]
        .into_iter()
        .find(|mark| trimmed.ends_with(mark))?;
    let at = trimmed.len() - mark.len();
    let at = at - usize::from(trimmed[..at].ends_with(b" "));
    // A line of another task's has a call of its own.
    (line_grammar::begins_call(&trimmed[..at]).is_none()).then_some(at)
}

/// Whether this may be an argument: a word in small letters is text that happens to stand where one should.
fn is_plausible(arg: &Value) -> bool {
    match arg.meaning() {
        Value::Sym { text, value: None } => text.starts_with(|c: char| !c.is_ascii_lowercase()),
        _ => true,
    }
}

/// Of a call that goes on later, what its text has that is not its own: from the byte where that begins.
pub(super) fn foreign(cx: &mut Context, text: &[u8]) -> Option<usize> {
    let (at, _) = begun(cx, text)?;
    let inside = text.get(at..)?.trim_ascii();
    if inside.is_empty() {
        return None;
    }
    cx.take_doubts();
    // With -e raw=, all arguments are written at once, as numbers.
    let closed = [text, b")"].concat();
    let mut args = Vec::new();
    let own = line_grammar::call_name(&closed).is_ok_and(|(rest, called)| {
        cx.labels = line_grammar::has_labels(called);
        line_grammar::arguments(cx, rest, &mut args).is_ok()
    });
    let own = own && !cx.has_doubts() && args.iter().all(is_plausible);
    cx.take_doubts();
    (!own).then_some(at)
}
