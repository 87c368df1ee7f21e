//! Memory that several mappings share, of one process or of many: each object is an anonymous file (memfd) of rrapper.

use crate::tracee::{self, Remote, Stopped, TaskMemory, proc};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek64};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The limit on the bytes of a file that a copy of a process gets although it does not map it any more.
const MOST_UNMAPPED: u64 = 16 << 20;

/// The shared objects at a point of a recording, by their recorded numbers.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<u32, Object>);

#[derive(Debug)]
struct Object {
    file: File,
    inode: u64,
    /// The object is a System V segment.
    attached: bool,
    /// The object is the content of a file.
    is_file: bool,
}

impl Object {
    fn new() -> io::Result<Object> {
        let file = File::from(memfd_create("rrapper-shared", MFdFlags::MFD_CLOEXEC)?);
        let inode = file.metadata()?.ino();
        Ok(Object {
            file,
            inode,
            attached: false,
            is_file: false,
        })
    }

    /// Extends the object to at least this size.
    fn reach(&self, size: u64) -> io::Result<()> {
        match self.file.metadata()?.len() < size {
            true => self.file.set_len(size),
            false => Ok(()),
        }
    }

    /// An object with the same contents.
    fn duplicate(&self) -> io::Result<Object> {
        let copy = Object {
            attached: self.attached,
            is_file: self.is_file,
            ..Object::new()?
        };
        let len = self.file.metadata()?.len();
        copy.file.set_len(len)?;
        copy_data(&self.file, &copy.file, len)?;
        Ok(copy)
    }
}

/// Copies the data of a file, without its holes.
fn copy_data(from: &File, to: &File, len: u64) -> io::Result<()> {
    const CHUNK: usize = 256 << 10;
    let mut buf = Vec::new();
    let mut at = 0;
    while at < len {
        at = match lseek64(from, at as i64, Whence::SeekData) {
            Ok(at) => at as u64,
            Err(nix::errno::Errno::ENXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = lseek64(from, at as i64, Whence::SeekHole)? as u64;
        buf.resize(CHUNK, 0);
        while at < end.min(len) {
            let room = (end.min(len) - at).min(CHUNK as u64) as usize;
            let n = from.read_at(&mut buf[..room], at)?;
            if n == 0 {
                return Ok(());
            }
            to.write_all_at(&buf[..n], at)?;
            at += n as u64;
        }
    }
    Ok(())
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> tracee::Error {
    let what = what.to_string();
    move |source| tracee::Error::os(what, 0, source)
}

impl Objects {
    /// Creates an object with the contents of the file, unless it exists; extends it to at least this size.
    ///
    /// # Errors
    /// If it cannot be created or filled.
    pub fn add(&mut self, number: u32, file: Option<&Path>, size: u64) -> tracee::Result<()> {
        let what = || format!("make shared memory of {size} bytes");
        let object = match self.0.entry(number) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let object = Object::new().map_err(failed(&what()))?;
                if let Some(path) = file {
                    fill(&object.file, path, size)
                        .map_err(failed(&format!("share {}", path.display())))?;
                }
                place.insert(object)
            }
        };
        object.reach(size).map_err(failed(&what()))
    }

    /// Changes the size of an object, if there is one of this number.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn resize(&self, number: u32, size: u64) -> tracee::Result<()> {
        match self.0.get(&number) {
            Some(object) => {
                let done = object.file.set_len(size);
                done.map_err(failed(&format!("make shared memory {size} bytes large")))
            }
            None => Ok(()),
        }
    }

    /// Writes to an object without extending it, if there is one of this number.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fill(&self, number: u32, offset: u64, data: &[u8]) -> tracee::Result<()> {
        let Some(object) = self.0.get(&number) else {
            return Ok(());
        };
        let write = || {
            let room = object.file.metadata()?.len().saturating_sub(offset);
            let len = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            object.file.write_all_at(&data[..len], offset)
        };
        write().map_err(failed("write to shared memory"))
    }

    /// Marks an object as the content of a file, which lasts when nothing maps it.
    pub fn note_file(&mut self, number: u32) {
        if let Some(object) = self.0.get_mut(&number) {
            object.is_file = true;
        }
    }

    /// Whether any object is the content of a file.
    pub fn has_files(&self) -> bool {
        self.0.values().any(|object| object.is_file)
    }

    /// Marks an object as a System V segment, which `shmat` maps.
    pub fn note_attached(&mut self, number: u32) {
        if let Some(object) = self.0.get_mut(&number) {
            object.attached = true;
        }
    }

    /// The parts that `shmdt` unmaps at this address, each an address and a length: what is left of the segment that
    /// was attached there. The kernel's do_shmdt (ipc/shm.c) finds them in the same way.
    ///
    /// # Errors
    /// If the process's mappings cannot be read.
    pub fn attached_at(&self, tid: i32, at: u64) -> tracee::Result<Vec<(u64, u64)>> {
        let segments = self.0.values().filter(|object| object.attached);
        let segments: BTreeSet<u64> = segments.map(|object| object.inode).collect();
        let mut parts = Vec::new();
        let mut first = None;
        for map in proc::maps(tid)? {
            let belongs = map.shared
                && segments.contains(&map.inode)
                && map.start.checked_sub(at) == Some(map.offset)
                && first.is_none_or(|inode| inode == map.inode);
            if belongs {
                first = Some(map.inode);
                parts.push((map.start, map.end - map.start));
            }
        }
        Ok(parts)
    }

    /// Maps an object over all that is mapped in the range.
    ///
    /// # Errors
    /// If the object cannot be opened in the process.
    pub fn map(
        &self,
        remote: &mut Remote<'_>,
        number: u32,
        at: u64,
        len: u64,
        prot: u64,
        offset: u64,
    ) -> tracee::Result<i64> {
        self.map_by(remote, number, libc::MAP_FIXED, (at, len, prot, offset))
    }

    /// Maps an object with these additional flags; `how` is the address, the length, the protection and the offset.
    pub(crate) fn map_by(
        &self,
        remote: &mut Remote<'_>,
        number: u32,
        flags: i32,
        how: (u64, u64, u64, u64),
    ) -> tracee::Result<i64> {
        match self.0.get(&number) {
            Some(object) => map(remote, object, flags, how),
            None => Ok(-i64::from(libc::EBADF)),
        }
    }

    /// Writes to shared memory that is mapped for reading only.
    ///
    /// # Errors
    /// If it is not mapped, or cannot be written.
    pub fn write(&self, memory: TaskMemory, addr: u64, data: &[u8]) -> tracee::Result<()> {
        let tid = memory.tid();
        let end = addr.saturating_add(data.len() as u64);
        for map in proc::maps(tid)? {
            if map.shared && map.start <= addr && end <= map.end {
                let object = self.0.values().find(|object| object.inode == map.inode);
                let Some(object) = object else { continue };
                let at = addr - map.start + map.offset;
                let done = object.file.write_all_at(data, at);
                return done.map_err(failed("write to shared memory"));
            }
        }
        let source = io::Error::from_raw_os_error(libc::EFAULT);
        let what = format!("write {} bytes at {addr:#x}", data.len());
        Err(tracee::Error::os(what, tid, source))
    }

    /// Copies of all objects.
    ///
    /// # Errors
    /// If they cannot be created.
    pub fn duplicate(&self) -> tracee::Result<Objects> {
        let copies = self.0.iter();
        let copies = copies.map(|(&number, object)| Ok((number, object.duplicate()?)));
        let copies: io::Result<_> = copies.collect();
        Ok(Objects(copies.map_err(failed("copy shared memory"))?))
    }

    /// The content of the object that has this inode.
    pub(crate) fn of_inode(&self, inode: u64) -> Option<&File> {
        let mut all = self.0.values();
        all.find(|object| object.inode == inode)
            .map(|object| &object.file)
    }

    /// The content of an object.
    pub fn content(&self, number: u32) -> Option<&File> {
        self.0.get(&number).map(|object| &object.file)
    }

    /// Has the task map a file at this path, which has the same content, where it maps an object. The task is between calls.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn map_file_instead(
        &self,
        number: u32,
        path: &Path,
        task: &mut Stopped,
    ) -> tracee::Result<()> {
        let Some(object) = self.0.get(&number) else {
            return Ok(());
        };
        let maps = proc::maps(task.tid())?;
        let mut remote = task.remote_at_boundary()?;
        let those = maps.iter().filter(|m| m.shared && m.inode == object.inode);
        for m in those {
            remote.reset_scratch();
            let at = remote.put_str(path.as_os_str().as_bytes())?;
            let open = |how: i32| {
                [
                    libc::AT_FDCWD as u64,
                    at,
                    (how | libc::O_CLOEXEC) as u64,
                    0,
                    0,
                    0,
                ]
            };
            let mut fd = remote.call(libc::SYS_openat, open(libc::O_RDWR))?;
            if fd < 0 && m.prot & libc::PROT_WRITE == 0 {
                fd = remote.call(libc::SYS_openat, open(libc::O_RDONLY))?;
            }
            if fd < 0 {
                let source = io::Error::from_raw_os_error(-fd as i32);
                return Err(tracee::Error::os(
                    "open a shared file",
                    copy_tid(&remote),
                    source,
                ));
            }
            let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
            let args = [
                m.start,
                m.end - m.start,
                m.prot as u64,
                flags,
                fd as u64,
                m.offset,
            ];
            remote.must("map a shared file", libc::SYS_mmap, args)?;
            remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
        }
        remote.finish()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The memory that the objects take, in bytes.
    ///
    /// # Errors
    /// If the kernel does not tell the size.
    pub fn memory(&self) -> tracee::Result<u64> {
        let sizes = self
            .0
            .values()
            .map(|o| Ok(o.file.metadata()?.blocks() * 512));
        let size: io::Result<u64> = sizes.sum();
        size.map_err(failed("measure shared memory"))
    }

    /// Drops the objects that none of these processes maps.
    ///
    /// # Errors
    /// If their mappings cannot be read.
    pub fn forget_unmapped(&mut self, tids: impl Iterator<Item = i32>) -> tracee::Result<()> {
        let mut mapped = BTreeSet::new();
        for tid in tids {
            let maps = proc::maps(tid)?;
            mapped.extend(maps.iter().filter(|m| m.shared).map(|m| m.inode));
        }
        self.0.retain(|_, object| mapped.contains(&object.inode));
        Ok(())
    }

    /// Replaces the objects that a copy of a process maps by copies, each as large as its mappings; also has copies of files
    /// that it maps no more. The task is between calls.
    ///
    /// # Errors
    /// If they cannot be created or mapped.
    pub fn detach(&self, copy: &mut Stopped) -> tracee::Result<Objects> {
        let mut copies = Objects::default();
        self.detach_into(&mut copies, copy)?;
        Ok(copies)
    }

    /// The same with copies of which other processes may have some already.
    ///
    /// # Errors
    /// If they cannot be created or mapped.
    pub fn detach_into(&self, copies: &mut Objects, copy: &mut Stopped) -> tracee::Result<()> {
        let maps = proc::maps(copy.tid())?;
        let inodes: BTreeSet<u64> = maps.iter().filter(|m| m.shared).map(|m| m.inode).collect();
        let is_small = |object: &Object| {
            let meta = object.file.metadata();
            meta.is_ok_and(|meta| meta.blocks() * 512 <= MOST_UNMAPPED)
        };
        for (&number, object) in &self.0 {
            let wanted = inodes.contains(&object.inode) || object.is_file && is_small(object);
            if wanted && !copies.0.contains_key(&number) {
                let duplicate = object.duplicate().map_err(failed("copy shared memory"))?;
                copies.0.insert(number, duplicate);
            }
        }
        for m in maps.iter().filter(|m| m.shared) {
            let known = self.0.iter().find(|(_, object)| object.inode == m.inode);
            let copy = known.and_then(|(number, _)| copies.0.get(number));
            // A copy gets no frame when the file grows.
            let reach = m.offset.saturating_add(m.end - m.start);
            copy.map_or(Ok(()), |copy| copy.reach(reach))
                .map_err(failed("copy shared memory"))?;
        }
        copies.replace(self, copy)
    }

    /// Extends the object that is mapped at `addr`, so that a mapping of `len` bytes there is within it.
    ///
    /// # Errors
    /// If the process's mappings cannot be read, or the object cannot be extended.
    pub fn extend(&self, tid: i32, addr: u64, len: u64) -> tracee::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let maps = proc::maps(tid)?;
        let there = maps.iter().find(|m| m.shared && m.holds(addr));
        let object = there.and_then(|m| Some((m, self.0.values().find(|o| o.inode == m.inode)?)));
        object.map_or(Ok(()), |(m, object)| {
            let reach = (m.offset + (addr - m.start)).saturating_add(len);
            // A size beyond the address space (47 bits) cannot be mapped.
            match reach < 1 << 47 {
                true => object.reach(reach).map_err(failed("extend shared memory")),
                false => Ok(()),
            }
        })
    }

    /// Maps these objects in a process instead of the objects of the same numbers in `before`. The task is between
    /// calls.
    ///
    /// # Errors
    /// If they cannot be mapped.
    pub fn replace(&self, before: &Objects, task: &mut Stopped) -> tracee::Result<()> {
        let maps = proc::maps(task.tid())?;
        let mut remote = task.remote_at_boundary()?;
        for m in maps.iter().filter(|m| m.shared) {
            let number = before.0.iter().find(|(_, object)| object.inode == m.inode);
            let Some(object) = number.and_then(|(number, _)| self.0.get(number)) else {
                continue;
            };
            let len = m.end - m.start;
            let how = (m.start, len, m.prot as u64, m.offset);
            let made = map(&mut remote, object, libc::MAP_FIXED, how)?;
            if made != m.start as i64 {
                let source = io::Error::from_raw_os_error(-made as i32);
                let what = format!("map shared memory at {:#x}", m.start);
                return Err(tracee::Error::os(what, copy_tid(&remote), source));
            }
        }
        remote.finish()
    }
}

fn copy_tid(remote: &Remote<'_>) -> i32 {
    remote.memory().tid()
}

fn fill(object: &File, path: &Path, size: u64) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options()
        .read(true)
        .custom_flags(crate::image::kept_file_flags(path) & !libc::O_CLOEXEC)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let len = meta.len().min(size);
    let taken = (meta.blocks() * 512).min(len);
    if taken > free_memory()? / 2 {
        return Err(io::Error::other(format!(
            "{taken} bytes of it are to be in memory, and that is more than half of what is free"
        )));
    }
    object.set_len(len)?;
    copy_data(&file, object, len)
}

/// The memory that is available without swapping, in bytes.
fn free_memory() -> io::Result<u64> {
    let all = std::fs::read_to_string("/proc/meminfo")?;
    let line = all.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let size = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    // If the kernel does not tell the size, there is no limit.
    Ok(size.map_or(u64::MAX, |size| size.saturating_mul(1024)))
}

fn map(
    remote: &mut Remote<'_>,
    object: &Object,
    flags: i32,
    (at, len, prot, offset): (u64, u64, u64, u64),
) -> tracee::Result<i64> {
    // The process does not have rrapper's descriptors, but can open them in /proc.
    let (me, fd) = (std::process::id(), object.file.as_raw_fd());
    remote.reset_scratch();
    let path = remote.put_str(format!("/proc/{me}/fd/{fd}").as_bytes())?;
    let how = (libc::O_RDWR | libc::O_CLOEXEC) as u64;
    let open = [libc::AT_FDCWD as u64, path, how, 0, 0, 0];
    let fd = remote.must("open shared memory in it", libc::SYS_openat, open)?;
    let flags = (libc::MAP_SHARED | flags) as u64;
    let made = remote.call(libc::SYS_mmap, [at, len, prot, flags, fd, offset])?;
    remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    Ok(made)
}
