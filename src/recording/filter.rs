//! Finding events: by call, path, descriptor, failure.

use super::{CallEvent, ChunkMemory, DescriptorTable, Event, EventKind, Recording, Result};
use crate::syscall::{self, Syscall};
use crate::trace::Answer;
pub use crate::trace::{Failed, Predicate};
use std::sync::Arc;

/// Which events are meant. All conditions must hold; the default means all events.
#[derive(Default)]
pub struct Filter {
    /// Those of this process or task, as recorded.
    pub pid: Option<i32>,
    /// These calls.
    pub calls: Option<Predicate<Syscall>>,
    /// Calls with such a path, or with a descriptor of such a path; absolute or from the current directory.
    pub path: Option<Predicate<[u8]>>,
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
    /// What it is.
    pub event: Event,
    /// The paths that the call names; where it names none, the path behind its descriptor.
    pub paths: Vec<Vec<u8>>,
}

impl Filter {
    fn only_calls(&self) -> bool {
        self.calls.is_some() || self.path.is_some() || self.fd.is_some() || self.failed.is_some()
    }

    fn matches(&self, event: &Event, table: &DescriptorTable) -> Option<Vec<Vec<u8>>> {
        if self.pid.is_some_and(|pid| pid != event.tid) {
            return None;
        }
        let EventKind::Call(call) = &event.kind else {
            return (!self.only_calls()).then(Vec::new);
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
        let paths = paths(call, table);
        if let Some(path) = &self.path
            && !paths
                .iter()
                .any(|p| path(p) || otherwise(p, table.cwd()).is_some_and(|p| path(&p)))
        {
            return None;
        }
        Some(paths)
    }
}

/// The same path the other way: from the current directory where it is absolute, absolute where it is not.
fn otherwise(path: &[u8], cwd: &[u8]) -> Option<Vec<u8>> {
    if path.first() == Some(&b'/') {
        let rest = path.strip_prefix(cwd)?;
        return rest.strip_prefix(b"/").map(<[u8]>::to_vec);
    }
    let mut whole = cwd.to_vec();
    whole.push(b'/');
    whole.extend_from_slice(path.strip_prefix(b"./").unwrap_or(path));
    Some(whole)
}

fn fd(call: &CallEvent) -> Option<i32> {
    let known = syscall::by_nr(call.nr.into())?.resolve(&call.args);
    known.fd_arg().map(|arg| call.args[arg] as i32)
}

/// The paths that a call names; where it names none, the path behind its descriptor, or behind the new one.
fn paths(call: &CallEvent, table: &DescriptorTable) -> Vec<Vec<u8>> {
    let Some(known) = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args)) else {
        return Vec::new();
    };
    let args = known.path_args();
    if !args.is_empty() {
        let memory = ChunkMemory(&call.ins);
        let values = known.decode(&call.args, None, &memory, &memory);
        let named = args
            .into_iter()
            .filter_map(|arg| values.get(arg)?.as_bytes());
        let named: Vec<Vec<u8>> = named
            .filter(|path| !path.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        if !named.is_empty() {
            return named;
        }
    }
    let fd = known.fd_arg().map(|arg| call.args[arg] as i32);
    let file = fd.and_then(|fd| table.get(fd));
    file.map(|file| file.path.clone())
        .into_iter()
        .filter(|path| !path.is_empty())
        .collect()
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
        let mut table = DescriptorTable::at_start(self.start());
        // Descriptors are known from the first event on.
        let mut events = (!self.is_empty())
            .then(|| self.events_from(1))
            .transpose()?;
        let (from, to) = (filter.from.unwrap_or(0), filter.to.unwrap_or(u64::MAX));
        let (mut matched, mut done) = (0, false);
        Ok(std::iter::from_fn(move || {
            while !done {
                let (number, event) = match events.as_mut()?.next()? {
                    Ok(next) => next,
                    Err(error) => {
                        done = true;
                        return Some(Err(error));
                    }
                };
                if number > to {
                    done = true;
                    break;
                }
                let paths = (number >= from)
                    .then(|| filter.matches(&event, &table))
                    .flatten();
                if let Some(call) = event.call() {
                    table.apply(call);
                }
                if let Some(paths) = paths {
                    matched += 1;
                    if filter.nth.is_none_or(|nth| nth == matched) {
                        done = filter.nth.is_some();
                        return Some(Ok(Found {
                            number,
                            event,
                            paths,
                        }));
                    }
                }
            }
            None
        }))
    }

    /// What each descriptor is at an event, before its call is answered.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn descriptors_at(&self, event: u64) -> Result<DescriptorTable> {
        self.event(event)?;
        let mut table = DescriptorTable::at_start(self.start());
        for next in self.events_from(1)? {
            let (number, next) = next?;
            if number >= event {
                break;
            }
            if let Some(call) = next.call() {
                table.apply(call);
            }
        }
        Ok(table)
    }

    /// One event with its paths.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn found(&self, number: u64) -> Result<Found> {
        let event = self.event(number)?;
        let paths = match event.call() {
            Some(call) => paths(call, &self.descriptors_at(number)?),
            None => Vec::new(),
        };
        Ok(Found {
            number,
            event,
            paths,
        })
    }
}
