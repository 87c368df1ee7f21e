//! Every kind of line that strace 4 to 7 writes, with any of its options: what it is read as, and that it prints
//! back byte for byte.

use rrapper::strace::{OtherLine, Piece, PieceKind, Stream};
use rrapper::trace::{Answer, Call, Entry, Exit, LineInfo, Tampering, Timestamp, Value};
use std::time::Duration;

/// The pieces of a text that must be understood without a doubt, and print back.
fn pieces(text: &[u8]) -> Vec<Piece> {
    let stream = Stream::new(text, "test");
    let pieces: Result<Vec<Piece>, _> = stream.collect();
    let pieces = pieces.expect("memory can be read");
    let mut printed = Vec::new();
    for piece in &pieces {
        let shown = String::from_utf8_lossy(&piece.text);
        assert!(!matches!(piece.kind, PieceKind::Problem(_)), "{piece:?}");
        assert_eq!(piece.doubts, [], "in {shown}");
        assert!(piece.prints_back(), "{shown}: {:?}", piece.kind);
        piece
            .print(&mut printed)
            .expect("a vector takes everything");
    }
    assert_eq!(
        String::from_utf8_lossy(&printed),
        String::from_utf8_lossy(text)
    );
    pieces
}

fn entries(text: &str) -> Vec<Entry> {
    let pieces = pieces(text.as_bytes()).into_iter();
    pieces
        .filter_map(|piece| match piece.kind {
            PieceKind::Entry(entry)
            | PieceKind::Resumed(entry)
            | PieceKind::NeverResumed(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

fn call(line: &str) -> Call {
    match entries(line).pop() {
        Some(Entry::Call(call)) => call,
        other => panic!("{line}: {other:?}"),
    }
}

fn line_info(line: &str) -> LineInfo {
    *call(line)
        .line_info
        .unwrap_or_else(|| panic!("{line} has no remarks"))
}

/// The only argument of a call.
fn arg(text: &str) -> Value {
    let mut call = call(&format!(
        "f({text})                                   = 0\n"
    ));
    assert_eq!(call.args.len(), 1, "in {text}");
    call.args.remove(0)
}

/// Arguments of every kind.
const VALUES: &[&str] = &[
    // Numbers.
    "0",
    "-1",
    "NULL",
    "0x0",
    "0x00ff",
    "0XFF",
    "0644",
    "000",
    "00",
    "18446744073709551615",
    "-0",
    "340282366920938463463374607431768211455",
    "-0x2",
    "-0x2 /* TIPC_CLUSTER_SCOPE */",
    "00000000",
    "0xfffffffffffffffffffffffffffffff1",
    // `-X raw -y`.
    "-100</root>",
    "{flags=0x1, timestamp = {1, 2}, ...}",
    // Constants.
    "O_RDONLY|O_CLOEXEC",
    "0x80000 /* O_CLOEXEC */",
    "0xf /* SIG_??? */",
    "O_RDONLY|0x8 /* O_??? */",
    "|0x900",
    "0x1200000 /* CLONE_X|CLONE_Y */|0x11 /* SIGCHLD */",
    "1<<CAP_CHOWN|1<<CAP_KILL",
    "8192*1024",
    "FUTEX_OP_SET<<28|0<<12|FUTEX_OP_CMP_EQ<<24|0x5",
    "TCGETS or SNDCTL_TMR_TIMEBASE",
    "0x5401 or TCGETS",
    "3 * sizeof(struct ifreq)",
    "sizeof(struct x) * 2",
    "-EINVAL",
    "!PR_TAGGED_ADDR_ENABLE|PR_MTE_TCF_NONE",
    "makedev(0x88, 0x5)",
    "makedev(136, 5)",
    "htons(80)",
    "htonl(INADDR_ANY)",
    "inet_addr(\"1.2.3.4\")",
    "inet_pton(AF_INET6, \"::1\", &sin6_addr)",
    "if_nametoindex(\"lo\")",
    "KERNEL_VERSION(5, 10, 0)",
    "_IOC(_IOC_READ|_IOC_WRITE, 0xae, 0x1, 0x4)",
    "_IOC(_IOC_READ, 'Q', '\"', ')')",
    "QCMD(Q_GETINFO, USRQUOTA)",
    "0xbeef /* IOPRIO_PRIO_VALUE(0x5 /* IOPRIO_CLASS_??? */, 7919) */",
    "???",
    "0x3 /* ??? */",
    "~0x1f",
    "~(1<<ICMP_ECHO|1<<ICMP_ECHOREPLY)",
    "'S'",
    "'\\''",
    "'\\377'",
    "SOCK_STREAM|SOCK_CLOEXEC",
    "INT_MAX+1",
    "BPF_STMT(BPF_LD|BPF_W|BPF_ABS, 0x4)",
    "BPF_JUMP(BPF_JMP|BPF_K|BPF_JEQ, 0x26, 0, 0x1)",
    "[BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_ALLOW), ...]",
    "(A|B)<<28|C",
    // Strings.
    "\"\"",
    "\"\"...",
    "\"abc\"...",
    r#""\x61\x62""#,
    r#""\1\2\0033\n\t\r\v\f\"\\""#,
    r#""\001\a\e""#,
    r#""\400""#,
    "\"\u{fc}\"",
    "@\"abc\\0\"",
    "\"a\" [system_u:object_r:etc_t:s0!!unconfined_u:object_r:x:s0]",
    "\"abc\" /* 3 bytes */",
    "\\1\\2",
    "/* bytes 0..7 */ \"abc\"",
    // Descriptors and processes.
    "3</etc/passwd>",
    "AT_FDCWD</root>",
    "-100 /* AT_FDCWD */</root>",
    "4<TCP:[127.0.0.1:80->127.0.0.1:9]>",
    "4<TCPv6:[[::1]:80->[::1]:9]>",
    "5<UNIX-STREAM:[12->13,@\"a\"]>",
    "5<NETLINK:[ROUTE:123]>",
    "5<socket:[77]>",
    "1</dev/null<char 1:3>>",
    "1</dev/pts/1<char 136:1 @/dev/pts/1>>",
    "3<pid:123>",
    "3<signalfd:[INT CHLD]>",
    "3<{eventfd-count=0x3, eventfd-id=5, eventfd-semaphore=0}>",
    "3<anon_inode:[eventfd]>",
    "3</tmp/a>(deleted)",
    "3</tmp/a\\76b\\n>",
    "3</tmp/a->",
    "1234<bash>",
    "123 /* 5 in strace's PID NS */",
    "1234<bash> /* 5 in strace's PID NS */",
    "3</x> [system_u:object_r:etc_t:s0]",
    "03</x>",
    // Structures.
    "{}",
    "{ }",
    "{...}",
    "{a=1, ...}",
    "{a=1,b=2}",
    "{a=1 ,  b=2 }",
    "{entry_number:-1, limit:3}",
    "{a=1, }",
    "{1519758684, 857013}",
    "{0x40, [], SA_RESTORER, 0x7f}",
    "{B38400 opost isig icanon echo ...}",
    "{c_iflags=0x500, c_cc[VMIN]=1, c_cc=\"\\x03\\x1c\"}",
    "{c_cc=[[VINTR]=0x3, [59 /* X_??? */]=0]}",
    "[[IFLA_X-1] = 0, [IFLA_Y+1]={a=1}]",
    "{msg_name(0)=NULL, msg_iov(1)=[{\"abc\", 3}], msg_flags=0}",
    "{d_ino=1587, d_off=5, d_reclen=32, d_type=DT_DIR, d_name=\".\"}",
    "/* 5 entries */",
    ", {cmsg_type=, ...}, ",
    "0x7f00 /* 30 vars */",
    "[\"a\", \"b\"...], [/* 12 vars */]",
    "{sa_family=AF_UNIX, sun_path=@\"x\"}",
    "{sa_family=AF_FILE, path=@\"x\"}",
    "{sa_family=AF_UNIX, sun_path=@\"x\"...}",
    "{sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}",
    "{hwaddr=00:11:22:33:44:55}",
    "{hwaddr=fe:ff}",
    "{uuid=12345678-9abc-def0-1234-56789abcdef0}",
    "{uuid=abcdef01-9abc-def0-1234-56789abcdef0}",
    "{version=4.1.2, scancode=[88, 8a]}",
    "f_handle=0x",
    "{st_atime=1525033853 /* 2018-04-29T13:30:53.769404451-0700 */, st_atime_nsec=769404451}",
    "{st_mtime=2018/04/29-13:30:53.769404451, st_ctime=2017/11/09-16:00:05}",
    "{tv_sec=1, tv_nsec=2} /* x */",
    "[{nla_len=12, nla_type=IFLA_X}, [{nla_len=8, nla_type=0x1 /* IFLA_??? */}, \"a\"]]",
    "[{nlmsg_len=20, nlmsg_type=NLMSG_ERROR}, {error=-EPERM, msg=[{nlmsg_len=20}, ...]}]",
    "{rax=0x2, ..., rsp=0}",
    "{uptime=1, loads=[1, 2, 3] totalram=4, bufferram=5} totalswap=6}",
    "{{d_ino=1} {d_ino=2}}",
    "[{cmsg_type=SCM_RIGHTS{4, 5}}]",
    "{fsa_digipeater=[*, {ax25_call=\"x\"}]}",
    "{u={a=1, b={c=2}}, v=[[1, 2], [3, 4]]}",
    "[1, 2, ... /* 0x7f1000 */]",
    "[{fd=5}, ?] 0x7f1000",
    "{WIFEXITED(s) && WEXITSTATUS(s) == 1}",
    "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP | 0x80}]",
    "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}]",
    "[WIFEXITED(s) && WEXITSTATUS(s) == 0]",
    // Sets.
    "[INT CHLD]",
    "~[RTMIN RT_1]",
    "~[]",
    "[3 4]",
    "[3</dev/null> 4</x>]",
    "[EV_SYN 0x5 /* EV_??? */]",
    // Changes.
    "[128 => 16]",
    "[128->16]",
    "{a=1, b=2 => 3}",
    "{flags=0x11} => {parent_tid=[7]}",
    "1 /* a */ => 2 /* b */",
    "{features=0 => features=UFFD_FEATURE_SIGBUS}",
    "0x7f=>NULL",
    "[A->B]",
    // What strace could not show.
    "<unavailable>",
    "<... resuming interrupted read ...>",
    "0x7f00 <unfinished ...>",
];

#[test]
fn values_print_back() {
    for text in VALUES {
        call(&format!("7 12:34:56 f(3, {text}) = 0 <0.000010>\n"));
        call(&format!(
            "f({text}, 3)                  = -1 EINVAL (Invalid argument)\n"
        ));
    }
}

#[test]
fn oddities_stay_in_the_smallest_value() {
    let written = |value: &Value| matches!(value, Value::Written { .. });
    let Value::Struct { fields, .. } = arg("{a=0x1 /* x */, b={c=[1,  2], d=3}}") else {
        panic!("not a structure");
    };
    assert!(written(&fields[0].value));
    assert_eq!(fields[0].value, Value::Addr(1));
    let Value::Struct { fields, .. } = &fields[1].value else {
        panic!("not a structure: {fields:?}");
    };
    let Value::Array { items, .. } = &fields[0].value else {
        panic!("not an array: {fields:?}");
    };
    assert!(!written(&items[0]) && written(&items[1]) && !written(&fields[1].value));
    // Only where its own separators are odd, a list is kept whole.
    assert!(written(&arg("[1,2]")));
    let deep = format!("{}1,2{}", "[".repeat(40), "]".repeat(40));
    let stream = Stream::new(deep.as_bytes(), "deep");
    assert!(stream.flatten().all(|piece| piece.prints_back()));
}

#[test]
fn meanings_are_seen_through_the_writing() {
    assert_eq!(arg("0x80000 /* O_CLOEXEC */").as_i64(), Some(0x80000));
    assert_eq!(arg(r#""\x61\x62""#).as_bytes(), Some(&b"ab"[..]));
    let message = arg("{msg_name(0)=NULL, msg_iov(1)=[{\"abc\", 3}], msg_flags=0}");
    assert!(
        matches!(message.field("msg_iov"), Some(Value::Array { items, .. }) if items.len() == 1)
    );
    assert_eq!(arg("'S'").as_i64(), Some(0x53));
    assert_eq!(
        arg("[{WIFEXITED(s) && WEXITSTATUS(s) == 1}]"),
        arg("[ {WIFEXITED(s) && WEXITSTATUS(s) == 1} ]")
    );
    let named = call("read(fd=3</x>, buf=\"ab\", count=5) = 2\n");
    assert_eq!(named.args[0].as_i64(), Some(3));
    assert_eq!(named.args[1].as_bytes(), Some(&b"ab"[..]));
    assert_eq!(named.args[2], Value::Int(5));
    let clone =
        call("clone(child_stack=NULL, flags=SIGCHLD, parent_tid=[7], tls={entry_number=12}) = 7\n");
    assert!(matches!(
        clone.args[1].meaning(),
        Value::Sym {
            value: Some(17),
            ..
        }
    ));
    assert_eq!(
        clone.args[2],
        Value::Array {
            items: vec![Value::Int(7)],
            cut: false
        }
    );
}

#[test]
fn columns_say_when_and_who() {
    let nanos = Duration::from_nanos;
    let clock = |seconds, nanoseconds| {
        Some(Timestamp::Clock {
            seconds,
            nanoseconds,
        })
    };
    let epoch = |seconds, nanoseconds| {
        Some(Timestamp::Epoch {
            seconds,
            nanoseconds,
        })
    };
    assert_eq!(line_info("12:34:56 a() = 0\n").when, clock(45_296, 0));
    assert_eq!(
        line_info("5 12:34:56.5 a() = 0\n").when,
        clock(45_296, 500_000_000)
    );
    assert_eq!(
        line_info("[pid     5] 1525033853.769404 a() = 0\n").when,
        epoch(1_525_033_853, 769_404_000)
    );
    assert_eq!(
        line_info("1525033853 a() = 0\n").when,
        epoch(1_525_033_853, 0)
    );
    assert_eq!(
        line_info("     0.000123 a() = 0\n").since,
        Some(nanos(123_000))
    );
    assert_eq!(
        line_info("5         3 a() = 0\n").since,
        Some(nanos(3_000_000_000))
    );
    let both = line_info("5     1525033853.769404451 (+     0.000000051) a() = 0 <0.000000012>\n");
    assert_eq!(
        (both.when, both.since),
        (epoch(1_525_033_853, 769_404_451), Some(nanos(51)))
    );
    assert_eq!(both.spent, Some(nanos(12)));
    let both = line_info("12:34:56 [  59] [00007fc60956dad7] a() = 0 <1>\n");
    assert_eq!(
        (both.number, both.address),
        (Some(59), Some(0x7fc6_0956_dad7))
    );
    assert_eq!(both.spent, Some(Duration::from_secs(1)));
    assert_eq!(line_info("[????????????????] a() = 0\n").address, None);
    assert_eq!(line_info("[????????] a() = 0\n").address, None);
    let named = line_info(
        "1234<ba\\76sh> [unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023] a() = 0\n",
    );
    assert_eq!(named.command.as_deref(), Some(&b"ba>sh"[..]));
    assert!(
        named
            .context
            .is_some_and(|context| context.starts_with(b"unconfined_u:"))
    );
    assert_eq!(call("[pid 1234<sh>] a() = 0\n").tid, 1234);
}

#[test]
fn results_say_what_was_done_to_the_call() {
    let tampering = |line: &str| line_info(&format!("a() = {line}\n")).tampering;
    let (answer, args, delayed) = (true, true, true);
    let none = Tampering::default();
    assert_eq!(tampering("0"), none);
    assert_eq!(
        tampering("-1 EIO (Input/output error) (INJECTED)"),
        Tampering { answer, ..none }
    );
    assert_eq!(tampering("0 (INJECTED: args)"), Tampering { args, ..none });
    let all = Tampering {
        answer,
        args,
        delayed,
    };
    assert_eq!(tampering("0 (INJECTED: args, retval) (DELAYED) <0.1>"), all);
    assert_eq!(tampering("0 (DELAYED)"), Tampering { delayed, ..none });
}

#[test]
fn results_print_back() {
    let answer = |line: &str| call(&format!("a(1)    = {line}\n")).answer;
    let restart = Answer::Restart;
    for (text, want) in [
        ("3</etc/passwd>", Answer::Value(3)),
        ("123<bash>", Answer::Value(123)),
        ("123 /* 5 in strace's PID NS */", Answer::Value(123)),
        ("0x8001 (flags O_WRONLY|O_LARGEFILE)", Answer::Value(0x8001)),
        ("0x8001 /* x */", Answer::Value(0x8001)),
        ("0 (Timeout)", Answer::Value(0)),
        ("1 ()", Answer::Value(1)),
        (
            "1 (in [3], out [4], left {tv_sec=0, tv_usec=5})",
            Answer::Value(1),
        ),
        (
            "1 ([{fd=3, revents=POLLIN}], left {0, 5})",
            Answer::Value(1),
        ),
        (
            "1795448010 (2026-11-23T15:33:30+0000)",
            Answer::Value(1_795_448_010),
        ),
        ("0 (KVM_EXIT_MMIO)", Answer::Value(0)),
        ("00", Answer::Value(0)),
        ("?", Answer::Never),
        ("? <unavailable>", Answer::Never),
        ("-1 ENOTSUPP (Unknown error 524)", Answer::Errno(524)),
        ("-1 ERRNO_524 (Unknown error 524)", Answer::Errno(524)),
        ("-1 (errno 524)", Answer::Errno(524)),
        ("-1 (errno 18446744073709551554)", Answer::Value(62)),
        ("? ERESTARTSYS (To be restarted)", restart(512)),
        (
            "? ERESTARTSYS (To be restarted if SA_RESTART is set)",
            restart(512),
        ),
        ("? ERESTARTNOHAND (Interrupted by signal)", restart(514)),
        ("? ERESTART_RESTARTBLOCK (To be restarted)", restart(516)),
        ("0xffffffffff600000", Answer::Value(-0xa0_0000)),
    ] {
        assert_eq!(answer(text), want, "{text}");
    }
}

#[test]
fn lines_that_are_no_entries() {
    for (line, want) in [
        ("\n", OtherLine::Blank),
        ("  \r\n", OtherLine::Blank),
        ("strace: Process 12 attached\n", OtherLine::Message),
        ("^CProcess 12 detached\n", OtherLine::Message),
        ("^Cstrace: Process 12 detached\n", OtherLine::Message),
        (" <detached ...>\n", OtherLine::Message),
        ("/usr/bin/strace: Process 12 detached\n", OtherLine::Message),
        (
            "Process 12 attached (waiting for parent)\n",
            OtherLine::Message,
        ),
        ("Process 12 suspended\n", OtherLine::Message),
        ("Process 12 resumed (parent 11 ready)\n", OtherLine::Message),
        (
            "[ Process PID=12 runs in 32 bit mode. ]\n",
            OtherLine::Message,
        ),
        (
            "12 strace: [ Process PID=12 runs in x32 mode. ]\n",
            OtherLine::Message,
        ),
        (
            "[pid    12] --- stopped by SIGSTOP ---\n",
            OtherLine::Stopped,
        ),
        (
            "12 +++ superseded by execve in pid 13 +++\n",
            OtherLine::Superseded,
        ),
        (" > /lib/libc.so.6(read+0x10) [0xf7100]\n", OtherLine::Stack),
        (
            " > /lib/libc.so.6(read+0x10) [0xf7100] ../sysdeps/read.c:26\n",
            OtherLine::Stack,
        ),
        (
            " | 00000  61 62 0a                                          ab.              |\n",
            OtherLine::Dump,
        ),
        (" * 5 bytes in buffer 0\n", OtherLine::Dump),
        (" = 2 buffers in vector 0\n", OtherLine::Dump),
        ("12 <... read resumed>\"a\", 1) = 1\n", OtherLine::Orphan),
    ] {
        let found = pieces(line.as_bytes());
        assert_eq!(found.len(), 1, "{line}");
        assert_eq!(found[0].kind, PieceKind::Other(want), "{line}");
    }
}

#[test]
fn tables_are_asides() {
    let text = "12 a() = 0\n% time     seconds  usecs/call     calls    errors syscall\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        \x20 0.00    0.000000           0         1           read\n\
        \x20 0.00    0.000000           0         1         1 syscall_0x1c3\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        100.00    0.000000           0         2         1 total\n\
        System call usage summary for 32 bit mode:\n\
        syscall          % time     calls shortest\n\
        ---------------- ------ --------- --------\n\
        mmap              32.46       152 0.000009\n\
        ---------------- ------ --------- --------\n\
        total            100.00       152 0.000009\n12 b() = 0\n";
    let found = pieces(text.as_bytes());
    let of = |piece: &&Piece| piece.kind == PieceKind::Other(OtherLine::Summary);
    assert_eq!((found.iter().filter(of).count(), found.len()), (12, 14));
}

#[test]
fn signals_and_exits_print_back() {
    let found = entries(
        "12 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=5, si_status=0} ---\n\
         [pid     5] --- SIGRT_3 {si_signo=SIGRT_3, si_code=SI_USER} ---\n\
         --- SIGCHLD (Child exited) @ 0 (0) ---\n--- SIG_33 {...} ---  \r\n\
         12 12:34:56 +++ exited with 7 +++\n+++ killed by SIGSEGV (core dumped) +++\n",
    );
    let signals: Vec<i32> = found
        .iter()
        .filter_map(|entry| match entry {
            Entry::Signal { signal, .. } => Some(*signal),
            _ => None,
        })
        .collect();
    assert_eq!(signals, [17, 35, 17, 33]);
    assert!(matches!(
        found[4],
        Entry::Exit {
            tid: 12,
            exit: Exit::Code(7),
            ..
        }
    ));
    assert!(matches!(
        found[5],
        Entry::Exit {
            exit: Exit::Signal {
                signal: 11,
                core: true
            },
            ..
        }
    ));
}

/// What the entries of a text are, in the order in which they end, with their tasks.
fn shown(text: &str) -> Vec<String> {
    let entries = entries(text);
    entries.iter().map(|e| format!("{} {e}", e.tid())).collect()
}

#[test]
fn calls_in_two_parts() {
    let text = "1 read(0,  <unfinished ...>\n2 getsockname(3, 0x7f, [128 <unfinished ...>\n\
        1 <... read resumed>\"a\", 1)             = 1 <0.1>\n2 <... getsockname resumed> => 16])     = 0\n\
        3 wait4(-1, <unfinished ...>\n3 <... wait4 resumed> NULL, 0, NULL) = 7\n\
        4 futex(0x1, 0 <unfinished ...>\n4 <... futex resumed> )                = 0\n\
        5 nanosleep({1, 0},  <unfinished ...>\n5 <... nanosleep resumed> <unfinished ...>) = ?\n\
        6 read(0, <unfinished ...>)             = ?\n7 exit_group(0 <unfinished ...>\n)             = ?\n\
        8 nanosleep({1, 0},  <unfinished ...>) = ?\n";
    let want = [
        "1 read(0, \"a\", 1) = 1",
        "2 getsockname(3, 0x7f, [128 => 16]) = 0",
        "3 wait4(-1, NULL, 0, NULL) = 7",
        "4 futex(0x1, 0) = 0",
        "5 nanosleep({1, 0}) = ?",
        "6 read(0) = ?",
        "7 exit_group(0) = ?",
        "8 nanosleep({1, 0}) = ?",
    ];
    assert_eq!(shown(text), want);
}

#[test]
fn calls_that_do_not_end() {
    let text = "1 a(0, <unfinished ...>\n1 +++ exited with 0 +++\n2 b(1 <unfinished ... exit status 0>\n\
        3 c( <detached ...>\n4 d(1 <unfinished ...>\n4 e(2) = 0\n4 f(3 <unfinished ...>\n4 g(4 <unfinished ...>\n";
    let want = [
        "1 a(0) = ?",
        "1 +++ exited with 0 +++",
        "3 c() = ?",
        "4 e(2) = 0",
        "4 d(1) = ?",
        "2 b(1) = ?",
    ];
    let found = shown(text);
    assert!(
        want.iter()
            .all(|want| found.iter().any(|found| found == want)),
        "{found:?}"
    );
    assert_eq!(found.len(), 8);
}

#[test]
fn calls_that_go_on_under_another_pid() {
    let text = "5 execve(\"/x\", [\"x\"], NULL <pid changed to 4 ...>\n4 pause( <unfinished ...>\n\
        4 <... execve resumed>) = 0\n";
    assert_eq!(
        shown(text),
        ["4 pause() = ?", "4 execve(\"/x\", [\"x\"], NULL) = 0"]
    );
    let text = "4 pause( <unfinished ...>\n5 execve(\"/x\", [], NULL <pid changed to 4 ...>\n\
        4 +++ superseded by execve in pid 5 +++\n4 <... execve resumed>) = 0\n";
    assert_eq!(
        shown(text),
        ["4 pause() = ?", "4 execve(\"/x\", [], NULL) = 0"]
    );
}

#[test]
fn what_runs_into_a_call_is_not_part_of_it() {
    for (text, want) in [
        (
            "clone(child_stack=NULL, flags=0x11strace: Process 7 attached\n, child_tidptr=0x7f) = 7\n",
            "clone(child_stack=NULL, flags=0x11, child_tidptr=0x7f) = 7",
        ),
        (
            "clone(Process 7 attached\nProcess 8 attached\nchild_stack=0, flags=0x11) = 7\n",
            "clone(child_stack=0, flags=0x11) = 7",
        ),
        (
            "close(4/opt/a/strace: Process 7 attached\n)                 = 0\n",
            "close(4) = 0",
        ),
        (
            "close(4./strace: Process 7 attached\n)                 = 0\n",
            "close(4) = 0",
        ),
        (
            "13 ???(12 kill(13, SIGKILL <unfinished ...>\n)                 = 0\n",
            "kill(13, SIGKILL) = 0",
        ),
        ("13 ???(12 kill(13, SIGKILL) = 0\n", "kill(13, SIGKILL) = 0"),
        (
            "read(3, strace: umoven: short read (1 < 2) @0x7f\n\"a\", 1) = 1\n",
            "read(3, \"a\", 1) = 1",
        ),
        (
            "write(2, \"ls: \", 4ls: )                    = 4\n",
            "write(2, \"ls: \", 4) = 4",
        ),
        (
            "write(1, \"a\\nb\\n\", 4a\nb\n)                 = 4\n",
            "write(1, \"a\\nb\\n\", 4) = 4",
        ),
        (
            "write(1, \"a\\nb\\n\", 4a\r\nb\r\n)                 = 4\r\n",
            "write(1, \"a\\nb\\n\", 4) = 4",
        ),
        (
            "write(1, \"a\\n\"..., 6a\nb\nc\n)                 = 6\n",
            "write(1, \"a\\n\"..., 6) = 6",
        ),
        (
            "write(2, \"5\", 15)                       = 1\n",
            "write(2, \"5\", 1) = 1",
        ),
        (
            "writev(1, [{iov_base=\"a\", iov_len=1}, {iov_base=\"\\n\", iov_len=1}], 2a\n) = 2\n",
            "writev(1, [{iov_base=\"a\", iov_len=1}, {iov_base=\"\\n\", iov_len=1}], 2) = 2",
        ),
        (
            "read(0, hello\n\"hello\\n\", 1024)              = 6\n",
            "read(0, \"hello\\n\", 1024) = 6",
        ),
        (
            "write(fd=1, buf=\"a\", count=1a) = 1\n",
            "write(1, \"a\", 1) = 1",
        ),
    ] {
        assert_eq!(call(text).to_string(), want, "{text}");
    }
    let text = "[pid 5] write(1, \"a\\n\", 2a\n <unfinished ...>\n[pid 6] b() = 0\n[pid 5] <... write resumed>) = 2\n";
    assert_eq!(shown(text), ["6 b() = 0", "5 write(1, \"a\\n\", 2) = 2"]);
    let text =
        "1 exit_group(0 <Cannot restart pid 1 with ptrace(PTRACE_SYSCALL): No such process>\n";
    assert_eq!(shown(text), ["1 exit_group(0) = ?"]);
    let text = "read(0, strace: Process 7 detached\n <detached ...>\n";
    assert_eq!(shown(text), ["0 read(0) = ?"]);
}

#[test]
fn what_cannot_be_told_apart_costs_no_more_than_its_own_lines() {
    let text = "write(1, \"a\\n\", 2a\nread(3) = 0\nhello) = x\nclone(strace: Process 7 attached\nread(4) = 0\nread(5) = 0\n";
    let stream = Stream::new(text.as_bytes(), "t");
    let (mut lines, mut read) = (Vec::new(), 0);
    for piece in stream.flatten() {
        match piece.kind {
            PieceKind::Problem(problem) => lines.push(problem.line),
            PieceKind::Entry(_) => read += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((lines, read), (vec![1, 3, 4], 3));
}

#[test]
fn bytes_of_any_kind_pass_through() {
    for text in [
        &b"1 read(3, \"\xff\xc3\", 2) = 2\r\n1 a(\xff, {b=\xc3}) = 0\n"[..],
        b"1 a() = 0",
        b"1 --- SIGUSR1 (User\xff) @ 0 (0) ---\n",
        b"1 a() = 0\r\n\0\n1 b(\"\0\") = 0\n\xff\n",
        b"1 read(3</\xff>, \"a\") = 0 \t \n",
    ] {
        let mut joined = Vec::new();
        for piece in Stream::new(text, "t").flatten() {
            assert!(piece.prints_back(), "{piece:?}");
            joined.extend(piece.text);
        }
        assert_eq!(joined, text);
    }
}

#[test]
fn doubts_have_places() {
    let text = b"1 a(1, {b=x y, c=1}) = 0\n2 b(1 <unfinished ...>\n2 <... b resumed>, x y) = 0\n3 c(x: )  = 0\n";
    let doubts: Vec<String> = Stream::new(&text[..], "t")
        .flatten()
        .flat_map(|piece| piece.doubts)
        .map(|doubt| doubt.to_string())
        .collect();
    assert_eq!(
        doubts,
        [
            "t:1:11: expected a value",
            "t:3:20: expected a value",
            "t:4:5: expected a value"
        ]
    );
}

#[test]
fn a_changed_entry_is_not_printed_with_what_it_was() {
    let mut call = call("12    12:34:56 read(3, \"a\", 1 /* x */)         = 1 <0.000010>\n");
    let print = |call: &Call| {
        let mut out = Vec::new();
        let entry = Entry::Call(call.clone());
        rrapper::strace::write_as_read(&entry, &mut out).expect("a vector takes everything");
        String::from_utf8_lossy(&out).into_owned()
    };
    assert_eq!(
        print(&call),
        "12    12:34:56 read(3, \"a\", 1 /* x */)         = 1 <0.000010>"
    );
    call.answer = Answer::Errno(4);
    assert_eq!(
        print(&call),
        "12    12:34:56 read(3, \"a\", 1 /* x */) = -1 EINTR (Interrupted system call)"
    );
    call.tid = 13;
    call.args[2] = Value::Int(9);
    assert_eq!(
        print(&call),
        "13    read(3, \"a\", 9) = -1 EINTR (Interrupted system call)"
    );
}

#[test]
fn memory_of_calls_under_way_is_bounded() {
    let mut text = Vec::new();
    for tid in 1..=80_000 {
        text.extend(format!("{tid} pause( <unfinished ...>\n").bytes());
    }
    let (mut begun, mut ended) = (0, 0);
    let mut most = 0;
    for piece in Stream::new(&text[..], "t").flatten() {
        match piece.kind {
            PieceKind::Unfinished { .. } => begun += 1,
            PieceKind::NeverResumed(_) => ended += 1,
            other => panic!("{other:?}"),
        }
        most = most.max(begun - ended);
    }
    assert_eq!((begun, ended), (80_000, 80_000));
    assert!(most <= (1 << 16) + 1, "{most}");
}
