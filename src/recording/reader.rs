//! Reading a recording.

use super::block::Slice;
use super::blocks::Blocks;
use super::copy::checksum;
use super::frames::{BlockFrames, NextFrame};
use super::index::Index;
use super::pack::Packed;
use super::source::copy_from;
use super::{
    Error, Event, FileBefore, Files, Frame, HEADER, MAGIC, Result, Start, User, VERSION, io,
};
use crate::image::FileId;
use crate::trace::Exit;
use crate::tracee::checked_open;
use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An opened recording. It has the positions of the events; events are read when they are asked for.
pub struct Reader {
    dir: PathBuf,
    /// The packed file, if it is one.
    packed: Option<Packed>,
    blocks: Arc<Blocks>,
    start: Start,
    len: u64,
    exit: Option<Exit>,
    /// The kept files that are known to be what was kept.
    checked: Mutex<HashSet<FileId>>,
}

impl Reader {
    /// Opens a recording: a directory, or a file that [`pack`](super::pack()) made. A recording whose end is missing
    /// opens up to the last whole block.
    ///
    /// # Errors
    /// If there is no recording, or its beginning cannot be read.
    pub fn open(dir: &Path) -> Result<Reader> {
        let dir = std::fs::canonicalize(dir).map_err(io("open the recording", dir))?;
        if dir.is_dir() {
            let path = dir.join("events");
            let events = open_events(&dir, &path)?;
            let index = Index::open(&dir);
            return Reader::new(dir, path, None, events, index);
        }
        let (packed, events, index) = Packed::open(&dir)?;
        let index = Index::of(index);
        Reader::new(dir.clone(), dir, Some(packed), events, index)
    }

    fn new(
        dir: PathBuf,
        path: PathBuf,
        packed: Option<Packed>,
        events: Slice,
        index: Option<Index>,
    ) -> Result<Reader> {
        let not = |reason: &str| Error::NotARecording {
            path: dir.clone(),
            reason: reason.into(),
        };
        let mut header = [0; HEADER as usize];
        if events.read(&mut header, 0).is_err() || header[..8] != MAGIC {
            return Err(not("its file `events` does not begin like one"));
        }
        check_version(&dir, [header[8], header[9], header[10], header[11]])?;
        let (blocks, last) = Blocks::open(path, events, index)?;
        let blocks = Arc::new(blocks);
        let no_start = || not("it ends before the program's start");
        let last = last.ok_or_else(no_start)?;
        let first = blocks.at(HEADER, 1)?.ok_or_else(no_start)?;
        let Some(Frame::Start(start)) = BlockFrames::of(&blocks, first).next_frame()? else {
            return Err(not("it does not begin with the program's start"));
        };
        let exit = match blocks.last_frame(&last)? {
            Some(Frame::End { exit }) => Some(exit),
            _ => None,
        };
        Ok(Reader {
            len: last
                .first
                .saturating_add(last.count.into())
                .saturating_sub(1),
            dir,
            packed,
            blocks,
            start,
            exit,
            checked: Mutex::default(),
        })
    }

    /// Its directory, or the file that it is packed in, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is packed in one file.
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// How it began.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The number of events; they are numbered from 1 to this.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How the program ended; `None` where the recording is incomplete.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// The event with this number, from 1.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn event(&self, number: u64) -> Result<Event> {
        self.check(number)?;
        BlockFrames::with_event(&self.blocks, number)?.event()
    }

    /// The frames behind the event before this one: those that lead to this event, the event, and those that follow.
    ///
    /// # Errors
    /// If there is no such event, or it cannot be read.
    pub(super) fn frames_from(&self, number: u64) -> Result<BlockFrames> {
        self.check(number)?;
        let mut frames = match number {
            1 => self.all()?,
            _ => BlockFrames::with_event(&self.blocks, number - 1)?,
        };
        // The frame of the start, or of the event before.
        frames.skip();
        Ok(frames)
    }

    /// All frames.
    pub(super) fn all(&self) -> Result<BlockFrames> {
        let first = self.blocks.at(HEADER, 1)?;
        let first = first.ok_or_else(|| self.blocks.damaged(HEADER, "there is no block"))?;
        Ok(BlockFrames::of(&self.blocks, first))
    }

    /// The offset in `events` behind the blocks of the start.
    pub(super) fn behind_start(&self) -> Result<u64> {
        let first = self.blocks.at(HEADER, 1)?;
        let first = first.ok_or_else(|| self.blocks.damaged(HEADER, "there is no block"))?;
        match first.count {
            0 => Ok(first.end),
            _ => Err(self
                .blocks
                .damaged(HEADER, "there are events in the block of the start")),
        }
    }

    /// See [`Source::files_before`](super::Source::files_before).
    pub(super) fn files_before(&self) -> Result<Vec<FileBefore>> {
        let mut frames = self.all()?.with_files();
        let mut files = Vec::new();
        while let Some(frame) = frames.next_frame()? {
            if let Frame::Before(file) = frame {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// See [`Source::user`](super::Source::user).
    pub(super) fn user(&self) -> Result<Option<User>> {
        let mut frames = self.all()?.with_files();
        while let Some(frame) = frames.next_frame()? {
            match frame {
                Frame::User(user) => return Ok(Some(user)),
                Frame::Event(_) => break,
                _ => {}
            }
        }
        Ok(None)
    }

    /// The path of the kept copy of a mapped file, valid for as long as the reader lives. The copy may be missing.
    ///
    /// # Errors
    /// If it cannot be unpacked.
    pub fn file_path(&self, id: FileId) -> Result<PathBuf> {
        match &self.packed {
            Some(packed) => packed.file_path(id),
            None => {
                let path = Files::path(&self.dir, id);
                let look = |path: &Path| std::fs::symlink_metadata(path);
                let damaged = |path: &Path, reason: &str| Error::Damaged {
                    path: path.into(),
                    offset: 0,
                    reason: reason.into(),
                };
                let all = self.dir.join("files");
                if look(&all).is_ok_and(|meta| meta.is_symlink()) {
                    return Err(damaged(&all, "it is a symbolic link"));
                }
                if look(&path).is_ok_and(|meta| !meta.is_file()) {
                    return Err(damaged(&path, "it is not a regular file"));
                }
                Ok(path)
            }
        }
    }

    /// The numbers of the kept copy that a process shows as mapped by this name and inode, and its path.
    pub fn kept_as(&self, name: &[u8], inode: u64) -> Option<(Vec<FileId>, PathBuf)> {
        if let Some(packed) = &self.packed {
            return packed.unpacked_as(inode);
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let id = path.file_name()?.to_str()?.parse().ok()?;
        let copy = Files::path(&self.dir, id);
        (copy == path).then(|| (vec![id], copy))
    }

    /// See [`Source::copy_kept`](super::Source::copy_kept).
    pub(super) fn copy_kept(
        &self,
        id: FileId,
        part: Range<u64>,
        target: &File,
        to: u64,
    ) -> Result<()> {
        match &self.packed {
            Some(packed) => packed.copy(id, part, target, to),
            None => copy_from(&self.file_path(id)?, part, target, to),
        }
    }

    /// See [`Source::check_kept`](super::Source::check_kept).
    pub(super) fn check_kept(&self, id: FileId, sum: Option<u32>) -> Result<()> {
        if let Some(packed) = &self.packed {
            return packed.has(id);
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.contains(&id) {
            return Ok(());
        }
        let path = self.file_path(id)?;
        let file = checked_open::regular(&path, libc::O_NOFOLLOW).map_err(io("open", &path))?;
        if let Some(sum) = sum
            && checksum(&file).map_err(io("read", &path))? != sum
        {
            return Err(Error::Damaged {
                path,
                offset: 0,
                reason: "it is not what was kept".into(),
            });
        }
        checked.insert(id);
        Ok(())
    }

    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    fn check(&self, number: u64) -> Result<()> {
        if (1..=self.len).contains(&number) {
            return Ok(());
        }
        Err(Error::NoSuchEvent {
            path: self.dir.clone(),
            event: number,
            last: self.len,
        })
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recording({}, {} events)", self.dir.display(), self.len)
    }
}

/// Checks that this version of the format can be read.
pub(super) fn check_version(path: &Path, version: [u8; 4]) -> Result<()> {
    let (path, found) = (path.into(), u32::from_le_bytes(version));
    match found {
        VERSION => Ok(()),
        0..VERSION => Err(Error::Older { path, found }),
        _ => Err(Error::Newer { path, found }),
    }
}

fn open_events(dir: &Path, path: &Path) -> Result<Slice> {
    let not = |reason: &str| Error::NotARecording {
        path: dir.into(),
        reason: reason.into(),
    };
    // O_NONBLOCK: a FIFO of this name must not block.
    let file = match File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(not("it has no file `events`"));
        }
        Err(e) => return Err(io("open", path)(e)),
    };
    if !file.metadata().map_err(io("look at", path))?.is_file() {
        return Err(not("its `events` is not a regular file"));
    }
    Slice::of(file).map_err(io("look at", path))
}
