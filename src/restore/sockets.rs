//! Sockets that are made in the process, so that they belong to its network.

use super::gifts::words;
use super::{Group, Result, Work};
use crate::kernel::Socket;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const INET: u16 = libc::AF_INET as u16;
const INET6: u16 = libc::AF_INET6 as u16;

/// Where an address has its port and its host: `struct sockaddr_in`, `struct sockaddr_in6`.
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

/// An address in words, where it has any.
fn shown(address: &[u8]) -> Option<String> {
    let host = address.get(host(address)?)?;
    let port = u16::from_be_bytes([address[2], address[3]]);
    let ip = match <[u8; 4]>::try_from(host) {
        Ok(ip) => Ipv4Addr::from(ip).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(host).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port).to_string())
}

impl Work<'_> {
    pub(super) fn make_socket(&mut self, group: &Group<'_>) -> Result<()> {
        let Some(socket) = self.socket(group.id) else {
            self.lost(group, "its other end is not there");
            let got = self.reset(libc::AF_UNIX)?;
            return self.place_broken(group, got);
        };
        let connects = socket.kind.1 != libc::SOCK_DGRAM && socket.kind.0 != libc::AF_NETLINK;
        if let Some(to) = socket.connected.as_ref().filter(|_| connects) {
            let whom = shown(to).map_or_else(
                || "its other end".into(),
                |to| format!("{to}, which it is connected to,"),
            );
            self.lost(group, &format!("{whom} is not there: it is reset"));
            let got = self.reset(socket.kind.0)?;
            return self.place_broken(group, got);
        }
        let nonblocking = group.file.flags & libc::O_NONBLOCK;
        let (domain, kind, protocol) = socket.kind;
        let kind = (kind | nonblocking) as u64;
        let args = [domain as u64, kind, protocol as u64, 0, 0, 0];
        let got = self.remote.call(libc::SYS_socket, args)?;
        let Ok(got) = u64::try_from(got) else {
            let why = std::io::Error::from_raw_os_error(-got as i32);
            self.lost(group, &format!("such a socket cannot be made: {why}"));
            return self.break_file(group);
        };
        self.set_up(group, &socket, got)?;
        self.place(got, group)
    }

    fn place_broken(&mut self, group: &Group<'_>, got: u64) -> Result<()> {
        let status = group.file.flags & libc::O_NONBLOCK;
        if status != 0 {
            let args = [got, libc::F_SETFL as u64, status as u64, 0, 0, 0];
            self.remote.call(libc::SYS_fcntl, args)?;
        }
        self.place(got, group)
    }

    /// Options, addresses, listening.
    fn set_up(&mut self, group: &Group<'_>, socket: &Socket, fd: u64) -> Result<()> {
        for (level, name, value) in &socket.options {
            self.remote.reset_scratch();
            let at = self.remote.put(value)?;
            let args = [fd, *level as u64, *name as u64, at, value.len() as u64, 0];
            self.remote.call(libc::SYS_setsockopt, args)?;
        }
        if let Some(address) = &socket.bound
            && !self.bind(fd, address)?
        {
            let to = shown(address).unwrap_or_else(|| "its address".into());
            self.lost(group, &format!("it cannot be bound to {to} again"));
        }
        if let Some(backlog) = socket.listens {
            let args = [fd, backlog as u64, 0, 0, 0, 0];
            if self.remote.call(libc::SYS_listen, args)? < 0 {
                self.lost(group, "it cannot listen again");
            }
        }
        if let Some(to) = &socket.connected
            && self.address(libc::SYS_connect, fd, to)? < 0
        {
            let to = shown(to).unwrap_or_else(|| "what it was connected to".into());
            self.lost(group, &format!("{to} is not there"));
        }
        Ok(())
    }

    fn address(&mut self, call: i64, fd: u64, address: &[u8]) -> Result<i64> {
        self.remote.reset_scratch();
        let at = self.remote.put(address)?;
        let args = [fd, at, address.len() as u64, 0, 0, 0];
        Ok(self.remote.call(call, args)?)
    }

    fn bind(&mut self, fd: u64, address: &[u8]) -> Result<bool> {
        if self.address(libc::SYS_bind, fd, address)? >= 0 {
            return Ok(true);
        }
        // A host that is not there is none of this network's; a name that is taken is the socket's own.
        let mut other = address.to_vec();
        match host(address) {
            Some(host) => other[host].fill(0),
            None if family(address) == Some(libc::AF_UNIX as u16) => other.truncate(2),
            None => return Ok(false),
        }
        Ok(self.address(libc::SYS_bind, fd, &other)? >= 0)
    }

    /// A connection that its other end has reset.
    fn reset(&mut self, domain: i32) -> Result<u64> {
        if matches!(domain, libc::AF_INET | libc::AF_INET6)
            && let Some(got) = self.reset_tcp(domain)?
        {
            return Ok(got);
        }
        // Whose other end is closed with something that it has not read.
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

    /// A connection over its own loopback; `None` where it has none.
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
            // struct linger: on, no time.
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
