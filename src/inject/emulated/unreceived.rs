//! What did not happen cannot be received.
//!
//! Where a driven process has had another answer than the recorded one, what it sent there may never have been sent. Other
//! recorded processes that took it then went on otherwise, and so did those that took something from these. Recorded answers
//! that came of it are not given any more.

use crate::constants::is_error;
use crate::history::{ChannelEvent, Channels, Dependency, Filter, Recording};
use crate::kernel::{ChannelId, Use};
use crate::recording::{Event, Result};
use crate::trace::Exit;
use crate::{constants, world};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A process that has left the recording without having been driven.
#[derive(Clone, Debug)]
struct Gone {
    /// The event from which on it is not as recorded.
    since: u64,
    /// The process whose event it needed for that, and the event.
    of: (i32, u64),
}

/// How a call of a driven process has not happened as recorded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    /// It had another answer.
    Answered,
    /// It was not made.
    NotMade,
}

/// The events that did not happen as recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreceived {
    channels: Option<Arc<Channels>>,
    /// The events of driven processes that are lost, with their calls.
    roots: BTreeMap<u64, (&'static str, Lost)>,
    /// The processes that ended or left the recording before the event at which they did, each with its first event that never
    /// happened.
    ended: BTreeMap<i32, u64>,
    /// The processes that ended where they did when they were recorded, but otherwise.
    otherwise: BTreeSet<i32>,
    /// The processes that are not driven and not as recorded any more.
    gone: BTreeMap<i32, Gone>,
}

impl Unreceived {
    /// Whether all has happened as recorded.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.ended.is_empty() && self.otherwise.is_empty()
    }

    /// Whether no process has left the recording or ended before its time.
    pub fn all_are_there(&self) -> bool {
        self.gone.is_empty() && self.ended.is_empty()
    }

    /// Whether an event of a driven process had another answer, so far.
    pub fn has(&self, event: u64) -> bool {
        self.roots.contains_key(&event)
    }

    /// The processes that are not driven and have left the recording, with the event before which they did, and those that have
    /// ended or were never made (0).
    pub fn departures(&self) -> (BTreeMap<i32, u64>, BTreeMap<i32, u64>) {
        (self.gone(), self.ended.clone())
    }

    /// Notes that an event of a driven process has not happened as recorded. The processes of `is_driven` say themselves what they
    /// do then.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn lose(
        &mut self,
        event: u64,
        call: (&'static str, Lost),
        recording: &Recording,
        is_driven: impl Fn(i32) -> bool,
    ) -> Result<()> {
        if self.roots.insert(event, call).is_none() {
            self.follow(recording, is_driven)?;
        }
        Ok(())
    }

    /// Notes that a driven process has ended before this event, from which on it is not as recorded.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn lose_process(
        &mut self,
        pid: i32,
        since: u64,
        recording: &Recording,
        is_driven: impl Fn(i32) -> bool,
    ) -> Result<()> {
        self.ended.insert(pid, since);
        self.follow(recording, is_driven)
    }

    /// Notes the end of a driven process that has come to the end of its recorded events.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn end_process(
        &mut self,
        pid: i32,
        exit: Exit,
        recording: &Recording,
        is_driven: impl Fn(i32) -> bool,
    ) -> Result<()> {
        let was = recording.channels()?.end(pid);
        if was.is_some_and(|(_, was)| !is_alike(was, exit)) {
            self.otherwise.insert(pid);
            self.follow(recording, is_driven)?;
        }
        Ok(())
    }

    /// Forgets an event that has been made up for.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn forget(
        &mut self,
        event: u64,
        recording: &Recording,
        is_driven: impl Fn(i32) -> bool,
    ) -> Result<()> {
        match self.roots.remove(&event) {
            Some(_) => self.follow(recording, is_driven),
            None => Ok(()),
        }
    }

    /// Works out which processes are not as recorded any more.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn follow(&mut self, recording: &Recording, is_driven: impl Fn(i32) -> bool) -> Result<()> {
        let channels = recording.channels()?;
        self.gone.clear();
        let mut open: Vec<u64> = self.roots.keys().copied().collect();
        let of_ended = channels.events().iter().filter(|one| {
            let since = self.ended.get(&one.pid);
            since.is_some_and(|&since| one.event >= since)
        });
        open.extend(of_ended.map(|one| one.event));
        let mut seen: BTreeSet<u64> = open.iter().copied().collect();
        let ends = self.otherwise.iter().filter_map(|&pid| channels.end(pid));
        let mut takers: Vec<(u64, Dependency)> = Vec::new();
        for (event, _) in ends {
            let of_end = channels.takers(event).into_iter();
            let of_end = of_end.filter(|taker| matches!(taker.channel, ChannelId::End(_)));
            takers.extend(of_end.map(|taker| (event, taker)));
        }
        loop {
            let Some((event, taker)) = takers.pop() else {
                let Some(event) = open.pop() else { break };
                takers.extend(channels.takers(event).into_iter().map(|one| (event, one)));
                continue;
            };
            let (pid, since) = (taker.pid, taker.event);
            let known = self.gone.get(&pid);
            if is_driven(pid)
                || self.ended.contains_key(&pid)
                || known.is_some_and(|known| known.since <= since)
                || !loses(&channels, &taker, &seen)
            {
                continue;
            }
            let of = channels.of_event(event).first().map_or(0, |one| one.pid);
            self.gone.insert(
                pid,
                Gone {
                    since,
                    of: (of, event),
                },
            );
            let later = channels.events().iter();
            let later = later.filter(|one| one.pid == pid && one.event >= since);
            for one in later {
                if seen.insert(one.event) {
                    open.push(one.event);
                }
            }
        }
        self.channels = Some(channels);
        Ok(())
    }

    /// Why the recorded answer to an event does not hold any more, if so.
    pub fn reason(&self, number: u64, event: &Event) -> Option<String> {
        let channels = self.channels.as_ref()?;
        let goes_on = event.call().is_none_or(|call| call.ret.is_some());
        let uses = channels.of_event(number).iter();
        let mut uses = uses.filter(|used| used.what != Use::IsKilled || !goes_on);
        uses.find_map(|used| self.lost(channels, used))
    }

    /// Why a process is not killed behind its last event, if so.
    pub fn survives(&self, pid: i32) -> Option<String> {
        let channels = self.channels.as_ref()?;
        let (event, _) = channels.end(pid)?;
        let uses = channels.events().iter().rev();
        let uses = uses.filter(|one| one.event <= event && one.pid == pid);
        let mut killed = uses.filter(|used| used.what == Use::IsKilled);
        self.lost(channels, killed.next()?)
    }

    /// Why what was taken was never given, if so.
    fn lost(&self, channels: &Channels, taken: &ChannelEvent) -> Option<String> {
        let sources = channels.sources_of(taken);
        let mut reasons = sources.iter().map(|source| self.never_gave(source));
        match taken.needs_one() {
            true => reasons.collect::<Option<Vec<String>>>()?.into_iter().next(),
            false => reasons.find_map(|reason| reason),
        }
    }

    /// Why what a process has taken was never given, if so.
    fn never_gave(&self, source: &Dependency) -> Option<String> {
        let (what, did) = match (&source.channel, source.how) {
            (&ChannelId::Signal { signal, .. }, _) => {
                let name = constants::signal_name(signal);
                (format!("have sent {name}"), format!("sent {name}"))
            }
            (ChannelId::End(_), _) => ("have ended like this".into(), "ended like this".into()),
            (_, Use::FindsEnd | Use::FindsNoTaker) => {
                ("have closed this".into(), "closed this".into())
            }
            (_, Use::Accepts | Use::FindsConnection) => {
                ("have connected here".into(), "connected here".into())
            }
            _ => ("have sent this".to_owned(), "sent this".to_owned()),
        };
        if let Some((call, how)) = self.roots.get(&source.event) {
            let how = match how {
                Lost::Answered => "had another answer",
                Lost::NotMade => "was not made",
            };
            return Some(format!(
                "the {call} at event {} of process {}, which {did}, {how}",
                source.event, source.pid
            ));
        }
        let ended = self.ended.get(&source.pid);
        if ended.is_some_and(|&since| since <= source.event) {
            return Some(format!(
                "process {}, which would {what} at event {}, has ended before",
                source.pid, source.event
            ));
        }
        if let Some(gone) = self.gone.get(&source.pid)
            && gone.since <= source.event
        {
            return Some(self.told(source.pid, gone, &format!("would {what}")));
        }
        let is_end = source.channel == ChannelId::End(source.pid);
        (is_end && self.otherwise.contains(&source.pid)).then(|| {
            format!(
                "process {}, which would {what} at event {}, has ended otherwise",
                source.pid, source.event
            )
        })
    }

    /// Why nobody takes any more what an event sends, if so: all processes that held the other end have ended before.
    pub fn has_no_taker(&self, number: u64, recording: &Recording) -> Option<String> {
        let channels = self.channels.as_ref().filter(|_| !self.ended.is_empty())?;
        let sends = channels.of_event(number).iter();
        for sent in sends.filter(|one| one.what == Use::Sends) {
            let mut ends = channels.of_channel(&sent.channel);
            let is_closed =
                |one: &&ChannelEvent| one.what == Use::EndsTaking && one.event >= number;
            let Some(closer) = ends.find(is_closed) else {
                continue;
            };
            let ended = |pid: i32, at: u64| self.ended.get(&pid).is_some_and(|&since| since <= at);
            let holders =
                recording.kernel_at(number, |tree, kernel| kernel.takers_of(tree, &sent.channel));
            // A connection that nobody has accepted yet has none.
            let holders = holders.unwrap_or_default();
            let is_held = holders.iter().any(|&pid| !ended(pid, number));
            if ended(closer.pid, closer.event) && !is_held {
                return Some(format!(
                    "process {}, which would have taken this, has ended before",
                    closer.pid
                ));
            }
        }
        None
    }

    /// The processes that are not driven and not as recorded any more, each with the event from which on that is so.
    pub fn gone(&self) -> BTreeMap<i32, u64> {
        let gone = self.gone.iter();
        gone.map(|(&pid, gone)| (pid, gone.since)).collect()
    }

    /// The process that leaves the recording first if none but this one is driven: with the event and the reason.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn first_but(
        &self,
        driven: i32,
        recording: &Recording,
        counts: impl Fn(i32, u64) -> bool,
    ) -> Result<Option<(i32, u64, String)>> {
        let mut all = self.clone();
        all.follow(recording, |pid| pid == driven)?;
        let gone = all.gone.iter().map(|(&pid, gone)| (pid, gone));
        let first = gone
            .filter(|(pid, gone)| counts(*pid, gone.since))
            .min_by_key(|(_, gone)| gone.since);
        Ok(first.map(|(pid, gone)| {
            let reason = self.told(pid, gone, "goes on otherwise than recorded");
            (pid, gone.since, reason)
        }))
    }

    /// The files that they have not changed, each with the reason.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn files(&self, recording: &Arc<Recording>) -> Result<Vec<(Vec<u8>, String)>> {
        let mut files = BTreeMap::new();
        for (&pid, gone) in &self.gone {
            let filter = Filter {
                pid: Some(pid),
                from: Some(gone.since),
                calls: Some(Box::new(|call| world::is_changed_by(call.name))),
                ..Filter::default()
            };
            for found in recording.find(filter)? {
                let found = found?;
                let Some(call) = found.event.call() else {
                    continue;
                };
                let only_reads = match i64::from(call.nr) {
                    libc::SYS_open => !changes(call.args[1]),
                    libc::SYS_openat => !changes(call.args[2]),
                    libc::SYS_mmap => true,
                    _ => false,
                };
                if only_reads || call.ret.is_none_or(is_error) {
                    continue;
                }
                for file in &found.about.files {
                    let paths = file.absolute.iter().filter(|path| path.starts_with(b"/"));
                    for path in paths.filter(|path| !world::is_apart(path)) {
                        let why = || self.told(pid, gone, "would have changed it");
                        files.entry(path.clone()).or_insert_with(why);
                    }
                }
            }
        }
        Ok(files.into_iter().collect())
    }

    fn told(&self, pid: i32, gone: &Gone, what: &str) -> String {
        let (of, event) = gone.of;
        format!(
            "process {pid}, which {what}, never got at event {} what process {of} had sent at event {event}",
            gone.since
        )
    }
}

/// Whether an event takes nothing of what it needs, where these events did not happen.
fn loses(channels: &Channels, taker: &Dependency, lost: &BTreeSet<u64>) -> bool {
    let uses = channels.of_event(taker.event).iter();
    let mut uses = uses.filter(|one| one.channel == taker.channel && one.what == taker.how);
    uses.any(|used| {
        let sources = || channels.sources_of(used);
        !used.needs_one() || sources().iter().all(|source| lost.contains(&source.event))
    })
}

/// Whether two ends look alike. Copies dump no core.
fn is_alike(one: Exit, other: Exit) -> bool {
    match (one, other) {
        (Exit::Signal { signal: one, .. }, Exit::Signal { signal: other, .. }) => one == other,
        _ => one == other,
    }
}

/// Whether a file that is opened with these flags may be changed.
fn changes(flags: u64) -> bool {
    const CHANGES: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
    flags as i32 & CHANGES != 0
}
