//! Contents of recorded files that cannot be had any more.

use crate::history::{FileContent, FileItself, Recording};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why the content of a file cannot be had.
pub(super) enum Lost {
    /// It has changed, and was not copied because nothing was.
    Uncopied,
    /// Another reason.
    Because(String),
}

impl Lost {
    /// The reason in words.
    pub fn reason(self) -> String {
        match self {
            Lost::Uncopied => "it has changed since the recording, which has no copy of it".into(),
            Lost::Because(reason) => reason,
        }
    }
}

/// Why a content cannot be had, if so: the file that has it is `hidden`, damaged, or another one by now.
pub(super) fn lost(
    content: &FileContent,
    recording: &Recording,
    hidden: &[PathBuf],
) -> Option<Lost> {
    match content {
        FileContent::Bytes(_) => None,
        FileContent::Kept(id, sum) => {
            let error = recording.check_kept(*id, *sum).err()?;
            Some(Lost::Because(error.to_string()))
        }
        FileContent::Itself(file) => lost_itself(file, hidden),
    }
}

fn lost_itself(file: &FileItself, hidden: &[PathBuf]) -> Option<Lost> {
    let FileItself {
        path,
        status,
        reason,
    } = file;
    let path = Path::new(OsStr::from_bytes(path));
    let is_content = |meta: &Metadata| {
        status.inode == (meta.dev(), meta.ino())
            && status.size == meta.len()
            && status.modified == (meta.mtime(), meta.mtime_nsec())
    };
    let is_hidden = || {
        let real = fs::canonicalize(path);
        real.is_ok_and(|real| hidden.iter().any(|hidden| real.starts_with(hidden)))
    };
    let now = fs::symlink_metadata(path);
    if now.is_ok_and(|meta| is_content(&meta)) && !is_hidden() {
        return None;
    }
    Some(match reason.as_str() {
        "" => Lost::Uncopied,
        reason => Lost::Because(format!("the recording has no copy of it ({reason})")),
    })
}
