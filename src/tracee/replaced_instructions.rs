//! Replaced instructions: instructions without a system call whose results differ from processor to processor or from
//! time to time, so that a recording would not have them.
//!
//! In code of a program's file, the first byte of the opcode of such an instruction is replaced by `hlt`, which is
//! privileged and stops the task as a fault. The prefixes before it and the bytes behind it stay: the bytes alone
//! identify the instruction. No program has an `hlt` with these bytes behind it: behind the `hlt` at which the C
//! library ends a process that should have ended already, there is another instruction.

use super::rdrand::Draw;
use super::{Regs, Result, TaskMemory};

/// The first byte of all of these opcodes, and its replacement.
const ESCAPE: u8 = 0x0f;
const HLT: u8 = 0xf4;

/// The greatest length of such an instruction: two prefixes, the opcode, the operand.
pub const LONGEST: usize = 5;

/// The first two bytes of the opcodes.
pub const OPCODES: [[u8; 2]; 3] = [[ESCAPE, 0xa2], [ESCAPE, 0xc7], [ESCAPE, 0x01]];

/// A replaced instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// `cpuid`: the features of the processor (see [`super::cpuid`]).
    Cpuid,
    /// `rdrand` or `rdseed`.
    Draw(Draw),
    /// `xgetbv`: the registers that the kernel has enabled.
    Xgetbv,
    /// `rdpid`: the number of the processor.
    Rdpid {
        /// The destination register, as instructions number them.
        register: u8,
        /// The bytes of the instruction.
        size: u8,
    },
}

impl Replaced {
    /// The instruction whose replacement these bytes are.
    pub fn of(code: &[u8]) -> Option<Replaced> {
        Replaced::with_opcode(code, HLT)
    }

    /// The instruction of these bytes, before replacement.
    pub fn unchanged(code: &[u8]) -> Option<Replaced> {
        Replaced::with_opcode(code, ESCAPE)
    }

    fn with_opcode(code: &[u8], first: u8) -> Option<Replaced> {
        match code {
            [byte, 0xa2, ..] if *byte == first => Some(Replaced::Cpuid),
            [byte, 0x01, 0xd0, ..] if *byte == first => Some(Replaced::Xgetbv),
            [0xf3, rest @ ..] => rdpid(rest, first),
            _ => Draw::with_opcode(code, first).map(Replaced::Draw),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Replaced::Cpuid => "cpuid",
            Replaced::Draw(draw) if draw.is_seed() => "rdseed",
            Replaced::Draw(_) => "rdrand",
            Replaced::Xgetbv => "xgetbv",
            Replaced::Rdpid { .. } => "rdpid",
        }
    }

    /// Its length in bytes.
    pub fn size(self) -> u64 {
        match self {
            Replaced::Cpuid => 2,
            Replaced::Xgetbv => 3,
            Replaced::Draw(draw) => draw.size(),
            Replaced::Rdpid { size, .. } => size.into(),
        }
    }

    /// The offset of the replaced byte, and its replacement.
    pub fn replacement(self) -> (u64, u8) {
        let behind = match self {
            Replaced::Cpuid => 2,
            _ => 3,
        };
        (self.size() - behind, HLT)
    }

    /// Its result on this machine now, where that is one number.
    pub fn fresh(self) -> u64 {
        match self {
            Replaced::Draw(draw) => draw.fresh(),
            Replaced::Xgetbv => enabled(),
            // The same value as that of `rdtscp`.
            Replaced::Cpuid | Replaced::Rdpid { .. } => 0,
        }
    }

    /// Executes the instruction on these registers, with this result. A `cpuid`, which has several results, is not
    /// executed.
    pub fn execute(self, regs: &mut Regs, value: u64) {
        match self {
            Replaced::Cpuid => return,
            Replaced::Draw(draw) => draw.set(regs, value),
            Replaced::Xgetbv => regs.set_wide(value),
            Replaced::Rdpid { register, .. } => regs.set_register(register, value),
        }
        regs.set_ip(regs.ip().wrapping_add(self.size()));
    }
}

/// Whether these bytes begin and end with the first byte of a replaced instruction.
pub fn is_replaced(code: &[u8]) -> bool {
    code.first() == Some(&HLT) && code.last() == Some(&HLT)
}

/// Repeats a recorded replacement: `replaced` are the bytes from the first replaced instruction to the last. Where
/// memory has other code, nothing is done.
///
/// # Errors
/// If the memory cannot be written.
pub fn again(memory: TaskMemory, addr: u64, replaced: &[u8]) -> Result<()> {
    let now = memory.bytes(addr, replaced.len());
    let same = |(&now, &then): (&u8, &u8)| now == then || (now, then) == (ESCAPE, HLT);
    match now.len() == replaced.len() && now.iter().zip(replaced).all(same) {
        true => memory.write(addr, replaced),
        false => Ok(()),
    }
}

/// `rdpid` behind its first prefix.
fn rdpid(rest: &[u8], first: u8) -> Option<Replaced> {
    const REX: u8 = 0x40;
    let rex = rest.first().copied().filter(|byte| byte & 0xf0 == REX);
    match rest[usize::from(rex.is_some())..] {
        [byte, 0xc7, operand, ..] if byte == first && operand >> 3 == 0b11_111 => {
            Some(Replaced::Rdpid {
                register: operand & 7 | (rex.unwrap_or(0) & 1) << 3,
                size: 4 + u8::from(rex.is_some()),
            })
        }
        _ => None,
    }
}

/// `XCR0`.
fn enabled() -> u64 {
    match is_x86_feature_detected!("xsave") {
        // SAFETY: the processor has the instruction, and the kernel has enabled it.
        true => unsafe { xcr0() },
        false => 0,
    }
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: there is a register 0.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracee::regs::WORDS;

    #[test]
    fn replaced_ones_are_told_by_their_bytes() {
        // As GNU as has them: cpuid; xgetbv; rdpid rax, r9; rdrand rax.
        let cases: [&[u8]; 5] = [
            &[0x0f, 0xa2],
            &[0x0f, 0x01, 0xd0],
            &[0xf3, 0x0f, 0xc7, 0xf8],
            &[0xf3, 0x41, 0x0f, 0xc7, 0xf9],
            &[0x48, 0x0f, 0xc7, 0xf0],
        ];
        for code in cases {
            let one = Replaced::unchanged(code).unwrap();
            assert_eq!(one.size(), code.len() as u64);
            let (at, byte) = one.replacement();
            let mut replaced = code.to_vec();
            replaced[at as usize] = byte;
            assert_eq!(Replaced::of(&replaced), Some(one));
            let neither = (Replaced::of(code), Replaced::unchanged(&replaced));
            assert_eq!(neither, (None, None));
        }
        // An hlt as the C library has it; rdtscp, cmpxchg8b, ud2, and halves.
        let others: [&[u8]; 6] = [
            &[0xf4, 0xeb, 0xfd],
            &[0x0f, 0x01, 0xf9],
            &[0x0f, 0xc7, 0x08],
            &[0x0f, 0x0b],
            &[0x0f],
            &[0xf3, 0x0f, 0xc7],
        ];
        for code in others {
            let neither = (Replaced::of(code), Replaced::unchanged(code));
            assert_eq!(neither, (None, None), "{code:x?}");
        }
    }

    #[test]
    fn what_is_enabled_comes_in_two_halves() {
        let mut words = [u64::MAX; WORDS];
        words[16] = 0x1000;
        let mut regs = Regs::from_words(words);
        Replaced::Xgetbv.execute(&mut regs, 0x1_0000_00e7);
        let after = regs.to_words();
        assert_eq!((after[10], after[12], after[16]), (0xe7, 1, 0x1003));
        let is = Replaced::Xgetbv.fresh();
        // Every 64-bit kernel enables these.
        assert!(!is_x86_feature_detected!("xsave") || is & 3 == 3);
    }

    #[test]
    fn the_task_goes_on_behind_it() {
        for code in [
            &[0x48, 0x0f, 0xc7, 0xf0][..],
            &[0x0f, 0xc7, 0xf9],
            &[0x0f, 0x01, 0xd0],
        ] {
            let mut regs = Regs::from_words([7; WORDS]);
            Replaced::unchanged(code).unwrap().execute(&mut regs, 1);
            assert_eq!(regs.ip(), 7 + code.len() as u64);
        }
    }

    #[test]
    fn there_is_one_processor() {
        let mut regs = Regs::from_words([7; WORDS]);
        let rdpid = Replaced::unchanged(&[0xf3, 0x41, 0x0f, 0xc7, 0xf9]).unwrap();
        rdpid.execute(&mut regs, rdpid.fresh());
        assert_eq!((regs.register(9), regs.ip()), (0, 12));
    }
}
