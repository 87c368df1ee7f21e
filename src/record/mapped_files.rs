//! Changes to mapped files: writes to a file and changes of its size show in memory that maps the file, without a call
//! that has this memory as its output. So the changed memory is recorded with the call.

use super::failed_calls::{drops, pages};
use super::shared_memory::ObjectKey;
use super::task::Task;
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory, Frame, Piece, Shows};
use crate::syscall::{Memory, Syscall};
use crate::tracee::{Stopped, TaskMemory, checked_open, proc};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

const PAGE: u64 = 0x1000;

/// The identity of a file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    dev: u64,
    ino: u64,
}

impl FileKey {
    pub fn of(meta: &Metadata) -> FileKey {
        FileKey {
            dev: meta.dev(),
            ino: meta.ino(),
        }
    }

    /// The inode.
    pub fn ino(self) -> u64 {
        self.ino
    }
}

/// A file that a program has mapped.
#[derive(Clone, Debug, Default)]
pub struct MappedFile {
    /// The path at the time of the first mapping.
    pub name: Vec<u8>,
    /// The size of the file.
    pub size: u64,
    /// True if a recorded program has changed the file since its first mapping.
    pub changed: bool,
    /// True if a task that may only read the file has a shared mapping of it.
    pub read_only: bool,
}

impl MappedFile {
    /// Returns whether a mapping shows this file. Some file systems have another device number in mappings than in
    /// stat(2).
    fn is_in(&self, key: FileKey, map: &proc::Map) -> bool {
        let named = |name: &[u8]| name.strip_suffix(b" (deleted)").unwrap_or(name).to_vec();
        map.inode == key.ino && (map.dev == key.dev || named(&map.name) == named(&self.name))
    }
}

/// A change of a file by a call.
struct Change {
    key: FileKey,
    /// The new size.
    size: u64,
    /// The range with possibly changed content.
    written: Range<u64>,
    /// The path at which the file can be read.
    path: PathBuf,
}

impl Recorder {
    /// Notes that a file was mapped.
    pub(super) fn note_mapped(&mut self, key: FileKey, name: &[u8], size: u64) -> &mut MappedFile {
        let file = self.mapped.entry(key).or_default();
        file.name = name.to_vec();
        file.size = size;
        file
    }

    /// The mappings of a file in a task's memory.
    pub(super) fn maps_of_file(&self, tid: i32, key: FileKey) -> Result<Vec<proc::Map>> {
        let Some(file) = self.mapped.get(&key) else {
            return Ok(Vec::new());
        };
        let maps = self.maps_of(tid)?.into_iter();
        Ok(maps.filter(|map| file.is_in(key, map)).collect())
    }

    /// Records the memory that shows a call's changes to mapped files: among the call's outputs for the process's own
    /// mappings, and as returned frames for other processes.
    pub(super) fn written_through(
        &mut self,
        current: &Task,
        task: &Stopped,
        call: &Syscall,
        event: &mut CallEvent,
    ) -> Result<Vec<Frame>> {
        if let Some(frames) = self.written_to_memory(current, task, call, event)? {
            return Ok(frames);
        }
        let Some(change) = self.change(current, call, event)? else {
            return Ok(Vec::new());
        };
        let key = change.key;
        let Some(file) = self.mapped.get_mut(&key) else {
            return Ok(Vec::new());
        };
        let before = std::mem::replace(&mut file.size, change.size);
        if before == change.size && change.written.is_empty() {
            return Ok(Vec::new());
        }
        file.changed = true;
        let mut frames: Vec<Frame> = self.resized(key, change.size).into_iter().collect();
        let mut shown = false;
        let own = std::iter::once(task.tid());
        for tid in own.chain(self.one_of_each_other_space(current)) {
            let (pieces, chunks) = self.seen_in(tid, &change, before, &mut shown)?;
            let is_own = tid == task.tid();
            if is_own && pieces.is_empty() {
                event.outs.extend(chunks);
                continue;
            }
            let tid = if is_own { current.tid } else { tid };
            if !pieces.is_empty() {
                frames.push(Frame::Remap { tid, pieces });
            }
            if !chunks.is_empty() {
                frames.push(Frame::Poke { tid, chunks });
            }
        }
        if !shown {
            frames.extend(self.fill(&change));
        }
        Ok(frames)
    }

    /// The memory of a task that shows a change to a file of size `before`. `shown`: shared memory shows all of the
    /// written range.
    fn seen_in(
        &self,
        tid: i32,
        change: &Change,
        before: u64,
        shown: &mut bool,
    ) -> Result<(Vec<Piece>, Vec<Chunk>)> {
        let (mut pieces, mut chunks) = (Vec::new(), Vec::new());
        let memory = TaskMemory::new(tid);
        let [old, new] = [before, change.size].map(|size| size.next_multiple_of(PAGE));
        // The rest of the last page is cleared.
        let cleared = match change.size < before {
            true => change.size..new,
            false => 0..0,
        };
        let is_object = self.objects.contains_key(&ObjectKey::File(change.key));
        for map in self.maps_of_file(tid, change.key)? {
            if !(is_object && map.shared) {
                let parts = [
                    (map.part(&(old..new)), Shows::Zeros),
                    (map.part(&(new..old)), Shows::Past),
                ];
                pieces.extend(parts.into_iter().filter_map(|(part, shows)| {
                    let (start, len) = part?;
                    Some(Piece {
                        start,
                        len,
                        prot: map.prot,
                        shows,
                    })
                }));
            }
            for range in [&change.written, &cleared] {
                let Some((addr, len)) = map.part(range) else {
                    continue;
                };
                *shown |= is_object && map.shared && len == range.end - range.start;
                let data = memory.bytes(addr, len as usize);
                if !data.is_empty() {
                    chunks.push(Chunk { addr, data });
                }
            }
        }
        Ok((pieces, chunks))
    }

    /// A frame with data written to a shared object that no mapping shows yet.
    fn fill(&self, change: &Change) -> Option<Frame> {
        let object = self.objects.get(&ObjectKey::File(change.key))?;
        let offset = change.written.start;
        let len = change.written.end.min(change.size).checked_sub(offset)?;
        let mut data = vec![0; usize::try_from(len).ok().filter(|&len| len > 0)?];
        let file = checked_open::regular(&change.path, 0).ok()?;
        file.read_exact_at(&mut data, offset).ok()?;
        Some(Frame::Fill {
            object: object.id(),
            offset,
            data,
        })
    }

    /// The change of a mapped file by a call, if any.
    fn change(&self, current: &Task, call: &Syscall, event: &CallEvent) -> Result<Option<Change>> {
        if self.mapped.is_empty() || event.ret.is_none_or(|ret| ret < 0) {
            return Ok(None);
        }
        let Some(target) = Target::of(call, event) else {
            return Ok(None);
        };
        let path = match target {
            Target::Path => {
                let path = event.ins.first().map_or(&[][..], |chunk| &chunk.data);
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                PathBuf::from(format!("/proc/{}/cwd", current.tid)).join(OsStr::from_bytes(path))
            }
            Target::File(fd) => {
                let file = self.family.open_file(current.tid, fd);
                if file.is_some_and(|file| !may_be_mapped(&file.path)) {
                    return Ok(None);
                }
                PathBuf::from(format!("/proc/{}/fd/{fd}", current.tid))
            }
        };
        let Ok(meta) = std::fs::metadata(&path) else {
            return Ok(None);
        };
        let key = FileKey::of(&meta);
        if !self.mapped.contains_key(&key) {
            return Ok(None);
        }
        let size = meta.len();
        let written = written(current.tid, call, event, size)?;
        Ok(Some(Change {
            key,
            size,
            written,
            path,
        }))
    }

    /// The memory that shows changed files anew, after a call dropped pages or extended a mapping.
    pub(super) fn shown_anew(&mut self, tid: i32, event: &CallEvent) -> Result<Vec<Piece>> {
        let [_, len, third, ..] = event.args;
        let range = match (i64::from(event.nr), event.ret) {
            (libc::SYS_madvise, Some(0)) if drops(third as i32) => pages(event.args[0], len),
            (libc::SYS_mremap, Some(at)) if third > len && len > 0 => {
                pages(at as u64, len).end..pages(at as u64, third).end
            }
            _ => return Ok(Vec::new()),
        };
        let changed = self.mapped.values().any(|file| file.changed);
        if !changed || range.is_empty() {
            return Ok(Vec::new());
        }
        let mut pieces = Vec::new();
        for map in proc::maps(tid)? {
            let Some(part) = map.overlap(&range) else {
                continue;
            };
            let mut files = self.mapped.iter().filter(|(_, file)| file.changed);
            let Some((&key, _)) = files.find(|&(&key, file)| file.is_in(key, &map)) else {
                continue;
            };
            if map.shared && self.objects.contains_key(&ObjectKey::File(key)) {
                continue;
            }
            let file = checked_open::regular(&self.view.place(&map.name), 0);
            let Some(file) = file.ok().filter(|file| {
                let meta = file.metadata();
                meta.is_ok_and(|meta| FileKey::of(&meta) == key)
            }) else {
                continue;
            };
            pieces.push(Piece {
                start: part.start,
                len: part.end - part.start,
                prot: map.prot,
                shows: Shows::File {
                    file: self.keep(&file, &map.name)?,
                    offset: map.offset + (part.start - map.start),
                },
            });
        }
        Ok(pieces)
    }
}

/// The file that a call changes.
enum Target {
    File(i32),
    /// The file whose path is the first argument.
    Path,
}

impl Target {
    fn of(call: &Syscall, event: &CallEvent) -> Option<Target> {
        let args = event.args;
        let truncates = |flags: u64| flags as i32 & libc::O_TRUNC != 0;
        let made = || Some(Target::File(event.ret? as i32));
        match call.name {
            "write" | "writev" | "sendfile" | "pwrite64" | "pwritev" | "pwritev2" | "fallocate"
            | "ftruncate" => Some(Target::File(args[0] as i32)),
            "copy_file_range" | "splice" => Some(Target::File(args[2] as i32)),
            "ioctl" if clones(args[1]) => Some(Target::File(args[0] as i32)),
            "truncate" => Some(Target::Path),
            "creat" => made(),
            "open" if truncates(args[1]) => made(),
            "openat" if truncates(args[2]) => made(),
            "openat2" if truncates(word(event, args[2])?) => made(),
            _ => None,
        }
    }
}

/// FICLONE and FICLONERANGE: ioctl_ficlonerange(2).
const CLONE: u64 = 0x4004_9409;
const CLONE_RANGE: u64 = 0x4020_940d;

fn clones(request: u64) -> bool {
    matches!(request & 0xffff_ffff, CLONE | CLONE_RANGE)
}

/// A word of a call's inputs.
fn word(event: &CallEvent, addr: u64) -> Option<u64> {
    let mut word = [0; 8];
    let read = ChunkMemory(&event.ins).read(addr, &mut word);
    (read == 8).then(|| u64::from_le_bytes(word))
}

/// Returns whether a path may be that of a mapped file.
fn may_be_mapped(path: &[u8]) -> bool {
    let special = path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/");
    path.starts_with(b"/") && !special && !path.starts_with(b"/proc/")
}

/// The range of a file of this size that a call has written.
fn written(tid: i32, call: &Syscall, event: &CallEvent, size: u64) -> Result<Range<u64>> {
    const IN_PLACE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
    const BEHIND: i32 = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
    let [fd, mode, at, behind, ..] = event.args;
    Ok(match call.name {
        "fallocate" if mode as i32 & IN_PLACE != 0 => at..at.saturating_add(behind).min(size),
        "fallocate" if mode as i32 & BEHIND != 0 => at..size,
        "ioctl" if mode & 0xffff_ffff == CLONE_RANGE => {
            let to = |n: u64| word(event, at.wrapping_add(n * 8)).unwrap_or(0);
            match (to(3), to(2)) {
                (start, 0) => start..size,
                (start, len) => start..start.saturating_add(len).min(size),
            }
        }
        "ioctl" => 0..size,
        _ => moved(tid, call, event, fd as i32, Some(size))?.unwrap_or_default(),
    })
}

/// The range of the destination that a data transfer has written; `None` where the call is no data transfer, or
/// transferred nothing. `size`: the size of a file that may be appended to.
pub(super) fn moved(
    tid: i32,
    call: &Syscall,
    event: &CallEvent,
    fd: i32,
    size: Option<u64>,
) -> Result<Option<Range<u64>>> {
    const RWF_APPEND: u64 = 0x10;
    let Some(len) = event.ret.filter(|&ret| ret > 0).map(|ret| ret as u64) else {
        return Ok(None);
    };
    let args = event.args;
    let (fd, given) = match call.name {
        "write" | "writev" | "sendfile" => (fd, None),
        "pwrite64" | "pwritev" => (fd, Some(args[3])),
        "pwritev2" => (fd, Some(args[3]).filter(|&at| at != u64::MAX)),
        "copy_file_range" | "splice" => (args[2] as i32, word(event, args[3])),
        _ => return Ok(None),
    };
    let start = match given {
        None => proc::descriptor(tid, fd)?.offset.saturating_sub(len),
        Some(at) => {
            let appends = call.name == "pwritev2" && args[5] & RWF_APPEND != 0
                || call.name.starts_with("pwrite")
                    && proc::fd_flags(tid, fd).is_ok_and(|flags| flags & libc::O_APPEND != 0);
            match size.filter(|_| appends) {
                Some(size) => size.saturating_sub(len),
                None => at,
            }
        }
    };
    Ok(Some(start..start.saturating_add(len)))
}
