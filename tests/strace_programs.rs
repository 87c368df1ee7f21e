//! What the installed strace writes of real programs must be understood, and be the same after being printed.

use rrapper::strace;
use rrapper::trace::{Origin, Trace};
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether a program can be started.
fn installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    found.is_ok_and(|out| out.status.success())
}

/// Traces a command in an empty directory, and checks what was written.
fn check(options: &[&str], command: &[&str]) {
    for needed in ["strace", command[0]] {
        assert!(installed(needed), "{needed} is installed (see tests/run)");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("out.strace");
    let status = Command::new("strace")
        .args(["-f", "-s", "65535", "-vvvvv", "-o"])
        .arg(&file)
        .args(options)
        .args(command)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace starts");
    assert!(file.exists(), "strace may trace ({status})");
    same_after_printing(&file);
}

fn same_after_printing(file: &Path) {
    let parsed = strace::load(file).expect("a readable file");
    assert_eq!(parsed.problems, []);
    assert!(parsed.trace.len() > 10);
    let mut text = Vec::new();
    strace::write(&parsed.trace, &mut text).expect("a vector takes everything");
    let again = strace::parse(&text, "printed");
    assert_eq!(again.problems, []);
    let made = |trace: Trace| trace.with_origin(&Origin::Made);
    let (first, second) = (made(parsed.trace), made(again.trace));
    for (first, second) in first.entries().iter().zip(second.entries()) {
        assert_eq!(first, second);
    }
    assert_eq!(first.entries().len(), second.entries().len());
}

#[test]
fn coreutils() {
    check(&[], &["cat", "/etc/passwd"]);
    check(&["-y"], &["ls", "-la", "/etc", "/nonexistent"]);
    check(&["-tt", "-T"], &["sort", "/etc/passwd"]);
    check(&["-r"], &["wc", "/etc/passwd"]);
    check(&["-ttt"], &["cp", "/etc/passwd", "copy"]);
    check(&["-x"], &["sha256sum", "/etc/passwd"]);
    check(&["-t"], &["date"]);
}

#[test]
fn tools() {
    check(&["-yy"], &["sed", "-n", "s/root/x/p", "/etc/passwd"]);
    check(&["-xx"], &["gzip", "-c", "/etc/passwd"]);
    check(
        &["-e", "inject=close:error=EIO:when=3"],
        &["gzip", "-c", "/etc/passwd"],
    );
    check(
        &["-yy"],
        &[
            "sqlite3",
            "t.db",
            "create table t(a); insert into t values (1); select * from t",
        ],
    );
    check(&[], &["git", "init", "repository"]);
    check(&["-yy"], &["curl", "-s", "http://127.0.0.1:9/"]);
}

#[test]
fn shell_pipelines() {
    let script = "ls / | sort | wc -l; sleep 0.05 & wait; (exit 3); trap 'echo got' USR1; kill -USR1 $$; kill -TERM $$";
    check(&[], &["bash", "-c", script]);
    check(&["-yy", "-ttt", "-T"], &["bash", "-c", script]);
}

#[test]
fn python() {
    let script = r#"
import os, select, signal, socket, subprocess, sys, threading, time
subprocess.run([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 11)"])
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
client = socket.create_connection(server.getsockname())
select.select([server], [client], [], 1)
peer, _ = server.accept()
poll = select.poll(); poll.register(client); poll.poll(10)
epoll = select.epoll(); epoll.register(client); epoll.poll(0.01)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try: six.sendto(b"x", ("::1", 9))
except OSError: pass
unix = socket.socket(socket.AF_UNIX); unix.bind("\0rrapper-test-%d" % os.getpid())
a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [0]); socket.recv_fds(b, 10, 4)
a.sendmsg([b"abc", b"def"]); b.recvmsg(10, 100)
signal.setitimer(signal.ITIMER_REAL, 0.01); signal.signal(signal.SIGALRM, lambda *_: None); signal.pause()
os.pipe(); os.umask(0o22); os.statvfs("/"); os.sysconf("SC_NPROCESSORS_ONLN"); os.sched_getaffinity(0)
os.writev(1, [b"a", b"b"]); os.mkfifo("fifo"); os.utime("fifo"); os.listdir("/dev")
try: os.setxattr("fifo", "user.x", b"1")
except OSError: pass
"#;
    check(&[], &["python3", "-S", "-c", script]);
    check(&["-y"], &["python3", "-S", "-c", script]);
}
