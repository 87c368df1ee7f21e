//! The other ends of connections that nobody has: who plays their part, and what they say.

use super::engine::Engine;
use super::servers::LiveServer;
use crate::inject::hook::{PeerData, ServerData};
use crate::inject::{Error, Result};
use crate::restore::{Peer, Peers};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// The most bytes that are read of one end at a time, and that wait to be sent.
const MOST: usize = 1 << 20;

/// The bytes of one read(2) of an end.
const PART: usize = 64 << 10;

/// The other ends of connections, and the servers that accept more of them.
#[derive(Default)]
pub(in crate::inject) struct LivePeers {
    all: Vec<LivePeer>,
    pub(super) servers: Vec<LiveServer>,
    /// The number of connections that servers have accepted.
    pub(super) accepted: u64,
    /// What is read goes here first.
    buffer: Vec<u8>,
}

struct LivePeer {
    whose: Whose,
    how: Peers,
    /// The end, which never blocks.
    file: File,
    /// What it has said and nobody has taken yet.
    says: VecDeque<u8>,
}

/// Whose part is played at an end.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// That of somebody with whom a process was connected when it went live: its recorded pid, its descriptor, and the address of
    /// the end.
    Recorded(i32, i32, Option<SocketAddr>),
    /// A server's, by its number among those of the hooks; and the number of the connection.
    Server(usize, u64),
}

impl LivePeers {
    /// These, which do that, and servers.
    pub fn new(all: Vec<Peer>, how: Peers, servers: Vec<LiveServer>) -> LivePeers {
        let mut this = LivePeers {
            servers,
            ..LivePeers::default()
        };
        for peer in all {
            let whose = Whose::Recorded(peer.pid, peer.fd, peer.address);
            this.all.push(LivePeer::new(whose, how, peer.file));
        }
        this
    }

    /// The number of ends.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is one that reads, or a server.
    pub fn are_busy(&self) -> bool {
        !self.servers.is_empty() || self.all.iter().any(LivePeer::reads)
    }
}

impl LivePeer {
    fn new(whose: Whose, how: Peers, file: File) -> LivePeer {
        LivePeer {
            whose,
            how,
            file,
            says: VecDeque::new(),
        }
    }

    fn reads(&self) -> bool {
        matches!(self.how, Peers::Drain | Peers::Answer)
    }

    /// What has come since, without waiting; `None` where nothing comes any more.
    fn read(&mut self, part: &mut [u8]) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        while data.len() < MOST {
            match self.file.read(part) {
                Ok(0) if data.is_empty() => return None,
                Ok(0) => break,
                Ok(n) => data.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if data.is_empty() => return None,
                Err(_) => break,
            }
        }
        Some(data)
    }

    fn write(&mut self) {
        while !self.says.is_empty() {
            let (first, _) = self.says.as_slices();
            match self.file.write(first) {
                Ok(n) => _ = self.says.drain(..n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody takes it any more.
                Err(_) => self.says.clear(),
            }
        }
    }
}

impl Engine<'_> {
    /// Has those that read do so, and answer; and servers accept connections.
    pub(super) fn serve_peers(&mut self) -> Result<()> {
        if !self.peers.are_busy() {
            return Ok(());
        }
        self.accept()?;
        let mut buffer = std::mem::take(&mut self.peers.buffer);
        buffer.resize(PART, 0);
        let mut kept = Vec::new();
        for mut one in std::mem::take(&mut self.peers.all) {
            if !one.reads() {
                kept.push(one);
                continue;
            }
            one.write();
            let data = match one.read(&mut buffer) {
                Some(data) => data,
                // What it says is still to be taken.
                None if !one.says.is_empty() => Vec::new(),
                None => continue,
            };
            if !data.is_empty() && one.how == Peers::Answer {
                let answer = self.answer(one.whose, Some(&data))?;
                self.say(&mut one, answer);
            }
            kept.push(one);
        }
        self.peers.all = kept;
        self.peers.buffer = buffer;
        Ok(())
    }

    /// What the hooks answer to data; `None` for a connection that was just accepted.
    fn answer(&mut self, whose: Whose, data: Option<&[u8]>) -> Result<Vec<u8>> {
        let answer = match (whose, data) {
            (Whose::Recorded(pid, fd, address), Some(data)) => self.hooks.peer(&PeerData {
                pid,
                fd,
                address,
                data,
            }),
            (Whose::Recorded(..), None) => Ok(Vec::new()),
            (Whose::Server(server, connection), data) => self.hooks.serve(&ServerData {
                server,
                connection,
                data,
            }),
        };
        answer.map_err(Error::Hook)
    }

    /// Adds the end of a connection that a server has accepted, which may speak first.
    pub(super) fn begin(&mut self, whose: Whose, how: Peers, file: File) -> Result<()> {
        let mut one = LivePeer::new(whose, how, file);
        if how == Peers::Answer {
            let answer = self.answer(whose, None)?;
            self.say(&mut one, answer);
        }
        self.peers.all.push(one);
        Ok(())
    }

    fn say(&mut self, one: &mut LivePeer, answer: Vec<u8>) {
        let room = MOST.saturating_sub(one.says.len());
        if answer.len() > room {
            let whom = match one.whose {
                Whose::Recorded(pid, fd, _) => format!("to descriptor {fd} of process {pid}"),
                Whose::Server(server, connection) => {
                    let at = self.peers.address_of(server);
                    format!("of the server at {at} to connection {connection}")
                }
            };
            let (all, over) = (answer.len(), answer.len() - room);
            self.report.miss(format!(
                "the answer {whom}: of {all} bytes, {over} were more than it waits to take"
            ));
        }
        one.says.extend(answer.into_iter().take(room));
        one.write();
    }
}
