//! The directories and files that were made anew: they have no overlay, so what a use changed in them is taken back.
//!
//! A directory stays, for there are mounts in it: what was put into it is removed, and what was changed in it is made again.
//! Where its own attributes were changed, or something that cannot be made again, the enclosure is of no more use.

use super::{Enclosure, Stamp};
use crate::sandbox::changed_files::Names;
use crate::sandbox::place::{Place, ROOT, make_copy, make_special};
use crate::sandbox::renames;
use crate::sandbox::root_plan::{Entry, OWN};
use crate::syscall::FileNumbers;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use xattr::FileExt;

/// A directory or file that was made anew: the machine's, and that which is shown.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) path: PathBuf,
    /// Not of a socket or FIFO: there may be many, and they change nothing inside.
    machine: Option<Stamp>,
    shown: Option<Stamp>,
    /// Whether a change may be overlooked by the stamp.
    young: bool,
    /// The entries that were put into a directory for this use, and the directory behind that.
    put: Option<(BTreeSet<OsString>, Option<Stamp>)>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A directory with these entries, and their inode numbers.
    Directory(Names),
    /// A copy of the machine's file.
    Copy,
    /// A symbolic link to this path.
    Link(PathBuf),
    /// A socket or FIFO at which nobody is, with this kind and permissions.
    Special(u32),
    /// What cannot be made again: a mount point, for example.
    Fixed,
}

impl Copied {
    fn new(place: &Place, path: &Path, content: Content) -> Copied {
        Copied {
            path: path.to_path_buf(),
            machine: match content {
                Content::Special(_) => None,
                _ => Stamp::at(path),
            },
            shown: Stamp::at(&place.shown(path)),
            young: false,
            put: None,
            content,
        }
    }

    fn names(&self) -> Option<&Names> {
        match &self.content {
            Content::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Whether the machine's file is still as it was.
    pub(super) fn is_current(&self) -> bool {
        matches!(self.content, Content::Special(_)) || Stamp::at(&self.path) == self.machine
    }

    /// Whether it is in one of these directories, or around it.
    pub(super) fn is_near(&self, dirs: &[PathBuf]) -> bool {
        dirs.iter().any(|dir| match self.names() {
            Some(_) => dir.starts_with(&self.path),
            None => self.path.parent() == Some(dir),
        })
    }

    /// Whether what is shown is not as it was, where that may be.
    fn is_changed(&self, place: &Place) -> bool {
        self.young || Stamp::at(&place.shown(&self.path)) != self.shown
    }

    /// Whether nothing has changed in a directory since files were put into it, as far as its entries go.
    fn is_as_put(&self, place: &Place) -> bool {
        let now = || Stamp::at(&place.shown(&self.path));
        !self.young && self.put.as_ref().is_some_and(|(_, then)| *then == now())
    }

    /// Whether changes in the next moments are seen by the stamp.
    pub(super) fn note_age(&mut self, exact: bool) {
        self.young = !exact && self.shown.as_ref().is_some_and(Stamp::is_young);
    }
}

impl Enclosure {
    /// Notes what was made anew.
    pub(super) fn note_copied(&mut self, dirs: &[PathBuf], entries: &[(PathBuf, Entry)]) {
        for dir in dirs {
            let names = names(&self.place.shown(dir)).unwrap_or_default();
            let copied = Copied::new(&self.place, dir, Content::Directory(names));
            self.copied.push(copied);
        }
        let own = OWN.iter().map(Path::new).chain([Path::new("/")]);
        let layers = self.layers.iter().map(|laid| laid.layer.path.as_path());
        let made = dirs.iter().map(PathBuf::as_path);
        let known: HashSet<&Path> = own.chain(layers).chain(made).collect();
        for (path, entry) in entries {
            let content = match entry {
                Entry::Copy => Content::Copy,
                Entry::Link(to) => Content::Link(to.clone()),
                Entry::Bound => Content::Fixed,
                // Of other directories, the layers and what is mounted there are looked at.
                Entry::Dir(..) if known.contains(path.as_path()) => continue,
                Entry::Dir(..) => Content::Fixed,
                Entry::Special(mode) => Content::Special(*mode),
            };
            self.copied.push(Copied::new(&self.place, path, content));
        }
        for (at, one) in self.copied.iter().enumerate() {
            self.watch.add(at, &self.place.shown(&one.path));
        }
        self.watch.forget();
    }

    /// Those of what was made anew that are changed.
    fn changed_copied(&self) -> impl Iterator<Item = &Copied> {
        self.watch.look();
        let copied = self.copied.iter().enumerate();
        let touched = copied.filter(|(at, _)| self.watch.is_touched(*at));
        touched
            .filter(|(_, one)| one.is_changed(&self.place))
            .map(|(_, one)| one)
    }

    /// Whether it is a directory that was made anew.
    pub(in crate::sandbox) fn is_made_anew(&self, dir: &Path) -> bool {
        let mut copied = self.copied.iter();
        copied.any(|one| one.names().is_some() && one.path == dir)
    }

    /// Whether a file or directory with these numbers is the one that was made anew at this path.
    pub(in crate::sandbox) fn stands_for_machines(&self, path: &Path, here: FileNumbers) -> bool {
        let mut copied = self.copied.iter().filter(|one| one.path == path);
        copied.any(|one| {
            let is_it = |shown: &Stamp| !here.is_dir && shown.inode == here.inode;
            one.names().is_some() || one.shown.as_ref().is_some_and(is_it)
        })
    }

    /// The inode number in the sandbox of what was in a directory that was made anew.
    pub(in crate::sandbox) fn copied_inode(&self, path: &Path) -> Option<u64> {
        let dir = path.parent()?;
        let mut copied = self.copied.iter().filter(|one| one.path == dir);
        let names = copied.find_map(Copied::names)?;
        names.get(path.file_name()?).copied()
    }

    /// The directories and files that were made anew and are changed: the machine's path, that of the shown one, and the
    /// names that were in a directory.
    pub(in crate::sandbox) fn changed_copies(
        &self,
    ) -> impl Iterator<Item = (&Path, PathBuf, Option<&Names>)> {
        let changed = self.changed_copied();
        changed.map(|one| (one.path.as_path(), self.place.shown(&one.path), one.names()))
    }

    /// Notes that files were put at these paths for this use.
    pub(in crate::sandbox) fn note_put<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) {
        let mut names: BTreeMap<&Path, BTreeSet<OsString>> = BTreeMap::new();
        for path in paths {
            if let (Some(dir), Some(name)) = (path.parent(), path.file_name()) {
                names.entry(dir).or_default().insert(name.to_os_string());
            }
        }
        let exact = self.exact;
        for one in self.copied.iter_mut().filter(|one| one.names().is_some()) {
            if let Some(names) = names.remove(one.path.as_path()) {
                let stamp = Stamp::at(&self.place.shown(&one.path));
                one.young |= !exact;
                one.put = Some((names, stamp));
            }
        }
    }

    /// Makes what was made anew as it was before a use. Returns whether it is; no process is left that could change it.
    pub(super) fn take_back(&mut self) -> bool {
        let is_back = self.restore_all();
        self.watch.forget();
        is_back
    }

    fn restore_all(&mut self) -> bool {
        let mut changed: HashSet<PathBuf> =
            self.changed_copied().map(|one| one.path.clone()).collect();
        let written =
            self.copied.iter().enumerate().filter(|(at, one)| {
                matches!(one.content, Content::Copy) && self.watch.is_written(*at)
            });
        changed.extend(written.map(|(_, one)| one.path.clone()));
        if changed.is_empty() {
            return true;
        }
        let dirs: Vec<usize> = (0..self.copied.len())
            .filter(|&at| self.copied[at].names().is_some())
            .collect();
        let mut left = changed.len();
        // Outer directories come before inner ones.
        for at in dirs {
            let dir = &self.copied[at].path;
            let inner = changed.iter().filter(|path| path.parent() == Some(dir));
            let inner: HashSet<PathBuf> = inner.cloned().collect();
            let is_changed = changed.contains(dir);
            if !is_changed && inner.is_empty() {
                continue;
            }
            let is_dir = |path: &&PathBuf| self.is_made_anew(path);
            left -= usize::from(is_changed) + inner.iter().filter(|path| !is_dir(path)).count();
            if !matches!(self.restore(at, &inner), Ok(true)) {
                return false;
            }
        }
        for one in &mut self.copied {
            one.put = None;
        }
        // What is in no directory that was made anew.
        left == 0
    }

    /// Restores a directory in which these files were changed. Returns whether it could.
    fn restore(&mut self, at: usize, changed: &HashSet<PathBuf>) -> io::Result<bool> {
        let one = &self.copied[at];
        let (Some(names), Some(before)) = (one.names(), &one.shown) else {
            return Ok(false);
        };
        let dir = open_beneath(&self.place, &one.path)?;
        let now = Stamp::of(&dir.metadata()?);
        let is_it = (now.inode, now.mode, now.owner) == (before.inode, before.mode, before.owner);
        if !is_it || has_attributes(&dir)? {
            return Ok(false);
        }
        let (path, modified) = (one.path.clone(), before.modified);
        let again: BTreeMap<&OsString, usize> = (self.copied.iter().enumerate())
            .filter(|(_, file)| file.path.parent() == Some(&path))
            .filter(|(_, file)| {
                matches!(
                    file.content,
                    Content::Copy | Content::Link(_) | Content::Special(_)
                )
            })
            .filter_map(|(at, file)| Some((names.get_key_value(file.path.file_name()?)?.0, at)))
            .collect();
        let shown = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        // Of what was changed in it, if that is known.
        let some = match &one.put {
            Some((put, _)) if one.is_as_put(&self.place) => {
                let others = changed.iter().filter_map(|path| path.file_name());
                Some(
                    put.iter()
                        .cloned()
                        .chain(others.map(OsString::from))
                        .collect(),
                )
            }
            _ => None,
        };
        let listed = match &some {
            Some(some) => found(&shown, some),
            None => entries(&shown)?,
        };
        let mut there = match &some {
            Some(some) => names
                .clone()
                .into_iter()
                .filter(|(name, _)| !some.contains(name))
                .collect(),
            None => Names::new(),
        };
        for (name, inode) in listed {
            let inner = path.join(&name);
            let is_same = names.get(&name) == Some(&inode);
            let is_changed = changed.contains(&inner);
            // A directory that was made anew is restored itself.
            if is_same && (!is_changed || self.is_made_anew(&inner)) {
                there.insert(name, inode);
            } else if is_same && !again.contains_key(&name) {
                return Ok(false);
            } else {
                remove(&dir, &name)?;
            }
        }
        let mut made = Vec::new();
        for name in names.keys().filter(|name| !there.contains_key(*name)) {
            let Some(&at) = again.get(name) else {
                return Ok(false);
            };
            let to = shown.join(name);
            match &self.copied[at].content {
                Content::Link(text) => symlink(text, &to)?,
                Content::Special(mode) => make_special(&self.copied[at].path, &to, *mode)?,
                _ => make_copy(&self.copied[at].path, &to)?,
            }
            made.push(at);
        }
        for at in made {
            let copied = &mut self.copied[at];
            let shown = self.place.shown(&copied.path);
            copied.machine = Stamp::at(&copied.path);
            copied.shown = Stamp::at(&shown);
            self.watch.add(at, &shown);
            if let (Some(name), Some(stamp)) = (copied.path.file_name(), &copied.shown) {
                there.insert(name.to_os_string(), stamp.inode);
            }
        }
        let time = TimeSpec::new(modified.0, modified.1);
        futimens(&dir, &TimeSpec::UTIME_OMIT, &time)?;
        let one = &mut self.copied[at];
        one.shown = Some(Stamp::of(&dir.metadata()?));
        one.content = Content::Directory(there);
        one.put = None;
        Ok(true)
    }
}

/// Opens a directory of those that were made anew. A program may have put a link in the place of one.
fn open_beneath(place: &Place, path: &Path) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let root = File::open(place.path(ROOT))?;
    let inner = path.strip_prefix("/").unwrap_or(path);
    let inner = match inner.as_os_str().is_empty() {
        true => Path::new("."),
        false => inner,
    };
    Ok(File::from(openat2(&root, inner, how)?))
}

/// Whether a directory has extended attributes or flags (`chattr`), which one that was made anew does not have. The
/// system may label all files.
fn has_attributes(dir: &File) -> io::Result<bool> {
    let is_label = |name: &OsString| {
        let name = name.as_bytes();
        name == b"security.selinux" || name.starts_with(b"security.SMACK")
    };
    let mut names = match dir.list_xattr() {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
        names => names?,
    };
    Ok(names.any(|name| !is_label(&name)) || crate::tracee::xattr::flags(dir)? != 0)
}

fn remove(dir: &File, name: &OsString) -> nix::Result<()> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let name = name.as_c_str();
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => renames::remove_tree(dir.as_fd(), name),
        removed => removed,
    }
}

fn entries(dir: &Path) -> io::Result<Vec<(OsString, u64)>> {
    let entries = fs::read_dir(dir)?;
    entries
        .map(|entry| entry.map(|entry| (entry.file_name(), entry.ino())))
        .collect()
}

/// Those of these names that are in a directory.
fn found(dir: &Path, names: &BTreeSet<OsString>) -> Vec<(OsString, u64)> {
    let inode = |name: &OsString| Some(fs::symlink_metadata(dir.join(name)).ok()?.ino());
    let found = names
        .iter()
        .filter_map(|name| Some((name.clone(), inode(name)?)));
    found.collect()
}

fn names(dir: &Path) -> io::Result<Names> {
    Ok(entries(dir)?.into_iter().collect())
}
