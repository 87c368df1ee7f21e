//! The clocks of a live process, which go on from the time of the recording.

use super::Result;
use super::hook::HookCall;
use crate::history::Recording;
use crate::recording::{CallEvent, ChunkMemory, Event};
use crate::syscall::{self, Memory, StatusLayout};
use crate::tracee::{TaskMemory, tsc_off};
use std::ops::Range;
use std::time::Duration;

const NANOS: i64 = 1_000_000_000;

/// What the times of files may be behind the clock, in nanoseconds: the kernel's clock of them goes on in steps.
const FILE_TICK: i64 = 10_000_000;

/// The number of events before a process's own that are searched for the time.
const LOOK_BACK: u64 = 256;

/// The clocks of a process: the kernel's, each shifted by this number of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clocks {
    realtime: i64,
    monotonic: i64,
    boottime: i64,
    /// The time of the kernel's clock since which changes of files are the process's own.
    since: i64,
}

/// A deadline in the process's memory that was shifted for the kernel: its address and its original bytes.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    at: u64,
    was: [u8; 16],
}

impl Moved {
    /// Restores the original deadline.
    pub fn restore(&self, memory: TaskMemory) -> Result<()> {
        Ok(memory.write(self.at, &self.was)?)
    }
}

/// The time that a call showed the process last.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownTime {
    kind: Kind,
    shown: i64,
    /// The time of the kernel's clock at that moment.
    at: i64,
}

impl ShownTime {
    /// The time that this answered call showed; `None` for a call that shows none.
    pub fn by(seen: &HookCall) -> Option<ShownTime> {
        let (kind, at, unit) = match seen.call.name {
            "clock_gettime" => (Kind::of(seen.args[0])?, seen.args[1], 1),
            "gettimeofday" => (Kind::Realtime, seen.args[0], 1000),
            _ => return None,
        };
        let word = |at: u64| {
            let mut word = [0; 8];
            (seen.memory.read(at, &mut word) == 8).then(|| i64::from_le_bytes(word))
        };
        let (seconds, parts) = (word(at)?, word(at.wrapping_add(8))?);
        Some(ShownTime {
            kind,
            shown: nanos(seconds, parts.saturating_mul(unit)),
            at: kind.now(),
        })
    }
}

/// A group of clocks that are shifted alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Realtime,
    Monotonic,
    Boottime,
}

impl Kind {
    fn of(clock: u64) -> Option<Kind> {
        Some(match clock as libc::clockid_t {
            libc::CLOCK_REALTIME
            | libc::CLOCK_REALTIME_COARSE
            | libc::CLOCK_TAI
            | libc::CLOCK_REALTIME_ALARM => Kind::Realtime,
            libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_MONOTONIC_RAW => {
                Kind::Monotonic
            }
            libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => Kind::Boottime,
            _ => return None,
        })
    }

    /// The time of the kernel's clock.
    fn now(self) -> i64 {
        let clock = match self {
            Kind::Realtime => libc::CLOCK_REALTIME,
            Kind::Monotonic => libc::CLOCK_MONOTONIC,
            Kind::Boottime => libc::CLOCK_BOOTTIME,
        };
        tsc_off::clock(clock) as i64
    }
}

fn nanos(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(NANOS).saturating_add(nanoseconds)
}

/// The time that has passed up to an event on clocks that began so. All run at the same speed: the time that has passed on
/// one has passed on the others.
fn gone(recording: &Recording, event: u64, began: &[(Kind, i64)]) -> Result<i64> {
    let mut gone = 0;
    let from = event.saturating_sub(LOOK_BACK).max(1);
    for next in recording.events_from(from)? {
        let (number, next) = next?;
        if number >= event {
            break;
        }
        if let Some((kind, shown)) = shown(&next)
            && let Some((_, began)) = began.iter().find(|(known, _)| *known == kind)
        {
            gone = gone.max(shown.saturating_sub(*began));
        }
    }
    Ok(gone)
}

impl Clocks {
    /// The clocks that go on from the recorded time of this event.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn at(recording: &Recording, event: u64) -> Result<Clocks> {
        let start = recording.start();
        let mut seen = [
            (Kind::Realtime, start.clocks.realtime),
            (Kind::Monotonic, start.clocks.monotonic),
            (Kind::Boottime, start.clocks.boottime),
        ];
        let began = seen;
        let gone = recording.time_passed(event, || gone(recording, event, &began))?;
        for (kind, shown) in &mut seen {
            *shown = shown.saturating_add(gone).saturating_sub(kind.now());
        }
        let [realtime, monotonic, boottime] = seen.map(|(_, shift)| shift);
        Ok(Clocks {
            realtime,
            monotonic,
            boottime,
            since: Kind::Realtime.now().saturating_sub(FILE_TICK),
        })
    }

    /// Returns whether the clocks differ from the kernel's.
    pub fn is_shifted(&self) -> bool {
        [self.realtime, self.monotonic, self.boottime] != [0; 3]
    }

    /// Moves all clocks forward.
    pub fn advance(&mut self, by: Duration) {
        self.move_by(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
    }

    /// Sets the clocks so that they go on from this shown time.
    pub fn follow(&mut self, told: ShownTime) {
        let shift = told.shown.saturating_sub(told.at);
        self.move_by(shift.saturating_sub(self.shift(told.kind)));
    }

    fn move_by(&mut self, nanoseconds: i64) {
        for clock in [&mut self.realtime, &mut self.monotonic, &mut self.boottime] {
            *clock = clock.saturating_add(nanoseconds);
        }
    }

    fn shift(&self, kind: Kind) -> i64 {
        match kind {
            Kind::Realtime => self.realtime,
            Kind::Monotonic => self.monotonic,
            Kind::Boottime => self.boottime,
        }
    }

    /// Shifts the time that the kernel returned for a call; returns the call's return value.
    pub fn shift_answer(&self, seen: &HookCall, ret: i64) -> Result<i64> {
        let memory = seen.memory;
        match seen.call.name {
            "clock_gettime" if ret == 0 => {
                if let Some(kind) = Kind::of(seen.args[0]) {
                    move_time(memory, seen.args[1], self.shift(kind), 1)?;
                }
            }
            "gettimeofday" if ret == 0 && seen.args[0] != 0 => {
                move_time(memory, seen.args[0], self.realtime, 1000)?;
            }
            "time" if ret >= 0 => {
                let now = Kind::Realtime.now().saturating_add(self.realtime) / NANOS;
                if seen.args[0] != 0 {
                    memory.write(seen.args[0], &now.to_le_bytes())?;
                }
                return Ok(now);
            }
            "stat" | "fstat" | "lstat" | "newfstatat" | "statx" if ret == 0 => {
                self.shift_times(seen);
            }
            _ => {}
        }
        Ok(ret)
    }

    /// Shifts the times in a file status that the kernel has given files since the process went live.
    fn shift_times(&self, seen: &HookCall) {
        let Some((arg, is_statx)) = seen.call.status_arg() else {
            return;
        };
        let layout = match is_statx {
            true => StatusLayout::STATX,
            false => StatusLayout::STAT,
        };
        for at in layout.times(seen.args[arg]) {
            let mut was = [0; 12];
            if seen.memory.read(at, &mut was) != was.len() {
                continue;
            }
            let (seconds, rest) = was.split_at(8);
            let (Ok(seconds), Ok(rest)) = (seconds.try_into(), rest.try_into()) else {
                continue;
            };
            let time = nanos(i64::from_le_bytes(seconds), u32::from_le_bytes(rest).into());
            if time < self.since {
                continue;
            }
            let told = time.saturating_add(self.realtime);
            let seconds = told.div_euclid(NANOS).to_le_bytes();
            let rest = (told.rem_euclid(NANOS) as u32).to_le_bytes();
            // Another thread may have unmapped the memory meanwhile.
            let written = seen.memory.write(at, &[&seconds[..], &rest].concat());
            tracing::trace!("{}: {written:?}", seen.call.name);
        }
    }

    /// Converts the absolute deadline of a call, if it has one, to the kernel's clock.
    pub(super) fn shift_deadline(&self, seen: &HookCall) -> Result<Option<Moved>> {
        let Some((at, kind)) = deadline(seen) else {
            return Ok(None);
        };
        let mut was = [0; 16];
        if at == 0 || seen.memory.read(at, &mut was) != was.len() {
            return Ok(None);
        }
        let kind = match kind {
            Some(kind) => kind,
            None => self.nearest(time_of(&was, 1)),
        };
        move_time(seen.memory, at, self.shift(kind).saturating_neg(), 1)?;
        Ok(Some(Moved { at, was }))
    }

    /// The clock that is nearest to this time.
    fn nearest(&self, time: i64) -> Kind {
        let away = |kind: Kind| {
            let now = kind.now().saturating_add(self.shift(kind));
            now.saturating_sub(time).unsigned_abs()
        };
        match away(Kind::Realtime) < away(Kind::Monotonic) {
            true => Kind::Realtime,
            false => Kind::Monotonic,
        }
    }
}

/// The address of a call's absolute deadline, and its clock; `None` for a clock that the call does not name.
fn deadline(seen: &HookCall) -> Option<(u64, Option<Kind>)> {
    const ABSOLUTE: u64 = libc::TIMER_ABSTIME as u64;
    const FUTEX_COMMAND: i32 = 0x7f;
    const FUTEX_LOCK_PI2: i32 = 13;
    /// it_value, in struct itimerspec.
    const VALUE: u64 = 16;
    let args = &seen.args;
    match seen.call.name {
        "clock_nanosleep" if args[1] & ABSOLUTE != 0 => Some((args[2], Some(Kind::of(args[0])?))),
        "timerfd_settime" | "timer_settime" if args[1] & ABSOLUTE != 0 && args[2] != 0 => {
            Some((args[2].wrapping_add(VALUE), None))
        }
        "mq_timedsend" | "mq_timedreceive" => Some((args[4], Some(Kind::Realtime))),
        "futex" => {
            let op = args[1] as i32;
            let clock = match op & libc::FUTEX_CLOCK_REALTIME {
                0 => Kind::Monotonic,
                _ => Kind::Realtime,
            };
            match op & FUTEX_COMMAND {
                libc::FUTEX_LOCK_PI => Some((args[3], Some(Kind::Realtime))),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 => {
                    Some((args[3], Some(clock)))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn word(bytes: &[u8; 16], range: Range<usize>) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[range]);
    i64::from_le_bytes(word)
}

/// The time in a timespec (a `unit` of 1 ns) or a timeval (1000 ns), in nanoseconds.
fn time_of(bytes: &[u8; 16], unit: i64) -> i64 {
    nanos(word(bytes, 0..8), word(bytes, 8..16).saturating_mul(unit))
}

/// Moves the timespec or timeval at an address by some nanoseconds.
fn move_time(memory: TaskMemory, at: u64, by: i64, unit: i64) -> Result<()> {
    let mut bytes = [0; 16];
    memory.read_exact(at, &mut bytes)?;
    let moved = time_of(&bytes, unit).saturating_add(by).max(0);
    bytes[..8].copy_from_slice(&(moved / NANOS).to_le_bytes());
    bytes[8..].copy_from_slice(&(moved % NANOS / unit).to_le_bytes());
    Ok(memory.write(at, &bytes)?)
}

/// The time that an event showed its task, and the clock.
fn shown(event: &Event) -> Option<(Kind, i64)> {
    let call: &CallEvent = event.call()?;
    let (at, kind, unit) = match syscall::by_nr(call.nr.into())?.name {
        "clock_gettime" if call.ret == Some(0) => (call.args[1], Kind::of(call.args[0])?, 1),
        "gettimeofday" if call.ret == Some(0) => (call.args[0], Kind::Realtime, 1000),
        _ => return None,
    };
    let mut bytes = [0; 16];
    let there = ChunkMemory(&call.outs).read(at, &mut bytes) == bytes.len();
    there.then(|| (kind, time_of(&bytes, unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_without_a_clock_are_of_the_nearest() {
        let clocks = Clocks {
            realtime: -50 * NANOS,
            monotonic: -7 * NANOS,
            boottime: 0,
            since: 0,
        };
        let soon = |kind: Kind| kind.now() + clocks.shift(kind) + NANOS;
        assert!(clocks.nearest(soon(Kind::Realtime)) == Kind::Realtime);
        assert!(clocks.nearest(soon(Kind::Monotonic)) == Kind::Monotonic);
    }
}
