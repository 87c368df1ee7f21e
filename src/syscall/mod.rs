//! System calls: numbers, names, arguments, and the way in which replay treats each.
//!
//! One declarative table (`x86_64.tbl`, with `structs.tbl` beside it, the names in [`crate::constants`], and the
//! differences of i386 in `i386.tbl` and `structs_i386.tbl`) has all facts; the rest is derived from it. To add a call
//! is to add a line. This module knows nothing of processes: memory is any implementation of [`Memory`].

mod abi;
mod capability;
mod clone;
mod compare;
mod constant;
mod control;
mod decode;
mod dirents;
mod edit;
mod encode;
mod ethtool;
mod frame;
mod handle;
mod ioctl;
mod kind;
mod layout;
mod limited;
mod lines;
mod lsm;
mod message;
mod message_value;
mod named;
mod nameless;
mod notation;
mod number;
pub mod plausible;
mod ready;
mod regions;
mod sockaddr;
mod special;
mod status;
mod table;
#[cfg(test)]
mod tests;

pub use clone::CloneArgs;
pub use constant::{constant, eval};
pub use decode::signal_info;
pub use dirents::directory_entries;
pub use edit::{
    Edit, EditError, PathStep, Problem, is_argument, is_member, near_argument, near_member,
};
pub use encode::EncodeError;
pub use ethtool::ethtool_size;
pub use kind::{Dir, Extent, Format, Kind, Len, Num};
pub use layout::{Layout, Member, Shown};
pub use limited::LimitedMemory;
pub use message::MessageSlot;
pub use named::NamedFile;
pub use nameless::{name_of, of_name, of_number};
pub use notation::Notation;
pub use status::{FileNumbers, FileStatus, StatusLayout};
pub use table::{Arg, Syscall, by_name, by_name_in, by_nr, by_nr_in, names, names_in, suggest};

pub use crate::constants::Abi;
use crate::value::Value;

/// All structures that the table knows, in no order.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    layout::layouts().values().copied()
}

/// Memory to which arguments point: a live process's memory, or the part of it that was recorded.
pub trait Memory {
    /// Reads bytes from `addr` on, and returns the number of bytes that could be read (0 if nothing is mapped there).
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// The number of bytes, from the start of a string of so many, of which its value is made; 0 where its value is its
    /// address.
    fn string_part(&self, len: usize) -> usize {
        len
    }

    /// Whether values may be made of a structure or a list that takes so many bytes as one.
    fn has_room(&self, _len: usize) -> bool {
        true
    }
}

/// The treatment of a call in replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The call gets its return value and outputs from the recording.
    Emulate,
    /// The call is made again, since it affects only the process itself (mmap, brk, rt_sigaction, …).
    Run,
    /// The call fails with this errno, when it is recorded, too (rseq, io_uring_setup: ENOSYS).
    Refuse(i32),
    /// The call cannot be recorded yet; recording stops with an error that names the call.
    Unsupported,
}

/// The direction in which a call moves data, the payload that hooks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// From the program to the kernel: write, send, and similar calls.
    In,
    /// From the kernel to the program: read, recv, getrandom, readlink, getdents, and similar calls.
    Out,
}

/// A range of the process's memory that belongs to an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The index of the argument, from 0.
    pub arg: usize,
    /// The address.
    pub addr: u64,
    /// The number of bytes.
    pub len: usize,
}

/// The first argument in which a call differs from what was expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The index of the argument, from 0.
    pub arg: usize,
    /// The index of the argument among those of the trace.
    pub position: usize,
    /// The value in the trace.
    pub expected: Value,
    /// The value that the process passes.
    pub actual: Value,
}
