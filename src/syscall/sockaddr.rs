//! Socket addresses of any family.
//!
//! The usual families are here, the others in `structs.tbl`; addresses of other families are `sa_data`.

use crate::constants;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::decode::{field, members, structure};
use super::encode::place_value;
use super::frame::{self, Frame, Nowhere, Side};
use super::kind::{Format, Kind, Num};
use super::layout::{Layout, layouts};
use super::number::value_of;
use crate::value::{Field, Value};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Other families: number, least length, greatest length, structure.
const FAMILIES: &[(u16, usize, usize, &str)] = &[
    (4, 16, MOST, "sockaddr_ipx"),
    (9, 18, MOST, "sockaddr_x25"),
    (16, 12, MOST, "sockaddr_nl"),
    (17, 20, MOST, "sockaddr_ll"),
    (30, 16, MOST, "sockaddr_tipc"),
    (31, 4, 6, "sockaddr_hci"),
    (31, 8, 8, "sockaddr_sco"),
    (31, 10, 10, "sockaddr_rc"),
    (31, 12, 14, "sockaddr_l2"),
    (33, 36, MOST, "sockaddr_rxrpc"),
    (36, 16, MOST, "sockaddr_ieee802154"),
    (38, 88, MOST, "sockaddr_alg"),
    (39, 16, MOST, "sockaddr_nfc"),
    (40, 16, MOST, "sockaddr_vm"),
    (42, 12, MOST, "sockaddr_qrtr"),
    (44, 16, MOST, "sockaddr_xdp"),
    (45, 12, MOST, "sockaddr_mctp"),
];

/// `sizeof(struct sockaddr_storage)`.
const MOST: usize = 128;

/// The structure of an address of this family for which `chosen` holds; `chosen` gets the range of lengths and the
/// structure.
fn layout(family: u16, chosen: impl Fn(usize, usize, &Layout) -> bool) -> Option<&'static Layout> {
    let mut families = FAMILIES.iter().filter(|known| known.0 == family);
    families.find_map(|&(_, least, most, name)| {
        let found = layouts().get(name).copied()?;
        chosen(least, most, found).then_some(found)
    })
}

fn number(format: Format, size: usize, raw: u64) -> Value {
    let signed = false;
    Num {
        size,
        signed,
        format,
    }
    .decode(raw)
}

pub(crate) fn decode(bytes: &[u8]) -> Value {
    if bytes.len() < 2 {
        return Value::str(bytes);
    }
    let at = |offset, size| frame::field(bytes, offset, size);
    let family = at(0, 2) as u16;
    let family_value = match constants::set("socket_family") {
        Some(set) => number(Format::Enum(set), 2, u64::from(family)),
        None => Value::Int(i64::from(family)),
    };
    let mut fields = vec![field("sa_family", family_value)];
    match family {
        AF_UNIX => fields.extend(unix_path(bytes.get(2..).unwrap_or(&[]))),
        AF_INET if bytes.len() >= 8 => {
            fields.push(field("sin_port", number(Format::Port, 2, at(2, 2))));
            fields.push(field("sin_addr", number(Format::Inet, 4, at(4, 4))));
        }
        AF_INET6 if bytes.len() >= 24 => {
            fields.push(field("sin6_port", number(Format::Port, 2, at(2, 2))));
            fields.push(field("sin6_flowinfo", number(Format::Net, 4, at(4, 4))));
            let mut octets = [0u8; 16];
            octets.copy_from_slice(bytes.get(8..24).unwrap_or(&[0; 16]));
            let address = Ipv6Addr::from(octets);
            let text = format!("inet_pton(AF_INET6, \"{address}\", &sin6_addr)");
            let value = None; // it does not fit into a number
            fields.push(field("", Value::Sym { text, value }));
            fields.push(field("sin6_scope_id", Value::Int(at(24, 4) as i64)));
        }
        _ => match layout(family, |least, most, _| {
            (least..=most).contains(&bytes.len())
        }) {
            Some(layout) => {
                let inside = members(layout, bytes, &Frame::bare(&Nowhere), Side::Entry);
                if let Value::Struct { fields: inside, .. } = inside {
                    fields.extend(inside);
                }
            }
            None => fields.push(field("sa_data", Value::str(bytes.get(2..).unwrap_or(&[])))),
        },
    }
    structure(fields)
}

/// `sizeof(sun_path)`.
const UNIX_PATH: usize = 108;

fn unix_path(path: &[u8]) -> Option<Field> {
    let path = path.get(..UNIX_PATH).unwrap_or(path);
    match path {
        [] => None,
        // An abstract name begins with a zero byte, and may have more of them.
        [0, ..] => Some(field("sun_path", Value::str(path))),
        _ => {
            let end = memchr::memchr(0, path).unwrap_or(path.len());
            Some(field("sun_path", Value::str(path.get(..end)?)))
        }
    }
}

/// Encodes an address of any family. `None` if the value is not an address.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let fields = match value {
        Value::Struct { fields, .. } => fields,
        Value::Str { bytes, .. } => return Some(bytes.clone()),
        _ => return None,
    };
    let number = |name: &str| value.field(name).and_then(value_of).unwrap_or(0);
    let family = value.field("sa_family").and_then(value_of)? as u16;
    let mut bytes = family.to_le_bytes().to_vec();
    // An address of an unknown family, or too short for its family, is data.
    if let Some(Value::Str { bytes: data, .. }) = value.field("sa_data") {
        bytes.extend(data.iter().take(126));
        return Some(bytes);
    }
    match family {
        AF_UNIX => match value.field("sun_path") {
            None => {}
            Some(Value::Str { bytes: path, .. }) => {
                bytes.extend(path.iter().take(UNIX_PATH));
                if path.first() != Some(&0) && path.len() < UNIX_PATH {
                    bytes.push(0);
                }
            }
            Some(_) => return None,
        },
        AF_INET => {
            bytes.extend((number("sin_port") as u16).to_le_bytes());
            bytes.extend((ipv4(value) as u32).to_le_bytes());
            bytes.resize(16, 0);
        }
        AF_INET6 => {
            bytes.extend((number("sin6_port") as u16).to_le_bytes());
            bytes.extend((number("sin6_flowinfo") as u32).to_le_bytes());
            let address = fields.iter().find_map(|f| ipv6(&f.value));
            bytes.extend(address.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
            bytes.extend((number("sin6_scope_id") as u32).to_le_bytes());
        }
        _ => {
            let told = |_, _, layout: &Layout| {
                let mut members = layout.members.iter();
                members.any(|m| value.field(m.name).is_some())
            };
            if let Some(layout) = layout(family, told) {
                bytes.resize(layout.size, 0);
                place_members(layout, value, &mut bytes);
            }
        }
    }
    Some(bytes)
}

/// Writes the members that the value has. Only the kernel knows the number of an interface's name, which stays 0.
fn place_members(layout: &Layout, value: &Value, bytes: &mut Vec<u8>) {
    for member in &layout.members {
        // A link-layer address may be longer than the structure.
        if let (None, Kind::Array(..), Some(Value::Array { items, .. })) =
            (member.size, &member.kind, value.field(member.name))
        {
            let end = member.offset.saturating_add(items.len()).min(MOST);
            bytes.resize(bytes.len().max(end), 0);
        }
        let place = bytes.get_mut(member.offset..).unwrap_or(&mut []);
        let size = member.size.unwrap_or(place.len());
        if let (Some(given), Some(place)) = (value.field(member.name), place.get_mut(..size)) {
            let _ = place_value(&member.kind, given, place, &Frame::bare(&Nowhere));
        }
    }
}

fn ipv4(value: &Value) -> i64 {
    match value.field("sin_addr") {
        Some(Value::Str { bytes, .. }) => {
            let text = String::from_utf8_lossy(bytes);
            let address: Option<Ipv4Addr> = text.parse().ok();
            address.map_or(0, |a| i64::from(u32::from_ne_bytes(a.octets())))
        }
        Some(other) => value_of(other).unwrap_or(0),
        None => 0,
    }
}

/// The address in `inet_pton(AF_INET6, "::1", &sin6_addr)`, in any of the forms to which that is parsed.
fn ipv6(value: &Value) -> Option<Ipv6Addr> {
    match value {
        Value::Raw(text) | Value::Sym { text, .. } => {
            let inner = text.strip_prefix("inet_pton(")?;
            inner.split('"').nth(1)?.parse().ok()
        }
        Value::Str { bytes, .. } => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
