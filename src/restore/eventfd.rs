//! eventfd(2), with its count.

use super::{Description, Restorer, Result, words};
use crate::kernel::Eventfd;

impl Restorer<'_, '_> {
    /// Makes an eventfd in the process; returns its descriptor.
    pub(super) fn make_eventfd(
        &mut self,
        description: &Description<'_>,
        eventfd: &Eventfd,
    ) -> Result<u64> {
        let semaphore = match eventfd.semaphore {
            true => libc::EFD_SEMAPHORE as u64,
            false => 0,
        };
        let args = [0, description.nonblocking() | semaphore, 0, 0, 0, 0];
        let what = "make a counter in it";
        let got = self.remote.must(what, libc::SYS_eventfd2, args)?;
        if eventfd.count > 0 {
            let at = self.remote.put(&words(&[eventfd.count]))?;
            self.remote.call(libc::SYS_write, [got, at, 8, 0, 0, 0])?;
        }
        Ok(got)
    }
}
