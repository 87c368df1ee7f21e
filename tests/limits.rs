//! The limits of sandboxes: what a process takes, it does not take from the machine's other programs or from the user.

use crate::common::limits::eventually;
use crate::common::{Done, Folder, RRAPPER, as_user};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The ways in which `memory_bomb` takes memory, and the kind of memory that the reason names.
const WAYS: [(&str, &str); 8] = [
    ("private", "of private memory"),
    ("fork", "of private memory"),
    ("shared", "of mapped shared memory"),
    ("removed", "of mapped shared memory"),
    ("memfd", "of memory files"),
    ("mapped", "of memory files"),
    ("tables", "of page tables"),
    ("file", "of changed files"),
];

/// Each kind of memory counts, and it is told what has taken it.
#[test]
fn a_run_that_takes_too_much_memory_is_ended() {
    let folder = Folder::new();
    folder.compile("memory_bomb", &[]);
    for (way, kind) in WAYS {
        folder
            .script(&format!(
                "local o = live{{ './memory_bomb', '{way}', '160', sandbox = {{ memory = '64M' }} }}
                 assert(o.status == 'limit' and o.signal == 'SIGKILL', tostring(o) .. o.stderr)
                 assert(o.reason:find('64 MiB', 1, true) and o.reason:find('{kind}', 1, true), o.reason)
                 assert(not o.reason:find('half', 1, true), o.reason)"
            ))
            .ok();
    }
}

/// What several processes share, or is both open and mapped, counts once.
#[test]
fn a_run_that_takes_less_goes_on() {
    let folder = Folder::new();
    folder.compile("memory_bomb", &[]);
    for (way, _) in WAYS {
        folder
            .script(&format!(
                "local o = live{{ './memory_bomb', '{way}', '32', env = {{ BRIEFLY = '1' }}, sandbox = {{ memory = '64M' }} }}
                 assert(o.status == 'exited' and o.stdout == 'took 32\\n', tostring(o) .. o.stdout .. o.stderr)
                 o = live{{ './memory_bomb', '{way}', '32', env = {{ BRIEFLY = '1', CHILDREN = '1' }},
                            sandbox = {{ memory = 64 << 20 }} }}
                 assert(o.status == 'exited' and o.exit_code == 0, tostring(o) .. o.stdout .. o.stderr)"
            ))
            .ok();
    }
}

/// AddressSanitizer reserves terabytes of writable addresses; what is used of them counts.
#[test]
fn a_run_may_reserve_more_addresses_than_memory() {
    let folder = Folder::new();
    folder.compile_as("checked", "memory_bomb", &["-fsanitize=address"]);
    folder
        .script(
            "local function run(mib)
               return live{ './checked', 'private', mib, sandbox = { memory = '256M' },
                            env = { BRIEFLY = '1', ASAN_OPTIONS = 'detect_leaks=0' } }
             end
             local o = run '32'
             assert(o.stdout == 'took 32\\n', tostring(o) .. o.stderr)
             o = run '4096'
             assert(o.status == 'limit' and o.reason:find 'of private memory', tostring(o) .. o.stderr)",
        )
        .ok();
}

#[test]
fn system_v_segments_are_refused_beyond_the_limit() {
    let folder = Folder::new();
    folder.compile("memory_bomb", &[]);
    folder
        .script(
            "local o = live{ './memory_bomb', 'segment', '160', sandbox = { memory = '64M' } }
             assert(o.exit_code == 9 and o.stderr == 'shmget: No space left on device\\n', tostring(o) .. o.stderr)
             o = live{ './memory_bomb', 'segment', '32', env = { BRIEFLY = '1' }, sandbox = { memory = '64M' } }
             assert(o.stdout == 'took 32\\n', tostring(o) .. o.stderr)",
        )
        .ok();
}

/// The same for a copy that leaves its recording.
#[test]
fn a_copy_that_goes_live_has_the_limits() {
    let folder = Folder::new();
    folder.compile("memory_bomb", &[]);
    for (way, kind) in WAYS {
        folder.write("amount", "1");
        folder
            .script(&format!(
                "local rec = rr.record{{ './memory_bomb', '{way}', env = {{ BRIEFLY = '1' }}, world = 'none', out = 'rec-{way}' }}
                 assert(rec.exit.code == 0)
                 local amount = io.open('amount', 'w')
                 amount:write('160')
                 amount:close()
                 local stop = rr.replay_to(rec:find{{ syscall = 'openat', path = '*/amount' }})
                 local o = stop:spin_off():live{{ sandbox = {{ memory = '64M' }} }}
                 assert(o.status == 'limit', tostring(o) .. o.stderr)
                 assert(o.reason:find('64 MiB', 1, true) and o.reason:find('{kind}', 1, true), o.reason)"
            ))
            .ok();
    }
}

/// A memory cgroup for a test, below that of the tests.
struct Group(PathBuf);

impl Group {
    /// A group with this limit; `None` where none can be made.
    fn new(name: &str, bytes: u64) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let version_1 = own.lines().find_map(|line| line.split_once(":memory:"));
        let version_2 = || own.lines().find_map(|line| line.strip_prefix("0::"));
        let (parent, file) = match version_1 {
            Some((_, path)) => (
                format!("/sys/fs/cgroup/memory{path}"),
                "memory.limit_in_bytes",
            ),
            None => (format!("/sys/fs/cgroup{}", version_2()?), "memory.max"),
        };
        let dir = Path::new(&parent).join(format!("rrapper-{name}-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let group = Group(dir);
        fs::write(group.0.join(file), bytes.to_string()).ok()?;
        Some(group)
    }

    /// A command that runs in the group, as this user.
    fn command(&self, folder: &Folder, user: Option<&str>, program: &str) -> Command {
        let mut command = folder.command("sh");
        command.args([
            "-c",
            "echo $$ >\"$0\"/cgroup.procs && exec \"$@\"",
            self.0.to_str().unwrap(),
        ]);
        if let Some(user) = user {
            let tmp = folder.join("tmp");
            command.args([
                "setpriv",
                "--reuid",
                user,
                "--regid",
                user,
                "--clear-groups",
            ]);
            command.env("HOME", &tmp).env("TMPDIR", &tmp);
        }
        command.arg(program);
        command
    }

    /// The names of the groups in it.
    fn inner(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let dirs = entries.filter(|entry| entry.path().is_dir());
        dirs.map(|dir| dir.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// The processes of the group that the kernel has killed, since its memory was used up.
    fn killed(&self) -> u64 {
        let text = ["memory.oom_control", "memory.events"]
            .iter()
            .find_map(|name| fs::read_to_string(self.0.join(name)).ok())
            .unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process that must not be ended.
struct Bystander(Child);

impl Bystander {
    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a script in the group.
fn script_in(group: &Group, folder: &Folder, user: Option<&str>, text: &str) -> Done {
    let mut child = group
        .command(folder, user, RRAPPER)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

/// Where memory is scarce, the run is ended before others are: rrapper and a bystander live. That holds even for memory
/// that no file of the kernel's tells: then the run is ended since too little is left.
#[test]
fn other_programs_do_not_pay() {
    if !nix::unistd::geteuid().is_root() {
        println!(
            "skipped as this user, who makes no cgroup: root runs it, also with rrapper as a user"
        );
        return;
    }
    let folder = Folder::new();
    folder.compile("memory_bomb", &[]);
    let all = fs::Permissions::from_mode(0o777);
    fs::create_dir(folder.join("tmp")).unwrap();
    for path in [folder.path(), &folder.join("tmp")] {
        fs::set_permissions(path, all.clone()).unwrap();
    }
    let ways = WAYS.map(|(way, _)| way).into_iter();
    for user in [None, Some("12345")] {
        for way in ways.clone().chain(["segment", "sent", "dropped"]) {
            let Some(group) = Group::new(&format!("{way}-{}", user.is_some()), 1536 << 20) else {
                println!("skipped: no memory cgroup can be made here");
                return;
            };
            let mut sleep = group.command(&folder, None, "sleep");
            let mut bystander = Bystander(sleep.arg("600").spawn().unwrap());
            let begins = match (way, user) {
                // What is left of the group's memory is what counts, where the run has no group of its own.
                ("sent" | "dropped", Some(_)) => "only ",
                _ => "its memory is more than ",
            };
            let expected = match way {
                // These are refused before the limit is reached.
                "file" | "segment" => {
                    "o.exit_code == 9 and o.stderr:find 'No space left'".to_string()
                }
                _ => format!("o.status == 'limit' and o.reason:find '^{begins}'"),
            };
            script_in(
                &group,
                &folder,
                user,
                &format!(
                    "local o = live{{ './memory_bomb', '{way}', '4096', timeout = 60 }}
                     assert({expected}, tostring(o) .. o.stderr)
                     -- The next run has all of it again.
                     o = live{{ './memory_bomb', 'private', '256', env = {{ BRIEFLY = '1' }} }}
                     assert(o.stdout == 'took 256\\n', tostring(o) .. o.stderr)"
                ),
            )
            .ok();
            assert!(bystander.lives(), "{way}");
            assert_eq!(group.killed(), 0, "{way}");
        }
    }
}

/// The kernel counts what no process has mapped or opened, where it lets rrapper have a cgroup for the run.
#[test]
fn memory_that_nobody_has_mapped_counts_in_a_cgroup() {
    let folder = Folder::new();
    let Some(group) = Group::new("own", 1536 << 20) else {
        println!("skipped: no memory cgroup can be made here");
        return;
    };
    folder.compile("memory_bomb", &[]);
    for (way, mib, told) in [
        ("dropped", 320, "the kernel counts"),
        ("sent", 320, "the kernel counts"),
        (
            "sockets",
            1024,
            "the kernel ended a process when its control group had 320 MiB",
        ),
    ] {
        script_in(
            &group,
            &folder,
            None,
            &format!(
                "local o = live{{ './memory_bomb', '{way}', '{mib}', sandbox = {{ memory = '64M' }}, timeout = 20 }}
                 assert(o.status == 'limit' and o.signal == 'SIGKILL', tostring(o) .. o.stderr)
                 assert(o.reason:find('64 MiB', 1, true) and o.reason:find('{told}', 1, true), o.reason)
                 o = live{{ './memory_bomb', 'dropped', '32', env = {{ BRIEFLY = '1' }}, sandbox = {{ memory = '64M' }} }}
                 assert(o.stdout == 'took 32\\n', tostring(o) .. o.stderr)"
            ),
        )
        .ok();
        assert_eq!(group.inner(), [""; 0], "{way}");
    }
}

/// However rrapper ends, the cgroup of its run does not stay.
#[test]
fn no_cgroup_stays() {
    let folder = Folder::new();
    let Some(group) = Group::new("ends", 1536 << 20) else {
        println!("skipped: no memory cgroup can be made here");
        return;
    };
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGABRT] {
        folder.write("script.lua", "live{ 'sleep', '30' }");
        let mut command = group.command(&folder, None, RRAPPER);
        command.arg("script.lua").stderr(Stdio::null());
        let mut rrapper = command.spawn().unwrap();
        eventually("a group is made", || !group.inner().is_empty());
        // SAFETY: a process of ours, which has not been waited for.
        unsafe { libc::kill(rrapper.id() as i32, signal) };
        rrapper.wait().unwrap();
        eventually("the group is gone", || group.inner().is_empty());
    }
    folder
        .script("assert(live{ 'sleep', '0.1' }.exit_code == 0)")
        .ok();
}

/// What a run can take of the user's quotas is a small part.
#[test]
fn a_run_does_not_use_up_the_quotas_of_its_user() {
    let folder = Folder::new();
    folder.compile("quotas", &[]);
    // SAFETY: add_key(2) and keyctl(2) with text and numbers.
    let key = unsafe {
        let ring = libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<u8>());
        assert!(ring > 0, "a session keyring");
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"rrapper-of-machine".as_ptr(),
            b"x".as_ptr(),
            1,
            ring,
        )
    };
    assert!(key > 0, "a key: {}", std::io::Error::last_os_error());
    let done = folder
        .script(&format!(
            "local o = live{{ './quotas', '{key}' }}
             assert(o.exit_code == 0, tostring(o) .. o.stderr)
             io.write(o.stdout)"
        ))
        .ok();
    let text = done.text();
    let (said, limits) = text.split_once("limits ").unwrap();
    let expected = "\
churned 60
large EDQUOT
keys 16 EDQUOT
read ok
update ok
update large EDQUOT
foreign describe ENOKEY
foreign revoke ENOKEY
foreign link ENOKEY
link to foreign ENOKEY
persistent EPERM
to parent EPERM
dh EOPNOTSUPP
unknown EOPNOTSUPP
request ENOKEY
request own ok
clear ok
pipes 8 EPERM
size 1048576 65536
shrink ok
one more ok
after close ok
too large EPERM
no size ok
no pipe EBADF
no descriptor EBADF
inotify 32 EMFILE
contexts 8 EAGAIN
destroy ok
another ok
";
    assert_eq!(said, expected);
    let own = |resource| nix::sys::resource::getrlimit(resource).unwrap().0;
    use nix::sys::resource::Resource;
    let all = [
        own(Resource::RLIMIT_MSGQUEUE),
        own(Resource::RLIMIT_SIGPENDING),
        own(Resource::RLIMIT_MEMLOCK),
    ];
    let limits = limits.split_whitespace().map(|n| n.parse::<u64>().unwrap());
    for ((limit, all), least) in limits.zip(all).zip([200 << 10, 1024, 256 << 10]) {
        assert!(limit <= (all / 8).max(least), "{limit} of {all}");
    }
}

/// Files that epoll watches, and descriptors on their way in sockets: a run gets a part of them, and what it sends arrives.
/// A message counts with the descriptors that its control data has room for: two, where Python sends one.
#[test]
fn a_run_gets_a_part_of_watches_and_of_descriptors_on_their_way() {
    const PROGRAM: &str = r#"
import array, ctypes, errno, os, resource, select, socket, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
end = os.pipe()[0]
def watch():
    files = [os.dup(end) for i in range(900)]
    epolls, count = [], 0
    try:
        for i in range(30):
            epolls.append(select.epoll())
            for fd in files:
                epolls[-1].register(fd, select.EPOLLIN)
                count += 1
    except OSError as e:
        print('watches', count, errno.errorcode[e.errno])
    try:
        epolls[0].register(files[0], select.EPOLLIN)
    except OSError as e:
        print('twice', errno.errorcode[e.errno])
    for fd in files:
        os.close(fd)
for attempt in range(2):
    watch()
pairs = [socket.socketpair() for i in range(8)]
def send():
    sent = 0
    try:
        while sent < 1000:
            assert socket.send_fds(pairs[sent % 8][0], [b'xy'], [end]) == 2
            sent += 1
    except OSError as e:
        print('sent', sent, errno.errorcode[e.errno])
    for i in range(sent):
        data, fds, flags, address = socket.recv_fds(pairs[i % 8][1], 2, 1)
        assert data == b'xy' and os.path.sameopenfile(fds[0], end), (data, fds)
        os.close(fds[0])
class Vector(ctypes.Structure):
    _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint), ('iov', ctypes.POINTER(Vector)),
                ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t),
                ('flags', ctypes.c_int), ('unused', ctypes.c_int), ('sent', ctypes.c_uint)]
assert ctypes.sizeof(Message) == 64
libc = ctypes.CDLL(None, use_errno=True)
def several():
    vectors = [Vector(b'abc', 3), Vector(b'defgh', 5)]
    messages = (Message * 2)(*[Message(None, 0, ctypes.pointer(vector), 1, None, 0, 0, 0, 99) for vector in vectors])
    fd, sent = pairs[0][0].fileno(), 0
    while sent < 2:
        count = libc.sendmmsg(fd, ctypes.byref(messages, 64 * sent), 2 - sent, 0)
        assert count > 0, ctypes.get_errno()
        sent += count
    print('several', [message.sent for message in messages], pairs[0][1].recv(10))
    assert libc.sendmmsg(fd, ctypes.byref(messages), 0, 0) == 0
    assert libc.sendmmsg(fd, 8, 1, 0) == -1 and ctypes.get_errno() == errno.EFAULT
    assert libc.sendmsg(fd, 8, 0) == -1 and ctypes.get_errno() == errno.EFAULT
def blocks():
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    received = []
    def receive():
        while sum(map(len, received)) < 1000000:
            received.append(other.recv(1 << 16))
    reader = threading.Thread(target=receive)
    reader.start()
    left = memoryview(b'x' * 1000000)
    while left:
        left = left[one.sendmsg([left]):]
    reader.join()
    print('all', sum(map(len, received)))
def everything():
    send()
    send()
    several()
everything()
over = threading.Event()
other = threading.Thread(target=over.wait)
other.start()
everything()
blocks()
over.set()
other.join()
"#;
    const SAID: &str = "\
watches 16384 ENOSPC
twice ENOSPC
watches 16384 ENOSPC
twice ENOSPC
sent 256 ETOOMANYREFS
sent 256 ETOOMANYREFS
several [3, 5] b'abcdefgh'
sent 256 ETOOMANYREFS
sent 256 ETOOMANYREFS
several [3, 5] b'abcdefgh'
all 1000000
";
    let folder = Folder::new();
    folder.write("program.py", PROGRAM);
    folder.write("said", SAID);
    let script = "
        local said = io.open('said'):read 'a'
        for _ = 1, 2 do
            local o = live{ '/usr/bin/python3', '-S', 'program.py', timeout = 60 }
            assert(o.stdout == said, tostring(o) .. o.stdout .. o.stderr)
            local told = table.concat(o.missing, ' ')
            assert(told:find('beyond 16384', 1, true) and told:find('way in sockets beyond 512', 1, true), told)
        end";
    folder.script(script).ok();
}

/// Pipes are counted for the user, and terminals for the machine: a run gets a part of them, also where nobody sees them.
#[test]
fn a_run_gets_a_part_of_pipes_and_terminals() {
    const PROGRAM: &str = r#"
import errno, os, socket
def until_refused(make):
    made = []
    try:
        while len(made) < 1000:
            made.append(make())
    except OSError as e:
        return made, errno.errorcode[e.errno]
    return made, 'not refused'
def close(made):
    for fds in made:
        for fd in fds:
            os.close(fd)
for attempt in range(3):
    pipes, why = until_refused(os.pipe)
    print('pipes', 250 <= len(pipes) <= 256, why)
    close(pipes)
for i in range(2000):
    close([os.pipe()])
print('churned')
pairs = [socket.socketpair() for i in range(8)]
sent = 0
def send():
    global sent
    pipe = os.pipe()
    socket.send_fds(pairs[sent % 8][0], [b'x'], pipe[:1])
    sent += 1
    close([pipe])
print('sent', *until_refused(send)[1:], 0 < sent <= 256)
for pair in pairs:
    pair[1].close()
close([os.pipe()])
count = 0
def fifo():
    global count
    os.mkfifo('fifo%d' % count)
    count += 1
print('fifos', len(until_refused(fifo)[0]), until_refused(fifo)[1])
terminals, why = until_refused(lambda: [os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)])
print('terminals', len(terminals), why)
close(terminals)
"#;
    const SAID: &str = "\
pipes True ENFILE
pipes True ENFILE
pipes True ENFILE
churned
sent ENFILE True
fifos 256 ENOSPC
terminals 256 ENOSPC
";
    let folder = Folder::new();
    folder.write("program.py", PROGRAM);
    folder.write("said", SAID);
    let script = "
        local said = io.open('said'):read 'a'
        for _ = 1, 2 do
            local o = live{ '/usr/bin/python3', '-S', 'program.py' }
            assert(o.stdout == said, tostring(o) .. o.stdout .. o.stderr)
            local told = table.concat(o.missing, ' ')
            assert(told:find('pipes beyond 256', 1, true) and told:find('FIFOs beyond 256', 1, true), told)
        end";
    folder.script(script).ok();
}

/// Each limit is named by the outcome of a run that it ended.
#[test]
fn an_outcome_names_its_limit() {
    let folder = Folder::new();
    folder
        .script(
            r#"
            local function is(o, status, signal, reason)
                assert(o.status == status and o.signal == signal, tostring(o) .. o.stderr)
                if reason then assert(o.reason and o.reason:find(reason, 1, true), tostring(o))
                else assert(o.reason == nil, tostring(o)) end
            end
            local spin = "while :; do :; done"
            is(live{ "sh", "-c", spin, timeout = 0.25 }, "timeout", nil, "0.25 s")
            is(live{ "sh", "-c", spin, sandbox = { time = 1 } }, "limit", "SIGXCPU", "1 s of processor time")
            is(live{ "sh", "-c", "trap '' XCPU; " .. spin, sandbox = { time = 1 } }, "limit", "SIGKILL", "1 s of processor time")
            is(live{ "truncate", "-s", "3G", "large" }, "limit", "SIGXFSZ", "1024 MiB")
            -- What is not of the sandbox is the program's own.
            is(live{ "sh", "-c", "kill -XCPU $$" }, "signaled", "SIGXCPU")
            is(live{ "sh", "-c", "kill -KILL $$" }, "signaled", "SIGKILL")
            is(live{ "sh", "-c", "ulimit -f 1; exec truncate -s 3G large" }, "signaled", "SIGXFSZ")
            -- A child's is noted.
            local o = live{ "sh", "-c", "truncate -s 3G large; exit 3" }
            is(o, "exited", nil)
            assert(#o.missing == 1 and o.missing[1]:find("1024 MiB", 1, true), o.missing[1])
            -- Tasks that were refused, once.
            o = live{ "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 0.1 & done; wait", sandbox = { tasks = 4 } }
            assert(#o.missing == 1 and o.missing[1]:find("tasks beyond 4", 1, true), o.missing[1])
            assert(#live{ "sh", "-c", "sleep 0 & sleep 0 & wait" }.missing == 0)
            "#,
        )
        .ok();
}

/// An injection that reaches its time limit has the reason, too: while the recording answers, and live.
#[test]
fn an_injection_names_its_time_limit() {
    let folder = Folder::new();
    folder.compile("hang", &[]);
    folder.write("amount", "1");
    folder
        .script(
            r#"
            rr.record{ "./hang", "amount", "spin", out = "rec" }
            local stop = rr.replay_to(rr.open "rec":find{ syscall = "openat", path = "*/amount" })
            local hooks = { timeout = 0.3, read = { fail = "EIO", path = "*/amount" } }
            for _, o in ipairs{ stop:spin_off():inject(hooks), stop:spin_off():live(hooks) } do
                assert(o.status == "timeout" and o.reason:find("0.3 s", 1, true), tostring(o))
            end
            "#,
        )
        .ok();
}

#[test]
fn settings_that_are_wrong_are_told_in_a_sentence() {
    let folder = Folder::new();
    for (setting, parts) in [
        ("{ memory = '5 apples' }", ["memory", "5 apples"]),
        ("{ memory = 0 }", ["memory", "more than 0"]),
        ("{ memory = -5 }", ["memory", "-5"]),
        ("{ memory = true }", ["memory", "true"]),
        ("{ memroy = 5 }", ["memroy", "memory"]),
        ("{ tasks = 0 }", ["tasks", "1 at least"]),
        ("{ tasks = 'many' }", ["tasks", "many"]),
        ("{ time = 0 }", ["time", "more than 0"]),
        ("{ network = 'yes' }", ["network", "true or false"]),
        ("{ namespaces = 1 }", ["namespaces", "true or false"]),
        ("{ writable = '/srv' }", ["writable", "list of paths"]),
        ("{ writable = { srv = true } }", ["writable", "srv"]),
        ("{ readonly = { 5 } }", ["readonly", "string"]),
        ("{ hide = { '' } }", ["hide", "no path"]),
        ("{ 'cow' }", ["by name", "has 1"]),
        ("'cwo'", ["table of settings", "cow"]),
        ("true", ["table of settings", "true"]),
    ] {
        folder
            .script(&format!("live{{ 'true', sandbox = {setting} }}"))
            .complains(&parts);
        folder
            .script(&format!(
                "live{{ 'true', hooks = {{ sandbox = {setting} }} }}"
            ))
            .complains(&parts);
    }
    folder
        .script(
            "local o = live{ 'true', sandbox = { memory = '1.5 GiB', tasks = 9, time = 1.5, network = true,
                namespaces = false, writable = { 'here' }, readonly = {}, hide = {} } }
             assert(o.exit_code == 0, tostring(o))",
        )
        .ok();
}

/// Where the environment says so, there is no sandbox, and each run that is live says it.
#[test]
fn the_environment_can_choose_that_there_is_no_sandbox() {
    let folder = Folder::new();
    let run = |value: &str, text: &str| -> Done {
        folder.write("script.lua", text);
        let mut command = folder.command(RRAPPER);
        command.env("RRAPPER_SANDBOX", value).arg("script.lua");
        command.output().unwrap().into()
    };
    let made = folder.join("made");
    let warns = |done: &Done| done.stderr.matches("RRAPPER_SANDBOX=none").count();

    let done = run("none", "live{ 'touch', 'made' } live{ 'true', hooks = {} }").ok();
    assert_eq!(warns(&done), 2, "{}", done.stderr);
    fs::remove_file(&made).unwrap();
    for value in ["cow", ""] {
        let done = run(value, "live{ 'touch', 'made' }").ok();
        assert_eq!(warns(&done), 0, "{}", done.stderr);
        assert!(!made.exists());
    }
    let done = run("none", "live{ 'touch', 'made', sandbox = 'cow' }").ok();
    assert_eq!(warns(&done), 0, "{}", done.stderr);
    assert!(!made.exists());
    run("nome", "live{ 'true' }").complains(&["RRAPPER_SANDBOX", "nome"]);

    // Copies say it when they go live.
    let done = run(
        "none",
        "local rec = rr.record{ 'touch', 'made', out = 'rec' }
         os.remove 'made'
         local stop = rr.replay_to(rec:find{ syscall = 'execve' })
         stop:spin_off():inject{}",
    )
    .ok();
    assert_eq!(warns(&done), 0, "{}", done.stderr);
    assert!(!made.exists());
    let done = run(
        "none",
        "local stop = rr.replay_to(rr.open('rec'):find{ syscall = 'execve' })
         stop:spin_off():live{}
         local o = stop:spin_off():inject{ close = { fail = 'EIO', when = '1' }, on_divergence = 'live' }
         stop:spin_off():live{ sandbox = 'cow' }",
    )
    .ok();
    assert!((1..=2).contains(&warns(&done)), "{}", done.stderr);
    assert!(made.exists());
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    as_user(&["limits::"]);
}
