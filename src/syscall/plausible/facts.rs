//! The facts about a call that decide which answers are plausible.

/// The type of a file that a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A terminal.
    Terminal,
    /// A device other than a terminal.
    Device,
    /// A pipe without a name.
    Pipe,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket(SocketFacts),
    /// A file without a name: eventfd, timerfd, epoll and kin.
    Anonymous,
}

/// What must be known of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// Whether it is a stream socket (or one of packets in sequence), rather than one of datagrams.
    pub stream: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it is of an internet family.
    pub network: bool,
    /// Whether it is a Unix domain socket.
    pub unix: bool,
    /// Whether the call names a Unix domain socket by a path.
    pub path: bool,
}

/// What must be known of a call to tell which answers are plausible. By default, nothing is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The type of the file that the call is about, if it is about one.
    pub file: Option<FileType>,
    /// Whether it looks up a path, rather than taking a descriptor.
    pub looks_up: bool,
    /// Whether it has a descriptor that is open for reading only.
    pub read_only: bool,
    /// Whether a device is behind that file: not one of a file system in memory or of the kernel's own.
    pub device_behind: bool,
    /// Whether it creates a file or another object.
    pub creates: bool,
    /// Whether a file or a list grows.
    pub grows: bool,
    /// Whether it insists on creating the file, or the mapping: `O_CREAT|O_EXCL`, `MAP_FIXED_NOREPLACE`.
    pub insists_on_new: bool,
    /// Whether it asks for a file without a name: `O_TMPFILE`.
    pub unnamed: bool,
    /// Whether it writes to a file or to a directory, or asks whether it could.
    pub writes: bool,
    /// Whether something was written to the file before, in this recording.
    pub written: bool,
    /// Whether it can wait: neither the file nor an argument says otherwise.
    pub waits: bool,
    /// Whether the process has a handler for a signal.
    pub has_handler: bool,
    /// Whether it has one without `SA_RESTART`.
    pub has_interrupting_handler: bool,
    /// Whether the file or an argument says that the call is not to wait: `O_NONBLOCK`, `MSG_DONTWAIT`, `IPC_NOWAIT`.
    pub nonblocking: bool,
    /// Whether it has a time limit.
    pub timed: bool,
    /// Whether it is about another process, or another thread.
    pub other_process: bool,
    /// Whether it changes what it can also only tell: a limit.
    pub sets: bool,
    /// Whether it makes a namespace.
    pub makes_namespace: bool,
    /// Whether it is about two directories.
    pub two_directories: bool,
    /// Whether it asks for a lock: of a file, or of memory (`MAP_LOCKED`).
    pub locks: bool,
    /// Whether it duplicates a descriptor.
    pub duplicates: bool,
    /// Whether it looks for data or for a hole: `SEEK_DATA`, `SEEK_HOLE`.
    pub seeks_data: bool,
    /// Whether it takes memory, in the process or in the kernel, that it keeps.
    pub takes_memory: bool,
}

impl Facts {
    pub(super) fn socket(&self) -> SocketFacts {
        match self.file {
            Some(FileType::Socket(socket)) => socket,
            _ => SocketFacts::default(),
        }
    }

    pub(super) fn is_socket(&self) -> bool {
        matches!(self.file, Some(FileType::Socket(_)))
    }

    pub(super) fn is_connected_stream(&self) -> bool {
        self.socket().stream && self.socket().connected
    }

    pub(super) fn is(&self, types: &[FileType]) -> bool {
        self.file.is_some_and(|file| types.contains(&file))
    }
}
