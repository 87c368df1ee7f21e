//! The other ends of connections that nobody has: who plays their part, and what they say.

use super::engine::Engine;
use crate::inject::hook::PeerData;
use crate::inject::{Error, Result};
use crate::restore::{Peer, Peers};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// The most bytes that are read of one end at a time, and that wait to be sent.
const MOST: usize = 1 << 20;

/// The bytes of one read(2) of an end.
const PART: usize = 64 << 10;

/// The other ends of connections.
#[derive(Default)]
pub(in crate::inject) struct LivePeers {
    how: Peers,
    all: Vec<LivePeer>,
    /// What is read goes here first.
    buffer: Vec<u8>,
}

struct LivePeer {
    peer: Peer,
    /// What it has said and nobody has taken yet.
    says: VecDeque<u8>,
}

impl LivePeers {
    /// These, which do that.
    pub fn new(all: Vec<Peer>, how: Peers) -> LivePeers {
        let says = VecDeque::new;
        let all = all.into_iter().map(|peer| LivePeer { peer, says: says() });
        LivePeers {
            how,
            all: all.collect(),
            buffer: Vec::new(),
        }
    }

    /// Whether there is one that reads.
    pub fn are_busy(&self) -> bool {
        !self.all.is_empty() && matches!(self.how, Peers::Drain | Peers::Answer)
    }
}

impl LivePeer {
    /// What has come since, without waiting; `None` where nothing comes any more.
    fn read(&mut self, part: &mut [u8]) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        while data.len() < MOST {
            match self.peer.file.read(part) {
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
            match self.peer.file.write(first) {
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
    /// Has those that read do so, and answer.
    pub(super) fn serve_peers(&mut self) -> Result<()> {
        if !self.peers.are_busy() {
            return Ok(());
        }
        let how = self.peers.how;
        let mut buffer = std::mem::take(&mut self.peers.buffer);
        buffer.resize(PART, 0);
        let mut kept = Vec::new();
        for mut one in std::mem::take(&mut self.peers.all) {
            one.write();
            let data = match one.read(&mut buffer) {
                Some(data) => data,
                // What it says is still to be taken.
                None if !one.says.is_empty() => Vec::new(),
                None => continue,
            };
            if !data.is_empty() && how == Peers::Answer {
                let sent = PeerData {
                    pid: one.peer.pid,
                    fd: one.peer.fd,
                    address: one.peer.address,
                    data: &data,
                };
                let answer = self.hooks.peer(&sent).map_err(Error::Hook)?;
                let room = MOST.saturating_sub(one.says.len());
                if answer.len() > room {
                    let (pid, fd) = (one.peer.pid, one.peer.fd);
                    let sentence = format!(
                        "the answer to descriptor {fd} of process {pid}: of {} bytes, {} were more than it waits to take",
                        answer.len(),
                        answer.len() - room
                    );
                    self.report.miss(sentence);
                }
                one.says.extend(answer.into_iter().take(room));
                one.write();
            }
            kept.push(one);
        }
        self.peers.all = kept;
        self.peers.buffer = buffer;
        Ok(())
    }
}
