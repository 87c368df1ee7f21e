//! Vectors and messages: `struct iovec`, `struct msghdr`, `struct mmsghdr`, and what they point to.

use super::frame::{Frame, MOST_BYTES, MOST_VECTORS, Side, field, read_exact, read_some, read_u32};
use super::kind::Kind;
use super::regions::push;
use super::{Memory, Moved, Region};

const IOVEC: usize = 16;
/// `struct msghdr` on x86-64: msg_name 0, msg_namelen 8, msg_iov 16, msg_iovlen 24, msg_control 32,
/// msg_controllen 40, msg_flags 48.
pub(crate) const MSGHDR: usize = 56;
/// `struct mmsghdr`: a msghdr, then msg_len.
pub(crate) const MMSGHDR: usize = 64;

/// Base and length of each vector. Nothing where they cannot be read.
pub(crate) fn vectors(memory: &dyn Memory, addr: u64, count: u64) -> Vec<(u64, u64)> {
    let count = count.min(MOST_VECTORS) as usize;
    if addr == 0 {
        return Vec::new();
    }
    let bytes = read_some(memory, addr, count * IOVEC);
    let whole = bytes.chunks_exact(IOVEC);
    whole.map(|v| (field(v, 0, 8), field(v, 8, 8))).collect()
}

/// A `struct msghdr`, as it was read.
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
    pub(crate) fn read(memory: &dyn Memory, addr: u64) -> Option<Header> {
        let bytes = read_exact(memory, addr, MSGHDR)?;
        Some(Header {
            name: field(&bytes, 0, 8),
            namelen: field(&bytes, 8, 4) as u32,
            iov: field(&bytes, 16, 8),
            iovlen: field(&bytes, 24, 8),
            control: field(&bytes, 32, 8),
            controllen: field(&bytes, 40, 8),
            flags: field(&bytes, 48, 4) as u32,
        })
    }
}

/// Adds up to `len` bytes of the vectors, in order.
fn fill(
    memory: &dyn Memory,
    (addr, count): (u64, u64),
    arg: usize,
    len: u64,
    regions: &mut Vec<Region>,
) {
    let mut left = len.min(MOST_BYTES);
    for (base, room) in vectors(memory, addr, count) {
        if left == 0 {
            break;
        }
        let here = room.min(left);
        push(arg, base, here as usize, regions);
        left -= here;
    }
}

/// What the kernel reads of a vector or message: the structures, and the data where it goes in.
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
            push(arg, addr, count * IOVEC, regions);
            if *moved == Moved::In {
                let vector = (addr, count as u64);
                fill(frame.entry, vector, arg, MOST_BYTES, regions);
            }
        }
        Kind::Message(moved) => {
            push(arg, addr, MSGHDR, regions);
            read_header(*moved, arg, addr, frame, regions);
        }
        Kind::Messages(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            push(arg, addr, count * MMSGHDR, regions);
            for i in 0..count {
                let at = addr.wrapping_add((i * MMSGHDR) as u64);
                read_header(*moved, arg, at, frame, regions);
            }
        }
        _ => {}
    }
}

fn read_header(moved: Moved, arg: usize, addr: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    let Some(header) = Header::read(frame.entry, addr) else {
        return;
    };
    let count = header.iovlen.min(MOST_VECTORS);
    if header.iov != 0 {
        push(arg, header.iov, count as usize * IOVEC, regions);
    }
    if moved == Moved::In {
        push(arg, header.name, header.namelen.min(128) as usize, regions);
        fill(frame.entry, (header.iov, count), arg, MOST_BYTES, regions);
        let control = header.controllen.min(MOST_BYTES);
        push(arg, header.control, control as usize, regions);
    }
}

/// What the kernel wrote of a vector or message when the call succeeded.
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
            fill(frame.entry, (addr, count), arg, ret, regions);
        }
        Kind::Message(Moved::Out) => written_header(arg, addr, ret, frame, regions),
        Kind::Messages(moved, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            for i in 0..count.min(ret) {
                let at = addr.wrapping_add(i * MMSGHDR as u64);
                let len_at = at.wrapping_add(MSGHDR as u64);
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

/// recvmsg writes the name, the data and the control data, and msg_namelen, msg_controllen and msg_flags back.
fn written_header(arg: usize, addr: u64, len: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    let before = Header::read(frame.entry, addr);
    let after = Header::read(frame.exit, addr);
    let (Some(before), Some(after)) = (before, after) else {
        return;
    };
    if before.name != 0 {
        let name = before.namelen.min(after.namelen).min(128);
        push(arg, before.name, name as usize, regions);
        push(arg, addr.wrapping_add(8), 4, regions);
    }
    fill(frame.entry, (before.iov, before.iovlen), arg, len, regions);
    let control = before.controllen.min(after.controllen).min(MOST_BYTES);
    push(arg, before.control, control as usize, regions);
    push(arg, addr.wrapping_add(40), 12, regions);
}

/// Where the data of a vector or message lies, up to `len` bytes, in order.
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
            fill(frame.entry, (addr, count), arg, len, regions);
        }
        Kind::Message(_) => {
            if let Some(header) = Header::read(frame.entry, addr) {
                fill(frame.entry, (header.iov, header.iovlen), arg, len, regions);
            }
        }
        Kind::Messages(_, extent) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            let mut left = len;
            for i in 0..count {
                let at = addr.wrapping_add((i * MMSGHDR) as u64);
                let from = regions.len();
                if let Some(header) = Header::read(frame.entry, at) {
                    fill(frame.entry, (header.iov, header.iovlen), arg, left, regions);
                }
                let new = regions.get(from..).unwrap_or(&[]);
                left = left.saturating_sub(new.iter().map(|r| r.len as u64).sum());
            }
        }
        _ => {}
    }
}
