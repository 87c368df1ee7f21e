//! Arguments as strace shows them.

use super::frame::{
    Frame, MOST_ELEMENTS, MOST_PATH, MOST_STRING, MOST_STRINGS, Side, read_exact, read_text,
    read_u64, unsigned,
};
use super::kind::{Dir, Kind};
use super::layout::Layout;
use super::number::symbol;
use super::regions::is_error;
use super::table::{Arg, Syscall};
use super::{Memory, Moved, consts, dirents, message_value, sets, sockaddr};
use crate::trace::{Field, Value};

impl Syscall {
    /// The arguments as strace would show them with `-v` and an unlimited `-s`. `entry` is memory for what goes in,
    /// `exit` for what came out; where the call has not returned (`ret` is `None`) or has failed, out-arguments are
    /// addresses.
    pub fn decode(
        &self,
        args: &[u64; 6],
        ret: Option<i64>,
        entry: &dyn Memory,
        exit: &dyn Memory,
    ) -> Vec<Value> {
        let frame = Frame::new(&self.args, args, ret.unwrap_or(0), entry, exit);
        let formal = self.args.iter().zip(args);
        let shown = formal.filter(|(arg, _)| frame.holds(&arg.condition));
        shown
            .map(|(arg, &raw)| argument(arg, raw, ret, &frame))
            .collect()
    }

    /// A raw return value that is no error, as strace would show it.
    pub fn decode_ret(&self, ret: i64) -> Value {
        match &self.ret {
            Kind::Num(num) => num.decode(ret as u64),
            _ => Value::Int(ret),
        }
    }

    /// One argument as it is at entry: out-arguments are addresses.
    pub fn decode_arg(&self, index: usize, args: &[u64; 6], mem: &dyn Memory) -> Value {
        let raw = args.get(index).copied().unwrap_or(0);
        let frame = Frame::new(&self.args, args, 0, mem, mem);
        match self.args.get(index) {
            Some(arg) => argument(arg, raw, None, &frame),
            None => Value::Addr(raw),
        }
    }
}

fn argument(arg: &Arg, raw: u64, ret: Option<i64>, frame: &Frame<'_>) -> Value {
    let (dir, to) = match &arg.kind {
        Kind::Num(num) => return num.decode(raw),
        Kind::Ptr(dir, to) if raw != 0 => (*dir, &**to),
        _ => return Value::Addr(raw),
    };
    let succeeded = ret.is_some_and(|ret| !is_error(ret));
    match to {
        Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(Moved::Out, _) => {
            return match succeeded {
                true => pointee(to, raw, frame, Side::Exit),
                false => Value::Addr(raw),
            };
        }
        Kind::Messages(Moved::In, _) if succeeded => return pointee(to, raw, frame, Side::Exit),
        _ => {}
    }
    match dir {
        Dir::In => pointee(to, raw, frame, Side::Entry),
        Dir::Word => Value::Addr(raw),
        Dir::Out | Dir::OutSome | Dir::Interrupted => match ret {
            Some(ret) if dir.written(ret) => pointee(to, raw, frame, Side::Exit),
            _ => Value::Addr(raw),
        },
        Dir::InOut | Dir::Update => {
            let before = pointee(to, raw, frame, Side::Entry);
            if !succeeded || dir == Dir::Update {
                return before; // what became of it is in the notes
            }
            let after = pointee(to, raw, frame, Side::Exit);
            change(to, before, after)
        }
    }
}

/// `[128 => 16]` where an int changed, `[0] => [100]` where something larger did.
fn change(kind: &Kind, before: Value, after: Value) -> Value {
    if before == after {
        return before;
    }
    let both = |before, after| Value::Change {
        before: Box::new(before),
        after: Box::new(after),
    };
    match (kind, before, after) {
        (Kind::Num(num), Value::Array { items: before, .. }, Value::Array { items: after, .. })
            if num.size == 4 =>
        {
            let pairs = before.into_iter().zip(after);
            array(pairs.map(|(before, after)| both(before, after)).collect())
        }
        (_, before, after) => both(before, after),
    }
}

pub(crate) fn array(items: Vec<Value>) -> Value {
    Value::Array { items, cut: false }
}

pub(crate) fn structure(fields: Vec<Field>) -> Value {
    Value::Struct { fields, cut: false }
}

pub(crate) fn field(name: &str, value: Value) -> Field {
    Field {
        name: name.to_owned(),
        value,
    }
}

/// What a pointer points to; its address where that cannot be read.
pub(crate) fn pointee(kind: &Kind, addr: u64, frame: &Frame<'_>, side: Side) -> Value {
    let memory = frame.memory(side);
    let decoded = match kind {
        Kind::Path => text(memory, addr, MOST_PATH),
        Kind::Str => text(memory, addr, MOST_STRING),
        Kind::Strings => strings(memory, addr),
        Kind::Iovec(..) | Kind::Message(_) | Kind::Messages(..) => {
            message_value::decode(kind, addr, frame, side)
        }
        _ => {
            let size = frame.size(kind, side).unwrap_or(0);
            let bytes = match size {
                0 => Some(Vec::new()),
                _ => read_exact(memory, addr, size),
            };
            bytes.map(|bytes| match kind {
                Kind::Num(_) => array(vec![inline(kind, &bytes, frame, side)]),
                _ => inline(kind, &bytes, frame, side),
            })
        }
    };
    decoded.unwrap_or(Value::Addr(addr))
}

fn text(memory: &dyn Memory, addr: u64, most: usize) -> Option<Value> {
    let (bytes, ended) = read_text(memory, addr, most)?;
    match ended || bytes.len() == most {
        true => Some(Value::Str { bytes, cut: !ended }),
        false => None,
    }
}

fn strings(memory: &dyn Memory, addr: u64) -> Option<Value> {
    let mut items = Vec::new();
    let mut left = MOST_STRINGS;
    while (items.len() as u64) < MOST_ELEMENTS {
        let at = addr.wrapping_add(items.len() as u64 * 8);
        match read_u64(memory, at)? {
            0 => break,
            pointer => {
                let string = match left {
                    0 => None,
                    _ => text(memory, pointer, MOST_STRING),
                };
                if let Some(Value::Str { bytes, .. }) = &string {
                    left = left.saturating_sub(bytes.len() + 1);
                }
                items.push(string.unwrap_or(Value::Addr(pointer)));
            }
        }
    }
    Some(array(items))
}

/// What stands in these bytes.
pub(crate) fn inline(kind: &Kind, bytes: &[u8], frame: &Frame<'_>, side: Side) -> Value {
    match kind {
        Kind::Num(num) => num.decode(unsigned(bytes)),
        Kind::Ptr(dir, to) => match unsigned(bytes) {
            0 => Value::Addr(0),
            addr if dir.reads() => pointee(to, addr, frame, side),
            addr => Value::Addr(addr),
        },
        Kind::Struct(layout) => members(layout, bytes, frame, side),
        Kind::Array(of, _) => {
            let size = of.fixed_size().unwrap_or(1).max(1);
            let elements = bytes.chunks_exact(size).take(MOST_ELEMENTS as usize);
            array(elements.map(|e| inline(of, e, frame, side)).collect())
        }
        Kind::Text(_) | Kind::Chars(_) => {
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            Value::str(bytes.get(..end).unwrap_or(bytes))
        }
        Kind::Sockaddr(_) => sockaddr::decode(bytes),
        Kind::Option(_, Some(layout)) if bytes.len() >= layout.size => {
            members(layout, bytes, frame, side)
        }
        Kind::Indexed(set, _) => {
            let items = bytes.iter().enumerate().map(|(i, byte)| {
                let name = set
                    .exact(i as u64, u64::MAX)
                    .map_or(i.to_string(), str::to_owned);
                let value = match byte {
                    0 => "0".to_owned(),
                    _ => format!("{byte:#x}"),
                };
                symbol(format!("[{name}]={value}"), i64::from(*byte))
            });
            array(items.collect())
        }
        Kind::Option(..) if bytes.len() == 4 => {
            array(vec![Value::Int(i64::from(unsigned(bytes) as i32))])
        }
        Kind::Sigset(_) => signals(bytes),
        Kind::FdSet(_) | Kind::CpuSet(_) => numbers(bytes),
        Kind::Dirents(_, wide) => dirents::decode(bytes, *wide),
        Kind::WaitStatus => wait_status(unsigned(bytes) as u32),
        _ => Value::str(bytes),
    }
}

fn members(layout: &'static Layout, bytes: &[u8], frame: &Frame<'_>, side: Side) -> Value {
    if layout.name == "utimespec" {
        let nanoseconds = super::frame::field(bytes, 8, 8);
        let special = sets::set("utime").and_then(|s| s.exact(nanoseconds, u64::MAX));
        if let Some(name) = special {
            return symbol(name, nanoseconds as i64);
        }
    }
    let inner = frame.inside(layout, bytes);
    let shown = layout.members.iter();
    let shown = shown.filter(|m| !m.hidden && inner.holds(&m.condition));
    let fields = shown.map(|m| {
        let slice = m.slice(bytes).unwrap_or(&[]);
        let slice = match inner.size(&m.kind, Side::Entry) {
            Some(size) => slice.get(..size).unwrap_or(slice),
            None => slice,
        };
        field(m.name, inline(&m.kind, slice, &inner, side))
    });
    structure(fields.collect())
}

fn bits(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let each = bytes.iter().enumerate();
    each.flat_map(|(i, &byte)| {
        (0..8)
            .filter(move |b| byte >> b & 1 == 1)
            .map(move |b| i * 8 + b)
    })
}

fn numbers(bytes: &[u8]) -> Value {
    Value::Set {
        negated: false,
        items: bits(bytes).map(|n| n.to_string()).collect(),
    }
}

/// `[INT CHLD]`, or `~[RTMIN]` where at least two thirds of the signals are in it (strace's rule).
fn signals(bytes: &[u8]) -> Value {
    let all = bytes.len() * 8;
    let negated = all > 0 && bits(bytes).count() >= all * 2 / 3;
    let flipped: Vec<u8> = bytes
        .iter()
        .map(|b| if negated { !b } else { *b })
        .collect();
    let items = bits(&flipped).map(|bit| {
        let name = consts::signal_name(bit as i32 + 1);
        name.strip_prefix("SIG").unwrap_or(&name).to_owned()
    });
    Value::Set {
        negated,
        items: items.collect(),
    }
}

/// wait4's status in the words of its macros, as strace writes them.
fn wait_status(status: u32) -> Value {
    let signal = consts::signal_name((status & 0x7f) as i32);
    let text = if status & 0x7f == 0 {
        format!(
            "{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}",
            status >> 8 & 0xff
        )
    } else if status == 0xffff {
        "{WIFCONTINUED(s)}".to_owned()
    } else if status & 0xff == 0x7f {
        let signal = consts::signal_name((status >> 8 & 0xff) as i32);
        format!("{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal}}}")
    } else {
        let core = if status & 0x80 != 0 {
            " && WCOREDUMP(s)"
        } else {
            ""
        };
        format!("{{WIFSIGNALED(s) && WTERMSIG(s) == {signal}{core}}}")
    };
    array(vec![symbol(text, i64::from(status))])
}
