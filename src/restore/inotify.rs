//! inotify(7), with its watches.

use super::{Description, Restorer, Result};
use crate::kernel::{Inotify, Watch};
use crate::tracee::checked_open::Found;

impl Restorer<'_, '_> {
    /// Makes an inotify instance in the process; returns its descriptor.
    pub(super) fn make_inotify(
        &mut self,
        description: &Description<'_>,
        inotify: &Inotify,
    ) -> Result<u64> {
        let what = "make an inotify instance in it";
        let args = [libc::O_NONBLOCK as u64, 0, 0, 0, 0, 0];
        let got = self.remote.must(what, libc::SYS_inotify_init1, args)?;
        self.add_watches(description, got, &inotify.watches)?;
        let status = description.nonblocking();
        let args = [got, libc::F_SETFL as u64, status, 0, 0, 0];
        self.remote.call(libc::SYS_fcntl, args)?;
        Ok(got)
    }

    /// Watches the same paths by the same watch descriptors.
    fn add_watches(
        &mut self,
        description: &Description<'_>,
        fd: u64,
        watches: &[Watch],
    ) -> Result<()> {
        /// Watch descriptors up to this one are skipped where the program had removed them.
        const MOST: i32 = 1024;
        let mut watches: Vec<&Watch> = watches.iter().collect();
        watches.sort_by_key(|watch| watch.wd);
        let mut next = 1;
        for watch in watches {
            while next < watch.wd && next < MOST {
                // An event that does not happen here.
                next = self.add_watch(fd, b"/", libc::IN_MOVE_SELF)? + 1;
                let args = [fd, (next - 1) as u64, 0, 0, 0, 0];
                self.remote.call(libc::SYS_inotify_rm_watch, args)?;
                if next < 1 {
                    break;
                }
            }
            let path = String::from_utf8_lossy(&watch.path);
            match self.add_watch(fd, &watch.path, watch.mask)? {
                wd if wd == watch.wd => next = wd + 1,
                wd if wd < 0 => {
                    self.report_lost(description, &format!("{path} cannot be watched again"))
                }
                wd => {
                    next = wd + 1;
                    self.report_lost(
                        description,
                        &format!("the watch of {path} has another number"),
                    );
                }
            }
        }
        // Removed watches have left events.
        self.remote.reset_scratch();
        let at = self.remote.put(&[0; 4096])?;
        while self.remote.call(libc::SYS_read, [fd, at, 4096, 0, 0, 0])? > 0 {}
        Ok(())
    }

    /// Watches a regular file, a directory, or a symbolic link itself; returns the watch descriptor or a negative errno.
    fn add_watch(&mut self, fd: u64, path: &[u8], mask: u32) -> Result<i32> {
        const KINDS: [u32; 3] = [libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK];
        let follows = mask & libc::IN_DONT_FOLLOW == 0;
        let found = match Found::at(&mut self.remote, path, follows)? {
            Ok(found) => found,
            Err(error) => return Ok(-error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut got = -libc::EINVAL;
        if KINDS.iter().any(|&kind| found.is(kind)) {
            let at = found.link(&mut self.remote)?;
            let args = [fd, at, (mask & !libc::IN_DONT_FOLLOW).into(), 0, 0, 0];
            got = self.remote.call(libc::SYS_inotify_add_watch, args)? as i32;
        }
        found.forget(&mut self.remote)?;
        Ok(got)
    }
}
