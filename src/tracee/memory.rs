//! The memory of a traced process.

use super::{Error, Result};
use crate::syscall::Memory;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

const PAGE: u64 = 0x1000;

/// The memory of a task's address space, by its tid. A cheap handle; the content is only stable while the task is
/// stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskMemory {
    tid: i32,
}

/// A prctl(2) on the "dumpable" attribute, which hides a process's memory from tracers without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumpable {
    /// `PR_SET_DUMPABLE` with 0: memory is hidden.
    Cleared,
    /// `PR_SET_DUMPABLE` with 1: memory is visible.
    Set,
    /// `PR_GET_DUMPABLE`.
    Queried,
}

impl Dumpable {
    /// The operation of a call; `None` for other calls, and those that the kernel refuses.
    pub fn of(nr: u32, args: &[u64; 6]) -> Option<Dumpable> {
        if i64::from(nr) != libc::SYS_prctl {
            return None;
        }
        match (args[0] as i32, args[1]) {
            (libc::PR_SET_DUMPABLE, 0) => Some(Dumpable::Cleared),
            (libc::PR_SET_DUMPABLE, 1) => Some(Dumpable::Set),
            (libc::PR_GET_DUMPABLE, _) => Some(Dumpable::Queried),
            _ => None,
        }
    }

    /// Applies the operation to the set of processes with hidden memory, and returns the answer to the call. The call
    /// is not made, since a tracer without privileges cannot read an undumpable process. `None` where the kernel's
    /// answer is right.
    pub fn follow<K: Ord>(self, hidden: &mut BTreeSet<K>, who: K) -> Option<i64> {
        match self {
            Dumpable::Cleared => {
                hidden.insert(who);
                Some(0)
            }
            Dumpable::Set => {
                hidden.remove(&who);
                None
            }
            Dumpable::Queried => hidden.contains(&who).then_some(0),
        }
    }
}

impl TaskMemory {
    /// The memory of this task.
    pub fn new(tid: i32) -> TaskMemory {
        TaskMemory { tid }
    }

    /// The task.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Fills `buf` from `addr`.
    ///
    /// # Errors
    /// If a byte of the range cannot be read.
    pub fn read_exact(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        if self.read(addr, buf) == buf.len() {
            return Ok(());
        }
        self.open(false)?.read_exact_at(buf, addr).map_err(|e| {
            Error::os(
                format!("read {} bytes at {addr:#x}", buf.len()),
                self.tid,
                e,
            )
        })
    }

    /// The bytes of a range, or as many from its start as can be read.
    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        let n = self.read(addr, &mut buf);
        buf.truncate(n);
        buf
    }

    /// Reads a word.
    ///
    /// # Errors
    /// If the address is not mapped.
    pub fn word(&self, addr: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read_exact(addr, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Writes bytes. Pages that the program may not write are written all the same
    /// (as a debugger would, by `/proc/PID/mem`), and a stack grows where it must.
    ///
    /// # Errors
    /// If part of the range is not mapped, or mapped shared and read-only.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.write_where_it_may(addr, bytes) {
            return Ok(());
        }
        self.open(true)?.write_all_at(bytes, addr).map_err(|e| {
            Error::os(
                format!("write {} bytes at {addr:#x}", bytes.len()),
                self.tid,
                e,
            )
        })
    }

    /// Writes bytes where the program itself could. Returns whether all were written.
    pub fn write_where_it_may(&self, addr: u64, bytes: &[u8]) -> bool {
        let local = [IoSlice::new(bytes)];
        let remote = [RemoteIoVec {
            base: addr as usize,
            len: bytes.len(),
        }];
        process_vm_writev(Pid::from_raw(self.tid), &local, &remote) == Ok(bytes.len())
    }

    fn open(&self, write: bool) -> Result<std::fs::File> {
        OpenOptions::new()
            .read(true)
            .write(write)
            .open(format!("/proc/{}/mem", self.tid))
            .map_err(|e| Error::os("open its memory", self.tid, e))
    }

    fn read_once(&self, addr: u64, buf: &mut [u8]) -> usize {
        let len = buf.len();
        let mut local = [IoSliceMut::new(buf)];
        let remote = [RemoteIoVec {
            base: addr as usize,
            len,
        }];
        process_vm_readv(Pid::from_raw(self.tid), &mut local, &remote).unwrap_or(0)
    }
}

/// A cache of a task's memory: pages are read whole and only once.
pub struct Pages {
    memory: TaskMemory,
    /// Address and content of the cached pages; no content where a page cannot be read.
    pages: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl Pages {
    /// The number of pages that are kept.
    const KEPT: usize = 16;

    /// Reads this memory.
    pub fn new(memory: TaskMemory) -> Pages {
        Pages {
            memory,
            pages: RefCell::default(),
        }
    }

    /// The bytes of a range, or as many from its start as can be read.
    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        let n = self.read(addr, &mut buf);
        buf.truncate(n);
        buf
    }

    fn read_page(&self, addr: u64, buf: &mut [u8]) -> usize {
        let page = addr & !(PAGE - 1);
        let from = (addr - page) as usize;
        let mut pages = self.pages.borrow_mut();
        let at = match pages.iter().position(|&(start, _)| start == page) {
            Some(at) => at,
            None => {
                if pages.len() == Pages::KEPT {
                    pages.remove(0);
                }
                pages.push((page, self.memory.bytes(page, PAGE as usize)));
                pages.len() - 1
            }
        };
        let content = pages[at].1.get(from..).unwrap_or_default();
        let n = content.len().min(buf.len());
        buf[..n].copy_from_slice(&content[..n]);
        n
    }
}

impl Memory for Pages {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        if buf.len() >= PAGE as usize {
            return self.memory.read(addr, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = addr.wrapping_add(done as u64);
            let end = buf.len().min(done + (PAGE - at % PAGE) as usize);
            let n = self.read_page(at, &mut buf[done..end]);
            done += n;
            if n == 0 || done < end {
                break;
            }
        }
        done
    }
}

impl Memory for TaskMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let n = self.read_once(addr, buf);
        if n == buf.len() || buf.is_empty() {
            return n;
        }
        // Depending on the kernel, a remote range is read whole or not at all: read page by page up to the first
        // missing one.
        let mut done = n;
        while done < buf.len() {
            let at = addr.wrapping_add(done as u64);
            let page = (PAGE - at % PAGE) as usize;
            let end = buf.len().min(done + page);
            let n = self.read_once(at, &mut buf[done..end]);
            done += n;
            if n == 0 || done < end {
                break;
            }
        }
        done
    }
}
