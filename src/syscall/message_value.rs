//! Decoding and encoding of vectors and messages, as strace shows them.

use super::decode::{array, field, structure};
use super::encode::Refusal;
use super::frame::{
    self, Frame, MOST_BYTES, MOST_VECTORS, Side, read_exact, read_some, read_string, read_u32,
};
use super::kind::{Format, Kind, Num};
use super::message::{Header, controllen_at, mmsghdr, msghdr, namelen_at, vectors};
use super::number::value_of;
use super::{Abi, Moved, control, sockaddr};
use crate::constants;
use crate::value::Value;

/// The size of a `struct cmsghdr`: length (a word), level and type; the data follows, and the next header at a
/// multiple of a word.
const fn cmsghdr(abi: Abi) -> usize {
    abi.word() + 8
}

/// The bytes that a vector takes as a value.
const VECTOR: usize = 256;

/// The bytes that a byte of control messages takes as a value.
const CONTROL: usize = 16;

pub(crate) fn decode(kind: &Kind, addr: u64, frame: &Frame<'_>, side: Side) -> Option<Value> {
    let moved_len = |moved: &Moved| match moved {
        Moved::In => u64::MAX,
        Moved::Out => u64::try_from(frame.ret).unwrap_or(0),
    };
    match kind {
        Kind::Iovec(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            match decode_vectors(addr, count, moved_len(moved), frame, side)? {
                Value::Array { items, .. } if items.is_empty() && count > 0 => None,
                vectors => Some(vectors),
            }
        }
        Kind::Message(moved) => decode_header(*moved, addr, moved_len(moved), frame, side),
        Kind::Messages(moved, extent) => {
            let count = match side {
                Side::Entry => frame.count(*extent, Side::Entry, MOST_VECTORS) as u64,
                Side::Exit => {
                    let room = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
                    room.min(u64::try_from(frame.ret).unwrap_or(0))
                }
            };
            let message = |i: u64| {
                let at = addr.wrapping_add(i * mmsghdr(frame.abi) as u64);
                let len_at = at.wrapping_add(msghdr(frame.abi) as u64);
                let len = (side == Side::Exit).then(|| read_u32(frame.exit, len_at));
                let len = len.flatten();
                let most = match moved {
                    Moved::In => u64::MAX,
                    Moved::Out => u64::from(len.unwrap_or(0)),
                };
                let header = decode_header(*moved, at, most, frame, side)?;
                let mut fields = vec![field("msg_hdr", header)];
                fields.extend(len.map(|len| field("msg_len", Value::Int(i64::from(len)))));
                Some(structure(fields))
            };
            (0..count)
                .map(message)
                .collect::<Option<Vec<_>>>()
                .map(array)
        }
        _ => None,
    }
}

/// The vectors; `None` where there is no room for so many.
fn decode_vectors(addr: u64, count: u64, len: u64, frame: &Frame<'_>, side: Side) -> Option<Value> {
    let mut left = len;
    let vectors = vectors(frame.entry, addr, count, frame.abi);
    if !frame.memory(side).has_room(vectors.len() * VECTOR) {
        return None;
    }
    let items = vectors.into_iter().map(|(base, room)| {
        let here = room.min(left).min(MOST_BYTES);
        left -= here;
        let string = match here {
            0 => Some(Value::str([])),
            _ => read_string(frame.memory(side), base, here as usize),
        };
        let base = match string {
            Some(_) if base == 0 => Value::Addr(0),
            Some(string) => string,
            None => Value::Addr(base),
        };
        structure(vec![
            field("iov_base", base),
            field("iov_len", Value::Int(room as i64)),
        ])
    });
    Some(array(items.collect()))
}

fn decode_header(
    moved: Moved,
    addr: u64,
    len: u64,
    frame: &Frame<'_>,
    side: Side,
) -> Option<Value> {
    let before = Header::read(frame.entry, addr, frame.abi)?;
    let after = match (moved, side) {
        (Moved::Out, Side::Exit) => Header::read(frame.exit, addr, frame.abi)?,
        _ => Header::read(frame.entry, addr, frame.abi)?,
    };
    let memory = frame.memory(side);
    let name_len = before.namelen.min(after.namelen).min(128) as usize;
    let name = match (before.name, name_len) {
        (at, 0) | (at @ 0, _) => Value::Addr(at),
        (at, len) => match read_exact(memory, at, len) {
            Some(bytes) => sockaddr::decode(&bytes),
            None => Value::Addr(at),
        },
    };
    let mut fields = vec![
        field("msg_name", name),
        field(
            "msg_namelen",
            changed(before.namelen.into(), after.namelen.into()),
        ),
        field(
            "msg_iov",
            decode_vectors(before.iov, before.iovlen, len, frame, side)
                .unwrap_or(Value::Addr(before.iov)),
        ),
        field("msg_iovlen", Value::Int(before.iovlen as i64)),
    ];
    let control_len = before.controllen.min(after.controllen).min(MOST_BYTES);
    let is_readable = || memory.has_room((control_len as usize).saturating_mul(CONTROL));
    if before.control != 0 && control_len > 0 && is_readable() {
        let bytes = read_some(memory, before.control, control_len as usize);
        fields.push(field("msg_control", decode_control(&bytes, frame.abi)));
    }
    fields.push(field("msg_controllen", Value::Int(after.controllen as i64)));
    if let Some(set) = constants::set("msg") {
        fields.push(field(
            "msg_flags",
            number(Format::Flags(set), after.flags.into()),
        ));
    }
    Some(structure(fields))
}

fn number(format: Format, raw: u64) -> Value {
    let num = Num {
        size: 4,
        signed: true,
        format,
    };
    num.decode(raw)
}

fn changed(before: i64, after: i64) -> Value {
    match before == after {
        true => Value::Int(after),
        false => Value::Change {
            before: Box::new(Value::Int(before)),
            after: Box::new(Value::Int(after)),
        },
    }
}

pub(crate) fn decode_control(bytes: &[u8], abi: Abi) -> Value {
    let (word, header) = (abi.word(), cmsghdr(abi));
    let mut items = Vec::new();
    let mut rest = bytes;
    while rest.len() >= header {
        let len = frame::field(rest, 0, word) as usize;
        let (level, kind) = (frame::field(rest, word, 4), frame::field(rest, word + 4, 4));
        if len < header {
            break;
        }
        let data = rest.get(header..len.min(rest.len())).unwrap_or(&[]);
        let level_value = match constants::set("sockopt_level") {
            Some(set) => number(Format::Enum(set), level),
            None => Value::Int(level as i64),
        };
        let kind_value = match control::types(level) {
            Some(set) => number(Format::Enum(set), kind),
            None => Value::Addr(kind),
        };
        let mut fields = vec![
            field("cmsg_len", Value::Int(len as i64)),
            field("cmsg_level", level_value),
            field("cmsg_type", kind_value),
        ];
        if !data.is_empty() {
            fields.push(field("cmsg_data", control::decode(abi, level, kind, data)));
        }
        items.push(structure(fields));
        let next = len.saturating_add(word - 1) & !(word - 1);
        rest = rest.get(next..).unwrap_or(&[]);
    }
    array(items)
}

pub(crate) fn encode_control(value: &Value, room: usize, abi: Abi) -> Result<Vec<u8>, Refusal> {
    let items = match value {
        Value::Array { items, .. } => items,
        Value::Str { bytes, .. } => return Ok(bytes.iter().take(room).copied().collect()),
        _ => return Err(Refusal::NotDecoded),
    };
    let mut bytes = Vec::new();
    for item in items {
        let number = |name: &str| item.field(name).and_then(value_of).unwrap_or(0);
        let (level, kind) = (number("cmsg_level") as u64, number("cmsg_type") as u64);
        let data = item.field("cmsg_data");
        let data = data.map_or_else(Vec::new, |data| control::encode(abi, level, kind, data));
        let len = cmsghdr(abi) + data.len();
        bytes.resize(bytes.len().next_multiple_of(abi.word()), 0);
        if bytes.len() + len > room {
            break;
        }
        bytes.extend((len as u64).to_le_bytes().into_iter().take(abi.word()));
        bytes.extend((number("cmsg_level") as u32).to_le_bytes());
        bytes.extend((number("cmsg_type") as u32).to_le_bytes());
        bytes.extend(data);
    }
    Ok(bytes)
}

/// The writes for the parts of a vector or message that the kernel fills.
pub(crate) fn encode(
    kind: &Kind,
    value: &Value,
    addr: u64,
    frame: &Frame<'_>,
) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let ret = u64::try_from(frame.ret).unwrap_or(0);
    let mut writes = Vec::new();
    match kind {
        Kind::Iovec(Moved::Out, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            encode_vectors(value, (addr, count), ret, frame, &mut writes)?;
        }
        Kind::Message(Moved::Out) => encode_header(value, addr, ret, frame, &mut writes)?,
        Kind::Messages(moved, extent) => {
            let Value::Array { items, .. } = value else {
                return Err(Refusal::NotDecoded);
            };
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            for (i, item) in (0..count.min(ret)).zip(items) {
                let at = addr.wrapping_add(i * mmsghdr(frame.abi) as u64);
                let len = item.field("msg_len").and_then(value_of).unwrap_or(0) as u32;
                if *moved == Moved::Out {
                    let header = item.field("msg_hdr").ok_or(Refusal::NotDecoded)?;
                    encode_header(header, at, u64::from(len), frame, &mut writes)?;
                }
                writes.push((
                    at.wrapping_add(msghdr(frame.abi) as u64),
                    len.to_le_bytes().to_vec(),
                ));
            }
        }
        _ => {}
    }
    Ok(writes)
}

fn encode_vectors(
    value: &Value,
    (addr, count): (u64, u64),
    len: u64,
    frame: &Frame<'_>,
    writes: &mut Vec<(u64, Vec<u8>)>,
) -> Result<(), Refusal> {
    let Value::Array { items, cut } = value else {
        return Err(Refusal::NotDecoded);
    };
    let mut data = Vec::new();
    for item in items {
        match item.field("iov_base") {
            Some(Value::Str { bytes, cut: false }) => data.extend_from_slice(bytes),
            Some(Value::Str { bytes, cut: true }) => {
                data.extend_from_slice(bytes);
                if (data.len() as u64) < len {
                    return Err(Refusal::Cut {
                        have: data.len(),
                        need: len,
                    });
                }
            }
            _ => {}
        }
    }
    if *cut && (data.len() as u64) < len {
        return Err(Refusal::Cut {
            have: data.len(),
            need: len,
        });
    }
    data.truncate(len.min(MOST_BYTES) as usize);
    let mut rest = data.as_slice();
    for (base, room) in vectors(frame.entry, addr, count, frame.abi) {
        let here = (rest.len() as u64).min(room) as usize;
        let (now, later) = rest.split_at_checked(here).unwrap_or((rest, &[]));
        if !now.is_empty() {
            writes.push((base, now.to_vec()));
        }
        rest = later;
    }
    Ok(())
}

fn encode_header(
    value: &Value,
    addr: u64,
    len: u64,
    frame: &Frame<'_>,
    writes: &mut Vec<(u64, Vec<u8>)>,
) -> Result<(), Refusal> {
    if !matches!(value, Value::Struct { .. }) {
        return Err(Refusal::NotDecoded);
    }
    let own = Header::read(frame.entry, addr, frame.abi).ok_or(Refusal::Unreadable(addr))?;
    let number = |name: &str| value.field(name).and_then(value_of).unwrap_or(0);
    if own.name != 0 {
        let name = value.field("msg_name");
        if let Some(mut bytes) = name.and_then(sockaddr::encode) {
            bytes.truncate(own.namelen.min(128) as usize);
            if !bytes.is_empty() {
                writes.push((own.name, bytes));
            }
        }
        let len = number("msg_namelen") as u32;
        let at = addr.wrapping_add(namelen_at(frame.abi));
        writes.push((at, len.to_le_bytes().to_vec()));
    }
    if let Some(iov) = value.field("msg_iov") {
        encode_vectors(iov, (own.iov, own.iovlen), len, frame, writes)?;
    }
    let mut control_len = 0u64;
    if let (Some(control), true) = (value.field("msg_control"), own.control != 0) {
        let room = own.controllen.min(MOST_BYTES) as usize;
        let bytes = encode_control(control, room, frame.abi)?;
        control_len = (number("msg_controllen").max(0) as u64).min(own.controllen);
        if !bytes.is_empty() {
            writes.push((own.control, bytes));
        }
    }
    let mut tail = control_len.to_le_bytes().to_vec();
    tail.truncate(frame.abi.word());
    tail.extend((number("msg_flags") as u32).to_le_bytes());
    writes.push((addr.wrapping_add(controllen_at(frame.abi)), tail));
    Ok(())
}
