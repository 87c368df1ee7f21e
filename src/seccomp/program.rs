//! Filter programs: classic BPF on a `struct seccomp_data`, with the kernel's checks and the kernel's results.
//!
//! All jumps go forward and the last instruction returns, so each program terminates.

/// The longest program (`BPF_MAXINSNS`).
pub const LONGEST: usize = 4096;

/// The size of a `struct sock_filter`.
pub const INSTRUCTION: usize = 8;

/// The size of a `struct seccomp_data`.
const DATA: u32 = 64;

/// The number of words of a program's scratch memory (`BPF_MEMWORDS`).
const WORDS: usize = 16;

// Classes of instructions and their fields: linux/bpf_common.h.
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const CLASS: u16 = 0x07;
/// The operand is the index register, not a constant.
const BY_X: u16 = 0x08;
const OPERATION: u16 = 0xf0;

const IMMEDIATE: u16 = 0x00;
const ABSOLUTE: u16 = 0x20;
const MEMORY: u16 = 0x60;
const LENGTH: u16 = 0x80;

const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const XOR: u16 = 0xa0;

const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;

const RETURN_A: u16 = 0x10;
const TXA: u16 = 0x80;

/// A call as filters see it: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The call's number.
    pub nr: i32,
    /// The ABI: `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The instruction pointer behind the call.
    pub ip: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// The 32-bit word at this offset.
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64| match offset & 4 {
            0 => value as u32,
            _ => (value >> 32) as u32,
        };
        match offset / 8 {
            0 if offset == 0 => self.nr as u32,
            0 => self.arch,
            1 => half(self.ip),
            word => half(self.args.get(word as usize - 2).copied().unwrap_or(0)),
        }
    }
}

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    /// The number of instructions to skip where a condition holds.
    jt: u8,
    /// The number of instructions to skip where a condition does not hold.
    jf: u8,
    k: u32,
}

impl Instruction {
    fn of(bytes: &[u8]) -> Instruction {
        Instruction {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// Whether the kernel accepts the instruction in a seccomp filter, `left` instructions before the end.
    fn is_allowed(self, left: usize) -> bool {
        let Instruction { code, jt, jf, k } = self;
        let operation = code & OPERATION;
        match code & CLASS {
            LD => match code {
                c if c == LD | ABSOLUTE => k < DATA && k & 3 == 0,
                c if c == LD | MEMORY => (k as usize) < WORDS,
                c => c == LD | LENGTH || c == LD | IMMEDIATE,
            },
            LDX => match code {
                c if c == LDX | MEMORY => (k as usize) < WORDS,
                c => c == LDX | LENGTH || c == LDX | IMMEDIATE,
            },
            ST | STX => code == code & CLASS && (k as usize) < WORDS,
            ALU => match operation {
                ADD | SUB | MUL | OR | AND | XOR => code <= 0xff,
                DIV => code <= 0xff && (code & BY_X != 0 || k != 0),
                LSH | RSH => code <= 0xff && (code & BY_X != 0 || k < 32),
                NEG => code == ALU | NEG,
                _ => false,
            },
            JMP if code == JMP | JA => (k as usize) < left,
            JMP => {
                code <= 0xff
                    && matches!(operation, JEQ | JGT | JGE | JSET)
                    && usize::from(jt) < left
                    && usize::from(jf) < left
            }
            RET => code == RET || code == RET | RETURN_A,
            _ => code == MISC || code == MISC | TXA,
        }
    }
}

/// A program that the kernel would accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Box<[Instruction]>);

/// The result of a program for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramResult {
    /// `SECCOMP_RET_*`, with its data.
    pub action: u32,
    /// Whether the program read more than the call's number and ABI.
    pub by_details: bool,
}

impl Program {
    /// Checks a program, an array of `struct sock_filter`; `None` where the kernel returns EINVAL.
    pub fn new(code: &[u8]) -> Option<Program> {
        let (instructions, rest) = code.as_chunks::<INSTRUCTION>();
        let list: Box<[Instruction]> = instructions.iter().map(|i| Instruction::of(i)).collect();
        let sized = rest.is_empty() && (1..=LONGEST).contains(&list.len());
        let returns = list.last().is_some_and(|last| last.code & CLASS == RET);
        let mut each = list.iter().enumerate();
        let allowed = each.all(|(at, i)| i.is_allowed(list.len() - at - 1));
        let program = Program(list);
        (sized && returns && allowed && program.loads_what_it_stored()).then_some(program)
    }

    /// Whether every path stores a word of scratch memory before it loads it.
    fn loads_what_it_stored(&self) -> bool {
        let mut arriving = vec![u16::MAX; self.0.len()];
        let mut stored = 0u16;
        for (at, i) in self.0.iter().enumerate() {
            stored &= arriving[at];
            match i.code {
                ST | STX => stored |= 1 << i.k,
                c if (c == LD | MEMORY || c == LDX | MEMORY) && stored & 1 << i.k == 0 => {
                    return false;
                }
                c if c & CLASS == JMP => {
                    let over = match c & OPERATION {
                        JA => [i.k as usize; 2],
                        _ => [i.jt.into(), i.jf.into()],
                    };
                    for over in over {
                        arriving[at + 1 + over] &= stored;
                    }
                    stored = u16::MAX;
                }
                _ => {}
            }
        }
        true
    }

    /// The number of instructions.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Runs it on a call.
    pub fn run(&self, call: &Call) -> ProgramResult {
        let (mut a, mut x, mut kept) = (0u32, 0u32, [0u32; WORDS]);
        let mut by_details = false;
        let mut at = 0;
        // A checked program does not leave this loop but by returning.
        while let Some(&Instruction { code, jt, jf, k }) = self.0.get(at) {
            at += 1;
            let operand = if code & BY_X != 0 { x } else { k };
            match code & CLASS {
                LD if code == LD | ABSOLUTE => {
                    by_details |= k >= 8;
                    a = call.word(k);
                }
                LD => a = loaded(code, k, &kept),
                LDX => x = loaded(code, k, &kept),
                ST => kept[k as usize % WORDS] = a,
                STX => kept[k as usize % WORDS] = x,
                ALU => match calculated(code & OPERATION, a, operand) {
                    Some(result) => a = result,
                    // A division by zero ends the program with 0.
                    None => {
                        return ProgramResult {
                            action: 0,
                            by_details,
                        };
                    }
                },
                JMP => {
                    let holds = match code & OPERATION {
                        JEQ => a == operand,
                        JGT => a > operand,
                        JGE => a >= operand,
                        JSET => a & operand != 0,
                        _ => {
                            at += k as usize;
                            continue;
                        }
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                RET => {
                    let action = if code & RETURN_A != 0 { a } else { k };
                    return ProgramResult { action, by_details };
                }
                _ if code & TXA != 0 => a = x,
                _ => x = a,
            }
        }
        ProgramResult {
            action: 0,
            by_details,
        }
    }
}

/// The value of a load from elsewhere than the call's data.
fn loaded(code: u16, k: u32, kept: &[u32; WORDS]) -> u32 {
    match code & !CLASS {
        MEMORY => kept[k as usize % WORDS],
        LENGTH => DATA,
        _ => k,
    }
}

/// The result of an operation; `None` for a division by zero.
fn calculated(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => return a.checked_div(operand),
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.wrapping_shl(operand),
        RSH => a.wrapping_shr(operand),
        _ => a.wrapping_neg(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(list: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let bytes = |&(code, jt, jf, k): &(u16, u8, u8, u32)| {
            let mut bytes = code.to_le_bytes().to_vec();
            bytes.extend([jt, jf]);
            bytes.extend(k.to_le_bytes());
            bytes
        };
        list.iter().flat_map(bytes).collect()
    }

    fn said(list: &[(u16, u8, u8, u32)], call: &Call) -> ProgramResult {
        Program::new(&code(list)).unwrap().run(call)
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let ret = (RET, 0, 0, 0x7fff_0000);
        let refused: &[&[(u16, u8, u8, u32)]] = &[
            &[],
            // The last one does not return.
            &[(LD | IMMEDIATE, 0, 0, 1)],
            // Beyond the call's data, unaligned, or no word.
            &[(LD | ABSOLUTE, 0, 0, 64), ret],
            &[(LD | ABSOLUTE, 0, 0, 2), ret],
            &[(LD | ABSOLUTE | 0x10, 0, 0, 0), ret],
            &[(LD | ABSOLUTE, 0, 0, 0xffff_f000), ret],
            // Beyond the end.
            &[(JMP | JA, 0, 0, 1), ret],
            &[(JMP | JEQ, 1, 0, 0), ret],
            &[(JMP | JEQ, 0, 1, 0), ret],
            &[(JMP | JA, 0, 0, u32::MAX), ret],
            // There is no such operation.
            &[(ALU | 0x90, 0, 0, 3), ret],
            &[(ALU | NEG | BY_X, 0, 0, 0), ret],
            &[(JMP | 0x50, 0, 0, 0), ret],
            &[(RET | BY_X, 0, 0, 0)],
            &[(0x100 | LD | IMMEDIATE, 0, 0, 0), ret],
            &[(0x104, 0, 0, 0), ret],
            // Operations that cannot be calculated.
            &[(ALU | DIV, 0, 0, 0), ret],
            &[(ALU | LSH, 0, 0, 32), ret],
            &[(ALU | RSH, 0, 0, 99), ret],
            // There are sixteen words, and they have to be stored first: on each way.
            &[(ST, 0, 0, 16), ret],
            &[(LD | MEMORY, 0, 0, 3), ret],
            &[
                (JMP | JEQ, 0, 1, 0),
                (ST, 0, 0, 3),
                (LD | MEMORY, 0, 0, 3),
                ret,
            ],
        ];
        for list in refused {
            assert_eq!(Program::new(&code(list)), None, "{list:?}");
        }
        assert_eq!(Program::new(&code(&[ret])[..7]), None);
        assert_eq!(Program::new(&code(&vec![ret; LONGEST + 1])), None);
        assert!(Program::new(&code(&vec![ret; LONGEST])).is_some());
    }

    #[test]
    fn programs_calculate_as_the_kernel_does() {
        let call = Call {
            nr: 39,
            arch: 0xc000_003e,
            ip: 0x1122_3344_5566_7788,
            args: [0x0102_0304_0506_0708, 2, 3, 4, 5, u64::MAX],
        };
        let returns_a = (RET | RETURN_A, 0, 0, 0);
        let load = |k| (LD | ABSOLUTE, 0, 0, k);
        let of = |list: &[(u16, u8, u8, u32)]| said(list, &call).action;
        assert_eq!(of(&[load(0), returns_a]), 39);
        assert_eq!(of(&[load(4), returns_a]), 0xc000_003e);
        assert_eq!(of(&[load(8), returns_a]), 0x5566_7788);
        assert_eq!(of(&[load(12), returns_a]), 0x1122_3344);
        assert_eq!(of(&[load(16), returns_a]), 0x0506_0708);
        assert_eq!(of(&[load(20), returns_a]), 0x0102_0304);
        assert_eq!(of(&[load(60), returns_a]), u32::MAX);
        assert_eq!(of(&[(LD | LENGTH, 0, 0, 0), returns_a]), 64);
        let with = |operation, k| of(&[load(0), (ALU | operation, 0, 0, k), returns_a]);
        assert_eq!(with(ADD, u32::MAX), 38);
        assert_eq!(with(SUB, 40), u32::MAX);
        assert_eq!(with(MUL, 0x8000_0001), 0x8000_0027);
        assert_eq!(with(DIV, 2), 19);
        assert_eq!((with(OR, 0x40), with(AND, 7), with(XOR, 1)), (103, 7, 38));
        assert_eq!((with(LSH, 31), with(RSH, 1)), (0x8000_0000, 19));
        assert_eq!(with(NEG, 0), 39u32.wrapping_neg());
        // By the index register: a shift takes five bits of it, and a division by zero returns zero.
        let index = |k, operation| {
            of(&[
                (LDX | IMMEDIATE, 0, 0, k),
                load(0),
                (ALU | operation | BY_X, 0, 0, 0),
                returns_a,
            ])
        };
        assert_eq!((index(33, LSH), index(0, DIV), index(0, ADD)), (78, 0, 39));
        // Words that are kept, and the two registers.
        let kept = [
            load(0),
            (ST, 0, 0, 15),
            (LDX | MEMORY, 0, 0, 15),
            (LD | IMMEDIATE, 0, 0, 1),
            (ALU | ADD | BY_X, 0, 0, 0),
            (MISC, 0, 0, 0),
            (STX, 0, 0, 2),
            (LD | MEMORY, 0, 0, 2),
            (MISC | TXA, 0, 0, 0),
            returns_a,
        ];
        assert_eq!(of(&kept), 40);
    }

    #[test]
    fn conditions_are_unsigned() {
        for (operation, k, holds) in [
            (JEQ, 39, true),
            (JGT, 38, true),
            (JGT, 39, false),
            (JGT, 0x8000_0000, false),
            (JGE, 39, true),
            (JSET, 1, true),
            (JSET, 8, false),
        ] {
            let list = [
                (LD | ABSOLUTE, 0, 0, 0),
                (JMP | operation, 1, 0, k),
                (RET, 0, 0, 0),
                (RET, 0, 0, 1),
            ];
            let call = Call {
                nr: 39,
                ..Call::default()
            };
            let expected = ProgramResult {
                action: holds.into(),
                by_details: false,
            };
            assert_eq!(said(&list, &call), expected, "{operation:#x} {k:#x}");
        }
        let jump = [(JMP | JA, 0, 0, 1), (RET, 0, 0, 0), (RET, 0, 0, 1)];
        assert_eq!(said(&jump, &Call::default()).action, 1);
    }

    #[test]
    fn it_is_known_what_a_program_looked_at() {
        // Of call 1 only it looks at an argument.
        let list = [
            (LD | ABSOLUTE, 0, 0, 0),
            (JMP | JEQ, 0, 1, 1),
            (LD | ABSOLUTE, 0, 0, 16),
            (RET, 0, 0, 0x7fff_0000),
        ];
        for (nr, by_details) in [(1, true), (2, false)] {
            let call = Call {
                nr,
                ..Call::default()
            };
            assert_eq!(said(&list, &call).by_details, by_details);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_end(
            list in proptest::collection::vec(
                (prop_oneof![0u16..0x100, any::<u16>()], 0u8..4, 0u8..4, prop_oneof![0u32..70, any::<u32>()]),
                0..40,
            ),
            args in any::<[u64; 6]>(),
        ) {
            let mut bytes = code(&list);
            // As many as possible are to be run.
            bytes.extend(code(&[(RET | RETURN_A, 0, 0, 0); 4]));
            if let Some(program) = Program::new(&bytes) {
                let call = Call { nr: 1, args, ..Call::default() };
                prop_assert_eq!(program.run(&call), program.run(&call));
            }
        }

        #[test]
        fn what_only_looks_at_the_number_says_the_same_of_all_calls(
            list in proptest::collection::vec((0usize..6, 0u8..3, 0u8..3, 0u32..20), 1..20),
            one in any::<[u64; 6]>(),
            other in any::<[u64; 6]>(),
        ) {
            const CODES: [u16; 6] = [LD | ABSOLUTE, JMP | JEQ, JMP | JGT, ALU | ADD, MISC, ALU | XOR | BY_X];
            let list: Vec<_> = list
                .into_iter()
                .map(|(code, jt, jf, k)| (CODES[code], jt, jf, if code == 0 { k / 4 * 4 } else { k }))
                .collect();
            let mut bytes = code(&list);
            bytes.extend(code(&[(RET | RETURN_A, 0, 0, 0); 3]));
            let program = Program::new(&bytes).unwrap();
            let said = |args| program.run(&Call { nr: 7, args, ..Call::default() });
            let (one, other) = (said(one), said(other));
            prop_assert!(one.by_details || one == other);
        }
    }
}
