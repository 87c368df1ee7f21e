//! The grammar of values: arguments, members, elements.
//!
//! Every value ends before `,`, a closing bracket or the end of the text. What is not understood up to there
//! becomes [`Value::Raw`]; reading it goes on from where understanding ended, never back, so the time is
//! linear. Nesting beyond [`DEEPEST`] is raw, too.

use super::lex::*;
use super::symbol::{Symbols, signal};
use crate::trace::{Field, Value};
use memchr::memmem;
use nom::Parser;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::digit1;
use nom::combinator::{opt, recognize};
use nom::sequence::{delimited, preceded};

/// How deeply structures and arrays may be nested.
const DEEPEST: usize = 64;
/// What `AT_FDCWD` stands for.
const AT_FDCWD: i32 = -100;

/// Text that need not be UTF-8, as a string.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One value, up to what ends it, with the gaps on both sides.
pub(super) fn value<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Value> {
    nested(symbols, i, 0)
}

fn nested<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Value> {
    let start = gap(i)?.0;
    let (seen, found) = atom(symbols, start, depth)?;
    let rest = gap(seen)?.0;
    let Some(found) = found else {
        return raw(start, seen);
    };
    if at_end(rest) {
        return Ok((rest, found));
    }
    let Ok((after, _)) = arrow(rest) else {
        return raw(start, rest);
    };
    let after = gap(after)?.0;
    let (seen, changed) = atom(symbols, after, depth)?;
    let rest = gap(seen)?.0;
    match changed {
        Some(changed) if at_end(rest) => {
            let (before, after) = (Box::new(found), Box::new(changed));
            Ok((rest, Value::Change { before, after }))
        }
        _ => raw(start, seen),
    }
}

/// `=>`, or the `->` of older versions.
fn arrow(i: &[u8]) -> Res<'_, &[u8]> {
    nom::branch::alt((tag("=>"), tag("->"))).parse(i)
}

/// The text from `start` to the end of the value as it is, where what precedes `seen` is known not to end it.
fn raw<'a>(start: &'a [u8], seen: &'a [u8]) -> Res<'a, Value> {
    let rest = to_end(seen, 0)?.0;
    let text = text(until(start, rest).trim_ascii_end());
    Ok((rest, Value::Raw(text)))
}

/// What the first byte announces; `None` with how far it was looked at, where that is nothing known.
fn atom<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    match i.first() {
        Some(b'"') => quoted(i),
        Some(b'@') if i.get(1) == Some(&b'"') => {
            let (rest, mut bytes) = string(&i[1..])?;
            bytes.insert(0, 0);
            Ok((rest, Some(Value::str(bytes))))
        }
        Some(b'{') if i.starts_with(b"{WIF") => {
            let (rest, found) = bracketed(i)?;
            Ok((rest, Some(symbol(symbols, found))))
        }
        Some(b'{' | b'[') if depth >= DEEPEST => Ok((i, None)),
        Some(b'{') => structure(symbols, i, depth + 1),
        Some(b'[') => match set(&i[1..], false) {
            Ok((rest, set)) => Ok((rest, Some(set))),
            Err(_) => array(symbols, i, depth + 1),
        },
        Some(b'~') if i.get(1) == Some(&b'[') => match set(&i[2..], true) {
            Ok((rest, set)) => Ok((rest, Some(set))),
            Err(_) => Ok((i, None)),
        },
        Some(b'0'..=b'9' | b'-') => number(symbols, i),
        Some(b) if is_word(*b) => symbolic(symbols, i),
        _ => Ok((i, None)),
    }
}

/// A string, and the ellipsis behind a cut one.
fn quoted(i: &[u8]) -> Res<'_, Option<Value>> {
    let (rest, bytes) = string(i)?;
    let (rest, cut) = match rest.strip_prefix(b"...") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    Ok((rest, Some(Value::Str { bytes, cut })))
}

/// Members or elements up to `close`, each read by `item`; whether they end in an ellipsis.
/// On a wrong bracket, `None`: the caller has its text.
fn list<'a>(
    i: &'a [u8],
    close: u8,
    mut item: impl FnMut(&'a [u8]) -> Res<'a, ()>,
) -> Res<'a, Option<bool>> {
    let mut rest = gap(i)?.0;
    if rest.first() == Some(&close) {
        return Ok((&rest[1..], Some(false)));
    }
    loop {
        if let Some(after) = rest.strip_prefix(b"...") {
            let after = gap(after)?.0;
            if after.first() == Some(&close) {
                return Ok((&after[1..], Some(true)));
            }
        }
        rest = item(rest)?.0;
        match rest.first() {
            Some(b',') => rest = gap(&rest[1..])?.0,
            Some(&b) if b == close => return Ok((&rest[1..], Some(false))),
            // Another kind of bracket closes it: `to_end` takes that for good.
            Some(_) => return Ok((&rest[1..], None)),
            None => return hopeless(i, "a closing bracket"),
        }
    }
}

fn structure<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    let mut fields = Vec::new();
    let (rest, cut) = list(&i[1..], b'}', |i| {
        let (rest, field) = member(symbols, i, depth)?;
        fields.push(field);
        Ok((rest, ()))
    })?;
    Ok((rest, cut.map(|cut| Value::Struct { fields, cut })))
}

fn array<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    let mut items = Vec::new();
    let (rest, cut) = list(&i[1..], b']', |i| {
        let (rest, item) = element(symbols, i, depth)?;
        items.push(item);
        Ok((rest, ()))
    })?;
    Ok((rest, cut.map(|cut| Value::Array { items, cut })))
}

/// `name=value`, the `name:value` of older versions, or a value without a name.
fn member<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Field> {
    let (rest, name) = match name(i) {
        Ok((rest, name)) => (rest, text(name)),
        Err(_) => (i, String::new()),
    };
    let (rest, value) = nested(symbols, rest, depth)?;
    Ok((rest, Field { name, value }))
}

/// A member's name with the sign behind it. `c_cc[VMIN]` and `ifr_ifru.x` are names.
pub(super) fn name(i: &[u8]) -> Res<'_, &[u8]> {
    if !i
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        return expected(i, "a name");
    }
    let (rest, name) = take_while1(|b| is_word(b) || b".[]".contains(&b)).parse(i)?;
    match rest {
        [b'=', b'=' | b'>', ..] => expected(rest, "`=`"),
        [b'=', rest @ ..] => Ok((rest, name)),
        [b':', rest @ ..] if !name.iter().any(u8::is_ascii_uppercase) => Ok((rest, name)),
        _ => expected(rest, "`=`"),
    }
}

/// What follows the bracket of `[INT CHLD]`, `~[]`, `[3 4]`: names between blanks.
/// A single name is a set only where it is negated or a signal's, since `[3]` is an array.
fn set(i: &[u8], negated: bool) -> Res<'_, Value> {
    let mut items = Vec::new();
    let mut rest = i;
    loop {
        let (after, item) = word(blanks(rest))?;
        rest = after;
        match (item.is_empty(), rest.first()) {
            (false, Some(b' ' | b']')) => items.push(item),
            (true, Some(b']')) if negated => {}
            _ => return expected(rest, "a name"),
        }
        if rest.first() == Some(&b']') {
            break;
        }
    }
    let items: Vec<String> = items.into_iter().map(text).collect();
    if !negated && items.len() == 1 && signal(&format!("SIG{}", items[0])).is_none() {
        return expected(i, "a set");
    }
    Ok((&rest[1..], Value::Set { negated, items }))
}

/// Anything that begins with a digit or a minus sign: a number, a descriptor with its path, a date,
/// an expression (`8192*1024`, `1<<CAP_CHOWN`, `0x4|MSG_X`).
fn number<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let digits = preceded(opt(tag("-")), take_while(|b: u8| b.is_ascii_alphanumeric()));
    let (rest, digits) = recognize(digits).parse(i)?;
    match rest {
        [b'<', b'<', ..] | [b'|' | b'*' | b'_', ..] => symbolic(symbols, i),
        [b'<', ..] => match std::str::from_utf8(digits).map(str::parse) {
            Ok(Ok(fd)) => {
                let (rest, path) = path(rest)?;
                let path = Some(path);
                Ok((rest, Some(Value::Fd { fd, path })))
            }
            _ => Ok((rest, None)),
        },
        [b'/', next, ..] if next.is_ascii_digit() => {
            let (rest, date) =
                take_while(|b: u8| b.is_ascii_digit() || b"/-:.".contains(&b)).parse(i)?;
            Ok((rest, Some(symbol(symbols, date))))
        }
        _ => Ok((rest, plain(digits))),
    }
}

/// A number by itself.
fn plain(digits: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(digits).ok()?;
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Value::Addr);
    }
    match digits {
        [b'0', octal @ ..] if !octal.is_empty() => {
            let all = octal.iter().all(|b| (b'0'..=b'7').contains(b));
            all.then(|| u64::from_str_radix(text, 8).ok().map(Value::Octal))?
        }
        _ => match text.parse::<i64>() {
            Ok(value) => Some(Value::Int(value)),
            // Above the largest signed number: kept as written, since it would print as a negative one.
            Err(_) => {
                let value = text.parse::<u64>().ok()? as i64;
                Some(Value::Sym {
                    text: text.to_owned(),
                    value: Some(value),
                })
            }
        },
    }
}

/// A decimal number with its sign, as text.
pub(super) fn decimal(i: &[u8]) -> Res<'_, &[u8]> {
    recognize(preceded(opt(tag("-")), digit1)).parse(i)
}

/// Names joined by `|`, calls such as `makedev(0x8, 0x1)`, alternatives `A or B`.
fn symbolic<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Option<Value>> {
    let mut rest = i;
    loop {
        rest = take_while(|b: u8| is_word(b) || b"|*?.".contains(&b))
            .parse(rest)?
            .0;
        rest = match rest {
            [b'(', ..] => bracketed(rest)?.0,
            [b'<', b'<', after @ ..] => after,
            [b' ', b'o', b'r', b' ', after @ ..] => after,
            _ => break,
        };
    }
    match until(i, rest) {
        b"NULL" => Ok((rest, Some(Value::Addr(0)))),
        b"AT_FDCWD" => {
            let (rest, path) = match rest.first() {
                Some(b'<') => path(rest).map(|(rest, path)| (rest, Some(path)))?,
                _ => (rest, None),
            };
            Ok((rest, Some(Value::Fd { fd: AT_FDCWD, path })))
        }
        found => Ok((rest, Some(symbol(symbols, found)))),
    }
}

/// A symbol of this text, without the comments in it.
fn symbol(symbols: &mut Symbols, written: &[u8]) -> Value {
    let text = match memmem::find(written, b"/*") {
        None => text(written),
        Some(_) => text(&uncommented(written)),
    };
    let value = symbols.eval(&text);
    Value::Sym { text, value }
}

fn uncommented(mut written: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(written.len());
    while let Some(start) = memmem::find(written, b"/*") {
        let Some(n) = memmem::find(&written[start..], b"*/") else {
            break;
        };
        kept.extend_from_slice(written[..start].trim_ascii_end());
        written = &written[start + n + 2..];
    }
    kept.extend_from_slice(written);
    kept
}

/// An argument: a value, or `name=value`, which only `clone` has.
pub(super) fn argument<'a>(symbols: &mut Symbols, i: &'a [u8]) -> Res<'a, Value> {
    let start = gap(i)?.0;
    match name(start) {
        Ok((rest, _)) => labelled(symbols, start, rest, 0),
        Err(_) => value(symbols, start),
    }
}

/// An element: a value, or `[VINTR]=0x3`.
fn element<'a>(symbols: &mut Symbols, i: &'a [u8], depth: usize) -> Res<'a, Value> {
    let start = gap(i)?.0;
    match designator(start) {
        Ok((rest, _)) => labelled(symbols, start, rest, depth),
        Err(_) => nested(symbols, start, depth),
    }
}

/// `[VINTR]=`, `[59 /* DEVCONF_??? */]=`, `[0x1]=`.
fn designator(i: &[u8]) -> Res<'_, &[u8]> {
    delimited(
        tag("["),
        take_while1(|b: u8| is_word(b) || b" -|/*?".contains(&b)),
        tag("]="),
    )
    .parse(i)
}

/// A value behind a label that is no member's name. That is kept as a symbol (`flags=CLONE_VM|SIGCHLD`) which
/// stands for what the value stands for, if it stands for a number.
fn labelled<'a>(
    symbols: &mut Symbols,
    start: &'a [u8],
    after: &'a [u8],
    depth: usize,
) -> Res<'a, Value> {
    let label = until(start, after);
    let (rest, found) = nested(symbols, after, depth)?;
    let written = until(start, rest).trim_ascii_end();
    let found = match found {
        Value::Int(_) | Value::Addr(_) | Value::Octal(_) | Value::Fd { .. } | Value::Sym { .. } => {
            let value = found.as_i64();
            // Printed from the value where there are comments, which are not kept.
            let text = match memmem::find(written, b"/*") {
                None => text(written),
                Some(_) => format!("{}{found}", text(&uncommented(label))),
            };
            Value::Sym { text, value }
        }
        _ => Value::Raw(text(written)),
    };
    Ok((rest, found))
}
