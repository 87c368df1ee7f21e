//! The directory on disk: what was recorded, crash-safe to write and cheap to go through.
//!
//! A recording is a directory with
//! - `events`: a header (magic, format version), then frames: length (u32), CRC-32 of the payload (u32),
//!   payload ([`Frame`] in postcard's encoding), all little-endian. The first frame is [`Frame::Start`];
//!   a whole recording ends with [`Frame::End`]. What a killed recorder left behind
//!   is read up to the last whole frame.
//! - `files/N`: copies of the files that the program mapped.
//!
//! Recordings are untrusted: every length is checked before memory is taken for it, and
//! file names are made from numbers. This module knows nothing of ptrace.

mod descriptors;
mod event;
mod family;
mod files;
mod filter;
mod memory;
mod place;
mod reader;
mod segment;
mod writer;

pub use descriptors::{DescriptorTable, OpenFile, Stream, path_moves, written_numbers};
pub use event::{
    Born, CallEvent, Delivery, Effect, Event, EventKind, Frame, Jump, Opened, SignalEvent, Start,
    StartFd,
};
pub use family::Family;
pub use files::Files;
pub use filter::{Failed, Filter, Found, Predicate};
pub use memory::{ChunkMemory, LeftMemory, NoMemory};
pub use place::{default_dir, default_place, latest, mark_latest, resolve};
pub use reader::{Frames, Recording};
pub use writer::Writer;

use std::path::PathBuf;

/// The magic number at the start of `events`.
const MAGIC: [u8; 8] = *b"rrapper\x1a";

/// The format that this version writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// Frames longer than this are not written, and not believed when read.
const MAX_FRAME: usize = 1 << 30;

/// What can go wrong with a recording on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of it cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is something else.
    #[error("{} is not a recording: {reason}", path.display())]
    NotARecording {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It was made by a newer rrapper.
    #[error("{} has format version {found}, and this rrapper reads up to {VERSION}: use the rrapper that made it", path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A frame makes no sense although its checksum is right.
    #[error("{}: damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An event number that the recording does not have.
    #[error("{} has no event {event}: its events are 1 to {last}", path.display())]
    NoSuchEvent {
        /// The recording.
        path: PathBuf,
        /// The number asked for.
        event: u64,
        /// The last one that there is.
        last: u64,
    },
    /// The place for a new recording is taken.
    #[error("{} exists already: a recording is never overwritten", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
}

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}
