//! Passing descriptors to a process over a socket (`SCM_RIGHTS`).

use super::{Error, Remote, Result, spawn};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};

/// The most descriptors of one message (`SCM_MAX_FD` is 253).
const MOST: usize = 200;

/// A connected pair of sockets: one end here, the other in the process.
pub struct FileChannel {
    ours: File,
    theirs: u64,
}

/// Words as they lie in memory.
fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl FileChannel {
    /// Makes the pair. The process, which has no descriptor yet, has its end at `at`.
    ///
    /// # Errors
    /// If the kernel refuses, or the process is gone.
    pub fn open(remote: &mut Remote<'_>, at: i32) -> Result<FileChannel> {
        let pid = remote.memory().tid();
        remote.reset_scratch();
        let ends = remote.put(&[0; 8])?;
        let how = [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, ends];
        let args = [how[0], how[1], how[2], how[3], 0, 0];
        remote.must("make a socket in it", libc::SYS_socketpair, args)?;
        let ends = remote.memory().word(ends)?;
        let (one, other) = (ends & 0xffff_ffff, ends >> 32);
        // One of the two may be at the wanted number already.
        let wanted = at as u64;
        let (keep, give) = match wanted == other {
            true => (other, one),
            false => (one, other),
        };
        let ours = spawn::borrow_fd(pid, give as i32)?;
        let mut close = [give, give, 0, 0, 0, 0];
        if keep != wanted {
            let what = "move a socket in it";
            remote.must(what, libc::SYS_dup2, [keep, wanted, 0, 0, 0, 0])?;
            if keep + 1 == give {
                close[0] = keep;
            } else {
                remote.call(libc::SYS_close, [keep, 0, 0, 0, 0, 0])?;
            }
        }
        remote.call(libc::SYS_close_range, close)?;
        let theirs = wanted;
        Ok(FileChannel { ours, theirs })
    }

    /// Passes files; returns their descriptors in the process.
    ///
    /// # Errors
    /// If the kernel refuses, or the process is gone.
    pub fn pass(&self, remote: &mut Remote<'_>, files: &[&File]) -> Result<Vec<i32>> {
        let mut got = Vec::new();
        for some in files.chunks(MOST) {
            got.extend(self.pass_some(remote, some)?);
        }
        Ok(got)
    }

    fn pass_some(&self, remote: &mut Remote<'_>, files: &[&File]) -> Result<Vec<i32>> {
        const HEADER: usize = 16;
        let tid = remote.memory().tid();
        let numbers: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let fd = self.ours.as_raw_fd();
        let data = [IoSlice::new(b"!")];
        sendmsg::<()>(fd, &data, &rights, MsgFlags::empty(), None)
            .map_err(|e| Error::os("hand files to it", tid, std::io::Error::from(e)))?;
        remote.reset_scratch();
        let len = HEADER + (files.len() * 4).next_multiple_of(8);
        let control = remote.put(&vec![0; len])?;
        let byte = remote.put(&[0])?;
        let vector = remote.put(&words(&[byte, 1]))?;
        let message = words(&[0, 0, vector, 1, control, len as u64, 0]);
        let message = remote.put(&message)?;
        let what = "take over files in it";
        let args = [self.theirs, message, 0, 0, 0, 0];
        remote.must(what, libc::SYS_recvmsg, args)?;
        let mut came = vec![0; HEADER + files.len() * 4];
        remote.memory().read_exact(control, &mut came)?;
        let numbers = came[HEADER..].chunks_exact(4);
        let numbers = numbers.map(|n| i32::from_le_bytes([n[0], n[1], n[2], n[3]]));
        Ok(numbers.collect())
    }

    /// Closes the process's end.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn close(self, remote: &mut Remote<'_>) -> Result<()> {
        remote.call(libc::SYS_close, [self.theirs, 0, 0, 0, 0, 0])?;
        Ok(())
    }
}
