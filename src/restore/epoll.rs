//! epoll(7), with its interest list.

use super::{Description, Restorer, Result};
use crate::kernel::{Epoll, Interest};

impl<'a> Restorer<'a, '_> {
    /// Makes an epoll instance in the process; returns its descriptor.
    pub(super) fn make_epoll(
        &mut self,
        description: &Description<'_>,
        epoll: &Epoll,
    ) -> Result<u64> {
        self.epolls.push((description.fd, epoll.interests.clone()));
        let what = "make an epoll set in it";
        Ok(self.remote.must(what, libc::SYS_epoll_create1, [0; 6])?)
    }

    /// Fills the interest lists, once all descriptors are there.
    pub(super) fn fill_interest_lists(&mut self, descriptions: &[Description<'a>]) -> Result<()> {
        for (epoll, interests) in std::mem::take(&mut self.epolls) {
            for interest in interests {
                if let Some(description) = descriptions.iter().find(|d| d.id == interest.file) {
                    self.add_interest(epoll, interest, description)?;
                }
            }
        }
        Ok(())
    }

    fn add_interest(
        &mut self,
        epoll: i32,
        interest: Interest,
        description: &Description<'_>,
    ) -> Result<()> {
        let fd = interest.fd;
        let is_open =
            description.fd == fd || description.duplicates.iter().any(|&(other, _)| other == fd);
        if !is_open {
            // The descriptor by which it was added has been closed, and may be another file's.
            if self.state.descriptors.get(fd).is_some() {
                return Ok(());
            }
            let args = [description.fd as u64, fd as u64, 0, 0, 0, 0];
            self.remote.call(libc::SYS_dup3, args)?;
        }
        let mut event = interest.events.to_le_bytes().to_vec();
        event.extend(interest.data.to_le_bytes());
        self.remote.reset_scratch();
        let at = self.remote.put(&event)?;
        let add = libc::EPOLL_CTL_ADD as u64;
        let args = [epoll as u64, add, fd as u64, at, 0, 0];
        // The file that stands for the program's may not support epoll.
        if self.remote.call(libc::SYS_epoll_ctl, args)? < 0 {
            let what = String::from_utf8_lossy(&description.file.path);
            self.report_missing(format!(
                "descriptor {epoll} (epoll): it cannot watch descriptor {fd} ({what}) again"
            ));
        }
        if !is_open {
            self.remote
                .call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
        }
        Ok(())
    }
}
