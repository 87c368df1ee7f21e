//! Files as they were before the recording: what a call names is looked at before the call is made, and its content is kept
//! before it is read or changed for the first time.
//!
//! Files that belong to the system and are only read are not copied: their status is enough to see whether they are still
//! the same.

use super::discarded::View;
use super::task::Task;
use super::{Recorder, Result};
use crate::recording::{
    Before, CallEvent, ChunkMemory, ContentBefore, EntryBefore, FileBefore, Files, Frame,
    KeptLimits, Status, User, is_full,
};
use crate::syscall::{Memory, Syscall};
use crate::trace::file_names;
use crate::tracee::checked_open;
use crate::world;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{AccessFlags, access};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of which the content before the recording is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptFiles {
    /// None, and nothing else is known of them either.
    None,
    /// Those that the program is about to change.
    Written,
    /// Also those that it reads, except for the system's.
    #[default]
    Touched,
}

impl KeptFiles {
    /// The names of all.
    pub const NAMES: [&str; 3] = ["touched", "written", "none"];

    /// The one with this name.
    pub fn named(name: &str) -> Option<KeptFiles> {
        match name {
            "touched" => Some(KeptFiles::Touched),
            "written" => Some(KeptFiles::Written),
            "none" => Some(KeptFiles::None),
            _ => None,
        }
    }
}

/// Longer files are kept beside the events.
const SHORT: u64 = 32 << 10;

/// The limit on the bytes of a file's extended attributes.
const MOST_ATTRIBUTES: usize = 64 << 10;

/// The number of entries about files that wait until they are written.
const MOST_HELD: usize = 256;

/// The limit on the entries of a directory that are kept.
const MOST_ENTRIES: usize = 1 << 20;

/// The limit on the files in a directory that is moved.
const MOST_MOVED: usize = 20_000;

/// Directories with the system's files, which are not copied if they are only read.
const SYSTEM: [&[u8]; 9] = [
    b"/usr/",
    b"/bin/",
    b"/sbin/",
    b"/lib/",
    b"/lib32/",
    b"/lib64/",
    b"/boot/",
    b"/snap/",
    b"/nix/store/",
];

/// The one in [`SYSTEM`] whose files are the user's.
const NOT_SYSTEM: &[u8] = b"/usr/local/";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Only its status is read.
    Look,
    Read,
    Change,
}

/// What has been seen of a path.
struct Known {
    kind: Kind,
    /// Whether it may have been replaced since.
    is_replaced: bool,
    /// Whether the content is kept, or cannot be.
    is_kept: bool,
    /// Whether the entries are kept, or need not be.
    is_listed: bool,
    /// Whether it is a file that a user does not change, once that was asked.
    is_system: Option<bool>,
}

enum Kind {
    Nothing,
    Directory,
    Link(Vec<u8>),
    /// The device and inode number, and the bytes on disk.
    File((u64, u64), u64),
    Other,
}

/// The descriptor argument that a path begins at, if there is one, and the argument with the path.
type PathArgs = [(Option<usize>, usize)];

/// What a call has to do with files.
struct Kinds {
    paths: Box<PathArgs>,
    lists: bool,
    changes: bool,
}

/// What has been seen of the files.
pub(super) struct FilesBefore {
    kept: KeptFiles,
    known: HashMap<Vec<u8>, Known>,
    calls: HashMap<u32, Arc<Kinds>>,
    /// The last time that was written.
    time: i64,
    /// The recording's own directory.
    own: Vec<u8>,
    is_root: bool,
    view: View,
    limits: KeptLimits,
    /// The bytes on disk of kept files.
    bytes: u64,
    /// Whether it was said that a file is not kept although it could be read.
    is_said: bool,
    /// What is to be written.
    frames: Vec<Frame>,
}

impl FilesBefore {
    pub fn new(kept: KeptFiles, limits: KeptLimits, own: &Path, view: View) -> FilesBefore {
        FilesBefore {
            kept,
            known: HashMap::new(),
            calls: HashMap::new(),
            time: 0,
            own: own.as_os_str().as_bytes().to_vec(),
            is_root: nix::unistd::geteuid().is_root(),
            view,
            limits,
            bytes: 0,
            is_said: false,
            frames: Vec::new(),
        }
    }

    /// Looks at a path whose parent has been looked at.
    fn look(&mut self, path: &[u8]) {
        if self.known.contains_key(path) {
            return;
        }
        let parent = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let is_new = self
            .known
            .get(&path[..parent])
            .is_some_and(|parent| parent.is_replaced || matches!(parent.kind, Kind::Nothing));
        if is_new {
            // What is there now is not from before the recording.
            self.note(path, Before::Nothing);
            self.known.insert(path.to_vec(), Known::new(Kind::Nothing));
            return;
        }
        let place = self.view.place(path);
        let (was, kind) = match fs::symlink_metadata(&place) {
            Ok(meta) => {
                let mut status = status(&place, &meta);
                status.inode = self.view.numbers(path, &meta);
                let kind = match meta.file_type() {
                    kind if kind.is_dir() => Kind::Directory,
                    kind if kind.is_symlink() => Kind::Link(status.link.clone()),
                    kind if kind.is_file() => {
                        Kind::File((meta.dev(), meta.ino()), meta.blocks() * 512)
                    }
                    _ => Kind::Other,
                };
                (Before::File(Box::new(status)), kind)
            }
            Err(_) => (Before::Nothing, Kind::Nothing),
        };
        self.note(path, was);
        self.known.insert(path.to_vec(), Known::new(kind));
    }

    fn note(&mut self, path: &[u8], was: Before) {
        let path = path.to_vec();
        self.frames.push(Frame::Before(FileBefore { path, was }));
    }

    /// Looks at an absolute path and all that it leads through. Returns the path that it is, and the one that it leads to if
    /// the last part is followed.
    fn resolve(&mut self, path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut itself, mut is_apart) = (None, false);
        let target = world::walk(path, |at, is_last| {
            is_apart |= world::is_apart(at) || at == self.own;
            if is_apart {
                return None;
            }
            self.look(at);
            if is_last && itself.is_none() {
                itself = Some(at.to_vec());
            }
            self.link(at)
        });
        Some((itself.filter(|_| !is_apart)?, target))
    }

    /// The text of the symbolic link that is at a path now, which has been looked at.
    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let known = self.known.get(path)?;
        match &known.kind {
            Kind::Link(text) if !known.is_replaced => Some(text.clone()),
            Kind::Nothing => self.current_link(path),
            _ if known.is_replaced => self.current_link(path),
            _ => None,
        }
    }

    fn current_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let text = fs::read_link(self.view.place(path)).ok()?;
        Some(text.into_os_string().into_vec())
    }

    /// Keeps the content of a file that is about to be read or changed.
    fn keep(&mut self, files: &mut Files, path: &[u8], used: Use) {
        let Some(known) = self.known.get_mut(path) else {
            return;
        };
        let Kind::File(inode, on_disk) = known.kind else {
            return;
        };
        if known.is_kept || used == Use::Look && on_disk > SHORT {
            return;
        }
        if used != Use::Change {
            let (is_root, view) = (self.is_root, &self.view);
            let is_spared = self.kept == KeptFiles::Written
                || *known
                    .is_system
                    .get_or_insert_with(|| is_system(path, is_root) && view.is_the_machines(path));
            if is_spared {
                return;
            }
        }
        known.is_kept = true;
        let refused = self.limits.refuse(on_disk, self.bytes);
        let refused = refused.or_else(|| files.refuse(on_disk).map(str::to_owned));
        let content = match refused {
            Some(reason) => {
                self.say(path, &reason);
                ContentBefore::Missing(reason)
            }
            None => match content(files, (path, &self.view.place(path)), inode) {
                Ok(content) => {
                    self.bytes += on_disk;
                    content
                }
                Err(error) => {
                    if is_full(&error) {
                        self.say(path, "the disk is full");
                    }
                    ContentBefore::Missing(error.to_string())
                }
            },
        };
        self.note(path, Before::Content(content));
    }

    /// Says of the first file that it is not kept.
    fn say(&mut self, path: &[u8], reason: &str) {
        if !std::mem::replace(&mut self.is_said, true) {
            tracing::warn!(
                "{} is not kept as it was ({reason}), nor are others like it: a live continuation will see them as they are then",
                String::from_utf8_lossy(path)
            );
        }
    }

    /// Looks at all in a directory that is about to get another path.
    fn moves(&mut self, files: &mut Files, path: &[u8]) {
        if !matches!(
            self.known.get(path),
            Some(Known {
                kind: Kind::Directory,
                ..
            })
        ) {
            return self.keep(files, path, Use::Change);
        }
        let mut dirs = vec![path.to_vec()];
        let mut left = MOST_MOVED;
        while let Some(dir) = dirs.pop() {
            let entries = fs::read_dir(self.view.place(&dir))
                .into_iter()
                .flatten()
                .flatten();
            for entry in entries {
                let inner = file_names::join(&dir, entry.file_name().as_bytes());
                self.look(&inner);
                match self.known.get(&inner).map(|known| &known.kind) {
                    Some(Kind::Directory) => dirs.push(inner),
                    _ => self.keep(files, &inner, Use::Change),
                }
                left -= 1;
                if left == 0 {
                    let reason = format!("it has more than {MOST_MOVED} files");
                    self.say(path, &reason);
                    return self.note(path, Before::Content(ContentBefore::Missing(reason)));
                }
            }
        }
    }

    fn replaces(&mut self, path: &[u8]) {
        if let Some(known) = self.known.get_mut(path) {
            known.is_replaced = true;
        }
    }

    /// Keeps the names in a directory that is about to be listed.
    fn list(&mut self, path: &[u8]) {
        let Some((path, _)) = self.resolve(path) else {
            return;
        };
        let Some(known) = self.known.get_mut(&path) else {
            return;
        };
        let is_new = known.is_replaced || !matches!(known.kind, Kind::Directory);
        if is_new || std::mem::replace(&mut known.is_listed, true) {
            return;
        }
        let Ok(listing) = fs::read_dir(self.view.place(&path)) else {
            return;
        };
        let entry = |entry: fs::DirEntry| EntryBefore {
            kind: entry.file_type().map_or(0, kind_of),
            name: entry.file_name().into_vec(),
        };
        let entries: Vec<_> = listing
            .flatten()
            .take(MOST_ENTRIES + 1)
            .map(entry)
            .collect();
        if entries.len() <= MOST_ENTRIES {
            self.note(&path, Before::Entries(entries));
        }
    }

    /// Notes the time of a change.
    fn tell_time(&mut self) {
        let time = clock_gettime(ClockId::CLOCK_REALTIME_COARSE);
        let time = time.map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
        if time != self.time {
            self.time = time;
            self.frames.push(Frame::Clock(time));
        }
    }

    fn kinds(&mut self, call: &Syscall) -> Arc<Kinds> {
        let found = self.calls.entry(call.nr).or_insert_with(|| {
            let paths = call.path_args();
            // The first one of these is the text of the link.
            let text = matches!(call.name, "symlink" | "symlinkat");
            let with_dir =
                |path: usize| (path.checked_sub(1).filter(|&dir| call.is_dir_fd(dir)), path);
            let paths = paths
                .into_iter()
                .filter(|&path| !(text && path == 0))
                .map(with_dir)
                .collect();
            Arc::new(Kinds {
                paths,
                lists: call.name.starts_with("getdents"),
                changes: world::is_changed_by(call.name),
            })
        });
        Arc::clone(found)
    }
}

impl Known {
    fn new(kind: Kind) -> Known {
        Known {
            kind,
            is_replaced: false,
            is_kept: false,
            is_listed: false,
            is_system: None,
        }
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Whether it is a file that a user does not change.
fn is_system(path: &[u8], is_root: bool) -> bool {
    let is_below = SYSTEM.iter().any(|dir| path.starts_with(dir));
    if is_below && !path.starts_with(NOT_SYSTEM) {
        return true;
    }
    let is_writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    let place = as_path(path);
    !is_root && !is_writable(place) && !place.parent().is_some_and(is_writable)
}

fn status(path: &Path, meta: &Metadata) -> Status {
    let link = match meta.is_symlink() {
        true => fs::read_link(path).unwrap_or_default(),
        false => PathBuf::new(),
    };
    Status {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        inode: (meta.dev(), meta.ino()),
        device: meta.rdev(),
        size: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        link: link.into_os_string().into_vec(),
        attributes: attributes(path),
    }
}

/// The kind of a file, as `S_IFMT` bits.
fn kind_of(kind: fs::FileType) -> u32 {
    match kind {
        kind if kind.is_file() => libc::S_IFREG,
        kind if kind.is_dir() => libc::S_IFDIR,
        kind if kind.is_symlink() => libc::S_IFLNK,
        kind if kind.is_fifo() => libc::S_IFIFO,
        kind if kind.is_socket() => libc::S_IFSOCK,
        kind if kind.is_char_device() => libc::S_IFCHR,
        kind if kind.is_block_device() => libc::S_IFBLK,
        _ => 0,
    }
}

/// The extended attributes that programs can set.
fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = MOST_ATTRIBUTES;
    for name in xattr::list(path).into_iter().flatten() {
        let bytes = name.as_bytes();
        if !bytes.starts_with(b"user.") && !bytes.starts_with(b"system.posix_acl") {
            continue;
        }
        let Ok(Some(value)) = xattr::get(path, &name) else {
            continue;
        };
        let Some(rest) = left.checked_sub(bytes.len() + value.len()) else {
            break;
        };
        left = rest;
        found.push((name.into_vec(), value));
    }
    found
}

/// The content of the file with this path, which rrapper finds at `place`.
fn content(
    files: &mut Files,
    (path, place): (&[u8], &Path),
    inode: (u64, u64),
) -> std::io::Result<ContentBefore> {
    let mut file = checked_open::regular(place, libc::O_NOFOLLOW)?;
    let meta = file.metadata()?;
    if (meta.dev(), meta.ino()) != inode {
        return Err(std::io::Error::other("another file is there"));
    }
    if meta.len() > SHORT {
        return files.keep_aside(&file, path);
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    (&mut file).take(SHORT).read_to_end(&mut bytes)?;
    Ok(ContentBefore::Bytes(bytes))
}

/// The text at an address that a call has read.
fn text(event: &CallEvent, at: u64) -> Option<Vec<u8>> {
    let mut text = vec![0; libc::PATH_MAX as usize];
    let n = ChunkMemory(&event.ins).read(at, &mut text);
    let end = text[..n].iter().position(|&byte| byte == 0)?;
    text.truncate(end);
    Some(text)
}

/// How a call uses the file that a path leads to.
fn used(event: &CallEvent) -> Use {
    let of_flags = |flags: u64| {
        let flags = flags as i32;
        if flags & (libc::O_PATH | libc::O_DIRECTORY) != 0 {
            return Use::Look;
        }
        let is_read = flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC == 0;
        if is_read { Use::Read } else { Use::Change }
    };
    match i64::from(event.nr) {
        libc::SYS_open => of_flags(event.args[1]),
        libc::SYS_openat => of_flags(event.args[2]),
        libc::SYS_openat2 => {
            let mut word = [0; 8];
            ChunkMemory(&event.ins).read(event.args[2], &mut word);
            of_flags(u64::from_le_bytes(word))
        }
        libc::SYS_creat | libc::SYS_truncate => Use::Change,
        libc::SYS_execve | libc::SYS_execveat => Use::Read,
        _ => Use::Look,
    }
}

impl Recorder {
    /// Looks at the files that the program is started with.
    pub(super) fn look_at_first(&mut self, start: &crate::recording::Start) -> Result<()> {
        self.writer.write(&Frame::User(User::current()))?;
        if self.before.kept == KeptFiles::None {
            return Ok(());
        }
        self.before.resolve(&start.cwd);
        // What the setup commands changed is nowhere else, whether the program uses it or not.
        for path in self.view.changes()? {
            if let Some((path, _)) = self.before.resolve(path.as_os_str().as_bytes()) {
                self.before.keep(self.writer.files(), &path, Use::Change);
            }
            if self.before.frames.len() >= MOST_HELD {
                self.write_files_before()?;
            }
        }
        for descriptor in &start.descriptors {
            if !descriptor.path.starts_with(b"/") {
                continue;
            }
            let Some((path, _)) = self.before.resolve(&descriptor.path) else {
                continue;
            };
            let used = match descriptor.flags & libc::O_ACCMODE {
                libc::O_RDONLY => Use::Read,
                _ => Use::Change,
            };
            self.before.keep(self.writer.files(), &path, used);
        }
        self.write_files_before()
    }

    /// Looks at the files that a call is about to use.
    pub(super) fn look_before(
        &mut self,
        current: &Task,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<()> {
        if self.before.kept == KeptFiles::None {
            return Ok(());
        }
        let kinds = self.before.kinds(call);
        if kinds.changes {
            self.before.tell_time();
        }
        if kinds.lists
            && let Some(dir) = self.family.open_file(current.tid, event.args[0] as i32)
            && dir.path.starts_with(b"/")
        {
            self.before.list(&dir.path);
        }
        let cwd = self.family.cwd(current.tid).unwrap_or_default();
        if let Some(path) = world::path_bound_by(event, cwd)
            && let Some((itself, _)) = self.before.resolve(&path)
        {
            self.before.replaces(&itself);
        }
        for &(dir, arg) in &kinds.paths {
            let Some(text) = text(event, event.args[arg]).filter(|text| !text.is_empty()) else {
                continue;
            };
            let dir = dir
                .map(|dir| event.args[dir] as i32)
                .filter(|&fd| fd != libc::AT_FDCWD);
            let from = match dir {
                _ if text.starts_with(b"/") => Some(&b"/"[..]),
                None => self.family.cwd(current.tid),
                Some(fd) => self
                    .family
                    .open_file(current.tid, fd)
                    .map(|file| &file.path[..]),
            };
            let Some(from) = from.filter(|from| from.starts_with(b"/")) else {
                continue;
            };
            let path = [from, b"/", &text].concat();
            let Some((itself, target)) = self.before.resolve(&path) else {
                continue;
            };
            let files = self.writer.files();
            let before = &mut self.before;
            before.keep(files, &target, used(event));
            match i64::from(event.nr) {
                libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => {
                    before.keep(files, &itself, Use::Change);
                    before.replaces(&itself);
                }
                // Under another name it is another file for what comes later.
                libc::SYS_link | libc::SYS_linkat => before.keep(files, &target, Use::Change),
                libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => {
                    before.moves(files, &itself);
                    before.replaces(&itself);
                }
                libc::SYS_symlink | libc::SYS_symlinkat => before.replaces(&itself),
                _ => {}
            }
        }
        self.write_files_before()
    }

    fn write_files_before(&mut self) -> Result<()> {
        for frame in std::mem::take(&mut self.before.frames) {
            self.writer.write(&frame)?;
        }
        Ok(())
    }
}
