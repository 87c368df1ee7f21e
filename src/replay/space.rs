//! A recorded address space, in a kernel process in which its tasks take turns.

use super::Result;
use super::context::{self, Context};
use crate::process::JumpPages;
use crate::syscall::Memory;
use crate::tracee::{Remote, Stopped, TaskMemory};
use std::collections::BTreeMap;
use std::ops::Range;

const PAGE: u64 = 0x1000;

/// An address space and its kernel process.
#[derive(Debug)]
pub struct Space {
    /// The kernel process.
    pub task: Stopped,
    /// The task whose vector registers are in the kernel process.
    pub loaded: Option<i32>,
    /// The kernel process stands at the entry of the call at which the loaded task stands.
    pub entered: bool,
    /// The count of possible changes to its memory.
    pub changes: u64,
    /// The effects of madvise(2) on its forks.
    pub advice: Advice,
    /// It has, or had, memory that other spaces may share.
    pub shares: bool,
    /// The pages that preemptions in it have written.
    pub pages: JumpPages,
}

impl Space {
    /// The space of a process that stands between calls and has these vector registers.
    pub fn new(task: Stopped, loaded: i32) -> Space {
        Space {
            task,
            loaded: Some(loaded),
            entered: false,
            changes: 0,
            advice: Advice::default(),
            shares: false,
            pages: JumpPages::default(),
        }
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        self.task.memory()
    }

    /// Borrows the kernel process for calls.
    pub fn remote(&mut self) -> Result<Remote<'_>> {
        self.entered = false;
        Ok(self.task.remote_at_boundary()?)
    }

    /// A copy of the kernel process, between calls. What is shared stays shared.
    pub fn fork(&mut self) -> Result<Stopped> {
        let mut remote = self.remote()?;
        let copy = remote.fork()?;
        remote.finish()?;
        Ok(copy)
    }

    /// A copy of the space for a checkpoint.
    pub fn copy(&mut self) -> Result<Space> {
        Ok(Space {
            task: self.fork()?,
            loaded: self.loaded,
            entered: false,
            changes: self.changes,
            advice: self.advice.clone(),
            shares: self.shares,
            pages: self.pages.clone(),
        })
    }

    /// A copy of the space, as fork(2) makes it, for this task.
    pub fn child(&mut self, tid: i32) -> Result<Space> {
        let mut child = Space {
            loaded: Some(tid),
            changes: 0,
            pages: JumpPages::default(),
            ..self.copy()?
        };
        child.heed_advice()?;
        Ok(child)
    }

    /// Applies the advice of madvise(2) to the memory of a new fork.
    fn heed_advice(&mut self) -> Result<()> {
        let advice = std::mem::take(&mut self.advice);
        if advice.is_empty() {
            return Ok(());
        }
        let mut remote = self.remote()?;
        for range in &advice.left_out {
            let args = [range.start, range.end - range.start, 0, 0, 0, 0];
            remote.call(libc::SYS_munmap, args)?;
        }
        for range in &advice.wiped {
            let dont_need = libc::MADV_DONTNEED as u64;
            let args = [range.start, range.end - range.start, dont_need, 0, 0, 0];
            remote.call(libc::SYS_madvise, args)?;
        }
        remote.finish()?;
        // Memory that is wiped in the child is wiped in its children; memory that is left out does not exist there.
        self.advice.wiped = advice.wiped;
        Ok(())
    }

    /// Loads this task's vector registers into the kernel process, and saves those of the task that was loaded.
    pub fn load(&mut self, tid: i32, tasks: &mut BTreeMap<i32, Context>) -> Result<()> {
        if self.loaded == Some(tid) {
            return Ok(());
        }
        if let Some(before) = self.loaded.and_then(|before| tasks.get_mut(&before)) {
            before.vector = Some(context::vector(&self.task)?);
        }
        self.loaded = None;
        self.entered = false;
        if let Some(vector) = tasks.get_mut(&tid).and_then(|task| task.vector.take()) {
            self.task.set_vector(&vector)?;
        }
        self.loaded = Some(tid);
        Ok(())
    }
}

/// The advice of madvise(2) about forks: `MADV_DONTFORK`, `MADV_WIPEONFORK`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    left_out: Vec<Range<u64>>,
    wiped: Vec<Range<u64>>,
}

impl Advice {
    fn is_empty(&self) -> bool {
        self.left_out.is_empty() && self.wiped.is_empty()
    }

    /// Follows a madvise that succeeded.
    pub fn follow(&mut self, start: u64, len: u64, advice: i32) {
        let range = pages(start, len);
        let (list, there) = match advice {
            libc::MADV_DONTFORK => (&mut self.left_out, true),
            libc::MADV_DOFORK => (&mut self.left_out, false),
            libc::MADV_WIPEONFORK => (&mut self.wiped, true),
            libc::MADV_KEEPONFORK => (&mut self.wiped, false),
            _ => return,
        };
        remove(list, &range);
        if there && !range.is_empty() {
            list.push(range);
        }
    }

    /// Forgets the advice for a range that is mapped anew or unmapped.
    pub fn forget(&mut self, start: u64, len: u64) {
        if !self.is_empty() {
            let range = pages(start, len);
            remove(&mut self.left_out, &range);
            remove(&mut self.wiped, &range);
        }
    }
}

fn pages(start: u64, len: u64) -> Range<u64> {
    let end = start
        .saturating_add(len)
        .div_ceil(PAGE)
        .saturating_mul(PAGE);
    start..end.max(start)
}

fn remove(list: &mut Vec<Range<u64>>, gone: &Range<u64>) {
    let parts = list.iter().flat_map(|range| {
        [
            range.start..range.end.min(gone.start),
            range.start.max(gone.end)..range.end,
        ]
    });
    *list = parts.filter(|range| range.start < range.end).collect();
}

/// Bytes of recorded chunks, or of memory where those do not have all of them.
pub fn memory_of(
    chunks: &[crate::image::Chunk],
    memory: &dyn Memory,
    addr: u64,
    buf: &mut [u8],
) -> bool {
    crate::recording::ChunkMemory(chunks).read(addr, buf) == buf.len()
        || memory.read(addr, buf) == buf.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_for_the_ranges_that_are_left_of_it() {
        let mut advice = Advice::default();
        advice.follow(0x1000, 0x4000, libc::MADV_DONTFORK);
        advice.follow(0x2000, 0x1000, libc::MADV_DOFORK);
        assert_eq!(advice.left_out, [0x1000..0x2000, 0x3000..0x5000]);
        advice.forget(0x4000, 0x10_0000);
        assert_eq!(advice.left_out, [0x1000..0x2000, 0x3000..0x4000]);
        advice.follow(0x1000, 0x10, libc::MADV_WIPEONFORK);
        assert_eq!(advice.wiped.first(), Some(&(0x1000..0x2000)));
        advice.follow(0x0, u64::MAX, libc::MADV_KEEPONFORK);
        advice.forget(0, 0x8000);
        assert!(advice.is_empty());
    }
}
