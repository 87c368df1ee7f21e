//! Data that calls move into and out of pipes, sockets, counters and anonymous files.

use super::call_data::moved;
use super::timer::read_u64;
use super::{Content, Kernel, Numbers, OpenFile, Thing};
use crate::recording::CallEvent;
use crate::syscall::{Memory, Moved};

/// Bytes that are kept in all.
const MOST: usize = 64 << 20;

impl Kernel {
    /// Data went into an open file.
    pub(super) fn write_data(&mut self, id: u64, file: &OpenFile, call: &CallEvent, data: &[u8]) {
        let room = self.kept + data.len() <= MOST;
        let peer = match self.things.get_mut(&id) {
            Some(Thing::Counter { count, .. }) => {
                let mut by = [0; 8];
                if let Some(bytes) = data.get(..8) {
                    by.copy_from_slice(bytes);
                }
                *count = count.saturating_add(u64::from_le_bytes(by));
                return;
            }
            Some(Thing::Memory(content)) => {
                let at = match i64::from(call.nr) {
                    libc::SYS_pwrite64 | libc::SYS_pwritev => call.args[3],
                    libc::SYS_pwritev2 if call.args[3] != u64::MAX => call.args[3],
                    _ => file.offset,
                };
                if room {
                    self.kept += content.put(at, data);
                } else {
                    content.incomplete = true;
                }
                return;
            }
            Some(Thing::Socket(socket)) => socket.peer,
            _ => None,
        };
        let queue = match peer {
            Some(peer) => match self.things.get_mut(&peer) {
                Some(Thing::Socket(socket)) => &mut socket.received,
                _ => return,
            },
            None => {
                let Some(name) = self.pipe_name(id, file) else {
                    return;
                };
                let name = name.to_vec();
                if !self.pipes.contains_key(&name) {
                    self.added += 1;
                }
                self.pipes.entry(name).or_default()
            }
        };
        if room {
            let before = queue.len();
            queue.push(data);
            self.kept += queue.len() - before;
        } else {
            queue.incomplete = true;
        }
    }

    /// Data received out of an open file.
    pub(super) fn read_data(
        &mut self,
        id: u64,
        file: &OpenFile,
        call: &CallEvent,
        count: usize,
    ) -> Vec<u8> {
        let queue = match self.things.get_mut(&id) {
            Some(Thing::Counter { count, semaphore }) => {
                *count = match *semaphore {
                    true => count.saturating_sub(1),
                    false => 0,
                };
                return Vec::new();
            }
            Some(Thing::Timer(timer)) => {
                let data = moved(call, Moved::Out);
                let count = read_u64(&At(&data), 0);
                timer.seen(count.unwrap_or(1));
                return Vec::new();
            }
            Some(Thing::Socket(socket)) if socket.has_messages() => {
                let before = socket.received.len();
                socket.received.take_part();
                self.kept -= self.kept.min(before - socket.received.len());
                return Vec::new();
            }
            Some(Thing::Socket(socket)) => Some(&mut socket.received),
            _ => {
                let name = self.pipe_name(id, file).map(<[u8]>::to_vec);
                name.and_then(|name| self.pipes.get_mut(&name))
            }
        };
        let taken = queue.map_or_else(Vec::new, |queue| queue.take(count));
        self.kept -= self.kept.min(taken.len());
        taken
    }

    /// The kernel moved data from one open file to another: `ends` are the arguments, source first.
    pub(super) fn move_data(
        &mut self,
        call: &CallEvent,
        ends: (usize, usize),
        before: &dyn Numbers,
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
                let name = self.pipe_name(id, file);
                let mut queue = name.and_then(|name| self.pipes.get(name)).cloned();
                queue
                    .as_mut()
                    .map_or_else(Vec::new, |queue| queue.take(count))
            }
            Some((id, file)) => self.read_data(id, file, call, count),
            None => Vec::new(),
        };
        let Some((id, file)) = to else { return };
        if data.len() == count {
            return self.write_data(id, file, call, &data);
        }
        let name = self.pipe_name(id, file).map(<[u8]>::to_vec);
        if let Some(name) = name {
            self.pipes.entry(name).or_default().incomplete = true;
        } else if let Some(Thing::Memory(content)) = self.things.get_mut(&id) {
            content.incomplete = true;
        }
    }
}

impl Content {
    /// No anonymous file is kept beyond this.
    pub(super) const MOST: usize = 16 << 20;

    /// Returns by how much it has grown.
    fn put(&mut self, at: u64, data: &[u8]) -> usize {
        let end = usize::try_from(at)
            .ok()
            .and_then(|at| at.checked_add(data.len()));
        let Some(end) = end.filter(|&end| end <= Content::MOST) else {
            self.incomplete = true;
            return 0;
        };
        let before = self.bytes.len();
        if end > before {
            self.bytes.resize(end, 0);
        }
        self.bytes[end - data.len()..end].copy_from_slice(data);
        self.bytes.len() - before
    }
}

/// Bytes that lie at address 0.
struct At<'a>(&'a [u8]);

impl Memory for At<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let rest = usize::try_from(addr).ok().and_then(|at| self.0.get(at..));
        let rest = rest.unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }
}
