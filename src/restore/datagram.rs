//! Datagram sockets other than pairs, with the datagrams on their way: each is sent once more, by the socket that sent it or by
//! one with the address of that.

use super::connection::Fd;
use super::local_file::set_status;
use super::socket::{shown, shut_down, unix_address};
use super::{Description, Prepared, Restorer, Result, words};
use crate::kernel::{Part, Socket};
use crate::tracee::Error;
use std::collections::HashMap;

/// A socket that is being made.
struct Made<'d, 'a> {
    description: &'d Description<'a>,
    socket: Socket,
    fd: Fd,
}

/// Whether it sends to addresses, of which others know.
fn has_address(socket: &Socket) -> bool {
    let (domain, kind, _) = socket.kind;
    let is_known = matches!(domain, libc::AF_UNIX | libc::AF_INET | libc::AF_INET6);
    is_known && kind == libc::SOCK_DGRAM && socket.peer.is_none()
}

impl<'a> Restorer<'a, '_> {
    /// Makes the datagram sockets of the family's processes.
    pub(super) fn make_datagram_sockets(
        &mut self,
        all: &[Description<'a>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let mut made: Vec<Made<'_, 'a>> = Vec::new();
        for description in all.iter().filter(|one| one.stream.is_none()) {
            let socket = self.socket(description.id).filter(has_address);
            let Some(socket) = socket.filter(|_| !prepared.contains_key(&description.id)) else {
                continue;
            };
            let Some(fd) = self.new_socket(description, &socket)? else {
                continue;
            };
            self.set_options(&socket, fd, |_, _| true)?;
            if !self.bind_again(&socket, fd)?
                && let Some(address) = &socket.bound
            {
                let to = shown(address).unwrap_or_else(|| "its address".into());
                self.report_lost(description, &format!("it cannot be bound to {to} again"));
            }
            made.push(Made {
                description,
                socket,
                fd,
            });
        }
        // One that is connected gets from its peer alone, but has what others sent before.
        self.send_again(&made)?;
        let tid = self.remote.memory().tid();
        for Made {
            description,
            socket,
            fd,
        } in made
        {
            if let Some(to) = socket.peer_address()
                && self.address(libc::SYS_connect, fd, &to)? < 0
            {
                let to = shown(&to).unwrap_or_else(|| "what it was connected to".into());
                self.report_lost(description, &format!("{to} is not there"));
            }
            let file = self.take_out(fd)?;
            // One that is not connected is shut down all the same, and says that it is not connected.
            _ = shut_down(&socket, &file);
            let set = set_status(&file, description.file.flags);
            set.map_err(|e| Error::os("make a socket for it", tid, e))?;
            prepared.insert(description.id, file);
        }
        Ok(())
    }

    /// Sends the datagrams that were on their way.
    fn send_again(&mut self, made: &[Made<'_, 'a>]) -> Result<()> {
        let mut senders: HashMap<u64, Fd> = made
            .iter()
            .map(|one| (one.description.id, one.fd))
            .collect();
        let mut closed = Vec::new();
        for to in made {
            let mut is_whole = !to.socket.received.incomplete;
            for message in to.socket.received.parts() {
                let known = message.from.and_then(|from| senders.get(&from)).copied();
                let sender = match known {
                    Some(fd) => Some(fd),
                    None => self.sender_of(to, message)?,
                };
                let Some(fd) = sender else {
                    is_whole = false;
                    continue;
                };
                if known.is_none() {
                    closed.push(fd);
                    senders.extend(message.from.map(|from| (from, fd)));
                }
                is_whole &= self.send_datagram(fd, to, &message.data)? && message.passed.is_empty();
            }
            if !is_whole {
                self.report_lost(to.description, "not all that was sent to it is known");
            }
        }
        for fd in closed {
            self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    /// A socket with the address of the one that sent a message, and that nobody has any more.
    fn sender_of(&mut self, to: &Made<'_, 'a>, message: &Part) -> Result<Option<Fd>> {
        let Some(socket) = message.from.and_then(|from| self.socket(from)) else {
            return Ok(None);
        };
        let Some(fd) = self.new_socket(to.description, &socket)? else {
            return Ok(None);
        };
        self.set_options(&socket, fd, |_, _| true)?;
        // A process on its own may not be in a sandbox: it leaves the paths as they are.
        if self.common.kernel.is_none() && socket.path().is_some() {
            return Ok(Some(fd));
        }
        // The file of the earlier socket may be there, and then a file stays there.
        let had_file = self.unlink(&socket)?;
        self.bind_again(&socket, fd)?;
        if !had_file {
            self.unlink(&socket)?;
        }
        Ok(Some(fd))
    }

    /// Removes the file to which a socket was bound; returns whether there was one.
    fn unlink(&mut self, socket: &Socket) -> Result<bool> {
        let Some(path) = socket.path() else {
            return Ok(false);
        };
        self.remote.reset_scratch();
        let at = self.remote.put_str(path)?;
        Ok(self.remote.call(libc::SYS_unlink, [at, 0, 0, 0, 0, 0])? >= 0)
    }

    /// Gives a socket the address that it had, in which a path may be relative; returns whether it has got that.
    fn bind_again(&mut self, socket: &Socket, fd: Fd) -> Result<bool> {
        let Some(address) = socket.own_address() else {
            return Ok(true);
        };
        if socket.path().is_none() {
            return self.bind(fd, &address);
        }
        self.remote.reset_scratch();
        let here = self.remote.put_str(b".")?;
        let there = self.remote.put_str(&socket.bound_from)?;
        let how = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        let open = [libc::AT_FDCWD as u64, here, how, 0, 0, 0];
        let Ok(back) = u64::try_from(self.remote.call(libc::SYS_openat, open)?) else {
            return self.bind(fd, &address);
        };
        self.remote.call(libc::SYS_chdir, [there, 0, 0, 0, 0, 0])?;
        let is_bound = self.bind(fd, &address)?;
        let what = "return to its directory";
        self.remote
            .must(what, libc::SYS_fchdir, [back, 0, 0, 0, 0, 0])?;
        self.remote.call(libc::SYS_close, [back, 0, 0, 0, 0, 0])?;
        Ok(is_bound)
    }

    /// Sends a datagram to a socket that is not connected yet; returns whether it arrived there.
    fn send_datagram(&mut self, fd: Fd, to: &Made<'_, 'a>, data: &[u8]) -> Result<bool> {
        let len = data.len() as u64;
        let how = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        // An empty mapping is none.
        let room = len.max(1);
        let args = [0, room, how, flags, u64::MAX, 0];
        let place = self.remote.must("make room in it", libc::SYS_mmap, args)?;
        self.remote.memory().write(place, data)?;
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
        let mut sent = -1;
        if let Some(address) = to.socket.path().and_then(unix_address) {
            self.remote.reset_scratch();
            let name = self.remote.put(&address)?;
            let args = [fd, place, len, flags, name, address.len() as u64];
            sent = self.remote.call(libc::SYS_sendto, args)?;
        }
        if sent < 0 {
            self.remote.reset_scratch();
            let name = self.remote.put(&[0; 128])?;
            let name_len = self.remote.put(&words(&[128]))?;
            let ask = [to.fd, name, name_len, 0, 0, 0];
            self.remote.call(libc::SYS_getsockname, ask)?;
            let name_len = self.remote.memory().word(name_len)? & 0xffff_ffff;
            let args = [fd, place, len, flags, name, name_len.min(128)];
            sent = self.remote.call(libc::SYS_sendto, args)?;
        }
        self.remote
            .call(libc::SYS_munmap, [place, room, 0, 0, 0, 0])?;
        Ok(sent == len as i64)
    }
}
