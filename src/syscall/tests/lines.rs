//! Lines of strace for calls of many kinds: their values are put into memory, and decoding that memory gives the same
//! line. The addresses of pointers are not kept, since the data behind them is shown.

use super::*;
use crate::constants;
use crate::strace;
use crate::syscall::encode::contents;
use crate::syscall::frame::{Frame, Side};
use crate::trace::{Answer, Call, Entry};

/// The raw argument for a value.
fn raw(value: &Value, position: usize) -> u64 {
    let place = 0x10_0000 * (position as u64 + 1);
    match value {
        Value::Addr(addr) => *addr,
        Value::Str { .. } | Value::Struct { .. } | Value::Array { .. } | Value::Set { .. } => place,
        Value::Change { .. } => place,
        other => {
            crate::syscall::number::value_of(other).unwrap_or_else(|| panic!("{other}")) as u64
        }
    }
}

/// The line that the same call gives.
fn again(line: &str) -> String {
    let parsed = strace::parse(line.as_bytes(), "test");
    assert_eq!(parsed.problems.len(), 0, "{line}");
    let [Entry::Call(observed)] = parsed.trace.entries() else {
        panic!("{line}");
    };
    let each = observed.args.iter().enumerate();
    let shown: Vec<u64> = each.map(|(i, value)| raw(value, i)).collect();
    let mut args = [0; 6];
    args[..shown.len()].copy_from_slice(&shown);
    let call = call(&observed.name).resolve(&args);
    if let Some(order) = call.order(&args, shown.len(), &Pieces::default()) {
        args = [0; 6];
        for (index, value) in order.iter().zip(&shown) {
            args[index.unwrap()] = *value;
        }
    }
    let ret = match observed.answer {
        Answer::Value(value) => value,
        Answer::Errno(errno) => -i64::from(errno),
        _ => panic!("{line}"),
    };
    let mut memory = Pieces::default();
    let formal = call.args.iter().filter(|arg| !arg.hidden).zip(&shown);
    for ((arg, &addr), value) in formal.zip(&observed.args) {
        let Kind::Ptr(_, to) = &arg.kind else {
            continue;
        };
        memory = match (&**to, value) {
            (_, Value::Addr(_)) => memory,
            (Kind::Path | Kind::Str, Value::Str { bytes, .. }) => {
                memory.with(addr, [bytes.as_slice(), b"\0"].concat())
            }
            _ => {
                let before = memory.clone();
                let frame = Frame::new(call, &args, ret, &before, &before);
                let size = match &**to {
                    Kind::Sized(layout, ..) => layout.size,
                    to => frame.size(to, Side::Exit).unwrap(),
                };
                let bytes = contents(to, value, size, None, &frame).unwrap();
                memory.with(addr, bytes)
            }
        };
    }
    let seen = Call {
        args: call.decode(&args, Some(ret), &memory, &memory),
        notes: call.notes(&args, ret, &memory, &memory),
        ..observed.clone()
    };
    seen.to_string()
}

fn same(lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert_eq!(again(line), line);
    }
}

#[test]
fn system_v_ipc_is_shown_as_strace_does() {
    same(
        "
        shmget(IPC_PRIVATE, 4096, IPC_CREAT|0600) = 1
        shmget(0x5, 4096, SHM_HUGETLB|0644) = -1 ENOENT (No such file or directory)
        shmat(1, NULL, SHM_RDONLY|SHM_RND) = 0x7f0000000000
        shmctl(1, IPC_STAT, {shm_perm={uid=0, gid=5, mode=0600, key=7, cuid=0, cgid=0}, shm_segsz=4096, shm_cpid=15613, shm_lpid=0, shm_nattch=0, shm_atime=0, shm_dtime=0, shm_ctime=1795447001}) = 0
        shmctl(1, IPC_SET, {shm_perm={uid=0, gid=0, mode=000}}) = 0
        shmctl(0, IPC_INFO, {shmmax=18446744073692774399, shmmin=1, shmmni=4096, shmseg=4096, shmall=18446744073692774399}) = 1
        shmctl(0, SHM_INFO, {used_ids=2, shm_tot=2, shm_rss=0, shm_swp=0, swap_attempts=0, swap_successes=0}) = 1
        shmctl(1, IPC_RMID, NULL) = 0
        semget(0x1234, 2, IPC_CREAT|IPC_EXCL|0644) = 0
        semctl(0, 0, IPC_STAT, {sem_perm={uid=0, gid=0, mode=0644, key=4660, cuid=0, cgid=0}, sem_otime=0, sem_ctime=1795447001, sem_nsems=2}) = 0
        semctl(0, 0, IPC_SET, {sem_perm={uid=0, gid=0, mode=0644}}) = 0
        semctl(0, 0, SEM_INFO, {semmap=1024000000, semmni=32000, semmns=1024000000, semmnu=1024000000, semmsl=32000, semopm=500, semume=500, semusz=1, semvmx=32767, semaem=2}) = 0
        semctl(0, 0, SETVAL, 0x3) = 0
        semtimedop(0, [{sem_num=0, sem_op=-1, sem_flg=SEM_UNDO|IPC_NOWAIT}, {sem_num=1, sem_op=1, sem_flg=0}], 2, {tv_sec=0, tv_nsec=1000}) = 0
        msgget(IPC_PRIVATE, 000) = 0
        msgsnd(0, {mtype=7, mtext=\"hello\"}, 5, IPC_NOWAIT) = 0
        msgrcv(0, {mtype=7, mtext=\"hello\"}, 16, -8, MSG_NOERROR|MSG_EXCEPT) = 5
        msgctl(0, IPC_STAT, {msg_perm={uid=0, gid=0, mode=0600, key=0, cuid=0, cgid=0}, msg_stime=1795447001, msg_rtime=0, msg_ctime=1795447001, msg_qnum=1, msg_qbytes=16384, msg_lspid=15613, msg_lrpid=0}) = 0
        msgctl(0, IPC_SET, {msg_perm={uid=0, gid=0, mode=0600}, msg_qbytes=16384}) = 0
        msgctl(0, MSG_INFO, {msgpool=1, msgmap=1, msgmax=8192, msgmnb=16384, msgmni=32000, msgssz=16, msgtql=5, msgseg=65535}) = 0
        ",
    );
}

#[test]
fn message_queues_are_shown_as_strace_does() {
    same(
        "
        mq_open(\"queue\", O_RDWR|O_CREAT|O_NONBLOCK, 0600, {mq_flags=0, mq_maxmsg=4, mq_msgsize=32, mq_curmsgs=0}) = 3
        mq_open(\"queue\", O_RDONLY) = 3
        mq_timedsend(3, \"abc\", 3, 5, NULL) = 0
        mq_getsetattr(3, {mq_flags=O_NONBLOCK, mq_maxmsg=4, mq_msgsize=32, mq_curmsgs=1}, {mq_flags=0, mq_maxmsg=4, mq_msgsize=32, mq_curmsgs=1}) = 0
        mq_notify(3, {sigev_value={sival_int=5, sival_ptr=0x5}, sigev_signo=SIGUSR1, sigev_notify=SIGEV_SIGNAL}) = 0
        mq_notify(3, {sigev_signo=0, sigev_notify=SIGEV_NONE}) = 0
        mq_timedreceive(3, \"abc\", 64, [5], {tv_sec=0, tv_nsec=1000}) = 3
        timer_create(CLOCK_MONOTONIC, {sigev_value={sival_int=77, sival_ptr=0x4d}, sigev_signo=SIGUSR1, sigev_notify=SIGEV_THREAD_ID, sigev_notify_thread_id=9}, [0]) = 0
        ",
    );
}

#[test]
fn memory_policies_are_shown_as_strace_does() {
    same(
        "
        get_mempolicy([MPOL_DEFAULT], [0000000000000000, 0x00000000000003], 65, NULL, 0) = -1 EINVAL (Invalid argument)
        get_mempolicy([MPOL_BIND|MPOL_F_STATIC_NODES], [0x00000000000001], 65, NULL, MPOL_F_MEMS_ALLOWED) = 0
        get_mempolicy([MPOL_DEFAULT], NULL, 0, 0x7000, MPOL_F_NODE|MPOL_F_ADDR) = 0
        set_mempolicy(MPOL_BIND|MPOL_F_STATIC_NODES, [0x00000000000001, 0xffffffffffffffff], 129) = 0
        set_mempolicy(MPOL_DEFAULT, NULL, 0) = 0
        mbind(0x7f0000000000, 8192, MPOL_PREFERRED, [0x00000000000001], 64, MPOL_MF_STRICT|MPOL_MF_MOVE) = 0
        migrate_pages(0, 64, [0x00000000000001], [0x00000000000002]) = 0
        move_pages(0, 2, [0x7f0000000000, NULL], [0, 1], [0, -ENOENT], MPOL_MF_MOVE) = 0
        mincore(0x7f0000000000, 8192, [1, 0]) = 0
        "
        .replace("[0000000000000000, 0x00000000000003]", "0x1000")
        .replace("([MPOL_DEFAULT], 0x1000", "(0x2000, 0x1000")
        .as_str(),
    );
}

#[test]
fn registers_and_other_parts_of_tracees_are_shown_as_strace_does() {
    same(
        "
        ptrace(PTRACE_TRACEME) = 0
        ptrace(PTRACE_ATTACH, 5) = 0
        ptrace(PTRACE_GETREGS, 9, {r15=0x7f3a4173c020, r14=0x564d92fb2dd8, r13=0x7ffe841337e8, r12=0x13, rbp=0x7ffe841336c0, rbx=0x279f, r11=0x246, r10=0x7f3a41528410, r9=0x7f3a41510740, r8=0xffffffff, rax=0, rcx=0x7f3a4159deec, rdx=0x13, rsi=0x279f, rdi=0x279f, orig_rax=0xea, rip=0x7f3a4159deec, cs=0x33, eflags=0x246, rsp=0x7ffe841330f0, ss=0x2b, fs_base=0x7f3a41510740, gs_base=0, ds=0, es=0, fs=0, gs=0}) = 0
        ptrace(PTRACE_GETSIGINFO, 9, NULL, {si_signo=SIGSTOP, si_code=SI_TKILL, si_pid=9, si_uid=0}) = 0
        ptrace(PTRACE_PEEKSIGINFO, 9, {off=0, flags=PTRACE_PEEKSIGINFO_SHARED, nr=2}, [{si_signo=SIGINT, si_code=SI_USER, si_pid=1, si_uid=2}]) = 1
        ptrace(PTRACE_GETSIGMASK, 9, 8, [INT CHLD]) = 0
        ptrace(PTRACE_SETOPTIONS, 9, NULL, PTRACE_O_TRACESYSGOOD|PTRACE_O_EXITKILL) = 0
        ptrace(PTRACE_PEEKUSER, 9, 8*ORIG_RAX, [0xea]) = 0
        ptrace(PTRACE_PEEKTEXT, 9, 0x7f0000000000, [0x3f]) = 0
        ptrace(PTRACE_GETEVENTMSG, 9, NULL, [9827]) = 0
        ptrace(PTRACE_SYSCALL, 9, NULL, SIGUSR1) = 0
        ptrace(PTRACE_SYSCALL, 9, NULL, 0) = 0
        ptrace(PTRACE_GETREGSET, 9, NT_X86_XSTATE, {iov_base=0x7fff6162e330, iov_len=576}) = 0
        ptrace(PTRACE_GET_SYSCALL_INFO, 9, 88, {op=PTRACE_SYSCALL_INFO_NONE, arch=AUDIT_ARCH_X86_64, instruction_pointer=0x7f19c8326267, stack_pointer=0x7ffd0100c178}) = 24
        ptrace(PTRACE_GET_SYSCALL_INFO, 9, 88, {op=PTRACE_SYSCALL_INFO_ENTRY, arch=AUDIT_ARCH_X86_64, instruction_pointer=0x7f3a415e7409, stack_pointer=0x7ffe84133138, entry={nr=__NR_exit_group, args=[0x3, 0xe7, 0x3c, 0x7f3a41525200, 0xffffffffffffff80, 0x7f3a41510740]}}) = 80
        ptrace(PTRACE_GET_SYSCALL_INFO, 9, 40, {op=PTRACE_SYSCALL_INFO_ENTRY, arch=AUDIT_ARCH_X86_64, instruction_pointer=0x7f3a415e7409, stack_pointer=0x7ffe84133138, entry={nr=__NR_exit_group, args=[0x3]}}) = 80
        wait4(-1, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP | 0x80}], WNOHANG, NULL) = 5
        waitid(P_PIDFD, 5, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9, si_uid=0, si_status=3}, WEXITED, NULL) = 0
        waitid(P_PID, 5, {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=9, si_uid=0, si_status=SIGKILL}, WEXITED, NULL) = 0
        waitid(P_ALL, 0, {}, WNOHANG|WEXITED, NULL) = 0
        ",
    );
}

#[test]
fn schedulers_capabilities_and_clocks_are_shown_as_strace_does() {
    same(
        "
        sched_getattr(0, {size=56, sched_policy=SCHED_OTHER, sched_flags=0, sched_nice=0, sched_priority=0, sched_runtime=1400000, sched_deadline=0, sched_period=0, sched_util_min=0, sched_util_max=0}, 56, 0) = 0
        sched_getattr(0, {size=48, sched_policy=SCHED_DEADLINE, sched_flags=SCHED_FLAG_RECLAIM, sched_nice=0, sched_priority=0, sched_runtime=1400000, sched_deadline=0, sched_period=0}, 48, 0) = 0
        sched_setattr(0, {size=48, sched_policy=SCHED_FIFO, sched_flags=SCHED_FLAG_RESET_ON_FORK|SCHED_FLAG_RECLAIM, sched_nice=-3, sched_priority=1, sched_runtime=0, sched_deadline=0, sched_period=0}, 0) = 0
        sched_getscheduler(0) = 0 (SCHED_OTHER)
        ioprio_get(IOPRIO_WHO_PROCESS, 0) = 0x4004 (IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4))
        ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) = 0
        capget({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=1<<CAP_CHOWN|1<<CAP_BPF, permitted=0, inheritable=1<<CAP_CHECKPOINT_RESTORE}) = 0
        capset({version=_LINUX_CAPABILITY_VERSION_1, pid=0}, {effective=1<<CAP_KILL, permitted=0, inheritable=0}) = 0
        adjtimex({modes=ADJ_OFFSET|ADJ_NANO, offset=0, freq=-5, maxerror=16000000, esterror=16000000, status=STA_PLL|STA_UNSYNC, constant=2, precision=1, tolerance=32768000, time={tv_sec=1795447674, tv_usec=578063}, tick=10000, ppsfreq=0, jitter=0, shift=0, stabil=0, jitcnt=0, calcnt=0, errcnt=0, stbcnt=0, tai=37}) = 5 (TIME_ERROR)
        kcmp(9, 9, KCMP_FILE, 1, 2) = 1
        kcmp(9, 9, KCMP_VM) = 0
        kcmp(9, 9, KCMP_EPOLL_TFD, 1, {efd=1, tfd=2, toff=3}) = -1 EINVAL (Invalid argument)
        seccomp(SECCOMP_GET_ACTION_AVAIL, 0, [SECCOMP_RET_ALLOW]) = 0
        seccomp(SECCOMP_GET_NOTIF_SIZES, 0, {seccomp_notif=80, seccomp_notif_resp=24, seccomp_data=64}) = 0
        membarrier(MEMBARRIER_CMD_QUERY, 0) = 0x3 (MEMBARRIER_CMD_GLOBAL|MEMBARRIER_CMD_GLOBAL_EXPEDITED)
        personality(0xffffffff) = 0 (PER_LINUX)
        futex(0x7f000000000c, FUTEX_WAKE_OP_PRIVATE, 1, 1, 0x7f0000000008, FUTEX_OP_ADD<<28|0x1<<12|FUTEX_OP_CMP_NE<<24|0x5) = 0
        futex(0x7f000000000c, FUTEX_WAKE_OP, 1, 1, 0x7f0000000008, FUTEX_OP_OPARG_SHIFT<<28|FUTEX_OP_SET<<28|0<<12|FUTEX_OP_CMP_EQ<<24|0) = 0
        futex(0x7f000000000c, FUTEX_WAKE_BITSET, 1, 0x3) = 0
        futex(0x7f000000000c, FUTEX_WAIT_BITSET, 4, {tv_sec=0, tv_nsec=1000}, FUTEX_BITSET_MATCH_ANY) = -1 EAGAIN (Resource temporarily unavailable)
        futex_waitv([{val=0x6, uaddr=0x7f000000000c, flags=FUTEX2_SIZE_U32|FUTEX2_PRIVATE}], 1, 0, NULL, CLOCK_REALTIME) = -1 EAGAIN (Resource temporarily unavailable)
        clone3({flags=CLONE_PIDFD|CLONE_SETTLS|CLONE_PARENT_SETTID, pidfd=0x20, parent_tid=0x10, exit_signal=SIGCHLD, stack=NULL, stack_size=0, tls=0x30}, 64) = -1 EFAULT (Bad address)
        ",
    );
}

#[test]
fn performance_events_are_shown_as_strace_does() {
    let flags = "disabled inherit pinned exclusive exclude_user exclude_kernel exclude_hv exclude_idle mmap comm freq \
        inherit_stat enable_on_exec task watermark precise_ip mmap_data sample_id_all exclude_host exclude_guest \
        exclude_callchain_kernel exclude_callchain_user mmap2 comm_exec use_clockid context_switch write_backward \
        namespaces ksymbol bpf_event aux_output cgroup text_poke build_id inherit_thread remove_on_exec sigtrap";
    let ones = ["inherit", "freq", "precise_ip", "sigtrap"];
    let flags: Vec<String> = flags
        .split_whitespace()
        .map(|name| format!("{name}={}", u8::from(ones.contains(&name))))
        .collect();
    let line = format!(
        "perf_event_open({{type=PERF_TYPE_HARDWARE, size=PERF_ATTR_SIZE_VER1, config=PERF_COUNT_HW_INSTRUCTIONS, \
         sample_freq=4000, sample_type=PERF_SAMPLE_IP|PERF_SAMPLE_TID, read_format=PERF_FORMAT_ID, {}, wakeup_events=1, \
         config1=0, config2=0x7}}, 0, -1, -1, PERF_FLAG_FD_CLOEXEC) = 3",
        flags.join(", ")
    );
    same(&line);
}

#[test]
fn keys_are_shown_as_strace_does() {
    same(
        "
        add_key(\"user\", \"name\", \"payload\", 7, KEY_SPEC_PROCESS_KEYRING) = 1022895522
        request_key(\"user\", \"name\", NULL, KEY_SPEC_PROCESS_KEYRING) = 1022895522
        keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0) = 619632866
        keyctl(KEYCTL_DESCRIBE, 1022895522, \"user;0;0;3f010000;h4k\", 100) = 22
        keyctl(KEYCTL_READ, 1022895522, \"payload\", 100) = 7
        keyctl(KEYCTL_SETPERM, 1022895522, KEY_POS_VIEW|KEY_USR_SETATTR) = 0
        keyctl(KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, \"user\", \"h4k\", 0) = 1022895522
        keyctl(KEYCTL_CHOWN, KEY_SPEC_SESSION_KEYRING, -1, 5) = 0
        keyctl(KEYCTL_REJECT, 5, 6, EKEYREJECTED, KEY_SPEC_THREAD_KEYRING) = -1 EPERM (Operation not permitted)
        keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_NO_CHANGE) = 0
        keyctl(KEYCTL_MOVE, KEY_SPEC_PROCESS_KEYRING, KEY_SPEC_SESSION_KEYRING, 7, KEYCTL_MOVE_EXCL) = 0
        keyctl(KEYCTL_PKEY_QUERY, 0, 0, \"enc=pkcs1\", {supported_ops=KEYCTL_SUPPORTS_ENCRYPT, key_size=2048, max_data_size=1, max_sig_size=2, max_enc_size=3, max_dec_size=4}) = 0
        keyctl(KEYCTL_PKEY_VERIFY, {key_id=KEY_SPEC_SESSION_KEYRING, in_len=3, in2_len=4}, \"x=y\", \"abc\", \"0123\") = 0
        keyctl(KEYCTL_DH_COMPUTE, {private=1, prime=2, base=3}, \"secret\", 16, NULL) = 6
        ",
    );
}

#[test]
fn information_on_signals_is_shown_as_strace_does() {
    let cases = [
        ("USR1", "si_code=SI_USER, si_pid=15613, si_uid=1000"),
        ("HUP", "si_code=SI_TKILL, si_pid=15613, si_uid=1000"),
        (
            "RT_2",
            "si_code=SI_QUEUE, si_pid=1, si_uid=0, si_int=9, si_ptr=0x9",
        ),
        ("RT_2", "si_code=SI_QUEUE, si_pid=1, si_uid=0"),
        (
            "USR1",
            "si_code=SI_TIMER, si_timerid=0x1, si_overrun=3, si_int=0, si_ptr=NULL",
        ),
        (
            "USR1",
            "si_code=SI_MESGQ, si_pid=1, si_uid=0, si_int=-1, si_ptr=0x7fffffffffff",
        ),
        ("IO", "si_code=SI_SIGIO, si_band=65, si_fd=5"),
        ("IO", "si_code=POLL_IN, si_band=65, si_fd=5"),
        (
            "CHLD",
            "si_code=CLD_EXITED, si_pid=9, si_uid=0, si_status=3, si_utime=10, si_stime=0",
        ),
        (
            "CHLD",
            "si_code=CLD_STOPPED, si_pid=9, si_uid=0, si_status=SIGSTOP, si_utime=0, si_stime=1",
        ),
        ("SEGV", "si_code=SEGV_MAPERR, si_addr=0x10"),
        ("SEGV", "si_code=SI_KERNEL, si_addr=NULL"),
        (
            "SEGV",
            "si_code=SEGV_BNDERR, si_addr=0x10, si_lower=0x8, si_upper=0xf",
        ),
        ("SEGV", "si_code=SEGV_PKUERR, si_addr=0x10, si_pkey=2"),
        ("BUS", "si_code=BUS_ADRERR, si_addr=0x7f0000000000"),
        (
            "BUS",
            "si_code=BUS_MCEERR_AO, si_addr=0x7f0000000000, si_addr_lsb=0xc",
        ),
        ("FPE", "si_code=FPE_INTDIV, si_addr=0x401000"),
        ("ILL", "si_code=ILL_ILLOPN, si_addr=0x401000"),
        ("TRAP", "si_code=TRAP_BRKPT, si_addr=0x401000"),
        (
            "TRAP",
            "si_code=TRAP_PERF, si_addr=0x40, si_perf_data=0x5, si_perf_type=PERF_TYPE_SOFTWARE, si_perf_flags=0",
        ),
        (
            "SYS",
            "si_code=SYS_SECCOMP, si_errno=E2BIG, si_call_addr=0x7f3a41614829, si_syscall=__NR_getpgrp, si_arch=AUDIT_ARCH_X86_64",
        ),
        ("ALRM", "si_code=SI_KERNEL"),
        ("URG", "si_code=SI_KERNEL, si_pid=0, si_uid=5"),
    ];
    for (signal, info) in cases {
        let number = constants::signal(signal).unwrap();
        let name = constants::signal_name(number);
        let info = format!("{{si_signo={name}, {info}}}");
        same(&format!(
            "rt_sigtimedwait([{signal}], {info}, NULL, 8) = {number} ({name})"
        ));
    }
    let nothing = crate::syscall::signal_info(10, &[]);
    let user = "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=0, si_uid=0}";
    assert_eq!(nothing.to_string(), user);
}

#[test]
fn arguments_that_are_left_out_are_not_counted() {
    let names = |args: [u64; 6]| {
        let call = call("futex").resolve(&args);
        call.shown_names(&args)
    };
    assert_eq!(
        names([0, 10, 0, 0, 0, 0]),
        ["uaddr", "futex_op", "val", "val3"]
    );
    assert_eq!(names([0, 6, 0, 0, 0, 0]), ["uaddr", "futex_op", "timeout"]);
}

/// One 32-bit number after the other.
fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

#[test]
fn structures_that_point_to_others_are_followed() {
    let program = [
        [0x20, 0],
        [0x0100_0015, 0x6f],
        [0x06, 0x0003_0007],
        [0x54, 0xff],
        [0xb1, 4],
        [0x02, 1],
        [0x07, 0],
        [0x16, 0],
        [0x0002_004d, 1],
        [0x06, 0x7fff_0000],
    ];
    let mem = Pieces::default()
        .with(0x1000, words(&[10, 0x2000]))
        .with(0x2000, halves(program.as_flattened()));
    let args = [1, 2, 0x1000, 0, 0, 0];
    let seccomp = call("seccomp").resolve(&args);
    let shown = seccomp.decode(&args, None, &mem, &mem)[2].to_string();
    let expected = "{len=10, filter=[BPF_STMT(BPF_LD|BPF_W|BPF_ABS, 0), \
        BPF_JUMP(BPF_JMP|BPF_K|BPF_JEQ, 0x6f, 0, 0x1), BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_TRAP|0x7), \
        BPF_STMT(BPF_ALU|BPF_K|BPF_AND, 0xff), BPF_STMT(BPF_LDX|BPF_B|BPF_MSH, 0x4), BPF_STMT(BPF_ST, 0x1), \
        BPF_STMT(BPF_MISC|BPF_TAX, 0), BPF_STMT(BPF_RET|BPF_A, SECCOMP_RET_KILL_THREAD), \
        BPF_JUMP(BPF_JMP|BPF_X|BPF_JSET, 0x1, 0x2, 0), BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_ALLOW)]}";
    assert_eq!(shown, expected);
    assert_eq!(
        lens(&seccomp.inputs(&args, &mem)),
        [(2, 0x1000, 16), (2, 0x2000, 80)]
    );

    let tids = Pieces::default().with(0x2000, halves(&[30001, 2]));
    let clone = [0x180000, 0, 0, 16, 17, 0, 0, 48, 0x2000, 2, 5];
    let mem = tids.with(0x1000, words(&clone));
    let args = [0x1000, 88, 0, 0, 0, 0];
    let shown = call("clone3").decode(&args, Some(-22), &mem, &mem);
    assert_eq!(
        shown[0].to_string(),
        "{flags=CLONE_SETTLS|CLONE_PARENT_SETTID, parent_tid=0x10, exit_signal=SIGCHLD, stack=NULL, stack_size=0, \
         tls=0x30, set_tid=[30001, 2], set_tid_size=2}"
    );
}

#[test]
fn asynchronous_requests_are_followed() {
    let write = |data: u64, opcode: u64, buf: u64, bytes: u64| {
        words(&[data, 0, opcode | 1 << 32, buf, bytes, 7, 0, 0])
    };
    let mem = Pieces::default()
        .with(0x1000, words(&[0x2000, 0x3000, 0x5000]))
        .with(0x2000, write(1, 1, 0x4000, 5))
        .with(0x3000, write(0, 8, 0x4100, 1))
        .with(0x5000, write(0, 5, 5, 0))
        .with(0x4000, *b"hello")
        .with(0x4100, words(&[0x4000, 2]));
    let args = [0, 3, 0x1000, 0, 0, 0];
    let submit = call("io_submit");
    assert_eq!(
        submit.decode(&args, None, &mem, &mem)[2].to_string(),
        "[{aio_data=0x1, aio_lio_opcode=IOCB_CMD_PWRITE, aio_fildes=1, aio_buf=\"hello\", aio_nbytes=5, \
         aio_offset=7}, {aio_data=0, aio_lio_opcode=IOCB_CMD_PWRITEV, aio_fildes=1, \
         aio_buf=[{iov_base=\"he\", iov_len=2}], aio_offset=7}, \
         {aio_data=0, aio_lio_opcode=IOCB_CMD_POLL, aio_fildes=1, aio_buf=POLLIN|POLLOUT}]"
    );
    assert_eq!(
        lens(&submit.inputs(&args, &mem)),
        [
            (2, 0x1000, 24),
            (2, 0x2000, 64),
            (2, 0x4000, 5),
            (2, 0x3000, 64),
            (2, 0x4100, 16),
            (2, 0x4000, 2),
            (2, 0x5000, 64)
        ]
    );
}

#[test]
fn outputs_are_as_large_as_the_kernel_makes_them() {
    let mem = Pieces::default().with(0x100, halves(&[0x2008_0522, 0]));
    let out = |name: &str, args: [u64; 6], ret: i64| {
        let call = call(name).resolve(&args);
        lens(&call.outputs(&args, ret, &mem, &mem))
    };
    let at = 0x1000;
    assert_eq!(out("msgrcv", [0, at, 64, 0, 0, 0], 5), [(1, at, 13)]);
    assert_eq!(
        out("capget", [0x100, at, 0, 0, 0, 0], 0),
        [(0, 0x100, 8), (1, at, 24)]
    );
    assert_eq!(out("get_mempolicy", [0, at, 65, 0, 0, 0], 0), [(1, at, 8)]);
    assert_eq!(out("get_mempolicy", [0, at, 66, 0, 0, 0], 0), [(1, at, 16)]);
    assert_eq!(out("get_mempolicy", [0, at, 0, 0, 0, 0], 0), []);
    assert_eq!(out("move_pages", [0, 3, 0, 0, at, 0], 0), [(4, at, 12)]);
    assert_eq!(out("sched_getattr", [0, at, 48, 0, 0, 0], 0), [(1, at, 48)]);
    assert_eq!(out("keyctl", [11, 5, at, 10, 0, 0], 300), [(2, at, 10)]);
    assert_eq!(out("keyctl", [31, at, 4, 0, 0, 0], 2), [(1, at, 4)]);
    assert_eq!(out("shmctl", [0, 2, at, 0, 0, 0], 0), [(2, at, 112)]);
    assert_eq!(out("shmctl", [0, 0, at, 0, 0, 0], 0), []);
    assert_eq!(out("semctl", [0, 0, 12, at, 0, 0], 7), []);
    // The recorder asks the kernel for the size.
    assert_eq!(out("semctl", [0, 0, 13, at, 0, 0], 0), []);
    assert_eq!(
        call("bpf").resolve(&[1, 0, 0, 0, 0, 0]).replay,
        Replay::Refuse(libc::EPERM)
    );
    assert_eq!(
        call("bpf").resolve(&[11, 0, 0, 0, 0, 0]).replay,
        Replay::Emulate
    );
}
