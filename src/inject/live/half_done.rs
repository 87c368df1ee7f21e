//! Calls that had done a part of their work when their tasks went live: what was taken of the data that they send is not sent
//! again, and counts.

use super::task::Task;
use crate::inject::Result;
use crate::inject::hook::{HookCall, ScratchPiece};
use crate::syscall::Memory;

/// `sizeof(struct iovec)`, and where `struct msghdr` has the vector, its length and the control data.
const VECTOR: u64 = 16;
const MESSAGE: u64 = 56;
const MESSAGE_VECTOR: usize = 16;
const MESSAGE_COUNT: usize = 24;
const MESSAGE_CONTROL: usize = 32;

/// The most parts of a message.
const MOST_PARTS: u64 = 1024;

/// The work of a call that is done.
#[derive(Debug)]
pub(super) struct HalfDone {
    /// The bytes that it has sent.
    sent: u64,
    /// The rest of its vector.
    piece: Option<ScratchPiece>,
}

impl HalfDone {
    /// A call that has sent so many bytes.
    pub fn new(sent: u64) -> HalfDone {
        HalfDone { sent, piece: None }
    }

    /// Whether a call can be half done.
    pub fn is_possible(nr: i64) -> bool {
        matches!(
            nr,
            libc::SYS_write | libc::SYS_sendto | libc::SYS_writev | libc::SYS_sendmsg
        )
    }

    /// The arguments with which the call does the rest, where it would do all with these; `None` where there is no rest.
    pub fn rest(
        &mut self,
        me: &Task,
        seen: &HookCall,
        mut args: [u64; 6],
    ) -> Result<Option<[u64; 6]>> {
        match i64::from(seen.call.nr) {
            libc::SYS_write | libc::SYS_sendto => {
                if self.sent >= args[2] {
                    return Ok(None);
                }
                args[1] = args[1].wrapping_add(self.sent);
                args[2] -= self.sent;
            }
            libc::SYS_writev => {
                let Some((at, count)) = self.vector(me, seen, args[1], args[2], &[])? else {
                    return Ok(None);
                };
                (args[1], args[2]) = (at, count);
            }
            libc::SYS_sendmsg => {
                let mut message = [0; MESSAGE as usize];
                if Memory::read(&seen.memory, args[1], &mut message) < message.len() {
                    return Ok(Some(args));
                }
                let word = |at: usize| {
                    let bytes = message[at..at + 8].try_into().unwrap_or_default();
                    u64::from_le_bytes(bytes)
                };
                let (vector, count) = (word(MESSAGE_VECTOR), word(MESSAGE_COUNT));
                // What came with the first part is there.
                message[MESSAGE_CONTROL..MESSAGE_CONTROL + 16].fill(0);
                let Some((at, count)) = self.vector(me, seen, vector, count, &message)? else {
                    return Ok(None);
                };
                let end = at + count * VECTOR;
                message[MESSAGE_VECTOR..MESSAGE_VECTOR + 8].copy_from_slice(&at.to_le_bytes());
                message[MESSAGE_COUNT..MESSAGE_COUNT + 8].copy_from_slice(&count.to_le_bytes());
                seen.memory.write(end, &message)?;
                args[1] = end;
            }
            _ => {}
        }
        Ok(Some(args))
    }

    /// Puts the rest of a vector into scratch memory, with room for `behind`; returns its address and its length.
    fn vector(
        &mut self,
        me: &Task,
        seen: &HookCall,
        at: u64,
        count: u64,
        behind: &[u8],
    ) -> Result<Option<(u64, u64)>> {
        let mut bytes = vec![0; (count.min(MOST_PARTS) * VECTOR) as usize];
        let n = Memory::read(&seen.memory, at, &mut bytes);
        let mut left = self.sent;
        let mut rest = Vec::new();
        for part in bytes[..n].as_chunks::<16>().0 {
            let (base, len) = part.split_at(8);
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let (base, len) = (word(base), word(len));
            let done = left.min(len);
            left -= done;
            if len > done {
                rest.extend((base.wrapping_add(done)).to_le_bytes());
                rest.extend((len - done).to_le_bytes());
            }
        }
        let Some(piece) = me.scratch.take(rest.len() + behind.len()) else {
            return Ok(None);
        };
        if rest.is_empty() {
            return Ok(None);
        }
        seen.memory.write(piece.addr, &rest)?;
        let found = (piece.addr, rest.len() as u64 / VECTOR);
        self.piece = Some(piece);
        Ok(Some(found))
    }

    /// The answer to the whole call, of which the rest has been answered so, or needed no answer.
    pub fn answer(&self, rest: Option<i64>) -> i64 {
        // An error after a part of the work is told by the next call.
        self.sent as i64 + rest.unwrap_or(0).max(0)
    }
}
