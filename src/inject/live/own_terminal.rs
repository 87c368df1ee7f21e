//! A terminal of a live program's own: the standard streams of its first process, and its controlling terminal.

use crate::tracee::{Error, Result, Stopped, spawn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// 24 rows and 80 columns (`struct winsize`).
const SIZE: [u16; 4] = [24, 80, 0, 0];

/// Control-D, as often as a program may read again.
const ENDS: [u8; 64] = [4; 64];

/// The typist: what is left to type, and where.
pub(super) struct Terminal {
    master: File,
    left: Vec<u8>,
}

impl Terminal {
    /// Makes a terminal in a process that leads its session, and this text the next thing that is typed at it. Output
    /// passes through unchanged, and typed text is not echoed. Also returns the end from which the output is read.
    pub fn give(task: &mut Stopped, text: &[u8]) -> Result<(Terminal, File)> {
        let tid = task.tid();
        let mut remote = task.remote_at_boundary()?;
        let path = remote.put_str(b"/dev/ptmx")?;
        let how = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
        let args = [libc::AT_FDCWD as u64, path, how, 0, 0, 0];
        let what = "open /dev/ptmx for a terminal";
        let master = remote.must(what, libc::SYS_openat, args)?;
        let unlocked = remote.put(&0_i32.to_le_bytes())?;
        let size = remote.put(&SIZE.map(u16::to_le_bytes).concat())?;
        let what = "set its terminal up";
        for (request, arg) in [(libc::TIOCSPTLCK, unlocked), (libc::TIOCSWINSZ, size)] {
            remote.must(what, libc::SYS_ioctl, [master, request, arg, 0, 0, 0])?;
        }
        let args = [master, libc::TIOCGPTPEER, how, 0, 0, 0];
        let slave = remote.must("open its terminal", libc::SYS_ioctl, args)?;
        let ours = spawn::borrow_fd(tid, master as i32)?;
        settings(&ours).map_err(|e| Error::os(what, tid, e))?;
        for stream in 0..3 {
            let args = [slave, stream, 0, 0, 0, 0];
            remote.must("place its terminal", libc::SYS_dup2, args)?;
        }
        let args = [0, libc::TIOCSCTTY, 0, 0, 0, 0];
        remote.must("make it its controlling terminal", libc::SYS_ioctl, args)?;
        for fd in [master, slave] {
            remote.must(what, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        remote.finish()?;
        let output = ours.try_clone();
        let output = output.map_err(|e| Error::os("read from its terminal", tid, e))?;
        let terminal = Terminal {
            master: ours,
            left: [text, &ENDS].concat(),
        };
        Ok((terminal, output))
    }

    /// Another descriptor of the master.
    pub fn master(&self) -> io::Result<File> {
        self.master.try_clone()
    }

    /// Types as much as the terminal takes; returns whether there is more to type.
    pub fn type_on(&mut self) -> bool {
        match self.master.write(&self.left) {
            Ok(n) => drop(self.left.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The terminal is closed.
            Err(_) => self.left.clear(),
        }
        !self.left.is_empty()
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

/// Sets the modes of a terminal, by its master.
fn settings(master: &File) -> io::Result<()> {
    let mut settings = tcgetattr(master)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(master, SetArg::TCSANOW, &settings)?;
    fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
