//! Files that programs map and write to: what is written shows in their memory, without any call
//! that would say so. Such a write's outputs are therefore what it changed in the mappings, too.

use super::task::Task;
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory, Frame};
use crate::syscall::{Memory, Syscall};
use crate::tracee::{Stopped, TaskMemory, proc};
use std::ops::Range;

impl Recorder {
    /// What a call wrote to mapped files, as it is in memory now: among the outputs for the process's own
    /// mappings, and returned for others'.
    pub(super) fn written_through(
        &mut self,
        me: &Task,
        task: &Stopped,
        call: &Syscall,
        event: &mut CallEvent,
    ) -> Result<Vec<Frame>> {
        let Some((path, written)) = self.written(me, call, event)? else {
            return Ok(Vec::new());
        };
        event.outs.extend(shown(
            &proc::maps(task.tid())?,
            &path,
            &written,
            task.memory(),
        ));
        let mut frames = Vec::new();
        for tid in self.one_of_each_other_space(me) {
            let chunks = shown(&self.maps_of(tid)?, &path, &written, TaskMemory::new(tid));
            if !chunks.is_empty() {
                frames.push(Frame::Poke { tid, chunks });
            }
        }
        // The file may have grown: replay maps the kept copy, which then must reach as far.
        if let Some(&id) = self.mapped.get(&path).filter(|_| written.end < u64::MAX) {
            self.writer.files().extend(id, written.end)?;
        }
        Ok(frames)
    }

    /// Which part of which mapped file a call has written to.
    fn written(
        &self,
        me: &Task,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<Option<(Vec<u8>, Range<u64>)>> {
        if self.mapped.is_empty() {
            return Ok(None);
        }
        if i64::from(event.nr) == libc::SYS_fallocate {
            return Ok(self.punched(me, event));
        }
        let Some(len) = event.ret.filter(|&ret| ret > 0) else {
            return Ok(None);
        };
        // The descriptor that is written to, and the argument that may say where.
        let (fd, at) = match call.name {
            "write" | "writev" | "sendfile" => (0, None),
            "pwrite64" | "pwritev" | "pwritev2" => (0, Some(3)),
            "copy_file_range" | "splice" => (2, Some(3)),
            _ => return Ok(None),
        };
        let fd = event.args[fd] as i32;
        let Some(file) = self.family.open_file(me.tid, fd) else {
            return Ok(None);
        };
        if !self.mapped.contains_key(&file.path) {
            return Ok(None);
        }
        let explicit = match (call.name, at) {
            ("pwritev2", Some(at)) if event.args[at] == u64::MAX => None,
            ("copy_file_range" | "splice", Some(at)) => {
                let mut word = [0; 8];
                let given = ChunkMemory(&event.ins).read(event.args[at], &mut word) == 8;
                given.then_some(u64::from_le_bytes(word))
            }
            (_, at) => at.map(|at| event.args[at]),
        };
        let start = match explicit {
            Some(start) => start,
            None => {
                let all = proc::descriptors(me.tid)?;
                let now = all.iter().find(|d| d.fd == fd).map_or(0, |d| d.offset);
                now.saturating_sub(len as u64)
            }
        };
        let written = start..start.saturating_add(len as u64);
        Ok(Some((file.path.clone(), written)))
    }

    /// What a fallocate has zeroed or moved.
    fn punched(&self, me: &Task, event: &CallEvent) -> Option<(Vec<u8>, Range<u64>)> {
        const IN_PLACE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        const BEHIND: i32 = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
        let [fd, mode, start, len, ..] = event.args;
        let file = self.family.open_file(me.tid, fd as i32)?;
        if event.ret != Some(0) || !self.mapped.contains_key(&file.path) {
            return None;
        }
        let end = match mode as i32 {
            mode if mode & IN_PLACE != 0 => start.saturating_add(len),
            mode if mode & BEHIND != 0 => u64::MAX,
            _ => return None,
        };
        Some((file.path.clone(), start..end))
    }
}

/// The parts of a task's memory that show this range of a file.
fn shown(maps: &[proc::Map], path: &[u8], written: &Range<u64>, memory: TaskMemory) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for map in maps {
        let name = map.name.strip_suffix(b" (deleted)").unwrap_or(&map.name);
        if map.inode == 0 || name != path.strip_suffix(b" (deleted)").unwrap_or(path) {
            continue;
        }
        if let Some((addr, len)) = overlap(map, written) {
            let data = memory.bytes(addr, len);
            chunks.push(Chunk { addr, data });
        }
    }
    chunks
}

/// The address and the length of the part of a mapping that shows this range of its file.
fn overlap(map: &proc::Map, range: &Range<u64>) -> Option<(u64, usize)> {
    let from = range.start.max(map.offset);
    let to = range.end.min(map.offset + (map.end - map.start));
    let len = to.checked_sub(from).filter(|&len| len > 0)?;
    Some((map.start + (from - map.offset), usize::try_from(len).ok()?))
}
