//! Random numbers of the processor: the replaced instructions `rdrand` and `rdseed` (see
//! [`super::replaced_instructions`]).

use super::Regs;

/// The number of attempts while the processor has no number ready.
const ATTEMPTS: u32 = 1 << 16;

/// An instruction that reads a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Whether it is `rdseed` rather than `rdrand`.
    seed: bool,
    /// The destination register, as instructions number them.
    register: u8,
    /// The size of the number in bytes: 2, 4 or 8.
    width: u8,
    /// The bytes of the instruction.
    size: u8,
}

impl Draw {
    /// Decodes the instruction; `first` is the first byte of its opcode, replaced or not.
    pub(super) fn with_opcode(code: &[u8], first: u8) -> Option<Draw> {
        const OPERAND_SIZE: u8 = 0x66;
        const REX: u8 = 0x40;
        let mut rest = code;
        let short = rest.first() == Some(&OPERAND_SIZE);
        rest = &rest[usize::from(short)..];
        let rex = rest.first().copied().filter(|byte| byte & 0xf0 == REX);
        rest = &rest[usize::from(rex.is_some())..];
        let operand = match rest {
            &[byte, 0xc7, operand, ..] if byte == first => operand,
            _ => return None,
        };
        // ModRM: a register operand, and the opcode extension 6 or 7.
        let seed = match operand >> 3 {
            0b11_110 => false,
            0b11_111 => true,
            _ => return None,
        };
        let rex = rex.unwrap_or(0);
        let width = match (rex & 8 != 0, short) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 4,
        };
        Some(Draw {
            seed,
            register: operand & 7 | (rex & 1) << 3,
            width,
            size: (code.len() - rest.len() + 3) as u8,
        })
    }

    /// Whether it is `rdseed`.
    pub fn is_seed(self) -> bool {
        self.seed
    }

    /// Its length in bytes.
    pub fn size(self) -> u64 {
        self.size.into()
    }

    /// Writes a number to the destination register, and sets the flags.
    pub(super) fn set(self, regs: &mut Regs, value: u64) {
        let before = regs.register(self.register);
        let value = match self.width {
            2 => before & !0xffff | value & 0xffff,
            // Upper halves are cleared.
            4 => value & 0xffff_ffff,
            _ => value,
        };
        regs.set_register(self.register, value);
        regs.set_carry_alone();
    }

    /// A number from this machine's processor, or from its kernel where the processor has none.
    pub fn fresh(self) -> u64 {
        let drawn = match self.seed {
            // SAFETY: the processor has the instruction.
            true if is_x86_feature_detected!("rdseed") => unsafe { seed() },
            // SAFETY: the same.
            _ if is_x86_feature_detected!("rdrand") => unsafe { number() },
            _ => None,
        };
        drawn.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            // SAFETY: getrandom(2) writes to these bytes.
            unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            u64::from_ne_bytes(bytes)
        })
    }
}

#[target_feature(enable = "rdrand")]
fn number() -> Option<u64> {
    let mut value = 0;
    let mut draws = (0..ATTEMPTS).map(|_| std::arch::x86_64::_rdrand64_step(&mut value));
    draws.any(|success| success == 1).then_some(value)
}

#[target_feature(enable = "rdseed")]
fn seed() -> Option<u64> {
    let mut value = 0;
    let mut draws = (0..ATTEMPTS).map(|_| std::arch::x86_64::_rdseed64_step(&mut value));
    draws.any(|success| success == 1).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracee::regs::WORDS;

    #[test]
    fn operands_are_those_of_the_manual() {
        // As GNU as has them: rdrand ax, eax, rax, r9d, r9w, r15; rdseed ecx, rbx.
        let cases: [(&[u8], bool, u8, u8); 8] = [
            (&[0x66, 0x0f, 0xc7, 0xf0], false, 0, 2),
            (&[0x0f, 0xc7, 0xf0], false, 0, 4),
            (&[0x48, 0x0f, 0xc7, 0xf0], false, 0, 8),
            (&[0x41, 0x0f, 0xc7, 0xf1], false, 9, 4),
            (&[0x66, 0x41, 0x0f, 0xc7, 0xf1], false, 9, 2),
            (&[0x49, 0x0f, 0xc7, 0xf7], false, 15, 8),
            (&[0x0f, 0xc7, 0xf9], true, 1, 4),
            (&[0x48, 0x0f, 0xc7, 0xfb], true, 3, 8),
        ];
        for (code, seed, register, width) in cases {
            let draw = Draw::with_opcode(code, 0x0f).unwrap();
            let size = code.len() as u8;
            let expected = Draw {
                seed,
                register,
                width,
                size,
            };
            assert_eq!(draw, expected);
            assert_eq!(Draw::with_opcode(code, 0xf4), None);
        }
        // cmpxchg8b, rdpid, a hlt, and half an instruction.
        let others: [&[u8]; 4] = [
            &[0x0f, 0xc7, 0x08],
            &[0xf3, 0x0f, 0xc7, 0xf8],
            &[0xf4, 0x90, 0x90],
            &[0x48, 0x0f, 0xc7],
        ];
        for code in others {
            assert_eq!(Draw::with_opcode(code, 0x0f), None);
        }
    }

    #[test]
    fn narrow_numbers_leave_or_clear_the_rest() {
        let run = |code: &[u8]| {
            let mut regs = Regs::from_words([u64::MAX; WORDS]);
            Draw::with_opcode(code, 0x0f)
                .unwrap()
                .set(&mut regs, 0x1122_3344_5566_7788);
            let named = regs.named();
            let of = |name| named.iter().find(|(n, _)| *n == name).unwrap().1;
            (of("rax"), of("eflags") & 0x8d5)
        };
        let short = run(&[0x66, 0x0f, 0xc7, 0xf0]);
        assert_eq!(short, (0xffff_ffff_ffff_7788, 1));
        assert_eq!(run(&[0x0f, 0xc7, 0xf0]), (0x5566_7788, 1));
        let long = run(&[0x48, 0x0f, 0xc7, 0xf0]);
        assert_eq!(long, (0x1122_3344_5566_7788, 1));
    }

    #[test]
    fn numbers_differ() {
        let draw = Draw::with_opcode(&[0x48, 0x0f, 0xc7, 0xf0], 0x0f).unwrap();
        assert_ne!(draw.fresh(), draw.fresh());
    }
}
