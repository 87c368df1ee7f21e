//! epoll(7): the interest list of an epoll instance.

use super::memory::{read_u32, read_u64};
use crate::recording::{CallEvent, ChunkMemory};

/// The most entries of an interest list that are modelled.
const MOST_INTERESTS: usize = 100_000;

/// The state of an epoll instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoll {
    /// The interest list.
    pub interests: Vec<Interest>,
}

/// An entry of an interest list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The descriptor by which it was added.
    pub fd: i32,
    /// The number of its open file.
    pub file: u64,
    /// `EPOLL*`; the events of an `EPOLLONESHOT` entry are cleared once it was reported.
    pub events: u32,
    /// The data that epoll_wait(2) returns.
    pub data: u64,
}

impl Epoll {
    /// Follows epoll_ctl(2) about the descriptor of an open file.
    pub(super) fn control(&mut self, call: &CallEvent, file: u64) {
        let [_, op, fd, event, ..] = call.args;
        let fd = fd as i32;
        self.interests
            .retain(|interest| (interest.fd, interest.file) != (fd, file));
        let memory = ChunkMemory(&call.ins);
        if op as i32 != libc::EPOLL_CTL_DEL
            && self.interests.len() < MOST_INTERESTS
            && let Some(events) = read_u32(&memory, event)
            && let Some(data) = read_u64(&memory, event.wrapping_add(4))
        {
            self.interests.push(Interest {
                fd,
                file,
                events,
                data,
            });
        }
    }

    /// Follows a call on it.
    pub(super) fn follow(&mut self, call: &CallEvent) {
        if waits_for_events(call.nr.into()) {
            self.disarm_reported(call);
        }
    }

    /// Clears the events of `EPOLLONESHOT` entries that a wait reported.
    fn disarm_reported(&mut self, call: &CallEvent) {
        const KEPT: u32 =
            (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;
        let once = libc::EPOLLONESHOT as u32;
        if !self.interests.iter().any(|i| i.events & once != 0) {
            return;
        }
        for (_, data) in reported(call) {
            for interest in &mut self.interests {
                if interest.data == data && interest.events & once != 0 {
                    interest.events &= KEPT;
                }
            }
        }
    }

    /// The entries that a wait reported, each with the `EPOLL*` bits; without those that cannot be told from others.
    pub(crate) fn reported(&self, call: &CallEvent) -> impl Iterator<Item = (Interest, u32)> {
        reported(call).filter_map(|(events, data)| {
            let mut meant = self.interests.iter().filter(|i| i.data == data);
            let first = meant.next()?;
            meant.next().is_none().then_some((*first, events))
        })
    }
}

/// Whether a call waits for the events of an epoll instance.
pub(crate) fn waits_for_events(nr: i64) -> bool {
    matches!(
        nr,
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2
    )
}

/// The events that a wait reported, and their data.
fn reported(call: &CallEvent) -> impl Iterator<Item = (u32, u64)> {
    const SIZE: u64 = 12;
    let count = call.ret.and_then(|ret| u64::try_from(ret).ok());
    (0..count.unwrap_or(0).min(1024)).map_while(|i| {
        let memory = ChunkMemory(&call.outs);
        let at = call.args[1].wrapping_add(i * SIZE);
        Some((
            read_u32(&memory, at)?,
            read_u64(&memory, at.wrapping_add(4))?,
        ))
    })
}
