//! The grammar of results: the text behind a call's closing parenthesis.

use super::context::Context;
use super::prefix::fraction;
use super::scalar::{decimal, text};
use super::tokens::*;
use super::user_comments::begins_note;
use super::value::value;
use crate::constants;
use crate::trace::{Answer, Field, Tampering, Value};
use memchr::memchr;
use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{digit1, hex_digit1};
use nom::combinator::recognize;
use nom::sequence::preceded;
use std::time::Duration;

/// The kernel's numbers of the results that strace writes as `? ERESTART…`, with strace's explanations.
pub(in crate::strace) const RESTARTS: [(i32, &str, &str); 4] = [
    (512, "ERESTARTSYS", "To be restarted if SA_RESTART is set"),
    (513, "ERESTARTNOINTR", "To be restarted"),
    (514, "ERESTARTNOHAND", "To be restarted if no handler"),
    (516, "ERESTART_RESTARTBLOCK", "Interrupted by signal"),
];

/// A parsed result.
#[derive(Debug, PartialEq)]
pub(in crate::strace) struct ParsedResult {
    pub answer: Answer,
    pub notes: Vec<Field>,
    pub tampering: Tampering,
    pub spent: Option<Duration>,
}

/// ` = 3</etc/passwd> (flags …) (INJECTED) <0.000012>`, up to the end of the line.
pub(in crate::strace) fn answer<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, ParsedResult> {
    let mut found = ParsedResult {
        answer: Answer::Never,
        notes: Vec::new(),
        tampering: Tampering::default(),
        spent: None,
    };
    let i = match blanks(i) {
        // Version 4 on i386: `sigreturn() (mask [HUP INT]) = 0`.
        [b'(', inside @ ..] if inside.starts_with(b"mask ") => {
            blanks(noted(cx, inside, &mut found.notes)?.0)
        }
        other => other,
    };
    let Some(rest) = i.strip_prefix(b"=") else {
        return expected(i, "`=` and a result");
    };
    let i = blanks(rest);
    let (rest, answer) = match i {
        [b'?', rest @ ..] => unknown(rest)?,
        [b'-', b'1', b' ', rest @ ..] if matches!(rest.first(), Some(b'E')) => failed(rest)?,
        [b'-', b'1', b' ', rest @ ..] if rest.starts_with(b"(errno ") => {
            let (rest, number) = digit1.parse(&rest[b"(errno ".len()..])?;
            // strace shows other values as errnos where it loses its place: `(errno 18446744073709551554)` is 62.
            let errno = std::str::from_utf8(number).ok();
            let errno = errno.and_then(|text| text.parse::<u64>().ok());
            match (rest.strip_prefix(b")"), errno) {
                (Some(rest), Some(errno)) => {
                    let raw = (errno as i64).wrapping_neg();
                    (rest, Answer::from_raw(raw))
                }
                _ => return expected(rest, "`)` behind an errno"),
            }
        }
        _ => {
            let (rest, value) = returned(i)?;
            match rest {
                [b'<', ..] => {
                    let (rest, path) = path(rest)?;
                    if let Ok(fd) = i32::try_from(value) {
                        let path = Some(path);
                        found.notes.push(Field::new("", Value::Fd { fd, path }));
                    }
                    (rest, Answer::Value(value))
                }
                // The 32-bit -1 that a few calls return: `4294967258 ENOSYS (…)`.
                [b' ', errno @ ..] if errno.first() == Some(&b'E') => failed(errno)?,
                _ => (rest, Answer::Value(value)),
            }
        }
    };
    found.answer = answer;
    let rest = tail(cx, rest, &mut found)?.0;
    Ok((rest, found))
}

fn number_of(digits: &[u8]) -> Option<i64> {
    let errno: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    constants::is_error(-errno).then_some(errno)
}

/// Parses the text behind `?`: an `ERESTART…`, `<unavailable>`, or nothing.
fn unknown(start: &[u8]) -> Res<'_, Answer> {
    let i = blanks(start);
    if let Some(rest) = i.strip_prefix(b"<unavailable>") {
        return Ok((rest, Answer::Never));
    }
    let (rest, name) = word(i)?;
    if name.is_empty() {
        return Ok((start, Answer::Never));
    }
    match RESTARTS.iter().find(|r| r.1.as_bytes() == name) {
        Some(restart) => Ok((explained(rest), Answer::Restart(restart.0))),
        None => expected(i, "the name of a restart"),
    }
}

/// Parses the text behind `-1 `: an errno's name and its description.
fn failed(i: &[u8]) -> Res<'_, Answer> {
    let (rest, name) = word(i)?;
    let after = explained(rest);
    // Numbers without a name in the C library, such as ENOTSUPP, are given in the text.
    let number = || {
        until(rest, after)
            .strip_prefix(b" (Unknown error ")?
            .strip_suffix(b")")
            .and_then(number_of)
    };
    let known = std::str::from_utf8(name).ok().and_then(constants::errno);
    match known.map(i64::from).or_else(number) {
        Some(errno) => Ok((after, Answer::from_raw(-errno))),
        None => expected(i, "the name of an errno"),
    }
}

/// Skips an explanation in parentheses.
fn explained(i: &[u8]) -> &[u8] {
    match i.strip_prefix(b" (") {
        Some(text) => memchr(b')', text).map_or(i, |n| &text[n + 1..]),
        None => i,
    }
}

/// Parses a returned number in any base.
fn returned(i: &[u8]) -> Res<'_, i64> {
    if let Some(rest) = i.strip_prefix(b"NULL") {
        return Ok((rest, 0));
    }
    let (rest, digits) = match i {
        [b'0', b'x', ..] => recognize(preceded(tag("0x"), hex_digit1)).parse(i)?,
        _ => match decimal(i) {
            Ok((rest, digits @ ([b'0'] | [b'1'..=b'9', ..]))) if digits.len() <= 18 => {
                let value = digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0'));
                return Ok((rest, value));
            }
            Ok(found) => found,
            Err(_) => return expected(i, "a result"),
        },
    };
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| match digits {
            [b'0', b'x', ..] => u64::from_str_radix(&text[2..], 16).ok().map(|v| v as i64),
            [b'0', _, ..] => u64::from_str_radix(text, 8).ok().map(|v| v as i64),
            _ => text
                .parse()
                .ok()
                .or_else(|| text.parse::<u64>().ok().map(|v| v as i64)),
        });
    match number {
        Some(number) => Ok((rest, number)),
        None => expected(i, "a number of 64 bits"),
    }
}

/// Parses the text behind a result: notes, marks of tampering, comments, the time spent.
fn tail<'a>(cx: &mut Context, i: &'a [u8], found: &mut ParsedResult) -> Res<'a, ()> {
    let start = i;
    let mut i = gap(i)?.0;
    loop {
        i = match i {
            [] => return Ok((i, ())),
            // User comments follow a blank.
            [b, ..] if !matches!(b, b'(' | b'[') && i.len() < start.len() && begins_note(i) => {
                return Ok((&[], ()));
            }
            [b'(', rest @ ..] if rest.starts_with(b"INJECTED") || rest.starts_with(b"DELAYED") => {
                let (rest, mark) = bracketed(i)?;
                let tampering = &mut found.tampering;
                match mark {
                    b"(INJECTED)" => tampering.answer = true,
                    b"(INJECTED: args)" => tampering.args = true,
                    b"(INJECTED: args, retval)" => {
                        (tampering.answer, tampering.args) = (true, true)
                    }
                    b"(DELAYED)" => tampering.delayed = true,
                    _ => return expected(i, "what was injected"),
                }
                rest
            }
            [b'(', b')', rest @ ..] => rest,
            // The security context of the file behind a returned descriptor.
            [b'[', rest @ ..] => match memchr(b']', rest).map(|n| rest.split_at(n)) {
                Some((context, rest)) if context.contains(&b':') => &rest[1..],
                _ => return expected(i, "the end of the line"),
            },
            [b'(', rest @ ..] => noted(cx, rest, &mut found.notes)?.0,
            [b'<', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => {
                let (after, seconds) = digit1.parse(rest)?;
                let seconds = std::str::from_utf8(seconds)
                    .ok()
                    .and_then(|t| t.parse().ok());
                match (seconds, fraction(after)) {
                    (Some(seconds), Some(([b'>', rest @ ..], nanoseconds))) => {
                        found.spent = Some(Duration::new(seconds, nanoseconds));
                        rest
                    }
                    _ => return expected(after, "`>`"),
                }
            }
            _ => return expected(i, "the end of the line"),
        };
        i = gap(i)?.0;
    }
}

/// Parses notes up to the closing parenthesis.
fn noted<'a>(cx: &mut Context, i: &'a [u8], notes: &mut Vec<Field>) -> Res<'a, ()> {
    let mut rest = i;
    loop {
        rest = blanks(rest);
        let (after, name) = take_while1(|b: u8| b.is_ascii_lowercase() || b == b'_')
            .parse(rest)
            .unwrap_or_else(|_: nom::Err<Expected<'_>>| (rest, b"".as_slice()));
        let (after, name) = match after {
            // The only names of more than one word.
            [b' ', b'm', b'a', b's', b'k', b' ', after @ ..] if name == b"old" => {
                (after, b"old mask".as_slice())
            }
            [b' ', b'n', b'o', b'w', b' ', after @ ..] if name == b"mask" => {
                (after, b"mask now".as_slice())
            }
            [b' ' | b':' | b'=', after @ ..] if !name.is_empty() && !at_end(after) => (after, name),
            _ => (rest, b"".as_slice()),
        };
        let (after, value) = match date(after) {
            Some((rest, date)) => {
                let text = text(cx, date);
                (rest, Value::Sym { text, value: None })
            }
            None => value(cx, after)?,
        };
        notes.push(Field::new(text(cx, name), value));
        rest = match after {
            [b',', after @ ..] => after,
            [b')', after @ ..] => return Ok((after, ())),
            _ => return expected(after, "`)`"),
        };
    }
}

/// Parses a date that fills the parentheses: `2026-11-23T15:33:30+0000`.
fn date(i: &[u8]) -> Option<(&[u8], &[u8])> {
    let in_date = |b: u8| b.is_ascii_digit() || b"-T:.+".contains(&b);
    let taken: Res<'_, _> = take_while1(in_date).parse(i);
    let (rest, date) = taken.ok()?;
    let fits = date.first().is_some_and(u8::is_ascii_digit) && date.get(10) == Some(&b'T');
    (fits && rest.first() == Some(&b')')).then_some((rest, date))
}
