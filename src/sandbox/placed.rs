//! Files that are put into a sandbox before its process runs: that process finds them as if they had always been there.

use super::{Error, Result, Sandbox, renames};
use crate::syscall::FileNumbers;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use xattr::FileExt;

/// What is to be at a path.
pub enum Content<'a> {
    /// Nothing.
    Nothing,
    /// A directory; its entries stay.
    Directory,
    /// A symbolic link with this text.
    Link(&'a [u8]),
    /// A FIFO.
    Fifo,
    /// A socket at which nobody listens.
    Socket,
    /// A regular file, whose content this writes.
    File(&'a dyn Fn(&mut File) -> io::Result<()>),
    /// Another name of the file at this path.
    Name(&'a Path),
}

/// The attributes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The permissions (`07777`), if they are known.
    pub mode: Option<u32>,
    /// The owner and the group. A file of an owner that does not exist in the sandbox becomes the caller's.
    pub owner: (Option<u32>, Option<u32>),
    /// The time of the last change, in seconds and nanoseconds since 1970.
    pub modified: Option<(i64, i64)>,
    /// The extended attributes.
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The numbers (`st_dev`, `st_ino`) that it has outside of the sandbox, for the process.
    pub numbers: Option<(u64, u64)>,
}

/// A file as it was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    len: i64,
    modified: (i64, i64),
    inode: u64,
    /// The numbers outside.
    pub(super) numbers: Option<(u64, u64)>,
    /// The owners that it is to have, if they are known.
    outside: Option<(u32, u32)>,
}

impl Shown {
    fn of(status: &FileStat, attributes: &Attributes) -> Shown {
        let outside = match attributes.owner {
            (Some(uid), Some(gid)) => Some((uid, gid)),
            _ => None,
        };
        Shown {
            outside,
            kind: status.st_mode & libc::S_IFMT,
            mode: status.st_mode & 0o7777,
            owner: (status.st_uid, status.st_gid),
            len: status.st_size,
            modified: (status.st_mtime, status.st_mtime_nsec),
            inode: status.st_ino,
            numbers: attributes.numbers,
        }
    }

    /// The owners that it is to have, if they are known.
    pub(super) fn owner_outside(&self) -> Option<(u32, u32)> {
        self.outside
    }

    /// The kind, the size, and the time of the last change; and the permissions.
    pub(super) fn look(&self) -> ((u32, u64, (i64, i64)), u32) {
        ((self.kind, self.len as u64, self.modified), self.mode)
    }

    /// The inode number in the sandbox.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether it has not been replaced since.
    pub(super) fn is_same(&self, now: &Shown) -> bool {
        self.inode == now.inode
    }

    /// Whether a file is still the same one.
    pub(super) fn is(&self, here: FileNumbers) -> bool {
        self.inode == here.inode
    }

    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    /// Whether a file was changed; entries do not count as a change of their directory.
    fn differs(&self, now: &Shown) -> bool {
        let is_dir = self.is_directory();
        (self.kind, self.mode, self.owner) != (now.kind, now.mode, now.owner)
            || !is_dir
                && (self.len, self.modified, self.inode) != (now.len, now.modified, now.inode)
    }
}

/// The files that were put into a sandbox; `None` where something was taken away.
pub(super) type AllPlaced = BTreeMap<PathBuf, Option<Shown>>;

/// What a sandbox shows that was put there.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// For this use.
    own: AllPlaced,
    /// What is kept for all uses, if this one shows it.
    kept: Option<Rc<AllPlaced>>,
    /// The directories that were given a time of the last change, and that.
    times: BTreeMap<PathBuf, (i64, i64)>,
}

impl Placed {
    /// Notes what is at a path, as if it had always been there.
    pub(super) fn put(&mut self, path: PathBuf, shown: Option<Shown>) {
        self.own.insert(path, shown);
    }

    /// What was put at a path, if something was; the inner `None` where something was taken away.
    pub(super) fn get(&self, path: &Path) -> Option<Option<Shown>> {
        let kept = || self.kept.as_ref()?.get(path);
        self.own.get(path).or_else(kept).copied()
    }

    /// The time of the last change that a directory was given, in seconds and nanoseconds since 1970.
    pub(super) fn time(&self, dir: &Path) -> Option<(i64, i64)> {
        self.times.get(dir).copied()
    }

    /// All of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, Option<Shown>)> {
        let kept = self.kept.iter().flat_map(|kept| kept.iter());
        let kept = kept.filter(|(path, _)| !self.own.contains_key(*path));
        let all = self.own.iter().chain(kept);
        all.map(|(path, shown)| (path.as_path(), *shown))
    }

    /// Whether what is at a path is kept, below the changes of this use.
    pub(super) fn is_kept(&self, path: &Path) -> bool {
        !self.own.contains_key(path) && self.get(path).is_some()
    }
}

/// Puts files into a sandbox.
pub struct Placer<'s> {
    sandbox: &'s mut Sandbox,
    root: OwnedFd,
    /// The directory of the last one.
    parent: Option<Parent>,
}

/// A directory in which files are put.
struct Parent {
    path: PathBuf,
    dir: OwnedFd,
    /// The permissions that it gets back: a user may have had none to change it.
    closed: Option<Mode>,
}

impl Parent {
    /// Has files in the directory be changed by its owner.
    fn open(path: &Path, dir: OwnedFd) -> io::Result<Parent> {
        let status = fstat(&dir)?;
        let euid = nix::unistd::geteuid();
        let rights = (libc::S_IWUSR | libc::S_IXUSR) & !status.st_mode;
        let is_closed = rights != 0 && status.st_uid == euid.as_raw() && !euid.is_root();
        let parent = Parent {
            path: path.to_path_buf(),
            dir,
            closed: is_closed.then(|| Mode::from_bits_truncate(status.st_mode)),
        };
        if is_closed {
            parent.set_mode(Mode::from_bits_truncate(status.st_mode | libc::S_IRWXU))?;
        }
        Ok(parent)
    }

    fn set_mode(&self, mode: Mode) -> nix::Result<()> {
        let link = format!("/proc/self/fd/{}", self.dir.as_raw_fd());
        fchmodat(AT_FDCWD, link.as_str(), mode, FchmodatFlags::FollowSymlink)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        if let Some(mode) = self.closed
            && let Err(error) = self.set_mode(mode)
        {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Sandbox {
    /// Files can be put into the sandbox by this.
    ///
    /// # Errors
    /// If its processes are gone.
    pub fn placer(&mut self) -> Result<Placer<'_>> {
        let path = self.inside(Path::new("/"));
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(&path, how, Mode::empty());
        let root = root.map_err(|e| Error::refused("find its files", io::Error::from(e)))?;
        Ok(Placer {
            sandbox: self,
            root,
            parent: None,
        })
    }

    /// Has the sandbox show the files that an earlier use has kept, if `is_right` says so of the note about them, and returns
    /// that; and the machine's files else. Nothing has been put there.
    pub(super) fn show_kept(
        &mut self,
        is_right: impl FnOnce(&dyn Any) -> bool,
    ) -> Result<Option<Rc<dyn Any>>> {
        let Some(enclosure) = &mut self.enclosure else {
            return Ok(None);
        };
        let Some((what, placed)) = enclosure.kept() else {
            return Ok(None);
        };
        if !is_right(&*what) {
            enclosure.forget_kept()?;
            return Ok(None);
        }
        self.placed.kept = Some(placed);
        Ok(Some(what))
    }

    /// Whether a file that is put at this path can be kept.
    pub fn can_keep(&self, path: &Path) -> bool {
        self.enclosure
            .as_ref()
            .is_some_and(|enclosure| enclosure.can_keep(path))
    }

    /// Keeps all that was put there until now for the next uses, which can have it shown: to all of them, it is as it was put.
    /// `what` is the note about it. No process is in the sandbox yet.
    ///
    /// # Errors
    /// If the kernel refuses. The sandbox is of no use then.
    pub fn keep(&mut self, what: Rc<dyn Any>) -> Result<()> {
        let Some(enclosure) = &mut self.enclosure else {
            return Ok(());
        };
        let new = std::mem::take(&mut self.placed.own);
        let mut all = self.placed.kept.take().map_or_else(AllPlaced::new, |kept| {
            Rc::try_unwrap(kept).unwrap_or_else(|kept| (*kept).clone())
        });
        all.extend(new.iter().map(|(path, shown)| (path.clone(), *shown)));
        let all = Rc::new(all);
        self.placed.kept = Some(Rc::clone(&all));
        enclosure.keep(what, all, &new)
    }

    /// Notes what was put there for this use alone.
    pub(super) fn note_put(&mut self) {
        if let Some(enclosure) = &mut self.enclosure {
            enclosure.note_put(self.placed.own.keys().map(PathBuf::as_path));
        }
    }

    /// What is at a path in the sandbox now.
    pub(super) fn shown(&self, path: &Path) -> Option<Shown> {
        let status = nix::sys::stat::lstat(&self.inside(path)).ok()?;
        Some(Shown::of(&status, &Attributes::default()))
    }

    /// Whether a file that was put there was read, or is not as it was put there.
    pub fn is_read(&self, path: &Path) -> bool {
        let status = nix::sys::stat::lstat(&self.inside(path));
        let accessed = |status: FileStat| (status.st_atime, status.st_atime_nsec);
        let placed = self.placed.get(path).flatten();
        // It was put there with the time of its last change.
        placed.is_some_and(|placed| status.is_ok_and(|now| accessed(now) != placed.modified))
            || self.is_changed_since(path) == Some(true)
    }

    /// Whether a file is not as it was put there; `None` where nothing was put.
    pub(super) fn is_changed_since(&self, path: &Path) -> Option<bool> {
        let placed = self.placed.get(path)?;
        Some(match (&placed, self.shown(path)) {
            (None, None) => false,
            (Some(then), Some(now)) => then.differs(&now),
            _ => true,
        })
    }
}

impl Placer<'_> {
    /// Puts something at an absolute path without symbolic links, in the place of what is there. The directory that it is
    /// in must be there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put(
        &mut self,
        path: &Path,
        what: &Content<'_>,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let name = CString::new(name.as_bytes())?;
        self.enter(path.parent().ok_or(Errno::EINVAL)?)?;
        let Some(Parent { dir: parent, .. }) = &self.parent else {
            return Err(Errno::ENOENT.into());
        };
        let name = name.as_c_str();
        let status = || fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let mut is_there = false;
        if let Ok(status) = status() {
            match (status.st_mode & libc::S_IFMT, what) {
                (libc::S_IFDIR, Content::Directory) => is_there = true,
                (libc::S_IFDIR, _) => renames::remove_tree(parent.as_fd(), name)?,
                _ => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
            }
        }
        match what {
            Content::Nothing => {
                self.sandbox.placed.own.insert(path.to_path_buf(), None);
                return Ok(());
            }
            Content::Directory if is_there => {}
            Content::Directory => mkdirat(parent, name, Mode::S_IRWXU)?,
            Content::Link(text) => symlinkat(std::ffi::OsStr::from_bytes(text), parent, name)?,
            Content::Fifo | Content::Socket => {
                let kind = match what {
                    Content::Socket => SFlag::S_IFSOCK,
                    _ => SFlag::S_IFIFO,
                };
                mknodat(parent, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, 0)?;
            }
            Content::File(fill) => {
                let how = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let file = openat(parent, name, how, Mode::S_IRUSR | Mode::S_IWUSR)?;
                let mut file = File::from(file);
                // A part of it would be taken for the whole.
                fill(&mut file).inspect_err(|_| {
                    let gone = unlinkat(parent, name, UnlinkatFlags::NoRemoveDir);
                    tracing::debug!("{}: {gone:?}", path.display());
                })?;
                for (name, value) in &attributes.extended {
                    let set = file.set_xattr(std::ffi::OsStr::from_bytes(name), value);
                    tracing::trace!("{}: {set:?}", path.display());
                }
            }
            Content::Name(other) => {
                let other = beneath(other);
                linkat(&self.root, other, parent, name, LinkatFlags::empty())?;
            }
        }
        let now = status()?;
        if !matches!(what, Content::Name(_)) {
            let (uid, gid) = attributes.owner;
            let uid = uid.filter(|&uid| uid != now.st_uid).map(Uid::from_raw);
            let gid = gid.filter(|&gid| gid != now.st_gid).map(Gid::from_raw);
            if uid.is_some() || gid.is_some() {
                // Only root may give files away, and not to all owners.
                _ = fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
            }
            let is_link = matches!(what, Content::Link(_));
            if let Some(mode) = attributes
                .mode
                .filter(|&mode| !is_link && mode != now.st_mode & 0o7777)
            {
                let mode = Mode::from_bits_truncate(mode);
                fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)?;
            }
            if let Some((seconds, nanoseconds)) = attributes.modified {
                let time = TimeSpec::new(seconds, nanoseconds);
                utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
            }
        }
        let shown = Shown::of(&status()?, attributes);
        let own = &mut self.sandbox.placed.own;
        own.insert(path.to_path_buf(), Some(shown));
        Ok(())
    }

    /// Whether a directory has an overlay of its own, or was made anew: it is changed for all that is in it.
    pub fn is_outermost(&self, dir: &Path) -> bool {
        let enclosure = self.sandbox.enclosure.as_ref();
        enclosure
            .is_some_and(|enclosure| enclosure.has_layer_at(dir) || enclosure.is_made_anew(dir))
    }

    /// Sets the time of the last change of a directory, in seconds and nanoseconds since 1970, after all was put into it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_time(&mut self, dir: &Path, (seconds, nanoseconds): (i64, i64)) -> io::Result<()> {
        let name = dir.file_name().ok_or(Errno::EINVAL)?;
        let name = CString::new(name.as_bytes())?;
        self.enter(dir.parent().ok_or(Errno::EINVAL)?)?;
        let Some(Parent { dir: parent, .. }) = &self.parent else {
            return Err(Errno::ENOENT.into());
        };
        let status = fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        if (status.st_mtime, status.st_mtime_nsec) != (seconds, nanoseconds) {
            let time = TimeSpec::new(seconds, nanoseconds);
            let how = UtimensatFlags::NoFollowSymlink;
            utimensat(parent, name.as_c_str(), &time, &time, how)?;
        }
        let placed = &mut self.sandbox.placed;
        placed
            .times
            .insert(dir.to_path_buf(), (seconds, nanoseconds));
        if let Some(Some(shown)) = placed.own.get_mut(dir) {
            shown.modified = (seconds, nanoseconds);
        }
        Ok(())
    }

    /// Finds the directory in which something is to be put.
    fn enter(&mut self, dir: &Path) -> io::Result<()> {
        if self.parent.as_ref().is_some_and(|known| known.path == dir) {
            return Ok(());
        }
        self.parent = None;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let found = openat2(&self.root, beneath(dir), how)?;
        self.parent = Some(Parent::open(dir, found)?);
        Ok(())
    }
}

/// A path as seen from the root directory.
fn beneath(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}
