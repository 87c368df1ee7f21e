//! The file of the process's program: `/proc/PID/exe`.

use super::{Restorer, Result};
use crate::history::Recording;
use crate::image;
use crate::kernel::Program;
use crate::tracee::checked_open::{self, Found};
use crate::tracee::file_channel::FileChannel;
use crate::tracee::{proc, spawn};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

impl Restorer<'_, '_> {
    /// Makes the recorded program's file the process's executable; the process has no descriptors yet.
    pub(super) fn program(&mut self) -> Result<()> {
        let path = &self.state.program.path;
        if path.is_empty() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(path).into_owned();
        let (fd, channel) = match self.open_program()? {
            Some(fd) => (Some(fd), None),
            None => {
                self.report_missing(format!(
                    "its program's file {shown}: it is not what was recorded, and the recording's copy is in its place"
                ));
                let copy = match self.program_copy() {
                    Ok(copy) => copy,
                    Err(error) => {
                        self.report_missing(format!("/proc/self/exe ({shown}): {error}"));
                        return Ok(());
                    }
                };
                let channel = FileChannel::open(&mut self.remote, 0)?;
                let given = channel.pass(&mut self.remote, &[&copy])?;
                (given.first().map(|&fd| fd as u64), Some(channel))
            }
        };
        let set = match fd {
            Some(fd) => self.set_program(fd)?,
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        };
        if let Err(error) = set {
            self.report_missing(format!(
                "/proc/self/exe: it is rrapper's, since the system does not let it be {shown} ({error})"
            ));
        }
        if let Some(channel) = channel {
            channel.close(&mut self.remote)?;
        }
        Ok(())
    }

    /// Opens the program's file in the process, if it is unchanged.
    fn open_program(&mut self) -> Result<Option<u64>> {
        let Ok(found) = Found::at(&mut self.remote, &self.state.program.path, true)? else {
            return Ok(None);
        };
        let mut got = -i64::from(libc::EACCES);
        if found.is(libc::S_IFREG) {
            got = found.open(&mut self.remote, libc::O_RDONLY | libc::O_CLOEXEC)?;
        }
        found.forget(&mut self.remote)?;
        let Ok(fd) = u64::try_from(got) else {
            return Ok(None);
        };
        let pid = self.remote.memory().tid();
        let recording = &self.state.recording;
        let same = File::open(format!("/proc/{pid}/fd/{fd}"))
            .and_then(|file| recording.holds_program(&file, &self.state.program));
        if same.unwrap_or(false) {
            return Ok(Some(fd));
        }
        self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        Ok(None)
    }

    /// The kept copy, as a file that can be executed.
    fn program_copy(&self) -> io::Result<File> {
        copy_of(&self.state.recording, &self.state.program)
    }

    fn set_program(&mut self, fd: u64) -> Result<io::Result<()>> {
        let layout = proc::layout(self.remote.memory().tid())?;
        let brk = self.remote.call(libc::SYS_brk, [0; 6])?;
        let set = image::set_layout(&mut self.remote, &layout, brk as u64, Some(fd as u32))?;
        self.remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        Ok(set)
    }
}

/// A recorded program's file, to be executed: the file on this machine if it is unchanged, or else the recording's
/// copy.
///
/// # Errors
/// If there is neither.
pub fn program(recording: &Recording, program: &Program) -> io::Result<File> {
    let path = Path::new(OsStr::from_bytes(&program.path));
    if let Ok(file) = checked_open::regular(path, 0)
        && recording.holds_program(&file, program)?
    {
        return Ok(file);
    }
    copy_of(recording, program)
}

fn copy_of(recording: &Recording, program: &Program) -> io::Result<File> {
    let kept = recording.program_file(program)?;
    let mut kept = kept.ok_or_else(|| io::Error::other("the recording has no copy of it"))?;
    let mut copy = File::from(spawn::memfd("program", &[]).map_err(io::Error::other)?);
    io::copy(&mut kept, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o755))?;
    // The kernel does not execute a file that is open for writing.
    File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))
}
