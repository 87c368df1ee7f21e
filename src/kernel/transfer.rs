//! Data that calls move into and out of pipes, sockets, eventfds and anonymous files.

use super::call_data::{moved, moved_messages, reads_from};
use super::{Descriptors, Kernel, Object, OpenFile, Queue};
use crate::recording::{CallEvent, Effect};
use crate::syscall::Moved;

/// The most bytes of all pipes, sockets and anonymous files that are modelled.
const MOST: usize = 64 << 20;

impl Kernel {
    /// Follows the data that a call, which returned `ret`, moved into or out of the open file that is its first
    /// argument.
    pub(super) fn move_data(&mut self, id: u64, file: &OpenFile, call: &CallEvent, ret: i64) {
        if file.may_be_terminal() {
            return self.move_on_terminal(id, file, call, ret);
        }
        match i64::from(call.nr) {
            libc::SYS_sendmmsg => {
                for message in moved_messages(call) {
                    self.write_data(id, file, call, &message);
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
                    self.write_data(id, file, call, &data);
                }
            }
            _ => {}
        }
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
    fn write_data(&mut self, id: u64, file: &OpenFile, call: &CallEvent, data: &[u8]) {
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
            Some(Object::Socket(socket)) => {
                let is_stream = !socket.has_messages();
                let peer = socket.peer;
                Some(peer.or_else(|| self.connected_peer(id).filter(|_| is_stream)))
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
            queue.push(data);
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
            return self.write_data(id, file, call, &data);
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
