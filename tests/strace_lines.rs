//! Lines as strace 4 to 6 writes them, and what they must be read as.

use rrapper::strace::{self, value_from_text};
use rrapper::trace::{Answer, Call, Entry, Exit, Field, Origin, Trace, Value};

/// The trace of a text that must be understood.
fn read(text: &str) -> Trace {
    let parsed = strace::parse(text.as_bytes(), "test");
    assert_eq!(parsed.problems, [], "in {text}");
    parsed.trace
}

fn call(line: &str) -> Call {
    let trace = read(line);
    assert_eq!(trace.entries().len(), 1, "in {line}");
    trace.call(0).expect("a call").clone()
}

/// The only argument of a call.
fn arg(text: &str) -> Value {
    let mut call = call(&format!("f({text}) = 0"));
    assert_eq!(call.args.len(), 1, "in {text}");
    call.args.remove(0)
}

fn sym(text: &str, value: Option<i64>) -> Value {
    let text = text.to_owned();
    Value::Sym { text, value }
}

fn array(items: Vec<Value>) -> Value {
    Value::Array { items, cut: false }
}

fn structure(fields: &[(&str, Value)]) -> Value {
    let fields = fields
        .iter()
        .map(|(n, v)| Field::new(*n, v.clone()))
        .collect();
    Value::Struct { fields, cut: false }
}

/// Whether nothing in it was left uninterpreted.
fn understood(value: &Value) -> bool {
    match value.meaning() {
        Value::Raw(_) => false,
        Value::Array { items, .. } => items.iter().all(understood),
        Value::Struct { fields, .. } => fields.iter().all(|f| understood(&f.value)),
        Value::Change { before, after } => understood(before) && understood(after),
        _ => true,
    }
}

#[test]
fn scalars() {
    assert_eq!(arg("3"), Value::Int(3));
    assert_eq!(arg("-1"), Value::Int(-1));
    assert_eq!(arg("NULL"), Value::Addr(0));
    assert_eq!(arg("0x7ffd00 /* 30 vars */"), Value::Addr(0x7f_fd00));
    assert_eq!(arg("0644"), Value::Octal(0o644));
    assert_eq!(arg("000"), Value::Octal(0));
    assert_eq!(
        arg("18446744073709551615"),
        sym("18446744073709551615", Some(-1))
    );
    assert_eq!(
        arg("AT_FDCWD"),
        Value::Fd {
            fd: -100,
            path: None
        }
    );
    assert_eq!(arg("8192*1024"), sym("8192*1024", Some(8192 * 1024)));
    assert_eq!(
        arg("1<<CAP_CHOWN|1<<CAP_KILL").to_string(),
        "1<<CAP_CHOWN|1<<CAP_KILL"
    );
    assert_eq!(arg("O_RDONLY|O_CLOEXEC").as_i64(), Some(0o2_000_000));
    assert_eq!(arg("O_RDONLY|0x8 /* O_??? */").to_string(), "O_RDONLY|0x8");
    assert_eq!(
        arg("SNDCTL_TMR_TIMEBASE or TCGETS").to_string(),
        "SNDCTL_TMR_TIMEBASE or TCGETS"
    );
    assert!(understood(&arg(
        "_IOC(_IOC_READ|_IOC_WRITE, 0xae, 0x1, 0x4)"
    )));
    assert!(understood(&arg("makedev(0x88, 0x5)")));
    let date = arg("2018/04/29-13:30:53.769404451");
    assert_eq!(
        date,
        sym("2018/04/29-13:30:53.769404451", Some(1_525_008_653))
    );
}

#[test]
fn strings() {
    assert_eq!(
        arg(r#""a\tb\n\0\33\0334\x7f\"\\""#),
        Value::str(*b"a\tb\n\0\x1b\x1b4\x7f\"\\")
    );
    assert_eq!(arg(r#""\377\400""#), Value::str(*b"\xff\x200"));
    let cut = Value::Str {
        bytes: b"abc".to_vec(),
        cut: true,
    };
    assert_eq!(arg(r#""abc"..."#), cut);
    assert_eq!(arg(r#"@"abc""#), Value::str(*b"\0abc"));
    let call = strace::parse(b"f(\"\xff\xc3\") = 0", "test");
    assert_eq!(
        call.trace.call(0).expect("a call").args,
        [Value::str(*b"\xff\xc3")]
    );
}

#[test]
fn descriptors_have_paths() {
    let fd = |text: &str, fd: i32, path: &str| {
        let path = Some(path.as_bytes().to_vec());
        assert_eq!(arg(text), Value::Fd { fd, path });
    };
    fd("3</etc/passwd>", 3, "/etc/passwd");
    fd(
        "4<TCP:[127.0.0.1:80->127.0.0.1:9]>",
        4,
        "TCP:[127.0.0.1:80->127.0.0.1:9]",
    );
    fd("5<UNIX:[12->13,@\"a\"]>", 5, "UNIX:[12->13,@\"a\"]");
    fd("1</dev/null<char 1:3>>", 1, "/dev/null<char 1:3>");
    fd("3</tmp/a\\76b>", 3, "/tmp/a>b");
    fd("3</tmp/a>(deleted)", 3, "/tmp/a (deleted)");
    fd("AT_FDCWD</root>", -100, "/root");
    let call = call("openat(AT_FDCWD</>, \"x\", O_RDONLY) = 3</etc/x>");
    assert_eq!(call.answer, Answer::Value(3));
    assert_eq!(
        call.to_string(),
        "openat(AT_FDCWD</>, \"x\", O_RDONLY) = 3</etc/x>"
    );
}

#[test]
fn a_changed_answer_is_printed_without_the_path_of_the_old_one() {
    let mut call = call("open(\"x\") = 3</etc/x>");
    call.answer = Answer::Errno(2);
    assert_eq!(
        call.to_string(),
        "open(\"x\") = -1 ENOENT (No such file or directory)"
    );
}

#[test]
fn compounds() {
    let poll = arg("[{fd=3, events=0x1}, {fd=4, events=0x4}]");
    let want = |fd, events| structure(&[("fd", Value::Int(fd)), ("events", Value::Addr(events))]);
    assert_eq!(poll, array(vec![want(3, 1), want(4, 4)]));
    assert_eq!(arg("[]"), array(vec![]));
    assert_eq!(arg("[3]"), array(vec![Value::Int(3)]));
    let set = |items: &[&str], negated| Value::Set {
        negated,
        items: items.iter().map(|s| (*s).to_owned()).collect(),
    };
    assert_eq!(arg("[INT CHLD]"), set(&["INT", "CHLD"], false));
    assert_eq!(arg("[CHLD]"), set(&["CHLD"], false));
    assert_eq!(arg("[RTMIN RT_1]"), set(&["RTMIN", "RT_1"], false));
    assert_eq!(arg("~[]"), set(&[], true));
    assert_eq!(arg("~[RT_1]"), set(&["RT_1"], true));
    assert_eq!(arg("[3 4]"), set(&["3", "4"], false));
    let cut = arg("{st_mode=S_IFREG|0644, st_size=1, ...}");
    assert!(matches!(&cut, Value::Struct { cut: true, fields } if fields.len() == 2));
    assert_eq!(
        cut.field("st_mode").and_then(Value::as_i64),
        Some(0o100_644)
    );
    assert!(matches!(arg("{...}"), Value::Struct { cut: true, .. }));
    assert!(matches!(arg("[1, ...]"), Value::Array { cut: true, .. }));
    let six = arg(
        r#"{sa_family=AF_INET6, sin6_port=htons(80), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}"#,
    );
    assert!(understood(&six));
    let text = six.field("sin6_addr").expect("an address").to_string();
    assert_eq!(text, r#"inet_pton(AF_INET6, "::1", &sin6_addr)"#);
    assert_eq!(
        arg(r#"{sa_family=AF_UNIX, sun_path=@"x"}"#).to_string(),
        r#"{sa_family=AF_UNIX, sun_path=@"x"}"#
    );
    let status = arg("[{WIFEXITED(s) && WEXITSTATUS(s) == 1}]");
    assert_eq!(
        status,
        array(vec![sym(
            "{WIFEXITED(s) && WEXITSTATUS(s) == 1}",
            Some(256)
        )])
    );
    let old = arg("{entry_number:-1, c_cc[VMIN]=1}");
    assert_eq!(
        old,
        structure(&[
            ("entry_number", Value::Int(-1)),
            ("c_cc[VMIN]", Value::Int(1))
        ])
    );
    let time = arg(
        "{st_atime=1525033853 /* 2018-04-29T13:30:53.769404451-0700 */, st_atime_nsec=769404451}",
    );
    assert_eq!(time.field("st_atime"), Some(&Value::Int(1_525_033_853)));
}

#[test]
fn changes() {
    let change = |before, after| Value::Change {
        before: Box::new(before),
        after: Box::new(after),
    };
    let small = || change(Value::Int(128), Value::Int(16));
    assert_eq!(arg("[128 => 16]"), array(vec![small()]));
    assert_eq!(arg("[128->16]"), array(vec![small()]));
    assert_eq!(
        arg("{msg_namelen=128 => 16}"),
        structure(&[("msg_namelen", small())])
    );
    let clone = arg("{flags=0x11, exit_signal=0} => {parent_tid=[7]}");
    assert_eq!(clone.field("parent_tid"), Some(&array(vec![Value::Int(7)])));
    assert_eq!(clone.field("flags"), Some(&Value::Addr(0x11)));
}

#[test]
fn named_arguments_are_symbols() {
    let call = call("clone(child_stack=NULL, flags=0x11 /* x */, child_tidptr=0x7f10) = 12");
    let want = [
        sym("child_stack=NULL", Some(0)),
        sym("flags=0x11", Some(0x11)),
        sym("child_tidptr=0x7f10", Some(0x7f10)),
    ];
    assert_eq!(call.args, want);
}

#[test]
fn designated_elements_are_symbols() {
    let cc = arg("{c_cc=[[VINTR]=0x3, [59 /* X_??? */]=0]}");
    let want = array(vec![sym("[VINTR]=0x3", Some(3)), sym("[59]=0", Some(0))]);
    assert_eq!(cc.field("c_cc"), Some(&want));
}

#[test]
fn without_a_file_messages_run_into_lines_and_pids_come_and_go() {
    let trace = read(
        "clone(child_stack=NULL, flags=0x11strace: Process 7 attached\n, child_tidptr=0x7f) = 7\n\
         wait4(7,  <unfinished ...>\n[pid     7] exit(0)     = ?\n[pid     7] +++ exited with 0 +++\n\
         <... wait4 resumed>NULL, 0, NULL) = 7\n[pid 6] read(0,  <unfinished ...>\n\
         <... read resumed>\"\", 1) = 0\nread(1,  <unfinished ...>\n[pid 6] <... read resumed>\"\", 1) = 0\n",
    );
    let shown: Vec<String> = trace.calls().map(|c| format!("{} {c}", c.tid)).collect();
    let want = [
        "0 clone(child_stack=NULL, flags=0x11, child_tidptr=0x7f) = 7",
        "0 wait4(7, NULL, 0, NULL) = 7",
        "7 exit(0) = ?",
        "6 read(0, \"\", 1) = 0",
        "6 read(1, \"\", 1) = 0",
    ];
    assert_eq!(shown, want);
}

#[test]
fn what_is_not_understood_is_kept() {
    for text in [
        "[0x1=\"a,b)\", x y]",
        "a b (c, d) e",
        "1.5",
        "00:1",
        "{a=1)",
    ] {
        let value = arg(text);
        assert!(!understood(&value), "{text}");
        assert_eq!(value.to_string(), text);
    }
    let resumed = call("restart_syscall(<... resuming interrupted read ...>) = 0");
    assert_eq!(
        resumed.args,
        [Value::Raw("<... resuming interrupted read ...>".into())]
    );
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(arg(&deep).to_string(), deep);
}

#[test]
fn results() {
    let answer = |text: &str| call(&format!("read(3) = {text}")).answer;
    assert_eq!(answer("3"), Answer::Value(3));
    assert_eq!(answer("0x7f12"), Answer::Value(0x7f12));
    assert_eq!(answer("0xffffffffff600000"), Answer::Value(-0xa0_0000));
    assert_eq!(answer("022"), Answer::Value(0o22));
    assert_eq!(
        answer("-1 ENOENT (No such file or directory)"),
        Answer::Errno(2)
    );
    assert_eq!(answer("-1 EWHAT (Unknown error 524)"), Answer::Errno(524));
    assert_eq!(answer("-1 (errno 524)"), Answer::Errno(524));
    assert_eq!(
        answer("-1 EPIPE (Broken pipe) (INJECTED)"),
        Answer::Errno(32)
    );
    assert_eq!(answer("0 (DELAYED)"), Answer::Value(0));
    assert_eq!(answer("3 <0.000012>"), Answer::Value(3));
    assert_eq!(answer("?"), Answer::Never);
    assert_eq!(
        answer("4294967274 EINVAL (Invalid argument)"),
        Answer::Errno(22)
    );
    assert_eq!(answer("? <unavailable>"), Answer::Never);
    assert_eq!(
        answer("? ERESTARTSYS (To be restarted if SA_RESTART is set)"),
        Answer::Restart(512)
    );
    assert_eq!(
        answer("? ERESTART_RESTARTBLOCK (Interrupted by signal)"),
        Answer::Restart(516)
    );
}

#[test]
fn notes_hold_what_has_no_argument() {
    let select = call("select(4, [3], NULL, NULL, {tv_sec=1}) = 1 (in [3], left {tv_sec=0})");
    assert_eq!(select.note("in"), Some(&array(vec![Value::Int(3)])));
    assert!(select.note("left").is_some());
    let poll = call("poll([{fd=3}], 1, 10) = 1 ([{fd=3, revents=0x1}])");
    let revents = structure(&[("fd", Value::Int(3)), ("revents", Value::Addr(1))]);
    assert_eq!(poll.note(""), Some(&array(vec![revents])));
    assert_eq!(
        call("poll(NULL, 0, 1) = 0 (Timeout)").note(""),
        Some(&sym("Timeout", None))
    );
    for line in [
        "fcntl(3, F_GETFD) = 0x1 (flags FD_CLOEXEC)",
        "select(4, [3], NULL, NULL, {tv_sec=1}) = 1 (in [3], left {tv_sec=0})",
        "poll(NULL, 0, 1) = 0 (Timeout)",
        "umask(000) = 022",
        "mmap(NULL, 1) = 0x7f00",
        "rt_sigsuspend([], 8) = ? ERESTARTNOHAND (To be restarted if no handler)",
        "exit_group(0) = ?",
    ] {
        assert_eq!(call(line).to_string(), line);
    }
}

#[test]
fn columns_in_front() {
    for line in [
        "read(3) = 0",
        "12:34:56 read(3) = 0",
        "12:34:56.123456 read(3) = 0 <0.000010>",
        "1525033853.769404 read(3) = 0",
        "1525033853 read(3) = 0",
        "     0.000123 read(3) = 0",
        "12:34:56 [  59] [00007fc60956dad7] read(3) = 0",
        "[????????????????] read(3) = 0",
        "12:34:56 (+     0.000010) read(3) = 0",
    ] {
        assert_eq!(
            (call(line).tid, call(line).name.as_str()),
            (0, "read"),
            "{line}"
        );
        let line = format!("1234  {line}");
        assert_eq!(
            (call(&line).tid, call(&line).name.as_str()),
            (1234, "read"),
            "{line}"
        );
        let line = format!("[pid {line}").replacen("  ", "] ", 1);
        assert_eq!(
            (call(&line).tid, call(&line).name.as_str()),
            (1234, "read"),
            "{line}"
        );
    }
    assert_eq!(call("77<bash> read(3) = 0").tid, 77);
    assert_eq!(call("7 read(3) = 0").tid, 7);
}

#[test]
fn messages_say_nothing() {
    let text = "strace: Process 12 attached\n/usr/bin/strace: Process 12 attached\n\nProcess 3 detached\r\n\
        12 --- stopped by SIGSTOP ---\n > /lib/libc.so(x+1) [0x2]\n | 00000  61 |a|\n\
        12 strace: [ Process PID=12 runs in 32 bit mode. ]\n";
    assert!(read(text).entries().is_empty());
}

#[test]
fn signals_and_exits() {
    let trace = read(
        "1 --- SIGCHLD {si_signo=SIGCHLD, si_pid=2} ---\n2 --- SIGINT (Interrupt) @ 0 (0) ---\n\
         3 +++ exited with 7 +++\n4 +++ killed by SIGKILL +++\n5 +++ killed by SIGSEGV (core dumped) +++\n",
    );
    let [
        Entry::Signal {
            signal: 17, info, ..
        },
        Entry::Signal { signal: 2, .. },
        rest @ ..,
    ] = trace.entries()
    else {
        panic!("{trace:?}");
    };
    assert_eq!(info.field("si_pid"), Some(&Value::Int(2)));
    let exits: Vec<_> = rest
        .iter()
        .map(|e| {
            if let Entry::Exit { exit, .. } = e {
                Some(*exit)
            } else {
                None
            }
        })
        .collect();
    let killed = |signal, core| Some(Exit::Signal { signal, core });
    assert_eq!(
        exits,
        [Some(Exit::Code(7)), killed(9, false), killed(11, true)]
    );
    assert_eq!(trace.signals().count(), 2);
    assert_eq!(trace.pids(), [1, 2, 3, 4, 5]);
}

#[test]
fn interrupted_calls_stand_where_they_began() {
    let trace = read(
        "1 read(0,  <unfinished ...>\n2 getsockname(3, 0x7f, [128 <unfinished ...>\n1 <... read resumed>\"a\", 1) = 1\n\
         2 <... getsockname resumed> => 16]) = 0\n1 futex(0x1, 0 <unfinished ...>\n2 exit(0) = ?\n\
         2 +++ exited with 0 +++\n1 +++ killed by SIGKILL +++\n3 wait4(-1,  <unfinished ...>\n4 pause( <detached ...>\n",
    );
    let shown: Vec<String> = trace
        .entries()
        .iter()
        .map(|e| format!("{} {e}", e.tid()))
        .collect();
    let want = [
        "1 read(0, \"a\", 1) = 1",
        "2 getsockname(3, 0x7f, [128 => 16]) = 0",
        "1 futex(0x1, 0) = ?",
        "2 exit(0) = ?",
        "2 +++ exited with 0 +++",
        "1 +++ killed by SIGKILL +++",
        "3 wait4(-1) = ?",
        "4 pause() = ?",
    ];
    assert_eq!(shown, want);
    let Some(Entry::Call(getsockname)) = trace.entries().get(1) else {
        panic!()
    };
    assert_eq!(
        getsockname.origin,
        Origin::Text {
            file: "test".into(),
            line: 2
        }
    );
}

#[test]
fn execve_of_a_thread_goes_on_under_the_leaders_pid() {
    let trace = read(
        "5 execve(\"/bin/x\", [], [] <unfinished ...>\n4 futex(0x1 <unfinished ...>\n4 +++ superseded by execve in pid 5 +++\n\
         4 <... execve resumed>) = 0\n",
    );
    let shown: Vec<String> = trace
        .entries()
        .iter()
        .map(|e| format!("{} {e}", e.tid()))
        .collect();
    assert_eq!(
        shown,
        ["4 execve(\"/bin/x\", [], []) = 0", "4 futex(0x1) = ?"]
    );
}

#[test]
fn problems_have_places_and_stop_nothing() {
    let text = "read(3) = 0\nhello) = world\nread(3 = 0\nwrite(1, \"a) = 1\n7 <... read resumed>) = 0\nclose(3) = x\n\
        9 read( <unfinished ...>\n9 <... read resumed>3, \"a) = 1\nclose(4) = 0\n";
    let parsed = strace::parse(text.as_bytes(), "t.strace");
    let shown: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    let want = [
        "t.strace:2:1: expected a system call, a signal or an exit",
        "t.strace:3:11: expected `)`",
        "t.strace:4:10: expected a closing quote",
        "t.strace:6:12: expected a result",
        "t.strace:8:24: expected a closing quote",
    ];
    assert_eq!(shown, want);
    assert_eq!(parsed.trace.len(), 2);
    assert_eq!(strace::line(b"nonsense").map_err(|p| p.line), Err(1));
}

#[test]
fn traces_can_be_searched_and_sliced() {
    let trace =
        read("1 a() = 0\n1 --- SIGINT {} ---\n2 b() = 1\n1 a() = 2\n1 +++ exited with 0 +++\n");
    assert_eq!(trace.find(|c| c.name == "b"), Some(1));
    assert_eq!(trace.find_from(1, |c| c.name == "a"), Some(2));
    assert_eq!(trace.find(|c| c.name == "c"), None);
    assert_eq!(
        trace.slice(0, 1).map(|t| (t.len(), t.entries().len())),
        Some((2, 3))
    );
    assert_eq!(trace.slice(2, 1), None);
    assert_eq!(trace.slice(0, 3), None);
    assert_eq!(trace.of_tid(1).len(), 2);
}

#[test]
fn results_are_aligned_as_strace_does() {
    let trace = read(
        "2170  read(0, \"hello\\n\", 8)             = 6\nexit_group(0)                           = ?\n",
    );
    let mut out = Vec::new();
    strace::write(&trace, &mut out).expect("a vector takes everything");
    let want = "2170  read(0, \"hello\\n\", 8)             = 6\nexit_group(0)                           = ?\n";
    assert_eq!(String::from_utf8_lossy(&out), want);
    let exit = trace.call(1).expect("the second call");
    assert_eq!(
        format!("{exit:#}"),
        "exit_group(0)                           = ?"
    );
    assert_eq!(exit.to_string(), "exit_group(0) = ?");
}

#[test]
fn single_values() {
    assert_eq!(
        value_from_text("S_IFIFO|0644").map(|v| v.as_i64()),
        Ok(Some(0o10_644))
    );
    assert_eq!(
        value_from_text(" {a=1} ").map(|v| v.to_string()),
        Ok("{a=1}".into())
    );
    for wrong in ["", "1, 2", "\"a", "a b", "[1", "1]"] {
        assert!(value_from_text(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn legacy_files_are_understood() {
    for name in ["callread", "flask_request_snip", "sqlite_select"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces");
        let file = std::path::Path::new(folder).join(format!("{name}.strace"));
        let parsed = strace::load(&file).expect("a readable file");
        assert_eq!(parsed.problems, []);
        assert!(
            parsed.trace.calls().flat_map(|c| &c.args).all(understood),
            "{}",
            file.display()
        );
    }
}
