//! Edits of the control messages in a message.

use super::{Edit, PathStep, Problem, Result, Spot, back, leaf};
use crate::syscall::frame::{Frame, MOST_BYTES, read_some};
use crate::syscall::message::{Header, controllen_at};
use crate::syscall::message_value::{decode_control, encode_control};
use crate::value::Value;

/// The writes that change the control messages of the `struct msghdr` at this place, or a part of them, to `value`.
pub(super) fn put(
    spot: Spot,
    way: &[PathStep],
    value: &Value,
    frame: &Frame<'_>,
) -> Result<Vec<Edit>> {
    let header = Header::read(frame.entry, spot.addr, frame.abi);
    let header = header.ok_or(Problem::Unreadable(spot.addr))?;
    if header.control == 0 {
        return Err(Problem::Null.into());
    }
    let room = header.controllen.min(MOST_BYTES) as usize;
    let whole = match way {
        [] => leaf::named(&leaf::CONTROL, value),
        way => {
            let now = read_some(frame.exit, header.control, room);
            let mut whole = decode_control(&now, frame.abi);
            leaf::replace(&mut whole, way, value)?;
            whole
        }
    };
    let shape = || Problem::Shape(leaf::shown(value));
    let bytes = encode_control(&whole, usize::MAX, frame.abi).map_err(|_| shape())?;
    if bytes.len() > room {
        let len = bytes.len();
        return Err(Problem::TooLong { len, room }.into());
    }
    let now = decode_control(&bytes, frame.abi);
    back::check(&now, way, value)?;
    // Another type may have other data.
    back::check(&now, &[], &whole)?;
    let len = (bytes.len() as u64).to_le_bytes();
    let len = len.into_iter().take(frame.abi.word()).collect();
    let len_at = spot.addr.wrapping_add(controllen_at(frame.abi));
    Ok(vec![
        Edit::Write(header.control, bytes),
        Edit::Write(len_at, len),
    ])
}
