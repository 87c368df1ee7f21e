//! Socket addresses of any family.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::decode::{field, structure};
use super::frame;
use super::kind::{Format, Num};
use super::number::{symbol, value_of};
use super::sets;
use crate::trace::{Field, Value};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;

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
    let family_value = match sets::set("socket_family") {
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
        AF_NETLINK if bytes.len() >= 12 => {
            fields.push(field("nl_pid", Value::Int(at(4, 4) as i64)));
            let groups = at(8, 4);
            let text = match groups {
                0 => "00000000".to_owned(),
                _ => format!("{groups:#08x}"),
            };
            fields.push(field("nl_groups", symbol(text, groups as i64)));
        }
        _ => fields.push(field("sa_data", Value::str(bytes.get(2..).unwrap_or(&[])))),
    }
    structure(fields)
}

fn unix_path(path: &[u8]) -> Option<Field> {
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

/// The bytes of an address of any family. `None` where it is not one.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let fields = match value {
        Value::Struct { fields, .. } => fields,
        Value::Str { bytes, .. } => return Some(bytes.clone()),
        _ => return None,
    };
    let number = |name: &str| value.field(name).and_then(value_of).unwrap_or(0);
    let family = value.field("sa_family").and_then(value_of)? as u16;
    let mut bytes = family.to_le_bytes().to_vec();
    match family {
        AF_UNIX => match value.field("sun_path") {
            None => {}
            Some(Value::Str { bytes: path, .. }) => {
                bytes.extend(path.iter().take(108));
                if path.first() != Some(&0) && path.len() < 108 {
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
        AF_NETLINK => {
            bytes.extend([0, 0]);
            bytes.extend((number("nl_pid") as u32).to_le_bytes());
            bytes.extend((number("nl_groups") as u32).to_le_bytes());
        }
        _ => {
            if let Some(Value::Str { bytes: data, .. }) = value.field("sa_data") {
                bytes.extend(data.iter().take(126));
            }
        }
    }
    Some(bytes)
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

/// The address in `inet_pton(AF_INET6, "::1", &sin6_addr)`, however it was parsed.
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
