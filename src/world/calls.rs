//! Calls that change files.

use super::{Attributes, Base, Content, Kind, Listing, Node, NodeId, World};
use crate::constants::is_error;
use crate::kernel::{Descriptors, moved, path_of_address};
use crate::recording::{CallEvent, ChunkMemory, Effect};
use crate::syscall::{Memory, Moved, directory_entries};
use std::collections::BTreeSet;

/// The limit on the bytes of all writes that are kept.
pub(super) const MOST_BYTES: usize = 512 << 20;

/// `O_TMPFILE` without `O_DIRECTORY`.
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Whether a call may change files, by its name.
pub fn is_changed_by(call: &str) -> bool {
    matches!(
        call,
        "open"
            | "openat"
            | "openat2"
            | "creat"
            | "truncate"
            | "ftruncate"
            | "fallocate"
            | "copy_file_range"
            | "sendfile"
            | "splice"
            | "ioctl"
            | "mmap"
            | "rename"
            | "renameat"
            | "renameat2"
            | "link"
            | "linkat"
            | "symlink"
            | "symlinkat"
            | "unlink"
            | "unlinkat"
            | "rmdir"
            | "mkdir"
            | "mkdirat"
            | "mknod"
            | "mknodat"
            | "bind"
            | "chmod"
            | "fchmod"
            | "fchmodat"
            | "fchmodat2"
            | "chown"
            | "lchown"
            | "fchown"
            | "fchownat"
            | "utime"
            | "utimes"
            | "futimesat"
            | "utimensat"
            | "setxattr"
            | "lsetxattr"
            | "fsetxattr"
            | "removexattr"
            | "lremovexattr"
            | "fremovexattr"
            | "write"
            | "pwrite64"
            | "writev"
            | "pwritev"
            | "pwritev2"
    )
}

/// The path at which bind(2) makes a socket; a relative one is from this directory.
pub fn path_bound_by(call: &CallEvent, cwd: &[u8]) -> Option<Vec<u8>> {
    const MOST: u64 = 110;
    if i64::from(call.nr) != libc::SYS_bind {
        return None;
    }
    let mut address = vec![0; call.args[2].min(MOST) as usize];
    let n = ChunkMemory(&call.ins).read(call.args[1], &mut address);
    address.truncate(n);
    path_of_address(&address, cwd)
}

/// Whether a call makes a descriptor of a file: it is followed with the task's descriptors at its exit.
pub fn opens(call: &CallEvent) -> bool {
    matches!(
        i64::from(call.nr),
        libc::SYS_open | libc::SYS_creat | libc::SYS_openat | libc::SYS_openat2
    )
}

impl<B: Base> World<B> {
    /// Follows a call of a task with these descriptors, at its entry unless it [opens] a file, and this
    /// umask.
    pub fn follow(&mut self, call: &CallEvent, descriptors: &dyn Descriptors, umask: u32) {
        let Some(ret) = call.ret.filter(|&ret| !is_error(ret) && call.was_made()) else {
            return;
        };
        let at = Call {
            call,
            descriptors,
            umask,
        };
        let args = &call.args;
        let is_set = |arg: usize, flag: i32| args[arg] as i32 & flag != 0;
        match i64::from(call.nr) {
            libc::SYS_open => self.opened(&at, None, 0, args[1] as i32, args[2]),
            libc::SYS_creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.opened(&at, None, 0, flags, args[1]);
            }
            libc::SYS_openat => self.opened(&at, Some(0), 1, args[2] as i32, args[3]),
            libc::SYS_openat2 => {
                let how = |word: u64| at.word(args[2].wrapping_add(8 * word));
                self.opened(&at, Some(0), 1, how(0) as i32, how(1));
            }
            libc::SYS_getdents | libc::SYS_getdents64 => self.listed_more(&at, ret),
            libc::SYS_lseek if args[2] as i32 == libc::SEEK_SET => {
                // Other positions are nowhere else.
                if let Some((file, _)) = descriptors.file(args[0] as i32) {
                    self.listings.remove(&file);
                }
            }
            libc::SYS_truncate => {
                if let Some(id) = self.named(&at, None, 0, true) {
                    self.change(id, |content| content.resize(args[1]));
                }
            }
            libc::SYS_ftruncate => self.change_open(&at, 0, |content| content.resize(args[1])),
            libc::SYS_fallocate => self.allocated(&at),
            libc::SYS_copy_file_range => self.copied(&at, (0, Some(1)), (2, Some(3)), ret as u64),
            libc::SYS_sendfile => self.copied(&at, (1, Some(2)), (0, None), ret as u64),
            libc::SYS_splice => self.copied(&at, (0, Some(1)), (2, Some(3)), ret as u64),
            libc::SYS_ioctl => self.cloned(&at),
            libc::SYS_mmap => self.mapped(&at),
            libc::SYS_rename => self.renamed(&at, (None, 0), (None, 1), 0),
            libc::SYS_renameat => self.renamed(&at, (Some(0), 1), (Some(2), 3), 0),
            libc::SYS_renameat2 => {
                self.renamed(&at, (Some(0), 1), (Some(2), 3), args[4] as u32);
            }
            libc::SYS_link => self.linked(&at, (None, 0), (None, 1), 0),
            libc::SYS_linkat => self.linked(&at, (Some(0), 1), (Some(2), 3), args[4] as i32),
            libc::SYS_symlink => self.made(&at, None, 1, Kind::Link(at.text(0)), 0o777),
            libc::SYS_symlinkat => self.made(&at, Some(1), 2, Kind::Link(at.text(0)), 0o777),
            libc::SYS_unlink | libc::SYS_rmdir => self.removed(&at, None, 0),
            libc::SYS_unlinkat => self.removed(&at, Some(0), 1),
            libc::SYS_mkdir => self.made(&at, None, 0, Kind::Directory, at.mode(args[1])),
            libc::SYS_mkdirat => self.made(&at, Some(0), 1, Kind::Directory, at.mode(args[2])),
            libc::SYS_bind => self.bound(&at),
            libc::SYS_mknod => self.made_special(&at, None, 0, args[1], args[2]),
            libc::SYS_mknodat => self.made_special(&at, Some(0), 1, args[2], args[3]),
            libc::SYS_chmod => {
                let id = self.named(&at, None, 0, true);
                self.set(id, |attributes| {
                    attributes.mode = Some(args[1] as u32 & 0o7777)
                });
            }
            libc::SYS_fchmodat | SYS_FCHMODAT2 => {
                let follows = i64::from(call.nr) == libc::SYS_fchmodat
                    || !is_set(3, libc::AT_SYMLINK_NOFOLLOW);
                let id = self.named(&at, Some(0), 1, follows);
                self.set(id, |attributes| {
                    attributes.mode = Some(args[2] as u32 & 0o7777)
                });
            }
            libc::SYS_fchmod => {
                let id = self.behind(&at, 0);
                self.set(id, |attributes| {
                    attributes.mode = Some(args[1] as u32 & 0o7777)
                });
            }
            libc::SYS_chown | libc::SYS_lchown => {
                let follows = i64::from(call.nr) == libc::SYS_chown;
                let id = self.named(&at, None, 0, follows);
                self.set(id, |attributes| own(attributes, args[1], args[2]));
            }
            libc::SYS_fchown => {
                let id = self.behind(&at, 0);
                self.set(id, |attributes| own(attributes, args[1], args[2]));
            }
            libc::SYS_fchownat => {
                let id = self.named(&at, Some(0), 1, !is_set(4, libc::AT_SYMLINK_NOFOLLOW));
                self.set(id, |attributes| own(attributes, args[2], args[3]));
            }
            libc::SYS_utimensat => {
                let follows = !is_set(3, libc::AT_SYMLINK_NOFOLLOW);
                let id = match args[1] {
                    0 => self.behind(&at, 0),
                    _ => self.named(&at, Some(0), 1, follows),
                };
                let time = match args[2] {
                    0 => Some(self.time),
                    times => at.time(times.wrapping_add(16), self.time),
                };
                if let Some(time) = time {
                    self.set(id, |attributes| attributes.modified = time);
                }
            }
            libc::SYS_utime | libc::SYS_utimes | libc::SYS_futimesat => {
                let (dir, path) = match i64::from(call.nr) {
                    libc::SYS_futimesat => (Some(0), 1),
                    _ => (None, 0),
                };
                let id = self.named(&at, dir, path, true);
                let at_times = args[path + 1];
                let time = match (at_times, i64::from(call.nr)) {
                    (0, _) => self.time,
                    (times, libc::SYS_utime) => {
                        Some(i128::from(at.word(times.wrapping_add(8)) as i64) * 1_000_000_000)
                    }
                    (times, _) => {
                        let seconds = i128::from(at.word(times.wrapping_add(16)) as i64);
                        let micros = i128::from(at.word(times.wrapping_add(24)) as i64);
                        Some(seconds * 1_000_000_000 + micros * 1000)
                    }
                };
                self.set(id, |attributes| attributes.modified = time);
            }
            libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => {
                let id = self.attributed(&at);
                let value = at.bytes(args[2], args[3] as usize);
                let name = at.text(1);
                self.set(id, |attributes| {
                    if name == ACCESS_LIST {
                        let (permissions, is_all) = permissions(&value);
                        let others = attributes.mode.map(|mode| mode & !0o777);
                        attributes.mode = others.map(|mode| mode | permissions);
                        if is_all {
                            attributes.extended.remove(&name);
                            return;
                        }
                    }
                    attributes.extended.insert(name, value);
                });
            }
            libc::SYS_removexattr | libc::SYS_lremovexattr | libc::SYS_fremovexattr => {
                let id = self.attributed(&at);
                let name = at.text(1);
                self.set(id, |attributes| _ = attributes.extended.remove(&name));
            }
            libc::SYS_read
            | libc::SYS_pread64
            | libc::SYS_readv
            | libc::SYS_preadv
            | libc::SYS_preadv2 => self.saw_data(&at),
            libc::SYS_stat
            | libc::SYS_lstat
            | libc::SYS_fstat
            | libc::SYS_newfstatat
            | libc::SYS_statx => self.saw_status(&at),
            _ => self.written(&at, ret),
        }
    }

    /// The file that an xattr call is about.
    fn attributed(&mut self, at: &Call<'_>) -> Option<NodeId> {
        match i64::from(at.call.nr) {
            libc::SYS_fsetxattr | libc::SYS_fremovexattr => self.behind(at, 0),
            libc::SYS_lsetxattr | libc::SYS_lremovexattr => self.named(at, None, 0, false),
            _ => self.named(at, None, 0, true),
        }
    }

    /// The absolute path of a path argument; `None` where that is not clear.
    pub(super) fn path(
        &mut self,
        at: &Call<'_>,
        dir: Option<usize>,
        path: usize,
        follows: bool,
    ) -> Option<Vec<u8>> {
        let text = at.text(path);
        let whole = match dir.map(|arg| at.call.args[arg] as i32) {
            _ if text.starts_with(b"/") => text,
            None | Some(libc::AT_FDCWD) => [at.descriptors.cwd(), b"/", &text].concat(),
            Some(fd) => {
                let dir = at.descriptors.open_file(fd)?;
                [&dir.path, b"/".as_slice(), &text].concat()
            }
        };
        whole
            .starts_with(b"/")
            .then(|| self.resolve(&whole, follows))
    }

    /// The file that a path in the arguments of a call leads to, or that is behind the descriptor where the path is empty;
    /// `follows` says whether a symbolic link at its end is followed.
    pub fn named_by(
        &mut self,
        call: &CallEvent,
        descriptors: &dyn Descriptors,
        (dir, path): (Option<usize>, usize),
        follows: bool,
    ) -> Option<NodeId> {
        let at = Call {
            call,
            descriptors,
            umask: 0,
        };
        self.named(&at, dir, path, follows)
    }

    fn named(
        &mut self,
        at: &Call<'_>,
        dir: Option<usize>,
        path: usize,
        follows: bool,
    ) -> Option<NodeId> {
        // An empty path stands for the descriptor, where a call takes that.
        if dir.is_some() && at.text(path).is_empty() {
            return self.behind(at, dir?);
        }
        // A descriptor's link, as programs use it to change a file that they have open.
        if let Some(fd) = own_descriptor(&at.text(path)).filter(|_| follows) {
            return self.of_descriptor(at.descriptors, fd);
        }
        let path = self.path(at, dir, path, follows)?;
        self.node(&path)
    }

    /// The file behind a descriptor in the arguments.
    pub(super) fn behind(&mut self, at: &Call<'_>, arg: usize) -> Option<NodeId> {
        self.of_descriptor(at.descriptors, at.call.args[arg] as i32)
    }

    /// The file behind a descriptor.
    pub fn of_descriptor(&mut self, descriptors: &dyn Descriptors, fd: i32) -> Option<NodeId> {
        let (file, open) = descriptors.file(fd)?;
        match self.open.get(&file) {
            Some(&known) => Some(known),
            None if open.path.starts_with(b"/") => {
                let node = self.node(&open.path)?;
                self.open.insert(file, node);
                Some(node)
            }
            None => None,
        }
    }

    fn set(&mut self, id: Option<NodeId>, how: impl FnOnce(&mut Attributes)) {
        if let Some(node) = id.and_then(|id| self.nodes.get_mut(&id)) {
            how(&mut node.attributes);
        }
    }

    fn change(&mut self, id: NodeId, how: impl FnOnce(&mut Content<B::File>)) {
        if let Some(node) = self.nodes.get_mut(&id)
            && let Kind::File(content) = &mut node.kind
        {
            how(content);
            node.attributes.modified = self.time;
            node.is_written = true;
        }
    }

    fn change_open(&mut self, at: &Call<'_>, arg: usize, how: impl FnOnce(&mut Content<B::File>)) {
        if let Some(id) = self.behind(at, arg) {
            self.change(id, how);
        }
    }

    pub(super) fn make(&mut self, path: &[u8], kind: Kind<B::File>, mode: u32) -> NodeId {
        let is_directory = matches!(kind, Kind::Directory);
        let id = self.add(Node {
            kind,
            attributes: Attributes {
                mode: Some(mode),
                modified: self.time,
                ..Attributes::default()
            },
            is_old: false,
            is_mapped: false,
            is_foreign: false,
            is_written: true,
            shared: None,
            inode: None,
            is_given: false,
        });
        if is_directory {
            self.names.made_directory(path);
        }
        self.names.put(path, Some(id));
        id
    }

    fn opened(&mut self, at: &Call<'_>, dir: Option<usize>, path: usize, flags: i32, mode: u64) {
        let Some((file, open)) = at.call.ret.and_then(|fd| at.descriptors.file(fd as i32)) else {
            return;
        };
        self.listings.remove(&file);
        if flags & TMPFILE == TMPFILE {
            let id = self.add(Node {
                kind: Kind::File(Content::default()),
                attributes: Attributes {
                    mode: Some(at.mode(mode)),
                    modified: self.time,
                    ..Attributes::default()
                },
                is_old: false,
                is_mapped: false,
                is_foreign: false,
                is_written: true,
                shared: None,
                inode: None,
                is_given: false,
            });
            self.open.insert(file, id);
            return;
        }
        let resolved = match own_descriptor(&at.text(path)) {
            Some(fd) => {
                let id = self.of_descriptor(at.descriptors, fd);
                return self.opened_node(file, id, flags);
            }
            None if open.path.starts_with(b"/") && !open.path.ends_with(b" (deleted)") => {
                Some(open.path.clone())
            }
            None => self.path(at, dir, path, flags & libc::O_NOFOLLOW == 0),
        };
        let Some(resolved) = resolved else { return };
        let found = self.node(&resolved);
        let id = match found {
            None if flags & libc::O_CREAT != 0 => {
                self.change_around(&resolved);
                Some(self.make(&resolved, Kind::File(Content::default()), at.mode(mode)))
            }
            None => self.add_foreign(&resolved, Kind::File(Content::default())),
            found => found,
        };
        self.opened_node(file, id, flags);
    }

    fn opened_node(&mut self, file: u64, id: Option<NodeId>, flags: i32) {
        let Some(id) = id else { return };
        self.open.insert(file, id);
        if flags & libc::O_PATH != 0 {
            return;
        }
        if flags & libc::O_ACCMODE != libc::O_RDONLY
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.is_written = true;
        }
        if flags & libc::O_TRUNC != 0 {
            self.change(id, |content| content.resize(0));
        }
    }

    fn listed_more(&mut self, at: &Call<'_>, ret: i64) {
        let Some((file, _)) = at.descriptors.file(at.call.args[0] as i32) else {
            return;
        };
        if ret == 0 {
            self.listings.insert(file, Listing::Over);
            return;
        }
        let listing = self.listings.entry(file);
        let Listing::Names(names) = listing.or_insert_with(|| Listing::Names(BTreeSet::new()))
        else {
            return;
        };
        let is_wide = i64::from(at.call.nr) == libc::SYS_getdents64;
        for chunk in &at.call.outs {
            let entries = directory_entries(&chunk.data, is_wide);
            names.extend(entries.map(|(_, name)| name.to_vec()));
        }
    }

    fn written(&mut self, at: &Call<'_>, ret: i64) {
        let data = moved(at.call, Moved::In);
        if ret <= 0 || data.is_empty() {
            return;
        }
        let Some(id) = self.behind(at, 0) else { return };
        let Some(file) = at.descriptors.open_file(at.call.args[0] as i32) else {
            return;
        };
        let (offset, is_appended) = (file.offset, file.flags & libc::O_APPEND != 0);
        let given = match i64::from(at.call.nr) {
            libc::SYS_pwrite64 | libc::SYS_pwritev => Some(at.call.args[3]),
            libc::SYS_pwritev2 => Some(at.call.args[3]).filter(|&at| at != u64::MAX),
            _ => None,
        };
        // What is too much is not kept.
        let fits = self.held + data.len() <= MOST_BYTES;
        self.held += if fits { data.len() } else { 0 };
        let data = if fits { &data[..] } else { &[] };
        let appends = is_appended
            || i64::from(at.call.nr) == libc::SYS_pwritev2 && at.call.args[5] & RWF_APPEND != 0;
        self.change(id, |content| {
            let to = match appends {
                true => content.len(),
                false => given.unwrap_or(offset),
            };
            content.write(to, data);
            let rest = (ret as u64).saturating_sub(data.len() as u64);
            content.write_unknown(to.saturating_add(data.len() as u64), rest);
        });
    }

    /// Follows data that went from one file to another: the arguments with the descriptors, and with pointers to offsets.
    fn copied(
        &mut self,
        at: &Call<'_>,
        from: (usize, Option<usize>),
        to: (usize, Option<usize>),
        count: u64,
    ) {
        let Some(target) = self.behind(at, to.0) else {
            return;
        };
        let start = at.offset(from);
        let source = self.behind(at, from.0).and_then(|id| self.nodes.get(&id));
        let source = source.and_then(|node| match &node.kind {
            Kind::File(content) => Some(content.clone()),
            _ => None,
        });
        let appends = at
            .descriptors
            .open_file(at.call.args[to.0] as i32)
            .is_some_and(|file| file.flags & libc::O_APPEND != 0);
        let offset = at.offset(to);
        let data = match &at.call.effect {
            Effect::Moved(data) if self.held + data.len() <= MOST_BYTES => data.as_slice(),
            _ => &[],
        };
        let data = &data[..data.len().min(count as usize)];
        if source.is_none() {
            self.held += data.len();
        }
        self.change(target, |content| {
            let to = if appends { content.len() } else { offset };
            match &source {
                Some(source) => content.copy(to, source, start, count),
                None => {
                    let known = data.len() as u64;
                    content.write(to, data);
                    content.write_unknown(to.saturating_add(known), count - known);
                }
            }
        });
    }

    fn cloned(&mut self, at: &Call<'_>) {
        let [_, request, arg, ..] = at.call.args;
        let (from, start, len, to) = match request & u64::from(u32::MAX) {
            libc::FICLONE => (arg as i32, 0, u64::MAX, 0),
            libc::FICLONERANGE => {
                let word = |n: u64| at.word(arg.wrapping_add(8 * n));
                let len = Some(word(2)).filter(|&len| len > 0).unwrap_or(u64::MAX);
                (word(0) as i32, word(1), len, word(3))
            }
            _ => return,
        };
        let source = self.of_descriptor(at.descriptors, from);
        let source = source.and_then(|id| self.nodes.get(&id));
        let Some(Kind::File(source)) = source.map(|node| node.kind.clone()) else {
            return;
        };
        self.change_open(at, 0, |content| content.copy(to, &source, start, len));
    }

    fn allocated(&mut self, at: &Call<'_>) {
        let [_, mode, offset, len, ..] = at.call.args;
        let mode = mode as i32;
        let keeps = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        self.change_open(at, 0, |content| {
            let end = offset.saturating_add(len);
            match mode & !libc::FALLOC_FL_KEEP_SIZE {
                0 if !keeps && end > content.len() => content.resize(end),
                libc::FALLOC_FL_PUNCH_HOLE => content.clear(offset, len, false),
                libc::FALLOC_FL_ZERO_RANGE => content.clear(offset, len, !keeps),
                libc::FALLOC_FL_COLLAPSE_RANGE => {
                    let whole = content.clone();
                    content.copy(offset, &whole, end, u64::MAX);
                    content.resize(whole.len().saturating_sub(len));
                }
                libc::FALLOC_FL_INSERT_RANGE => {
                    let whole = content.clone();
                    content.clear(offset, len, true);
                    content.copy(end, &whole, offset, u64::MAX);
                }
                _ => {}
            }
        });
    }

    fn mapped(&mut self, at: &Call<'_>) {
        let [_, _, prot, flags, fd, _] = at.call.args;
        let is_shared = matches!(
            flags as i32 & libc::MAP_TYPE,
            libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE
        );
        let file = at.descriptors.open_file(fd as i32);
        let may_write = file.is_some_and(|file| file.flags & libc::O_ACCMODE == libc::O_RDWR);
        if flags as i32 & libc::MAP_ANONYMOUS != 0
            || !is_shared
            || prot & libc::PROT_WRITE as u64 == 0 && !may_write
        {
            return;
        }
        let id = self.of_descriptor(at.descriptors, fd as i32);
        if let Some(node) = id.and_then(|id| self.nodes.get_mut(&id)) {
            node.is_mapped = true;
            if let Effect::Share { object, .. } = at.call.effect {
                node.shared = Some(object);
            }
        }
    }

    fn renamed(
        &mut self,
        at: &Call<'_>,
        from: (Option<usize>, usize),
        to: (Option<usize>, usize),
        flags: u32,
    ) {
        let from = self.path(at, from.0, from.1, false);
        let to = self.path(at, to.0, to.1, false);
        let (Some(from), Some(to)) = (from, to) else {
            return;
        };
        let Some(node) = self.node(&from) else { return };
        let other = self.node(&to);
        // Two names of one file: nothing happens.
        if other == Some(node) {
            return;
        }
        self.change_around(&from);
        self.change_around(&to);
        let is_directory = |id: NodeId| self.nodes.get(&id).is_some_and(Node::is_directory);
        if flags & libc::RENAME_EXCHANGE != 0 {
            if let Some(other) = other {
                let (one, two) = (is_directory(node), is_directory(other));
                self.names.exchange((&from, node, one), (&to, other, two));
            }
            return;
        }
        let is_directory = is_directory(node);
        self.names.rename(&from, &to, node, is_directory);
        if flags & libc::RENAME_WHITEOUT != 0 {
            let kind = Kind::Special(libc::S_IFCHR, 0);
            self.make(&from, kind, 0);
        }
    }

    fn linked(
        &mut self,
        at: &Call<'_>,
        from: (Option<usize>, usize),
        to: (Option<usize>, usize),
        flags: i32,
    ) {
        let follows = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let node = match own_descriptor(&at.text(from.1)).filter(|_| follows) {
            Some(fd) => self.of_descriptor(at.descriptors, fd),
            None => self.named(at, from.0, from.1, follows),
        };
        let to = self.path(at, to.0, to.1, false);
        if let (Some(node), Some(to)) = (node, to) {
            self.change_around(&to);
            self.names.put(&to, Some(node));
        }
    }

    fn made(
        &mut self,
        at: &Call<'_>,
        dir: Option<usize>,
        path: usize,
        kind: Kind<B::File>,
        mode: u32,
    ) {
        if let Some(path) = self.path(at, dir, path, false) {
            self.change_around(&path);
            self.make(&path, kind, mode);
        }
    }

    fn made_special(
        &mut self,
        at: &Call<'_>,
        dir: Option<usize>,
        path: usize,
        mode: u64,
        device: u64,
    ) {
        let kind = match mode as u32 & libc::S_IFMT {
            0 | libc::S_IFREG => Kind::File(Content::default()),
            kind => Kind::Special(kind, device),
        };
        self.made(at, dir, path, kind, at.mode(mode));
    }

    /// A socket that is bound to a path is a file there.
    fn bound(&mut self, at: &Call<'_>) {
        let Some(path) = path_bound_by(at.call, at.descriptors.cwd()) else {
            return;
        };
        let path = self.resolve(&path, false);
        self.change_around(&path);
        self.make(&path, Kind::Special(libc::S_IFSOCK, 0), at.mode(0o777));
    }

    fn removed(&mut self, at: &Call<'_>, dir: Option<usize>, path: usize) {
        if let Some(path) = self.path(at, dir, path, false) {
            self.change_around(&path);
            self.names.remove(&path);
        }
    }

    /// Notes that an entry of the directory around a path is changed.
    fn change_around(&mut self, path: &[u8]) {
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let dir = self.node(&path[..end]);
        let time = self.time;
        self.set(dir, |attributes| attributes.modified = time);
    }
}

impl<B> Node<B> {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// Whether a recorded call has made it.
    pub fn is_made(&self) -> bool {
        !self.is_old && !self.is_foreign
    }
}

const SYS_FCHMODAT2: i64 = 452;
const RWF_APPEND: u64 = 0x10;

/// The attribute that is an access control list.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// The permissions that an access control list gives (linux/posix_acl_xattr.h), and whether they are all that it says.
fn permissions(list: &[u8]) -> (u32, bool) {
    const HEADER: usize = 4;
    let (mut owner, mut group, mut mask, mut other) = (0, 0, None, 0);
    let entries = list.get(HEADER..).unwrap_or_default().chunks_exact(8);
    let count = entries.len();
    for entry in entries {
        let bits = u32::from(entry[2] & 7);
        match entry[0] {
            0x01 => owner = bits,
            0x04 => group = bits,
            0x10 => mask = Some(bits),
            0x20 => other = bits,
            _ => {}
        }
    }
    let bits = owner << 6 | mask.unwrap_or(group) << 3 | other;
    (bits, count <= 3)
}

fn own(attributes: &mut Attributes, uid: u64, gid: u64) {
    let given = |id: u64| Some(id as u32).filter(|&id| id != u32::MAX);
    attributes.uid = given(uid).or(attributes.uid);
    attributes.gid = given(gid).or(attributes.gid);
    // The kernel takes these bits away.
    attributes.mode = attributes.mode.map(|mode| mode & !0o6000);
}

/// The descriptor that a path in `/proc` or `/dev` leads to.
fn own_descriptor(path: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(path).ok()?;
    let number = ["/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"]
        .iter()
        .find_map(|dir| text.strip_prefix(dir))?;
    number.parse().ok()
}

/// A call, with the descriptors at its entry.
pub(super) struct Call<'a> {
    pub call: &'a CallEvent,
    pub descriptors: &'a dyn Descriptors,
    umask: u32,
}

impl Call<'_> {
    fn memory(&self) -> ChunkMemory<'_> {
        ChunkMemory(&self.call.ins)
    }

    /// The text at the address in an argument.
    pub fn text(&self, arg: usize) -> Vec<u8> {
        let mut text = vec![0; libc::PATH_MAX as usize];
        let n = self.memory().read(self.call.args[arg], &mut text);
        let end = text[..n].iter().position(|&byte| byte == 0);
        text.truncate(end.unwrap_or(0));
        text
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        const MOST: usize = 64 << 10;
        let mut bytes = vec![0; len.min(MOST)];
        let n = self.memory().read(at, &mut bytes);
        bytes.truncate(n);
        bytes
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.memory().read(at, &mut word);
        u64::from_le_bytes(word)
    }

    /// A `struct timespec` as a time to set; the outer `None` leaves the time alone.
    fn time(&self, at: u64, now: Option<i128>) -> Option<Option<i128>> {
        let (seconds, nanos) = (self.word(at) as i64, self.word(at.wrapping_add(8)) as i64);
        match nanos {
            libc::UTIME_OMIT => None,
            libc::UTIME_NOW => Some(now),
            nanos => Some(Some(
                i128::from(seconds) * 1_000_000_000 + i128::from(nanos),
            )),
        }
    }

    /// The permissions of a new file.
    fn mode(&self, mode: u64) -> u32 {
        mode as u32 & 0o7777 & !self.umask
    }

    /// The offset at which data is taken or put: where a pointer says, or that of the open file.
    fn offset(&self, (fd, pointer): (usize, Option<usize>)) -> u64 {
        let pointer = pointer.map(|arg| self.call.args[arg]).filter(|&at| at != 0);
        match pointer {
            Some(at) => self.word(at),
            None => {
                let file = self.descriptors.open_file(self.call.args[fd] as i32);
                file.map_or(0, |file| file.offset)
            }
        }
    }
}
