//! The grammar of sets: names between blanks.

use super::context::Context;
use super::symbol::signal;
use super::tokens::*;
use crate::trace::Value;

/// Parses the text behind the bracket of `[INT CHLD]`, `~[]`, `[3 4]`, `[3</dev/null> 4]`: names between blanks.
/// A single name is a set only where it is negated or a signal's, since `[3]` is an array.
pub(in crate::strace) fn set<'a>(cx: &mut Context, i: &'a [u8], negated: bool) -> Res<'a, Value> {
    let mut items = Vec::new();
    let mut rest = i;
    let mut usual = true;
    loop {
        let start = rest;
        rest = blanks(rest);
        usual &= start.len() - rest.len() == usize::from(!items.is_empty());
        // A set that strace cut has no meaning.
        if let Some(after @ [b']', ..]) = rest.strip_prefix(b"...")
            && !items.is_empty()
        {
            items.push(b"...".as_slice());
            rest = after;
            break;
        }
        let (mut after, item) = word(rest)?;
        if after.first() == Some(&b'<') && item.iter().all(u8::is_ascii_digit) {
            after = close_path(after)?.0;
            after = after.strip_prefix(b"(deleted)").unwrap_or(after);
            usual = false;
        }
        if after.starts_with(b" /*") && !item.is_empty() {
            after = gap(after)?.0;
            // The blank that ends it is part of the gap.
            usual = false;
            if after.first() != Some(&b']') {
                after = &i[i.len() - after.len() - 1..];
            }
        }
        rest = after;
        match (item.is_empty(), rest.first()) {
            (false, Some(b' ' | b']')) => items.push(item),
            (true, Some(b']')) if negated || items.len() > 1 => {
                usual &= items.is_empty() && rest.len() == i.len();
            }
            _ => return expected(rest, "a name"),
        }
        if rest.first() == Some(&b']') {
            break;
        }
    }
    let items: Vec<String> = items
        .into_iter()
        .map(|item| String::from_utf8_lossy(item).into_owned())
        .collect();
    if !negated && items.len() == 1 && signal(&format!("SIG{}", items[0])).is_none() {
        return expected(i, "a set");
    }
    cx.odd |= !usual;
    Ok((&rest[1..], Value::Set { negated, items }))
}
