//! Recorded changes of the mappings of ranges of memory: see [`Piece`].

use super::{Objects, SharedMemory};
use crate::history::Recording;
use crate::image::kept_file_flags;
use crate::recording::{Piece, Shows};
use crate::tracee::mremap::Move;
use crate::tracee::{self, Remote, Stopped, agent};
use std::os::unix::ffi::OsStrExt;

impl SharedMemory {
    /// Applies these pieces to the mappings of a process. The task is at a syscall entry stop if `at_entry`, else
    /// between calls.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn remap(
        &self,
        task: &mut Stopped,
        at_entry: bool,
        pieces: &[Piece],
        recording: &Recording,
    ) -> tracee::Result<()> {
        let pieces: Vec<Piece> = pieces.iter().filter(|p| !is_ours(p)).copied().collect();
        let mut remote = match at_entry {
            true => task.remote_at_entry()?,
            false => task.remote_at_boundary()?,
        };
        show(&mut remote, &pieces, recording, &self.objects())?;
        remote.finish()
    }
}

/// Returns whether a piece overlaps the agent's memory.
pub fn is_ours(piece: &Piece) -> bool {
    let from = match piece.shows {
        Shows::Moved { from } => from,
        _ => piece.start,
    };
    [piece.start, from]
        .iter()
        .any(|&at| agent::is_touched(at, piece.len))
}

/// Applies these pieces to the mappings of a process.
///
/// # Errors
/// If the process is gone.
pub fn show(
    remote: &mut Remote<'_>,
    pieces: &[Piece],
    recording: &Recording,
    objects: &Objects,
) -> tracee::Result<()> {
    // Every page in a mapping of an empty file is past the end of the file.
    let mut empty = None;
    for piece in pieces {
        let Piece { start, len, .. } = *piece;
        let prot = piece.prot as u64;
        match piece.shows {
            Shows::Same => {
                remote.call(libc::SYS_mprotect, [start, len, prot, 0, 0, 0])?;
            }
            Shows::Fresh => {
                let advice = libc::MADV_DONTNEED as u64;
                remote.call(libc::SYS_madvise, [start, len, advice, 0, 0, 0])?;
            }
            Shows::Nothing => {
                remote.call(libc::SYS_munmap, [start, len, 0, 0, 0, 0])?;
            }
            Shows::Zeros => map(remote, piece, None)?,
            Shows::Past => {
                let fd = match empty {
                    Some(fd) => fd,
                    None => {
                        remote.reset_scratch();
                        let name = remote.put_str(b"rrapper-past")?;
                        let args = [name, libc::MFD_CLOEXEC.into(), 0, 0, 0, 0];
                        let what = "make an empty file in it";
                        *empty.insert(remote.must(what, libc::SYS_memfd_create, args)?)
                    }
                };
                map(remote, piece, Some((fd, 0)))?;
            }
            Shows::File { file, offset } => {
                let tid = remote.memory().tid();
                let path = recording.kept_file(file);
                let path =
                    path.map_err(|e| tracee::Error::os("find a file that it maps", tid, e))?;
                remote.reset_scratch();
                let name = remote.put_str(path.as_os_str().as_bytes())?;
                let how = kept_file_flags(&path) as u64;
                let args = [libc::AT_FDCWD as u64, name, how, 0, 0, 0];
                let what = format!("open {}", path.display());
                let fd = remote.must(&what, libc::SYS_openat, args)?;
                map(remote, piece, Some((fd, offset)))?;
                remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
            }
            Shows::Moved { from } => {
                let moved = Move {
                    from,
                    len,
                    new_len: len,
                    to: start,
                    stays: false,
                };
                moved.make(remote)?;
            }
            // A copy has only the shared objects that it maps.
            Shows::Object { object, offset } => {
                objects.map(remote, object, start, len, prot, offset)?;
            }
        }
    }
    if let Some(fd) = empty {
        remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

/// Maps private memory for a piece: of a file at an offset, or zeros.
fn map(remote: &mut Remote<'_>, piece: &Piece, file: Option<(u64, u64)>) -> tracee::Result<()> {
    let mut flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    if file.is_none() {
        flags |= libc::MAP_ANONYMOUS;
    }
    let (fd, offset) = file.unwrap_or((u64::MAX, 0));
    let prot = piece.prot as u64;
    let args = [piece.start, piece.len, prot, flags as u64, fd, offset];
    let what = format!("map {} bytes at {:#x}", piece.len, piece.start);
    remote.must(&what, libc::SYS_mmap, args).map(|_| ())
}
