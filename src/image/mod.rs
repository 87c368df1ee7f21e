//! A process as data: its mappings and their contents, registers, layout and signal state.
//!
//! [`capture`] takes an image of a stopped process, [`restore`] makes a new process out of one.
//! Whoever wants either is unknown here; files that back mappings are kept by a [`FileStore`].

mod capture;
mod restore;

pub use capture::{FileStore, capture, map_agent, prepare};
pub use restore::{KeptFile, STACK_ROOM, kept_file_flags, restore, restore_signals, set_layout};

pub use crate::tracee::proc::Layout;
use serde::{Deserialize, Serialize};

/// A kept copy of a mapped file, by its number in the recording.
pub type FileId = u32;

/// What a mapping's pages are before the process writes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// Zeros, and it grows downwards when touched below.
    Stack,
    /// The kept copy of a file.
    File {
        /// Which.
        file: FileId,
        /// The offset of the mapping's first byte in it.
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
    /// What is in it.
    pub backing: Backing,
    /// The file's path or the name in brackets, as `/proc/PID/maps` shows it.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
}

/// Bytes at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where they begin.
    pub addr: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// A single-threaded process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The path of its executable.
    #[serde(with = "serde_bytes")]
    pub exe: Vec<u8>,
    /// Its memory, by rising address, without the agent's pages.
    pub mappings: Vec<Mapping>,
    /// Contents that differ from what backs them.
    pub pages: Vec<Chunk>,
    /// The kernel's idea of its layout.
    pub layout: Layout,
    /// The end of its heap.
    pub brk: u64,
    /// Its registers, as [`crate::tracee::Regs::to_words`] gives them.
    pub regs: Vec<u64>,
    /// Its signal mask.
    pub sigmask: u64,
    /// The signals that it ignores (bit n-1 for signal n).
    pub ignored: u64,
    /// How large its stack may become, in bytes.
    pub stack_limit: u64,
}
