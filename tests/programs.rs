//! Real programs: recorded, replayed three times with the same output, spun off at the first, a middle and the
//! last event, and injected into.

use crate::common::Folder;

/// Spins off at the first, a middle and the last event, drives each copy through the recording, and
/// prints how each ended and how much it wrote. Then goes back, and does the first again.
const SPIN: &str = r#"
local rec = rr.open "rec"
local last
for event in rr.events{} do last = event.event end
for _, n in ipairs{ 1, last // 2, last, 1 } do
  local stop = rr.replay_to(n)
  assert(stop.event == n)
  local copy = spin_off(rec:processes()[1].pid)
  local before = copy.real_pid
  assert(before ~= copy.pid)
  local outcome = copy:inject(nil, { timeout = 60 })
  assert(outcome.divergence == nil, tostring(outcome))
  print(n == 1 and "first" or n == last and "last" or "middle", outcome.status, outcome.exit_code, #outcome.stdout, #outcome.stderr)
end
"#;

/// Records a program, and checks everything that must hold for each. Returns the standard output.
#[track_caller]
fn check(
    folder: &Folder,
    argv: &[&str],
    deterministic: bool,
    prepare: impl Fn(&Folder),
) -> Vec<u8> {
    prepare(folder);
    let plain = folder.plain(argv);
    prepare(folder);
    let recorded = folder.record("rec", argv);
    assert_eq!(recorded.code, plain.code, "{}", recorded.stderr);
    if deterministic {
        assert_eq!(recorded.text(), plain.text());
    }
    assert_eq!(recorded.stderr, plain.stderr);
    for _ in 0..3 {
        let replayed = folder.rrapper(["replay", "rec"]);
        assert!(
            replayed.stdout == recorded.stdout,
            "standard output is the same: {}",
            replayed.stderr
        );
        assert_eq!(replayed.stderr, recorded.stderr);
        assert_eq!(replayed.code, recorded.code);
    }
    let spun = folder.script(SPIN).ok().text();
    let code = recorded.code.unwrap();
    let (out, err) = (recorded.stdout.len(), recorded.stderr.len());
    let lines: Vec<&str> = spun.lines().collect();
    let first = format!("first\texited\t{code}\t{out}\t{err}");
    assert_eq!(lines.len(), 4, "{spun}");
    assert_eq!(
        (lines[0], lines[3]),
        (first.as_str(), first.as_str()),
        "{spun}"
    );
    assert!(
        lines[1].starts_with(&format!("middle\texited\t{code}\t")),
        "{spun}"
    );
    assert_eq!(lines[2], format!("last\texited\t{code}\t0\t0"), "{spun}");
    recorded.stdout
}

/// Injects one rule at the first call that matches, with live continuation; returns status, exit code and what
/// was written to standard error.
#[track_caller]
fn inject(folder: &Folder, at: &str, rule: &str) -> String {
    folder
        .script(&format!(
            r#"
            rr.open "rec"
            local event = assert(rr.find{{ {at} }}, "no such event")
            local outcome = rr.replay_to(event):spin_off():inject(nil, {{
              {rule},
              on_divergence = "live", finally = "live", timeout = 60, sandbox = "none",
            }})
            assert(#outcome.injected > 0, "nothing was injected: " .. tostring(outcome))
            print(outcome.status, outcome.exit_code, #outcome.stdout)
            io.write(outcome.stderr)
            "#
        ))
        .ok()
        .text()
}

fn nothing(_: &Folder) {}

#[test]
fn cat() {
    let folder = Folder::new();
    let file = folder.numbers();
    let out = check(&folder, &["cat", &file], true, nothing);
    let at = r#"syscall = "read", path = "*numbers""#;
    assert_eq!(
        inject(&folder, at, r#"read = { fail = "EIO", when = "1" }"#),
        "exited\t1\t0\ncat: numbers: Input/output error\n"
    );
    let whole = format!("exited\t0\t{}\n", out.len());
    assert_eq!(
        inject(&folder, at, r#"read = { short = 10, when = "1" }"#),
        whole
    );
    assert_eq!(
        inject(&folder, at, r#"read = { fail = "EINTR", when = "1..3" }"#),
        whole
    );
}

#[test]
fn cat_of_a_file_into_a_file_replays_what_the_kernel_copied() {
    let folder = Folder::new();
    let file = folder.numbers();
    let out = std::fs::File::create(folder.join("out")).unwrap();
    let status = folder
        .command(crate::common::RRAPPER)
        .args(["-q", "record", "-o", "rec", "cat", &file])
        .stdout(out)
        .status()
        .unwrap();
    assert!(status.success());
    let original = std::fs::read(folder.join("numbers")).unwrap();
    assert!(std::fs::read(folder.join("out")).unwrap() == original);
    assert!(folder.rrapper(["replay", "rec"]).ok().stdout == original);
}

#[test]
fn ls() {
    let folder = Folder::new();
    check(&folder, &["ls", "-l", "/usr/bin"], true, nothing);
    let got = inject(
        &folder,
        r#"syscall = "getdents64""#,
        r#"getdents64 = { fail = "EIO", when = "1" }"#,
    );
    assert!(got.starts_with("exited\t2\t"), "{got}");
    assert!(got.contains("reading directory '/usr/bin'"), "{got}");
}

#[test]
fn sort() {
    let folder = Folder::new();
    let file = folder.numbers();
    check(&folder, &["sort", &file], true, nothing);
    let got = inject(
        &folder,
        r#"syscall = "read", path = "*numbers""#,
        r#"read = { fail = "EIO", when = "1" }"#,
    );
    assert_eq!(
        got,
        "exited\t2\t0\nsort: read failed: numbers: Input/output error\n"
    );
}

#[test]
fn wc() {
    let folder = Folder::new();
    let file = folder.numbers();
    let out = check(&folder, &["wc", &file], true, nothing);
    let at = r#"syscall = "read", path = "*numbers""#;
    let got = inject(&folder, at, r#"read = { short = 1, when = "1" }"#);
    assert_eq!(got, format!("exited\t0\t{}\n", out.len()));
    let got = inject(&folder, at, r#"read = { fail = "EISDIR", when = "2" }"#);
    assert!(got.contains("wc: numbers: Is a directory"), "{got}");
}

#[test]
fn sed() {
    let folder = Folder::new();
    let file = folder.numbers();
    check(
        &folder,
        &["sed", "-e", "s/1/one/", "-e", "5d", &file],
        true,
        nothing,
    );
    let got = inject(
        &folder,
        r#"syscall = "openat", path = "*numbers""#,
        r#"openat = { fail = "EACCES", when = "1" }"#,
    );
    assert_eq!(
        got,
        "exited\t2\t0\nsed: can't read numbers: Permission denied\n"
    );
}

#[test]
fn cp() {
    let folder = Folder::new();
    let file = folder.numbers();
    let fresh = |folder: &Folder| {
        let _ = std::fs::remove_file(folder.join("copy"));
    };
    check(&folder, &["cp", &file, "copy"], true, fresh);
    assert!(
        std::fs::read(folder.join("copy")).unwrap()
            == std::fs::read(folder.join("numbers")).unwrap()
    );
    let got = inject(
        &folder,
        r#"syscall = "openat", path = "*copy""#,
        r#"openat = { fail = "ENOSPC", path = "*copy" }"#,
    );
    assert!(got.starts_with("exited\t1\t0\n"), "{got}");
    assert!(got.contains("No space left on device"), "{got}");
}

#[test]
fn sha256sum() {
    let folder = Folder::new();
    let file = folder.numbers();
    check(&folder, &["sha256sum", &file], true, nothing);
    let got = inject(
        &folder,
        r#"syscall = "read", path = "*numbers""#,
        r#"read = { fail = "EIO", when = "2" }"#,
    );
    assert_eq!(
        got,
        "exited\t1\t0\nsha256sum: numbers: Input/output error\n"
    );
}

#[test]
fn date() {
    let folder = Folder::new();
    check(&folder, &["date", "+%s.%N"], false, nothing);
    // Later, it still is the time of the recording.
    let first = folder.rrapper(["replay", "rec"]).ok().stdout;
    std::thread::sleep(std::time::Duration::from_millis(10));
    assert_eq!(folder.rrapper(["replay", "rec"]).ok().stdout, first);
    let got = inject(
        &folder,
        r#"syscall = "write""#,
        r#"write = { fail = "ENOSPC", when = "1" }"#,
    );
    assert_eq!(
        got,
        "exited\t1\t0\ndate: write error: No space left on device\n"
    );
}

#[test]
fn sqlite3() {
    let folder = Folder::new();
    let fresh = |folder: &Folder| {
        let _ = std::fs::remove_file(folder.join("t.db"));
    };
    let sql = "create table t(a, b); insert into t values (1, 'x'), (2, 'y'); select * from t;";
    let out = check(&folder, &["sqlite3", "t.db", sql], true, fresh);
    assert_eq!(out, b"1|x\n2|y\n");
    fresh(&folder);
    let got = inject(
        &folder,
        r#"syscall = "pwrite64", path = "*t.db""#,
        r#"pwrite64 = { fail = "ENOSPC" }"#,
    );
    assert!(got.starts_with("exited\t"), "{got}");
    assert!(got.contains("database or disk is full"), "{got}");
}

#[test]
fn python3() {
    let folder = Folder::new();
    let file = folder.numbers();
    let program = "import json, random\n\
        data = open('numbers').read()\n\
        print(json.dumps({'length': len(data), 'random': random.random()}))";
    // The one that Debian has, not a wrapper script.
    check(
        &folder,
        &["/usr/bin/python3", "-c", program],
        false,
        nothing,
    );
    let got = inject(
        &folder,
        &format!(r#"syscall = "openat", path = "*{file}""#),
        r#"openat = { fail = "EMFILE", when = "1" }"#,
    );
    assert!(got.starts_with("exited\t1\t0\n"), "{got}");
    assert!(
        got.contains("OSError: [Errno 24] Too many open files: 'numbers'"),
        "{got}"
    );
}

#[test]
fn gzip() {
    let folder = Folder::new();
    let file = folder.numbers();
    let out = check(&folder, &["gzip", "-c", &file], true, nothing);
    let got = inject(
        &folder,
        r#"syscall = "read", path = "*numbers""#,
        r#"read = { fail = "EIO", when = "2" }"#,
    );
    assert!(got.contains("gzip: numbers: Input/output error"), "{got}");
    let got = inject(
        &folder,
        r#"syscall = "read", path = "*numbers""#,
        r#"read = { short = 100, when = "1" }"#,
    );
    assert_eq!(got, format!("exited\t0\t{}\n", out.len()));
}

#[test]
fn a_static_program() {
    let folder = Folder::new();
    for flags in [&["-static"][..], &["-static-pie"], &["-static", "-no-pie"]] {
        let program = folder.compile("static", flags);
        let _ = std::fs::remove_dir_all(folder.join("rec"));
        let out = check(&folder, &[&program, "one", "two"], true, nothing);
        assert_eq!(out, b"2 arguments, 3\n");
        let got = inject(
            &folder,
            r#"syscall = "write", fd = 1"#,
            r#"write = { fail = "EPIPE", fd = 1, when = "1" }"#,
        );
        assert_eq!(got, "exited\t9\t0\nstdout: Broken pipe\n");
    }
}

#[test]
fn a_tight_loop_of_reads() {
    let folder = Folder::new();
    let program = folder.compile("reads", &[]);
    let out = check(&folder, &[&program, "20000"], true, nothing);
    assert_eq!(out, b"320000\n");
    let got = inject(
        &folder,
        r#"syscall = "read", path = "/dev/zero""#,
        r#"read = { fail = "EIO", when = "5000" }"#,
    );
    assert_eq!(got, "exited\t4\t30\n");
}
