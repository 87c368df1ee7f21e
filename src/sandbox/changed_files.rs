//! What the processes in a sandbox have done to files.

use super::{Error, Layer, Result, Sandbox, build::upper};
use crate::syscall::FileNumbers;
use crate::tracee::xattr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A list is cut off behind so many.
const MOST: usize = 10_000;

/// Deeper directories are not looked into.
const DEEPEST: usize = 200;

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// It was there and is another now: its content, its kind, or its permissions.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Created => "created",
            ChangeKind::Changed => "changed",
            ChangeKind::Removed => "removed",
        }
    }
}

/// A file that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The file's path.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// A file, as the programs of the machine see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its numbers there.
    pub numbers: FileNumbers,
    /// Whether it is not there at all.
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
    /// What is not as it was, in the order of the paths. Directories above a changed file are not listed for it.
    ///
    /// # Errors
    /// If the changed files cannot be looked at.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let place = self.place();
        let mut changes = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let dir = place.join(upper(i));
            walk(&dir, &layer.path, 0, &mut changes)
                .map_err(|e| Error::refused("show its changed files", e))?;
        }
        changes.sort_unstable();
        Ok(changes)
    }

    /// What `st_dev` and `st_ino` of a file in a directory that may be changed are to the programs of the machine; here
    /// they are these. Nothing for files elsewhere, which have the same inside.
    ///
    /// The device number is another inside, and so are the inode numbers of directories and changed files: a program that
    /// walks a tree or keeps a file open, and knew them before, must not see that. The path has no symbolic links in it.
    pub fn outside(&self, path: &Path, here: FileNumbers) -> Option<Outside> {
        // So that a new file is not taken for another one.
        const NEW: u64 = 1 << 62;
        let holds = |(_, layer): &(usize, &Layer)| path.starts_with(&layer.path);
        let layers = self.layers.iter().enumerate().filter(holds);
        let (i, layer) = layers.max_by_key(|(_, layer)| layer.path.as_os_str().len())?;
        let device = fs::symlink_metadata(&layer.path).ok()?.dev();
        let upper = self.place().join(upper(i));
        let inner = path.strip_prefix(&layer.path).ok()?;
        let known = || {
            let meta = fs::symlink_metadata(path).ok().filter(|_| layer.filled);
            meta.map(|meta| Outside {
                numbers: numbers(&meta),
                is_new: false,
            })
        };
        let is_open = |old: &Outside| !here.is_dir && old.numbers.inode == here.inode;
        let old = match over(upper, inner) {
            Over::Nothing | Over::Itself => known(),
            // It may have lost its name, and be open.
            Over::Another => known().filter(is_open),
        };
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

    /// Whether two directories of the sandbox are on one device of the machine.
    pub fn are_near(&self, a: &impl AsRawFd, b: &impl AsRawFd) -> bool {
        let device = |dir: i32| {
            let path = fs::read_link(format!("/proc/self/fd/{dir}")).ok()?;
            let holds = |layer: &&Layer| path.starts_with(&layer.path);
            let layers = self.layers.iter().filter(holds);
            let layer = layers.max_by_key(|layer| layer.path.as_os_str().len())?;
            Some(fs::symlink_metadata(&layer.path).ok()?.dev())
        };
        let of_a = device(a.as_raw_fd());
        of_a.is_some() && of_a == device(b.as_raw_fd())
    }

    /// Where the changed files are.
    fn place(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", self.keeper_pid(), self.place).into()
    }
}

/// What lies over a file.
enum Over {
    Nothing,
    /// The same file, changed.
    Itself,
    Another,
}

fn over(mut upper: PathBuf, inner: &Path) -> Over {
    for name in inner {
        upper.push(name);
        let Ok(meta) = fs::symlink_metadata(&upper) else {
            return Over::Nothing;
        };
        // A file that was copied there to be changed says so.
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

/// Compares a directory of changed files with what it lies over.
fn walk(upper: &Path, lower: &Path, depth: usize, changes: &mut Vec<Change>) -> io::Result<()> {
    for entry in fs::read_dir(upper)? {
        if changes.len() >= MOST || depth > DEEPEST {
            return Ok(());
        }
        let entry = entry?;
        let (above, below) = (entry.path(), lower.join(entry.file_name()));
        let (now, before) = (
            fs::symlink_metadata(&above)?,
            fs::symlink_metadata(&below).ok(),
        );
        let change = |kind| Change {
            path: below.clone(),
            kind,
        };
        if now.file_type().is_char_device() && now.rdev() == 0 {
            if before.is_some() {
                changes.push(change(ChangeKind::Removed));
            }
            continue;
        }
        match &before {
            None => changes.push(change(ChangeKind::Created)),
            Some(before) if differ(before, &now) => changes.push(change(ChangeKind::Changed)),
            Some(_) => {}
        }
        if !now.is_dir() {
            continue;
        }
        if before.is_some_and(|before| before.is_dir()) && is_opaque(&above) {
            removed(&above, &below, changes);
        }
        // One may have been made unreadable.
        let _ = walk(&above, &below, depth + 1, changes);
    }
    Ok(())
}

/// A directory that was removed and made again hides what was in it.
fn is_opaque(dir: &Path) -> bool {
    let attribute = xattr::attribute(dir, "user.overlay.opaque");
    attribute.is_ok_and(|value| value.as_deref() == Some(b"y"))
}

fn removed(upper: &Path, lower: &Path, changes: &mut Vec<Change>) {
    for entry in fs::read_dir(lower).into_iter().flatten().flatten() {
        if changes.len() >= MOST {
            return;
        }
        if fs::symlink_metadata(upper.join(entry.file_name())).is_err() {
            changes.push(Change {
                path: entry.path(),
                kind: ChangeKind::Removed,
            });
        }
    }
}

/// Whether a file was changed, or only opened for it: the kernel then has copied it with its times.
fn differ(before: &Metadata, now: &Metadata) -> bool {
    if (before.mode(), before.uid(), before.gid()) != (now.mode(), now.uid(), now.gid()) {
        return true;
    }
    let time = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
    !now.is_dir() && (before.len() != now.len() || time(before) != time(now))
}
