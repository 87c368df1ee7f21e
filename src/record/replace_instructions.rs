//! Replaces instructions in the files that programs execute whose results a recording would not have: `cpuid`, random
//! numbers, and the like. Each is replaced by an instruction that stops its task (see
//! [`tracee::replaced_instructions`](crate::tracee::replaced_instructions)) when the file is mapped.
//!
//! Only certain instructions are replaced: decoding the function, from its first byte to its last as the file has them,
//! must reach the instruction. Others are left alone.
//!
//! So is code that is in no file, or in memory that others share. A replacement would change a shared file itself.
//! Generated code is written in pieces, often to memory that is already executable or through another mapping, so that
//! there is no moment at which it is complete; its functions' bounds are unknown; and its generator also reads it,
//! moves it and patches it. A replay that diverges from its recording searches such code (see
//! [`Doubt`](crate::replay::Doubt)).
//!
//! Programs without a dynamic linker that load other programs by themselves translate them (valgrind, DynamoRIO): the
//! loaded code is read, not executed, and only the translator reads the processor's features. In such code, only random
//! numbers are replaced.
//!
//! Memory that may have a `cpuid` that is not replaced for one of these reasons has the processor trap it
//! ([`Frame::TrapCpuid`]).
//!
//! A program that reads its own code sees the replacements. Programs that check themselves read their files.

use super::task::Task;
use super::{Recorder, Result};
use crate::backtrace::{Replaceable, is_dynamic_linker, replaceable};
use crate::image::Chunk;
use crate::recording::{CallEvent, Frame};
use crate::tracee::proc::{self, Map};
use crate::tracee::replaced_instructions::{LONGEST, Replaced};
use crate::tracee::{Stopped, TaskMemory, agent, checked_open, cpuid};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The limit on remembered ranges without a file.
const MOST_RANGES: usize = 4096;

/// Written pages become private to the task.
const PAGE: u64 = 4096;

/// The identity of a state of a part of a file: device, inode, size, time of its last change, part.
type Key = (u64, u64, u64, i64, i64, u64, u64);

/// The results of searches so far.
#[derive(Default)]
pub struct Searched {
    /// The replaceable instructions by part of a file.
    found: HashMap<Key, Found>,
    /// Address spaces and ranges in them that show no file: the protection of such memory may change often.
    without_file: HashSet<(u32, u64, u64)>,
    /// Address spaces of programs that load other programs by themselves.
    translators: HashSet<u32>,
    /// Address spaces that may have a `cpuid` that is not replaced, and whether that is recorded.
    with_cpuid: HashMap<u32, bool>,
}

impl Recorder {
    /// Replaces instructions of a program that has just been executed in its new address space.
    pub(super) fn replace_in_program(&mut self, space: u32, task: &Stopped) -> Result<()> {
        let maps = proc::maps(task.tid())?;
        for map in &maps {
            self.replace_in_file(space, task, map)?;
        }
        let code = |map: &&Map| map.prot & libc::PROT_EXEC != 0 && map.inode != 0;
        let mut files: Vec<_> = maps.iter().filter(code).map(|map| map.inode).collect();
        files.dedup();
        if let [_] = files[..]
            && let Some(file) = maps
                .iter()
                .find(code)
                .and_then(|map| open_mapped(task, map))
            && !is_dynamic_linker(&file)
        {
            self.searched.translators.insert(space);
            self.searched.note_cpuid(space);
        }
        Ok(())
    }

    /// Copies the results for a new process with a copy of another's memory.
    pub(super) fn replaced_is_copied(&mut self, from: u32, to: u32) {
        if self.searched.translators.contains(&from) {
            self.searched.translators.insert(to);
        }
        if from != to
            && let Some(&is_recorded) = self.searched.with_cpuid.get(&from)
        {
            self.searched.with_cpuid.insert(to, is_recorded);
        }
    }

    /// Has the processor trap `cpuid` in a task whose memory may have one that is not replaced, at a call's exit or, with
    /// `at_entry`, at its entry. Returns what is to be recorded of that.
    pub(super) fn trap_cpuid(
        &mut self,
        current: &mut Task,
        task: &mut Stopped,
        at_entry: bool,
    ) -> Result<Option<Frame>> {
        let Some(is_recorded) = self.searched.with_cpuid.get_mut(&current.space) else {
            return Ok(None);
        };
        let is_new = !std::mem::replace(is_recorded, true);
        if !std::mem::replace(&mut current.traps_cpuid, true) {
            let mut remote = match at_entry {
                true => task.remote_at_entry()?,
                false => task.remote_at_boundary()?,
            };
            cpuid::trap(&self.cpuid, &mut remote)?;
            remote.finish()?;
            tracing::debug!(tid = current.tid, "the processor traps its cpuid");
        }
        Ok(is_new.then_some(Frame::TrapCpuid { tid: current.tid }))
    }

    /// Replaces instructions of a file that has just been mapped or become executable. Returns the changed memory.
    pub(super) fn replace_in_mapping(
        &mut self,
        current: &Task,
        task: &Stopped,
        event: &CallEvent,
    ) -> Result<Vec<Chunk>> {
        let executable = event.args[2] as i32 & libc::PROT_EXEC != 0;
        match (i64::from(event.nr), event.ret) {
            (libc::SYS_mmap, Some(start @ 1..)) => {
                self.replace_in_mapped(current, task, event, executable.then_some(start as u64))
            }
            (libc::SYS_mprotect | libc::SYS_pkey_mprotect, Some(0)) if executable => {
                // The program may have written it.
                self.searched.note_cpuid(current.space);
                self.replace_in_range(current, task, event.args[0], event.args[1])
            }
            (libc::SYS_shmat, Some(0..)) if executable_segment(event) => {
                self.searched.note_cpuid(current.space);
                Ok(Vec::new())
            }
            (libc::SYS_personality, Some(0..)) if event.args[0] & READ_IMPLIES_EXEC != 0 => {
                self.searched.note_cpuid(current.space);
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn replace_in_mapped(
        &mut self,
        current: &Task,
        task: &Stopped,
        event: &CallEvent,
        executable_at: Option<u64>,
    ) -> Result<Vec<Chunk>> {
        let [_, len, prot, flags, fd, offset] = event.args;
        if executable_at.is_some()
            && (flags as i32 & (libc::MAP_ANONYMOUS | libc::MAP_TYPE) != libc::MAP_PRIVATE
                || prot as i32 & libc::PROT_WRITE != 0)
        {
            self.searched.note_cpuid(current.space);
        }
        if flags as i32 & libc::MAP_ANONYMOUS != 0 {
            return Ok(Vec::new());
        }
        let Some(start) = executable_at else {
            let known = &mut self.searched.without_file;
            known.retain(|(space, ..)| *space != current.space);
            return Ok(Vec::new());
        };
        if flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE {
            return Ok(Vec::new());
        }
        let path = format!("/proc/{}/fd/{}", current.tid, fd as i32);
        let Ok(file) = checked_open::regular(Path::new(&path), 0) else {
            self.searched.note_cpuid(current.space);
            return Ok(Vec::new());
        };
        let map = Map {
            start,
            end: start.saturating_add(len),
            prot: prot as i32,
            shared: false,
            offset,
            inode: 0,
            dev: 0,
            name: proc::fd_path(current.tid, fd as i32).unwrap_or_default(),
        };
        self.replace_in(current.space, &map, &file, task.memory())
    }

    /// Replaces instructions of files that are mapped in a range.
    fn replace_in_range(
        &mut self,
        current: &Task,
        task: &Stopped,
        start: u64,
        len: u64,
    ) -> Result<Vec<Chunk>> {
        let range = start..start.saturating_add(len);
        let key = (current.space, start, len);
        if self.searched.without_file.contains(&key) {
            return Ok(Vec::new());
        }
        let mut changed = Vec::new();
        let mut shows_file = false;
        let maps = self.maps_of(task.tid())?;
        for map in maps.iter().filter(|map| map.overlap(&range).is_some()) {
            shows_file |= map.inode != 0;
            changed.append(&mut self.replace_in_file(current.space, task, map)?);
        }
        if !shows_file {
            if self.searched.without_file.len() >= MOST_RANGES {
                self.searched.without_file.clear();
            }
            self.searched.without_file.insert(key);
        }
        Ok(changed)
    }

    /// Replaces instructions of the file that a mapping shows, if the mapping is private and executable.
    fn replace_in_file(&mut self, space: u32, task: &Stopped, map: &Map) -> Result<Vec<Chunk>> {
        if map.prot & libc::PROT_EXEC == 0 {
            return Ok(Vec::new());
        }
        match open_mapped(task, map).filter(|_| !map.shared) {
            Some(file) => self.replace_in(space, map, &file, task.memory()),
            None => {
                if !is_kernels(map) {
                    self.searched.note_cpuid(space);
                }
                Ok(Vec::new())
            }
        }
    }

    fn replace_in(
        &mut self,
        space: u32,
        map: &Map,
        file: &File,
        memory: TaskMemory,
    ) -> Result<Vec<Chunk>> {
        let found = self.searched.in_part(file, map.offset, map.end - map.start);
        if found.leaves_cpuid {
            self.searched.note_cpuid(space);
        }
        let draws_only = self.searched.translators.contains(&space);
        let mut changed = Vec::new();
        let address = |offset: u64| map.start + (offset - map.offset);
        for group in found
            .certain
            .chunk_by(|a, b| address(*a) / PAGE == address(*b) / PAGE)
        {
            let group = group.iter().map(|&at| address(at));
            changed.extend(replace_group(group, memory, draws_only)?);
        }
        Ok(changed)
    }
}

/// The result of a search.
#[derive(Clone, Default)]
struct Found {
    /// The offsets of certain instructions.
    certain: Vec<u64>,
    /// Whether there may be a `cpuid` besides.
    leaves_cpuid: bool,
}

/// Whether a mapping with code is the kernel's or rrapper's.
fn is_kernels(map: &Map) -> bool {
    matches!(&map.name[..], b"[vdso]" | b"[vsyscall]") || agent::overlaps(map.start, map.end)
}

const READ_IMPLIES_EXEC: u64 = libc::READ_IMPLIES_EXEC as u64;

/// Whether a shmat(2) attaches a segment as code.
fn executable_segment(event: &CallEvent) -> bool {
    event.args[2] as i32 & libc::SHM_EXEC != 0
}

/// Replaces instructions that are close to each other, where memory equals the file. Returns the changed memory.
fn replace_group(
    addresses: impl Iterator<Item = u64> + Clone,
    memory: TaskMemory,
    draws_only: bool,
) -> Result<Option<Chunk>> {
    let (Some(first), Some(last)) = (addresses.clone().next(), addresses.clone().last()) else {
        return Ok(None);
    };
    let mut data = memory.bytes(first, (last - first) as usize + LONGEST);
    let (mut from, mut to) = (usize::MAX, 0);
    for addr in addresses {
        let at = (addr - first) as usize;
        let Some(replaced) = data.get(at..).and_then(Replaced::unchanged) else {
            continue;
        };
        if draws_only && !matches!(replaced, Replaced::Draw(_)) {
            continue;
        }
        let (inside, byte) = replaced.replacement();
        let at = at + inside as usize;
        data[at] = byte;
        (from, to) = (from.min(at), at + 1);
    }
    if from >= to {
        return Ok(None);
    }
    let chunk = Chunk {
        addr: first + from as u64,
        data: data[from..to].to_vec(),
    };
    memory.write(chunk.addr, &chunk.data)?;
    Ok(Some(chunk))
}

/// Opens the file that a mapping shows, if it still has its path.
fn open_mapped(task: &Stopped, map: &Map) -> Option<File> {
    let name = map.name.strip_prefix(b"/").filter(|_| map.inode != 0)?;
    let mut path = PathBuf::from(format!("/proc/{}/root", task.tid()));
    path.push(OsStr::from_bytes(name));
    let file = checked_open::regular(&path, 0).ok()?;
    let same = file.metadata().is_ok_and(|meta| meta.ino() == map.inode);
    same.then_some(file)
}

impl Searched {
    /// Notes that a space may have a `cpuid` that is not replaced.
    fn note_cpuid(&mut self, space: u32) {
        self.with_cpuid.entry(space).or_insert(false);
    }

    fn in_part(&mut self, file: &File, offset: u64, len: u64) -> Found {
        let nothing = Found {
            certain: Vec::new(),
            leaves_cpuid: true,
        };
        let Ok(meta) = file.metadata() else {
            return nothing;
        };
        let (size, changed) = (meta.len(), (meta.mtime(), meta.mtime_nsec()));
        let len = len.min(size.saturating_sub(offset));
        let key = (
            meta.dev(),
            meta.ino(),
            size,
            changed.0,
            changed.1,
            offset,
            len,
        );
        let found = self.found.entry(key);
        found
            .or_insert_with(|| {
                let Some(Replaceable { certain, doubtful }) = replaceable(file, offset, len) else {
                    return nothing;
                };
                let is_cpuid = |&at: &u64| {
                    let mut code = [0; 2];
                    let read = file.read_exact_at(&mut code, at);
                    read.is_err() || Replaced::unchanged(&code) == Some(Replaced::Cpuid)
                };
                let leaves_cpuid = doubtful.iter().any(is_cpuid);
                Found {
                    certain,
                    leaves_cpuid,
                }
            })
            .clone()
    }
}
