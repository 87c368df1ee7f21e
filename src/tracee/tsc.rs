//! The time stamp counter, which traced programs cannot read by themselves
//! (`prctl(PR_SET_TSC, PR_TSC_SIGSEGV)`): the attempt stops them, and the tracer answers. So it is with what is replaced
//! (see [`super::replaced`]).

use super::replaced::{self, Replaced};
use super::{Regs, TaskMemory};
use crate::syscall::Memory;

/// An instruction that reads the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `rdtsc`: edx:eax.
    Rdtsc,
    /// `rdtscp`: edx:eax, and the processor's number in ecx.
    Rdtscp,
    /// One that gives another number, which is no better foreseen.
    Replaced(Replaced),
}

impl Instruction {
    /// The instruction that this task is about to execute, if it is one of these.
    pub fn at(regs: &Regs, memory: &TaskMemory) -> Option<Instruction> {
        let mut code = [0; replaced::LONGEST];
        let n = memory.read(regs.ip(), &mut code);
        Instruction::of(&code[..n]).filter(|instruction| instruction.succeeds(regs))
    }

    /// Whether the processor would execute it.
    fn succeeds(self, regs: &Regs) -> bool {
        // Register 0; or 1, which is the part of it that is in use: all of it may be.
        let (_, register) = regs.cpuid_arguments();
        self != Instruction::Replaced(Replaced::Xgetbv) || register <= 1
    }

    /// The instruction that these bytes begin with, if it is one of these.
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

    /// What it gives on this machine now.
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

/// The counter as this machine has it now.
pub fn now() -> u64 {
    super::quiet::suspended(|| {
        // SAFETY: rdtsc has no preconditions in user mode, and the thread may execute it here.
        unsafe { std::arch::x86_64::_rdtsc() }
    })
}
