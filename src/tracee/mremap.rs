//! Moves mappings: mremap(2), also where a range that is one mapping in the recording is several in the kernel.

use super::{Remote, Result, TaskMemory, proc};
use std::ops::Range;

const PAGE: u64 = 0x1000;

/// The arguments of an mremap(2).
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The old address.
    pub from: u64,
    /// The old length; 0 for another mapping of the same shared memory.
    pub len: u64,
    /// The new length.
    pub new_len: u64,
    /// The new address.
    pub to: u64,
    /// Whether the old range stays mapped, empty (`MREMAP_DONTUNMAP`).
    pub stays: bool,
}

impl Move {
    fn args(&self) -> [u64; 6] {
        let mut flags = 0;
        if self.to != self.from {
            flags |= libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        }
        if self.stays {
            flags |= libc::MREMAP_DONTUNMAP;
        }
        let to = if self.to == self.from { 0 } else { self.to };
        [self.from, self.len, self.new_len, flags as u64, to, 0]
    }

    fn is_whole(&self) -> bool {
        self.len == 0 || self.stays && self.len != self.new_len
    }

    /// Moves memory to exactly the new address; returns the kernel's answer.
    ///
    /// Separate mappings are moved one by one, since the kernel moves several at once only in some cases.
    ///
    /// # Errors
    /// If the task ends, or its mappings cannot be read.
    pub fn make(&self, remote: &mut Remote<'_>) -> Result<i64> {
        let made = remote.call(libc::SYS_mremap, self.args())?;
        let refused = [libc::EFAULT, libc::EINVAL].map(|errno| -i64::from(errno));
        if !refused.contains(&made) {
            return Ok(made);
        }
        match self.len {
            0 => self.duplicate(remote, made),
            _ if self.is_whole() => Ok(made),
            _ => self.make_in_pieces(remote, made),
        }
    }

    fn make_in_pieces(&self, remote: &mut Remote<'_>, made: i64) -> Result<i64> {
        let end = self.from.saturating_add(self.len.next_multiple_of(PAGE));
        let new_end = self.to.saturating_add(self.new_len.next_multiple_of(PAGE));
        let kept = self.from..end.min(self.from.saturating_add(new_end - self.to));
        let maps = proc::maps(remote.memory().tid())?;
        let pieces: Vec<Range<u64>> = maps.iter().filter_map(|m| m.overlap(&kept)).collect();
        if pieces.len() < 2 {
            return Ok(made);
        }
        if kept.end < end {
            remote.call(libc::SYS_munmap, [kept.end, end - kept.end, 0, 0, 0, 0])?;
        }
        if self.to != self.from {
            let args = [self.to, new_end - self.to, 0, 0, 0, 0];
            remote.call(libc::SYS_munmap, args)?;
        }
        for piece in &pieces {
            let to = self.to + (piece.start - self.from);
            let len = piece.end - piece.start;
            let new_len = match piece.end == end {
                true => new_end - to,
                false => len,
            };
            let part = Move {
                from: piece.start,
                len,
                new_len,
                to,
                stays: self.stays,
            };
            if to == piece.start && len == new_len {
                continue;
            }
            let made = remote.call(libc::SYS_mremap, part.args())?;
            if made != to as i64 {
                return Ok(made);
            }
        }
        Ok(self.to as i64)
    }

    /// Makes another mapping of memory that is shared in the recording but private in the kernel.
    fn duplicate(&self, remote: &mut Remote<'_>, made: i64) -> Result<i64> {
        let memory: TaskMemory = remote.memory();
        let maps = proc::maps(memory.tid())?;
        let Some(map) = maps.iter().find(|map| map.holds(self.from) && !map.shared) else {
            return Ok(made);
        };
        let len = self.new_len.next_multiple_of(PAGE);
        let (mut flags, mut fd, mut offset) = (libc::MAP_PRIVATE | libc::MAP_FIXED, u64::MAX, 0);
        match map.inode {
            0 => flags |= libc::MAP_ANONYMOUS,
            _ => {
                remote.reset_scratch();
                let name = remote.put_str(&map.name)?;
                let how = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64;
                let args = [libc::AT_FDCWD as u64, name, how, 0, 0, 0];
                match remote.call(libc::SYS_openat, args)? {
                    // A mapping without a file: its content is copied.
                    ..0 => flags |= libc::MAP_ANONYMOUS,
                    opened => (fd, offset) = (opened as u64, map.offset + self.from - map.start),
                }
            }
        }
        let prot = map.prot as u64;
        let args = [self.to, len, prot, flags as u64, fd, offset];
        let made = remote.call(libc::SYS_mmap, args)?;
        if fd != u64::MAX {
            remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        if made == self.to as i64 {
            let shown = self.from..map.end.min(self.from.saturating_add(len));
            let pages = match fd {
                u64::MAX => shown.step_by(PAGE as usize).collect(),
                _ => proc::PageMap::open(memory.tid())?.private(shown.start, shown.end)?,
            };
            for page in pages {
                let data = memory.bytes(page, PAGE as usize);
                memory.write(self.to + (page - self.from), &data)?;
            }
        }
        Ok(made)
    }
}
