//! What calls need: descriptors of every kind, files, children, signals that interrupt. Everything is the child
//! process's own and goes with it; what would stay behind is given an undoing.

use super::arena::Arena;
use std::cell::Cell;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::IntoRawFd;

/// The preparation of one call.
pub struct Setup {
    pub arena: Arena,
    undo: Vec<Box<dyn FnOnce(i64)>>,
    /// Whether this machine does not have what the case needs, or not for this user.
    lacking: Cell<bool>,
}

/// A descriptor as an argument.
pub fn arg(fd: i32) -> u64 {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    fd as u64
}

/// `AT_FDCWD`.
pub const HERE: u64 = libc::AT_FDCWD as u64;

extern "C" fn nothing(_: i32) {}

impl Setup {
    pub fn new(arena: Arena) -> Setup {
        let undo = Vec::new();
        let lacking = Cell::new(false);
        Setup {
            arena,
            undo,
            lacking,
        }
    }

    /// A descriptor for what this machine does not have, or not for this user: it knows neither the requests nor the
    /// options of any device or protocol.
    pub fn stand_in(&self) -> u64 {
        self.lacking.set(true);
        self.stream().0
    }

    /// Whether something had to stand in.
    pub fn is_lacking(&self) -> bool {
        self.lacking.get()
    }

    /// To be done after the call, with its return value.
    pub fn after(&mut self, undo: impl FnOnce(i64) + 'static) {
        self.undo.push(Box::new(undo));
    }

    pub fn clean(self, ret: i64) {
        self.undo.into_iter().for_each(|undo| undo(ret));
    }

    /// A call whose result is no more than needed.
    pub fn call(&self, nr: i64, args: &[u64]) -> i64 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e, f] = all;
        // SAFETY: the cases pass pointers to buffers that are as large as the call is told.
        unsafe { libc::syscall(nr, a, b, c, d, e, f) }
    }

    pub fn out(&mut self, len: usize) -> u64 {
        self.arena.out(len)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        self.arena.with(bytes)
    }

    pub fn ints(&mut self, values: &[i32]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.arena.with(&bytes)
    }

    pub fn longs(&mut self, values: &[u64]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.arena.with(&bytes)
    }

    /// A string, or a path in the case's folder.
    pub fn path(&mut self, text: &str) -> u64 {
        self.arena
            .with(CString::new(text).unwrap().as_bytes_with_nul())
    }

    /// A path to a new file with a few bytes in it.
    pub fn some_file(&mut self) -> u64 {
        std::fs::write("file", "some contents\n").unwrap();
        self.path("file")
    }

    /// A path to a new folder.
    pub fn some_dir(&mut self) -> u64 {
        std::fs::create_dir("dir").unwrap();
        self.path("dir")
    }

    /// A path to a new symbolic link.
    pub fn some_link(&mut self) -> u64 {
        std::os::unix::fs::symlink("file", "link").unwrap();
        self.path("link")
    }

    /// A file with these contents, open for both, at its beginning.
    pub fn file(&self, contents: &[u8]) -> u64 {
        std::fs::write("file", contents).unwrap();
        let file = File::options().read(true).write(true).open("file").unwrap();
        arg(file.into_raw_fd())
    }

    /// The case's folder, with things in it.
    pub fn dir(&self) -> u64 {
        std::fs::write("file", "x").unwrap();
        std::fs::create_dir("a folder with a long name").unwrap();
        std::os::unix::fs::symlink("nowhere", "link").unwrap();
        arg(File::open(".").unwrap().into_raw_fd())
    }

    pub fn open(&self, path: &str) -> u64 {
        arg(File::open(path).unwrap().into_raw_fd())
    }

    pub fn pipe(&self) -> (u64, u64) {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        (arg(ends[0]), arg(ends[1]))
    }

    pub fn pipe_of(&self, bytes: &[u8]) -> u64 {
        let (reader, writer) = self.pipe();
        self.write(writer, bytes);
        reader
    }

    pub fn write(&self, fd: u64, bytes: &[u8]) {
        // SAFETY: the bytes are there.
        let wrote = unsafe { libc::write(fd as i32, bytes.as_ptr().cast(), bytes.len()) };
        assert_eq!(wrote, bytes.len() as isize);
    }

    pub fn pair(&self, domain: i32, kind: i32) -> (u64, u64) {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        let made = unsafe { libc::socketpair(domain, kind, 0, ends.as_mut_ptr()) };
        assert_eq!(made, 0);
        (arg(ends[0]), arg(ends[1]))
    }

    pub fn stream(&self) -> (u64, u64) {
        self.pair(libc::AF_UNIX, libc::SOCK_STREAM)
    }

    pub fn socket(&self, domain: i32, kind: i32) -> u64 {
        // SAFETY: nothing is passed by address.
        arg(unsafe { libc::socket(domain, kind, 0) })
    }

    /// A UDP socket bound to a port of the loopback's, and the bytes of its address.
    pub fn udp(&self) -> (u64, [u8; 16]) {
        self.bound(libc::SOCK_DGRAM)
    }

    fn bound(&self, kind: i32) -> (u64, [u8; 16]) {
        let fd = self.socket(libc::AF_INET, kind);
        let mut address = [0u8; 16];
        address[0] = 2;
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        let mut len = 16;
        // SAFETY: sixteen bytes are there, and room for as many.
        unsafe {
            assert_eq!(libc::bind(fd as i32, address.as_ptr().cast(), 16), 0);
            assert_eq!(
                libc::getsockname(fd as i32, address.as_mut_ptr().cast(), &mut len),
                0
            );
        }
        (fd, address)
    }

    /// A listening TCP socket to which someone has connected: listener, client.
    pub fn tcp(&self) -> (u64, u64) {
        let (listener, address) = self.bound(libc::SOCK_STREAM);
        let client = self.socket(libc::AF_INET, libc::SOCK_STREAM);
        // SAFETY: sixteen bytes are there.
        unsafe {
            assert_eq!(libc::listen(listener as i32, 5), 0);
            assert_eq!(libc::connect(client as i32, address.as_ptr().cast(), 16), 0);
        }
        (listener, client)
    }

    /// Two connected TCP sockets.
    pub fn connected(&self) -> (u64, u64) {
        let (listener, client) = self.tcp();
        // SAFETY: no address is asked for.
        let server =
            unsafe { libc::accept(listener as i32, std::ptr::null_mut(), std::ptr::null_mut()) };
        (client, arg(server))
    }

    /// A UDP socket at which a datagram has arrived.
    pub fn datagram(&self, bytes: &[u8]) -> u64 {
        let (receiver, address) = self.udp();
        let (sender, _) = self.udp();
        self.send_to(sender, bytes, &address);
        receiver
    }

    pub fn send_to(&self, fd: u64, bytes: &[u8], address: &[u8]) {
        let len = address.len() as u32;
        let (data, to) = (bytes.as_ptr().cast(), address.as_ptr().cast());
        // SAFETY: the bytes and the address are there.
        let sent = unsafe { libc::sendto(fd as i32, data, bytes.len(), 0, to, len) };
        assert_eq!(
            sent,
            bytes.len() as isize,
            "{}",
            std::io::Error::last_os_error()
        );
    }

    pub fn option(&self, fd: u64, level: i32, name: i32, value: i32) {
        let at: *const i32 = &value;
        // SAFETY: four bytes are there.
        let done = unsafe { libc::setsockopt(fd as i32, level, name, at.cast(), 4) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// A pseudo terminal: its master and its other end.
    pub fn pty(&self) -> (u64, u64) {
        // SAFETY: nothing is passed by address but a buffer with room for 64 bytes.
        unsafe {
            let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
            arg(master);
            assert_eq!(libc::grantpt(master), 0);
            assert_eq!(libc::unlockpt(master), 0);
            let mut name = [0; 64];
            assert_eq!(libc::ptsname_r(master, name.as_mut_ptr(), 64), 0);
            let slave = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
            (arg(master), arg(slave))
        }
    }

    /// A pseudo terminal that is this process's own terminal.
    pub fn terminal(&self) -> (u64, u64) {
        let (master, slave) = self.pty();
        // SAFETY: nothing is passed by address.
        unsafe {
            assert!(libc::setsid() > 0);
            assert_eq!(libc::ioctl(slave as i32, libc::TIOCSCTTY, 0), 0);
        }
        (master, slave)
    }

    /// Puts the process into a network of its own, in which it has all rights, where it may do so.
    pub fn own_network(&self) -> bool {
        let (network, user) = (libc::CLONE_NEWNET as u64, libc::CLONE_NEWUSER as u64);
        self.call(libc::SYS_unshare, &[network]) == 0
            || self.call(libc::SYS_unshare, &[user | network]) == 0
    }

    /// A vector of these buffers.
    pub fn vector(&mut self, parts: &[(u64, u64)]) -> u64 {
        let flat: Vec<u64> = parts.iter().flat_map(|&(base, len)| [base, len]).collect();
        self.longs(&flat)
    }

    /// A message header: name and its length, vector and its length, control data and its length.
    pub fn message(&mut self, parts: [u64; 6]) -> u64 {
        let mut words = parts.to_vec();
        words.push(0);
        self.longs(&words)
    }

    /// A new descriptor by a call without pointers.
    pub fn fd(&self, nr: i64, args: &[u64]) -> u64 {
        arg(self.call(nr, args) as i32)
    }

    /// A timer that does nothing when it expires.
    pub fn timer(&mut self) -> u64 {
        let id = self.ints(&[0]);
        let quiet = self.bytes(&{
            let mut event = [0u8; 64];
            event[12] = 1; // SIGEV_NONE
            event
        });
        assert_eq!(self.call(libc::SYS_timer_create, &[1, quiet, id]), 0);
        let mut bytes = [0; 4];
        rrapper::syscall::Memory::read(&super::arena::Now, id, &mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    }

    /// From soon on, signals that interrupt calls.
    pub fn interrupt(&self) {
        // SAFETY: the handler does nothing, and the structures are whole.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            assert_eq!(
                libc::sigaction(libc::SIGVTALRM, &action, std::ptr::null_mut()),
                0
            );
            assert_eq!(
                libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()),
                0
            );
            let often = libc::timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            };
            let timer = libc::itimerval {
                it_interval: often,
                it_value: often,
            };
            assert_eq!(
                libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &timer, 0),
                0
            );
        }
    }

    /// Blocks a signal and, where asked to, makes it pending.
    pub fn block(&self, signal: i32, pending: bool) {
        // SAFETY: the set is whole.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigaddset(&mut set, signal);
            assert_eq!(
                libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()),
                0
            );
            if pending {
                assert_eq!(libc::kill(libc::getpid(), signal), 0);
            }
        }
    }

    /// A set of one signal.
    pub fn signals(&mut self, signal: i32) -> u64 {
        self.longs(&[1 << (signal - 1)])
    }

    /// A child that ends with this status at once.
    pub fn child(&self, status: i32) -> u64 {
        // SAFETY: the child only ends.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(status),
                child => arg(child),
            }
        }
    }

    /// A child that stays until the call is over.
    pub fn waiting_child(&mut self) -> u64 {
        // SAFETY: the child only waits.
        let child = unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(20);
                    libc::pause();
                    libc::_exit(0)
                }
                child => arg(child),
            }
        };
        self.after(move |_| {
            // SAFETY: our child.
            unsafe {
                libc::kill(child as i32, libc::SIGKILL);
                libc::waitpid(child as i32, std::ptr::null_mut(), 0);
            }
        });
        child
    }

    /// A page of this process's.
    pub fn page(&self) -> u64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, 3, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        page as u64
    }
}
