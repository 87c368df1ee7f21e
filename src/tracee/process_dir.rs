//! The directory of a process in `/proc`, held open: it never is that of another process with the same number.

use super::proc;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// The open directory of a process. Its files cannot be read any more once the process has been reaped.
#[derive(Debug)]
pub struct ProcessDir(File);

impl ProcessDir {
    /// Opens the directory of a process.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn open(pid: i32) -> io::Result<ProcessDir> {
        File::open(format!("/proc/{pid}")).map(ProcessDir)
    }

    /// The path of a file or directory in it, valid while this is open.
    pub fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }

    /// Reads a file. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// If the process has been reaped, or the kernel refuses.
    pub fn read(&self, name: &str) -> io::Result<String> {
        let bytes = proc::read_file(self.path(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Kills the process (pidfd_send_signal(2), which takes such a directory). Nothing happens if it has ended.
    pub fn kill(&self) {
        // SAFETY: the descriptor is ours, and there is no siginfo.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_read_and_killed_through_its_directory() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let dir = ProcessDir::open(child.id() as i32).unwrap();
        assert!(dir.read("status").unwrap().starts_with("Name:\t"));
        dir.kill();
        let status = child.wait().unwrap();
        assert!(!status.success());
        dir.kill();
        assert!(dir.read("status").is_err());
        assert!(ProcessDir::open(child.id() as i32).is_err());
    }
}
