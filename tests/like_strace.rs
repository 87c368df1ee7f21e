//! What a recording's calls are printed as is what strace prints of a second run of the same program.
//!
//! Lines are compared as sets: a tracer's doings put a few of them in another order, and some are repeated by
//! chance. Numbers that differ from
//! run to run (addresses, inodes, times, sizes of more than three digits) are not looked at: the syntax is.

use crate::common::{Folder, RRAPPER};
use regex::Regex;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// Programs that do the same each time and do not fork.
const PROGRAMS: &[&[&str]] = &[
    &["cat", "numbers"],
    &["ls", "-l", "dir"],
    &["sort", "-n", "numbers"],
    &["sha256sum", "numbers"],
    &[
        "sqlite3",
        "x.db",
        "create table t(a); insert into t values (1); select * from t;",
    ],
    &["gzip", "-k", "numbers"],
    &["git", "--version"],
    &["git", "init", "-q", "repo"],
    &["find", ".", "-type", "f"],
    &["tar", "cf", "x.tar", "dir", "numbers"],
    &[
        "perl",
        "-e",
        "open F, 'numbers'; print <F>; $SIG{INT} = 'IGNORE'; kill 0, $$; rename 'numbers', 'n'",
    ],
    &["/usr/bin/python3", "-S", "-c", PYTHON],
    &["/usr/bin/python3", "-S", "-c", MORE_PYTHON],
    &[
        "bash",
        "-c",
        "for i in 1 2 3; do echo $i; done; read x < numbers; echo $x > y; trap '' INT; umask 22",
    ],
    &["date"],
    &["stat", "numbers"],
    &["df", "."],
    &["id"],
    &["touch", "-d", "@5", "new"],
    &["cp", "numbers", "copy"],
    &["mkdir", "-p", "a/b/c"],
    &["chmod", "600", "numbers"],
    &["sed", "-i", "s/1/2/", "numbers"],
    &["uname", "-a"],
    &["ln", "-s", "numbers", "link"],
    &["rm", "-r", "dir"],
];

const PYTHON: &str = "
import os, select, socket, array
a, b = socket.socketpair()
a.sendall(b'x'); b.recv(3)
a.sendmsg([b'hi', b'you'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))])
b.recvmsg(10, 100)
select.select([a], [b], [], 0.01)
p = select.poll(); p.register(b, select.POLLOUT); p.poll(10)
e = select.epoll(); e.register(b.fileno(), select.EPOLLOUT); e.poll(0)
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(('::1', 0)); u.getsockname()
u.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); u.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
os.utime('numbers', (1, 2)); os.truncate('numbers', 3); os.mkfifo('f'); os.pipe2(os.O_CLOEXEC)
os.readlink('dir/b'); os.listdir('dir'); os.getgroups(); os.statvfs('.'); os.sched_yield(); os.uname(); os.times()
";

const MORE_PYTHON: &str = "
import os, signal, resource, termios, fcntl, time, mmap, struct, socket
signal.setitimer(signal.ITIMER_REAL, 5, 6); signal.getitimer(signal.ITIMER_VIRTUAL); signal.alarm(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
signal.sigpending(); signal.sigtimedwait([signal.SIGUSR1], 1); signal.sigtimedwait([signal.SIGUSR2], 0)
resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.getrusage(0)
m, s = os.openpty(); termios.tcgetattr(s); termios.tcgetwinsize(s); termios.tcflush(s, termios.TCIOFLUSH)
a = termios.tcgetattr(s); a[3] &= ~termios.ECHO; termios.tcsetattr(s, termios.TCSANOW, a); os.ttyname(s)
fcntl.fcntl(m, fcntl.F_SETFL, os.O_NONBLOCK); fcntl.fcntl(m, fcntl.F_GETFL); fcntl.ioctl(m, termios.FIONREAD, b'1234')
f = open('numbers', 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); fcntl.flock(f, fcntl.LOCK_SH); os.fsync(f.fileno())
fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqixxxx', fcntl.F_RDLCK, 0, 0, 0, 0)); fcntl.fcntl(f, fcntl.F_GETOWN)
os.pread(f.fileno(), 5, 2); os.pwrite(f.fileno(), b'x', 1); os.preadv(f.fileno(), [bytearray(3), bytearray(4)], 0)
os.writev(1, [b'a', b'bc']); os.posix_fallocate(f.fileno(), 0, 1000); os.posix_fadvise(f.fileno(), 0, 0, 2)
os.sendfile(m, f.fileno(), 1, 3)
os.setxattr('numbers', 'user.x', b'y'); os.getxattr('numbers', 'user.x'); os.listxattr('numbers')
os.memfd_create('name'); os.eventfd(3); os.getpriority(0, 0); os.getresuid(); os.getresgid(); os.nice(1)
os.chmod('numbers', 0o640); os.link('numbers', 'n'); os.symlink('n', 'l'); os.rename('n', 'o'); os.unlink('l')
os.mkdir('d'); os.chdir('d'); os.getcwd(); os.rmdir('../d'); os.access('/', os.W_OK); os.umask(0o27)
os.sched_getscheduler(0); os.sched_get_priority_max(1); os.sched_getparam(0); os.sched_rr_get_interval(0)
time.sleep(0.001); time.clock_getres(time.CLOCK_MONOTONIC); os.getrandom(4); os.getsid(0); os.getpgid(0)
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 2)); l.bind(('127.0.0.1', 0))
l.listen(1); c = socket.create_connection(l.getsockname()); s, x = l.accept(); c.send(b'x'); s.recv(2); s.getpeername()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR); c.shutdown(1)
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.bind('\\0abstract-rrapper'); n.getsockname()
try: os.stat('nothing')
except OSError: pass
";

/// Calls that one of the tracers sees more of: recordings turn the vDSO off and refuse what they cannot keep.
const ONE_SIDED: &[&str] = &[
    "clock_gettime",
    "gettimeofday",
    "time",
    "getcpu",
    "rseq",
    "sched_getaffinity",
    "clock_getres",
];

/// Calls whose strings may differ: data, and the names of temporary files.
const DATA: &[&str] = &[
    "read",
    "write",
    "pread64",
    "pwrite64",
    "getrandom",
    "sendto",
    "recvfrom",
    "openat",
    "rename",
];

/// Differences that are known, by the beginning of the line, and why they are there.
const KNOWN: &[(&str, &str)] = &[
    ("ioctl(3, TIOCGPTPEER", "strace 6.1 does not name the flags"),
    (
        "ioctl(4, TCGETS",
        "the flags of a terminal come in another order",
    ),
    (
        "ioctl(4, TCSETS",
        "the flags of a terminal come in another order",
    ),
    (
        "ioctl(4, SNDCTL_TMR_START or TCSETS",
        "strace gives all the names that a request has",
    ),
    (
        "mmap(NULL, N, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS",
        "the allocator's, where the heap cannot grow",
    ),
    (
        "rt_sigreturn(",
        "strace shows the mask that it reads from the signal's frame",
    ),
    (
        "ioctl(4, FICLONE",
        "strace gives all the names that a request has",
    ),
    (
        "ioctl(4, BTRFS_IOC_CLONE or FICLONE",
        "strace gives all the names that a request has",
    ),
];

/// What is left of a line when everything that differs between two runs is gone.
struct Normal {
    rules: Vec<(Regex, &'static str)>,
    strings: Regex,
}

impl Normal {
    fn new() -> Normal {
        let rules = [
            (r"^ *\d+ +(\d+ )?", ""),
            // strace aligns results, and comments on dates and on names that it does not know.
            (r"\) +(= )", ") $1"),
            (r" /\*.*?\*/", ""),
            (r"\b0x[0-9a-f]{6,}\b", "ADDR"),
            (r"\btv_sec=-?\d+, (tv_n?u?sec)=\d+", "tv_sec=T, $1=T"),
            (r"\b(stx?_[acmb]time(?:_nsec)?)=\d+", "$1=T"),
            (r"tv_sec=\d+|tv_nsec=\d+", "T"),
            (
                r"\b(st_ino|stx_ino|d_ino|d_off|st_blocks|stx_blocks|procs|uptime|tms_\w+)=\d+",
                "$1=N",
            ),
            (r"\bstx_mnt_id=0x[0-9a-f]+", "stx_mnt_id=N"),
            // Others make directories in it meanwhile.
            (r#"("/tmp", \{.*?\bst_nlink)=\d+"#, "$1=N"),
            (
                r"^((?:getpid|getppid|gettid|times|set_tid_address)\(.*\) =) \d+",
                "$1 N",
            ),
            (r"si_pid=\d+", "si_pid=N"),
            (r"^kill\(\d+", "kill(N"),
            (r"loads=\[[^\]]*\]", "loads=L"),
            (r"\bru_\w+=\d+", "ru=N"),
            (r"\.git/t\w{6}\b", ".git/tXXXXXX"),
            (r"\bval=\[[^\]]*\]", "val=V"),
            // Not modes: these begin with a zero.
            (r"\b[1-9]\d{3,}\b", "N"),
        ];
        let rules = rules
            .into_iter()
            .map(|(rule, to)| (Regex::new(rule).unwrap(), to));
        let strings = Regex::new(r#""(?:\\.|[^"\\])*""#).unwrap();
        Normal {
            rules: rules.collect(),
            strings,
        }
    }

    fn line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (rule, to) in &self.rules {
            line = rule.replace_all(&line, *to).into_owned();
        }
        line
    }

    /// The same without data, which may differ, too (random bytes, the date in what is printed).
    fn without_data(&self, line: &str) -> String {
        match DATA.contains(&name(line)) {
            true => self.strings.replace_all(line, "DATA").into_owned(),
            false => line.to_owned(),
        }
    }
}

fn name(line: &str) -> &str {
    line.split('(').next().unwrap_or(line)
}

/// The lines of the one that the other does not have. How often it has them does not count.
fn only(normal: &Normal, ours: &[String], theirs: &[String]) -> Vec<String> {
    let mut there: BTreeSet<String> = theirs.iter().cloned().collect();
    there.extend(theirs.iter().map(|line| normal.without_data(line)));
    let is_there =
        |line: &&String| there.contains(*line) || there.contains(&normal.without_data(line));
    ours.iter()
        .filter(|line| !is_there(line))
        .cloned()
        .collect()
}

/// A folder with the same things in it, under the same name, whoever runs the program.
fn fresh(folder: &Folder) {
    let work = folder.join("work");
    std::fs::remove_dir_all(&work).ok();
    std::fs::create_dir_all(work.join("dir")).unwrap();
    let numbers: String = (1..=100).map(|n| format!("{n}\n")).collect();
    std::fs::write(work.join("numbers"), numbers).unwrap();
    std::fs::write(work.join("dir/a"), "x\n").unwrap();
    std::os::unix::fs::symlink("a", work.join("dir/b")).unwrap();
}

/// Runs a program of ours or strace with the same few variables and nothing to read or to write to.
fn run(folder: &Folder, program: &str, args: &[&str], argv: &[&str]) {
    let mut command = Command::new(program);
    command
        .args(args)
        .args(argv)
        .current_dir(folder.join("work"))
        .env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("HOME", folder.path())
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().expect("it starts");
}

#[test]
fn recordings_are_printed_as_strace_prints() {
    let strace = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    assert!(strace.is_ok_and(|s| s.success()), "strace may trace");
    let folder = Folder::new();
    let normal = Normal::new();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (recording, trace) = (path("recording"), path("trace"));
    let (mut compared, mut tried, mut known) = (0, 0, 0);
    let mut problems = Vec::new();
    for argv in PROGRAMS {
        let there = Command::new("which")
            .arg(argv[0])
            .stdout(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            println!("{} is not installed", argv[0]);
            continue;
        }
        tried += 1;
        fresh(&folder);
        std::fs::remove_dir_all(&recording).ok();
        run(
            &folder,
            RRAPPER,
            &["-q", "record", "-o", &recording, "--"],
            argv,
        );
        fresh(&folder);
        run(
            &folder,
            "strace",
            &["-f", "-v", "-s", "1048576", "-o", &trace],
            argv,
        );
        let events = folder.rrapper(["-v", "events", &recording]).ok().text();
        let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
        let lines =
            |text: &str| -> Vec<String> { text.lines().map(|line| normal.line(line)).collect() };
        let (ours, theirs) = (lines(&events), lines(&text));
        assert!(theirs.len() > 10, "{argv:?}: {text}");
        let differing = [
            ("rrapper", only(&normal, &ours, &theirs)),
            ("strace", only(&normal, &theirs, &ours)),
        ];
        compared += ours.len() - differing[0].1.len();
        for (who, lines) in differing {
            for line in lines
                .into_iter()
                .filter(|line| !ONE_SIDED.contains(&name(line)))
            {
                match KNOWN.iter().any(|(start, _)| line.starts_with(start)) {
                    true => known += 1,
                    false => problems.push(format!("{}: only {who}: {line}", argv[0])),
                }
            }
        }
    }
    println!("{compared} lines of {tried} programs are alike, {known} differ in known ways");
    let shown: Vec<String> = problems
        .iter()
        .map(|p| p.chars().take(400).collect())
        .collect();
    assert!(
        problems.is_empty(),
        "{} of {compared}: {shown:#?}",
        problems.len()
    );
    assert!(tried >= 12, "only {tried} programs are installed");
}
