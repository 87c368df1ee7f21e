//! Encoding: observed values as the bytes that the kernel would have written.

use super::frame::{Frame, MOST_ELEMENTS, Side, read_exact, read_some};
use super::kind::{Dir, Kind};
use super::layout::Layout;
use super::number::value_of;
use super::table::Syscall;
use super::{Abi, Memory, Moved, capability, dirents, handle, lsm, message_value, ready, sockaddr};
use crate::constants::is_error;
use crate::value::{Field, Value, plain};

mod place;
pub(crate) use place::place_value;
use place::{copy, members, texts};

/// The reasons for which an observed call cannot be answered from its text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The trace has an address, or text that was not understood, where contents are needed.
    #[error(
        "{call}: what was stored through argument {arg} ({name}) is not in the trace; record it with strace -v"
    )]
    NotDecoded {
        /// The call.
        call: &'static str,
        /// The index of the argument, from 0.
        arg: usize,
        /// The name of the argument.
        name: &'static str,
    },
    /// The trace has only the beginning of the data.
    #[error(
        "{call}: argument {arg} ({name}) was cut after {have} of {need} bytes; record it with strace -s 1048576"
    )]
    Cut {
        /// The call.
        call: &'static str,
        /// The index of the argument, from 0.
        arg: usize,
        /// The name of the argument.
        name: &'static str,
        /// The number of bytes in the trace.
        have: usize,
        /// The number of bytes that the call returned.
        need: u64,
    },
    /// A member or the whole value is not of the expected kind.
    #[error("{call}: argument {arg} ({name}): {what} is not of the expected kind")]
    Shape {
        /// The call.
        call: &'static str,
        /// The index of the argument, from 0.
        arg: usize,
        /// The name of the argument.
        name: &'static str,
        /// The part that is of another kind.
        what: String,
    },
    /// The process's own structures cannot be read.
    #[error("{call}: argument {arg} ({name}) points to {addr:#x}, which cannot be read")]
    Unreadable {
        /// The call.
        call: &'static str,
        /// The index of the argument, from 0.
        arg: usize,
        /// The name of the argument.
        name: &'static str,
        /// The address.
        addr: u64,
    },
}

/// An [`EncodeError`] that does not have the argument yet.
#[derive(Debug)]
pub(crate) enum Refusal {
    NotDecoded,
    Cut { have: usize, need: u64 },
    Shape(String),
    Unreadable(u64),
}

impl Refusal {
    fn at(self, call: &'static str, arg: usize, name: &'static str) -> EncodeError {
        match self {
            Refusal::NotDecoded => EncodeError::NotDecoded { call, arg, name },
            Refusal::Cut { have, need } => EncodeError::Cut {
                call,
                arg,
                name,
                have,
                need,
            },
            Refusal::Shape(what) => EncodeError::Shape {
                call,
                arg,
                name,
                what,
            },
            Refusal::Unreadable(addr) => EncodeError::Unreadable {
                call,
                arg,
                name,
                addr,
            },
        }
    }
}

impl Syscall {
    /// The writes that store the outputs of a call which the process makes with `args`; `values` are an observed call's
    /// arguments, and `ret` is its raw return value. Members of structures go by name, missing ones are zero. Never
    /// writes more than the process's buffers hold; `entry` is its memory at entry.
    ///
    /// # Errors
    /// If the observed call does not have the outputs: the trace cut them, or shows them as addresses.
    pub fn encode_outputs(
        &self,
        args: &[u64; 6],
        values: &[Value],
        ret: i64,
        entry: &dyn Memory,
    ) -> Result<Vec<(u64, Vec<u8>)>, EncodeError> {
        let values = &*plain(values);
        let order = self.order(args, values.len(), entry);
        let args = &self.values(args, entry);
        let frame = Frame::new(self, args, ret, entry, entry);
        let mut writes = Vec::new();
        for ((index, arg), &addr) in self.args.iter().enumerate().zip(args) {
            let Kind::Ptr(dir, to) = &arg.kind else {
                continue;
            };
            let observed = match &order {
                Some(order) => order.iter().position(|&o| o == Some(index)),
                None => Some(index),
            };
            let observed = observed.and_then(|i| values.get(i));
            let (Some(value), true) = (observed, addr != 0 && frame.holds(&arg.condition)) else {
                continue;
            };
            if matches!(value, Value::Addr(0)) {
                continue; // the observed call asked for nothing here
            }
            let encoded = out_argument(*dir, to, value, addr, &frame);
            writes.extend(encoded.map_err(|refusal| refusal.at(self.name, index, arg.name))?);
            if let Some(layout) = to.layout().filter(|l| dir.reads() && l.has_pointers()) {
                let encoded = behind(layout, value, addr, &frame);
                writes.extend(encoded.map_err(|refusal| refusal.at(self.name, index, arg.name))?);
            }
        }
        Ok(writes)
    }
}

/// The data that the kernel stored behind the pointers in a structure.
fn behind(
    layout: &'static Layout,
    value: &Value,
    addr: u64,
    frame: &Frame<'_>,
) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let bytes = read_some(frame.entry, addr, layout.size);
    let inner = frame.inside(layout, &bytes);
    let mut writes = Vec::new();
    for (index, member) in layout.members.iter().enumerate() {
        let to = inner.number(index);
        if let (Kind::Ptr(dir, kind), Some(given)) = (&member.kind, value.field(member.name))
            && !dir.reads()
            && to != 0
            && inner.holds(&member.condition)
        {
            writes.extend(out_argument(*dir, kind, given, to, &inner)?);
        }
    }
    Ok(writes)
}

fn out_argument(
    dir: Dir,
    kind: &Kind,
    value: &Value,
    addr: u64,
    frame: &Frame<'_>,
) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let succeeded = !is_error(frame.ret);
    let value_after = match value {
        Value::Change { after, .. } => after,
        other => other,
    };
    match kind {
        Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(..) => {
            return match succeeded {
                true => message_value::encode(kind, value_after, addr, frame),
                false => Ok(Vec::new()),
            };
        }
        _ => {}
    }
    // Values that the kernel only updates (time left, sets) stay as they are unless the trace has them.
    let skipped = match dir {
        Dir::Word => true,
        Dir::Update if !succeeded => true,
        Dir::Interrupted => matches!(value_after, Value::Addr(_)),
        Dir::OutAlways | Dir::InOutAlways if !succeeded => {
            matches!(value_after, Value::Addr(_) | Value::Raw(_))
        }
        _ => false,
    };
    if skipped || !dir.written(frame.ret) {
        return Ok(Vec::new());
    }
    if let (Kind::FdSet(_), 0, Value::Set { .. } | Value::Array { .. }) = (kind, frame.ret, value) {
        let size = frame.size(kind, Side::Exit).unwrap_or(0);
        return Ok(vec![(addr, vec![0; size])]); // nothing is ready
    }
    if ready::is_poll(kind) {
        return ready::encode(value_after, addr, kind, frame);
    }
    // The length of the filled part of a structure may be a member of it.
    let side = match kind {
        Kind::Sized(..) => Side::Entry,
        _ => Side::Exit,
    };
    let size = frame.size(kind, side).unwrap_or(0);
    if size == 0 {
        return Ok(Vec::new());
    }
    if ready::is_time_left(dir, kind) && frame.ret == 0 {
        return Ok(vec![(addr, vec![0; size])]); // `Timeout`: strace does not say that nothing is left
    }
    if matches!(value_after, Value::Addr(_) | Value::Raw(_)) && !matches!(kind, Kind::Num(_)) {
        return Err(Refusal::NotDecoded);
    }
    let keep = matches!(dir, Dir::InOut | Dir::Update | Dir::InOutAlways);
    let before = keep.then(|| read_exact(frame.entry, addr, size)).flatten();
    let bytes = contents(kind, value_after, size, before, frame)?;
    Ok(match bytes.is_empty() {
        true => Vec::new(),
        false => vec![(addr, bytes)],
    })
}

/// At most `size` bytes that encode `value`; parts that the value does not have are taken from `before`, or zero.
pub(crate) fn contents(
    kind: &Kind,
    value: &Value,
    size: usize,
    before: Option<Vec<u8>>,
    frame: &Frame<'_>,
) -> Result<Vec<u8>, Refusal> {
    let shape = || Refusal::Shape(name_of(value));
    let mut bytes = match (kind, value) {
        (Kind::Bytes(_) | Kind::Blob(_) | Kind::Option(..), Value::Str { bytes, cut }) => {
            if *cut && bytes.len() < size {
                return Err(Refusal::Cut {
                    have: bytes.len(),
                    need: size as u64,
                });
            }
            let mut bytes = bytes.clone();
            if matches!(kind, Kind::Blob(_)) && bytes.len() + 1 == size {
                bytes.push(0);
            }
            bytes
        }
        (Kind::Text(_), Value::Str { bytes, .. }) => {
            let mut bytes = bytes.clone();
            bytes.push(0);
            bytes
        }
        (Kind::Option(_, Some(kind)), Value::Struct { .. } | Value::Array { .. }) => {
            known_option(kind, value, size, frame)?
        }
        (Kind::Msgbuf(_), Value::Struct { fields, .. }) => message(fields, size, frame.abi)?,
        (Kind::Capabilities(_), _) => capability::encode(value, size).ok_or_else(shape)?,
        (Kind::Bytes(_) | Kind::Option(..), _) => option(value, frame.abi).ok_or_else(shape)?,
        (Kind::Sockaddr(_), _) => sockaddr::encode(value).ok_or_else(shape)?,
        (Kind::LsmContexts(_), _) => lsm::encode(value).ok_or_else(shape)?,
        (Kind::FileHandle(_), _) => handle::encode(value).ok_or_else(shape)?,
        (Kind::Sized(layout, extent, _), Value::Struct { .. }) => {
            let whole = match extent.room == extent.filled {
                true => size,
                false => size.min(layout.size),
            };
            let mut bytes = before.unwrap_or_default();
            bytes.resize(whole, 0);
            members(layout, value, &mut bytes, frame)?;
            texts(layout, value, &mut bytes);
            if let Some(more) = beyond(value) {
                copy(bytes.get_mut(layout.size..).unwrap_or(&mut []), more);
            }
            bytes
        }
        (Kind::Dirents(_, wide), _) => {
            // The entries may take another size in the trace than the call returned; the size of the buffer counts.
            dirents::encode(value, *wide, size, frame.abi).ok_or_else(shape)?
        }
        (Kind::Array(of, _), Value::Array { items, cut }) => {
            let each = of.size_in(frame.abi).unwrap_or(1).max(1);
            let count = items.len().min(size / each).min(MOST_ELEMENTS as usize);
            if *cut && count < size / each {
                return Err(Refusal::Cut {
                    have: count * each,
                    need: size as u64,
                });
            }
            let mut bytes = before.unwrap_or_default();
            bytes.resize(count * each, 0);
            for (item, place) in items.iter().zip(bytes.chunks_exact_mut(each)) {
                place_value(of, item, place, frame)?;
            }
            bytes
        }
        _ => {
            let mut bytes = before.unwrap_or_default();
            bytes.resize(size, 0);
            place_value(kind, value, &mut bytes, frame)?;
            bytes
        }
    };
    bytes.truncate(size);
    Ok(bytes)
}

/// Encodes a System V message: `{mtype=1, mtext="…"}`, or without the names as older versions of strace wrote it.
fn message(fields: &[Field], size: usize, abi: Abi) -> Result<Vec<u8>, Refusal> {
    let [kind, text] = fields else {
        return Err(Refusal::Shape("a message".to_owned()));
    };
    let number = value_of(&kind.value).ok_or_else(|| Refusal::Shape(name_of(&kind.value)))?;
    let Value::Str { bytes, cut } = &text.value else {
        return Err(Refusal::NotDecoded);
    };
    let mut message = number.to_le_bytes().to_vec();
    message.truncate(abi.word());
    message.extend_from_slice(bytes);
    if *cut && message.len() < size {
        return Err(Refusal::Cut {
            have: message.len(),
            need: size as u64,
        });
    }
    Ok(message)
}

/// The bytes behind the known members of a structure that grew: `/* bytes 56..63 */ "\x01…"`.
fn beyond(value: &Value) -> Option<&[u8]> {
    let Value::Struct { fields, .. } = value else {
        return None;
    };
    let last = fields.last().filter(|f| f.name.is_empty())?;
    match last.value.meaning() {
        Value::Str { bytes, .. } => Some(bytes),
        _ => None,
    }
}

fn name_of(value: &Value) -> String {
    match value {
        Value::Sym { text, .. } | Value::Raw(text) => text.chars().take(80).collect(),
        Value::Str { .. } => "a string".to_owned(),
        Value::Array { .. } => "an array".to_owned(),
        Value::Struct { .. } => "a structure".to_owned(),
        Value::Set { .. } => "a set".to_owned(),
        Value::Change { after, .. } => name_of(after),
        other => match other.as_i64() {
            Some(number) => number.to_string(),
            None => "it".to_owned(),
        },
    }
}

/// Encodes a socket option that is known to be a structure, a number, or several numbers.
fn known_option(
    kind: &Kind,
    value: &Value,
    size: usize,
    frame: &Frame<'_>,
) -> Result<Vec<u8>, Refusal> {
    let (of, items) = match (kind, value) {
        (Kind::Array(of, _), Value::Array { items, .. }) => (&**of, items.as_slice()),
        (kind, Value::Array { items, .. }) => (kind, items.as_slice()),
        _ => (kind, std::slice::from_ref(value)),
    };
    let each = of.size_in(frame.abi).unwrap_or(size);
    let mut bytes = Vec::new();
    for item in items.iter().take(size / each.max(1) + 1) {
        let mut place = vec![0; each];
        place_value(of, item, &mut place, frame)?;
        bytes.extend(place);
    }
    Ok(bytes)
}

/// Encodes a socket option, or other data that consists of ints: `[1]`, `{l_onoff=0, l_linger=0}`.
pub(crate) fn option(value: &Value, abi: Abi) -> Option<Vec<u8>> {
    let numbers: Option<Vec<i64>> = match value {
        Value::Array { items, .. } => items.iter().map(value_of).collect(),
        Value::Struct { fields, .. } => {
            let wide = fields.iter().any(|f| f.name.starts_with("tv_"));
            let numbers = fields.iter().map(|f| value_of(&f.value));
            let numbers: Vec<i64> = numbers.collect::<Option<_>>()?;
            if wide {
                let words = numbers.iter().map(|n| n.to_le_bytes());
                let words = words.flat_map(|n| n.into_iter().take(abi.word()));
                return Some(words.collect());
            }
            Some(numbers)
        }
        other => value_of(other).map(|n| vec![n]),
    };
    let ints = numbers?.into_iter().map(|n| n as i32);
    Some(ints.flat_map(i32::to_le_bytes).collect())
}
