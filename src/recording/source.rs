//! The contents of a recording, whichever program wrote it.

use super::copy::copy_part;
use super::{Error, Event, FileBefore, Frames, Reader, Result, Start, User, io};
use crate::image::FileId;
use crate::trace::Exit;
use crate::tracee::checked_open;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A recording as engines, processes and queries read it: this program's own format ([`Reader`]), or that of another
/// engine.
///
/// Events are numbered from 1 to [`Source::len`].
#[expect(clippy::len_without_is_empty, reason = "`Recording` has it")]
pub trait Source: Send + Sync {
    /// The absolute path of the recording, for messages.
    fn dir(&self) -> &Path;

    /// The state of the program when the recording began.
    fn start(&self) -> &Start;

    /// The number of events.
    fn len(&self) -> u64;

    /// The end of the program; `None` where the recording is incomplete.
    fn exit(&self) -> Option<Exit>;

    /// The event with this number.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    fn event(&self, number: u64) -> Result<Event> {
        let mut frames = self.frames_from(number)?;
        while let Some(frame) = frames.next_frame()? {
            if let super::Frame::Event(event) = frame {
                return Ok(event);
            }
        }
        Err(Error::NoSuchEvent {
            path: self.dir().to_path_buf(),
            event: number,
            last: self.len(),
        })
    }

    /// The frames behind the event before this one: those that lead to this event, the event, and those that follow.
    ///
    /// # Errors
    /// If there is no such event, or it cannot be read.
    fn frames_from(&self, number: u64) -> Result<Frames>;

    /// The same as [`Source::frames_from`], with the frames that are about files only.
    ///
    /// # Errors
    /// If there is no such event, or it cannot be read.
    fn all_frames_from(&self, number: u64) -> Result<Frames> {
        self.frames_from(number)
    }

    /// The files as they were before the recording, in the order in which calls named them first. None where they were not
    /// kept.
    ///
    /// # Errors
    /// If the recording cannot be read.
    fn files_before(&self) -> Result<Vec<FileBefore>> {
        Ok(Vec::new())
    }

    /// Who has started the program; `None` where that is not known.
    ///
    /// # Errors
    /// If the recording cannot be read.
    fn user(&self) -> Result<Option<User>> {
        Ok(None)
    }

    /// The path of the kept copy of a mapped file, valid for as long as the source lives. The copy may be missing.
    ///
    /// # Errors
    /// If it cannot be unpacked.
    fn file_path(&self, id: FileId) -> Result<PathBuf>;

    /// Copies a part of a kept file to an offset of another one, without its holes.
    ///
    /// # Errors
    /// If there is no such copy, or it cannot be read or written.
    fn copy_kept(&self, id: FileId, part: Range<u64>, target: &File, to: u64) -> Result<()> {
        copy_from(&self.file_path(id)?, part, target, to)
    }

    /// Checks that a kept file can be read and is what was kept.
    ///
    /// # Errors
    /// If it is missing or damaged.
    fn check_kept(&self, id: FileId, sum: Option<u32>) -> Result<()> {
        _ = sum;
        let path = self.file_path(id)?;
        checked_open::regular(&path, 0).map_err(io("open", &path))?;
        Ok(())
    }

    /// The numbers of the kept copy that a process shows as mapped by this name and inode, and its path.
    fn kept_as(&self, name: &[u8], inode: u64) -> Option<(Vec<FileId>, PathBuf)>;
}

/// Copies a part of a file at a path.
pub(super) fn copy_from(path: &Path, part: Range<u64>, target: &File, to: u64) -> Result<()> {
    let source = checked_open::regular(path, 0).map_err(io("open", path))?;
    copy_part(&source, part, target, to).map_err(io("copy a part of", path))
}

impl Source for Reader {
    fn dir(&self) -> &Path {
        self.dir()
    }

    fn start(&self) -> &Start {
        self.start()
    }

    fn len(&self) -> u64 {
        self.len()
    }

    fn exit(&self) -> Option<Exit> {
        self.exit()
    }

    fn event(&self, number: u64) -> Result<Event> {
        self.event(number)
    }

    fn frames_from(&self, number: u64) -> Result<Frames> {
        Ok(Frames::new(self.frames_from(number)?))
    }

    fn all_frames_from(&self, number: u64) -> Result<Frames> {
        Ok(Frames::new(self.frames_from(number)?.with_files()))
    }

    fn files_before(&self) -> Result<Vec<FileBefore>> {
        self.files_before()
    }

    fn user(&self) -> Result<Option<User>> {
        self.user()
    }

    fn file_path(&self, id: FileId) -> Result<PathBuf> {
        self.file_path(id)
    }

    fn copy_kept(&self, id: FileId, part: Range<u64>, target: &File, to: u64) -> Result<()> {
        self.copy_kept(id, part, target, to)
    }

    fn check_kept(&self, id: FileId, sum: Option<u32>) -> Result<()> {
        self.check_kept(id, sum)
    }

    fn kept_as(&self, name: &[u8], inode: u64) -> Option<(Vec<FileId>, PathBuf)> {
        self.kept_as(name, inode)
    }
}

/// Events with their numbers; ends with the first error.
pub(crate) fn events(
    mut frames: Frames,
    first: u64,
) -> impl Iterator<Item = Result<(u64, Event)>> + use<> {
    let mut number = first;
    let mut ended = false;
    std::iter::from_fn(move || {
        while !ended {
            match frames.next_frame() {
                Ok(Some(super::Frame::Event(event))) => {
                    number += 1;
                    return Some(Ok((number - 1, event)));
                }
                Ok(Some(super::Frame::End { .. }) | None) => ended = true,
                Ok(Some(_)) => {}
                Err(e) => {
                    ended = true;
                    return Some(Err(e));
                }
            }
        }
        None
    })
}
