//! The program's own output in the text of its write call, where strace's text goes to the same terminal or pipe:
//! `write(2, "ls: ", 4ls: )  = 4`. The call's arguments have the bytes and their number.

use crate::strace::grammar::context::Context;
use crate::strace::grammar::line::call_name;
use crate::strace::grammar::tokens::word;
use crate::strace::grammar::value::{argument, name};
use crate::trace::Value;

/// The limit on the expected output.
const MOST: usize = 1 << 16;

/// The expected bytes, where they are known.
#[derive(Clone, Debug)]
pub(in crate::strace) struct Output {
    bytes: Vec<Option<u8>>,
    seen: usize,
}

impl Output {
    /// Takes the part of the output that this text begins with. Returns its length, or `None` where the text is no
    /// output.
    pub(in crate::strace) fn take(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let (Some(wanted), Some(&found)) = (self.bytes.get(self.seen), text.get(at)) {
            match *wanted {
                // Terminals turn a line feed into two bytes.
                Some(b'\n') if text.get(at..at + 2) == Some(b"\r\n") => at += 1,
                Some(wanted) if wanted != found => return None,
                _ => {}
            }
            at += 1;
            self.seen += 1;
        }
        Some(at)
    }

    /// Whether the output is complete.
    pub(in crate::strace) fn is_whole(&self) -> bool {
        self.seen == self.bytes.len()
    }
}

/// The output of a call that begins with this text, and the offset in the text at which to expect it.
pub(in crate::strace) fn expected(cx: &mut Context, text: &[u8]) -> Option<(usize, Output)> {
    let (rest, called) = call_name(text).ok()?;
    if !matches!(called, b"write" | b"writev") {
        return None;
    }
    let (rest, _) = argument(cx, rest).ok()?;
    let rest = rest.strip_prefix(b", ")?;
    let (rest, data) = argument(cx, rest).ok()?;
    let rest = rest.strip_prefix(b", ")?;
    let rest = name(rest).map_or(rest, |(rest, _)| rest);
    let mut bytes = Vec::new();
    let whole = written(&data, &mut bytes)?;
    let (_, number) = word(rest).ok()?;
    let digits = number.iter().take_while(|b| b.is_ascii_digit()).count();
    // The output may begin with digits, too: the number that fits is the length.
    (1..=digits).rev().find_map(|digits| {
        let (number, after) = rest.split_at_checked(digits)?;
        let count: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
        let mut output = Output {
            bytes: bytes.clone(),
            seen: 0,
        };
        match (&data.meaning(), whole) {
            (Value::Str { .. }, true) if count != bytes.len() => return None,
            (Value::Str { .. }, false) if count < bytes.len() || count > MOST => return None,
            (Value::Str { .. }, _) => output.bytes.resize(count, None),
            (Value::Array { items, .. }, _) if count != items.len() => return None,
            _ => {}
        }
        let first = output.bytes.first()?.as_ref()?;
        let begins = after.first() == Some(first) || (after.is_empty() && *first == b'\n');
        begins.then_some((text.len() - after.len(), output))
    })
}

/// The bytes of a string, or of the vectors in an array, as far as they are known; whether they are complete.
fn written(data: &Value, bytes: &mut Vec<Option<u8>>) -> Option<bool> {
    match data.meaning() {
        Value::Str { bytes: known, cut } => {
            bytes.extend(known.iter().copied().map(Some));
            Some(!cut)
        }
        Value::Array { items, cut: false } => {
            for item in items {
                let start = bytes.len();
                let whole = written(member(item, "iov_base", 0)?, bytes)?;
                let len = usize::try_from(member(item, "iov_len", 1)?.as_i64()?).ok()?;
                if (whole && bytes.len() != start + len) || start + len > MOST {
                    return None;
                }
                bytes.resize(start + len, None);
            }
            Some(true)
        }
        _ => None,
    }
}

/// A member of a vector; version 4 leaves the names out: `{"a", 1}`.
fn member<'a>(item: &'a Value, name: &str, place: usize) -> Option<&'a Value> {
    let unnamed = || match item.meaning() {
        Value::Struct { fields, .. } => fields.get(place).filter(|field| field.name.is_empty()),
        _ => None,
    };
    item.field(name)
        .or_else(|| unnamed().map(|field| &field.value))
}

/// Whether a call's result differs from the number of bytes that it shows: foreign text ran into it.
pub(in crate::strace) fn is_doubtful(name: &str, args: &[Value]) -> bool {
    let (Some(data), Some(count), true) = (args.get(1), args.get(2), name.starts_with("write"))
    else {
        return false;
    };
    match (data.as_bytes(), count.as_i64()) {
        (Some(bytes), Some(count)) => i64::try_from(bytes.len()) != Ok(count),
        (_, count) => count.is_none(),
    }
}
