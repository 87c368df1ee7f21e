//! Copies of the files that a program maps.

use super::{Result, io};
use crate::image::{FileId, FileStore};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What tells one state of a file from another.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// The `files` directory of a recording that is being made.
pub struct Files {
    dir: PathBuf,
    kept: HashMap<Key, FileId>,
}

impl Files {
    /// Makes the directory.
    pub(super) fn create(dir: PathBuf) -> Result<Files> {
        fs::create_dir(&dir).map_err(io("create", &dir))?;
        Ok(Files {
            dir,
            kept: HashMap::new(),
        })
    }

    /// The place of a kept copy in a recording's directory.
    pub(super) fn path(recording: &Path, id: FileId) -> PathBuf {
        recording.join("files").join(id.to_string())
    }

    /// Has a kept copy reach at least this far.
    ///
    /// # Errors
    /// If it cannot be changed.
    pub fn extend(&self, id: FileId, len: u64) -> Result<()> {
        let path = self.dir.join(id.to_string());
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        let now = file.metadata().map_err(io("look at", &path))?.len();
        if now < len {
            file.set_len(len).map_err(io("extend", &path))?;
        }
        Ok(())
    }

    fn copy(&self, source: &File, id: FileId) -> std::io::Result<()> {
        const CHUNK: usize = 1 << 20;
        let target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.dir.join(id.to_string()))?;
        // By explicit offsets, since the program shares the source's own.
        let mut buf = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let n = source.read_at(&mut buf, at)?;
            if n == 0 {
                return Ok(());
            }
            target.write_all_at(&buf[..n], at)?;
            at += n as u64;
        }
    }
}

impl FileStore for Files {
    fn keep(&mut self, file: &File, name: &[u8]) -> std::io::Result<FileId> {
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
        if let Some(&id) = self.kept.get(&key) {
            return Ok(id);
        }
        let id = self.kept.len() as FileId;
        self.copy(file, id)?;
        tracing::debug!(id, name = %String::from_utf8_lossy(name), "kept a mapped file");
        self.kept.insert(key, id);
        Ok(id)
    }
}
