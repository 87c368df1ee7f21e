//! The calling conventions: the registers and the memory in which each ABI passes the arguments of a system call. The
//! calls and their meaning are in the tables.

use super::Memory;
use super::frame::{field, read_some};
use super::kind::Kind;
use super::layout::{Layout, layouts_in};
use super::table::Syscall;
use crate::constants::Abi;

/// The greatest number of arguments of a system call.
const ARGUMENTS: usize = 6;

impl Abi {
    /// All structures that the tables know on this ABI, in no order.
    pub fn layouts(self) -> impl Iterator<Item = &'static Layout> {
        layouts_in(self).values().copied()
    }
}

/// The source of one argument. Registers are counted from 0, in the order of the calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A register, in units of this many (mmap2's offset is in pages).
    Register { index: usize, unit: u64 },
    /// 64 bits in two registers.
    Pair { low: usize, high: usize },
    /// A word in memory, at this offset in bytes from the address in a register.
    Memory { base: usize, offset: u64 },
}

/// The way in which a call gets its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passing {
    /// In registers, in order; a value that is wider than a register takes two, the lower half first.
    #[default]
    Registers,
    /// As an array of words, to which this register points.
    Array(usize),
    /// Each argument from a source of its own.
    Slots(Vec<Slot>),
}

impl Slot {
    /// Parses `N`, `N*UNIT`, `LOW:HIGH`, `*N` or `*N+OFFSET`.
    fn parse(text: &str) -> Option<Slot> {
        let index = |text: &str| text.parse().ok().filter(|&i| i < ARGUMENTS);
        if let Some(rest) = text.strip_prefix('*') {
            let (base, offset) = rest.split_once('+').unwrap_or((rest, "0"));
            return Some(Slot::Memory {
                base: index(base)?,
                offset: offset.parse().ok()?,
            });
        }
        if let Some((low, high)) = text.split_once(':') {
            return Some(Slot::Pair {
                low: index(low)?,
                high: index(high)?,
            });
        }
        let (register, unit) = text.split_once('*').unwrap_or((text, "1"));
        Some(Slot::Register {
            index: index(register)?,
            unit: unit.parse().ok()?,
        })
    }

    fn value(self, args: &[u64; 6], word: usize, mem: &dyn Memory) -> u64 {
        let register = |index: usize| args.get(index).copied().unwrap_or(0);
        match self {
            Slot::Register { index, unit } => register(index).wrapping_mul(unit),
            Slot::Pair { low, high } => register(high) << 32 | register(low) & 0xffff_ffff,
            Slot::Memory { base, offset } => {
                let at = register(base).wrapping_add(offset);
                match register(base) {
                    0 => 0,
                    _ => field(&read_some(mem, at, word), 0, word),
                }
            }
        }
    }
}

impl Passing {
    /// Parses the words `regs=SLOT,…` and `args=N` of the tables.
    pub(crate) fn parse(word: &str, value: &str) -> Result<Passing, String> {
        let wrong = || format!("{word}={value}: no such registers");
        match word {
            "args" => match value.parse() {
                Ok(register) if register < ARGUMENTS => Ok(Passing::Array(register)),
                _ => Err(wrong()),
            },
            "regs" => {
                let slots = value.split(',').map(Slot::parse);
                let slots = slots.collect::<Option<_>>().ok_or_else(wrong)?;
                Ok(Passing::Slots(slots))
            }
            _ => Err(format!("unknown word {word}")),
        }
    }
}

impl Syscall {
    /// The values of the formal arguments. On x86-64 they are the registers. On i386, a value may take two registers,
    /// or lie in memory (`socketcall`, `ipc` and the first `mmap` and `select`); memory that cannot be read counts as
    /// zero. `mem` is memory as at entry.
    pub fn values(&self, registers: &[u64; 6], mem: &dyn Memory) -> [u64; 6] {
        if self.abi == Abi::X86_64 && self.passing == Passing::Registers {
            return *registers;
        }
        let word = self.abi.word();
        let registers = registers.map(|raw| self.abi.register(raw));
        let mut next = 0;
        let mut values = [0; 6];
        for (index, value) in values.iter_mut().enumerate() {
            let slot = match &self.passing {
                Passing::Registers => {
                    let low = next;
                    let wide = match self.args.get(index).map(|arg| &arg.kind) {
                        Some(Kind::Num(num)) => num.size > word,
                        _ => false,
                    };
                    next += if wide { 2 } else { 1 };
                    match wide {
                        true => Slot::Pair { low, high: low + 1 },
                        false => Slot::Register {
                            index: low,
                            unit: 1,
                        },
                    }
                }
                Passing::Array(base) => Slot::Memory {
                    base: *base,
                    offset: (index * word) as u64,
                },
                Passing::Slots(slots) => match slots.get(index) {
                    Some(slot) => *slot,
                    None => continue,
                },
            };
            if matches!(self.passing, Passing::Array(_)) && index >= self.args.len() {
                break; // the array is as long as the call has arguments
            }
            *value = slot.value(&registers, word, mem);
        }
        values
    }
}
