//! What the events of a recording sent to other processes and took from them.
//!
//! [`reading`] is the passage over a recording that finds it out; [`signals`] are the signals and the ends of processes there,
//! and [`readiness`] what poll(2), select(2) and epoll_wait(2) told.

mod readiness;
mod reading;
mod signals;
#[cfg(test)]
mod tests;

use super::Recording;
use crate::kernel::{ChannelId, Kernel, ProcessTree, Use};
use crate::recording::Result;
use crate::trace::Exit;
use reading::Reading;
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
    /// How it was taken: [`Use::Takes`], [`Use::Looks`], [`Use::FindsReady`], [`Use::IsKilled`], [`Use::FindsEnd`],
    /// [`Use::FindsNoTaker`], [`Use::Accepts`] or [`Use::FindsConnection`].
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
    /// How each process ended, by the last one with a pid.
    ends: BTreeMap<i32, (u64, Exit)>,
}

impl ChannelEvent {
    /// Whether one of the events that gave what it took is enough. Otherwise it needs all of them.
    pub fn needs_one(&self) -> bool {
        let is_signal = matches!(self.channel, ChannelId::Signal { .. });
        self.what == Use::FindsReady || is_signal
    }
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

    /// The last event of a process, and how it ended; `None` where the recording does not reach so far.
    pub fn end(&self, pid: i32) -> Option<(u64, Exit)> {
        self.ends.get(&pid).copied()
    }

    /// The events that gave what an event took: data, a connection, the end of data.
    pub fn sources(&self, event: u64) -> Vec<Dependency> {
        let uses = self.of_event(event).iter();
        uses.flat_map(|taken| self.sources_of(taken)).collect()
    }

    /// The events that gave what was taken by this use.
    pub fn sources_of(&self, taken: &ChannelEvent) -> Vec<Dependency> {
        let dependency = |source: &ChannelEvent, range: Range<u64>| Dependency {
            event: source.event,
            pid: source.pid,
            channel: taken.channel.clone(),
            how: taken.what,
            range,
        };
        if takes_positions(taken.what) {
            let sources = self.overlapping(&taken.channel, &taken.range);
            return sources
                .map(|source| dependency(source, overlap(&source.range, &taken.range)))
                .collect();
        }
        let gives = gift(taken.what);
        let is_meant = |one: &&ChannelEvent| Some(one.what) == gives;
        // The last one before it; where there is none, the call gave before it returned.
        let before = self.of_channel(&taken.channel).filter(is_meant);
        let before = before.take_while(|one| one.event < taken.event).last();
        let source = before.or_else(|| self.of_channel(&taken.channel).find(is_meant));
        let found = source.map(|source| dependency(source, taken.range.clone()));
        found.into_iter().collect()
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
            if one.what == Use::Sends {
                self.sent.entry(one.channel.clone()).or_default().push(at);
            }
            let all = self.of_channel.entry(one.channel.clone());
            all.or_default().push(at);
        }
        for sent in self.sent.values_mut() {
            sent.sort_by_key(|&at| self.events[at].range.start);
        }
        self.tell_ends_from_data();
        for (at, one) in self.events.iter().enumerate() {
            if takes_positions(one.what) {
                self.taken.entry(one.channel.clone()).or_default().push(at);
            }
        }
        self
    }
}

/// Whether it takes, or looks at, what was sent to the positions of its range.
fn takes_positions(how: Use) -> bool {
    matches!(
        how,
        Use::Takes | Use::Looks | Use::FindsReady | Use::IsKilled
    )
}

/// What must have been done before this can be found.
fn gift(how: Use) -> Option<Use> {
    match how {
        Use::FindsEnd => Some(Use::EndsSending),
        Use::FindsNoTaker => Some(Use::EndsTaking),
        Use::Accepts | Use::FindsConnection => Some(Use::Connects),
        _ => None,
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}
