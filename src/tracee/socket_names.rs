//! The addresses of another process's sockets: getsockname(2), getpeername(2).

use super::spawn::borrow_fd;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// The addresses of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketNames {
    /// Its own: a `struct sockaddr`.
    pub local: Vec<u8>,
    /// That of the other end; empty where there is none.
    pub peer: Vec<u8>,
    /// The process that made the other end, for AF_UNIX; 0 where that is not known.
    pub peer_pid: i32,
}

/// The addresses of the socket that a process has as this descriptor; `None` where there is no such socket, it is not
/// one of AF_UNIX, AF_INET or AF_INET6, or the kernel does not let rrapper have it. `inode` is the socket's number, as
/// in `socket:[…]`.
pub fn socket_names(pid: i32, fd: i32, inode: Option<u64>) -> Option<SocketNames> {
    let socket = borrow_fd(pid, fd).ok()?;
    // A thread may have a table of descriptors of its own.
    if inode.is_some_and(|inode| socket.metadata().map(|meta| meta.ino()).ok() != Some(inode)) {
        return None;
    }
    let local = name(&socket, libc::getsockname)?;
    let family = local.first_chunk::<2>().map(|two| u16::from_ne_bytes(*two));
    let family = family.map(i32::from);
    if !matches!(family, Some(libc::AF_UNIX | libc::AF_INET | libc::AF_INET6)) {
        return None;
    }
    let peer = name(&socket, libc::getpeername).unwrap_or_default();
    let peer_pid = match family {
        Some(libc::AF_UNIX) if !peer.is_empty() => maker_of_peer(&socket),
        _ => 0,
    };
    Some(SocketNames {
        local,
        peer,
        peer_pid,
    })
}

type NameCall = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn name(socket: &File, call: NameCall) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; size_of::<libc::sockaddr_storage>()];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which are there, and the address's length to `len`. Any alignment
    // serves the kernel.
    let ret = unsafe { call(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    bytes.truncate(len as usize);
    (ret == 0).then_some(bytes)
}

fn maker_of_peer(socket: &File) -> i32 {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(socket, PeerCredentials).map_or(0, |peer| peer.pid())
}
