//! Files that the program maps and writes to: what it writes shows in its memory, without any call
//! that would say so. Such a write's outputs are therefore what it changed in the mappings, too.

use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{Memory, Syscall};
use crate::tracee::{Stopped, proc};
use std::ops::Range;

impl Recorder {
    /// What a call wrote to mapped files, as it is in memory now.
    pub(super) fn written_through(
        &mut self,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<Vec<Chunk>> {
        let Some(len) = event.ret.filter(|&ret| ret > 0) else {
            return Ok(Vec::new());
        };
        // The descriptor that is written to, and the argument that may say where.
        let (fd, at) = match call.name {
            "write" | "writev" | "sendfile" => (0, None),
            "pwrite64" | "pwritev" | "pwritev2" => (0, Some(3)),
            "copy_file_range" | "splice" => (2, Some(3)),
            _ => return Ok(Vec::new()),
        };
        let fd = event.args[fd] as i32;
        let Some(file) = self.table.get(fd) else {
            return Ok(Vec::new());
        };
        let Some(&id) = self.mapped.get(&file.path) else {
            return Ok(Vec::new());
        };
        let path = file.path.clone();
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
                let all = proc::descriptors(task.tid())?;
                let now = all.iter().find(|d| d.fd == fd).map_or(0, |d| d.offset);
                now.saturating_sub(len as u64)
            }
        };
        let written = start..start.saturating_add(len as u64);
        let mut chunks = Vec::new();
        for map in proc::maps(task.tid())? {
            let name = map.name.strip_suffix(b" (deleted)").unwrap_or(&map.name);
            if map.inode == 0 || name != path {
                continue;
            }
            if let Some((addr, len)) = overlap(&map, &written) {
                let data = task.memory().bytes(addr, len);
                chunks.push(Chunk { addr, data });
            }
        }
        if !chunks.is_empty() {
            // The file may have grown: replay maps the kept copy, which then must reach as far.
            self.writer.files().extend(id, written.end)?;
        }
        Ok(chunks)
    }
}

/// The address and the length of the part of a mapping that shows this range of its file.
fn overlap(map: &proc::Map, range: &Range<u64>) -> Option<(u64, usize)> {
    let from = range.start.max(map.offset);
    let to = range.end.min(map.offset + (map.end - map.start));
    let len = to.checked_sub(from).filter(|&len| len > 0)?;
    Some((map.start + (from - map.offset), usize::try_from(len).ok()?))
}
