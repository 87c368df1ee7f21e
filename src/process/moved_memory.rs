//! Gives a process the memory of another one. A process that enters a pid namespace has no parent there: members of a family
//! are forked from their parents inside, and get their own memory then.

use super::Objects;
use crate::image::{set_layout, unmap_all};
use crate::tracee::file_channel::FileChannel;
use crate::tracee::proc::{self, Map};
use crate::tracee::{Error, Remote, Result, Stopped, TaskMemory, agent, checked_open};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PAGE: u64 = 0x1000;

/// The largest mapping of a file that is not found any more of which all is copied.
const MOST_UNFOUND: u64 = 256 << 20;

/// The most bytes that are copied at once.
const AT_ONCE: usize = 1 << 20;

/// The files that processes map, opened by rrapper: by device and inode.
#[derive(Default)]
pub(super) struct MappedFiles(HashMap<(u64, u64), Option<File>>);

impl MappedFiles {
    /// The file of a mapping; `None` where it is not found any more.
    fn find(&mut self, map: &Map) -> Option<&File> {
        let found = self.0.entry((map.dev, map.inode));
        found.or_insert_with(|| look_for(map)).as_ref()
    }
}

fn look_for(map: &Map) -> Option<File> {
    let is_it = |file: &File| {
        let meta = file.metadata();
        meta.is_ok_and(|meta| meta.ino() == map.inode)
    };
    let by_name = checked_open::regular(Path::new(OsStr::from_bytes(&map.name)), 0);
    if let Some(file) = by_name.ok().filter(is_it) {
        return Some(file);
    }
    // Unpacked copies are anonymous files of rrapper's.
    let own = std::fs::read_dir("/proc/self/fd").ok()?;
    own.flatten().find_map(|entry| {
        let meta = std::fs::metadata(entry.path()).ok()?;
        let is_this = meta.ino() == map.inode && meta.dev() == map.dev && meta.is_file();
        let found = is_this.then(|| checked_open::regular(&entry.path(), 0))?;
        found.ok().filter(is_it)
    })
}

/// Replaces the memory of `to`, a process with one task that stands between calls, by copies of that of `from`, a stopped
/// process. Shared memory of `shared` is shared again. Returns what could not be shared, in sentences.
pub(super) fn move_memory(
    from: &mut Stopped,
    to: &mut Stopped,
    shared: &Objects,
    files: &mut MappedFiles,
) -> Result<Vec<String>> {
    let source = from.tid();
    let maps = proc::maps(source)?;
    let layout = proc::layout(source)?;
    let brk = present_break(from)?;
    let memory = from.memory();
    let mut missing = Vec::new();
    let mut remote = to.remote_at_boundary()?;
    unmap_all(&mut remote)?;
    let all = [0, u32::MAX.into(), 0, 0, 0, 0];
    remote.call(libc::SYS_close_range, all)?;
    let channel = FileChannel::open(&mut remote, 0)?;
    // Neighbouring mappings mostly show the same file.
    let mut open: Option<((u64, u64), i32)> = None;
    let mut copied = Vec::new();
    for map in maps.iter().filter(|map| is_programs(map)) {
        let file = match map.inode {
            0 => None,
            inode if map.shared => shared.of_inode(inode),
            _ => files.find(map),
        };
        let key = (map.dev, map.inode);
        let fd = match (file, open) {
            (None, _) => None,
            (Some(_), Some((known, fd))) if known == key => Some(fd),
            (Some(file), before) => {
                if let Some((_, fd)) = before {
                    remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
                }
                let writable = map.shared.then(|| writable(file)).transpose();
                let writable = writable.map_err(|e| Error::os("share memory", source, e))?;
                let got = channel.pass(&mut remote, &[writable.as_ref().unwrap_or(file)])?;
                let fd = got.first().copied().unwrap_or(-1);
                open = Some((key, fd));
                Some(fd)
            }
        };
        if map.shared && fd.is_none() && map.prot & libc::PROT_WRITE != 0 {
            missing.push(format!(
                "memory at {:#x} shared with others: it has a copy",
                map.start
            ));
        }
        copied.push((map, fd.is_some()));
        place(&mut remote, map, fd)?;
    }
    if let Some((_, fd)) = open {
        remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
    }
    channel.close(&mut remote)?;
    let what = "set its memory layout";
    set_layout(&mut remote, &layout, brk, None)?.map_err(|e| Error::os(what, source, e))?;
    let name = proc::read_file(format!("/proc/{source}/comm"));
    let name = name.map_err(|e| Error::os("read its name", source, e))?;
    remote.reset_scratch();
    let at = remote.put_str(name.strip_suffix(b"\n").unwrap_or(&name))?;
    remote.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, at, 0, 0, 0, 0])?;
    remote.finish()?;
    let pages = proc::PageMap::open(source)?;
    for (map, is_of_file) in copied {
        let wanted = match (map.shared, is_of_file) {
            (true, true) => continue,
            (false, true) => pages.private(map.start, map.end)?,
            (_, false) if map.inode != 0 && map.end - map.start <= MOST_UNFOUND => {
                (map.start..map.end).step_by(PAGE as usize).collect()
            }
            (_, false) => pages.present(map.start, map.end)?,
        };
        copy(memory, to.memory(), &wanted)?;
    }
    Ok(missing)
}

/// Whether a mapping belongs to the program, rather than to the kernel or to rrapper.
fn is_programs(map: &Map) -> bool {
    !agent::overlaps(map.start, map.end)
        && map.name != b"[vsyscall]"
        && map.name != b"[vdso]"
        && !map.name.starts_with(b"[vvar")
}

/// The end of the heap.
fn present_break(task: &mut Stopped) -> Result<u64> {
    let mut remote = task.remote_at_boundary()?;
    let brk = remote.call(libc::SYS_brk, [0; 6])?;
    Ok(brk as u64)
}

/// Opens an anonymous file of rrapper's once more, for a process that can map it for writing.
fn writable(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path)
}

/// Maps what a mapping shows: the file behind this descriptor, or zeros.
fn place(remote: &mut Remote<'_>, map: &Map, fd: Option<i32>) -> Result<()> {
    let mut flags = libc::MAP_FIXED;
    flags |= match map.shared && fd.is_some() {
        true => libc::MAP_SHARED,
        false => libc::MAP_PRIVATE,
    };
    if fd.is_none() {
        flags |= libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        if map.name == b"[stack]" {
            flags |= libc::MAP_GROWSDOWN;
        }
    }
    let args = [
        map.start,
        map.end - map.start,
        map.prot as u64,
        flags as u64,
        fd.map_or(u64::MAX, |fd| fd as u64),
        if fd.is_some() { map.offset } else { 0 },
    ];
    remote.must("map its memory", libc::SYS_mmap, args)?;
    Ok(())
}

/// Copies pages.
fn copy(from: TaskMemory, to: TaskMemory, pages: &[u64]) -> Result<()> {
    const MOST: usize = AT_ONCE / PAGE as usize;
    let mut data = Vec::new();
    for run in pages.chunk_by(|a, b| a + PAGE == *b) {
        for part in run.chunks(MOST) {
            data.resize(part.len() * PAGE as usize, 0);
            // A page behind the end of its file cannot be read.
            if from.read_exact(part[0], &mut data).is_ok() {
                to.write(part[0], &data)?;
            }
        }
    }
    Ok(())
}
