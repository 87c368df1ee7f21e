//! Connections of stream sockets, both ends of which are in the family: over the network of the sandbox as they were, with the
//! same addresses, and over a pair of sockets where they were local. What had been sent and not been received is in them.

use super::local_file::set_status;
use super::{Description, Peer, Peers, Prepared, Restorer, Result, words};
use crate::kernel::{Connection, Queue, Socket, sockaddr};
use crate::tracee::Error;
use crate::tracee::spawn::borrow_fd;
use std::collections::HashSet;
use std::fs::File;
use std::net::SocketAddr;

/// A descriptor in the process that makes the connections.
pub(super) type Fd = u64;

impl<'a> Restorer<'a, '_> {
    /// Makes the listening sockets and the connections of the family's processes.
    pub(super) fn make_connections(
        &mut self,
        all: &[Description<'a>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let sockets: Vec<&Description<'a>> =
            all.iter().filter(|one| one.stream.is_none()).collect();
        let is_end = |one: &&&Description<'a>| {
            let kernel = self.kernel.as_ref();
            kernel.is_some_and(|kernel| kernel.connection_number(one.id).is_some())
        };
        if sockets.iter().find(is_end).is_none() {
            return Ok(());
        }
        let Some(kernel) = self.kernel.clone() else {
            return Ok(());
        };
        // Of those that listen at one address, the kernel would choose any.
        let wanted: HashSet<u64> = sockets
            .iter()
            .filter_map(|one| kernel.listener(one.id))
            .collect();
        let (early, late): (Vec<&Description<'a>>, Vec<_>) = { sockets.iter() }
            .filter(|one| !prepared.contains_key(&one.id))
            .partition(|one| wanted.contains(&one.id));
        let mut listening = Vec::new();
        self.listen(&early, &mut listening)?;
        // Those that wait to be accepted are behind the others, each in its turn.
        let mut ends = sockets.clone();
        ends.sort_by_key(|one| {
            let order = kernel.connection(one.id).map_or(0, Connection::order);
            (kernel.awaits_acceptance(one.id), order)
        });
        for one in &ends {
            if !prepared.contains_key(&one.id) {
                self.make_connection(one, &sockets, &listening, prepared)?;
            }
        }
        self.listen(&late, &mut listening)?;
        let tid = self.remote.memory().tid();
        for (one, fd) in listening {
            if let Some(socket) = self.socket(one.id) {
                self.set_options(&socket, fd, is_deferred)?;
            }
            self.set_waits(fd, true)?;
            let file = self.take_out(fd)?;
            let set = set_status(&file, one.file.flags);
            set.map_err(|e| Error::os("make a socket of it listen", tid, e))?;
            prepared.insert(one.id, file);
        }
        Ok(())
    }

    /// Makes those of these sockets that listen.
    fn listen<'b>(
        &mut self,
        all: &[&'b Description<'a>],
        listening: &mut Vec<(&'b Description<'a>, Fd)>,
    ) -> Result<()> {
        for one in all {
            let socket = self.socket(one.id);
            let Some(mut socket) = socket.filter(|socket| socket.backlog.is_some()) else {
                continue;
            };
            socket
                .options
                .retain(|&(level, name, _)| !is_deferred(level, name));
            if let Some(fd) = self.new_socket(one, &socket)? {
                self.set_up(one, &socket, fd)?;
                self.set_waits(fd, false)?;
                listening.push((one, fd));
            }
        }
        Ok(())
    }

    /// Has calls on a socket wait, or not.
    fn set_waits(&mut self, fd: Fd, waits: bool) -> Result<()> {
        let status = if waits { 0 } else { libc::O_NONBLOCK };
        let args = [fd, libc::F_SETFL as u64, status as u64, 0, 0, 0];
        self.remote.call(libc::SYS_fcntl, args)?;
        Ok(())
    }

    /// Waits for a second until a socket is ready.
    fn is_ready(&mut self, fd: Fd, for_what: i16) -> Result<bool> {
        self.remote.reset_scratch();
        let asked = fd | (for_what as u64) << 32;
        let at = self.remote.put(&asked.to_le_bytes())?;
        let args = [at, 1, 1000, 0, 0, 0];
        Ok(self.remote.call(libc::SYS_poll, args)? == 1)
    }

    /// Makes the connection of which this is an end, and the other end is not somewhere else.
    fn make_connection(
        &mut self,
        one: &Description<'a>,
        all: &[&Description<'a>],
        listening: &[(&Description<'a>, Fd)],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let Some(kernel) = self.kernel.clone() else {
            return Ok(());
        };
        let Some(known) = kernel.connection(one.id) else {
            return Ok(());
        };
        let is_client = known.client == Some(one.id);
        let (client, server) = (known.client, known.server);
        let waits = kernel.awaits_acceptance(one.id);
        let other = if is_client { server } else { client };
        let other_end = other.and_then(|id| all.iter().find(|other| other.id == id));
        let listener = kernel.listener(one.id).filter(|_| is_client && waits);
        let listener = listening
            .iter()
            .find(|(one, _)| Some(one.id) == listener)
            .map(|&(_, fd)| fd);
        let mut is_played = false;
        if other_end.is_none() && listener.is_none() {
            // Its other end is nowhere in the recording, or has been closed since, or is in another process.
            is_played = match other {
                Some(other) => self.other_holder(|_, id| id == other)?.is_some(),
                None => true,
            };
            if is_played && self.common.peers == Peers::Reset {
                return Ok(());
            }
        }
        let Some(socket) = self.socket(one.id) else {
            return Ok(());
        };
        let [own, peer] = socket.addresses();
        let (from, to) = if is_client { (own, peer) } else { (peer, own) };
        if let (Some(listener), None) = (listener, other_end) {
            let Some(fd) = self.new_socket(one, &socket)? else {
                return Ok(());
            };
            self.set_options(&socket, fd, is_size)?;
            if !self.connect_to(fd, listener, (from, to))? {
                self.report_lost(one, "it cannot be connected again");
                self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
                return Ok(());
            }
            let sent = kernel.sent_early(one.id).cloned().unwrap_or_default();
            self.put_sent(one, &sent, fd)?;
            return self.finish_end(one, &socket, fd, prepared);
        }
        let listener = kernel.listener(one.id);
        let listener = listening
            .iter()
            .find(|(one, _)| Some(one.id) == listener)
            .map(|&(_, fd)| fd);
        let pair = match (from, to) {
            (Some(from), Some(to)) => {
                let kept = other.and_then(|other| self.socket(other));
                let ends = match is_client {
                    true => (Some(socket.clone()), kept),
                    false => (kept, Some(socket.clone())),
                };
                self.network_pair(one, ends, (from, to), listener)?
            }
            _ => match (listener, socket.kind.0) {
                (Some(listener), libc::AF_UNIX) => self.unix_pair(one, &socket, listener)?,
                _ => self.local_pair(&socket)?,
            },
        };
        let Some((client_end, server_end)) = pair else {
            self.report_lost(one, "its connection cannot be made again: it is reset");
            return Ok(());
        };
        let (mine, theirs) = match is_client {
            true => (client_end, server_end),
            false => (server_end, client_end),
        };
        self.put_sent(one, &kernel.received(one.id), theirs)?;
        match other_end {
            Some(other) => {
                self.put_sent(other, &kernel.received(other.id), mine)?;
                if let Some(socket) = self.socket(other.id) {
                    self.finish_end(other, &socket, theirs, prepared)?;
                }
            }
            None if is_played && self.common.peers != Peers::Closed => {
                let theirs = self.take_out(theirs)?;
                let fail = |e| Error::os("play the other end of a connection of it", one.fd, e);
                set_status(&theirs, libc::O_NONBLOCK).map_err(fail)?;
                self.common.played.push(Peer {
                    pid: self.state.pid,
                    fd: one.fd,
                    address: peer,
                    file: theirs,
                });
            }
            None => _ = self.remote.call(libc::SYS_close, [theirs, 0, 0, 0, 0, 0])?,
        }
        self.finish_end(one, &socket, mine, prepared)
    }

    /// Sends what an end had been sent.
    fn put_sent(&mut self, to: &Description<'a>, queue: &Queue, from: Fd) -> Result<()> {
        if queue.is_empty() && !queue.incomplete {
            return Ok(());
        }
        let tid = self.remote.memory().tid();
        let from = borrow_fd(tid, from as i32)?;
        let whole = self
            .refill_socket(queue, &from)
            .map_err(|e| Error::os("fill a socket of it", tid, e))?;
        if !whole {
            self.report_lost(to, "not all that was in it is known");
        }
        Ok(())
    }

    /// Gives an end its options and status. Some of these say what becomes of data that are sent.
    fn finish_end(
        &mut self,
        one: &Description<'a>,
        socket: &Socket,
        fd: Fd,
        prepared: &mut Prepared,
    ) -> Result<()> {
        self.set_options(socket, fd, |_, _| true)?;
        self.set_waits(fd, true)?;
        let file = self.take_out(fd)?;
        let tid = self.remote.memory().tid();
        let fail = |e| Error::os("make a connection for it", tid, e);
        self.shut_down_later(socket, &file).map_err(fail)?;
        set_status(&file, one.file.flags).map_err(fail)?;
        prepared.insert(one.id, file);
        Ok(())
    }

    /// Takes a descriptor out of the process.
    pub(super) fn take_out(&mut self, fd: Fd) -> Result<File> {
        let file = borrow_fd(self.remote.memory().tid(), fd as i32)?;
        self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        Ok(file)
    }

    /// A pair of sockets of this kind.
    fn local_pair(&mut self, socket: &Socket) -> Result<Option<(Fd, Fd)>> {
        self.remote.reset_scratch();
        let ends = self.remote.put(&[0; 8])?;
        let kind = socket.kind.1 as u64;
        let args = [libc::AF_UNIX as u64, kind, 0, ends, 0, 0];
        if self.remote.call(libc::SYS_socketpair, args)? < 0 {
            return Ok(None);
        }
        let both = self.remote.memory().word(ends)?;
        Ok(Some((both & 0xffff_ffff, both >> 32)))
    }

    /// A connection to a socket that listens locally, which has its address.
    fn unix_pair(
        &mut self,
        one: &Description<'a>,
        socket: &Socket,
        listener: Fd,
    ) -> Result<Option<(Fd, Fd)>> {
        let Some(client) = self.new_socket(one, socket)? else {
            return Ok(None);
        };
        if let Some(server) = self.connect_and_accept(client, listener, (None, None))? {
            return Ok(Some((client, server)));
        }
        self.remote.call(libc::SYS_close, [client, 0, 0, 0, 0, 0])?;
        self.local_pair(socket)
    }

    /// Connects a socket to a listening one, and accepts that.
    fn connect_and_accept(
        &mut self,
        client: Fd,
        listener: Fd,
        addresses: (Option<SocketAddr>, Option<SocketAddr>),
    ) -> Result<Option<Fd>> {
        if !self.connect_to(client, listener, addresses)?
            || !self.is_ready(client, libc::POLLOUT)?
            || !self.is_ready(listener, libc::POLLIN)?
        {
            return Ok(None);
        }
        let accepted = self
            .remote
            .call(libc::SYS_accept, [listener, 0, 0, 0, 0, 0])?;
        Ok(u64::try_from(accepted).ok())
    }

    /// A connection over the network between these addresses, the client's first.
    fn network_pair(
        &mut self,
        one: &Description<'a>,
        (client_socket, server_socket): (Option<Socket>, Option<Socket>),
        (from, to): (SocketAddr, SocketAddr),
        listener: Option<Fd>,
    ) -> Result<Option<(Fd, Fd)>> {
        let Some(socket) = client_socket.as_ref().or(server_socket.as_ref()) else {
            return Ok(None);
        };
        let Some(client) = self.new_socket(one, socket)? else {
            return Ok(None);
        };
        let mut open = vec![client];
        let listens = match listener {
            Some(listener) => Some(listener),
            None => {
                let made = self.new_socket(one, socket)?;
                open.extend(made);
                match made {
                    Some(made) if self.listen_at(made, to)? => Some(made),
                    _ => None,
                }
            }
        };
        let accepted = match listens {
            Some(listens) => self.connect_and_accept(client, listens, (Some(from), Some(to)))?,
            None => None,
        };
        if let Some(accepted) = accepted {
            open.retain(|&fd| fd != client);
            for (socket, fd) in [(&client_socket, client), (&server_socket, accepted)] {
                if let Some(socket) = socket {
                    self.set_options(socket, fd, is_size)?;
                }
            }
        }
        let pair = accepted.map(|accepted| (client, accepted));
        for fd in open {
            self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        Ok(pair)
    }

    fn listen_at(&mut self, fd: Fd, at: SocketAddr) -> Result<bool> {
        self.may_reuse(fd)?;
        // Without an address, as where there is none of that network, the kernel gives it one.
        self.address(libc::SYS_bind, fd, &sockaddr(at))?;
        let args = [fd, 1, 0, 0, 0, 0];
        Ok(self.remote.call(libc::SYS_listen, args)? >= 0)
    }

    /// Lets a socket have an address at which a connection was.
    fn may_reuse(&mut self, fd: Fd) -> Result<()> {
        self.remote.reset_scratch();
        let on = self.remote.put(&words(&[1]))?;
        let (level, option) = (libc::SOL_SOCKET as u64, libc::SO_REUSEADDR as u64);
        let args = [fd, level, option, on, 4, 0];
        self.remote.call(libc::SYS_setsockopt, args)?;
        Ok(())
    }

    /// Connects a socket to a listening one; returns whether that succeeded, or is under way, as where its backlog is full.
    fn connect_to(
        &mut self,
        fd: Fd,
        listener: Fd,
        (from, to): (Option<SocketAddr>, Option<SocketAddr>),
    ) -> Result<bool> {
        self.set_waits(fd, false)?;
        self.set_waits(listener, false)?;
        let is_made = |ret: i64| ret >= 0 || ret == -i64::from(libc::EINPROGRESS);
        if let Some(from) = from {
            self.may_reuse(fd)?;
            // Fails where the address is not there in the sandbox: it gets another one.
            self.address(libc::SYS_bind, fd, &sockaddr(from))?;
        }
        if let Some(to) = to
            && is_made(self.address(libc::SYS_connect, fd, &sockaddr(to))?)
        {
            return Ok(true);
        }
        // It listens at another address here.
        self.remote.reset_scratch();
        let at = self.remote.put(&[0; 128])?;
        let len = self.remote.put(&words(&[128]))?;
        let args = [listener, at, len, 0, 0, 0];
        if self.remote.call(libc::SYS_getsockname, args)? < 0 {
            return Ok(false);
        }
        let len = self.remote.memory().word(len)? & 0xffff_ffff;
        let args = [fd, at, len.min(128), 0, 0, 0];
        Ok(is_made(self.remote.call(libc::SYS_connect, args)?))
    }
}

/// Whether an option has a listening socket keep connections until there are data.
fn is_deferred(level: i32, name: i32) -> bool {
    level == libc::IPPROTO_TCP && name == libc::TCP_DEFER_ACCEPT
}

/// Whether an option says how many data there is room for.
fn is_size(level: i32, name: i32) -> bool {
    let sizes = [
        libc::SO_RCVBUF,
        libc::SO_SNDBUF,
        libc::SO_RCVBUFFORCE,
        libc::SO_SNDBUFFORCE,
    ];
    level == libc::SOL_SOCKET && sizes.contains(&name)
}
