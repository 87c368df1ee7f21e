//! From observed values to the bytes that the kernel would have written.

use super::frame::{Frame, MOST_ELEMENTS, Side, read_exact};
use super::kind::{Dir, Kind};
use super::layout::Layout;
use super::number::value_of;
use super::regions::is_error;
use super::table::Syscall;
use super::{Memory, Moved, consts, dirents, message_value, ready, sockaddr};
use crate::trace::{Value, plain};

/// Why an observed call cannot be answered from its text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The trace has an address, or text that was not understood, where contents are needed.
    #[error(
        "{call}: what was stored through argument {arg} ({name}) is not in the trace; record it with strace -v"
    )]
    NotDecoded {
        /// The call.
        call: &'static str,
        /// Which argument, from 0.
        arg: usize,
        /// Its name.
        name: &'static str,
    },
    /// The trace has only the beginning of the data.
    #[error(
        "{call}: argument {arg} ({name}) was cut after {have} of {need} bytes; record it with strace -s 1048576"
    )]
    Cut {
        /// The call.
        call: &'static str,
        /// Which argument, from 0.
        arg: usize,
        /// Its name.
        name: &'static str,
        /// How many bytes there are.
        have: usize,
        /// How many bytes the call returned.
        need: u64,
    },
    /// A member or the whole is not of the kind that it should be.
    #[error("{call}: argument {arg} ({name}): {what} is not of the expected kind")]
    Shape {
        /// The call.
        call: &'static str,
        /// Which argument, from 0.
        arg: usize,
        /// Its name.
        name: &'static str,
        /// What it is that does not fit.
        what: String,
    },
    /// The process's own structures cannot be read.
    #[error("{call}: argument {arg} ({name}) points to {addr:#x}, which cannot be read")]
    Unreadable {
        /// The call.
        call: &'static str,
        /// Which argument, from 0.
        arg: usize,
        /// Its name.
        name: &'static str,
        /// Where.
        addr: u64,
    },
}

/// An [`EncodeError`] before it is known which argument it is about.
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
    /// What to write where for the out-arguments of a call that the process makes with `args`, when `values` are an
    /// observed call's arguments and `ret` its raw return value. Members of structures go by name, missing ones are
    /// zero. Never writes more than the process's buffers hold; `entry` is its memory at entry.
    ///
    /// # Errors
    /// Where the observed call does not say what was stored: it was cut, or shown as an address.
    pub fn encode_outputs(
        &self,
        args: &[u64; 6],
        values: &[Value],
        ret: i64,
        entry: &dyn Memory,
    ) -> Result<Vec<(u64, Vec<u8>)>, EncodeError> {
        let values = &*plain(values);
        let frame = Frame::new(&self.args, args, ret, entry, entry);
        let order = self.old_layout(values.len());
        let mut writes = Vec::new();
        for ((index, arg), &addr) in self.args.iter().enumerate().zip(args) {
            let Kind::Ptr(dir, to) = &arg.kind else {
                continue;
            };
            let observed = match order {
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
        }
        Ok(writes)
    }
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
    // What is only updated on the way (time left, sets) stays as it is unless the trace says otherwise.
    let skipped = match dir {
        Dir::Word => true,
        Dir::Update if !succeeded => true,
        Dir::Interrupted => matches!(value_after, Value::Addr(_)),
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
    let size = frame.size(kind, Side::Exit).unwrap_or(0);
    if size == 0 {
        return Ok(Vec::new());
    }
    if matches!(value_after, Value::Addr(_) | Value::Raw(_)) && !matches!(kind, Kind::Num(_)) {
        return Err(Refusal::NotDecoded);
    }
    let keep = matches!(dir, Dir::InOut | Dir::Update);
    let before = keep.then(|| read_exact(frame.entry, addr, size)).flatten();
    let bytes = contents(kind, value_after, size, before, frame)?;
    Ok(match bytes.is_empty() {
        true => Vec::new(),
        false => vec![(addr, bytes)],
    })
}

/// At most `size` bytes that say `value`; what it does not say is as `before`, or zero.
fn contents(
    kind: &Kind,
    value: &Value,
    size: usize,
    before: Option<Vec<u8>>,
    frame: &Frame<'_>,
) -> Result<Vec<u8>, Refusal> {
    let shape = || Refusal::Shape(name_of(value));
    let mut bytes = match (kind, value) {
        (Kind::Bytes(_) | Kind::Option(..), Value::Str { bytes, cut }) => {
            if *cut && bytes.len() < size {
                return Err(Refusal::Cut {
                    have: bytes.len(),
                    need: size as u64,
                });
            }
            bytes.clone()
        }
        (Kind::Text(_), Value::Str { bytes, .. }) => {
            let mut bytes = bytes.clone();
            bytes.push(0);
            bytes
        }
        (Kind::Bytes(_) | Kind::Option(..), _) => option(value).ok_or_else(shape)?,
        (Kind::Sockaddr(_), _) => sockaddr::encode(value).ok_or_else(shape)?,
        (Kind::Dirents(_, wide), _) => {
            // What the entries take in the trace may differ from what was returned; the room is what counts.
            dirents::encode(value, *wide, size).ok_or_else(shape)?
        }
        (Kind::Array(of, _), Value::Array { items, cut }) => {
            let each = of.fixed_size().unwrap_or(1).max(1);
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

/// A socket option, or what else is a lump of ints: `[1]`, `{l_onoff=0, l_linger=0}`.
pub(crate) fn option(value: &Value) -> Option<Vec<u8>> {
    let numbers: Option<Vec<i64>> = match value {
        Value::Array { items, .. } => items.iter().map(value_of).collect(),
        Value::Struct { fields, .. } => {
            let wide = fields.iter().any(|f| f.name.starts_with("tv_"));
            let numbers = fields.iter().map(|f| value_of(&f.value));
            let numbers: Vec<i64> = numbers.collect::<Option<_>>()?;
            if wide {
                return Some(numbers.iter().flat_map(|n| n.to_le_bytes()).collect());
            }
            Some(numbers)
        }
        other => value_of(other).map(|n| vec![n]),
    };
    let ints = numbers?.into_iter().map(|n| n as i32);
    Some(ints.flat_map(i32::to_le_bytes).collect())
}

/// Writes a value into the bytes of a member, an element or a whole.
fn place_value(
    kind: &Kind,
    value: &Value,
    place: &mut [u8],
    frame: &Frame<'_>,
) -> Result<(), Refusal> {
    let shape = || Refusal::Shape(name_of(value));
    match (kind, value) {
        (Kind::Num(_) | Kind::Ptr(..), _) => {
            let number = value_of(value).ok_or_else(shape)?;
            copy(place, &number.to_le_bytes());
        }
        (Kind::Struct(layout), Value::Struct { .. }) => members(layout, value, place, frame)?,
        (Kind::Struct(layout), Value::Change { after, .. }) => {
            members(layout, after, place, frame)?
        }
        (Kind::Array(of, _), Value::Array { items, .. }) => {
            let each = of.fixed_size().unwrap_or(1).max(1);
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
            let most = n.saturating_sub(1).min(bytes.len());
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
        _ => return Err(shape()),
    }
    Ok(())
}

fn copy(place: &mut [u8], bytes: &[u8]) {
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn members(
    layout: &'static Layout,
    value: &Value,
    place: &mut [u8],
    frame: &Frame<'_>,
) -> Result<(), Refusal> {
    for member in &layout.members {
        let Some(given) = value.field(member.name) else {
            continue;
        };
        let rest = place.get_mut(member.offset..).unwrap_or(&mut []);
        let size = member.kind.fixed_size().unwrap_or(rest.len());
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

/// The bits of a set of signals (from 0), descriptors or CPUs, and whether it is the complement.
fn bit_set(kind: &Kind, value: &Value) -> Option<(bool, Vec<usize>)> {
    let number = |text: &str| match kind {
        Kind::Sigset(_) => consts::signal(text).map(|n| n - 1),
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
