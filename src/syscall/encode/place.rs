//! Encoding of values as the bytes of numbers, members and elements, at their offsets.

use super::{Refusal, name_of};
use crate::constants;
use crate::syscall::frame::{Frame, unsigned};
use crate::syscall::kind::Kind;
use crate::syscall::layout::{Layout, Member};
use crate::syscall::number::value_of;
use crate::syscall::{notation, sockaddr};
use crate::value::Value;

/// Writes a value into the bytes of a member, an element or a whole value.
pub(crate) fn place_value(
    kind: &Kind,
    value: &Value,
    place: &mut [u8],
    frame: &Frame<'_>,
) -> Result<(), Refusal> {
    let shape = || Refusal::Shape(name_of(value));
    match (kind, value) {
        (Kind::Num(num), _) => {
            let number = value_of(value).ok_or_else(shape)?;
            let kept = unsigned(place);
            copy(place, &num.place(number as u64, kept).to_le_bytes());
        }
        // The program has set the pointer to the data that the kernel stores.
        (
            Kind::Ptr(..),
            Value::Str { .. } | Value::Struct { .. } | Value::Array { .. } | Value::Set { .. },
        ) => {}
        // The text is placed once the end of the structure is known.
        (Kind::TextAt(_) | Kind::TextsAt(..), Value::Str { .. } | Value::Array { .. }) => {}
        (Kind::Ptr(..) | Kind::TextAt(_) | Kind::TextsAt(..), _) => {
            let number = value_of(value).ok_or_else(shape)?;
            copy(place, &number.to_le_bytes());
        }
        (Kind::Struct(layout) | Kind::Sized(layout, ..), Value::Struct { .. }) => {
            members(layout, value, place, frame)?
        }
        (Kind::Struct(layout) | Kind::Sized(layout, ..), Value::Change { after, .. }) => {
            members(layout, after, place, frame)?
        }
        // Older versions of strace write some structures with one member as an array: `[0]` for a sched_param.
        (Kind::Struct(layout), Value::Array { items, .. })
            if layout.members.len() == items.len() =>
        {
            for (member, item) in layout.members.iter().zip(items) {
                let rest = place.get_mut(member.offset..).unwrap_or(&mut []);
                place_value(&member.kind, item, rest, frame)?;
            }
        }
        (Kind::Array(of, _), Value::Array { items, .. }) => {
            let each = of.size_in(frame.abi).unwrap_or(1).max(1);
            for (item, place) in items.iter().zip(place.chunks_exact_mut(each)) {
                place_value(of, item, place, frame)?;
            }
        }
        (Kind::Indexed(..), Value::Array { items, .. }) => {
            for (item, byte) in items.iter().zip(place) {
                *byte = value_of(item).ok_or_else(shape)? as u8;
            }
        }
        (Kind::Indexed(..), Value::Str { bytes, .. }) => copy(place, bytes),
        (Kind::Chars(n), Value::Str { bytes, .. }) => {
            // Text that fills its field to the end has no zero byte; text that is cut has one.
            let most = match bytes.len() > *n {
                true => n.saturating_sub(1),
                false => bytes.len(),
            };
            place.fill(0); // a longer text may have been there
            copy(place, bytes.get(..most).unwrap_or(bytes));
        }
        (Kind::Bytes(_), Value::Str { bytes, .. }) => copy(place, bytes),
        (Kind::Sigset(_) | Kind::FdSet(_) | Kind::CpuSet(_), _) => {
            place.fill(0);
            let (negated, bits) = bit_set(kind, value).ok_or_else(shape)?;
            for bit in bits {
                if let Some(byte) = place.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
            if negated {
                place.iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        (Kind::WaitStatus, _) => {
            let status = value_of(value).ok_or_else(shape)? as u32;
            copy(place, &status.to_le_bytes());
        }
        (Kind::Sockaddr(_), _) => copy(place, &sockaddr::encode(value).ok_or_else(shape)?),
        (Kind::Written(notation, _), _) => {
            copy(
                place,
                &notation::encode(*notation, value).ok_or_else(shape)?,
            );
        }
        _ => return Err(shape()),
    }
    Ok(())
}

pub(super) fn copy(place: &mut [u8], bytes: &[u8]) {
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
}

pub(super) fn members(
    layout: &'static Layout,
    value: &Value,
    place: &mut [u8],
    frame: &Frame<'_>,
) -> Result<(), Refusal> {
    for member in &layout.members {
        let Some(given) = value.field(member.name) else {
            continue;
        };
        // Of several members with this name, the value is for those whose conditions hold for the bytes so far.
        let mut namesakes = layout.members.iter().filter(|m| m.name == member.name);
        let inner = frame.inside(layout, place);
        let is_other = |m: &Member| m.offset != member.offset || inner.holds(&m.condition);
        if !inner.holds(&member.condition) && namesakes.any(is_other) {
            continue;
        }
        let rest = place.get_mut(member.offset..).unwrap_or(&mut []);
        let size = member.size.unwrap_or(rest.len());
        let Some(here) = rest.get_mut(..size) else {
            continue;
        };
        place_value(&member.kind, given, here, frame).map_err(|refusal| match refusal {
            Refusal::Shape(what) => Refusal::Shape(format!("{} ({what})", member.name)),
            other => other,
        })?;
    }
    Ok(())
}

/// Appends the texts of members that have the offset of a text.
pub(super) fn texts(layout: &'static Layout, value: &Value, bytes: &mut Vec<u8>) {
    for member in &layout.members {
        let (Kind::TextAt(base) | Kind::TextsAt(base, _)) = member.kind else {
            continue;
        };
        let items = match value.field(member.name) {
            Some(Value::Array { items, .. }) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => continue,
        };
        let begin = bytes.len();
        for item in items {
            if let Value::Str { bytes: text, .. } = item {
                bytes.extend(text);
                bytes.push(0);
            }
        }
        if begin < base || begin == bytes.len() {
            continue; // no text, or no room
        }
        let offset = u32::try_from(begin - base).unwrap_or(u32::MAX);
        let place = bytes.get_mut(member.offset..).unwrap_or(&mut []);
        copy(place.get_mut(..4).unwrap_or(&mut []), &offset.to_le_bytes());
    }
}

/// The bits of a set of signals (from 0), descriptors or CPUs, and whether it is the complement.
fn bit_set(kind: &Kind, value: &Value) -> Option<(bool, Vec<usize>)> {
    let number = |text: &str| match kind {
        Kind::Sigset(_) => constants::signal(text).map(|n| n - 1),
        _ => text.parse().ok(),
    };
    let bit = |n: i32| usize::try_from(n).ok();
    match value {
        Value::Set { negated, items } => {
            let bits = items.iter().map(|text| number(text).and_then(bit));
            Some((*negated, bits.collect::<Option<_>>()?))
        }
        Value::Array { items, .. } => {
            let bits = items.iter().map(|item| match item {
                Value::Sym { text, .. } | Value::Raw(text) => number(text).and_then(bit),
                other => usize::try_from(other.as_i64()?).ok(),
            });
            Some((false, bits.collect::<Option<_>>()?))
        }
        _ => None,
    }
}
