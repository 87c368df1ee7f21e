//! The contents of the files of the recorded world.

use crate::history::{FileContent, Recording};
use crate::recording::copy_part;
use crate::tracee::checked_open;
use crate::world::{Kind, Node, Part};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes the content of shared memory.
pub(super) fn fill_from(file: &File, memory: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    copy_part(memory, 0..len, file, 0)
}

/// Writes the content of a file, holes as such.
pub(super) fn fill(
    file: &mut File,
    node: &Node<FileContent>,
    recording: &Recording,
) -> io::Result<()> {
    let Kind::File(content) = &node.kind else {
        return Ok(());
    };
    file.set_len(content.len())?;
    for (at, len, part) in content.parts() {
        match part {
            Part::Bytes(bytes) => file.write_all_at(bytes, at)?,
            Part::File(FileContent::Bytes(all), from) => {
                let rest = usize::try_from(from).ok().and_then(|from| all.get(from..));
                let rest = rest.unwrap_or_default();
                file.write_all_at(&rest[..rest.len().min(len as usize)], at)?;
            }
            Part::File(FileContent::Kept(id, _), from) => {
                let part = from..from.saturating_add(len);
                let copied = recording.copy_kept(*id, part, file, at);
                copied.map_err(io::Error::other)?;
            }
            Part::File(FileContent::Itself(itself), from) => {
                let path = Path::new(OsStr::from_bytes(&itself.path));
                let source = checked_open::regular(path, libc::O_NOFOLLOW)?;
                copy_part(&source, from..from.saturating_add(len), file, at)?;
            }
        }
    }
    Ok(())
}
