//! The time stamp counter, which traced programs cannot read by themselves
//! (`prctl(PR_SET_TSC, PR_TSC_SIGSEGV)`): the attempt stops them, and the tracer answers. So it is with random numbers of
//! the processor (see [`super::random`]).

use super::random::{self, Draw};
use super::{Regs, TaskMemory};
use crate::syscall::Memory;

/// An instruction that reads the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `rdtsc`: edx:eax.
    Rdtsc,
    /// `rdtscp`: edx:eax, and the processor's number in ecx.
    Rdtscp,
    /// One that draws a random number, which is no better foreseen.
    Draw(Draw),
}

impl Instruction {
    /// The instruction that this task is about to execute, if it is one of these.
    pub fn at(regs: &Regs, memory: &TaskMemory) -> Option<Instruction> {
        let mut code = [0; random::LONGEST];
        let n = memory.read(regs.ip(), &mut code);
        Instruction::of(&code[..n])
    }

    /// The instruction that these bytes begin with, if it is one of these.
    pub fn of(code: &[u8]) -> Option<Instruction> {
        match code {
            [0x0f, 0x31, ..] => Some(Instruction::Rdtsc),
            [0x0f, 0x01, 0xf9, ..] => Some(Instruction::Rdtscp),
            _ => Draw::of(code).map(Instruction::Draw),
        }
    }

    /// Its length in bytes.
    pub fn size(self) -> u64 {
        match self {
            Instruction::Rdtsc => 2,
            Instruction::Rdtscp => 3,
            Instruction::Draw(draw) => draw.size(),
        }
    }

    /// What it gives on this machine now.
    pub fn value(self) -> u64 {
        match self {
            Instruction::Rdtsc | Instruction::Rdtscp => now(),
            Instruction::Draw(draw) => draw.fresh(),
        }
    }

    /// Executes it in these registers with this value: of the counter, or a number.
    pub fn execute(self, regs: &mut Regs, tsc: u64) {
        if let Instruction::Draw(draw) = self {
            return draw.execute(regs, tsc);
        }
        let aux = (self == Instruction::Rdtscp).then_some(0);
        regs.set_tsc(tsc, aux);
        regs.set_ip(regs.ip().wrapping_add(self.size()));
    }
}

/// The counter as this machine has it now.
pub fn now() -> u64 {
    super::quiet::suspended(|| {
        // SAFETY: rdtsc has no preconditions in user mode, and the thread may execute it here.
        unsafe { std::arch::x86_64::_rdtsc() }
    })
}
