//! Answering a call with a part of what the trace has for it. Made again, it gets the rest.

use super::Result;
use super::answer::{self, Answered};
use super::hook::HookCall;
use super::script::item::Step;
use crate::recording::ChunkMemory;
use crate::syscall::{Kind, Memory, Moved, Syscall};
use crate::trace::Value;

/// What a call moves, of which it may move less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Bytes in the process's memory.
    Bytes,
    /// Bytes that the process does not get to see.
    Inside,
    /// Messages, however long.
    Messages,
}

impl Amount {
    /// What this call moves; `None` where that is not what it is for.
    pub fn of(call: &Syscall) -> Option<Amount> {
        match call.name {
            "copy_file_range" | "sendfile" | "splice" | "tee" => Some(Amount::Inside),
            _ if call.moves_messages() => Some(Amount::Messages),
            _ => call.moves_data().map(|_| Amount::Bytes),
        }
    }
}

/// How much a call asks for, where it says so in a register: bytes, or messages.
pub(super) fn asked_arg(call: &Syscall) -> Option<usize> {
    match Amount::of(call)? {
        Amount::Messages => call.arg("vlen"),
        Amount::Inside => call.size_arg(),
        Amount::Bytes => call.data_len_arg(),
    }
}

/// Where a call says itself from where on it moves something: numbers, or pointers to them.
fn places(call: &Syscall) -> impl Iterator<Item = usize> {
    let names = ["offset", "off_in", "off_out"].into_iter();
    names.filter_map(|name| call.arg(name))
}

fn is_pointer(call: &Syscall, arg: usize) -> bool {
    let kind = call.args.get(arg).map(|arg| &arg.kind);
    matches!(kind, Some(Kind::Ptr(..)))
}

/// The number there, of which the process had a pointer.
fn behind(memory: &dyn Memory, addr: u64) -> Option<i64> {
    let mut bytes = [0; 8];
    (addr != 0 && memory.read(addr, &mut bytes) == bytes.len()).then(|| i64::from_le_bytes(bytes))
}

/// Whether a call is made for the place where its first part ended.
pub(super) fn follows(step: &Step, call: &HookCall) -> bool {
    places(call.call).all(|arg| {
        let first = match (is_pointer(call.call, arg), &step.exact) {
            (false, _) => answer::number(step, arg),
            (true, Some(event)) => {
                let addr = event.args.get(arg).copied().unwrap_or(0);
                behind(&ChunkMemory(&event.ins), addr)
            }
            (true, None) => step.values().get(arg).and_then(first_number),
        };
        let now = match is_pointer(call.call, arg) {
            false => Some(call.args[arg] as i64),
            true => behind(&call.memory, call.args[arg]),
        };
        match (first, now) {
            (Some(first), Some(now)) => first.wrapping_add(step.used as i64) == now,
            _ => true,
        }
    })
}

/// `[5]`, or `[5] => [9]`, at first.
fn first_number(value: &Value) -> Option<i64> {
    match value.meaning() {
        Value::Change { before, .. } => first_number(before),
        Value::Array { items, .. } => items.first().and_then(first_number),
        number => number.as_i64(),
    }
}

/// Answers a call with a part of what the trace has: from where the last part ended, as much as is asked for and
/// allowed. `None` where the trace does not say enough to do that.
///
/// # Errors
/// If the process's memory cannot be written.
pub(super) fn answer(
    step: &mut Step,
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
            advance_places(call, n as i64)?;
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

/// Where the call says from where on, it is told that it has come so far.
fn advance_places(call: &mut HookCall, n: i64) -> Result<()> {
    for arg in places(call.call).filter(|&arg| is_pointer(call.call, arg)) {
        let addr = call.args[arg];
        if let Some(now) = behind(&call.memory, addr) {
            call.overwrite(addr, &now.wrapping_add(n).to_le_bytes())?;
        }
    }
    Ok(())
}

/// A call that has been answered turns out to have moved less.
///
/// # Errors
/// If the process's memory cannot be written.
pub(super) fn take_back(call: &mut HookCall, less: i64) -> Result<()> {
    match Amount::of(call.call) {
        Some(Amount::Inside) => advance_places(call, -less),
        _ => Ok(()),
    }
}

/// All the data that a call moved, however often it was made since.
fn data(step: &Step, call: &HookCall) -> Result<Option<Vec<u8>>> {
    let entries = matches!(call.name(), "getdents" | "getdents64");
    if !entries || step.exact.is_some() {
        return Ok(answer::data(step));
    }
    // What the entries are in bytes.
    let mut args = call.args;
    if let (Some(arg), Some(ret)) = (call.call.data_len_arg(), step.answer.raw()) {
        args[arg] = args[arg].max(ret as u64);
    }
    let values = call.call.with_notes(step.values(), &step.notes);
    let ret = step.answer.raw().unwrap_or(0);
    let written = call
        .call
        .encode_outputs(&args, &values, ret, &call.memory)
        .map_err(|error| answer::effect(step, &error))?;
    Ok(written.into_iter().next().map(|(_, bytes)| bytes))
}

fn bytes(step: &Step, call: &mut HookCall, data: &[u8], limit: Option<u64>) -> Result<u64> {
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

/// The length of the directory entries that fit into `most` bytes; that of the first where none does.
pub(super) fn whole_entries(entries: &[u8], most: usize) -> usize {
    // d_reclen, in struct linux_dirent and linux_dirent64 alike.
    const LEN_AT: usize = 16;
    let mut end = 0;
    while let Some(&[a, b]) = entries.get(end + LEN_AT..end + LEN_AT + 2) {
        let next = end + usize::from(u16::from_le_bytes([a, b]));
        if next == end || next > entries.len() || (end > 0 && next > most) {
            break;
        }
        end = next;
    }
    end
}

/// Writes the next messages of the trace.
fn write_messages(step: &Step, call: &mut HookCall, count: u64) -> Result<()> {
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
        .map_err(|error| answer::effect(step, &error))?;
    for (addr, bytes) in written {
        call.overwrite(addr, &bytes)?;
    }
    Ok(())
}

/// The data of each message that a call of the trace moved.
pub(super) fn messages(step: &Step) -> Option<Vec<Vec<u8>>> {
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
        answer::strings(item.field("msg_hdr")?, &mut data)?;
        if let Some(len) = item.field("msg_len").and_then(Value::as_i64) {
            data.truncate(usize::try_from(len).ok()?);
        }
        Some(data)
    });
    data.collect()
}
