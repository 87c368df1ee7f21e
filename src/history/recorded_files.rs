//! The files before a recording, as its recorder has seen them.

use crate::image::FileId;
use crate::recording::{Before, ContentBefore, EntryBefore, FileBefore, Status};
use crate::world::{Attributes, Base, BaseFile, Content, Kind, walk};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The files before a recording, as far as they are known.
#[derive(Debug, Default)]
pub struct RecordedFiles {
    files: BTreeMap<Vec<u8>, Option<(Status, FileContent)>>,
    /// The entries of directories that were listed.
    entries: BTreeMap<Vec<u8>, Vec<EntryBefore>>,
    /// The directories that were moved and of which not all files are known, and why.
    incomplete: BTreeMap<Vec<u8>, String>,
}

/// Where the content of a file can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a kept file, with the checksum of what is in it.
    Kept(FileId, Option<u32>),
    /// Nowhere but in the file itself, if that has not changed since.
    Itself(Arc<FileItself>),
}

/// A file that was not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileItself {
    /// Its path.
    pub path: Vec<u8>,
    /// What shows that it is still the same.
    pub status: Status,
    /// Why it was not copied; empty where there was no reason to.
    pub reason: String,
}

/// Whether it is an absolute path, without parts that lead elsewhere, and not too long for the kernel.
fn is_path(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        return false;
    };
    let mut parts = rest.split(|&byte| byte == b'/');
    let is_part = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    rest.is_empty() || path.len() < libc::PATH_MAX as usize && parts.all(is_part)
}

impl RecordedFiles {
    pub(super) fn new(entries: Vec<FileBefore>) -> RecordedFiles {
        let mut files: BTreeMap<Vec<u8>, Option<(Status, FileContent)>> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        let mut incomplete = BTreeMap::new();
        for FileBefore { path, was } in entries {
            if !is_path(&path) {
                continue;
            }
            match was {
                Before::Nothing => _ = files.entry(path).or_insert(None),
                Before::File(status) => {
                    let itself = FileItself {
                        path: path.clone(),
                        status: (*status).clone(),
                        reason: String::new(),
                    };
                    let content = FileContent::Itself(Arc::new(itself));
                    files.entry(path).or_insert(Some((*status, content)));
                }
                Before::Entries(mut entries) => {
                    let is_plain =
                        |name: &[u8]| !name.contains(&b'/') && is_path(&[b"/", name].concat());
                    entries.retain(|entry| !entry.name.is_empty() && is_plain(&entry.name));
                    listed.insert(path, entries);
                }
                Before::Content(kept) => {
                    let Some(Some((status, content))) = files.get_mut(&path) else {
                        continue;
                    };
                    if status.mode & libc::S_IFMT == libc::S_IFDIR {
                        if let ContentBefore::Missing(reason) = kept {
                            incomplete.insert(path, reason);
                        }
                        continue;
                    }
                    *content = match kept {
                        ContentBefore::Bytes(bytes) => FileContent::Bytes(bytes.into()),
                        ContentBefore::Kept(id) => FileContent::Kept(id, None),
                        ContentBefore::Checked { id, sum } => FileContent::Kept(id, Some(sum)),
                        ContentBefore::Missing(reason) => {
                            FileContent::Itself(Arc::new(FileItself {
                                path,
                                status: status.clone(),
                                reason,
                            }))
                        }
                    };
                }
            }
        }
        RecordedFiles {
            files,
            entries: listed,
            incomplete,
        }
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The directories that were moved and of which not all files are known, and why.
    pub fn incomplete(&self) -> impl Iterator<Item = (&[u8], &str)> {
        let all = self.incomplete.iter();
        all.map(|(path, reason)| (path.as_slice(), reason.as_str()))
    }

    /// All paths that are known, also those at which nothing was.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.files.keys().map(Vec::as_slice)
    }

    /// Whether it is known what was at a path.
    pub fn knows(&self, path: &[u8]) -> bool {
        self.files.contains_key(path)
    }

    /// The directories that were listed, with their entries when they were listed first. What calls have made or removed
    /// until then may be among them, or missing.
    pub fn listed(&self) -> impl Iterator<Item = (&[u8], &[EntryBefore])> {
        self.entries
            .iter()
            .map(|(dir, entries)| (&dir[..], &entries[..]))
    }

    /// The path that an absolute one is once the symbolic links before its last part are followed, as they were before the
    /// recording.
    pub fn resolve(&self, path: &[u8]) -> Vec<u8> {
        walk(path, |at, is_last| {
            let link = &self.status(at)?.link;
            (!is_last && !link.is_empty()).then(|| link.clone())
        })
    }

    /// The status of the file that was at a path.
    pub fn status(&self, path: &[u8]) -> Option<&Status> {
        self.files.get(path)?.as_ref().map(|(status, _)| status)
    }
}

impl Base for Arc<RecordedFiles> {
    type File = FileContent;

    fn knows(&self, path: &[u8]) -> bool {
        RecordedFiles::knows(self, path)
    }

    fn file(&self, path: &[u8]) -> Option<BaseFile<FileContent>> {
        let (status, content) = self.files.get(path)?.as_ref()?;
        let kind = match status.mode & libc::S_IFMT {
            libc::S_IFREG => {
                let len = match content {
                    FileContent::Bytes(bytes) => bytes.len() as u64,
                    _ => status.size,
                };
                Kind::File(Content::of_file(content.clone(), len))
            }
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Link(status.link.clone()),
            kind => Kind::Special(kind, status.device),
        };
        let (seconds, nanoseconds) = status.modified;
        Some(BaseFile {
            kind,
            attributes: Attributes {
                mode: Some(status.mode & 0o7777),
                uid: Some(status.uid),
                gid: Some(status.gid),
                modified: Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)),
                extended: status.attributes.iter().cloned().collect(),
            },
            inode: status.inode,
        })
    }
}
