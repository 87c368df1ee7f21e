//! The copies of the files that a program maps, each content once.

use super::copy::{checksum, copy, same};
use super::disk_full::DiskFull;
use super::store::Store;
use super::{ContentBefore, Error, Result, io};
use crate::image::{FileId, FileStore};
use nix::sys::statvfs::statvfs;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most copies that a file is compared with, of those of its size.
const MOST_COMPARED: usize = 16;

/// The age in seconds of a file's last change from which on its times show the next change: they are not exact.
const SETTLED: i64 = 2;

/// The identity of a file's state.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// The copy of a file's state.
struct Kept {
    id: FileId,
    /// Whether the file's size and times show whether it has changed.
    trusted: bool,
}

/// The `files` directory of a recording that is being made. The same content under two numbers is one file with two
/// names; so each number stands for one file's state, however long that becomes.
pub struct Files {
    dir: PathBuf,
    kept: HashMap<Key, Kept>,
    /// The checksums of some.
    sums: HashMap<FileId, u32>,
    /// The number of the next one.
    next: FileId,
    /// The copies of each size.
    by_size: HashMap<u64, Vec<FileId>>,
    store: Store,
    disk_full: DiskFull,
}

impl Files {
    /// Makes the directory.
    pub(super) fn create(dir: PathBuf, disk_full: DiskFull) -> Result<Files> {
        fs::create_dir(&dir).map_err(io("create", &dir))?;
        let store = Store::of_user(&dir);
        Ok(Files {
            dir,
            kept: HashMap::new(),
            sums: HashMap::new(),
            next: 0,
            by_size: HashMap::new(),
            store,
            disk_full,
        })
    }

    /// Shares no files with other recordings from now on.
    pub fn keep_alone(&mut self) {
        self.store = Store::none();
    }

    /// The path of a kept copy in a recording's directory.
    pub(super) fn path(recording: &Path, id: FileId) -> PathBuf {
        recording.join("files").join(id.to_string())
    }

    fn copy_path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Marks a file that can change without a change of its size or its times: a copy of it is only used again if the
    /// content is the same.
    pub fn distrust(&mut self, dev: u64, ino: u64) {
        for (key, kept) in &mut self.kept {
            kept.trusted &= (key.dev, key.ino) != (dev, ino);
        }
    }

    /// A copy with the same content as this file, if there is one.
    fn twin(&self, file: &File, size: u64) -> Option<FileId> {
        let last = self.by_size.get(&size)?.iter().rev().take(MOST_COMPARED);
        let found = last.into_iter().find(|&&id| {
            let copy = File::open(self.copy_path(id));
            copy.and_then(|copy| same(file, &copy)).unwrap_or(false)
        });
        found.copied()
    }
}

/// Whether the next change of a file will show in its times.
fn is_settled(meta: &fs::Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    (0..=now - SETTLED).contains(&meta.ctime().max(meta.mtime()))
}

/// Copies a file; removes an incomplete copy.
fn keep_copy(source: &File, path: &Path) -> std::io::Result<()> {
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    copy(source, &target).inspect_err(|_| {
        let removed = fs::remove_file(path);
        tracing::debug!("removed {}: {removed:?}", path.display());
    })
}

/// Adds a kept copy, which must not change from now on, to the store.
fn share(path: &Path, store: &Store) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o400))?;
    store.add(path)
}

impl Files {
    /// Why a file with this many bytes on disk is not to be copied only because a live continuation may want it, if so:
    /// such copies take at most half of the space that is left.
    pub fn refuse(&self, bytes: u64) -> Option<&'static str> {
        let room = statvfs(&self.dir).ok()?;
        let left = room.blocks_available().saturating_mul(room.fragment_size());
        (bytes > left / 2).then_some("there is too little space for the recording")
    }

    /// Keeps a file that no replay needs: where that fails, the recording goes on without it.
    ///
    /// # Errors
    /// If the file cannot be read or copied.
    pub fn keep_aside(&mut self, file: &File, name: &[u8]) -> std::io::Result<ContentBefore> {
        let kept = self.keep_with((file, name), "copy a file to", |error| match error {
            Error::Io { source, .. } => Err(source),
            other => Err(std::io::Error::other(other)),
        });
        let id = kept?;
        let sum = match self.sums.get(&id) {
            Some(sum) => *sum,
            None => checksum(&File::open(self.copy_path(id))?)?,
        };
        self.sums.insert(id, sum);
        Ok(ContentBefore::Checked { id, sum })
    }

    /// Keeps a file; `failed` takes the error of a copy that could not be made, and may bear it. `what` is attempted then.
    fn keep_with(
        &mut self,
        (file, name): (&File, &[u8]),
        what: &'static str,
        failed: impl FnOnce(Error) -> std::io::Result<()>,
    ) -> std::io::Result<FileId> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::other("only regular files can be kept"));
        }
        let key = Key {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        };
        // Comparing a file that is mostly holes takes long and saves no disk.
        let sparse = meta.blocks() * 512 < meta.size();
        if let Some(kept) = self.kept.get_mut(&key) {
            let path = self.dir.join(kept.id.to_string());
            let is_same = || File::open(path).and_then(|copy| same(file, &copy));
            if kept.trusted
                || self.disk_full.lost().is_some()
                || !sparse && is_same().unwrap_or(false)
            {
                kept.trusted |= is_settled(&meta);
                return Ok(kept.id);
            }
        }
        let id = self.next;
        if self.disk_full.lost().is_some() {
            return Ok(id);
        }
        let path = self.copy_path(id);
        let twin = (!sparse).then(|| self.twin(file, meta.size())).flatten();
        let linked = twin.is_some_and(|twin| fs::hard_link(self.copy_path(twin), &path).is_ok());
        let linked = linked || !sparse && self.store.link(file, &path).is_some();
        if twin.is_none() && linked {
            self.by_size.entry(meta.size()).or_default().push(id);
        }
        if !linked {
            if let Err(error) = keep_copy(file, &path) {
                failed(io(what, &path)(error))?;
                return Ok(id);
            }
            self.by_size.entry(meta.size()).or_default().push(id);
            if !sparse && let Err(error) = share(&path, &self.store) {
                tracing::debug!("{} is this recording's alone: {error}", path.display());
            }
        }
        tracing::debug!(id, linked, name = %String::from_utf8_lossy(name), "kept a file");
        self.next += 1;
        let trusted = is_settled(&meta);
        self.kept.insert(key, Kept { id, trusted });
        Ok(id)
    }
}

impl FileStore for Files {
    fn keep(&mut self, file: &File, name: &[u8]) -> std::io::Result<FileId> {
        let disk_full = self.disk_full.clone();
        let what = "copy a mapped file to";
        self.keep_with((file, name), what, |error| {
            match disk_full.tolerate(error) {
                Ok(()) => Ok(()),
                Err(Error::Io { source, .. }) => Err(source),
                Err(other) => Err(std::io::Error::other(other)),
            }
        })
    }
}
