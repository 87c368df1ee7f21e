//! What the kernel keeps for recorded processes that neither a path nor an offset says: what is in their pipes,
//! how far their counters and timers are, what their epoll sets watch, what they have set of themselves. Worked
//! out from the calls.
//!
//! Open files go by their numbers ([`ProcessTree::file_id`]), pipes by their names.

mod call_data;
mod calls;
mod data;
mod descriptors;
mod file_numbers;
mod named_files;
mod process;
mod process_tree;
mod program;
mod queue;
mod socket;
mod stack_limit;
mod timer;

pub(crate) use call_data::{data_read, reads_from};
pub use descriptors::{DescriptorTable, OpenFile, Stream, output_descriptors, path_has_offset};
pub use file_numbers::SeenFileNumbers;
pub(crate) use named_files::files_named_by;
pub use named_files::{Places, named_files, resolved_path};
pub use process::{PosixTimer, ProcessState};
pub use process_tree::ProcessTree;
pub use program::Program;
pub use queue::Queue;
pub use socket::Socket;
pub use stack_limit::stack_limit;
pub use timer::{Armed, Clock, Timer};

use crate::recording::{EventKind, Frame};
use std::collections::{BTreeMap, HashMap, HashSet};

/// An open file that has something to keep.
#[derive(Clone, Debug)]
pub enum Thing {
    /// eventfd(2): the count, and whether it is taken one at a time.
    Counter {
        /// The count.
        count: u64,
        /// `EFD_SEMAPHORE`.
        semaphore: bool,
    },
    /// timerfd_create(2).
    Timer(Timer),
    /// signalfd(2): the mask.
    Signals(u64),
    /// epoll_create(2).
    Poll(Vec<Member>),
    /// inotify_init(2).
    Watches(Vec<Watch>),
    /// socket(2), socketpair(2), accept(2).
    Socket(Box<Socket>),
    /// An end of a pipe that nobody looked at: the name that it goes by.
    Pipe(Vec<u8>),
    /// memfd_create(2): what was written to it.
    Memory(Content),
}

/// What an epoll set watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The descriptor by which it was added.
    pub fd: i32,
    /// Its open file.
    pub file: u64,
    /// `EPOLL*`; those of one that has told once are gone.
    pub events: u32,
    /// What the program gets back.
    pub data: u64,
}

/// What an inotify instance watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its number.
    pub wd: i32,
    /// The path.
    pub path: Vec<u8>,
    /// `IN_*`.
    pub mask: u32,
}

/// What is in an anonymous file, as far as it was written by calls.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// It was mapped, or something else went in that is not known.
    pub incomplete: bool,
}

/// Descriptors, as a call finds or leaves them.
pub trait Numbers {
    /// The number of the open file behind a descriptor, and the file.
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)>;

    /// The current directory.
    fn cwd(&self) -> &[u8];
}

struct OfTask<'a>(&'a ProcessTree, i32);

impl Numbers for OfTask<'_> {
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let OfTask(tree, tid) = *self;
        Some((tree.file_id(tid, fd)?, tree.open_file(tid, fd)?))
    }

    fn cwd(&self) -> &[u8] {
        self.0.cwd(self.1).unwrap_or_default()
    }
}

/// What the kernel keeps at some place of a recording.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    things: HashMap<u64, Thing>,
    pipes: HashMap<Vec<u8>, Queue>,
    processes: BTreeMap<i32, ProcessState>,
    /// The numbers that processes know themselves by, where these are others.
    numbers: BTreeMap<i32, i32>,
    clock: Clock,
    file_numbers: SeenFileNumbers,
    /// How many bytes are kept.
    kept: usize,
    /// How many things were added since what is gone was last removed.
    added: usize,
}

impl Kernel {
    /// Follows a frame and has the tree follow it.
    pub(crate) fn follow(&mut self, tree: &mut ProcessTree, frame: &Frame) {
        match frame {
            Frame::Event(event) => {
                let pid = tree.pid(event.tid);
                match &event.kind {
                    EventKind::Call(call) if !call.was_made() => tree.follow(frame),
                    EventKind::Call(call) => {
                        if let Some(pid) = pid {
                            self.change_objects(pid, call, &OfTask(tree, event.tid));
                            self.file_numbers.follow(call, &OfTask(tree, event.tid));
                        }
                        tree.follow(frame);
                        self.create_objects(call, &OfTask(tree, event.tid));
                    }
                    EventKind::Signal(signal) => {
                        if let Some(pid) = pid {
                            self.deliver_signal(pid, signal.signal, &signal.info);
                        }
                        tree.follow(frame);
                    }
                }
                if self.added > 1024 {
                    self.drop_unused(tree);
                }
            }
            Frame::Born(born) => {
                let maker = tree.pid(born.maker);
                tree.follow(frame);
                if born.pid == born.tid {
                    match born.numbers.last() {
                        Some(&number) => _ = self.numbers.insert(born.pid, number),
                        None => _ = self.numbers.remove(&born.pid),
                    }
                    let mut process = maker
                        .and_then(|pid| self.processes.get(&pid))
                        .map(ProcessState::child);
                    let namespaces = process::new_namespaces(born.flags);
                    if namespaces != 0 {
                        process.get_or_insert_default().namespaces |= namespaces;
                    }
                    match process {
                        Some(process) => _ = self.processes.insert(born.pid, process),
                        None => _ = self.processes.remove(&born.pid),
                    }
                }
            }
            _ => tree.follow(frame),
        }
    }

    /// Removes what nobody has any more.
    fn drop_unused(&mut self, tree: &ProcessTree) {
        self.added = 0;
        let alive: HashSet<u64> = tree.file_ids().collect();
        let mut named = HashSet::new();
        self.things.retain(|id, thing| {
            let kept = alive.contains(id);
            if let (true, Thing::Pipe(name)) = (kept, &*thing) {
                named.insert(name.clone());
            }
            kept
        });
        let files = tree.files();
        let names: HashSet<&[u8]> = files.map(|file| file.path.as_slice()).collect();
        self.pipes
            .retain(|name, _| names.contains(name.as_slice()) || named.contains(name));
        self.processes.retain(|&pid, _| tree.is_alive(pid));
        let things = self.things.values().map(|thing| match thing {
            Thing::Socket(socket) => socket.received.len(),
            Thing::Memory(content) => content.bytes.len(),
            _ => 0,
        });
        self.kept = things.sum::<usize>() + self.pipes.values().map(Queue::len).sum::<usize>();
    }

    /// What is kept of an open file.
    pub fn thing(&self, id: u64) -> Option<&Thing> {
        self.things.get(&id)
    }

    /// What is in the pipe that an open file is an end of.
    pub fn pipe(&self, id: u64, file: &OpenFile) -> Option<&Queue> {
        self.pipes.get(self.pipe_name(id, file)?)
    }

    /// The name of the pipe that an open file is an end of.
    pub fn pipe_name<'a>(&'a self, id: u64, file: &'a OpenFile) -> Option<&'a [u8]> {
        match self.things.get(&id) {
            Some(Thing::Pipe(name)) => Some(name),
            _ => Some(file.path.as_slice()).filter(|_| is_pipe(file)),
        }
    }

    /// What a process has set of itself.
    pub fn process(&self, pid: i32) -> Option<&ProcessState> {
        self.processes.get(&pid)
    }

    /// How late it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Which numbers programs were told for their files.
    pub fn file_numbers(&self) -> &SeenFileNumbers {
        &self.file_numbers
    }

    /// Only what these open files and this process have.
    #[must_use]
    pub fn subset(&self, pid: i32, files: &[(u64, &OpenFile)]) -> Kernel {
        let mut part = Kernel {
            clock: self.clock,
            ..Kernel::default()
        };
        for &(id, file) in files {
            if let Some(thing) = self.things.get(&id) {
                part.things.insert(id, thing.clone());
            }
            if let Some(name) = self.pipe_name(id, file)
                && let Some(queue) = self.pipes.get(name)
            {
                part.pipes.insert(name.to_vec(), queue.clone());
            }
        }
        part.numbers
            .extend(self.numbers.get(&pid).map(|&number| (pid, number)));
        part.processes.extend(
            self.processes
                .get(&pid)
                .map(|process| (pid, process.clone())),
        );
        part
    }

    /// Follows a signal that received to a process.
    pub fn deliver_signal(&mut self, pid: i32, signal: i32, info: &[u8]) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.deliver_signal(signal, info);
        }
    }

    fn add(&mut self, id: u64, thing: Thing) {
        self.added += 1;
        self.things.insert(id, thing);
    }
}

fn is_memory(file: &OpenFile) -> bool {
    file.path.starts_with(b"/memfd:")
}

/// Whether it is a pipe, or a FIFO with a name.
fn is_pipe(file: &OpenFile) -> bool {
    let named = file.path.starts_with(b"/") && !file.path.starts_with(b"/dev/");
    file.path.starts_with(b"pipe:[") || named && !file.moves
}

/// Whether a path, flags and an offset say all of it.
fn is_plain(file: &OpenFile) -> bool {
    file.path.starts_with(b"/") && !is_memory(file) && !is_pipe(file)
}
