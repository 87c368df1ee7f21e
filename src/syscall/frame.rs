//! The context of a call (arguments, return value, memory) in which lengths, conditions and pointers are evaluated.

use super::kind::{Condition, Extent, Kind, Len};
use super::layout::{Layout, Shown};
use super::table::{Arg, Syscall};
use super::{Abi, Memory, capability, handle};
use crate::value::Value;

/// The limit of the length of a region, also for hostile recordings.
pub(crate) const MOST_BYTES: u64 = 1 << 30;
/// `IOV_MAX`: the kernel's limit of iovecs and of messages.
pub(crate) const MOST_VECTORS: u64 = 1024;
/// The limit of elements of an array, and of pointers of an argv.
pub(crate) const MOST_ELEMENTS: u64 = 1 << 16;
/// The limit of all strings of an argv together: the kernel takes at most three quarters of an 8 MiB stack.
pub(crate) const MOST_STRINGS: usize = 8 << 20;
/// The limit of the bytes of a set of signals or processors: the kernel has room for 8192 processors.
pub(crate) const MOST_SET: usize = 1 << 13;
/// `PATH_MAX`.
pub(crate) const MOST_PATH: usize = 4096;
/// `MAX_ARG_STRLEN`.
pub(crate) const MOST_STRING: usize = 128 * 1024;

const PAGE: u64 = 4096;

/// A side of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The data that the kernel reads, and the buffers that it may fill.
    Entry,
    /// The data that the kernel has filled in.
    Exit,
}

/// The owner of the members to which lengths refer.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Args(&'a [Arg], &'a [u64; 6]),
    Struct(&'static Layout, &'a [u8]),
}

/// The context in which kinds are evaluated.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    owner: Owner<'a>,
    pub(crate) abi: Abi,
    pub(crate) ret: i64,
    /// True if the call has not returned; `ret` then has no meaning.
    pub(crate) pending: bool,
    /// The members that are not shown.
    without: Option<Shown>,
    pub(crate) entry: &'a dyn Memory,
    pub(crate) exit: &'a dyn Memory,
}

/// Memory that is empty.
pub(crate) struct Nowhere;

impl Memory for Nowhere {
    fn read(&self, _addr: u64, _buf: &mut [u8]) -> usize {
        0
    }
}

/// Memory after a call, of which only the bytes that the call wrote may be known: other bytes are read from memory at
/// entry.
pub(crate) struct After<'a> {
    pub(crate) exit: &'a dyn Memory,
    pub(crate) entry: &'a dyn Memory,
}

impl Memory for After<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.wrapping_add(done as u64);
            let got = match self.exit.read(at, rest) {
                // The bytes that the call wrote may begin at the next byte.
                0 => self.entry.read(at, rest.get_mut(..1).unwrap_or(&mut [])),
                got => got,
            };
            if got == 0 {
                break;
            }
            done += got;
        }
        done
    }

    fn string_part(&self, len: usize) -> usize {
        self.exit.string_part(len)
    }

    fn has_room(&self, len: usize) -> bool {
        self.exit.has_room(len)
    }
}

impl<'a> Frame<'a> {
    /// Makes a frame of a call; `args` are the values of the formal arguments ([`Syscall::values`]).
    pub(crate) fn new(
        call: &'a Syscall,
        args: &'a [u64; 6],
        ret: i64,
        entry: &'a dyn Memory,
        exit: &'a dyn Memory,
    ) -> Frame<'a> {
        Frame {
            owner: Owner::Args(&call.args, args),
            abi: call.abi,
            ret,
            pending: false,
            without: None,
            entry,
            exit,
        }
    }

    /// This frame for a call that has not returned.
    pub(crate) fn pending(self, pending: bool) -> Frame<'a> {
        Frame { pending, ..self }
    }

    /// This frame for the structure before or after the call, which shows some members only then.
    pub(crate) fn without(self, shown: Shown) -> Frame<'a> {
        let without = Some(shown);
        Frame { without, ..self }
    }

    /// Returns whether members that are shown at that time are shown now.
    pub(crate) fn shows(&self, shown: Shown) -> bool {
        self.without != Some(shown)
    }

    /// A frame for a structure of x86-64 to which no argument points.
    pub(crate) fn bare(memory: &'a dyn Memory) -> Frame<'a> {
        Frame {
            owner: Owner::Args(&[], &[0; 6]),
            abi: Abi::X86_64,
            ret: 0,
            pending: false,
            without: None,
            entry: memory,
            exit: memory,
        }
    }

    /// This frame for the members of a structure.
    pub(crate) fn inside(&self, layout: &'static Layout, bytes: &'a [u8]) -> Frame<'a> {
        Frame {
            owner: Owner::Struct(layout, bytes),
            ..*self
        }
    }

    pub(crate) fn memory(&self, side: Side) -> &'a dyn Memory {
        match side {
            Side::Entry => self.entry,
            Side::Exit => self.exit,
        }
    }

    /// The value of the argument or member with this index.
    pub(crate) fn number(&self, index: usize) -> u64 {
        match self.owner {
            Owner::Args(formal, args) => {
                let value = args.get(index).copied().unwrap_or(0);
                // The kernel reads only the lower half of an argument that is an int.
                match formal.get(index).map(|a| &a.kind) {
                    Some(Kind::Num(num)) if num.size == 4 => value & 0xffff_ffff,
                    _ => value,
                }
            }
            Owner::Struct(layout, bytes) => {
                let member = layout.members.get(index);
                let slice = member.and_then(|m| m.slice(bytes));
                let number = slice.map_or(0, |s| unsigned(s.get(..s.len().min(8)).unwrap_or(s)));
                match member.map(|m| &m.kind) {
                    Some(Kind::Num(num)) => num.part(number),
                    _ => number,
                }
            }
        }
    }

    pub(crate) fn holds(&self, condition: &Option<Condition>) -> bool {
        condition
            .as_ref()
            .is_none_or(|c| c.holds(&|index| self.number(index)))
    }

    /// The value of a length.
    pub(crate) fn len(&self, len: Len, side: Side) -> u64 {
        match len {
            Len::Fixed(n) => n,
            Len::Of(index) => self.number(index),
            Len::At(index) => {
                let read = read_u32(self.memory(side), self.number(index));
                read.map_or(0, u64::from)
            }
            Len::Each(index, each) => self.len(Len::At(index), side) / each.max(1),
            Len::Part(index, each) => self.number(index) / each.max(1),
            Len::Counted {
                of,
                offset,
                each,
                more,
            } => {
                let at = self.number(of).wrapping_add(offset);
                let count = read_u32(self.entry, at).map_or(0, u64::from);
                count.saturating_mul(each).saturating_add(more)
            }
            Len::Pages(index) => self.number(index).div_ceil(PAGE),
            Len::NodeWords(index) => {
                let bits = self.abi.word() as u64 * 8;
                self.number(index).saturating_sub(1).div_ceil(bits)
            }
            Len::Ret => u64::try_from(self.ret).unwrap_or(0),
        }
    }

    /// The number of bytes or elements on this side of the call, without a limit.
    pub(crate) fn extent(&self, extent: Extent, side: Side) -> u64 {
        let room = self.len(extent.room, Side::Entry);
        match side {
            Side::Entry => room,
            Side::Exit => room.min(self.len(extent.filled, Side::Exit)),
        }
    }

    /// The number of elements, with a limit.
    pub(crate) fn count(&self, extent: Extent, side: Side, most: u64) -> usize {
        self.extent(extent, side).min(most) as usize
    }

    /// The number of bytes that a kind takes in memory, if it is one piece whose size does not depend on its contents.
    pub(crate) fn size(&self, kind: &Kind, side: Side) -> Option<usize> {
        if let Kind::Array(of, extent) = kind {
            let each = of.size_in(self.abi)? as u64;
            let all = self.extent(*extent, side).saturating_mul(each);
            return Some(all.min(MOST_BYTES) as usize);
        }
        let extent = match kind {
            Kind::Blob(e) | Kind::Bytes(e) | Kind::Text(e) => *e,
            Kind::Sockaddr(e) | Kind::Option(e, _) | Kind::Written(_, e) => *e,
            Kind::Sigset(e) | Kind::CpuSet(e) | Kind::Dirents(e, _) => *e,
            // A structure that has its own size is read up to that size.
            Kind::Sized(_, e, _) if matches!(e.room, Len::At(_)) => {
                return Some(self.extent(*e, side).clamp(4, MOST_BYTES) as usize);
            }
            Kind::Sized(_, e, _) | Kind::LsmContexts(e) => *e,
            Kind::FileHandle(len) => return Some(handle::size(*len, self, side)),
            Kind::Msgbuf(e) => {
                let text = self.extent(*e, side).min(MOST_BYTES);
                return Some(text as usize + self.abi.word());
            }
            Kind::Capabilities(header) => {
                let version = read_u32(self.entry, self.number(*header));
                return Some(capability::size(version));
            }
            Kind::FdSet(len) => {
                // The kernel moves whole longs (FDS_BYTES in fs/select.c); a negative count is refused.
                let bits = self.len(*len, side) as u32;
                let bits = if bits > i32::MAX as u32 { 0 } else { bits };
                let word = self.abi.word();
                return Some((bits.min(1 << 20) as usize).div_ceil(word * 8) * word);
            }
            _ => return kind.size_in(self.abi),
        };
        Some(self.extent(extent, side).min(MOST_BYTES) as usize)
    }
}

/// The number in at most eight bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> u64 {
    let mut raw = [0u8; 8];
    for (to, from) in raw.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(raw)
}

/// The number at an offset; missing bytes are zero.
pub(crate) fn field(bytes: &[u8], offset: usize, size: usize) -> u64 {
    let rest = bytes.get(offset..).unwrap_or(&[]);
    unsigned(rest.get(..size.min(8)).unwrap_or(rest))
}

pub(crate) fn read_u32(memory: &dyn Memory, addr: u64) -> Option<u32> {
    let mut raw = [0u8; 4];
    (addr != 0 && memory.read(addr, &mut raw) == 4).then_some(u32::from_le_bytes(raw))
}

/// The number in a word of this many bytes, at most eight.
pub(crate) fn read_word(memory: &dyn Memory, addr: u64, word: usize) -> Option<u64> {
    let mut raw = [0u8; 8];
    let place = raw.get_mut(..word)?;
    (addr != 0 && memory.read(addr, place) == word).then_some(u64::from_le_bytes(raw))
}

/// Reads as many of these bytes as there are. The allocation grows with the bytes read, not with the length asked for.
pub(crate) fn read_some(memory: &dyn Memory, addr: u64, len: usize) -> Vec<u8> {
    let len = (len as u64).min(MOST_BYTES) as usize;
    let mut bytes = Vec::new();
    let mut step = 64 * 1024;
    while bytes.len() < len {
        let from = bytes.len();
        let want = step.min(len - from);
        bytes.resize(from + want, 0);
        let at = addr.wrapping_add(from as u64);
        let rest = bytes.get_mut(from..).unwrap_or(&mut []);
        let got = memory.read(at, rest).min(want);
        bytes.truncate(from + got);
        if got < want {
            break;
        }
        step = step.saturating_mul(2);
    }
    bytes
}

/// Reads exactly these bytes, or none.
pub(crate) fn read_exact(memory: &dyn Memory, addr: u64, len: usize) -> Option<Vec<u8>> {
    if addr == 0 {
        return None;
    }
    let bytes = read_some(memory, addr, len);
    (bytes.len() == len).then_some(bytes)
}

/// The value of a string of so many bytes; `None` if it cannot be read, or is not to be.
pub(crate) fn read_string(memory: &dyn Memory, addr: u64, len: usize) -> Option<Value> {
    let part = memory.string_part(len);
    if part == 0 && len > 0 {
        return None;
    }
    let bytes = read_exact(memory, addr, part)?;
    let cut = part < len;
    Some(Value::Str { bytes, cut })
}

/// Reads text up to a zero byte, which is not included; returns whether there was one. `None` if nothing can be read.
pub(crate) fn read_text(memory: &dyn Memory, addr: u64, most: usize) -> Option<(Vec<u8>, bool)> {
    if addr == 0 {
        return None;
    }
    let mut text = Vec::new();
    let mut chunk = [0u8; 256];
    while text.len() < most {
        let at = addr.wrapping_add(text.len() as u64);
        let to_page = (PAGE - at % PAGE) as usize;
        let want = chunk.len().min(most - text.len()).min(to_page);
        let buffer = chunk.get_mut(..want)?;
        let got = memory.read(at, buffer).min(want);
        let read = buffer.get(..got)?;
        if let Some(end) = memchr::memchr(0, read) {
            text.extend_from_slice(read.get(..end)?);
            return Some((text, true));
        }
        text.extend_from_slice(read);
        if got < want {
            break;
        }
    }
    (!text.is_empty()).then_some((text, false))
}
