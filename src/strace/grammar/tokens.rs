//! The smallest elements of strace's text: gaps and comments, quoted bytes, bracketed text, the text of `-y` behind a
//! descriptor.
//!
//! Each parser here is a single pass without recursion. Text that can never be completed (a quote, a bracket, a comment
//! without its end) is a nom `Failure`: no caller tries the same bytes again, which keeps hostile lines linear.

use memchr::{memchr, memchr2};
use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult};

/// A syntax error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::strace) struct Expected<'a> {
    /// The rest of the line from the error on.
    pub at: &'a [u8],
    /// The expected syntax.
    pub what: &'static str,
}

impl<'a> ParseError<&'a [u8]> for Expected<'a> {
    fn from_error_kind(at: &'a [u8], kind: ErrorKind) -> Self {
        let what = match kind {
            ErrorKind::Digit => "a decimal number",
            ErrorKind::HexDigit => "a hexadecimal number",
            _ => "a name",
        };
        Expected { at, what }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// The result of a parser.
pub(in crate::strace) type Res<'a, T> = IResult<&'a [u8], T, Expected<'a>>;

/// An error that an alternative may still avoid.
pub(in crate::strace) fn expected<'a, T>(at: &'a [u8], what: &'static str) -> Res<'a, T> {
    Err(Err::Error(Expected { at, what }))
}

/// An error that no alternative can avoid.
pub(in crate::strace) fn hopeless<'a, T>(at: &'a [u8], what: &'static str) -> Res<'a, T> {
    Err(Err::Failure(Expected { at, what }))
}

/// The bytes that can be part of a name.
const WORD: [bool; 256] = table(b"_");
/// The bytes that can be part of an expression, outside brackets.
const TERM: [bool; 256] = table(b"_|*?.+~!-");

/// A table of letters, digits and these bytes.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
}

/// Whether this byte can be part of a name.
pub(in crate::strace) fn is_word(b: u8) -> bool {
    WORD[usize::from(b)]
}

/// Splits the bytes of an expression off the front.
pub(in crate::strace) fn term(i: &[u8]) -> (&[u8], &[u8]) {
    i.split_at(i.iter().take_while(|&&b| TERM[usize::from(b)]).count())
}

/// A name, possibly empty.
pub(in crate::strace) fn word(i: &[u8]) -> Res<'_, &[u8]> {
    let (word, rest) = i.split_at(i.iter().take_while(|&&b| is_word(b)).count());
    Ok((rest, word))
}

/// Skips blanks.
pub(in crate::strace) fn blanks(i: &[u8]) -> &[u8] {
    let n = i.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
    &i[n..]
}

/// Blanks and `/* comments */`.
#[inline]
pub(in crate::strace) fn gap(i: &[u8]) -> Res<'_, ()> {
    match i.first() {
        Some(b' ' | b'\t' | b'/') => wide_gap(i),
        _ => Ok((i, ())),
    }
}

fn wide_gap(i: &[u8]) -> Res<'_, ()> {
    let mut i = blanks(i);
    while i.starts_with(b"/*") {
        i = blanks(comment(i)?.0);
    }
    Ok((i, ()))
}

/// Skips a comment. strace writes comments in comments: `/* QCMD(0 /* Q_??? */, USRQUOTA) */`.
pub(in crate::strace) fn comment(i: &[u8]) -> Res<'_, ()> {
    let mut depth = 1;
    let mut at = 2;
    while let Some(n) = i.get(at..).and_then(|rest| memchr(b'*', rest)) {
        let star = at + n;
        at = star + 1;
        if i.get(star + 1) == Some(&b'/') {
            depth -= 1;
            at = star + 2;
            if depth == 0 {
                return Ok((&i[at..], ()));
            }
        } else if n > 0 && i.get(star - 1) == Some(&b'/') {
            depth += 1;
        }
    }
    hopeless(i, "`*/` to end this comment")
}

/// Whether a value may end here.
pub(in crate::strace) fn at_end(i: &[u8]) -> bool {
    matches!(i.first(), None | Some(b',' | b')' | b']' | b'}'))
}

/// The part of `from` that precedes `rest`, which is its tail.
pub(in crate::strace) fn until<'a>(from: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &from[..from.len() - rest.len()]
}

/// Skips from inside `depth` brackets to the `,` or the closing bracket that ends a value outside them
/// (not consumed). Kinds of brackets are not matched.
pub(in crate::strace) fn to_end(mut i: &[u8], mut depth: usize) -> Res<'_, ()> {
    let start = i;
    loop {
        match i.first() {
            None if depth == 0 => return Ok((i, ())),
            None => return hopeless(start, "a closing bracket"),
            Some(b',') if depth == 0 => return Ok((i, ())),
            Some(b')' | b']' | b'}') => {
                if depth == 0 {
                    return Ok((i, ()));
                }
                depth -= 1;
            }
            Some(b'(' | b'[' | b'{') => depth += 1,
            Some(b'"') => {
                i = skip_string(i)?.0;
                continue;
            }
            Some(b'/') if i.starts_with(b"/*") => {
                i = comment(i)?.0;
                continue;
            }
            Some(b'\'') => {
                i = after_character(i).unwrap_or(&i[1..]);
                continue;
            }
            Some(_) => {}
        }
        i = &i[1..];
    }
}

/// Skips a bracketed text, from its opening bracket on.
pub(in crate::strace) fn bracketed(i: &[u8]) -> Res<'_, &[u8]> {
    let mut rest = i.get(1..).unwrap_or_default();
    loop {
        rest = to_end(rest, 0)?.0;
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(_) => return Ok((&rest[1..], until(i, &rest[1..]))),
            None => return hopeless(i, "a closing bracket"),
        }
    }
}

/// Skips a character between quotes: `'a'`, `'\x01'`.
pub(in crate::strace) fn after_character(i: &[u8]) -> Option<&[u8]> {
    match i {
        [b'\'', b'\\', quoted @ ..] => {
            // The longest one is octal or hexadecimal.
            let end = quoted.iter().skip(1).take(3).position(|&b| b == b'\'')?;
            quoted.get(end + 2..)
        }
        [b'\'', _, b'\'', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn skip_string(i: &[u8]) -> Res<'_, ()> {
    let mut rest = i.get(1..).unwrap_or_default();
    loop {
        match memchr2(b'"', b'\\', rest) {
            Some(n) if rest[n] == b'"' => return Ok((&rest[n + 1..], ())),
            Some(n) => rest = rest.get(n + 2..).unwrap_or_default(),
            None => return hopeless(i, "a closing quote"),
        }
    }
}

/// Whether all bytes are printable ASCII.
fn is_printable(bytes: &[u8]) -> bool {
    // A loop without an early end handles many bytes at a time.
    let odd = |odd, b: &u8| odd | (b.wrapping_sub(b' ') > b'~' - b' ');
    !bytes.iter().fold(false, odd)
}

/// Parses a quoted string: its bytes, and whether its spelling is ours.
pub(in crate::strace) fn string(i: &[u8]) -> Res<'_, (Vec<u8>, bool)> {
    let mut rest = i.get(1..).unwrap_or_default();
    let mut bytes = Vec::new();
    let mut usual = true;
    loop {
        match memchr2(b'"', b'\\', rest) {
            Some(n) if rest[n] == b'"' => {
                usual &= is_printable(&rest[..n]);
                bytes.extend_from_slice(&rest[..n]);
                return Ok((&rest[n + 1..], (bytes, usual)));
            }
            Some(n) => {
                usual &= is_printable(&rest[..n]);
                bytes.extend_from_slice(&rest[..n]);
                rest = &rest[n..];
                // Binary data is mostly escapes: no search between them.
                while rest.first() == Some(&b'\\') {
                    rest = escape(&rest[1..], &mut bytes, &mut usual);
                }
            }
            None => return hopeless(i, "a closing quote"),
        }
    }
}

/// Appends the bytes of the escape behind a backslash, and returns the rest.
fn escape<'a>(i: &'a [u8], out: &mut Vec<u8>, usual: &mut bool) -> &'a [u8] {
    let Some((&first, rest)) = i.split_first() else {
        return i;
    };
    let plain = match first {
        b'0'..=b'7' => {
            let mut value = u32::from(first - b'0');
            let mut used = 1;
            while used < 3 {
                match i.get(used) {
                    Some(&d @ b'0'..=b'7') if value * 8 + u32::from(d - b'0') < 256 => {
                        value = value * 8 + u32::from(d - b'0');
                        used += 1;
                    }
                    _ => break,
                }
            }
            // Our spelling is as short as the next byte allows, and only for bytes without a shorter escape.
            let least = match (i.get(used), value) {
                (Some(b'0'..=b'7'), _) => 3,
                (_, 0..=7) => 1,
                (_, 8..=0o77) => 2,
                _ => 3,
            };
            let named = matches!(value, 9..=13 | 0x20..=0x7e);
            *usual &= used == least && !named;
            out.push(value as u8);
            return &i[used..];
        }
        b'x' => {
            *usual = false;
            let digits = rest.iter().take(2);
            let mut value = 0;
            let mut used = 0;
            for digit in digits.map_while(|&b| char::from(b).to_digit(16)) {
                value = value * 16 + digit;
                used += 1;
            }
            if used > 0 {
                out.push(value as u8);
                return &rest[used..];
            }
            b'x'
        }
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 0x0b,
        b'f' => 0x0c,
        b'a' => 0x07,
        b'b' => 0x08,
        b'e' => 0x1b,
        other => other,
    };
    *usual &= matches!(first, b'n' | b't' | b'r' | b'v' | b'f' | b'"' | b'\\');
    out.push(plain);
    rest
}

/// Unescapes a text.
pub(in crate::strace) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text;
    while let Some(n) = memchr(b'\\', left) {
        bytes.extend_from_slice(&left[..n]);
        left = escape(&left[n + 1..], &mut bytes, &mut true);
    }
    bytes.extend_from_slice(left);
    bytes
}

/// Parses the text of `-y` behind a descriptor, from `<` to the `>` that closes it, unescaped:
/// `</etc/passwd>`, `<TCP:[a->b]>`, `</dev/null<char 1:3>>`. A `(deleted)` that follows becomes part of it.
pub(in crate::strace) fn path(i: &[u8]) -> Res<'_, Vec<u8>> {
    let rest = close_path(i)?.0;
    let inside = &until(i, rest)[1..];
    let mut bytes = unescaped(&inside[..inside.len() - 1]);
    match rest.strip_prefix(b"(deleted)") {
        Some(rest) => {
            bytes.extend_from_slice(b" (deleted)");
            Ok((rest, bytes))
        }
        None => Ok((rest, bytes)),
    }
}

/// Whether the spelling of a path with its brackets is ours.
pub(in crate::strace) fn is_usual_path(written: &[u8], bytes: &[u8]) -> bool {
    if is_printable(written) && memchr(b'\\', written).is_none() {
        return written.ends_with(b">");
    }
    let mut printed = Vec::with_capacity(written.len());
    super::escape::path(&mut printed, bytes);
    printed == written
}

/// Skips from `<` to behind the `>` that closes it; an arrow's `>` closes nothing, but only sockets have arrows:
/// `<TCP:[127.0.0.1:80->127.0.0.1:9]>`.
pub(in crate::strace) fn close_path(i: &[u8]) -> Res<'_, ()> {
    let mut depth = 0usize;
    let mut at = 0;
    let mut in_socket = false;
    let mut last = 0;
    while let Some(&b) = i.get(at) {
        match b {
            b'\\' => at += 1,
            b'<' => depth += 1,
            b'[' if last == b':' => in_socket = true,
            b'>' if in_socket && last == b'-' => {}
            b'>' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok((&i[at + 1..], ()));
                }
            }
            _ => {}
        }
        last = b;
        at += 1;
    }
    hopeless(i, "`>` to end this path")
}
