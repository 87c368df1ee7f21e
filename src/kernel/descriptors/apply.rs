//! The effects of calls on descriptors.

use super::created::{LARGEFILE, NewDescriptor, new_descriptor, output_descriptors};
use super::{Descriptor, FdTable, FsContext, OpenFile, Pool};
use crate::constants::is_error;
use crate::kernel::{Descriptors, files_named_by};
use crate::recording::{CallEvent, ChunkMemory, Effect, Opened};
use crate::syscall::Memory;

/// The state of a task that a call changes: its descriptor table, the open files, the file-system context.
pub(in crate::kernel) struct TaskFiles<'a> {
    pub fds: &'a mut FdTable,
    pub files: &'a mut Pool<OpenFile>,
    pub fs: &'a mut FsContext,
}

/// Whether a call that returned this failed.
pub(in crate::kernel) fn failed(ret: i64) -> bool {
    is_error(ret)
}

impl TaskFiles<'_> {
    /// Follows a call.
    pub fn follow(&mut self, call: &CallEvent) {
        if !call.was_made() {
            return;
        }
        let Some(ret) = call.ret else { return };
        let fd = |arg: usize| call.args[arg] as i32;
        let nr = i64::from(call.nr);
        if failed(ret) {
            // close(2) frees the number even when it fails.
            if nr == libc::SYS_close {
                self.fds.remove(fd(0), self.files);
            }
            return;
        }
        match &call.effect {
            Effect::Offset(to) => return self.seek(fd(0), *to),
            Effect::Opened(list) => {
                for opened in list {
                    self.opened(opened, None);
                }
                return;
            }
            _ => {}
        }
        match nr {
            libc::SYS_read | libc::SYS_readv | libc::SYS_write | libc::SYS_writev => {
                self.advance(fd(0), ret);
            }
            libc::SYS_preadv2 | libc::SYS_pwritev2 if call.args[3] == u64::MAX => {
                self.advance(fd(0), ret);
            }
            libc::SYS_lseek => self.seek(fd(0), ret as u64),
            libc::SYS_getdents64 | libc::SYS_getdents => self.dirents(call, ret),
            libc::SYS_sendfile => {
                self.advance(fd(0), ret);
                if call.args[2] == 0 {
                    self.advance(fd(1), ret);
                }
            }
            libc::SYS_copy_file_range | libc::SYS_splice => {
                for (file, offset) in [(0, 1), (2, 3)] {
                    if call.args[offset] == 0 {
                        self.advance(fd(file), ret);
                    }
                }
            }
            libc::SYS_close => self.fds.remove(fd(0), self.files),
            libc::SYS_dup | libc::SYS_dup2 => self.duplicate(fd(0), ret as i32, false),
            libc::SYS_dup3 => self.duplicate(fd(0), ret as i32, fd(2) & libc::O_CLOEXEC != 0),
            libc::SYS_fcntl => self.fcntl(call, ret as i32),
            libc::SYS_flock => self.flock(call),
            libc::SYS_ioctl => self.ioctl(call),
            libc::SYS_close_range => self.close_range(call),
            libc::SYS_pipe => self.pair(call, [libc::O_RDONLY, libc::O_WRONLY], 0),
            libc::SYS_pipe2 => self.pair(call, [libc::O_RDONLY, libc::O_WRONLY], fd(1)),
            libc::SYS_socketpair => self.pair(call, [libc::O_RDWR; 2], fd(1)),
            libc::SYS_recvmsg => self.passed(call, fd(2)),
            libc::SYS_recvmmsg => self.passed(call, fd(3)),
            libc::SYS_execve | libc::SYS_execveat => {
                self.fds
                    .retain(self.files, |_, descriptor| !descriptor.cloexec);
            }
            libc::SYS_chdir | libc::SYS_fchdir | libc::SYS_setns | libc::SYS_pivot_root => {
                if let Effect::Path(path) = &call.effect {
                    self.fs.cwd = path.as_slice().into();
                }
            }
            libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => self.renamed(call),
            libc::SYS_umask => self.fs.umask = Some(call.args[0] as u32 & 0o777),
            _ => self.add_new(call, ret as i32),
        }
    }

    /// Follows rename(2): open files get their new names.
    fn renamed(&mut self, call: &CallEvent) {
        let files = files_named_by(call, self);
        let names: Vec<_> = files.into_iter().map(|file| file.absolute).collect();
        let [old, new] = names.as_slice() else {
            return;
        };
        let (Some(old), Some(new)) = (old.first(), new.first()) else {
            return;
        };
        let exchanged = call.args[4] as u32 & libc::RENAME_EXCHANGE != 0;
        let exchanged = exchanged && i64::from(call.nr) == libc::SYS_renameat2;
        for file in self.files.values_mut() {
            let below = |from: &[u8], to: &[u8]| {
                let rest = file.path.strip_prefix(from)?;
                let inside = rest.is_empty() || rest.starts_with(b"/");
                inside.then(|| [to, rest].concat())
            };
            let back = || below(new, old).filter(|_| exchanged);
            if let Some(path) = below(old, new).or_else(back) {
                let former = std::mem::replace(&mut file.path, path);
                file.add_name(&former);
            }
        }
    }

    fn file_mut(&mut self, fd: i32) -> Option<&mut OpenFile> {
        self.files.get_mut(self.fds.get(fd)?.file)
    }

    /// Puts a new open file at a number.
    fn insert(&mut self, fd: i32, file: OpenFile, cloexec: bool) {
        let descriptor = Descriptor {
            stream: self.fs.stream_of(&file.path),
            file: self.files.add(file),
            cloexec,
        };
        self.fds.put(fd, descriptor, self.files);
    }

    pub fn advance(&mut self, fd: i32, by: i64) {
        if let Some(file) = self.file_mut(fd)
            && file.moves
        {
            file.offset = file.offset.saturating_add_signed(by);
        }
    }

    pub fn seek(&mut self, fd: i32, to: u64) {
        if let Some(file) = self.file_mut(fd) {
            file.offset = to;
        }
    }

    /// Follows a new descriptor that the recorder looked up, which may share its open file with another.
    pub fn opened(&mut self, opened: &Opened, twin: Option<Descriptor>) {
        let cloexec = opened.flags & libc::O_CLOEXEC != 0;
        if let Some(twin) = twin {
            self.files.acquire(twin.file);
            let descriptor = Descriptor { cloexec, ..twin };
            return self.fds.put(opened.fd, descriptor, self.files);
        }
        let mut file = OpenFile::new(&opened.path, opened.flags & !libc::O_CLOEXEC);
        file.offset = opened.offset;
        file.moves = opened.moves;
        self.insert(opened.fd, file, cloexec);
    }

    fn add_new(&mut self, call: &CallEvent, fd: i32) {
        let Some(NewDescriptor { cloexec, flags }) = new_descriptor(call) else {
            return;
        };
        let path = match &call.effect {
            Effect::Path(path) => path.as_slice(),
            _ => b"",
        };
        let mut file = OpenFile::new(path, flags);
        // The path may be a symbolic link's.
        let by_name = matches!(
            i64::from(call.nr),
            libc::SYS_open | libc::SYS_openat | libc::SYS_openat2 | libc::SYS_creat
        );
        if by_name
            && let Some(read) = files_named_by(call, self).first_mut()
            && let Some(read) = read.absolute.pop()
        {
            file.add_name(&read);
        }
        self.insert(fd, file, cloexec);
    }

    fn duplicate(&mut self, from: i32, to: i32, cloexec: bool) {
        let Some(descriptor) = self.fds.get(from) else {
            return;
        };
        if from == to {
            return;
        }
        self.files.acquire(descriptor.file);
        self.fds.put(
            to,
            Descriptor {
                cloexec,
                ..descriptor
            },
            self.files,
        );
    }

    fn fcntl(&mut self, call: &CallEvent, ret: i32) {
        let [fd, op, arg] = [0, 1, 2].map(|i| call.args[i] as i32);
        match op {
            libc::F_DUPFD => self.duplicate(fd, ret, false),
            libc::F_DUPFD_CLOEXEC => self.duplicate(fd, ret, true),
            libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => {
                self.lock(call);
            }
            libc::F_SETFD => self.set_cloexec(fd, arg & libc::FD_CLOEXEC != 0),
            libc::F_SETFL => {
                const SETTABLE: i32 =
                    libc::O_APPEND | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK;
                if let Some(file) = self.file_mut(fd) {
                    let mut settable = SETTABLE;
                    if file.can_signal() {
                        settable |= libc::O_ASYNC;
                    }
                    file.flags = file.flags & !settable | arg & settable;
                }
            }
            _ => {}
        }
    }

    fn flock(&mut self, call: &CallEvent) {
        let lock = match call.args[1] as i32 & !libc::LOCK_NB {
            libc::LOCK_SH => Some(false),
            libc::LOCK_EX => Some(true),
            _ => None,
        };
        if let Some(file) = self.file_mut(call.args[0] as i32) {
            file.flock = lock;
        }
    }

    /// Follows a lock of a part of a file.
    fn lock(&mut self, call: &CallEvent) {
        let (fd, op) = (call.args[0] as i32, call.args[1] as i32);
        // struct flock: l_type, l_whence, and behind four bytes l_start, l_len.
        let mut bytes = [0; 24];
        if ChunkMemory(&call.ins).read(call.args[2], &mut bytes) != bytes.len() {
            return;
        }
        let short = |at: usize| i32::from(i16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let long = |at: usize| bytes[at..at + 8].try_into().map_or(0, i64::from_le_bytes);
        let from = match short(2) {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => self.file_mut(fd).map_or(0, |file| file.offset as i64),
            // The size is not known here.
            _ => return,
        };
        let (start, len) = (from.saturating_add(long(8)), long(16));
        let (start, end) = match len {
            0 => (start, None),
            1.. => (start, Some(start.saturating_add(len))),
            _ => (start.saturating_add(len), Some(start)),
        };
        let range = (
            start.max(0) as u64,
            end.map_or(u64::MAX, |end| end.max(0) as u64),
        );
        let exclusive = match short(0) {
            libc::F_RDLCK => Some(false),
            libc::F_WRLCK => Some(true),
            _ => None,
        };
        match op {
            libc::F_SETLK | libc::F_SETLKW => self.fds.lock(fd, range, exclusive, self.files),
            _ => {
                if let Some(file) = self.file_mut(fd) {
                    file.locks.set(range.0, range.1, exclusive);
                }
            }
        }
    }

    fn set_cloexec(&mut self, fd: i32, cloexec: bool) {
        if let Some(descriptor) = self.fds.get_mut(fd) {
            descriptor.cloexec = cloexec;
        }
    }

    fn ioctl(&mut self, call: &CallEvent) {
        let fd = call.args[0] as i32;
        match call.args[1] & 0xffff_ffff {
            libc::FIOCLEX => self.set_cloexec(fd, true),
            libc::FIONCLEX => self.set_cloexec(fd, false),
            request @ (libc::FIONBIO | libc::FIOASYNC) => {
                let mut word = [0; 4];
                if ChunkMemory(&call.ins).read(call.args[2], &mut word) != word.len() {
                    return;
                }
                let flag = match request {
                    libc::FIONBIO => libc::O_NONBLOCK,
                    _ => libc::O_ASYNC,
                };
                if let Some(file) = self.file_mut(fd) {
                    file.flags = match word {
                        [0, 0, 0, 0] => file.flags & !flag,
                        _ => file.flags | flag,
                    };
                }
            }
            _ => self.add_new(call, call.ret.unwrap_or(0) as i32),
        }
    }

    fn close_range(&mut self, call: &CallEvent) {
        let range = call.args[0] as u32..=call.args[1] as u32;
        let only_mark = call.args[2] as u32 & libc::CLOSE_RANGE_CLOEXEC != 0;
        self.fds.retain(self.files, |fd, descriptor| {
            let meant = range.contains(&(fd as u32));
            descriptor.cloexec |= meant && only_mark;
            !meant || only_mark
        });
    }

    /// Follows two new descriptors that the recorder did not look up.
    fn pair(&mut self, call: &CallEvent, modes: [i32; 2], flags: i32) {
        for (fd, mode) in output_descriptors(call).into_iter().zip(modes) {
            let path: &[u8] = match call.nr as i64 {
                libc::SYS_socketpair => b"socket:[]",
                _ => b"pipe:[]",
            };
            let file = OpenFile::new(path, mode | flags & (libc::O_NONBLOCK | libc::O_DIRECT));
            self.insert(fd, file, flags & libc::O_CLOEXEC != 0);
        }
    }

    /// Follows descriptors of a message that the recorder did not look up.
    fn passed(&mut self, call: &CallEvent, flags: i32) {
        if call.outs.is_empty() {
            return;
        }
        for fd in output_descriptors(call) {
            let file = OpenFile::new(b"", libc::O_RDWR | LARGEFILE);
            self.insert(fd, file, flags & libc::MSG_CMSG_CLOEXEC != 0);
        }
    }

    /// A directory's offset is the cookie in the last entry that was read: `d_off` of getdents(2).
    fn dirents(&mut self, call: &CallEvent, ret: i64) {
        let memory = ChunkMemory(&call.outs);
        let mut at = 0;
        while at < ret {
            // The inode, the cookie, the entry's length.
            let mut head = [0; 18];
            if memory.read(call.args[1].wrapping_add(at as u64), &mut head) != head.len() {
                return;
            }
            let [.., o0, o1, o2, o3, o4, o5, o6, o7, l0, l1] = head;
            let cookie = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
            self.seek(call.args[0] as i32, cookie);
            let len = u16::from_le_bytes([l0, l1]);
            if len == 0 {
                return;
            }
            at += i64::from(len);
        }
    }
}

impl Descriptors for TaskFiles<'_> {
    fn cwd(&self) -> &[u8] {
        &self.fs.cwd
    }

    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let at = self.fds.get(fd)?.file;
        Some((self.files.serial(at)?, self.files.get(at)?))
    }
}
