//! The data of control messages (`SCM_RIGHTS` and others), by level and type. Other data is bytes.

use crate::constants;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::Abi;
use super::decode::{array, inline};
use super::encode::place_value;
use super::frame::{Frame, Nowhere, Side};
use super::kind::{Kind, Known};
use super::layout::layouts_in;
use crate::value::Value;

/// The kind of the data, by level and type: one item, or with `*` as many as fit. The kinds are those of `x86_64.tbl`.
/// Sources: net/core/sock.c, net/ipv4/ip_sockglue.c, net/socket.c.
const DATA: &[(&str, &str, &str)] = &[
    ("SOL_SOCKET", "SCM_RIGHTS", "*fd"),
    ("SOL_SOCKET", "SCM_CREDENTIALS", "ucred"),
    ("SOL_SOCKET", "SCM_PIDFD", "fd"),
    ("SOL_SOCKET", "SO_TIMESTAMP_OLD", "timeval"),
    ("SOL_SOCKET", "SO_TIMESTAMPNS_OLD", "timespec"),
    ("SOL_SOCKET", "SO_TIMESTAMPING_OLD", "*timespec"),
    ("SOL_SOCKET", "SO_TIMESTAMP_NEW", "timeval"),
    ("SOL_SOCKET", "SO_TIMESTAMPNS_NEW", "timespec"),
    ("SOL_SOCKET", "SO_TIMESTAMPING_NEW", "*timespec"),
    ("SOL_IP", "IP_PKTINFO", "in_pktinfo"),
    ("SOL_IP", "IP_TTL", "*uint"),
    ("SOL_IP", "IP_CHECKSUM", "*uint"),
    ("SOL_IP", "IP_TOS", "*hex8"),
    ("SOL_IP", "IP_RECVOPTS", "*hex8"),
    ("SOL_IP", "IP_RETOPTS", "*hex8"),
    ("SOL_IP", "IP_RECVERR", "sock_ee"),
    ("SOL_IP", "IP_ORIGDSTADDR", "sockaddr[16]"),
    ("SOL_IP", "IP_PROTOCOL", "*enum[ipproto]"),
];

struct Data {
    each: bool,
    kind: Kind,
}

static KNOWN: LazyLock<HashMap<(Abi, u64, u64), Data>> = LazyLock::new(|| {
    let read = |on: Abi, &(level, name, kind): &(&str, &str, &str)| {
        let number = |name| crate::constants::value(name).map(|n| n as u64);
        // These times have 64 bits on every ABI.
        let abi = match name.ends_with("_NEW") {
            true => Abi::X86_64,
            false => on,
        };
        let known = Known {
            names: &[],
            layouts: layouts_in(abi),
            abi,
            renames: &[],
        };
        let each = kind.starts_with('*');
        let kind = Kind::parse(kind.trim_start_matches('*'), known).ok()?;
        Some(((on, number(level)?, number(name)?), Data { each, kind }))
    };
    let each = Abi::ALL.iter();
    each.flat_map(|&abi| DATA.iter().filter_map(move |row| read(abi, row)))
        .collect()
});

/// The number of rows in the table, and the number of rows that could be read on all ABIs.
#[cfg(test)]
pub(crate) fn counts() -> (usize, usize) {
    (DATA.len(), KNOWN.len() / Abi::ALL.len())
}

/// The names of the types of this level.
pub(super) fn types(level: u64) -> Option<&'static constants::Set> {
    match level {
        0 => constants::set("ip"),
        1 => constants::set("scm"),
        _ => None,
    }
}

/// Decodes data as strace shows it.
pub(super) fn decode(abi: Abi, level: u64, kind: u64, bytes: &[u8]) -> Value {
    let frame = Frame::bare(&Nowhere);
    match KNOWN.get(&(abi, level, kind)) {
        Some(data) if bytes.len() >= data.size(abi) => match data.each {
            true => {
                let each = bytes.chunks_exact(data.size(abi).max(1));
                array(
                    each.map(|e| inline(&data.kind, e, &frame, Side::Entry))
                        .collect(),
                )
            }
            false => inline(&data.kind, bytes, &frame, Side::Entry),
        },
        _ => Value::str(bytes),
    }
}

/// Encodes data that was shown like this; the result is empty if the value has no known form.
pub(super) fn encode(abi: Abi, level: u64, kind: u64, value: &Value) -> Vec<u8> {
    if let Value::Str { bytes, .. } = value {
        return bytes.clone();
    }
    let Some(data) = KNOWN.get(&(abi, level, kind)) else {
        return Vec::new();
    };
    let items = match value {
        Value::Array { items, .. } if data.each => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut bytes = Vec::new();
    for item in items {
        let mut place = vec![0; data.size(abi)];
        if place_value(&data.kind, item, &mut place, &Frame::bare(&Nowhere)).is_ok() {
            bytes.extend(place);
        }
    }
    bytes
}

impl Data {
    /// The size of one item in bytes. No kind of control data has pointers.
    fn size(&self, abi: Abi) -> usize {
        self.kind.size_in(abi).unwrap_or(0)
    }
}
