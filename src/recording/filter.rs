//! Finding events: by call, path, descriptor, failure.

use super::whereabouts::files_of_event;
use super::{CallEvent, Event, EventKind, Family, Frame, Places, Recording, Result, Start};
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, CallFiles, Exit};
pub use crate::trace::{Failed, Predicate};
use std::sync::Arc;

/// Which events are meant. All conditions must hold; the default means all events.
#[derive(Default)]
pub struct Filter {
    /// Those of this process or task, as recorded.
    pub pid: Option<i32>,
    /// These calls.
    pub calls: Option<Predicate<Syscall>>,
    /// Calls about such a file.
    pub path: Option<Predicate<CallFiles>>,
    /// Calls about this descriptor.
    pub fd: Option<i32>,
    /// The first event.
    pub from: Option<u64>,
    /// The last event.
    pub to: Option<u64>,
    /// Calls that failed.
    pub failed: Option<Failed>,
    /// Of those that match, only the nth, from 1.
    pub nth: Option<u64>,
}

/// An event that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Its task's process.
    pub pid: i32,
    /// What it is.
    pub event: Event,
    /// The files that the call names; where it names none, those behind its descriptors.
    pub about: CallFiles,
}

/// What a search comes across.
#[derive(Clone, Debug)]
pub enum Met {
    /// An event that is meant.
    Event(Box<Found>),
    /// The end of a task that is meant.
    Exit {
        /// The task.
        tid: i32,
        /// How it ended.
        exit: Exit,
    },
}

impl Filter {
    fn of_process(&self, tid: i32, family: &Family) -> bool {
        self.pid
            .is_none_or(|pid| pid == tid || family.pid(tid) == Some(pid))
    }

    fn only_calls(&self) -> bool {
        self.calls.is_some() || self.path.is_some() || self.fd.is_some() || self.failed.is_some()
    }

    fn matches(&self, event: &Event, family: &Family, start: &Start) -> Option<CallFiles> {
        if !self.of_process(event.tid, family) {
            return None;
        }
        let EventKind::Call(call) = &event.kind else {
            return (!self.only_calls()).then(CallFiles::default);
        };
        let answer = call.ret.map(Answer::from_raw);
        let failed = |wanted: Failed| answer.as_ref().is_some_and(|answer| wanted.is(answer));
        if !self.failed.is_none_or(failed) {
            return None;
        }
        let described = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args));
        if let Some(calls) = &self.calls
            && !described.is_some_and(calls)
        {
            return None;
        }
        if self.fd.is_some() && self.fd != fd(call) {
            return None;
        }
        let about = about(event.tid, call, family, start);
        let is_meant = self.path.as_ref().is_none_or(|path| path(&about));
        is_meant.then_some(about)
    }
}

fn fd(call: &CallEvent) -> Option<i32> {
    let known = syscall::by_nr(call.nr.into())?.resolve(&call.args);
    known.fd_arg().map(|arg| call.args[arg] as i32)
}

/// The files that a call is about.
fn about(tid: i32, call: &CallEvent, family: &Family, start: &Start) -> CallFiles {
    let places = family.places(tid);
    CallFiles {
        files: files_of_event(call, &places),
        dirs: vec![places.cwd().into(), start.cwd.as_slice().into()],
    }
}

impl Recording {
    /// The events that a filter means, in order.
    ///
    /// # Errors
    /// If the recording cannot be read; a recording without events has none that match.
    pub fn find(
        self: &Arc<Self>,
        filter: Filter,
    ) -> Result<impl Iterator<Item = Result<Found>> + use<>> {
        let all = self.find_all(filter)?;
        Ok(all.filter_map(|met| match met {
            Ok(Met::Event(found)) => Some(Ok(*found)),
            Ok(Met::Exit { .. }) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The same, and the ends of tasks among them. There are none of those where only the nth event is meant.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn find_all(
        self: &Arc<Self>,
        mut filter: Filter,
    ) -> Result<impl Iterator<Item = Result<Met>> + use<>> {
        let recording = Arc::clone(self);
        let mut family = Family::at_start(self.start());
        let first = self.start().pid;
        // Descriptors are known from the first event on.
        let mut frames = (!self.is_empty())
            .then(|| self.frames_from(1))
            .transpose()?;
        let (mut number, mut matched) = (0, 0);
        Ok(std::iter::from_fn(move || {
            loop {
                let frame = match frames.as_mut()?.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => {
                        frames = None;
                        return None;
                    }
                    Err(error) => {
                        frames = None;
                        return Some(Err(error));
                    }
                };
                let within = |number: u64| {
                    number >= filter.from.unwrap_or(0) && number <= filter.to.unwrap_or(u64::MAX)
                };
                let end = match &frame {
                    Frame::Event(_) => {
                        number += 1;
                        if number > filter.to.unwrap_or(u64::MAX) {
                            frames = None;
                            return None;
                        }
                        None
                    }
                    Frame::Gone { tid, exit, .. } => Some((*tid, *exit)),
                    // Where nothing else said how the first process ended.
                    Frame::End { exit } if family.is_alive(first) => Some((first, *exit)),
                    _ => None,
                };
                let end = end.filter(|&(tid, _)| {
                    within(number) && filter.nth.is_none() && filter.of_process(tid, &family)
                });
                let meant = match &frame {
                    Frame::Event(event) if within(number) => {
                        filter.matches(event, &family, recording.start())
                    }
                    _ => None,
                };
                let pid = match &frame {
                    Frame::Event(event) => family.pid(event.tid).unwrap_or(event.tid),
                    _ => 0,
                };
                family.follow(&frame);
                if let Some((tid, exit)) = end {
                    return Some(Ok(Met::Exit { tid, exit }));
                }
                let (Some(about), Frame::Event(event)) = (meant, frame) else {
                    continue;
                };
                matched += 1;
                if filter.nth.is_none_or(|nth| nth == matched) {
                    if filter.nth.is_some() {
                        // That was it.
                        filter.to = Some(0);
                    }
                    let found = Found {
                        number,
                        pid,
                        event,
                        about,
                    };
                    return Some(Ok(Met::Event(Box::new(found))));
                }
            }
        }))
    }

    /// One event with its files.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn found(&self, number: u64) -> Result<Found> {
        let event = self.event(number)?;
        let (pid, about) = self.family_at(number, |family| {
            let call = event.call();
            let about = call.map(|call| about(event.tid, call, family, self.start()));
            (
                family.pid(event.tid).unwrap_or(event.tid),
                about.unwrap_or_default(),
            )
        })?;
        Ok(Found {
            number,
            pid,
            event,
            about,
        })
    }
}
