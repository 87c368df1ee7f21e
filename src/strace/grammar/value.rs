//! The grammar of values: arguments, members, elements.
//!
//! Every value ends before `,`, a closing bracket or the end of the text. Text up to there that is not understood
//! becomes [`Value::Raw`]; the parser continues from the point of failure and never goes back, so the time is linear.
//! Nesting beyond [`DEEPEST`] is raw, too. Single values are in [`super::scalar`].
//!
//! Deviations of a value's text from our spelling (comments, unusual blanks) are noted during parsing, and belong to
//! the smallest value that has them.

use super::context::Context;
use super::scalar::{
    bracketed_symbol, character, number, quoted, symbol, symbolic, text, unquoted,
};
use super::set::set;
use super::tokens::*;
use crate::trace::{Field, Value};
use memchr::memmem;
use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::sequence::delimited;

/// The limit on the nesting of structures and arrays.
const DEEPEST: usize = 64;

/// Parses one value up to its end, with the gaps on both sides.
pub(in crate::strace) fn value<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Value> {
    nested(cx, i, 0)
}

fn nested<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Value> {
    let around = cx.begin(i)?;
    let (rest, found) = unsealed(cx, i, depth)?;
    Ok((rest, cx.end(around, i, rest, found, depth)))
}

/// Parses a value; the context keeps whether its spelling is unusual.
fn unsealed<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Value> {
    let start = gap(i)?.0;
    cx.odd = start.len() != i.len();
    if matches!(start.first(), Some(b',' | b')' | b']' | b'}')) {
        // The value is only a comment such as `/* 5 entries */`; or empty, in some older versions.
        let said = until(i, start);
        let comment = said.contains(&b'*');
        cx.odd &= !comment;
        let found = match comment {
            true => Value::Raw(text(cx, said)),
            false => nothing(),
        };
        return Ok((start, found));
    }
    let (seen, found) = atom(cx, start, depth)?;
    let Some(found) = found else {
        return raw(cx, start, seen);
    };
    let rest = behind(seen, &found)?.0;
    if at_end(rest) {
        cx.odd |= rest.len() != seen.len();
        return Ok((rest, found));
    }
    if is_next(rest, &found) && (depth > 0) == (rest.len() < seen.len()) {
        return Ok((rest, found));
    }
    match arrow(rest) {
        Ok((after, arrow)) if depth < DEEPEST => {
            // An unusual spelling of the first half belongs to that half.
            let between = until(seen, rest);
            let (end, usual) = match between.split_last() {
                Some((b' ', _)) => (&seen[between.len() - 1..], arrow == b"=>"),
                _ => (rest, false),
            };
            cx.odd |= end.len() != seen.len();
            let before = cx.end(!usual, i, end, found, depth);
            let (after, usual) = match after.strip_prefix(b" ") {
                Some(after) => (after, true),
                None => (after, false),
            };
            cx.odd |= !usual;
            // The member's name may be repeated: `features=0 => features=UFFD_FEATURE_SIGBUS`.
            let (rest, after) = match name(after) {
                Ok((inner, _)) => labelled(cx, (after, after, inner), depth + 1, false)?,
                Err(_) => nested(cx, after, depth + 1)?,
            };
            let (before, after) = (Box::new(before), Box::new(after));
            Ok((rest, Value::Change { before, after }))
        }
        _ => raw(cx, start, rest),
    }
}

/// Whether the next member or element begins here; some versions omit the comma in front of it:
/// sysinfo's `loads=[1, 2, 3] totalram=4`, getdents' `{{d_ino=1} {d_ino=2}}`, io_getevents' `{...}NULL`.
fn is_next(i: &[u8], found: &Value) -> bool {
    match i.first() {
        Some(b'{' | b'N') => matches!(found, Value::Struct { .. }),
        Some(b'a'..=b'z') => name(i).is_ok(),
        _ => false,
    }
}

/// `=>`, or the `->` of older versions.
fn arrow(i: &[u8]) -> Res<'_, &[u8]> {
    nom::branch::alt((tag("=>"), tag("->"))).parse(i)
}

/// Parses the text that may follow a value before its end: a gap, the security context of a descriptor or a path
/// (`3</etc/passwd> [system_u:object_r:passwd_file_t:s0]`), and the mark of an unfinished call.
fn behind<'a>(i: &'a [u8], found: &Value) -> Res<'a, ()> {
    let rest = gap(i)?.0;
    if at_end(rest) {
        return Ok((rest, ()));
    }
    if let Some(rest) = rest.strip_prefix(b"<unfinished ...>") {
        return Ok((rest, ()));
    }
    let inside = match (rest.first(), found) {
        (Some(b'['), Value::Fd { .. } | Value::Str { .. }) => &rest[1..],
        // Version 4: the address of unreadable elements, `[{fd=5}, ?] 0x7f1000`, and the data of control messages,
        // `cmsg_type=SCM_RIGHTS{4}`.
        (Some(b'0'..=b'9'), Value::Array { .. } | Value::Struct { .. }) if rest.len() < i.len() => {
            return word(rest).map(|(rest, _)| (rest, ()));
        }
        (Some(b'{'), Value::Sym { text, .. }) if text.starts_with("SCM_") => {
            return bracketed(rest).map(|(rest, _)| (rest, ()));
        }
        _ => return Ok((rest, ())),
    };
    let end = inside.iter().position(|b| b"[]{}\"=,".contains(b));
    match end.map(|end| inside.split_at(end)) {
        Some((context, [b']', after @ ..])) if context.contains(&b':') => gap(after),
        _ => Ok((rest, ())),
    }
}

/// The raw text from `start` to the end of the value; the text before `seen` is known not to end it.
fn raw<'a>(cx: &mut Context, start: &'a [u8], seen: &'a [u8]) -> Res<'a, Value> {
    cx.doubt(start, "a value");
    let rest = to_end(seen, 0)?.0;
    let written = until(start, rest).trim_ascii_end();
    cx.odd |= written.len() != until(start, rest).len();
    Ok((rest, Value::Raw(text(cx, written))))
}

/// Parses the kind of value that the first byte announces; `None`, with the rest, where the kind is unknown.
fn atom<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    match i.first() {
        Some(b'"') => quoted(cx, i),
        // An abstract name that could not be read.
        Some(b'@') if i.starts_with(b"@0x") => {
            let rest = word(&i[1..])?.0;
            Ok((rest, Some(symbol(cx, until(i, rest)))))
        }
        Some(b'@') if i.get(1) == Some(&b'"') => {
            // The usual spelling in one place only; see `member`.
            cx.odd = true;
            let (rest, found) = quoted(cx, &i[1..])?;
            let found = found.map(|found| match found {
                Value::Str { mut bytes, cut } => {
                    bytes.insert(0, 0);
                    Value::Str { bytes, cut }
                }
                other => other,
            });
            Ok((rest, found))
        }
        // Wait statuses, and the terminal settings of version 4.
        Some(b'{') if i.starts_with(b"{WIF") || is_terminal(i) => bracketed_symbol(cx, i),
        Some(b'{') if let Some(rest) = cut_action(i) => {
            cx.odd = true;
            let name = symbol(cx, &i[1..b"{SIG_DFL".len()]);
            let fields = vec![Field::new("", name)];
            Ok((rest, Some(Value::Struct { fields, cut: true })))
        }
        Some(b'{' | b'[') if depth >= DEEPEST => Ok((i, None)),
        Some(b'{') => structure(cx, i, depth + 1),
        Some(b'[') => match set(cx, &i[1..], false) {
            Ok((rest, set)) => Ok((rest, Some(set))),
            Err(_) => array(cx, i, depth + 1),
        },
        Some(b'~') if i.get(1) == Some(&b'[') => match set(cx, &i[2..], true) {
            Ok((rest, set)) => Ok((rest, Some(set))),
            Err(_) => Ok((i, None)),
        },
        Some(b'0'..=b'9' | b'-') => number(cx, i),
        Some(b'<' | b'\\' | b'.') => unquoted(cx, i),
        Some(b'\'') => character(cx, i),
        Some(&b) if is_word(b) || b"?~(|*!".contains(&b) => symbolic(cx, i),
        _ => Ok((i, None)),
    }
}

/// Parses the rest of an unclosed signal action without a handler, as Android's version 4 writes it, behind its first
/// member: `{SIG_DFL, , {0x40, [], 0}, 0`.
fn cut_action(i: &[u8]) -> Option<&[u8]> {
    const LONGEST: usize = 1 << 8;
    let rest = [b"{SIG_DFL, ", b"{SIG_IGN, "]
        .into_iter()
        .find_map(|start| i.strip_prefix(start))?;
    if !rest.starts_with(b", ") {
        return None;
    }
    let closed = bracketed(i.get(..LONGEST).unwrap_or(i));
    let closed = closed.is_ok_and(|(_, text)| text.ends_with(b"}"));
    (!closed).then_some(rest)
}

/// `{B38400 opost isig icanon echo ...}`.
fn is_terminal(i: &[u8]) -> bool {
    i.starts_with(b"{B")
        && i.iter().skip(2).take_while(|b| b.is_ascii_digit()).count() > 0
        && i.iter().skip(2).find(|b| !b.is_ascii_digit()) == Some(&b' ')
}

/// Parses members or elements up to `close`, each by `item`. Returns whether they end in an ellipsis, or `None` on a
/// wrong bracket: the caller has the text.
pub(in crate::strace) fn list<'a>(
    cx: &mut Context,
    i: &'a [u8],
    close: u8,
    mut item: impl FnMut(&mut Context, &'a [u8]) -> Res<'a, ()>,
) -> Res<'a, Option<bool>> {
    let mut rest = i;
    if let [b' ' | b'/' | b'\t', ..] = rest {
        let after = blanks(rest);
        if after.first() == Some(&close) {
            cx.odd = true;
            rest = after;
        }
    }
    if rest.first() == Some(&close) {
        return Ok((&rest[1..], Some(false)));
    }
    loop {
        if let Some((after, usual)) = ellipsis(rest, close) {
            cx.odd |= !usual;
            return Ok((after, Some(true)));
        }
        // `{ifr_name="lo", }`, in version 4.
        if rest.first() == Some(&close) {
            cx.odd = true;
            return Ok((&rest[1..], Some(false)));
        }
        rest = item(cx, rest)?.0;
        rest = match rest {
            [b',', b' ', after @ ..] => after,
            [b',', after @ ..] => {
                cx.odd = true;
                after
            }
            // The comma is missing; see `is_next`.
            [b'{' | b'a'..=b'z', ..] => {
                cx.odd = true;
                rest
            }
            [b, after @ ..] if *b == close => return Ok((after, Some(false))),
            // Another kind of bracket closes the list: `to_end` accepts it.
            [_, after @ ..] => return Ok((after, None)),
            [] => return hopeless(i, "a closing bracket"),
        };
    }
}

/// Parses `...` and the closing bracket behind it. Returns whether nothing is between them; strace may write the
/// address of unreadable elements: `[1, 2, ... /* 0x7f1000 */]`.
fn ellipsis(i: &[u8], close: u8) -> Option<(&[u8], bool)> {
    let start = match i.first() {
        Some(b' ' | b'\t' | b'/') => gap(i).ok()?.0,
        _ => i,
    };
    let after = start.strip_prefix(b"...")?;
    let end = gap(after).ok()?.0;
    let rest = end.strip_prefix(&[close])?;
    Some((rest, start.len() == i.len() && end.len() == after.len()))
}

fn structure<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    let mut fields = Vec::new();
    let mut rest = &i[1..];
    loop {
        let (after, cut) = list(cx, rest, b'}', |cx, i| {
            let (rest, field) = member(cx, i, depth)?;
            fields.push(field);
            Ok((rest, ()))
        })?;
        // Version 4 closes sysinfo's too early: `{uptime=1, bufferram=2} totalswap=3}`.
        rest = match after {
            [b' ', b'a'..=b'z', ..] if cut == Some(false) && name(&after[1..]).is_ok() => {
                cx.odd = true;
                &after[1..]
            }
            _ => return Ok((after, cut.map(|cut| Value::Struct { fields, cut }))),
        };
    }
}

fn array<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Option<Value>> {
    let mut items = Vec::new();
    let (rest, cut) = list(cx, &i[1..], b']', |cx, i| {
        let (rest, item) = element(cx, i, depth)?;
        items.push(item);
        Ok((rest, ()))
    })?;
    if cut == Some(false)
        && let [item] = items.as_slice()
        && let Some(name) = only_signal(item)
    {
        // A set with text beside its name.
        cx.odd = true;
        let (negated, items) = (false, vec![name]);
        return Ok((rest, Some(Value::Set { negated, items })));
    }
    Ok((rest, cut.map(|cut| Value::Array { items, cut })))
}

/// The signal's name in an array of one member, which is a set.
fn only_signal(item: &Value) -> Option<String> {
    match item {
        Value::Written { value, .. } => only_signal(value),
        Value::Sym { text, value: None } => {
            let is_known = super::symbol::signal(&format!("SIG{text}")).is_some();
            is_known.then(|| text.clone())
        }
        _ => None,
    }
}

/// `name=value`, the `name:value` of older versions, or a value without a name.
fn member<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Field> {
    let start = gap(i)?.0;
    let Ok((after, name)) = name(start) else {
        let (rest, value) = nested(cx, i, depth)?;
        let name = String::new();
        return Ok((rest, Field { name, value }));
    };
    cx.odd |= start.len() != i.len() || until(start, after).last() != Some(&b'=');
    let name = String::from_utf8_lossy(name).into_owned();
    let (rest, value) = nested(cx, after, depth)?;
    let value = match (name.as_str(), value) {
        ("sun_path", value) => sun_path(until(after, rest), value),
        (_, value) => value,
    };
    Ok((rest, Field { name, value }))
}

/// Parses empty flags, for which strace writes nothing: `c_iflag=,`, `statx(0, NULL, , 0, NULL)`.
fn nothing() -> Value {
    Value::Sym {
        text: String::new(),
        value: Some(0),
    }
}

/// Abstract names begin with a NUL, which strace writes as an `@` in front of the quotes.
fn sun_path(written: &[u8], value: Value) -> Value {
    let is_abstract =
        matches!(value.meaning(), Value::Str { bytes, .. } if bytes.first() == Some(&0));
    match (value, written.first()) {
        (Value::Written { text, value }, Some(b'@')) if is_abstract => {
            let usual = string(&written[1..])
                .is_ok_and(|(rest, (_, usual))| usual && (rest.is_empty() || rest == b"..."));
            match usual {
                true => *value,
                false => Value::Written { text, value },
            }
        }
        (value @ Value::Str { .. }, _) if is_abstract => Value::Written {
            text: written.into(),
            value: Box::new(value),
        },
        (value, _) => value,
    }
}

/// A member's name with the sign behind it. `c_cc[VMIN]`, `ifr_ifru.x` and `msg_iov(1)` are names.
pub(in crate::strace) fn name(i: &[u8]) -> Res<'_, &[u8]> {
    if !i
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        return expected(i, "a name");
    }
    let mut rest = word(i)?.0;
    if let Some(b'.' | b'[' | b']') = rest.first() {
        rest = take_while1(|b| is_word(b) || b".[]".contains(&b))
            .parse(rest)?
            .0;
    }
    if let Some(count) = rest.strip_prefix(b"(") {
        let digits = count.iter().take_while(|b| b.is_ascii_digit()).count();
        match count.get(digits..) {
            Some([b')', after @ ..]) if digits > 0 => rest = after,
            _ => return expected(rest, "`=`"),
        }
    }
    match rest {
        [b'=', b'=' | b'>', ..] => expected(rest, "`=`"),
        [b'=', after @ ..] => Ok((after, until(i, rest))),
        // `timestamp = {1, 2}`, before version 4.16.
        [b' ', b'=', b' ', after @ ..] => Ok((after, until(i, rest))),
        [b':', after @ ..] if is_old_name(until(i, rest), after) => Ok((after, until(i, rest))),
        _ => expected(rest, "`=`"),
    }
}

/// Whether this is a name before a colon, and not part of a hardware address.
fn is_old_name(name: &[u8], after: &[u8]) -> bool {
    let lower = !name.iter().any(u8::is_ascii_uppercase);
    let pair = |i: &[u8]| matches!(i, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    lower && !(name.len() == 2 && pair(name) && pair(after))
}

/// Parses an argument: a value, or `name=value` (of `clone`, and of every call with `-N`).
pub(in crate::strace) fn argument<'a>(cx: &mut Context, i: &'a [u8]) -> Res<'a, Value> {
    let start = gap(i)?.0;
    // Argument names are in lower case, which few other values begin with.
    if !matches!(start.first(), Some(b'a'..=b'z' | b'_')) {
        return value(cx, i);
    }
    match name(start) {
        Ok((after, _)) if !matches!(after.first(), Some(b' ' | b',' | b')') | None) => {
            labelled(cx, (i, start, after), 0, cx.labels)
        }
        _ => value(cx, i),
    }
}

/// An element: a value, or `[VINTR]=0x3`.
fn element<'a>(cx: &mut Context, i: &'a [u8], depth: usize) -> Res<'a, Value> {
    let start = gap(i)?.0;
    match designator(start) {
        Ok((after, _)) => labelled(cx, (i, start, after), depth, true),
        Err(_) => nested(cx, i, depth),
    }
}

/// `[VINTR]=`, `[59 /* DEVCONF_??? */]=`, `[0x1]=`; `[IFLA_X-1] = ` in older versions.
fn designator(i: &[u8]) -> Res<'_, &[u8]> {
    delimited(
        tag("["),
        take_while1(|b: u8| is_word(b) || b" +-|/*?".contains(&b)),
        nom::branch::alt((tag("]="), tag("] = "))),
    )
    .parse(i)
}

/// Makes a value of a label that is no member's name and a value; the texts begin at the gap, the label and the value.
/// With `symbols`, the result is a symbol (`flags=CLONE_VM|SIGCHLD`) with the number of the value, if it has one. Else
/// the label is only spelling.
fn labelled<'a>(
    cx: &mut Context,
    (i, start, after): (&'a [u8], &'a [u8], &'a [u8]),
    depth: usize,
    symbols: bool,
) -> Res<'a, Value> {
    let around = cx.begin(i)?;
    let (rest, found) = nested(cx, after, depth)?;
    let is_number = matches!(
        found.meaning(),
        Value::Int(_) | Value::Addr(_) | Value::Octal(_) | Value::Fd { .. } | Value::Sym { .. }
    );
    cx.odd = start.len() != i.len();
    let found = match symbols && is_number {
        true => {
            let value = found.as_i64();
            // Comments are not kept, so the symbol's text is printed from the value.
            let written = until(start, rest);
            let trimmed = written.trim_ascii_end();
            cx.odd |= trimmed.len() != written.len();
            let text = match memmem::find(trimmed, b"/*") {
                None => text(cx, trimmed),
                Some(_) => {
                    cx.odd = true;
                    let label = symbol(cx, until(start, after));
                    format!("{label}{found}")
                }
            };
            Value::Sym { text, value }
        }
        false => {
            cx.odd = true;
            found
        }
    };
    Ok((rest, cx.end(around, i, rest, found, depth)))
}
