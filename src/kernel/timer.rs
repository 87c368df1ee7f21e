//! Timers, and how much time has passed: as far as the calls tell, which are all that was recorded of it.

use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use crate::syscall::Memory;

const SECOND: u64 = 1_000_000_000;

/// A timer: of timerfd_create(2), timer_create(2) or setitimer(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// Which clock it goes by.
    pub clock: i32,
    /// When it expires first; `None` where it is not armed.
    first: Option<At>,
    /// The time between later expirations, in nanoseconds; 0 for none.
    interval: u64,
    /// The expirations that the program has seen.
    seen: u64,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nanoseconds since the recording began.
    Since(u64),
    /// Of the timer's own clock.
    Clock(u64),
}

/// How long an armed timer has still to go, and how often it goes on: both in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// Until it expires next; at least 1.
    pub left: u64,
    /// Between expirations; 0 for only one.
    pub interval: u64,
}

impl Timer {
    /// One by this clock, not armed.
    pub(super) fn new(clock: i32) -> Timer {
        Timer {
            clock,
            ..Timer::default()
        }
    }

    /// Sets it, as `struct itimerspec` or `struct itimerval` say: interval and value, in nanoseconds.
    pub(super) fn set(&mut self, (interval, value): (u64, u64), absolute: bool, now: &Clock) {
        self.interval = interval;
        self.seen = 0;
        self.first = match (value, absolute) {
            (0, _) => None,
            (_, true) => Some(At::Clock(value)),
            (_, false) => Some(At::Since(now.passed.saturating_add(value))),
        };
    }

    /// The program has seen so many expirations.
    pub(super) fn seen(&mut self, count: u64) {
        self.seen = self.seen.saturating_add(count);
        if self.interval == 0 {
            self.first = None;
        }
    }

    /// What is left of it, if it is armed.
    pub fn armed(&self, now: &Clock) -> Option<Armed> {
        let first = match self.first? {
            At::Since(at) => at,
            At::Clock(at) => now.since(self.clock, at).unwrap_or(0),
        };
        let next = first.saturating_add(self.seen.saturating_mul(self.interval));
        Some(Armed {
            left: next.saturating_sub(now.passed).max(1),
            interval: self.interval,
        })
    }
}

/// How much time has passed since the recording began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// In nanoseconds; never goes back.
    passed: u64,
    /// What these clocks showed when it began, once the program has asked: CLOCK_REALTIME and CLOCK_MONOTONIC.
    begun: [Option<u64>; 2],
}

impl Clock {
    fn kind(clock: i32) -> Option<usize> {
        const TAI: i32 = 11;
        match clock {
            libc::CLOCK_REALTIME
            | libc::CLOCK_REALTIME_COARSE
            | libc::CLOCK_REALTIME_ALARM
            | TAI => Some(0),
            libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_BOOTTIME
            | libc::CLOCK_BOOTTIME_ALARM => Some(1),
            _ => None,
        }
    }

    /// A time of a clock, in terms of when the recording began.
    fn since(&self, clock: i32, at: u64) -> Option<u64> {
        let begun = self.begun[Clock::kind(clock)?]?;
        Some(at.saturating_sub(begun))
    }

    fn shows(&mut self, clock: i32, time: u64) {
        let Some(kind) = Clock::kind(clock) else {
            return;
        };
        match self.begun[kind] {
            None => self.begun[kind] = Some(time.saturating_sub(self.passed)),
            Some(begun) => self.passed = self.passed.max(time.saturating_sub(begun)),
        }
    }

    /// Whether a call says how late it is.
    pub(crate) fn is_read_by(call: &CallEvent) -> bool {
        matches!(
            i64::from(call.nr),
            libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time
        )
    }

    /// Whether a call says how late it is, or took a known time.
    pub(super) fn is_advanced_by(call: &CallEvent) -> bool {
        let waits = matches!(
            i64::from(call.nr),
            libc::SYS_nanosleep
                | libc::SYS_clock_nanosleep
                | libc::SYS_poll
                | libc::SYS_epoll_wait
                | libc::SYS_epoll_pwait
        );
        Clock::is_read_by(call) || waits && call.ret == Some(0)
    }

    /// Follows a call that says how late it is, or took a known time.
    pub(super) fn follow(&mut self, call: &CallEvent) {
        let (Some(ret @ 0..), [a, b, ..]) = (call.ret, call.args) else {
            return;
        };
        let ms = |timeout: u64| {
            u64::try_from(timeout as i32)
                .unwrap_or(0)
                .saturating_mul(1_000_000)
        };
        let slept = match i64::from(call.nr) {
            libc::SYS_clock_gettime => {
                let time = time(&ChunkMemory(&call.outs), b, 1);
                return self.shows(a as i32, time.unwrap_or(0));
            }
            libc::SYS_gettimeofday => {
                if let Some(time) = time(&ChunkMemory(&call.outs), a, 1000) {
                    self.shows(libc::CLOCK_REALTIME, time);
                }
                return;
            }
            libc::SYS_time => return self.shows(libc::CLOCK_REALTIME, ret as u64 * SECOND),
            libc::SYS_nanosleep => time(&ChunkMemory(&call.ins), a, 1).unwrap_or(0),
            libc::SYS_clock_nanosleep if b == 0 => {
                time(&ChunkMemory(&call.ins), call.args[2], 1).unwrap_or(0)
            }
            libc::SYS_poll if ret == 0 => ms(call.args[2]),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait if ret == 0 => ms(call.args[3]),
            _ => return,
        };
        self.passed = self.passed.saturating_add(slept);
    }
}

/// A `struct timespec` (unit 1) or `struct timeval` (unit 1000) in nanoseconds.
pub(super) fn time(memory: &dyn Memory, at: u64, unit: u64) -> Option<u64> {
    let seconds = read_u64(memory, at)?;
    let rest = read_u64(memory, at.wrapping_add(8))?;
    Some(
        seconds
            .saturating_mul(SECOND)
            .saturating_add(rest.saturating_mul(unit)),
    )
}

/// A `struct itimerspec` or `struct itimerval` that went in: interval, then value.
pub(super) fn read_itimerspec(call: &CallEvent, at: u64, unit: u64) -> Option<(u64, u64)> {
    let memory = LeftMemory {
        ins: &call.ins,
        outs: &[],
    };
    let interval = time(&memory, at, unit)?;
    Some((interval, time(&memory, at.wrapping_add(16), unit)?))
}

pub(super) fn read_u64(memory: &dyn Memory, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory.read(at, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
}

pub(super) fn read_u32(memory: &dyn Memory, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    (memory.read(at, &mut bytes) == bytes.len()).then(|| u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(passed: u64) -> Clock {
        Clock {
            passed,
            begun: [Some(1000), None],
        }
    }

    #[test]
    fn timers_go_on_from_what_was_seen_of_them() {
        let mut timer = Timer::new(libc::CLOCK_REALTIME);
        let left = |timer: &Timer, now| timer.armed(&at(now)).map(|armed| armed.left);
        timer.set((0, 50), false, &at(100));
        assert_eq!((left(&timer, 120), left(&timer, 200)), (Some(30), Some(1)));
        timer.seen(1);
        assert_eq!(left(&timer, 120), None);
        timer.set((10, 50), false, &at(100));
        timer.seen(2);
        assert_eq!(left(&timer, 161), Some(9));
        timer.set((0, 1300), true, &at(100));
        assert_eq!(left(&timer, 100), Some(200));
        timer.set((5, 0), false, &at(100));
        assert_eq!(left(&timer, 100), None);
    }

    #[test]
    fn clocks_only_go_forwards() {
        let mut clock = Clock::default();
        clock.shows(libc::CLOCK_MONOTONIC, 500);
        clock.shows(libc::CLOCK_MONOTONIC, 700);
        clock.shows(libc::CLOCK_REALTIME, 9000);
        clock.shows(libc::CLOCK_MONOTONIC, 600);
        assert_eq!((clock.passed, clock.begun), (200, [Some(8800), Some(500)]));
        assert_eq!(clock.since(libc::CLOCK_REALTIME, 9100), Some(300));
    }
}
