//! A process as data: mappings with their contents, registers, layout and signal state.
//!
//! [`capture`] takes an image of a stopped process, [`restore`] makes a new process from an image. Neither knows its
//! caller; a [`FileStore`] keeps the files that back mappings.

mod capture;
mod restore;

pub use capture::{FileStore, capture, prepare, prepare_live};
pub use restore::{
    KeptFile, STACK_ROOM, kept_file_flags, restore, restore_signals, set_layout, unmap_all,
};

pub use crate::tracee::proc::Layout;
use serde::{Deserialize, Serialize};

/// A kept copy of a mapped file, by its number in the recording.
pub type FileId = u32;

/// The initial content of a mapping's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// Zeros, in a mapping that grows downwards when touched below.
    Stack,
    /// The kept copy of a file.
    File {
        /// The number of the file.
        file: FileId,
        /// The offset in the file of the mapping's first byte.
        offset: u64,
    },
}

/// A range of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// `PROT_*` bits.
    pub prot: i32,
    /// The initial content.
    pub backing: Backing,
    /// The file's path or the name in brackets, as `/proc/PID/maps` shows it.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
}

/// Bytes at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The address of the first byte.
    pub addr: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// A single-threaded process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The path of the executable.
    #[serde(with = "serde_bytes")]
    pub exe: Vec<u8>,
    /// The mappings by rising address, without the agent's pages.
    pub mappings: Vec<Mapping>,
    /// Contents that differ from the backing.
    pub pages: Vec<Chunk>,
    /// The kernel's addresses of the layout.
    pub layout: Layout,
    /// The end of the heap.
    pub brk: u64,
    /// The registers, as [`crate::tracee::Regs::to_words`] gives them.
    pub regs: Vec<u64>,
    /// The signal mask.
    pub sigmask: u64,
    /// The ignored signals (bit n-1 for signal n).
    pub ignored: u64,
    /// The limit on the size of the stack, in bytes.
    pub stack_limit: u64,
}
