//! Changes of a stack's reserve. Stacks grow as far as their limit and other mappings allow, and replay reserves that
//! memory. When the limit is lowered, or a mapping is made in the reserve, the unused rest is out of the stack's reach.

use super::task::Task;
use super::{Recorder, Result};
use crate::image::STACK_ROOM;
use crate::recording::{CallEvent, Frame, Piece, Shows};

const PAGE: u64 = 0x1000;

/// The gap between a stack and a mapping below it: the kernel's `stack_guard_gap`.
const GUARD_GAP: u64 = 256 * PAGE;

/// Stacks are above this address: the kernel places them randomly at most 16 GiB below the end of a process's memory.
const NO_STACK_BELOW: u64 = 0x7ff0_0000_0000;

impl Recorder {
    /// The part of a stack's reserve that a call has removed.
    pub(super) fn limited_stack(&self, current: &Task, event: &CallEvent) -> Result<Option<Frame>> {
        let Some((pid, limit)) = event.stack_limit() else {
            return Ok(None);
        };
        let tid = match pid {
            0 => current.tid,
            pid if pid == current.pid || pid == current.tid => current.tid,
            pid => match self.tasks.values().find(|task| task.pid == pid) {
                Some(task) => task.tid,
                None => return Ok(None),
            },
        };
        // A vfork child sets the limit for the program that it will execute.
        let space = match tid == current.tid {
            true => current.space,
            false => self.tasks.get(&tid).map_or(0, |task| task.space),
        };
        let owner = |task: &&Task| task.space == space;
        let others = self.tasks.values().filter(owner).map(|task| task.pid);
        let mut pids: Vec<i32> = others
            .chain((space == current.space).then_some(current.pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        if pids.len() > 1 {
            return Ok(None);
        }
        let maps = self.maps_of(tid)?;
        let Some(at) = maps.iter().position(|map| map.name == b"[stack]") else {
            return Ok(None);
        };
        let (start, end) = (maps[at].start, maps[at].end);
        let below = at.checked_sub(1).map_or(0, |at| maps[at].end);
        let from = end.saturating_sub(STACK_ROOM).max(below);
        let to = end.saturating_sub(limit / PAGE * PAGE).min(start);
        let piece = Piece {
            start: from,
            len: to.saturating_sub(from),
            prot: 0,
            shows: Shows::Nothing,
        };
        let pieces = vec![piece];
        Ok((from < to).then_some(Frame::Remap { tid, pieces }))
    }

    /// The part of a stack's reserve that a call has removed by a mapping in it.
    pub(super) fn stack_mapped_into(&self, tid: i32, event: &CallEvent) -> Result<Option<Frame>> {
        let maps_something = [libc::SYS_mmap, libc::SYS_mremap, libc::SYS_shmat];
        let (true, Some(at)) = (maps_something.contains(&event.nr.into()), event.ret) else {
            return Ok(None);
        };
        let at = at as u64;
        if !(NO_STACK_BELOW..=i64::MAX as u64).contains(&at) {
            return Ok(None);
        }
        let maps = self.maps_of(tid)?;
        let stack = maps.iter().find(|map| map.name == b"[stack]");
        let new = maps.iter().position(|map| map.holds(at));
        let (Some(stack), Some(n)) = (stack, new) else {
            return Ok(None);
        };
        let room = stack.end.saturating_sub(STACK_ROOM);
        if maps[n].end <= room || maps[n].end > stack.start {
            return Ok(None);
        }
        let below = n.checked_sub(1).map_or(0, |below| maps[below].end);
        let gap = if maps[n].prot == 0 { 0 } else { GUARD_GAP };
        let above = maps.get(n + 1).map_or(stack.start, |above| above.start);
        let (from, to) = (room.max(below), above.min(maps[n].end + gap));
        let gone = |start: u64, end: u64| {
            (start < end).then_some(Piece {
                start,
                len: end.saturating_sub(start),
                prot: 0,
                shows: Shows::Nothing,
            })
        };
        let parts = [gone(from, maps[n].start), gone(maps[n].end, to)];
        let pieces: Vec<Piece> = parts.into_iter().flatten().collect();
        Ok((!pieces.is_empty()).then_some(Frame::Remap { tid, pieces }))
    }
}
