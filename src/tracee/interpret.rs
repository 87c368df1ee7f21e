//! An interpreter for the instructions between one read of the time stamp counter and the next.
//!
//! Each read stops its task (see [`super::tsc`]). A program that reads the counter a hundred thousand times in a row,
//! as libraries do that measure its resolution, would spend seconds in these stops. Most instructions between two such
//! reads are plain arithmetic, so the tracer interprets them, and the task is not resumed before another instruction
//! comes.
//!
//! The results are those of the processor in every bit: an instruction for which that is not certain is left to the
//! processor. Some instructions leave undefined flags; the task is never left with such flags, but resumes before the
//! instruction.

use super::tsc::Instruction as Read;
use super::{Regs, Result, TaskMemory, proc};
use crate::syscall::Memory;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::HashMap;
use std::ops::Range;

/// The number of consecutive reads, without another stop, after which the interpreter begins.
const MANY: u32 = 32;

/// The limit on remembered addresses at which interpreting was in vain, and on the visits that skip it.
const MOST_VAIN: usize = 256;
const MOST_REST: u32 = 1024;

/// The limit on instructions between two reads: the task itself executes more of them faster.
const MOST_BETWEEN: u32 = 48;

/// The limit on reads before the tracer handles other events.
const MOST_READS: u32 = 256;

/// The longest instruction.
const LONGEST: usize = 15;

/// The size of the code that is fetched at once.
const WINDOW: u64 = 256;

const PAGE: u64 = 0x1000;

/// Flags of the flags register.
const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const TF: u64 = 1 << 8;
const OF: u64 = 1 << 11;
const AC: u64 = 1 << 18;
const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// Consecutive reads of a task.
#[derive(Debug, Default)]
pub struct Reads {
    count: u32,
    /// The mapping of the code.
    code: Option<Range<u64>>,
    /// Addresses behind reads from which no other read was reached: the number of visits before the next attempt, and
    /// the number after that.
    vain: HashMap<u64, (u32, u32)>,
}

impl Reads {
    /// Resets the count after another stop.
    pub fn begin_anew(&mut self) {
        (self.count, self.code) = (0, None);
    }

    /// Continues a task with these registers behind a read. If that was one of many reads, interprets up to the next
    /// one, takes its value from `value`, and so on. A read without a value is left to the task.
    ///
    /// # Errors
    /// If the task's mappings cannot be read.
    pub fn go_on(
        &mut self,
        regs: &mut Regs,
        memory: &TaskMemory,
        value: &mut dyn FnMut(Read) -> Option<u64>,
    ) -> Result<()> {
        self.count = self.count.saturating_add(1);
        if self.count < MANY || !regs.is_native() || regs.flags() & (TF | AC) != 0 {
            return Ok(());
        }
        let ip = regs.ip();
        if let Some((rest, _)) = self.vain.get_mut(&ip)
            && *rest > 0
        {
            *rest -= 1;
            return Ok(());
        }
        if !self.code.as_ref().is_some_and(|code| code.contains(&ip)) {
            let maps = proc::maps(memory.tid())?.into_iter();
            let mut maps = maps.map(|map| (map.start..map.end, map.prot));
            let Some((code, prot)) = maps.find(|(range, _)| range.contains(&ip)) else {
                return Ok(());
            };
            // Only the processor can write to a shadow stack.
            if prot & libc::PROT_EXEC == 0 || proc::has_shadow_stack(memory.tid())? {
                return Ok(());
            }
            self.code = Some(code);
        }
        let mut machine = Machine {
            regs,
            memory,
            code: self.code.clone().unwrap_or_default(),
            window: (0, Vec::new()),
            decoded: HashMap::new(),
            certain: None,
        };
        if machine.run(value) > 0 {
            self.vain.remove(&ip);
        } else if self.vain.len() < MOST_VAIN || self.vain.contains_key(&ip) {
            // Another instruction is between the reads.
            let (rest, next) = self.vain.entry(ip).or_insert((0, 1));
            (*rest, *next) = (*next, (*next * 2).min(MOST_REST));
        }
        Ok(())
    }
}

/// The result of an instruction.
enum Step {
    Done,
    /// It reads the counter.
    Reads(Read),
    /// The instruction was executed, and changed the code.
    Rewrote,
}

struct Machine<'a> {
    regs: &'a mut Regs,
    memory: &'a TaskMemory,
    /// The range of executable code.
    code: Range<u64>,
    /// The fetched code: address and bytes.
    window: (u64, Vec<u8>),
    decoded: HashMap<u64, Instruction>,
    /// While flags are undefined, the registers before the instruction that left them undefined.
    certain: Option<Regs>,
}

impl Machine<'_> {
    /// Interprets as far as possible. Returns the number of reads.
    fn run(&mut self, value: &mut dyn FnMut(Read) -> Option<u64>) -> u32 {
        let (mut reads, mut between) = (0, 0);
        while reads < MOST_READS && between < MOST_BETWEEN {
            between += 1;
            match self.step() {
                Some(Step::Done) => {}
                Some(Step::Reads(read)) if self.certain.is_none() => {
                    let Some(value) = value(read) else { break };
                    read.execute(self.regs, value);
                    (reads, between) = (reads + 1, 0);
                }
                Some(Step::Rewrote | Step::Reads(_)) | None => break,
            }
        }
        if let Some(certain) = self.certain.take() {
            *self.regs = certain;
        }
        reads
    }

    /// Interprets an instruction; `None` where that is left to the task, as is every fault.
    fn step(&mut self) -> Option<Step> {
        let i = self.fetch()?;
        let next = i.next_ip();
        let mut rewrote = false;
        match i.mnemonic() {
            Mnemonic::Rdtsc => return Some(Step::Reads(Read::Rdtsc)),
            Mnemonic::Rdtscp => return Some(Step::Reads(Read::Rdtscp)),
            Mnemonic::Nop
            | Mnemonic::Pause
            | Mnemonic::Lfence
            | Mnemonic::Mfence
            | Mnemonic::Sfence
            | Mnemonic::Endbr64 => {}
            Mnemonic::Mov => {
                let value = self.read(&i, 1)?;
                rewrote = self.write(&i, 0, value)?;
            }
            Mnemonic::Movzx => {
                let value = self.read(&i, 1)?;
                self.write(&i, 0, value)?;
            }
            Mnemonic::Movsx | Mnemonic::Movsxd => {
                let bits = 8 * size(&i, 1)?;
                let value = sign_extended(self.read(&i, 1)?, bits);
                self.write(&i, 0, value)?;
            }
            Mnemonic::Lea => {
                let address = self.offset(&i)?;
                self.write(&i, 0, address)?;
            }
            Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Cmp
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Test
            | Mnemonic::Inc
            | Mnemonic::Dec
            | Mnemonic::Neg => rewrote = self.calculate(&i)?,
            Mnemonic::Not => {
                let value = !self.read(&i, 0)?;
                rewrote = self.write(&i, 0, value)?;
            }
            Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar => self.shift(&i)?,
            Mnemonic::Push => {
                let value = match i.op_kind(0) {
                    OpKind::Immediate8to64 | OpKind::Immediate32to64 => self.read(&i, 0)?,
                    _ if size(&i, 0)? == 8 => self.read(&i, 0)?,
                    _ => return None,
                };
                rewrote = self.push(value)?;
            }
            Mnemonic::Pop => {
                if i.op_kind(0) != OpKind::Register || size(&i, 0)? != 8 {
                    return None;
                }
                let value = self.pop()?;
                self.write(&i, 0, value)?;
            }
            Mnemonic::Call if i.op_kind(0) == OpKind::NearBranch64 => {
                rewrote = self.push(next)?;
                self.regs.set_ip(i.near_branch_target());
                return Some(if rewrote { Step::Rewrote } else { Step::Done });
            }
            Mnemonic::Ret if i.code() == Code::Retnq => {
                let to = self.pop()?;
                self.regs.set_ip(to);
                return Some(Step::Done);
            }
            Mnemonic::Jmp if i.op_kind(0) == OpKind::NearBranch64 => {
                self.regs.set_ip(i.near_branch_target());
                return Some(Step::Done);
            }
            mnemonic => {
                let (what, condition) = conditional(mnemonic)?;
                let holds = self.holds(condition)?;
                match what {
                    Conditional::Jump if i.op_kind(0) != OpKind::NearBranch64 => return None,
                    Conditional::Jump if holds => {
                        self.regs.set_ip(i.near_branch_target());
                        return Some(Step::Done);
                    }
                    Conditional::Jump => {}
                    Conditional::Set => rewrote = self.write(&i, 0, holds.into())?,
                    Conditional::Move => {
                        // The upper half of a register is cleared either way.
                        let value = self.read(&i, 1)?;
                        let old = self.read(&i, 0)?;
                        self.write(&i, 0, if holds { value } else { old })?;
                    }
                }
            }
        }
        self.regs.set_ip(next);
        Some(if rewrote { Step::Rewrote } else { Step::Done })
    }

    /// The next instruction.
    fn fetch(&mut self) -> Option<Instruction> {
        let ip = self.regs.ip();
        if let Some(known) = self.decoded.get(&ip) {
            return Some(*known);
        }
        if !self.code.contains(&ip) {
            return None;
        }
        let (start, bytes) = &self.window;
        let end = start + bytes.len() as u64;
        if ip < *start || ip + LONGEST as u64 > end {
            // Instructions may have been decoded from the code fetched before, so there is only one window.
            if !self.decoded.is_empty() {
                let wider = (*start).min(ip)..end.max((ip + WINDOW).min(self.code.end));
                if wider.end - wider.start > 4 * PAGE {
                    return None;
                }
                self.window = self.fetched(wider)?;
            } else {
                self.window = self.fetched(ip..(ip + WINDOW).min(self.code.end))?;
            }
        }
        let (start, bytes) = &self.window;
        let from = usize::try_from(ip - start).ok()?;
        let code = bytes.get(from..)?;
        let mut decoder = Decoder::with_ip(64, code, ip, DecoderOptions::NONE);
        let i = decoder.decode();
        let is_plain = !i.is_invalid()
            && !i.has_lock_prefix()
            && (!i.has_rep_prefix() && !i.has_repne_prefix() || is_idle(i.mnemonic()));
        if !is_plain {
            return None;
        }
        self.decoded.insert(ip, i);
        Some(i)
    }

    fn fetched(&self, range: Range<u64>) -> Option<(u64, Vec<u8>)> {
        let len = usize::try_from(range.end - range.start).ok()?;
        let bytes = self.memory.bytes(range.start, len);
        (bytes.len() == len).then_some((range.start, bytes))
    }

    /// The offset of an operand's address in its segment.
    fn offset(&self, i: &Instruction) -> Option<u64> {
        if i.is_ip_rel_memory_operand() {
            let is_long = i.memory_base() == Register::RIP;
            return is_long.then(|| i.ip_rel_memory_address());
        }
        let part = |register: Register| match general(register) {
            _ if register == Register::None => Some(0),
            Some((number, 8, 0)) => Some(self.regs.register(number)),
            _ => None,
        };
        let base = part(i.memory_base())?;
        let index = part(i.memory_index())?.wrapping_mul(i.memory_index_scale().into());
        let offset = base
            .wrapping_add(index)
            .wrapping_add(i.memory_displacement64());
        Some(offset)
    }

    fn address(&self, i: &Instruction) -> Option<u64> {
        let base = match i.memory_segment() {
            Register::FS => self.regs.fs_base(),
            Register::GS => self.regs.gs_base(),
            _ => 0,
        };
        Some(self.offset(i)?.wrapping_add(base))
    }

    fn read(&self, i: &Instruction, operand: u32) -> Option<u64> {
        match i.op_kind(operand) {
            OpKind::Register => {
                let (number, size, shift) = general(i.op_register(operand))?;
                Some(self.regs.register(number) >> shift & mask(8 * size))
            }
            OpKind::Memory => self.load(self.address(i)?, size(i, operand)?),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Some(i.immediate(operand)),
            _ => None,
        }
    }

    /// Writes an operand. Returns whether fetched code was changed.
    fn write(&mut self, i: &Instruction, operand: u32, value: u64) -> Option<bool> {
        match i.op_kind(operand) {
            OpKind::Register => {
                let (number, size, shift) = general(i.op_register(operand))?;
                let value = value & mask(8 * size);
                let old = self.regs.register(number);
                let new = match size {
                    // Upper halves are cleared.
                    4 | 8 => value,
                    _ => old & !(mask(8 * size) << shift) | value << shift,
                };
                self.regs.set_register(number, new);
                Some(false)
            }
            OpKind::Memory => self.store(self.address(i)?, value, size(i, operand)?),
            _ => None,
        }
    }

    fn load(&self, address: u64, size: u32) -> Option<u64> {
        let mut bytes = [0; 8];
        let part = &mut bytes[..size as usize];
        (self.memory.read(address, part) == part.len()).then(|| u64::from_le_bytes(bytes))
    }

    fn store(&mut self, address: u64, value: u64, size: u32) -> Option<bool> {
        let last = address.checked_add(u64::from(size) - 1)?;
        // A write cannot be undone, and must not be partial.
        if self.certain.is_some() || address / PAGE != last / PAGE {
            return None;
        }
        let bytes = &value.to_le_bytes()[..size as usize];
        if !self.memory.write_where_it_may(address, bytes) {
            return None;
        }
        let (start, code) = &self.window;
        Some(last >= *start && address < start + code.len() as u64)
    }

    fn push(&mut self, value: u64) -> Option<bool> {
        let sp = self.regs.sp().wrapping_sub(8);
        let rewrote = self.store(sp, value, 8)?;
        self.regs.set_sp(sp);
        Some(rewrote)
    }

    fn pop(&mut self) -> Option<u64> {
        let value = self.load(self.regs.sp(), 8)?;
        self.regs.set_sp(self.regs.sp().wrapping_add(8));
        Some(value)
    }

    /// Addition and the like. Returns whether fetched code was changed.
    fn calculate(&mut self, i: &Instruction) -> Option<bool> {
        let bits = 8 * size(i, 0)?;
        let a = self.read(i, 0)?;
        let b = match i.op_count() {
            1 => 1,
            _ => self.read(i, 1)? & mask(bits),
        };
        let sign = 1 << (bits - 1);
        let flag = |holds: bool, flag: u64| if holds { flag } else { 0 };
        let added = a.wrapping_add(b) & mask(bits);
        let taken = a.wrapping_sub(b) & mask(bits);
        let sum = flag(added < a, CF) | flag((a ^ added) & (b ^ added) & sign != 0, OF);
        let difference = flag(a < b, CF) | flag((a ^ b) & (a ^ taken) & sign != 0, OF);
        let (result, flags) = match i.mnemonic() {
            Mnemonic::Add | Mnemonic::Inc => (added, sum | (a ^ b ^ added) & AF),
            Mnemonic::Sub | Mnemonic::Cmp | Mnemonic::Dec => {
                (taken, difference | (a ^ b ^ taken) & AF)
            }
            Mnemonic::Neg => {
                let result = a.wrapping_neg() & mask(bits);
                let flags = flag(a != 0, CF) | flag(a & result & sign != 0, OF);
                (result, flags | (a ^ result) & AF)
            }
            Mnemonic::And | Mnemonic::Test => (a & b, 0),
            Mnemonic::Or => (a | b, 0),
            Mnemonic::Xor => (a ^ b, 0),
            _ => return None,
        };
        let keeps_carry = matches!(i.mnemonic(), Mnemonic::Inc | Mnemonic::Dec);
        if keeps_carry && self.certain.is_some() {
            return None;
        }
        let mut rewrote = false;
        if !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            rewrote = self.write(i, 0, result)?;
        }
        let kept = if keeps_carry { CF } else { 0 };
        self.set_flags(flags & !kept | self.regs.flags() & kept, result, bits);
        self.certain = None;
        Some(rewrote)
    }

    /// Shifts in registers.
    fn shift(&mut self, i: &Instruction) -> Option<()> {
        let bits = 8 * size(i, 0)?;
        let count = self.read(i, 1)? & if bits == 64 { 0x3f } else { 0x1f };
        if i.op_kind(0) != OpKind::Register {
            return None;
        }
        let before = *self.regs;
        let count = count as u32;
        let value = self.read(i, 0)?;
        let result = match i.mnemonic() {
            Mnemonic::Shl => value.checked_shl(count).unwrap_or(0),
            Mnemonic::Shr => value.checked_shr(count).unwrap_or(0),
            _ => (sign_extended(value, bits) as i64 >> count) as u64,
        };
        self.write(i, 0, result)?;
        if count != 0 {
            // Not all flags are defined.
            self.certain.get_or_insert(before);
        }
        Some(())
    }

    fn set_flags(&mut self, given: u64, result: u64, bits: u32) {
        let even = (result as u8).count_ones().is_multiple_of(2);
        let mut flags = self.regs.flags() & !ARITHMETIC | given;
        for (holds, flag) in [
            (even, PF),
            (result == 0, ZF),
            (result >> (bits - 1) & 1 != 0, SF),
        ] {
            if holds {
                flags |= flag;
            }
        }
        self.regs.set_flags(flags);
    }

    /// Whether a condition holds, by the number that instructions have for it.
    fn holds(&self, condition: u8) -> Option<bool> {
        if self.certain.is_some() {
            return None;
        }
        let flags = self.regs.flags();
        let is = |flag: u64| flags & flag != 0;
        let less = is(SF) != is(OF);
        let holds = match condition >> 1 {
            0 => is(OF),
            1 => is(CF),
            2 => is(ZF),
            3 => is(CF) || is(ZF),
            4 => is(SF),
            5 => is(PF),
            6 => less,
            _ => less || is(ZF),
        };
        Some(holds != (condition & 1 != 0))
    }
}

/// Instructions that a repeat prefix does not change.
fn is_idle(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Nop | Mnemonic::Pause | Mnemonic::Endbr64 | Mnemonic::Ret
    )
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn sign_extended(value: u64, bits: u32) -> u64 {
    let unused = 64 - bits;
    ((value << unused) as i64 >> unused) as u64
}

/// A general register: its number as instructions have it, its size in bytes, and where it begins in the whole one.
fn general(register: Register) -> Option<(u8, u32, u32)> {
    let at = |first: Register| (register as usize - first as usize) as u8;
    let within = |first: Register, last: Register| {
        (first as usize..=last as usize).contains(&(register as usize))
    };
    Some(if within(Register::RAX, Register::R15) {
        (at(Register::RAX), 8, 0)
    } else if within(Register::EAX, Register::R15D) {
        (at(Register::EAX), 4, 0)
    } else if within(Register::AX, Register::R15W) {
        (at(Register::AX), 2, 0)
    } else if within(Register::AL, Register::BL) {
        (at(Register::AL), 1, 0)
    } else if within(Register::AH, Register::BH) {
        (at(Register::AH), 1, 8)
    } else if within(Register::SPL, Register::R15L) {
        (at(Register::SPL) + 4, 1, 0)
    } else {
        return None;
    })
}

/// The size of a register or of memory, in bytes.
fn size(i: &Instruction, operand: u32) -> Option<u32> {
    use iced_x86::MemorySize;
    if i.op_kind(operand) == OpKind::Register {
        return general(i.op_register(operand)).map(|(_, size, _)| size);
    }
    if i.op_kind(operand) != OpKind::Memory {
        return None;
    }
    match i.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => Some(1),
        MemorySize::UInt16 | MemorySize::Int16 => Some(2),
        MemorySize::UInt32 | MemorySize::Int32 => Some(4),
        MemorySize::UInt64 | MemorySize::Int64 => Some(8),
        _ => None,
    }
}

/// The effect of a conditional instruction.
#[derive(Clone, Copy)]
enum Conditional {
    Jump,
    Set,
    Move,
}

/// The conditional instructions, each with the number of its condition.
fn conditional(mnemonic: Mnemonic) -> Option<(Conditional, u8)> {
    use Mnemonic::*;
    const ALL: [[Mnemonic; 3]; 16] = [
        [Jo, Seto, Cmovo],
        [Jno, Setno, Cmovno],
        [Jb, Setb, Cmovb],
        [Jae, Setae, Cmovae],
        [Je, Sete, Cmove],
        [Jne, Setne, Cmovne],
        [Jbe, Setbe, Cmovbe],
        [Ja, Seta, Cmova],
        [Js, Sets, Cmovs],
        [Jns, Setns, Cmovns],
        [Jp, Setp, Cmovp],
        [Jnp, Setnp, Cmovnp],
        [Jl, Setl, Cmovl],
        [Jge, Setge, Cmovge],
        [Jle, Setle, Cmovle],
        [Jg, Setg, Cmovg],
    ];
    let whats = [Conditional::Jump, Conditional::Set, Conditional::Move];
    ALL.iter().zip(0..).find_map(|(row, number)| {
        let at = row.iter().position(|&one| one == mnemonic)?;
        Some((whats[at], number))
    })
}
