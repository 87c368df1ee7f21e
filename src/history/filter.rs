//! Finding events: by call, path, descriptor, failure.

use super::Recording;
use crate::kernel::{Descriptors, ProcessTree, files_named_by};
use crate::recording::{CallEvent, Event, EventKind, Frame, Result, Start};
use crate::syscall::{self, Syscall};
use crate::trace::{Answer, CallFiles, Exit};
pub use crate::trace::{Failed, Predicate};
use std::sync::Arc;

/// The conditions of a search. All must hold; the default finds all events.
#[derive(Default)]
pub struct Filter {
    /// Events of this process or task, as recorded.
    pub pid: Option<i32>,
    /// Calls that this predicate accepts.
    pub calls: Option<Predicate<Syscall>>,
    /// Calls about a file that this predicate accepts.
    pub path: Option<Predicate<CallFiles>>,
    /// Calls about this descriptor.
    pub fd: Option<i32>,
    /// The first event.
    pub from: Option<u64>,
    /// The last event.
    pub to: Option<u64>,
    /// Calls that failed.
    pub failed: Option<Failed>,
    /// Only the nth of the events that match, from 1.
    pub nth: Option<u64>,
}

/// An event that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// The process of its task.
    pub pid: i32,
    /// The event.
    pub event: Event,
    /// The files that the call names; where it names none, those behind its descriptors.
    pub about: CallFiles,
}

/// A result of a search.
#[derive(Clone, Debug)]
pub enum Match {
    /// An event that matches.
    Event(Box<Found>),
    /// The end of a task that matches.
    Exit {
        /// The task.
        tid: i32,
        /// How it ended.
        exit: Exit,
    },
}

impl Filter {
    fn of_process(&self, tid: i32, tree: &ProcessTree) -> bool {
        self.pid
            .is_none_or(|pid| pid == tid || tree.pid(tid) == Some(pid))
    }

    fn only_calls(&self) -> bool {
        self.calls.is_some() || self.path.is_some() || self.fd.is_some() || self.failed.is_some()
    }

    fn matches(&self, event: &Event, tree: &ProcessTree, start: &Start) -> Option<CallFiles> {
        if !self.of_process(event.tid, tree) {
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
        let about = about(event.tid, call, tree, start);
        let is_meant = self.path.as_ref().is_none_or(|path| path(&about));
        is_meant.then_some(about)
    }
}

fn fd(call: &CallEvent) -> Option<i32> {
    let known = syscall::by_nr(call.nr.into())?.resolve(&call.args);
    known.fd_arg().map(|arg| call.args[arg] as i32)
}

/// The files that a call is about.
fn about(tid: i32, call: &CallEvent, tree: &ProcessTree, start: &Start) -> CallFiles {
    let descriptors = tree.view(tid);
    CallFiles {
        files: files_named_by(call, &descriptors),
        dirs: vec![descriptors.cwd().into(), start.cwd.as_slice().into()],
    }
}

impl Recording {
    /// The events that match a filter, in order.
    ///
    /// # Errors
    /// If the recording cannot be read; a recording without events has none that match.
    pub fn find(
        self: &Arc<Self>,
        filter: Filter,
    ) -> Result<impl Iterator<Item = Result<Found>> + use<>> {
        let all = self.find_all(filter)?;
        Ok(all.filter_map(|met| match met {
            Ok(Match::Event(found)) => Some(Ok(*found)),
            Ok(Match::Exit { .. }) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The events that match a filter and the ends of tasks among them, in order. A search for the nth event has no
    /// ends of tasks.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn find_all(
        self: &Arc<Self>,
        mut filter: Filter,
    ) -> Result<impl Iterator<Item = Result<Match>> + use<>> {
        let recording = Arc::clone(self);
        let mut tree = ProcessTree::at_start(self.start());
        let first = self.start().pid;
        // The descriptors of an event depend on all events before it.
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
                    // Without a frame of its own, the first process ended with the recording.
                    Frame::End { exit } if tree.is_alive(first) => Some((first, *exit)),
                    _ => None,
                };
                let end = end.filter(|&(tid, _)| {
                    within(number) && filter.nth.is_none() && filter.of_process(tid, &tree)
                });
                let meant = match &frame {
                    Frame::Event(event) if within(number) => {
                        filter.matches(event, &tree, recording.start())
                    }
                    _ => None,
                };
                let pid = match &frame {
                    Frame::Event(event) => tree.pid(event.tid).unwrap_or(event.tid),
                    _ => 0,
                };
                tree.follow(&frame);
                if let Some((tid, exit)) = end {
                    return Some(Ok(Match::Exit { tid, exit }));
                }
                let (Some(about), Frame::Event(event)) = (meant, frame) else {
                    continue;
                };
                matched += 1;
                if filter.nth.is_none_or(|nth| nth == matched) {
                    if filter.nth.is_some() {
                        // No later event matches.
                        filter.to = Some(0);
                    }
                    let found = Found {
                        number,
                        pid,
                        event,
                        about,
                    };
                    return Some(Ok(Match::Event(Box::new(found))));
                }
            }
        }))
    }

    /// An event with its files.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn found(&self, number: u64) -> Result<Found> {
        let event = self.event(number)?;
        let (pid, about) = self.process_tree_at(number, |tree| {
            let call = event.call();
            let about = call.map(|call| about(event.tid, call, tree, self.start()));
            (
                tree.pid(event.tid).unwrap_or(event.tid),
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
