//! Sets of capabilities, as capget and capset pass them: three words for version 1 of the header, and three more with
//! the upper halves for versions 2 and 3. strace writes each set as one.

use super::decode::{field, structure};
use super::frame;
use super::number::{symbol, value_of};
use crate::constants;
use crate::value::Value;

/// `_LINUX_CAPABILITY_VERSION_2` and `_3` of linux/capability.h.
const WIDE: [u32; 2] = [0x2007_1026, 0x2008_0522];
/// `struct __user_cap_data_struct`.
const HALF: usize = 12;
/// The members of `struct __user_cap_data_struct`.
const NAMES: [&str; 3] = ["effective", "permitted", "inheritable"];

/// The number of bytes of the sets for a version; no version counts as version 1.
pub(crate) fn size(version: Option<u32>) -> usize {
    match version.is_some_and(|version| WIDE.contains(&version)) {
        true => 2 * HALF,
        false => HALF,
    }
}

/// Decodes sets: `{effective=1<<CAP_CHOWN, permitted=…, inheritable=0}`.
pub(crate) fn decode(bytes: &[u8]) -> Value {
    let set = |index: usize| {
        let low = frame::field(bytes, index * 4, 4);
        let high = frame::field(bytes, HALF + index * 4, 4);
        capabilities(high << 32 | low)
    };
    let members = NAMES.iter().enumerate();
    structure(members.map(|(i, name)| field(name, set(i))).collect())
}

/// Encodes sets, in as many bytes as the version has.
pub(crate) fn encode(value: &Value, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    for (index, name) in NAMES.iter().enumerate() {
        let Some(given) = value.field(name) else {
            continue;
        };
        let set = value_of(given)? as u64;
        for (at, half) in [
            (index * 4, set as u32),
            (HALF + index * 4, (set >> 32) as u32),
        ] {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&half.to_le_bytes());
            }
        }
    }
    Some(bytes)
}

fn capabilities(set: u64) -> Value {
    let Some(names) = constants::set("cap") else {
        return Value::Addr(set);
    };
    let mut parts = Vec::new();
    let mut left = set;
    for bit in (0..64).filter(|bit| set >> bit & 1 == 1) {
        if let Some(name) = names.exact(bit, u64::MAX) {
            parts.push(format!("1<<{name}"));
            left &= !(1 << bit);
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    match parts.is_empty() {
        true => Value::Int(0),
        false => symbol(parts.join("|"), set as i64),
    }
}
