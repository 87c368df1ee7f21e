//! The time that has passed since a recording began, as far as calls tell.

use super::memory::read_u64;
use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use crate::syscall::Memory;

const SECOND: u64 = 1_000_000_000;

/// The time since the recording began, and the clocks' times at its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// The time since the beginning in nanoseconds; it never decreases.
    passed: u64,
    /// The times of CLOCK_REALTIME and CLOCK_MONOTONIC at the beginning, once the program has read them.
    origins: [Option<u64>; 2],
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

    /// The time since the recording began, in nanoseconds.
    pub(super) fn since_start(&self) -> u64 {
        self.passed
    }

    /// A time of a clock as the time since the recording began; `None` where that is not known.
    pub(super) fn time_of(&self, clock: i32, at: u64) -> Option<u64> {
        let origin = self.origins[Clock::kind(clock)?]?;
        Some(at.saturating_sub(origin))
    }

    /// Follows a reading of a clock.
    fn reads(&mut self, clock: i32, time: u64) {
        let Some(kind) = Clock::kind(clock) else {
            return;
        };
        match self.origins[kind] {
            None => self.origins[kind] = Some(time.saturating_sub(self.passed)),
            Some(origin) => self.passed = self.passed.max(time.saturating_sub(origin)),
        }
    }

    /// Whether a call reads a clock.
    pub(crate) fn is_read_by(call: &CallEvent) -> bool {
        matches!(
            i64::from(call.nr),
            libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time
        )
    }

    /// Whether a call reads a clock, or waited for a known time.
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

    /// Follows a call that reads a clock, or waited for a known time.
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
                let time = read_timespec(&ChunkMemory(&call.outs), b, 1);
                return self.reads(a as i32, time.unwrap_or(0));
            }
            libc::SYS_gettimeofday => {
                if let Some(time) = read_timespec(&ChunkMemory(&call.outs), a, 1000) {
                    self.reads(libc::CLOCK_REALTIME, time);
                }
                return;
            }
            libc::SYS_time => return self.reads(libc::CLOCK_REALTIME, ret as u64 * SECOND),
            libc::SYS_nanosleep => read_timespec(&ChunkMemory(&call.ins), a, 1).unwrap_or(0),
            libc::SYS_clock_nanosleep if b == 0 => {
                read_timespec(&ChunkMemory(&call.ins), call.args[2], 1).unwrap_or(0)
            }
            libc::SYS_poll if ret == 0 => ms(call.args[2]),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait if ret == 0 => ms(call.args[3]),
            _ => return,
        };
        self.passed = self.passed.saturating_add(slept);
    }
}

/// A `struct timespec` (unit 1) or `struct timeval` (unit 1000) in nanoseconds.
fn read_timespec(memory: &dyn Memory, at: u64, unit: u64) -> Option<u64> {
    let seconds = read_u64(memory, at)?;
    let rest = read_u64(memory, at.wrapping_add(8))?;
    Some(
        seconds
            .saturating_mul(SECOND)
            .saturating_add(rest.saturating_mul(unit)),
    )
}

/// A `struct itimerspec` (unit 1) or `struct itimerval` (unit 1000) that a call reads: interval and value in
/// nanoseconds.
pub(super) fn read_itimerspec(call: &CallEvent, at: u64, unit: u64) -> Option<(u64, u64)> {
    let memory = LeftMemory {
        ins: &call.ins,
        outs: &[],
    };
    let interval = read_timespec(&memory, at, unit)?;
    Some((interval, read_timespec(&memory, at.wrapping_add(16), unit)?))
}

#[cfg(test)]
impl Clock {
    /// So many nanoseconds after the beginning, at which CLOCK_REALTIME was 1000 and CLOCK_MONOTONIC unknown.
    pub(super) fn at(passed: u64) -> Clock {
        Clock {
            passed,
            origins: [Some(1000), None],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_only_go_forwards() {
        let mut clock = Clock::default();
        clock.reads(libc::CLOCK_MONOTONIC, 500);
        clock.reads(libc::CLOCK_MONOTONIC, 700);
        clock.reads(libc::CLOCK_REALTIME, 9000);
        clock.reads(libc::CLOCK_MONOTONIC, 600);
        assert_eq!(
            (clock.passed, clock.origins),
            (200, [Some(8800), Some(500)])
        );
        assert_eq!(clock.time_of(libc::CLOCK_REALTIME, 9100), Some(300));
    }
}
