//! The prefix of a line: pid, command, security context, times, the call's number, its address.

use super::pasted;
use super::tokens::*;
use crate::trace::{LineInfo, Timestamp};
use nom::Parser;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::digit1;
use std::time::Duration;

/// The columns in front of a line.
#[derive(Debug, Default, PartialEq)]
pub(in crate::strace) struct Prefix {
    /// The task, or 0 where there is no such column.
    pub tid: i32,
    pub command: Option<Box<[u8]>>,
    pub context: Option<Box<[u8]>>,
    pub when: Option<Timestamp>,
    pub since: Option<Duration>,
    pub number: Option<u64>,
    pub address: Option<u64>,
}

impl Prefix {
    /// The prefix as line info, with the text in front of the entry and behind it.
    pub(in crate::strace) fn line_info(self, front: &[u8], back: &[u8]) -> Box<LineInfo> {
        let mut line_info = LineInfo::new(front, back);
        line_info.command = self.command;
        line_info.context = self.context;
        line_info.when = self.when;
        line_info.since = self.since;
        line_info.number = self.number;
        line_info.address = self.address;
        Box::new(line_info)
    }
}

/// Parses the prefix.
pub(in crate::strace) fn prefix(i: &[u8]) -> Res<'_, Prefix> {
    let mut found = Prefix::default();
    let start = pasted::unquoted(i);
    let mut rest = blanks(start);
    if let Some(inside) = rest.strip_prefix(b"[pid ") {
        let after = pid(blanks(inside), &mut found)?.0;
        match blanks(after).strip_prefix(b"]") {
            Some(after) => rest = blanks(after),
            None => return expected(after, "`]`"),
        }
    } else if rest.first().is_some_and(u8::is_ascii_digit) && !is_seconds(until(start, rest), rest)
    {
        match pid(rest, &mut found) {
            Ok((after, ())) if matches!(after.first(), Some(b' ' | b'\t')) => rest = gap(after)?.0,
            _ => found = Prefix::default(),
        }
    }
    rest = blanks(rest);
    // The address and the number look alike, but for their places and lengths; the context is neither.
    while let [first @ (b'0'..=b'9' | b'(' | b'['), ..] = rest {
        rest = match first {
            b'[' => match bracket(rest, &mut found) {
                Ok((after, ())) => after,
                Err(_) => break,
            },
            _ => match time(rest, &mut found) {
                Some(after) => after,
                None => break,
            },
        };
    }
    Ok((rest, found))
}

/// Whether a number behind these blanks is a relative timestamp of `--relative-timestamps=s`, six columns wide: whole
/// seconds since the last line. A number above 99 is a pid in a text that was indented.
fn is_seconds(blanks: &[u8], i: &[u8]) -> bool {
    let digits = i.iter().take_while(|b| b.is_ascii_digit()).count();
    digits < 3 && !blanks.is_empty() && blanks.len() + digits == 6
}

/// Parses a pid, with the command that `-Y` writes behind it. A pid has at most seven digits; `-ttt` has ten.
fn pid<'a>(i: &'a [u8], found: &mut Prefix) -> Res<'a, ()> {
    let (rest, digits) = digit1.parse(i)?;
    if digits.len() > 7 {
        return expected(i, "a pid");
    }
    found.tid = digits.iter().fold(0, |n, d| n * 10 + i32::from(d - b'0'));
    if rest.first() != Some(&b'<') {
        return Ok((rest, ()));
    }
    let (rest, command) = path(rest)?;
    found.command = Some(command.into());
    Ok((rest, ()))
}

/// Parses a time, with the blanks behind it.
fn time<'a>(i: &'a [u8], found: &mut Prefix) -> Option<&'a [u8]> {
    let (start, relative) = match i.strip_prefix(b"(+") {
        Some(inside) => (blanks(inside), true),
        None => (i, false),
    };
    let taken: Res<'_, _> = take_while1(|b: u8| b.is_ascii_digit() || b == b':').parse(start);
    let (rest, whole) = taken.ok()?;
    let (rest, nanoseconds) = fraction(rest)?;
    let rest = match relative {
        true => rest.strip_prefix(b")")?,
        false => rest,
    };
    if !matches!(rest.first(), Some(b' ' | b'\t')) {
        return None;
    }
    if let [a @ b'0'..=b'9', b, b':', c, d, b':', e, f] = whole {
        let two = |tens: &u8, ones: &u8| {
            u32::from(tens.wrapping_sub(b'0')) * 10 + u32::from(ones.wrapping_sub(b'0'))
        };
        let seconds = two(a, b) * 3600 + two(c, d) * 60 + two(e, f);
        found.when = Some(Timestamp::Clock {
            seconds,
            nanoseconds,
        });
    } else {
        let seconds: u64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        // More than three years are a date, not a time since the last line.
        if relative || whole.len() < 9 {
            found.since = Some(Duration::new(seconds, nanoseconds));
        } else {
            found.when = Some(Timestamp::Epoch {
                seconds,
                nanoseconds,
            });
        }
    }
    Some(blanks(rest))
}

/// Parses an optional fraction of a second, in nanoseconds.
pub(in crate::strace) fn fraction(i: &[u8]) -> Option<(&[u8], u32)> {
    let Some(rest) = i.strip_prefix(b".") else {
        return Some((i, 0));
    };
    let taken: Res<'_, _> = digit1.parse(rest);
    let (rest, digits) = taken.ok()?;
    let parts = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = parts.fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    (digits.len() <= 9).then_some((rest, nanoseconds))
}

/// Parses the call's number (`-n`: `[  59]`), its address (`-i`: `[00007fc60956dad7]`), or the security context.
fn bracket<'a>(i: &'a [u8], found: &mut Prefix) -> Res<'a, ()> {
    let inside = i.get(1..).unwrap_or_default();
    let (after, text) = take_while(|b| !matches!(b, b']' | b'"' | b'\n')).parse(inside)?;
    let Some(rest @ [b' ', ..]) = after.strip_prefix(b"]") else {
        return expected(after, "`]`");
    };
    let text_of = |bytes| std::str::from_utf8(bytes).ok();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    match text {
        b"????????" | b"????????????????" => {}
        [b'0'..=b'9' | b'a'..=b'f', ..] if text.len() >= 8 && !text.contains(&b':') => {
            found.address = text_of(text).and_then(hex);
        }
        _ if text.contains(&b':') && !text.contains(&b' ') => found.context = Some(text.into()),
        _ => match text_of(text.trim_ascii_start()).map(str::parse) {
            Some(Ok(number)) => found.number = Some(number),
            // `[????]`, or the address of older versions, padded with blanks.
            _ if text
                .iter()
                .all(|b| b.is_ascii_hexdigit() || b"? ".contains(b)) => {}
            _ => return expected(i, "a call's number or address"),
        },
    }
    Ok((blanks(rest), ()))
}
