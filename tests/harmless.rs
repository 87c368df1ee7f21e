//! Whatever an injected process does once it goes on live, the machine stays as it was, and nothing stays behind.
//!
//! The tests take turns, since orphans are counted: the tests' process adopts them all.

mod common;

use common::limits::eventually;
use common::{Folder, RRAPPER};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::new(());

/// What must be as it was before.
struct Machine {
    mounts: String,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    fn now() -> Machine {
        let turn = TURN.lock().unwrap_or_else(|broken| broken.into_inner());
        // SAFETY: prctl(2) with numbers.
        let ret = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        assert_eq!(ret, 0);
        Machine {
            mounts: mounts(),
            _turn: turn,
        }
    }

    #[track_caller]
    fn is_as_it_was(&self, temporary: &Folder) {
        eventually("no process is left", || {
            // SAFETY: waitpid(2) with no status wanted.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
            children_of_tests().is_empty()
        });
        assert_eq!(self.mounts, mounts());
        let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn children_of_tests() -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
        .collect()
}

/// All that can be seen of the files in a directory: type and mode, links, size, time of change, content or target.
type Tree = BTreeMap<PathBuf, (u32, u64, u64, i64, i64, Vec<u8>)>;

fn tree(dir: &Path) -> Tree {
    fn add(path: &Path, tree: &mut Tree) {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = if meta.is_file() {
            fs::read(path).unwrap()
        } else if meta.is_symlink() {
            let target = fs::read_link(path).unwrap();
            target.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let (mtime, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
        let seen = (
            meta.mode(),
            meta.nlink(),
            meta.size(),
            mtime,
            nanoseconds,
            content,
        );
        tree.insert(path.to_path_buf(), seen);
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(&entry.unwrap().path(), tree);
            }
        }
    }
    let mut all = Tree::new();
    add(dir, &mut all);
    all
}

#[track_caller]
fn assert_same(before: &Tree, now: &Tree, what: &str) {
    for (path, seen) in before {
        assert_eq!(now.get(path), Some(seen), "{}: {what}", path.display());
    }
    for path in now.keys() {
        assert!(before.contains_key(path), "{}: {what}", path.display());
    }
}

/// Asks one question after the other, and waits after each until it was looked what it did.
const ASK: &str = r#"
local name, asks, first = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3])
local recording = rr.open(name)
local errors = { "EIO", "ENOSPC", "EACCES", "EINTR", "ENOMEM", "ENOENT", "EBADF", "EROFS" }
local events, main = {}, nil
for event in recording:events{ syscall = { "%file", "%desc", "mprotect" } } do
  events[#events + 1] = event.event
  -- What the shell did before is of no interest; nor is how libraries are loaded.
  main = main or event.pid
  local begins = event.name == "execve" and event.ret == 0 or event.name == "mprotect"
  if event.pid == main and begins then events = {} end
end
print(#events)
for i = -1, asks - 1 do
  -- The first goes on as if nothing had happened.
  local event = recording:event(events[math.max(i, 0) * #events // asks + 1])
  local copy <close> = recording:replay_to(event):spin_off(event.pid)
  local outcome = i < 0 and copy:live{ timeout = 30 } or copy:inject{
    [event.name] = { fail = errors[(first + i) % #errors + 1], when = "1" },
    on_divergence = "live", finally = "live", timeout = 30,
  }
  local files = {}
  for _, file in ipairs(outcome.files) do files[#files + 1] = file.kind .. " " .. file.path end
  print(("%s\t%d\t%s\t%s"):format(outcome.status, #outcome.injected,
    (outcome.injected[1] and outcome.injected[1].call or "nothing: " .. outcome.stderr):gsub("[\t\n]", " "), table.concat(files, "|")))
  io.stdout:flush()
  io.read()
end
"#;

/// A script that stops after each outcome.
struct Asking {
    child: Child,
    answers: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// What became of one injection.
#[derive(Debug)]
struct Told {
    status: String,
    injected: usize,
    #[allow(dead_code, reason = "shown when a test fails")]
    call: String,
    files: Vec<String>,
}

impl Asking {
    fn start(folder: &Folder, temporary: &Folder, script: &str, args: &[&str]) -> Asking {
        let script = folder.write("ask.lua", script);
        let mut child = folder
            .command(RRAPPER)
            .arg(script)
            .args(args)
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let answers = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Asking {
            child,
            answers,
            lines,
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    #[track_caller]
    fn told(&mut self) -> Told {
        let line = self.line();
        let words: Vec<&str> = line.split('\t').collect();
        let [status, injected, call, files] = words[..] else {
            panic!("{line}");
        };
        Told {
            status: status.into(),
            injected: injected.parse().unwrap(),
            call: call.into(),
            files: files
                .split('|')
                .filter(|f| !f.is_empty())
                .map(String::from)
                .collect(),
        }
    }

    /// Its processes that are in a sandbox, besides the sandbox's first, which is kept for the next use.
    fn in_sandboxes(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let children = tasks
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
            .collect::<String>();
        let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).ok();
        let is_inside = |status: &String| {
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
            numbers.len() > depth() && numbers.last() != Some(&"1")
        };
        let pids = children.split_whitespace();
        pids.filter_map(status).filter(is_inside).collect()
    }

    fn go_on(&mut self) {
        self.answers.write_all(b"\n").unwrap();
    }

    #[track_caller]
    fn end(mut self) {
        drop(self.answers);
        assert!(self.lines.next().is_none());
        assert!(self.child.wait().unwrap().success());
    }
}

/// How many pid namespaces the tests are in.
fn depth() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.unwrap().split_whitespace().count()
}

/// A program that changes files.
struct Case {
    /// Makes the files, in a folder "work".
    setup: &'static str,
    /// What is recorded, in that folder; `$ELSEWHERE` is one in another file system.
    command: &'static str,
    asks: usize,
    /// What is listed as changed where all goes well.
    changes: &'static str,
}

const TREE: &str = "mkdir -p tree/a/b tree/c && cd tree && echo 1 > one && echo 2 > a/two && echo 3 > a/b/three && \
                    ln one c/link && ln -s ../one c/symbolic && chmod 640 a/two && touch -d 2001-02-03 a/b/three";
const TABLE: &str = "create table t (n integer, s text); insert into t values (1, 'one'), (2, 'two'), (3, 'three');";

const CASES: [Case; 11] = [
    Case {
        setup: TREE,
        command: "exec rm -r tree",
        asks: 30,
        changes: "removed ",
    },
    Case {
        setup: TREE,
        command: "exec mv tree/one tree/uno",
        asks: 10,
        changes: "renamed ",
    },
    Case {
        setup: TREE,
        command: "exec mv tree/a tree/c tree/one .",
        asks: 15,
        changes: "renamed ",
    },
    Case {
        setup: TREE,
        command: "exec mv tree \"$ELSEWHERE\"",
        asks: 20,
        changes: "renamed ",
    },
    Case {
        setup: "git init -q . && git config user.name n && git config user.email e@example.org && git config pack.threads 1 && \
                for i in 1 2 3; do echo $i > f$i && git add . && git commit -q -m $i; done && git branch -q other",
        command: "exec git gc -q",
        asks: 30,
        changes: "created ",
    },
    Case {
        setup: "sqlite3 t.db \"$TABLE\"",
        command: "exec sqlite3 t.db \"insert into t values (4, 'four'); update t set s = 'x' where n = 2;\"",
        asks: 25,
        changes: "changed ",
    },
    Case {
        setup: "sqlite3 t.db \"pragma journal_mode = wal; $TABLE\"",
        command: "exec sqlite3 t.db \"insert into t values (4, 'four'); update t set s = 'x' where n = 2;\"",
        asks: 25,
        changes: "changed ",
    },
    Case {
        setup: "mkdir old && echo 1 > old/one && ln -s one old/link && tar cf t.tar old && echo 2 > old/one",
        command: "exec tar xf t.tar",
        asks: 20,
        changes: "old/one",
    },
    Case {
        setup: "seq 1000 > text",
        command: "exec sed -i s/7/seven/ text",
        asks: 10,
        changes: "text",
    },
    Case {
        setup: "seq 1000 > text && seq 5000 > other",
        command: "exec dd if=text of=other bs=1k status=none",
        asks: 8,
        changes: "changed ",
    },
    Case {
        setup: "seq 1000 > text",
        command: "exec dd if=text of=new bs=1k conv=fsync status=none",
        asks: 7,
        changes: "created ",
    },
];

/// A case's folder, recorded in, and as it was before.
struct Prepared {
    folder: Folder,
    temporary: Folder,
    elsewhere: tempfile::TempDir,
    before: [Tree; 2],
}

impl Prepared {
    fn new(case: &Case) -> Prepared {
        let folder = Folder::new();
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let shell = |script: &str, dir: &Path| {
            let output = folder
                .command("sh")
                .args(["-ec", script])
                .current_dir(dir)
                .env("TABLE", TABLE)
                .env("ELSEWHERE", elsewhere.path())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{script}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        fs::create_dir(folder.join("work")).unwrap();
        shell(case.setup, &folder.join("work"));
        shell("cp -a work kept", folder.path());
        let before = [tree(&folder.join("work")), tree(elsewhere.path())];
        let record = format!("'{RRAPPER}' -q record -o ../recording -- sh -c \"$COMMAND\"");
        let output = folder
            .command("sh")
            .args(["-ec", &record])
            .current_dir(folder.join("work"))
            .env("COMMAND", case.command)
            .env("ELSEWHERE", elsewhere.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", case.command);
        let changed = before[0] != tree(&folder.join("work"));
        assert!(changed, "{} changes files", case.command);
        shell(
            "rm -r work && mv kept work && rm -rf \"$ELSEWHERE\"/*",
            folder.path(),
        );
        Prepared {
            before: [tree(&folder.join("work")), tree(elsewhere.path())],
            temporary: Folder::new(),
            folder,
            elsewhere,
        }
    }

    #[track_caller]
    fn is_as_it_was(&self, what: &str) {
        let dirs = [&self.folder.join("work"), self.elsewhere.path()];
        for (before, dir) in self.before.iter().zip(dirs) {
            assert_same(before, &tree(dir), what);
        }
    }
}

#[test]
fn two_hundred_failures_change_no_file() {
    let machine = Machine::now();
    let mut asked = 0;
    for case in CASES {
        let prepared = Prepared::new(&case);
        let recording = tree(&prepared.folder.join("recording"));
        let (asks, first) = (case.asks.to_string(), asked.to_string());
        let args = ["recording", &asks, &first];
        let mut asking = Asking::start(&prepared.folder, &prepared.temporary, ASK, &args);
        let events: usize = asking.line().parse().unwrap();
        assert!(events >= 8, "{}: {events} calls", case.command);
        for ask in 0..=case.asks {
            let told = asking.told();
            let what = format!("{}: {told:?}", case.command);
            prepared.is_as_it_was(&what);
            assert!(
                ["exited", "signaled"].contains(&told.status.as_str()),
                "{what}"
            );
            let goes_well = ask == 0;
            assert_eq!(told.injected, usize::from(!goes_well), "{what}");
            let listed = told.files.iter().any(|file| file.contains(case.changes));
            assert!(listed || !goes_well, "{what}");
            let left = asking.in_sandboxes();
            assert!(left.is_empty(), "{what}: {left:?}");
            asking.go_on();
        }
        asking.end();
        assert_same(
            &recording,
            &tree(&prepared.folder.join("recording")),
            case.command,
        );
        machine.is_as_it_was(&prepared.temporary);
        asked += case.asks;
    }
    assert_eq!(asked, 200);
}

/// Has the program read the word at which it does harm, and says what came of it.
const HARM: &str = r#"
local recording = rr.open(arg[1])
local event = assert(recording:find{ syscall = "read", path = "*/word" })
local copy <close> = recording:replay_to(event):spin_off()
local outcome = copy:inject{
  read = { when = "1", exit = function(call) call:data "harm" end },
  on_divergence = "live", finally = "live", timeout = 30,
}
io.write(outcome.stdout)
for _, file in ipairs(outcome.files) do print(file.kind .. " " .. file.path) end
print(tostring(outcome))
"#;

/// Whoever accepts a connection or takes data here was reached from inside.
struct Listeners {
    path: UnixListener,
    name: UnixListener,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Listeners {
    fn new(path: &Path, name: &str) -> Listeners {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listeners = Listeners {
            path: UnixListener::bind(path).unwrap(),
            name: UnixListener::bind_addr(&address).unwrap(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
        };
        listeners.path.set_nonblocking(true).unwrap();
        listeners.name.set_nonblocking(true).unwrap();
        listeners.tcp.set_nonblocking(true).unwrap();
        listeners.udp.set_nonblocking(true).unwrap();
        listeners
    }

    fn nobody_came(&self) {
        let nothing = Some(ErrorKind::WouldBlock);
        assert_eq!(self.path.accept().err().map(|e| e.kind()), nothing);
        assert_eq!(self.name.accept().err().map(|e| e.kind()), nothing);
        assert_eq!(self.tcp.accept().err().map(|e| e.kind()), nothing);
        assert_eq!(self.udp.recv(&mut [0; 8]).err().map(|e| e.kind()), nothing);
    }
}

/// A process that a signal would end.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_live_process_reaches_nobody_and_changes_nothing() {
    let machine = Machine::now();
    let (folder, temporary) = (Folder::new(), Folder::new());
    let harm = folder.compile("harm", &[]);
    folder.write("word", "calm");
    folder.write("mine", "mine\n");
    let name = format!("rrapper-harm-{}", std::process::id());
    let listeners = Listeners::new(&folder.join("socket"), &name);
    let mut victim = Victim(folder.command("sleep").arg("100").spawn().unwrap());
    let groups = groups();
    let in_tmp = Path::new("/tmp").join(&name);
    let text = |path: PathBuf| path.to_str().unwrap().to_string();
    let port = listeners.tcp.local_addr().unwrap().port().to_string();
    let udp_port = listeners.udp.local_addr().unwrap().port().to_string();
    let pid = victim.0.id().to_string();
    let own = std::process::id().to_string();
    let refused = [
        ("unix", text(folder.join("socket"))),
        ("abstract", name.clone()),
        ("tcp", port),
        ("kill", pid.clone()),
        ("kill", own),
        ("ptrace", pid.clone()),
        ("write", format!("/proc/{pid}/mem")),
        ("write", "/dev/kmsg".into()),
        ("write", "/proc/sys/kernel/hostname".into()),
        ("write", "/proc/sys/vm/drop_caches".into()),
        ("write", "/proc/sysrq-trigger".into()),
        ("write", "/sys/kernel/mm/ksm/run".into()),
        ("write", text(groups.join("cgroup.procs"))),
        ("mkdir", text(groups.join(&name))),
    ];
    // These seem to work, on copies, or go nowhere.
    let apart = [
        ("write", text(folder.join("mine"))),
        ("make", text(folder.join("new"))),
        ("make", text(in_tmp.clone())),
        ("make", text(folder.join("recording/events"))),
        ("write", text(folder.join("recording/index"))),
        ("unlink", text(folder.join("recording/index"))),
    ];
    let anywhere = [("udp", udp_port), ("kill", "-1".into())];
    let attempts = refused.iter().chain(&apart).chain(&anywhere);
    let args: Vec<&str> = attempts
        .flat_map(|(what, on)| [*what, on.as_str()])
        .collect();
    let argv = [&[harm.as_str(), "word"][..], &args].concat();
    let calm = folder.record("recording", &argv);
    assert_eq!(calm.code, Some(1), "it does no harm when it is recorded");
    let before = tree(folder.path());

    folder.write("ask.lua", HARM);
    let output = folder
        .command(RRAPPER)
        .args(["ask.lua", "recording"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {output:?}");
    let answer = |what: &str, on: &str| {
        let begin = format!("{what} {on}: ");
        let line = said.lines().find_map(|line| line.strip_prefix(&begin));
        line.unwrap_or_else(|| panic!("{begin} in {said}"))
            .to_string()
    };
    for (what, on) in &refused {
        let error: i32 = answer(what, on).parse().unwrap_or(0);
        assert_ne!(error, 0, "{what} {on} does not work: {said}");
    }
    for (what, on) in &apart {
        assert_eq!(answer(what, on), "ok", "{what} {on}: {said}");
    }
    for (kind, path) in [
        ("changed", folder.join("mine")),
        ("created", folder.join("new")),
        ("created", in_tmp.clone()),
        ("removed", folder.join("recording/index")),
    ] {
        let listed = format!("{kind} {}", path.display());
        assert!(said.lines().any(|line| line == listed), "{listed}: {said}");
    }
    listeners.nobody_came();
    assert!(!in_tmp.exists());
    assert!(victim.0.try_wait().unwrap().is_none(), "the victim lives");
    fs::remove_file(folder.join("ask.lua")).unwrap();
    let mut now = tree(folder.path());
    // What the test itself wrote and removed.
    now.insert(folder.path().into(), before[folder.path()].clone());
    assert_same(&before, &now, &said);
    drop(victim);
    machine.is_as_it_was(&temporary);
}

/// The test's own control group, or the directory of the first hierarchy.
fn groups() -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    Path::new("/sys/fs/cgroup").join(own.unwrap_or_default())
}

/// Makes a file and says which are there, with time for the other one to do so.
const TWO: &str = r#"
local recording = rr.open "recording"
local event = assert(recording:find{ syscall = "read", path = "*/word" })
local copy <close> = recording:replay_to(event):spin_off()
local outcome = copy:inject{
  read = { when = "1", exit = function(call) call:data(arg[1]) end },
  on_divergence = "live", finally = "live", timeout = 30,
}
io.write(outcome.stdout)
"#;

#[test]
fn two_injections_at_once_do_not_see_each_others_files() {
    let machine = Machine::now();
    let (folder, temporary) = (Folder::new(), Folder::new());
    folder.write("word", "calm\n");
    let script = "read word < word; [ $word = calm ] && exit; echo $word > $word; echo $word >> shared; \
                  sleep 0.3; echo made-*; cat shared";
    folder.record("recording", &["bash", "-c", script]).ok();
    folder.write("two.lua", TWO);
    let before = tree(folder.path());
    let ask = |word: &str| {
        folder
            .command(RRAPPER)
            .args(["two.lua", &format!("{word}\n")])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = ["made-1", "made-2"].map(|word| (word, ask(word)));
    for (word, child) in both {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("{word}\n{word}\n"), "{output:?}");
    }
    assert_same(&before, &tree(folder.path()), "both");
    machine.is_as_it_was(&temporary);
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    const USER: &str = "12345";
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // The process that the tests run in adopts this one's orphans, too.
    let _machine = Machine::now();
    let me = std::env::current_exe().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = ["--reuid", USER, "--regid", USER, "--clear-groups"];
    let output = Command::new("setpriv")
        .args(user)
        .arg(me)
        .env("TMPDIR", temporary.path())
        .env("HOME", temporary.path())
        .output()
        .expect("this test needs setpriv (util-linux)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
