//! Data that a call transfers inside the kernel (sendfile, copy_file_range, splice, tee): to a standard stream, where replay
//! has to print it, or from a pipe to a file, whose content it is. Data from a file is read from the file afterwards. Data in a pipe or a socket is peeked before the
//! call, which then transfers at most that much; where there is no data yet, the task first waits in a call of
//! rrapper's.

use super::task::Task;
use super::{Recorder, Result};
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{Memory, Syscall};
use crate::tracee::{Error, Stopped, agent, proc, spawn};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};

/// The limit on the data of one call.
pub const MOST: u64 = 16 << 20;

/// The address of the `struct pollfd` of a wait, at the otherwise unused end of the agent's memory.
const POLLFD: u64 = agent::END - 16;

/// The source of the data.
pub enum Source {
    /// A file, from this offset on.
    File { fd: i32, offset: u64 },
    /// The data in a pipe or a socket.
    Waiting(Vec<u8>),
    /// A source that cannot be peeked.
    Other,
}

/// The preparation of a data transfer.
pub enum Before {
    /// Make the call, with at most so many bytes.
    Make(Source, u64),
    /// Wait for data in this descriptor.
    Wait(i32),
    /// Return EAGAIN.
    Again,
}

impl Source {
    /// The transferred bytes; `None` where they are unknown.
    pub fn read(self, tid: i32, len: usize) -> Result<Option<Vec<u8>>> {
        let (fd, offset) = match self {
            Source::File { fd, offset } => (fd, offset),
            Source::Waiting(mut data) => {
                let known = len <= data.len();
                data.truncate(len);
                return Ok(known.then_some(data));
            }
            Source::Other => return Ok((len == 0).then(Vec::new)),
        };
        let what = || format!("read what it copied from descriptor {fd}");
        let file =
            File::open(format!("/proc/{tid}/fd/{fd}")).map_err(|e| Error::os(what(), tid, e))?;
        let mut data = vec![0; len];
        file.read_exact_at(&mut data, offset)
            .map_err(|e| Error::os(what(), tid, e))?;
        Ok(Some(data))
    }
}

/// The arguments of a data transfer: the source, its optional offset, the destination.
fn ends(call: &Syscall) -> Option<(usize, Option<usize>, usize)> {
    Some(match call.name {
        "sendfile" => (1, Some(2), 0),
        "copy_file_range" | "splice" => (0, Some(1), 2),
        "tee" => (0, None, 1),
        _ => return None,
    })
}

impl Recorder {
    /// The preparation of a call at its entry, if it transfers data to a standard stream, or from a pipe to a file.
    pub(super) fn before_moving(
        &self,
        current: &Task,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<Option<Before>> {
        let Some((from, offset, to)) = ends(call) else {
            return Ok(None);
        };
        let (fd, to) = (event.args[from] as i32, event.args[to] as i32);
        let is_printed = self.family.output_stream(current.tid, to).is_some();
        let fills_file = || {
            let tree = self.family.open_file(current.tid, to);
            call.name == "splice" && tree.is_some_and(|file| file.path.starts_with(b"/"))
        };
        if !is_printed && !fills_file() {
            return Ok(None);
        }
        let most = call
            .size_arg()
            .map_or(MOST, |size| event.args[size].min(MOST));
        let kind = std::fs::metadata(format!("/proc/{}/fd/{fd}", current.tid));
        let Ok(kind) = kind.map(|meta| meta.file_type()) else {
            // The descriptor does not exist.
            return Ok(Some(Before::Make(Source::Other, most)));
        };
        if most > 0 && (kind.is_fifo() || kind.is_socket()) {
            let waits = flags(call, event) & libc::SPLICE_F_NONBLOCK == 0;
            return self.look_at_waiting(current, fd, most, waits).map(Some);
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Ok(Some(Before::Make(Source::Other, most)));
        }
        let mut explicit = [0; 8];
        let at = offset.map_or(0, |offset| event.args[offset]);
        let has = at != 0 && ChunkMemory(&event.ins).read(at, &mut explicit) == 8;
        let offset = match has {
            true => u64::from_le_bytes(explicit),
            false => proc::descriptor(current.tid, fd).map_or(0, |d| d.offset),
        };
        Ok(Some(Before::Make(Source::File { fd, offset }, most)))
    }

    /// Peeks at the data in a pipe or a socket, at most so many bytes.
    fn look_at_waiting(&self, current: &Task, fd: i32, most: u64, waits: bool) -> Result<Before> {
        let what = || format!("look at what waits in its descriptor {fd}");
        let failed = |e: nix::Error| Error::os(what(), current.tid, e);
        let Ok(file) = spawn::borrow_fd(current.pid, fd) else {
            // The call itself reports the error.
            return Ok(Before::Make(Source::Other, most));
        };
        let data = match file.metadata().map(|meta| meta.file_type().is_fifo()) {
            Ok(true) => look_into_pipe(&file, most as usize),
            _ => look_into_socket(&file, most as usize),
        };
        let data = data.map_err(failed)?;
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let len = data.len() as u64;
            return Ok(Before::Make(Source::Waiting(data), len));
        }
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO).map_err(failed)?;
        if ready[0].any() != Some(false) {
            // End of file, or an error.
            return Ok(Before::Make(Source::Waiting(Vec::new()), most));
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).map_err(failed)?);
        Ok(match waits && !flags.contains(OFlag::O_NONBLOCK) {
            true => Before::Wait(fd),
            false => Before::Again,
        })
    }
}

fn flags(call: &Syscall, event: &CallEvent) -> u32 {
    let arg = call.arg("flags").filter(|_| call.name != "copy_file_range");
    arg.map_or(0, |arg| event.args[arg] as u32)
}

/// At a call's entry: replaces the call by a wait for data in this descriptor.
pub fn wait(task: &mut Stopped, fd: i32) -> Result<()> {
    const FOR_EVER: u64 = u64::MAX;
    let mut pollfd = [0; 8];
    pollfd[..4].copy_from_slice(&fd.to_le_bytes());
    pollfd[4..6].copy_from_slice(&libc::POLLIN.to_le_bytes());
    task.memory().write(POLLFD, &pollfd)?;
    let mut regs = task.regs()?;
    regs.set_nr(libc::SYS_poll as u64);
    regs.set_args([POLLFD, 1, FOR_EVER, 0, 0, 0]);
    Ok(task.set_regs(&regs)?)
}

/// The data in a pipe, by tee(2) into another pipe; `None` where there is none.
fn look_into_pipe(file: &File, most: usize) -> nix::Result<Option<Vec<u8>>> {
    let pipe = std::io::pipe();
    let (mut out, into) =
        pipe.map_err(|e| nix::Error::try_from(e).unwrap_or(nix::Error::EMFILE))?;
    let size = fcntl(file, FcntlArg::F_GETPIPE_SZ)?;
    // If this pipe cannot be as large as the program's, less data is peeked.
    let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(size));
    let len = match tee(file, &into, most, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(len) => len,
        Err(nix::Error::EAGAIN) => return Ok(None),
        Err(error) => return Err(error),
    };
    drop(into);
    let mut data = Vec::with_capacity(len);
    let read = out.read_to_end(&mut data);
    Ok(read.is_ok().then_some(data))
}

/// The data in a socket; `None` where there is none, or it cannot be peeked.
fn look_into_socket(file: &File, most: usize) -> nix::Result<Option<Vec<u8>>> {
    const PIECE: usize = 1 << 20;
    let mut data = vec![0; most.min(PIECE)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let Ok(len) = recv(file.as_raw_fd(), &mut data, flags) else {
        return Ok(None);
    };
    data.truncate(len);
    Ok(Some(data))
}
