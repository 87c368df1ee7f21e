//! Connections of sockets within a recording: which client's socket and which accepted one are the two ends of one.
//!
//! A connection is found by the addresses of both ends, which the recorder notes ([`Addresses`]). Clients of AF_UNIX
//! mostly have none, and older recordings have no addresses at all: there the connections to an address are accepted in
//! the order in which they were made.

use super::address::Address;
use super::{Kernel, Object, ProcessTree, Queue, Socket};
use crate::recording::Addresses;
use std::collections::{BTreeMap, HashSet};

/// A connection of two sockets, or one that only one end of is recorded, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The number of the open file that connected; `None` where it is not known.
    pub client: Option<u64>,
    /// The number of the open file that was accepted; `None` where it is not accepted yet, or not by a recorded process.
    pub server: Option<u64>,
    /// Whether the ends were matched by their order alone, although there was a choice: not by their addresses.
    pub is_ambiguous: bool,
    /// The process that connected.
    client_pid: i32,
    /// The address that was connected to.
    target: Option<Address>,
    /// The place in the order of all.
    order: u64,
}

impl Connection {
    /// Its place in the order in which all were made.
    pub fn order(&self) -> u64 {
        self.order
    }
}

/// All connections of a recording that have an end.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    /// By the number of the open file that was recorded first.
    all: BTreeMap<u64, Connection>,
    /// Those that lack the other end, in the order in which they were made.
    open: Vec<u64>,
    made: u64,
}

/// The most connections that wait to be accepted, or for their clients.
const MOST_OPEN: usize = 1024;

impl Connections {
    fn add(&mut self, number: u64, mut connection: Connection) {
        self.made += 1;
        connection.order = self.made;
        self.remove(number);
        self.all.insert(number, connection);
        self.put_back(number);
    }

    fn remove(&mut self, number: u64) {
        self.all.remove(&number);
        self.open.retain(|&open| open != number);
    }

    /// Adds one to those that lack an end.
    fn put_back(&mut self, number: u64) {
        let order = |number: &u64| self.all.get(number).map_or(0, |known| known.order);
        let own = order(&number);
        let at = self.open.partition_point(|open| order(open) < own);
        self.open.insert(at, number);
        if self.open.len() > MOST_OPEN {
            self.open.remove(0);
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Connection> {
        self.all.get(&number)
    }

    /// Those that lack the client or the server, in order.
    fn lacking(&self, client: bool) -> impl Iterator<Item = (u64, &Connection)> {
        self.open.iter().filter_map(move |number| {
            let known = self.all.get(number)?;
            let lacks = match client {
                true => known.client.is_none(),
                false => known.server.is_none(),
            };
            lacks.then_some((*number, known))
        })
    }
}

impl Kernel {
    fn socket(&self, id: u64) -> Option<&Socket> {
        match self.object(id)? {
            Object::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    fn socket_mut(&mut self, id: u64) -> Option<&mut Socket> {
        match self.objects.get_mut(&id)? {
            Object::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    /// The connection that an open file is an end of.
    pub fn connection(&self, id: u64) -> Option<&Connection> {
        self.connections.get(self.socket(id)?.connection?)
    }

    /// The number of the connection that an open file is an end of, as in [`ChannelId::ToServer`](super::ChannelId).
    pub fn connection_number(&self, id: u64) -> Option<u64> {
        self.socket(id)?.connection
    }

    /// The number of the open file at the other end of a socket: of a pair, a connection, or a connected datagram socket.
    /// `None` where that end is not recorded, or not accepted yet. [`ProcessTree::holders`] has its processes.
    pub fn peer(&self, id: u64) -> Option<u64> {
        let socket = self.socket(id)?;
        if socket.peer.is_some() {
            return socket.peer;
        }
        match self.connection(id) {
            Some(known) if known.client == Some(id) => known.server,
            Some(known) => known.client,
            None => self.receiver(socket.remote.as_ref()?, socket),
        }
    }

    /// The open file at the other end of a connection, where that was accepted.
    pub(super) fn connected_peer(&self, id: u64) -> Option<u64> {
        let known = self.connection(id)?;
        match known.client == Some(id) {
            true => known.server,
            false => known.client,
        }
    }

    /// Whether it is the client's end of a connection that no recorded process has accepted yet.
    pub fn awaits_acceptance(&self, id: u64) -> bool {
        let known = self.connection(id);
        known.is_some_and(|known| known.client == Some(id) && known.server.is_none())
    }

    /// The listening socket by which a client's connection will be accepted.
    pub fn listener(&self, id: u64) -> Option<u64> {
        let to = self.connection(id)?.target.as_ref()?;
        let mut all = self.objects.iter();
        let found = all.find(|(_, object)| match object {
            Object::Socket(socket) => {
                socket.backlog.is_some()
                    && socket.local.as_ref().is_some_and(|own| own.receives(to))
            }
            _ => false,
        });
        found.map(|(&id, _)| id)
    }

    /// The data that a socket has received and that was not read yet.
    pub fn received(&self, id: u64) -> Queue {
        let mut queue = self
            .socket(id)
            .map(|socket| socket.received.clone())
            .unwrap_or_default();
        let early = self
            .connected_peer(id)
            .and_then(|client| self.early.get(&client));
        if let Some(early) = early {
            queue.begin_with(early.clone());
        }
        queue
    }

    /// The data that a client has sent before its connection was accepted.
    pub fn sent_early(&self, client: u64) -> Option<&Queue> {
        self.early.get(&client)
    }

    /// The datagram socket that gets what this one sends to an address.
    pub(super) fn receiver(&self, to: &Address, from: &Socket) -> Option<u64> {
        let mut found = None;
        for (&id, object) in &self.objects {
            let Object::Socket(socket) = object else {
                continue;
            };
            let is_meant = socket.kind.1 == from.kind.1
                && socket.has_messages()
                && socket.local.as_ref().is_some_and(|own| own.receives(to));
            if !is_meant {
                continue;
            }
            // A connected one gets from its peer alone, and before others.
            let is_peer = match (&socket.remote, &from.local) {
                (None, _) => false,
                (Some(remote), Some(local)) if local.receives(remote) => true,
                _ => continue,
            };
            if found.is_none_or(|(known, other)| (is_peer, id) > (known, other)) {
                found = Some((is_peer, id));
            }
        }
        found.map(|(_, id)| id)
    }

    /// Whether a recorded socket has an address, so that what came from there may be recorded.
    pub(super) fn has_sender(&self, from: &Address) -> bool {
        let mut all = self.objects.values();
        all.any(|object| match object {
            Object::Socket(socket) => socket.local.as_ref().is_some_and(|own| own.receives(from)),
            _ => false,
        })
    }

    /// Follows connect(2), which the socket has followed.
    pub(super) fn connected(&mut self, pid: i32, id: u64) {
        let Some(socket) = self
            .socket(id)
            .filter(|socket| is_connected_by_handshake(socket))
        else {
            return;
        };
        let (target, known) = (socket.remote.clone(), socket.connection);
        if let Some(number) = known {
            // Told of the same connection once more, or connected anew.
            let is_same = self.connections.get(number);
            if is_same.is_some_and(|known| target.is_some() && known.target == target) {
                return;
            }
            self.connections.remove(number);
        }
        let Some(to) = &target else {
            if let Some(socket) = self.socket_mut(id) {
                socket.connection = None;
            }
            return;
        };
        let accepted = self.connections.lacking(true);
        let fits = |known: &Connection| known.target.as_ref().is_some_and(|own| own.receives(to));
        let fitting: Vec<u64> = accepted
            .filter(|(_, known)| fits(known))
            .map(|(number, _)| number)
            .collect();
        let number = match fitting.first() {
            Some(&number) => {
                self.join(number, Some(id), None, fitting.len() > 1);
                if let Some(known) = self.connections.all.get_mut(&number) {
                    known.client_pid = pid;
                    known.target = target;
                }
                number
            }
            None => {
                self.connections.add(
                    id,
                    Connection {
                        client: Some(id),
                        server: None,
                        is_ambiguous: false,
                        client_pid: pid,
                        target,
                        order: 0,
                    },
                );
                id
            }
        };
        if let Some(socket) = self.socket_mut(id) {
            socket.connection = Some(number);
        }
    }

    /// Follows accept(2), which made the socket.
    pub(super) fn accepted(&mut self, id: u64) {
        let Some(own) = self.socket(id).map(|socket| socket.local.clone()) else {
            return;
        };
        let waiting = self.connections.lacking(false);
        let fits = |known: &Connection| {
            let pair = own.as_ref().zip(known.target.as_ref());
            pair.is_some_and(|(own, target)| own.receives(target))
        };
        let fitting: Vec<u64> = waiting
            .filter(|(_, known)| fits(known))
            .map(|(number, _)| number)
            .collect();
        match fitting.first() {
            Some(&number) => self.join(number, None, Some(id), fitting.len() > 1),
            None => self.add_accepted(id, own),
        }
    }

    /// A socket was accepted whose client is not known.
    fn add_accepted(&mut self, id: u64, own: Option<Address>) {
        let connection = Connection {
            client: None,
            server: Some(id),
            is_ambiguous: false,
            client_pid: 0,
            target: own,
            order: 0,
        };
        self.connections.add(id, connection);
        if let Some(socket) = self.socket_mut(id) {
            socket.connection = Some(id);
        }
    }

    /// Gives a connection the end that it lacks.
    fn join(&mut self, number: u64, client: Option<u64>, server: Option<u64>, is_ambiguous: bool) {
        if let Some(known) = self.connections.all.get_mut(&number) {
            known.client = client.or(known.client);
            known.server = server.or(known.server);
            known.is_ambiguous = is_ambiguous;
        }
        self.connections.open.retain(|&open| open != number);
        for id in [client, server].into_iter().flatten() {
            if let Some(socket) = self.socket_mut(id) {
                socket.connection = Some(number);
            }
        }
    }

    /// Follows the addresses that the recorder saw.
    pub(super) fn note_addresses(&mut self, tree: &ProcessTree, seen: &Addresses) {
        let Some(id) = tree.file_id(seen.tid, seen.fd) else {
            return;
        };
        let cwd = tree.cwd(seen.tid).unwrap_or_default();
        let local = Address::of(&seen.local, cwd);
        let peer = Address::of(&seen.peer, cwd);
        let Some(socket) = self.socket_mut(id) else {
            return;
        };
        // A path from another directory, of which the name tells nothing, is known from bind(2).
        let is_path = matches!(&local, Some(Address::Unix(path)) if path.starts_with(b"/"));
        match is_path {
            true => socket.local = socket.local.take().or(local),
            false => socket.local = local.or(socket.local.take()),
        }
        let is_server = socket.connected.as_ref().is_some_and(Vec::is_empty);
        match is_server {
            true => socket.remote = peer,
            false => socket.remote = peer.or(socket.remote.take()),
        }
        let Some(number) = socket.connection else {
            return;
        };
        match is_server {
            true => self.match_server(id, number, seen.peer_pid),
            false => self.match_client(id, number),
        }
    }

    /// Whether the addresses of two sockets are those of the ends of one connection; `None` where they do not tell.
    fn are_ends(&self, client: u64, server: u64) -> Option<bool> {
        let (client, server) = (self.socket(client)?, self.socket(server)?);
        let client = (client.local.as_ref()?, client.remote.as_ref()?);
        let server = (server.local.as_ref()?, server.remote.as_ref()?);
        match (client, server) {
            ((Address::Inet(..), Address::Inet(..)), (Address::Inet(..), Address::Inet(..))) => {
                Some(client == (server.1, server.0))
            }
            ((Address::Unix(own), _), (_, Address::Unix(peer))) if own != peer => Some(false),
            ((Address::Unix(own), _), _) if !own.is_empty() => Some(true),
            _ => None,
        }
    }

    /// Finds the client of a socket that was accepted, whose addresses are known now.
    fn match_server(&mut self, id: u64, tentative: u64, pid: i32) {
        let mut choice: Vec<(u64, &Connection)> = self.connections.lacking(false).collect();
        let now = self.connections.get(tentative);
        choice.extend(
            now.filter(|known| known.client.is_some())
                .map(|known| (tentative, known)),
        );
        choice.sort_by_key(|(_, known)| known.order);
        let own = self.socket(id).and_then(|socket| socket.local.as_ref());
        // A client whose process ended may have closed its socket.
        let verdict =
            |known: &Connection| match known.client.and_then(|client| self.are_ends(client, id)) {
                Some(verdict) => Some(verdict),
                None => {
                    let pair = own.zip(known.target.as_ref());
                    let is_there = pair.is_some_and(|(own, target)| own.receives(target));
                    let is_his = pid == 0 || pid == known.client_pid;
                    (!is_there || !is_his).then_some(false)
                }
            };
        let sure = choice
            .iter()
            .find(|(_, known)| verdict(known) == Some(true));
        let likely = || choice.iter().find(|(_, known)| verdict(known).is_none());
        let found = sure.or_else(likely).map(|&(number, _)| number);
        if found == Some(tentative) {
            if let Some(known) = self.connections.all.get_mut(&tentative) {
                known.is_ambiguous = false;
            }
            return;
        }
        self.part(tentative, None, Some(id));
        match found {
            Some(number) => self.join(number, None, Some(id), false),
            None => {
                let own = self.socket(id).and_then(|socket| socket.local.clone());
                self.add_accepted(id, own);
            }
        }
    }

    /// Finds the accepted socket that belongs to one that connected, whose addresses are known now.
    fn match_client(&mut self, id: u64, tentative: u64) {
        let mut choice: Vec<(u64, &Connection)> = self.connections.lacking(true).collect();
        let now = self.connections.get(tentative);
        choice.extend(
            now.filter(|known| known.server.is_some())
                .map(|known| (tentative, known)),
        );
        let verdict =
            |known: &Connection| known.server.and_then(|server| self.are_ends(id, server));
        let sure = choice
            .iter()
            .find(|(_, known)| verdict(known) == Some(true));
        let found = sure.map(|&(number, _)| number);
        let is_wrong = self.connections.get(tentative).and_then(verdict) == Some(false);
        let (pid, target) = match self.connections.get(tentative) {
            Some(known) => (known.client_pid, known.target.clone()),
            None => return,
        };
        match found {
            Some(number) if number == tentative => {
                if let Some(known) = self.connections.all.get_mut(&tentative) {
                    known.is_ambiguous = false;
                }
            }
            Some(number) => {
                self.part(tentative, Some(id), None);
                self.join(number, Some(id), None, false);
                if let Some(known) = self.connections.all.get_mut(&number) {
                    known.client_pid = pid;
                    known.target = target;
                }
            }
            None if is_wrong => {
                self.part(tentative, Some(id), None);
                let connection = Connection {
                    client: Some(id),
                    server: None,
                    is_ambiguous: false,
                    client_pid: pid,
                    target,
                    order: 0,
                };
                self.connections.add(id, connection);
                if let Some(socket) = self.socket_mut(id) {
                    socket.connection = Some(id);
                }
            }
            None => {}
        }
    }

    /// Takes an end away from a connection that is another's.
    fn part(&mut self, number: u64, client: Option<u64>, server: Option<u64>) {
        let Some(known) = self.connections.all.get_mut(&number) else {
            return;
        };
        if client.is_some() {
            known.client = None;
        }
        if server.is_some() {
            known.server = None;
        }
        known.is_ambiguous = false;
        let is_empty = known.client.is_none() && known.server.is_none();
        match is_empty {
            true => self.connections.remove(number),
            false => self.connections.put_back(number),
        }
        for id in [client, server].into_iter().flatten() {
            if let Some(socket) = self.socket_mut(id) {
                socket.connection = None;
            }
        }
    }

    /// Removes the connections that have no end any more, and cannot be accepted.
    pub(super) fn drop_unused_connections(&mut self, alive: &HashSet<u64>) {
        let listening: Vec<Address> = self
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Socket(socket) if socket.backlog.is_some() => socket.local.clone(),
                _ => None,
            })
            .collect();
        let is_alive = |end: Option<u64>| end.is_some_and(|id| alive.contains(&id));
        let connections = &mut self.connections;
        connections.all.retain(|_, known| {
            let may_be_accepted = known.server.is_none()
                && known
                    .target
                    .as_ref()
                    .is_some_and(|target| listening.iter().any(|own| own.receives(target)));
            is_alive(known.client) || is_alive(known.server) || may_be_accepted
        });
        let all = &connections.all;
        connections.open.retain(|number| all.contains_key(number));
        let clients: HashSet<u64> = all.values().filter_map(|known| known.client).collect();
        self.early.retain(|client, _| clients.contains(client));
        self.drop_unused_flows(alive);
    }

    /// Adds the connections of these sockets to a part of the kernel's state.
    pub(super) fn connections_of(&self, ids: impl Iterator<Item = u64>, part: &mut Kernel) {
        part.connections.made = self.connections.made;
        for id in ids {
            if let Some(number) = self.socket(id).and_then(|socket| socket.connection)
                && let Some(known) = self.connections.get(number)
            {
                part.connections.all.insert(number, known.clone());
                let client = known.client;
                if let Some((id, early)) = client.and_then(|id| Some((id, self.early.get(&id)?))) {
                    part.early.insert(id, early.clone());
                }
            }
        }
    }
}

/// Whether a socket connects to a listening one, which accepts it.
fn is_connected_by_handshake(socket: &Socket) -> bool {
    matches!(socket.kind.1, libc::SOCK_STREAM | libc::SOCK_SEQPACKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Chunk;
    use crate::kernel::{ChannelId, Use, forked};
    use crate::recording::{CallEvent, Effect, Event, EventKind, Frame, Start};

    /// The model of a few processes, which are numbered from 10 on.
    struct Model {
        tree: ProcessTree,
        kernel: Kernel,
    }

    impl Model {
        fn new(processes: i32) -> Model {
            let start = Start {
                pid: 10,
                cwd: b"/w".to_vec(),
                ..Start::default()
            };
            let mut model = Model {
                tree: ProcessTree::at_start(&start),
                kernel: Kernel::default(),
            };
            for tid in 11..10 + processes {
                model.follow(&forked(10, tid));
            }
            model
        }

        fn follow(&mut self, frame: &Frame) {
            self.kernel.follow(&mut self.tree, frame);
        }

        fn call(&mut self, tid: i32, nr: i64, args: [u64; 6], ret: i64, ins: &[u8]) {
            let returns_socket = matches!(nr, libc::SYS_socket | libc::SYS_accept);
            let call = CallEvent {
                nr: nr as u32,
                args,
                ip: 0,
                ret: Some(ret),
                ins: vec![Chunk {
                    addr: 4096,
                    data: ins.to_vec(),
                }],
                outs: Vec::new(),
                effect: match returns_socket {
                    true => Effect::Path(format!("socket:[{tid}{ret}]").into_bytes()),
                    false => Effect::None,
                },
            };
            let kind = EventKind::Call(call);
            self.follow(&Frame::Event(Event { tid, kind }));
        }

        fn socket(&mut self, tid: i32, fd: i64, family: i32, kind: i32) {
            let args = [family as u64, kind as u64, 0, 0, 0, 0];
            self.call(tid, libc::SYS_socket, args, fd, &[]);
        }

        /// bind(2) or connect(2).
        fn name(&mut self, tid: i32, nr: i64, fd: u64, address: &[u8]) {
            let args = [fd, 4096, address.len() as u64, 0, 0, 0];
            self.call(tid, nr, args, 0, address);
        }

        fn listening(&mut self, tid: i32, fd: u64, address: &[u8]) {
            self.socket(tid, fd as i64, i32::from(address[0]), libc::SOCK_STREAM);
            self.name(tid, libc::SYS_bind, fd, address);
            self.call(tid, libc::SYS_listen, [fd, 5, 0, 0, 0, 0], 0, &[]);
        }

        fn connect(&mut self, tid: i32, fd: u64, address: &[u8]) {
            self.socket(tid, fd as i64, i32::from(address[0]), libc::SOCK_STREAM);
            self.name(tid, libc::SYS_connect, fd, address);
        }

        fn accept(&mut self, tid: i32, listening: u64, fd: i64) {
            self.call(tid, libc::SYS_accept, [listening, 0, 0, 0, 0, 0], fd, &[]);
        }

        fn addresses(&mut self, (tid, fd): (i32, i32), local: &[u8], peer: &[u8], peer_pid: i32) {
            let (local, peer) = (local.to_vec(), peer.to_vec());
            self.follow(&Frame::Addresses(Addresses {
                tid,
                fd,
                local,
                peer,
                peer_pid,
            }));
        }

        /// The other ends of a descriptor's socket, and whether that is a guess.
        fn peer(&self, tid: i32, fd: i32) -> (Vec<(i32, i32)>, bool) {
            let id = self.tree.file_id(tid, fd).unwrap();
            let peer = self.kernel.peer(id);
            let is_ambiguous = self.kernel.connection(id).is_some_and(|c| c.is_ambiguous);
            let holders = peer.map(|peer| self.tree.holders(peer));
            (holders.unwrap_or_default(), is_ambiguous)
        }
    }

    /// An address of the machine itself; the last byte 0 is for all of its addresses.
    fn inet(last: u8, port: u16) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        let first = if last == 0 { 0 } else { 127 };
        [&[2, 0, high, low, first, 0, 0, last][..], &[0; 8]].concat()
    }

    fn unix(path: &str) -> Vec<u8> {
        [&[1, 0], path.as_bytes()].concat()
    }

    #[test]
    fn connections_are_matched_by_their_addresses_whatever_the_order() {
        let mut model = Model::new(4);
        model.listening(10, 3, &inet(1, 80));
        for (tid, port) in [(11, 5001), (12, 5002), (13, 5003)] {
            model.connect(tid, 4, &inet(1, 80));
            model.addresses((tid, 4), &inet(1, port), &inet(1, 80), 0);
        }
        for (fd, port) in [(6, 5003), (7, 5001)] {
            model.accept(10, 3, fd);
            model.addresses((10, fd as i32), &inet(1, 80), &inet(1, port), 0);
        }
        assert_eq!(model.peer(10, 6), (vec![(13, 4)], false));
        assert_eq!(model.peer(13, 4), (vec![(10, 6)], false));
        assert_eq!(model.peer(10, 7), (vec![(11, 4)], false));
        assert_eq!(model.peer(12, 4), (vec![], false));
        // One from outside is nobody's, though another one waits.
        model.accept(10, 3, 8);
        model.addresses((10, 8), &inet(1, 80), &inet(9, 777), 0);
        assert_eq!(model.peer(10, 8), (vec![], false));
        model.accept(10, 3, 9);
        model.addresses((10, 9), &inet(1, 80), &inet(1, 5002), 0);
        assert_eq!(model.peer(12, 4), (vec![(10, 9)], false));
    }

    #[test]
    fn what_was_accepted_before_connect_returned_finds_its_client() {
        let mut model = Model::new(3);
        model.listening(10, 3, &inet(0, 80));
        for (fd, port) in [(6, 5001), (7, 5002)] {
            model.accept(10, 3, fd);
            model.addresses((10, fd as i32), &inet(1, 80), &inet(1, port), 0);
        }
        for (tid, port) in [(12, 5002), (11, 5001)] {
            model.connect(tid, 4, &inet(1, 80));
            model.addresses((tid, 4), &inet(1, port), &inet(1, 80), 0);
        }
        assert_eq!(model.peer(10, 6), (vec![(11, 4)], false));
        assert_eq!(model.peer(12, 4), (vec![(10, 7)], false));
    }

    #[test]
    fn without_addresses_order_decides_and_is_said_to() {
        let mut model = Model::new(3);
        model.listening(10, 3, &unix("./s"));
        model.connect(11, 4, &unix("/w/s\0"));
        model.connect(12, 4, &unix("s"));
        model.accept(10, 3, 6);
        model.accept(10, 3, 7);
        assert_eq!(model.peer(10, 6), (vec![(11, 4)], true));
        assert_eq!(model.peer(10, 7), (vec![(12, 4)], false));
    }

    #[test]
    fn nameless_clients_are_told_apart_by_their_processes() {
        let mut model = Model::new(3);
        model.listening(10, 3, &unix("s"));
        for tid in [11, 12] {
            model.connect(tid, 4, &unix("s"));
            model.addresses((tid, 4), &[1, 0], &unix("s"), 10);
        }
        for (fd, client) in [(6, 12), (7, 11)] {
            model.accept(10, 3, fd);
            model.addresses((10, fd as i32), &unix("s"), &[1, 0], client);
        }
        assert_eq!(model.peer(10, 6), (vec![(12, 4)], false));
        assert_eq!(model.peer(11, 4), (vec![(10, 7)], false));
    }

    #[test]
    fn datagrams_are_sent_to_the_socket_with_the_address() {
        let mut model = Model::new(2);
        model.socket(10, 3, libc::AF_INET, libc::SOCK_DGRAM);
        model.name(10, libc::SYS_bind, 3, &inet(0, 53));
        model.socket(11, 3, libc::AF_INET, libc::SOCK_DGRAM);
        let call = |to: Vec<u8>| CallEvent {
            nr: libc::SYS_sendto as u32,
            args: [3, 64, 9, 0, 4096, 16],
            ip: 0,
            ret: Some(9),
            ins: vec![Chunk {
                addr: 4096,
                data: to,
            }],
            outs: Vec::new(),
            effect: Effect::None,
        };
        let inbox = ChannelId::Inbox(model.tree.file_id(10, 3).unwrap());
        let uses = model
            .kernel
            .channel_uses(&call(inet(1, 53)), &model.tree.view(11));
        assert_eq!((&uses[0].channel, uses[0].what), (&inbox, Use::Sends));
        assert_eq!(uses[0].range, 0..1);
        let others = model
            .kernel
            .channel_uses(&call(inet(1, 54)), &model.tree.view(11));
        assert_eq!(others, []);
    }

    #[test]
    fn a_damaged_recording_makes_no_more_than_it_may() {
        let mut model = Model::new(1);
        model.listening(10, 3, &inet(1, 80));
        for n in 0..MOST_OPEN as i64 + 10 {
            model.connect(10, 4, &inet(1, 80));
            model.addresses((10, 4), &[], &[7; 3], -1);
            if n % 3 == 0 {
                model.accept(10, 3, 5);
                model.addresses((10, 5), &[1], &[], i32::MIN);
                model.addresses((10, 99), &[1], &[], 0);
            }
        }
        assert!(model.kernel.connections.open.len() <= MOST_OPEN);
    }
}
