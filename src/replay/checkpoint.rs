//! Checkpoints: copies of all tasks at earlier events, from which a replay backwards starts.

use super::Result;
use super::state::ReplayState;
use crate::recording::Event;
use crate::tracee::tsc_off;
use std::time::{Duration, Instant};

/// Taking a checkpoint may cost at most this fraction of the time since the last one.
const SHARE: u32 = 20;

/// The number of events after which the clock is read.
const LOOK: u64 = 128;

/// Each copy of shared memory is an open file of rrapper's: states with more are not kept.
const MOST_SHARED: usize = 64;

/// Limits of the checkpoints that a replay keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointLimits {
    /// The number of checkpoints; 0 for none.
    pub count: usize,
    /// The memory that all checkpoints may take, in bytes.
    pub memory: u64,
    /// The number of events after which the next checkpoint is taken, …
    pub events: u64,
    /// … or the time of replay, if that passes sooner.
    pub time: Duration,
}

impl Default for CheckpointLimits {
    fn default() -> CheckpointLimits {
        CheckpointLimits {
            count: 8,
            memory: 1 << 30,
            events: 20_000,
            time: Duration::from_millis(200),
        }
    }
}

/// The state of all tasks at a pending event.
struct Checkpoint {
    number: u64,
    event: Event,
    state: ReplayState,
}

/// The checkpoints of a replay, by rising event.
pub struct Checkpoints {
    limits: CheckpointLimits,
    list: Vec<Checkpoint>,
    /// The event and the time from which the distance to the next checkpoint counts.
    since: (u64, Instant),
    /// The time that the last checkpoint took.
    cost: Duration,
}

impl Checkpoints {
    /// An empty list.
    pub fn new(limits: CheckpointLimits) -> Checkpoints {
        Checkpoints {
            limits,
            list: Vec::new(),
            since: (1, now()),
            cost: Duration::ZERO,
        }
    }

    /// The last checkpoint at or before this event.
    pub fn before(&self, event: u64) -> Option<u64> {
        let behind = self.list.partition_point(|c| c.number <= event);
        self.list[..behind].last().map(|c| c.number)
    }

    /// A copy of the tasks at the checkpoint of this event, and the event.
    pub fn resume(&mut self, number: u64) -> Result<Option<(ReplayState, Event)>> {
        let Some(checkpoint) = self.list.iter_mut().find(|c| c.number == number) else {
            return Ok(None);
        };
        let state = checkpoint.state.copy()?;
        let event = checkpoint.event.clone();
        self.set_out(number);
        Ok(Some((state, event)))
    }

    /// Counts the distance to the next checkpoint from this event on.
    pub fn set_out(&mut self, number: u64) {
        self.since = (number, now());
    }

    /// The events at which there are checkpoints.
    pub fn events(&self) -> Vec<u64> {
        self.list.iter().map(|c| c.number).collect()
    }

    /// Takes a checkpoint at this event, if the limits say that one is due.
    pub fn pass(&mut self, number: u64, event: &Event, state: &mut ReplayState) {
        if let Err(error) = self.consider(number, event, state) {
            // The replay goes on without checkpoints.
            tracing::warn!("no more checkpoints are kept from event {number} on: {error}");
            self.limits.count = 0;
        }
    }

    fn consider(&mut self, number: u64, event: &Event, state: &mut ReplayState) -> Result<()> {
        let (from, then) = self.since;
        let gone = number.saturating_sub(from);
        if self.limits.count == 0 || gone == 0 || (gone % LOOK != 0 && gone < self.limits.events) {
            return Ok(());
        }
        if let Some(last) = self.before(number).filter(|&last| last > from) {
            self.set_out(last);
            return Ok(());
        }
        let took = now().saturating_duration_since(then);
        let due = gone >= self.limits.events || took >= self.limits.time;
        if !due || took < self.cost * SHARE || state.objects.len() > MOST_SHARED {
            return Ok(());
        }
        let begun = now();
        self.make_room(number)?;
        let at = self.list.partition_point(|c| c.number < number);
        let checkpoint = Checkpoint {
            number,
            event: event.clone(),
            state: state.copy()?,
        };
        self.list.insert(at, checkpoint);
        self.cost = now().saturating_duration_since(begun);
        self.set_out(number);
        Ok(())
    }

    /// Drops checkpoints until the limits admit another.
    fn make_room(&mut self, number: u64) -> Result<()> {
        while self.list.len() >= self.limits.count {
            self.thin(number);
        }
        while !self.list.is_empty() && self.memory()? > self.limits.memory {
            self.thin(number);
        }
        Ok(())
    }

    /// Drops the checkpoint that leaves the smallest gap.
    fn thin(&mut self, number: u64) {
        let at = |n: usize| self.list.get(n).map(|c| c.number);
        let gap = |n: &usize| {
            let before = n.checked_sub(1).and_then(at).unwrap_or(1);
            let behind = at(n + 1).unwrap_or_else(|| before.max(number));
            behind - before
        };
        if let Some(least) = (0..self.list.len()).min_by_key(gap) {
            self.list.remove(least);
        }
    }

    fn memory(&self) -> Result<u64> {
        let sizes = self.list.iter().map(|c| c.state.memory());
        sizes.sum()
    }
}

/// The time; the tracing thread does without the counter that clocks are read from.
fn now() -> Instant {
    tsc_off::with_tsc(Instant::now)
}
