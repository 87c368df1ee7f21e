//! A task's files in `/proc`: proc(5).

use super::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// `PROT_*` bits.
    pub prot: i32,
    /// Whether it is `MAP_SHARED`.
    pub shared: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The device that the file is on, as stat(2) has it on most file systems.
    pub dev: u64,
    /// The file's inode; 0 where there is no file.
    pub inode: u64,
    /// The file's path, or a name in brackets; empty where there is none.
    pub name: Vec<u8>,
}

impl Map {
    /// Whether an address lies in it.
    pub fn holds(&self, addr: u64) -> bool {
        (self.start..self.end).contains(&addr)
    }

    /// The part of a range of the file that the mapping shows: its address and length; `None` where it shows none.
    pub fn part(&self, of_file: &Range<u64>) -> Option<(u64, u64)> {
        let from = of_file.start.max(self.offset);
        let to = of_file.end.min(self.offset + (self.end - self.start));
        let len = to.checked_sub(from).filter(|&len| len > 0)?;
        Some((self.start + (from - self.offset), len))
    }

    /// The part of this range of addresses that lies in it.
    pub fn overlap(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let part = self.start.max(range.start)..self.end.min(range.end);
        Some(part).filter(|part| !part.is_empty())
    }

    /// The address at which this mapping shows the byte that `other`, a mapping of another process, shows at `addr`.
    pub fn same_place(&self, other: &Map, addr: u64) -> Option<u64> {
        let at = other.offset + addr.checked_sub(other.start)?;
        let same = self.inode != 0 && self.inode == other.inode && self.name == other.name;
        let here = self.start.checked_add(at.checked_sub(self.offset)?)?;
        Some(here).filter(|&here| same && self.holds(here))
    }
}

/// Reads a file of the kernel's, of which no status says how long it is: in few calls, where it is not long.
pub fn read_file(path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
    const USUAL: usize = 8192;
    let mut file = File::open(path)?.take(u64::MAX);
    let mut bytes = Vec::with_capacity(USUAL);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(tid: i32, file: &str) -> Result<Vec<u8>> {
    read_file(format!("/proc/{tid}/{file}"))
        .map_err(|e| Error::os(format!("read /proc/{tid}/{file}"), tid, e))
}

fn odd(tid: i32, file: &str) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "unknown format");
    Error::os(format!("read /proc/{tid}/{file}"), tid, source)
}

/// The mappings of a task, by rising address.
///
/// # Errors
/// If they cannot be read.
pub fn maps(tid: i32) -> Result<Vec<Map>> {
    read(tid, "maps")?
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse_map(line).ok_or_else(|| odd(tid, "maps")))
        .collect()
}

fn parse_map(line: &[u8]) -> Option<Map> {
    let mut rest = line;
    let mut word = || {
        let start = rest.iter().position(|&b| b != b' ')?;
        let len = rest[start..].iter().position(|&b| b == b' ');
        let end = len.map_or(rest.len(), |len| start + len);
        let word = std::str::from_utf8(&rest[start..end]).ok();
        rest = &rest[end..];
        word
    };
    let (start, end) = word()?.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let perms = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let dev = libc::makedev(hex(major)? as u32, hex(minor)? as u32);
    let inode = word()?.parse().ok()?;
    let bits = [libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC];
    let prot = bits
        .iter()
        .zip(perms)
        .filter(|&(_, &p)| p != b'-')
        .fold(0, |acc, (bit, _)| acc | bit);
    Some(Map {
        start,
        end,
        prot,
        shared: perms.get(3) == Some(&b's'),
        offset,
        dev,
        inode,
        name: rest.trim_ascii_start().to_vec(),
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The addresses that the kernel keeps about a process's layout, as `prctl(PR_SET_MM_MAP)` takes them
/// (`struct prctl_mm_map`), without `brk` itself, the auxiliary vector and the executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

/// A task's layout.
///
/// # Errors
/// If it cannot be read.
pub fn layout(tid: i32) -> Result<Layout> {
    let fields = stat_fields(tid)?;
    // proc(5) counts from 1 and includes pid and comm.
    let field = |n: usize| fields.get(n - 3).copied().ok_or_else(|| odd(tid, "stat"));
    Ok(Layout {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
    })
}

/// The parent's pid.
///
/// # Errors
/// If it cannot be read.
pub fn parent(tid: i32) -> Result<i32> {
    let fields = stat_fields(tid)?;
    fields
        .get(1)
        .map(|&ppid| ppid as i32)
        .ok_or_else(|| odd(tid, "stat"))
}

/// The state of a task, as proc(5) has it: `R`unning, `S`leeping, `D` (sleeping, and not to be interrupted),
/// `Z`ombie, …; `None` where there is no such task.
pub fn state(tid: i32) -> Option<u8> {
    let stat = std::fs::read(format!("/proc/{tid}/stat")).ok()?;
    let after_comm = stat.iter().rposition(|&b| b == b')')?;
    stat.get(after_comm + 2).copied()
}

/// The process group, the session, the device number of the controlling terminal and the foreground process group of that;
/// 0 for what it has not.
///
/// # Errors
/// If they cannot be read.
pub fn job_control(tid: i32) -> Result<[i32; 4]> {
    let fields = stat_fields(tid)?;
    let at = |index: usize| fields.get(index).map(|&number| number as i32);
    match (at(2), at(3), at(4), at(5)) {
        (Some(group), Some(session), Some(terminal), Some(foreground)) => {
            Ok([group, session, terminal, foreground])
        }
        _ => Err(odd(tid, "stat")),
    }
}

/// The processor time of a task; `None` where the kernel does not count it.
pub fn run_time(tid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    (nanoseconds > 0).then_some(Duration::from_nanos(nanoseconds))
}

/// The process of a thread.
///
/// # Errors
/// If it cannot be read.
pub fn process(tid: i32) -> Result<i32> {
    status_numbers(tid, "Tgid:")?
        .pop()
        .ok_or_else(|| odd(tid, "status"))
}

/// The numbers in a line of `/proc/TID/status`.
fn status_numbers(tid: i32, name: &str) -> Result<Vec<i32>> {
    let status = read(tid, "status")?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap_or_default().split_whitespace();
    Ok(words.filter_map(|word| word.parse().ok()).collect())
}

/// The limit on a process's stack, in bytes (`RLIMIT_STACK`): proc_pid_limits(5). prlimit(2) needs privileges for
/// another user's process.
///
/// # Errors
/// If it cannot be read.
pub(super) fn stack_limit(tid: i32) -> Result<u64> {
    named_soft_limit(tid, "Max stack size")
}

/// The limit on a process's core files, in bytes (`RLIMIT_CORE`).
///
/// # Errors
/// If it cannot be read.
pub fn core_limit(tid: i32) -> Result<u64> {
    named_soft_limit(tid, "Max core file size")
}

fn named_soft_limit(tid: i32, name: &str) -> Result<u64> {
    let limits = read(tid, "limits")?;
    let limits = String::from_utf8_lossy(&limits);
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let size = match soft {
        Some("unlimited") => Some(libc::RLIM_INFINITY),
        soft => soft.and_then(|word| word.parse().ok()),
    };
    size.ok_or_else(|| {
        Error::os(
            format!("find its limit {name:?}"),
            tid,
            std::io::Error::from(std::io::ErrorKind::InvalidData),
        )
    })
}

/// Checks that `/proc` shows the processes of rrapper's pid namespace.
///
/// # Errors
/// If `/proc` is missing, or belongs to another pid namespace.
pub(super) fn is_ours() -> Result<()> {
    let us = std::process::id().to_string();
    let there = std::fs::read_link("/proc/self").map(|link| link.as_os_str() == us.as_str());
    let why = match there {
        Ok(true) => return Ok(()),
        Ok(false) => "/proc is that of another pid namespace: mount one for this one first \
                      (mount -t proc proc /proc, or unshare --mount-proc)"
            .into(),
        Err(error) => {
            format!("cannot read /proc/self: {error}: mount it first (mount -t proc proc /proc)")
        }
    };
    Err(Error::NoProc { why })
}

/// The tids of a task in its pid namespaces, from ours inward.
///
/// # Errors
/// If they cannot be read.
pub fn numbers(tid: i32) -> Result<Vec<i32>> {
    status_numbers(tid, "NSpid:")
}

/// The tid of a task in its innermost pid namespace.
///
/// # Errors
/// If it cannot be read.
pub fn innermost_pid(tid: i32) -> Result<i32> {
    status_numbers(tid, "NSpid:")?
        .pop()
        .ok_or_else(|| odd(tid, "status"))
}

/// Whether the task belongs to the first process of a pid namespace below ours (`NStgid`).
pub fn is_first_of_namespace(tid: i32) -> bool {
    let numbers = status_numbers(tid, "NStgid:").unwrap_or_default();
    numbers.len() > 1 && numbers.last() == Some(&1)
}

/// The pid namespace of a process, by its inode number.
pub(crate) fn pid_namespace(tid: i32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(format!("/proc/{tid}/ns/pid"));
    meta.ok().map(|meta| meta.ino())
}

/// The tasks in a pid namespace.
pub(super) fn tasks_in(namespace: Option<u64>) -> Vec<i32> {
    let numbers = |dir: &str| -> Vec<i32> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
        entries
            .filter_map(|entry| number(entry.file_name()))
            .collect()
    };
    let here = |&pid: &i32| namespace.is_some() && pid_namespace(pid) == namespace;
    let processes = numbers("/proc").into_iter().filter(here);
    processes
        .flat_map(|pid| {
            let mut tasks = numbers(&format!("/proc/{pid}/task"));
            // The namespace's init process cannot be reaped before the others.
            tasks.sort_unstable_by_key(|&tid| tid == pid);
            tasks
        })
        .collect()
}

/// The threads of a process besides its first, if `tid` is that first one.
pub(super) fn threads_to_reap(tid: i32) -> Vec<i32> {
    use std::os::unix::fs::MetadataExt;
    let dir = format!("/proc/{tid}/task");
    // One link for each thread, two for the directory itself: most processes have one thread.
    if std::fs::metadata(&dir).map_or(0, |meta| meta.nlink()) <= 3 {
        return Vec::new();
    }
    if process(tid).ok() != Some(tid) {
        return Vec::new();
    }
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&thread| thread != tid)
        .collect()
}

/// The memory of a process in bytes, with its share of shared pages (`Pss` of `/proc/PID/smaps_rollup`).
///
/// # Errors
/// If the file cannot be read.
pub fn memory_taken(tid: i32) -> Result<u64> {
    let rollup = read(tid, "smaps_rollup")?;
    let rollup = String::from_utf8_lossy(&rollup);
    let size = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let size = size.and_then(|size| size.trim().strip_suffix("kB"));
    let size = size.and_then(|size| size.trim().parse::<u64>().ok());
    size.map(|kib| kib << 10)
        .ok_or_else(|| odd(tid, "smaps_rollup"))
}

/// The fields of `/proc/PID/stat` from the third (the state) on; 0 for fields that are no numbers.
fn stat_fields(tid: i32) -> Result<Vec<u64>> {
    let stat = read(tid, "stat")?;
    let after_comm = stat
        .iter()
        .rposition(|&b| b == b')')
        .ok_or_else(|| odd(tid, "stat"))?;
    Ok(String::from_utf8_lossy(&stat[after_comm + 1..])
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect())
}

/// The flags of a task's pages: `/proc/PID/pagemap`, whose flags need no privileges.
pub struct PageMap {
    tid: i32,
    file: File,
}

impl PageMap {
    /// Opens the page map of a task.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(tid: i32) -> Result<PageMap> {
        let file = File::open(format!("/proc/{tid}/pagemap"))
            .map_err(|e| Error::os("read its page map", tid, e))?;
        Ok(PageMap { tid, file })
    }

    /// The pages of a private mapping that differ from its backing, because the task (or the kernel for it) wrote to
    /// them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn private(&self, start: u64, end: u64) -> Result<Vec<u64>> {
        const FILE_OR_SHARED: u64 = 1 << 61;
        self.pages(start, end, |bits| bits & FILE_OR_SHARED == 0)
    }

    /// The pages of a mapping that are in memory, or swapped out.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn present(&self, start: u64, end: u64) -> Result<Vec<u64>> {
        self.pages(start, end, |_| true)
    }

    fn pages(&self, start: u64, end: u64, wanted: impl Fn(u64) -> bool) -> Result<Vec<u64>> {
        const PAGE: u64 = 0x1000;
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const CHUNK: usize = 0x8000;
        let mut pages = Vec::new();
        let mut buf = vec![0u8; CHUNK.min(((end - start) / PAGE) as usize * 8)];
        let mut at = start;
        while at < end {
            let want = (((end - at) / PAGE) as usize * 8).min(CHUNK);
            let n = self
                .file
                .read_at(&mut buf[..want], at / PAGE * 8)
                .map_err(|e| Error::os("read its page map", self.tid, e))?;
            if n < 8 {
                break;
            }
            for entry in buf[..n].as_chunks::<8>().0 {
                let bits = u64::from_le_bytes(*entry);
                if bits & (PRESENT | SWAPPED) != 0 && wanted(bits) {
                    pages.push(at);
                }
                at += PAGE;
            }
        }
        Ok(pages)
    }
}

/// A descriptor of a task, as `/proc/PID/fd` and `fdinfo` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// The target of the link: a path, or `pipe:[…]` and the like.
    pub path: Vec<u8>,
    /// The file offset.
    pub offset: u64,
    /// The open flags, with `O_CLOEXEC`.
    pub flags: i32,
}

/// The path that a descriptor's link shows.
///
/// # Errors
/// If there is no such descriptor.
pub fn fd_path(tid: i32, fd: i32) -> Result<Vec<u8>> {
    std::fs::read_link(format!("/proc/{tid}/fd/{fd}"))
        .map(|path| path.into_os_string().into_vec())
        .map_err(|e| Error::os(format!("look at its descriptor {fd}"), tid, e))
}

/// One descriptor of a task.
///
/// # Errors
/// If there is no such descriptor.
pub fn descriptor(tid: i32, fd: i32) -> Result<Descriptor> {
    let info = String::from_utf8_lossy(&read(tid, &format!("fdinfo/{fd}"))?).into_owned();
    let value = |key: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(key))
            .map_or("0", str::trim)
    };
    Ok(Descriptor {
        fd,
        path: fd_path(tid, fd)?,
        // The offset is signed, though only memory files have negative ones.
        offset: value("pos:").parse::<i64>().unwrap_or(0) as u64,
        flags: i32::from_str_radix(value("flags:"), 8).unwrap_or(0),
    })
}

/// The open flags of a descriptor.
///
/// # Errors
/// If there is no such descriptor.
pub fn fd_flags(tid: i32, fd: i32) -> Result<i32> {
    let info = read(tid, &format!("fdinfo/{fd}"))?;
    let info = String::from_utf8_lossy(&info);
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok())
        .ok_or_else(|| odd(tid, "fdinfo"))
}

/// The number of the mount of a descriptor's file.
///
/// # Errors
/// If there is no such descriptor.
pub fn fd_mount(tid: i32, fd: i32) -> Result<u64> {
    let info = read(tid, &format!("fdinfo/{fd}"))?;
    let info = String::from_utf8_lossy(&info);
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    mount
        .and_then(|mount| mount.trim().parse().ok())
        .ok_or_else(|| odd(tid, "fdinfo"))
}

/// All descriptors of a task, by number.
///
/// # Errors
/// If they cannot be listed.
pub fn descriptors(tid: i32) -> Result<Vec<Descriptor>> {
    let dir = std::fs::read_dir(format!("/proc/{tid}/fd"))
        .map_err(|e| Error::os("list its descriptors", tid, e))?;
    let mut list = Vec::new();
    for entry in dir {
        let entry = entry.map_err(|e| Error::os("list its descriptors", tid, e))?;
        let name = entry.file_name();
        let Some(fd) = std::str::from_utf8(name.as_bytes())
            .ok()
            .and_then(|s| s.parse().ok())
        else {
            continue;
        };
        list.push(descriptor(tid, fd)?);
    }
    list.sort_by_key(|d| d.fd);
    Ok(list)
}

/// The current directory of a task.
///
/// # Errors
/// If it cannot be read.
pub fn cwd(tid: i32) -> Result<Vec<u8>> {
    link(tid, "cwd", "look up its directory")
}

/// The executable of a task.
///
/// # Errors
/// If it cannot be read.
pub fn exe(tid: i32) -> Result<Vec<u8>> {
    link(tid, "exe", "look up its executable")
}

/// The arguments of the program that a task runs, its name first.
///
/// # Errors
/// If there is no such task.
pub fn command_line(tid: i32) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read(format!("/proc/{tid}/cmdline"))
        .map_err(|source| Error::os("read its command line", tid, source))?;
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    Ok(text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
}

fn link(tid: i32, name: &str, what: &str) -> Result<Vec<u8>> {
    std::fs::read_link(format!("/proc/{tid}/{name}"))
        .map(|path| path.into_os_string().into_vec())
        .map_err(|e| Error::os(what, tid, e))
}

/// Whether the task has a handler for this signal (`SigCgt` of `/proc/PID/status`).
///
/// # Errors
/// If it cannot be read.
pub fn catches(tid: i32, signal: i32) -> Result<bool> {
    in_mask(tid, "SigCgt:", signal)
}

/// Whether the task ignores this signal (`SigIgn`).
///
/// # Errors
/// If it cannot be read.
pub fn ignores(tid: i32, signal: i32) -> Result<bool> {
    in_mask(tid, "SigIgn:", signal)
}

/// The signals for which the task has handlers: bit n-1 for signal n.
///
/// # Errors
/// If it cannot be read.
pub fn caught(tid: i32) -> Result<u64> {
    mask(tid, "SigCgt:")
}

/// The signals that the task ignores: bit n-1 for signal n.
///
/// # Errors
/// If it cannot be read.
pub fn ignored(tid: i32) -> Result<u64> {
    mask(tid, "SigIgn:")
}

/// Whether the task has CAP_SYS_ADMIN.
///
/// # Errors
/// If it cannot be read.
pub fn administers(tid: i32) -> Result<bool> {
    const SYS_ADMIN: u32 = 21;
    Ok(mask(tid, "CapEff:")? & 1 << SYS_ADMIN != 0)
}

/// Whether the task has `no_new_privs` set.
///
/// # Errors
/// If it cannot be read.
pub fn has_no_new_privs(tid: i32) -> Result<bool> {
    Ok(status_numbers(tid, "NoNewPrivs:")? == [1])
}

/// Whether the thread has a shadow stack (`x86_Thread_features`, where the kernel supports it).
///
/// # Errors
/// If it cannot be read.
pub fn has_shadow_stack(tid: i32) -> Result<bool> {
    let status = String::from_utf8_lossy(&read(tid, "status")?).into_owned();
    let features = |line: &str| line.strip_prefix("x86_Thread_features:").map(str::to_owned);
    let features = status.lines().find_map(features).unwrap_or_default();
    Ok(features
        .split_whitespace()
        .any(|feature| feature == "shstk"))
}

/// Whether this signal is pending for the process or its first thread (`SigPnd`, `ShdPnd`).
///
/// # Errors
/// If it cannot be read.
pub fn has_pending(pid: i32, signal: i32) -> Result<bool> {
    Ok(in_mask(pid, "SigPnd:", signal)? || in_mask(pid, "ShdPnd:", signal)?)
}

/// Whether a signal is pending for this thread (`SigPnd`).
///
/// # Errors
/// If it cannot be read.
pub fn is_pending(tid: i32, signal: i32) -> Result<bool> {
    in_mask(tid, "SigPnd:", signal)
}

/// Whether a signal is pending for this thread or its process that the thread does not block.
///
/// # Errors
/// If it cannot be read.
pub fn has_deliverable(tid: i32) -> Result<bool> {
    let pending = mask(tid, "SigPnd:")? | mask(tid, "ShdPnd:")?;
    Ok(pending & !mask(tid, "SigBlk:")? != 0)
}

fn in_mask(tid: i32, key: &str, signal: i32) -> Result<bool> {
    Ok(signal > 0 && mask(tid, key)? & (1 << (signal - 1)) != 0)
}

fn mask(tid: i32, key: &str) -> Result<u64> {
    let status = String::from_utf8_lossy(&read(tid, "status")?).into_owned();
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|mask| hex(mask.trim()))
        .ok_or_else(|| odd(tid, "status"))
}

/// The umask of a task.
///
/// # Errors
/// If it cannot be read.
pub fn umask(tid: i32) -> Result<u32> {
    let status = String::from_utf8_lossy(&read(tid, "status")?).into_owned();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask
        .and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok())
        .ok_or_else(|| odd(tid, "status"))
}

/// The soft limit of a process for a resource (`RLIMIT_…`).
///
/// # Errors
/// If it cannot be read.
pub fn soft_limit(pid: i32, resource: u32) -> Result<u64> {
    let limit = super::sys::limit(pid, resource);
    let limit = limit.map_err(|e| Error::os("read a limit of it", pid, e))?;
    Ok(limit.rlim_cur)
}
