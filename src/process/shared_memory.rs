//! Memory that several mappings of a process share: recorded calls map, move and unmap it in a copy.

use super::shared_objects::Objects;
use crate::history::Recording;
use crate::recording::{CallEvent, Effect};
use crate::tracee::mremap::Move;
use crate::tracee::{Error, Remote, Result, Stopped, TaskMemory, agent, proc};
use std::cell::RefCell;
use std::rc::Rc;

/// The memory that several mappings of a process share. A copy of the process gets copies of it.
#[derive(Clone, Debug, Default)]
pub struct SharedMemory(Rc<RefCell<Objects>>);

impl SharedMemory {
    pub(crate) fn objects(&self) -> std::cell::Ref<'_, Objects> {
        self.0.borrow()
    }

    /// Replaces the objects that a copy of a process maps by copies. The task is between calls.
    pub(crate) fn of_copy(objects: &Objects, copy: &mut Stopped) -> Result<SharedMemory> {
        let copies = objects.detach(copy)?;
        Ok(SharedMemory(Rc::new(RefCell::new(copies))))
    }

    /// Replaces the objects that a copy of another process of the family maps by the family's copies. The task is between
    /// calls.
    pub(crate) fn join(&self, objects: &Objects, copy: &mut Stopped) -> Result<SharedMemory> {
        objects.detach_into(&mut self.0.borrow_mut(), copy)?;
        Ok(self.clone())
    }

    /// Writes to an object that may be mapped nowhere.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fill(&self, object: u32, offset: u64, data: &[u8]) -> Result<()> {
        self.0.borrow().fill(object, offset, data)
    }

    /// Writes to the process's memory, also to shared memory that the process maps for reading only.
    ///
    /// # Errors
    /// If the memory is not mapped.
    pub fn write(&self, memory: TaskMemory, addr: u64, bytes: &[u8]) -> Result<()> {
        memory.write(addr, bytes).or_else(|error| {
            let written = self.0.borrow().write(memory, addr, bytes);
            written.map_err(|_| error)
        })
    }

    /// Maps shared memory as a recorded mmap did; `None` if the event did not map any, or if the range is in use now.
    ///
    /// # Errors
    /// If the memory cannot be created, or the process cannot make the call.
    pub fn map(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let [_, len, prot, flags, _, offset] = event.args;
        let flags = flags as i32;
        let is_file = flags & libc::MAP_ANONYMOUS == 0;
        let offset = if is_file { offset } else { 0 };
        let fixed = flags & libc::MAP_FIXED != 0;
        let made = self.place(task, recording, event, (len, prot, offset), fixed)?;
        if let Effect::Share { object, .. } = event.effect
            && is_file
        {
            self.0.borrow_mut().note_file(object);
        }
        Ok(made)
    }

    /// Attaches shared memory as a recorded shmat did; `None` if the event did not attach any, or if the range is in
    /// use now.
    ///
    /// # Errors
    /// If the memory cannot be created, or the process cannot make the call.
    pub fn attach(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let Effect::Share { object, size, .. } = event.effect else {
            return Ok(None);
        };
        let flags = event.args[2] as i32;
        let how = (page_end(size), segment_prot(flags), 0);
        let made = self.place(task, recording, event, how, flags & libc::SHM_REMAP != 0)?;
        if made.is_some() {
            self.0.borrow_mut().note_attached(object);
        }
        Ok(made)
    }

    /// Unmaps the memory that is attached at this address; returns the return value of shmdt.
    ///
    /// # Errors
    /// If the process cannot make the call.
    pub fn detach(&mut self, task: &mut Stopped, at: u64) -> Result<i64> {
        let parts = self.0.borrow().attached_at(task.tid(), at)?;
        if parts.is_empty() {
            return Ok(-i64::from(libc::EINVAL));
        }
        let mut remote = task.remote_at_entry()?;
        let made = unmap(&mut remote, &parts)?;
        remote.finish()?;
        Ok(made)
    }

    /// Extends the shared memory that is mapped at `addr`, so that a mapping of `len` bytes there is within it: a copy
    /// gets no frame when the memory grows.
    ///
    /// # Errors
    /// If the process's mappings cannot be read, or the memory cannot be extended.
    pub fn extend(&self, tid: i32, addr: u64, len: u64) -> Result<()> {
        self.0.borrow().extend(tid, addr, len)
    }

    /// Maps shared memory; `how` is the length, the protection and the offset.
    fn place(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
        how: (u64, u64, u64),
        fixed: bool,
    ) -> Result<Option<i64>> {
        let (len, prot, offset) = how;
        let (Effect::Share { object, file, size }, Some(at)) = (&event.effect, event.ret) else {
            return Ok(None);
        };
        let at = at as u64;
        let end = at.saturating_add(len);
        if agent::overlaps(at, end) {
            return Ok(None);
        }
        let flags = match fixed {
            true => libc::MAP_FIXED,
            false => libc::MAP_FIXED_NOREPLACE,
        };
        let path = file
            .map(|id| recording.kept_file(id))
            .transpose()
            .map_err(|e| Error::os("map what was shared", task.tid(), e))?;
        // A copy gets no frame when the memory grows.
        let size = offset.saturating_add(len).max(*size);
        let mut objects = self.0.borrow_mut();
        objects.add(*object, path.as_deref(), size)?;
        let mut remote = task.remote_at_entry()?;
        let made = objects.map_by(&mut remote, *object, flags, (at, len, prot, offset))?;
        remote.finish()?;
        Ok(Some(made).filter(|&made| made != -i64::from(libc::EEXIST)))
    }
}

/// Moves a mapping as a recorded mremap did, in a process whose task is at the entry of the call; `None` if the range
/// is in use now.
///
/// # Errors
/// If the process cannot make the call.
pub fn remap_as_recorded(task: &mut Stopped, event: &CallEvent) -> Result<Option<i64>> {
    let [old, old_len, new_len, flags, ..] = event.args;
    let Some(at) = event.ret.filter(|&ret| ret > 0).map(|ret| ret as u64) else {
        return Ok(None);
    };
    let end = at.saturating_add(new_len);
    let fixed = flags & libc::MREMAP_FIXED as u64 != 0;
    let own = old..old.saturating_add(old_len.max(1));
    let taken = !fixed
        && proc::maps(task.tid())?.iter().any(|map| {
            let behind = map.end > own.end && map.start.max(own.end) < end && at < map.end;
            let before = map.start < own.start && at < map.end.min(own.start) && map.start < end;
            behind || before
        });
    if taken || agent::overlaps(at, end) {
        return Ok(None);
    }
    let mut remote = task.remote_at_entry()?;
    let made = remap(&mut remote, event.args, at as i64)?;
    remote.finish()?;
    Ok(Some(made).filter(|&made| made == at as i64))
}

/// The number of bytes, rounded up to whole pages.
pub(crate) fn page_end(size: u64) -> u64 {
    const PAGE: u64 = 0x1000;
    size.div_ceil(PAGE).saturating_mul(PAGE)
}

/// The protection of a segment that is attached with these shmat flags.
pub(crate) fn segment_prot(flags: i32) -> u64 {
    let mut prot = libc::PROT_READ;
    if flags & libc::SHM_RDONLY == 0 {
        prot |= libc::PROT_WRITE;
    }
    if flags & libc::SHM_EXEC != 0 {
        prot |= libc::PROT_EXEC;
    }
    prot as u64
}

/// Unmaps all parts, each an address and a length; returns the first error, or 0.
pub(crate) fn unmap(remote: &mut Remote<'_>, parts: &[(u64, u64)]) -> crate::tracee::Result<i64> {
    for &(at, len) in parts {
        let made = remote.call(libc::SYS_munmap, [at, len, 0, 0, 0, 0])?;
        if made != 0 {
            return Ok(made);
        }
    }
    Ok(0)
}

/// Makes an mremap to the recorded address.
pub(crate) fn remap(
    remote: &mut Remote<'_>,
    args: [u64; 6],
    ret: i64,
) -> crate::tracee::Result<i64> {
    let [from, len, new_len, flags, ..] = args;
    let to = ret as u64;
    let stays = flags & libc::MREMAP_DONTUNMAP as u64 != 0;
    let moved = Move {
        from,
        len,
        new_len,
        to,
        stays,
    };
    moved.make(remote)
}
