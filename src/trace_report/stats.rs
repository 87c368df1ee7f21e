//! Counts of calls, failures and time.

use crate::trace::{Answer, Call, Entry};
use std::collections::HashMap;
use std::time::Duration;

/// The number of names and of tasks that have counts of their own; all later ones share one count.
const MOST: usize = 1 << 14;

/// The counts of a name or of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// The number of calls.
    pub calls: u64,
    /// The number of failed calls.
    pub errors: u64,
    /// The number of calls with a known duration.
    pub timed: u64,
    /// The total duration of those.
    pub spent: Duration,
}

impl CallCounts {
    fn add(&mut self, call: &Call) {
        self.calls += 1;
        self.errors += u64::from(matches!(call.answer, Answer::Errno(_)));
        if let Some(spent) = call
            .line_info
            .as_ref()
            .and_then(|line_info| line_info.spent)
        {
            self.timed += 1;
            self.spent = self.spent.saturating_add(spent);
        }
    }

    fn join(&mut self, other: CallCounts) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.timed = self.timed.saturating_add(other.timed);
        self.spent = self.spent.saturating_add(other.spent);
    }

    /// The mean duration of a call; `None` where no duration is known.
    pub fn mean(&self) -> Option<Duration> {
        let nanoseconds = self.spent.as_nanos().checked_div(self.timed.into())?;
        Some(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(u64::MAX),
        ))
    }
}

/// Counts of a trace's entries. Memory is bounded.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// All calls.
    pub all: CallCounts,
    /// Signals that were delivered.
    pub signals: u64,
    /// Tasks that ended.
    pub exits: u64,
    names: HashMap<String, CallCounts>,
    other_names: CallCounts,
    tasks: HashMap<i32, CallCounts>,
    other_tasks: CallCounts,
    errnos: HashMap<i32, u64>,
}

impl Stats {
    /// Adds the counts that a table has for a name.
    pub fn add_counts(&mut self, name: &str, counts: CallCounts) {
        self.all.join(counts);
        match self.names.contains_key(name) || self.names.len() < MOST {
            true => self.names.entry(name.to_owned()).or_default().join(counts),
            false => self.other_names.join(counts),
        }
    }

    /// Counts an entry; `tid` is its task, since the entry may not have it.
    pub fn add(&mut self, tid: i32, entry: &Entry) {
        match entry {
            Entry::Call(call) => self.add_call(tid, call),
            Entry::Signal { .. } => self.signals += 1,
            Entry::Exit { .. } => self.exits += 1,
        }
    }

    fn add_call(&mut self, tid: i32, call: &Call) {
        self.all.add(call);
        if let Some(counts) = self.names.get_mut(&call.name) {
            counts.add(call);
        } else if self.names.len() < MOST {
            self.names.entry(call.name.clone()).or_default().add(call);
        } else {
            self.other_names.add(call);
        }
        match self.tasks.contains_key(&tid) || self.tasks.len() < MOST {
            true => self.tasks.entry(tid).or_default().add(call),
            false => self.other_tasks.add(call),
        }
        if let Answer::Errno(errno) = call.answer {
            // Linux has some 130 errnos.
            *self.errnos.entry(errno.clamp(0, 4096)).or_default() += 1;
        }
    }

    /// The counts by name: by falling duration where durations are known, else by falling number of calls. Where there
    /// were too many names, the last entry has the empty name.
    pub fn by_name(&self) -> Vec<(&str, CallCounts)> {
        let names = self
            .names
            .iter()
            .map(|(name, counts)| (name.as_str(), *counts));
        sorted(names.collect(), "", self.other_names)
    }

    /// The counts by task, in the same order. Where there were too many tasks, the last entry is that of task -1.
    pub fn by_task(&self) -> Vec<(i32, CallCounts)> {
        let tasks = self.tasks.iter().map(|(tid, counts)| (*tid, *counts));
        sorted(tasks.collect(), -1, self.other_tasks)
    }

    /// The number of failed calls by errno, the most frequent first.
    pub fn by_errno(&self) -> Vec<(i32, u64)> {
        let mut errnos: Vec<(i32, u64)> = self.errnos.iter().map(|(e, n)| (*e, *n)).collect();
        errnos.sort_by_key(|(errno, n)| (std::cmp::Reverse(*n), *errno));
        errnos
    }
}

fn sorted<K: Ord + Copy>(
    mut counts: Vec<(K, CallCounts)>,
    others: K,
    rest: CallCounts,
) -> Vec<(K, CallCounts)> {
    use std::cmp::Reverse;
    counts.sort_by_key(|(key, counts)| (Reverse(counts.spent), Reverse(counts.calls), *key));
    if rest.calls > 0 {
        counts.push((others, rest));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strace;

    fn of(text: &str) -> Stats {
        let mut stats = Stats::default();
        for entry in strace::parse(text.as_bytes(), "text").trace.entries() {
            stats.add(entry.tid(), entry);
        }
        stats
    }

    #[test]
    fn without_times_the_most_frequent_come_first() {
        let stats = of(
            "1 close(1) = 0\n2 read(0, \"\", 1) = 0\n2 read(9, 0x1, 1) = -1 EBADF (Bad file descriptor)\n",
        );
        let names: Vec<_> = stats
            .by_name()
            .iter()
            .map(|(n, s)| (*n, s.calls, s.errors))
            .collect();
        assert_eq!(names, [("read", 2, 1), ("close", 1, 0)]);
        assert_eq!(stats.by_errno(), [(libc::EBADF, 1)]);
        assert_eq!(stats.by_task().len(), 2);
        assert_eq!(stats.all.mean(), None);
    }

    #[test]
    fn with_times_the_longest_come_first() {
        let stats = of(
            "close(1) = 0 <0.500000>\nread(0, \"\", 1) = 0 <0.000002>\nread(0, \"\", 1) = 0 <0.000004>\n",
        );
        let names: Vec<_> = stats
            .by_name()
            .iter()
            .map(|(n, s)| (*n, s.mean()))
            .collect();
        let micros = |n| Some(Duration::from_micros(n));
        assert_eq!(names, [("close", micros(500_000)), ("read", micros(3))]);
    }

    #[test]
    fn names_without_end_do_not_fill_memory() {
        let text: String = (0..MOST + 10).map(|i| format!("x{i}() = 0\n")).collect();
        let stats = of(&text);
        let names = stats.by_name();
        assert_eq!(names.len(), MOST + 1);
        let last = names.last().map(|(name, counts)| (*name, counts.calls));
        assert_eq!(last, Some(("", 10)));
    }
}
