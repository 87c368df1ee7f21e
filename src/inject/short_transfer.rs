//! Partial answers: a call gets a part of the data that the trace has for it, and a later call gets the rest.

use super::amount::whole_entries;
pub(super) use super::amount::{Amount, asked_arg};
use super::hook::HookCall;
use super::script::item::ExpectedCall;
use super::step_data;
use super::{Error, Result};
use crate::recording::ChunkMemory;
use crate::syscall::{EncodeError, Kind, Memory, Moved, Syscall};
use crate::trace::Value;

/// The answer of an expected call.
pub struct Answered {
    /// The return value.
    pub ret: i64,
    /// True if the trace's call is used up; otherwise the same call, made again, gets the rest.
    pub done: bool,
}

/// The arguments with the position at which a call reads or writes: numbers, or pointers to numbers.
fn position_args(call: &Syscall) -> impl Iterator<Item = usize> {
    let names = ["offset", "off_in", "off_out"].into_iter();
    names.filter_map(|name| call.arg(name))
}

fn is_pointer(call: &Syscall, arg: usize) -> bool {
    let kind = call.args.get(arg).map(|arg| &arg.kind);
    matches!(kind, Some(Kind::Ptr(..)))
}

/// The number at an address; `None` for a null pointer.
fn number_behind(memory: &dyn Memory, addr: u64) -> Option<i64> {
    let mut bytes = [0; 8];
    (addr != 0 && memory.read(addr, &mut bytes) == bytes.len()).then(|| i64::from_le_bytes(bytes))
}

/// Returns whether a call begins at the position where the first part ended.
pub(super) fn is_at_next_position(step: &ExpectedCall, call: &HookCall) -> bool {
    position_args(call.call).all(|arg| {
        let first = match (is_pointer(call.call, arg), &step.exact) {
            (false, _) => step_data::number(step, arg),
            (true, Some(event)) => {
                let addr = event.args.get(arg).copied().unwrap_or(0);
                number_behind(&ChunkMemory(&event.ins), addr)
            }
            (true, None) => step.values().get(arg).and_then(first_number),
        };
        let now = match is_pointer(call.call, arg) {
            false => Some(call.args[arg] as i64),
            true => number_behind(&call.memory, call.args[arg]),
        };
        match (first, now) {
            (Some(first), Some(now)) => first.wrapping_add(step.used as i64) == now,
            _ => true,
        }
    })
}

/// The number in `[5]`, or the first one in `[5] => [9]`.
fn first_number(value: &Value) -> Option<i64> {
    match value.meaning() {
        Value::Change { before, .. } => first_number(before),
        Value::Array { items, .. } => items.first().and_then(first_number),
        number => number.as_i64(),
    }
}

/// Answers a call with a part of the trace's data: from the end of the previous part, as much as the call asks for and
/// `limit` allows. `None` if the trace does not have the data.
///
/// # Errors
/// If the process's memory cannot be written.
pub(super) fn answer(
    step: &mut ExpectedCall,
    call: &mut HookCall,
    limit: Option<u64>,
) -> Result<Option<Answered>> {
    let all = match step.answer.raw() {
        Some(ret) if ret > 0 => ret as u64,
        _ => return Ok(None),
    };
    let left = all.saturating_sub(step.used);
    let asked = asked_arg(call.call).and_then(|arg| call.args.get(arg).copied());
    let most = left.min(limit.unwrap_or(u64::MAX));
    let (n, all) = match Amount::of(call.call) {
        Some(Amount::Inside) => {
            let n = most.min(asked.unwrap_or(u64::MAX));
            advance_positions(call, n as i64)?;
            (n, all)
        }
        Some(Amount::Messages) => {
            let n = most.min(asked.unwrap_or(u64::MAX));
            write_messages(step, call, n)?;
            (n, all)
        }
        Some(Amount::Bytes) => {
            let Some(data) = data(step, call)? else {
                return Ok(None);
            };
            (bytes(step, call, &data, limit)?, data.len() as u64)
        }
        None => return Ok(None),
    };
    step.used += n;
    Ok(Some(Answered {
        ret: n as i64,
        done: step.used >= all,
    }))
}

/// Advances the positions that the call passes by pointer.
pub(super) fn advance_positions(call: &mut HookCall, n: i64) -> Result<()> {
    for arg in position_args(call.call).filter(|&arg| is_pointer(call.call, arg)) {
        let addr = call.args[arg];
        if let Some(now) = number_behind(&call.memory, addr) {
            call.overwrite(addr, &now.wrapping_add(n).to_le_bytes())?;
        }
    }
    Ok(())
}

/// Takes back a part of the answer, since the call moves less.
///
/// # Errors
/// If the process's memory cannot be written.
pub(super) fn take_back(call: &mut HookCall, less: i64) -> Result<()> {
    match Amount::of(call.call) {
        Some(Amount::Inside) => advance_positions(call, -less),
        _ => Ok(()),
    }
}

/// All data of the trace's call, of which the process may get parts.
fn data(step: &ExpectedCall, call: &HookCall) -> Result<Option<Vec<u8>>> {
    let entries = matches!(call.name(), "getdents" | "getdents64");
    if !entries || step.exact.is_some() {
        return Ok(step_data::data(step));
    }
    // The trace has decoded entries, whose encoding is the data.
    let mut args = call.args;
    if let (Some(arg), Some(ret)) = (call.call.data_len_arg(), step.answer.raw()) {
        args[arg] = args[arg].max(ret as u64);
    }
    let values = call.call.with_notes(step.values(), &step.notes);
    let ret = step.answer.raw().unwrap_or(0);
    let written = call
        .call
        .encode_outputs(&args, &values, ret, &call.memory)
        .map_err(|error| effect(step, &error))?;
    Ok(written.into_iter().next().map(|(_, bytes)| bytes))
}

fn bytes(step: &ExpectedCall, call: &mut HookCall, data: &[u8], limit: Option<u64>) -> Result<u64> {
    let rest = data.get(step.used as usize..).unwrap_or_default();
    let regions = call.call.data_regions(&call.args, u64::MAX, &call.memory);
    let asked: u64 = regions.iter().map(|region| region.len as u64).sum();
    let n = (rest.len() as u64)
        .min(asked)
        .min(limit.unwrap_or(u64::MAX));
    let n = match call.name() {
        "getdents" | "getdents64" => whole_entries(rest, n as usize) as u64,
        _ => n,
    };
    if call.call.moves_data() == Some(Moved::Out) {
        let mut now = rest.get(..n as usize).unwrap_or(rest);
        for region in regions {
            let (here, later) = now.split_at(region.len.min(now.len()));
            call.overwrite(region.addr, here)?;
            now = later;
        }
    }
    Ok(n)
}

/// Writes the next messages of the trace.
fn write_messages(step: &ExpectedCall, call: &mut HookCall, count: u64) -> Result<()> {
    let mut values = call.call.with_notes(step.values(), &step.notes);
    let arg = call.call.data_arg().unwrap_or(1);
    if let Some(value) = values.get_mut(arg)
        && let Value::Array { items, .. } = value.meaning()
    {
        let from = (step.used as usize).min(items.len());
        let items = items.iter().skip(from).take(count as usize).cloned();
        let (items, cut) = (items.collect(), false);
        *value = Value::Array { items, cut };
    }
    let written = call
        .call
        .encode_outputs(&call.args, &values, count as i64, &call.memory)
        .map_err(|error| effect(step, &error))?;
    for (addr, bytes) in written {
        call.overwrite(addr, &bytes)?;
    }
    Ok(())
}

/// The error for an entry of the trace whose outputs cannot be encoded.
pub(super) fn effect(step: &ExpectedCall, error: &EncodeError) -> Error {
    Error::Effect {
        place: step.place(),
        call: step.to_call().brief().to_string(),
        reason: error.to_string(),
    }
}
