//! What each descriptor of a recorded process is at an event: open file descriptions,
//! shared by duplicates, with their offsets; the current directory and the umask.
//!
//! Worked out from the calls, so that it is there at every event without looking at a process. What calls
//! alone do not say, the recorder looked up ([`Effect::Path`], [`Effect::Opened`], [`Effect::Offset`]).
//! [`DescriptorTable`] is one process's, on its own; [`ProcessTree`](super::ProcessTree) holds those of all.
//!
//! [`Effect::Path`]: crate::recording::Effect::Path
//! [`Effect::Opened`]: crate::recording::Effect::Opened
//! [`Effect::Offset`]: crate::recording::Effect::Offset

mod apply;
mod created;
mod fd_table;
mod pool;

pub(super) use apply::{TaskFiles, failed};
pub use created::output_descriptors;
pub(super) use fd_table::{Descriptor, FdTable};
pub(super) use pool::Pool;

use super::Places;
use crate::recording::{CallEvent, Start};
use crate::trace::FileNames;
use std::collections::HashMap;
use std::sync::Arc;

/// A standard stream that the program was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Descriptor 0.
    Stdin,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// An open file description: what several descriptors may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its path, or `pipe:[…]` and kin, as `/proc/PID/fd` showed it at first.
    pub path: Vec<u8>,
    /// The open flags and file status flags, without `O_CLOEXEC`.
    pub flags: i32,
    /// The file offset in bytes; for a directory, the kernel's cookie.
    pub offset: u64,
    /// Whether it was there, and no standard stream, when the program started: left open by whoever started it.
    pub inherited: bool,
    /// Whether reading and writing move its offset: not those of pipes, sockets and terminals.
    pub moves: bool,
    /// What else it goes by: the name that it was opened by, those that it had before it was renamed.
    pub also: Vec<Arc<[u8]>>,
}

impl OpenFile {
    fn new(path: &[u8], flags: i32) -> OpenFile {
        OpenFile {
            path: path.to_vec(),
            flags,
            offset: 0,
            inherited: false,
            moves: path_has_offset(path),
            also: Vec::new(),
        }
    }

    /// What it goes by.
    pub fn names(&self) -> FileNames {
        let also = self.also.iter().map(|name| name.to_vec());
        FileNames {
            text: self.path.clone(),
            absolute: std::iter::once(self.path.clone()).chain(also).collect(),
        }
    }

    /// Takes note of another name of its.
    fn goes_by(&mut self, name: &[u8]) {
        let is_known = self.path == name || self.also.iter().any(|known| **known == *name);
        if !is_known && name.starts_with(b"/") {
            self.also.insert(0, name.into());
            self.also.truncate(MOST_NAMES);
        }
    }

    /// Whether it can tell by a signal that it is ready.
    fn can_signal(&self) -> bool {
        !self.moves
    }
}

/// Names that are kept of an open file besides its own: it may be renamed again and again.
const MOST_NAMES: usize = 4;

/// Whether reading and writing move the offset of what has such a path, as far as the path tells.
pub fn path_has_offset(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && (!path.starts_with(b"/dev/") || path.starts_with(b"/dev/shm/"))
}

/// What threads share with `CLONE_FS`, and what is known of the standard streams.
#[derive(Clone, Debug, Default)]
pub(super) struct FsContext {
    pub cwd: Arc<[u8]>,
    /// The umask, if it was ever set.
    pub umask: Option<u32>,
    /// Pipes and terminals that are standard streams, for whoever opens them anew.
    streams: Arc<[(Vec<u8>, Stream)]>,
}

impl FsContext {
    /// The standard stream that something newly opened writes to: `/dev/stderr`, where that is a pipe or a terminal.
    fn stream_of(&self, path: &[u8]) -> Option<Stream> {
        let found = self.streams.iter().find(|(stream, _)| stream == path);
        found.map(|&(_, stream)| stream)
    }
}

/// What a recording begins with.
pub(super) fn at_start(start: &Start) -> (FdTable, Pool<OpenFile>, FsContext) {
    let streams = [(0, Stream::Stdin), (1, Stream::Stdout), (2, Stream::Stderr)];
    let (mut fds, mut files) = (FdTable::default(), Pool::default());
    let mut anew = Vec::new();
    for d in &start.descriptors {
        let stream = streams.iter().find(|(fd, _)| *fd == d.fd);
        let stream = stream.map(|&(_, stream)| stream);
        let reopens = d.path.starts_with(b"pipe:[") || d.path.starts_with(b"/dev/pts/");
        if let Some(stream) = stream.filter(|&s| reopens && s != Stream::Stdin) {
            anew.push((d.path.clone(), stream));
        }
        let twin: Option<Descriptor> = d.twin.and_then(|fd| fds.get(fd));
        let file = match twin {
            Some(twin) => {
                files.acquire(twin.file);
                twin.file
            }
            None => files.add(OpenFile {
                offset: d.offset,
                moves: d.moves,
                inherited: d.fd > 2,
                ..OpenFile::new(&d.path, d.flags & !libc::O_CLOEXEC)
            }),
        };
        let descriptor = Descriptor {
            file,
            cloexec: d.flags & libc::O_CLOEXEC != 0,
            stream,
        };
        fds.put(d.fd, descriptor, &mut files);
    }
    let fs = FsContext {
        cwd: start.cwd.as_slice().into(),
        umask: None,
        streams: anew.into(),
    };
    (fds, files, fs)
}

/// A process's descriptors. Copies cost nothing before one of them changes.
#[derive(Clone, Debug, Default)]
pub struct DescriptorTable {
    fds: Arc<FdTable>,
    files: Arc<Pool<OpenFile>>,
    fs: FsContext,
    /// Whether its process has set something of itself that the kernel keeps besides.
    pub(super) has_state: bool,
}

impl DescriptorTable {
    /// The table that a recording begins with.
    pub fn at_start(start: &Start) -> DescriptorTable {
        let (fds, files, fs) = at_start(start);
        DescriptorTable {
            fds: Arc::new(fds),
            files: Arc::new(files),
            fs,
            has_state: false,
        }
    }

    /// A table of its own with the same descriptors as one that shares its files.
    pub(super) fn of(fds: &FdTable, files: &Pool<OpenFile>, fs: &FsContext) -> DescriptorTable {
        let (mut own, mut pool) = (FdTable::default(), Pool::default());
        let mut taken = HashMap::new();
        for (fd, descriptor) in fds.iter() {
            let Some(file) = files.get(descriptor.file) else {
                continue;
            };
            let known = taken.get(&descriptor.file).copied();
            let at = known.unwrap_or_else(|| {
                let serial = files.serial(descriptor.file).unwrap_or(0);
                pool.add_as(serial, file.clone())
            });
            match known {
                Some(at) => pool.acquire(at),
                None => _ = taken.insert(descriptor.file, at),
            }
            own.put(
                fd,
                Descriptor {
                    file: at,
                    ..descriptor
                },
                &mut pool,
            );
        }
        DescriptorTable {
            fds: Arc::new(own),
            files: Arc::new(pool),
            fs: fs.clone(),
            has_state: false,
        }
    }

    /// The open file behind a descriptor.
    pub fn get(&self, fd: i32) -> Option<&OpenFile> {
        self.files.get(self.fds.get(fd)?.file)
    }

    /// All descriptors by number: the open file, and whether exec closes it.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &OpenFile, bool)> {
        let all = self.fds.iter();
        all.filter_map(|(fd, descriptor)| {
            Some((fd, self.files.get(descriptor.file)?, descriptor.cloexec))
        })
    }

    /// The lowest descriptor below `fd` that shares its open file, if there is one.
    pub fn duplicate_of(&self, fd: i32) -> Option<i32> {
        let file = self.fds.get(fd)?.file;
        let mut lower = self.fds.iter().take_while(|&(other, _)| other < fd);
        lower
            .find(|(_, descriptor)| descriptor.file == file)
            .map(|(fd, _)| fd)
    }

    /// The current directory.
    pub fn cwd(&self) -> &[u8] {
        &self.fs.cwd
    }

    /// The umask, if the program ever set it.
    pub fn umask(&self) -> Option<u32> {
        self.fs.umask
    }

    /// The standard stream that a descriptor writes to, if it is one.
    pub fn output_stream(&self, fd: i32) -> Option<Stream> {
        self.fds.get(fd)?.stream.filter(|&s| s != Stream::Stdin)
    }

    /// The standard stream that a descriptor is.
    pub fn stream(&self, fd: i32) -> Option<Stream> {
        self.fds.get(fd)?.stream
    }

    /// The number of a descriptor's open file: the same for all that share it, and for no other file that
    /// the recorded processes ever had.
    pub fn file_id(&self, fd: i32) -> Option<u64> {
        self.files.serial(self.fds.get(fd)?.file)
    }

    /// Whether the process has set something of itself that [`Kernel::own`](super::Kernel::own) keeps.
    pub fn has_state(&self) -> bool {
        self.has_state
    }

    /// Follows a call.
    pub fn apply(&mut self, call: &CallEvent) {
        self.task_files().follow(call);
    }

    /// Moves a descriptor's offset by this much.
    pub fn advance(&mut self, fd: i32, by: i64) {
        self.task_files().advance(fd, by);
    }

    /// Sets a descriptor's offset.
    pub fn seek(&mut self, fd: i32, to: u64) {
        self.task_files().seek(fd, to);
    }

    fn task_files(&mut self) -> TaskFiles<'_> {
        TaskFiles {
            fds: Arc::make_mut(&mut self.fds),
            files: Arc::make_mut(&mut self.files),
            fs: &mut self.fs,
        }
    }
}

impl Places for DescriptorTable {
    fn cwd(&self) -> &[u8] {
        self.cwd()
    }

    fn open(&self, fd: i32) -> Option<&OpenFile> {
        self.get(fd)
    }
}
