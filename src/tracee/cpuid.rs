//! Trapping the `cpuid` instruction: the attempt stops the task as a fault, and the tracer answers from a [`Table`].
//!
//! Where a program's files have the instruction, it is replaced by one that faults (see
//! [`super::replaced_instructions`]). Programs that may have it elsewhere, as in code that they make while they run, have
//! the processor trap it, where that can (`arch_prctl(ARCH_SET_CPUID)`; Intel's).

use super::replaced_instructions::Replaced;
use super::{Regs, Remote, Result, TaskMemory};
use crate::cpuid::Table;
use crate::syscall::Memory;

const ARCH_SET_CPUID: i32 = 0x1012;
const SIZE: usize = 2;

impl Table {
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

/// Whether `cpuid` can be trapped here; asked without an effect that stays.
fn can_trap() -> bool {
    const ALLOWED: i32 = 1;
    // SAFETY: arch_prctl(2) with numbers; this is the state that the thread is in.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, ALLOWED) == 0 }
}

/// Has the processor trap `cpuid` in a borrowed task, if `table` answers it and this machine can, until the task executes
/// another program; what the task makes inherits it.
///
/// The switch is a register of the processor that the kernel sets whenever such a task and another follow each other. In a
/// virtual machine that may take longer than all else about a stop.
///
/// # Errors
/// If the kernel refuses.
pub fn trap(table: &Table, remote: &mut Remote<'_>) -> Result<()> {
    if !table.answers() || !can_trap() {
        return Ok(());
    }
    let args = [ARCH_SET_CPUID as u64, 0, 0, 0, 0, 0];
    remote.must("have its cpuid trapped", libc::SYS_arch_prctl, args)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::arch::x86_64::__cpuid_count;

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
    fn other_instructions_are_left_alone() {
        let table = Table::here();
        for code in [&[0x0f, 0x31][..], &[0x0f], &[], &[0x90, 0x0f]] {
            assert!(!table.execute_code(code, &mut regs(1, 0)), "{code:x?}");
        }
        assert!(!Table::default().execute_code(&CODE, &mut regs(1, 0)));
    }
}
