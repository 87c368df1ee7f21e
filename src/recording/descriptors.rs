//! What each descriptor of a recorded process is at an event: open file descriptions,
//! shared by duplicates, with their offsets; the current directory and the umask.
//!
//! Worked out from the calls alone, so that it is there at every event without looking at a process.

use super::{CallEvent, Effect, Start};
use crate::image::Chunk;
use crate::syscall::{self, Memory};
use std::collections::BTreeMap;

use super::ChunkMemory;

/// A standard stream that the program was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 0.
    Stdin,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// An open file description: what several descriptors may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its path, or `pipe:[…]` and kin.
    pub path: Vec<u8>,
    /// The open flags and file status flags, without `O_CLOEXEC`.
    pub flags: i32,
    /// The file offset in bytes; for a directory, the kernel's cookie.
    pub offset: u64,
    /// Which standard stream it is.
    pub stream: Option<Stream>,
    /// Whether it was there, and no standard stream, when the program started: left open by whoever started it.
    pub inherited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    file: usize,
    cloexec: bool,
}

/// A process's descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    slots: BTreeMap<i32, Slot>,
    files: Vec<Option<OpenFile>>,
    cwd: Vec<u8>,
    umask: Option<u32>,
}

/// A call, as far as it matters here.
struct Seen<'a> {
    args: [u64; 6],
    ret: i64,
    path: Option<&'a [u8]>,
    ins: &'a [Chunk],
    outs: &'a [Chunk],
}

impl Seen<'_> {
    fn fd(&self, arg: usize) -> i32 {
        self.args[arg] as i32
    }

    fn flags(&self, arg: usize) -> i32 {
        self.args[arg] as i32
    }
}

impl DescriptorTable {
    /// The table that a recording begins with.
    pub fn at_start(start: &Start) -> DescriptorTable {
        let mut table = DescriptorTable {
            cwd: start.cwd.clone(),
            ..DescriptorTable::default()
        };
        for d in &start.descriptors {
            let file = OpenFile {
                path: d.path.clone(),
                flags: d.flags & !libc::O_CLOEXEC,
                offset: d.offset,
                stream: match d.fd {
                    0 => Some(Stream::Stdin),
                    1 => Some(Stream::Stdout),
                    2 => Some(Stream::Stderr),
                    _ => None,
                },
                inherited: d.fd > 2,
            };
            table.insert(d.fd, file, d.flags & libc::O_CLOEXEC != 0);
        }
        table
    }

    /// The open file behind a descriptor.
    pub fn get(&self, fd: i32) -> Option<&OpenFile> {
        let slot = self.slots.get(&fd)?;
        self.files.get(slot.file)?.as_ref()
    }

    /// All descriptors by number: the open file, and whether exec closes it.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &OpenFile, bool)> {
        self.slots.iter().filter_map(|(&fd, slot)| {
            Some((fd, self.files.get(slot.file)?.as_ref()?, slot.cloexec))
        })
    }

    /// The lowest descriptor below `fd` that shares its open file, if there is one.
    pub fn duplicate_of(&self, fd: i32) -> Option<i32> {
        let file = self.slots.get(&fd)?.file;
        self.slots
            .range(..fd)
            .find(|(_, slot)| slot.file == file)
            .map(|(&other, _)| other)
    }

    /// The current directory.
    pub fn cwd(&self) -> &[u8] {
        &self.cwd
    }

    /// The umask, if the program ever set it.
    pub fn umask(&self) -> Option<u32> {
        self.umask
    }

    /// The standard stream that a descriptor writes to, if it is one.
    pub fn output_stream(&self, fd: i32) -> Option<Stream> {
        self.get(fd)?.stream.filter(|&s| s != Stream::Stdin)
    }

    /// Follows a recorded call.
    pub fn apply(&mut self, call: &CallEvent) {
        let Some(ret) = call.ret else { return };
        let path = match &call.effect {
            Effect::Path(path) => Some(path.as_slice()),
            _ => None,
        };
        self.follow(
            u64::from(call.nr),
            call.args,
            ret,
            path,
            &call.ins,
            &call.outs,
        );
    }

    /// Follows a call that was answered with `ret`. `path` is what a new descriptor or the new current
    /// directory is, where that is known; `ins` and `outs` hold what the arguments pointed to.
    pub fn follow(
        &mut self,
        nr: u64,
        args: [u64; 6],
        ret: i64,
        path: Option<&[u8]>,
        ins: &[Chunk],
        outs: &[Chunk],
    ) {
        if ret < 0 {
            return;
        }
        let Some(call) = syscall::by_nr(nr) else {
            return;
        };
        let seen = Seen {
            args,
            ret,
            path,
            ins,
            outs,
        };
        self.step(call, &seen);
    }

    fn step(&mut self, call: &'static syscall::Syscall, seen: &Seen<'_>) {
        let ret = seen.ret;
        match call.name {
            "read" | "readv" | "write" | "writev" => self.advance(seen.fd(0), ret),
            "getdents64" => self.dirents(seen),
            "lseek" => self.seek(seen.fd(0), ret as u64),
            "sendfile" => {
                self.advance(seen.fd(0), ret);
                if seen.args[2] == 0 {
                    self.advance(seen.fd(1), ret);
                }
            }
            "copy_file_range" | "splice" => {
                for (fd, offset) in [(0, 1), (2, 3)] {
                    if seen.args[offset] == 0 {
                        self.advance(seen.fd(fd), ret);
                    }
                }
            }
            "open" => self.open(seen, seen.flags(1)),
            "openat" | "open_by_handle_at" => self.open(seen, seen.flags(2)),
            "openat2" => {
                let mut how = [0; 8];
                ChunkMemory(seen.ins).read(seen.args[2], &mut how);
                self.open(seen, u64::from_le_bytes(how) as i32);
            }
            "creat" => self.open(seen, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC),
            "dup" => self.duplicate(seen.fd(0), ret as i32, false),
            "dup2" => self.duplicate(seen.fd(0), ret as i32, false),
            "dup3" => self.duplicate(seen.fd(0), ret as i32, seen.flags(2) & libc::O_CLOEXEC != 0),
            "fcntl" => self.fcntl(seen),
            "close" => self.remove(seen.fd(0)),
            "close_range" => self.close_range(seen),
            "pipe" | "pipe2" => self.pair(seen, 0, seen.flags(1) * i32::from(call.name == "pipe2")),
            "socketpair" => self.pair(seen, 3, seen.flags(1)),
            "execve" | "execveat" => self.exec(),
            "chdir" | "fchdir" => {
                if let Some(path) = seen.path {
                    self.cwd = path.to_vec();
                }
            }
            "umask" => self.umask = Some(seen.args[0] as u32 & 0o777),
            _ if call.returns_fd() => self.open(seen, libc::O_RDWR),
            _ => {}
        }
    }

    fn insert(&mut self, fd: i32, file: OpenFile, cloexec: bool) {
        self.remove(fd);
        let index = match self.files.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.files.push(None);
                self.files.len() - 1
            }
        };
        self.files[index] = Some(file);
        self.slots.insert(
            fd,
            Slot {
                file: index,
                cloexec,
            },
        );
    }

    fn remove(&mut self, fd: i32) {
        let Some(slot) = self.slots.remove(&fd) else {
            return;
        };
        if !self.slots.values().any(|other| other.file == slot.file) {
            self.files[slot.file] = None;
        }
    }

    fn file_mut(&mut self, fd: i32) -> Option<&mut OpenFile> {
        let slot = self.slots.get(&fd)?;
        self.files.get_mut(slot.file)?.as_mut()
    }

    /// Moves a descriptor's offset by this much.
    pub fn advance(&mut self, fd: i32, by: i64) {
        if let Some(file) = self.file_mut(fd) {
            file.offset = file.offset.saturating_add_signed(by);
        }
    }

    /// Sets a descriptor's offset.
    pub fn seek(&mut self, fd: i32, to: u64) {
        if let Some(file) = self.file_mut(fd) {
            file.offset = to;
        }
    }

    fn open(&mut self, seen: &Seen<'_>, flags: i32) {
        let file = OpenFile {
            path: seen.path.unwrap_or_default().to_vec(),
            flags: flags & !libc::O_CLOEXEC,
            offset: 0,
            stream: None,
            inherited: false,
        };
        self.insert(seen.ret as i32, file, flags & libc::O_CLOEXEC != 0);
    }

    fn duplicate(&mut self, from: i32, to: i32, cloexec: bool) {
        let Some(&slot) = self.slots.get(&from) else {
            return;
        };
        if from == to {
            return;
        }
        self.remove(to);
        let file = slot.file;
        self.slots.insert(to, Slot { file, cloexec });
    }

    fn fcntl(&mut self, seen: &Seen<'_>) {
        let fd = seen.fd(0);
        match seen.flags(1) {
            libc::F_DUPFD => self.duplicate(fd, seen.ret as i32, false),
            libc::F_DUPFD_CLOEXEC => self.duplicate(fd, seen.ret as i32, true),
            libc::F_SETFD => {
                if let Some(slot) = self.slots.get_mut(&fd) {
                    slot.cloexec = seen.flags(2) & libc::FD_CLOEXEC != 0;
                }
            }
            libc::F_SETFL => {
                const SETTABLE: i32 = libc::O_APPEND
                    | libc::O_ASYNC
                    | libc::O_DIRECT
                    | libc::O_NOATIME
                    | libc::O_NONBLOCK;
                if let Some(file) = self.file_mut(fd) {
                    file.flags = file.flags & !SETTABLE | seen.flags(2) & SETTABLE;
                }
            }
            _ => {}
        }
    }

    fn close_range(&mut self, seen: &Seen<'_>) {
        let (first, last) = (seen.args[0] as u32, seen.args[1] as u32);
        let range: Vec<i32> = self
            .slots
            .keys()
            .copied()
            .filter(|&fd| (first..=last).contains(&(fd as u32)))
            .collect();
        for fd in range {
            if seen.args[2] as u32 & libc::CLOSE_RANGE_CLOEXEC != 0 {
                if let Some(slot) = self.slots.get_mut(&fd) {
                    slot.cloexec = true;
                }
            } else {
                self.remove(fd);
            }
        }
    }

    /// Two new descriptors, whose numbers the kernel wrote to where `arg` points.
    fn pair(&mut self, seen: &Seen<'_>, arg: usize, flags: i32) {
        let mut fds = [0; 8];
        if ChunkMemory(seen.outs).read(seen.args[arg], &mut fds) != 8 {
            return;
        }
        for fd in fds.as_chunks::<4>().0 {
            let file = OpenFile {
                path: b"pipe:[]".to_vec(),
                flags: libc::O_RDWR | flags & libc::O_NONBLOCK,
                offset: 0,
                stream: None,
                inherited: false,
            };
            self.insert(i32::from_le_bytes(*fd), file, flags & libc::O_CLOEXEC != 0);
        }
    }

    /// A directory's offset is the cookie in the last entry that was read: `d_off` of getdents64(2).
    fn dirents(&mut self, seen: &Seen<'_>) {
        let memory = ChunkMemory(seen.outs);
        let mut at = 0;
        while at < seen.ret {
            let mut head = [0; 18];
            if memory.read(seen.args[1].wrapping_add(at as u64), &mut head) != head.len() {
                return;
            }
            let [.., o0, o1, o2, o3, o4, o5, o6, o7, l0, l1] = head;
            let cookie = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
            self.seek(seen.fd(0), cookie);
            let len = u16::from_le_bytes([l0, l1]);
            if len == 0 {
                return;
            }
            at += i64::from(len);
        }
    }

    fn exec(&mut self) {
        let closed: Vec<i32> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.cloexec)
            .map(|(&fd, _)| fd)
            .collect();
        for fd in closed {
            self.remove(fd);
        }
    }
}
