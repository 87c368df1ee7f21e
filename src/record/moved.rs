//! Data that goes to a standard stream inside the kernel (sendfile, copy_file_range, splice):
//! replay has to print it, so it is read from where it came from.

use super::task::Task;
use super::{Recorder, Result};
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{Memory, Syscall};
use crate::tracee::{Error, proc};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most that one call may move.
pub const MOST: u64 = 16 << 20;

/// Where the data comes from.
pub struct Source {
    fd: i32,
    offset: u64,
}

impl Source {
    /// The bytes that the call has moved.
    pub fn read(&self, tid: i32, len: usize) -> Result<Vec<u8>> {
        let what = || format!("read what it copied from descriptor {}", self.fd);
        let file = File::open(format!("/proc/{tid}/fd/{}", self.fd))
            .map_err(|e| Error::os(what(), tid, e))?;
        let mut data = vec![0; len];
        file.read_exact_at(&mut data, self.offset)
            .map_err(|e| Error::os(what(), tid, e))?;
        Ok(data)
    }
}

impl Recorder {
    /// Where the data of a call that is about to be made comes from, if it goes to a standard stream.
    pub(super) fn moved_source(
        &self,
        me: &Task,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<Option<Source>> {
        let (from, offset, to) = match call.name {
            "sendfile" => (1, 2, 0),
            "copy_file_range" | "splice" => (0, 1, 2),
            "tee" => (0, 0, 1),
            _ => return Ok(None),
        };
        if self
            .family
            .output_stream(me.tid, event.args[to] as i32)
            .is_none()
        {
            return Ok(None);
        }
        let fd = event.args[from] as i32;
        let regular =
            std::fs::metadata(format!("/proc/{}/fd/{fd}", me.tid)).is_ok_and(|m| m.is_file());
        if !regular || call.name == "tee" {
            let what = format!("{} from a pipe to standard output", call.name);
            return Err(self.unsupported(&what, ""));
        }
        let mut explicit = [0; 8];
        let has = ChunkMemory(&event.ins).read(event.args[offset], &mut explicit) == 8;
        let offset = if has && event.args[offset] != 0 {
            u64::from_le_bytes(explicit)
        } else {
            proc::descriptors(me.tid)?
                .iter()
                .find(|d| d.fd == fd)
                .map_or(0, |d| d.offset)
        };
        Ok(Some(Source { fd, offset }))
    }
}
