//! Unwinding: from a stopped task's registers to those of its callers.
//!
//! A caller's registers are found by the module's call frame information (for all registers, so that functions with
//! unusual stacks and signal frames work), by the kernel's frame where a signal handler returns to, by the frame
//! pointer, and by the return address on the stack after a jump to an address without code.

use super::unwind_tables::{Bytes, Tables};
use super::{Deadline, MOST_FRAMES};
use crate::tracee::proc::Map;
use crate::tracee::{Regs, TaskMemory};
use gimli::{CfaRule, EvaluationResult, Location, RegisterRule, UnwindTableRow, Value};
use std::collections::HashSet;

const RBP: usize = 6;
const RSP: usize = 7;
const RIP: usize = 16;

/// The general registers and the instruction pointer by their DWARF numbers (System V ABI, figure 3.36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers([Option<u64>; 17]);

impl Registers {
    fn of(regs: &Regs) -> Registers {
        /// The index of each register in the kernel's `struct user_regs_struct`.
        const ORDER: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];
        let words = regs.to_words();
        Registers(ORDER.map(|at| Some(words[at])))
    }

    /// The registers that the kernel saved at the entry of a signal handler: `gregs` of `struct ucontext`.
    fn saved(words: &[u64; 17]) -> Registers {
        const ORDER: [usize; 17] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7, 16];
        Registers(ORDER.map(|at| Some(words[at])))
    }

    fn get(&self, register: gimli::Register) -> Option<u64> {
        *self.0.get(usize::from(register.0))?
    }

    fn pc(&self) -> Option<u64> {
        self.0[RIP]
    }

    fn sp(&self) -> Option<u64> {
        self.0[RSP]
    }
}

/// The code location of a task or of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLocation {
    /// The next instruction.
    pub pc: u64,
    /// An address in the present instruction: for callers, the call.
    pub at: u64,
    /// Whether it is a signal trampoline, to which handlers return.
    pub trampoline: bool,
}

/// The unwinder's access to the process.
pub trait AddressSpace {
    /// The process's memory.
    fn memory(&self) -> TaskMemory;

    /// The mapping at an address.
    fn map(&self, address: u64) -> Option<&Map>;

    /// Calls `ask` with each table of the module at an address, and with the load bias, until one has an answer.
    fn ask_tables<R>(&self, address: u64, ask: impl Fn(&Tables, u64) -> Option<R>) -> Option<R>;
}

/// The position of a caller.
enum Step {
    /// The caller stands behind its call.
    Caller(Registers),
    /// A signal interrupted the caller before this instruction.
    Interrupted(Registers),
}

/// The code locations of a task and its callers, innermost first.
pub fn walk(space: &impl AddressSpace, regs: &Regs, deadline: &Deadline) -> Vec<CodeLocation> {
    let mut places = Vec::new();
    let mut seen = HashSet::new();
    let mut registers = Registers::of(regs);
    // Behind a system call, too, the present instruction is the one before.
    let mut exact = regs.nr() < 0;
    let mut guesses = 1;
    while let (Some(pc), Some(sp)) = (registers.pc(), registers.sp()) {
        let known = !seen.insert((pc, sp));
        if pc == 0 && !places.is_empty() || known || places.len() >= MOST_FRAMES {
            break;
        }
        let at = if exact { pc } else { pc.wrapping_sub(1) };
        let trampoline = is_trampoline(space.memory(), pc);
        places.push(CodeLocation { pc, at, trampoline });
        if deadline.passed() {
            break;
        }
        let top = places.len() == 1 || exact;
        let step = match trampoline {
            true => interrupted(space.memory(), sp).map(Step::Interrupted),
            false => caller(space, &registers, at, top, &mut guesses),
        };
        (registers, exact) = match step {
            Some(Step::Caller(caller)) => (caller, false),
            Some(Step::Interrupted(interrupted)) => (interrupted, true),
            None => break,
        };
    }
    places
}

/// The next caller. `top`: the registers are those of the task itself.
fn caller(
    space: &impl AddressSpace,
    registers: &Registers,
    at: u64,
    top: bool,
    guesses: &mut u32,
) -> Option<Step> {
    if !is_code(space, at) {
        return returned(space, registers, guesses).map(Step::Caller);
    }
    if let Some(ruled) = by_rules(space, registers, at) {
        return ruled;
    }
    by_frame_pointer(space, registers)
        .or_else(|| match top {
            true => returned(space, registers, guesses),
            false => None,
        })
        .map(Step::Caller)
}

/// Whether an address is executable.
pub fn is_code(space: &impl AddressSpace, address: u64) -> bool {
    let map = space.map(address);
    map.is_some_and(|map| map.prot & libc::PROT_EXEC != 0)
}

/// The caller by the module's call frame information: `Some(None)` for the outermost function.
fn by_rules(space: &impl AddressSpace, registers: &Registers, at: u64) -> Option<Option<Step>> {
    let memory = space.memory();
    space.ask_tables(at, |tables, bias| {
        tables
            .at(
                at.wrapping_sub(bias),
                &mut |row, section, encoding, signal| {
                    let rules = Rules {
                        row,
                        section,
                        encoding,
                        registers,
                        memory,
                    };
                    let next = rules.caller()?;
                    let Some(pc) = next.pc() else {
                        return Some(None);
                    };
                    // Stacks grow downwards, and only a signal changes them.
                    let rising = next.sp() > registers.sp();
                    match signal {
                        true => Some(Some(Step::Interrupted(next))),
                        false if rising && pc != 0 => Some(Some(Step::Caller(next))),
                        false if rising => Some(None),
                        false => None,
                    }
                },
            )
            .flatten()
    })
}

struct Rules<'a> {
    row: &'a UnwindTableRow<usize>,
    section: Bytes<'a>,
    encoding: gimli::Encoding,
    registers: &'a Registers,
    memory: TaskMemory,
}

impl Rules<'_> {
    /// The caller's registers; without an instruction pointer where there is no caller.
    fn caller(&self) -> Option<Registers> {
        let cfa = match self.row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.registers.get(*register)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None)?,
        };
        let mut next = *self.registers;
        next.0[RSP] = Some(cfa);
        for (register, rule) in self.row.registers() {
            if let Some(slot) = next.0.get_mut(usize::from(register.0)) {
                *slot = self.apply(rule, *register, cfa);
            }
        }
        let return_address = gimli::X86_64::RA;
        match self.row.register(return_address) {
            None | Some(RegisterRule::Undefined) => next.0[RIP] = None,
            // The caller is lost, which is not the same as the outermost function.
            Some(_) => {
                next.pc()?;
            }
        }
        Some(next)
    }

    fn apply(&self, rule: &RegisterRule<usize>, me: gimli::Register, cfa: u64) -> Option<u64> {
        let word = |at| self.memory.word(at).ok();
        match rule {
            RegisterRule::SameValue => self.registers.get(me),
            RegisterRule::Offset(offset) => word(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.registers.get(*other),
            RegisterRule::Expression(expression) => word(self.evaluate(expression, Some(cfa))?),
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(cfa)),
            RegisterRule::Constant(value) => Some(*value),
            RegisterRule::Undefined | RegisterRule::Architectural => None,
        }
    }

    /// The value of an expression with this initial stack.
    fn evaluate(
        &self,
        expression: &gimli::UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Option<u64> {
        /// The limit on operations; real expressions have about ten.
        const MOST: u32 = 1000;
        let mut bytes = self.section;
        gimli::Reader::skip(&mut bytes, expression.offset).ok()?;
        let bytes = gimli::Reader::split(&mut bytes, expression.length).ok()?;
        let mut evaluation = gimli::Expression(bytes).evaluation(self.encoding);
        evaluation.set_max_iterations(MOST);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.registers.get(register)?);
                    evaluation.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let mut word = [0; 8];
                    let wanted = word.get_mut(..usize::from(size))?;
                    self.memory.read_exact(address, wanted).ok()?;
                    let value = Value::Generic(u64::from_le_bytes(word));
                    evaluation.resume_with_memory(value).ok()?
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(initial?).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Some(address),
                Location::Value { value } => value.to_u64(u64::MAX).ok(),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether an address is in a signal trampoline: at the call of rt_sigreturn(2), or behind it.
fn is_trampoline(memory: TaskMemory, pc: u64) -> bool {
    /// `mov $15, %rax`, as the C libraries have it, or `mov $15, %eax`; then `syscall`.
    const CODES: [&[u8]; 2] = [
        &[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05],
        &[0xb8, 15, 0, 0, 0, 0x0f, 0x05],
    ];
    CODES.iter().any(|code| {
        let len = code.len();
        let behind = pc.wrapping_sub(len as u64);
        memory.bytes(pc, len) == *code || memory.bytes(behind, len) == *code
    })
}

/// The registers that the return from a signal handler restores; `sp` is one word above the handler's return address.
fn interrupted(memory: TaskMemory, sp: u64) -> Option<Registers> {
    /// `uc_mcontext` in `struct ucontext`.
    const SAVED: u64 = 40;
    let bytes = memory.bytes(sp.wrapping_add(SAVED), 17 * 8);
    let words: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    Some(Registers::saved(words.as_slice().try_into().ok()?))
}

/// The caller of a function that keeps a frame pointer.
fn by_frame_pointer(space: &impl AddressSpace, registers: &Registers) -> Option<Registers> {
    /// The limit on the size of a frame.
    const FAR: u64 = 16 << 20;
    let (sp, frame) = (registers.sp()?, registers.0[RBP]?);
    if !frame.is_multiple_of(8) || frame < sp || frame - sp > FAR {
        return None;
    }
    let memory = space.memory();
    let (above, pc) = (memory.word(frame).ok()?, memory.word(frame + 8).ok()?);
    if !is_return_address(space, pc) {
        return None;
    }
    let mut next = *registers;
    next.0[RBP] = Some(above);
    next.0[RSP] = Some(frame + 16);
    next.0[RIP] = Some(pc);
    Some(next)
}

/// The caller by the return address on top of the stack, as it is right after a jump to an address without code. Where
/// that word is no return address, the first return address behind it is taken, once.
fn returned(
    space: &impl AddressSpace,
    registers: &Registers,
    guesses: &mut u32,
) -> Option<Registers> {
    /// The number of examined words.
    const NEAR: usize = 512;
    let sp = registers.sp()?;
    let stack = space.memory().bytes(sp, NEAR * 8);
    let words = stack.as_chunks::<8>().0.iter().enumerate();
    for (at, word) in words {
        if at > 0 {
            *guesses = match (*guesses, at) {
                (0, 1) => return None,
                (left, 1) => left - 1,
                (left, _) => left,
            };
        }
        let pc = u64::from_le_bytes(*word);
        if is_return_address(space, pc) {
            let mut next = *registers;
            next.0[RSP] = Some(sp.wrapping_add(8 * (at as u64 + 1)));
            next.0[RIP] = Some(pc);
            return Some(next);
        }
    }
    None
}

/// Whether there is code at an address, and a call instruction before it.
fn is_return_address(space: &impl AddressSpace, pc: u64) -> bool {
    const DIRECT: u8 = 0xe8;
    const INDIRECT: u8 = 0xff;
    /// The lengths of indirect calls, without a prefix.
    const LENGTHS: [usize; 5] = [2, 3, 4, 6, 7];
    if !is_code(space, pc) {
        return false;
    }
    let before = space.memory().bytes(pc.wrapping_sub(7), 7);
    let Ok(before) = <[u8; 7]>::try_from(before) else {
        return false;
    };
    before[2] == DIRECT
        || LENGTHS.iter().any(|len| {
            let at = 7 - len;
            before[at] == INDIRECT && before[at + 1] >> 3 & 7 == 2
        })
}
