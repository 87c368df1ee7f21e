//! Bytes that strace writes in a special notation: link-layer addresses and IPv6 addresses.

use std::net::Ipv6Addr;

use crate::value::Value;

/// The notation of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `02:42:ac:11:00:02`.
    Mac,
    /// A member that is an IPv6 address: `inet_pton(AF_INET6, "::1", &sin6_addr)`, without `name=` before it.
    Inet6,
}

/// Decodes the bytes of the member `name` in a notation.
pub(super) fn decode(notation: Notation, bytes: &[u8], name: &str) -> Value {
    match notation {
        Notation::Mac => {
            let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            match parts.is_empty() {
                true => Value::Raw(String::new()),
                false => Value::Raw(parts.join(":")),
            }
        }
        Notation::Inet6 => match <[u8; 16]>::try_from(bytes) {
            Ok(octets) => {
                let address = Ipv6Addr::from(octets);
                let text = format!("inet_pton(AF_INET6, \"{address}\", &{name})");
                let value = None; // it does not fit into a number
                Value::Sym { text, value }
            }
            Err(_) => Value::str(bytes),
        },
    }
}

/// Encodes a value in a notation. `None` if the value has another form.
pub(super) fn encode(notation: Notation, value: &Value) -> Option<Vec<u8>> {
    match (notation, value) {
        (Notation::Mac, Value::Raw(text) | Value::Sym { text, .. }) if text.is_empty() => {
            Some(Vec::new())
        }
        (Notation::Mac, Value::Raw(text) | Value::Sym { text, .. }) => {
            let parts = text.split(':').map(|part| u8::from_str_radix(part, 16));
            parts.collect::<Result<_, _>>().ok()
        }
        // An address of one byte.
        (Notation::Mac, Value::Int(_) | Value::Octal(_)) => {
            let byte = u8::from_str_radix(&value.to_string(), 16).ok()?;
            Some(vec![byte])
        }
        (Notation::Inet6, Value::Raw(text) | Value::Sym { text, .. }) => {
            let inner = text.strip_prefix("inet_pton(")?;
            let address: Ipv6Addr = inner.split('"').nth(1)?.parse().ok()?;
            Some(address.octets().to_vec())
        }
        // Versions of strace without the notation, and `-X raw`, write a string.
        (_, Value::Str { bytes, .. }) => match std::str::from_utf8(bytes).map(str::parse) {
            Ok(Ok(address)) if notation == Notation::Inet6 => {
                let address: Ipv6Addr = address;
                Some(address.octets().to_vec())
            }
            _ => Some(bytes.clone()),
        },
        _ => None,
    }
}
