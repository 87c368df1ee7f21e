//! The changes that the processes in a sandbox made to files.

use super::enclosure::Laid;
use super::placed::Shown;
use super::renamed_files::hash;
use super::{Error, Result, Sandbox};
use crate::syscall::{FileNumbers, FileStatus};
use crate::tracee::path_lookup::Root;
use crate::tracee::{checked_open, xattr};
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The limit on listed changes.
pub(super) const MOST: usize = 10_000;

/// The greatest depth of searched directories.
pub(super) const DEEPEST: usize = 200;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The file did not exist before.
    Created,
    /// The content, the kind or the permissions of an existing file changed.
    Changed,
    /// The file does not exist any more.
    Removed,
    /// The file existed before with another name, and does not have that any more.
    Renamed,
}

impl ChangeKind {
    /// The name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Created => "created",
            ChangeKind::Changed => "changed",
            ChangeKind::Removed => "removed",
            ChangeKind::Renamed => "renamed",
        }
    }
}

/// The names of a directory's entries, with their inode numbers.
pub(super) type Names = BTreeMap<OsString, u64>;

/// A changed file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The file's path.
    pub path: PathBuf,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// What the file that is there now was before, if that was at another path.
    pub from: Option<Origin>,
}

/// A file before it got another path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The path that it had.
    pub path: PathBuf,
    /// Whether it was changed, too.
    pub is_altered: bool,
}

impl Change {
    pub(super) fn new(path: PathBuf, kind: ChangeKind) -> Change {
        Change {
            path,
            kind,
            from: None,
        }
    }
}

/// Changes that are found, up to a limit.
struct Changes {
    list: Vec<Change>,
    most: usize,
}

impl Changes {
    fn push(&mut self, change: Change) {
        self.list.push(change);
    }

    fn are_all(&self) -> bool {
        self.list.len() >= self.most
    }
}

/// A file as seen outside of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The device and inode numbers there.
    pub numbers: FileNumbers,
    /// Whether the file does not exist there.
    pub is_new: bool,
}

fn numbers(meta: &Metadata) -> FileNumbers {
    FileNumbers {
        device: meta.dev(),
        inode: meta.ino(),
        is_dir: meta.is_dir(),
    }
}

impl Sandbox {
    /// The changes of each file for itself, ordered by path: one that was renamed was removed at one path and created, or
    /// changed, at another one (see [`with_renames`](super::with_renames)). A change to a file does not count as a change of its
    /// directory.
    ///
    /// # Errors
    /// If the changed files cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = self.all_changes(MOST)?;
        if let Some(enclosure) = &self.enclosure {
            self.note_renames(enclosure, &mut changes);
        }
        Ok(changes)
    }

    /// The paths of all changed files, in order, however many there are. What was in removed directories is not among them.
    ///
    /// # Errors
    /// If the changed files cannot be read.
    pub fn changed_paths(&self) -> Result<Vec<PathBuf>> {
        let changes = self.all_changes(usize::MAX)?;
        Ok(changes.into_iter().map(|change| change.path).collect())
    }

    fn all_changes(&self, most: usize) -> Result<Vec<Change>> {
        let mut changes = Changes {
            list: Vec::new(),
            most,
        };
        let Some(enclosure) = &self.enclosure else {
            return Ok(changes.list);
        };
        let refused = |e| Error::refused("show its changed files", e);
        let changed: Vec<&Laid> = enclosure.changed().collect();
        for laid in &changed {
            let (upper, path) = (enclosure.upper(laid), &laid.layer.path);
            walk((&upper, &self.inside(path)), path, 0, &mut changes).map_err(refused)?;
        }
        for (path, shown, names) in enclosure.changed_copies() {
            compare_copy(path, &shown, names, &mut changes).map_err(refused)?;
        }
        if let Some(root) = self.root().filter(|_| !enclosure.moved.is_empty()) {
            for dir in &enclosure.moved {
                created_below(&root, dir, 0, &mut changes);
            }
        }
        self.compare_placed(&changed, &mut changes);
        changes.list.sort_unstable();
        changes.list.dedup();
        Ok(changes.list)
    }

    /// Has the changes be those against the files that were put into the sandbox.
    fn compare_placed(&self, changed: &[&Laid], changes: &mut Changes) {
        changes.list.retain(|change| {
            self.placed.get(&change.path).is_none() && !self.is_below_placed(&change.path)
        });
        let changed = changed.iter().map(|laid| laid.layer.path.as_path());
        let changed: Vec<&Path> = changed.collect();
        for (path, placed) in self.placed.iter() {
            // What is kept only differs where an overlay has changed files.
            let is_untouched = !changed.iter().any(|dir| path.starts_with(dir));
            if is_untouched && self.placed.is_kept(path)
                || self.is_changed_since(path) != Some(true)
                || changes.are_all()
            {
                continue;
            }
            let kind = match (placed, self.shown(path)) {
                (None, _) => ChangeKind::Created,
                (Some(_), Some(_)) => ChangeKind::Changed,
                (Some(_), None) => ChangeKind::Removed,
            };
            changes.push(Change::new(path.to_path_buf(), kind));
            let was_directory = placed.is_some_and(|shown| shown.is_directory());
            if !was_directory && let Some(root) = self.root() {
                created_below(&root, path, 0, changes);
            }
        }
    }

    /// Whether nothing was at a path before the processes ran, because something other than a directory was put at one that it
    /// leads through.
    pub(super) fn is_below_placed(&self, path: &Path) -> bool {
        let mut dirs = path.ancestors().skip(1);
        dirs.any(|dir| match self.placed.get(dir) {
            Some(placed) => placed.is_none_or(|shown| !shown.is_directory()),
            None => false,
        })
    }

    /// The numbers (`st_dev`, `st_ino`) outside of the sandbox of a file in a changeable directory that has the numbers
    /// `here` inside. `None` for other files, whose numbers are the same inside.
    ///
    /// The device number differs inside, and so do the inode numbers of directories and changed files: a program that
    /// walks a tree or keeps a file open, and knew the numbers before, must not see that. The path has no symbolic
    /// links in it.
    pub fn outside(&self, path: &Path, here: FileNumbers) -> Option<Outside> {
        // The inode number of a new file must differ from all others.
        const NEW: u64 = 1 << 62;
        let enclosure = self.enclosure.as_ref()?;
        let Some(laid) = enclosure.layer_of(path) else {
            let placed = self.placed.get(path).flatten();
            let placed = placed.filter(|placed| !here.is_dir && placed.is(here));
            if let Some((device, inode)) = placed.and_then(|placed| placed.numbers) {
                return Some(Outside {
                    numbers: FileNumbers {
                        device,
                        inode,
                        is_dir: false,
                    },
                    is_new: false,
                });
            }
            // What was made anew stands for the machine's.
            let is_anew = path.parent().is_none() || enclosure.stands_for_machines(path, here);
            let meta = fs::symlink_metadata(path).ok().filter(|_| is_anew)?;
            return Some(Outside {
                numbers: numbers(&meta),
                is_new: false,
            });
        };
        let device = laid.layer.device;
        let upper = enclosure.upper(laid);
        let inner = path.strip_prefix(&laid.layer.path).ok()?;
        let known = || {
            let meta = fs::symlink_metadata(path).ok();
            meta.map(|meta| Outside {
                numbers: numbers(&meta),
                is_new: false,
            })
        };
        let is_open = |old: &Outside| !here.is_dir && old.numbers.inode == here.inode;
        let over = over(upper, inner);
        let is_another = matches!(over, Over::Another);
        let old = match is_another {
            false => known(),
            // The file may be open without a name.
            true => known().filter(is_open),
        };
        let placed = self.placed.get(path).flatten();
        let is_it = |placed: &Shown| placed.is(here) || here.is_dir && self.is_kept_directory(path);
        if let Some(placed) = placed.filter(is_it) {
            let (device, inode) = placed.numbers.unwrap_or((device, here.inode | NEW));
            return Some(Outside {
                numbers: FileNumbers {
                    device,
                    inode,
                    is_dir: here.is_dir,
                },
                is_new: false,
            });
        }
        let new = || Outside {
            numbers: FileNumbers {
                device,
                inode: here.inode | NEW,
                is_dir: here.is_dir,
            },
            is_new: true,
        };
        Some(old.unwrap_or_else(new))
    }

    /// Whether the directory that was kept at a path is still there: its number is the overlay's, which changes.
    fn is_kept_directory(&self, path: &Path) -> bool {
        let kept = self.placed.get(path).flatten();
        let laid = self.enclosure.as_ref().and_then(|enclosure| {
            let laid = enclosure.layer_of(path)?;
            let inner = path.strip_prefix(&laid.layer.path).ok()?;
            Some(over(enclosure.upper(laid), inner))
        });
        kept.is_some_and(|kept| kept.is_directory())
            && self.placed.is_kept(path)
            && laid.is_some_and(|over| !matches!(over, Over::Another))
    }

    /// The status of a file that has this one in the sandbox, with its owners, if they are not those that are shown. The path
    /// has no symbolic links in it.
    pub fn with_owner(&self, path: &Path, shown: FileStatus) -> Option<FileStatus> {
        // /proc/sys/kernel/overflowuid, as nearly all machines have it.
        const UNMAPPED: u32 = 65534;
        let enclosure = self.enclosure.as_ref()?;
        if let Some(placed) = self.placed.get(path) {
            let now = self.shown(path)?;
            let placed = placed?;
            let is_it = placed.is_same(&now) || now.is_directory() && self.is_kept_directory(path);
            let (uid, gid) = placed.owner_outside().filter(|_| is_it)?;
            return Some(FileStatus { uid, gid, ..shown });
        }
        let is_anew = path.parent().is_none() || enclosure.is_made_anew(path);
        let stands_for_it = is_anew
            || enclosure.has_layer_at(path)
            || enclosure.is_anothers(path, &self.inside(path));
        if !stands_for_it && shown.uid != UNMAPPED && shown.gid != UNMAPPED {
            return None;
        }
        let meta = fs::symlink_metadata(path).ok()?;
        if meta.mode() & libc::S_IFMT != shown.mode & libc::S_IFMT {
            return None;
        }
        let real = |id: u32, real: u32| match stands_for_it || id == UNMAPPED {
            true => real,
            false => id,
        };
        let (uid, gid) = enclosure.ids_inside((meta.uid(), meta.gid()));
        Some(FileStatus {
            mode: if is_anew { meta.mode() } else { shown.mode },
            uid: real(shown.uid, uid),
            gid: real(shown.gid, gid),
            ..shown
        })
    }

    /// Whether two directories of the sandbox are on one device of the machine.
    pub fn are_near(&self, a: &impl AsRawFd, b: &impl AsRawFd) -> bool {
        let device = |dir: i32| {
            let path = fs::read_link(format!("/proc/self/fd/{dir}")).ok()?;
            let enclosure = self.enclosure.as_ref()?;
            match enclosure.layer_of(&path) {
                Some(laid) => Some(laid.layer.device),
                None if enclosure.is_made_anew(&path) => {
                    Some(fs::symlink_metadata(&path).ok()?.dev())
                }
                None => None,
            }
        };
        let of_a = device(a.as_raw_fd());
        of_a.is_some() && of_a == device(b.as_raw_fd())
    }
}

/// The upper file of the overlay.
enum Over {
    Nothing,
    /// A changed copy of the same file.
    Itself,
    Another,
}

fn over(mut upper: PathBuf, inner: &Path) -> Over {
    for name in inner {
        upper.push(name);
        let Ok(meta) = fs::symlink_metadata(&upper) else {
            return Over::Nothing;
        };
        // overlayfs marks files that it copied up.
        let same = match meta.is_dir() {
            true => !is_opaque(&upper),
            false => {
                xattr::attribute(&upper, "user.overlay.origin").is_ok_and(|value| value.is_some())
            }
        };
        if !same {
            return Over::Another;
        }
    }
    Over::Itself
}

/// Compares a directory or a file that was made anew with what it was made of.
fn compare_copy(
    path: &Path,
    shown: &Path,
    names: Option<&Names>,
    changes: &mut Changes,
) -> io::Result<()> {
    let change = Change::new;
    let Some(before) = names else {
        let is_there = fs::symlink_metadata(shown).is_ok();
        if is_there {
            changes.push(change(path.to_path_buf(), ChangeKind::Changed));
        }
        return Ok(());
    };
    let mut now = BTreeSet::new();
    // A link in its place leads elsewhere.
    if fs::symlink_metadata(shown).is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(shown)? {
            now.insert(entry?.file_name());
        }
    }
    let removed = before.keys().filter(|name| !now.contains(*name));
    for name in removed.take(changes.most) {
        changes.push(change(path.join(name), ChangeKind::Removed));
    }
    let added = now.iter().filter(|name| !before.contains_key(*name));
    for name in added.take(changes.most) {
        changes.push(change(path.join(name), ChangeKind::Created));
        // A program may have made a directory unreadable.
        let seen = shown.join(name);
        let _ = walk((&seen, &seen), &path.join(name), 0, changes);
    }
    Ok(())
}

/// Compares a directory of changed files with the directory below it; `shown` is it in the sandbox.
fn walk(
    (upper, shown): (&Path, &Path),
    lower: &Path,
    depth: usize,
    changes: &mut Changes,
) -> io::Result<()> {
    for entry in fs::read_dir(upper)? {
        if changes.are_all() || depth > DEEPEST {
            return Ok(());
        }
        let entry = entry?;
        let (above, below) = (entry.path(), lower.join(entry.file_name()));
        let seen = shown.join(entry.file_name());
        let (now, before) = (
            fs::symlink_metadata(&above)?,
            fs::symlink_metadata(&below).ok(),
        );
        let change = |kind| Change::new(below.clone(), kind);
        if now.file_type().is_char_device() && now.rdev() == 0 {
            if before.is_some() {
                changes.push(change(ChangeKind::Removed));
            }
            continue;
        }
        match &before {
            None => changes.push(change(ChangeKind::Created)),
            Some(before)
                if differ(before, &now)
                    || !now.is_dir() && is_another(before, &below, &above, &seen) =>
            {
                changes.push(change(ChangeKind::Changed));
            }
            Some(_) => {}
        }
        if !now.is_dir() {
            continue;
        }
        if before.is_some_and(|before| before.is_dir()) && is_opaque(&above) {
            removed(&above, &below, changes);
        }
        // A program may have made a directory unreadable.
        let _ = walk((&above, &seen), &below, depth + 1, changes);
    }
    Ok(())
}

/// All that is in a directory of the sandbox.
fn created_below(root: &Root, dir: &Path, depth: usize, changes: &mut Changes) {
    let Some(found) = root.find(dir.as_os_str().as_bytes(), false) else {
        return;
    };
    let is_dir = fstat(&found).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFDIR);
    if !is_dir || depth > DEEPEST {
        return;
    }
    let entries = fs::read_dir(format!("/proc/self/fd/{}", found.as_raw_fd()));
    for entry in entries.into_iter().flatten().flatten() {
        if changes.are_all() {
            return;
        }
        let path = dir.join(entry.file_name());
        changes.push(Change::new(path.clone(), ChangeKind::Created));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            created_below(root, &path, depth + 1, changes);
        }
    }
}

/// Whether a directory was removed and made again, and hides its former content.
fn is_opaque(dir: &Path) -> bool {
    let attribute = xattr::attribute(dir, "user.overlay.opaque");
    attribute.is_ok_and(|value| value.as_deref() == Some(b"y"))
}

fn removed(upper: &Path, lower: &Path, changes: &mut Changes) {
    for entry in fs::read_dir(lower).into_iter().flatten().flatten() {
        if changes.are_all() {
            return;
        }
        if fs::symlink_metadata(upper.join(entry.file_name())).is_err() {
            changes.push(Change::new(entry.path(), ChangeKind::Removed));
        }
    }
}

/// Whether a file was changed rather than only opened for writing, upon which the kernel copies it with its times.
fn differ(before: &Metadata, now: &Metadata) -> bool {
    // Copies of others' files belong to a user without privileges, who cannot give files away himself.
    let is_given = (before.uid(), before.gid()) != (now.uid(), now.gid());
    if before.mode() != now.mode() || is_given && nix::unistd::geteuid().is_root() {
        return true;
    }
    let time = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
    !now.is_dir() && (before.len() != now.len() || time(before) != time(now))
}

/// Whether there is another file, of the same size and time, instead of a copy by the kernel: at `below` on the machine, `above`
/// among the changed files, and `shown` in the sandbox.
fn is_another(before: &Metadata, below: &Path, above: &Path, shown: &Path) -> bool {
    // Longer files are told by their times alone.
    const MOST_COMPARED: u64 = 1 << 20;
    // The kernel keeps the numbers of files that it copies, where it can.
    if fs::symlink_metadata(shown).is_ok_and(|now| now.ino() == before.ino()) {
        return false;
    }
    let content = |path: &Path| match before.mode() & libc::S_IFMT {
        libc::S_IFREG if before.len() <= MOST_COMPARED => {
            hash(checked_open::regular(path, libc::O_NOFOLLOW)).ok()
        }
        libc::S_IFLNK => Some(fs::read_link(path).ok()?.into_os_string().into_vec()),
        _ => None,
    };
    match (content(below), content(above)) {
        (Some(before), Some(now)) => before != now,
        _ => false,
    }
}
