//! The disk format of recordings: writing them crash-safely, reading and managing them.
//!
//! A recording is a directory with
//! - `events`: a header (magic, format version), then blocks. A block is a head of 40 bytes and a payload.
//!   The head: magic, flags (1: compressed with zstd, 2: goes on with a frame), the payload's length on disk and
//!   unpacked (at most 1 MiB), the number of the first event in it (u64), the count of events that begin in it,
//!   how many bytes of its last frame are in the blocks behind it, CRC-32 of the payload on disk, CRC-32 of the head;
//!   all u32 but for one, little-endian. The payloads hold frames: length (u32), then a [`Frame`] in postcard's
//!   encoding. A frame that is longer than a block begins one of its own and goes on in blocks
//!   that hold nothing else. The first frame is [`Frame::Start`]; a whole recording ends with [`Frame::End`]. The
//!   recording of a killed recorder is read up to the last whole frame in a whole block.
//! - `index`: a header (magic, format version), then for each block that a frame begins in the number in its head
//!   and its offset, each u64. It is written after the block and read before it, so that neither opening a recording
//!   nor going to an event reads the blocks before; where it is missing or wrong, the heads of all blocks are read.
//! - `files/N`: copies of the files that the program mapped, and of larger ones that it read or changed; recordings share
//!   them (the module `store`).
//!
//! It can be packed into one file: see [`pack`](fn@pack).
//!
//! Recordings are untrusted: every length is checked before memory is allocated for it, data of more than 16 MiB is
//! at most 256 times as long as on disk, and file names are made from numbers. This module knows nothing of ptrace,
//! nor of the state that is worked out from the events.

mod block;
mod blocks;
mod collection;
mod copy;
mod disk_full;
mod entry;
mod event;
mod files;
mod frames;
mod index;
mod kept_limits;
mod locations;
mod memory;
mod pack;
mod prune;
mod reader;
mod source;
mod store;
mod uncopied;
mod writer;

pub use collection::{Listed, Summary, list, remove};
pub(crate) use copy::{copy_part, same};
pub use disk_full::{OnFull, is_full};
pub use event::{
    Addresses, Before, CallEvent, ContentBefore, Delivery, Effect, EntryBefore, Event, EventKind,
    FileBefore, Frame, JobControl, Jump, NewTask, Opened, Piece, Reach, Shows, SignalEvent, Start,
    StartClocks, StartFd, Status, User,
};
pub use files::Files;
pub use frames::{Frames, NextFrame};
pub use kept_limits::{KeptLimits, shown_size, size_of_text};
pub use locations::{
    default_directory, latest, mark_latest, new_directory, resolve, resolve_latest,
};
pub use memory::{ChunkMemory, LeftMemory, NoMemory};
pub use pack::{PackedFiles, pack};
pub use prune::{Prune, Pruned, prune};
pub use reader::Reader;
pub use source::Source;
pub(crate) use source::events;
pub use writer::Writer;

use std::path::PathBuf;

/// The magic number at the start of `events`.
const MAGIC: [u8; 8] = *b"rrapper\x1a";

/// The magic number at the start of `index`.
const INDEX_MAGIC: [u8; 8] = *b"rrindex\x1a";

/// The magic number at both ends of a packed recording.
const PACK_MAGIC: [u8; 8] = *b"rrpack\x1a\n";

/// The length of the header of all of them: the magic number, and the version.
const HEADER: u64 = 12;

/// The format that this version writes and reads.
pub const VERSION: u32 = 5;

/// Frames longer than this cannot be written.
const MAX_FRAME: usize = u32::MAX as usize - 4;

/// The ratio of compression is limited for longer frames.
const SMALL_FRAME: usize = 16 << 20;

/// An error of a recording on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of it cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file or directory is no recording.
    #[error("{} is not a recording: {reason}", path.display())]
    NotARecording {
        /// The path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// It was made by an rrapper that was never released.
    #[error("{} has format version {found}, and this rrapper reads version {VERSION}: record the program again", path.display())]
    Older {
        /// The path.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It was made by a newer rrapper.
    #[error("{} has format version {found}, and this rrapper reads version {VERSION}: use the rrapper that made it", path.display())]
    Newer {
        /// The path.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A part of a file is not as it was written.
    #[error("{}: damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The offset in bytes.
        offset: u64,
        /// The reason.
        reason: String,
    },
    /// An event number that the recording does not have.
    #[error("{} has no event {event}: its events are 1 to {last}", path.display())]
    NoSuchEvent {
        /// The recording.
        path: PathBuf,
        /// The number asked for.
        event: u64,
        /// The last event.
        last: u64,
    },
    /// The recording is being made.
    #[error("{} is being recorded", path.display())]
    Growing {
        /// The path.
        path: PathBuf,
    },
    /// The path for a new recording is in use.
    #[error("{} exists already: a recording is never overwritten", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
}

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}
