//! memfd_create(2): the content of an anonymous file, as far as calls wrote it.

use super::OpenFile;
use crate::recording::CallEvent;

/// The state of an anonymous file.
#[derive(Clone, Debug, Default)]
pub struct Memfd {
    /// The bytes that calls wrote.
    pub bytes: Vec<u8>,
    /// The file may hold other bytes: it was mapped, or written with unknown data.
    pub incomplete: bool,
}

impl Memfd {
    /// The most bytes of one file that are modelled.
    const MOST: usize = 16 << 20;

    /// Follows a write; returns by how much the file has grown.
    pub(super) fn write(&mut self, file: &OpenFile, call: &CallEvent, data: &[u8]) -> usize {
        let at = match i64::from(call.nr) {
            libc::SYS_pwrite64 | libc::SYS_pwritev => call.args[3],
            libc::SYS_pwritev2 if call.args[3] != u64::MAX => call.args[3],
            _ => file.offset,
        };
        let end = usize::try_from(at)
            .ok()
            .and_then(|at| at.checked_add(data.len()));
        let Some(end) = end.filter(|&end| end <= Memfd::MOST) else {
            self.incomplete = true;
            return 0;
        };
        let before = self.bytes.len();
        if end > before {
            self.bytes.resize(end, 0);
        }
        self.bytes[end - data.len()..end].copy_from_slice(data);
        self.bytes.len() - before
    }

    /// Follows a call on it.
    pub(super) fn follow(&mut self, call: &CallEvent) {
        if i64::from(call.nr) == libc::SYS_ftruncate {
            let len = usize::try_from(call.args[1]).ok();
            match len.filter(|&len| len <= Memfd::MOST) {
                Some(len) => self.bytes.resize(len, 0),
                None => self.incomplete = true,
            }
        }
    }

    /// Follows mmap(2) of it: writes to shared memory make no calls.
    pub(super) fn mapped(&mut self, call: &CallEvent) {
        let [_, _, prot, flags, ..] = call.args;
        let is_shared = flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE;
        self.incomplete |= is_shared && prot & libc::PROT_WRITE as u64 != 0;
    }
}
