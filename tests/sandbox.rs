//! Programs that run in a sandbox change nothing outside of it and reach nobody there.
//!
//! Each test runs a shell script inside, which ends with status 0 if it saw what it should.

mod common;

use common::Folder;
use rrapper::sandbox::{ChangeKind, Limits, Request, Sandbox, Sandboxes, Settings};
use rrapper::syscall::FileNumbers;
use rrapper::tracee::{Stopped, agent, spawn};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PID: i32 = 14350;

/// A process that stands between calls in a new sandbox.
struct Inside {
    process: Stopped,
    sandbox: Sandbox,
}

fn request<'a>(cwd: &'a Path, writable: &'a [PathBuf]) -> Request<'a> {
    Request {
        writable,
        cwd: cwd.as_os_str().as_bytes(),
        pid: PID,
        user: None,
        settings: Box::leak(Box::default()),
    }
}

fn enter(request: &Request<'_>) -> Inside {
    enter_another(&Sandboxes::of_thread(), request)
}

fn enter_another(sandboxes: &Sandboxes, request: &Request<'_>) -> Inside {
    let shell = spawn::start_unfiltered().unwrap();
    let (process, sandbox) = sandboxes.enter(shell, request).unwrap();
    Inside { process, sandbox }
}

impl Inside {
    /// Starts the script in place of the process; it stands at its first instruction.
    fn execute(&mut self, script: &str) {
        self.sandbox.seal(&mut self.process).unwrap();
        let program = ["/bin/sh", "-c", script];
        let mut remote = self.process.remote_at_boundary().unwrap();
        let mut pointers = Vec::new();
        for text in program {
            pointers.push(remote.put_str(text.as_bytes()).unwrap());
        }
        let path = remote
            .put_str(b"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .unwrap();
        let words = |words: &[u64]| {
            words
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let argv = remote
            .put(&words(&[pointers[0], pointers[1], pointers[2], 0]))
            .unwrap();
        let envp = remote.put(&words(&[path, 0])).unwrap();
        let mut regs = *remote.saved();
        regs.set_ip(agent::SYSCALL);
        regs.set_ret(libc::SYS_execve);
        regs.set_args([pointers[0], argv, envp, 0, 0, 0]);
        drop(remote);
        self.process.set_regs(&regs).unwrap();
    }

    /// Runs the script with all that it starts until its own process ends, and returns its status.
    fn run(&mut self, script: &str) -> i32 {
        self.execute(script);
        let me = self.process.tid();
        resume(me, 0);
        // Whatever it leaves behind is the sandbox's to end.
        follow(|tid, status| (tid == me && !libc::WIFSTOPPED(status)).then_some(status))
    }

    #[track_caller]
    fn succeeds(&mut self, script: &str) {
        let status = self.run(&format!("exec >/tmp/said 2>&1; set -ex\n{script}"));
        let said = fs::read_to_string(self.sandbox.inside(Path::new("/tmp/said")));
        assert_eq!(status, 0, "{}", said.unwrap_or_default());
    }

    fn changes(&self) -> BTreeMap<PathBuf, ChangeKind> {
        let changes = self.sandbox.changes().unwrap().into_iter();
        let changes = changes.filter(|change| change.path != Path::new("/tmp/said"));
        changes.map(|change| (change.path, change.kind)).collect()
    }
}

fn resume(tid: i32, signal: i32) {
    // SAFETY: the request touches no memory of ours.
    unsafe { libc::ptrace(libc::PTRACE_CONT, tid, 0, signal) };
}

/// Lets all tracees of this thread run until one has a status that ends it.
fn follow<T>(mut end: impl FnMut(i32, i32) -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it does not end"
        );
        let mut status = 0;
        let how = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
        // SAFETY: `status` lives for the call.
        let tid = unsafe { libc::waitpid(-1, &raw mut status, how) };
        if tid <= 0 {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        if let Some(result) = end(tid, status) {
            return result;
        }
        if libc::WIFSTOPPED(status) {
            let signal = libc::WSTOPSIG(status);
            let event = status >> 16 != 0 || signal & 0x80 != 0;
            resume(tid, if event { 0 } else { signal });
        }
    }
}

#[test]
fn files_that_change_inside_are_listed_and_do_not_change_outside() {
    let folder = Folder::new();
    let dir = folder.path().to_path_buf();
    for (name, text) in [
        ("kept", "a"),
        ("edited", "b"),
        ("gone", "c"),
        ("sub/deep", "d"),
        ("old/in", "e"),
    ] {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), text).unwrap();
    }
    let before = tree(&dir);
    let mut inside = enter(&request(&dir, &[]));
    assert!(inside.sandbox.in_cwd);
    inside.succeeds(
        "test \"$(cat kept edited gone sub/deep)\" = abcd
         echo more >>edited; rm gone; echo new >made; chmod 600 sub/deep; : >>kept
         rm -r old; mkdir old; echo other >old/out
         test \"$(cat edited)\" = bmore; test ! -e gone; test ! -e old/in",
    );
    let changes = inside.changes();
    let expected = [
        ("edited", ChangeKind::Changed),
        ("gone", ChangeKind::Removed),
        ("made", ChangeKind::Created),
        ("old/in", ChangeKind::Removed),
        ("old/out", ChangeKind::Created),
        ("sub/deep", ChangeKind::Changed),
    ];
    let expected: BTreeMap<PathBuf, ChangeKind> = expected
        .into_iter()
        .map(|(name, kind)| (dir.join(name), kind))
        .collect();
    assert_eq!(changes, expected);
    assert_eq!(tree(&dir), before);
    drop(inside);
    assert_eq!(tree(&dir), before);
}

/// All paths below a directory with permissions and content.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if meta.is_dir() {
            all.extend(tree(&path));
        }
        all.insert(path, (meta.permissions().mode(), content));
    }
    all
}

#[test]
fn the_rest_can_be_changed_as_outside_and_devices_are_those_that_harm_nobody() {
    let folder = Folder::new();
    let mut inside = enter(&request(folder.path(), &[]));
    let new = ["/usr/x", "/x", "/etc/x"];
    let before = fs::metadata("/etc/passwd").unwrap();
    inside.succeeds(
        "test $(id -u) = 0 && may=0 || may=1
         for f in /usr/x /x /etc/x /etc/passwd; do echo x >>$f && r=0 || r=1; test $r = $may; done; ! touch /sys/x
         test ! -e /dev/kmsg; test ! -e /dev/mem; test ! -e /dev/vda
         test \"$(ls /dev | tr '\\n' ' ')\" = 'fd full null ptmx pts random shm stderr stdin stdout tty urandom zero '
         echo x >/dev/null; test \"$(head -c 3 /dev/zero | wc -c)\" = 3; head -c 3 /dev/urandom >r
         ! echo x >/dev/full; echo x >/dev/shm/x; echo x >/var/tmp/x
         python3 -c 'import pty, os; m, s = pty.openpty(); os.write(s, b\"hi\"); assert os.read(m, 2) == b\"hi\"'
         for f in null zero full random urandom tty; do ! chmod 600 /dev/$f; ! chown 1 /dev/$f; ! touch /dev/$f; done
         for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do ! (echo x >$f); done",
    );
    let after = fs::metadata("/etc/passwd").unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    for path in new.map(Path::new) {
        assert!(!path.exists());
        let created = inside.changes().get(path) == Some(&ChangeKind::Created);
        assert_eq!(created, nix::unistd::geteuid().is_root(), "{path:?}");
    }
}

#[test]
fn neither_sockets_nor_the_network_of_the_machine_are_reached() {
    let folder = Folder::new();
    let dir = folder.path();
    let path = dir.join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let elsewhere = Elsewhere::bind();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let script = "
import socket, sys
for path in sys.argv[2:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
    except ConnectionRefusedError:
        continue
    sys.exit('connected to ' + path)
try:
    socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)
except ConnectionRefusedError:
    pass
else:
    sys.exit('connected to the machine')
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))
except OSError as e:
    assert e.errno == 101, e
else:
    sys.exit('there is a way out')
a = socket.create_server(('127.0.0.1', 0))
b = socket.create_connection(a.getsockname(), 5)
a = socket.socket(socket.AF_UNIX)
a.bind('own'); a.listen()
socket.socket(socket.AF_UNIX).connect('own')
";
    fs::write(dir.join("try.py"), script).unwrap();
    let mut inside = enter(&request(dir, &[]));
    inside.succeeds(&format!(
        "python3 try.py {port} {} {}",
        path.display(),
        elsewhere.path.display()
    ));
}

/// A socket in a directory that nobody may write to inside, where anybody may connect to it.
struct Elsewhere {
    path: PathBuf,
    socket: Option<std::os::unix::net::UnixListener>,
}

impl Elsewhere {
    /// Where a user without privileges finds one.
    const NAME: &str = "RRAPPER_TEST_SOCKET";

    fn bind() -> Elsewhere {
        if let Some(path) = std::env::var_os(Elsewhere::NAME) {
            return Elsewhere {
                path: path.into(),
                socket: None,
            };
        }
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("rrapper-{}-{count}", std::process::id());
        // Users have no place but where they build.
        let places = ["/mnt", env!("CARGO_TARGET_TMPDIR")].map(|dir| Path::new(dir).join(&name));
        let made = places.into_iter().find_map(|path| {
            let socket = std::os::unix::net::UnixListener::bind(&path).ok()?;
            Some((path, socket))
        });
        let (path, socket) = made.expect(
            "this test makes a socket in /mnt or in cargo's target directory: name one in RRAPPER_TEST_SOCKET",
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Elsewhere {
            path,
            socket: Some(socket),
        }
    }
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if self.socket.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[test]
fn signals_stay_inside() {
    let folder = Folder::new();
    let mut outside = Command::new("sleep")
        .arg("20")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut inside = enter(&request(folder.path(), &[]));
    inside.succeeds(&format!(
        "trap '' TERM; ! kill -0 {}; ! kill -TERM -1
         python3 -c 'import os; os.kill(0, 15)'",
        outside.id()
    ));
    assert_eq!(outside.try_wait().unwrap(), None);
    outside.kill().unwrap();
    outside.wait().unwrap();
}

#[test]
fn the_process_has_the_pid_and_the_tids_that_it_should_have() {
    let folder = Folder::new();
    let mut inside = enter(&request(folder.path(), &[]));
    assert_eq!(inside.sandbox.pid, PID);
    let (thread, tid) = inside.sandbox.thread(&mut inside.process, 14377).unwrap();
    assert_eq!(tid, 14377);
    // That number is taken.
    let (other, tid) = inside.sandbox.thread(&mut inside.process, 14377).unwrap();
    assert_ne!(tid, 14377);
    for mut thread in [thread, other] {
        let mut remote = thread.remote_at_boundary().unwrap();
        let got = remote.call(libc::SYS_getpid, [0; 6]).unwrap();
        assert_eq!(got, PID.into());
        remote.finish().unwrap();
        inside.sandbox.seal(&mut thread).unwrap();
        let mut remote = thread.remote_at_boundary().unwrap();
        assert_eq!(
            remote
                .call(libc::SYS_unshare, [0x20000, 0, 0, 0, 0, 0])
                .unwrap(),
            -1
        );
        remote.finish().unwrap();
        std::mem::forget(thread);
    }
    drop(inside);

    let mut wanted = request(folder.path(), &[]);
    wanted.pid = 1;
    let mut inside = enter(&wanted);
    assert!(inside.sandbox.pid > 1);
    let pid = inside.sandbox.pid;
    inside.succeeds(&format!(
        "test $$ = {pid}; ps -e -o pid= >all; test $(wc -l <all) -le 3"
    ));
}

#[test]
fn sandboxes_do_not_see_each_others_files() {
    let folder = Folder::new();
    let sandboxes = Sandboxes::of_thread();
    let dir = folder.path();
    let mut one = enter_another(&sandboxes, &request(dir, &[]));
    one.succeeds("echo one >file; echo one >/dev/shm/file; test -e file");
    let mut two = enter_another(&sandboxes, &request(dir, &[]));
    two.succeeds("test ! -e file; test ! -e /dev/shm/file; grep -q 14350 /proc/self/stat || true");
    assert!(!dir.join("file").exists());
}

/// Whether the second sandbox is the first one, used again.
fn are_one(one: &Inside, two: &Path) -> bool {
    one.sandbox.inside(Path::new("/")) == two
}

#[test]
fn a_sandbox_that_is_used_again_shows_nothing_of_its_last_use() {
    let folder = Folder::new();
    let sandboxes = Sandboxes::of_thread();
    let dir = folder.path();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/old"), "old").unwrap();
    let mut root: Option<PathBuf> = None;
    for round in 0..5 {
        let mut inside = enter_another(&sandboxes, &request(dir, &[]));
        if let Some(root) = &root {
            assert!(are_one(&inside, root), "round {round}");
        }
        root = Some(inside.sandbox.inside(Path::new("/")));
        inside.succeeds(
            "test ! -e file; test ! -e /dev/shm/file; test ! -e /var/tmp/file; test $(cat sub/old) = old
             test $(stat -c %a sub) = 755; test \"$(ls)\" = sub; test $$ = 14350; sh -c 'test $$ -lt 100'
             echo one >file; echo one >/dev/shm/file; echo one >/var/tmp/file; echo new >sub/old; chmod 700 sub; chmod 700 .
             mkdir other; ln -s x link; sleep 1000 & (trap '' TERM HUP; sleep 1000) & true",
        );
        if round == 2 {
            // One that changes nothing is in between.
            drop(inside);
            let mut inside = enter_another(&sandboxes, &request(dir, &[]));
            assert_eq!(inside.run("test ! -e file && test -e sub/old"), 0);
            assert_eq!(inside.changes(), BTreeMap::new());
        }
    }
    assert_eq!(fs::read(dir.join("sub/old")).unwrap(), b"old");
    assert!(!dir.join("file").exists());
}

#[test]
fn what_outlives_processes_is_taken_away() {
    use rrapper::sandbox::Part;
    let folder = Folder::new();
    let sandboxes = Sandboxes::of_thread();
    let objects = "import ctypes, socket, sys
c = ctypes.CDLL(None, use_errno=True)
made = [c.shmget(1234, 4096, 0o3600), c.semget(1234, 1, 0o3600), c.msgget(1234, 0o3600)]
assert min(made) >= 0, made
s = socket.socket(); s.bind((\"127.0.0.1\", 4321)); s.listen()
a = socket.socket(); a.connect((\"127.0.0.1\", 4321))
b, _ = s.accept(); b.close(); a.close()";
    for _ in 0..3 {
        let mut inside = enter_another(&sandboxes, &request(folder.path(), &[]));
        for part in [Part::Ipc, Part::Network] {
            inside.sandbox.note_use(part);
        }
        inside.succeeds(&format!("python3 -c '{objects}'"));
    }
}

#[test]
fn changes_of_the_machine_are_seen_by_the_next_use() {
    let folder = Folder::new();
    let sandboxes = Sandboxes::of_thread();
    let dir = folder.path();
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    fs::write(dir.join("sub/replaced"), "old").unwrap();
    fs::write(dir.join("sub/removed"), "old").unwrap();
    let mut inside = enter_another(&sandboxes, &request(dir, &[]));
    let root = inside.sandbox.inside(Path::new("/"));
    inside.succeeds(
        "test ! -e new; test ! -e sub/deep/new; test $(cat sub/replaced sub/removed) = oldold; ls sub",
    );
    drop(inside);
    fs::write(dir.join("new"), "1").unwrap();
    fs::write(dir.join("sub/deep/new"), "2").unwrap();
    fs::write(dir.join("other"), "3").unwrap();
    fs::rename(dir.join("other"), dir.join("sub/replaced")).unwrap();
    fs::remove_file(dir.join("sub/removed")).unwrap();
    let mut inside = enter_another(&sandboxes, &request(dir, &[]));
    assert!(are_one(&inside, &root));
    inside.succeeds("test $(cat new sub/deep/new sub/replaced) = 123; test ! -e sub/removed");
    drop(inside);
    // Beside the directories in which it works.
    let beside = Folder::new();
    sandboxes.note_changes(false);
    let path = beside.path().display();
    let mut inside = enter_another(&sandboxes, &request(dir, &[]));
    inside.succeeds(&format!("test -e {path}"));
}

#[test]
fn settings_are_kept() {
    let folder = Folder::new();
    let dir = folder.path();
    for name in ["kept", "hidden"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("file"), "x").unwrap();
    }
    fs::write(dir.join("secret"), "x").unwrap();
    let settings = Settings {
        writable: vec!["/usr/share".into()],
        readonly: vec![dir.join("kept")],
        hide: vec![dir.join("hidden"), dir.join("secret")],
        ..Settings::default()
    };
    let mut wanted = request(dir, &[]);
    wanted.settings = &settings;
    for _ in 0..2 {
        let mut inside = enter(&wanted);
        inside.succeeds(
            "echo y >/usr/share/new-file; test $(cat kept/file) = x; ! (echo y >kept/file); ! mkdir kept/dir
             test -z \"$(ls hidden)\"; test ! -s secret; ! (echo y >hidden/file); echo y >file",
        );
    }
    assert!(!Path::new("/usr/share/new-file").exists());
}

#[test]
fn nothing_is_left_of_a_sandbox() {
    let folder = Folder::new();
    let mounts = fs::read("/proc/self/mountinfo").unwrap();
    let sandboxes = Sandboxes::of_thread();
    let mut inside = enter_another(&sandboxes, &request(folder.path(), &[]));
    inside.succeeds(
        "for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep 98765 & sleep 98765 &); done; sleep 0.1",
    );
    assert!(sleeping() >= 18, "{}", sleeping());
    drop(inside);
    assert_eq!(sleeping(), 0);
    assert_eq!(fs::read("/proc/self/mountinfo").unwrap(), mounts);
    assert!(
        enter_another(&sandboxes, &request(folder.path(), &[]))
            .sandbox
            .in_cwd
    );
}

fn sleeping() -> usize {
    let processes = fs::read_dir("/proc").unwrap();
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    processes
        .filter(|entry| entry.as_ref().is_ok_and(|_| true))
        .map(|entry| command(entry.unwrap()))
        .filter(|command| command == b"sleep\x0098765\x00")
        .count()
}

#[test]
fn limits_hold() {
    let folder = Folder::new();
    let mut wanted = request(folder.path(), &[]);
    let limits = Limits {
        cpu_seconds: 1,
        data_bytes: 64 << 20,
        processes: 20,
        file_bytes: 3 << 20,
        tmpfs_bytes: 8 << 20,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    wanted.settings = &settings;
    let mut inside = enter(&wanted);
    inside.succeeds(
        "! (trap '' XFSZ; head -c 4M /dev/zero >large) 2>why; grep 'too large' why
         test $(stat -c %s large) = 3145728; rm large
         for i in 1 2 3 4; do head -c 2500k /dev/zero >f$i || break; done 2>why
         grep 'No space left' why; rm f?
         ! python3 -c 'x = bytearray(100 << 20)' 2>why; grep MemoryError why",
    );
    let mut inside = enter(&wanted);
    let status = inside.run("while :; do :; done");
    assert!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGXCPU,
        "{status:#x}"
    );
    if nix::unistd::geteuid().is_root() {
        // The kernel lets root make as many processes as it likes.
        return;
    }
    let mut inside = enter(&wanted);
    inside.succeeds(
        "python3 -c '
import os, time
for i in range(100):
    try:
        if os.fork() == 0:
            time.sleep(100)
    except BlockingIOError:
        break
assert i < 20, i'",
    );
}

#[test]
fn programs_that_walk_and_move_trees_work() {
    let folder = Folder::new();
    let dir = folder.path();
    for name in ["tree/a/b/c", "tree/d", "other/e"] {
        fs::create_dir_all(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("file"), name).unwrap();
    }
    let before = tree(dir);
    let mut inside = enter(&request(dir, &[]));
    inside.succeeds(
        "test $(find tree -xdev -type f | wc -l) = 2; cp -r tree copy; diff -r tree copy
         mv other/e/file other/moved; mv copy copied; rm -r tree; test ! -e tree
         mv other elsewhere; test -e elsewhere/moved; test ! -e other",
    );
    assert_eq!(tree(dir), before);
}

#[test]
fn a_repository_can_be_worked_on() {
    let folder = Folder::new();
    let dir = folder.path();
    let commits = "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1; git config --global user.email a@b; git config --global user.name a
         for i in 1 2 3; do echo $i >file$i; git add file$i; git commit -qm $i; done";
    let made = Command::new("sh")
        .args(["-ec", &format!("git init -q; {commits}")])
        .current_dir(dir)
        .output()
        .expect("this test needs sh");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let before = tree(dir);
    let mut inside = enter(&request(dir, &[]));
    inside.succeeds(
        "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
         git gc -q --prune=now; git fsck --strict; git mv file1 moved; git commit -qm moved; git checkout -q HEAD~2
         test ! -e file3; git checkout -q -; test -e moved; git clone -q . clone; rm -r clone .git; ! git log",
    );
    assert_eq!(tree(dir), before);
}

/// Where [`directories_with_mounts_in_them_can_be_written_to_below`] has the other one look.
const MOUNTED: &str = "RRAPPER_TEST_MOUNTED";

#[test]
fn directories_with_mounts_in_them_can_be_written_to_below() {
    let folder = Folder::new();
    // Where no other program makes files: a directory around it that has changed is made anew with all others.
    let steps = "mount --rbind . /mnt; cd /mnt; mkdir -p own/cache own/work own/.run; echo x >own/here; echo x >own/gone; ln -s here own/link; chmod 644 own/here
         mkfifo -m 640 own/pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"own/socket\")'; chmod 755 own/socket
         touch -d @1000000000 own/pipe own/socket own/here; mount -t tmpfs none own/cache; echo x >own/cache/file
         echo x >own/work/file; exec \"$0\" --exact --ignored --nocapture where_mounts_are";
    let user = if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let done = Command::new("unshare")
        .args([user, "sh", "-ec", steps])
        .arg(std::env::current_exe().unwrap())
        .current_dir(folder.path())
        .env(MOUNTED, "/mnt/own")
        .output()
        .expect("this test needs unshare (util-linux)");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(!folder.join("own/work/new").exists());
}

#[test]
#[ignore = "run by directories_with_mounts_in_them_can_be_written_to_below"]
fn where_mounts_are() {
    let dir = PathBuf::from(std::env::var_os(MOUNTED).expect("it is not run alone"));
    let mut inside = enter(&request(&dir, &[]));
    inside.execute(
        "exec >work/said 2>&1; set -ex; cat cache/file work/file; echo y >>cache/file; echo y >work/new; echo y >new
         test \"$(cat here)\" = x; echo y >>here; rm gone",
    );
    let me = inside.process.tid();
    resume(me, 0);
    let status = follow(|tid, status| (tid == me && !libc::WIFSTOPPED(status)).then_some(status));
    let said = fs::read_to_string(inside.sandbox.inside(&dir.join("work/said")));
    assert_eq!(status, 0, "{said:?}");
    let changes = inside.sandbox.changes().unwrap();
    let changed = |name: &str, kind| {
        let change = |c: &rrapper::sandbox::Change| c.path == dir.join(name) && c.kind == kind;
        changes.iter().any(change)
    };
    assert!(changed("cache/file", ChangeKind::Changed), "{changes:?}");
    for name in ["new", "work/new"] {
        assert!(changed(name, ChangeKind::Created), "{changes:?}");
    }
    assert!(changed("here", ChangeKind::Changed), "{changes:?}");
    assert!(changed("gone", ChangeKind::Removed), "{changes:?}");
    assert_eq!(fs::read(dir.join("cache/file")).unwrap(), b"x\n");
    drop(inside);
    what_was_made_anew_is_taken_back(&dir);
}

/// Uses a sandbox again that has made a directory anew: each use changes something in it and sees nothing of the others.
fn what_was_made_anew_is_taken_back(dir: &Path) {
    const UNCHANGED: &str = "test \"$(cat here gone link cache/file work/file)\" = \"x
x
x
x
x\"; test \"$(ls -A . work)\" = \".:
.run
cache
gone
here
link
pipe
socket
work

work:
file\"; test \"$(stat -c '%a %h %Y %F' here pipe socket)\" = '644 1 1000000000 regular file
640 1 1000000000 fifo
755 1 1000000000 socket'; test \"$(readlink link)\" = here; test ! -L ../own; test ! -e ../other
         test -z \"$(getfattr --absolute-names -d -m - . here)\"";
    // Whether the next use gets the same sandbox.
    let uses = [
        ("true", true),
        (
            "echo y >here; echo y >new; mkdir -p a/b; echo y >a/b/c; ln -s x y; mkfifo z",
            true,
        ),
        (
            "rm gone; chmod 600 here; touch -d 2001-01-01 link; setfattr -n user.trace -v 1 here",
            true,
        ),
        (
            "mv gone other; mv here gone; rm link; ln -s gone link; touch -d 2001-01-01 .",
            true,
        ),
        (
            "rm gone; mkdir gone; ln here gone/here; chmod 0 gone; rm link; mkfifo link",
            true,
        ),
        (
            "chmod 600 pipe; touch -d 2001-01-01 socket; ls -l pipe socket",
            true,
        ),
        ("mv pipe other; rm socket; echo y >socket", true),
        // By another name, which is gone again.
        ("ln socket other; chmod 600 other; rm other", true),
        (
            "ln here other; rm other; setfattr -n user.trace -v 1 here",
            true,
        ),
        // Without a change of its times.
        (
            "python3 -c 'import mmap; file = open(\"here\", \"r+b\"); mmap.mmap(file.fileno(), 0)[0] = 121'",
            true,
        ),
        ("setfattr -n user.trace -v 1 .", false),
        ("chmod 700 .", false),
        ("touch other; chattr +d .", false),
        ("cd ..; mv own other; ln -s \"$PWD/victim\" own", false),
        ("cd ..; mv own other; mkdir own; echo y >own/gone", false),
        ("true", true),
    ];
    let victim = dir.with_file_name("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "x").unwrap();
    let mut last: Option<(PathBuf, bool)> = None;
    for (change, is_kept) in uses {
        let mut inside = enter(&request(dir, &[]));
        if let Some((root, is_kept)) = &last {
            assert_eq!(are_one(&inside, root), *is_kept, "before {change}");
        }
        last = Some((inside.sandbox.inside(Path::new("/")), is_kept));
        inside.succeeds(&format!("{UNCHANGED}\n{change}"));
        drop(inside);
        assert_eq!(fs::read(victim.join("file")).unwrap(), b"x");
        assert_eq!(tree(&victim).len(), 1, "{change}");
    }
}

#[test]
fn device_and_inode_numbers_can_be_told_as_they_are_outside() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let dir = folder.path();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    fs::write(dir.join("replaced"), "x").unwrap();
    fs::write(dir.join("untouched"), "x").unwrap();
    fs::create_dir(dir.join("again")).unwrap();
    let mut inside = enter(&request(dir, &[]));
    inside.succeeds(
        "echo y >new; rm -f untouched; echo y >>file; rmdir again; mkdir again; cp file other; mv other replaced",
    );
    let sandbox = &inside.sandbox;
    let id = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        let (device, inode, is_dir) = (meta.dev(), meta.ino(), meta.is_dir());
        FileNumbers {
            device,
            inode,
            is_dir,
        }
    };
    let here = |path: &Path| id(&sandbox.inside(path));
    for path in [
        dir.to_path_buf(),
        dir.join("sub"),
        dir.join("file"),
        "/tmp".into(),
    ] {
        let told = sandbox.outside(&path, here(&path)).map(|told| told.numbers);
        assert_eq!(told, Some(id(&path)), "{path:?}");
        assert_ne!(told, Some(here(&path)), "{path:?}");
    }
    let old = id(&dir.join("replaced"));
    for name in ["new", "replaced", "again"] {
        let path = dir.join(name);
        let told = sandbox.outside(&path, here(&path)).unwrap().numbers;
        assert_eq!(told.device, old.device);
        assert_ne!(told.inode, old.inode);
        assert_ne!(told.inode, here(&path).inode);
    }
    // One that is open, and whose name is gone.
    let untouched = FileNumbers {
        device: u64::MAX,
        ..id(&dir.join("untouched"))
    };
    let told = sandbox.outside(&dir.join("untouched"), untouched).unwrap();
    assert_eq!(told.numbers, id(&dir.join("untouched")));
    assert!(!told.is_new);
    let usr = Path::new("/usr");
    assert_eq!(sandbox.outside(usr, here(usr)).unwrap().numbers, id(usr));
    assert_eq!(sandbox.outside(Path::new("/proc"), here(dir)), None);
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_works_without_privileges() {
    const USER: &str = "12345";
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let me = std::env::current_exe().unwrap();
    let elsewhere = Elsewhere::bind();
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = ["--reuid", USER, "--regid", USER, "--clear-groups"];
    let output = Command::new("setpriv")
        .args(user)
        .arg(me)
        .env("TMPDIR", temporary.path())
        .env(Elsewhere::NAME, &elsewhere.path)
        .output()
        .expect("this test needs setpriv (util-linux)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
