//! What the processes in a sandbox have done to files.

use super::{Error, Result, Sandbox, build::upper};
use crate::tracee::file;
use std::fs::{self, Metadata};
use std::io;
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

/// A directory whose files have another device number inside than outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// `st_dev` of all files in it, inside.
    pub device: u64,
    /// `st_ino` of the directory itself, inside.
    pub root: u64,
    /// Both, outside.
    pub outside: (u64, u64),
}

impl Original {
    /// Set in the inode number of a file that was there before (overlayfs's `xino`).
    const BEFORE: u64 = 1 << 63;

    /// Set in those of new files, so that they are not taken for others.
    const NEW: u64 = 1 << 62;

    /// What `st_dev` and `st_ino` of a file inside would be outside.
    pub fn outside(&self, device: u64, inode: u64) -> Option<(u64, u64)> {
        if device != self.device {
            return None;
        }
        let inode = match inode {
            inode if inode == self.root => self.outside.1,
            inode if inode & Original::BEFORE != 0 => inode & !Original::BEFORE,
            inode => inode | Original::NEW,
        };
        Some((self.outside.0, inode))
    }
}

impl Sandbox {
    /// What is not as it was, in the order of the paths. Directories above a changed file are not listed for it.
    ///
    /// # Errors
    /// If the changed files cannot be looked at.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let place = format!("/proc/{}/fd/{}", self.keeper_pid(), self.place);
        let mut changes = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let dir = Path::new(&place).join(upper(i));
            walk(&dir, &layer.path, 0, &mut changes)
                .map_err(|e| Error::refused("show its changed files", e))?;
        }
        changes.sort_unstable();
        Ok(changes)
    }

    /// What `st_dev` and `st_ino` of a file inside would be outside: those of files in directories that may be changed
    /// differ. Programs that remember them from before must not see that.
    pub fn outside(&self, device: u64, inode: u64) -> Option<(u64, u64)> {
        self.originals
            .iter()
            .find_map(|original| original.outside(device, inode))
    }

    /// Takes down what the device numbers are.
    pub(super) fn look_up_originals(&mut self) {
        let original = |path: &Path| {
            let inside = fs::metadata(self.inside(path)).ok()?;
            let outside = fs::metadata(path).ok()?;
            Some(Original {
                device: inside.dev(),
                root: inside.ino(),
                outside: (outside.dev(), outside.ino()),
            })
        };
        let layers = self.layers.iter().filter(|layer| layer.filled);
        self.originals = layers.filter_map(|layer| original(&layer.path)).collect();
    }
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
    let attribute = file::attribute(dir, "user.overlay.opaque");
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
