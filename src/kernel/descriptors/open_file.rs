//! Open file descriptions.

use super::RangeLocks;
use crate::trace::FileNames;
use std::sync::Arc;

/// An open file description, which several descriptors may share: open(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its path, or `pipe:[…]` and kin, as `/proc/PID/fd` showed it at first.
    pub path: Vec<u8>,
    /// The open flags and file status flags, without `O_CLOEXEC`.
    pub flags: i32,
    /// The file offset in bytes; for a directory, the kernel's cookie.
    pub offset: u64,
    /// Whether the program inherited it when it was started, other than as a standard stream.
    pub inherited: bool,
    /// Whether reads and writes move its offset: not those of pipes, sockets and terminals.
    pub moves: bool,
    /// Whether it has a lock (flock(2)), and whether that excludes all others.
    pub flock: Option<bool>,
    /// The locks of parts that belong to it (`F_OFD_SETLK`).
    pub locks: RangeLocks,
    /// Other names: the name that it was opened by, and those before it was renamed.
    pub other_names: Vec<Arc<[u8]>>,
}

impl OpenFile {
    pub(super) fn new(path: &[u8], flags: i32) -> OpenFile {
        OpenFile {
            path: path.to_vec(),
            flags,
            offset: 0,
            inherited: false,
            moves: path_has_offset(path),
            flock: None,
            locks: RangeLocks::default(),
            other_names: Vec::new(),
        }
    }

    /// All of its names.
    pub fn names(&self) -> FileNames {
        let also = self.other_names.iter().map(|name| name.to_vec());
        FileNames {
            text: self.path.clone(),
            absolute: std::iter::once(self.path.clone()).chain(also).collect(),
        }
    }

    /// Adds a name.
    pub(super) fn add_name(&mut self, name: &[u8]) {
        let is_known = self.path == name || self.other_names.iter().any(|known| **known == *name);
        if !is_known && name.starts_with(b"/") {
            self.other_names.insert(0, name.into());
            self.other_names.truncate(MOST_NAMES);
        }
    }

    /// Whether it can send a signal when it is ready: `O_ASYNC`.
    pub(super) fn can_signal(&self) -> bool {
        !self.moves
    }

    /// Its kind, as far as its path tells.
    pub fn kind(&self) -> FileKind {
        let path = self.path.as_slice();
        match path {
            _ if is_terminal(path) => FileKind::Terminal,
            [b'/', ..] if self.moves => FileKind::Path,
            [b'/', ..] => FileKind::Device,
            _ if path.starts_with(b"pipe:[") => FileKind::Pipe,
            _ if path.starts_with(b"socket:[") => FileKind::Socket,
            _ => FileKind::Anonymous,
        }
    }

    /// Whether it is an anonymous file of memfd_create(2).
    pub fn is_memfd(&self) -> bool {
        self.path.starts_with(b"/memfd:")
    }

    /// Whether it is a pipe, or a FIFO with a name.
    pub fn is_pipe(&self) -> bool {
        let named = self.path.starts_with(b"/") && !self.path.starts_with(b"/dev/");
        self.path.starts_with(b"pipe:[") || named && !self.moves
    }

    /// Whether it may be an end of a pseudoterminal.
    pub(in crate::kernel) fn may_be_terminal(&self) -> bool {
        self.path.starts_with(b"/dev/pts/") || self.is_master()
    }

    /// Whether it is the master of a pseudoterminal.
    pub fn is_master(&self) -> bool {
        self.path == b"/dev/ptmx"
    }

    /// Whether its path, flags and offset are all of its state.
    pub(in crate::kernel) fn is_plain(&self) -> bool {
        self.path.starts_with(b"/") && !self.is_memfd() && !self.is_pipe()
    }
}

/// The most other names of an open file: it may be renamed again and again.
const MOST_NAMES: usize = 4;

/// Whether a path is that of a terminal.
pub fn is_terminal(path: &[u8]) -> bool {
    path.starts_with(b"/dev/pts/") || path.starts_with(b"/dev/tty") || path == b"/dev/console"
}

/// Whether reads and writes move the offset of a file with this path, as far as the path tells.
pub fn path_has_offset(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && (!path.starts_with(b"/dev/") || path.starts_with(b"/dev/shm/"))
}

/// The kind of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file or a directory.
    Path,
    /// A terminal.
    Terminal,
    /// A character device, or a FIFO with a name.
    Device,
    /// A pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A file without a name: eventfd and kin.
    Anonymous,
}
