//! What `cpuid` answers, where the processor lets it be trapped (`arch_prctl(ARCH_SET_CPUID)`): the attempt
//! stops the task as a fault, and the tracer answers from a [`Table`].
//!
//! The table is that of the machine on which the program was recorded, without what no recording can follow: random
//! numbers and the like, which make no call, and the number of the processor. It is the same for every task.

use super::{Regs, Result, Stopped, TaskMemory};
use crate::syscall::Memory;
use serde::{Deserialize, Serialize};
use std::arch::x86_64::{__cpuid, __cpuid_count};
use tracing::warn;

const ARCH_SET_CPUID: i32 = 0x1012;
const CODE: [u8; 2] = [0x0f, 0xa2];

/// Where the ranges of leaves begin: basic, hypervisor, extended.
const RANGES: [u32; 3] = [0, 0x4000_0000, 0x8000_0000];

/// More leaves than any range has.
const MOST_LEAVES: u32 = 0x40;

/// More subleaves than any leaf has.
const MOST_SUBLEAVES: u32 = 64;

/// The leaves whose answer depends on ecx.
const WITH_SUBLEAVES: [u32; 22] = [
    0x4,
    0x7,
    0xb,
    0xd,
    0xf,
    0x10,
    0x12,
    0x14,
    0x17,
    0x18,
    0x1a,
    0x1b,
    0x1d,
    0x1e,
    0x1f,
    0x20,
    0x23,
    0x24,
    0x8000_001d,
    0x8000_0020,
    0x8000_0022,
    0x8000_0026,
];

/// What is taken out of an answer.
struct Mask {
    leaf: u32,
    /// Of this subleaf only.
    subleaf: Option<u32>,
    /// eax, ebx, ecx, edx.
    bits: [u32; 4],
}

const fn mask(leaf: u32, subleaf: Option<u32>, bits: [u32; 4]) -> Mask {
    Mask {
        leaf,
        subleaf,
        bits,
    }
}

const MASKS: [Mask; 6] = [
    // The APIC's number; RDRAND.
    mask(0x1, None, [0, 0xff << 24, 1 << 30, 0]),
    // HLE, RTM, RDSEED; WAITPKG, SHSTK, RDPID; IBT.
    mask(
        0x7,
        Some(0),
        [
            0,
            1 << 4 | 1 << 11 | 1 << 18,
            1 << 5 | 1 << 7 | 1 << 22,
            1 << 20,
        ],
    ),
    // The APIC's number, three times.
    mask(0xb, None, [0, 0, 0, u32::MAX]),
    mask(0x1f, None, [0, 0, 0, u32::MAX]),
    mask(0x8000_001e, None, [u32::MAX, 0xff, 0, 0]),
    mask(0x8000_0026, None, [0, 0, 0, u32::MAX]),
];

/// The answers to one leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leaf {
    /// eax.
    leaf: u32,
    /// eax, ebx, ecx and edx for each subleaf (ecx) from 0; later subleaves are as the last.
    answers: Vec<[u32; 4]>,
}

/// What `cpuid` answers; if it is empty, it is not trapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table(Vec<Leaf>);

impl Table {
    /// That of this machine if it can trap `cpuid`, else the empty one.
    pub fn here() -> Table {
        match can_trap() {
            true => Table::of_machine(),
            false => Table::default(),
        }
    }

    fn of_machine() -> Table {
        let mut leaves = Vec::new();
        for start in RANGES {
            let last = __cpuid(start).eax;
            // Without the range, the answer is that to some other leaf.
            if last >> 16 != start >> 16 {
                continue;
            }
            for leaf in start..=last.min(start + MOST_LEAVES) {
                let subleaves = match WITH_SUBLEAVES.contains(&leaf) {
                    true => MOST_SUBLEAVES,
                    false => 1,
                };
                let mut answers: Vec<_> = (0..subleaves).map(|sub| ask(leaf, sub)).collect();
                while answers.len() > 1 && answers[answers.len() - 2] == answers[answers.len() - 1]
                {
                    answers.pop();
                }
                leaves.push(Leaf { leaf, answers });
            }
        }
        Table(leaves)
    }

    /// Whether it is to be trapped.
    pub fn is_trapped(&self) -> bool {
        !self.0.is_empty()
    }

    /// eax, ebx, ecx and edx for what was in eax and ecx. A leaf that is not there has no bits.
    fn answer(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let Some(found) = self.0.iter().find(|l| l.leaf == leaf) else {
            return [0; 4];
        };
        let at = (subleaf as usize).min(found.answers.len().saturating_sub(1));
        found.answers.get(at).copied().unwrap_or_default()
    }

    /// Has a task that was stopped by SIGSEGV gone past its `cpuid`, if that is what stopped it. The registers
    /// are to be written back then.
    pub fn execute(&self, regs: &mut Regs, memory: &TaskMemory) -> bool {
        let mut code = [0; CODE.len()];
        let read = memory.read(regs.ip(), &mut code);
        self.execute_code(&code[..read], regs)
    }

    fn execute_code(&self, code: &[u8], regs: &mut Regs) -> bool {
        if !self.is_trapped() || code != CODE {
            return false;
        }
        let (leaf, subleaf) = regs.cpuid_arguments();
        regs.set_cpuid(self.answer(leaf, subleaf));
        regs.set_ip(regs.ip().wrapping_add(CODE.len() as u64));
        true
    }
}

fn ask(leaf: u32, subleaf: u32) -> [u32; 4] {
    let is = __cpuid_count(leaf, subleaf);
    let mut answer = [is.eax, is.ebx, is.ecx, is.edx];
    for mask in &MASKS {
        if mask.leaf == leaf && mask.subleaf.is_none_or(|only| only == subleaf) {
            for (value, bits) in answer.iter_mut().zip(mask.bits) {
                *value &= !bits;
            }
        }
    }
    answer
}

/// Whether `cpuid` can be trapped here; asked without an effect that stays.
fn can_trap() -> bool {
    const ALLOWED: i32 = 1;
    // SAFETY: arch_prctl(2) with numbers; this is the state that the thread is in.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, ALLOWED) == 0 }
}

/// Has `cpuid` trapped in a task between two calls, if `table` asks for it, until it executes another program; what the
/// task makes inherits it. A machine that cannot do what the one of the recording could is warned of.
///
/// # Errors
/// If the kernel refuses.
pub fn trap(table: &Table, task: &mut Stopped) -> Result<()> {
    if !table.is_trapped() {
        return Ok(());
    }
    if !can_trap() {
        warn!(
            "cpuid was trapped as the program was recorded, which this machine cannot do: it may see another processor"
        );
        return Ok(());
    }
    let mut remote = task.remote_at_boundary()?;
    let args = [ARCH_SET_CPUID as u64, 0, 0, 0, 0, 0];
    remote.must("have its cpuid trapped", libc::SYS_arch_prctl, args)?;
    remote.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAX: usize = 10;
    const ECX: usize = 11;
    const EDX: usize = 12;
    const EBX: usize = 5;
    const RIP: usize = 16;

    fn regs(leaf: u32, subleaf: u32) -> Regs {
        let mut words = [0; 27];
        words[EAX] = u64::from(leaf) | 7 << 32;
        words[ECX] = u64::from(subleaf);
        words[RIP] = 0x1000;
        Regs::from_words(words)
    }

    #[test]
    fn answers_are_the_machines_without_random_numbers() {
        let table = Table::of_machine();
        for leaf in [0, 1, 7, 0x8000_0000, 0x8000_0002] {
            let mut now = regs(leaf, 0);
            assert!(table.execute_code(&CODE, &mut now));
            let words = now.to_words();
            let real = __cpuid_count(leaf, 0);
            let mut expected = [real.eax, real.ebx, real.ecx, real.edx];
            if leaf == 1 {
                expected[1] &= 0x00ff_ffff;
                expected[2] &= !(1 << 30);
            }
            if leaf == 7 {
                expected[1] &= !(1 << 18 | 1 << 11 | 1 << 4);
                expected[2] &= !(1 << 5 | 1 << 7 | 1 << 22);
                expected[3] &= !(1 << 20);
            }
            let got = [words[EAX], words[EBX], words[ECX], words[EDX]];
            assert_eq!(got, expected.map(u64::from), "leaf {leaf:#x}");
            assert_eq!(words[RIP], 0x1002);
        }
    }

    #[test]
    fn subleaves_past_the_last_are_as_the_last_and_unknown_leaves_are_empty() {
        let leaf = Leaf {
            leaf: 4,
            answers: vec![[1, 2, 3, 4], [5, 6, 7, 8]],
        };
        let table = Table(vec![leaf]);
        assert_eq!(table.answer(4, 0), [1, 2, 3, 4]);
        assert_eq!(table.answer(4, 1), [5, 6, 7, 8]);
        assert_eq!(table.answer(4, u32::MAX), [5, 6, 7, 8]);
        assert_eq!(table.answer(5, 0), [0; 4]);
        // It may come from a damaged recording.
        let empty = Table(vec![Leaf {
            leaf: 4,
            answers: Vec::new(),
        }]);
        assert_eq!(empty.answer(4, 0), [0; 4]);
    }

    #[test]
    fn other_instructions_are_left_alone() {
        let table = Table::of_machine();
        for code in [&[0x0f, 0x31][..], &[0x0f], &[], &[0x90, 0x0f]] {
            assert!(!table.execute_code(code, &mut regs(1, 0)), "{code:x?}");
        }
        assert!(!Table::default().execute_code(&CODE, &mut regs(1, 0)));
    }
}
