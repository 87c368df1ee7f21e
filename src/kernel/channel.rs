//! Channels between processes: pipes, FIFOs, sockets, eventfds, pseudoterminals and signals, and what an event sends to one or
//! takes from it.
//!
//! What goes through a channel has positions: bytes, messages, signals, or an eventfd's units, counted from its beginning. The event
//! that takes a position takes what the event that sent the same position gave.
//! [`Recording::channels`](crate::history::Recording::channels) has both sides.

use super::address::Address;
use super::call_data::moved_messages;
use super::connection::Connection;
use super::job_control::pty;
use super::memory::{read_u32, read_u64};
use super::socket::bytes;
use super::{Descriptors, Kernel, Object, OpenFile, ProcessTree, Socket};
use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// One direction of a way on which data goes from process to process. The same in all of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelId {
    /// The pipe of this name, or the FIFO with this path.
    Pipe(Arc<[u8]>),
    /// What comes to the socket with this open-file number: one of socketpair(2), or a datagram socket.
    Inbox(u64),
    /// What the client of the connection with this number sends.
    ToServer(u64),
    /// What the client of the connection with this number gets.
    ToClient(u64),
    /// The eventfd with this open-file number.
    Counter(u64),
    /// What the master of the pseudoterminal with this number gives to the programs on it. The terminal may change that, so
    /// that positions count writes: a read takes all that no read has taken yet, or else the last.
    ToTerminal(u32),
    /// What the programs on the pseudoterminal with this number write; positions as above.
    FromTerminal(u32),
    /// The signals of one number that one process sends to another one, or to itself. Standard signals that are sent while one
    /// is pending are received as one.
    Signal {
        /// The sender.
        from: i32,
        /// The receiver.
        to: i32,
        /// The number of the signal.
        signal: i32,
    },
    /// The end of the process with this pid, of which wait(2), SIGCHLD and a pidfd tell.
    End(i32),
}

impl ChannelId {
    /// Whether it is a direction of a connection that was made by connect(2) and accept(2).
    pub fn is_connection(&self) -> bool {
        matches!(self, ChannelId::ToServer(_) | ChannelId::ToClient(_))
    }

    /// Whether it is a direction of a pseudoterminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, ChannelId::ToTerminal(_) | ChannelId::FromTerminal(_))
    }
}

/// What an event does with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// It sends something.
    Sends,
    /// It takes something that was sent.
    Takes,
    /// It looks at something that was sent, and leaves it there: `MSG_PEEK`, tee(2).
    Looks,
    /// It was told that something can be taken: poll(2), select(2), epoll_wait(2). Any part of it is enough for that.
    FindsReady,
    /// It was told that a connection can be accepted.
    FindsConnection,
    /// Behind this event, or within its call, the process was killed by what was sent.
    IsKilled,
    /// It was told that nothing comes any more: the end of file, or ECONNRESET.
    FindsEnd,
    /// It was told that nobody takes any more: EPIPE, or ECONNRESET.
    FindsNoTaker,
    /// It closed the last end that sends: close(2), shutdown(2), execve(2), the end of a process.
    EndsSending,
    /// It closed the last end that takes.
    EndsTaking,
    /// It made the connection whose two channels have this number.
    Connects,
    /// It accepted the connection.
    Accepts,
}

/// One use of a channel by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelUse {
    /// The channel.
    pub channel: ChannelId,
    /// What is done.
    pub what: Use,
    /// The positions; empty where nothing is moved.
    pub range: Range<u64>,
    /// Whether positions count messages, rather than bytes or an eventfd's units.
    pub counts_messages: bool,
}

/// How far a channel has been filled and emptied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    sent: u64,
    taken: u64,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// Whether a call may move data through a channel.
pub(super) fn moves(nr: i64) -> bool {
    matches!(
        nr,
        libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_preadv2
            | libc::SYS_recvfrom
            | libc::SYS_recvmsg
            | libc::SYS_recvmmsg
            | libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwritev2
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_sendmmsg
            | libc::SYS_vmsplice
            | libc::SYS_splice
            | libc::SYS_tee
            | libc::SYS_sendfile
    )
}

/// Whether a call asks a pseudoterminal's master for its number: `TIOCGPTN`.
pub(super) fn asks_for_number(call: &CallEvent) -> bool {
    i64::from(call.nr) == libc::SYS_ioctl && call.args[1] & 0xffff_ffff == libc::TIOCGPTN
}

/// Whether a call opens the slave of a pseudoterminal by its master.
pub(super) fn opens_slave(call: &CallEvent) -> bool {
    i64::from(call.nr) == libc::SYS_ioctl && call.args[1] & 0xffff_ffff == libc::TIOCGPTPEER
}

impl Kernel {
    /// What a call that has returned did with the channels of its process's descriptors: `before` are those at its entry,
    /// and this is the kernel's state then. Connections and ends are not told here.
    pub fn channel_uses(&self, call: &CallEvent, before: &dyn Descriptors) -> Vec<ChannelUse> {
        let mut uses = Vec::new();
        let nr = i64::from(call.nr);
        let Some(ret) = call.ret.filter(|_| call.was_made() && moves(nr)) else {
            return uses;
        };
        let mut one = |arg: usize, way: Way, what: Use| {
            let Some((id, file)) = before.file(call.args[arg] as i32) else {
                return;
            };
            let is_pty = || self.masters.contains_key(&id) || pty(&file.path).is_some();
            if !file.is_plain() || is_pty() {
                uses.extend(self.channel_use((id, file), (way, what), call, ret, before.cwd()));
            }
        };
        match nr {
            libc::SYS_splice => {
                one(0, Way::Out, Use::Takes);
                one(2, Way::In, Use::Sends);
            }
            libc::SYS_tee => {
                one(0, Way::Out, Use::Looks);
                one(1, Way::In, Use::Sends);
            }
            libc::SYS_sendfile => {
                one(1, Way::Out, Use::Takes);
                one(0, Way::In, Use::Sends);
            }
            libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => one(0, Way::Out, Use::Takes),
            libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_recvmmsg => {
                let at = if nr == libc::SYS_recvmsg { 2 } else { 3 };
                let flags = call.args[at] as i32;
                let what = match flags & libc::MSG_PEEK {
                    0 => Use::Takes,
                    _ => Use::Looks,
                };
                if flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) == 0 {
                    one(0, Way::Out, what);
                }
            }
            libc::SYS_vmsplice => {
                let file = before.open_file(call.args[0] as i32);
                match file.is_some_and(|f| f.flags & libc::O_ACCMODE == libc::O_RDONLY) {
                    true => one(0, Way::Out, Use::Takes),
                    false => one(0, Way::In, Use::Sends),
                }
            }
            _ => one(0, Way::In, Use::Sends),
        }
        uses
    }

    fn channel_use(
        &self,
        (id, file): (u64, &OpenFile),
        (way, what): (Way, Use),
        call: &CallEvent,
        ret: i64,
        cwd: &[u8],
    ) -> Option<ChannelUse> {
        let to = match way {
            Way::Out => None,
            Way::In => destination(call, cwd),
        };
        let channel = self.channel_of((id, file), way, to.as_ref())?;
        let flow = self.flows.get(&channel).copied().unwrap_or_default();
        let has_messages = matches!(self.object(id), Some(Object::Socket(s)) if s.has_messages());
        let ended = |at: u64| {
            Some(ChannelUse {
                channel: channel.clone(),
                what: match way {
                    Way::Out => Use::FindsEnd,
                    Way::In => Use::FindsNoTaker,
                },
                range: at..at,
                counts_messages: has_messages,
            })
        };
        let from = match way {
            Way::Out => flow.taken,
            Way::In => flow.sent,
        };
        let errors = match channel.is_terminal() {
            true => [libc::EIO; 2],
            false => [libc::EPIPE, libc::ECONNRESET],
        };
        if errors.map(|errno| -i64::from(errno)).contains(&ret) {
            return ended(from);
        }
        let count = u64::try_from(ret).ok()?;
        if channel.is_terminal() && count > 0 {
            let range = match way {
                Way::In => from..from.saturating_add(1),
                // Somebody else wrote it.
                Way::Out if flow.sent == 0 => return None,
                Way::Out => from.min(flow.sent - 1)..flow.sent,
            };
            return Some(ChannelUse {
                channel,
                what,
                range,
                counts_messages: true,
            });
        }
        let amount = match i64::from(call.nr) {
            libc::SYS_recvmmsg | libc::SYS_sendmmsg if !has_messages => moved_messages(call)
                .iter()
                .map(|message| message.len() as u64)
                .sum(),
            libc::SYS_recvmmsg | libc::SYS_sendmmsg => count,
            _ if matches!(channel, ChannelId::Counter(_)) => {
                let memory = LeftMemory {
                    ins: &call.ins,
                    outs: &call.outs,
                };
                read_u64(&memory, call.args[1]).unwrap_or(0)
            }
            _ if has_messages => {
                let is_datagram = matches!(channel, ChannelId::Inbox(_));
                let is_known = way == Way::In || flow.taken < flow.sent;
                match (is_known, is_datagram) {
                    // Somebody else sent it.
                    (false, true) => return None,
                    (false, false) if count == 0 => return ended(from),
                    _ => 1,
                }
            }
            _ => count,
        };
        if has_messages && way == Way::Out {
            let sender = sender(call, cwd);
            if sender.is_some_and(|from| !self.has_sender(&from)) {
                return None;
            }
        }
        if amount == 0 {
            let asks_for_none = matches!(i64::from(call.nr), libc::SYS_read | libc::SYS_recvfrom)
                && call.args[2] == 0;
            return match way {
                Way::Out if !asks_for_none => ended(from),
                _ => None,
            };
        }
        Some(ChannelUse {
            channel,
            what,
            range: from..from.saturating_add(amount),
            counts_messages: has_messages,
        })
    }

    /// The channel that an open file takes from, or sends to: that of the socket with this address, for a datagram to one.
    /// `None` where no recorded process is at the other end.
    fn channel_of(
        &self,
        (id, file): (u64, &OpenFile),
        way: Way,
        to: Option<&Address>,
    ) -> Option<ChannelId> {
        let sends = way == Way::In;
        if let Some((number, is_master)) = self.terminal(id, file) {
            return Some(match is_master == sends {
                true => ChannelId::ToTerminal(number),
                false => ChannelId::FromTerminal(number),
            });
        }
        match self.object(id) {
            Some(Object::Socket(socket)) => match socket.connection {
                Some(number) if self.is_client(number, id) == sends => {
                    Some(ChannelId::ToServer(number))
                }
                Some(number) => Some(ChannelId::ToClient(number)),
                None if sends => self.inbox_of_peer(socket, to),
                None => Some(ChannelId::Inbox(id)),
            },
            Some(Object::Eventfd(_)) => Some(ChannelId::Counter(id)),
            _ => self
                .pipe_name(id, file)
                .map(|name| ChannelId::Pipe(name.into())),
        }
    }

    /// The number of the pseudoterminal that an open file is an end of, and whether that is the master.
    pub(super) fn terminal(&self, id: u64, file: &OpenFile) -> Option<(u32, bool)> {
        match self.masters.get(&id) {
            Some(&number) => Some((number, true)),
            None => pty(&file.path).map(|number| (number, false)),
        }
    }

    /// Follows the question for a master's number.
    pub(super) fn note_master(&mut self, id: u64, call: &CallEvent) {
        if let Some(number) = read_u32(&ChunkMemory(&call.outs), call.args[2]) {
            self.add_master(id, number);
        }
    }

    /// Notes the number of a pseudoterminal by the path of the slave that its master has opened.
    pub(super) fn note_slave(&mut self, call: &CallEvent, after: &dyn Descriptors) {
        let master = after.file(call.args[0] as i32);
        let slave = call.ret.and_then(|fd| after.open_file(fd as i32));
        if let (Some((id, _)), Some(number)) = (master, slave.and_then(|file| pty(&file.path))) {
            self.add_master(id, number);
        }
        self.note_open(call, after);
    }

    /// Notes that a program has opened the slave of a pseudoterminal.
    pub(super) fn note_open(&mut self, call: &CallEvent, after: &dyn Descriptors) {
        if self.terminals.is_empty() {
            return;
        }
        let opened = call.ret.and_then(|fd| after.open_file(fd as i32));
        let number = opened.and_then(|file| pty(&file.path));
        if let Some(terminal) = number.and_then(|number| self.terminals.get_mut(&number)) {
            terminal.is_open = true;
        }
    }

    fn add_master(&mut self, id: u64, number: u32) {
        if self.masters.insert(id, number) != Some(number) {
            self.added += 1;
            // A terminal of the same number may have been before.
            self.terminals.insert(number, Default::default());
        }
    }

    fn inbox_of_peer(&self, socket: &Socket, to: Option<&Address>) -> Option<ChannelId> {
        if let Some(peer) = socket.peer {
            return Some(ChannelId::Inbox(peer));
        }
        let to = to
            .or(socket.remote.as_ref())
            .filter(|_| socket.has_messages())?;
        self.receiver(to, socket).map(ChannelId::Inbox)
    }

    /// The channels that an open file sends to and takes from.
    pub fn channels(&self, id: u64, file: &OpenFile) -> [Option<ChannelId>; 2] {
        let mode = file.flags & libc::O_ACCMODE;
        let is_socket = matches!(self.object(id), Some(Object::Socket(_)));
        [(Way::In, libc::O_RDONLY), (Way::Out, libc::O_WRONLY)].map(|(way, other)| {
            let may = is_socket || mode != other;
            let channel = may.then(|| self.channel_of((id, file), way, None));
            channel.flatten()
        })
    }

    /// The processes that have an end of a channel which takes, by rising pid.
    pub fn takers_of(&self, tree: &ProcessTree, channel: &ChannelId) -> BTreeSet<i32> {
        let ends = tree.open_files().filter(|&(id, file)| {
            let [_, takes] = self.channels(id, file);
            takes.as_ref() == Some(channel)
        });
        ends.flat_map(|(id, _)| tree.holders(id))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// How much has been sent to a channel and taken from it so far.
    pub fn flow(&self, channel: &ChannelId) -> (u64, u64) {
        let flow = self.flows.get(channel).copied().unwrap_or_default();
        (flow.sent, flow.taken)
    }

    fn is_client(&self, number: u64, id: u64) -> bool {
        let known = self.connections.get(number);
        known.is_some_and(|known: &Connection| known.client == Some(id))
    }

    pub(super) fn advance_flows(&mut self, uses: Vec<ChannelUse>) {
        for one in uses {
            match one.what {
                Use::Sends => self.flows.entry(one.channel).or_default().sent = one.range.end,
                Use::Takes => self.flows.entry(one.channel).or_default().taken = one.range.end,
                _ => {}
            }
        }
    }

    pub(super) fn drop_unused_flows(&mut self, alive: &HashSet<u64>) {
        let (connections, pipes) = (&self.connections, &self.pipes);
        self.flows.retain(|channel, _| match channel {
            ChannelId::Pipe(name) => pipes.contains_key(&**name),
            ChannelId::Inbox(id) | ChannelId::Counter(id) => alive.contains(id),
            ChannelId::ToServer(number) | ChannelId::ToClient(number) => {
                connections.get(*number).is_some()
            }
            ChannelId::ToTerminal(_)
            | ChannelId::FromTerminal(_)
            | ChannelId::Signal { .. }
            | ChannelId::End(_) => true,
        });
        self.masters.retain(|id, _| alive.contains(id));
        let numbers: HashSet<u32> = self.masters.values().copied().collect();
        self.terminals.retain(|number, _| numbers.contains(number));
    }

    /// Adds what belongs to the channels of these open files to a part of the kernel's state.
    pub(super) fn channels_of(&self, files: &[(u64, &OpenFile)], part: &mut Kernel) {
        self.connections_of(files.iter().map(|&(id, _)| id), part);
        for &(id, file) in files {
            if let Some(&number) = self.masters.get(&id) {
                part.masters.insert(id, number);
                let known = self.terminals.get(&number).cloned();
                part.terminals.insert(number, known.unwrap_or_default());
            }
            for channel in self.channels(id, file).into_iter().flatten() {
                if let Some(&flow) = self.flows.get(&channel) {
                    part.flows.insert(channel, flow);
                }
            }
        }
    }
}

/// The address that a call sends to, or the first one.
fn destination(call: &CallEvent, cwd: &[u8]) -> Option<Address> {
    destination_of(call, 0, cwd)
}

/// The address that a call sends one of its messages to.
pub(super) fn destination_of(call: &CallEvent, message: usize, cwd: &[u8]) -> Option<Address> {
    const MMSGHDR: u64 = 64;
    let memory = ChunkMemory(&call.ins);
    let (at, len) = match i64::from(call.nr) {
        libc::SYS_sendto => (call.args[4], call.args[5] & 0xffff_ffff),
        libc::SYS_sendmsg => name_of_message(&memory, call.args[1])?,
        libc::SYS_sendmmsg => {
            let header = call.args[1].wrapping_add(message as u64 * MMSGHDR);
            name_of_message(&memory, header)?
        }
        _ => return None,
    };
    Address::of(&bytes(&memory, at, len).filter(|_| at != 0)?, cwd)
}

/// The address on the network that what a call received was sent from.
pub(super) fn sender(call: &CallEvent, cwd: &[u8]) -> Option<Address> {
    let memory = LeftMemory {
        ins: &call.ins,
        outs: &call.outs,
    };
    let (at, len) = match i64::from(call.nr) {
        libc::SYS_recvfrom if call.args[4] != 0 && call.args[5] != 0 => {
            let len = read_u32(&memory, call.args[5])?;
            (call.args[4], u64::from(len))
        }
        libc::SYS_recvmsg | libc::SYS_recvmmsg => name_of_message(&memory, call.args[1])?,
        _ => return None,
    };
    let name = bytes(&memory, at, len).filter(|_| at != 0 && len > 0)?;
    Address::of(&name, cwd).filter(|from| matches!(from, Address::Inet(..)))
}

/// `msg_name` and `msg_namelen`: the first members of `struct msghdr`.
fn name_of_message(memory: &dyn crate::syscall::Memory, header: u64) -> Option<(u64, u64)> {
    let len = read_u32(memory, header.wrapping_add(8))?;
    Some((read_u64(memory, header)?, len.into()))
}
