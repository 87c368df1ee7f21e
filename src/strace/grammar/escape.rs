//! The spelling of bytes between quotes and angle brackets.

use super::tokens::close_path;
use std::fmt;
use std::io::Write;

/// Appends formatted text.
pub(in crate::strace) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes everything.
    let _ = out.write_fmt(text);
}

/// `"bytes"`: printable ASCII as it is, the rest escaped.
pub(in crate::strace) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    escaped(out, bytes, |b| b == b'"');
    out.push(b'"');
}

/// `<path>`. Brackets in it are escaped where they would end it early.
pub(in crate::strace) fn path(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.push(b'<');
    escaped(out, bytes, |_| false);
    out.push(b'>');
    // A `(deleted)` behind the bracket is not escaped.
    let whole = out.get(start..).unwrap_or_default();
    if !matches!(close_path(whole), Ok(([], ()))) {
        out.truncate(start);
        out.push(b'<');
        escaped(out, bytes, |b| matches!(b, b'<' | b'>' | b'['));
        out.push(b'>');
    }
}

/// Octal escapes are as short as the next byte allows.
fn escaped(out: &mut Vec<u8>, bytes: &[u8], special: impl Fn(u8) -> bool) {
    let mut rest = bytes;
    while let Some((&b, after)) = rest.split_first() {
        let plain = rest
            .iter()
            .take_while(|&&b| matches!(b, b' '..=b'~') && b != b'\\' && !special(b))
            .count();
        if plain > 0 {
            let (text, after) = rest.split_at(plain);
            out.extend_from_slice(text);
            rest = after;
            continue;
        }
        rest = after;
        match b {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x0b => out.extend_from_slice(b"\\v"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ if matches!(rest.first(), Some(b'0'..=b'7')) => push(out, format_args!("\\{b:03o}")),
            _ => push(out, format_args!("\\{b:o}")),
        }
    }
}
