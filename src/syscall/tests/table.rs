//! Tests of the tables, of constants, and of the facts that follow from a description alone.

use super::*;
use crate::constants;

#[test]
fn every_line_of_the_tables_parses() {
    let none: Vec<&String> = Vec::new();
    assert_eq!(crate::syscall::layout::errors().collect::<Vec<_>>(), none);
    assert_eq!(crate::syscall::table::errors().collect::<Vec<_>>(), none);
}

#[test]
fn all_numbers_are_there_and_agree_with_names() {
    for nr in (0..=336).chain(424..=471) {
        let call = by_nr(nr).unwrap_or_else(|| panic!("{nr}"));
        assert_eq!(by_name(call.name).unwrap().nr as u64, nr);
    }
    assert!(by_nr(337).is_none() && by_nr(u64::MAX).is_none());
    assert_eq!(by_name("send").unwrap().name, "sendto");
    assert_eq!(by_name("stat64").unwrap().name, "stat");
    assert_eq!(by_name("_llseek").unwrap().name, "lseek");
    assert!(suggest("opneat").contains(&"openat"));
}

#[test]
fn errnos_and_signals_are_those_of_libc() {
    assert_eq!(constants::errno("EIO"), Some(libc::EIO));
    assert_eq!(constants::errno_name(11), Some("EAGAIN"));
    assert_eq!(constants::errno_text(5), "Input/output error");
    assert!(constants::errnos().count() > 130);
    assert_eq!(constants::signal("INT"), Some(libc::SIGINT));
    assert_eq!(constants::signal("SIGRT_3"), Some(35));
    assert_eq!(constants::signal_name(37), "SIGRT_5");
    assert!(constants::suggest_errno("ENOSPACE").contains(&"ENOSPC"));
}

#[test]
fn expressions_have_their_value() {
    let cases = [
        ("O_RDONLY|O_CLOEXEC", 0x80000),
        ("S_IFREG|0644", 0o100644),
        ("makedev(0x8, 0x1)", 0x801),
        ("htons(80)", 0x5000),
        ("0x8000|O_APPEND", 0x8400),
        ("8192*1024", 8192 * 1024),
        ("RLIM64_INFINITY", -1),
        ("SIGCHLD", 17),
        ("AT_FDCWD", -100),
        ("-1", -1),
        ("017", 15),
        ("1<<CAP_KILL", 1 << 5),
        ("inet_addr(\"127.0.0.1\")", 0x0100007f),
        ("0x8 /* O_??? */", 8),
        ("CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD", 0x1200011),
    ];
    for (text, value) in cases {
        assert_eq!(constants::eval(text), Some(value), "{text}");
    }
    assert_eq!(constants::eval("O_NONSENSE"), None);
    assert_eq!(constants::eval(""), None);
    assert_eq!(constants::flags_text("open", 0x80000), "O_RDONLY|O_CLOEXEC");
    assert_eq!(
        constants::flags_text("open", 0x90800),
        "O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY"
    );
    assert_eq!(constants::flags_text("prot", 0), "PROT_NONE");
    assert_eq!(constants::flags_text("prot", 3), "PROT_READ|PROT_WRITE");
    assert_eq!(
        constants::flags_text("mmap", 0x22),
        "MAP_PRIVATE|MAP_ANONYMOUS"
    );
    assert_eq!(constants::flags_text("msg", 0), "0");
    assert_eq!(
        constants::flags_text("socket_type", 0x80001),
        "SOCK_STREAM|SOCK_CLOEXEC"
    );
    assert_eq!(constants::flags_text("access", 4), "R_OK");
    assert_eq!(
        constants::flags_text("futex", 137 | 256),
        "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME"
    );
    assert_eq!(constants::flags_text("cflag", 0xbf), "B38400|CS8|CREAD");
    assert_eq!(
        constants::flags_text("statx", 0x17ff),
        "STATX_BASIC_STATS|STATX_MNT_ID"
    );
}

#[test]
fn multiplexers_are_resolved() {
    let fcntl = |cmd| call("fcntl").resolve(&[3, cmd, 0, 0, 0, 0]);
    assert!(fcntl(0).returns_fd() && fcntl(1030).returns_fd());
    assert!(fcntl(3).described && !fcntl(9999).described);
    let ioctl = |request| call("ioctl").resolve(&[3, request, 0x1000, 0, 0, 0]);
    assert!(ioctl(0x5401).described && ioctl(0x5451).described);
    assert!(!ioctl(0x5499).described);
    let mem = Pieces::default();
    let generic = ioctl(0x8020_9999); // reads 32 bytes
    let args = [3, 0x8020_9999, 0x1000, 0, 0, 0];
    assert_eq!(
        lens(&generic.outputs(&args, 0, &mem, &mem)),
        [(2, 0x1000, 32)]
    );
    assert_eq!(
        call("prctl").resolve(&[26, 1, 0, 0, 0, 0]).replay,
        Replay::Unsupported
    );
    assert_eq!(
        call("prctl").resolve(&[15, 1, 0, 0, 0, 0]).replay,
        Replay::Emulate
    );
    assert_eq!(call("rseq").replay, Replay::Refuse(libc::ENOSYS));
    assert_eq!(call("mmap").replay, Replay::Run);
    assert_eq!(call("iopl").replay, Replay::Unsupported);
}

#[test]
fn views_and_classes_come_from_the_table() {
    assert_eq!(call("read").moves_data(), Some(Moved::Out));
    assert_eq!(call("sendmsg").moves_data(), Some(Moved::In));
    assert_eq!(
        (call("read").size_arg(), call("read").fd_arg()),
        (Some(2), Some(0))
    );
    assert_eq!(call("renameat").path_args(), [1, 3]);
    assert!(call("openat").is_in_class("%file") && call("openat").is_in_class("%desc"));
    assert!(call("statx").is_in_class("%%stat") && call("stat").is_in_class("%stat"));
    assert!(call("sendto").is_in_class("%net") && !call("read").is_in_class("%network"));
    for call in names()
        .filter_map(by_name)
        .filter(|c| c.moves_data().is_some())
    {
        assert!(call.data_arg().is_some(), "{}", call.name);
    }
}

/// The calls of the programs that people try first (cat, ls, sort, sqlite3, python3, bash, git, …).
const EVERYDAY: &str = "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction \
    rt_sigprocmask rt_sigreturn pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise \
    dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg \
    recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit \
    wait4 kill uname flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link \
    unlink symlink readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times getuid \
    getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid \
    getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait \
    rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod personality statfs fstatfs getpriority setpriority \
    sched_setparam sched_getparam sched_setscheduler sched_getscheduler arch_prctl setrlimit sync gettid readahead setxattr \
    lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr \
    tkill time sched_setaffinity sched_getaffinity getdents64 set_tid_address restart_syscall fadvise64 timer_create \
    timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep \
    exit_group epoll_create epoll_wait epoll_ctl tgkill utimes waitid inotify_init inotify_add_watch inotify_rm_watch \
    openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat \
    pselect6 ppoll set_robust_list get_robust_list splice tee sync_file_range utimensat epoll_pwait signalfd timerfd_create \
    timerfd_settime timerfd_gettime eventfd fallocate accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 \
    preadv pwritev rt_tgsigqueueinfo recvmmsg prlimit64 syncfs sendmmsg getcpu renameat2 getrandom memfd_create execveat \
    membarrier copy_file_range preadv2 pwritev2 statx rseq clone3 close_range openat2 faccessat2 io_uring_setup \
    io_uring_enter io_uring_register";

#[test]
fn everyday_calls_are_described() {
    for name in EVERYDAY.split_whitespace() {
        assert!(call(name).described, "{name}");
    }
    let futex = |op| call("futex").resolve(&[0, op, 0, 0, 0, 0]).described;
    assert!((0..14).filter(|&op| op != 2).all(futex) && futex(128) && futex(137 | 256));
    let fcntl = |cmd| call("fcntl").resolve(&[0, cmd, 0, 0, 0, 0]).described;
    assert!(
        (0..12)
            .chain([15, 16])
            .chain(36..39)
            .chain(1024..1027)
            .chain(1030..1035)
            .all(fcntl)
    );
    for request in [
        "TIOCGPGRP",
        "FIONREAD",
        "FIONBIO",
        "FIOCLEX",
        "FICLONE",
        "FICLONERANGE",
        "FS_IOC_FIEMAP",
    ] {
        let request = constants::value(request).unwrap() as u64;
        assert!(call("ioctl").resolve(&[0, request, 0, 0, 0, 0]).described);
    }
    for option in [1, 2, 3, 15, 16, 38, 39] {
        assert!(
            call("prctl").resolve(&[option, 0, 0, 0, 0, 0]).described,
            "{option}"
        );
    }
}

fn size_of_layout(name: &str) -> usize {
    crate::syscall::layout::layouts()[name].size
}

#[test]
fn structures_are_as_large_as_those_of_libc() {
    let sizes = [
        ("stat", size_of::<libc::stat>()),
        ("statx", size_of::<libc::statx>()),
        ("statfs", size_of::<libc::statfs>()),
        ("rusage", size_of::<libc::rusage>()),
        ("sysinfo", size_of::<libc::sysinfo>()),
        ("utsname", size_of::<libc::utsname>()),
        ("epoll_event", size_of::<libc::epoll_event>()),
        ("pollfd", size_of::<libc::pollfd>()),
        ("flock", size_of::<libc::flock>()),
        ("siginfo", size_of::<libc::siginfo_t>()),
        ("sigevent", size_of::<libc::sigevent>()),
        ("stack", size_of::<libc::stack_t>()),
        ("winsize", size_of::<libc::winsize>()),
        ("tms", size_of::<libc::tms>()),
        ("itimerspec", size_of::<libc::itimerspec>()),
        ("itimerval", size_of::<libc::itimerval>()),
        ("timex", size_of::<libc::timex>()),
        ("rlimit", size_of::<libc::rlimit>()),
        ("clone_args", size_of::<libc::clone_args>()),
        ("ifreq", size_of::<libc::ifreq>()),
        ("open_how", size_of::<libc::open_how>()),
        ("sembuf", size_of::<libc::sembuf>()),
        ("linger", size_of::<libc::linger>()),
        ("ucred", size_of::<libc::ucred>()),
    ];
    for (name, size) in sizes {
        assert_eq!(size_of_layout(name), size, "{name}");
    }
}

#[test]
fn members_are_where_libc_has_them() {
    macro_rules! check {
        ($layout:literal, $type:ty, $($field:ident),+) => {
            let layout = crate::syscall::layout::layouts()[$layout];
            $({
                let name = stringify!($field);
                let member = layout.members.iter().find(|m| m.name == name).expect(name);
                assert_eq!(member.offset, std::mem::offset_of!($type, $field), "{name}");
            })+
        };
    }
    check!(
        "stat",
        libc::stat,
        st_dev,
        st_ino,
        st_mode,
        st_nlink,
        st_uid,
        st_gid,
        st_rdev
    );
    check!(
        "stat",
        libc::stat,
        st_size,
        st_blksize,
        st_blocks,
        st_atime,
        st_mtime_nsec,
        st_ctime
    );
    check!(
        "statx",
        libc::statx,
        stx_mask,
        stx_blksize,
        stx_attributes,
        stx_nlink,
        stx_mode
    );
    check!(
        "statx",
        libc::statx,
        stx_ino,
        stx_size,
        stx_blocks,
        stx_attributes_mask,
        stx_atime
    );
    check!(
        "statx",
        libc::statx,
        stx_btime,
        stx_ctime,
        stx_mtime,
        stx_rdev_major,
        stx_mnt_id
    );
    check!(
        "statfs",
        libc::statfs,
        f_type,
        f_bsize,
        f_blocks,
        f_files,
        f_fsid,
        f_namelen
    );
    check!(
        "rusage",
        libc::rusage,
        ru_utime,
        ru_stime,
        ru_maxrss,
        ru_minflt,
        ru_nivcsw
    );
    check!(
        "sysinfo",
        libc::sysinfo,
        uptime,
        loads,
        totalram,
        procs,
        totalhigh,
        mem_unit
    );
    check!(
        "flock",
        libc::flock,
        l_type,
        l_whence,
        l_start,
        l_len,
        l_pid
    );
    check!("siginfo", libc::siginfo_t, si_signo, si_errno, si_code);
    check!(
        "sigevent",
        libc::sigevent,
        sigev_value,
        sigev_signo,
        sigev_notify
    );
    check!("pollfd", libc::pollfd, fd, events, revents);
    check!("stack", libc::stack_t, ss_sp, ss_flags, ss_size);
}

#[test]
fn constants_are_those_of_libc() {
    let pairs = [
        ("O_TMPFILE", libc::O_TMPFILE as i64),
        ("O_SYNC", libc::O_SYNC.into()),
        ("O_DIRECTORY", libc::O_DIRECTORY.into()),
        ("MAP_FIXED_NOREPLACE", libc::MAP_FIXED_NOREPLACE.into()),
        ("AT_EMPTY_PATH", libc::AT_EMPTY_PATH.into()),
        ("EPOLLEXCLUSIVE", i64::from(libc::EPOLLEXCLUSIVE)),
        ("F_DUPFD_CLOEXEC", libc::F_DUPFD_CLOEXEC.into()),
        ("SO_PEERCRED", libc::SO_PEERCRED.into()),
        ("MSG_CMSG_CLOEXEC", libc::MSG_CMSG_CLOEXEC.into()),
        ("CLONE_NEWNET", libc::CLONE_NEWNET.into()),
        ("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS.into()),
        ("RLIMIT_NOFILE", i64::from(libc::RLIMIT_NOFILE)),
        ("CLOCK_TAI", libc::CLOCK_TAI.into()),
        ("SOCK_NONBLOCK", libc::SOCK_NONBLOCK.into()),
        ("TIOCGWINSZ", libc::TIOCGWINSZ as i64),
        ("FICLONE", libc::FICLONE as i64),
        ("IN_MOVED_TO", i64::from(libc::IN_MOVED_TO)),
        ("POLLRDHUP", libc::POLLRDHUP.into()),
        ("IPV6_V6ONLY", libc::IPV6_V6ONLY.into()),
        ("TCP_NODELAY", libc::TCP_NODELAY.into()),
    ];
    for (name, value) in pairs {
        assert_eq!(constants::value(name), Some(value), "{name}");
    }
}
