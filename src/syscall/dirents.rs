//! Directory entries, as getdents and getdents64 return them.

use super::Abi;
use super::decode::{array, field, structure};
use super::frame;
use super::number::{symbol, value_of};
use crate::constants;
use crate::value::Value;

/// The offsets in an entry: `struct linux_dirent64` has d_ino, d_off (64 bits each), d_reclen, d_type, d_name;
/// `struct linux_dirent` has longs, its name after d_reclen, and its type in the last byte of the entry.
struct Entry {
    number: usize,
    name: usize,
    align: usize,
}

impl Entry {
    fn of(wide: bool, abi: Abi) -> Entry {
        let number = if wide { 8 } else { abi.word() };
        Entry {
            number,
            name: 2 * number + if wide { 3 } else { 2 },
            align: number,
        }
    }

    fn len_at(&self) -> usize {
        2 * self.number
    }
}

fn kind(byte: u8) -> Value {
    let name = constants::set("dirent").and_then(|set| set.exact(u64::from(byte), 0xff));
    match name {
        Some(name) => symbol(name, i64::from(byte)),
        None => Value::Addr(u64::from(byte)),
    }
}

/// The entries and their names.
fn split(bytes: &[u8], shape: Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let least = shape.len_at() + 3; // a length, and a type or an empty name
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.len() < least {
            return None;
        }
        let len = frame::field(rest, shape.len_at(), 2) as usize;
        let entry = rest.get(..len).filter(|_| len > least)?;
        rest = rest.get(len..).unwrap_or(&[]);
        let name = entry.get(shape.name..).unwrap_or(&[]);
        let name = name.get(..memchr::memchr(0, name).unwrap_or(name.len()));
        Some((entry, name.unwrap_or(&[])))
    })
}

/// The entries in what getdents64 (`wide`) or getdents returned, each with its name.
pub fn directory_entries(bytes: &[u8], wide: bool) -> impl Iterator<Item = (&[u8], &[u8])> {
    split(bytes, Entry::of(wide, Abi::X86_64))
}

pub(crate) fn decode(bytes: &[u8], wide: bool, abi: Abi) -> Value {
    let shape = Entry::of(wide, abi);
    let mut items = Vec::new();
    for (entry, name) in split(bytes, Entry::of(wide, abi)) {
        let name = field("d_name", Value::str(name));
        let at = if wide { 18 } else { entry.len() - 1 };
        let kind = field("d_type", kind(entry.get(at).copied().unwrap_or(0)));
        let number = |at| frame::field(entry, at, shape.number) as i64;
        let mut fields = vec![
            field("d_ino", Value::Int(number(0))),
            field("d_off", Value::Int(number(shape.number))),
            field("d_reclen", Value::Int(entry.len() as i64)),
        ];
        fields.extend(if wide { [kind, name] } else { [name, kind] });
        items.push(structure(fields));
    }
    array(items)
}

/// Encodes the entries that fit into `room`. `None` if one of the values is not an entry.
pub(crate) fn encode(value: &Value, wide: bool, room: usize, abi: Abi) -> Option<Vec<u8>> {
    let shape = Entry::of(wide, abi);
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
        let end = shape.name + name.len() + if wide { 1 } else { 2 };
        let least = end.next_multiple_of(shape.align);
        let given = usize::try_from(number("d_reclen")).unwrap_or(0);
        let len = if given >= end { given } else { least };
        let len = u16::try_from(len).ok()?;
        let mut entry = vec![0u8; usize::from(len)];
        let mut put = |at: usize, bytes: &[u8]| {
            let place = entry.get_mut(at..at + bytes.len());
            place.map(|place| place.copy_from_slice(bytes))
        };
        for (at, name) in [(0, "d_ino"), (shape.number, "d_off")] {
            put(at, number(name).to_le_bytes().get(..shape.number)?)?;
        }
        put(shape.len_at(), &len.to_le_bytes())?;
        put(shape.name, name)?;
        let at = if wide { 18 } else { entry.len() - 1 };
        *entry.get_mut(at)? = number("d_type") as u8;
        if bytes.len() + entry.len() > room {
            break;
        }
        bytes.extend(entry);
    }
    Some(bytes)
}
