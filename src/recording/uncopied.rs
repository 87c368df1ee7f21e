//! Files of the machine that a recording knows without having their content: what is needed to copy them later.

use super::{Before, ContentBefore, FileBefore, Frame, KeptLimits, Status};
use crate::image::FileId;
use crate::tracee::checked_open;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why the content of a file that is not the recorded one any more cannot be had.
pub(super) const CHANGED: &str = "it has changed since the recording";

/// A regular file of which only the status is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uncopied {
    /// Its path.
    pub path: Vec<u8>,
    /// The status that it had before the recording.
    pub status: Status,
}

impl Status {
    /// Whether a file is the same and has not been changed.
    pub fn is_unchanged(&self, now: &Metadata) -> bool {
        self.inode == (now.dev(), now.ino())
            && self.size == now.len()
            && self.modified == (now.mtime(), now.mtime_nsec())
            && self.changed == (now.ctime(), now.ctime_nsec())
    }
}

/// The regular files of which nothing but the status was kept, by path. Those that could not be kept are not among them.
pub(super) fn uncopied(files: Vec<FileBefore>) -> Vec<Uncopied> {
    let mut known: BTreeMap<Vec<u8>, Option<Status>> = BTreeMap::new();
    for FileBefore { path, was } in files {
        match was {
            Before::Nothing => _ = known.entry(path).or_insert(None),
            Before::File(status) => {
                let is_regular = status.mode & libc::S_IFMT == libc::S_IFREG;
                known.entry(path).or_insert(is_regular.then_some(*status));
            }
            Before::Content(_) => _ = known.insert(path, None),
            Before::Entries(_) => {}
        }
    }
    let found = known.into_iter();
    found
        .filter_map(|(path, status)| status.map(|status| Uncopied { path, status }))
        .collect()
}

impl Uncopied {
    /// Opens the file for reading, where its bytes on disk are within the limits; returns these as well.
    ///
    /// # Errors
    /// If it cannot be opened, is not the recorded one, or is too large.
    pub fn open_within(&self, limits: KeptLimits, already: u64) -> io::Result<(File, u64)> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let file = checked_open::regular(path, libc::O_NOFOLLOW)?;
        if !self.is(&file)? {
            return Err(io::Error::other(CHANGED));
        }
        let bytes = file.metadata()?.blocks() * 512;
        match limits.refuse(bytes, already) {
            Some(reason) => Err(io::Error::other(reason)),
            None => Ok((file, bytes)),
        }
    }

    /// Whether an open file is the recorded one, unchanged.
    pub fn is(&self, file: &File) -> io::Result<bool> {
        Ok(self.status.is_unchanged(&file.metadata()?))
    }

    /// What a recording says of the file once its content is a kept file.
    pub fn kept(self, id: FileId, sum: u32) -> [Frame; 2] {
        let frame = |was| {
            let path = self.path.clone();
            Frame::Before(FileBefore { path, was })
        };
        [
            frame(Before::File(Box::new(self.status.clone()))),
            frame(Before::Content(ContentBefore::Checked { id, sum })),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_content_are_left_out() {
        let file = |mode| {
            Before::File(Box::new(Status {
                mode,
                ..Status::default()
            }))
        };
        let content = |bytes: &[u8]| Before::Content(ContentBefore::Bytes(bytes.to_vec()));
        let missing = Before::Content(ContentBefore::Missing("it is too large".into()));
        let entries = [
            ("/a", file(libc::S_IFREG)),
            ("/b", file(libc::S_IFREG)),
            ("/b", content(b"text")),
            ("/c", file(libc::S_IFDIR)),
            ("/d", Before::Nothing),
            // The first one counts: a program has made it.
            ("/d", file(libc::S_IFREG)),
            ("/e", file(libc::S_IFREG)),
            ("/e", missing),
            ("/f", file(libc::S_IFREG)),
        ];
        let entries = entries.map(|(path, was)| FileBefore {
            path: path.into(),
            was,
        });
        let found = uncopied(entries.to_vec());
        let paths: Vec<_> = found.iter().map(|file| &file.path[..]).collect();
        assert_eq!(paths, [b"/a", b"/f"]);
    }
}
