//! signalfd(2), with its mask.

use super::{Description, Restorer, Result, words};
use crate::kernel::Signalfd;

impl Restorer<'_, '_> {
    /// Makes a signalfd in the process; returns its descriptor.
    pub(super) fn make_signalfd(
        &mut self,
        description: &Description<'_>,
        signalfd: &Signalfd,
    ) -> Result<u64> {
        let at = self.remote.put(&words(&[signalfd.mask]))?;
        let args = [-1i64 as u64, at, 8, description.nonblocking(), 0, 0];
        let what = "make a signal descriptor in it";
        Ok(self.remote.must(what, libc::SYS_signalfd4, args)?)
    }
}
