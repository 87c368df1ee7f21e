//! Traces as people paste them: into the midst of which others wrote, indented, quoted, with remarks, cut off. What is
//! strace's is found, what is not is told apart, and all prints back byte for byte.

use rrapper::strace::{self, OtherLine, Piece, PieceKind, Stream};
use rrapper::trace::Entry;

/// The pieces of a text, which must print back, whatever they are.
fn pieces(text: &[u8]) -> Vec<Piece> {
    let stream = Stream::new(text, "t");
    let pieces: Result<Vec<Piece>, _> = stream.collect();
    let pieces = pieces.expect("memory can be read");
    let mut printed = Vec::new();
    for piece in &pieces {
        assert!(piece.prints_back(), "{piece:?}");
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

/// What a text says: its entries with their tasks where known, `cut` behind those that are, and its problems.
fn said(text: &str) -> Vec<String> {
    let mut said = Vec::new();
    for piece in pieces(text.as_bytes()) {
        match &piece.kind {
            PieceKind::Entry(entry)
            | PieceKind::Resumed(entry)
            | PieceKind::NeverResumed(entry) => {
                let cut = match entry.line_info().is_some_and(|line_info| line_info.cut) {
                    true => " cut",
                    false => "",
                };
                said.push(match entry.tid() {
                    0 => format!("{entry}{cut}"),
                    tid => format!("{tid} {entry}{cut}"),
                });
            }
            PieceKind::Problem(problem) => said.push(format!("problem in line {}", problem.line)),
            PieceKind::Other(OtherLine::Truncated) => said.push("cut".to_owned()),
            PieceKind::Other(_) | PieceKind::Unfinished { .. } => {}
        }
        said.extend(piece.doubts.iter().map(ToString::to_string));
    }
    said
}

/// The kinds of lines of a text that has no entries.
fn asides(text: &str) -> Vec<OtherLine> {
    let told = pieces(text.as_bytes());
    let told = told.into_iter().map(|piece| match piece.kind {
        PieceKind::Other(other) => other,
        other => panic!("{text}: {other:?}"),
    });
    told.collect()
}

const ENDED: &str = "[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7";

#[test]
fn what_others_write_into_a_call_that_waits_is_not_part_of_it() {
    for (text, want) in [
        // A line, several, a part of one, an empty one.
        (
            "wait4(-1, cc -c a.c\n[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\n",
            ENDED,
        ),
        (
            "wait4(-1, a(1): warning, \"x\"\n\n\tb = (c)\n[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\n",
            ENDED,
        ),
        (
            "wait4(-1, .....[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\n",
            ENDED,
        ),
        (
            "wait4(-1, one\ntwo [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\n",
            ENDED,
        ),
        (
            "wait4(-1, \n[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\r\n",
            ENDED,
        ),
        // With columns, times and paths.
        (
            "12:34:56.000001 wait4(-1, one\r\n[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7 <0.100000>\r\n",
            ENDED,
        ),
        ("[00007f12] vfork(hello\n)   = 7\n", "vfork() = 7"),
        ("vfork(hello world)   = 7\n", "vfork() = 7"),
        (
            "     0.000012 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f10>hi\nho) = 7\n",
            "clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f10) = 7",
        ),
        (
            "read(0</dev/pts/1>, Name? \"bob\\n\", 1024) = 4\n",
            "read(0</dev/pts/1>, \"bob\\n\", 1024) = 4",
        ),
        (
            "read(3, make[1]: Entering\n0x7ffe10, 1024) = -1 EINTR (Interrupted system call)\n",
            "read(3, 0x7ffe10, 1024) = -1 EINTR (Interrupted system call)",
        ),
        (
            "pause(^C)                                 = ? ERESTARTNOHAND (To be restarted if no handler)\n",
            "pause() = ? ERESTARTNOHAND (To be restarted if no handler)",
        ),
        (
            "futex(0x7f10, FUTEX_WAIT_PRIVATE, 2, NULLdone: x\n)  = 0\n",
            "futex(0x7f10, FUTEX_WAIT_PRIVATE, 2, NULL) = 0",
        ),
        (
            "select(4, [3], NULL, NULL, NULLa, b\nc) = 1 (in [3])\n",
            "select(4, [3], NULL, NULL, NULL) = 1 (in [3])",
        ),
        (
            "poll([{fd=3, events=POLLIN}], 1, -1tick\ntock\n)    = 1 ([{fd=3, revents=POLLIN}])\n",
            "poll([{fd=3, events=POLLIN}], 1, -1) = 1 ([{fd=3, revents=POLLIN}])",
        ),
        (
            "epoll_wait(3, GET / 200\n[{EPOLLIN, {u32=5, u64=5}}], 8, -1) = 1\n",
            "epoll_wait(3, [{EPOLLIN, {u32=5, u64=5}}], 8, -1) = 1",
        ),
        (
            "nanosleep({tv_sec=1, tv_nsec=0}, ping\npong\n0x7ffe10) = 0\n",
            "nanosleep({tv_sec=1, tv_nsec=0}, 0x7ffe10) = 0",
        ),
        (
            "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=0}, x\nNULL) = 0\n",
            "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=0}, NULL) = 0",
        ),
        (
            "waitid(P_ALL, 0, x\n{si_signo=SIGCHLD, si_status=0}, WEXITED, NULL) = 0\n",
            "waitid(P_ALL, 0, {si_signo=SIGCHLD, si_status=0}, WEXITED, NULL) = 0",
        ),
        ("flock(3, LOCK_EXwaiting\n) = 0\n", "flock(3, LOCK_EX) = 0"),
        (
            "rt_sigsuspend([], 8hello\n)    = ? ERESTARTNOHAND (To be restarted if no handler)\n",
            "rt_sigsuspend([], 8) = ? ERESTARTNOHAND (To be restarted if no handler)",
        ),
        (
            "accept(3, hello\n{sa_family=AF_UNIX}, [16]) = 4\n",
            "accept(3, {sa_family=AF_UNIX}, [16]) = 4",
        ),
        ("kill(12, SIGTERMbye\n)  = 0\n", "kill(12, SIGTERM) = 0"),
    ] {
        let want = match want {
            ENDED => format!("wait4(-1, {ENDED}"),
            other => other.to_owned(),
        };
        assert_eq!(said(text), [want], "{text}");
    }
    // Old strace's iovecs; musl's programs write so.
    let text = "writev(1, [{\"ab\", 2}, {\"\\n\", 1}], 2ab\n)         = 3\n";
    assert_eq!(
        said(text),
        ["writev(1, [{\"ab\", 2}, {\"\\n\", 1}], 2) = 3"]
    );
}

#[test]
fn a_call_that_waits_may_go_on_later_or_be_given_up() {
    let text = "[pid 5] wait4(-1, one\ntwo\n <unfinished ...>\n[pid 6] exit_group(0) = ?\n\
        [pid 5] <... wait4 resumed>NULL, 0, NULL) = 6\n";
    assert_eq!(
        said(text),
        ["6 exit_group(0) = ?", "5 wait4(-1, NULL, 0, NULL) = 6"]
    );
    let text = "[pid 5] wait4(-1, one two <unfinished ...>\n[pid 5] <... wait4 resumed>NULL, 0, NULL) = 6\n";
    assert_eq!(said(text), ["5 wait4(-1, NULL, 0, NULL) = 6"]);
    let text = "read(0, hello\nyou\n <detached ...>\n";
    assert_eq!(said(text), ["read(0) = ?"]);
    // What goes in may be written at once.
    let text = "5 read(0x3, 0x7ffe10, 0x400 <unfinished ...>\n5 <... read resumed>) = 0x5\n";
    assert_eq!(said(text), ["5 read(0x3, 0x7ffe10, 0x400) = 5"]);
}

#[test]
fn a_garbled_call_stays_a_problem_whatever_follows() {
    for (text, want) in [
        ("read(3, x y z\nclose(3) = 0\n", 1),
        ("read(3, \"abc, 3) = 3\nhello\nclose(3) = 0\n", 1),
        (
            "wait4(-1, one\nclose(3) = 0\n[{WIFEXITED(s)}], 0, NULL) = 7\n",
            1,
        ),
        (
            "openat(AT_FDCWD, \"x\", O_RDONLY garbage = 3\nclose(3) = 0\n",
            1,
        ),
        ("(3, \"\", 1) = 0\nx: close(3) = 0\nclose(3) = 0\n", 1),
        ("hello read(3, \"\", 1) = 0\nclose(3) = 0\n", 1),
        ("close(3) = x\nclose(3) = 0\n", 1),
        ("close 3) = 0\nclose(3) = 0\n", 1),
        ("\"abc\", 3, O_RDONLY\nclose(3) = 0\n", 1),
        ("--- SIGCHLD {si_signo=\nclose(3) = 0\n", 1),
        ("+++ exited with many +++\nclose(3) = 0\n", 1),
        ("<... read resumed\nclose(3) = 0\n", 1),
        ("a\x01\x02b\nclose(3) = 0\n", 1),
        (
            "futex(0x1, FUTEX_WAIT, 2, NULL, 0x1, 7, 8, 9 x) = 0\nclose(3) = 0\n",
            1,
        ),
    ] {
        let told = said(text);
        let first = format!("problem in line {want}");
        let doubt = format!("t:{want}:");
        let wrong = |told: &String| *told == first || told.starts_with(&doubt);
        assert!(told.iter().any(wrong), "{text}: {told:?}");
        assert!(
            told.iter().any(|told| told == "close(3) = 0"),
            "{text}: {told:?}"
        );
    }
    // A garbled beginning does not take the next one with it.
    let text = "wait4(-1, one\nwait4(-1, two\nNULL, 0, NULL) = 7\n";
    assert_eq!(
        said(text),
        ["problem in line 1", "wait4(-1, NULL, 0, NULL) = 7"]
    );
}

#[test]
fn a_call_that_waits_for_a_flood_is_not_held() {
    let line = "0123456789 building\n";
    let text = format!("wait4(-1, {}NULL, 0, NULL) = 7\n", line.repeat(100_000));
    assert_eq!(said(&text), ["wait4(-1, NULL, 0, NULL) = 7"]);
    let most = pieces(text.as_bytes())
        .iter()
        .map(|piece| piece.text.len())
        .max();
    assert!(most < Some(1 << 20), "{most:?}");
    let text = format!("wait4(-1, {}close(3) = 0\n", line.repeat(100_000));
    assert_eq!(said(&text), ["wait4(-1) = ?", "close(3) = 0"]);
    let text = format!(
        "5 wait4(-1, {} <unfinished ...>\n5 <... wait4 resumed>NULL, 0, NULL) = 7\n",
        line.repeat(100_000)
    );
    assert_eq!(said(&text), ["5 wait4(-1, NULL, 0, NULL) = 7"]);
}

/// A text with lines of every kind.
const TEXT: &str = "close(3) = 0\n > /lib/libc.so.6(close+0xc) [0xdf48c]\n > unexpected_backtracing_error [0x0]\n\
    [pid    12] read(3, \"abc\", 10)          = 3\n | 00000  61 62 63                                          abc              |\n\
    [pid    13] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=12, si_uid=0} ---\n\
    12345 read(3,  <unfinished ...>\n12345 <... read resumed>\"\", 1) = 0\n\
    12345 12:34:56.000001 [00007f0000001000] openat(AT_FDCWD, \"/x\", O_RDONLY) = 3 <0.000010>\n\
    1700000000.000001 pause() = ?\n * 5 bytes in buffer 0\n = 2 buffers in vector 0\n\
    [pid 13] +++ exited with 0 +++\nstrace: Process 13 attached\n\n+++ killed by SIGKILL +++\n";

#[test]
fn pasting_does_not_matter() {
    let plain = said(TEXT);
    assert_eq!(plain.len(), 8, "{plain:?}");
    for margin in [
        "    ", "\t", "  ", "> ", ">> ", "> > ", ">", "        ", ">     ", "\0\0",
    ] {
        for end in ["\n", "\r\n"] {
            let pasted: String = TEXT
                .lines()
                .map(|line| format!("{margin}{line}{end}"))
                .collect();
            assert_eq!(said(&pasted), plain, "{margin:?}");
            let known = |piece: &&Piece| {
                matches!(
                    piece.kind,
                    PieceKind::Other(OtherLine::Stack | OtherLine::Dump)
                )
            };
            let count = pieces(pasted.as_bytes()).iter().filter(known).count();
            assert_eq!(count, 5, "{margin:?}");
        }
    }
    // Some programs take the blanks away.
    let trimmed: String = TEXT
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    assert_eq!(said(&trimmed), plain);
    // Whole seconds since the last line stand behind blanks, too.
    let text = "     0 close(3) = 0\n    12 close(3) = 0\n  1234 close(3) = 0\n";
    assert_eq!(
        said(text),
        ["close(3) = 0", "close(3) = 0", "1234 close(3) = 0"]
    );
}

#[test]
fn what_people_write_into_a_trace_is_a_remark() {
    for line in [
        "# here it opens the file",
        "// see read(3, \"x\", 1) = 1",
        "-- and then",
        "--",
        "...",
        "... 100 lines ...",
        "[...]",
        "[snip]",
        "[ 500 lines left out ]",
        "(cut)",
        "<snip>",
        "<... many more lines ...>",
        "…",
        "<-- here",
        "<--- it hangs here",
        "^^^^ this one",
        "```",
        "```text",
        "~~~",
        "$ strace -f ls",
        "# strace -p 12",
        "user@host:~/src$ strace -o x ls",
        "[root@host ~]# strace -e 'trace=open' ls",
        "+ strace ls",
        "==== first run ====",
        "***",
        "; a comment",
        "Then it waits for the child, see wait4(2).",
        "Dann öffnet es die Datei:",
        "接下来打开文件",
        "Second attempt (without the cache):",
        "hello",
        "2 seconds later",
        "+++ some words +++",
        "+++some words+++",
        "--- some words ---",
        "---some words---",
        "12    +++ some words +++",
        "[pid 12] --- some words ---",
        "12:34:56 +++ attached +++",
        "---------",
        "* the first point",
        "/* nothing else */",
        "    > as he said",
        "\x1b[31merror:\x1b[0m no such thing",
        "https://example.com/a?b=c",
        "build finished: 3 of 4",
    ] {
        for end in ["\n", "\r\n"] {
            let text = format!("{line}{end}");
            let told = asides(&text);
            assert_eq!(told.len(), 1, "{line}");
            let remark = matches!(told[0], OtherLine::Remark | OtherLine::Stack);
            assert!(remark, "{line}: {told:?}");
            let quoted = format!("> {text}");
            let told = asides(&quoted);
            let remark = matches!(told[..], [OtherLine::Remark | OtherLine::Stack]);
            assert!(remark, "{quoted}: {told:?}");
        }
    }
}

#[test]
fn notes_behind_a_line_are_no_part_of_it() {
    for note in [
        "  <-- here",
        " <--- why?",
        "   # it has a name: x",
        " // see above (or below)",
        "\t<== !!!",
        " -- hm",
        " ...",
        "  ← hier",
        " ; ok",
    ] {
        for (line, want) in [
            ("close(3) = 0", "close(3) = 0"),
            (
                "[pid 5] read(3, 0x1, 1) = -1 EIO (Input/output error) <0.000010>",
                "5 read(3, 0x1, 1) = -1 EIO (Input/output error)",
            ),
            ("pause()  = ?", "pause() = ?"),
            ("5 +++ exited with 1 +++", "5 +++ exited with 1 +++"),
            (
                "--- SIGINT {si_signo=SIGINT, si_code=SI_KERNEL} ---",
                "--- SIGINT {si_signo=SIGINT, si_code=SI_KERNEL} ---",
            ),
            ("5 read(3,  <unfinished ...>", "5 read(3) = ?"),
        ] {
            for end in ["", "\n", "\r\n"] {
                assert_eq!(said(&format!("{line}{note}{end}")), [want], "{line}{note}");
            }
        }
    }
    // Without a blank, or a mark, it is not clear what it is.
    assert_eq!(
        said("close(3) = 0# x\nclose(4) = 0\n"),
        ["problem in line 1", "close(4) = 0"]
    );
    assert_eq!(
        said("close(3) = 0 x\nclose(4) = 0\n"),
        ["problem in line 1", "close(4) = 0"]
    );
}

#[test]
fn a_last_line_may_be_cut_anywhere() {
    let first = "12 close(3) = 0\n";
    let last = "12 12:34:56 openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY, {a=[1, 2], b=3}) = -1 ENOENT (No such file or directory)";
    let (name, paren) = (
        last.find("openat").expect("a name"),
        last.find('(').expect("arguments"),
    );
    for cut in name + 1..last.len() {
        let text = format!("{first}{}", &last[..cut]);
        let told = said(&text);
        assert_eq!(told[0], "12 close(3) = 0", "{text}");
        let whole =
            told.len() == 2 && told[1].starts_with("12 openat(") && !told[1].ends_with(" cut");
        if cut > paren && !whole {
            assert_eq!(told.len(), 2, "{text}: {told:?}");
            assert!(
                told[1].starts_with("12 openat(") && told[1].ends_with(" = ? cut"),
                "{text}: {told:?}"
            );
        } else {
            assert!(
                !told.iter().any(|told| told.starts_with("problem")),
                "{text}: {told:?}"
            );
        }
    }
    for text in [
        "12 close(3) = 0\n12 --- SIGCHLD {si_sig",
        "12 close(3) = 0\n12 +++ killed by SIGSE",
        "12 close(3) = 0\n12 <... read resumed",
        "12 close(3) = 0\n[pid 1",
    ] {
        assert_eq!(said(text), ["12 close(3) = 0", "cut"], "{text}");
    }
}

#[test]
fn a_cut_call_may_have_an_end_of_a_paste_behind_it() {
    let want = ["poll([{fd=6, events=POLLIN}], 1, 3600000) = ? cut"];
    for behind in [
        "",
        "\n",
        "\r\n",
        "\n\n\n",
        "\n```\n",
        "\n$ \n",
        "\nThat is all.\n",
        "\0\0\0\0",
    ] {
        let text = format!("poll([{{fd=6, events=POLLIN}}], 1, 3600000{behind}");
        assert_eq!(said(&text), want, "{text:?}");
    }
    let text = "5 read(3,  <unfinished ...>\n6 close(1) = 0\n5 <... read resumed>\"abc";
    assert_eq!(said(text), ["6 close(1) = 0", "cut", "5 read(3) = ? cut"]);
    let text = "wait4(-1, one\ntwo";
    assert_eq!(said(text), ["wait4(-1) = ? cut"]);
    // In the midst of a text, nothing is cut.
    let text = "poll([{fd=6, events=POLLIN}], 1, 3600000\nclose(3) = 0\n";
    assert_eq!(said(text), ["problem in line 1", "close(3) = 0"]);
    // Nor is what is wrong before its end.
    assert_eq!(
        said("close(3) = 0\nopenat(x y, \"/\", O_RDONLY) 3\n")
            .last()
            .map(String::as_str),
        Some("problem in line 2")
    );
    assert!(strace::line(b"poll([{fd=6, events=POLLIN}], 1, 36").is_err());
}

#[test]
fn a_text_that_is_no_trace_is_a_problem() {
    let parsed = strace::parse(b"\n# Title\n\nSome words.\n", "readme");
    let told: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["readme:2:1: expected a system call, a signal or an exit"]
    );
    assert!(strace::line(b"# a remark").is_err());
}

#[test]
fn old_forms_are_calls() {
    for (text, want) in [
        (
            "13:57:42.000001 sigaction(SIGUSR1, {SIG_IGN, , {0x4017dba1, [], SA_RESTART|SA_SIGINFO}, 0) = 0\n",
            "sigaction(SIGUSR1, {SIG_IGN, ...}, {0x4017dba1, [], SA_RESTART|SA_SIGINFO}, 0) = 0",
        ),
        (
            "sigaction(SIGINT, {0x4017dba1, [], SA_RESTART}, {SIG_DFL, , 0) = 0\n",
            "sigaction(SIGINT, {0x4017dba1, [], SA_RESTART}, {SIG_DFL, ...}, 0) = 0",
        ),
        (
            "sigaction(SIGINT, {SIG_DFL, , {SIG_IGN, , 0) = 0\n",
            "sigaction(SIGINT, {SIG_DFL, ...}, {SIG_IGN, ...}, 0) = 0",
        ),
        (
            "sigreturn() (mask [HUP INT TERM])         = 0\n",
            "sigreturn() = 0 (mask [HUP INT TERM])",
        ),
        (
            "[pid 7] sigreturn() (mask [])             = -1 EINTR (Interrupted system call)\n",
            "7 sigreturn() = -1 EINTR (Interrupted system call) (mask [])",
        ),
    ] {
        assert_eq!(said(text), [want], "{text}");
    }
}

#[test]
fn rows_of_tables_may_be_left_out() {
    let text = "% time     seconds  usecs/call     calls    errors syscall\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        \x2096.08   30.293350       30053      1008         9 futex\n...\n\
        \x20 0.75    0.236566           6     37503           epoll_wait\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        100.00   30.529916                 38511         9 total\nclose(3) = 0\n";
    for margin in ["", "    ", "> "] {
        let text: String = text
            .lines()
            .map(|line| format!("{margin}{line}\n"))
            .collect();
        let mut tables = strace::Tables::default();
        let mut names = Vec::new();
        for piece in pieces(text.as_bytes()) {
            match piece.kind {
                PieceKind::Other(OtherLine::Summary) => {
                    names.extend(tables.row(&piece.text).map(|row| (row.name, row.calls)));
                }
                PieceKind::Other(OtherLine::Remark) | PieceKind::Entry(Entry::Call(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        let named = |name: &str, calls| (name.to_owned(), Some(calls));
        assert_eq!(
            names,
            [
                named("futex", 1008),
                named("epoll_wait", 37503),
                named("total", 38511)
            ]
        );
    }
}
