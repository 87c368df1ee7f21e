//! Removing old recordings, and files of the store that no recording uses.

use super::collection::{self, Listed};
use super::store::Store;
use super::{Result, io};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The choice of recordings to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Recordings that are older than this.
    Older(Duration),
    /// All but so many of the newest.
    Keep(usize),
    /// No recordings: only unused files of the store.
    Nothing,
}

/// The result of removing recordings.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The names of recordings, oldest first.
    pub removed: Vec<OsString>,
    /// The recordings that could not be removed, and the reasons.
    pub failed: Vec<(OsString, super::Error)>,
    /// The bytes on disk that were freed.
    pub freed: u64,
}

/// Removes recordings in a directory, and unused files from the store in it; other directories, and recordings that are
/// being made, stay. With `dry`, nothing is removed, and the result is that of removing.
///
/// # Errors
/// If the directory or the store cannot be read. Recordings that cannot be removed are in the result.
pub fn prune(directory: &Path, which: Prune, dry: bool) -> Result<Pruned> {
    let mut done = Pruned::default();
    let store = Store::beside(directory);
    let mut disk = Disk::default();
    for listed in chosen(directory, which)? {
        let path = directory.join(&listed.name);
        let files = collection::regular_files(&path);
        let removed = match dry {
            true => Ok(()),
            false => collection::remove_alone(&path),
        };
        match removed {
            Ok(()) => {
                disk.lose(&files);
                done.removed.push(listed.name);
            }
            Err(error) => done.failed.push((listed.name, error)),
        }
    }
    let look = |error| io("look into", directory.join(super::store::NAME))(error);
    if dry {
        let left = store.entries().map_err(look)?;
        done.freed = disk.freed(&left.into_iter().map(|(_, meta)| meta).collect::<Vec<_>>());
    } else {
        done.freed = disk.freed(&[]) + store.collect().map_err(look)?;
    }
    Ok(done)
}

/// The recordings that are to be removed.
fn chosen(directory: &Path, which: Prune) -> Result<Vec<Listed>> {
    if which == Prune::Nothing || !directory.exists() {
        return Ok(Vec::new());
    }
    let mut all = collection::list(directory)?;
    let growing = |listed: &Listed| listed.content.as_ref().is_ok_and(|content| content.growing);
    all.sort_by_key(|listed| begun(directory, listed));
    Ok(match which {
        Prune::Older(age) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs();
            let is_old = |listed: &Listed| begun(directory, listed) + age.as_secs() <= now;
            all.retain(|listed| is_old(listed) && !growing(listed));
            all
        }
        Prune::Keep(count) => {
            all.truncate(all.len().saturating_sub(count));
            all.retain(|listed| !growing(listed));
            all
        }
        Prune::Nothing => Vec::new(),
    })
}

/// The time when a recording was begun, in seconds since 1970: from its start, or else from its directory.
fn begun(directory: &Path, listed: &Listed) -> u64 {
    match &listed.content {
        Ok(content) => content.time,
        Err(_) => fs::metadata(directory.join(&listed.name))
            .map_or(0, |meta| u64::try_from(meta.mtime()).unwrap_or(0)),
    }
}

/// Files that lose links.
#[derive(Default)]
struct Disk {
    /// By device and inode: the links of a file, how many of those are removed, its bytes on disk.
    files: HashMap<(u64, u64), (u64, u64, u64)>,
}

impl Disk {
    fn lose(&mut self, files: &[fs::Metadata]) {
        for meta in files {
            let known = self.files.entry((meta.dev(), meta.ino()));
            let file = known.or_insert((meta.nlink(), 0, meta.blocks() * 512));
            file.1 += 1;
        }
    }

    /// The bytes of the files without links left, or with only the one in the store.
    fn freed(mut self, store: &[fs::Metadata]) -> u64 {
        self.lose(store);
        let gone = self.files.values().filter(|(names, lost, _)| lost >= names);
        gone.map(|(.., bytes)| bytes).sum()
    }
}
