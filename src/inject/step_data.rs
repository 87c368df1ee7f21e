//! The arguments and the data of an expected call.

use super::script::item::ExpectedCall;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{Memory, Moved, Syscall};
use crate::trace::{Answer, Value};

/// The data that a call of the trace moved, if it moved any.
pub fn data(step: &ExpectedCall) -> Option<Vec<u8>> {
    let call = step.call?;
    call.moves_data()?;
    if call.moves_messages() {
        return None;
    }
    let ret = match step.answer {
        Answer::Value(ret) if ret > 0 => ret as u64,
        _ => return None,
    };
    if let Some(event) = &step.exact {
        return exact_data(call, event, ret);
    }
    let mut data = Vec::new();
    strings(step.values().get(call.data_arg()?)?, &mut data)?;
    data.truncate(usize::try_from(ret).ok()?);
    Some(data)
}

pub(super) fn exact_data(call: &Syscall, event: &CallEvent, ret: u64) -> Option<Vec<u8>> {
    let (ins, outs) = (ChunkMemory(&event.ins), ChunkMemory(&event.outs));
    let mut data = Vec::new();
    for region in call.data_regions(&event.args, ret, &ins) {
        let mut part = vec![0; region.len];
        let source = match call.moves_data()? {
            Moved::In => &ins,
            Moved::Out => &outs,
        };
        if source.read(region.addr, &mut part) != part.len() {
            return None;
        }
        data.extend(part);
    }
    Some(data)
}

/// Appends the bytes of a string, or of all `iov_base` members in a value, in order. `None` if a string was cut.
pub(super) fn strings(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value.meaning() {
        Value::Str { bytes, cut: false } => out.extend_from_slice(bytes),
        Value::Str { .. } => return None,
        Value::Array { items, .. } => {
            for item in items {
                strings(item, out)?;
            }
        }
        Value::Struct { .. } => {
            for name in ["iov_base", "msg_iov"] {
                if let Some(inner) = value.field(name) {
                    strings(inner, out)?;
                }
            }
        }
        Value::Change { after, .. } => strings(after, out)?,
        _ => {}
    }
    Some(())
}

/// An argument as a number.
pub(super) fn number(step: &ExpectedCall, arg: usize) -> Option<i64> {
    match &step.exact {
        Some(event) => event.args.get(arg).map(|&arg| arg as i64),
        None => step.values().get(arg).and_then(Value::as_i64),
    }
}

/// The descriptor argument of the call.
pub fn descriptor(step: &ExpectedCall) -> Option<i32> {
    number(step, step.call?.fd_arg()?).map(|fd| fd as i32)
}

/// The data of each message that a call of the trace moved.
pub(super) fn messages(step: &ExpectedCall) -> Option<Vec<Vec<u8>>> {
    let call = step.call.filter(|call| call.moves_messages())?;
    let value = step.values().get(call.data_arg()?)?;
    let value = match value.meaning() {
        Value::Change { after, .. } => after.meaning(),
        value => value,
    };
    let Value::Array { items, .. } = value else {
        return None;
    };
    let ret = usize::try_from(step.answer.raw()?).ok()?;
    let data = items.iter().take(ret).map(|item| {
        let mut data = Vec::new();
        strings(item.field("msg_hdr")?, &mut data)?;
        if let Some(len) = item.field("msg_len").and_then(Value::as_i64) {
            data.truncate(usize::try_from(len).ok()?);
        }
        Some(data)
    });
    data.collect()
}
