//! `struct file_handle` as name_to_handle_at fills it: the program passes the size of the buffer, and the kernel stores
//! the size of the handle, also if that is too large (`EOVERFLOW`). strace writes the size as a change, and the other
//! members if there is a handle: `{handle_bytes=128 => 12, handle_type=1, f_handle="\x01…"}`.

use super::decode::{field, structure};
use super::frame::{self, Frame, Side};
use super::kind::Len;
use super::number::value_of;
use crate::constants::is_error;
use crate::value::Value;

/// handle_bytes 0, handle_type 4, f_handle 8.
const HEADER: usize = 8;
/// `MAX_HANDLE_SZ`.
const MOST: u64 = 128;

/// The number of bytes that the kernel reads, or has written.
pub(crate) fn size(bytes: Len, frame: &Frame<'_>, side: Side) -> usize {
    if side == Side::Entry || is_error(frame.ret) {
        return HEADER;
    }
    let room = frame.len(bytes, Side::Entry).min(MOST);
    HEADER + frame.len(bytes, Side::Exit).min(room) as usize
}

pub(crate) fn decode(bytes: &[u8], frame: &Frame<'_>, side: Side) -> Value {
    let number = |offset| frame::field(bytes, offset, 4);
    let mut fields = vec![field("handle_bytes", Value::Int(number(0) as i64))];
    if side == Side::Exit && !is_error(frame.ret) {
        let handle = bytes.get(HEADER..).unwrap_or(&[]);
        fields.push(field(
            "handle_type",
            Value::Int(i64::from(number(4) as i32)),
        ));
        fields.push(field("f_handle", Value::str(handle)));
    }
    structure(fields)
}

/// The structures before and after the call, in one.
pub(crate) fn change(before: &Value, after: Value) -> Value {
    let Value::Struct { mut fields, cut } = after else {
        return after;
    };
    for field in &mut fields {
        if let Some(old) = before.field(&field.name).filter(|old| **old != field.value) {
            field.value = Value::Change {
                before: Box::new(old.clone()),
                after: Box::new(field.value.clone()),
            };
        }
    }
    Value::Struct { fields, cut }
}

/// Encodes a handle; `None` if the value is not a handle.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    let number = |name: &str| value.field(name).and_then(value_of);
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend((number("handle_bytes")? as u32).to_le_bytes());
    bytes.extend((number("handle_type").unwrap_or(0) as i32).to_le_bytes());
    if let Some(Value::Str { bytes: handle, .. }) = value.field("f_handle") {
        bytes.extend(handle);
    }
    Some(bytes)
}
