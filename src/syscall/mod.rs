//! What a system call is: numbers, names, arguments, and how replay treats each.
//!
//! ONE declarative table (`x86_64.tbl`, with `structs.tbl` beside it, the names in [`crate::constants`], and what is
//! different on i386 in `i386.tbl` and `structs_i386.tbl`); everything else is derived from it. To add a call is to add a line. Knows nothing of processes:
//! memory is whatever implements [`Memory`].

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
mod lines;
mod lsm;
mod message;
mod message_value;
mod named;
mod nameless;
mod notation;
mod number;
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
pub use edit::{
    Edit, EditError, Problem, Step, is_argument, is_member, near_argument, near_member,
};
pub use encode::EncodeError;
pub use ethtool::ethtool_size;
pub use kind::{Dir, Extent, Format, Kind, Len, Num};
pub use layout::{Layout, Member, Shown};
pub use message::MessageSlot;
pub use named::NamedFile;
pub use nameless::{name_of, of_name, of_number};
pub use notation::Notation;
pub use status::{FileNumbers, StatusLayout};
pub use table::{Arg, Syscall, by_name, by_name_in, by_nr, by_nr_in, names, names_in, suggest};

pub use crate::constants::Abi;
use crate::value::Value;

/// All structures that the table knows, in no order.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    layout::layouts().values().copied()
}

/// Memory that arguments point into: a live process's, or the part of it that was recorded.
pub trait Memory {
    /// Reads bytes from `addr` on, and returns how many could be read (0 where nothing is there).
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;
}

/// How replay treats a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Answered from the recording: return value and outputs.
    Emulate,
    /// Made for real, since it only touches the process itself (mmap, brk, rt_sigaction, …).
    Run,
    /// Answered with this errno when recording, too (rseq, io_uring_setup: ENOSYS).
    Refuse(i32),
    /// Recording cannot do it yet; it stops with an error that names the call.
    Unsupported,
}

/// Which way a call moves data: the payload that hooks like to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// From the program to the kernel: write and send, and kin.
    In,
    /// From the kernel to the program: read and recv, getrandom, readlink, getdents, and kin.
    Out,
}

/// A range of the process's memory that belongs to an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which argument, from 0.
    pub arg: usize,
    /// Where.
    pub addr: u64,
    /// How many bytes.
    pub len: usize,
}

/// The first argument in which a call differs from what was expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Which argument, from 0.
    pub arg: usize,
    /// Its place among those of the trace.
    pub position: usize,
    /// As in the trace.
    pub expected: Value,
    /// As the process made it.
    pub actual: Value,
}
