//! Stacks grow as far as their limit allows, and replay keeps room for that. When the limit is lowered, what the stack
//! had not come to is out of its reach.

use super::task::Task;
use super::{Recorder, Result};
use crate::image::STACK_ROOM;
use crate::recording::{CallEvent, Frame, Piece, Shows};

const PAGE: u64 = 0x1000;

impl Recorder {
    /// What a call has taken from a stack's room.
    pub(super) fn limited_stack(&self, me: &Task, event: &CallEvent) -> Result<Option<Frame>> {
        let Some((pid, limit)) = event.stack_limit() else {
            return Ok(None);
        };
        let tid = match pid {
            0 => me.tid,
            pid if pid == me.pid || pid == me.tid => me.tid,
            pid => match self.tasks.values().find(|task| task.pid == pid) {
                Some(task) => task.tid,
                None => return Ok(None),
            },
        };
        // A child that has its parent's memory until it executes a program sets the limit for that.
        let space = match tid == me.tid {
            true => me.space,
            false => self.tasks.get(&tid).map_or(0, |task| task.space),
        };
        let owner = |task: &&Task| task.space == space;
        let others = self.tasks.values().filter(owner).map(|task| task.pid);
        let mut pids: Vec<i32> = others
            .chain((space == me.space).then_some(me.pid))
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
}
