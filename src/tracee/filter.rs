//! The seccomp filter of every traced process: each call stops at its entry (`SECCOMP_RET_TRACE`).
//!
//! An emulated call costs one stop, and a call that is made one or two. Where another filter is in force around rrapper
//! (a container's), record, replay and injection see its effects alike. No address is exempt, not even the agent's
//! page: a recording may be hostile, and the code in it must not find an address from which its calls go unseen.

use libc::{sock_filter, sock_fprog};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// The offset of `arch` in struct seccomp_data (seccomp(2)).
const ARCH: u32 = 4;

/// The event message (`PTRACE_GETEVENTMSG`) of a call of the 64-bit ABI.
pub const NATIVE: u16 = 0;

/// The event message of a call of another ABI (`int 0x80`).
pub const FOREIGN: u16 = 1;

/// The event message of a call through the vsyscall page, which is above all addresses of programs.
pub const LEGACY: u16 = 2;

/// The offset of the upper half of `instruction_pointer`, and its value for kernel addresses.
const IP_UPPER: u32 = 12;
const KERNEL: u32 = 0xffff_ffff;

const fn stmt(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RET: u32 = libc::BPF_RET | libc::BPF_K;

static PROGRAM: [sock_filter; 7] = [
    stmt(LOAD, ARCH),
    jump(EQ, AUDIT_ARCH_X86_64, 1, 0),
    stmt(RET, libc::SECCOMP_RET_TRACE | FOREIGN as u32),
    stmt(LOAD, IP_UPPER),
    jump(EQ, KERNEL, 1, 0),
    stmt(RET, libc::SECCOMP_RET_TRACE | NATIVE as u32),
    stmt(RET, libc::SECCOMP_RET_TRACE | LEGACY as u32),
];

/// Installs the filter for the calling thread. Only makes system calls, so that a forked child may use it. Returns 0 or
/// -1 with errno set.
///
/// Needs no privilege, since it first sets `no_new_privs`: set-user-ID programs
/// therefore run without their owner's rights.
pub(super) fn install() -> i32 {
    let program = sock_fprog {
        len: PROGRAM.len() as u16,
        filter: PROGRAM.as_ptr().cast_mut(),
    };
    // SAFETY: plain prctl calls; the kernel copies the program, which is static.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return -1;
        }
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    }
}

/// A call that stops only with a certain value of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWith {
    /// The number of the call.
    pub call: u32,
    /// The index of the argument, from 0.
    pub arg: u32,
    /// The lower half of the argument, which is all of it for the kernel where it is an `int`.
    pub value: u32,
}

/// A filter that stops these calls of the 64-bit ABI, and lets all others pass at full speed: an array of
/// `struct sock_filter`, as bytes. Its number of instructions is its length divided by [`INSTRUCTION`].
pub(super) fn of_calls(
    numbers: impl IntoIterator<Item = u32>,
    with: impl IntoIterator<Item = CallWith>,
) -> Vec<u8> {
    const NR: u32 = 0;
    // The offset of `args`, each of eight bytes.
    const ARGS: u32 = 16;
    let trace = stmt(RET, libc::SECCOMP_RET_TRACE | NATIVE as u32);
    let mut program = vec![
        stmt(LOAD, ARCH),
        jump(EQ, AUDIT_ARCH_X86_64, 1, 0),
        stmt(RET, libc::SECCOMP_RET_ALLOW),
        stmt(LOAD, NR),
    ];
    for number in numbers {
        program.extend([jump(EQ, number, 0, 1), trace]);
    }
    for CallWith { call, arg, value } in with {
        program.extend([
            jump(EQ, call, 0, 4),
            stmt(LOAD, ARGS + 8 * arg),
            jump(EQ, value, 0, 1),
            trace,
            stmt(LOAD, NR),
        ]);
    }
    program.push(stmt(RET, libc::SECCOMP_RET_ALLOW));
    as_bytes(&program)
}

/// A filter that stops all calls, as bytes.
pub(super) fn of_all_calls() -> Vec<u8> {
    as_bytes(&PROGRAM)
}

/// A filter with the same action for all calls (`SECCOMP_RET_*`).
pub(super) fn always(action: u32) -> Vec<u8> {
    as_bytes(&[stmt(RET, action)])
}

fn as_bytes(program: &[sock_filter]) -> Vec<u8> {
    let bytes = |i: &sock_filter| {
        let [a, b] = i.code.to_le_bytes();
        let [k0, k1, k2, k3] = i.k.to_le_bytes();
        [a, b, i.jt, i.jf, k0, k1, k2, k3]
    };
    program.iter().flat_map(bytes).collect()
}

/// The size of an instruction of a filter.
pub(super) const INSTRUCTION: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a filter of loads, comparisons and returns stops a call of the 64-bit ABI.
    fn stops(filter: &[u8], nr: u32, arg: u64) -> bool {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&nr.to_le_bytes());
        data[4..8].copy_from_slice(&AUDIT_ARCH_X86_64.to_le_bytes());
        data[24..32].copy_from_slice(&arg.to_le_bytes());
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let (mut at, mut loaded) = (0, 0);
        loop {
            let code = &filter[at * INSTRUCTION..(at + 1) * INSTRUCTION];
            let k = word(&code[4..8]);
            at += 1;
            match u32::from(u16::from_le_bytes([code[0], code[1]])) {
                LOAD => loaded = word(&data[k as usize..k as usize + 4]),
                EQ if loaded == k => at += usize::from(code[2]),
                EQ => at += usize::from(code[3]),
                RET => return k != libc::SECCOMP_RET_ALLOW,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn a_call_stops_only_with_the_argument() {
        let with = |call, value| CallWith {
            call,
            arg: 1,
            value,
        };
        let filter = of_calls([1, 72], [with(5, 1031), with(5, 7), with(6, 7)]);
        for (nr, arg, expected) in [
            (1, 0, true),
            (72, 5, true),
            (5, 1031, true),
            (5, 1031 | 1 << 40, true),
            (5, 7, true),
            (5, 8, false),
            (6, 7, true),
            (6, 1031, false),
            (7, 7, false),
            (1031, 1031, false),
        ] {
            assert_eq!(stops(&filter, nr, arg), expected, "{nr} {arg}");
        }
    }
}
