//! Recording in a sandbox that is thrown away: the program does what it does without, and the machine has nothing of it.
//! What live continuations of such recordings find is in `recorded_files`.

use crate::common::{Done, Folder, RRAPPER, as_user};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rrapper::record::{self, Discard, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const LATE: Duration = Duration::from_secs(30);

fn discard(folder: &Folder, options: &[&str], argv: &[&str]) -> Done {
    let how: &[&str] = &["-q", "record", "--discard", "-o", "recording"];
    folder.rrapper([how, options, &["--"], argv].concat())
}

/// The names, numbers, times and contents in the folder, without the recording.
fn files(folder: &Folder) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![folder.path().to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path == folder.join("recording") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            all.insert(path, (meta.ino(), meta.ctime_nsec(), content));
        }
    }
    all
}

/// Discarded, a program prints and ends as it does natively, and so does the replay; the files are as they were.
#[track_caller]
fn same(argv: &[&str], prepare: impl Fn(&Folder)) {
    let native = Folder::new();
    prepare(&native);
    let native = native.plain(argv);
    let folder = Folder::new();
    prepare(&folder);
    let before = files(&folder);
    let done = discard(&folder, &[], argv);
    assert_eq!(files(&folder), before, "{argv:?}");
    let replayed = folder.rrapper(["-q", "replay", "recording"]);
    for (what, done) in [("discarded", done), ("replayed", replayed)] {
        let ends = |done: &Done| {
            let status = done.output.status;
            (status.code(), status.signal())
        };
        assert_eq!(
            (done.text(), &done.stderr, ends(&done)),
            (native.text(), &native.stderr, ends(&native)),
            "{argv:?}, {what}"
        );
    }
}

#[test]
fn programs_do_what_they_do_without() {
    same(
        &[
            "sh",
            "-c",
            "(echo a | tr a b) >x; cat x; mkfifo p; (echo c >p)& cat p; wait; rm x; ls x p; exit 7",
        ],
        |_| (),
    );
    same(&["sh", "-c", "echo >&2 dying; kill -TERM $$"], |_| ());
    same(&["make", "-j2", "--no-print-directory"], |folder| {
        folder.write("a", "1\n");
        folder.write(
            "Makefile",
            "all: d\n\tcat d\nb: a\n\tsed s/1/2/ a >b\nc: a\n\tcp a c\nd: b c\n\tcat b c >$@\n",
        );
    });
    same(
        &[
            "python3",
            "-SEc",
            "import os\nopen('x', 'w').write('y'); os.rename('x', 'z'); a = os.stat('z'); os.chmod('z', 0o600)\n\
          b = os.stat('z'); print(a.st_ino == b.st_ino, a.st_dev == os.stat('.').st_dev, oct(b.st_mode), os.path.exists('x'))\n\
          import multiprocessing.shared_memory as s; m = s.SharedMemory(create=True, size=9); print(m.size); m.close(); m.unlink()",
        ],
        |_| (),
    );
}

/// A file that output goes to is the machine's, like all that is passed on.
#[test]
fn what_is_passed_on_is_the_machines() {
    let folder = Folder::new();
    let out = File::create(folder.join("out")).unwrap();
    let mut command = folder.command(RRAPPER);
    command
        .args(["-q", "record", "--discard", "-o", "recording", "sh", "-c"])
        .arg("cat; echo more >more; cat out more >&2")
        .stdin(File::open(folder.write("in", "input\n")).unwrap())
        .stdout(out);
    let done = Done::from(command.output().unwrap()).ok();
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "input\n");
    assert_eq!(done.stderr, "input\nmore\n");
    assert!(!folder.join("more").exists());
}

/// Files have the numbers that they have outside, also once they are changed.
#[test]
fn numbers_of_files_are_those_outside() {
    let folder = Folder::new();
    fs::create_dir(folder.join("d")).unwrap();
    folder.write("d/f", "text");
    let shown = "%d %i %s";
    let text = format!("stat -c '{shown}' d d/f; echo >d/f; stat -c '{shown}' d d/f");
    let expected = folder.plain(&["stat", "-c", shown, "d", "d/f"]).ok().text();
    let done = discard(&folder, &[], &["sh", "-c", &text]).ok().text();
    let changed = expected.replace(" 4\n", " 1\n");
    let numbers = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split(' '));
        lines
            .map(|words| words.take(2).collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert!(done.starts_with(&expected), "{done}{expected}");
    assert_eq!(numbers(&done), numbers(&(expected + &changed)));
}

#[test]
fn setup_commands_prepare_the_sandbox() {
    let folder = Folder::new();
    let before = files(&folder);
    let setup = [
        "--setup",
        "printf '#!/bin/sh\\ncat data; ps -e -o args | grep -c \"^[s]leep 4711\"\\n' >prog; chmod +x prog; echo from setup",
        "--setup",
        "mkdir dir && echo text >data; sleep 4711 & sleep 4711 & cat",
    ];
    let done = discard(&folder, &setup, &["./prog"]);
    // What it left running is ended.
    assert_eq!(
        (done.text().as_str(), done.code),
        ("from setup\ntext\n0\n", Some(1)),
        "{}",
        done.stderr
    );
    assert_eq!(files(&folder), before);
    let events = folder.rrapper(["events", "recording"]).ok().text();
    assert!(
        events.contains("\"./prog\"") && !events.contains("chmod"),
        "{events}"
    );
}

/// All that they have made is found by live continuations, however much it is.
#[test]
fn many_files_of_setup_commands_are_kept() {
    let folder = Folder::new();
    let setup = [
        "--setup",
        "mkdir many; cd many; seq 12000 | xargs touch; echo last >zz",
    ];
    let program = "import os; print(len(os.listdir('many')), open('many/zz').read())";
    let done = discard(&folder, &setup, &["python3", "-SBc", program]).ok();
    assert_eq!((&done.text()[..], &done.stderr[..]), ("12001 last\n\n", ""));
    assert!(!folder.join("many").exists());
    let done = folder.script(
        r#"
        local recording = rr.open "recording"
        local copy <close> = recording:replay_to(3):spin_off()
        local outcome = copy:live {}
        print(outcome.stdout, table.concat(outcome.missing, "; "))
        "#,
    );
    assert_eq!(done.ok().text(), "12001 last\n\n\t\n");
}

#[test]
fn a_setup_command_that_fails_ends_the_recording() {
    let folder = Folder::new();
    let said = "the setup command \"exit 3\" ended with status 3; nothing was recorded";
    let done = discard(
        &folder,
        &["--setup", "exit 3", "--setup", "echo never"],
        &["true"],
    );
    assert_eq!(done.complains(&[said]).text(), "");
    let done = discard(&folder, &["--setup", "kill -9 $$"], &["true"]);
    done.complains(&[
        "the setup command \"kill -9 $$\" was ended by SIGKILL; nothing was recorded",
    ]);
    let done = folder.rrapper(["record", "--setup", "true", "true"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("--discard"), "{}", done.stderr);
    assert!(files(&folder).is_empty() && !folder.join("recording").exists());
    // The program that it did not make.
    let done = discard(&folder, &["--setup", "true"], &["./prog"]);
    done.complains(&["cannot execute ./prog: No such file or directory"]);
    discard(&folder, &["--setup", "true"], &["no-such-program"]).complains(&["no-such-program"]);
}

struct Running(Child, BufReader<std::process::ChildStdout>);

impl Running {
    fn start(folder: &Folder, options: &[&str], argv: &[&str]) -> Running {
        let mut command = folder.command(RRAPPER);
        command
            .args(["-q", "record", "--discard", "-o", "recording"])
            .args(options)
            .arg("--")
            .args(argv)
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running(child, stdout)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }

    /// All processes that it has made, and that these have made.
    fn family(&self) -> BTreeSet<i32> {
        let parent = |pid: i32| -> Option<i32> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(')')?;
            rest.split_whitespace().nth(1)?.parse().ok()
        };
        let names = fs::read_dir("/proc").unwrap().flatten();
        let pids: Vec<i32> = names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let mut family = BTreeSet::from([self.0.id() as i32]);
        loop {
            let more = pids
                .iter()
                .filter(|&&pid| parent(pid).is_some_and(|parent| family.contains(&parent)));
            let more: BTreeSet<i32> = more.copied().collect();
            let before = family.len();
            family.extend(more);
            if family.len() == before {
                return family;
            }
        }
    }
}

#[track_caller]
fn all_end(family: &BTreeSet<i32>) {
    let begun = Instant::now();
    let is_there = |pid: &&i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest.trim_start());
        !state.is_empty() && !state.starts_with(['Z', 'X'])
    };
    while family.iter().any(|pid| is_there(&pid)) {
        let left: Vec<_> = family.iter().filter(is_there).collect();
        assert!(begun.elapsed() < LATE, "{left:?} are left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// However it ends, no process and no file is left.
#[test]
fn nothing_is_left_of_it() {
    let text = "echo x >x; (trap '' TERM; echo ready; sleep 4712) & trap '' TERM; wait";
    let setup = ["--setup", text];
    let ways: [(&[&str], &[&str]); 2] = [(&[], &["sh", "-c", text]), (&setup, &["true"])];
    for (options, argv) in ways {
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
            let folder = Folder::new();
            let mut running = Running::start(&folder, options, argv);
            assert_eq!(running.line(), "ready\n");
            let family = running.family();
            assert!(family.len() >= 6, "{family:?}");
            let pid = running.0.id() as i32;
            let send = |pid: i32| {
                let signal = Signal::try_from(signal).unwrap();
                kill(Pid::from_raw(pid), signal).unwrap();
            };
            // The terminal's are for the whole group.
            send(if signal == libc::SIGINT { -pid } else { pid });
            if signal == libc::SIGTERM {
                std::thread::sleep(Duration::from_millis(100));
                // A second one ends it at once.
                send(pid);
            }
            let mut said = String::new();
            running
                .0
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            running.0.wait().unwrap();
            all_end(&family);
            assert_eq!(
                said.contains("recorded up to here"),
                signal == libc::SIGTERM && options.is_empty(),
                "{said}"
            );
            assert_eq!(
                folder.join("recording").exists(),
                signal == libc::SIGKILL || options.is_empty()
            );
            assert!(files(&folder).is_empty(), "{signal}");
        }
    }
}

/// The program, and not the recorder, gets told that there is no room.
#[test]
fn a_full_disk_is_the_programs() {
    let folder = Folder::new();
    let mut discard = Discard::default();
    discard.settings.limits.tmpfs_bytes = 2 << 20;
    let mut program = Program::new([
        "sh",
        "-c",
        "head -c 5000000 /dev/zero >big; echo $?; rm big; echo fits >small && cat small",
    ]);
    program.cwd = Some(folder.path().into());
    program.env.push(("LC_ALL".into(), "C".into()));
    let mut options = record::Options::new(program.command().unwrap(), folder.join("recording"));
    options.discard = Some(discard);
    record::record(options).unwrap();
    let replayed = folder.rrapper(["-q", "replay", "recording"]).ok();
    assert_eq!(replayed.text(), "1\nfits\n");
    let said = &replayed.stderr;
    assert!(said.contains("No space left on device"), "{said}");
    assert!(files(&folder).is_empty());
}

#[test]
fn the_network_is_its_own_unless_asked_for() {
    let folder = Folder::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "import socket\ntry: socket.create_connection(('127.0.0.1', {})); print('connected')\nexcept OSError as e: print(e.errno)",
        server.local_addr().unwrap().port()
    );
    let connect = ["python3", "-SEc", &text];
    let refused = format!("{}\n", libc::ECONNREFUSED);
    assert_eq!(discard(&folder, &[], &connect).ok().text(), refused);
    fs::remove_dir_all(folder.join("recording")).unwrap();
    assert_eq!(
        discard(&folder, &["--network"], &connect).ok().text(),
        "connected\n"
    );
    let script = |network: &str| {
        let argv = format!("'python3', '-SEc', [[{text}]]");
        folder.script(&format!(
            "rr.record{{ {argv}, sandbox = {{ network = {network} }} }}"
        ))
    };
    assert_eq!(script("true").ok().text(), refused);
    assert_eq!(script("'machine'").ok().text(), "connected\n");
}

#[test]
fn scripts_record_in_a_sandbox() {
    let folder = Folder::new();
    folder.write("a", "one\n");
    folder.write("c", "hidden\n");
    let before = files(&folder);
    let text = folder.script(
        r#"
        local rec = rr.record{ "sh", "-c", "read x <b; echo $x >>a; cat b c", sandbox = { hide = { "c" } },
          setup = { "echo two >b", "test -s b && echo three >>b" } }
        rr.record{ "./prog", cwd = "new", sandbox = "cow",
          setup = { "mkdir new", "pwd | grep -q /new$ && echo 'echo made' >prog && chmod +x prog && sed -i 1i#!/bin/sh prog" } }
        local rec = rr.record{ "sh", "-c", "read x <b; echo $x >>a; while read y; do echo $y; done <a", sandbox = "cow",
          setup = "echo two >b", out = "recording" }
        -- The last thing that it reads is there, and was never on the machine.
        local stop = rr.replay_to(rec:find{ syscall = "openat", path = "*/a", nth = 2 })
        local outcome = stop:spin_off():live()
        io.write(outcome.stdout)
        print(outcome.exit_code, #outcome.missing)
        "#,
    );
    assert_eq!(
        text.ok().text(),
        "two\nthree\nmade\none\ntwo\none\ntwo\n0\t0\n"
    );
    let mut after = files(&folder);
    after.retain(|path, _| !path.starts_with(folder.join("data")));
    assert_eq!(after, before);
    for (options, parts) in [
        (
            "sandbox = 'cow', setup = 'true', cwd = 'new'",
            ["cannot start the program in new", "in the sandbox"],
        ),
        ("setup = 'true'", ["setup is run in the sandbox", "\"cow\""]),
        ("sandbox = 'cwo'", ["sandbox is \"cow\"", "did you mean"]),
        (
            "sandbox = { memory = 1 }",
            ["memory limits live processes", "recorded"],
        ),
        (
            "sandbox = { network = false }",
            ["network of a recording is true", "\"machine\""],
        ),
        (
            "sandbox = { network = 'all' }",
            ["network of a recording is true", "\"machine\""],
        ),
        (
            "sandbox = 'cow', setup = { true }",
            ["setup is a command", "not true"],
        ),
        (
            "sandbox = 'cow', setup = 7",
            ["setup is a command", "not 7"],
        ),
        ("sandbox = { nets = true }", ["nets", "sandbox"]),
    ] {
        let done = folder.script(&format!("rr.record{{ 'true', {options} }}"));
        done.complains(&parts);
    }
}

/// A directory that it inherits does not lead to the machine's files.
#[test]
fn inherited_directories_are_those_inside() {
    let folder = Folder::new();
    fs::create_dir(folder.join("d")).unwrap();
    let before = files(&folder);
    let text = format!(
        "exec 5<d; exec {RRAPPER} -q record --discard -o recording -- \
         sh -c 'echo x >/proc/self/fd/5/x; cat d/x; echo y >y; cat /proc/self/fd/5/../y'"
    );
    let output = folder.command("sh").args(["-c", &text]).output();
    assert_eq!(Done::from(output.unwrap()).ok().text(), "x\ny\n");
    assert_eq!(files(&folder), before);
}

/// What setup commands left is there in live, also if the program has not used it.
#[test]
fn live_continuations_find_what_was_set_up() {
    let folder = Folder::new();
    folder.write("gone", "text");
    let text = folder.script(
        r#"
        local rec = rr.record{ "sh", "-c", "test -e other && cat d/never; echo end", sandbox = "cow",
          setup = { "mkdir d && echo 1 >d/never && ln -s d/never l", "rm gone; chmod 700 d" } }
        local stop = rr.replay_to(rec:find{ syscall = "%%stat", path = "*/other" })
        local outcome = stop:spin_off():inject{
          ["%%stat"] = { ret = 0, path = "*/other" }, on_divergence = "live", finally = "live",
          after = function(box)
            print(box:read("d/never"), box:read("l"), pcall(box.read, box, "gone"))
            print(box:run{ "stat", "-c", "%a", "d" }.stdout)
          end,
        }
        print(outcome.exit_code, #outcome.missing, outcome.stdout)
        "#,
    );
    let text = text.ok().text();
    assert!(text.starts_with("end\n1\n\t1\n\tfalse\t"), "{text}");
    assert!(text.ends_with("\n700\n\n0\t0\t1\nend\n\n"), "{text}");
}

/// Where namespaces are forbidden, one sentence says so.
#[test]
fn without_namespaces_there_is_one_sentence() {
    let folder = Folder::new();
    let inner = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {RRAPPER} -q record --discard -o recording touch x"
    );
    let output = folder
        .command("unshare")
        .args(["-Ur", "sh", "-c", &inner])
        .output();
    let done = Done::from(output.unwrap());
    done.complains(&[
        "there is no sandbox to be had here",
        "namespaces",
        "record without a sandbox",
    ]);
    assert!(files(&folder).is_empty());
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    as_user(&[
        "discarded::",
        "--skip",
        "recorded_files",
        "--skip",
        "without_privileges",
    ]);
}
