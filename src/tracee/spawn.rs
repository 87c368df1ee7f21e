//! Starts programs under trace.

use super::task::{Running, Stop, Stopped};
use super::{Error, Result, agent, filter, open_file_limit, pin, proc, sys};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeWriter, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The source of a program's standard input.
#[derive(Debug, Default)]
pub enum Stdin {
    /// rrapper's standard input. A program that is started live reads a copy of it, through a pipe.
    #[default]
    Inherit,
    /// `/dev/null`.
    Nothing,
    /// This file; a program that is started live reads a copy of it, through a pipe.
    File(File),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A new terminal, which is also standard output and error, and the program's controlling terminal. These bytes are
    /// typed at it, and then the end of the file. Only for programs that are started live.
    Terminal(Vec<u8>),
}

/// The parent of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kin {
    /// The calling process.
    #[default]
    Child,
    /// The parent of the calling process; the program is in that one's process group.
    Sibling,
}

/// A program to start: the arguments of execve(2), and the setup before it.
#[derive(Debug, Default)]
pub struct Command {
    /// The program's file.
    pub exe: PathBuf,
    /// Its arguments, with its name first.
    pub argv: Vec<Vec<u8>>,
    /// Its environment, each as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The directory to start in; by default rrapper's.
    pub cwd: Option<PathBuf>,
    /// Standard input.
    pub stdin: Stdin,
    /// The namespaces that it runs in; by default rrapper's.
    pub inside: Option<Inside>,
}

/// The namespaces of another process, which a program enters before it is executed.
#[derive(Debug)]
pub struct Inside {
    /// That process (pidfd_open(2)).
    pub process: OwnedFd,
    /// The kinds of namespaces (`CLONE_NEW…`).
    pub namespaces: i32,
    /// The name of its session keyring there, which is new or there already.
    pub keyring: CString,
    /// The capabilities that it keeps there.
    pub capabilities: u64,
}

/// An inherited directory, which has to be opened again in other mounts: it leads to the files of those in which it was
/// opened.
struct InheritedDir {
    fd: RawFd,
    path: CString,
}

impl InheritedDir {
    /// The directories that programs inherit from the caller.
    fn all() -> Result<Vec<InheritedDir>> {
        let descriptors = proc::descriptors(own_pid())?.into_iter();
        let kept = descriptors.filter(|open| open.flags & libc::O_CLOEXEC == 0);
        let is_dir = |fd: RawFd| {
            let meta = std::fs::metadata(format!("/proc/self/fd/{fd}"));
            meta.is_ok_and(|meta| meta.is_dir())
        };
        kept.filter(|open| is_dir(open.fd))
            .map(|open| {
                let path = c_string("the path of a directory", &open.path)?;
                Ok(InheritedDir { fd: open.fd, path })
            })
            .collect()
    }
}

/// The data of the child, allocated before the fork: afterwards it may only make system calls.
struct Child {
    exe: Executable,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
    stdin: Option<OwnedFd>,
    /// The standard streams, where all three are given.
    streams: Option<[OwnedFd; 3]>,
    detached: bool,
    filtered: bool,
    kin: Kin,
    tracer: libc::c_int,
    inside: Option<Inside>,
    dirs: Vec<InheritedDir>,
    /// The process group to join.
    group: Option<i32>,
    /// The CPUs that the program may use, as a mask; empty for those of the tracer.
    cpus: Vec<u8>,
}

enum Executable {
    Path(CString),
    Image(OwnedFd),
}

/// The exit status of a child whose setup failed before its execve.
const SETUP_FAILED: i32 = 125;

fn c_string(what: &str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it has a NUL byte in it");
        Error::os(format!("pass {what} to the program"), 0, source)
    })
}

fn c_strings(what: &str, list: &[Vec<u8>]) -> Result<Vec<CString>> {
    list.iter().map(|bytes| c_string(what, bytes)).collect()
}

/// An anonymous file with this content, to be read from its start.
///
/// # Errors
/// If the kernel refuses.
pub fn memfd(name: &str, content: &[u8]) -> Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    // A kernel before 6.3 does not know MFD_EXEC, and needs none.
    let fd = memfd_create(
        name,
        MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(libc::MFD_EXEC),
    )
    .or_else(|_| memfd_create(name, MFdFlags::MFD_CLOEXEC))
    .map_err(|e| Error::os("make an anonymous file", 0, e))?;
    let mut file = File::from(fd);
    file.write_all(content)
        .and_then(|()| file.rewind())
        .map_err(|e| Error::os("fill an anonymous file", 0, e))?;
    Ok(file.into())
}

/// An input without data.
///
/// # Errors
/// If it cannot be opened.
pub fn nothing() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// Starts a program; it stands at the entry of its first execve(2).
///
/// # Errors
/// If the process cannot be made or traced.
pub fn start(command: Command) -> Result<Stopped> {
    start_as(command, Kin::Child)
}

/// Starts a program as the calling process's child or its sibling. A sibling's parent must reap it, too.
///
/// # Errors
/// As for [`start`].
pub fn start_as(mut command: Command, kin: Kin) -> Result<Stopped> {
    let stdin = match std::mem::take(&mut command.stdin) {
        Stdin::Inherit => None,
        Stdin::Nothing => Some(nothing().map_err(|e| Error::os("open /dev/null", 0, e))?),
        Stdin::File(file) => Some(file.into()),
        Stdin::Bytes(bytes) => Some(memfd("stdin", &bytes)?),
        Stdin::Terminal(_) => {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            return Err(Error::os("give a recorded program a terminal", 0, source));
        }
    };
    launch(&Child {
        stdin,
        kin,
        filtered: true,
        ..Child::of(command)?
    })
}

/// Starts a program whose calls do not stop it, on all CPUs, with nothing as its input, in this process group. It stands at
/// its execve(2).
///
/// # Errors
/// If the process cannot be made or traced.
pub fn start_unwatched(command: Command, group: i32) -> Result<Stopped> {
    let stdin = nothing().map_err(|e| Error::os("open /dev/null", 0, e))?;
    launch(&Child {
        stdin: Some(stdin),
        group: Some(group),
        cpus: pin::mask_before(),
        ..Child::of(command)?
    })
}

impl Child {
    /// A child that executes a program, with the standard streams of the caller, and is otherwise as it is.
    fn of(command: Command) -> Result<Child> {
        // Its directory is looked up once more in other mounts.
        let cwd = match (&command.cwd, &command.inside) {
            (None, None) => None,
            (Some(dir), None) => Some(dir.clone()),
            (dir, Some(_)) => {
                let here = std::env::current_dir();
                let here = here.map_err(|e| Error::os("learn its directory", 0, e))?;
                Some(dir.as_ref().map_or(here.clone(), |dir| here.join(dir)))
            }
        };
        let cwd = cwd.map(|dir| c_string("its directory", dir.as_os_str().as_bytes()));
        Ok(Child {
            exe: Executable::Path(c_string("its path", command.exe.as_os_str().as_bytes())?),
            argv: c_strings("an argument", &command.argv)?,
            env: c_strings("an environment variable", &command.env)?,
            cwd: cwd.transpose()?,
            stdin: None,
            streams: None,
            detached: false,
            filtered: false,
            kin: Kin::Child,
            tracer: own_pid(),
            dirs: match command.inside {
                Some(_) => InheritedDir::all()?,
                None => Vec::new(),
            },
            inside: command.inside,
            group: None,
            cpus: Vec::new(),
        })
    }
}

/// The name of the memory file that empty processes execute.
const EMPTY: &str = "rrapper";

/// The target of the link to it in `/proc`.
pub const EMPTY_EXE: &[u8] = b"/memfd:rrapper (deleted)";

/// Starts an empty process, with the agent and the kernel's mappings as its only memory, without files, in a new
/// session. It stands at the exit of its execve(2).
///
/// # Errors
/// If the process cannot be made or traced.
pub fn start_empty() -> Result<Stopped> {
    empty(b"rrapper-replay", true, None)
}

/// Starts an empty process without the filter that stops its calls, and without traps for the time stamp counter. Code
/// of a recording must never run in it.
///
/// # Errors
/// As for [`start_empty`].
pub fn start_unfiltered() -> Result<Stopped> {
    empty(b"rrapper-sandbox", false, None)
}

/// Starts an unfiltered empty process with these standard streams, for executing a program: see [`super::exec`].
///
/// # Errors
/// As for [`start_empty`].
pub fn start_shell(streams: [OwnedFd; 3]) -> Result<Stopped> {
    empty(b"rrapper-live", false, Some(streams))
}

fn empty(name: &[u8], filtered: bool, streams: Option<[OwnedFd; 3]>) -> Result<Stopped> {
    let task = launch(&Child {
        exe: Executable::Image(memfd(EMPTY, &agent::elf())?),
        argv: vec![c_string("its name", name)?],
        env: Vec::new(),
        cwd: None,
        stdin: None,
        streams,
        detached: true,
        filtered,
        kin: Kin::Child,
        tracer: own_pid(),
        inside: None,
        dirs: Vec::new(),
        group: None,
        cpus: Vec::new(),
    })?;
    let tid = task.tid();
    let what = "start an empty process";
    let (mut task, stop) = match filtered {
        true => task.resume()?.wait()?.stopped(what, tid)?,
        // The task stands at its execve(2) already.
        false => (task, Stop::Exec),
    };
    // The exec stop is inside the call: go on to its exit.
    let stop = match stop {
        Stop::Exec => task.to_exit()?,
        other => other,
    };
    match stop {
        Stop::Syscall => Ok(task),
        other => Err(Error::Unexpected {
            what,
            tid,
            stop: format!("{other:?}"),
        }),
    }
}

fn launch(child: &Child) -> Result<Stopped> {
    pin::this_thread()?;
    let files = open_file_limit::for_programs();
    proc::is_ours()?;
    let (gate, opener) = io::pipe().map_err(|e| Error::os("make a pipe", 0, e))?;
    let argv = pointers(&child.argv);
    let env = pointers(&child.env);
    // Until its execve, the child has our signal handlers, which would take its signals for ours.
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|e| Error::os("block signals", 0, e))?;
    let pid = match child.kin {
        // SAFETY: the child only makes system calls on memory prepared before the fork
        // (see `run_child`), so it does not matter which locks other threads held.
        Kin::Child => unsafe { libc::fork() },
        // SAFETY: the same; the child has a copy of this stack, as after fork(2).
        Kin::Sibling => unsafe {
            let flags = libc::CLONE_PARENT | libc::SIGCHLD;
            libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t
        },
    };
    if pid == 0 {
        run_child(
            child,
            &argv,
            &env,
            &mask,
            files.as_ref(),
            gate.as_raw_fd(),
            opener.as_raw_fd(),
        );
    }
    let failed = (pid < 0).then(|| Error::last("make a process", 0));
    mask.thread_set_mask()
        .map_err(|e| Error::os("unblock signals", 0, e))?;
    if let Some(error) = failed {
        return Err(error);
    }
    drop(gate);
    let first = match child.filtered {
        true => Stop::Entry,
        false => Stop::Exec,
    };
    let (task, came) = seize(pid, opener, first)?;
    // Earlier signals are for the program; an empty process gets none.
    for signal in came.into_iter().filter(|_| !child.detached) {
        task.send(signal);
    }
    Ok(task)
}

/// Lets the process run up to its first stop. Also returns the signals that came meanwhile, such as a terminal's to the
/// whole group.
fn seize(pid: i32, mut gate: PipeWriter, first: Stop) -> Result<(Stopped, Vec<i32>)> {
    let task = Running::adopt(pid);
    sys::seize(pid)?;
    gate.write_all(b"!")
        .map_err(|e| Error::os("start the traced process", pid, e))?;
    drop(gate);
    let what = "start the program";
    let (mut task, mut stop) = task.wait()?.stopped(what, pid)?;
    let mut came = Vec::new();
    while let Stop::Signal(signal) = stop
        && !task.siginfo()?.is_fault()
    {
        came.push(signal);
        (task, stop) = task.resume()?.wait()?.stopped(what, pid)?;
    }
    match stop {
        stop if stop == first => Ok((task, came)),
        other => Err(Error::Unexpected {
            what,
            tid: pid,
            stop: format!("{other:?}"),
        }),
    }
}

fn own_pid() -> libc::c_int {
    // SAFETY: getpid(2) has no arguments.
    unsafe { libc::getpid() }
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    let mut pointers: Vec<_> = list.iter().map(|s| s.as_ptr()).collect();
    pointers.push(std::ptr::null());
    pointers
}

/// The code of the child between fork and exec: system calls only, no allocation, no locks, no panics.
fn run_child(
    child: &Child,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
    mask: &SigSet,
    files: Option<&libc::rlimit>,
    gate: RawFd,
    opener: RawFd,
) -> ! {
    // SAFETY: every pointer passed below is to memory that was made before the fork and is alive;
    // the calls are async-signal-safe.
    unsafe {
        default_signals(mask, child.detached);
        libc::close(opener);
        if let Some(files) = files {
            libc::setrlimit(libc::RLIMIT_NOFILE, files);
        }
        if child.kin == Kin::Sibling {
            // With Yama, allows this tracer; without Yama the prctl fails and is not needed.
            libc::prctl(libc::PR_SET_PTRACER, child.tracer as libc::c_ulong, 0, 0, 0);
            // The tracer may be in another process group.
            if libc::setpgid(0, libc::getpgid(libc::getppid())) != 0 {
                libc::_exit(SETUP_FAILED);
            }
        }
        if let Some(group) = child.group
            && libc::setpgid(0, group) != 0
        {
            libc::_exit(SETUP_FAILED);
        }
        let mut byte = 0u8;
        // The tracer opens the gate; if it died, the pipe ends and so do we.
        if libc::read(gate, (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(SETUP_FAILED);
        }
        if let Some(inside) = &child.inside
            && !enter(inside, &child.dirs)
        {
            libc::_exit(SETUP_FAILED);
        }
        if let Some(dir) = &child.cwd
            && libc::chdir(dir.as_ptr()) != 0
        {
            libc::_exit(SETUP_FAILED);
        }
        if let Some(stdin) = &child.stdin
            && libc::dup2(stdin.as_raw_fd(), 0) != 0
        {
            libc::_exit(SETUP_FAILED);
        }
        if child.detached {
            libc::setsid();
            gives_way();
            let mut first_closed = 0;
            if let Some(streams) = &child.streams {
                for (stream, at) in streams.iter().zip(0..) {
                    if libc::dup2(stream.as_raw_fd(), at) != at {
                        libc::_exit(SETUP_FAILED);
                    }
                }
                first_closed = 3;
            }
            libc::syscall(
                libc::SYS_close_range,
                first_closed,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
        }
        if child.detached {
            dump_no_core();
        }
        if child.filtered && child.detached {
            lift_limits();
        }
        if !child.filtered && !child.detached {
            libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_ENABLE, 0, 0, 0);
        }
        if !child.cpus.is_empty() {
            let (len, mask) = (child.cpus.len(), child.cpus.as_ptr());
            libc::syscall(libc::SYS_sched_setaffinity, 0, len, mask);
        }
        if child.filtered
            && (libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0) != 0
                || filter::install() != 0)
        {
            libc::_exit(SETUP_FAILED);
        }
        match &child.exe {
            Executable::Path(path) => {
                libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr());
            }
            Executable::Image(fd) => {
                libc::syscall(
                    libc::SYS_execveat,
                    fd.as_raw_fd(),
                    c"".as_ptr(),
                    argv.as_ptr(),
                    env.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        libc::_exit(SETUP_FAILED);
    }
}

/// Resets the signal state that the Rust runtime and rrapper set: handlers (exec resets them, but signals may come
/// before), SIGPIPE, which Rust ignores, and the mask.
///
/// Ignored signals stay ignored, unless `all`: an empty process inherits none.
///
/// # Safety
/// Only between fork and exec.
unsafe fn default_signals(mask: &SigSet, all: bool) {
    const LAST: libc::c_int = 64;
    // SAFETY: sigaction(2) and sigprocmask(2) with valid arguments; a zeroed sigaction is a valid one.
    unsafe {
        for signal in 1..=LAST {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
                && (all || action.sa_sigaction != libc::SIG_IGN)
                && action.sa_sigaction != libc::SIG_DFL
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, mask.as_ref(), std::ptr::null_mut());
    }
}

/// Enters the namespaces of another process, without the privileges there that it should not have. Returns whether that
/// succeeded.
///
/// # Safety
/// Only between fork and exec.
unsafe fn enter(inside: &Inside, dirs: &[InheritedDir]) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let kept = [
        inside.capabilities as u32,
        (inside.capabilities >> 32) as u32,
    ];
    // struct __user_cap_header_struct; then effective, permitted and inheritable, of the lower 32 and of the upper ones.
    let header = [VERSION_3, 0];
    let sets = [kept[0], kept[0], 0, kept[1], kept[1], 0];
    // SAFETY: calls with numbers, and with memory that lives for them.
    unsafe {
        let process = inside.process.as_raw_fd();
        if libc::setns(process, inside.namespaces) != 0 {
            return false;
        }
        for dir in dirs {
            let how = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            let new = libc::open(dir.path.as_ptr(), how);
            if new < 0 || libc::dup2(new, dir.fd) != dir.fd {
                libc::close(dir.fd);
            }
            if new >= 0 {
                libc::close(new);
            }
        }
        // Refused where a filter forbids the call, as to the programs then.
        let name = inside.keyring.as_ptr();
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name);
        // No executed program regains a capability. The change of namespaces has made the process undumpable, which keeps
        // its tracer from its files in /proc.
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) == 0
            && libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
    }
}

/// Limits core files to one byte: none is written, and the program of the system that gets core dumps is not started,
/// which a limit of 0 does not achieve (core(5)). Errors are ignored: only privileges raise a hard limit of 0.
///
/// # Safety
/// Only between fork and exec.
unsafe fn dump_no_core() {
    static NONE: libc::rlimit = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    // SAFETY: setrlimit(2) with a structure that lives for good.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const NONE) };
}

/// Removes limits on memory that rrapper was started with: the recorded program had its memory.
///
/// # Safety
/// Only between fork and exec.
unsafe fn lift_limits() {
    for resource in [libc::RLIMIT_AS, libc::RLIMIT_DATA] {
        // SAFETY: getrlimit(2) and setrlimit(2) with a structure that lives for both.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            if libc::getrlimit(resource, &raw mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(resource, &raw const limit);
            }
        }
    }
}

/// Makes the process the first victim where memory runs out (`oom_score_adj`), since a recording may ask for all
/// memory. Errors are ignored.
///
/// # Safety
/// Only between fork and exec.
unsafe fn gives_way() {
    const MOST: &[u8] = b"1000";
    // SAFETY: open(2), write(2) and close(2) with memory that lives for good.
    unsafe {
        let how = libc::O_WRONLY | libc::O_CLOEXEC;
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), how);
        if fd >= 0 {
            libc::write(fd, MOST.as_ptr().cast(), MOST.len());
            libc::close(fd);
        }
    }
}

/// Opens a process (pidfd_open(2)).
///
/// # Errors
/// If it is gone.
pub fn open_process(pid: i32) -> Result<OwnedFd> {
    // SAFETY: the call only takes numbers; the descriptor that it returns is owned at once. It is closed on exec.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd {
            failed if failed < 0 => Err(Error::last("open a descriptor for it", pid)),
            process => Ok(OwnedFd::from_raw_fd(process)),
        }
    }
}

/// Duplicates a descriptor of another process into rrapper (pidfd_getfd(2)).
///
/// # Errors
/// If the kernel refuses.
pub fn borrow_fd(pid: i32, fd: i32) -> Result<File> {
    let pidfd = open_process(pid)?;
    // SAFETY: as above.
    let file = unsafe {
        let got = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) as RawFd;
        if got < 0 {
            return Err(Error::last(format!("borrow its descriptor {fd}"), pid));
        }
        File::from_raw_fd(got)
    };
    Ok(file)
}
