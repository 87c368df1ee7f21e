//! The check of an edit: the new value must be the one that was given, for which there may be no room.

use super::{PathStep, Problem, Result, leaf};
use crate::syscall::number::value_of;
use crate::value::Value;

/// Compares the new value, at the end of these steps, with the value that was given.
pub(super) fn check(now: &Value, way: &[PathStep], given: &Value) -> Result<()> {
    let mut part = now;
    for step in way {
        let found = match (step, part.meaning()) {
            (PathStep::Member(name), part) => part.field(name),
            (PathStep::Element(index), Value::Array { items, .. }) => items.get(*index),
            _ => None,
        };
        match found {
            Some(found) => part = found,
            None => return Err(lost(given, now)),
        }
    }
    match says(part, given) {
        true => Ok(()),
        false => Err(lost(given, part)),
    }
}

pub(super) fn lost(given: &Value, now: &Value) -> super::EditError {
    let (given, now) = (leaf::shown(given), leaf::shown(now));
    Problem::Lost { given, now }.into()
}

/// Returns whether a value has all that was given. Members that follow from other members may differ, and so may values
/// without a number.
pub(super) fn says(now: &Value, given: &Value) -> bool {
    if let (Value::Str { bytes, .. }, Value::Written { text, .. }) = (now.meaning(), given) {
        return **bytes == **text;
    }
    match (now.meaning(), given.meaning()) {
        (Value::Str { bytes: now, .. }, Value::Str { bytes, .. }) => now == bytes,
        (now, Value::Struct { fields, .. }) => fields.iter().all(|field| {
            let follows = matches!(field.name.as_str(), "" | "d_reclen" | "cmsg_len");
            follows
                || now
                    .field(&field.name)
                    .is_some_and(|now| says(now, &field.value))
        }),
        (Value::Array { items: now, .. }, Value::Array { items, .. }) => {
            now.len() == items.len() && now.iter().zip(items).all(|(now, given)| says(now, given))
        }
        (now, given) => match (value_of(now), value_of(given)) {
            // A negative number is also written as an unsigned one.
            (Some(now), Some(given)) => now == given || given < 0,
            _ => true,
        },
    }
}
