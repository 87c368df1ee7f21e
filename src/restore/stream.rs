//! Standard streams: files that stand for them, and the output that processes write to them.
//!
//! Programs look at the kind of their output, so it is replaced by a file of the same kind: a file by an anonymous
//! file, a terminal by a terminal, a socket by a socket, and all others by a pipe. The output of a process and of its
//! descendants is read from the other end.

use super::local_file::{anonymous, as_file, fill, reopen, set_status};
use super::terminal::terminal;
use super::{Description, Plan, Restorer, Result};
use crate::kernel::{FileKind, OpenFile, Stream};
use crate::tracee::{self, Error, checked_open};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The size asked for a pipe's buffer: the most that a user other than root may ask for.
const PIPE_SIZE: i32 = 1 << 20;

/// Files that the program can read back are copied up to this size.
const MOST_COPIED: u64 = 16 << 20;

/// The most bytes that are read at once, so that an endless writer leaves time for other work.
const AT_ONCE: usize = 64 << 20;

/// The reading end of a stream that a process and its descendants write to.
#[derive(Debug)]
pub struct CapturedStream {
    /// The stream; `None` for a terminal that is no standard stream.
    pub stream: Option<Stream>,
    /// The reading end, which never blocks.
    pub file: File,
    /// For a file: the offset up to which it has been read.
    at: Option<u64>,
    /// For a file: its path.
    path: Vec<u8>,
}

impl CapturedStream {
    /// The master of a terminal that is no standard stream.
    pub(super) fn unnamed(master: File) -> CapturedStream {
        CapturedStream {
            stream: None,
            file: master,
            at: None,
            path: Vec::new(),
        }
    }

    /// Whether it stands for the file of this path.
    pub(super) fn stands_for(&self, path: &[u8]) -> bool {
        self.at.is_some() && self.path == path
    }

    /// Reads the output that has been written and not been read yet, 64 MiB at most. Returns `false` once all writers
    /// have closed the stream, so that no more can come.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn drain(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut buf = vec![0; 64 << 10];
        let mut taken = 0;
        while taken < AT_ONCE {
            let read = match &mut self.at {
                Some(at) => self.file.read_at(&mut buf, *at),
                None => self.file.read(&mut buf),
            };
            let n = match read {
                // A file's writers are not known.
                Ok(0) => return Ok(self.at.is_some()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // The terminal's slave is closed.
                Err(e) if e.raw_os_error() == Some(libc::EIO) => return Ok(false),
                Err(e) => return Err(e),
            };
            sink(&buf[..n]);
            taken += n;
            if let Some(at) = &mut self.at {
                *at += n as u64;
            }
        }
        Ok(true)
    }
}

/// Makes a file of the same kind as a stream's: the process's end, and the reading end.
pub(super) fn output(file: &OpenFile, stream: Stream, tid: i32) -> Result<(File, CapturedStream)> {
    let fail = |e: io::Error| Error::os("make a place for its output", tid, e);
    let (theirs, ours, at) = match file.kind() {
        FileKind::Path => {
            let (theirs, ours) = regular(file).map_err(fail)?;
            let at = Some(file.offset);
            (theirs, ours, at)
        }
        FileKind::Terminal => {
            let (slave, master) = terminal().map_err(fail)?;
            (slave, master, None)
        }
        FileKind::Socket => {
            let (theirs, ours) = UnixStream::pair().map_err(fail)?;
            (as_file(theirs), as_file(ours), None)
        }
        FileKind::Device | FileKind::Pipe | FileKind::Anonymous => {
            let (ours, theirs) = io::pipe().map_err(fail)?;
            // Fails where the user has too many pipes.
            _ = fcntl(&theirs, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
            (as_file(theirs), as_file(ours), None)
        }
    };
    set_status(&theirs, file.flags).map_err(fail)?;
    if at.is_none() {
        set_status(&ours, libc::O_NONBLOCK).map_err(fail)?;
    }
    let captured = CapturedStream {
        stream: Some(stream),
        file: ours,
        at,
        path: file.path.clone(),
    };
    Ok((theirs, captured))
}

/// Makes an anonymous file as long as the stream's file. Its content matters only to a process that can read it.
fn regular(file: &OpenFile) -> io::Result<(File, File)> {
    let ours = anonymous("output")?;
    if file.flags & libc::O_ACCMODE == libc::O_RDWR {
        let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
        if let Ok(real) = checked_open::regular(path, 0) {
            io::copy(&mut real.take(MOST_COPIED.min(file.offset)), &mut &ours)?;
        }
    }
    // The offset in a damaged recording may be impossible.
    ours.set_len(file.offset)?;
    let mut theirs = reopen(&ours, file.flags)?;
    theirs.seek(SeekFrom::Start(file.offset))?;
    Ok((theirs, ours))
}

/// Makes a file of the same kind as the program's input, with this data: the process's end; a terminal's master,
/// which must be kept for as long as the slave is read; the number of bytes that fitted.
pub(super) fn input(file: &OpenFile, data: &[u8]) -> io::Result<(File, Option<File>, usize)> {
    const LINES_END: [u8; 64] = [4; 64];
    match file.kind() {
        FileKind::Terminal => {
            let (slave, master) = terminal()?;
            set_status(&master, libc::O_NONBLOCK)?;
            let n = fill(&master, data)?;
            // Control-D (end of file), as often as a program may read again.
            fill(&master, &LINES_END)?;
            set_status(&slave, file.flags)?;
            Ok((slave, Some(master), n))
        }
        FileKind::Socket => {
            let (theirs, ours) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let theirs = as_file(theirs);
            let n = fill(&as_file(ours), data)?;
            set_status(&theirs, file.flags)?;
            Ok((theirs, None, n))
        }
        _ => {
            let (read, write) = io::pipe()?;
            if data.len() > 4096 {
                _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
            }
            let (read, write) = (as_file(read), as_file(write));
            set_status(&write, libc::O_NONBLOCK)?;
            if fill(&write, data)? == data.len() {
                set_status(&read, file.flags)?;
                return Ok((read, None, data.len()));
            }
            // The data does not fit into a pipe.
            let whole = anonymous("input")?;
            (&whole).write_all(data)?;
            let theirs = reopen(&whole, file.flags & !libc::O_ACCMODE)?;
            Ok((theirs, None, data.len()))
        }
    }
}

impl Restorer<'_, '_> {
    /// The rest of the standard input, as far as it was recorded.
    pub(super) fn recorded_input(&self) -> Result<Vec<u8>> {
        let mut rest = self
            .state
            .recording
            .stdin_from(self.state.changes.event())?;
        let read = usize::try_from(self.state.changes.input()).unwrap_or(usize::MAX);
        rest.drain(..read.min(rest.len()));
        Ok(rest)
    }

    /// Whether the file is the standard input whose content was recorded, opened by its path.
    pub(super) fn is_kept_stdin(&self, description: &Description<'_>) -> bool {
        let start = self.state.recording.start();
        let mut descriptors = start.descriptors.iter();
        let stdin = descriptors
            .find(|d| d.fd == 0)
            .filter(|_| start.stdin.is_some());
        stdin.is_some_and(|stdin| stdin.path == description.file.path)
    }

    /// Restores the standard input from the recording's copy, at the same offset.
    pub(super) fn kept_stdin(&mut self, description: &Description<'_>) -> Result<Plan> {
        let tid = self.remote.memory().tid();
        match self.copy_of_stdin(description) {
            Ok(Some(file)) => Ok(Plan::Pass(file)),
            Ok(None) => self.stdin(description),
            Err(e) => Err(Error::os("make its input again", tid, e).into()),
        }
    }

    fn copy_of_stdin(&self, description: &Description<'_>) -> io::Result<Option<File>> {
        let recording = &self.state.recording;
        let Some(id) = recording.start().stdin else {
            return Ok(None);
        };
        let path = recording.file_path(id).map_err(io::Error::other)?;
        let mut copy = File::from(tracee::spawn::memfd("stdin", &[]).map_err(io::Error::other)?);
        let given = self.state.files.given();
        match given
            .filter(|given| given.path == description.file.path)
            .last()
        {
            Some(given) => copy.write_all(&given.content)?,
            None => _ = io::copy(&mut checked_open::regular(&path, 0)?, &mut copy)?,
        }
        copy.seek(SeekFrom::Start(
            description.file.offset.min(i64::MAX as u64),
        ))?;
        Ok(Some(copy))
    }

    /// Restores the standard input as a file from which the rest of the recorded input is read.
    pub(super) fn stdin(&mut self, description: &Description<'_>) -> Result<Plan> {
        let rest = self.recorded_input()?;
        self.input_with(description, &rest)
    }

    /// The file of a captured stream, for a descriptor that was opened by its path.
    pub(super) fn captured_by_path(&self, description: &Description<'_>) -> Result<Option<File>> {
        let tid = self.remote.memory().tid();
        let mut streams = self.common.captured.iter();
        let Some(stream) = streams.find(|stream| stream.stands_for(&description.file.path)) else {
            return Ok(None);
        };
        let file = reopen(&stream.file, description.file.flags)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(description.file.offset))?;
                Ok(file)
            })
            .map_err(|e| Error::os("open its output again", tid, e))?;
        Ok(Some(file))
    }

    /// Restores a file from which this data is read.
    pub(super) fn input_with(
        &mut self,
        description: &Description<'_>,
        rest: &[u8],
    ) -> Result<Plan> {
        let tid = self.remote.memory().tid();
        let (file, held, fitted) =
            input(description.file, rest).map_err(|e| Error::os("make its input again", tid, e))?;
        if fitted < rest.len() {
            let why = format!("only the first {fitted} bytes of what it would read are there");
            self.report_lost(description, &why);
        }
        if let Some(file) = held {
            self.common.captured.push(CapturedStream::unnamed(file));
        }
        Ok(Plan::Pass(file))
    }
}
