//! Locks and leases: those of files that the machine has, too, would block its programs.
//!
//! Files below an overlay are the sandbox's own, and the kernel keeps their locks. Devices, files of `/sys`, namespaces and
//! the kernel's anonymous files are the machine's: their locks are kept in a table. Each owner of a lock has an open file
//! of rrapper's there, on which the kernel keeps the lock for it: so it is the kernel that says which locks conflict.
//! Owners that are gone are noticed when a lock of theirs is in the way.
//!
//! Where tasks share descriptors, one can put another file at the descriptor of another's call before the kernel looks. So from
//! the first such call on, the kernel makes no call about ranges for any process of the run: all are in the table, with
//! those that the kernel has kept for them until then. What it keeps of the sandbox's own files is in nobody's way.

use super::counted::on_their_way;
use crate::constants::Answer;
use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;
use crate::inject::live::task::Task;
use crate::tracee::filter::{StopRule, Test};
use crate::tracee::proc::{self, Descriptor};
use crate::tracee::{Running, Stopped, file_lock, kcmp, spawn, tsc_off};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{FsType, statfs};
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

/// The call about locks of whole files.
pub(super) const CALLS: &[i64] = &[libc::SYS_flock];

/// `F_SETDELEG` (linux/fcntl.h).
const F_SETDELEG: i32 = 1024 + 16;

/// The commands of fcntl(2) about locks and leases.
pub(super) const RULES: &[StopRule] = &[
    rule(&[Test::Is(1, libc::F_GETLK as u32)]),
    rule(&[Test::Is(1, libc::F_SETLK as u32)]),
    rule(&[Test::Is(1, libc::F_SETLKW as u32)]),
    rule(&[Test::Is(1, libc::F_OFD_GETLK as u32)]),
    rule(&[Test::Is(1, libc::F_OFD_SETLK as u32)]),
    rule(&[Test::Is(1, libc::F_OFD_SETLKW as u32)]),
    rule(&[Test::Is(1, libc::F_SETLEASE as u32)]),
    rule(&[Test::Is(1, F_SETDELEG as u32)]),
];

const fn rule(when: &'static [Test]) -> StopRule {
    StopRule {
        nr: libc::SYS_fcntl,
        when,
    }
}

/// The interval at which a task looks again that waits for a lock.
const AGAIN: Duration = Duration::from_millis(2);

/// The limit on the owners of locks.
const MOST: usize = 256;

/// The type of the file system of pipes, and that of sockets (linux/magic.h).
const PIPES: FsType = FsType(0x5049_5045);
const SOCKETS: FsType = FsType(0x534f_434b);

/// The locks of the machine's files that a run has.
#[derive(Default)]
pub(in crate::inject::live) struct Locks {
    owners: Vec<Owner>,
    /// The number of the next owner.
    next: u64,
    /// The mounts of the sandbox's own files, by number.
    own_mounts: HashSet<u64>,
    ranges: Ranges,
}

/// Who keeps the locks of ranges of the sandbox's own files.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ranges {
    #[default]
    Kernel,
    /// The table, once the calls are over that the kernel is making.
    Changing,
    Table,
}

/// A task that has locks.
#[derive(Clone, Copy)]
struct Holder {
    /// The kernel's numbers.
    process: i32,
    tid: i32,
    /// The program's number of the process.
    pid: i32,
}

/// An owner of locks of a file.
struct Owner {
    number: u64,
    at: Place,
    who: Who,
    /// Has the same locks.
    proxy: File,
}

/// The file, by device and inode, and whether it is about locks of flock(2), which know nothing of the others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    file: (u64, u64),
    is_flock: bool,
}

/// Who has a lock.
enum Who {
    /// An open file: a descriptor of rrapper's for it.
    OpenFile(File),
    /// A process, and the descriptors that it had for the file when it last took a lock: once it has closed one of them, it
    /// has none of its locks any more.
    Process {
        /// The kernel's number.
        process: i32,
        /// The program's number.
        pid: i32,
        /// The descriptors.
        files: Vec<i32>,
    },
}

/// What becomes of a call about a lock.
pub(in crate::inject::live) enum Locking {
    /// The kernel makes it.
    Kernel,
    /// It is answered.
    Done(Answer),
    /// It waits: the task looks again then.
    Waits(Instant),
    /// A signal is there for the task, which waits.
    Interrupted,
}

/// A call about a lock.
#[derive(Clone, Copy)]
struct Request {
    command: Command,
    waits: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    /// flock(2).
    Whole(i32),
    /// A lock of a range, by the process or the open file.
    Range { is_open_files: bool },
    /// Asks who has such a lock.
    Ask { is_open_files: bool },
    /// A lease or a delegation.
    Lease,
}

impl Request {
    fn is_range(self) -> bool {
        matches!(self.command, Command::Range { .. } | Command::Ask { .. })
    }

    fn of(seen: &Decided) -> Option<Request> {
        if seen.call.name == "flock" {
            let operation = seen.args[1] as i32;
            return Some(Request {
                command: Command::Whole(operation & !libc::LOCK_NB),
                waits: operation & libc::LOCK_NB == 0,
            });
        }
        let command = match seen.args[1] as i32 {
            _ if seen.call.name != "fcntl" => return None,
            libc::F_SETLK | libc::F_SETLKW => Command::Range {
                is_open_files: false,
            },
            libc::F_OFD_SETLK | libc::F_OFD_SETLKW => Command::Range {
                is_open_files: true,
            },
            libc::F_GETLK => Command::Ask {
                is_open_files: false,
            },
            libc::F_OFD_GETLK => Command::Ask {
                is_open_files: true,
            },
            libc::F_SETLEASE | F_SETDELEG => Command::Lease,
            _ => return None,
        };
        Some(Request {
            command,
            waits: matches!(seen.args[1] as i32, libc::F_SETLKW | libc::F_OFD_SETLKW),
        })
    }
}

impl Engine<'_> {
    /// Decides on a call that is about to be made, if it is about a lock.
    pub(in crate::inject::live) fn guard_locks(
        &mut self,
        me: &Task,
        task: &Stopped,
        seen: &Decided,
    ) -> Locking {
        let request = match Request::of(seen) {
            Some(request) if self.is_sandboxed() => request,
            _ => return Locking::Kernel,
        };
        let fd = seen.args[0] as i32;
        let Ok(open) = proc::descriptor(task.tid(), fd) else {
            return Locking::Kernel;
        };
        if open.flags & libc::O_PATH != 0 {
            return Locking::Kernel;
        }
        let shares = self.shares_descriptors(me, task);
        let is_own = self.is_own(task.tid(), fd);
        let is_range = request.is_range();
        if is_range
            && (shares && is_own || self.locks.ranges == Ranges::Changing)
            && let Some(until) = self.change_to_table(me, task)
        {
            return Locking::Waits(until);
        }
        // Another task could put another file at the descriptor before the kernel looks.
        let asked = match request.command {
            _ if !is_own || is_range && self.locks.ranges == Ranges::Table => {
                self.lock_in_table(me, task, seen, (request, &open))
            }
            Command::Whole(operation) if shares => self.lock_whole(me, task, fd, operation),
            Command::Lease if shares => Err(libc::EINVAL),
            _ => return Locking::Kernel,
        };
        match asked {
            Ok(()) => Locking::Done(Answer::Value(0)),
            Err(libc::EAGAIN | libc::EACCES) if request.waits => match is_interrupted(task.tid()) {
                true => Locking::Interrupted,
                false => match tsc_off::now().checked_add(AGAIN) {
                    Some(until) => Locking::Waits(until),
                    None => Locking::Done(Answer::Errno(libc::ENOLCK)),
                },
            },
            Err(errno) => Locking::Done(Answer::Errno(errno)),
        }
    }

    /// Has the table keep the locks of ranges of all processes. Returns the time to look again while the kernel still makes
    /// such a call: one that waits is interrupted, and is restarted without the program's notice.
    fn change_to_table(&mut self, me: &Task, task: &Stopped) -> Option<Instant> {
        if self.locks.ranges == Ranges::Table {
            return None;
        }
        self.locks.ranges = Ranges::Changing;
        let is_range = |tid: &i32| {
            let pending = self.tasks.get(tid).and_then(|task| task.pending.as_ref());
            pending.and_then(Request::of).is_some_and(Request::is_range)
        };
        let waiting: Vec<i32> = self.running().filter(is_range).collect();
        if !waiting.is_empty() {
            for tid in waiting {
                // It may have ended meanwhile.
                _ = Running::of_another(tid).interrupt();
            }
            return Some(tsc_off::now() + AGAIN);
        }
        let mut holders: Vec<Holder> = vec![Holder::of(me, task.tid())];
        for (&tid, other) in &self.tasks {
            if holders.iter().all(|known| known.process != other.process) {
                holders.push(Holder::of(other, tid));
            }
        }
        for holder in holders {
            self.take_over(me, task, holder);
        }
        self.locks.ranges = Ranges::Table;
        None
    }

    /// Puts the locks into the table that the kernel keeps for a process, and for its open files.
    fn take_over(&mut self, me: &Task, task: &Stopped, holder: Holder) {
        for (fd, meta) in descriptors(holder.tid) {
            let place = Place {
                file: (meta.dev(), meta.ino()),
                is_flock: false,
            };
            for (is_open_files, lock) in kept_by_kernel(holder, fd) {
                if let Ok(owner) = self.owner(me, task, holder, (place, fd, is_open_files)) {
                    _ = self.set(me, task, (owner, holder), &lock);
                }
            }
        }
    }

    /// Whether another task may change this one's descriptors.
    pub(super) fn shares_descriptors(&self, me: &Task, task: &Stopped) -> bool {
        let mut others = self.tasks.iter().filter(|(tid, _)| **tid != task.tid());
        others.any(|(&tid, other)| {
            other.process == me.process || kcmp::share_descriptors(task.tid(), tid) != Some(false)
        })
    }

    /// Whether nobody outside of the sandbox has the file of a descriptor.
    fn is_own(&mut self, tid: i32, fd: i32) -> bool {
        let Ok(mount) = proc::fd_mount(tid, fd) else {
            return false;
        };
        // Where programs may make namespaces, they mount, and numbers come again.
        if !self.locks.own_mounts.contains(&mount) || self.settings.namespaces {
            let own = self.sandbox.as_ref().map(|sandbox| sandbox.own_mounts());
            self.locks.own_mounts = own.unwrap_or_default();
        }
        self.locks.own_mounts.contains(&mount) || is_unnamed(tid, fd)
    }

    /// Locks a whole file of the sandbox in the task's stead: so it is the file that was looked at.
    fn lock_whole(
        &mut self,
        me: &Task,
        task: &Stopped,
        fd: i32,
        operation: i32,
    ) -> std::result::Result<(), i32> {
        let file = borrow(Holder::of(me, task.tid()), fd)?;
        if !self.is_own(std::process::id() as i32, file.as_raw_fd()) {
            return Err(libc::EBADF);
        }
        let locked = file_lock::flock(&file, operation | libc::LOCK_NB);
        locked.map_err(|e| e.raw_os_error().unwrap_or(libc::ENOLCK))
    }

    /// Locks a file in the table.
    fn lock_in_table(
        &mut self,
        me: &Task,
        task: &Stopped,
        seen: &Decided,
        (request, open): (Request, &Descriptor),
    ) -> std::result::Result<(), i32> {
        let meta = fs::metadata(format!("/proc/{}/fd/{}", task.tid(), open.fd));
        let meta = meta.map_err(|_| libc::EBADF)?;
        let place = |is_flock| Place {
            file: (meta.dev(), meta.ino()),
            is_flock,
        };
        let mode = open.flags & libc::O_ACCMODE;
        let holder = Holder::of(me, task.tid());
        match request.command {
            Command::Lease if seen.args[2] as i32 == libc::F_UNLCK => Err(libc::EAGAIN),
            // As of a file system that has none.
            Command::Lease => Err(libc::EINVAL),
            Command::Whole(operation) => {
                let kind = match operation {
                    libc::LOCK_SH => libc::F_RDLCK,
                    libc::LOCK_EX => libc::F_WRLCK,
                    libc::LOCK_UN => libc::F_UNLCK,
                    _ => return Err(libc::EINVAL),
                };
                if mode == libc::O_ACCMODE && kind != libc::F_UNLCK {
                    return Err(libc::EBADF);
                }
                let owner = self.owner(me, task, holder, (place(true), open.fd, true))?;
                let owner = (owner, holder);
                // The kernel takes the old lock away before it sets another one.
                self.set(me, task, owner, &whole(libc::F_UNLCK))?;
                match kind {
                    libc::F_UNLCK => Ok(()),
                    kind => self.set(me, task, owner, &whole(kind)),
                }
            }
            Command::Range { is_open_files } | Command::Ask { is_open_files } => {
                let asked = read_lock(seen)?;
                let asks = matches!(request.command, Command::Ask { .. });
                let is_known = match i32::from(asked.l_type) {
                    libc::F_RDLCK | libc::F_WRLCK => true,
                    libc::F_UNLCK => !asks,
                    _ => false,
                };
                if !is_known || is_open_files && asked.l_pid != 0 {
                    return Err(libc::EINVAL);
                }
                let lock = from_start(&asked, open, &meta)?;
                let is_open_for = match i32::from(asked.l_type) {
                    libc::F_RDLCK => [libc::O_RDONLY, libc::O_RDWR].contains(&mode),
                    libc::F_WRLCK => [libc::O_WRONLY, libc::O_RDWR].contains(&mode),
                    _ => true,
                };
                if !asks && !is_open_for {
                    return Err(libc::EBADF);
                }
                let key = (place(false), open.fd, is_open_files);
                let owner = self.owner(me, task, holder, key)?;
                match asks {
                    true => self.ask((me, task, seen), owner, asked, lock),
                    false => self.set(me, task, (owner, holder), &lock),
                }
            }
        }
    }

    /// Finds an owner of locks, or adds it. Returns its number.
    fn owner(
        &mut self,
        me: &Task,
        task: &Stopped,
        holder: Holder,
        (at, fd, is_open_file): (Place, i32, bool),
    ) -> std::result::Result<u64, i32> {
        let is_it = |owner: &&Owner| {
            owner.at == at
                && match &owner.who {
                    Who::Process { process, .. } => !is_open_file && *process == holder.process,
                    Who::OpenFile(file) => is_open_file && is_open_as(file, (holder.tid, fd)),
                }
        };
        if let Some(known) = self.locks.owners.iter().find(is_it) {
            return Ok(known.number);
        }
        if self.locks.owners.len() >= MOST {
            self.forget_gone(me, task, None);
        }
        if self.locks.owners.len() >= MOST {
            return Err(libc::ENOLCK);
        }
        let who = match is_open_file {
            true => Who::OpenFile(borrow(holder, fd)?),
            false => Who::Process {
                process: holder.process,
                pid: holder.pid,
                files: Vec::new(),
            },
        };
        let other = self.locks.owners.iter().find(|owner| owner.at == at);
        let proxy = match other {
            Some(other) => {
                let path = format!("/proc/self/fd/{}", other.proxy.as_raw_fd());
                File::options().read(true).write(true).open(path)
            }
            None => {
                let made = memfd_create(c"locks", MFdFlags::MFD_CLOEXEC);
                made.map(File::from).map_err(io::Error::from)
            }
        };
        let number = self.locks.next;
        self.locks.next += 1;
        self.locks.owners.push(Owner {
            number,
            at,
            who,
            proxy: proxy.map_err(|_| libc::ENOLCK)?,
        });
        Ok(number)
    }

    fn set(
        &mut self,
        me: &Task,
        task: &Stopped,
        (owner, holder): (u64, Holder),
        lock: &libc::flock,
    ) -> std::result::Result<(), i32> {
        let set = |locks: &Locks| match locks.get(owner) {
            Some(owner) => fcntl(&owner.proxy, FcntlArg::F_OFD_SETLK(lock)).map(|_| ()),
            None => Err(Errno::ENOLCK),
        };
        let mut done = set(&self.locks);
        if matches!(done, Err(Errno::EAGAIN | Errno::EACCES)) {
            self.forget_gone(me, task, Some(owner));
            done = set(&self.locks);
        }
        let mut owners = self.locks.owners.iter_mut();
        let mine = owners.find(|other| other.number == owner);
        if let Some(Owner { at, who, .. }) = mine
            && let Who::Process { files, .. } = who
            && i32::from(lock.l_type) != libc::F_UNLCK
        {
            *files = descriptors_of(holder.tid, at.file);
        }
        done.map_err(|error| error as i32)
    }

    /// Writes who has a lock that conflicts with this one.
    fn ask(
        &mut self,
        (me, task, seen): (&Task, &Stopped, &Decided),
        owner: u64,
        mut asked: libc::flock,
        mut lock: libc::flock,
    ) -> std::result::Result<(), i32> {
        self.forget_gone(me, task, Some(owner));
        let mine = self.locks.get(owner).ok_or(libc::ENOLCK)?;
        fcntl(&mine.proxy, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(|error| error as i32)?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            asked.l_type = lock.l_type;
        } else {
            let others = self.locks.owners.iter();
            let mut others =
                others.filter(|other| other.at == mine.at && other.number != mine.number);
            let holder = others.find(|other| other.has(lock.l_start));
            asked = libc::flock {
                l_pid: match holder.map(|holder| &holder.who) {
                    Some(Who::Process { pid, .. }) => *pid,
                    _ => -1,
                },
                ..lock
            };
        }
        let written = task.memory().write(seen.args[2], &bytes_of(&asked));
        written.map_err(|_| libc::EFAULT)
    }

    /// Forgets the owners that are gone, but for one.
    fn forget_gone(&mut self, me: &Task, task: &Stopped, kept: Option<u64>) {
        let tasks = self.tasks.iter().map(|(&tid, other)| (tid, other.process));
        let tasks: Vec<(i32, i32)> = tasks.chain([(task.tid(), me.process)]).collect();
        let is_there = |owner: &Owner| kept == Some(owner.number) || owner.is_there(&tasks);
        self.locks.owners.retain(is_there);
    }
}

impl Locks {
    fn get(&self, number: u64) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.number == number)
    }
}

impl Owner {
    /// Whether the open file is still open in one of the tasks, each with its process, or the process has the file open.
    fn is_there(&self, tasks: &[(i32, i32)]) -> bool {
        match &self.who {
            Who::Process { process, files, .. } => {
                let mut own = tasks.iter().filter(|(_, other)| other == process);
                own.any(|(tid, _)| {
                    let open = descriptors_of(*tid, self.at.file);
                    files.iter().all(|fd| open.contains(fd)) && !open.is_empty()
                })
            }
            Who::OpenFile(file) => tasks.iter().any(|&(tid, _)| {
                let mut open = descriptors_of(tid, self.at.file).into_iter();
                open.any(|fd| is_open_as(file, (tid, fd))) || sends_files(tid)
            }),
        }
    }

    /// Whether it has a lock that starts there: `/proc/PID/fdinfo` lists those of an open file, with their first and last
    /// byte.
    fn has(&self, start: i64) -> bool {
        let path = format!("/proc/self/fdinfo/{}", self.proxy.as_raw_fd());
        let info = fs::read_to_string(path).unwrap_or_default();
        let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
        let mut starts = locks.filter_map(|lock| lock.split_whitespace().nth_back(1)?.parse().ok());
        starts.any(|known: i64| known == start)
    }
}

impl Holder {
    fn of(task: &Task, tid: i32) -> Holder {
        Holder {
            process: task.process,
            tid,
            pid: task.pid,
        }
    }
}

/// The locks of ranges that the kernel keeps for a process or an open file, as `/proc/PID/fdinfo` lists them. Each with whether it
/// is an open file's.
fn kept_by_kernel(holder: Holder, fd: i32) -> Vec<(bool, libc::flock)> {
    let path = format!("/proc/{}/fdinfo/{fd}", holder.tid);
    let info = fs::read_to_string(path).unwrap_or_default();
    let lock = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("lock:")?.split_whitespace().collect();
        let &[_, owner, _, kind, pid, _, first, last] = words.as_slice() else {
            return None;
        };
        let is_open_files = match owner {
            "OFDLCK" => true,
            // An open file that was inherited shows those of its other processes, too.
            "POSIX" if pid.parse() == Ok(holder.process) => false,
            _ => return None,
        };
        let kind = match kind {
            "READ" => libc::F_RDLCK,
            "WRITE" => libc::F_WRLCK,
            _ => return None,
        };
        let start: i64 = first.parse().ok()?;
        let len = match last.parse::<i64>() {
            Ok(last) => last - start + 1,
            // EOF
            Err(_) => 0,
        };
        let lock = libc::flock {
            l_start: start,
            l_len: len,
            ..whole(kind)
        };
        Some((is_open_files, lock))
    };
    info.lines().filter_map(lock).collect()
}

/// A descriptor of rrapper's for a task's open file.
fn borrow(holder: Holder, fd: i32) -> std::result::Result<File, i32> {
    let file = spawn::borrow_fd(holder.process, fd).map_err(|_| libc::ENOLCK)?;
    // A thread may have another table of descriptors than its process.
    match is_open_as(&file, (holder.tid, fd)) {
        true => Ok(file),
        false => Err(libc::ENOLCK),
    }
}

/// Whether a file of rrapper's is the open file of a task's descriptor.
fn is_open_as(file: &File, of_task: (i32, i32)) -> bool {
    let own = (std::process::id() as i32, file.as_raw_fd());
    kcmp::share_file(own, of_task) == Some(true)
}

/// The descriptors of a task, with what they are open for.
fn descriptors(tid: i32) -> impl Iterator<Item = (i32, Metadata)> {
    let entries = fs::read_dir(format!("/proc/{tid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, fs::metadata(entry.path()).ok()?))
    })
}

/// The descriptors by which a task can have locks of a file.
fn descriptors_of(tid: i32, file: (u64, u64)) -> Vec<i32> {
    let is_open = |fd| proc::fd_flags(tid, fd).is_ok_and(|flags| flags & libc::O_PATH == 0);
    let of_file = descriptors(tid).filter(|(_, meta)| (meta.dev(), meta.ino()) == file);
    of_file
        .map(|(fd, _)| fd)
        .filter(|fd| is_open(*fd))
        .collect()
}

/// Whether a task has a socket with open files on their way, which may be any.
fn sends_files(tid: i32) -> bool {
    let mut sockets = descriptors(tid).filter(|(_, meta)| meta.file_type().is_socket());
    sockets.any(|(fd, _)| on_their_way(tid, fd).is_some_and(|sent| sent != 0))
}

/// Whether a file without a path is one of its own, and not one of the kernel that all have.
fn is_unnamed(tid: i32, fd: i32) -> bool {
    let path = format!("/proc/{tid}/fd/{fd}");
    let Ok(meta) = fs::metadata(&path) else {
        return false;
    };
    let kind = statfs(path.as_str()).map(|found| found.filesystem_type());
    match kind {
        Ok(kind) if kind == PIPES => meta.file_type().is_fifo(),
        Ok(kind) if kind == SOCKETS => meta.file_type().is_socket(),
        _ => {
            let link = proc::fd_path(tid, fd).unwrap_or_default();
            meta.is_file() && meta.nlink() == 0 && link.starts_with(b"/memfd:")
        }
    }
}

/// Whether a signal is there that the task handles, or that ends it.
fn is_interrupted(tid: i32) -> bool {
    proc::has_deliverable(tid).unwrap_or(true)
}

/// A lock of a whole file.
fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn read_lock(seen: &Decided) -> std::result::Result<libc::flock, i32> {
    let mut bytes = [0; size_of::<libc::flock>()];
    let read = seen.memory.read_exact(seen.args[2], &mut bytes);
    read.map_err(|_| libc::EFAULT)?;
    let word = |at: usize| i64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let short = |at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
    Ok(libc::flock {
        l_type: short(0),
        l_whence: short(2),
        l_start: word(8),
        l_len: word(16),
        l_pid: word(24) as i32,
    })
}

/// The bytes of a lock: `struct flock`.
fn bytes_of(lock: &libc::flock) -> [u8; size_of::<libc::flock>()] {
    let mut bytes = [0; size_of::<libc::flock>()];
    bytes[..2].copy_from_slice(&lock.l_type.to_le_bytes());
    bytes[2..4].copy_from_slice(&lock.l_whence.to_le_bytes());
    bytes[8..16].copy_from_slice(&lock.l_start.to_le_bytes());
    bytes[16..24].copy_from_slice(&lock.l_len.to_le_bytes());
    bytes[24..28].copy_from_slice(&lock.l_pid.to_le_bytes());
    bytes
}

/// A lock whose start is counted from the file's.
fn from_start(
    lock: &libc::flock,
    open: &Descriptor,
    meta: &Metadata,
) -> std::result::Result<libc::flock, i32> {
    let from = match i32::from(lock.l_whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => open.offset as i64,
        libc::SEEK_END => meta.len() as i64,
        _ => return Err(libc::EINVAL),
    };
    Ok(libc::flock {
        l_whence: libc::SEEK_SET as i16,
        l_start: from.checked_add(lock.l_start).ok_or(libc::EOVERFLOW)?,
        l_pid: 0,
        ..*lock
    })
}
