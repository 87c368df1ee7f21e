//! What the probes are aimed at: objects of the tests on the machine, and what became of them.

use crate::common::Folder;
use crate::common::machine::{self, Machine, Turn};
use crate::table;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// What is in the files.
const KEPT: &str = "kept\n";
/// What only the machine's programs may take.
const SECRET: &[u8] = b"secret";
/// What somebody types at the terminal.
const TYPED: &[u8] = b"typed\n";

pub struct World {
    pub folder: Folder,
    /// Where the script is, and what it and the tests tell each other.
    pub control: Folder,
    shm: TempDir,
    var_tmp: TempDir,
    place: TempDir,
    listeners: Vec<UnixListener>,
    datagrams: Vec<UnixDatagram>,
    tcp: Vec<TcpListener>,
    udp: UdpSocket,
    fifos: Vec<File>,
    full_fifo: File,
    victim: Child,
    victims_group: Option<PathBuf>,
    ipc: Ipc,
    keys: Keys,
    terminal: OwnedFd,
    slave: OwnedFd,
    /// The modes of the terminal, if somebody sits there.
    modes: Option<Vec<u8>>,
    _held: File,
    watcher: Watcher,
    machine: Option<Machine>,
    /// Until the machine has it.
    turn: Option<Turn>,
}

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero in a path")
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

fn fifo(path: &Path) -> File {
    let name = path_of(path);
    // SAFETY: the path ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
    open_to_all(path);
    // For both, so that it is there for a writer and is not at its end.
    let mut how = OpenOptions::new();
    how.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    how.open(path).unwrap()
}

fn listener(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    open_to_all(path);
    listener
}

/// A socket that was bound by a relative path, of which the kernel's list does not say where it is.
fn relative(dir: &Path, name: &'static str) -> UnixListener {
    let dir = dir.to_path_buf();
    let bind = move || {
        // SAFETY: this thread gets a current directory of its own.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
        std::env::set_current_dir(&dir).unwrap();
        listener(Path::new(name))
    };
    std::thread::spawn(bind).join().unwrap()
}

/// A handle by which a file of the machine can be opened, as text.
fn handle(path: &Path) -> String {
    let name = path_of(path);
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0;
    // SAFETY: the handle has room for as many bytes as it says.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            0,
        )
    };
    if ret < 0 {
        return "1:0000000000000000".into();
    }
    let bytes: Vec<u8> = handle[2..].iter().flat_map(|w| w.to_ne_bytes()).collect();
    let hex: String = bytes[..handle[0] as usize]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}:{hex}", handle[1])
}

/// The machine's address in its network, or another one of its own.
fn lan() -> String {
    let address = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    address().unwrap_or_else(|| "127.0.0.2".into())
}

/// The directory of the tests' own control group, in the second version's hierarchy.
fn own_group() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let place = mounts
        .filter_map(|line| line.split(' ').nth(4))
        .next()
        .unwrap_or("/sys/fs/cgroup");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    Path::new(place).join(own.unwrap_or_default())
}

/// Objects of System V, and a queue of POSIX.
struct Ipc {
    key: i32,
    shm: i32,
    at: *mut u8,
    msg: i32,
    sem: i32,
    queue: CString,
    descriptor: i32,
}

// SAFETY: the address is of shared memory, which every thread of the process has.
unsafe impl Send for Ipc {}

impl Ipc {
    fn new(tag: &str, number: u32) -> Ipc {
        let key = 0x7a00_0000 | (number as i32 & 0xff_ffff);
        let queue = CString::new(format!("/{tag}")).unwrap();
        // SAFETY: new objects of our own; the pointers are to what lives, and as large as is said.
        unsafe {
            let shm = libc::shmget(key, 4096, libc::IPC_CREAT | libc::IPC_EXCL | 0o666);
            assert!(shm >= 0, "{}", std::io::Error::last_os_error());
            let at = libc::shmat(shm, std::ptr::null(), 0).cast::<u8>();
            *at = b'k';
            let msg = libc::msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | 0o666);
            let mut message = [0u64; 2];
            message[0] = 1;
            assert_eq!(libc::msgsnd(msg, message.as_ptr().cast(), 8, 0), 0);
            let sem = libc::semget(key, 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o666);
            assert!(sem >= 0);
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NONBLOCK;
            let none: *const libc::c_void = std::ptr::null();
            let descriptor = libc::mq_open(queue.as_ptr(), flags, 0o666, none);
            assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
            Ipc {
                key,
                shm,
                at,
                msg,
                sem,
                queue,
                descriptor,
            }
        }
    }

    fn changes(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                seen.push(what.to_string());
            }
        };
        // SAFETY: our own objects; the pointers are to what lives.
        unsafe {
            check(*self.at == b'k', "shared memory was written to");
            let mut state: libc::shmid_ds = std::mem::zeroed();
            let ret = libc::shmctl(self.shm, libc::IPC_STAT, &raw mut state);
            check(ret == 0 && state.shm_nattch == 1, "shared memory is gone");
            // To be removed, or locked.
            let marks = state.shm_perm.mode & 0o7000;
            check(marks == 0, "shared memory is marked");
            let mut queue: libc::msqid_ds = std::mem::zeroed();
            let ret = libc::msgctl(self.msg, libc::IPC_STAT, &raw mut queue);
            check(ret == 0 && queue.msg_qnum == 1, "messages");
            let value = libc::semctl(self.sem, 0, libc::GETVAL);
            check(value == 0, "a semaphore");
            let mut attributes: libc::mq_attr = std::mem::zeroed();
            let ret = libc::mq_getattr(self.descriptor, &raw mut attributes);
            check(ret == 0 && attributes.mq_curmsgs == 0, "messages of POSIX");
            let again = libc::mq_open(self.queue.as_ptr(), libc::O_RDONLY);
            check(again >= 0, "the queue has no name");
            libc::close(again);
        }
        seen
    }
}

impl Drop for Ipc {
    fn drop(&mut self) {
        // SAFETY: our own objects.
        unsafe {
            libc::shmdt(self.at.cast());
            libc::shmctl(self.shm, libc::IPC_RMID, std::ptr::null_mut());
            libc::msgctl(self.msg, libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(self.sem, 0, libc::IPC_RMID);
            libc::mq_unlink(self.queue.as_ptr());
            libc::close(self.descriptor);
        }
    }
}

const JOIN_SESSION: i32 = 1;
const SETPERM: i32 = 5;
const LINK: i32 = 8;
const UNLINK: i32 = 9;
const READ: i32 = 11;
const SESSION: i32 = -3;
const USER: i32 = -4;
const ALL_OF_USER: i64 = 0x3f3f_0000;

/// Keys in a session of this thread's own, which rrapper inherits, and in the user's keyring.
struct Keys {
    session: i64,
    key: i64,
    user_key: i64,
}

impl Keys {
    /// Where there are none, the numbers are of nothing.
    fn new(tag: &str) -> Keys {
        let name = CString::new(tag).unwrap();
        // SAFETY: the name ends with a zero byte.
        let session = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, name.as_ptr()) };
        let control = |command: i32, first: i64, second: i64| {
            // SAFETY: keyctl(2) with numbers.
            unsafe { libc::syscall(libc::SYS_keyctl, command, first, second) };
        };
        control(SETPERM, session, ALL_OF_USER);
        let add = |name: &CString| {
            // SAFETY: the texts end with a zero byte, and the content is as long as is said.
            let key = unsafe {
                libc::syscall(
                    libc::SYS_add_key,
                    c"user".as_ptr(),
                    name.as_ptr(),
                    SECRET.as_ptr(),
                    SECRET.len(),
                    SESSION,
                )
            };
            control(SETPERM, key, ALL_OF_USER);
            key
        };
        // What is only in the user's keyring is not the session's: it is reached since it is the user's.
        let user_key = add(&name);
        control(LINK, user_key, USER.into());
        control(UNLINK, user_key, SESSION.into());
        Keys {
            session,
            key: add(&name),
            user_key,
        }
    }

    fn changes(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for (key, name) in [
            (self.key, "the session's key"),
            (self.user_key, "the user's key"),
        ] {
            if key < 0 {
                continue;
            }
            let mut bytes = [0u8; 32];
            let room = bytes.len();
            // SAFETY: there is room for as many bytes as is said.
            let size =
                unsafe { libc::syscall(libc::SYS_keyctl, READ, key, bytes.as_mut_ptr(), room) };
            let content = &bytes[..size.max(0) as usize];
            if content != SECRET {
                let content = String::from_utf8_lossy(content);
                seen.push(format!("{name} has {content:?}"));
            }
        }
        seen
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // SAFETY: keyctl(2) with numbers and no name.
        unsafe {
            libc::syscall(libc::SYS_keyctl, UNLINK, self.user_key, USER);
            libc::syscall(libc::SYS_keyctl, UNLINK, self.key, SESSION);
        }
    }
}

impl World {
    pub fn new() -> World {
        let turn = machine::turn();
        let (folder, control) = (Folder::new(), Folder::new());
        // A pid comes again.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let number = std::process::id() ^ now.subsec_nanos();
        let tag = format!("rrapper-{number}");
        let in_dir = |dir: &str| {
            let made = tempfile::Builder::new().prefix(&tag).tempdir_in(dir);
            let made = made.unwrap_or_else(|e| panic!("{dir}: {e}"));
            open_to_all(made.path());
            made
        };
        // Somewhere no program writes; users have no such place.
        let target = env!("CARGO_TARGET_TMPDIR");
        let place = match tempfile::tempdir_in(target) {
            Ok(_) => in_dir(target),
            Err(_) => in_dir("/var/tmp"),
        };
        let (shm, var_tmp) = (in_dir("/dev/shm"), in_dir("/var/tmp"));
        for dir in ["files", "locks", "sockets", "mount", "plain"] {
            fs::create_dir(folder.join(dir)).unwrap();
        }
        for line in table::LINES.iter() {
            let name = line.name;
            let kind = name.split('-').next().unwrap();
            match kind {
                "file" | "agent" => prepare(&folder.join("files"), name),
                "shm" => prepare(shm.path(), name),
                "lock" => {
                    folder.write(&format!("locks/{name}"), KEPT);
                    fs::write(place.path().join(name), KEPT).unwrap();
                }
                _ => {}
            }
        }
        let sockets = folder.join("sockets");
        let at = |name: &str| sockets.join(name);
        let mut listeners: Vec<UnixListener> = ["absolute", "before", "moves", "packets"]
            .iter()
            .map(|name| listener(&at(name)))
            .collect();
        fs::rename(at("before"), at("renamed")).unwrap();
        fs::hard_link(at("absolute"), at("hard-link")).unwrap();
        std::os::unix::fs::symlink("absolute", at("symbolic")).unwrap();
        listeners.push(relative(&sockets, "relative"));
        for dir in [&shm, &var_tmp, &place] {
            listeners.push(listener(&dir.path().join("socket")));
        }
        let name = SocketAddr::from_abstract_name(&tag).unwrap();
        listeners.push(UnixListener::bind_addr(&name).unwrap());
        let tag_datagram = format!("{tag}-datagram");
        let name = SocketAddr::from_abstract_name(&tag_datagram).unwrap();
        let datagrams = vec![
            UnixDatagram::bind_addr(&name).unwrap(),
            UnixDatagram::bind(at("datagram")).unwrap(),
        ];
        open_to_all(&at("datagram"));
        let mut fifos = vec![fifo(&at("fifo"))];
        for dir in [&shm, &place] {
            fifos.push(fifo(&dir.path().join("fifo")));
        }
        let mut full_fifo = fifo(&at("full-fifo"));
        full_fifo.write_all(SECRET).unwrap();
        let mut tcp = vec![TcpListener::bind("0.0.0.0:0").unwrap()];
        tcp.extend(TcpListener::bind("[::1]:0"));
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();

        fs::copy("/bin/sleep", folder.join("victim")).unwrap();
        let mut command = folder.command("./victim");
        let victim = command.arg("100000").stdout(Stdio::null()).spawn().unwrap();
        let group = own_group().join(&tag);
        let in_group = fs::create_dir(&group)
            .and_then(|()| fs::write(group.join("cgroup.procs"), victim.id().to_string()));
        let victims_group = in_group.is_ok().then(|| group.clone());
        if victims_group.is_none() {
            let _ = fs::remove_dir(&group);
        }

        let mut ends = [0; 2];
        let none = std::ptr::null();
        // SAFETY: there is room for two descriptors.
        let ret = unsafe {
            libc::openpty(
                &raw mut ends[0],
                &raw mut ends[1],
                std::ptr::null_mut(),
                none,
                none.cast(),
            )
        };
        assert_eq!(ret, 0);
        // SAFETY: two new descriptors of ours.
        let [terminal, slave] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for end in [&terminal, &slave] {
            // SAFETY: fcntl(2) with numbers.
            unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        let pts = fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd())).unwrap();

        let held = File::open(folder.join("locks/lock-held")).unwrap();
        flock(&held).unwrap();
        let (ipc, keys) = (Ipc::new(&tag, number), Keys::new(&tag));
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let mut world: BTreeMap<&str, String> = BTreeMap::new();
        world.insert("cwd", text(folder.path()));
        world.insert("shm", text(shm.path()));
        world.insert("var-tmp", text(var_tmp.path()));
        world.insert("place", text(place.path()));
        world.insert("handle", handle(&folder.join("files/file-by-handle")));
        world.insert("shm-handle", handle(&shm.path().join("shm-by-handle")));
        world.insert("tag", tag);
        world.insert("tag-datagram", tag_datagram);
        let port = tcp[0].local_addr().unwrap().port().to_string();
        world.insert("tcp", port);
        let last = tcp.last().unwrap().local_addr().unwrap();
        world.insert("tcp6", last.port().to_string());
        world.insert("udp", udp.local_addr().unwrap().port().to_string());
        world.insert("lan", lan());
        world.insert("victim", victim.id().to_string());
        world.insert("tests", std::process::id().to_string());
        // SAFETY: getpgrp(2) takes nothing.
        world.insert("group", unsafe { libc::getpgrp() }.to_string());
        world.insert("ipc-key", ipc.key.to_string());
        world.insert("shm-id", ipc.shm.to_string());
        world.insert("msg-id", ipc.msg.to_string());
        world.insert("sem-id", ipc.sem.to_string());
        world.insert("session", keys.session.to_string());
        world.insert("key", keys.key.to_string());
        world.insert("user-key", keys.user_key.to_string());
        world.insert("cgroup", text(&own_group()));
        world.insert("victims-cgroup", text(&group));
        let pts = pts.file_name().unwrap().to_str().unwrap().to_string();
        world.insert("pts", pts);
        let world: Vec<String> = world.iter().map(|(k, v)| format!("{k} {v}\n")).collect();
        folder.write("world", world.concat());
        folder.write("word", "no");
        folder.write("input", "typed\n");

        for socket in &listeners {
            socket.set_nonblocking(true).unwrap();
        }
        for socket in &datagrams {
            socket.set_nonblocking(true).unwrap();
        }
        for socket in &tcp {
            socket.set_nonblocking(true).unwrap();
        }
        udp.set_nonblocking(true).unwrap();
        World {
            folder,
            control,
            shm,
            var_tmp,
            place,
            listeners,
            datagrams,
            tcp,
            udp,
            fifos,
            full_fifo,
            victim,
            victims_group,
            ipc,
            keys,
            terminal,
            slave,
            modes: None,
            _held: held,
            watcher: Watcher::new("/dev/full"),
            machine: None,
            turn: Some(turn),
        }
    }

    /// Has everything be as it is now, once all that the tests need is there.
    pub fn freeze(&mut self) {
        let trees = [
            self.folder.path(),
            self.shm.path(),
            self.var_tmp.path(),
            self.place.path(),
        ];
        let turn = self.turn.take().expect("it is frozen once");
        self.machine = Some(Machine::now(turn, &trees));
    }

    /// What the probes wait for: whether the locks that they hold are held on the machine, and new sockets.
    pub fn meanwhile(&mut self) -> Later {
        let mut seen = Vec::new();
        let names = table::group("locks");
        let names = names.map(|line| line.name);
        let names = names.filter(|name| name.starts_with("lock-") && *name != "lock-held");
        let dirs = [self.folder.join("locks"), self.place.path().into()];
        let paths = names.flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        for path in paths {
            if let Err(error) = lock(&path) {
                seen.push(format!("{} is locked: {error}", path.display()));
            }
        }
        let passwd = File::open("/etc/passwd").unwrap();
        if flock(&passwd).is_err() {
            seen.push("/etc/passwd is locked".into());
        }
        for path in [
            "/dev/full",
            "/sys/devices/system/cpu/online",
            "/proc/self/ns/uts",
        ] {
            if flock(&File::open(path).unwrap()).is_err() || has_ranges(path) {
                seen.push(format!("{path} is locked"));
            }
        }
        let sockets = self.folder.join("sockets");
        let dir = sockets.join("later-dir");
        fs::create_dir(&dir).unwrap();
        let places = [
            sockets.join("later"),
            dir.join("socket"),
            self.shm.path().join("later"),
            self.place.path().join("later"),
        ];
        let listeners: Vec<UnixListener> = places.iter().map(|path| listener(path)).collect();
        for socket in &listeners {
            socket.set_nonblocking(true).unwrap();
        }
        let fifo_places = [
            sockets.join("later-fifo"),
            self.place.path().join("later-fifo"),
        ];
        Later {
            fifos: fifo_places.iter().map(|path| fifo(path)).collect(),
            listeners,
            paths: places.into_iter().chain(fifo_places).collect(),
            dir,
            seen,
        }
    }

    /// Who was reached, and what has changed, since this was asked last.
    pub fn changes(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut came = |kind: &str, number: usize, error: Option<ErrorKind>| {
            if error != Some(ErrorKind::WouldBlock) {
                seen.push(format!("{kind} {number} was reached"));
            }
        };
        for (i, socket) in self.listeners.iter().enumerate() {
            came("listener", i, socket.accept().err().map(|e| e.kind()));
        }
        for (i, socket) in self.datagrams.iter().enumerate() {
            let error = socket.recv(&mut [0; 8]).err();
            came("datagram socket", i, error.map(|e| e.kind()));
        }
        for (i, socket) in self.tcp.iter().enumerate() {
            came("tcp", i, socket.accept().err().map(|e| e.kind()));
        }
        let error = self.udp.recv(&mut [0; 8]).err();
        came("udp", 0, error.map(|e| e.kind()));
        for (i, fifo) in self.fifos.iter_mut().enumerate() {
            let error = fifo.read(&mut [0; 8]).err();
            came("FIFO", i, error.map(|e| e.kind()));
        }
        let mut secret = [0; 16];
        let size = self.full_fifo.read(&mut secret).unwrap_or(0);
        if &secret[..size] != SECRET {
            seen.push("what was in a FIFO is gone".into());
        }
        self.full_fifo.write_all(SECRET).unwrap();
        if self.victim.try_wait().unwrap().is_some() {
            seen.push("the victim has ended".into());
        } else {
            seen.extend(self.victims_changes());
        }
        seen.extend(self.ipc.changes());
        seen.extend(self.keys.changes());
        let fd = self.terminal.as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } != 0 {
            seen.push("a terminal was written to".into());
        }
        let again = File::open(self.folder.join("locks/lock-held")).unwrap();
        if flock(&again).is_ok() {
            seen.push("our lock was lost".into());
        }
        if self.watcher.was_locked.swap(false, Ordering::Relaxed) {
            seen.push("a device was locked for a moment".into());
        }
        seen.extend(self.machine.as_mut().expect("frozen").changes());
        seen
    }

    /// Has somebody type a line at the terminal, which stays there to be read.
    pub fn type_in(&mut self) {
        let mut terminal = File::from(self.terminal.try_clone().unwrap());
        terminal.write_all(TYPED).unwrap();
        // The echo.
        let size = terminal.read(&mut [0; 64]).unwrap();
        assert_eq!(size, TYPED.len() + 1);
        self.modes = Some(self.modes());
    }

    /// Has the terminal be a command's input.
    pub fn on_terminal(&self, command: &mut Command) {
        command.stdin(self.slave.try_clone().unwrap());
    }

    /// What has changed at the terminal since somebody has typed there.
    pub fn terminals_changes(&self) -> Vec<String> {
        let mut seen = Vec::new();
        if self.modes.as_ref() != Some(&self.modes()) {
            seen.push("the terminal has other modes".into());
        }
        let mut waiting: libc::c_int = 0;
        // SAFETY: the kernel writes a number.
        unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        if waiting != TYPED.len() as i32 {
            seen.push("what was typed was taken".into());
        }
        seen
    }

    fn modes(&self) -> Vec<u8> {
        let fd = self.slave.as_raw_fd();
        let mut bytes = vec![0u8; size_of::<libc::termios>() + size_of::<libc::winsize>()];
        let (modes, window) = bytes.split_at_mut(size_of::<libc::termios>());
        // SAFETY: each has room for what the kernel writes.
        unsafe {
            libc::ioctl(fd, libc::TCGETS, modes.as_mut_ptr());
            libc::ioctl(fd, libc::TIOCGWINSZ, window.as_mut_ptr());
        }
        bytes
    }

    fn victims_changes(&self) -> Vec<String> {
        let pid = self.victim.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let seen = [
            (fields[0] == "S", "stopped"),
            (fields[16] == "0", "nice"),
            (fields[38] == "0", "scheduled otherwise"),
            (limits == own, "limited"),
        ];
        let seen = seen.iter().filter(|(holds, _)| !holds);
        seen.map(|(_, what)| format!("the victim is {what}"))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        if let Some(group) = &self.victims_group {
            // The kernel needs a moment until nobody is in it.
            for _ in 0..200 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

/// A probe's files.
fn prepare(dir: &Path, name: &str) {
    let at = |ending: &str| dir.join(format!("{name}{ending}"));
    for ending in ["", ".other"] {
        fs::write(at(ending), KEPT).unwrap();
    }
    fs::create_dir(at(".dir")).unwrap();
    fs::write(at(".dir").join("kept"), KEPT).unwrap();
    if name.ends_with("-rmdir") {
        fs::remove_file(at(".dir").join("kept")).unwrap();
    }
    std::os::unix::fs::symlink(name, at(".link")).unwrap();
    let path = path_of(&at(""));
    let value = b"kept";
    // SAFETY: the texts end with a zero byte, and the value is as long as is said.
    unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"user.kept".as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
}

/// Sockets and FIFOs that came later. Its end takes them away again.
pub struct Later {
    listeners: Vec<UnixListener>,
    fifos: Vec<File>,
    paths: Vec<PathBuf>,
    dir: PathBuf,
    /// Locks of the program that were seen on the machine.
    seen: Vec<String>,
}

impl Later {
    /// What was seen and who was reached, in the end.
    pub fn changes(mut self) -> Vec<String> {
        let mut seen = std::mem::take(&mut self.seen);
        let nothing = Some(ErrorKind::WouldBlock);
        for (i, socket) in self.listeners.iter().enumerate() {
            if socket.accept().err().map(|e| e.kind()) != nothing {
                seen.push(format!("later listener {i} was reached"));
            }
        }
        for (i, fifo) in self.fifos.iter_mut().enumerate() {
            if fifo.read(&mut [0; 8]).err().map(|e| e.kind()) != nothing {
                seen.push(format!("later FIFO {i} was reached"));
            }
        }
        seen
    }
}

/// Locks a file until it is closed, if nobody else has.
fn flock(file: &File) -> std::io::Result<()> {
    // SAFETY: a descriptor of ours.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Locks a file in every way, for a moment.
fn lock(path: &Path) -> std::io::Result<()> {
    let mut how = OpenOptions::new();
    // A lease would have it wait.
    how.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = how.open(path)?;
    flock(&file)?;
    // SAFETY: all zeros is a lock of the whole file, once it has its type.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    let fd = file.as_raw_fd();
    // SAFETY: a lock of ours, which ends with the descriptor.
    if unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Whether somebody has locked a range of a file.
fn has_ranges(path: &str) -> bool {
    let file = File::open(path).unwrap();
    // SAFETY: all zeros is a lock of the whole file, once it has its type.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    // SAFETY: asks about a lock.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    asked != 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// Looks all the time whether a device is locked, for a moment perhaps.
struct Watcher {
    is_over: Arc<AtomicBool>,
    was_locked: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn new(path: &'static str) -> Watcher {
        let [is_over, was_locked] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (over, locked) = (Arc::clone(&is_over), Arc::clone(&was_locked));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if has_ranges(path) {
                    locked.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(std::time::Duration::from_micros(10));
            }
        });
        Watcher {
            is_over,
            was_locked,
            thread: Some(thread),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
