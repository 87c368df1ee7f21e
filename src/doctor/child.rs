//! Checks of the calls that tracing and replay need, made in an empty traced process.

use super::{Finding, machine};
use crate::constants::is_error;
use crate::syscall::Memory;
use crate::tracee::{self, Remote, agent, probe, spawn};

const RECORDS: &str = "programs can be recorded, replayed and injected into";
const NOTHING: &str = "nothing can be recorded, replayed or injected into";

pub(super) fn examine() -> Vec<Finding> {
    let counter = counter();
    let mut task = match spawn::start_empty() {
        Ok(task) => task,
        Err(error) => return vec![untraceable(&error), counter],
    };
    let yama = match machine::sysctl("kernel/yama/ptrace_scope") {
        Some(scope) => format!("Yama's ptrace_scope is {scope}"),
        None => "there is no Yama".into(),
    };
    let traced = format!("a child was traced (PTRACE_SEIZE; {yama})");
    let stopped = "a child's calls were stopped (seccomp, SECCOMP_RET_TRACE)";
    let mut findings = vec![
        Finding::ok("ptrace", traced, RECORDS).essential(),
        Finding::ok("seccomp filter", stopped, RECORDS).essential(),
    ];
    findings.push(memory(&task));
    findings.push(counter);
    match task.remote_at_boundary() {
        Ok(mut remote) => {
            findings.push(layout(&mut remote));
            findings.push(cpuid(&mut remote));
            findings.push(clone3(&mut remote));
        }
        Err(error) => {
            let tried = format!("a call in a traced child: {error}");
            findings.push(Finding::lack("remote calls", tried, NOTHING, "").essential());
        }
    }
    findings
}

/// The lack that explains why a child could not be traced.
fn untraceable(error: &tracee::Error) -> Finding {
    let tried = format!("no child could be traced: {error}");
    let scope = machine::sysctl("kernel/yama/ptrace_scope");
    let actions = machine::sysctl("kernel/seccomp/actions_avail").unwrap_or_default();
    let (name, advice) = if matches!(error, tracee::Error::Os { what, .. } if what == "trace it") {
        let advice = match scope.as_deref() {
            Some("3") => "ptrace_scope 3 stays until the next boot: boot with another value",
            Some("2") => "sysctl kernel.yama.ptrace_scope=1",
            _ => "in a container, allow the call ptrace (Docker: --cap-add SYS_PTRACE)",
        };
        ("ptrace", advice)
    } else if actions.split_whitespace().any(|action| action == "trace") {
        (
            "seccomp filter",
            "in a container, allow the calls prctl and seccomp",
        )
    } else {
        (
            "seccomp filter",
            "use a kernel with CONFIG_SECCOMP_FILTER, 4.14 or later",
        )
    };
    Finding::lack(name, tried, NOTHING, advice).essential()
}

fn memory(task: &tracee::Stopped) -> Finding {
    let mut code = [0; agent::CODE.len()];
    let name = "process_vm_readv";
    if task.memory().read(agent::SYSCALL, &mut code) == code.len() && code == agent::CODE {
        let tried = "a child's memory was read (process_vm_readv)";
        return Finding::ok(name, tried, RECORDS).essential();
    }
    let advice = "in a container, allow the calls process_vm_readv and process_vm_writev";
    let tried = "a child's memory could not be read";
    Finding::lack(name, tried, NOTHING, advice).essential()
}

fn counter() -> Finding {
    let name = "rdtsc trap";
    match probe::counter_can_be_hidden() {
        Ok(()) => {
            let tried = "reads of the time stamp counter can be trapped (PR_SET_TSC)";
            Finding::ok(name, tried, "they are recorded, too").essential()
        }
        Err(error) => {
            let tried = format!("reads of the time stamp counter cannot be trapped: {error}");
            let advice = "in a container or sandbox (gVisor), allow prctl(PR_SET_TSC)";
            Finding::lack(name, tried, NOTHING, advice).essential()
        }
    }
}

/// Makes a call that should succeed; the error otherwise.
pub(super) fn call(
    remote: &mut Remote<'_>,
    nr: i64,
    args: [u64; 6],
) -> Result<i64, std::io::Error> {
    match remote.call(nr, args) {
        Ok(ret) if is_error(ret) => Err(std::io::Error::from_raw_os_error(-ret as i32)),
        Ok(ret) => Ok(ret),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Checks `prctl(PR_SET_MM, PR_SET_MM_MAP)`, with the layout that the process has.
fn layout(remote: &mut Remote<'_>) -> Finding {
    let name = "memory layout";
    let tid = remote.memory().tid();
    let set = tracee::proc::layout(tid)
        .map_err(std::io::Error::other)
        .and_then(|l| {
            let (start, end) = (agent::START, agent::END);
            let brk = end + 0x1000;
            let words: [u64; 13] = [
                start,
                end,
                start,
                end,
                brk,
                brk,
                l.start_stack,
                l.arg_start,
                l.arg_end,
                l.env_start,
                l.env_end,
                0,
                // auxv_size = 0, exe_fd = -1
                0xffff_ffff_0000_0000,
            ];
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let at = remote.put(&bytes).map_err(std::io::Error::other)?;
            let (option, map) = (libc::PR_SET_MM as u64, libc::PR_SET_MM_MAP as u64);
            let args = [option, map, at, bytes.len() as u64, 0, 0];
            call(remote, libc::SYS_prctl, args)
        });
    match set {
        Ok(_) => {
            let tried = "a child's layout was set (prctl PR_SET_MM_MAP)";
            Finding::ok(name, tried, "a recorded process can be restored").essential()
        }
        Err(error) => {
            let tried = format!("a child's layout could not be set (prctl PR_SET_MM_MAP): {error}");
            let means = "no recording can be replayed or injected into";
            let advice = "use a kernel with CONFIG_CHECKPOINT_RESTORE, as the distributions' have";
            Finding::lack(name, tried, means, advice).essential()
        }
    }
}

fn cpuid(remote: &mut Remote<'_>) -> Finding {
    const ARCH_SET_CPUID: u64 = 0x1012;
    let faulting = call(
        remote,
        libc::SYS_arch_prctl,
        [ARCH_SET_CPUID, 0, 0, 0, 0, 0],
    );
    let random = std::arch::is_x86_feature_detected!("rdrand");
    let name = "cpuid faulting";
    match (faulting, random) {
        (Ok(_), _) => Finding::ok(
            name,
            "cpuid was made to trap (ARCH_SET_CPUID)",
            "no code sees RDRAND and the like, and recordings replay anywhere as on this processor",
        ),
        (Err(error), true) => Finding::note(
            name,
            format!("cpuid cannot be made to trap ({error}), and the processor has RDRAND"),
            "instructions in programs' files are replaced, and replay anywhere as on this processor; code that is \
             generated at run time reaches the real processor",
        )
        .advise(
            "where a replay leaves its recording for that (it says so), record with \
             OPENSSL_ia32cap=~0x4000000000000000:~0x40000 (OpenSSL), a line intel-rdrand in /etc/gcrypt/hwf.deny \
             (libgcrypt), or on an Intel processor without a hypervisor",
        ),
        (Err(error), false) => Finding::ok(
            name,
            format!("cpuid cannot be made to trap ({error}), but there is no RDRAND either"),
            "programs find no random numbers in the processor",
        ),
    }
}

/// Checks clone3: an outer filter's answer takes precedence over rrapper's, which then does not see the call.
fn clone3(remote: &mut Remote<'_>) -> Finding {
    let name = "clone3";
    match call(remote, libc::SYS_clone3, [0; 6]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Finding::note(
            name,
            "clone3 is answered with ENOSYS before rrapper sees it (a container's filter, or an old kernel)",
            "programs use clone instead, and are recorded doing so",
        ),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Finding::note(
            name,
            "clone3 is answered with EPERM before rrapper sees it (a container's filter)",
            "programs with a new C library cannot make threads here, recorded or not",
        )
        .advise("update the container runtime"),
        _ => Finding::ok(
            name,
            "clone3 reaches the kernel",
            "threads and processes are made as on any machine",
        ),
    }
}
