//! Answering a call from the trace: the return value, and the bytes that the kernel would have written.

pub use super::short_transfer::Answered;
pub use super::step_data::descriptor;

use super::hook::HookCall;
use super::script::item::ExpectedCall;
use super::step_data::{data, exact_data, messages};
use super::{Result, short_transfer};
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{Kind, Memory, Moved, Syscall};

/// Returns whether a call continues a partly answered one of the trace: the same call on the same descriptor, which
/// writes the rest of the data.
pub fn continues(step: &ExpectedCall, call: &HookCall) -> bool {
    let Some(described) = step.call.filter(|described| described.nr == call.nr()) else {
        return false;
    };
    let same_fd = described
        .fd_arg()
        .is_none_or(|arg| descriptor(step).is_none_or(|fd| fd == call.args[arg] as i32));
    // A call with an explicit position is retried at the position where the first one ended.
    if !same_fd || !short_transfer::is_at_next_position(step, call) {
        return false;
    }
    if described.moves_data() != Some(Moved::In) {
        return true;
    }
    let used = step.used as usize;
    let rest = match described.moves_messages() {
        true => messages(step).map(|all| all.get(used..).unwrap_or_default().concat()),
        false => data(step).map(|all| all.get(used..).unwrap_or_default().to_vec()),
    };
    let first = rest.as_ref().and_then(|rest| call.first_data(rest.len()));
    let (Some(rest), Some(now)) = (rest.as_deref(), first) else {
        return true;
    };
    rest.starts_with(&now) || now.starts_with(rest)
}

/// Answers a call with the trace's return value and outputs, with at most `limit` bytes of data.
///
/// # Errors
/// If the trace's outputs cannot be encoded, or not be written.
pub fn from_step(
    step: &mut ExpectedCall,
    call: &mut HookCall,
    limit: Option<u64>,
) -> Result<Answered> {
    let ret = step.answer.raw().unwrap_or(0);
    if ret > 0
        && (limit.is_some() || step.used > 0)
        && let Some(answered) = short_transfer::answer(step, call, limit)?
    {
        return Ok(answered);
    }
    let ret = match limit {
        Some(limit) if call.call.moves_data().is_some() && ret > 0 => ret.min(limit as i64),
        _ => ret,
    };
    write_outputs(step, call, ret)?;
    Ok(Answered { ret, done: true })
}

fn write_outputs(step: &ExpectedCall, call: &mut HookCall, ret: i64) -> Result<()> {
    for (addr, bytes) in outputs(step, call, ret)? {
        call.overwrite(addr, &bytes)?;
    }
    Ok(())
}

fn outputs(step: &ExpectedCall, call: &HookCall, ret: i64) -> Result<Vec<(u64, Vec<u8>)>> {
    match &step.exact {
        // The header of a message has the addresses of its buffers.
        Some(event) if is_same(call, event) || !has_header(call.call) => {
            Ok(exact_outputs(call, event, ret))
        }
        _ => call
            .call
            .encode_outputs(
                &call.args,
                &call.call.with_notes(step.values(), &step.notes),
                ret,
                &call.memory,
            )
            .map_err(|error| short_transfer::effect(step, &error)),
    }
}

/// Returns whether a call has the arguments and inputs of the recorded one, at the same addresses.
fn is_same(call: &HookCall, event: &CallEvent) -> bool {
    event.args == call.args && same_memory(call, event)
}

/// Returns whether the call moves messages.
fn has_header(call: &Syscall) -> bool {
    let kind = call.data_arg().and_then(|arg| call.args.get(arg));
    matches!(kind.map(|arg| &arg.kind), Some(Kind::Ptr(_, to)) if matches!(**to, Kind::Message(_) | Kind::Messages(..)))
}

/// The recorded outputs, at the addresses of this process's buffers.
fn exact_outputs(call: &HookCall, event: &CallEvent, ret: i64) -> Vec<(u64, Vec<u8>)> {
    let recorded_args = event.args;
    let whole = || {
        event
            .outs
            .iter()
            .map(|chunk| (chunk.addr, chunk.data.clone()))
    };
    if is_same(call, event) {
        // A recorded write to a mapped file changed the mapping as well, which this process need not have.
        let there = |addr| call.memory.read(addr, &mut [0]) == 1;
        return whole().filter(|&(addr, _)| there(addr)).collect();
    }
    let described = call.call;
    let mut list = Vec::new();
    let mut data = None;
    if described.moves_data() == Some(Moved::Out) && ret > 0 {
        data = exact_data(described, event, ret as u64);
    }
    if let Some(data) = &data {
        let mut rest = data.as_slice();
        for region in described.data_regions(&call.args, ret as u64, &call.memory) {
            let (now, later) = rest.split_at(region.len.min(rest.len()));
            list.push((region.addr, now.to_vec()));
            rest = later;
        }
    }
    let (ins, outs) = (ChunkMemory(&event.ins), ChunkMemory(&event.outs));
    let moved: Vec<u64> = match data {
        Some(_) => described
            .data_regions(&recorded_args, ret as u64, &ins)
            .iter()
            .map(|region| region.addr)
            .collect(),
        None => Vec::new(),
    };
    for region in described.outputs(&recorded_args, ret, &ins, &outs) {
        if moved.contains(&region.addr) {
            continue;
        }
        let mut bytes = vec![0; region.len];
        let n = outs.read(region.addr, &mut bytes);
        bytes.truncate(n);
        let offset = region.addr.wrapping_sub(recorded_args[region.arg]);
        list.push((call.args[region.arg].wrapping_add(offset), bytes));
    }
    list
}

/// Returns whether the process's memory has the inputs of the recorded call, at the same addresses.
pub fn same_memory(call: &HookCall, event: &CallEvent) -> bool {
    let mut buf = Vec::new();
    event.ins.iter().all(|chunk| {
        buf.resize(chunk.data.len(), 0);
        call.memory.read(chunk.addr, &mut buf) == buf.len() && buf == chunk.data
    })
}
