//! What the recording knows of descriptors, against `/proc/PID/fd` and `fdinfo`, after every event of real programs.

mod common;

use common::Folder;
use rrapper::history::Recording;
use rrapper::kernel::ProcessTree;
use rrapper::record::{Observed, OnFull, Options, Program, record};
use rrapper::tracee::{Stdin, proc};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// One recording at a time: each pins its program to one CPU.
static ALONE: Mutex<()> = Mutex::new(());

/// A descriptor in words: what it is, its flags, its offset.
type Shown = BTreeMap<i32, String>;

fn shown(path: &[u8], flags: i32, offset: u64) -> String {
    // The tests print to these files as well, and move their offsets.
    let printed_to = |fd: i32| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        link.is_ok_and(|link| link.as_os_str().as_bytes() == path)
    };
    let offset = match path.first() == Some(&b'/') && (printed_to(1) || printed_to(2)) {
        true => 0,
        false => offset,
    };
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let path = String::from_utf8_lossy(path);
    format!("{path} flags {flags:#o} at {offset}")
}

fn modelled(family: &ProcessTree, tid: i32) -> Shown {
    let all = family.each_descriptor(tid);
    all.map(|(fd, file, cloexec)| {
        let flags = file.flags | if cloexec { libc::O_CLOEXEC } else { 0 };
        (fd, shown(&file.path, flags, file.offset))
    })
    .collect()
}

/// `None` where the task is gone, or about to be.
fn real(tid: i32) -> Option<Shown> {
    if matches!(proc::state(tid), None | Some(b'Z' | b'X')) {
        return None;
    }
    let all = proc::descriptors(tid).ok()?;
    let all = all.into_iter();
    Some(
        all.map(|d| (d.fd, shown(&d.path, d.flags, d.offset)))
            .collect(),
    )
}

/// Calls that do nothing to descriptors while they wait, or nothing that others would see.
const HARMLESS: [i64; 24] = [
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_futex,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_pause,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_yield,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_mmap,
    libc::SYS_munmap,
];

/// What was compared.
#[derive(Default)]
struct Seen {
    looked: usize,
    compared: u64,
    gone: u64,
    unsettled: u64,
    tasks: Vec<i32>,
    /// What was known at some events.
    kept: Vec<(u64, BTreeMap<i32, Shown>)>,
    wrong: Vec<String>,
}

impl Seen {
    fn look(&mut self, observed: &Observed<'_>) {
        let Observed { family, event, .. } = *observed;
        self.looked += 1;
        if event.is_multiple_of(40) {
            let tasks = family.all_tasks();
            let all = tasks.map(|tid| (tid, modelled(family, tid)));
            self.kept.push((event, all.collect()));
        }
        // Tables and open files of those whose calls may have been made and are not written yet.
        let busy = observed.in_call.iter();
        let busy = busy.filter(|&&(_, nr)| !HARMLESS.contains(&nr.into()));
        let busy: Vec<i32> = busy.map(|&(tid, _)| tid).collect();
        let files = busy.iter().flat_map(|&tid| family.each_descriptor(tid));
        let moving: HashSet<_> = files.map(|(_, file, _)| std::ptr::from_ref(file)).collect();
        for tid in family.all_tasks() {
            if busy
                .iter()
                .any(|&other| family.share_descriptors(other, tid))
            {
                self.unsettled += 1;
                continue;
            }
            let Some(mut real) = real(tid) else {
                self.gone += 1;
                continue;
            };
            if !self.tasks.contains(&tid) {
                self.tasks.push(tid);
            }
            self.compared += 1;
            let mut known = modelled(family, tid);
            for (fd, file, _) in family.each_descriptor(tid) {
                if moving.contains(&std::ptr::from_ref(file)) {
                    known.remove(&fd);
                    real.remove(&fd);
                }
            }
            for fd in known.keys().chain(real.keys()) {
                let (known, real) = (known.get(fd), real.get(fd));
                if known != real {
                    self.note(format!("task {tid}, {fd}: {known:?} is {real:?}"), event);
                }
            }
            let cwd = proc::cwd(tid).ok();
            if cwd.is_some() && cwd.as_deref() != family.cwd(tid) {
                self.note(format!("task {tid}, directory"), event);
            }
        }
    }

    /// Notes what is wrong, the first time.
    fn note(&mut self, what: String, event: u64) {
        if !self.wrong.iter().any(|known| known.starts_with(&what)) {
            self.wrong.push(format!("{what} after event {event}"));
        }
    }
}

/// Records a program; after each event, everything known of each task's descriptors must be so.
#[track_caller]
fn check(folder: &Folder, argv: &[&str], tasks: usize) -> Recording {
    let stdin = Stdin::Bytes(b"one\ntwo\nthree\n".to_vec());
    check_with(folder, stdin, argv, tasks)
}

#[track_caller]
fn check_with(folder: &Folder, stdin: Stdin, argv: &[&str], tasks: usize) -> Recording {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Program {
        argv: argv.iter().map(OsString::from).collect(),
        env: vec![("LC_ALL".into(), "C".into())],
        cwd: Some(folder.path().into()),
        stdin,
    };
    let seen = Rc::new(RefCell::new(Seen::default()));
    let sink = Rc::clone(&seen);
    let dir = folder.join("rec");
    let recorded = record(Options {
        command: program.command().expect("the program is there"),
        dir: dir.clone(),
        on_full: OnFull::Stop,
        on_start: None,
        observer: Some(Box::new(move |observed| sink.borrow_mut().look(observed))),
        wait_all: true,
        alone: false,
        kept: rrapper::record::KeptFiles::default(),
        discard: None,
        kept_limits: rrapper::recording::KeptLimits::default(),
    });
    let seen = seen.borrow();
    assert!(seen.wrong.is_empty(), "{}", seen.wrong.join("\n"));
    let recorded = recorded.expect("it can be recorded");
    assert_eq!(recorded.exit.shell_status(), 0, "{argv:?}");
    assert!(
        seen.gone * 5 < seen.compared,
        "{} gone, {} compared",
        seen.gone,
        seen.compared
    );
    assert!(
        seen.unsettled * 2 < seen.compared,
        "{} unsettled, {} compared",
        seen.unsettled,
        seen.compared
    );
    assert!(seen.tasks.len() >= tasks, "{} tasks", seen.tasks.len());
    let recording = Recording::open(&dir).expect("the recording opens");
    let events = recording.events_from(1).expect("there are events");
    let events = events.map(|event| event.expect("a whole event").1);
    let going_on = events.filter(|event| event.call().is_none_or(|call| call.ret.is_some()));
    assert_eq!(seen.looked, going_on.count(), "each event is looked at");
    read_again(&recording, &seen.kept);
    recording
}

/// What a recording says of its events is what its recorder knew, in whatever order it is asked.
fn read_again(recording: &Recording, kept: &[(u64, BTreeMap<i32, Shown>)]) {
    let backwards = kept.iter().rev().step_by(3);
    for (event, tasks) in kept.iter().chain(backwards) {
        if *event == recording.len() {
            continue;
        }
        let same = recording.process_tree_at(event + 1, |family| {
            let alive: Vec<i32> = family.all_tasks().collect();
            let mut tasks = tasks.iter().filter(|(tid, _)| alive.contains(tid));
            tasks.all(|(&tid, shown)| modelled(family, tid) == *shown)
        });
        assert!(same.expect("the recording can be read"), "event {event}");
    }
}

fn python(folder: &Folder, text: &str, tasks: usize) -> Recording {
    let script = folder.write("script.py", text);
    check(
        folder,
        &["/usr/bin/python3", "-S", "-E", text_of(&script)],
        tasks,
    )
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn python_opens_moves_and_passes_everything() {
    let folder = Folder::new();
    python(
        &folder,
        r#"
import os, socket, select, array, fcntl, signal, mmap
f = open("a", "w+b"); f.write(b"x" * 5000); f.flush(); f.seek(100); f.read(10)
g = os.open("a", os.O_RDWR | os.O_APPEND)
os.write(g, b"more"); os.write(g, b"and more"); os.lseek(g, 3, 0); os.read(g, 5); os.pwrite(g, b"at", 7)
os.writev(g, [b"a", b"bc"])
h = os.dup(g); os.lseek(h, 1, 1); os.dup2(h, 77); os.dup2(77, 77); os.dup2(h, 78, inheritable=False)
os.set_inheritable(78, True); fcntl.fcntl(78, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
k = fcntl.fcntl(h, fcntl.F_DUPFD, 100); fcntl.fcntl(h, fcntl.F_DUPFD_CLOEXEC, 100)
fcntl.fcntl(h, fcntl.F_SETFL, os.O_NONBLOCK)
os.ftruncate(g, 10)
os.preadv(g, [bytearray(3)], 2)
os.lseek(g, 0, os.SEEK_DATA); os.lseek(g, 0, os.SEEK_HOLE)
r, w = os.pipe(); os.write(w, b"12345"); os.read(r, 2); os.set_blocking(r, False)
r2, w2 = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
a, b = socket.socketpair()
socket.send_fds(a, [b"fds"], [g, r, 0]); got = socket.recv_fds(b, 10, 5)
os.lseek(got[1][0], 5, 0)
t = os.open("a", os.O_RDONLY); socket.send_fds(a, [b"x"], [t]); os.close(t)
msg, anc, flags, addr = b.recvmsg(10, 100, socket.MSG_CMSG_CLOEXEC)
os.lseek(array.array("i", anc[0][2])[0], 6, 0)
e = select.epoll(); e2 = select.epoll(flags=0)
m = os.memfd_create("mem"); os.write(m, b"0123456789"); os.lseek(m, 0, 0)
m2 = os.memfd_create("mem2", 0); os.sendfile(m2, m, 2, 4); os.sendfile(m2, m, None, 4)
os.copy_file_range(m, m2, 2, 0, None); os.copy_file_range(m, m2, 2)
os.splice(m, w, 3); os.splice(r, m2, 2); os.splice(m, w, 1, offset_src=0)
ev = os.eventfd(3, os.EFD_NONBLOCK); os.eventfd_read(ev); os.eventfd_write(ev, 1)
p = os.pidfd_open(os.getpid())
n = os.open("/dev/null", os.O_WRONLY); os.write(n, b"gone")
z = os.open("/dev/zero", os.O_RDONLY); os.read(z, 100)
os.mkfifo("fifo"); q = os.open("fifo", os.O_RDWR); os.write(q, b"abc"); os.read(q, 2)
path = os.open("a", os.O_PATH | os.O_CREAT); tmp = os.open(".", os.O_TMPFILE | os.O_RDWR); os.write(tmp, b"t")
stat = os.open("/proc/self/status", os.O_RDONLY); os.read(stat, 100); os.read(stat, 10)
os.unlink("a")
d = os.open("/usr/lib", os.O_RDONLY | os.O_DIRECTORY); os.listdir(d); os.lseek(d, 0, 0)
os.mkdir("sub"); os.chdir("sub"); os.chdir(".."); os.fchdir(d); os.umask(0o77)
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
c = socket.socket(); c.setblocking(False)
try: c.connect(s.getsockname())
except BlockingIOError: pass
conn, _ = s.accept(); conn.send(b"hello"); select.select([c], [], []); c.recv(3)
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
try: os.close(999)
except OSError: pass
fcntl.ioctl(78, 0x5450); fcntl.ioctl(78, 0x5451)
fcntl.ioctl(a, 0x5421, array.array("i", [1])); fcntl.ioctl(a, 0x5421, array.array("i", [0]))
fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
master, slave = os.openpty(); os.write(slave, b"line\n"); os.read(master, 3)
os.closerange(90, 200)
"#,
        1,
    );
}

#[test]
fn every_kind_of_descriptor() {
    let folder = Folder::new();
    let program = folder.compile("descriptors", &[]);
    check(&folder, &[&program], 1);
}

#[test]
fn a_shell_redirects_without_forking() {
    let folder = Folder::new();
    let script = r#"
here=$PWD
exec 3>out 4<>both 5>>out 6</etc/passwd
echo a >&3; echo b >&5; echo c >>out; printf d >&4
read line <&6; read line2 <&6; read x; read y
exec 7<&6- 8>&3; echo e >&8; exec 3>&- 4>&-
read z <<END
here
END
read z <<< "a string"
cd /usr; cd lib; exec 9<.; umask 022
for f in 1 2 3; do echo $f; done > "$here/../${here##*/}/lines" 2>/dev/null
exec 1>/dev/null; echo to nowhere; exec true
"#;
    check(&folder, &["bash", "-c", script], 1);
    let script = "exec 3>out2; echo a >&3; exec 5>>out2; echo b >&5; read x; read y; exec 3>&-; exec true >&5";
    let again = Folder::new();
    check(&again, &["dash", "-c", script], 1);
}

#[test]
fn what_a_program_begins_with() {
    let folder = Folder::new();
    folder.plain(&["mkfifo", "fifo"]).ok();
    let mut options = std::fs::File::options();
    let options = options.read(true).write(true);
    let fifo = options.open(folder.join("fifo")).expect("the FIFO opens");
    std::io::Write::write_all(&mut &fifo, b"one\ntwo\n").expect("there is room");
    check_with(
        &folder,
        Stdin::File(fifo),
        &["sh", "-c", "read x; read y"],
        1,
    );
    let folder = Folder::new();
    let file = folder.write("in", "some\nlines\nof text\n");
    let file = std::fs::File::open(file).expect("the file opens");
    let script = "exec 5<&0; read x; read y <&5; read z";
    check_with(&folder, Stdin::File(file), &["sh", "-c", script], 1);
}

#[test]
fn tools_of_one_process() {
    let folder = Folder::new();
    folder.numbers();
    check(
        &folder,
        &["tar", "cf", "/dev/null", "/etc/apt", "numbers"],
        1,
    );
    let folder = Folder::new();
    check(&folder, &["find", "/usr/include", "-name", "*.nothing"], 1);
    let folder = Folder::new();
    check(
        &folder,
        &[
            "sqlite3",
            "db",
            "create table t(a); insert into t values(1),(2); update t set a=a+1;",
        ],
        1,
    );
    let folder = Folder::new();
    check(&folder, &["git", "init", "-q", "repo"], 1);
    let folder = Folder::new();
    let script = "open(F,'+>','f'); print F 'abc'; seek(F,1,0); $_=<F>; opendir(D,'/etc'); readdir D; open(G,'>>','f'); syswrite G,'zz'; open(H,'<&=',G); <STDIN>";
    check(&folder, &["perl", "-e", script], 1);
}

#[test]
fn a_shell_forks_with_redirections() {
    let folder = Folder::new();
    let script = r#"
exec 3>log; echo one >&3
(echo two >&3; exec 3>&-; echo three >other)
echo four >&3
cat <<END | tr a-z A-Z | sort >sorted 2>&1
some
here
END
while read line; do echo "$line" >>log; /bin/echo "$line" >&3; done < <(printf 'a\nb\nc\n')
x=$(echo sub; cd /usr; pwd); (cd /; umask 077; /bin/true)
sleep 0.1 & wait $!
cat log | head -c 3 >/dev/null
read first; (read second; head -n 1 >/dev/null)
{ echo to both; } 4<>log | tee copy >/dev/null
trap 'echo out >&3' EXIT
"#;
    check(&folder, &["bash", "-c", script], 12);
    let folder = Folder::new();
    check(&folder, &["dash", "-c", script_for_dash()], 6);
}

fn script_for_dash() -> &'static str {
    "exec 3>log; (echo a >&3); echo b | cat >&3; x=$(cat log); cat <<E | sort | uniq >out\n$x\nE\n(cd /tmp; exec 3>&-; /bin/true); sleep 0.05 & wait"
}

#[test]
fn processes_and_threads_share_what_they_should() {
    let folder = Folder::new();
    let program = folder.compile("family", &["-pthread"]);
    check(&folder, &[&program], 12);
}

#[test]
fn python_runs_others_and_hands_them_descriptors() {
    let folder = Folder::new();
    python(
        &folder,
        r#"
import os, socket, subprocess, sys, threading, time
log = open("log", "wb", 0)
log.write(b"begin\n")
subprocess.run(["/bin/echo", "hello"], stdout=log, check=True)
subprocess.run(["cat"], stdin=open("log"), stdout=open("copy", "ab"), check=True)
p = subprocess.Popen(["sh", "-c", "read x; echo $x; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.communicate(b"a\nb\nc\n")
a, b = socket.socketpair()
if os.fork() == 0:
    a.close()
    f = os.open("log", os.O_RDWR); os.lseek(f, 3, 0)
    socket.send_fds(b, [b"x"], [f, log.fileno()])
    b.recv(1)
    os.write(f, b"child"); os._exit(0)
b.close()
_, fds, _, _ = socket.recv_fds(a, 10, 5)
os.lseek(fds[0], 1, 0); os.write(fds[1], b"through"); a.send(b"y")
os.wait(); os.read(fds[0], 2)
def work(n):
    f = open("thread%d" % n, "w+"); f.write("x" * n); f.flush(); f.seek(0); f.read(1)
    r, w = os.pipe(); os.write(w, b"ab"); os.read(r, 1); os.close(r); os.close(w)
    os.listdir("."); time.sleep(0.01); f.close()
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
server = socket.create_server(("127.0.0.1", 0))
def serve():
    c, _ = server.accept()
    with c: c.sendall(c.recv(10))
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(server.getsockname()); c.sendall(b"ping"); c.recv(10); t.join()
os.posix_spawn("/bin/sh", ["sh", "-c", "echo spawned >&5"], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 5, "spawned", os.O_WRONLY | os.O_CREAT, 0o600)])
os.wait()
threading.Thread(target=lambda: os.execv("/bin/true", ["true"])).start(); time.sleep(5)
"#,
        9,
    );
}

#[test]
fn tools_of_many_processes() {
    let folder = Folder::new();
    let script = "git init -q r && cd r && git config user.email a@b && git config user.name n && echo x >f && git add f && git commit -qm m && git log --oneline | cat >/dev/null && git gc -q";
    check(&folder, &["sh", "-c", script], 5);
    let folder = Folder::new();
    folder.write(
        "Makefile",
        "all: a b c\na b c:\n\t@echo $@ >$@; cat $@ | sort >$@.out\n",
    );
    check(&folder, &["make", "-s", "-j2"], 4);
    let folder = Folder::new();
    let script = "find /etc/apt /etc/default -type f -print0 | xargs -0 -n 5 grep -c a >counts; tar cf - /etc/default 2>/dev/null | tar tf - >list";
    check(&folder, &["bash", "-c", script], 5);
    let folder = Folder::new();
    let script = "open(L,'>','log'); syswrite L,'a'; open(P,'-|','echo x; cat /etc/hostname'); @x=<P>; close P; if (!fork) { syswrite L,'b'; exit } wait; pipe(R,W); if (!fork) { close R; syswrite W,'hi'; exit } close W; sysread R,$x,5; wait; system('true')";
    check(&folder, &["perl", "-e", script], 4);
}
