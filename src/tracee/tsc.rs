//! Trapped reads of the time stamp counter.
//!
//! Traced programs cannot read the counter (`prctl(PR_SET_TSC, PR_TSC_SIGSEGV)`): the attempt stops them, and the
//! tracer supplies the value. Replaced instructions are handled alike (see [`super::replaced_instructions`]).

use super::replaced_instructions::{self, Replaced};
use super::{Regs, TaskMemory, tsc_off};
use crate::syscall::Memory;
use std::cell::RefCell;

/// An instruction that reads the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `rdtsc`: edx:eax.
    Rdtsc,
    /// `rdtscp`: edx:eax, and the processor's number in ecx.
    Rdtscp,
    /// A replaced instruction, whose number is as unpredictable.
    Replaced(Replaced),
}

impl Instruction {
    /// The instruction that a task is about to execute, if it reads the counter or is a replaced one.
    pub fn at(regs: &Regs, memory: &TaskMemory) -> Option<Instruction> {
        let mut code = [0; replaced_instructions::LONGEST];
        let n = memory.read(regs.ip(), &mut code);
        Instruction::of(&code[..n]).filter(|instruction| instruction.succeeds(regs))
    }

    /// Whether the processor would execute it.
    fn succeeds(self, regs: &Regs) -> bool {
        // Register 0; or 1, which is the part of it that is in use: all of it may be.
        let (_, register) = regs.cpuid_arguments();
        self != Instruction::Replaced(Replaced::Xgetbv) || register <= 1
    }

    /// The instruction at the start of these bytes, if it reads the counter or is a replaced one.
    pub fn of(code: &[u8]) -> Option<Instruction> {
        match code {
            [0x0f, 0x31, ..] => Some(Instruction::Rdtsc),
            [0x0f, 0x01, 0xf9, ..] => Some(Instruction::Rdtscp),
            _ => Replaced::of(code)
                .filter(|&replaced| replaced != Replaced::Cpuid)
                .map(Instruction::Replaced),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Instruction::Rdtsc => "rdtsc",
            Instruction::Rdtscp => "rdtscp",
            Instruction::Replaced(replaced) => replaced.name(),
        }
    }

    /// Its length in bytes.
    pub fn size(self) -> u64 {
        match self {
            Instruction::Rdtsc => 2,
            Instruction::Rdtscp => 3,
            Instruction::Replaced(replaced) => replaced.size(),
        }
    }

    /// Its value on this machine now.
    pub fn value(self) -> u64 {
        match self {
            Instruction::Rdtsc | Instruction::Rdtscp => now(),
            Instruction::Replaced(replaced) => replaced.fresh(),
        }
    }

    /// Executes it in these registers with this value: of the counter, or another number.
    pub fn execute(self, regs: &mut Regs, tsc: u64) {
        if let Instruction::Replaced(replaced) = self {
            return replaced.execute(regs, tsc);
        }
        let aux = (self == Instruction::Rdtscp).then_some(0);
        regs.set_tsc(tsc, aux);
        regs.set_ip(regs.ip().wrapping_add(self.size()));
    }
}

/// The present value of the counter.
///
/// Enabling the counter (see [`super::tsc_off`]) costs more than the rest of a read. So the value is computed from the
/// kernel's clock, which runs at the counter's pace, and the counter itself is read rarely.
pub fn now() -> u64 {
    if !tsc_off::is_off() {
        return read();
    }
    PACE.with_borrow_mut(Pace::now)
}

fn read() -> u64 {
    tsc_off::with_tsc(|| {
        // SAFETY: rdtsc has no preconditions in user mode, and the thread may execute it here.
        unsafe { std::arch::x86_64::_rdtsc() }
    })
}

thread_local! {
    static PACE: RefCell<Pace> = const { RefCell::new(Pace::NEW) };
}

/// The counter and the kernel's clock at the same time; the clock in nanoseconds.
#[derive(Clone, Copy, Default)]
struct Moment {
    counter: u64,
    clock: u64,
}

/// The pace of the counter relative to the kernel's clock.
struct Pace {
    first: Option<Moment>,
    last: Moment,
    /// Counts per nanosecond; 0 while unknown.
    rate: f64,
    /// The time of the next read of the counter.
    next: u64,
    /// The last value.
    answered: u64,
}

impl Pace {
    const NEW: Pace = Pace {
        first: None,
        last: Moment {
            counter: 0,
            clock: 0,
        },
        rate: 0.0,
        next: 0,
        answered: 0,
    };

    /// Nanoseconds after which the measured pace is good enough to begin with.
    const ENOUGH: u64 = 1_000_000;

    fn now(&mut self) -> u64 {
        let clock = clock();
        if self.rate == 0.0 || clock >= self.next {
            self.look();
        }
        let since = clock.saturating_sub(self.last.clock);
        let counter = self.last.counter + (since as f64 * self.rate) as u64;
        // The value always rises.
        self.answered = counter.max(self.answered + 1);
        self.answered
    }

    fn look(&mut self) {
        self.last = Moment::now();
        let first = *self.first.get_or_insert(self.last);
        let elapsed = self.last.clock.saturating_sub(first.clock);
        if elapsed < Pace::ENOUGH {
            return;
        }
        let counted = self.last.counter.saturating_sub(first.counter);
        self.rate = counted as f64 / elapsed as f64;
        // A longer measurement is more exact.
        self.next = self.last.clock + elapsed;
    }
}

impl Moment {
    fn now() -> Moment {
        const ATTEMPTS: usize = 3;
        let look = || {
            let before = clock();
            let counter = read();
            let took = clock().saturating_sub(before);
            let clock = before + took / 2;
            (took, Moment { counter, clock })
        };
        tsc_off::with_tsc(|| {
            // Another process may have run in between.
            let looks = (0..ATTEMPTS).map(|_| look());
            let best = looks.min_by_key(|&(took, _)| took);
            best.map(|(_, moment)| moment).unwrap_or_default()
        })
    }
}

/// The kernel's clock that is never adjusted, in nanoseconds.
fn clock() -> u64 {
    tsc_off::clock(libc::CLOCK_MONOTONIC_RAW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracee::tsc_off::TscOff;
    use std::time::{Duration, Instant};

    #[test]
    fn counter_goes_on_at_its_pace_while_it_is_given_up() {
        const LENGTH: Duration = Duration::from_millis(60);
        let real = |from: u64, began: Instant| {
            let (counted, elapsed) = (read() - from, began.elapsed());
            counted as f64 / elapsed.as_nanos() as f64
        };
        let (began, from) = (Instant::now(), read());
        let _quiet = TscOff::new();
        let (mut last, mut reads) = (now(), 0);
        assert!(last > from);
        while tsc_off::now() - began < LENGTH {
            let value = now();
            assert!(value > last, "{value} after {last}");
            (last, reads) = (value, reads + 1);
        }
        let expected = tsc_off::with_tsc(|| real(from, began));
        // Another process may run between the two.
        let nearest = (0..20).map(|_| {
            let (ours, theirs) = tsc_off::with_tsc(|| (now(), read()));
            let apart = (theirs as f64 - ours as f64) / expected;
            apart.abs() as u64
        });
        let nearest = nearest.min().unwrap();
        assert!(reads > 100);
        assert!(nearest < 20_000, "{nearest} ns apart");
    }
}
