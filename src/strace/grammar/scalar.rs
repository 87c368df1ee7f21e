//! The grammar of single values: numbers, strings, descriptors, symbolic expressions.
//!
//! Each parser notes in the context whether the spelling of its value differs from ours.

use super::context::Context;
use super::tokens::*;
use crate::trace::Value;
use memchr::memmem;
use nom::Parser;
use nom::bytes::complete::{tag, take_while};
use nom::character::complete::digit1;
use nom::combinator::{opt, recognize};
use nom::sequence::preceded;

/// The number of `AT_FDCWD`.
const AT_FDCWD: i32 = -100;
/// Operators between the terms of an expression, with or without blanks around them.
const OPERATORS: [&[u8]; 9] = [
    b"|", b"<<", b"*", b"+", b" or ", b" * ", b" + ", b" - ", b" | ",
];
/// Operators of wait statuses.
const CONDITIONS: [&[u8]; 2] = [b" && ", b" == "];

/// Converts text that need not be UTF-8 to a string.
pub(in crate::strace) fn text(cx: &mut Context, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            cx.odd = true;
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// Parses a string, and the ellipsis behind a cut one.
pub(in crate::strace) fn quoted<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let (rest, (bytes, usual)) = string(i)?;
    cx.odd |= !usual;
    let (rest, cut) = match rest.strip_prefix(b"...") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    Ok((rest, Some(Value::Str { bytes, cut })))
}

/// Parses a character: `'a'`, `'\'`.
pub(in crate::strace) fn character<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let Some(rest) = after_character(i) else {
        return Ok((i, None));
    };
    let written = until(i, rest);
    let inside = unescaped(&written[1..written.len() - 1]);
    let value = match *inside {
        [byte] => Some(i64::from(byte)),
        _ => None,
    };
    let text = text(cx, written);
    Ok((rest, Some(Value::Sym { text, value })))
}

/// Parses placeholders (`<unavailable>`, `<... resuming interrupted read ...>`) and escaped bytes without quotes.
pub(in crate::strace) fn unquoted<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    if let Some(rest) = i.strip_prefix(b"...") {
        // Omitted members between others.
        return Ok((rest, Some(Value::Raw("...".to_owned()))));
    }
    if i.first() == Some(&b'\\') {
        let ends = |b: u8| b" ,)]}\"".contains(&b);
        let (rest, written) = take_while(|b| !ends(b)).parse(i)?;
        cx.odd = true;
        return Ok((rest, Some(Value::str(unescaped(written)))));
    }
    let shown = |b: u8| is_word(b) || b" .?".contains(&b);
    let (rest, _) = take_while(shown).parse(&i[1..])?;
    match rest.strip_prefix(b">") {
        Some(rest) => {
            let found = Value::Raw(text(cx, until(i, rest)));
            Ok((rest, Some(found)))
        }
        None => Ok((i, None)),
    }
}

/// Parses values that begin with a digit or a minus sign: a number, a descriptor with its path, a date,
/// an expression (`8192*1024`, `1<<CAP_CHOWN`, `0x4|MSG_X`), a hardware address.
pub(in crate::strace) fn number<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let sign = usize::from(i.first() == Some(&b'-'));
    let digits = i
        .iter()
        .skip(sign)
        .take_while(|b| b.is_ascii_alphanumeric());
    let (digits, rest) = i.split_at(sign + digits.count());
    match rest {
        [] | [b',' | b')' | b']' | b'}', ..] => {}
        [b'<', b'<', ..] | [b'|' | b'*' | b'_' | b'+' | b'?', ..] => return symbolic(cx, i),
        [b'<', ..] => {
            let Some(Ok(fd)) = std::str::from_utf8(digits).ok().map(str::parse) else {
                return Ok((rest, None));
            };
            // Our spelling has the name, which `-X raw` omits.
            cx.odd |= is_odd_decimal(digits) || fd == AT_FDCWD;
            return descriptor(cx, rest, fd);
        }
        [b'/', next, ..] if next.is_ascii_digit() => {
            let date = |b: u8| b.is_ascii_digit() || b"/-:.".contains(&b);
            let (rest, date) = take_while(date).parse(i)?;
            return Ok((rest, Some(symbol(cx, date))));
        }
        [b'.', ..] => return version(cx, i),
        [b':', ..] => return address(cx, i, 2, b':'),
        [b'-', next, ..] if *next != b'>' => return address(cx, i, 5, b'-'),
        [b' ', ..] if goes_on(rest) => return symbolic(cx, i),
        // `-100 /* AT_FDCWD */</root>`.
        [b' ', b'/', b'*', ..] => {
            let after = gap(rest)?.0;
            let fd = std::str::from_utf8(digits).ok().map(str::parse);
            if let (Some(Ok(fd)), [b'<', ..], true) =
                (fd, after, until(rest, after).ends_with(b"/"))
            {
                cx.odd = true;
                return descriptor(cx, after, fd);
            }
        }
        _ => {}
    }
    Ok(match plain(cx, digits) {
        // `-EINVAL`.
        None if digits.get(1).is_some_and(|b| b.is_ascii_uppercase()) => {
            return symbolic(cx, i);
        }
        found => (rest, found),
    })
}

/// `4.1.2`.
fn version<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let (rest, written) = take_while(|b: u8| b.is_ascii_digit() || b == b'.').parse(i)?;
    let parts = written.split(|&b| b == b'.');
    let (text, value) = (text(cx, written), None);
    let found = parts.clone().count() > 2 && parts.into_iter().all(|part| !part.is_empty());
    Ok((rest, found.then_some(Value::Sym { text, value })))
}

/// Parses the rest of a descriptor from its path on (`-y`), or of a process from its command on (`-Y`).
fn descriptor<'a>(cx: &mut Context, i: &'a [u8], fd: i32) -> Res<'a, Option<Value>> {
    let (rest, path) = path(i)?;
    cx.odd |= !is_usual_path(until(i, rest), &path);
    let path = Some(path);
    Ok((rest, Some(Value::Fd { fd, path })))
}

/// Parses pairs of hexadecimal digits with colons between them, or a UUID: at least so many parts.
fn address<'a>(cx: &mut Context, i: &'a [u8], parts: usize, between: u8) -> Res<'a, Option<Value>> {
    let (rest, written) = take_while(|b: u8| b.is_ascii_hexdigit() || b == between).parse(i)?;
    let found = written.split(|&b| b == between);
    let (mut count, mut whole) = (0, true);
    for part in found {
        count += 1;
        whole &= match between {
            b':' => part.len() == 2,
            _ => part.len() >= 4,
        };
    }
    match whole && count >= parts {
        true => {
            let value = None;
            let text = text(cx, written);
            Ok((rest, Some(Value::Sym { text, value })))
        }
        false => Ok((rest, None)),
    }
}

/// Pairs of hexadecimal digits, with a letter among them.
fn is_hex_bytes(i: &[u8]) -> bool {
    !i.is_empty() && i.len().is_multiple_of(2) && i.iter().all(u8::is_ascii_hexdigit)
}

fn is_odd_decimal(digits: &[u8]) -> bool {
    matches!(digits, [b'0', _, ..] | [b'-', b'0', ..])
}

/// A number without an operator or unit.
fn plain(cx: &mut Context, digits: &[u8]) -> Option<Value> {
    // The most common form.
    if let [b'1'..=b'9', ..] | [b'0'] = digits
        && digits.len() <= 18
        && digits.iter().all(u8::is_ascii_digit)
    {
        let value = digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0'));
        return Some(Value::Int(value));
    }
    let text = std::str::from_utf8(digits).ok()?;
    // `scope=-0x2`: a signed constant under `-X raw`.
    if let Some(hex) = text.strip_prefix("-0x") {
        let value = u64::from_str_radix(hex, 16).ok()?;
        return Some(Value::Sym {
            text: text.to_owned(),
            value: Some((value as i64).wrapping_neg()),
        });
    }
    let beyond = || {
        let text = text.to_owned();
        Some(Value::Sym { text, value: None })
    };
    if let Some(hex) = text.strip_prefix("0x") {
        let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let usual = !hex.starts_with('0') && hex.as_bytes().iter().all(lower);
        cx.odd |= !usual;
        return match u64::from_str_radix(hex, 16) {
            Ok(value) => Some(Value::Addr(value)),
            Err(_) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => beyond(),
            Err(_) => None,
        };
    }
    if let [b'0', octal @ ..] = digits
        && !octal.is_empty()
    {
        let around = cx.odd;
        let usual = match octal {
            [_] => false,
            [b'0', _] => true,
            [first, ..] => *first != b'0',
            [] => true,
        };
        cx.odd |= !usual;
        let all = octal.iter().all(|b| (b'0'..=b'7').contains(b));
        if !all && is_hex_bytes(digits) {
            cx.odd = around;
            return beyond();
        }
        return all.then(|| u64::from_str_radix(text, 8).ok().map(Value::Octal))?;
    }
    match text.parse::<i64>() {
        Ok(value) => {
            cx.odd |= is_odd_decimal(digits);
            Some(Value::Int(value))
        }
        // A number above the largest signed one is kept as written, since it would print as a negative number.
        Err(_) => match text.parse::<u64>() {
            Ok(value) => Some(Value::Sym {
                text: text.to_owned(),
                value: Some(value as i64),
            }),
            Err(_) if digits.iter().all(u8::is_ascii_digit) && !digits.is_empty() => beyond(),
            // Bytes in hexadecimal: `scancode=[88, 89, 8a]`.
            Err(_) if is_hex_bytes(digits) => beyond(),
            Err(_) => None,
        },
    }
}

/// Parses a decimal number with its sign, as text.
pub(in crate::strace) fn decimal(i: &[u8]) -> Res<'_, &[u8]> {
    recognize(preceded(opt(tag("-")), digit1)).parse(i)
}

/// Whether an expression continues behind a term and its comment.
fn goes_on(i: &[u8]) -> bool {
    let operator = |i: &[u8]| OPERATORS.iter().any(|o| i.starts_with(o));
    match i {
        [b' ', b'/', b'*', ..] => match gap(i) {
            Ok((after, ())) => after.len() != i.len() && operator(after),
            Err(_) => false,
        },
        _ => operator(i),
    }
}

/// Parses symbolic expressions: names joined by `|`, calls such as `makedev(0x8, 0x1)`, alternatives `A or B`,
/// products, shifts, and comments between them.
pub(in crate::strace) fn symbolic<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let mut rest = i;
    let mut joined = None;
    loop {
        let start = rest;
        rest = term(rest).1;
        let is_missing =
            rest.len() == start.len() && matches!(rest, [] | [b',' | b')' | b']' | b'}', ..]);
        if let Some(before) = joined.filter(|_| is_missing) {
            // An operator without a term behind it.
            rest = before;
            break;
        }
        // An arrow is no minus sign.
        if rest.first() == Some(&b'>') && until(start, rest).ends_with(b"-") {
            rest = &start[rest_len_before(start, rest)..];
        }
        if rest.first() == Some(&b'(') {
            rest = bracketed(rest)?.0;
            joined = None;
            continue;
        }
        let operators = OPERATORS.iter().chain(&CONDITIONS);
        let operator = match rest.first() {
            Some(b'<' | b' ') => operators.copied().find(|o| rest.starts_with(o)),
            _ => None,
        };
        joined = operator.and(Some(rest)).filter(|rest| rest[0] == b' ');
        rest = match operator {
            Some(operator) => &rest[operator.len()..],
            None if rest.starts_with(b" /*") && goes_on(rest) => gap(rest)?.0,
            None => break,
        };
    }
    match until(i, rest) {
        b"NULL" => Ok((rest, Some(Value::Addr(0)))),
        b"AT_FDCWD" if rest.first() == Some(&b'<') => descriptor(cx, rest, AT_FDCWD),
        b"AT_FDCWD" => {
            let fd = AT_FDCWD;
            Ok((rest, Some(Value::Fd { fd, path: None })))
        }
        b"" => Ok((i, None)),
        [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() && rest.first() == Some(&b':') => {
            address(cx, i, 2, b':')
        }
        found => Ok((rest, Some(symbol(cx, found)))),
    }
}

/// The number of bytes of `start` before the last byte before `rest`.
fn rest_len_before(start: &[u8], rest: &[u8]) -> usize {
    (start.len() - rest.len()).saturating_sub(1)
}

/// Parses a pair of brackets with its content as a symbol.
pub(in crate::strace) fn bracketed_symbol<'a>(
    cx: &mut Context,
    i: &'a [u8],
) -> Res<'a, Option<Value>> {
    let (mut rest, _) = bracketed(i)?;
    // `{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP}|PTRACE_EVENT_EXEC<<16`, or ` | 3 << 16`.
    if rest.starts_with(b" | ") || rest.starts_with(b"|") {
        rest = take_while(|b: u8| is_word(b) || b" |<".contains(&b))
            .parse(rest)?
            .0;
    }
    let found = symbol(cx, until(i, rest));
    Ok((rest, Some(found)))
}

/// Makes a symbol of a text, without the comments in it.
pub(in crate::strace) fn symbol(cx: &mut Context, written: &[u8]) -> Value {
    let text = match has_comment(written) {
        false => text(cx, written),
        true => {
            cx.odd = true;
            text(cx, &uncommented(written))
        }
    };
    let value = cx.symbols.eval(&text);
    Value::Sym { text, value }
}

/// Whether a text has a comment. Most have not even a slash.
fn has_comment(written: &[u8]) -> bool {
    memchr::memchr(b'/', written).is_some() && memmem::find(written, b"/*").is_some()
}

fn uncommented(mut written: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(written.len());
    while let Some(start) = memmem::find(written, b"/*") {
        let Ok((after, ())) = comment(&written[start..]) else {
            break;
        };
        kept.extend_from_slice(written[..start].trim_ascii_end());
        written = after;
    }
    kept.extend_from_slice(written);
    kept
}
