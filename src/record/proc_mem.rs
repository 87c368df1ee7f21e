//! Writes to memory through `/proc/PID/mem`, of the process itself or of another.

use super::mapped_files::moved;
use super::task::{Task, TaskState};
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, Frame};
use crate::syscall::Syscall;
use crate::tracee::{Stopped, TaskMemory};

impl Recorder {
    /// Records the memory that a call has written through `/proc/PID/mem`: an output for the caller's own memory.
    /// `None` where the call writes to another kind of file.
    pub(super) fn written_to_memory(
        &self,
        current: &Task,
        task: &Stopped,
        call: &Syscall,
        event: &mut CallEvent,
    ) -> Result<Option<Vec<Frame>>> {
        let fd = match call.name {
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile" => event.args[0],
            "copy_file_range" | "splice" => event.args[2],
            _ => return Ok(None),
        };
        let file = self.family.open_file(current.tid, fd as i32);
        let Some(owner) = file.and_then(|file| owner(&file.path)) else {
            return Ok(None);
        };
        let Some(range) = moved(current.tid, call, event, fd as i32, None)? else {
            return Ok(Some(Vec::new()));
        };
        let chunk = |memory: TaskMemory| Chunk {
            addr: range.start,
            data: memory.bytes(range.start, (range.end - range.start) as usize),
        };
        if [current.tid, current.pid].contains(&owner) {
            event.outs.push(chunk(task.memory()));
            return Ok(Some(Vec::new()));
        }
        let has_memory = |other: &&Task| !other.leaving && !matches!(other.state, TaskState::Taken);
        let mut theirs = self.tasks.values().filter(has_memory);
        let Some(other) = theirs.find(|other| [other.tid, other.pid].contains(&owner)) else {
            return Ok(Some(Vec::new()));
        };
        if other.space == current.space {
            event.outs.push(chunk(task.memory()));
            return Ok(Some(Vec::new()));
        }
        Ok(Some(vec![Frame::Poke {
            tid: other.tid,
            chunks: vec![chunk(TaskMemory::new(other.tid))],
        }]))
    }
}

/// The task of a path `/proc/PID/mem`.
fn owner(path: &[u8]) -> Option<i32> {
    let path = std::str::from_utf8(path).ok()?.strip_prefix("/proc/")?;
    let who = path.strip_suffix("/mem")?;
    who.rsplit("/task/").next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn memory_is_told_by_its_path() {
        assert_eq!(owner(b"/proc/17/mem"), Some(17));
        assert_eq!(owner(b"/proc/17/task/18/mem"), Some(18));
        assert_eq!(owner(b"/proc/17/maps"), None);
        assert_eq!(owner(b"/proc/17/memory"), None);
        assert_eq!(owner(b"/home/17/mem"), None);
    }
}
