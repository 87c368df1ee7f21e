//! Path lookup as a task would do it, from its root directory and through symbolic links, without the task.

use super::proc;
use crate::trace::file_names;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The limit on symbolic links, as in the kernel.
const MOST_LINKS: usize = 40;

/// A task's root directory.
pub struct Root {
    tid: i32,
    dir: OwnedFd,
}

impl Root {
    /// The root of a task; `None` where the task does not exist any more.
    pub fn of(tid: i32) -> Option<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let path = format!("/proc/{tid}/root");
        let dir = nix::fcntl::open(path.as_str(), flags, Mode::empty()).ok()?;
        Some(Root { tid, dir })
    }

    /// The file at an absolute path, which is not opened (`O_PATH`); symbolic links are resolved, the last one only if
    /// `follows`. `None` where there is no file, or where the path leads through files that only the task has
    /// (`/proc/self`).
    pub fn find(&self, path: &[u8], follows: bool) -> Option<OwnedFd> {
        let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_NOFOLLOW, !follows);
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.dir, path, how).ok()
    }

    /// The path of the file that [`Root::find`] finds, without symbolic links.
    pub fn existing(&self, path: &[u8], follows: bool) -> Option<Vec<u8>> {
        let found = self.find(path, follows)?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        Some(link.into_os_string().into_vec())
    }

    /// Like [`Root::existing`], also for a file that does not exist yet.
    pub fn place(&self, path: &[u8], follows: bool) -> Option<Vec<u8>> {
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            if let Some(own) = self.own(&path) {
                return own;
            }
            if let Some(found) = self.existing(&path, follows) {
                return Some(found);
            }
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
            let at = path.iter().rposition(|&byte| byte == b'/')?;
            let (dir, name) = (path[..=at].to_vec(), path[at + 1..].to_vec());
            if matches!(name.as_slice(), b"" | b"." | b"..") {
                return None;
            }
            let dir = self.existing(&dir, true)?;
            let place = file_names::join(&dir, &name);
            if !follows {
                return Some(place);
            }
            // A dangling link.
            let inside = format!("/proc/{}/root", self.tid);
            let inside = [inside.as_bytes(), &place].concat();
            match std::fs::read_link(Path::new(OsStr::from_bytes(&inside))) {
                Ok(link) if link.is_absolute() => path = link.into_os_string().into_vec(),
                Ok(link) => path = [&dir, b"/".as_slice(), link.as_os_str().as_bytes()].concat(),
                Err(_) => return Some(place),
            }
        }
        None
    }

    /// Resolves files that only the task has: its descriptors by their names, and other files below `/proc/self`.
    fn own(&self, path: &[u8]) -> Option<Option<Vec<u8>>> {
        let path = file_names::normalize(path);
        let name = match path.as_slice() {
            b"/dev/stdin" => b"0".as_slice(),
            b"/dev/stdout" => b"1",
            b"/dev/stderr" => b"2",
            path => {
                let own = [b"/proc/self/".as_slice(), b"/proc/thread-self/"];
                if let Some(rest) = own.iter().find_map(|own| path.strip_prefix(*own)) {
                    match rest.strip_prefix(b"fd/") {
                        Some(name) => name,
                        None => return Some(None),
                    }
                } else {
                    path.strip_prefix(b"/dev/fd/")?
                }
            }
        };
        let fd = std::str::from_utf8(name).ok()?.parse().ok()?;
        Some(proc::fd_path(self.tid, fd).ok())
    }
}
