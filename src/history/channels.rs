//! What the events of a recording sent to other processes and took from them.

use super::Recording;
use crate::constants::is_error;
use crate::kernel::{ChannelId, Descriptors, Kernel, OpenFile, ProcessTree, Use};
use crate::recording::{CallEvent, Frame, Result};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// What an event did with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelEvent {
    /// The event. The end of a task counts as its last event.
    pub event: u64,
    /// Its process.
    pub pid: i32,
    /// The channel.
    pub channel: ChannelId,
    /// What it did.
    pub what: Use,
    /// The positions of what it moved; empty where it moved nothing.
    pub range: Range<u64>,
    /// Whether positions count messages, rather than bytes or an eventfd's units.
    pub counts_messages: bool,
}

/// A part of what an event took that another one gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The other event: that which gave, or that which took. Where a call gave before it returned, the event that gave has
    /// the higher number.
    pub event: u64,
    /// Its process.
    pub pid: i32,
    /// The channel.
    pub channel: ChannelId,
    /// How it was taken: [`Use::Takes`], [`Use::Looks`], [`Use::FindsEnd`], [`Use::FindsNoTaker`] or [`Use::Accepts`].
    pub how: Use,
    /// The positions that both have; empty where it is not about data.
    pub range: Range<u64>,
}

/// A connection within a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedConnection {
    /// Its number, as in [`ChannelId::ToServer`].
    pub number: u64,
    /// The event that connected: its number, its process, the descriptor.
    pub connected: Option<(u64, i32, i32)>,
    /// The event that accepted; `None` where no recorded process did.
    pub accepted: Option<(u64, i32, i32)>,
    /// Whether the ends were matched by their order alone, although there was a choice.
    pub is_ambiguous: bool,
}

/// All that events did with channels.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    /// By rising event.
    events: Vec<ChannelEvent>,
    /// The indices in that of each channel's events, by rising event.
    of_channel: HashMap<ChannelId, Vec<usize>>,
    /// The indices of those that sent, by rising position.
    sent: HashMap<ChannelId, Vec<usize>>,
    /// The indices of those that took or looked, by rising event.
    taken: HashMap<ChannelId, Vec<usize>>,
    connections: BTreeMap<u64, RecordedConnection>,
}

impl Recording {
    /// What all events did with channels. The whole recording is read at the first question.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn channels(&self) -> Result<Arc<Channels>> {
        let mut known = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channels) = &*known {
            return Ok(Arc::clone(channels));
        }
        let channels = Arc::new(Channels::of(self)?);
        Ok(Arc::clone(known.insert(channels)))
    }
}

impl Channels {
    /// All that was done with channels, by rising event.
    pub fn events(&self) -> &[ChannelEvent] {
        &self.events
    }

    /// What an event did.
    pub fn of_event(&self, event: u64) -> &[ChannelEvent] {
        let from = self.events.partition_point(|one| one.event < event);
        let to = self.events.partition_point(|one| one.event <= event);
        &self.events[from..to]
    }

    /// All that was done with a channel, by rising event.
    pub fn of_channel<'a>(
        &'a self,
        channel: &ChannelId,
    ) -> impl Iterator<Item = &'a ChannelEvent> + use<'a> {
        let all = self.of_channel.get(channel);
        all.into_iter().flatten().map(|&at| &self.events[at])
    }

    /// All channels.
    pub fn all(&self) -> impl Iterator<Item = &ChannelId> {
        self.of_channel.keys()
    }

    /// The connections of the recording, by number: those to processes outside of it, too.
    pub fn connections(&self) -> impl Iterator<Item = &RecordedConnection> {
        self.connections.values()
    }

    /// Whether a channel belongs to a connection whose ends may be other ones.
    pub fn is_ambiguous(&self, channel: &ChannelId) -> bool {
        match channel {
            ChannelId::ToServer(number) | ChannelId::ToClient(number) => self
                .connections
                .get(number)
                .is_some_and(|known| known.is_ambiguous),
            _ => false,
        }
    }

    /// The events that gave what an event took: data, a connection, the end of data.
    pub fn sources(&self, event: u64) -> Vec<Dependency> {
        let mut found = Vec::new();
        for taken in self.of_event(event) {
            let mut add = |source: &ChannelEvent, range: Range<u64>| {
                found.push(Dependency {
                    event: source.event,
                    pid: source.pid,
                    channel: taken.channel.clone(),
                    how: taken.what,
                    range,
                });
            };
            match taken.what {
                Use::Takes | Use::Looks => {
                    for source in self.overlapping(&taken.channel, &taken.range) {
                        add(source, overlap(&source.range, &taken.range));
                    }
                }
                _ => {
                    let gives = gift(taken.what);
                    let mut all = self.of_channel(&taken.channel);
                    // The last one before it; where there is none, the call gave before it returned.
                    let is_meant = |one: &&ChannelEvent| Some(one.what) == gives;
                    let before = self.of_channel(&taken.channel).filter(is_meant);
                    let before = before.take_while(|one| one.event < event).last();
                    if let Some(source) = before.or_else(|| all.find(is_meant)) {
                        add(source, taken.range.clone());
                    }
                }
            }
        }
        found
    }

    /// The events that took what an event gave.
    pub fn takers(&self, event: u64) -> Vec<Dependency> {
        let mut found = Vec::new();
        for given in self.of_event(event) {
            let takers: &[usize] = match given.what {
                Use::Sends => self.taken.get(&given.channel).map_or(&[], Vec::as_slice),
                Use::EndsSending | Use::EndsTaking | Use::Connects => self
                    .of_channel
                    .get(&given.channel)
                    .map_or(&[], Vec::as_slice),
                _ => &[],
            };
            for taker in takers.iter().map(|&at| &self.events[at]) {
                let range = overlap(&given.range, &taker.range);
                let is_his = match given.what {
                    Use::Sends => !range.is_empty(),
                    what => gift(taker.what) == Some(what) && taker.event != event,
                };
                if is_his {
                    found.push(Dependency {
                        event: taker.event,
                        pid: taker.pid,
                        channel: taker.channel.clone(),
                        how: taker.what,
                        range,
                    });
                }
            }
        }
        found
    }

    /// What had been sent to a channel before an event and not been taken, in order: the parts of what events sent.
    pub fn in_flight(&self, channel: &ChannelId, event: u64) -> Vec<ChannelEvent> {
        let before = self.of_channel(channel).filter(|one| one.event < event);
        let taken = before.filter(|one| one.what == Use::Takes);
        let taken = taken.map(|one| one.range.end).max().unwrap_or(0);
        let behind = taken..u64::MAX;
        let sent = self.overlapping(channel, &behind);
        let sent = sent.filter(|one| one.event < event).cloned();
        sent.map(|one| ChannelEvent {
            range: one.range.start.max(taken)..one.range.end,
            ..one
        })
        .collect()
    }

    /// The events that sent these positions.
    fn overlapping(
        &self,
        channel: &ChannelId,
        range: &Range<u64>,
    ) -> impl Iterator<Item = &ChannelEvent> {
        let sent = self.sent.get(channel).map_or(&[][..], Vec::as_slice);
        let from = sent.partition_point(|&at| self.events[at].range.end <= range.start);
        let end = range.end;
        sent[from..]
            .iter()
            .map(|&at| &self.events[at])
            .take_while(move |one| one.range.start < end)
    }

    fn of(recording: &Recording) -> Result<Channels> {
        let mut reader = Reading::default();
        if recording.is_empty() {
            return Ok(reader.channels);
        }
        let mut tree = ProcessTree::at_start(recording.start());
        let mut kernel = Kernel::default();
        let mut frames = recording.frames_from(1)?;
        while let Some(frame) = frames.next_frame()? {
            reader.follow(&mut tree, &mut kernel, &frame);
        }
        reader.note_connections(&kernel);
        Ok(reader.channels.indexed())
    }

    /// Of these events, in the order in which they were read.
    fn indexed(mut self) -> Channels {
        // The end of a task belongs to an event before.
        self.events.sort_by_key(|one| one.event);
        for (at, one) in self.events.iter().enumerate() {
            let list = match one.what {
                Use::Sends => Some(&mut self.sent),
                Use::Takes | Use::Looks => Some(&mut self.taken),
                _ => None,
            };
            if let Some(list) = list {
                list.entry(one.channel.clone()).or_default().push(at);
            }
            let all = self.of_channel.entry(one.channel.clone());
            all.or_default().push(at);
        }
        self
    }
}

/// What must have been done before this can be found.
fn gift(how: Use) -> Option<Use> {
    match how {
        Use::FindsEnd => Some(Use::EndsSending),
        Use::FindsNoTaker => Some(Use::EndsTaking),
        Use::Accepts => Some(Use::Connects),
        _ => None,
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

/// An open file that a call or the end of a task may close for good: its number, and the channels that it sends to and
/// takes from.
type End = (u64, [Option<ChannelId>; 2]);

/// The passage over the frames of a recording.
#[derive(Default)]
struct Reading {
    channels: Channels,
    /// The number of the last event.
    event: u64,
    /// The last event of each task.
    last: HashMap<i32, u64>,
    /// The connections that the last event made or accepted, whose addresses may follow it: the open file, the process, the
    /// descriptor, and whether it accepted.
    made: Vec<(u64, i32, i32, bool)>,
}

impl Reading {
    fn follow(&mut self, tree: &mut ProcessTree, kernel: &mut Kernel, frame: &Frame) {
        match frame {
            Frame::Event(event) => {
                self.note_connections(kernel);
                self.event += 1;
                self.last.insert(event.tid, self.event);
                let pid = tree.pid(event.tid);
                let call = event.call().filter(|call| call.was_made());
                let (Some(pid), Some(call)) = (pid, call) else {
                    return kernel.follow(tree, frame);
                };
                let uses = kernel.channel_uses(call, &tree.view(event.tid));
                for one in uses {
                    self.channels.events.push(ChannelEvent {
                        event: self.event,
                        pid,
                        channel: one.channel,
                        what: one.what,
                        range: one.range,
                        counts_messages: one.counts_messages,
                    });
                }
                let ends = closing(tree, kernel, event.tid, call);
                self.shut_down(tree, kernel, event.tid, pid, call);
                kernel.follow(tree, frame);
                self.note_closed(tree, kernel, self.event, pid, ends);
                self.note_made(tree, event.tid, pid, call);
            }
            Frame::Gone { tid, .. } => {
                self.note_connections(kernel);
                let pid = tree.pid(*tid);
                let ends = ends_of(tree, kernel, *tid, |_| true);
                kernel.follow(tree, frame);
                if let (Some(pid), Some(event)) = (pid, self.last.remove(tid)) {
                    self.note_closed(tree, kernel, event, pid, ends);
                }
            }
            _ => kernel.follow(tree, frame),
        }
    }

    /// Notes something that moves nothing, at this position.
    fn add(&mut self, event: u64, pid: i32, channel: ChannelId, what: Use, at: u64) {
        self.channels.events.push(ChannelEvent {
            event,
            pid,
            channel,
            what,
            range: at..at,
            counts_messages: false,
        });
    }

    /// Follows shutdown(2).
    fn shut_down(
        &mut self,
        tree: &ProcessTree,
        kernel: &Kernel,
        tid: i32,
        pid: i32,
        call: &CallEvent,
    ) {
        if i64::from(call.nr) != libc::SYS_shutdown || call.ret != Some(0) {
            return;
        }
        let view = tree.view(tid);
        let Some((id, file)) = view.file(call.args[0] as i32) else {
            return;
        };
        let how = call.args[1] as i32;
        let [sends, takes] = kernel.channels(id, file);
        let sends = sends.filter(|_| how != libc::SHUT_RD);
        let takes = takes.filter(|_| how != libc::SHUT_WR);
        self.end(kernel, self.event, pid, [sends, takes]);
    }

    /// Notes the ends that are closed for good.
    fn note_closed(
        &mut self,
        tree: &ProcessTree,
        kernel: &Kernel,
        event: u64,
        pid: i32,
        ends: Vec<End>,
    ) {
        for (id, channels) in ends {
            if tree.open_files().any(|(open, _)| open == id) {
                continue;
            }
            let [sends, takes] = channels;
            let sends = sends.filter(|channel| !has_end(tree, kernel, channel, libc::O_RDONLY));
            let takes = takes.filter(|channel| !has_end(tree, kernel, channel, libc::O_WRONLY));
            self.end(kernel, event, pid, [sends, takes]);
        }
    }

    fn end(
        &mut self,
        kernel: &Kernel,
        event: u64,
        pid: i32,
        [sends, takes]: [Option<ChannelId>; 2],
    ) {
        for (channel, what) in [(sends, Use::EndsSending), (takes, Use::EndsTaking)] {
            if let Some(channel) = channel {
                let (sent, taken) = kernel.flow(&channel);
                let at = match what {
                    Use::EndsSending => sent,
                    _ => taken,
                };
                self.add(event, pid, channel, what, at);
            }
        }
    }

    /// Notes a socket that was connected or accepted.
    fn note_made(&mut self, tree: &ProcessTree, tid: i32, pid: i32, call: &CallEvent) {
        let Some(ret) = call.ret else { return };
        let fd = match i64::from(call.nr) {
            libc::SYS_connect if ret == 0 || ret == -i64::from(libc::EINPROGRESS) => {
                call.args[0] as i32
            }
            libc::SYS_accept | libc::SYS_accept4 if !is_error(ret) => ret as i32,
            _ => return,
        };
        if let Some(id) = tree.file_id(tid, fd) {
            let accepted = i64::from(call.nr) != libc::SYS_connect;
            self.made.push((id, pid, fd, accepted));
        }
    }

    /// Notes the connections of the last event, whose addresses are known now.
    fn note_connections(&mut self, kernel: &Kernel) {
        for (id, pid, fd, accepted) in std::mem::take(&mut self.made) {
            let known = kernel.connection_number(id).zip(kernel.connection(id));
            let Some((number, known)) = known else {
                continue;
            };
            let is_ambiguous = known.is_ambiguous;
            let event = self.event;
            let connection = self.channels.connections.entry(number).or_default();
            connection.number = number;
            connection.is_ambiguous |= is_ambiguous;
            let (end, what) = match accepted {
                true => (&mut connection.accepted, Use::Accepts),
                false => (&mut connection.connected, Use::Connects),
            };
            if end.is_none() {
                *end = Some((event, pid, fd));
                self.add(event, pid, ChannelId::ToServer(number), what, 0);
            }
        }
    }
}

/// The ends of channels that a call may close.
fn closing(tree: &ProcessTree, kernel: &Kernel, tid: i32, call: &CallEvent) -> Vec<End> {
    let one = |arg: usize| {
        let fd = call.args[arg] as i32;
        let view = tree.view(tid);
        let file = view.file(fd);
        file.and_then(|(id, file)| end(kernel, id, file))
            .into_iter()
            .collect()
    };
    match i64::from(call.nr) {
        libc::SYS_close => one(0),
        libc::SYS_dup2 | libc::SYS_dup3 => one(1),
        libc::SYS_close_range => {
            let range = call.args[0] as u32..=call.args[1] as u32;
            ends_of(tree, kernel, tid, |fd| range.contains(&(fd as u32)))
        }
        libc::SYS_execve | libc::SYS_execveat if call.ret == Some(0) => {
            ends_of(tree, kernel, tid, |_| true)
        }
        _ => Vec::new(),
    }
}

fn end(kernel: &Kernel, id: u64, file: &OpenFile) -> Option<End> {
    let channels = kernel.channels(id, file);
    let has_any = channels.iter().any(Option::is_some);
    has_any.then_some((id, channels))
}

fn ends_of(
    tree: &ProcessTree,
    kernel: &Kernel,
    tid: i32,
    is_meant: impl Fn(i32) -> bool,
) -> Vec<End> {
    let view = tree.view(tid);
    let mut ends: Vec<End> = tree
        .each_descriptor(tid)
        .filter(|&(fd, ..)| is_meant(fd))
        .filter_map(|(fd, ..)| {
            let (id, file) = view.file(fd)?;
            end(kernel, id, file)
        })
        .collect();
    ends.sort_by_key(|&(id, _)| id);
    ends.dedup_by_key(|&mut (id, _)| id);
    ends
}

/// Whether any open file other than those of `only` this mode is an end of a pipe or a terminal.
fn has_end(tree: &ProcessTree, kernel: &Kernel, channel: &ChannelId, only: i32) -> bool {
    let side = usize::from(only == libc::O_WRONLY);
    tree.open_files().any(|(id, file)| match channel {
        ChannelId::Pipe(name) => {
            file.flags & libc::O_ACCMODE != only && kernel.pipe_name(id, file) == Some(&**name)
        }
        _ if channel.is_terminal() => kernel.channels(id, file)[side].as_ref() == Some(channel),
        _ => false,
    })
}
