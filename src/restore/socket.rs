//! socket(2): sockets are made in the process, so that they belong to its network namespace; pairs of socketpair(2)
//! with the data in them are passed to it.

use super::local_file::{as_file, set_status};
use super::{Description, Prepared, Restorer, Result, words};
use crate::kernel::{Object, Socket};
use crate::tracee::Error;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

const INET: u16 = libc::AF_INET as u16;
const INET6: u16 = libc::AF_INET6 as u16;

/// The bytes of the host in an address: `struct sockaddr_in`, `struct sockaddr_in6`.
fn host(address: &[u8]) -> Option<std::ops::Range<usize>> {
    match family(address)? {
        INET => Some(4..8),
        INET6 => Some(8..24),
        _ => None,
    }
    .filter(|range| range.end <= address.len())
}

fn family(address: &[u8]) -> Option<u16> {
    let bytes = address.get(..2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// The address of a socket with this path; `None` where that is too long.
pub(super) fn unix_address(path: &[u8]) -> Option<Vec<u8>> {
    const MOST: usize = 107;
    let family = (libc::AF_UNIX as u16).to_ne_bytes();
    (path.len() <= MOST).then(|| [&family[..], path, &[0]].concat())
}

/// An internet address as text.
pub(super) fn shown(address: &[u8]) -> Option<String> {
    let host = address.get(host(address)?)?;
    let port = u16::from_be_bytes([address[2], address[3]]);
    let ip = match <[u8; 4]>::try_from(host) {
        Ok(ip) => Ipv4Addr::from(ip).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(host).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port).to_string())
}

impl Restorer<'_, '_> {
    /// Makes all pairs of sockets of which the process has an end.
    pub(super) fn make_socket_pairs(
        &mut self,
        descriptions: &[Description<'_>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make a pair of sockets for it", tid, e);
        for description in descriptions.iter().filter(|d| d.stream.is_none()) {
            let id = description.id;
            let Some(socket) = self.socket(id).filter(|_| !prepared.contains_key(&id)) else {
                continue;
            };
            let Some(peer) = socket.peer else { continue };
            let other = descriptions
                .iter()
                .find(|other| other.id == peer && other.stream.is_none());
            let other_socket = other.and_then(|other| self.socket(other.id));
            let (one, two) = pair(&socket).map_err(fail)?;
            let mut whole = self.refill_socket(&socket.received, &two).map_err(fail)?;
            if let Some(other) = &other_socket {
                whole &= self.refill_socket(&other.received, &one).map_err(fail)?;
                self.shut_down_later(other, &two).map_err(fail)?;
            }
            if !whole {
                self.report_lost(description, "not all that was in it is known");
            }
            self.shut_down_later(&socket, &one).map_err(fail)?;
            set_status(&one, description.file.flags).map_err(fail)?;
            prepared.insert(id, one);
            match other {
                Some(other) => {
                    set_status(&two, other.file.flags).map_err(fail)?;
                    prepared.insert(other.id, two);
                }
                None => {
                    if let Some(pid) = self.other_holder(|_, id| id == peer)? {
                        let why = format!("process {pid}, which had its other end, is not there");
                        self.report_lost(description, &why);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn socket(&self, id: u64) -> Option<Socket> {
        match self.kernel.as_ref()?.object(id)? {
            Object::Socket(socket) => Some((**socket).clone()),
            _ => None,
        }
    }

    /// Makes a socket in the process: unconnected, or reset by its other end.
    pub(super) fn make_socket(&mut self, description: &Description<'_>) -> Result<()> {
        let Some(socket) = self.socket(description.id) else {
            self.report_lost(description, "its other end is not there");
            let got = self.reset(libc::AF_UNIX)?;
            return self.install_reset(description, got);
        };
        let connects = socket.kind.1 != libc::SOCK_DGRAM && socket.kind.0 != libc::AF_NETLINK;
        if let Some(to) = socket.connected.as_ref().filter(|_| connects) {
            let whom = shown(to).map_or_else(
                || "its other end".into(),
                |to| format!("{to}, which it is connected to,"),
            );
            self.report_lost(description, &format!("{whom} is not there: it is reset"));
            let got = self.reset(socket.kind.0)?;
            return self.install_reset(description, got);
        }
        let Some(got) = self.new_socket(description, &socket)? else {
            return self.install_broken(description);
        };
        let status = description.file.flags & libc::O_NONBLOCK;
        self.set_up(description, &socket, got)?;
        if status != 0 {
            let args = [got, libc::F_SETFL as u64, status as u64, 0, 0, 0];
            self.remote.call(libc::SYS_fcntl, args)?;
        }
        self.install(got, description)
    }

    /// Makes a socket of the same kind; `None`, which is reported, where that is impossible.
    pub(super) fn new_socket(
        &mut self,
        description: &Description<'_>,
        socket: &Socket,
    ) -> Result<Option<u64>> {
        let (domain, kind, protocol) = socket.kind;
        let args = [domain as u64, kind as u64, protocol as u64, 0, 0, 0];
        let got = self.remote.call(libc::SYS_socket, args)?;
        let Ok(got) = u64::try_from(got) else {
            let why = std::io::Error::from_raw_os_error(-got as i32);
            self.report_lost(description, &format!("such a socket cannot be made: {why}"));
            return Ok(None);
        };
        Ok(Some(got))
    }

    fn install_reset(&mut self, description: &Description<'_>, got: u64) -> Result<()> {
        let status = description.file.flags & libc::O_NONBLOCK;
        if status != 0 {
            let args = [got, libc::F_SETFL as u64, status as u64, 0, 0, 0];
            self.remote.call(libc::SYS_fcntl, args)?;
        }
        self.install(got, description)
    }

    /// Sets a socket's options, binds it, and has it listen or connect.
    pub(super) fn set_up(
        &mut self,
        description: &Description<'_>,
        socket: &Socket,
        fd: u64,
    ) -> Result<()> {
        self.set_options(socket, fd, |_, _| true)?;
        // The process may have changed its directory since.
        let path = socket.path().and_then(unix_address);
        if let Some(address) = path.as_ref().or(socket.bound.as_ref())
            && !self.bind(fd, address)?
        {
            let to = shown(address).unwrap_or_else(|| "its address".into());
            self.report_lost(description, &format!("it cannot be bound to {to} again"));
        }
        if let Some(backlog) = socket.backlog {
            let args = [fd, backlog as u64, 0, 0, 0, 0];
            if self.remote.call(libc::SYS_listen, args)? < 0 {
                self.report_lost(description, "it cannot listen again");
            }
        }
        if let Some(to) = &socket.connected
            && self.address(libc::SYS_connect, fd, to)? < 0
        {
            let to = shown(to).unwrap_or_else(|| "what it was connected to".into());
            self.report_lost(description, &format!("{to} is not there"));
        }
        Ok(())
    }

    /// Sets those of a socket's options that are meant, by level and name.
    pub(super) fn set_options(
        &mut self,
        socket: &Socket,
        fd: u64,
        is_meant: impl Fn(i32, i32) -> bool,
    ) -> Result<()> {
        let all = socket.options.iter();
        for (level, name, value) in all.filter(|(level, name, _)| is_meant(*level, *name)) {
            self.remote.reset_scratch();
            let at = self.remote.put(value)?;
            let args = [fd, *level as u64, *name as u64, at, value.len() as u64, 0];
            self.remote.call(libc::SYS_setsockopt, args)?;
        }
        Ok(())
    }

    pub(super) fn address(&mut self, call: i64, fd: u64, address: &[u8]) -> Result<i64> {
        self.remote.reset_scratch();
        let at = self.remote.put(address)?;
        let args = [fd, at, address.len() as u64, 0, 0, 0];
        Ok(self.remote.call(call, args)?)
    }

    pub(super) fn bind(&mut self, fd: u64, address: &[u8]) -> Result<bool> {
        if self.address(libc::SYS_bind, fd, address)? >= 0 {
            return Ok(true);
        }
        // The address may not exist in this network namespace, and a path may be the old socket's.
        let mut other = address.to_vec();
        match host(address) {
            Some(host) => other[host].fill(0),
            None if family(address) == Some(libc::AF_UNIX as u16) => other.truncate(2),
            None => return Ok(false),
        }
        Ok(self.address(libc::SYS_bind, fd, &other)? >= 0)
    }

    /// Makes a connection that its other end has reset.
    fn reset(&mut self, domain: i32) -> Result<u64> {
        if matches!(domain, libc::AF_INET | libc::AF_INET6)
            && let Some(got) = self.reset_tcp(domain)?
        {
            return Ok(got);
        }
        // An end that is closed with unread data resets the other.
        self.remote.reset_scratch();
        let ends = self.remote.put(&[0; 8])?;
        let args = [
            libc::AF_UNIX as u64,
            libc::SOCK_STREAM as u64,
            0,
            ends,
            0,
            0,
        ];
        let what = "make a pair of sockets in it";
        self.remote.must(what, libc::SYS_socketpair, args)?;
        let both = self.remote.memory().word(ends)?;
        let (keep, close) = (both & 0xffff_ffff, both >> 32);
        self.remote
            .call(libc::SYS_write, [keep, ends, 1, 0, 0, 0])?;
        self.remote.call(libc::SYS_close, [close, 0, 0, 0, 0, 0])?;
        Ok(keep)
    }

    /// Makes a connection over the loopback of the process's network namespace and resets it; `None` where there is
    /// no loopback.
    fn reset_tcp(&mut self, domain: i32) -> Result<Option<u64>> {
        let mut address = vec![0; if domain == libc::AF_INET { 16 } else { 28 }];
        address[..2].copy_from_slice(&(domain as u16).to_ne_bytes());
        match domain {
            libc::AF_INET => address[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets()),
            _ => address[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()),
        }
        let kind = libc::SOCK_STREAM as u64;
        let socket = [domain as u64, kind, 0, 0, 0, 0];
        let mut open = Vec::new();
        let connected = 'made: {
            for _ in 0..2 {
                let got = self.remote.call(libc::SYS_socket, socket)?;
                match u64::try_from(got) {
                    Ok(fd) => open.push(fd),
                    Err(_) => break 'made None,
                }
            }
            let [listens, connects] = open[..] else {
                break 'made None;
            };
            if self.address(libc::SYS_bind, listens, &address)? < 0
                || self
                    .remote
                    .call(libc::SYS_listen, [listens, 1, 0, 0, 0, 0])?
                    < 0
            {
                break 'made None;
            }
            self.remote.reset_scratch();
            let at = self.remote.put(&address)?;
            let len = self.remote.put(&words(&[address.len() as u64]))?;
            let args = [listens, at, len, 0, 0, 0];
            if self.remote.call(libc::SYS_getsockname, args)? < 0
                || self.remote.call(
                    libc::SYS_connect,
                    [connects, at, address.len() as u64, 0, 0, 0],
                )? < 0
            {
                break 'made None;
            }
            let got = self
                .remote
                .call(libc::SYS_accept, [listens, 0, 0, 0, 0, 0])?;
            let Ok(accepted) = u64::try_from(got) else {
                break 'made None;
            };
            open.push(accepted);
            // struct linger: on, with a time of 0, so that close(2) resets the connection.
            let linger = self.remote.put(&words(&[1]))?;
            let level = libc::SOL_SOCKET as u64;
            let args = [accepted, level, libc::SO_LINGER as u64, linger, 8, 0];
            self.remote.call(libc::SYS_setsockopt, args)?;
            Some(connects)
        };
        for fd in open.into_iter().rev().filter(|&fd| Some(fd) != connected) {
            self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        Ok(connected)
    }
}

/// Makes a pair of sockets of the same type.
fn pair(socket: &Socket) -> io::Result<(File, File)> {
    let kind = match socket.kind.1 {
        libc::SOCK_DGRAM => SockType::Datagram,
        libc::SOCK_SEQPACKET => SockType::SeqPacket,
        _ => SockType::Stream,
    };
    let (one, two) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((as_file(one), as_file(two)))
}

/// Shuts down the directions that the socket had shut down.
pub(super) fn shut_down(socket: &Socket, file: &File) -> io::Result<()> {
    let how = match socket.shutdown {
        0 => return Ok(()),
        1 => Shutdown::Read,
        2 => Shutdown::Write,
        _ => Shutdown::Both,
    };
    Ok(shutdown(file.as_raw_fd(), how)?)
}
