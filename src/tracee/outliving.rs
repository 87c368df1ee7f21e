//! A process that outlives rrapper, to remove directories that nothing else would remove after a SIGKILL.

use super::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::ffi::CString;
use std::io::{PipeWriter, Write, pipe};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

/// The time between attempts, and their number: processes that are being killed are in a control group until their end.
const NAP: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
const ATTEMPTS: u32 = 10_000;

/// The attempts to see its end, with the same time between them, when this process exits.
const ENDS: u32 = 20;

/// A process that removes directories when this process ends, in any way.
#[derive(Debug)]
pub struct Remover {
    pid: i32,
    sign: PipeWriter,
}

/// That which ends with this process.
static OF_EXIT: Mutex<Option<Remover>> = Mutex::new(None);

impl Remover {
    /// Starts it. The directories need not be there yet, nor at the end; one that is in use is removed once it is not any
    /// more.
    ///
    /// # Errors
    /// If no process can be made.
    pub fn start(dirs: &[CString]) -> Result<Remover> {
        let (end, sign) = pipe().map_err(|e| Error::os("make a pipe", 0, e))?;
        let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let mask = blocked.map_err(|e| Error::os("block signals", 0, e))?;
        // SAFETY: the child makes only calls that are safe after a fork of a process with threads.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: this is the child; `dirs` lives on in its copy of the memory.
            unsafe { wait_and_remove(end.as_raw_fd(), dirs) };
        }
        let failed = (pid < 0).then(|| Error::last("make a process", 0));
        mask.thread_set_mask()
            .map_err(|e| Error::os("unblock signals", 0, e))?;
        failed.map_or(Ok(Remover { pid, sign }), Err)
    }

    /// Leaves it to work at the exit of this process.
    pub fn keep(self) {
        let mut kept = OF_EXIT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.replace(self).is_none() {
            // SAFETY: the function is there until the end.
            unsafe { libc::atexit(end_kept) };
        }
    }
}

extern "C" fn end_kept() {
    if let Ok(mut kept) = OF_EXIT.try_lock() {
        drop(kept.take());
    }
}

impl Drop for Remover {
    /// Has it remove the directories, and waits for its end unless that takes long: processes that end with this one may
    /// use them.
    fn drop(&mut self) {
        for i in 0..ENDS {
            let nap = NAP;
            // SAFETY: waitpid(2) for a child of ours, and nanosleep(2), with values that live for the calls.
            unsafe {
                let flags = libc::__WALL | libc::WNOHANG;
                if libc::waitpid(self.pid, std::ptr::null_mut(), flags) != 0 {
                    break;
                }
                if i == 0 {
                    _ = self.sign.write(b"e");
                }
                libc::nanosleep(&raw const nap, std::ptr::null_mut());
            }
        }
    }
}

/// The process: it has no terminal, no files of rrapper's, and all signals blocked.
///
/// # Safety
/// To be called in a process with a single thread, which it ends. It only makes calls that are safe after a fork.
unsafe fn wait_and_remove(end: i32, dirs: &[CString]) {
    // SAFETY: plain calls with numbers, with a buffer and texts that live for the call.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::prctl(libc::PR_SET_NAME, c"rrapper-remover".as_ptr());
        libc::dup2(end, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        let mut byte = 0_u8;
        // A byte, or the end of all that could write one.
        libc::read(0, (&raw mut byte).cast(), 1);
        for _ in 0..ATTEMPTS {
            let mut is_busy = false;
            for dir in dirs {
                is_busy |=
                    libc::rmdir(dir.as_ptr()) != 0 && *libc::__errno_location() == libc::EBUSY;
            }
            if !is_busy {
                break;
            }
            let nap = NAP;
            libc::nanosleep(&raw const nap, std::ptr::null_mut());
        }
        libc::_exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::time::{Duration, Instant};

    #[test]
    fn directories_are_removed_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let texts = paths
            .each_ref()
            .map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
        let remover = Remover::start(&texts).unwrap();
        std::fs::create_dir(&paths[0]).unwrap();
        assert!(paths[0].exists());
        drop(remover);
        let begun = Instant::now();
        while paths[0].exists() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
