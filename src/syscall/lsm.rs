//! Arrays of `struct lsm_ctx`: the attributes of the process in its security modules (lsm_get_self_attr).

use super::decode::{array, field, structure};
use super::frame;
use super::number::{symbol, value_of};
use crate::constants;
use crate::value::Value;

/// id 0, flags 8, len 16, ctx_len 24, ctx 32.
const HEADER: usize = 32;
/// The limit of the number of modules.
const MOST: usize = 64;

pub(crate) fn decode(bytes: &[u8]) -> Value {
    let mut items = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER && items.len() < MOST {
        let number = |offset| frame::field(rest, offset, 8);
        let (id, len, ctx_len) = (number(0), number(16), number(24));
        let name = constants::set("lsm_id").and_then(|set| set.exact(id, u64::MAX));
        let id = match name {
            Some(name) => symbol(name, id as i64),
            None => Value::Addr(id),
        };
        let flags = match number(8) {
            0 => Value::Int(0),
            flags => Value::Addr(flags),
        };
        let mut fields = vec![
            field("id", id),
            field("flags", flags),
            field("len", Value::Int(len as i64)),
            field("ctx_len", Value::Int(ctx_len as i64)),
        ];
        let whole = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        let context = rest.get(HEADER..whole).unwrap_or(&[]);
        let shown = usize::try_from(ctx_len).unwrap_or(usize::MAX);
        let context = context.get(..shown.min(context.len())).unwrap_or(&[]);
        if !context.is_empty() {
            fields.push(field("ctx", Value::str(context)));
        }
        items.push(structure(fields));
        if whole < HEADER {
            break;
        }
        rest = rest.get(whole..).unwrap_or(&[]);
    }
    array(items)
}

/// Encodes these contexts; `None` if one of the values is not a context.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let Value::Array { items, .. } = value else {
        return None;
    };
    let mut bytes = Vec::new();
    for item in items {
        let number = |name: &str| item.field(name).and_then(value_of);
        let context: &[u8] = match item.field("ctx") {
            Some(Value::Str { bytes, .. }) => bytes,
            _ => &[],
        };
        let given = number("len").and_then(|len| usize::try_from(len).ok());
        let least = HEADER + context.len();
        // The length of the context, within limits: a context of the kernel is less than a page.
        let len = given.map_or(least, |len| len.clamp(least, least.max(4096)));
        let start = bytes.len();
        bytes.extend(number("id")?.to_le_bytes());
        bytes.extend(number("flags").unwrap_or(0).to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
        let ctx_len = number("ctx_len").unwrap_or(context.len() as i64);
        bytes.extend(ctx_len.to_le_bytes());
        bytes.extend(context);
        bytes.resize(start + len, 0);
    }
    Some(bytes)
}
