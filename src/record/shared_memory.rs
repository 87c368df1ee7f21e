//! Memory that several mappings share: files mapped shared and writable, shared anonymous memory, System V segments.
//! Each such object has a number, and its content is kept as it was at its first mapping.

use super::mapped_files::{FileKey, MappedFile};
use super::task::Task;
use super::{Error, Recorder, Result};
use crate::image::{FileId, FileStore};
use crate::recording::{CallEvent, Effect, Frame, Piece, Shows};
use crate::tracee::{Stopped, proc, spawn};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// The identity of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKey {
    /// A file.
    File(FileKey),
    /// A System V segment.
    Segment(i32),
}

/// A shared object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    id: u32,
    size: u64,
    inode: u64,
}

impl Object {
    /// The number of the object.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Recorder {
    /// The effect of an mmap.
    pub(super) fn mapped(&mut self, current: &Task, event: &CallEvent) -> Result<Effect> {
        let [_, len, _, flags, fd, _] = event.args;
        let kind = flags as i32 & libc::MAP_TYPE;
        let shared = kind == libc::MAP_SHARED || kind == libc::MAP_SHARED_VALIDATE;
        let fd = fd as i32;
        let anonymous = flags as i32 & libc::MAP_ANONYMOUS != 0;
        let path = match anonymous {
            true => Vec::new(),
            false => proc::fd_path(current.tid, fd).unwrap_or_default(),
        };
        if anonymous || path == b"/dev/zero" {
            return Ok(match shared {
                true => Effect::Share {
                    object: self.new_object(),
                    file: None,
                    size: len,
                },
                false => Effect::None,
            });
        }
        let file = self.file_of(current, fd)?;
        let meta = file
            .metadata()
            .map_err(|e| crate::tracee::Error::os("look at a file that it maps", current.tid, e))?;
        let (key, size) = (FileKey::of(&meta), meta.len());
        if self.objects.contains_key(&ObjectKey::File(key)) {
            // The content may have changed through other mappings.
            self.writer.files().distrust(meta.dev(), meta.ino());
        }
        self.note_mapped(key, &path, size);
        if shared {
            // The count includes the new mapping.
            if let Some(object) = self.objects.get(&ObjectKey::File(key)).copied()
                && self.count_shown(current, object.inode)? > 1
            {
                return Ok(Effect::Share {
                    object: object.id,
                    file: None,
                    size: size.max(object.size),
                });
            }
            if can_write(current.tid, fd) {
                return self.share_file(current, event, &file, key);
            }
            self.objects.remove(&ObjectKey::File(key));
            self.note_mapped(key, &path, size).read_only = true;
        }
        Ok(Effect::Map(self.keep(&file, &path)?))
    }

    fn file_of(&self, current: &Task, fd: i32) -> Result<File> {
        match File::open(format!("/proc/{}/fd/{fd}", current.tid)) {
            Ok(file) => Ok(file),
            Err(_) => Ok(spawn::borrow_fd(current.pid, fd)?),
        }
    }

    pub(super) fn keep(&mut self, file: &File, path: &[u8]) -> Result<FileId> {
        let event = self.writer.events() + 1;
        self.writer
            .files()
            .keep(file, path)
            .map_err(|source| Error::Keep {
                path: String::from_utf8_lossy(path).into_owned(),
                event,
                source,
            })
    }

    /// Makes a file a shared object, since a task that may write to it has mapped it.
    fn share_file(
        &mut self,
        current: &Task,
        event: &CallEvent,
        file: &File,
        key: FileKey,
    ) -> Result<Effect> {
        let Some(MappedFile {
            name,
            size,
            read_only,
            ..
        }) = self.mapped.get(&key).cloned()
        else {
            return Ok(Effect::None);
        };
        let kept = self.keep(file, &name)?;
        let id = self.new_object();
        let inode = key.ino();
        let object = Object { id, size, inode };
        self.objects.insert(ObjectKey::File(key), object);
        if read_only {
            let frames = self.join_readers(current, event, key, id)?;
            self.aside.extend(frames);
        }
        Ok(Effect::Share {
            object: id,
            file: Some(kept),
            size,
        })
    }

    /// Adds read-only mappings of a file to its object, since they show future writes.
    fn join_readers(
        &mut self,
        current: &Task,
        event: &CallEvent,
        key: FileKey,
        object: u32,
    ) -> Result<Vec<Frame>> {
        let new = event.ret.unwrap_or(0) as u64;
        let mut frames = Vec::new();
        for tid in self
            .one_of_each_other_space(current)
            .into_iter()
            .chain([current.tid])
        {
            let maps = self.maps_of_file(tid, key)?.into_iter();
            let readers = maps.filter(|map| map.shared && !(tid == current.tid && map.holds(new)));
            let pieces: Vec<Piece> = readers
                .map(|map| Piece {
                    start: map.start,
                    len: map.end - map.start,
                    prot: map.prot,
                    shows: Shows::Object {
                        object,
                        offset: map.offset,
                    },
                })
                .collect();
            if !pieces.is_empty() {
                frames.push(Frame::Remap { tid, pieces });
            }
        }
        if let Some(file) = self.mapped.get_mut(&key) {
            file.read_only = false;
        }
        Ok(frames)
    }

    /// The effect of a shmat.
    pub(super) fn attached(
        &mut self,
        current: &Task,
        task: &Stopped,
        event: &CallEvent,
    ) -> Result<Effect> {
        let segment = event.args[0] as i32;
        let at = event.ret.unwrap_or(0) as u64;
        let maps = proc::maps(task.tid())?;
        let Some(map) = maps.into_iter().find(|map| map.start == at) else {
            return Ok(Effect::None);
        };
        let size = map.end - map.start;
        let key = ObjectKey::Segment(segment);
        if let Some(object) = self.objects.get(&key).copied()
            && self.count_shown(current, map.inode)? > 1
        {
            return Ok(Effect::Share {
                object: object.id,
                file: None,
                size,
            });
        }
        let file = self.content_of(task, at, size)?;
        let id = self.new_object();
        let inode = map.inode;
        self.objects.insert(key, Object { id, size, inode });
        Ok(Effect::Share {
            object: id,
            file,
            size,
        })
    }

    /// Keeps the content of a segment that other processes may have written; `None` where it is all zeros.
    fn content_of(&mut self, task: &Stopped, at: u64, size: u64) -> Result<Option<FileId>> {
        const PIECE: u64 = 1 << 20;
        let cannot =
            |e| crate::tracee::Error::os("keep what its shared memory holds", task.tid(), e);
        let mut copy: Option<File> = None;
        for from in (0..size).step_by(PIECE as usize) {
            let data = task
                .memory()
                .bytes(at + from, PIECE.min(size - from) as usize);
            if data.iter().all(|&byte| byte == 0) {
                continue;
            }
            let mut file = match copy.take() {
                Some(file) => file,
                None => {
                    let file = File::from(spawn::memfd("segment", &[])?);
                    file.set_len(size).map_err(cannot)?;
                    file
                }
            };
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from))
                .and_then(|_| file.write_all(&data))
                .map_err(cannot)?;
            copy = Some(file);
        }
        copy.map(|file| self.keep(&file, b"a System V shared memory segment"))
            .transpose()
    }

    /// The number of mappings of this inode in all recorded processes.
    fn count_shown(&self, current: &Task, inode: u64) -> Result<usize> {
        let mut count = 0;
        for tid in self
            .one_of_each_other_space(current)
            .into_iter()
            .chain([current.tid])
        {
            let maps = self.maps_of(tid)?;
            count += maps.iter().filter(|m| m.shared && m.inode == inode).count();
        }
        Ok(count)
    }

    fn new_object(&mut self) -> u32 {
        self.last_object += 1;
        self.last_object
    }

    /// A frame for the new size of an object, if it has changed.
    pub(super) fn resized(&mut self, key: FileKey, size: u64) -> Option<Frame> {
        let object = self.objects.get_mut(&ObjectKey::File(key))?;
        if object.size == size {
            return None;
        }
        object.size = size;
        Some(Frame::Resize {
            object: object.id,
            size,
        })
    }
}

/// Returns whether a descriptor is open for writing, so that a shared mapping of it may become writable.
fn can_write(tid: i32, fd: i32) -> bool {
    let flags = proc::fd_flags(tid, fd).unwrap_or(libc::O_RDWR);
    flags & libc::O_ACCMODE != libc::O_RDONLY
}
