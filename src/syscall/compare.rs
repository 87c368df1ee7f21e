//! The comparison of a process's call with an observed one.

use super::encode::option;
use super::frame::MOST_STRINGS;
use super::kind::{Dir, Format, Kind, Num};
use super::layout::Shown;
use super::number::value_of;
use super::table::Syscall;
use super::{Abi, LimitedMemory, Memory, Mismatch, Moved};
use crate::value::{Value, plain};

impl Syscall {
    /// Compares the call that the process is making (it is at the entry) with the observed one: paths, strings and
    /// input buffers by content, flags, modes, sizes and commands by value, descriptors by number, structures by
    /// member. Addresses only count as null or not; out-arguments are ignored. A string that the trace cut is compared
    /// up to the cut. `values` may be fewer than the arguments, or those of an older form of the call.
    ///
    /// # Errors
    /// The first argument that differs.
    pub fn compare(
        &self,
        args: &[u64; 6],
        entry: &dyn Memory,
        values: &[Value],
    ) -> Result<(), Mismatch> {
        let values = &*plain(values);
        // A string that is longer than those of the trace agrees with none.
        let most = MOST_STRINGS + 2 * values.iter().map(Value::data_len).sum::<usize>();
        let entry = &LimitedMemory::new(entry, most, 0);
        let own = &self.values(args, entry);
        let order = self.order(args, values.len(), entry);
        for (position, expected) in values.iter().enumerate() {
            let label = label(expected).map(|name| self.labelled(name));
            let index = match &order {
                _ if label.is_some() => label.flatten(),
                Some(order) => order.get(position).copied().flatten(),
                None => Some(position),
            };
            let Some((arg, formal)) = index.and_then(|i| Some((i, self.args.get(i)?))) else {
                continue;
            };
            let raw = own.get(arg).copied().unwrap_or(0);
            let same = match &formal.kind {
                Kind::Num(num) => numbers_agree(num, expected, raw),
                Kind::Ptr(dir, to) if is_out(*dir, to) => out_agrees(expected, raw),
                Kind::Ptr(_, to) if to.layout().is_some_and(|l| l.has_pointers()) => {
                    agrees(&inputs_of(to, expected), &self.decode_arg(arg, args, entry))
                }
                Kind::Ptr(_, to) if matches!(**to, Kind::Option(..)) => {
                    option_agrees(expected, &self.decode_arg(arg, args, entry), self.abi)
                }
                _ => agrees(expected, &self.decode_arg(arg, args, entry)),
            };
            if !same {
                return Err(Mismatch {
                    arg,
                    position,
                    expected: expected.clone(),
                    actual: self.decode_arg(arg, args, entry),
                });
            }
        }
        Ok(())
    }
}

impl Syscall {
    /// The argument that strace writes with this label: it writes clone's arguments in another order.
    fn labelled(&self, label: &str) -> Option<usize> {
        self.arg(match label {
            "child_stack" => "stack",
            "child_tidptr" => "child_tid",
            "parent_tidptr" => "parent_tid",
            other => other,
        })
    }
}

/// The label of a value: `flags` of `flags=CLONE_VM|SIGCHLD`.
fn label(value: &Value) -> Option<&str> {
    let Value::Sym { text, .. } = value else {
        return None;
    };
    let (label, _) = text.split_once('=')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    (!label.is_empty() && label.chars().all(is_name)).then_some(label)
}

fn is_out(dir: Dir, to: &Kind) -> bool {
    match to {
        Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(Moved::Out, _) => {
            true
        }
        Kind::Struct(layout) if dir == Dir::InOut && layout.is_all(Shown::After) => true,
        _ => matches!(
            dir,
            Dir::Out | Dir::OutSome | Dir::OutAlways | Dir::Interrupted | Dir::Word
        ),
    }
}

/// A structure without the data that the kernel stored behind its members' pointers.
fn inputs_of(kind: &Kind, value: &Value) -> Value {
    let mut value = before(value).clone();
    if let (Value::Struct { fields, .. }, Some(layout)) = (&mut value, kind.layout()) {
        let stored = |name: &str| {
            let mut members = layout.members.iter().filter(|m| m.name == name);
            members.any(|m| matches!(&m.kind, Kind::Ptr(dir, to) if is_out(*dir, to)))
        };
        fields.retain(|field| !stored(&field.name));
    }
    value
}

/// Compares out-arguments: they must be null if the observed ones were, and must not be null if something was stored.
fn out_agrees(expected: &Value, raw: u64) -> bool {
    match expected {
        Value::Addr(addr) => (*addr == 0) == (raw == 0),
        Value::Struct { .. } | Value::Array { .. } => raw != 0,
        _ => true,
    }
}

fn numbers_agree(num: &Num, expected: &Value, raw: u64) -> bool {
    if matches!(num.format, Format::Addr | Format::Handler) {
        return match value_of(before(expected)) {
            Some(value) => (value == 0) == (raw == 0),
            None => raw != 0 || matches!(expected, Value::Raw(_)),
        };
    }
    if matches!(num.format, Format::SignalMask) {
        return agrees(expected, &num.decode(raw));
    }
    match value_of(before(expected)) {
        Some(value) if (value as u64 ^ raw) & num.mask() == 0 => true,
        // The name of a request has another number on another ABI.
        Some(_) => match (before(expected), num.decode(raw)) {
            (Value::Sym { text, .. }, Value::Sym { text: actual, .. }) => *text == actual,
            _ => false,
        },
        // Text that was not understood agrees with all; a pointee in the place of a number means another call.
        None => match expected {
            Value::Raw(_) => true,
            Value::Sym { text, .. } => match num.decode(raw) {
                Value::Sym { text: actual, .. } => *text == actual,
                _ => false,
            },
            _ => false,
        },
    }
}

/// Compares a socket option by its bytes if the trace shows it in another form than [`Syscall::decode`].
fn option_agrees(expected: &Value, actual: &Value, abi: Abi) -> bool {
    if agrees(expected, actual) {
        return true;
    }
    match (option(expected, abi), option(actual, abi), actual) {
        (Some(expected), _, Value::Str { bytes, .. }) => bytes.starts_with(&expected),
        (Some(expected), Some(actual), _) => expected == actual,
        _ => matches!(expected, Value::Raw(_)),
    }
}

fn before(value: &Value) -> &Value {
    match value {
        Value::Change { before, .. } => before,
        other => other,
    }
}

fn single(value: &Value) -> &Value {
    match value {
        Value::Array { items, .. } => match items.as_slice() {
            [one @ (Value::Int(_) | Value::Sym { .. } | Value::Change { .. })] => before(one),
            _ => value,
        },
        other => other,
    }
}

/// Returns whether a value that was observed at entry agrees with the present one.
fn agrees(expected: &Value, actual: &Value) -> bool {
    let expected = before(expected);
    match (expected, actual) {
        (Value::Raw(text), Value::Raw(other)) => text == other,
        (Value::Raw(_), _) => true,
        (
            Value::Str { bytes, cut },
            Value::Str {
                bytes: actual,
                cut: actual_cut,
            },
        ) => match (cut, actual_cut) {
            (true, _) => actual.starts_with(bytes),
            (false, true) => bytes.starts_with(actual),
            (false, false) => bytes == actual,
        },
        // Cookies that the kernel gives back to the program may be addresses: epoll's data, a timer's value.
        (Value::Struct { .. }, Value::Struct { .. })
            if is_cookie(expected) && is_cookie(actual) =>
        {
            true
        }
        (
            Value::Sym {
                value: Some(special),
                ..
            },
            Value::Struct { .. },
        ) => actual.field("tv_nsec").and_then(value_of) == Some(*special),
        (Value::Struct { fields, .. }, Value::Struct { .. }) => fields.iter().all(|f| {
            let actual = actual.field(&f.name);
            actual.is_none_or(|actual| agrees(&f.value, actual))
        }),
        (
            Value::Set { .. } | Value::Array { .. },
            Value::Set {
                negated,
                items: actual,
            },
        ) => match set_of(expected) {
            Some((expected_negated, mut expected)) => {
                let mut actual = actual.clone();
                expected.sort_unstable();
                actual.sort_unstable();
                expected_negated == *negated && expected == actual
            }
            None => true,
        },
        (Value::Array { items, cut }, Value::Array { items: actual, .. }) => {
            let enough = *cut || items.len() == actual.len();
            enough
                && items.len() <= actual.len()
                && items.iter().zip(actual).all(|(e, a)| agrees(e, a))
        }
        (Value::Addr(expected), Value::Addr(actual)) => (*expected == 0) == (*actual == 0),
        // Data that strace shows as an address may be readable here; it only has to be behind a pointer that is not
        // null.
        (Value::Addr(0), _) => value_of(actual) == Some(0),
        (
            Value::Addr(_),
            Value::Str { .. } | Value::Struct { .. } | Value::Array { .. } | Value::Set { .. },
        ) => true,
        _ => match (value_of(single(expected)), value_of(single(actual))) {
            (Some(expected), Some(actual)) => expected == actual,
            (None, _) if matches!(expected, Value::Sym { .. }) => match (expected, actual) {
                (Value::Sym { text, .. }, Value::Sym { text: actual, .. }) => text == actual,
                _ => true,
            },
            _ => false,
        },
    }
}

/// Returns whether the value is an opaque number that is as large as an address.
fn is_cookie(value: &Value) -> bool {
    let whole = value.field("u64").or(value.field("sival_ptr"));
    let whole = whole.or(value.field("ptr")).and_then(value_of);
    whole.is_some_and(|n| n as u64 > u64::from(u32::MAX))
}

/// The members of a set, whether it was parsed as a set or as an array: `[3]` may be an array.
fn set_of(value: &Value) -> Option<(bool, Vec<String>)> {
    match value {
        Value::Set { negated, items } => Some((*negated, items.clone())),
        Value::Array { items, .. } => {
            let names = items.iter().map(|item| match item {
                Value::Sym { text, .. } | Value::Raw(text) => {
                    Some(text.strip_prefix("SIG").unwrap_or(text).to_owned())
                }
                other => other.as_i64().map(|n| n.to_string()),
            });
            Some((false, names.collect::<Option<_>>()?))
        }
        _ => None,
    }
}
