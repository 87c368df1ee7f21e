//! The process itself: identity, limits, scheduling, memory, children.

use super::super::run::Case;
use super::super::setup::Setup;
use super::{case, fails};

const WNOHANG: u64 = 1;

pub fn cases() -> Vec<Case> {
    let mut all = identity();
    all.extend(children());
    all.extend(scheduling());
    all.extend(memory());
    all.extend(prctl());
    all.extend(system());
    all
}

fn none(_: &mut Setup) -> Vec<u64> {
    Vec::new()
}

fn identity() -> Vec<Case> {
    let mut all: Vec<Case> = [
        "getuid",
        "getgid",
        "geteuid",
        "getegid",
        "getppid",
        "getpgrp",
        "gettid",
        "setsid",
        "sched_yield",
        "munlockall",
    ]
    .into_iter()
    .map(|call| case(call, "", none))
    .collect();
    all.extend([
        case("getpgid", "", |_| vec![0]),
        case("getsid", "", |_| vec![0]),
        case("setpgid", "", |_| vec![0, 0]),
        case("setuid", "to itself", |s| {
            vec![s.call(libc::SYS_getuid, &[]) as u64]
        }),
        case("setgid", "to itself", |s| {
            vec![s.call(libc::SYS_getgid, &[]) as u64]
        }),
        case("setreuid", "", |_| vec![u64::MAX, u64::MAX]),
        case("setregid", "", |_| vec![u64::MAX, u64::MAX]),
        case("setresuid", "", |_| vec![u64::MAX, u64::MAX, u64::MAX]),
        case("setresgid", "", |_| vec![u64::MAX, u64::MAX, u64::MAX]),
        case("setfsuid", "", |s| {
            vec![s.call(libc::SYS_getuid, &[]) as u64]
        }),
        case("setfsgid", "", |s| {
            vec![s.call(libc::SYS_getgid, &[]) as u64]
        }),
        case("getresuid", "", |s| vec![s.out(4), s.out(4), s.out(4)]),
        case("getresgid", "", |s| vec![s.out(4), s.out(4), s.out(4)]),
        case("getgroups", "", |s| {
            // As root it has two groups, whatever it was started with.
            let groups = s.ints(&[1, 2]);
            s.call(libc::SYS_setgroups, &[2, groups]);
            vec![256, s.out(1024)]
        }),
        case("getgroups", "how many", |_| vec![0, 0]),
        case("setgroups", "", |s| vec![1, s.ints(&[1])]),
        case("capget", "version 3", |s| {
            vec![s.longs(&[0x2008_0522]), s.out(24)]
        }),
        case("capget", "version 1", |s| {
            vec![s.longs(&[0x1998_0330]), s.out(12)]
        }),
        case("capget", "which version", |s| vec![s.longs(&[0]), 0]),
        fails("capget", "an unknown version", libc::EINVAL, |s| {
            vec![s.longs(&[7]), s.out(24)]
        }),
        case("capset", "", |s| {
            let (head, data) = (s.longs(&[0x2008_0522]), s.longs(&[0; 3]));
            vec![head, data]
        }),
        case("personality", "", |_| vec![0xffff_ffff]),
    ]);
    all
}

fn children() -> Vec<Case> {
    vec![
        case("wait4", "a child's end", |s| {
            vec![s.child(3), s.out(4), 0, s.out(144)]
        }),
        case("wait4", "a killed child", |s| {
            let child = s.waiting_child();
            s.call(libc::SYS_kill, &[child, libc::SIGTERM as u64]);
            vec![child, s.out(4), 0, 0]
        }),
        case("wait4", "no child yet", |s| {
            vec![s.waiting_child(), s.out(4), WNOHANG, s.out(144)]
        }),
        fails("wait4", "no child", libc::ECHILD, |s| {
            vec![u64::MAX, s.out(4), 0, s.out(144)]
        }),
        case("waitid", "a child's end", |s| {
            vec![1, s.child(3), s.out(128), 4, s.out(144)]
        }),
        case("waitid", "no child yet", |s| {
            vec![1, s.waiting_child(), s.out(128), 4 | WNOHANG, s.out(144)]
        }),
        fails("waitid", "no child", libc::ECHILD, |s| {
            vec![0, 0, s.out(128), 4, s.out(144)]
        }),
        case("kill", "", |s| vec![s.waiting_child(), 0]),
        case("tkill", "", |s| vec![s.waiting_child(), 0]),
        case("tgkill", "", |s| {
            let child = s.waiting_child();
            vec![child, child, 0]
        }),
        case("pidfd_open", "", |s| vec![s.waiting_child(), 0]),
        case("pidfd_send_signal", "", |s| {
            let child = s.waiting_child();
            vec![s.fd(libc::SYS_pidfd_open, &[child, 0]), 0, 0, 0]
        }),
        case("pidfd_getfd", "", |s| {
            let child = s.waiting_child();
            vec![s.fd(libc::SYS_pidfd_open, &[child, 0]), 2, 0]
        }),
        case("kcmp", "", |s| {
            let me = s.call(libc::SYS_getpid, &[]) as u64;
            vec![me, me, 0, 1, 2]
        }),
        case("process_vm_readv", "", |s| {
            let me = s.call(libc::SYS_getpid, &[]) as u64;
            let (local, remote) = (
                [(s.out(5), 5), (s.out(16), 16)],
                [(s.bytes(b"hello world"), 11)],
            );
            vec![me, s.vector(&local), 2, s.vector(&remote), 1, 0]
        }),
        case("process_vm_writev", "to another", |s| {
            let page = s.bytes(b"hello");
            let child = s.waiting_child();
            let (local, remote) = ([(page, 5)], [(page, 5)]);
            vec![child, s.vector(&local), 1, s.vector(&remote), 1, 0]
        }),
        case("ptrace", "to look", |s| {
            let page = s.page();
            vec![2, traced(s), page, s.out(8)]
        }),
        case("ptrace", "registers", |s| {
            let child = traced(s);
            vec![12, child, 0, s.out(216)]
        }),
        case("ptrace", "its siginfo", |s| {
            let child = traced(s);
            vec![0x4202, child, 0, s.out(128)]
        }),
        case("ptrace", "its message", |s| {
            let child = traced(s);
            vec![0x4201, child, 0, s.out(8)]
        }),
        case("ptrace", "floating-point registers", |s| {
            let child = traced(s);
            vec![14, child, 0, s.out(512)]
        }),
    ]
}

/// A stopped child, attached to.
fn traced(s: &mut Setup) -> u64 {
    let child = s.waiting_child();
    assert_eq!(s.call(libc::SYS_ptrace, &[16, child, 0, 0]), 0);
    // SAFETY: our child; nothing is asked for.
    unsafe { libc::waitpid(child as i32, std::ptr::null_mut(), libc::__WALL) };
    child
}

fn scheduling() -> Vec<Case> {
    vec![
        case("getpriority", "", |_| vec![0, 0]),
        case("setpriority", "", |_| vec![0, 0, 5]),
        case("ioprio_get", "", |_| vec![1, 0]),
        case("ioprio_set", "", |_| vec![1, 0, 2 << 13]),
        case("sched_getparam", "", |s| vec![0, s.out(4)]),
        case("sched_setparam", "", |s| vec![0, s.ints(&[0])]),
        case("sched_getscheduler", "", |_| vec![0]),
        case("sched_setscheduler", "", |s| vec![0, 0, s.ints(&[0])]),
        case("sched_get_priority_max", "", |_| vec![1]),
        case("sched_get_priority_min", "", |_| vec![1]),
        case("sched_rr_get_interval", "", |s| vec![0, s.out(16)]),
        case("sched_getattr", "", |s| vec![0, s.out(56), 56, 0]),
        case("sched_getattr", "the first version", |s| {
            vec![0, s.out(48), 48, 0]
        }),
        case("sched_getattr", "more room", |s| {
            vec![0, s.out(200), 200, 0]
        }),
        case("sched_setattr", "", |s| {
            let mut attr = [0u64; 6];
            attr[0] = 48;
            vec![0, s.longs(&attr), 0]
        }),
        case("sched_getaffinity", "", |s| vec![0, 128, s.out(128)]),
        case("sched_setaffinity", "", |s| {
            let set = s.longs(&[u64::MAX; 16]);
            vec![0, 128, set]
        }),
        case("getcpu", "", |s| vec![s.out(4), s.out(4), 0]),
        case("getrlimit", "", |s| vec![7, s.out(16)]),
        case("setrlimit", "", |s| vec![4, s.longs(&[0, 0])]),
        case("prlimit64", "", |s| vec![0, 4, s.longs(&[0, 0]), s.out(16)]),
        case("getrusage", "", |s| vec![0, s.out(144)]),
        case("times", "", |s| vec![s.out(32)]),
        case("membarrier", "", |_| vec![0, 0]),
        case("set_robust_list", "", |s| {
            let page = s.page();
            vec![page, 24]
        }),
        case("get_robust_list", "", |s| vec![0, s.out(8), s.out(8)]),
        case("set_tid_address", "", |s| vec![s.page()]),
        fails("restart_syscall", "nothing to restart", libc::EINTR, none),
    ]
}

fn memory() -> Vec<Case> {
    vec![
        case("mmap", "nothing", |_| vec![0, 4096, 3, 0x22, u64::MAX, 0]),
        case("mprotect", "", |s| vec![s.page(), 4096, 1]),
        case("munmap", "", |s| vec![s.page(), 4096]),
        case("mremap", "", |s| vec![s.page(), 4096, 8192, 1]),
        case("brk", "", |_| vec![0]),
        case("madvise", "", |s| vec![s.page(), 4096, 4]),
        case("mincore", "one page", |s| vec![s.page(), 4096, s.out(1)]),
        case("mincore", "a part of a page", |s| {
            vec![s.page(), 100, s.out(1)]
        }),
        case("mlock", "", |s| vec![s.page(), 4096]),
        case("mlock2", "", |s| vec![s.page(), 4096, 0]),
        case("munlock", "", |s| vec![s.page(), 4096]),
        case("mlockall", "", |_| vec![2]),
        case("remap_file_pages", "", |s| {
            let fd = s.file(&[7; 8192]);
            let mapped = s.call(libc::SYS_mmap, &[0, 8192, 3, 1, fd, 0]) as u64;
            vec![mapped, 4096, 0, 1, 0]
        }),
        case("pkey_alloc", "", |_| vec![0, 0]),
        case("pkey_mprotect", "", |s| vec![s.page(), 4096, 1, u64::MAX]),
        case("mseal", "", |s| vec![s.page(), 4096, 0]),
        case("get_mempolicy", "the policy", |s| {
            vec![s.out(4), s.out(128), 1024, 0, 0]
        }),
        case("get_mempolicy", "a node", |s| vec![s.out(4), 0, 0, 0, 1]),
        case("get_mempolicy", "what is allowed", |s| {
            vec![0, s.out(128), 1024, 0, 4]
        }),
        case("set_mempolicy", "", |_| vec![0, 0, 0]),
        case("mbind", "", |s| vec![s.page(), 4096, 0, 0, 0, 0]),
        case("migrate_pages", "", |s| {
            vec![0, 64, s.longs(&[1]), s.longs(&[1])]
        }),
        case("move_pages", "where they are", |s| {
            let page = s.page();
            // SAFETY: a page of ours.
            unsafe { (page as *mut u8).write(1) };
            vec![0, 1, s.longs(&[page]), 0, s.out(4), 0]
        }),
        case("process_madvise", "", |s| {
            let me = s.call(libc::SYS_getpid, &[]) as u64;
            let fd = s.fd(libc::SYS_pidfd_open, &[me, 0]);
            let page = s.page();
            vec![fd, s.vector(&[(page, 4096)]), 1, 20, 0]
        }),
    ]
}

fn prctl() -> Vec<Case> {
    vec![
        case("prctl", "PR_SET_NAME", |s| vec![15, s.path("name")]),
        case("prctl", "PR_GET_NAME", |s| vec![16, s.out(16)]),
        case("prctl", "PR_SET_PDEATHSIG", |_| vec![1, 0]),
        case("prctl", "PR_GET_PDEATHSIG", |s| vec![2, s.out(4)]),
        case("prctl", "PR_GET_CHILD_SUBREAPER", |s| vec![37, s.out(4)]),
        case("prctl", "PR_GET_TSC", |s| vec![25, s.out(4)]),
        case("prctl", "PR_GET_DUMPABLE", |_| vec![3]),
        case("prctl", "PR_GET_KEEPCAPS", |_| vec![7]),
        case("prctl", "PR_GET_NO_NEW_PRIVS", |_| vec![39, 0, 0, 0, 0]),
        case("prctl", "PR_SET_DUMPABLE", |_| vec![4, 1]),
        case("prctl", "PR_SET_KEEPCAPS", |_| vec![8, 0]),
        case("prctl", "PR_SET_NO_NEW_PRIVS", |_| vec![38, 1, 0, 0, 0]),
        case("prctl", "PR_CAPBSET_READ", |_| vec![23, 5]),
        case("prctl", "PR_CAP_AMBIENT", |_| vec![47, 4, 0, 0, 0]),
        case("prctl", "PR_GET_SPECULATION_CTRL", |_| vec![52, 0, 0, 0, 0]),
        case("prctl", "PR_GET_TID_ADDRESS", |s| vec![40, s.out(8)]),
        case("prctl", "PR_SET_VMA", |s| {
            vec![0x5356_4d41, 0, s.page(), 4096, s.path("name")]
        }),
        case("prctl", "PR_SET_SECCOMP", |_| vec![21]),
        case("prctl", "PR_SET_MM", |s| vec![35, 14, s.out(4), 0, 0]),
        case("prctl", "PR_SCHED_CORE", |s| vec![62, 0, 0, 0, s.out(8)]),
        case("prctl", "PR_GET_AUXV", |s| {
            vec![0x4155_5856, s.out(400), 400, 0, 0]
        }),
        case("arch_prctl", "ARCH_GET_FS", |s| vec![0x1003, s.out(8)]),
        case("arch_prctl", "ARCH_GET_CPUID", |_| vec![0x1011]),
        case("arch_prctl", "ARCH_GET_XCOMP_SUPP", |s| {
            vec![0x1021, s.out(8)]
        }),
    ]
}

fn system() -> Vec<Case> {
    vec![
        case("uname", "", |s| vec![s.out(390)]),
        case("sysinfo", "", |s| vec![s.out(112)]),
        case("getrandom", "", |s| vec![s.out(40), 40, 0]),
        case("syslog", "SYSLOG_ACTION_SIZE_BUFFER", |_| vec![10, 0, 0]),
        case("syslog", "SYSLOG_ACTION_READ_ALL", |s| {
            vec![3, s.out(64), 64]
        }),
        case("seccomp", "what there is", |s| {
            vec![2, 0, s.ints(&[0x7fff_0000])]
        }),
        case("seccomp", "sizes", |s| vec![3, 0, s.out(6)]),
        case("modify_ldt", "to read", |s| {
            let entry = s.ints(&[0, 0, 0xfff, 0]);
            s.call(libc::SYS_modify_ldt, &[1, entry, 16]);
            vec![0, s.out(64), 64]
        }),
        case("modify_ldt", "to write", |s| {
            vec![1, s.ints(&[0, 0, 0xfff, 0]), 16]
        }),
        case("modify_ldt", "the default", |s| vec![2, s.out(128), 128]),
        case("iopl", "", |_| vec![0]),
        case("ioperm", "", |_| vec![0, 1, 0]),
        case("bpf", "", |s| {
            let mut attr = [0u8; 72];
            attr[0] = 2; // an array, of ints
            attr[4] = 4;
            attr[8] = 4;
            attr[12] = 1;
            vec![0, s.bytes(&attr), 72]
        }),
        case("landlock_create_ruleset", "the version", |_| vec![0, 0, 1]),
        case("landlock_create_ruleset", "", |s| vec![s.longs(&[1]), 8, 0]),
        case("add_key", "", |s| {
            let (kind, name, data) = (s.path("user"), s.path("rrapper-test"), s.bytes(b"abc"));
            vec![kind, name, data, 3, u64::from(u32::MAX - 1)]
        }),
        case("keyctl", "a keyring's number", |_| {
            vec![0, (-2i64) as u64, 1]
        }),
        case("keyctl", "to read", |s| {
            let key = key(s);
            vec![11, key, s.out(16), 16]
        }),
        case("keyctl", "to describe", |s| {
            let key = key(s);
            vec![6, key, s.out(128), 128]
        }),
        case("request_key", "", |s| {
            key(s);
            vec![s.path("user"), s.path("rrapper-test"), 0, 0]
        }),
        case("lsm_list_modules", "", |s| {
            vec![s.out(128), s.ints(&[128]), 0]
        }),
        case("lsm_get_self_attr", "", |s| {
            vec![100, s.out(512), s.ints(&[512]), 0]
        }),
        case("statmount", "", |s| {
            let id = mount_id(s);
            let root = s.longs(&[24, id, 3]);
            vec![root, s.out(512), 512, 0]
        }),
        case("listmount", "", |s| {
            let root = s.longs(&[24, u64::MAX, 0]);
            vec![root, s.out(64), 8, 0]
        }),
        case("fsopen", "", |s| vec![s.path("tmpfs"), 0]),
        case("fspick", "", |s| {
            vec![super::super::setup::HERE, s.path("/"), 0]
        }),
        case("open_tree", "", |s| {
            vec![super::super::setup::HERE, s.path("."), 0]
        }),
        case("perf_event_open", "", |s| {
            let mut attr = [0u8; 128];
            attr[0] = 1; // a software event, of 128 bytes
            attr[4] = 128;
            attr[40] = 0x60;
            vec![s.bytes(&attr), 0, u64::MAX, u64::MAX, 0]
        }),
    ]
}

/// A key in the process's own ring, which goes with it.
fn key(s: &mut Setup) -> u64 {
    let (kind, name, data) = (s.path("user"), s.path("rrapper-test"), s.bytes(b"abc"));
    let ring = (-2i64) as u64;
    s.call(libc::SYS_add_key, &[kind, name, data, 3, ring]) as u64
}

/// The number of the root's mount, as statx says it.
fn mount_id(s: &mut Setup) -> u64 {
    let (path, to) = (s.path("/"), s.out(256));
    s.call(
        libc::SYS_statx,
        &[super::super::setup::HERE, path, 0, 0x4000, to],
    );
    let mut bytes = [0u8; 8];
    rrapper::syscall::Memory::read(&super::super::arena::Now, to + 144, &mut bytes);
    u64::from_le_bytes(bytes)
}
