//! Whatever the bytes, reading neither panics nor takes long; values survive being printed.

use proptest::prelude::*;
use rrapper::strace::{self, Piece, Stream, value_from_text};
use rrapper::trace::{Field, Value};
use std::time::{Duration, Instant};

/// The pieces of a text that is in memory.
fn pieces(text: &[u8]) -> Vec<Piece> {
    let stream = Stream::new(text, "any");
    let pieces: Result<Vec<Piece>, _> = stream.collect();
    pieces.expect("memory can be read")
}

/// The pieces of a text must be all of it, and print back whatever they were understood as.
fn check(text: &[u8]) -> Result<(), TestCaseError> {
    let mut joined = Vec::new();
    for piece in pieces(text) {
        if !piece.prints_back() {
            let mut printed = Vec::new();
            piece
                .print(&mut printed)
                .expect("a vector takes everything");
            let (text, printed) = (
                String::from_utf8_lossy(&piece.text),
                String::from_utf8_lossy(&printed),
            );
            prop_assert_eq!(text, printed, "{:?}", piece.kind);
        }
        joined.extend(piece.text);
    }
    prop_assert!(joined == text, "some of the text is missing");
    Ok(())
}

const LINES: &[&str] = &[
    "12 openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>\n",
    "12 fstat(3</x>, {st_mode=S_IFREG|0644, st_atime=1 /* 1970 */, st_dev=makedev(0x8, 0x1), ...}) = 0\n",
    "12 read(3, \"\\177ELF\\2\\1\\x00\"..., 832) = 832 <0.000012>\n",
    "12 wait4(-1,  <unfinished ...>\n",
    "12 <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 13\n",
    "12 --- SIGCHLD {si_signo=SIGCHLD, si_status=0} ---\n",
    "12 recvfrom(4, [1, 2], [128 => 16], ~[INT CHLD]) = -1 EAGAIN (Resource temporarily unavailable)\n",
    "12 select(4, [3 4], NULL, NULL, {1, 2}) = 1 (in [3], left {0, 1})\n",
    "12 +++ killed by SIGKILL (core dumped) +++\n",
    "12 read(3, \"\\x61\\0601\\n\", 3 /* 0x3 */) = 3 /* x */ (INJECTED) <0.1>\n",
    "12 sigaction(SIGX, {0x40, [], SA_RESTORER|0x8 /* SA_??? */, 0x0}, NULL) = 0\n",
    "[pid 12] 12:34:56.1 (+     0.000010) clone(flags=0x11 /* x */, parent_tid=[7]) = ? <unavailable>\n",
    "write(1, \"hello\\n\", 6hello\n)                  = 6\n",
    "clone(child_stack=NULLstrace: Process 7 attached\n, flags=0x11) = 7\n",
    "12 f([1,2 , 3], {a=1,b:2}, [1 => 2], [1->2], {sun_path=@\"x\"}, 3</x\\76>(deleted), 'a', ~[A  B]) = 0x10\n",
    "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- ---------\n",
    "wait4(-1, building\nx [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 7\n",
    "vfork(hello\n)   = 7 <-- here\n",
    "> # a remark\n",
    "    [pid 12] --- some words ---\n",
    "writev(1, [{\"a\", 1}, {\"\\n\", 1}], 2a\n) = 2\n",
    "sigaction(SIGINT, {SIG_DFL, , {0x40, [], 0}, 0) = 0\n",
    "12 stat(\"x\", {st_atime=2018/04/29-13:30:53.7, c_cc[VMIN]=1}) = ? ERESTARTSYS (To be restarted)\n",
];

/// A name that stands for nothing else in the syntax.
fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,8}"
}

fn scalar() -> impl Strategy<Value = Value> {
    let path = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12));
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Addr),
        any::<u64>().prop_map(Value::Octal),
        (any::<i32>(), path).prop_map(|(fd, path)| {
            // Without a path, only the working directory differs from a number.
            let fd = if path.is_none() { -100 } else { fd };
            Value::Fd { fd, path }
        }),
        "X_[A-Z]{1,5}(\\|0x[1-9a-f]{1,4})?".prop_map(|text| Value::Sym { text, value: None }),
        (proptest::collection::vec(any::<u8>(), 0..24), any::<bool>())
            .prop_map(|(bytes, cut)| Value::Str { bytes, cut }),
        proptest::collection::vec("[A-Z]{2,5}", 2..4).prop_map(|items| Value::Set {
            negated: false,
            items
        }),
        proptest::collection::vec("[A-Z0-9]{1,5}", 0..4).prop_map(|items| Value::Set {
            negated: true,
            items
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 32, 4, |inner| {
        // What is printed as an address or a name stays one; a change within a change is not strace's.
        let plain = inner
            .clone()
            .prop_filter("a change", |v| !matches!(v, Value::Change { .. }));
        let field = (prop_oneof![Just(String::new()), name()], inner.clone());
        prop_oneof![
            (proptest::collection::vec(inner, 0..4), any::<bool>())
                .prop_map(|(items, cut)| Value::Array { items, cut }),
            (proptest::collection::vec(field, 0..4), any::<bool>()).prop_map(|(fields, cut)| {
                let fields = fields.into_iter().map(|(n, v)| Field::new(n, v)).collect();
                Value::Struct { fields, cut }
            }),
            (plain.clone(), plain).prop_map(|(before, after)| Value::Change {
                before: Box::new(before),
                after: Box::new(after)
            }),
        ]
    })
}

/// The same bytes on every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(512),
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        strace::parse(&bytes, "any");
        check(&bytes)?;
    }

    #[test]
    fn brackets_are_read(text in "f\\([a0<>(){}\\[\\]\",=~*/ .-]{0,60}\\) = [0-9?]") {
        let parsed = strace::parse(text.as_bytes(), "any");
        prop_assert_eq!(parsed.trace.len() + parsed.problems.len(), 1);
        check(text.as_bytes())?;
    }

    #[test]
    fn syntax_is_read(text in "f\\((NULL|0x0?1|-?0?7|, |,| |\\[|\\]|\\{|\\}|a=|\"\\\\1?x?\"|A|\\||/\\* \\*/|=>|->|\\.\\.\\.|3<a>|~\\[|@\"a\"){0,12}\\) = [0-9?]") {
        check(text.as_bytes())?;
    }

    #[test]
    fn damaged_lines_are_read(
        picks in proptest::collection::vec(0..LINES.len(), 1..6),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6),
    ) {
        let mut text: Vec<u8> = picks.iter().flat_map(|&i| LINES[i].bytes()).collect();
        for (at, byte, kind) in hits {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            match kind {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        let parsed = strace::parse(&text, "damaged");
        let mut out = Vec::new();
        strace::write(&parsed.trace, &mut out).expect("a vector takes everything");
        check(&text)?;
    }

    #[test]
    fn printed_values_are_the_same_when_read(value in value()) {
        let text = value.to_string();
        let read = value_from_text(&text);
        // What is written as we write it does not say so.
        prop_assert!(!format!("{read:?}").contains("Written"), "{:?}", read);
        prop_assert_eq!(read, Ok(value), "{}", text);
    }
}

/// How long it takes to read so many bytes of a unit, between a head and a tail.
fn time(head: &str, unit: &str, tail: &str, len: usize) -> Duration {
    let mut text = head.as_bytes().to_vec();
    text.extend(unit.bytes().cycle().take(len));
    text.extend(tail.bytes());
    let start = Instant::now();
    for piece in Stream::new(&text[..], "hostile") {
        assert!(piece.is_ok());
    }
    start.elapsed()
}

/// Eight times as much of each of these must take about eight times as long; quadratic time would be 64 times that.
#[test]
fn hostile_lines_take_linear_time() {
    const SHORT: usize = 8 << 10;
    for unit in [
        "[",
        "{",
        "(",
        "{a=",
        "[{",
        "[[1,",
        "{a=[",
        "\"",
        "\\",
        "/*",
        "[/*",
        "/**/",
        "1<",
        "3<a,",
        "[3<a,",
        "~[",
        "[A ",
        "a(",
        "a|",
        "A or ",
        "1<<",
        "{WIF",
        "1 => ",
        ",",
        "\0",
        "\n",
        "\"\\",
        "a(/**/",
        "0",
        "(0",
        "<",
        "- ",
        "x=",
        "{a[",
        "[a b {",
        "1 read(<unfinished ...>\n",
        "1 read(1, <unfinished ...>\n1 <... read resumed>) = 0\n",
        "1 f() = 0 (a 1, ",
        "+++ ",
        "'",
        "/* /*",
        "1 /*",
        "1 /**/",
        "1 /**/|",
        "A /* */|",
        "{a=1 b=",
        "{} totalram=",
        "{{} ",
        "[1 => {",
        "[a=",
        "[A]=",
        "[A] = ",
        "@\"",
        "SCM_{",
        "3</x> [a:",
        "00:",
        "1.1.",
        "~",
        "~(",
        "-(",
        "1*",
        "(1|",
        "<",
        "<...",
        "...,",
        "\\1",
        "write(1, \"a\", 1a\n",
        "write(1, \"a\\n\"..., 60000a\n",
        "write(1, \"\\n\", 1\n",
        "a(strace: \n",
        "a(Process 1 attached\n",
        "strace: Process 1 attached\n",
        "5 execve( <pid changed to 4 ...>\n",
        "4 +++ superseded by execve in pid 5 +++\n",
        ")  = 0\n",
        "% time\n---\n",
        "[pid 1",
        "[1] ",
        "0.1 ",
        "--- SIGINT {",
        "wait4(-1, x\n",
        "read(3, \"",
        "vfork(x\n",
        "select(1, [0], NULL, NULL, NULLx\n",
        "kill(1, A",
        ") = 0\n",
        "{SIG_DFL, , ",
        "> ",
        "+++ x +++",
        "<unfinished ...> ",
        " <-- ",
        "0.75 0.236566 6 3 ",
        "poll([{fd=6",
        "Process 1 ",
    ] {
        for head in [
            "",
            "f(",
            "f([",
            "f({a=",
            "f(\"",
            "f(1) = 1 (",
            "--- SIGINT ",
        ] {
            for tail in ["", ")", "]", "}>", "\" ) = 0"] {
                // Other programs may be in the way at any time, but not every time.
                let is_linear = (0..20).any(|_| {
                    let short = time(head, unit, tail, SHORT);
                    time(head, unit, tail, 8 * SHORT) < 30 * short + Duration::from_millis(10)
                });
                assert!(is_linear, "{head}{unit}…{tail}");
            }
        }
    }
}

#[test]
fn problems_do_not_pile_up() {
    let parsed = strace::parse("x) = y\n".repeat(100_000).as_bytes(), "junk");
    assert_eq!(parsed.problems.len(), 10_001);
    let last = parsed.problems.last().map(ToString::to_string);
    assert_eq!(
        last.as_deref(),
        Some("junk:100000:1: 90000 more lines were not understood")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = strace::load("/nonexistent/x.strace".as_ref()).expect_err("no such file");
    assert!(
        error
            .to_string()
            .starts_with("cannot read the trace /nonexistent/x.strace: ")
    );
}
