//! The modelled state of the kernel: what it kept for a recorded program at an event, worked out from the recorded
//! calls.
//!
//! [`ProcessTree`] has the tasks with their descriptors and open files, [`Kernel`] the objects behind those (one file
//! each: `pipe`, `socket`, `eventfd`, `timerfd`, `signalfd`, `epoll`, `inotify`, `memfd`) and the attributes that
//! processes set (`process`). `job_control` has the groups and sessions of processes, `connection` says which sockets are
//! the ends of one connection, `channel` what an event sends to other processes and takes from them, `signal` which signals, and
//! `pending` which of these nobody has taken yet. Objects go by the numbers of their open files ([`ProcessTree::file_id`]), pipes by
//! their names. [`restore`](crate::restore) makes the same objects in a live process, in files of the same names.
//!
//! The model follows frames ([`recording`](crate::recording)); it does not read recordings, and asks no real kernel.

mod address;
mod call_data;
mod calls;
mod channel;
mod clock;
mod connection;
mod descriptors;
mod epoll;
mod eventfd;
mod file_numbers;
mod inotify;
mod job_control;
mod memfd;
mod memory;
mod named_files;
mod pending;
mod pipe;
mod process;
mod process_tree;
mod program;
mod queue;
mod signal;
mod signalfd;
mod socket;
mod stack_limit;
mod terminal;
mod timer;
mod timerfd;
mod transfer;

pub(crate) use address::{path_of as path_of_address, sockaddr};
pub(crate) use call_data::{data_read, moved, reads_from};
pub use channel::{ChannelId, ChannelUse, Use};
pub use clock::Clock;
pub use connection::Connection;
pub use descriptors::{
    DescriptorTable, Descriptors, FileKind, OpenFile, RangeLock, RangeLocks, Stream, is_terminal,
    output_descriptors, path_has_offset,
};
pub(crate) use epoll::waits_for_events;
pub use epoll::{Epoll, Interest};
pub use eventfd::Eventfd;
pub use file_numbers::SeenFileNumbers;
pub use inotify::{Inotify, Watch};
pub use job_control::JobControl;
pub(crate) use job_control::{changes_job_control, may_change_job_control};
pub use memfd::Memfd;
pub(crate) use named_files::files_named_by;
pub use named_files::{named_files, resolved_path};
pub use pending::PendingSignal;
pub(crate) use pending::is_ignored;
pub use process::ProcessState;
pub use process_tree::ProcessTree;
pub use program::{Program, argv_of};
pub use queue::{Part, Queue};
pub(crate) use signal::{FIRST_REAL_TIME, Target, Told, sends_signal};
pub use signalfd::Signalfd;
pub use socket::Socket;
pub(crate) use socket::inode_of_socket;
pub use stack_limit::stack_limit;
pub use terminal::PseudoTerminal;
pub use timer::{PosixTimer, Timer, TimerSetting};
pub use timerfd::Timerfd;

use crate::recording::{EventKind, Frame};
use channel::Flow;
use connection::Connections;
use std::collections::{BTreeMap, HashMap, HashSet};

/// An object behind an open file, other than a file that a path and an offset describe.
#[derive(Clone, Debug)]
pub enum Object {
    /// eventfd(2).
    Eventfd(Eventfd),
    /// timerfd_create(2).
    Timerfd(Timerfd),
    /// signalfd(2).
    Signalfd(Signalfd),
    /// epoll_create(2).
    Epoll(Epoll),
    /// inotify_init(2).
    Inotify(Inotify),
    /// socket(2), socketpair(2), accept(2).
    Socket(Box<Socket>),
    /// An end of a pipe whose name the recorder did not look up: the name that it goes by instead.
    PipeEnd(Vec<u8>),
    /// memfd_create(2).
    Memfd(Memfd),
}

/// The state of the kernel at an event: the objects behind open files, and the attributes of processes.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// By the numbers of open files.
    objects: HashMap<u64, Object>,
    /// The data in pipes, by their names.
    pipes: HashMap<Vec<u8>, Queue>,
    processes: BTreeMap<i32, ProcessState>,
    connections: Connections,
    /// What clients have sent before their connections were accepted, by their open files.
    early: HashMap<u64, Queue>,
    flows: HashMap<ChannelId, Flow>,
    /// The numbers of the pseudoterminals whose masters these open files are.
    masters: HashMap<u64, u32>,
    terminals: HashMap<u32, PseudoTerminal>,
    /// The pids of processes in their own pid namespaces, where these differ.
    numbers: BTreeMap<i32, i32>,
    pending: pending::PendingSignals,
    clock: Clock,
    file_numbers: SeenFileNumbers,
    /// The bytes in pipes, sockets and anonymous files.
    buffered: usize,
    /// The objects and pipes that were added since unused ones were last removed.
    added: usize,
}

impl Kernel {
    /// Follows a frame, which the process tree follows as well: between a call's changes and its new objects.
    pub(crate) fn follow(&mut self, tree: &mut ProcessTree, frame: &Frame) {
        match frame {
            Frame::Event(event) => {
                let pid = tree.pid(event.tid);
                match &event.kind {
                    EventKind::Call(call) if !call.was_made() => tree.follow(frame),
                    EventKind::Call(call) => {
                        if let Some(pid) = pid {
                            self.follow_pending(tree, (pid, event.tid), call);
                            self.change_objects(pid, call, &tree.view(event.tid));
                            self.file_numbers.follow(call, &tree.view(event.tid));
                        }
                        tree.follow(frame);
                        self.create_objects(call, &tree.view(event.tid));
                        self.follow_pidfd(tree, event.tid, call);
                    }
                    EventKind::Signal(signal) => {
                        if let Some(pid) = pid {
                            self.deliver_signal(pid, signal.signal, &signal.info);
                            self.take_pending(tree, (pid, event.tid), signal);
                        }
                        tree.follow(frame);
                    }
                }
                if self.added > 1024 {
                    self.drop_unused(tree);
                }
            }
            Frame::NewTask(born) => {
                let maker = tree.pid(born.maker);
                tree.follow(frame);
                if born.pid == born.tid {
                    match born.numbers.last() {
                        Some(&number) => _ = self.numbers.insert(born.pid, number),
                        None => _ = self.numbers.remove(&born.pid),
                    }
                    let mut process = maker
                        .and_then(|pid| self.processes.get(&pid))
                        .map(ProcessState::forked);
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
            Frame::Gone { tid, .. } => {
                let pid = tree.pid(*tid);
                tree.follow(frame);
                if let Some(pid) = pid {
                    self.drop_pending(tree, pid, *tid);
                }
            }
            Frame::Addresses(seen) => self.note_addresses(tree, seen),
            _ => tree.follow(frame),
        }
    }

    /// Removes the objects of closed files and the attributes of ended processes.
    fn drop_unused(&mut self, tree: &ProcessTree) {
        self.added = 0;
        let mut alive: HashSet<u64> = tree.file_ids().collect();
        // Of what is on its way, the senders are asked for their addresses.
        let waiting = tree
            .file_ids()
            .filter_map(|id| match self.objects.get(&id) {
                Some(Object::Socket(socket)) => Some(&socket.received),
                _ => None,
            });
        let queues = waiting.chain(self.early.values());
        let parts: Vec<Part> = queues.flat_map(Queue::parts).cloned().collect();
        alive.extend(parts.iter().filter_map(|part| part.from));
        let passed = || parts.iter().flat_map(|part| &*part.passed);
        alive.extend(passed().map(|(id, _)| *id));
        let mut named = HashSet::new();
        self.objects.retain(|id, object| {
            let kept = alive.contains(id);
            if let (true, Object::PipeEnd(name)) = (kept, &*object) {
                named.insert(name.clone());
            }
            kept
        });
        let files = tree.files();
        let files = files.chain(passed().map(|(_, file)| file));
        let names: HashSet<&[u8]> = files.map(|file| file.path.as_slice()).collect();
        self.pipes
            .retain(|name, _| names.contains(name.as_slice()) || named.contains(name));
        self.processes.retain(|&pid, _| tree.is_alive(pid));
        self.pending.forget_closed(&alive);
        self.drop_unused_connections(&alive);
        let bytes = self.objects.values().map(|object| match object {
            Object::Socket(socket) => socket.received.len(),
            Object::Memfd(memfd) => memfd.bytes.len(),
            _ => 0,
        });
        let queues = self.pipes.values().chain(self.early.values());
        self.buffered = bytes.sum::<usize>() + queues.map(Queue::len).sum::<usize>();
    }

    /// The pseudoterminal of which an open file is the master, and its number.
    pub fn terminal_of_master(&self, id: u64) -> Option<(u32, PseudoTerminal)> {
        let number = *self.masters.get(&id)?;
        let known = self.terminals.get(&number).cloned();
        Some((number, known.unwrap_or_default()))
    }

    /// The open files that are on their way to these, and to those that are: each with its number, once.
    pub fn passed_to(&self, ids: impl Iterator<Item = u64>) -> Vec<(u64, OpenFile)> {
        let mut all: Vec<(u64, OpenFile)> = Vec::new();
        let mut asked: Vec<u64> = ids.collect();
        let mut seen: HashSet<u64> = asked.iter().copied().collect();
        while let Some(id) = asked.pop() {
            let received = self.received(id);
            let early = self.sent_early(id);
            let queues = std::iter::once(&received).chain(early);
            for (passed, file) in queues.flat_map(Queue::parts).flat_map(|part| &*part.passed) {
                if seen.insert(*passed) {
                    asked.push(*passed);
                    all.push((*passed, file.clone()));
                }
            }
        }
        all
    }

    /// The object behind an open file.
    pub fn object(&self, id: u64) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// The attributes that a process has set.
    pub fn process(&self, pid: i32) -> Option<&ProcessState> {
        self.processes.get(&pid)
    }

    /// The time since the recording began.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The device and inode numbers that programs have seen.
    pub fn file_numbers(&self) -> &SeenFileNumbers {
        &self.file_numbers
    }

    /// A copy with the objects of these open files and the attributes of this process only.
    #[must_use]
    pub fn subset(&self, pid: i32, files: &[(u64, &OpenFile)]) -> Kernel {
        let mut part = Kernel {
            clock: self.clock,
            ..Kernel::default()
        };
        for &(id, file) in files {
            if let Some(object) = self.objects.get(&id) {
                part.objects.insert(id, object.clone());
                if let Object::Socket(socket) = object {
                    for from in socket.received.parts().filter_map(|part| part.from) {
                        let sender = self.objects.get(&from).cloned();
                        part.objects.extend(sender.map(|sender| (from, sender)));
                    }
                }
            }
            if let Some(name) = self.pipe_name(id, file)
                && let Some(queue) = self.pipes.get(name)
            {
                part.pipes.insert(name.to_vec(), queue.clone());
            }
        }
        self.channels_of(files, &mut part);
        part.numbers
            .extend(self.numbers.get(&pid).map(|&number| (pid, number)));
        part.processes.extend(
            self.processes
                .get(&pid)
                .map(|process| (pid, process.clone())),
        );
        part
    }

    /// Follows a signal to a process.
    pub fn deliver_signal(&mut self, pid: i32, signal: i32, info: &[u8]) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.deliver_signal(signal, info);
        }
    }

    fn add(&mut self, id: u64, object: Object) {
        self.added += 1;
        self.objects.insert(id, object);
    }
}

/// The frame of a process that another one forks.
#[cfg(test)]
pub(crate) fn forked(maker: i32, tid: i32) -> crate::recording::Frame {
    crate::recording::Frame::NewTask(crate::recording::NewTask {
        tid,
        pid: tid,
        maker,
        flags: libc::SIGCHLD as u64,
        stack: 0,
        tls: 0,
        parent_tid: 0,
        child_tid: 0,
        numbers: Vec::new(),
        named: tid,
    })
}
