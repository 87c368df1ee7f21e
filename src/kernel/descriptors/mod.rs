//! The descriptors of a process at an event: tables of descriptors, open file descriptions that duplicates share,
//! their offsets; the current directory and the umask.
//!
//! They follow from the calls; where calls alone do not tell, the recorder looked the state up ([`Effect::Path`],
//! [`Effect::Opened`], [`Effect::Offset`]). [`DescriptorTable`] is a separate table of one process;
//! [`ProcessTree`](super::ProcessTree) has the tables of all.
//!
//! [`Effect::Path`]: crate::recording::Effect::Path
//! [`Effect::Opened`]: crate::recording::Effect::Opened
//! [`Effect::Offset`]: crate::recording::Effect::Offset

mod apply;
mod created;
mod fd_table;
mod locks;
mod open_file;
mod pool;

pub(super) use apply::{TaskFiles, failed};
pub use created::output_descriptors;
pub(super) use created::passed_descriptors;
pub(super) use fd_table::{Descriptor, FdTable};
pub use locks::{RangeLock, RangeLocks};
pub use open_file::{FileKind, OpenFile, is_terminal, path_has_offset};
pub(super) use pool::Pool;

use crate::recording::{CallEvent, Start};
use std::collections::HashMap;
use std::sync::Arc;

/// The descriptors and the current directory of a task.
pub trait Descriptors {
    /// The current directory.
    fn cwd(&self) -> &[u8];

    /// The number of the open file behind a descriptor, and the file.
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)>;

    /// The open file behind a descriptor.
    fn open_file(&self, fd: i32) -> Option<&OpenFile> {
        self.file(fd).map(|(_, file)| file)
    }
}

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

/// The file-system context: the current directory and the umask, which tasks share with `CLONE_FS`. Also the standard
/// streams.
#[derive(Clone, Debug, Default)]
pub(super) struct FsContext {
    pub cwd: Arc<[u8]>,
    /// The umask, if it is known.
    pub umask: Option<u32>,
    /// The pipes and terminals that are standard streams: they may be opened again by their paths.
    streams: Arc<[(Vec<u8>, Stream)]>,
}

impl FsContext {
    /// The standard stream that a newly opened file writes to: `/dev/stderr`, where that is a pipe or a terminal.
    fn stream_of(&self, path: &[u8]) -> Option<Stream> {
        let found = self.streams.iter().find(|(stream, _)| stream == path);
        found.map(|&(_, stream)| stream)
    }
}

/// The descriptors that a recording begins with, their open files, and the directory.
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
        umask: Some(start.umask),
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
    /// Whether its process has set attributes: see [`ProcessState`](super::ProcessState).
    pub(super) has_process_state: bool,
}

impl DescriptorTable {
    /// The table that a recording begins with.
    pub fn at_start(start: &Start) -> DescriptorTable {
        let (fds, files, fs) = at_start(start);
        DescriptorTable {
            fds: Arc::new(fds),
            files: Arc::new(files),
            fs,
            has_process_state: false,
        }
    }

    /// A separate copy of a table that shares its files with others.
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
        own.take_locks(fds, |file| taken.get(&file).copied());
        DescriptorTable {
            fds: Arc::new(own),
            files: Arc::new(pool),
            fs: fs.clone(),
            has_process_state: false,
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

    /// The umask, if it is known.
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

    /// The number of a descriptor's open file: the same for all descriptors that share it, and for no other file that
    /// the recorded processes ever had.
    pub fn file_id(&self, fd: i32) -> Option<u64> {
        self.files.serial(self.fds.get(fd)?.file)
    }

    /// Gives the open files the numbers that they have among those of all recorded processes, by descriptor, where they have the
    /// same path there; others get such as no recorded one has.
    pub fn renumber<'a>(&mut self, pid: i32, known: impl Fn(i32) -> Option<(u64, &'a [u8])>) {
        const OWN: u64 = 1 << 62;
        let mut numbers: HashMap<usize, u64> = HashMap::new();
        for (fd, descriptor) in self.fds.iter() {
            let Some(file) = self.files.get(descriptor.file) else {
                continue;
            };
            let same = known(fd).filter(|(_, path)| *path == file.path);
            let own = || OWN | (pid as u64) << 32 | descriptor.file as u64;
            match same {
                Some((number, _)) => _ = numbers.insert(descriptor.file, number),
                None => _ = numbers.entry(descriptor.file).or_insert_with(own),
            }
        }
        let files = Arc::make_mut(&mut self.files);
        for (file, number) in numbers {
            files.set_serial(file, number);
        }
    }

    /// The locks of files that belong to the process, not to open files, with descriptors of those.
    pub fn locks(&self) -> impl Iterator<Item = (i32, RangeLock)> {
        self.fds.locks().filter_map(|(file, lock)| {
            let mut fds = self.fds.iter();
            let (fd, _) = fds.find(|(_, descriptor)| descriptor.file == file)?;
            Some((fd, lock))
        })
    }

    /// Whether its process has set attributes: see [`Kernel::process`](super::Kernel::process).
    pub fn has_process_state(&self) -> bool {
        self.has_process_state
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

impl Descriptors for DescriptorTable {
    fn cwd(&self) -> &[u8] {
        self.cwd()
    }

    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        Some((self.file_id(fd)?, self.get(fd)?))
    }
}
