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
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const HAS_ANY: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
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

/// A condition on an argument of a call, by the argument's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The argument is less than this number, which is less than 2^32.
    Below(usize, u32),
    /// Its lower half has one of these bits.
    Any(usize, u32),
    /// Its lower half is this number.
    Is(usize, u32),
}

/// A call that stops only with some arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRule {
    /// The number of the call.
    pub nr: i64,
    /// The conditions, all of which must hold.
    pub when: &'static [Test],
}

/// The first number of the calls of the x32 ABI (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;

/// A filter that stops these calls of the 64-bit ABI, and those that a rule names with such arguments, and lets all
/// others pass at full speed: an array of `struct sock_filter`, as bytes. Its number of instructions is its length
/// divided by [`INSTRUCTION`]. Calls of other ABIs get ENOSYS: they could not be shown to hooks, nor guarded.
pub(super) fn of_calls(numbers: impl IntoIterator<Item = u32>, rules: &[StopRule]) -> Vec<u8> {
    const NR: u32 = 0;
    const NO_CALL: sock_filter = stmt(RET, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    const STOP: sock_filter = stmt(RET, libc::SECCOMP_RET_TRACE | NATIVE as u32);
    let mut program = vec![
        stmt(LOAD, ARCH),
        jump(EQ, AUDIT_ARCH_X86_64, 1, 0),
        NO_CALL,
        stmt(LOAD, NR),
        jump(AT_LEAST, X32, 0, 1),
        NO_CALL,
    ];
    for rule in rules {
        let mut tests = Vec::new();
        for test in rule.when {
            match *test {
                Test::Below(arg, limit) => tests.extend([
                    (stmt(LOAD, upper(arg)), false),
                    (jump(EQ, 0, 0, 0), false),
                    (stmt(LOAD, lower(arg)), false),
                    (jump(AT_LEAST, limit, 0, 0), true),
                ]),
                Test::Any(arg, bits) => tests.extend([
                    (stmt(LOAD, lower(arg)), false),
                    (jump(HAS_ANY, bits, 0, 0), false),
                ]),
                Test::Is(arg, number) => tests.extend([
                    (stmt(LOAD, lower(arg)), false),
                    (jump(EQ, number, 0, 0), false),
                ]),
            }
        }
        let len = tests.len();
        // Past the tests, the stop and the load that follows.
        program.push(jump(EQ, rule.nr as u32, 0, len as u8 + 2));
        for (at, (mut instruction, leaves_if)) in tests.into_iter().enumerate() {
            // Past the other tests and the stop.
            let skipped = (len - at) as u8;
            match (u32::from(instruction.code) == LOAD, leaves_if) {
                (true, _) => {}
                (false, true) => instruction.jt = skipped,
                (false, false) => instruction.jf = skipped,
            }
            program.push(instruction);
        }
        program.push(STOP);
        program.push(stmt(LOAD, NR));
    }
    for number in numbers {
        program.push(jump(EQ, number, 0, 1));
        program.push(STOP);
    }
    program.push(stmt(RET, libc::SECCOMP_RET_ALLOW));
    as_bytes(&program)
}

/// The offset of the lower half of an argument in struct seccomp_data.
fn lower(arg: usize) -> u32 {
    16 + 8 * arg as u32
}

/// The offset of the upper half.
fn upper(arg: usize) -> u32 {
    lower(arg) + 4
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
    use crate::seccomp::{Call, Program};

    const I386: u32 = 0x4000_0003;
    const RULES: &[StopRule] = &[
        StopRule {
            nr: libc::SYS_mmap,
            when: &[Test::Any(3, 0x10), Test::Below(0, 0x7000_5000)],
        },
        StopRule {
            nr: libc::SYS_clone,
            when: &[Test::Any(0, 0x80_0000)],
        },
        StopRule {
            nr: libc::SYS_fcntl,
            when: &[Test::Is(1, 1031)],
        },
    ];

    fn action(arch: u32, nr: i64, args: [u64; 6]) -> u32 {
        let program = of_calls([libc::SYS_fork as u32], RULES);
        let call = Call {
            nr: nr as i32,
            arch,
            ip: 0x1000,
            args,
        };
        Program::new(&program).unwrap().run(&call).action
    }

    #[test]
    fn rules_stop_calls_by_their_arguments() {
        let native = |nr, args| action(AUDIT_ARCH_X86_64, nr, args);
        let stops = native(libc::SYS_fork, [0; 6]);
        let passes = native(libc::SYS_read, [0; 6]);
        assert_ne!(stops, passes);
        let mmap = |addr: u64, flags: u64| native(libc::SYS_mmap, [addr, 1, 0, flags, 0, 0]);
        for (addr, flags, expected) in [
            (0x7000_0000, 0x32, stops),
            (0, 0x10, stops),
            (0x7000_4fff, 0x10, stops),
            (0x7000_5000, 0x10, passes),
            (0x7fff_7000_0000, 0x10, passes),
            (0x1_0000_0000, 0x10, passes),
            (0x7000_0000, 0x22, passes),
        ] {
            assert_eq!(mmap(addr, flags), expected, "{addr:#x} {flags:#x}");
        }
        let fcntl = |command| native(libc::SYS_fcntl, [0, command, 0, 0, 0, 0]);
        assert_eq!((fcntl(1031), fcntl(1032)), (stops, passes));
        assert_eq!(fcntl(1 << 40 | 1031), stops);
        let clone = |flags| native(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
        assert_eq!((clone(0x11), clone(0x80_0011)), (passes, stops));
    }

    #[test]
    fn calls_of_other_abis_are_refused() {
        let refused = action(I386, libc::SYS_fork, [0; 6]);
        assert_eq!(refused, action(I386, 2, [0; 6]));
        let x32 = action(AUDIT_ARCH_X86_64, i64::from(X32) | libc::SYS_read, [0; 6]);
        assert_eq!(refused, x32);
        assert_ne!(refused, action(AUDIT_ARCH_X86_64, libc::SYS_read, [0; 6]));
    }
}
