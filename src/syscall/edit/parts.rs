//! The parts of vectors and messages, which are linked by pointers.

use super::{PathStep, Problem, Result, Spot, Then, descend, leaf, no_element, no_part};
use crate::constants;
use crate::syscall::Moved;
use crate::syscall::frame::{Frame, MOST_BYTES, MOST_VECTORS};
use crate::syscall::kind::{Extent, Kind, Len, Num};
use crate::syscall::message::{Header, vectors};

/// An element of an array of `struct iovec`.
pub(super) fn vector<T>(
    (addr, count): (u64, u64),
    (index, rest): (usize, &[PathStep]),
    frame: &Frame<'_>,
    then: Then<'_, T>,
) -> Result<T> {
    let word = frame.abi.word();
    let all = vectors(frame.entry, addr, count, frame.abi);
    let Some(&(base, room)) = all.get(index) else {
        return Err(no_element(index, all.len()));
    };
    let at = addr.wrapping_add((index * 2 * word) as u64);
    let spot = |addr: u64, room| Spot {
        addr,
        room,
        pointer: None,
    };
    match rest.split_first() {
        Some((PathStep::Member(name), [])) if name == "iov_base" => {
            let room = room.min(MOST_BYTES);
            let bytes = Kind::Bytes(fixed(room));
            let here = Spot {
                pointer: Some(at),
                ..spot(base, room as usize)
            };
            then(&bytes, here, &[], frame).map_err(|error| error.under(&rest[0]))
        }
        Some((PathStep::Member(name), [])) if name == "iov_len" => {
            let at = at.wrapping_add(word as u64);
            let len = then(&Kind::Num(leaf::SIZE), spot(at, word), &[], frame);
            len.map_err(|error| error.under(&rest[0]))
        }
        Some((step, _)) => Err(no_part(step).under(step)),
        None => Err(Problem::Shape("set as a whole".into()).into()),
    }
}

/// An extent of exactly this length.
fn fixed(len: u64) -> Extent {
    Extent {
        room: Len::Fixed(len),
        filled: Len::Fixed(len),
    }
}

/// A member of a `struct msghdr`.
pub(super) fn message<T>(
    moved: Moved,
    spot: Spot,
    (name, rest): (&str, &[PathStep]),
    frame: &Frame<'_>,
    then: Then<'_, T>,
) -> Result<T> {
    let header = Header::read(frame.entry, spot.addr, frame.abi);
    let header = header.ok_or(Problem::Unreadable(spot.addr))?;
    let word = frame.abi.word();
    let at = |index: usize| spot.addr.wrapping_add((index * word) as u64);
    let number = |index: usize, num: Num| {
        let spot = Spot {
            addr: at(index),
            room: num.size,
            pointer: None,
        };
        (Kind::Num(num), spot)
    };
    let lump = |kind: Kind, addr: u64, room: u64, index: usize| {
        let spot = Spot {
            addr,
            room: room as usize,
            pointer: Some(at(index)),
        };
        (kind, spot)
    };
    let (kind, here) = match name {
        "msg_name" => {
            let room = u64::from(header.namelen.min(128));
            lump(Kind::Sockaddr(fixed(room)), header.name, room, 0)
        }
        "msg_namelen" => number(1, leaf::LENGTH),
        "msg_iov" => lump(
            Kind::Iovec(moved, fixed(header.iovlen)),
            header.iov,
            header.iovlen.min(MOST_VECTORS) * 2 * word as u64,
            2,
        ),
        "msg_iovlen" => number(3, leaf::SIZE),
        "msg_controllen" => number(5, leaf::SIZE),
        "msg_flags" => number(6, leaf::FLAGS),
        _ => {
            let names = [
                "msg_name",
                "msg_namelen",
                "msg_iov",
                "msg_iovlen",
                "msg_control",
                "msg_controllen",
                "msg_flags",
            ];
            let problem = Problem::NoMember {
                name: name.to_owned(),
                near: constants::nearest(name, names.into_iter()),
            };
            return Err(problem.into());
        }
    };
    if here.addr == 0 {
        return Err(Problem::Null.into());
    }
    descend(&kind, here, rest, frame, then)
}
