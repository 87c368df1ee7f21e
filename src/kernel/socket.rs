//! socket(2): a socket's addresses, options and received data.

use super::Queue;
use super::address::Address;
use super::memory::read_u32;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;
use std::net::SocketAddr;

/// A socket.
#[derive(Clone, Debug, Default)]
pub struct Socket {
    /// The domain, type (without flags) and protocol, as for socket(2).
    pub kind: (i32, i32, i32),
    /// The address that it is bound to: a `struct sockaddr`.
    pub bound: Option<Vec<u8>>,
    /// The directory from which a relative path is meant to which it is bound.
    pub bound_from: Vec<u8>,
    /// The backlog of a listening socket.
    pub backlog: Option<i32>,
    /// The address that it is connected to; empty for an accepted socket.
    pub connected: Option<Vec<u8>>,
    /// The number of the open file at the other end, for one of socketpair(2).
    pub peer: Option<u64>,
    /// The directions that are shut down: bit 0 for reading, bit 1 for writing.
    pub shutdown: u8,
    /// The options that were set: level, name, value.
    pub options: Vec<(i32, i32, Vec<u8>)>,
    /// The data that the other end sent and that was not read yet.
    pub received: Queue,
    /// Its address, as far as it is known.
    pub(super) local: Option<Address>,
    /// The address of the other end.
    pub(super) remote: Option<Address>,
    /// The number of the connection that it is an end of.
    pub(super) connection: Option<u64>,
}

/// The number of a socket that is shown as `socket:[…]`.
pub(crate) fn inode_of_socket(path: &[u8]) -> Option<u64> {
    let number = path.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The most bytes of an address or an option that are modelled.
const MOST: u64 = 256;

impl Socket {
    /// The most options of one socket that are modelled.
    const OPTIONS: usize = 64;

    /// The socket that socket(2) made, or one of those that socketpair(2) made.
    pub(super) fn new(call: &CallEvent) -> Socket {
        const FLAGS: i32 = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let [domain, kind, protocol, ..] = call.args.map(|arg| arg as i32);
        Socket {
            kind: (domain, kind & !FLAGS, protocol),
            ..Socket::default()
        }
    }

    /// A socket that this listening one accepted.
    pub(super) fn accepted(&self) -> Socket {
        Socket {
            kind: self.kind,
            bound: self.bound.clone(),
            bound_from: self.bound_from.clone(),
            connected: Some(Vec::new()),
            local: self.local.clone(),
            ..Socket::default()
        }
    }

    /// Whether data arrives in messages rather than as a stream of bytes.
    pub fn has_messages(&self) -> bool {
        self.kind.1 != libc::SOCK_STREAM
    }

    /// The address that a datagram socket is to be bound to, to have the one that it had: a `struct sockaddr`. The kernel has
    /// chosen what the program left open. `None` where it has no address.
    pub fn own_address(&self) -> Option<Vec<u8>> {
        let (bound, path) = (self.bound.clone(), self.path());
        match self.local.as_ref() {
            Some(Address::Inet(_, 0)) | None => bound,
            // As the program wrote it: others see that.
            Some(_) if path.is_some() => bound,
            Some(local) => local.sockaddr(self.kind.0).or(bound),
        }
    }

    /// The address that it is connected to, whatever the directory: a `struct sockaddr`.
    pub fn peer_address(&self) -> Option<Vec<u8>> {
        let connected = self.connected.as_ref().filter(|to| !to.is_empty())?;
        let known = self.remote.as_ref();
        match known.filter(|_| self.kind.0 == libc::AF_UNIX) {
            Some(remote) => remote.sockaddr(self.kind.0),
            None => Some(connected.clone()),
        }
    }

    /// Its address on the network, and that of the other end, as far as they are known.
    pub fn addresses(&self) -> [Option<SocketAddr>; 2] {
        [&self.local, &self.remote].map(|known| known.as_ref()?.on_network())
    }

    /// The path that it is bound to.
    pub fn path(&self) -> Option<&[u8]> {
        match self.local.as_ref()? {
            Address::Unix(path) if path.starts_with(b"/") => {
                self.bound.as_ref().map(|_| path.as_slice())
            }
            _ => None,
        }
    }

    /// Follows a call on it, by a process with this current directory.
    pub(super) fn follow(&mut self, call: &CallEvent, cwd: &[u8]) {
        let [_, a, b, c, d, _] = call.args;
        let ret = call.ret.unwrap_or(-1);
        match i64::from(call.nr) {
            libc::SYS_bind => {
                self.bound = bytes(&ChunkMemory(&call.ins), a, b);
                self.local = self.bound.as_deref().and_then(|to| Address::of(to, cwd));
                self.bound_from = cwd.to_vec();
            }
            libc::SYS_listen => self.backlog = Some(a as i32),
            libc::SYS_connect if ret == 0 || ret == -i64::from(libc::EINPROGRESS) => {
                let to = bytes(&ChunkMemory(&call.ins), a, b).unwrap_or_default();
                // AF_UNSPEC takes a connection back.
                let unspecified = to.first() == Some(&0) && to.get(1) == Some(&0);
                self.remote = Address::of(&to, cwd);
                self.connected = Some(to).filter(|_| !unspecified);
            }
            // The kernel chose the port.
            libc::SYS_getsockname => {
                let memory = ChunkMemory(&call.outs);
                let len = read_u32(&memory, b).unwrap_or(0);
                let now = bytes(&memory, a, len.into());
                let local = now.as_deref().and_then(|name| Address::of(name, cwd));
                self.local = local.or(self.local.take());
                self.bound = now.filter(|_| self.bound.is_some()).or(self.bound.take());
            }
            libc::SYS_shutdown => {
                self.shutdown |= match a as i32 {
                    libc::SHUT_RD => 1,
                    libc::SHUT_WR => 2,
                    _ => 3,
                };
            }
            libc::SYS_setsockopt => {
                let (level, name) = (a as i32, b as i32);
                let Some(value) = bytes(&ChunkMemory(&call.ins), c, d & 0xffff_ffff) else {
                    return;
                };
                self.options.retain(|o| (o.0, o.1) != (level, name));
                if self.options.len() < Socket::OPTIONS {
                    self.options.push((level, name, value));
                }
            }
            _ => {}
        }
    }
}

pub(super) fn bytes(memory: &dyn Memory, at: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len.min(MOST)).ok()?];
    (memory.read(at, &mut bytes) == bytes.len()).then_some(bytes)
}
