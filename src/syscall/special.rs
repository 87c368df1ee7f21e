//! Numbers that pack several parts, in strace's notation: I/O priorities, operations of FUTEX_WAKE_OP, instructions of
//! packet filters.

use super::number::symbol;
use crate::constants;
use crate::value::Value;

fn name(set: &str, value: u64) -> String {
    match constants::set(set).and_then(|set| set.exact(value, u64::MAX)) {
        Some(name) => name.to_owned(),
        None => hex(value),
    }
}

fn hex(value: u64) -> String {
    match value {
        0 => "0".to_owned(),
        _ => format!("{value:#x}"),
    }
}

/// `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)`: linux/ioprio.h.
pub(crate) fn io_priority(raw: u64) -> Value {
    let (class, data) = (raw >> 13 & 7, raw & 0x1fff);
    let class = name("ioprio_class", class);
    let text = format!("IOPRIO_PRIO_VALUE({class}, {data})");
    symbol(text, raw as i64)
}

/// `FUTEX_OP_ADD<<28|0x1<<12|FUTEX_OP_CMP_NE<<24|0x5`: `FUTEX_OP()` of linux/futex.h.
pub(crate) fn wake_op(raw: u64) -> Value {
    let shifted = match raw >> 28 & 8 {
        0 => "",
        _ => "FUTEX_OP_OPARG_SHIFT<<28|",
    };
    let text = format!(
        "{shifted}{}<<28|{}<<12|{}<<24|{}",
        name("futex_op", raw >> 28 & 7),
        hex(raw >> 12 & 0xfff),
        name("futex_op_cmp", raw >> 24 & 0xf),
        hex(raw & 0xfff),
    );
    symbol(text, raw as i64)
}

/// `BPF_STMT(BPF_LD|BPF_W|BPF_ABS, 0x4)`, `BPF_JUMP(BPF_JMP|BPF_K|BPF_JEQ, 0x1, 0x2, 0)`: `struct sock_filter` of
/// linux/filter.h as one number. The return value of a seccomp filter is an action.
pub(crate) fn instruction(raw: u64, seccomp: bool) -> Value {
    let (code, operand) = (raw & 0xffff, raw >> 32);
    let (met, unmet) = (raw >> 16 & 0xff, raw >> 24 & 0xff);
    let operation = operation(code);
    let text = match (met, unmet) {
        (0, 0) if seccomp && code & 7 == RETURN => {
            let (action, data) = (operand & 0xffff_0000, operand & 0xffff);
            let action = name("seccomp_action", action);
            match data {
                0 => format!("BPF_STMT({operation}, {action})"),
                _ => format!("BPF_STMT({operation}, {action}|{data:#x})"),
            }
        }
        (0, 0) => format!("BPF_STMT({operation}, {})", hex(operand)),
        _ => format!(
            "BPF_JUMP({operation}, {}, {}, {})",
            hex(operand),
            hex(met),
            hex(unmet)
        ),
    };
    symbol(text, raw as i64)
}

/// `BPF_RET`.
const RETURN: u64 = 6;

/// The parts of an operation beyond its class, by class: a set of names, and the bits that it names.
const PARTS: [&[(&str, u64)]; 8] = [
    &[("bpf_size", 0x18), ("bpf_mode", 0xe0)],
    &[("bpf_size", 0x18), ("bpf_mode", 0xe0)],
    &[],
    &[],
    &[("bpf_src", 8), ("bpf_alu", 0xf0)],
    &[("bpf_src", 8), ("bpf_jump", 0xf0)],
    &[("bpf_rval", 0x18)],
    &[("bpf_misc", 0xf8)],
];

fn operation(code: u64) -> String {
    let class = code & 7;
    let mut text = name("bpf_class", class);
    let mut left = code & !7;
    for (set, mask) in PARTS.get(class as usize).copied().unwrap_or(&[]) {
        text.push('|');
        text.push_str(&name(set, code & mask));
        left &= !mask;
    }
    if left != 0 {
        text.push_str(&format!("|{left:#x}"));
    }
    text
}
