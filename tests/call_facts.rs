//! Which failures are plausible for the calls of real programs, as their recordings tell.

use crate::common::Folder;
use rrapper::history::{CallFacts, Recording};
use rrapper::syscall::plausible::{FileType, Plausible};
use std::collections::BTreeSet;

/// A recorded call: its line as strace writes it, and its facts.
struct Seen {
    line: String,
    facts: CallFacts,
}

impl Seen {
    fn answers(&self) -> BTreeSet<&'static str> {
        self.facts.answers().map(Plausible::name).collect()
    }

    #[track_caller]
    fn has(&self, names: &[&str]) -> &Seen {
        for name in names {
            assert!(
                self.answers().contains(name),
                "{name} for {}: {:?}",
                self.line,
                self.facts.facts
            );
        }
        self
    }

    #[track_caller]
    fn lacks(&self, names: &[&str]) -> &Seen {
        for name in names {
            assert!(
                !self.answers().contains(name),
                "{name} for {}: {:?}",
                self.line,
                self.facts.facts
            );
        }
        self
    }
}

/// All calls of a recording.
fn seen(folder: &Folder, recording: &str) -> Vec<Seen> {
    let recording = Recording::open(&folder.join(recording)).unwrap();
    let all = recording.call_facts().unwrap();
    all.map(|facts| {
        let facts = facts.unwrap();
        let event = recording.event(facts.event).unwrap();
        let line = event.to_entry(facts.event).to_string();
        Seen { line, facts }
    })
    .collect()
}

/// The first call behind `from` whose line has all of these parts.
#[track_caller]
fn find<'a>(all: &'a [Seen], parts: &[&str]) -> &'a Seen {
    let is_meant = |seen: &&Seen| parts.iter().all(|part| seen.line.contains(part));
    all.iter().find(is_meant).unwrap_or_else(|| {
        let lines: Vec<&str> = all.iter().map(|seen| seen.line.as_str()).collect();
        panic!("{parts:?} in {lines:#?}")
    })
}

#[test]
fn a_database_meets_a_full_disk_where_its_files_grow() {
    let folder = Folder::new();
    let sql = "create table t(a); insert into t values(1)";
    folder.record("rec", &["sqlite3", "t.db", sql]).ok();
    let all = seen(&folder, "rec");
    let full = ["ENOSPC", "EDQUOT"];
    // What is only read neither grows nor is it written.
    let library = find(&all, &["openat", "libsqlite3", "= 3"]);
    library
        .has(&["EIO", "ENOENT", "EMFILE"])
        .lacks(&full)
        .lacks(&["EROFS", "ETXTBSY", "EINTR", "EEXIST"]);
    let created = find(&all, &["openat", "t.db\"", "O_CREAT"]);
    created.has(&full).has(&["EROFS"]);
    // The first page of the journal, and its header once more, which is there by then.
    let journal = find(&all, &["openat", "t.db-journal", "O_CREAT"]);
    journal.has(&full);
    let (_, rest) = all.split_at(
        all.iter()
            .position(|seen| seen.line == journal.line)
            .unwrap(),
    );
    let appended = find(rest, &["pwrite64(", ", 512, 0)"]);
    appended
        .has(&full)
        .has(&["EFBIG", "EIO", "short"])
        .lacks(&["EINTR", "EPIPE", "EAGAIN"]);
    let overwritten = find(rest, &["pwrite64(", ", 12, 0)"]);
    overwritten
        .has(&["EIO", "short"])
        .lacks(&full)
        .lacks(&["EFBIG"]);
    // What was written may be lost later.
    find(rest, &["fdatasync("]).has(&full).has(&["EIO"]);
    find(rest, &["close(4)"]).has(&["EIO"]);
    find(&all, &["close(3)"]).lacks(&["EIO"]).lacks(&full);
    find(rest, &["unlink("])
        .has(&["EROFS", "EACCES"])
        .lacks(&full);
    find(&all, &["fcntl(", "F_RDLCK"])
        .has(&["EAGAIN", "EACCES", "ENOLCK"])
        .lacks(&["EDEADLK", "EMFILE"]);
    find(&all, &["fcntl(", "F_UNLCK"]).lacks(&["EAGAIN", "ENOLCK"]);
    find(&all, &["brk(NULL)"]).lacks(&["ENOMEM"]);
    find(&all, &["mmap(NULL", "MAP_ANONYMOUS"])
        .has(&["ENOMEM"])
        .lacks(&["EACCES", "ENODEV"]);
    find(&all, &["newfstatat(3, \"\""])
        .has(&["EIO"])
        .lacks(&["ENOENT", "ENOTDIR"]);
    // No answer is one of a programmer's errors.
    for seen in &all {
        seen.lacks(&["EBADF", "EFAULT", "EINVAL"]);
    }
}

/// A server that answers one request.
fn server() -> (std::thread::JoinHandle<()>, String) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
    });
    (thread, address)
}

#[test]
fn a_client_meets_a_failing_network_where_it_is_connected() {
    let folder = Folder::new();
    let (server, address) = server();
    folder
        .record("rec", &["curl", "-s", "-o", "got", &address])
        .ok();
    server.join().unwrap();
    let all = seen(&folder, "rec");
    find(&all, &["socket(AF_INET, SOCK_STREAM"])
        .has(&["EMFILE"])
        .lacks(&["ECONNREFUSED"]);
    let connected = find(&all, &["connect(", "AF_INET,"]);
    connected.has(&["ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "EINPROGRESS"]);
    connected.lacks(&["ENOENT", "EINTR", "EALREADY"]);
    let network = ["ECONNRESET", "ETIMEDOUT", "EAGAIN", "short"];
    find(&all, &["sendto(", "GET /"])
        .has(&network)
        .has(&["EPIPE"])
        .lacks(&["ENOSPC", "EIO", "ECONNREFUSED"]);
    find(&all, &["recvfrom(", "hello"])
        .has(&network)
        .lacks(&["EPIPE", "EIO", "ECONNREFUSED"]);
    let written = find(&all, &["write(", "hello"]);
    written
        .has(&["ENOSPC", "EIO"])
        .lacks(&["EPIPE", "ECONNRESET", "EAGAIN"]);
}

/// Waits in calls of several kinds before and after it has a handler, which its child does not inherit through exec.
const WAITING: &str = r#"
import os, resource, select, signal, socket, time
one, other = socket.socketpair()
def wait():
    os.write(one.fileno(), b"x")
    os.read(other.fileno(), 100)
    select.select([], [one], [], 1)
    time.sleep(0.001)
# Python has one of its own.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.write(1, b"without\n")
wait()
os.write(1, b"with\n")
signal.signal(signal.SIGUSR1, lambda *_: None)
wait()
end, start = os.pipe()
if os.fork() == 0:
    os.write(1, b"forked\n")
    os.write(start, b"y")
    os.read(end, 100)
    os._exit(0)
os.wait()
os.write(1, b"restarting\n")
signal.siginterrupt(signal.SIGUSR1, False)
wait()
other.setblocking(False)
one.send(b"x")
os.write(1, b"nonblocking\n")
other.recv(100)
one.close()
os.write(1, b"sockets\n")
try:
    socket.socket(socket.AF_UNIX).connect("nobody")
except FileNotFoundError:
    pass
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.connect(("127.0.0.1", 9))
datagrams.send(b"d")
os.write(1, b"child\n")
os.spawnv(os.P_WAIT, "/bin/cat", ["cat", "/dev/null"])
null = os.open("/dev/null", os.O_WRONLY | os.O_CREAT)
os.write(null, b"n")
os.close(null)
os.mkdir("a")
os.close(os.open("a/x", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
os.rename("a/x", "a/y")
os.rename("a/y", "z")
os.symlink("z", "link")
os.truncate("z", 100)
os.truncate("z", 50)
os.kill(os.getpid(), 0)
os.kill(os.getppid(), 0)
resource.getrlimit(resource.RLIMIT_CPU)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"#;

#[test]
fn what_waits_is_interrupted_where_there_is_a_handler() {
    let folder = Folder::new();
    folder.write("waiting.py", WAITING);
    folder
        .record("rec", &["/usr/bin/python3", "-S", "waiting.py"])
        .ok();
    let all = seen(&folder, "rec");
    let part = |name: &str| {
        let mark = format!("write(1, \"{name}\\n\"");
        let start = all
            .iter()
            .position(|seen| seen.line.contains(&mark))
            .expect(name);
        &all[start + 1..]
    };
    let calls: [&[&str]; 4] = [
        &["write(", "\"x\""],
        &["read(", "\"x\""],
        &["select"],
        &["nanosleep("],
    ];
    for (name, interrupted) in [
        ("without", [false; 4]),
        ("with", [true; 4]),
        // Some calls are not restarted, whatever the handler says: signal(7).
        ("restarting", [false, false, true, true]),
    ] {
        for (call, interrupted) in calls.iter().zip(interrupted) {
            let seen = find(part(name), call);
            assert_eq!(
                seen.answers().contains("EINTR"),
                interrupted,
                "{name}: {}",
                seen.line
            );
        }
    }
    find(part("without"), &["read(", "\"x\""])
        .has(&["ECONNRESET", "short"])
        .lacks(&["EAGAIN", "ETIMEDOUT"]);
    find(part("nonblocking"), &["recvfrom("])
        .has(&["EAGAIN"])
        .lacks(&["EINTR"]);
    find(part("forked"), &["read(", "\"y\""]).has(&["EINTR"]);
    let sockets = part("sockets");
    find(sockets, &["connect(", "AF_UNIX"])
        .has(&["ENOENT", "ECONNREFUSED"])
        .lacks(&["ENETUNREACH", "EINPROGRESS"]);
    find(sockets, &["connect(", "AF_INET"])
        .has(&["ENETUNREACH"])
        .lacks(&["ECONNREFUSED", "ENOENT"]);
    find(sockets, &["sendto(", "\"d\""])
        .has(&["ECONNREFUSED", "ENETUNREACH", "ENOBUFS"])
        .lacks(&["ECONNRESET", "EPIPE", "ETIMEDOUT"]);
    let child = part("child");
    find(child, &["wait4("]).has(&["ECHILD"]).lacks(&["EINTR"]);
    let device = find(child, &["openat(", "/dev/null"]);
    assert_eq!(
        device.facts.facts.file,
        Some(FileType::Device),
        "{}",
        device.line
    );
    device.lacks(&["EIO", "ENOSPC", "EINTR"]);
    let written = child
        .iter()
        .position(|seen| seen.line.contains("\"n\", 1)"));
    let closed = &child[written.expect("a write") + 1];
    assert!(closed.line.starts_with("close("), "{}", closed.line);
    closed.lacks(&["ENOSPC", "EDQUOT", "EIO"]);
    find(child, &["a/x", "O_EXCL"]).has(&["EEXIST", "ENOSPC"]);
    find(child, &["rename(\"a/x\""])
        .has(&["EROFS", "ENOSPC"])
        .lacks(&["EXDEV", "ENOTEMPTY"]);
    find(child, &["rename(\"a/y\""]).has(&["EXDEV"]);
    find(child, &["mkdir(\"a\""]).has(&["EEXIST", "ENOSPC", "EROFS"]);
    find(child, &["symlink(\"z\""]).has(&["EEXIST", "ENOSPC"]);
    find(child, &["truncate(\"z\", 100)"]).has(&["EFBIG"]);
    find(child, &["truncate(\"z\", 50)"])
        .has(&["EROFS"])
        .lacks(&["EFBIG"]);
    let mut kills = child.iter().filter(|seen| seen.line.starts_with("kill("));
    let mut kill = || kills.next().expect("two calls of kill");
    kill().lacks(&["ESRCH", "EPERM"]);
    kill().has(&["ESRCH", "EPERM"]);
    find(child, &["prlimit64(0, RLIMIT_CPU"]).lacks(&["EPERM", "ESRCH"]);
    find(child, &["prlimit64(0, RLIMIT_CORE"])
        .has(&["EPERM"])
        .lacks(&["ESRCH"]);
    find(&all, &["clone("])
        .has(&["EAGAIN", "ENOMEM"])
        .lacks(&["EPERM", "ENOSPC"]);
}
