//! Bytes as strace writes them between quotes and angle brackets.

use super::lex::close_path;
use std::fmt::{self, Write};

/// `"bytes"`: printable ASCII as it is, the rest escaped.
pub(super) fn quoted(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    escaped(out, bytes, |b| b == b'"')?;
    out.write_char('"')
}

/// `<path>`. Brackets in it are escaped where they would end it early.
pub(super) fn path(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    let mut whole = String::with_capacity(bytes.len() + 2);
    whole.push('<');
    escaped(&mut whole, bytes, |_| false)?;
    whole.push('>');
    // Behind the bracket there may be a `(deleted)`, which is not escaped either.
    if matches!(close_path(whole.as_bytes()), Ok(([], ()))) {
        return out.write_str(&whole);
    }
    out.write_char('<')?;
    escaped(out, bytes, |b| matches!(b, b'<' | b'>'))?;
    out.write_char('>')
}

/// Octal escapes are as short as the next byte allows.
fn escaped(out: &mut impl Write, bytes: &[u8], special: impl Fn(u8) -> bool) -> fmt::Result {
    let mut rest = bytes;
    while let Some(&b) = rest.first() {
        let plain = rest
            .iter()
            .take_while(|&&b| matches!(b, b' '..=b'~') && b != b'\\' && !special(b))
            .count();
        if plain > 0 {
            let (text, after) = rest.split_at(plain);
            out.write_str(std::str::from_utf8(text).unwrap_or_default())?;
            rest = after;
            continue;
        }
        rest = &rest[1..];
        match b {
            b'\n' => out.write_str("\\n")?,
            b'\t' => out.write_str("\\t")?,
            b'\r' => out.write_str("\\r")?,
            0x0b => out.write_str("\\v")?,
            0x0c => out.write_str("\\f")?,
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            _ if matches!(rest.first(), Some(b'0'..=b'7')) => write!(out, "\\{b:03o}")?,
            _ => write!(out, "\\{b:o}")?,
        }
    }
    Ok(())
}
