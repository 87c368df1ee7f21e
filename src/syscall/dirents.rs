//! Directory entries, as getdents and getdents64 return them.

use super::decode::{array, field, structure};
use super::frame;
use super::number::{symbol, value_of};
use super::sets;
use crate::trace::Value;

/// `struct linux_dirent64`: d_ino 0, d_off 8, d_reclen 16, d_type 18, d_name 19. The old one has its name at 18 and
/// its type in the last byte of the entry.
const NAME_WIDE: usize = 19;
const NAME_OLD: usize = 18;

fn kind(byte: u8) -> Value {
    let name = sets::set("dirent").and_then(|set| set.exact(u64::from(byte), 0xff));
    match name {
        Some(name) => symbol(name, i64::from(byte)),
        None => Value::Addr(u64::from(byte)),
    }
}

pub(crate) fn decode(bytes: &[u8], wide: bool) -> Value {
    let mut items = Vec::new();
    let mut rest = bytes;
    while rest.len() >= NAME_WIDE {
        let len = frame::field(rest, 16, 2) as usize;
        let (Some(entry), true) = (rest.get(..len), len > NAME_WIDE) else {
            break;
        };
        rest = rest.get(len..).unwrap_or(&[]);
        let from = if wide { NAME_WIDE } else { NAME_OLD };
        let name = entry.get(from..).unwrap_or(&[]);
        let name = name.get(..memchr::memchr(0, name).unwrap_or(name.len()));
        let name = field("d_name", Value::str(name.unwrap_or(&[])));
        let at = if wide { 18 } else { len - 1 };
        let kind = field("d_type", kind(entry.get(at).copied().unwrap_or(0)));
        let mut fields = vec![
            field("d_ino", Value::Int(frame::field(entry, 0, 8) as i64)),
            field("d_off", Value::Int(frame::field(entry, 8, 8) as i64)),
            field("d_reclen", Value::Int(len as i64)),
        ];
        fields.extend(if wide { [kind, name] } else { [name, kind] });
        items.push(structure(fields));
    }
    array(items)
}

/// The bytes of these entries, as many as fit into `room`. `None` where one of them is not an entry.
pub(crate) fn encode(value: &Value, wide: bool, room: usize) -> Option<Vec<u8>> {
    let Value::Array { items, .. } = value else {
        return None;
    };
    let mut bytes = Vec::new();
    for item in items {
        let name = match item.field("d_name")? {
            Value::Str { bytes, .. } => bytes,
            _ => return None,
        };
        let number = |name: &str| item.field(name).and_then(value_of).unwrap_or(0);
        let from = if wide { NAME_WIDE } else { NAME_OLD };
        let end = from + name.len() + if wide { 1 } else { 2 };
        let least = end.next_multiple_of(8);
        let given = usize::try_from(number("d_reclen")).unwrap_or(0);
        let len = if given >= end { given } else { least };
        let len = u16::try_from(len).ok()?;
        let mut entry = vec![0u8; usize::from(len)];
        entry
            .get_mut(..8)?
            .copy_from_slice(&number("d_ino").to_le_bytes());
        entry
            .get_mut(8..16)?
            .copy_from_slice(&number("d_off").to_le_bytes());
        entry.get_mut(16..18)?.copy_from_slice(&len.to_le_bytes());
        entry
            .get_mut(from..from + name.len())?
            .copy_from_slice(name);
        let at = if wide { 18 } else { entry.len() - 1 };
        *entry.get_mut(at)? = number("d_type") as u8;
        if bytes.len() + entry.len() > room {
            break;
        }
        bytes.extend(entry);
    }
    Some(bytes)
}
