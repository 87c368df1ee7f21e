//! What recordings hold of mapped files, once for all of them: `$XDG_DATA_HOME/rrapper/.store`.
//!
//! A kept file of a recording and what is in the store are one file with several names (hard links), so a recording is
//! whole wherever it is moved or copied to, and its removal frees what only it has. What has no other name than that in
//! the store is of no use. Where links cannot be made, as to another file system, each recording has its own.
//!
//! A name in the store says the size and a checksum of some parts, and a number for those of which these are the same.
//! It only says where to look: content is compared byte by byte, and so nothing that was changed or cut short is ever
//! taken for something else.

use super::copy::same;
use super::locations::default_directory;
use std::fs::{self, DirBuilder, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The name of the directory, which is no recording.
pub(super) const NAME: &str = ".store";

/// Contents with the same size and checksum that are told apart.
const MOST_ALIKE: u32 = 16;

/// How much of a file goes into the checksum, and in pieces of which size.
const PIECES: u64 = 32;
const PIECE: u64 = 4096;

/// The store of the user's recordings.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// None where nobody says where recordings are kept.
    dir: Option<PathBuf>,
}

impl Store {
    /// The one in the default directory for recordings, for one that is to have these files. Who keeps recordings elsewhere only
    /// has no such directory, and nothing makes it.
    pub fn of_user(files: &Path) -> Store {
        let directory = default_directory().ok();
        let directory =
            directory.filter(|directory| files.starts_with(directory) || directory.is_dir());
        Store {
            dir: directory.map(|directory| directory.join(NAME)),
        }
    }

    /// None: nothing is shared.
    pub fn none() -> Store {
        Store { dir: None }
    }

    /// The one beside the recordings in this directory.
    pub fn beside(directory: &Path) -> Store {
        Store {
            dir: Some(directory.join(NAME)),
        }
    }

    /// Gives what has the same content as this file another name. `None` where there is nothing of the kind, or it cannot
    /// have that name.
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

    /// Adds a file of a recording's, which is not changed from now on.
    ///
    /// # Errors
    /// If it cannot be linked there.
    pub fn add(&self, path: &Path) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        let file = File::open(path)?;
        let key = key(&file)?;
        // New content is rare enough to look after the old at the same time.
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

    /// Removes what no recording has, and the store itself if it is empty then. Returns how many bytes on disk that freed.
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
            // Mostly, because it is not empty.
            tracing::trace!("{} stays: {error}", dir.display());
        }
        Ok(freed)
    }

    /// All that is there.
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
            // One that is gone has been removed by another rrapper.
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
            {
                found.push((entry.path(), meta));
            }
        }
        Ok(found)
    }
}

/// Whether a file may have a name here and one in this directory.
fn reaches(dir: &Path, path: &Path) -> bool {
    let device = |dir: &Path| fs::metadata(dir).ok().map(|meta| meta.dev());
    let parent = path.parent().and_then(device);
    parent.is_some() && parent == device(dir)
}

/// Whether nobody else can change it.
fn is_trusted(file: &File) -> bool {
    const WRITABLE: u32 = 0o222;
    file.metadata().is_ok_and(|meta| {
        meta.is_file()
            && meta.uid() == nix::unistd::geteuid().as_raw()
            && meta.mode() & WRITABLE == 0
    })
}

/// Where a file's content is looked for: its size, and a checksum of pieces all over it.
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
