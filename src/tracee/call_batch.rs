//! Batches of calls in a helper process of rrapper's that no filter stops.
//!
//! A remote call costs a stop; a batch of calls costs one stop altogether. The process has a few instructions that make
//! the calls of a table one after the other. They stop at the first call that fails, unless that call may fail.

use super::task::{Stop, Stopped};
use super::{Error, Result, spawn};
use crate::syscall::Memory;

/// The size of the memory for a table and the data that it points to.
const ROOM: u64 = 1 << 20;

/// Walks the table from rbx to rbp:
///
/// ```text
/// next:   rax, rdi, rsi, rdx, r10, r8, r9 = entry[0..7]
///         syscall
///         *entry[7] = rax;  entry[0] = rax
///         if rax < 0 and entry[8] != 0: stop
///         rbx += sizeof entry;  if rbx < rbp: next
/// stop:   int3
/// ```
const CODE: [u8; 61] = [
    0x48, 0x8b, 0x03, 0x48, 0x8b, 0x7b, 0x08, 0x48, 0x8b, 0x73, 0x10, 0x48, 0x8b, 0x53, 0x18, 0x4c,
    0x8b, 0x53, 0x20, 0x4c, 0x8b, 0x43, 0x28, 0x4c, 0x8b, 0x4b, 0x30, 0x0f, 0x05, 0x48, 0x8b, 0x4b,
    0x38, 0x48, 0x89, 0x01, 0x48, 0x89, 0x03, 0x48, 0x85, 0xc0, 0x79, 0x07, 0x48, 0x83, 0x7b, 0x40,
    0x00, 0x75, 0x09, 0x48, 0x83, 0xc3, 0x48, 0x48, 0x39, 0xeb, 0x72, 0xc4, 0xcc,
];

/// The words of an entry: number and result, arguments, the second address for the result, whether it must succeed.
const WORDS: usize = 9;
const ARG: usize = 1;
const ALSO: usize = 7;
const MUST: usize = 8;

/// An argument of a call in a batch.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A number.
    Value(u64),
    /// The address of these bytes.
    Bytes(&'a [u8]),
    /// The address of this text, with a NUL behind it.
    Text(&'a [u8]),
    /// The result of an earlier call; each result can be used once.
    Result(CallId),
}

/// A call of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(usize);

/// Calls to be made one after the other.
#[derive(Debug, Default)]
pub struct Batch {
    data: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    nr: i64,
    args: [Word; 6],
    must: bool,
    /// The entry and the argument that take the result.
    also: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Value(u64),
    /// At this offset of the data.
    Data(u64),
}

/// The results of a batch.
#[derive(Debug)]
pub struct Outcome {
    results: Vec<i64>,
    /// The failed call that had to succeed, with its error.
    pub failed: Option<(CallId, std::io::Error)>,
}

impl Outcome {
    /// The return value of a call; negative is -errno. `None` where it was not made.
    pub fn result(&self, call: CallId) -> Option<i64> {
        self.results.get(call.0).copied()
    }
}

impl Batch {
    /// Adds a call that must succeed; if it fails, no later call is made.
    pub fn must(&mut self, nr: i64, args: &[Arg<'_>]) -> CallId {
        self.add(nr, args, true)
    }

    /// Adds a call that may fail.
    pub fn may(&mut self, nr: i64, args: &[Arg<'_>]) -> CallId {
        self.add(nr, args, false)
    }

    fn add(&mut self, nr: i64, args: &[Arg<'_>], must: bool) -> CallId {
        let me = self.entries.len();
        let mut words = [Word::Value(0); 6];
        for (i, (word, arg)) in words.iter_mut().zip(args).enumerate() {
            *word = match *arg {
                Arg::Value(value) => Word::Value(value),
                Arg::Bytes(bytes) => self.put(bytes, false),
                Arg::Text(text) => self.put(text, true),
                Arg::Result(made) => {
                    debug_assert!(self.entries[made.0].also.is_none());
                    self.entries[made.0].also = Some((me, ARG + i));
                    Word::Value(0)
                }
            };
        }
        self.entries.push(Entry {
            nr,
            args: words,
            must,
            also: None,
        });
        CallId(me)
    }

    fn put(&mut self, bytes: &[u8], nul: bool) -> Word {
        let at = self.data.len() as u64;
        self.data.extend(bytes);
        if nul {
            self.data.push(0);
        }
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        Word::Data(at)
    }

    /// The table and behind it the data, for memory at `base`.
    fn lay_out(&self, base: u64) -> Vec<u8> {
        let at = |entry: usize, word: usize| base + 8 * (entry * WORDS + word) as u64;
        let data = at(self.entries.len(), 0);
        let mut bytes = Vec::with_capacity(self.entries.len() * WORDS * 8 + self.data.len());
        for (i, entry) in self.entries.iter().enumerate() {
            let mut words = [0; WORDS];
            words[0] = entry.nr as u64;
            for (word, arg) in words[ARG..ALSO].iter_mut().zip(entry.args) {
                *word = match arg {
                    Word::Value(value) => value,
                    Word::Data(offset) => data + offset,
                };
            }
            let (to, word) = entry.also.unwrap_or((i, 0));
            words[ALSO] = at(to, word);
            words[MUST] = entry.must.into();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        bytes.extend(&self.data);
        bytes
    }
}

/// A process of rrapper's that makes batches of calls. It has no files and no recorded memory, and can be copied.
#[derive(Debug)]
pub struct HelperProcess {
    task: Stopped,
    code: u64,
    room: u64,
}

impl HelperProcess {
    /// Starts the process.
    ///
    /// # Errors
    /// If the process cannot be made or traced.
    pub fn start() -> Result<HelperProcess> {
        let mut task = spawn::start_unfiltered()?;
        let mut remote = task.remote_at_boundary()?;
        let map = |len: u64, prot: i32| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            [0, len, prot as u64, flags as u64, u64::MAX, 0]
        };
        let what = "make room for calls";
        let code = map(CODE.len() as u64, libc::PROT_READ | libc::PROT_EXEC);
        let code = remote.must(what, libc::SYS_mmap, code)?;
        let room = map(ROOM, libc::PROT_READ | libc::PROT_WRITE);
        let room = remote.must(what, libc::SYS_mmap, room)?;
        remote.memory().write(code, &CODE)?;
        remote.finish()?;
        Ok(HelperProcess { task, code, room })
    }

    /// Copies the process into new namespaces (`CLONE_NEW…`); the inner error is the kernel's where it refuses.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn copy(&mut self, namespaces: u64) -> Result<std::io::Result<HelperProcess>> {
        let mut remote = self.task.remote_at_boundary()?;
        let copy = remote.fork_as("copy it", namespaces, None)?;
        remote.finish()?;
        let (code, room) = (self.code, self.room);
        Ok(copy.map(|task| HelperProcess { task, code, room }))
    }

    /// Its real pid.
    pub fn pid(&self) -> i32 {
        self.task.tid()
    }

    /// The process as a stopped task.
    pub(crate) fn into_task(self) -> Stopped {
        self.task
    }

    /// Makes the calls of a batch.
    ///
    /// # Errors
    /// If there are too many, or the process ends or stops for another reason.
    pub fn make(&mut self, batch: &Batch) -> Result<Outcome> {
        let bytes = batch.lay_out(self.room);
        let tid = self.task.tid();
        if bytes.len() as u64 > ROOM {
            let error = std::io::Error::from_raw_os_error(libc::E2BIG);
            return Err(Error::os("pass so many calls to it", tid, error));
        }
        let table = (batch.entries.len() * WORDS * 8) as u64;
        let memory = self.task.memory();
        memory.write(self.room, &bytes)?;
        let mut regs = self.task.regs()?.plain_at(self.code);
        regs.0.rbx = self.room;
        regs.0.rbp = self.room + table;
        if batch.entries.is_empty() {
            return Ok(Outcome {
                results: Vec::new(),
                failed: None,
            });
        }
        self.task.set_regs(&regs)?;
        loop {
            match self.task.go_on()? {
                Stop::Signal(libc::SIGTRAP) => break,
                Stop::Signal(_) if !self.task.siginfo()?.is_fault() => {}
                other => {
                    return Err(Error::Unexpected {
                        what: "make calls in it",
                        tid,
                        stop: format!("{other:?}"),
                    });
                }
            }
        }
        let end = self.task.regs()?.0.rbx;
        let made = end.saturating_sub(self.room) as usize / (WORDS * 8);
        let mut results = vec![0; table as usize];
        if memory.read(self.room, &mut results) != results.len() {
            let error = std::io::Error::from_raw_os_error(libc::EFAULT);
            return Err(Error::os("read what its calls returned", tid, error));
        }
        let mut results: Vec<i64> = results
            .chunks_exact(WORDS * 8)
            .map(|entry| {
                let mut word = [0; 8];
                word.copy_from_slice(&entry[..8]);
                i64::from_le_bytes(word)
            })
            .collect();
        let failed = results.get(made).map(|&ret| {
            let error = std::io::Error::from_raw_os_error(ret.wrapping_neg() as i32);
            (CallId(made), error)
        });
        results.truncate(made + usize::from(failed.is_some()));
        Ok(Outcome { results, failed })
    }
}
