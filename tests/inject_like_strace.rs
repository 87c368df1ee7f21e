//! `live{}` against `strace -f -e inject=…`: a program that meets the same anomaly ends alike, and says the same.
//!
//! What strace does twice in the same way, ours does; where two runs of strace differ (children race), ours does
//! what one of a few more runs of strace does.

use crate::common::Folder;
use rrapper::inject::Selector;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seconds after which a program that does not end is ended, on both sides.
const TIMEOUT: &str = "2";

/// How often both sides are asked again where they differ.
const AGAIN: usize = 6;

/// A program, and what it leaves that is looked at, too.
struct Program {
    argv: &'static [&'static str],
    leaves: &'static [&'static str],
}

const fn program(argv: &'static [&'static str], leaves: &'static [&'static str]) -> Program {
    Program { argv, leaves }
}

const CAT: Program = program(&["cat", "words", "none", "numbers"], &[]);
const LS: Program = program(&["ls", "-l", "dir", "words", "none"], &[]);
const CP: Program = program(
    &["cp", "-rv", "words", "dir", "to"],
    &["to/words", "to/dir/a"],
);
const SH: Program = program(
    &[
        "sh",
        "-c",
        "echo begin; cat words | sort | head -n 2; (exit 3); echo $?; cat < none || echo no",
    ],
    &[],
);
const PYTHON: Program = program(
    &[
        "python3",
        "-I",
        "-S",
        "-c",
        "import os, sys, threading\n\
         def lines():\n    \
             for name in ('words', 'none'):\n        \
                 try:\n            \
                     with open(name) as f: print(name, len(f.read()))\n        \
                 except OSError as e: print(name, e.strerror)\n\
         t = threading.Thread(target=lines); t.start(); t.join(); sys.stdout.flush()\n\
         if os.fork() == 0: print('child'); sys.exit(4)\n\
         print(os.wait()[1] >> 8, len(os.listdir('dir')))",
    ],
    &[],
);
const TAR: Program = program(&["tar", "-cvf", "out.tar", "dir", "words"], &["out.tar"]);
const SQLITE: Program = program(
    &[
        "sqlite3",
        "db",
        "create table t(x); insert into t values (1), (2); select sum(x) from t; pragma integrity_check",
    ],
    &["db"],
);
const CURL: Program = program(&["curl", "-sS", "http://127.0.0.1:1/"], &[]);

/// What is injected, on both sides.
#[derive(Clone)]
struct Case {
    program: usize,
    /// strace's set of calls.
    calls: String,
    /// What strace is told to do, without `when`.
    strace: String,
    /// The same as members of a rule.
    rule: String,
    when: String,
    sandbox: &'static str,
}

impl Case {
    fn new(program: usize, calls: &str, strace: &str, rule: &str, when: &str) -> Case {
        Case {
            program,
            calls: calls.to_string(),
            strace: strace.to_string(),
            rule: rule.to_string(),
            when: when.to_string(),
            sandbox: "none",
        }
    }

    /// Whether both sides say which calls they changed. strace does not mark signals and delays; and it pokes into all
    /// calls of a name, where our hooks look at the call first.
    fn is_marked(&self) -> bool {
        ["error=", "retval="]
            .iter()
            .any(|what| self.strace.starts_with(what))
    }
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Hash)]
struct End {
    /// Its exit status or signal; that it did not end.
    how: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    left: Vec<u8>,
    /// How many of its calls were not what they would have been.
    injected: usize,
}

impl End {
    /// What is compared. In which order the processes of a pipeline complain is chance. Of a program that does not end,
    /// it is nothing but that, and whether anything was injected, since it may go on and on. Where several tasks wait for
    /// each other, how often they read and wait is chance, too.
    fn comparable(mut self, program: &Program) -> End {
        let has_several_tasks = matches!(program.argv[0], "sh" | "python3" | "curl");
        if has_several_tasks || self.how == "timeout" {
            self.injected = self.injected.min(1);
        }
        if self.how == "timeout" {
            for text in [&mut self.stdout, &mut self.stderr, &mut self.left] {
                text.clear();
            }
        }
        let mut lines: Vec<&[u8]> = self.stderr.split_inclusive(|&byte| byte == b'\n').collect();
        lines.sort_unstable();
        self.stderr = lines.concat();
        self
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            if let Some((at, _)) = text.char_indices().nth(300) {
                text.truncate(at);
                text += "…";
            }
            text
        };
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        let left = self.left.len();
        let (how, injected) = (&self.how, self.injected);
        write!(
            f,
            "{how}, {injected} injected, {stdout:?} {stderr:?} {left} bytes left"
        )
    }
}

/// A folder with files that are the same in all.
fn place() -> Folder {
    let folder = Folder::new();
    folder.numbers();
    let words: String = (0..40)
        .map(|i| format!("word {}\n", i * 7919 % 100))
        .collect();
    folder.write("words", words);
    fs::create_dir(folder.join("dir")).unwrap();
    folder.write("dir/a", "a\n");
    folder.write("dir/b", "b\n".repeat(5000));
    std::os::unix::fs::symlink("a", folder.join("dir/link")).unwrap();
    let names = ["words", "numbers", "dir/a", "dir/b", "dir/link", "dir"];
    let mut touch = folder.command("touch");
    let done = touch.args(["-h", "-d", "2001-09-09"]).args(names).status();
    assert!(done.expect("touch starts").success());
    clean(folder.path());
    folder
}

/// As it was before the program.
fn clean(folder: &Path) {
    let _ = fs::remove_dir_all(folder.join("to"));
    for name in ["db", "db-journal", "out.tar"] {
        let _ = fs::remove_file(folder.join(name));
    }
    fs::create_dir(folder.join("to")).unwrap();
}

/// What a program has left.
fn left(folder: &Path, program: &Program) -> Vec<u8> {
    let mut all = Vec::new();
    for name in program.leaves {
        match fs::read(folder.join(name)) {
            Ok(content) => all.extend(content),
            Err(_) => all.extend(b"no such file"),
        }
    }
    all
}

const PROGRAMS: [Program; 8] = [CAT, LS, CP, SH, PYTHON, TAR, SQLITE, CURL];

/// The programs as they are started: those that are wrappers by what they start.
fn programs() -> Vec<Vec<String>> {
    let ask = [
        "-c",
        "import os, sys; print(os.path.realpath(sys.executable))",
    ];
    let python = Command::new("python3").args(ask).output();
    let python = python.expect("python3 starts").stdout;
    let python = String::from_utf8(python).unwrap().trim().to_string();
    let named = |arg: &&str| match *arg {
        "python3" => python.clone(),
        arg => arg.to_string(),
    };
    let argv = |program: &Program| program.argv.iter().map(named).collect();
    PROGRAMS.iter().map(argv).collect()
}

/// How many calls strace has marked.
fn marks(trace: &Path) -> usize {
    let trace = fs::read(trace).expect("a trace");
    memchr::memmem::find_iter(&trace, "(INJECTED").count()
}

/// How a program ends under strace.
fn strace(folder: &Folder, argv: &[String], case: &Case) -> End {
    clean(folder.path());
    let begun = Instant::now();
    let inject = format!("inject={}:{}:when={}", case.calls, case.strace, case.when);
    let done = folder
        .command("timeout")
        .args(["-s", "KILL", TIMEOUT, "strace", "-f", "-o", "trace"])
        .args(["-e", &format!("trace={}", case.calls), "-e", &inject])
        .args(argv)
        .output()
        .expect("timeout and strace start");
    let is_late = begun.elapsed().as_secs() >= TIMEOUT.parse().unwrap();
    let how = match (done.status.code(), done.status.signal()) {
        (Some(code), _) => format!("exited {code}"),
        (_, Some(libc::SIGKILL)) if is_late => "timeout".to_string(),
        (_, signal) => format!("signaled {}", signal.unwrap_or(0)),
    };
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(!complaint.contains("strace: invalid"), "{complaint}");
    let injected = match case.is_marked() {
        true => marks(&folder.join("trace")),
        false => 0,
    };
    End {
        how,
        stdout: done.stdout,
        stderr: done.stderr,
        left: left(folder.path(), &PROGRAMS[case.program]),
        injected,
    }
    .comparable(&PROGRAMS[case.program])
}

/// A string in Lua.
fn quoted(text: &str) -> String {
    let bytes = text.bytes().map(|byte| format!("\\x{byte:02x}"));
    format!("\"{}\"", bytes.collect::<String>())
}

/// How programs end under `live{}`, all run by one script.
fn ours(folder: &Folder, argvs: &[Vec<String>], cases: &[&Case]) -> Vec<End> {
    let mut script = format!(
        "local out = io.open('ends', 'wb')\n\
         local function read(name)\n\
             local f = io.open(name, 'rb')\n\
             if not f then return 'no such file' end\n\
             local text = f:read 'a' f:close() return text\n\
         end\n\
         local function case(argv, rule, sandbox, leaves)\n\
             os.execute 'rm -rf to db db-journal out.tar; mkdir to'\n\
             argv.hooks, argv.sandbox, argv.timeout = {{ rule }}, sandbox, {TIMEOUT}\n\
             local o = live(argv)\n\
             local how = o.status .. ' ' .. tostring(o.exit_code or (o.signal and signal[o.signal]))\n\
             if o.status == 'timeout' then how = o.status end\n\
             local left = ''\n\
             for _, name in ipairs(leaves) do left = left .. read(name) end\n\
             out:write(string.pack('<s4s4s4s4I4', how, o.stdout, o.stderr, left, #o.injected))\n\
         end\n"
    );
    for case in cases {
        let list = |texts: &mut dyn Iterator<Item = &str>| {
            texts.fold(String::new(), |list, text| list + &quoted(text) + ",")
        };
        let _ = writeln!(
            script,
            "case({{ {} }}, {{ on = {}{}, per = 'task', when = {}, {}{} }}, '{}', {{ {} }})",
            list(&mut argvs[case.program].iter().map(String::as_str)),
            if case.calls.starts_with('/') {
                "re"
            } else {
                ""
            },
            quoted(case.calls.trim_start_matches('/')),
            quoted(&case.when),
            case.rule,
            // What strace has fail is not made, and told nothing but that.
            if case.is_marked() {
                ", executed = false"
            } else {
                ""
            },
            case.sandbox,
            list(&mut PROGRAMS[case.program].leaves.iter().copied()),
        );
    }
    script += "out:close()\n";
    folder.write("campaign.lua", script);
    folder.rrapper(["-q", "campaign.lua"]).ok();
    let ends = fs::read(folder.join("ends")).unwrap();
    let mut rest = ends.as_slice();
    let mut one = |case: &&Case| {
        let [how, stdout, stderr, left] = std::array::from_fn(|_| {
            let (text, behind) = rest.split_at(4 + number(rest));
            rest = behind;
            text[4..].to_vec()
        });
        let injected = number(rest);
        rest = &rest[4..];
        End {
            how: String::from_utf8(how).unwrap(),
            stdout,
            stderr,
            left,
            injected: if case.is_marked() { injected } else { 0 },
        }
        .comparable(&PROGRAMS[case.program])
    };
    cases.iter().map(&mut one).collect()
}

/// The number at the beginning.
fn number(bytes: &[u8]) -> usize {
    let (number, _) = bytes.split_first_chunk().expect("a number");
    u32::from_le_bytes(*number) as usize
}

/// What both sides made of a case, if they differ although either is asked again.
fn difference(
    folder: &Folder,
    argvs: &[Vec<String>],
    case: &Case,
    (theirs, end): (End, End),
) -> Option<String> {
    let (mut all, mut mine) = (vec![theirs], vec![end]);
    for _ in 0..AGAIN {
        all.push(strace(folder, &argvs[case.program], case));
        mine.extend(ours(folder, argvs, &[case]));
        if mine.iter().any(|end| all.contains(end)) {
            return None;
        }
    }
    let name = PROGRAMS[case.program].argv[0];
    let Case {
        calls,
        strace,
        when,
        sandbox,
        ..
    } = case;
    let (theirs, ours) = (&all[0], &mine[0]);
    Some(format!(
        "{name}: inject={calls}:{strace}:when={when} ({sandbox})\n  strace: {theirs:?}\n  ours:   {ours:?}"
    ))
}

/// What became of the cases.
#[derive(Default)]
struct Tally {
    /// Two runs of strace ended alike.
    compared: usize,
    /// Of these: something was injected.
    injected: usize,
    /// Of these: ours ended otherwise at first, and like strace when both were asked again.
    chance: usize,
    different: Vec<String>,
}

/// Runs all cases on both sides, and fails if they differ, or if that says little.
fn compare(cases: &[Case]) {
    const BATCH: usize = 24;
    let begun = Instant::now();
    let argvs = programs();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let batches: Vec<&[Case]> = cases.chunks(BATCH).collect();
    let work = || {
        let folder = place();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let all: Vec<&Case> = batch.iter().collect();
            let ends = ours(&folder, &argvs, &all);
            for (case, end) in batch.iter().zip(ends) {
                let argv = &argvs[case.program];
                let theirs = strace(&folder, argv, case);
                if theirs != strace(&folder, argv, case) {
                    continue;
                }
                let (is_injected, is_same) = (theirs.injected > 0, theirs == end);
                let difference = match is_same {
                    true => None,
                    false => difference(&folder, &argvs, case, (theirs, end)),
                };
                let mut tally = tally.lock().unwrap();
                tally.compared += 1;
                tally.injected += usize::from(is_injected);
                if !is_same && difference.is_none() {
                    tally.chance += 1;
                }
                tally.different.extend(difference);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let Tally {
        compared,
        injected,
        chance,
        different,
    } = tally.into_inner().unwrap();
    let all = cases.len();
    println!(
        "{all} cases in {:.1} s: {compared} compared, {} skipped since two runs of strace differ; \
         {injected} with something injected; {} differ, {chance} others did at first",
        begun.elapsed().as_secs_f64(),
        all - compared,
        different.len(),
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(
        compared * 10 >= all * 9,
        "strace agrees with itself in {compared} of {all}"
    );
    assert!(
        chance * 20 <= all,
        "ours was like strace in {chance} of {all} only when asked again"
    );
    let marked = cases.iter().filter(|case| case.is_marked()).count();
    assert!(
        injected * 10 >= marked * 8,
        "something was injected in {injected} of {marked}"
    );
}

/// How often a program makes each call, in the task that makes it most often.
fn counts(folder: &Folder, argv: &[String]) -> HashMap<String, u64> {
    clean(folder.path());
    let status = folder
        .command("strace")
        .args(["-f", "-o", "plain.strace"])
        .args(argv)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("strace starts");
    let text = fs::read_to_string(folder.join("plain.strace")).unwrap();
    let mut by_task: HashMap<(&str, &str), u64> = HashMap::new();
    for line in text.lines() {
        let Some((tid, rest)) = line.split_once(' ') else {
            continue;
        };
        if let Some((name, _)) = rest.trim_start().split_once('(') {
            *by_task.entry((tid, name)).or_default() += 1;
        }
    }
    let mut most: HashMap<String, u64> = HashMap::new();
    for ((_, name), count) in by_task {
        let known = most.entry(name.to_string()).or_default();
        *known = count.max(*known);
    }
    most
}

#[test]
fn failures_show_as_they_do_under_strace() {
    const CALLS: [&str; 7] = [
        "read",
        "write",
        "openat",
        "close",
        "newfstatat,statx",
        "mmap",
        "munmap,brk",
    ];
    // The eighth, of each program's own. How often threads wait for each other (futex) is chance.
    const OWN: [&str; 6] = [
        "fadvise64",
        "getdents64",
        "mkdir,mkdirat,copy_file_range",
        "execve,clone,clone3,vfork",
        "clone,clone3,fork,wait4",
        "getdents64",
    ];
    const ERRNOS: [&str; 4] = ["EIO", "ENOMEM", "EACCES", "EINTR"];
    let folder = place();
    let argvs = programs();
    let mut cases = Vec::new();
    for (program, own) in OWN.iter().enumerate() {
        let counts = counts(&folder, &argvs[program]);
        for calls in CALLS.iter().chain([own]) {
            let made = calls.split(',').filter_map(|call| counts.get(call)).max();
            for (nth, errno) in ERRNOS.iter().enumerate() {
                // What the loader does fails first; half of the cases are about the program's last calls.
                let first = match nth % 2 {
                    0 => 1,
                    _ => made.map_or(1, |made| made.saturating_sub(1).max(1)),
                };
                let (second, last) = (first + 1, first + 2);
                for when in [
                    format!("{first}"),
                    format!("{second}+"),
                    format!("{first}..{last}+2"),
                ] {
                    let (strace, rule) = (format!("error={errno}"), format!("fail = '{errno}'"));
                    cases.push(Case::new(program, calls, &strace, &rule, &when));
                }
            }
        }
    }
    assert_eq!(cases.len(), 6 * 8 * 4 * 3);
    compare(&cases);
}

/// Where a program is in `PROGRAMS`.
fn at(name: &str) -> usize {
    let is = |program: &Program| program.argv[0] == name;
    PROGRAMS.iter().position(is).expect("a program")
}

#[test]
fn whatever_strace_injects_a_hook_injects_alike() {
    let word = "6e6f6e6500"; // "none" and a zero byte
    let path = "enter = function(c) c.process:write(c.raw[2], 'none\\0') end";
    let bytes = "exit = function(c) if c.ret > 1 then c.process:write(c.raw[2], 'XY') end end";
    let input = "enter = function(c) if c.size > 1 then c.process:write(c.raw[2], 'XY') end end";
    let opened = format!("poke_enter=@arg2={word}");
    #[rustfmt::skip]
    let list: &[(&str, &str, &str, &str, &[&str])] = &[
        // program, calls, strace's action, ours, when
        ("cat", "read", "retval=0", "ret = 0", &["1", "2", "3+"]),
        ("cat", "read", "retval=100", "ret = 100", &["3", "4+2"]),
        ("cat", "openat", "retval=99", "ret = 99", &["3", "4", "1..5+2"]),
        ("cat", "write", "retval=1", "ret = 1", &["1", "2"]),
        ("cat", "close", "retval=0", "ret = 0", &["1+"]),
        ("ls", "getdents64", "retval=0", "ret = 0", &["1", "2"]),
        ("ls", "newfstatat,statx", "retval=0", "ret = 0", &["5", "6+3"]),
        ("sh", "clone,clone3,vfork,fork", "retval=12345", "ret = 12345", &["1"]),
        ("sh", "dup2", "retval=1", "ret = 1", &["1", "2+"]),
        ("python3", "read", "retval=0", "ret = 0", &["4", "12"]),
        ("sqlite3", "fdatasync,fsync", "error=EIO", "fail = 'EIO'", &["1", "2", "1+2"]),
        ("sqlite3", "pwrite64", "error=ENOSPC", "fail = 'ENOSPC'", &["1", "3", "2..6+2"]),
        ("sqlite3", "pwrite64", "retval=7", "ret = 7", &["1", "3"]),
        ("sqlite3", "fcntl", "error=EAGAIN", "fail = 'EAGAIN'", &["1", "4"]),
        ("curl", "socket", "error=EMFILE", "fail = 'EMFILE'", &["1", "2+"]),
        ("curl", "connect", "error=ETIMEDOUT", "fail = 'ETIMEDOUT'", &["1"]),
        ("curl", "poll", "error=EINTR", "fail = 'EINTR'", &["1"]),
        ("cat", "read", "signal=SIGTERM", "signal = 'SIGTERM'", &["2", "4"]),
        ("cat", "write", "signal=SIGKILL", "signal = 'SIGKILL'", &["2"]),
        ("cat", "read", "error=EIO:signal=SIGCHLD", "fail = 'EIO', signal = 'SIGCHLD'", &["3"]),
        ("sh", "wait4", "signal=SIGUSR1", "signal = 'SIGUSR1'", &["1"]),
        ("sh", "execve", "error=ENOENT:signal=SIGWINCH", "fail = 'ENOENT', signal = 'SIGWINCH'", &["1"]),
        ("python3", "wait4", "signal=SIGINT", "signal = 'SIGINT'", &["1"]),
        ("tar", "write", "signal=SIGPIPE", "signal = 'SIGPIPE'", &["3"]),
        ("cat", "close", "error=EIO:syscall=getuid", "fail = 'EIO'", &["1", "3+"]),
        ("cp", "fadvise64", "retval=5:syscall=getpid", "ret = 5", &["1+"]),
        ("sqlite3", "fdatasync", "retval=0:syscall=geteuid", "ret = 0", &["1+"]),
        ("cat", "openat", &opened, path, &["3", "5"]),
        ("tar", "openat", &opened, path, &["3+"]),
        ("cat", "read", "poke_exit=@arg2=5859", bytes, &["2", "3"]),
        ("cat", "write", "poke_enter=@arg2=5859", input, &["1", "2"]),
        ("sh", "read", "poke_exit=@arg2=5859", bytes, &["2+"]),
        ("cat", "read", "delay_enter=2000", "delay = 0.002", &["2+"]),
        ("cat", "read", "delay_exit=2000", "exit = function(c) c:delay(0.002) end", &["2+"]),
        ("cat", "%file", "error=EACCES", "fail = 'EACCES'", &["2", "3+"]),
        ("cat", "!read", "error=EIO", "fail = 'EIO'", &["2"]),
        ("cat", "!%file,%memory,execve", "error=EIO", "fail = 'EIO'", &["1"]),
        ("ls", "%%stat", "error=ELOOP", "fail = 'ELOOP'", &["3", "4+"]),
        ("ls", "!mmap,mprotect,brk", "error=ENOMEM", "fail = 'ENOMEM'", &["4"]),
        ("cp", "%desc", "error=EIO", "fail = 'EIO'", &["6", "8"]),
        ("python3", "%signal", "error=EINVAL", "fail = 'EINVAL'", &["1", "2+"]),
        ("sh", "%process", "error=EAGAIN", "fail = 'EAGAIN'", &["1"]),
        ("tar", "%file", "error=EPERM", "fail = 'EPERM'", &["2", "6"]),
        ("curl", "%network", "error=ENOBUFS", "fail = 'ENOBUFS'", &["1", "2"]),
        ("cat", "/^(open|stat)", "error=EIO", "fail = 'EIO'", &["3"]),
        ("cat", "all", "error=ENOSYS", "fail = 'ENOSYS'", &["1", "2", "1..9+3"]),
        ("ls", "read", "error=5", "fail = 5", &["1", "2+"]),
    ];
    let mut cases = Vec::new();
    for (program, calls, strace, rule, whens) in list {
        for when in *whens {
            cases.push(Case::new(at(program), calls, strace, rule, when));
        }
    }
    // The same where programs are kept apart; what they change is gone then.
    let apart = cases.clone().into_iter();
    let apart =
        apart.filter(|case| PROGRAMS[case.program].leaves.is_empty() && case.program != at("curl"));
    let apart: Vec<Case> = apart
        .map(|case| Case {
            sandbox: "cow",
            ..case
        })
        .collect();
    cases.extend(apart);
    compare(&cases);
}

#[test]
fn delays_take_their_time() {
    let folder = place();
    let script = r#"
        local function took(rule)
            local f = io.popen "date +%s%N" local from = f:read "n" f:close()
            local o = live{ "cat", "words", sandbox = "none", hooks = { write = rule } }
            f = io.popen "date +%s%N" local to = f:read "n" f:close()
            assert(o.exit_code == 0 and o.stdout:find "^word 0\n", o)
            return (to - from) / 1e9
        end
        assert(took{ delay = 0.4 } >= 0.4)
        assert(took{ exit = function(c) c:delay(0.4) end } >= 0.4)
        -- In other units it would be ten seconds; a machine that has much to do takes one.
        assert(took{ delay = 0.01 } < 5)
    "#;
    folder.script(script).ok();
}

/// strace's classes hold the calls that ours of the same names do.
#[test]
fn classes_are_those_of_strace() {
    const CLASSES: [&str; 17] = [
        "%file", "%desc", "%network", "%process", "%signal", "%memory", "%ipc", "%clock", "%creds",
        "%stat", "%lstat", "%fstat", "%%stat", "%statfs", "%fstatfs", "%%statfs", "%pure",
    ];
    let folder = Folder::new();
    let flags = ["-static", "-nostdlib", "-ffreestanding"];
    let program = folder.compile("every_call", &flags);
    let mut wrong = Vec::new();
    for class in CLASSES {
        // None of its calls is made, but those that begin and end it.
        let meant = format!("inject={class}:error=EXDEV:when=1+");
        let output = folder
            .command("strace")
            .args([
                "-o",
                "calls",
                "-e",
                "inject=!exit_group,execve:error=ENOSYS",
            ])
            .args(["-e", "inject=exit_group:error=ENOSYS:when=1"])
            .args(["-e", "inject=execve:error=ENOSYS:when=2", "-e", &meant])
            .arg(&program)
            .output()
            .expect("strace starts");
        assert!(output.stderr.is_empty(), "{output:?}");
        let selector = Selector::parse(class).unwrap();
        let mut seen = 0;
        for line in fs::read_to_string(folder.join("calls")).unwrap().lines() {
            let Some((name, _)) = line
                .split_once('(')
                .filter(|_| line.ends_with("(INJECTED)"))
            else {
                continue;
            };
            seen += 1;
            let is_meant = line.contains("EXDEV");
            if selector.matches_name(name) != is_meant {
                wrong.push(format!(
                    "{name} {} in {class}",
                    if is_meant { "is" } else { "is not" }
                ));
            }
        }
        assert!(seen > 350, "{class}: strace failed {seen} calls");
    }
    assert!(wrong.is_empty(), "in strace:\n{}", wrong.join("\n"));
}

/// The same as a user without privileges, where the tests run as root.
#[test]
fn all_that_holds_without_privileges() {
    // The cases of the longest test are the same for all users.
    crate::common::as_user(&["inject_like_strace::", "--skip", "failures_show"]);
}
