//! What has no name: counters, timers, signal descriptors, epoll sets, inotify instances.

use super::gifts::words;
use super::{Group, Result, Work};
use crate::kernel::{Armed, Member, Thing, Watch};

impl<'a> Work<'a> {
    /// Makes one in the process; whether it is of a kind that can be made.
    pub(super) fn make_thing(&mut self, group: &Group<'a>) -> Result<bool> {
        let thing = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.thing(group.id));
        let Some(thing) = thing.cloned() else {
            return Ok(false);
        };
        let nonblocking = (group.file.flags & libc::O_NONBLOCK) as u64;
        self.remote.reset_scratch();
        let got = match &thing {
            Thing::Counter { count, semaphore } => {
                let kind = if *semaphore { libc::EFD_SEMAPHORE } else { 0 } as u64;
                let args = [0, nonblocking | kind, 0, 0, 0, 0];
                let got = self.must("make a counter in it", libc::SYS_eventfd2, args)?;
                if *count > 0 {
                    let at = self.remote.put(&words(&[*count]))?;
                    let args = [got, at, 8, 0, 0, 0];
                    self.remote.call(libc::SYS_write, args)?;
                }
                got
            }
            Thing::Timer(timer) => {
                let clock = timer.clock as u64;
                let mut args = [clock, nonblocking, 0, 0, 0, 0];
                // Waking the machine needs a privilege.
                let got = match self.remote.call(libc::SYS_timerfd_create, args)? {
                    got @ 0.. => got as u64,
                    _ => {
                        args[0] = libc::CLOCK_MONOTONIC as u64;
                        self.must("make a timer in it", libc::SYS_timerfd_create, args)?
                    }
                };
                let now = self.kernel.as_ref().map(|kernel| *kernel.clock());
                if let Some(armed) = now.and_then(|now| timer.armed(&now)) {
                    self.restored.timers.files.push((group.fd, armed));
                }
                got
            }
            Thing::Signals(mask) => {
                let at = self.remote.put(&words(&[*mask]))?;
                let args = [-1i64 as u64, at, 8, nonblocking, 0, 0];
                self.must("make a signal descriptor in it", libc::SYS_signalfd4, args)?
            }
            Thing::Poll(members) => {
                self.sets.push((group.fd, members.clone()));
                let what = "make an epoll set in it";
                self.must(what, libc::SYS_epoll_create1, [0; 6])?
            }
            Thing::Watches(watches) => {
                let args = [libc::O_NONBLOCK as u64, 0, 0, 0, 0, 0];
                let what = "make an inotify instance in it";
                let got = self.must(what, libc::SYS_inotify_init1, args)?;
                self.watch(group, got, watches)?;
                let args = [got, libc::F_SETFL as u64, nonblocking, 0, 0, 0];
                self.remote.call(libc::SYS_fcntl, args)?;
                got
            }
            Thing::Socket(_) | Thing::Pipe(_) | Thing::Memory(_) => return Ok(false),
        };
        self.place(got, group)?;
        Ok(true)
    }

    fn must(&mut self, what: &str, nr: i64, args: [u64; 6]) -> Result<u64> {
        Ok(self.remote.must(what, nr, args)?)
    }

    /// Watches the same paths by the same numbers.
    fn watch(&mut self, group: &Group<'_>, fd: u64, watches: &[Watch]) -> Result<()> {
        /// Numbers that are left out are made and given up, up to so many.
        const MOST: i32 = 1024;
        let mut watches: Vec<&Watch> = watches.iter().collect();
        watches.sort_by_key(|watch| watch.wd);
        let mut next = 1;
        for watch in watches {
            while next < watch.wd && next < MOST {
                // A mask that nothing fulfils here.
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
                wd if wd < 0 => self.lost(group, &format!("{path} cannot be watched again")),
                wd => {
                    next = wd + 1;
                    self.lost(group, &format!("the watch of {path} has another number"));
                }
            }
        }
        // What was given up has left messages.
        self.remote.reset_scratch();
        let at = self.remote.put(&[0; 4096])?;
        while self.remote.call(libc::SYS_read, [fd, at, 4096, 0, 0, 0])? > 0 {}
        Ok(())
    }

    fn add_watch(&mut self, fd: u64, path: &[u8], mask: u32) -> Result<i32> {
        self.remote.reset_scratch();
        let Ok(at) = self.remote.put_str(path) else {
            return Ok(-libc::ENAMETOOLONG);
        };
        let args = [fd, at, mask.into(), 0, 0, 0];
        Ok(self.remote.call(libc::SYS_inotify_add_watch, args)? as i32)
    }

    /// Adds to epoll sets what they watch, once it is all there.
    pub(super) fn fill_sets(&mut self, groups: &[Group<'a>]) -> Result<()> {
        for (set, members) in std::mem::take(&mut self.sets) {
            for member in members {
                let group = groups.iter().find(|group| group.id == member.file);
                let Some(group) = group else { continue };
                self.add_member(set, member, group)?;
            }
        }
        Ok(())
    }

    fn add_member(&mut self, set: i32, member: Member, group: &Group<'_>) -> Result<()> {
        let fd = member.fd;
        let own = group.fd == fd || group.twins.iter().any(|twin| twin.0 == fd);
        if !own {
            // It was added by a number that is closed by now, or another file's.
            if self.state.table.get(fd).is_some() {
                return Ok(());
            }
            let args = [group.fd as u64, fd as u64, 0, 0, 0, 0];
            self.remote.call(libc::SYS_dup3, args)?;
        }
        let mut event = member.events.to_le_bytes().to_vec();
        event.extend(member.data.to_le_bytes());
        self.remote.reset_scratch();
        let at = self.remote.put(&event)?;
        let add = libc::EPOLL_CTL_ADD as u64;
        let args = [set as u64, add, fd as u64, at, 0, 0];
        // Files that cannot be waited for stand for some that can.
        if self.remote.call(libc::SYS_epoll_ctl, args)? < 0 {
            let what = String::from_utf8_lossy(&group.file.path);
            self.miss(format!(
                "descriptor {set} (epoll): it cannot watch descriptor {fd} ({what}) again"
            ));
        }
        if !own {
            self.remote
                .call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
        }
        Ok(())
    }
}

/// What a timer is set to: `struct itimerspec` (unit 1) or `struct itimerval` (unit 1000).
pub(super) fn setting(armed: Armed, unit: u64) -> Vec<u8> {
    const SECOND: u64 = 1_000_000_000;
    let time = |ns: u64| [ns / SECOND, ns % SECOND / unit];
    let [is, ir] = time(armed.interval);
    // What is left is more than nothing.
    let [s, r] = time(armed.left.max(unit));
    words(&[is, ir, s, r])
}
