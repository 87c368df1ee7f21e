//! Vectors and messages: `struct iovec`, `struct msghdr`, `struct mmsghdr`, and the data to which they point.

use super::frame::{Frame, MOST_BYTES, MOST_VECTORS, Side, field, read_exact, read_some, read_u32};
use super::kind::Kind;
use super::regions::push;
use super::{Abi, Memory, Moved, Region};

/// The size of a `struct iovec`.
const fn iovec(abi: Abi) -> usize {
    2 * abi.word()
}

/// The size of a `struct msghdr`: a word each for msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control,
/// msg_controllen and msg_flags.
pub(crate) const fn msghdr(abi: Abi) -> usize {
    7 * abi.word()
}

/// The size of a `struct mmsghdr`: a msghdr, then msg_len.
pub(crate) const fn mmsghdr(abi: Abi) -> usize {
    8 * abi.word()
}

/// The offset of msg_namelen in a `struct msghdr`.
pub(crate) const fn namelen_at(abi: Abi) -> u64 {
    abi.word() as u64
}

/// The offset of msg_controllen in a `struct msghdr`; msg_flags follows.
pub(crate) const fn controllen_at(abi: Abi) -> u64 {
    5 * abi.word() as u64
}

/// The base and length of each vector; empty if the vectors cannot be read.
pub(crate) fn vectors(memory: &dyn Memory, addr: u64, count: u64, abi: Abi) -> Vec<(u64, u64)> {
    let word = abi.word();
    let count = count.min(MOST_VECTORS) as usize;
    if addr == 0 {
        return Vec::new();
    }
    let bytes = read_some(memory, addr, count * iovec(abi));
    let whole = bytes.chunks_exact(iovec(abi));
    whole
        .map(|v| (field(v, 0, word), field(v, word, word)))
        .collect()
}

/// The members of a `struct msghdr`.
pub(crate) struct Header {
    pub(crate) name: u64,
    pub(crate) namelen: u32,
    pub(crate) iov: u64,
    pub(crate) iovlen: u64,
    pub(crate) control: u64,
    pub(crate) controllen: u64,
    pub(crate) flags: u32,
}

impl Header {
    pub(crate) fn read(memory: &dyn Memory, addr: u64, abi: Abi) -> Option<Header> {
        let bytes = read_exact(memory, addr, msghdr(abi))?;
        let word = |index: usize| field(&bytes, index * abi.word(), abi.word());
        Some(Header {
            name: word(0),
            namelen: word(1) as u32,
            iov: word(2),
            iovlen: word(3),
            control: word(4),
            controllen: word(5),
            flags: word(6) as u32,
        })
    }
}

/// Adds the regions of up to `len` bytes of the vectors, in order.
fn fill(
    frame: &Frame<'_>,
    (addr, count): (u64, u64),
    arg: usize,
    len: u64,
    regions: &mut Vec<Region>,
) {
    let mut left = len.min(MOST_BYTES);
    for (base, room) in vectors(frame.entry, addr, count, frame.abi) {
        if left == 0 {
            break;
        }
        let here = room.min(left);
        push(arg, base, here as usize, regions);
        left -= here;
    }
}

/// Adds the memory of a vector or message that the kernel reads: the structures, and the data if it is sent.
pub(crate) fn read(
    kind: &Kind,
    arg: usize,
    addr: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    match kind {
        Kind::Iovec(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            push(arg, addr, count * iovec(frame.abi), regions);
            if *moved == Moved::In {
                let vector = (addr, count as u64);
                fill(frame, vector, arg, MOST_BYTES, regions);
            }
        }
        Kind::Message(moved) => {
            push(arg, addr, msghdr(frame.abi), regions);
            read_header(*moved, arg, addr, frame, regions);
        }
        Kind::Messages(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            push(arg, addr, count * mmsghdr(frame.abi), regions);
            for i in 0..count {
                let at = addr.wrapping_add((i * mmsghdr(frame.abi)) as u64);
                read_header(*moved, arg, at, frame, regions);
            }
        }
        _ => {}
    }
}

fn read_header(moved: Moved, arg: usize, addr: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    let Some(header) = Header::read(frame.entry, addr, frame.abi) else {
        return;
    };
    let count = header.iovlen.min(MOST_VECTORS);
    if header.iov != 0 {
        push(arg, header.iov, count as usize * iovec(frame.abi), regions);
    }
    if moved == Moved::In {
        push(arg, header.name, header.namelen.min(128) as usize, regions);
        fill(frame, (header.iov, count), arg, MOST_BYTES, regions);
        let control = header.controllen.min(MOST_BYTES);
        push(arg, header.control, control as usize, regions);
    }
}

/// Adds the memory of a vector or message that the kernel wrote in a successful call.
pub(crate) fn written(
    kind: &Kind,
    arg: usize,
    addr: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    let ret = u64::try_from(frame.ret).unwrap_or(0);
    match kind {
        Kind::Iovec(Moved::Out, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            fill(frame, (addr, count), arg, ret, regions);
        }
        Kind::Message(Moved::Out) => written_header(arg, addr, ret, frame, regions),
        Kind::Messages(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            for i in 0..count.min(ret) {
                let at = addr.wrapping_add(i * mmsghdr(frame.abi) as u64);
                let len_at = at.wrapping_add(msghdr(frame.abi) as u64);
                if *moved == Moved::Out {
                    let len = read_u32(frame.exit, len_at).unwrap_or(0);
                    written_header(arg, at, u64::from(len), frame, regions);
                }
                push(arg, len_at, 4, regions);
            }
        }
        _ => {}
    }
}

/// Adds the memory that recvmsg writes: the name, the data, the control data, and msg_namelen, msg_controllen and
/// msg_flags.
fn written_header(arg: usize, addr: u64, len: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    let before = Header::read(frame.entry, addr, frame.abi);
    let after = Header::read(frame.exit, addr, frame.abi);
    let (Some(before), Some(after)) = (before, after) else {
        return;
    };
    if before.name != 0 {
        let name = before.namelen.min(after.namelen).min(128);
        push(arg, before.name, name as usize, regions);
        let at = addr.wrapping_add(namelen_at(frame.abi));
        push(arg, at, 4, regions);
    }
    fill(frame, (before.iov, before.iovlen), arg, len, regions);
    let control = before.controllen.min(after.controllen).min(MOST_BYTES);
    push(arg, before.control, control as usize, regions);
    let at = addr.wrapping_add(controllen_at(frame.abi));
    push(arg, at, frame.abi.word() + 4, regions);
}

/// Adds the regions of the data of a vector or message, up to `len` bytes, in order.
pub(crate) fn spread(
    kind: &Kind,
    arg: usize,
    addr: u64,
    len: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    match kind {
        Kind::Iovec(_, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            fill(frame, (addr, count), arg, len, regions);
        }
        Kind::Message(_) => {
            if let Some(header) = Header::read(frame.entry, addr, frame.abi) {
                fill(frame, (header.iov, header.iovlen), arg, len, regions);
            }
        }
        Kind::Messages(_, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            let mut left = len;
            for i in 0..count {
                let at = addr.wrapping_add((i * mmsghdr(frame.abi)) as u64);
                let from = regions.len();
                if let Some(header) = Header::read(frame.entry, at, frame.abi) {
                    fill(frame, (header.iov, header.iovlen), arg, left, regions);
                }
                let new = regions.get(from..).unwrap_or(&[]);
                left = left.saturating_sub(new.iter().map(|r| r.len as u64).sum());
            }
        }
        _ => {}
    }
}

/// Adds the regions of the data that was received in this many messages, each with its own length.
pub(crate) fn received(
    arg: usize,
    addr: u64,
    messages: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    for i in 0..messages.min(MOST_VECTORS) {
        let at = addr.wrapping_add(i * mmsghdr(frame.abi) as u64);
        let len = read_u32(frame.exit, at.wrapping_add(msghdr(frame.abi) as u64)).unwrap_or(0);
        if let Some(header) = Header::read(frame.entry, at, frame.abi) {
            fill(frame, (header.iov, header.iovlen), arg, len.into(), regions);
        }
    }
}

/// The writes that limit the length of all vectors together to `len` bytes.
pub(crate) fn cut(kind: &Kind, addr: u64, len: u64, frame: &Frame<'_>) -> Vec<(u64, Vec<u8>)> {
    let (addr, count) = match kind {
        Kind::Iovec(_, extent) => (addr, frame.count(*extent, Side::Entry, MOST_VECTORS) as u64),
        Kind::Message(_) => match Header::read(frame.entry, addr, frame.abi) {
            Some(header) => (header.iov, header.iovlen),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let word = frame.abi.word();
    let mut left = len;
    let mut writes = Vec::new();
    for (i, (_, room)) in vectors(frame.entry, addr, count, frame.abi)
        .into_iter()
        .enumerate()
    {
        let here = room.min(left);
        left -= here;
        if here < room {
            let at = addr.wrapping_add((2 * i * word + word) as u64);
            let bytes = here.to_le_bytes().into_iter().take(word);
            writes.push((at, bytes.collect()));
        }
    }
    writes
}

/// A `struct mmsghdr` in the process's memory.
#[derive(Clone, Debug)]
pub struct MessageSlot {
    /// The regions of its data.
    pub data: Vec<Region>,
    /// The address of the data's length (msg_len).
    pub len_at: u64,
    /// The other numbers in it that the kernel sets: address and size in bytes.
    pub besides: [(u64, usize); 2],
    pub(crate) addr: u64,
}

impl MessageSlot {
    /// The number of bytes that fit into the message.
    pub fn room(&self) -> u64 {
        self.data.iter().map(|region| region.len as u64).sum()
    }
}

/// The messages of an array.
pub(crate) fn slots(arg: usize, addr: u64, count: u64, frame: &Frame<'_>) -> Vec<MessageSlot> {
    let mut slots = Vec::new();
    for i in 0..count.min(MOST_VECTORS) {
        let at = addr.wrapping_add(i * mmsghdr(frame.abi) as u64);
        let Some(header) = Header::read(frame.entry, at, frame.abi) else {
            break;
        };
        let mut data = Vec::new();
        let vector = (header.iov, header.iovlen);
        fill(frame, vector, arg, MOST_BYTES, &mut data);
        slots.push(MessageSlot {
            data,
            len_at: at.wrapping_add(msghdr(frame.abi) as u64),
            besides: [
                (at.wrapping_add(namelen_at(frame.abi)), 4),
                (
                    at.wrapping_add(controllen_at(frame.abi)),
                    frame.abi.word() + 4,
                ),
            ],
            addr: at,
        });
    }
    slots
}
