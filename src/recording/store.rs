//! The copies of mapped files that recordings share: `$XDG_DATA_HOME/rrapper/.store`.
//!
//! A kept file of a recording and its name in the store are hard links to one file, so a recording is whole wherever
//! it is moved or copied to, and its removal frees the files that only it has. A file with no link but that in the
//! store is unused. Where links cannot be made, as to another file system, each recording has its own copies.
//!
//! A name in the store has the size, a checksum of some parts, and a number for files of which these are the same. It
//! is a hint: content is compared byte by byte, so a changed or truncated file is never taken for another.

use super::copy::same;
use super::locations::default_directory;
use std::fs::{self, DirBuilder, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The name of the directory, which is no recording.
pub(super) const NAME: &str = ".store";

/// The most files with the same size and checksum.
const MOST_ALIKE: u32 = 16;

/// The bytes of a file in the checksum, and the size of the pieces.
const PIECES: u64 = 32;
const PIECE: u64 = 4096;

/// The store of the user's recordings.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// `None` where there is no default directory.
    dir: Option<PathBuf>,
}

impl Store {
    /// The store in the default directory, for a recording with these files. If the recording is elsewhere and the
    /// default directory does not exist, there is no store.
    pub fn of_user(files: &Path) -> Store {
        let directory = default_directory().ok();
        let directory =
            directory.filter(|directory| files.starts_with(directory) || directory.is_dir());
        Store {
            dir: directory.map(|directory| directory.join(NAME)),
        }
    }

    /// No store: no file is shared.
    pub fn none() -> Store {
        Store { dir: None }
    }

    /// The store of the recordings in this directory.
    pub fn beside(directory: &Path) -> Store {
        Store {
            dir: Some(directory.join(NAME)),
        }
    }

    /// Links a file of the store with the same content to this path. `None` where there is no such file, or it cannot
    /// be linked.
    pub fn link(&self, file: &File, path: &Path) -> Option<()> {
        let dir = self.dir.as_ref().filter(|dir| reaches(dir, path))?;
        let key = key(file).ok()?;
        for n in 0..MOST_ALIKE {
            let entry = dir.join(format!("{key}-{n}"));
            let kept = match File::open(&entry) {
                Ok(kept) => kept,
                Err(_) => return None,
            };
            if is_trusted(&kept)
                && same(file, &kept).unwrap_or(false)
                && fs::hard_link(&entry, path).is_ok()
            {
                return Some(());
            }
        }
        None
    }

    /// Adds a file of a recording, which must not change from now on.
    ///
    /// # Errors
    /// If it cannot be linked there.
    pub fn add(&self, path: &Path) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        let file = File::open(path)?;
        let key = key(&file)?;
        // New content is rare, so that unused files can be removed at the same time.
        self.collect()?;
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if !reaches(dir, path) {
            return Err(Error::from(ErrorKind::CrossesDevices));
        }
        for n in 0..MOST_ALIKE {
            match fs::hard_link(path, dir.join(format!("{key}-{n}"))) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                linked => return linked,
            }
        }
        Err(Error::from(ErrorKind::AlreadyExists))
    }

    /// Removes unused files, and the store itself if it is empty then. Returns the bytes on disk that this freed.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn collect(&self) -> Result<u64> {
        let mut freed = 0;
        for (path, meta) in self.entries()? {
            if meta.nlink() == 1 && fs::remove_file(path).is_ok() {
                freed += meta.blocks() * 512;
            }
        }
        if let Some(dir) = &self.dir
            && let Err(error) = fs::remove_dir(dir)
        {
            // Usually because the store is not empty.
            tracing::trace!("{} stays: {error}", dir.display());
        }
        Ok(freed)
    }

    /// All files of the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn entries(&self) -> Result<Vec<(PathBuf, fs::Metadata)>> {
        let Some(dir) = &self.dir else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Another rrapper may have removed it.
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
            {
                found.push((entry.path(), meta));
            }
        }
        Ok(found)
    }
}

/// Whether a file can have links in both directories.
fn reaches(dir: &Path, path: &Path) -> bool {
    let device = |dir: &Path| fs::metadata(dir).ok().map(|meta| meta.dev());
    let parent = path.parent().and_then(device);
    parent.is_some() && parent == device(dir)
}

/// Whether no other user can change the file.
fn is_trusted(file: &File) -> bool {
    const WRITABLE: u32 = 0o222;
    file.metadata().is_ok_and(|meta| {
        meta.is_file()
            && meta.uid() == nix::unistd::geteuid().as_raw()
            && meta.mode() & WRITABLE == 0
    })
}

/// The key of a file's content: its size, and a checksum of pieces all over it.
fn key(file: &File) -> Result<String> {
    let size = file.metadata()?.len();
    let mut sum = crc32fast::Hasher::new();
    let mut piece = [0; PIECE as usize];
    let stride = (size / PIECES).next_multiple_of(PIECE).max(PIECE);
    let mut at = 0;
    while at < size {
        let n = file.read_at(&mut piece, at)?;
        sum.update(&piece[..n]);
        at += stride;
    }
    Ok(format!("{size:x}-{:08x}", sum.finalize()))
}
