//! Data that calls move into and out of pipes, sockets, eventfds and anonymous files.

use super::address::Address;
use super::call_data::{moved, moved_messages, reads_from};
use super::descriptors::passed_descriptors;
use super::{Descriptors, Kernel, Object, OpenFile, Part, Queue, channel};
use crate::recording::{CallEvent, Effect};
use crate::syscall::Moved;
use std::sync::Arc;

/// The most bytes of all pipes, sockets and anonymous files that are modelled.
const MOST: usize = 64 << 20;

impl Kernel {
    /// Follows the data that a call, which has not failed, moved into or out of the open file that is its first argument.
    /// `before` are the descriptors at its entry.
    pub(super) fn move_data(
        &mut self,
        id: u64,
        file: &OpenFile,
        call: &CallEvent,
        before: &dyn Descriptors,
    ) {
        let ret = call.ret.unwrap_or(-1);
        if file.may_be_terminal() {
            return self.move_on_terminal(id, file, call, ret);
        }
        if matches!(self.object(id), Some(Object::Socket(socket)) if socket.has_messages()) {
            return self.move_messages(id, call, before);
        }
        match i64::from(call.nr) {
            libc::SYS_sendmmsg => {
                for (at, message) in moved_messages(call).into_iter().enumerate() {
                    let passed = passed_files(call, at, before);
                    self.write_data(id, file, call, &message, passed);
                }
            }
            libc::SYS_recvmmsg => {
                for message in moved_messages(call) {
                    self.read_data(id, file, call, message.len());
                }
            }
            nr if reads_from(call).is_some() && !file.is_memfd()
                || nr == libc::SYS_vmsplice && file.flags & libc::O_ACCMODE == libc::O_RDONLY =>
            {
                self.read_data(id, file, call, ret as usize);
            }
            _ if ret >= 0 => {
                let data = moved(call, Moved::In);
                if !data.is_empty() {
                    let passed = passed_files(call, 0, before);
                    self.write_data(id, file, call, &data, passed);
                }
            }
            _ => {}
        }
    }

    /// Follows the messages that a call sent to a socket, or took from it. A message may have no bytes.
    fn move_messages(&mut self, id: u64, call: &CallEvent, before: &dyn Descriptors) {
        let cwd = before.cwd();
        match i64::from(call.nr) {
            libc::SYS_sendmmsg => {
                for (at, message) in moved_messages(call).into_iter().enumerate() {
                    let passed = passed_files(call, at, before);
                    let to = channel::destination_of(call, at, cwd);
                    self.send_message(id, &message, to, passed);
                }
            }
            libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwritev2 => {
                let to = channel::destination_of(call, 0, cwd);
                let passed = passed_files(call, 0, before);
                self.send_message(id, &moved(call, Moved::In), to, passed);
            }
            libc::SYS_recvmmsg => {
                for message in moved_messages(call) {
                    self.take_message(id, &message, call, cwd);
                }
            }
            _ if takes_message(call) => {
                let read = moved(call, Moved::Out);
                self.take_message(id, &read, call, cwd);
            }
            _ => {}
        }
    }

    /// Follows a message to this address, or to whom the socket is connected with.
    fn send_message(&mut self, id: u64, data: &[u8], to: Option<Address>, passed: Option<Passed>) {
        let fits = self.buffered + data.len() <= MOST;
        let Some(Object::Socket(socket)) = self.objects.get(&id) else {
            return;
        };
        let receiver = match socket.kind.1 {
            libc::SOCK_DGRAM => {
                let pair = socket.peer.filter(|_| to.is_none());
                let to = to.as_ref().or(socket.remote.as_ref());
                pair.or_else(|| self.receiver(to?, socket))
            }
            _ => socket.peer.or_else(|| self.connected_peer(id)),
        };
        let is_datagram = socket.kind.1 == libc::SOCK_DGRAM;
        let queue = match receiver {
            Some(receiver) => match self.objects.get_mut(&receiver) {
                Some(Object::Socket(socket)) => &mut socket.received,
                _ => return,
            },
            None if self.awaits_acceptance(id) => self.early.entry(id).or_default(),
            None => return,
        };
        if !fits {
            queue.incomplete = true;
            return;
        }
        let before = queue.len();
        queue.incomplete |= passed.is_none();
        queue.push_message(Part {
            data: data.into(),
            from: is_datagram.then_some(id),
            passed: passed.unwrap_or_default(),
        });
        self.buffered += queue.len() - before;
    }

    /// Follows the taking of a message, of which this was read.
    fn take_message(&mut self, id: u64, read: &[u8], call: &CallEvent, cwd: &[u8]) {
        self.receive_early(id);
        let from = channel::sender(call, cwd);
        let is_sent_here = from.is_none_or(|from| self.has_sender(&from));
        let has_connection = self.connected_peer(id).is_some();
        let Some(Object::Socket(socket)) = self.objects.get_mut(&id) else {
            return;
        };
        let is_connected = socket.peer.is_some() || has_connection;
        let queue = &mut socket.received;
        let before = queue.len();
        match is_connected && !queue.is_empty() {
            true => queue.take_message(),
            // Whoever has closed a connection has sent no empty message.
            false if is_connected && read.is_empty() => {}
            false => queue.take_this_message(read, is_sent_here),
        }
        let taken = before - queue.len();
        self.buffered -= self.buffered.min(taken);
    }

    fn move_on_terminal(&mut self, id: u64, file: &OpenFile, call: &CallEvent, ret: i64) {
        let Some((number, is_master)) = self.terminal(id, file) else {
            return;
        };
        // Others are not the program's own.
        let Some(terminal) = self.terminals.get_mut(&number) else {
            return;
        };
        terminal.is_open |= !is_master;
        if i64::from(call.nr) == libc::SYS_ioctl {
            terminal.control(call);
        } else if reads_from(call).is_some() || ret == 0 && is_read(call) {
            terminal.taken(is_master, usize::try_from(ret).unwrap_or(0));
        } else if ret > 0 {
            let data = moved(call, Moved::In);
            match is_master {
                true => terminal.typed(&data),
                false => terminal.written(&data),
            }
        }
    }

    /// Follows a write of this data to an open file.
    fn write_data(
        &mut self,
        id: u64,
        file: &OpenFile,
        call: &CallEvent,
        data: &[u8],
        passed: Option<Passed>,
    ) {
        let fits = self.buffered + data.len() <= MOST;
        let peer = match self.objects.get_mut(&id) {
            Some(Object::Eventfd(eventfd)) => return eventfd.write(data),
            Some(Object::Memfd(memfd)) => {
                match fits {
                    true => self.buffered += memfd.write(file, call, data),
                    false => memfd.incomplete = true,
                }
                return;
            }
            Some(Object::Socket(socket)) if socket.has_messages() => {
                return self.send_message(id, data, None, passed);
            }
            Some(Object::Socket(socket)) => {
                let peer = socket.peer;
                Some(peer.or_else(|| self.connected_peer(id)))
            }
            _ => None,
        };
        let queue = match peer {
            Some(Some(peer)) => match self.objects.get_mut(&peer) {
                Some(Object::Socket(socket)) => &mut socket.received,
                _ => return,
            },
            Some(None) if self.awaits_acceptance(id) => self.early.entry(id).or_default(),
            Some(None) => return,
            None => {
                let Some(name) = self.pipe_name(id, file) else {
                    return;
                };
                let name = name.to_vec();
                self.used_pipe(&name)
            }
        };
        if fits {
            let before = queue.len();
            queue.incomplete |= passed.is_none();
            queue.push(Part {
                passed: passed.unwrap_or_default(),
                ..Part::from(data)
            });
            self.buffered += queue.len() - before;
        } else {
            queue.incomplete = true;
        }
    }

    /// The bytes that were taken of what a call sends to an open file which has not returned yet.
    pub fn taken_early(&self, id: u64, file: &OpenFile) -> usize {
        let queue = match self.object(id) {
            Some(Object::Socket(_)) => match self.peer(id).and_then(|peer| self.object(peer)) {
                Some(Object::Socket(peer)) => Some(&peer.received),
                _ => None,
            },
            _ => self.pipe(id, file),
        };
        queue.map_or(0, Queue::owed)
    }

    /// Has an accepted socket have what was sent to it before.
    pub(super) fn receive_early(&mut self, id: u64) {
        if self.early.is_empty() {
            return;
        }
        let client = self.connected_peer(id);
        let early = client.and_then(|client| self.early.remove(&client));
        if let (Some(early), Some(Object::Socket(socket))) = (early, self.objects.get_mut(&id)) {
            socket.received.begin_with(early);
        }
    }

    /// Follows a read of so many bytes from an open file; returns those of them that are known.
    fn read_data(&mut self, id: u64, file: &OpenFile, call: &CallEvent, count: usize) -> Vec<u8> {
        self.receive_early(id);
        let has_peer = self.peer(id).is_some();
        let queue = match self.objects.get_mut(&id) {
            Some(Object::Eventfd(eventfd)) => {
                eventfd.read();
                return Vec::new();
            }
            Some(Object::Timerfd(timerfd)) => {
                timerfd.read(call);
                return Vec::new();
            }
            Some(Object::Socket(socket)) if socket.has_messages() => {
                let before = socket.received.len();
                socket.received.take_message();
                self.buffered -= self.buffered.min(before - socket.received.len());
                return Vec::new();
            }
            Some(Object::Socket(socket)) => Some((&mut socket.received, has_peer)),
            _ => {
                let name = self.pipe_name(id, file).map(<[u8]>::to_vec);
                name.map(|name| (self.used_pipe(&name), true))
            }
        };
        let taken = queue.map_or_else(Vec::new, |(queue, owes)| {
            let taken = queue.take(count);
            if owes {
                // A call sends the rest that has not returned yet.
                queue.owe(count - taken.len());
            }
            taken
        });
        self.buffered -= self.buffered.min(taken.len());
        taken
    }

    /// Follows data that the kernel moved from one open file to another: `ends` are the arguments, source first.
    pub(super) fn splice(
        &mut self,
        call: &CallEvent,
        ends: (usize, usize),
        before: &dyn Descriptors,
    ) {
        let count = call
            .ret
            .and_then(|ret| usize::try_from(ret).ok())
            .unwrap_or(0);
        if count == 0 {
            return;
        }
        let from = before.file(call.args[ends.0] as i32);
        let to = before.file(call.args[ends.1] as i32);
        let data = match from {
            Some((id, file)) if i64::from(call.nr) == libc::SYS_tee => {
                let mut queue = self.pipe(id, file).cloned();
                queue
                    .as_mut()
                    .map_or_else(Vec::new, |queue| queue.take(count))
            }
            Some((id, file)) => self.read_data(id, file, call, count),
            None => Vec::new(),
        };
        let data = match &call.effect {
            Effect::Moved(known) => known.clone(),
            _ => data,
        };
        let Some((id, file)) = to else { return };
        if data.len() == count {
            return self.write_data(id, file, call, &data, Some(Passed::default()));
        }
        let name = self.pipe_name(id, file).map(<[u8]>::to_vec);
        if let Some(name) = name {
            self.pipes.entry(name).or_default().incomplete = true;
        } else if let Some(Object::Memfd(memfd)) = self.objects.get_mut(&id) {
            memfd.incomplete = true;
        }
    }
}

/// Whether a call reads, also if it found the end of a file.
fn is_read(call: &CallEvent) -> bool {
    let nr = i64::from(call.nr);
    matches!(nr, libc::SYS_read | libc::SYS_readv) && call.was_made()
}

/// Open files on their way, with their numbers.
type Passed = Arc<[(u64, OpenFile)]>;

/// The open files that a call passes with one of its messages; `None` where not all of them are known.
fn passed_files(call: &CallEvent, message: usize, before: &dyn Descriptors) -> Option<Passed> {
    let passed = passed_descriptors(call, message).into_iter();
    let files = passed.map(|fd| before.file(fd).map(|(id, file)| (id, file.clone())));
    files.collect()
}

/// Whether a call takes a message from a socket, which may be an empty one.
fn takes_message(call: &CallEvent) -> bool {
    const LEAVES: i32 = libc::MSG_PEEK | libc::MSG_ERRQUEUE;
    match i64::from(call.nr) {
        libc::SYS_recvfrom => call.args[3] as i32 & LEAVES == 0,
        libc::SYS_recvmsg => call.args[2] as i32 & LEAVES == 0,
        // A read of no bytes takes nothing: `sock_read_iter` in net/socket.c.
        libc::SYS_read => call.args[2] > 0,
        libc::SYS_readv | libc::SYS_preadv2 => true,
        _ => false,
    }
}
