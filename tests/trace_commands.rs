//! `rrapper trace`, through the binary: what it prints, how it ends, what it does with bad input.

use crate::common::{Done, Folder, RRAPPER};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Calls of two tasks, in one of each form.
const TEXT: &str = r#"strace: Process 8 attached
7 1700000000.000001 openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3 <0.000100>
8 1700000000.000002 openat(AT_FDCWD, "/etc/group", O_RDONLY) = 3 <0.000300>
7 1700000000.000003 read(3,  <unfinished ...>
8 1700000000.000004 read(3, 0x7ffe0000, 1) = -1 EIO (Input/output error) <0.000005>
7 1700000000.000005 <... read resumed>"root:x\377", 7) = 7 <0.000006>
7 1700000000.000006 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9, si_uid=0, si_status=0, si_utime=0, si_stime=0} ---
8 1700000000.000007 close(3) = 0 <0.000002>
8 1700000000.000008 +++ exited with 3 +++
7 1700000000.000009 stat("/x", 0x1) = -1 ENOENT (No such file or directory) <0.000001>
7 1700000000.000010 read(3,  <unfinished ...>
7 1700000000.000011 +++ killed by SIGKILL (core dumped) +++
"#;

/// Lines that are no strace's.
const JUNK: &[u8] = b"7 close(1) = 0\nhello \x1b[31m\xff world\n7 close(2) = 0\n7 what is (this\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("good", TEXT);
    folder.write("bad", JUNK);
    folder
}

fn trace(folder: &Folder, args: &[&str]) -> Done {
    folder.rrapper(["trace"].iter().chain(args))
}

/// Runs with this on standard input.
fn with_input(folder: &Folder, args: &[&str], input: &[u8]) -> Done {
    let mut child = folder
        .command(RRAPPER)
        .arg("trace")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    // Who stops early does not read all of it.
    let _ = writer.join().expect("no panic");
    output.into()
}

/// The lines of JSON through python's parser, which then prints what the expression makes of the list `all`.
fn in_python(folder: &Folder, json: &[u8], expression: &str) -> String {
    folder.write("json", json);
    let program = format!(
        "import json\nall = [json.loads(line) for line in open('json', 'rb').read().decode('utf-8').split('\\n')[:-1]]\nprint(({expression}))"
    );
    folder.write("read.py", program);
    let done: Done = Command::new("/usr/bin/python3")
        .args(["-S", "read.py"])
        .current_dir(folder.path())
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .expect("python3 starts")
        .into();
    done.ok().text().trim_end().to_string()
}

#[test]
fn check_counts() {
    let folder = folder();
    let done = trace(&folder, &["check", "good"]).ok();
    assert_eq!(
        done.text(),
        "good: 12 lines, 7 calls, 1 signals, 2 exits, 1 asides, 0 not understood; 0 constants without a known value\n"
    );
    assert_eq!(done.stderr, "");
    let done = trace(&folder, &["check", "good", "good"]).ok();
    assert_eq!(done.text().lines().count(), 2);
    let done = with_input(&folder, &["check", "-"], TEXT.as_bytes()).ok();
    assert!(
        done.text().starts_with("<stdin>: 12 lines"),
        "{}",
        done.text()
    );
}

#[test]
fn check_reports_what_is_not_understood() {
    let folder = folder();
    let done = trace(&folder, &["check", "bad", "good"]);
    assert_eq!(done.code, Some(1));
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[0].starts_with("bad:2:"), "{text}");
    assert_eq!(lines[1], "    hello \\x1b[31m\\xff world");
    assert!(lines[2].starts_with("bad:4:"), "{text}");
    assert_eq!(lines[3], "    7 what is (this");
    assert!(
        lines[4].starts_with("bad: 4 lines, 2 calls, ") && lines[4].contains(" 2 not understood;")
    );
    assert!(lines[5].starts_with("good: 12 lines"));

    let done = trace(&folder, &["check", "--strict", "bad", "good"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.text().lines().count(), 3);
    // A long line is not shown whole.
    folder.write("long", "x".repeat(100_000));
    let done = trace(&folder, &["check", "long"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stdout.len() < 1000, "{} bytes", done.stdout.len());
}

#[test]
fn files_that_cannot_be_read() {
    let folder = folder();
    std::fs::create_dir(folder.join("directory")).expect("a folder");
    for command in ["check", "print", "json", "stats"] {
        let done = trace(&folder, &[command, "missing"]);
        done.complains(&["missing", "No such file"]);
        let done = trace(&folder, &[command, "directory"]);
        done.complains(&["directory", "Is a directory"]);
        trace(&folder, &[command]).complains(&["FILE"]);
    }
    // The others are checked all the same.
    let done = trace(&folder, &["check", "missing", "bad"]);
    assert_eq!(done.code, Some(2));
    assert!(done.text().contains(" 2 not understood"));
    for (args, parts) in [
        (
            &["print", "--call", "opne", "good"][..],
            &["opne", "did you mean", "open"][..],
        ),
        (&["print", "--call", "%flie", "good"], &["%flie"]),
        (&["stats", "--class", "flie", "good"], &["%flie"]),
        (&["json", "--failed=EOI", "good"], &["EOI", "EIO"]),
        (
            &["json", "--path", "[", "good"],
            &["\"[\"", "shell pattern"],
        ),
        (&["print", "--pid", "x", "good"], &["--pid"]),
        (&["frob", "good"], &["frob"]),
    ] {
        let done = trace(&folder, args);
        assert_eq!(done.stdout, b"");
        done.complains(parts);
    }
}

#[test]
fn print_gives_back_what_it_read() {
    let folder = folder();
    let hostile: Vec<u8> = (0..=255u8).cycle().take(10_000).collect();
    for text in [
        TEXT.as_bytes(),
        JUNK,
        b"",
        b"\n\n",
        b"7 close(1) = 0",
        b"a(\r\n",
        &hostile,
    ] {
        folder.write("text", text);
        assert_eq!(trace(&folder, &["print", "text"]).ok().stdout, text);
        assert_eq!(with_input(&folder, &["print", "-"], text).ok().stdout, text);
    }
    let done = trace(&folder, &["print", "--strict", "bad"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout, b"7 close(1) = 0\n");
    assert!(
        done.stderr.starts_with("rrapper: bad:2:"),
        "{}",
        done.stderr
    );
    assert_eq!(done.stderr.lines().count(), 1);
}

#[test]
fn filters_leave_what_matches() {
    let folder = folder();
    let lines: Vec<&str> = TEXT.lines().collect();
    let prints = |args: &[&str], expected: &[usize]| {
        let args: Vec<&str> = ["print", "good"].iter().chain(args).copied().collect();
        let text = trace(&folder, &args).ok().text();
        let expected: Vec<&str> = expected.iter().map(|i| lines[i - 1]).collect();
        assert_eq!(text.lines().collect::<Vec<&str>>(), expected, "{args:?}");
    };
    prints(&["--pid", "8"], &[3, 5, 8, 9]);
    prints(
        &["--pid", "7", "--pid", "8", "--call", "openat,close"],
        &[2, 3, 8],
    );
    prints(&["--call", "read"], &[5, 4, 6, 11]);
    prints(&["--call", "!read,!openat"], &[8, 10]);
    prints(&["--call", "%file"], &[2, 3, 10]);
    prints(&["--class", "%file"], &[2, 3, 10]);
    prints(&["--class", "file", "--pid", "8"], &[3]);
    prints(&["--failed"], &[5, 10]);
    prints(&["--failed=ENOENT"], &[10]);
    prints(&["--failed=5"], &[5]);
    prints(&["--path", "/etc/*"], &[2, 3, 5, 4, 6, 8, 11]);
    prints(&["--path", "/etc/group"], &[3, 5, 8]);
    prints(&["--path", "/etc/group", "--failed"], &[5]);
    prints(&["--pid", "12345"], &[]);
    // What is not understood does not match.
    assert_eq!(
        trace(&folder, &["print", "bad", "--pid", "7"]).ok().text(),
        "7 close(1) = 0\n7 close(2) = 0\n"
    );
}

#[test]
fn both_parts_of_a_call_are_printed_whoever_ends_it() {
    let folder = Folder::new();
    // While there is one task, strace does not say which it is.
    let call = "wait4(-1,  <unfinished ...>\n[pid     6] <... wait4 resumed>NULL, 0, NULL) = 7\n";
    let other = "[pid     7] close(3) = 0\n";
    folder.write("trace", call.replace('\n', &format!("\n{other}")));
    let done = trace(&folder, &["print", "--call", "wait4", "trace"]).ok();
    assert_eq!(done.text(), call);
}

#[test]
fn a_stack_belongs_to_its_call() {
    let folder = Folder::new();
    let call = "close(3) = 0\n > /usr/lib/libc.so.6(close+0x7) [0xf1a57]\n";
    let other = "getpid() = 7\n > /usr/lib/libc.so.6(getpid+0x7) [0xf1a57]\n";
    folder.write("stacks", format!("{other}{call}{other}"));
    assert_eq!(
        trace(&folder, &["print", "--call", "close", "stacks"])
            .ok()
            .text(),
        call
    );
}

#[test]
fn files_of_one_task_are_named_after_it() {
    let folder = Folder::new();
    folder.write("out.12", "close(1) = 0\n");
    folder.write("out.13", "close(2) = 0\n");
    let done = trace(&folder, &["print", "--pid", "13", "out.12", "out.13"]).ok();
    assert_eq!(done.text(), "close(2) = 0\n");
    let done = trace(&folder, &["json", "out.12"]).ok();
    assert_eq!(in_python(&folder, &done.stdout, "all[0]['pid']"), "12");
}

#[test]
fn json_says_what_the_text_says() {
    let folder = folder();
    let done = trace(&folder, &["json", "good"]).ok();
    let says = |expression: &str| in_python(&folder, &done.stdout, expression);
    assert_eq!(
        says("[x['type'] for x in all]"),
        "['message', 'call', 'call', 'call', 'call', 'signal', 'call', 'exit', 'call', 'call', 'exit']"
    );
    assert_eq!(
        says("[x['line'] for x in all]"),
        "[1, 2, 3, 5, 4, 7, 8, 9, 10, 11, 12]"
    );
    assert_eq!(
        says("[x.get('pid') for x in all]"),
        "[None, 7, 8, 8, 7, 7, 8, 8, 7, 7, 7]"
    );
    assert_eq!(
        says("all[1]['args']"),
        "[{'fd': -100}, '/etc/passwd', {'symbol': 'O_RDONLY|O_CLOEXEC', 'value': 524288}]"
    );
    assert_eq!(
        says("all[1]['result'], all[1]['spent'], all[1]['time']"),
        "(3, 0.0001, 1700000000.000001)"
    );
    assert_eq!(
        says("all[3]['result'], all[3]['errno'], all[3]['args'][1]"),
        "(-1, 'EIO', {'address': '0x7ffe0000'})"
    );
    assert_eq!(says("all[4]['args']"), "[3, {'hex': '726f6f743a78ff'}, 7]");
    assert_eq!(
        says("all[5]['name'], all[5]['signal'], all[5]['info']['struct']['si_pid']"),
        "('SIGCHLD', 17, 9)"
    );
    assert_eq!(says("all[7]['status']"), "3");
    assert_eq!(says("all[9]['result']"), "None");
    assert_eq!(
        says("all[10]['name'], all[10]['core']"),
        "('SIGKILL', True)"
    );
    let failed = trace(&folder, &["json", "--failed", "good"]).ok();
    assert_eq!(
        in_python(&folder, &failed.stdout, "[x['errno'] for x in all]"),
        "['EIO', 'ENOENT']"
    );
    // The format is documented.
    let help = trace(&folder, &["json", "--help"]).ok().text();
    for word in ["\"hex\"", "\"symbol\"", "spent", "problem"] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn json_is_valid_whatever_the_input() {
    let folder = folder();
    let done = trace(&folder, &["json", "bad"]).ok();
    assert!(
        done.stderr.contains("2 lines were not understood"),
        "{}",
        done.stderr
    );
    assert_eq!(
        in_python(&folder, &done.stdout, "[x['type'] for x in all]"),
        "['call', 'problem', 'call', 'problem']"
    );
    assert_eq!(
        in_python(
            &folder,
            &done.stdout,
            "bytes.fromhex(all[1]['text']['hex'])"
        ),
        r"b'hello \x1b[31m\xff world'"
    );
    let done = trace(&folder, &["json", "--strict", "bad"]);
    assert_eq!(done.code, Some(1));

    let mut hostile = Vec::new();
    for byte in 0..=255u8 {
        for around in [
            "f(\"@\") = 0\n",
            "f(@) = 0\n",
            "f({a@=1, a@=2}) = 0\n",
            "f([@]) = 0\n",
            "f(1, 2) = @\n",
            "@\n",
            "7 f@(1) = 0\n",
            "f(3<@>) = 0\n",
            "f(A@B|0x3) = 0 (a@b)\n",
            "--- SIG@ {x=1} ---\n",
            "strace: @\n",
            "f(1 /* @ */) = 0\n",
            "f(\"\\@\"...) = 0\n",
        ] {
            let (before, after) = around.split_once('@').expect("a place");
            hostile.extend_from_slice(before.as_bytes());
            hostile.push(byte);
            hostile.extend_from_slice(&after.replace('@', "b").into_bytes());
        }
    }
    hostile.extend_from_slice("f(\"\u{2028}\u{85}\u{1f600}\u{0}\u{feff}\") = 0\n".as_bytes());
    folder.write("hostile", &hostile);
    let done = trace(&folder, &["json", "-q", "hostile"]).ok();
    let lines = done.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(
        in_python(&folder, &done.stdout, "len(all)"),
        lines.to_string()
    );
}

#[test]
fn stats_add_up() {
    let folder = folder();
    let text = trace(&folder, &["stats", "good"]).ok().text();
    let expected = "\
% time   seconds  us/call  calls  errors  call
 96.62  0.000400    200.0      2       0  openat
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("100.00  0.000414"), "{text}");
    assert!(text.contains("\n     1  ENOENT\n     1  EIO\n"), "{text}");
    assert!(text.contains("\n1 signals, 2 exits\n"), "{text}");
    let text = trace(
        &folder,
        &["stats", "--by-pid", "--call", "read,close", "good"],
    )
    .ok()
    .text();
    assert!(
        !text.contains("openat") && text.contains("  7\n") && text.contains("  8\n"),
        "{text}"
    );
    // Without times there are no columns of times.
    folder.write(
        "short",
        "7 close(1) = 0\n7 close(9) = -1 EBADF (Bad file descriptor)\n7 getpid() = 7\n",
    );
    assert_eq!(
        trace(&folder, &["stats", "short"]).ok().text(),
        "calls  errors  call\n    2       1  close\n    1       0  getpid\n    3       1  total\n\nerrors  errno\n     1  EBADF\n"
    );
    let json = trace(&folder, &["stats", "--json", "--by-pid", "short", "good"]).ok();
    assert_eq!(
        in_python(
            &folder,
            &json.stdout,
            "all[0]['calls'], all[0]['by_pid'][0]['pid'], all[0]['by_errno'][0]"
        ),
        "(10, 8, {'errno': 'ENOENT', 'errors': 1})"
    );
    // An empty trace has no calls.
    assert_eq!(
        with_input(&folder, &["stats", "-"], b"").ok().text(),
        "calls  errors  call\n    0       0  total\n"
    );
}

/// A table of `-c` between two calls.
const TABLE: &str = "close(3) = 0\n\
% time     seconds  usecs/call     calls    errors syscall\n\
------ ----------- ----------- --------- --------- ----------------\n\
\x2090.00    0.000900          30        30         3 openat\n\
\x2010.00    0.000100           2        50           mmap\n\
------ ----------- ----------- --------- --------- ----------------\n\
100.00    0.001000                    80         3 total\n";

#[test]
fn tables_of_counts_are_read() {
    let folder = Folder::new();
    folder.write("both", TABLE);
    folder.write("table", TABLE.trim_start_matches("close(3) = 0\n"));
    trace(&folder, &["check", "both", "table"]).ok();
    let told = trace(&folder, &["stats", "table"]).ok();
    assert_eq!(
        told.text(),
        "tables of strace -c\n% time   seconds  us/call  calls  errors  call\n\
         \x2090.00  0.000900     30.0     30       3  openat\n\
         \x2010.00  0.000100      2.0     50       0  mmap\n\
         100.00  0.001000     12.5     80       3  total\n"
    );
    // The calls that are there are not those of the table.
    let told = trace(&folder, &["stats", "both"]).ok().text();
    assert!(
        told.starts_with("calls  errors  call\n    1       0  close\n"),
        "{told}"
    );
    assert!(told.contains("30       3  openat"), "{told}");
    // Two tables are added up; a filter holds for them.
    let told = trace(&folder, &["stats", "--call=mmap", "table", "both"])
        .ok()
        .text();
    assert!(
        told.contains("100      0  mmap") || told.contains("100       0  mmap"),
        "{told}"
    );
    assert!(!told.contains("openat"), "{told}");
    let json = trace(&folder, &["stats", "--json", "table"]).ok();
    let told = in_python(
        &folder,
        &json.stdout,
        "all[0]['tables'][0], all[0]['calls']",
    );
    assert_eq!(
        told,
        "({'name': 'openat', 'calls': 30, 'errors': 3, 'seconds': 0.0009}, 0)"
    );
    let json = trace(&folder, &["json", "table"]).ok();
    let told = in_python(
        &folder,
        &json.stdout,
        "[{k: v for k, v in each.items() if k != 'text'} for each in all if 'calls' in each]",
    );
    assert_eq!(
        told,
        "[{'type': 'summary', 'line': 3, 'name': 'openat', 'percent': 90, 'seconds': 0.0009, \
         'usecs_per_call': 30, 'calls': 30, 'errors': 3}, {'type': 'summary', 'line': 4, 'name': 'mmap', \
         'percent': 10, 'seconds': 0.0001, 'usecs_per_call': 2, 'calls': 50}, {'type': 'summary', 'line': 6, \
         'total': True, 'percent': 100, 'seconds': 0.001, 'calls': 80, 'errors': 3}]"
    );
}

#[test]
fn a_cut_last_line_is_told_and_no_mistake() {
    let folder = Folder::new();
    let text = "7 close(1) = 0\n7 poll([{fd=6, events=POLLIN}], 1, 36";
    folder.write("cut", text);
    let told = trace(&folder, &["check", "cut"]).ok().text();
    assert!(
        told.starts_with("cut:2: cut: the text ends in this line\ncut: 2 lines, 2 calls, "),
        "{told}"
    );
    let json = trace(&folder, &["json", "cut"]).ok();
    let told = in_python(
        &folder,
        &json.stdout,
        "[(each['name'], each['result'], each.get('cut')) for each in all]",
    );
    assert_eq!(told, "[('close', 0, None), ('poll', None, True)]");
    assert_eq!(json.stderr, "");
    assert_eq!(trace(&folder, &["print", "cut"]).ok().text(), text);
    assert_eq!(
        trace(&folder, &["print", "--call=poll", "cut"]).ok().text(),
        text.trim_start_matches("7 close(1) = 0\n")
    );
}

#[test]
fn remarks_are_no_mistakes_but_a_text_of_remarks_is_no_trace() {
    let folder = Folder::new();
    folder.write(
        "remarks",
        "# a test\n7 close(1) = 0   <-- here\nThen it ends.\n+++ the end +++\n",
    );
    let done = trace(&folder, &["check", "remarks"]).ok().text();
    assert!(
        done.contains("4 lines, 1 calls, 0 signals, 0 exits, 3 asides, 0 not understood"),
        "{done}"
    );
    let json = trace(&folder, &["json", "remarks"]).ok();
    let told = in_python(&folder, &json.stdout, "[each['type'] for each in all]");
    assert_eq!(told, "['remark', 'call', 'remark', 'remark']");
    folder.write("prose", "Some words.\n\nMore of them.\n");
    let done = trace(&folder, &["check", "prose"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.text()
            .starts_with("prose: no line of this is strace's\n"),
        "{}",
        done.text()
    );
    let done = trace(&folder, &["stats", "prose"]).ok();
    assert!(
        done.stderr.contains("no line of this is strace's"),
        "{}",
        done.stderr
    );
}

#[test]
fn it_ends_as_others_do_when_nobody_reads() {
    let folder = Folder::new();
    folder.write("many", "7 close(1) = 0\n".repeat(200_000));
    for command in ["print", "json"] {
        let line = format!("\"$0\" trace {command} many | head -n 1; echo ${{PIPESTATUS[0]}}");
        let done: Done = folder
            .command("bash")
            .args(["-c", &line, RRAPPER])
            .output()
            .expect("bash starts")
            .into();
        assert!(done.text().ends_with("\n141\n"), "{}", done.text());
        assert_eq!(done.stderr, "");
    }
    let full = folder
        .command("sh")
        .args(["-c", "exec \"$0\" trace print many > /dev/full", RRAPPER])
        .output()
        .expect("sh starts");
    Done::from(full).complains(&["standard output", "No space left"]);
}

/// The most memory that it has used, in KiB, at the end of its input.
fn peak(folder: &Folder, args: &[&str], mut write: impl FnMut(&mut dyn Write)) -> u64 {
    let mut child = folder
        .command(RRAPPER)
        .arg("trace")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    write(&mut stdin);
    let status = Path::new("/proc")
        .join(child.id().to_string())
        .join("status");
    let status = std::fs::read_to_string(status).expect("it waits for more");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the kernel says so")
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let folder = Folder::new();
    // Tasks, paths, descriptors, names and calls that never end: nothing repeats.
    let megabytes = |n: usize| {
        move |out: &mut dyn Write| {
            let mut written = 0;
            for i in 0.. {
                let pid = 1000 + i;
                let text = format!(
                    "{pid} openat(AT_FDCWD, \"/some/folder/{i}\", O_RDONLY) = {i}\n{pid} call_{i}(1) = 0\n\
                     {pid} read({i}, \"{}\", 100) = 100\n{pid} futex(0x7f{i:08x}, FUTEX_WAIT, 1, NULL <unfinished ...>\n",
                    "x".repeat(100)
                );
                out.write_all(text.as_bytes()).expect("it reads");
                written += text.len();
                if written > n << 20 {
                    break;
                }
            }
        }
    };
    for args in [
        &["stats", "--by-pid", "-"][..],
        &["stats", "--path", "*", "-"],
        &["json", "-"],
        &["print", "--failed", "-"],
        &["check", "-"],
    ] {
        let (small, large) = (
            peak(&folder, args, megabytes(20)),
            peak(&folder, args, megabytes(60)),
        );
        eprintln!("{args:?}: {small} KiB at 20 MB, {large} KiB at 60 MB");
        assert!(
            large < small + 24_000,
            "{args:?}: {small} KiB, then {large} KiB"
        );
    }
}

#[test]
fn names_of_files_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let name = OsStr::from_bytes(b"a\xff.b");
    std::fs::write(folder.path().join(name), "7 close(1) = 0\n").expect("a file");
    let done = folder
        .rrapper([OsStr::new("trace"), OsStr::new("print"), name])
        .ok();
    assert_eq!(done.text(), "7 close(1) = 0\n");
}
