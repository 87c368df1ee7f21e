//! Copies of an input: the reader gets a pipe, and never the file itself, which it could open anew for writing.
//!
//! A thread hands on a part at a time, and the next one once the reader has taken the last. Files, pipes and sockets lose
//! only what the reader took: files are read without moving their offset until then, and pipes and sockets are looked
//! into before they are read. A terminal gives a line that nobody may read. The file's flags and modes stay as they are.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The bytes that are handed on at once: a page, the smallest capacity of a pipe.
const PART: usize = 4096;

/// The interval of looks where there is no event to wait for, in milliseconds.
const LOOK: u8 = 20;

/// The time for which the thread is waited for at the end. It only takes longer inside of a read that another reader of
/// the same terminal has left without data.
const PATIENCE: Duration = Duration::from_millis(500);

/// A copy that goes on until it is dropped.
#[derive(Debug)]
pub struct InputCopy {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl InputCopy {
    /// Starts to copy a file; returns the pipe from which the copy is read.
    ///
    /// # Errors
    /// If the pipes or the thread cannot be made.
    pub fn start(file: impl Into<OwnedFd>) -> io::Result<(PipeReader, InputCopy)> {
        let (theirs, ours) = io::pipe()?;
        // With room for one part, a pipe can be written to exactly when it is empty.
        _ = fcntl(&ours, FcntlArg::F_SETPIPE_SZ(PART as i32));
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (stopped, stop) = io::pipe()?;
        let mut copier = Copier {
            source: Source::of(File::from(file.into()))?,
            pipe: File::from(OwnedFd::from(ours)),
            stopped,
        };
        let thread = std::thread::Builder::new().name("input".into());
        let thread = thread.spawn(move || {
            let ended = copier.run();
            tracing::debug!("the copy of the input ended: {ended:?}");
        })?;
        let copy = InputCopy {
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok((theirs, copy))
    }
}

impl Drop for InputCopy {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else {
            return;
        };
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(100));
        }
        if thread.is_finished() {
            _ = thread.join();
        }
    }
}

struct Copier {
    source: Source,
    pipe: File,
    /// Its other end is closed at the end of the copy.
    stopped: PipeReader,
}

impl Copier {
    /// Copies until the source or the copy ends, or the reader is gone.
    fn run(&mut self) -> io::Result<()> {
        let ended = self.copy();
        let left = unread(&self.pipe).unwrap_or(0);
        self.source.end(left)?;
        ended
    }

    fn copy(&mut self) -> io::Result<()> {
        while self.is_taken()? {
            self.source.taken()?;
            if !self.has_data()? {
                break;
            }
            match self.source.hand_on(&self.pipe) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if is_for_later(&e) => self.pause()?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits until the reader has taken all; `false` where it is gone, or the copy ends.
    fn is_taken(&self) -> io::Result<bool> {
        loop {
            let mut asked = [
                PollFd::new(self.pipe.as_fd(), PollFlags::POLLOUT),
                PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            ];
            wait(&mut asked, PollTimeout::NONE)?;
            let [pipe, stopped] = asked;
            let gone = pipe.revents().unwrap_or(PollFlags::POLLERR);
            if stopped.any().unwrap_or(true) || gone.intersects(PollFlags::POLLERR) {
                return Ok(false);
            }
            if unread(&self.pipe)? == 0 {
                return Ok(true);
            }
            // The reader has made the pipe larger.
            self.pause()?;
        }
    }

    /// Waits for data, or for the end of them; `false` where the reader is gone, or the copy ends.
    fn has_data(&self) -> io::Result<bool> {
        loop {
            let mut asked = [
                PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.pipe.as_fd(), PollFlags::empty()),
                PollFd::new(self.source.file.as_fd(), PollFlags::POLLIN),
            ];
            // A terminal's data are its foreground processes': the kernel stops other readers.
            let ours = self.source.is_ours();
            let (asked, timeout) = match ours {
                true => (&mut asked[..], PollTimeout::NONE),
                false => (&mut asked[..2], PollTimeout::from(LOOK)),
            };
            wait(asked, timeout)?;
            if asked[..2].iter().any(|fd| fd.any().unwrap_or(true)) {
                return Ok(false);
            }
            if ours && asked[2].any().unwrap_or(true) {
                return Ok(true);
            }
        }
    }

    /// Waits for a moment.
    fn pause(&self) -> io::Result<()> {
        let mut asked = [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        wait(&mut asked, PollTimeout::from(LOOK))
    }
}

fn wait(asked: &mut [PollFd<'_>], timeout: PollTimeout) -> io::Result<()> {
    match poll(asked, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The number of bytes in a pipe.
fn unread(pipe: &File) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, which lives for the call.
    match unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) } {
        0 => Ok(usize::try_from(count).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The way in which a file is read without taking more of it than is handed on.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// A regular file: read at this offset.
    At(u64),
    /// A pipe: its data are duplicated, and dropped later.
    Pipe,
    /// A socket, the same.
    Socket,
    /// A terminal.
    Terminal,
    /// All others: read as they are.
    Other,
}

#[derive(Debug)]
struct Source {
    file: File,
    way: Way,
    /// The bytes that were handed on and are still in the file.
    lent: usize,
}

impl Source {
    fn of(mut file: File) -> io::Result<Source> {
        let meta = file.metadata()?;
        let kind = meta.file_type();
        let way = if kind.is_file() {
            Way::At(file.stream_position()?)
        } else if kind.is_fifo() {
            Way::Pipe
        } else if kind.is_socket() {
            Way::Socket
        } else if nix::unistd::isatty(&file).unwrap_or(false) {
            if let Some(own) = reopened_terminal(&file, meta.rdev()) {
                file = own;
            }
            Way::Terminal
        } else {
            Way::Other
        };
        Ok(Source { file, way, lent: 0 })
    }

    /// Whether its data are for this process.
    fn is_ours(&self) -> bool {
        if self.way != Way::Terminal {
            return true;
        }
        // It is not this process's terminal where there is an error, and any process may read it then.
        let foreground = nix::unistd::tcgetpgrp(&self.file);
        foreground.map_or(true, |group| group == nix::unistd::getpgrp())
    }

    /// Writes the next part to an empty pipe; returns its length, 0 at the end.
    fn hand_on(&mut self, pipe: &File) -> io::Result<usize> {
        let mut part = [0; PART];
        let read = match self.way {
            Way::Pipe => {
                let n = tee(&self.file, pipe, PART, SpliceFFlags::SPLICE_F_NONBLOCK)?;
                self.lent = n;
                return Ok(n);
            }
            Way::At(offset) => self.file.read_at(&mut part, offset)?,
            Way::Socket => {
                let how = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
                recv(self.file.as_raw_fd(), &mut part, how)?
            }
            Way::Terminal | Way::Other => self.file.read(&mut part)?,
        };
        let n = match read {
            0 => 0,
            read => (&*pipe).write(&part[..read])?,
        };
        self.lent = n;
        Ok(n)
    }

    /// Drops what was handed on from the file.
    fn taken(&mut self) -> io::Result<()> {
        let lent = std::mem::take(&mut self.lent);
        self.skip(lent)
    }

    /// The same at the end, when the reader has left this many bytes in the pipe; a file gets its new offset.
    fn end(&mut self, left: usize) -> io::Result<()> {
        let taken = std::mem::take(&mut self.lent).saturating_sub(left);
        self.skip(taken)?;
        if let Way::At(offset) = self.way {
            self.file.seek(SeekFrom::Start(offset))?;
        }
        Ok(())
    }

    fn skip(&mut self, mut n: usize) -> io::Result<()> {
        let mut nowhere = None;
        while n > 0 {
            let dropped = match &mut self.way {
                Way::At(offset) => {
                    *offset += n as u64;
                    n
                }
                Way::Pipe => {
                    let nowhere = match &nowhere {
                        Some(open) => open,
                        None => nowhere.insert(File::options().write(true).open("/dev/null")?),
                    };
                    let how = SpliceFFlags::SPLICE_F_NONBLOCK;
                    splice(&self.file, None, nowhere, None, n, how)?
                }
                Way::Socket => {
                    let mut part = [0; PART];
                    let len = n.min(PART);
                    let how = MsgFlags::MSG_DONTWAIT;
                    recv(self.file.as_raw_fd(), &mut part[..len], how)?
                }
                Way::Terminal | Way::Other => n,
            };
            if dropped == 0 {
                break;
            }
            n = n.saturating_sub(dropped);
        }
        Ok(())
    }
}

/// A terminal, opened again: its reads can be made not to block without changing those of others. `None` where it
/// cannot be, and for a master, of which a new one would be made.
fn reopened_terminal(file: &File, device: u64) -> Option<File> {
    const ALTERNATIVE_TTY: u32 = 5;
    if libc::major(device) == ALTERNATIVE_TTY {
        return None;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let own = File::options().read(true).custom_flags(flags).open(path);
    own.ok()
        .filter(|own| own.metadata().is_ok_and(|meta| meta.rdev() == device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &mut PipeReader, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What is left in a file, after a reader of a copy has taken `len` bytes of it.
    fn left_after(source: impl Into<OwnedFd>, len: usize) -> (Vec<u8>, File) {
        let source = File::from(source.into());
        let (mut reader, copy) = InputCopy::start(source.try_clone().unwrap()).unwrap();
        let taken = read(&mut reader, len);
        drop(copy);
        (taken, source)
    }

    fn text() -> Vec<u8> {
        (0..10_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_file_keeps_what_the_reader_did_not_take() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&text()).unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        let (taken, mut file) = left_after(file, 9_001);
        assert_eq!(taken, text()[4..9_005]);
        assert_eq!(file.stream_position().unwrap(), 9_005);
    }

    #[test]
    fn a_pipe_keeps_what_the_reader_did_not_take() {
        for len in [1, 4_096, 9_001] {
            let (pipe, mut writer) = io::pipe().unwrap();
            writer.write_all(&text()).unwrap();
            drop(writer);
            let (taken, mut pipe) = left_after(pipe, len);
            assert_eq!(taken, text()[..len]);
            let mut rest = Vec::new();
            pipe.read_to_end(&mut rest).unwrap();
            assert!(rest == text()[len..], "{} bytes are left", rest.len());
        }
    }

    #[test]
    fn a_socket_keeps_what_the_reader_did_not_take() {
        let (socket, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.write_all(&text()).unwrap();
        drop(writer);
        let (taken, mut socket) = left_after(socket, 5_000);
        assert_eq!(taken, text()[..5_000]);
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        assert!(rest == text()[5_000..], "{} bytes are left", rest.len());
    }

    #[test]
    fn the_end_is_copied() {
        let (pipe, mut writer) = io::pipe().unwrap();
        let (mut reader, copy) = InputCopy::start(pipe).unwrap();
        writer.write_all(b"late").unwrap();
        assert_eq!(read(&mut reader, 4), b"late");
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(copy);
    }

    #[test]
    fn a_copy_of_an_input_without_data_ends() {
        let (pipe, writer) = io::pipe().unwrap();
        let (_reader, copy) = InputCopy::start(pipe).unwrap();
        drop(copy);
        drop(writer);
    }

    #[test]
    fn a_reader_that_makes_the_pipe_larger_gets_each_byte_once() {
        let (pipe, mut writer) = io::pipe().unwrap();
        let (mut reader, copy) = InputCopy::start(pipe).unwrap();
        fcntl(&reader, FcntlArg::F_SETPIPE_SZ(1 << 16)).unwrap();
        writer.write_all(&text()).unwrap();
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == text());
        drop(copy);
    }
}
