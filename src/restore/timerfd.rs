//! timerfd_create(2). Its timer is set with all other timers of the process: see [`Timers`](super::Timers).

use super::{Description, Restorer, Result};
use crate::kernel::Timerfd;

impl Restorer<'_, '_> {
    /// Makes a timerfd in the process; returns its descriptor.
    pub(super) fn make_timerfd(
        &mut self,
        description: &Description<'_>,
        timerfd: &Timerfd,
    ) -> Result<u64> {
        let timer = timerfd.timer;
        let mut args = [timer.clock as u64, description.nonblocking(), 0, 0, 0, 0];
        // Waking the machine needs a privilege.
        let got = match self.remote.call(libc::SYS_timerfd_create, args)? {
            got @ 0.. => got as u64,
            _ => {
                args[0] = libc::CLOCK_MONOTONIC as u64;
                let what = "make a timer in it";
                self.remote.must(what, libc::SYS_timerfd_create, args)?
            }
        };
        let now = self.kernel.as_ref().map(|kernel| *kernel.clock());
        if let Some(setting) = now.and_then(|now| timer.setting(&now)) {
            self.restored
                .timers
                .timerfds
                .push((description.fd, setting));
        }
        Ok(got)
    }
}
