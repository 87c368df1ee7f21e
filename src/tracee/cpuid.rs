//! What `cpuid` answers: the attempt stops the task as a fault, and the tracer answers from a [`Table`].
//!
//! Where a program's files have the instruction, it is replaced by one that faults (see [`super::replaced_instructions`]). Where the
//! processor lets it be trapped (`arch_prctl(ARCH_SET_CPUID)`; Intel's), so it is everywhere else, as in code that a
//! program makes while it runs.
//!
//! The table is that of the machine on which the program was recorded, without what no recording can follow: random
//! numbers and the like, which make no call, and the number of the processor. It is the same for every task.

use super::replaced_instructions::Replaced;
use super::{Regs, Result, Stopped, TaskMemory};
use crate::syscall::Memory;
use serde::{Deserialize, Serialize};
use std::arch::x86_64::{__cpuid, __cpuid_count};

const ARCH_SET_CPUID: i32 = 0x1012;
const SIZE: usize = 2;

/// Where the ranges of leaves begin: basic, hypervisor, extended.
const RANGES: [u32; 3] = [0, 0x4000_0000, 0x8000_0000];

/// More leaves than any range has.
const MOST_LEAVES: u32 = 0x40;

/// More subleaves than any leaf has.
const MOST_SUBLEAVES: u32 = 64;

/// So many subleaves that are alike are the last ones.
const ALIKE: usize = 4;

/// Deterministic cache parameters: there is a cache while eax has its kind.
const CACHES: [u32; 2] = [0x4, 0x8000_001d];

/// Topology: there is a level while ecx has its kind. The number of the subleaf is in the answer.
const LEVELS: [u32; 3] = [0xb, 0x1f, 0x8000_0026];

/// Its subleaves are parts of the processor's state, which the first two name.
const STATE: u32 = 0xd;

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

/// What `cpuid` answers; if it is empty, nobody answers but the processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table(Vec<Leaf>);

impl Table {
    /// That of this machine.
    pub fn here() -> Table {
        let mut leaves = Vec::new();
        for start in RANGES {
            let last = __cpuid(start).eax;
            // Without the range, the answer is that to some other leaf.
            if last >> 16 != start >> 16 {
                continue;
            }
            for leaf in start..=last.min(start + MOST_LEAVES) {
                let answers = match WITH_SUBLEAVES.contains(&leaf) {
                    true => subleaves(leaf),
                    false => vec![ask(leaf, 0)],
                };
                leaves.push(Leaf { leaf, answers });
            }
        }
        Table(leaves)
    }

    /// Whether it is to be answered from here.
    pub fn answers(&self) -> bool {
        !self.0.is_empty()
    }

    /// eax, ebx, ecx and edx for what was in eax and ecx. A leaf that is not there has no bits.
    fn answer(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let Some(found) = self.0.iter().find(|l| l.leaf == leaf) else {
            return [0; 4];
        };
        let at = (subleaf as usize).min(found.answers.len().saturating_sub(1));
        let mut answer = found.answers.get(at).copied().unwrap_or_default();
        if LEVELS.contains(&leaf) && at as u32 != subleaf {
            answer[2] = answer[2] & !0xff | subleaf & 0xff;
        }
        answer
    }

    /// Has a task that was stopped by SIGSEGV gone past its `cpuid`, if that is what stopped it. The registers
    /// are to be written back then.
    pub fn execute(&self, regs: &mut Regs, memory: &TaskMemory) -> bool {
        let mut code = [0; SIZE];
        let read = memory.read(regs.ip(), &mut code);
        self.execute_code(&code[..read], regs)
    }

    fn execute_code(&self, code: &[u8], regs: &mut Regs) -> bool {
        let is = [Replaced::of(code), Replaced::unchanged(code)];
        if !self.answers() || !is.contains(&Some(Replaced::Cpuid)) {
            return false;
        }
        let (leaf, subleaf) = regs.cpuid_arguments();
        regs.set_cpuid(self.answer(leaf, subleaf));
        regs.set_ip(regs.ip().wrapping_add(SIZE as u64));
        true
    }
}

/// The answers for the subleaves of a leaf. Each question takes microseconds in a virtual machine.
fn subleaves(leaf: u32) -> Vec<[u32; 4]> {
    let mut answers: Vec<[u32; 4]> = Vec::new();
    let mut parts = 0b11;
    for subleaf in 0..MOST_SUBLEAVES {
        // What the processor has no state for is empty.
        let answer = match leaf == STATE && parts >> subleaf & 1 == 0 {
            true => [0; 4],
            false => ask(leaf, subleaf),
        };
        let [eax, _, ecx, edx] = answer;
        answers.push(answer);
        let over = if leaf == STATE {
            let low = if subleaf == 0 { eax } else { ecx };
            if subleaf < 2 {
                parts |= u64::from(low) | u64::from(edx) << 32;
            }
            // One of those that are empty ends them.
            subleaf > 0 && parts >> subleaf == 0
        } else if CACHES.contains(&leaf) {
            eax & 0x1f == 0
        } else if LEVELS.contains(&leaf) {
            ecx >> 8 & 0xff == 0
        } else if subleaf == 0 && answer == [0; 4] {
            // The processor does not have what the leaf is about.
            true
        } else {
            let end = answers.len().saturating_sub(ALIKE);
            answers.len() >= ALIKE && answers[end..].iter().all(|other| *other == answer)
        };
        if over {
            break;
        }
    }
    while answers.len() > 1 && answers[answers.len() - 2] == answers[answers.len() - 1] {
        answers.pop();
    }
    answers
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

/// Has `cpuid` trapped in a task between two calls, if `table` answers it and this machine can, until it executes another
/// program; what the task makes inherits it.
///
/// # Errors
/// If the kernel refuses.
pub fn trap(table: &Table, task: &mut Stopped) -> Result<()> {
    if !table.answers() || !can_trap() {
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

    const CODE: [u8; 2] = [0x0f, 0xa2];
    const REPLACED: [u8; 2] = [0xf4, 0xa2];
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
        let table = Table::here();
        for leaf in [0, 1, 7, 0x8000_0000, 0x8000_0002] {
            let mut now = regs(leaf, 0);
            assert!(table.execute_code(&CODE, &mut now));
            let words = now.to_words();
            let mut same = regs(leaf, 0);
            assert!(table.execute_code(&REPLACED, &mut same));
            assert_eq!(same.to_words(), words);
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
    fn subleaves_are_the_machines() {
        let table = Table::here();
        // Of the state, what the kernel has enabled is in the first two; and the processor's number is left out.
        let own = |leaf: u32, sub: u32| ask(leaf, sub);
        for leaf in WITH_SUBLEAVES
            .iter()
            .filter(|leaf| __cpuid(**leaf & 1 << 31).eax >= **leaf)
        {
            for sub in 0..MOST_SUBLEAVES {
                assert_eq!(
                    table.answer(*leaf, sub),
                    own(*leaf, sub),
                    "{leaf:#x}, {sub}"
                );
            }
        }
    }

    #[test]
    fn other_instructions_are_left_alone() {
        let table = Table::here();
        for code in [&[0x0f, 0x31][..], &[0x0f], &[], &[0x90, 0x0f]] {
            assert!(!table.execute_code(code, &mut regs(1, 0)), "{code:x?}");
        }
        assert!(!Table::default().execute_code(&CODE, &mut regs(1, 0)));
    }
}
