//! timerfd_create(2): a timer whose expirations are read.

use super::call_data::moved;
use super::clock::{Clock, read_itimerspec};
use super::timer::Timer;
use crate::recording::CallEvent;
use crate::syscall::Moved;

/// The state of a timerfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timerfd {
    /// Its timer.
    pub timer: Timer,
}

impl Timerfd {
    /// The timerfd that a call made.
    pub(super) fn new(call: &CallEvent) -> Timerfd {
        Timerfd {
            timer: Timer::new(call.args[0] as i32),
        }
    }

    /// Follows a call on it.
    pub(super) fn follow(&mut self, call: &CallEvent, now: &Clock) {
        if i64::from(call.nr) == libc::SYS_timerfd_settime {
            let absolute = call.args[1] as i32 & libc::TFD_TIMER_ABSTIME != 0;
            let setting = read_itimerspec(call, call.args[2], 1).unwrap_or_default();
            self.timer.set(setting, absolute, now);
        }
    }

    /// Follows a read: the data is the number of expirations.
    pub(super) fn read(&mut self, call: &CallEvent) {
        let data = moved(call, Moved::Out);
        let count = data.first_chunk().map(|&n| u64::from_le_bytes(n));
        self.timer.expired(count.unwrap_or(1));
    }
}
