//! Decoding: arguments as strace shows them.

use super::frame::{
    After, Frame, MOST_ELEMENTS, MOST_PATH, MOST_SET, MOST_STRING, MOST_STRINGS, Nowhere, Side,
    read_exact, read_string, read_text, read_word, unsigned,
};
use super::kind::{Dir, Kind, Len};
use super::layout::{Layout, Shown};
use super::notation::{self, Notation};
use super::number::{hex, symbol};
use super::table::{Arg, Syscall};
use super::{Abi, Memory, Moved, capability, dirents, handle, lsm, message_value, sockaddr};
use crate::constants;
use crate::constants::is_error;
use crate::value::{Field, Value};

impl Syscall {
    /// The arguments as strace would show them with `-v` and an unlimited `-s`. `entry` is the memory for inputs,
    /// `exit` the memory for outputs, which needs to have no more than [`Syscall::outputs`]. If the call has not
    /// returned (`ret` is `None`) or has failed, out-arguments are addresses.
    pub fn decode(
        &self,
        args: &[u64; 6],
        ret: Option<i64>,
        entry: &dyn Memory,
        exit: &dyn Memory,
    ) -> Vec<Value> {
        let args = &self.values(args, entry);
        let exit = &After { exit, entry };
        let frame = Frame::new(self, args, ret.unwrap_or(0), entry, exit);
        let frame = frame.pending(ret.is_none());
        let formal = self.args.iter().zip(args);
        let shown = formal.filter(|(arg, _)| !arg.hidden && frame.holds(&arg.condition));
        shown
            .map(|(arg, &raw)| argument(arg, raw, ret, &frame))
            .collect()
    }

    /// The names of the arguments that [`Syscall::decode`] shows, in the same order.
    pub fn shown_names(&self, args: &[u64; 6]) -> Vec<&'static str> {
        let frame = Frame::new(self, args, 0, &Nowhere, &Nowhere);
        let formal = self.args.iter();
        let shown = formal.filter(|arg| !arg.hidden && frame.holds(&arg.condition));
        shown.map(|arg| arg.name).collect()
    }

    /// The indexes of the arguments that [`Syscall::decode`] shows, in the same order.
    pub fn shown_args(&self, args: &[u64; 6]) -> Vec<usize> {
        let frame = Frame::new(self, args, 0, &Nowhere, &Nowhere);
        let formal = self.args.iter().enumerate();
        let shown = formal.filter(|(_, arg)| !arg.hidden && frame.holds(&arg.condition));
        shown.map(|(index, _)| index).collect()
    }

    /// A raw return value that is no error, as strace would show it.
    pub fn decode_ret(&self, ret: i64) -> Value {
        match &self.ret {
            Kind::Num(num) => num.decode(ret as u64),
            _ => Value::Int(ret),
        }
    }

    /// One argument at the entry of the call: out-arguments are addresses.
    pub fn decode_arg(&self, index: usize, args: &[u64; 6], mem: &dyn Memory) -> Value {
        let args = &self.values(args, mem);
        let raw = args.get(index).copied().unwrap_or(0);
        let frame = Frame::new(self, args, 0, mem, mem).pending(true);
        match self.args.get(index) {
            Some(arg) => argument(arg, raw, None, &frame),
            None => Value::Addr(raw),
        }
    }
}

/// The `siginfo_t` of a signal as strace shows it; missing bytes count as zero.
pub fn signal_info(signal: i32, bytes: &[u8]) -> Value {
    let Some(layout) = super::layout::layouts().get("siginfo") else {
        return Value::str(bytes);
    };
    let mut whole = bytes.to_vec();
    whole.resize(layout.size, 0);
    if let Some(number) = whole.get_mut(..4) {
        number.copy_from_slice(&signal.to_le_bytes());
    }
    let frame = Frame::bare(&Nowhere);
    members(layout, &whole, &frame, Side::Entry)
}

pub(crate) fn argument(arg: &Arg, raw: u64, ret: Option<i64>, frame: &Frame<'_>) -> Value {
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
        Dir::OutAlways if !succeeded => Value::Addr(raw),
        Dir::Out | Dir::OutSome | Dir::OutAlways | Dir::Interrupted => match ret {
            Some(ret) if dir.written(ret) => pointee(to, raw, frame, Side::Exit),
            _ => Value::Addr(raw),
        },
        Dir::InOut | Dir::Update | Dir::InOutAlways => {
            let before = match to {
                Kind::Struct(layout) if layout.is_all(Shown::After) => Value::Addr(raw),
                _ => pointee(to, raw, &frame.without(Shown::After), Side::Entry),
            };
            let unseen = !succeeded && (ret.is_none() || dir != Dir::InOutAlways);
            if unseen || dir == Dir::Update {
                return before; // what became of it is in the notes
            }
            let after = pointee(to, raw, &frame.without(Shown::Before), Side::Exit);
            change(to, before, after)
        }
    }
}

/// The change of a value: `[128 => 16]` if an int changed, `[0] => [100]` if something larger did.
fn change(kind: &Kind, before: Value, after: Value) -> Value {
    if before == after {
        return before;
    }
    let both = |before, after| Value::Change {
        before: Box::new(before),
        after: Box::new(after),
    };
    match (kind, before, after) {
        (Kind::FileHandle(_), before, after) => handle::change(&before, after),
        (Kind::Num(num), Value::Array { items: before, .. }, Value::Array { items: after, .. })
            if num.size == 4 =>
        {
            let pairs = before.into_iter().zip(after);
            array(pairs.map(|(before, after)| both(before, after)).collect())
        }
        (Kind::Struct(l), before, Value::Struct { fields, cut }) if l.has(Shown::Change) => {
            let changes = |name: &str| {
                let mut members = l.members.iter();
                members.any(|m| m.shown == Shown::Change && m.name == name)
            };
            let fields = fields.into_iter().map(|after| {
                let was = before.field(&after.name).filter(|_| changes(&after.name));
                match was.filter(|was| **was != after.value) {
                    Some(was) => field(&after.name, both(was.clone(), after.value)),
                    None => after,
                }
            });
            let fields = fields.collect();
            Value::Struct { fields, cut }
        }
        // A structure to which the kernel only adds members is shown once.
        (Kind::Struct(l), _, after) if l.has(Shown::After) && !l.has(Shown::Before) => after,
        (Kind::Struct(l), before, _) if l.is_all(Shown::Before) => before,
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

/// The value behind a pointer; the address if that cannot be read.
pub(crate) fn pointee(kind: &Kind, addr: u64, frame: &Frame<'_>, side: Side) -> Value {
    let memory = frame.memory(side);
    let decoded = match kind {
        Kind::Path => text(memory, addr, MOST_PATH),
        Kind::Str => text(memory, addr, MOST_STRING),
        Kind::Strings => strings(memory, addr, frame.abi.word()),
        Kind::Iovec(..) | Kind::Message(_) | Kind::Messages(..) => {
            message_value::decode(kind, addr, frame, side)
        }
        Kind::Bytes(_) => match frame.size(kind, side).unwrap_or(0) {
            0 => Some(Value::str([])),
            size => read_string(memory, addr, size),
        },
        _ => {
            let size = frame.size(kind, side).unwrap_or(0);
            let size = match kind {
                Kind::CpuSet(_) | Kind::Sigset(_) => size.min(MOST_SET),
                _ => size,
            };
            let bytes = match size {
                _ if !memory.has_room(size.saturating_mul(weight(kind))) => None,
                _ if matches!(kind, Kind::Sized(_, _, least) if size < *least) => match kind {
                    Kind::Sized(_, extent, _) if matches!(extent.room, Len::At(_)) => {
                        read_exact(memory, addr, 4)
                    }
                    _ => None,
                },
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

/// The size of what a value takes, in the sizes of what it is made of.
fn weight(kind: &Kind) -> usize {
    match kind {
        Kind::Dirents(..) => 4,
        _ => 1,
    }
}

fn text(memory: &dyn Memory, addr: u64, most: usize) -> Option<Value> {
    let (bytes, ended) = read_text(memory, addr, most)?;
    match ended || bytes.len() == most {
        true => Some(Value::Str { bytes, cut: !ended }),
        false => None,
    }
}

fn strings(memory: &dyn Memory, addr: u64, word: usize) -> Option<Value> {
    let mut items = Vec::new();
    let mut left = MOST_STRINGS;
    while (items.len() as u64) < MOST_ELEMENTS {
        let at = addr.wrapping_add((items.len() * word) as u64);
        match read_word(memory, at, word)? {
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

/// The value in these bytes.
pub(crate) fn inline(kind: &Kind, bytes: &[u8], frame: &Frame<'_>, side: Side) -> Value {
    match kind {
        Kind::Num(num) => num.decode(unsigned(bytes)),
        Kind::Ptr(dir, to) => match unsigned(bytes) {
            0 => Value::Addr(0),
            addr if dir.reads() => pointee(to, addr, frame, side),
            addr if !frame.pending && !is_error(frame.ret) && dir.written(frame.ret) => {
                pointee(to, addr, frame, Side::Exit)
            }
            addr => Value::Addr(addr),
        },
        Kind::Struct(layout) => members(layout, bytes, frame, side),
        Kind::Sized(layout, ..) => beyond(layout, bytes, members(layout, bytes, frame, side)),
        Kind::FileHandle(_) => handle::decode(bytes, frame, side),
        Kind::LsmContexts(_) => lsm::decode(bytes),
        Kind::Msgbuf(_) => {
            let (mtype, text) = bytes
                .split_at_checked(frame.abi.word())
                .unwrap_or((bytes, &[]));
            let mtype = match frame.abi {
                Abi::X86_64 => unsigned(mtype) as i64,
                Abi::I386 => i64::from(unsigned(mtype) as i32),
            };
            structure(vec![
                field("mtype", Value::Int(mtype)),
                field("mtext", Value::str(text)),
            ])
        }
        Kind::Capabilities(_) => capability::decode(bytes),
        Kind::Array(of, _) => {
            let size = of.size_in(frame.abi).unwrap_or(1).max(1);
            let elements = bytes.chunks_exact(size).take(MOST_ELEMENTS as usize);
            array(elements.map(|e| inline(of, e, frame, side)).collect())
        }
        Kind::Text(_) | Kind::Chars(_) => {
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            Value::str(bytes.get(..end).unwrap_or(bytes))
        }
        Kind::Blob(_) => Value::str(bytes.strip_suffix(&[0]).unwrap_or(bytes)),
        Kind::Sockaddr(_) => sockaddr::decode(bytes),
        Kind::Option(_, Some(kind)) if option_fits(kind, bytes, frame.abi) => match &**kind {
            Kind::Num(num) => array(vec![
                num.decode(unsigned(bytes.get(..num.size).unwrap_or(bytes))),
            ]),
            kind => inline(kind, bytes, frame, side),
        },
        Kind::Written(notation, _) => notation::decode(*notation, bytes, ""),
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
        Kind::Dirents(_, wide) => dirents::decode(bytes, *wide, frame.abi),
        Kind::WaitStatus => wait_status(unsigned(bytes) as u32),
        _ => Value::str(bytes),
    }
}

/// Returns whether an option of this many bytes is of this kind. A structure may be shorter: the kernel may cut it, or
/// have an older form of it.
fn option_fits(kind: &Kind, bytes: &[u8], abi: Abi) -> bool {
    match kind {
        Kind::Struct(_) => !bytes.is_empty(),
        _ => bytes.len() >= kind.size_in(abi).unwrap_or(0),
    }
}

pub(crate) fn members(
    layout: &'static Layout,
    bytes: &[u8],
    frame: &Frame<'_>,
    side: Side,
) -> Value {
    if layout.name == "utimespec" {
        let half = layout.size / 2;
        let nanoseconds = super::frame::field(bytes, half, half);
        let special = constants::set("utime").and_then(|s| s.exact(nanoseconds, u64::MAX));
        if let Some(name) = special {
            return symbol(name, nanoseconds as i64);
        }
    }
    let inner = frame.inside(layout, bytes);
    let shown = layout.members.iter();
    let mut last = "";
    let shown = shown.filter(|m| !m.hidden && inner.holds(&m.condition) && inner.shows(m.shown));
    let shown = shown.filter(|m| std::mem::replace(&mut last, m.name) != m.name);
    let fields = shown.filter_map(|m| {
        let slice = m.part(bytes)?;
        if let Kind::TextAt(base) | Kind::TextsAt(base, _) = m.kind {
            let from = base.saturating_add(super::frame::field(bytes, m.offset, 4) as usize);
            return Some(field(m.name, texts(&m.kind, bytes, from, base, &inner)));
        }
        let slice = match inner.size(&m.kind, Side::Entry) {
            Some(size) => slice.get(..size).unwrap_or(slice),
            None => slice,
        };
        Some(match &m.kind {
            Kind::Written(Notation::Inet6, _) => {
                field("", notation::decode(Notation::Inet6, slice, m.name))
            }
            kind => field(m.name, inline(kind, slice, &inner, side)),
        })
    });
    structure(fields.collect())
}

/// Adds the bytes behind a structure that may grow, if they are not zero: `/* bytes 24..31 */ "\x01…"`.
fn beyond(layout: &Layout, bytes: &[u8], value: Value) -> Value {
    let rest = bytes.get(layout.size..).unwrap_or(&[]);
    let whole = layout.members.iter().all(|m| {
        let texts = matches!(m.kind, Kind::TextAt(_) | Kind::TextsAt(..));
        !texts && m.size.is_some()
    });
    match value {
        Value::Struct { mut fields, cut } if whole && rest.iter().any(|&byte| byte != 0) => {
            let last = bytes.len() - 1;
            let shown = rest.iter().take(4096);
            let hex: String = shown.map(|byte| format!("\\x{byte:02x}")).collect();
            let ends = if rest.len() > 4096 { "..." } else { "" };
            let text = format!("/* bytes {}..{last} */ \"{hex}\"{ends}", layout.size);
            let value = Value::Str {
                bytes: rest.iter().take(4096).copied().collect(),
                cut: !ends.is_empty(),
            };
            let (text, value) = (text.into_bytes().into(), Box::new(value));
            fields.push(field("", Value::Written { text, value }));
            Value::Struct { fields, cut }
        }
        value => value,
    }
}

/// The text `from` this byte on, or as many texts as another member says; the offset itself if there is none.
fn texts(kind: &Kind, bytes: &[u8], from: usize, base: usize, frame: &Frame<'_>) -> Value {
    let mut rest = bytes.get(from..).unwrap_or(&[]);
    if rest.is_empty() {
        return hex((from - base) as u64);
    }
    let mut next = || {
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        let text = rest.get(..end).filter(|_| !rest.is_empty())?;
        rest = rest.get(end + 1..).unwrap_or(&[]);
        Some(Value::str(text))
    };
    match kind {
        Kind::TextsAt(_, count) => {
            let count = frame.len(*count, Side::Exit).min(MOST_ELEMENTS);
            array((0..count).map_while(|_| next()).collect())
        }
        _ => next().unwrap_or(Value::Addr(0)),
    }
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
pub(crate) fn signals(bytes: &[u8]) -> Value {
    let all = bytes.len() * 8;
    let negated = all > 0 && bits(bytes).count() >= all * 2 / 3;
    let flipped: Vec<u8> = bytes
        .iter()
        .map(|b| if negated { !b } else { *b })
        .collect();
    let items = bits(&flipped).map(|bit| {
        let name = constants::signal_name(bit as i32 + 1);
        name.strip_prefix("SIG").unwrap_or(&name).to_owned()
    });
    Value::Set {
        negated,
        items: items.collect(),
    }
}

/// wait4's status as an expression of its macros, as strace writes it.
fn wait_status(status: u32) -> Value {
    let byte = status >> 8 & 0xff;
    let (text, told) = if status == 0xffff {
        ("{WIFCONTINUED(s)}".to_owned(), 0xffff)
    } else if status & 0xff == 0x7f {
        let signal = constants::signal_name((byte & 0x7f) as i32);
        // PTRACE_O_TRACESYSGOOD
        let traced = if byte & 0x80 != 0 { " | 0x80" } else { "" };
        (
            format!("{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal}{traced}}}"),
            0xffff,
        )
    } else if status & 0x7f == 0 {
        (
            format!("{{WIFEXITED(s) && WEXITSTATUS(s) == {byte}}}"),
            0xff00,
        )
    } else if status & 0x7f == 0x7f {
        (format!("{status:#x}"), u32::MAX)
    } else {
        let signal = constants::signal_name((status & 0x7f) as i32);
        let core = match status & 0x80 {
            0 => "",
            _ => " && WCOREDUMP(s)",
        };
        (
            format!("{{WIFSIGNALED(s) && WTERMSIG(s) == {signal}{core}}}"),
            0xff,
        )
    };
    let mut text = text;
    let left = status & !told;
    if left >> 16 != 0 {
        let event =
            constants::set("ptrace_event").and_then(|s| s.exact(u64::from(left >> 16), u64::MAX));
        let event = event.map_or(format!("{:#x}", left >> 16), str::to_owned);
        text.push_str(&format!("|{event}<<16"));
    }
    if left & 0xffff != 0 {
        text.push_str(&format!("|{:#x}", left & 0xffff));
    }
    array(vec![symbol(text, i64::from(status))])
}
