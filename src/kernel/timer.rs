//! Timers of timerfd_create(2), timer_create(2) and setitimer(2): when they expire next, as far as calls tell.

use super::clock::Clock;
use super::memory::read_u32;
use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use crate::syscall::Memory;

/// A timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// The clock that measures its time: `CLOCK_*`.
    pub clock: i32,
    /// The first expiration; `None` where the timer is disarmed.
    first: Option<Expiration>,
    /// The time between later expirations, in nanoseconds; 0 for none.
    interval: u64,
    /// The expirations that the program has seen.
    seen: u64,
}

/// The time of an expiration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiration {
    /// Nanoseconds since the recording began.
    SinceStart(u64),
    /// A time of the timer's clock, in nanoseconds.
    OnClock(u64),
}

/// The setting of an armed timer, as timer_gettime(2) has it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSetting {
    /// The time until the next expiration; at least 1.
    pub value: u64,
    /// The time between later expirations; 0 for none.
    pub interval: u64,
}

impl Timer {
    /// A disarmed timer of this clock.
    pub(super) fn new(clock: i32) -> Timer {
        Timer {
            clock,
            ..Timer::default()
        }
    }

    /// Follows a setting: interval and value of `struct itimerspec` or `struct itimerval`, in nanoseconds.
    pub(super) fn set(&mut self, (interval, value): (u64, u64), absolute: bool, now: &Clock) {
        self.interval = interval;
        self.seen = 0;
        self.first = match (value, absolute) {
            (0, _) => None,
            (_, true) => Some(Expiration::OnClock(value)),
            (_, false) => {
                let at = now.since_start().saturating_add(value);
                Some(Expiration::SinceStart(at))
            }
        };
    }

    /// Follows expirations that the program has seen.
    pub(super) fn expired(&mut self, count: u64) {
        self.seen = self.seen.saturating_add(count);
        if self.interval == 0 {
            self.first = None;
        }
    }

    /// The setting at a time; `None` where the timer is disarmed.
    pub fn setting(&self, now: &Clock) -> Option<TimerSetting> {
        let first = match self.first? {
            Expiration::SinceStart(at) => at,
            Expiration::OnClock(at) => now.time_of(self.clock, at).unwrap_or(0),
        };
        let next = first.saturating_add(self.seen.saturating_mul(self.interval));
        Some(TimerSetting {
            value: next.saturating_sub(now.since_start()).max(1),
            interval: self.interval,
        })
    }
}

/// A timer of timer_create(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PosixTimer {
    /// The notification: a `struct sigevent`; `None` for SIGALRM.
    pub event: Option<Vec<u8>>,
    /// Its setting.
    pub timer: Timer,
}

impl PosixTimer {
    /// The timer that timer_create(2) made, and its ID.
    pub(super) fn new(call: &CallEvent) -> Option<(i32, PosixTimer)> {
        let [clock, sigevent, id, ..] = call.args;
        let left = LeftMemory {
            ins: &call.ins,
            outs: &call.outs,
        };
        let mut event = vec![0; 64];
        let n = ChunkMemory(&call.ins).read(sigevent, &mut event);
        event.truncate(n);
        let timer = PosixTimer {
            event: Some(event).filter(|event| sigevent != 0 && event.len() >= 16),
            timer: Timer::new(clock as i32),
        };
        Some((read_u32(&left, id)? as i32, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_go_on_from_what_was_seen_of_them() {
        let mut timer = Timer::new(libc::CLOCK_REALTIME);
        let left = |timer: &Timer, now| timer.setting(&Clock::at(now)).map(|setting| setting.value);
        timer.set((0, 50), false, &Clock::at(100));
        assert_eq!((left(&timer, 120), left(&timer, 200)), (Some(30), Some(1)));
        timer.expired(1);
        assert_eq!(left(&timer, 120), None);
        timer.set((10, 50), false, &Clock::at(100));
        timer.expired(2);
        assert_eq!(left(&timer, 161), Some(9));
        timer.set((0, 1300), true, &Clock::at(100));
        assert_eq!(left(&timer, 100), Some(200));
        timer.set((5, 0), false, &Clock::at(100));
        assert_eq!(left(&timer, 100), None);
    }
}
