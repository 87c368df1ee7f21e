//! Standard streams of a process that goes live: what stands for them, and what is written to them.
//!
//! Programs look at what their output is, so it is replaced by the same kind of thing: a file by an anonymous
//! file, a terminal by a terminal, a socket by a socket, and all else by a pipe. What they write comes to us whoever
//! of their tree writes it, and whichever way.

use super::Result;
use crate::kernel::{OpenFile, Stream};
use crate::tracee::Error;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The size asked for a pipe's buffer: the most that who is not root may have.
const PIPE_SIZE: i32 = 1 << 20;

/// Files that the program can read back are copied up to this size.
const MOST_COPIED: u64 = 16 << 20;

/// The most that is taken at once, so that an endless writer leaves us time for other things.
const AT_ONCE: usize = 64 << 20;

/// Where the output of a process and of all that it starts comes to us.
#[derive(Debug)]
pub struct Captured {
    /// Which stream it is; a terminal that is none has no name.
    pub stream: Option<Stream>,
    /// Our end: it never blocks.
    pub file: File,
    /// For a file: up to where it has been taken.
    at: Option<u64>,
    /// For a file: its path.
    path: Vec<u8>,
}

impl Captured {
    /// A terminal that is no output.
    pub(super) fn unnamed(master: File) -> Captured {
        Captured {
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

    /// Takes what has been written and not yet been taken, 64 MiB at most. Whether more may come: `false`
    /// once all that could write have closed it.
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
                // A terminal that nobody has open.
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

/// What a descriptor's file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A regular file or a directory.
    Path,
    Terminal,
    /// A character device, or a FIFO with a name.
    Device,
    Pipe,
    Socket,
    /// Something without a name: its kind, as the kernel calls it.
    Anonymous,
}

impl Sort {
    pub(super) fn of(file: &OpenFile) -> Sort {
        let path = file.path.as_slice();
        let terminal = path.starts_with(b"/dev/pts/") || path.starts_with(b"/dev/tty");
        match path {
            _ if terminal || path == b"/dev/console" => Sort::Terminal,
            [b'/', ..] if file.moves => Sort::Path,
            [b'/', ..] => Sort::Device,
            _ if path.starts_with(b"pipe:[") => Sort::Pipe,
            _ if path.starts_with(b"socket:[") => Sort::Socket,
            _ => Sort::Anonymous,
        }
    }
}

/// Something of the same kind as what a stream wrote to: what the process gets, and where it comes to us.
pub(super) fn output(file: &OpenFile, stream: Stream, tid: i32) -> Result<(File, Captured)> {
    let fail = |e: io::Error| Error::os("make a place for its output", tid, e);
    let (theirs, ours, at) = match Sort::of(file) {
        Sort::Path => {
            let (theirs, ours) = regular(file).map_err(fail)?;
            let at = Some(file.offset);
            (theirs, ours, at)
        }
        Sort::Terminal => {
            let (slave, master) = terminal().map_err(fail)?;
            (slave, master, None)
        }
        Sort::Socket => {
            let (theirs, ours) = UnixStream::pair().map_err(fail)?;
            (as_file(theirs), as_file(ours), None)
        }
        Sort::Device | Sort::Pipe | Sort::Anonymous => {
            let (ours, theirs) = io::pipe().map_err(fail)?;
            // The user may have too many pipes for that.
            _ = fcntl(&theirs, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
            (as_file(theirs), as_file(ours), None)
        }
    };
    set_status(&theirs, file.flags).map_err(fail)?;
    if at.is_none() {
        set_status(&ours, libc::O_NONBLOCK).map_err(fail)?;
    }
    let captured = Captured {
        stream: Some(stream),
        file: ours,
        at,
        path: file.path.clone(),
    };
    Ok((theirs, captured))
}

pub(super) fn as_file(fd: impl Into<OwnedFd>) -> File {
    File::from(fd.into())
}

/// Sets those flags of an open file that can be set.
pub(super) fn set_status(file: &File, flags: i32) -> io::Result<()> {
    const SETTABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK;
    let wanted = flags & SETTABLE;
    if wanted != 0 {
        fcntl(file, FcntlArg::F_SETFL(OFlag::from_bits_retain(wanted)))?;
    }
    Ok(())
}

/// An anonymous file.
pub(super) fn anonymous(name: &str) -> io::Result<File> {
    // A kernel before 6.3 does not know MFD_NOEXEC_SEAL, and it is not needed.
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// The same open anew, as open(2) would with these flags.
pub(super) fn opened_again(file: &File, flags: i32) -> io::Result<File> {
    let mode = flags & libc::O_ACCMODE;
    let status = flags & (libc::O_APPEND | libc::O_NONBLOCK);
    File::options()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(status)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// An anonymous file, as long as the file was. What is in it matters only to who can read it.
fn regular(file: &OpenFile) -> io::Result<(File, File)> {
    let ours = anonymous("output")?;
    if file.flags & libc::O_ACCMODE == libc::O_RDWR {
        let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
        let real = File::open(path).and_then(|real| Ok((real.metadata()?.is_file(), real)));
        if let Ok((true, real)) = real {
            io::copy(&mut real.take(MOST_COPIED.min(file.offset)), &mut &ours)?;
        }
    }
    // Offsets of a damaged recording need not be possible.
    ours.set_len(file.offset)?;
    let mut theirs = opened_again(&ours, file.flags)?;
    theirs.seek(SeekFrom::Start(file.offset))?;
    Ok((theirs, ours))
}

/// A terminal: its slave and its master. What is written to it comes out as it is.
pub(super) fn terminal() -> io::Result<(File, File)> {
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pair = openpty(&size, None)?;
    let mut settings = tcgetattr(&pair.slave)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
    for end in [&pair.master, &pair.slave] {
        fcntl(
            end.as_fd(),
            FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )?;
    }
    Ok((pair.slave.into(), pair.master.into()))
}

/// Something of the same kind as what the program read its input from, with this in it; and what must be kept
/// for as long as it is read. Also says how much of it fitted.
pub(super) fn input(file: &OpenFile, data: &[u8]) -> io::Result<(File, Option<File>, usize)> {
    const LINES_END: [u8; 64] = [4; 64];
    match Sort::of(file) {
        Sort::Terminal => {
            let (slave, master) = terminal()?;
            set_status(&master, libc::O_NONBLOCK)?;
            let n = fill(&master, data)?;
            // Control-D, as often as a program may ask again.
            fill(&master, &LINES_END)?;
            set_status(&slave, file.flags)?;
            Ok((slave, Some(master), n))
        }
        Sort::Socket => {
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
            // It does not go into a pipe.
            let whole = anonymous("input")?;
            (&whole).write_all(data)?;
            let theirs = opened_again(&whole, file.flags & !libc::O_ACCMODE)?;
            Ok((theirs, None, data.len()))
        }
    }
}

/// Writes as much as goes in.
pub(super) fn fill(mut file: &File, data: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.write(&data[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
