//! The kept copies of the files of programs, compared with files of this machine.

use super::Recording;
use crate::kernel::Program;
use crate::recording::same;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

impl Recording {
    /// Whether a file has the content that a program's file had when it was recorded. A file of the same length that
    /// has not changed since is not read.
    ///
    /// # Errors
    /// If it or the kept copy cannot be read.
    pub fn holds_program(&self, file: &File, program: &Program) -> io::Result<bool> {
        let Some(kept) = self.program_file(program)? else {
            return Ok(true);
        };
        let (now, then) = (file.metadata()?, kept.metadata()?);
        if !now.is_file() || now.len() != then.len() {
            return Ok(false);
        }
        let touched = now.mtime().max(now.ctime());
        if u64::try_from(touched).is_ok_and(|time| time < self.start().time) {
            return Ok(true);
        }
        same(file, &kept)
    }

    /// The kept copy of a program's file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn program_file(&self, program: &Program) -> io::Result<Option<File>> {
        let path = program.file.map(|id| self.kept_file(id)).transpose()?;
        path.map(File::open).transpose()
    }
}
