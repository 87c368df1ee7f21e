//! The agent's first page in live processes, which they cannot change.
//!
//! It is a shared mapping of an anonymous file that admits no other writable mapping than rrapper's own, so neither
//! `/proc/self/mem` nor process_vm_writev(2) changes it, and where the kernel can (6.10), it is sealed: no call takes it
//! away. Behind the code is room for arguments of calls that no thread of the process can change after they were checked.

use super::shared_mapping::SharedMapping;
use super::{Error, Remote, Result, Stopped, agent, spawn};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// The size of a piece, in bytes.
pub const PIECE: usize = 96;

const PIECES: u32 = (agent::FIXED.1 / PIECE as u64) as u32;

/// The name of the file.
const NAME: &[u8] = b"rrapper";

/// The page of a process and of the processes that it forks, which have the same one.
#[derive(Clone, Debug)]
pub struct AgentPage(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    mapping: SharedMapping,
    /// The pieces in use, by bit.
    used: Cell<u32>,
}

/// A piece of the page, in use until this is dropped.
#[derive(Debug)]
pub struct AgentPiece {
    page: AgentPage,
    piece: u32,
}

impl AgentPiece {
    /// Its address in the process.
    pub fn addr(&self) -> u64 {
        agent::FIXED.0 + u64::from(self.piece) * PIECE as u64
    }
}

impl Drop for AgentPiece {
    fn drop(&mut self) {
        let used = &self.page.0.used;
        used.set(used.get() & !(1 << self.piece));
    }
}

impl AgentPage {
    /// Puts bytes into a free piece; `None` if they are too many, or no piece is free.
    pub fn put(&self, bytes: &[u8]) -> Option<AgentPiece> {
        let used = &self.0.used;
        let piece = (!used.get()).trailing_zeros();
        if piece >= PIECES || bytes.len() > PIECE {
            return None;
        }
        used.set(used.get() | 1 << piece);
        let piece = AgentPiece {
            page: self.clone(),
            piece,
        };
        let at = piece.addr() - agent::START;
        self.0.mapping.write(at as usize, bytes);
        Some(piece)
    }

    /// Puts the page in the place of the agent's first page, which the task has. Also returns the descriptor in the task
    /// that is left, for the caller to close. `None` where the system lets the process have no such file.
    ///
    /// # Errors
    /// If the task ends or stops for another reason.
    pub fn install(remote: &mut Remote<'_>) -> Result<Option<(AgentPage, u64)>> {
        let name = remote.put_str(NAME)?;
        let Some(made) = make(remote.tid(), |flags| {
            remote.call(libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0])
        })?
        else {
            return Ok(None);
        };
        let mapped = remote.call(libc::SYS_mmap, map(made.fd))?;
        if mapped as u64 != agent::START {
            remote.call(libc::SYS_close, [made.fd, 0, 0, 0, 0, 0])?;
            return Ok(None);
        }
        remote.call(SYS_MSEAL, SEALED)?;
        Ok(Some((made.page, made.fd)))
    }

    /// The same for a task that has just executed a program and has no agent: `room` are the arguments of the mmap(2) of
    /// writable memory where the agent is to be. Also returns the result of that. Nothing is left for the caller to close.
    ///
    /// # Errors
    /// As for [`AgentPage::install`].
    pub fn install_first(task: &mut Stopped, room: [u64; 6]) -> Result<(i64, Option<AgentPage>)> {
        let mut name = NAME.to_vec();
        name.push(0);
        let [mapped, fd] = task.bootstrap_calls(&name, |name| {
            let create = [name, FLAGS | u64::from(libc::MFD_EXEC), 0, 0, 0, 0];
            [(libc::SYS_mmap, room), (libc::SYS_memfd_create, create)]
        })?;
        let mut first = Some(fd);
        let made = make(task.tid(), |flags| match first.take() {
            Some(fd) => Ok(fd),
            None => {
                task.memory().write(agent::SCRATCH, &name)?;
                let args = [agent::SCRATCH, flags, 0, 0, 0, 0];
                task.bootstrap_call(libc::SYS_memfd_create, args)
            }
        })?;
        let Some(made) = made else {
            return Ok((mapped, None));
        };
        let [over, ..] = task.bootstrap_calls(&[], |_| {
            [
                (libc::SYS_mmap, map(made.fd)),
                (SYS_MSEAL, SEALED),
                (libc::SYS_close, [made.fd, 0, 0, 0, 0, 0]),
            ]
        })?;
        let is_there = over as u64 == agent::START;
        Ok((mapped, is_there.then_some(made.page)))
    }
}

const SYS_MSEAL: i64 = 462;

/// The arguments of mseal(2). It is one of several fences, and kernels before 6.10 do not have it.
const SEALED: [u64; 6] = [agent::START, agent::END - agent::START, 0, 0, 0, 0];

/// The arguments of mmap(2).
fn map(fd: u64) -> [u64; 6] {
    let prot = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let len = agent::CODE_LEN;
    [agent::START, len, prot as u64, flags as u64, fd, 0]
}

/// A page that is not mapped yet.
struct Made {
    page: AgentPage,
    /// The descriptor in the process.
    fd: u64,
}

/// The flags of the file, besides one that not all kernels know.
const FLAGS: u64 = (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) as u64;

/// Makes the page in a process in which `create` makes an anonymous file with these flags.
fn make(tid: i32, mut create: impl FnMut(u64) -> Result<i64>) -> Result<Option<Made>> {
    let mut fd = create(FLAGS | u64::from(libc::MFD_EXEC))?;
    if fd == -i64::from(libc::EINVAL) {
        // A kernel before 6.3 does not know MFD_EXEC, and needs none.
        fd = create(FLAGS)?;
    }
    if fd < 0 {
        return Ok(None);
    }
    let file = spawn::borrow_fd(tid, fd as i32)?;
    let mapping = fill(&file).map_err(|e| Error::os("make rrapper's page in it", tid, e))?;
    let page = AgentPage(Rc::new(Shared {
        mapping,
        used: Cell::new(0),
    }));
    Ok(Some(Made {
        page,
        fd: fd as u64,
    }))
}

/// Fills the file, and keeps all other writers from it.
fn fill(file: &File) -> io::Result<SharedMapping> {
    file.set_len(agent::CODE_LEN)?;
    let mapping = SharedMapping::new(file, agent::CODE_LEN as usize)?;
    mapping.write(0, &agent::page());
    let seals =
        libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: fcntl(2) with a descriptor that we own and a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(mapping),
        _ => Err(io::Error::last_os_error()),
    }
}
