//! Restores a process from an image.

use super::{Backing, Chunk, FileId, Image, Layout, Mapping};
use crate::tracee::{Error, Regs, Remote, Result, Stopped, agent, spawn};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = 0x1000;
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// The most memory that is reserved for a stack: the usual limit. A larger stack grows into free memory as usual.
pub const STACK_ROOM: u64 = 8 << 20;

/// The function that finds the kept copy of a mapped file.
pub type KeptFile<'a> = &'a dyn Fn(FileId) -> std::io::Result<PathBuf>;

/// Makes a new process with the memory and registers of this image; `file` finds the kept copies of mapped files. No
/// signal is blocked, ignored or handled: see [`restore_signals`].
///
/// # Errors
/// If no process can have this image (it is untrusted), or the kernel refuses.
pub fn restore(image: &Image, file: KeptFile<'_>) -> Result<Stopped> {
    let mut task = spawn::start_empty()?;
    let regs = check(image, task.tid())?;
    let mut remote = task.remote_at_boundary()?;
    unmap_all(&mut remote)?;
    leave_program(&mut remote)?;
    let mut free_from = agent::END;
    for mapping in &image.mappings {
        map(&mut remote, mapping, free_from, image.stack_limit, file)?;
        free_from = mapping.end;
    }
    let what = "set its memory layout";
    set_layout(&mut remote, &image.layout, image.brk, None)?
        .map_err(|e| Error::os(what, remote.memory().tid(), e))?;
    set_name(&mut remote, &image.exe)?;
    remote.finish()?;
    for chunk in &image.pages {
        task.memory().write(chunk.addr, &chunk.data)?;
    }
    task.set_stack_limit(image.stack_limit)?;
    task.set_regs(&regs)?;
    task.set_sigmask(0)?;
    Ok(task)
}

/// Sets the signal mask and the ignored signals of the image in a process made by [`restore`].
///
/// # Errors
/// If the kernel refuses.
pub fn restore_signals(task: &mut Stopped, image: &Image) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    ignore_signals(&mut remote, image.ignored)?;
    remote.finish()?;
    task.set_sigmask(image.sigmask)
}

fn invalid(tid: i32, what: &str) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    Error::os("restore the recorded image", tid, source)
}

fn check(image: &Image, tid: i32) -> Result<Regs> {
    for m in &image.mappings {
        let aligned = m.start % 0x1000 == 0 && m.end % 0x1000 == 0;
        if !aligned || m.start >= m.end || m.end > TASK_SIZE || agent::overlaps(m.start, m.end) {
            return Err(invalid(tid, "it has an impossible mapping"));
        }
    }
    let touches = |chunk: &Chunk| agent::is_touched(chunk.addr, chunk.data.len() as u64);
    if image.pages.iter().any(touches) {
        return Err(invalid(tid, "it has memory of rrapper's own"));
    }
    if agent::overlaps(image.layout.start_brk, image.brk) {
        return Err(invalid(
            tid,
            "its heap is where rrapper has memory of its own",
        ));
    }
    let words = image
        .regs
        .as_slice()
        .try_into()
        .map_err(|_| invalid(tid, "its registers are incomplete"))?;
    Ok(Regs::from_words(words))
}

/// Unmaps all memory but the agent's.
///
/// # Errors
/// If the kernel refuses.
pub fn unmap_all(remote: &mut Remote<'_>) -> Result<()> {
    for (start, end) in [(0x1000, agent::START), (agent::END, TASK_SIZE)] {
        remote.must(
            "clear its memory",
            libc::SYS_munmap,
            [start, end - start, 0, 0, 0, 0],
        )?;
    }
    Ok(())
}

/// Maps a mapping. `free_from` is the end of the mapping below it.
fn map(
    remote: &mut Remote<'_>,
    mapping: &Mapping,
    free_from: u64,
    stack_limit: u64,
    file: KeptFile<'_>,
) -> Result<()> {
    let start = match mapping.backing {
        // Reserve the room below the stack: the kernel does not do so in the new process, whose own stack is
        // elsewhere.
        Backing::Stack => {
            let above_agent = if mapping.start >= agent::END {
                agent::END
            } else {
                0
            };
            let free_from = free_from.max(above_agent).min(mapping.start);
            let room = stack_limit.min(STACK_ROOM) / PAGE * PAGE;
            mapping
                .end
                .saturating_sub(room)
                .clamp(free_from, mapping.start)
        }
        _ => mapping.start,
    };
    let len = mapping.end - start;
    let fixed = libc::MAP_PRIVATE | libc::MAP_FIXED;
    let what = "map its memory";
    let (flags, fd, offset) = match mapping.backing {
        Backing::Anonymous => (fixed | libc::MAP_ANONYMOUS, u64::MAX, 0),
        Backing::Stack => (
            fixed | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN,
            u64::MAX,
            0,
        ),
        Backing::File { file: id, offset } => (fixed, open_kept(remote, id, file)?, offset),
    };
    let args = [start, len, mapping.prot as u64, flags as u64, fd, offset];
    remote.must(what, libc::SYS_mmap, args)?;
    if fd != u64::MAX {
        remote.must("close a file in it", libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

/// The flags for opening a kept copy: other than regular files neither block nor are symbolic links followed, except
/// for our own `/proc/self/fd`.
pub fn kept_file_flags(path: &Path) -> i32 {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    if path.starts_with(format!("/proc/{}/fd", std::process::id())) {
        return flags;
    }
    flags | libc::O_NOFOLLOW
}

/// Opens a kept copy in the process, for reading.
fn open_kept(remote: &mut Remote<'_>, id: FileId, file: KeptFile<'_>) -> Result<u64> {
    let tid = remote.memory().tid();
    let path = file(id).map_err(|e| Error::os("find a file that it maps", tid, e))?;
    remote.reset_scratch();
    let name = remote.put_str(path.as_os_str().as_bytes())?;
    let flags = kept_file_flags(&path) as u64;
    let args = [libc::AT_FDCWD as u64, name, flags, 0, 0, 0];
    remote.must(&format!("open {}", path.display()), libc::SYS_openat, args)
}

/// Copies the agent's code to anonymous memory: as long as it is mapped from the executed file, the kernel refuses to
/// change the executable.
fn leave_program(remote: &mut Remote<'_>) -> Result<()> {
    let what = "move rrapper's pages";
    let len = agent::CODE_LEN;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let args = [agent::END, len, prot as u64, flags as u64, u64::MAX, 0];
    let at = remote.must(what, libc::SYS_mmap, args)?;
    agent::write_code(remote.memory(), at)?;
    let prot = libc::PROT_READ | libc::PROT_EXEC;
    remote.must(what, libc::SYS_mprotect, [at, len, prot as u64, 0, 0, 0])?;
    // The call is made from this very page: the same code is there afterwards.
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let args = [at, len, len, flags as u64, agent::START, 0];
    remote.must(what, libc::SYS_mremap, args)?;
    Ok(())
}

/// Sets the addresses of the layout, brk among them: `prctl(PR_SET_MM, PR_SET_MM_MAP)`. Needs privileges only with
/// another executable file, given as an open descriptor. Returns the kernel's error where it refuses.
///
/// # Errors
/// If no call can be made in the process.
pub fn set_layout(
    remote: &mut Remote<'_>,
    layout: &Layout,
    brk: u64,
    exe: Option<u32>,
) -> Result<std::io::Result<()>> {
    const NO_FILE: u32 = u32::MAX;
    let l = layout;
    let words = [
        l.start_code,
        l.end_code,
        l.start_data,
        l.end_data,
        l.start_brk,
        brk,
        l.start_stack,
        l.arg_start,
        l.arg_end,
        l.env_start,
        l.env_end,
        0,
        // The size of the auxiliary vector, which is 0, and behind it the file.
        u64::from(exe.unwrap_or(NO_FILE)) << 32,
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    remote.reset_scratch();
    let at = remote.put(&bytes)?;
    let option = libc::PR_SET_MM as u64;
    let args = [
        option,
        libc::PR_SET_MM_MAP as u64,
        at,
        bytes.len() as u64,
        0,
        0,
    ];
    let ret = remote.call(libc::SYS_prctl, args)?;
    Ok(match ret {
        0.. => Ok(()),
        _ => Err(std::io::Error::from_raw_os_error(-ret as i32)),
    })
}

fn set_name(remote: &mut Remote<'_>, exe: &[u8]) -> Result<()> {
    let name = exe.rsplit(|&b| b == b'/').next().unwrap_or(exe);
    remote.reset_scratch();
    let at = remote.put_str(&name[..name.len().min(15)])?;
    remote.call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, at, 0, 0, 0, 0])?;
    Ok(())
}

fn ignore_signals(remote: &mut Remote<'_>, ignored: u64) -> Result<()> {
    // struct sigaction of the kernel: handler, flags, restorer, mask.
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0];
    let bytes: Vec<u8> = ignore.iter().flat_map(|w| w.to_le_bytes()).collect();
    remote.reset_scratch();
    let at = remote.put(&bytes)?;
    for signal in (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0) {
        remote.call(libc::SYS_rt_sigaction, [signal, at, 0, 8, 0, 0])?;
    }
    Ok(())
}
