//! Quotas that the kernel counts for a user or the machine, and not for a sandbox: keys, the sizes of pipes, asynchronous input
//! and output. Objects of which only the number matters are in [`super::counted`].
//!
//! A program that used them up would take them from the user's other programs. So a run gets a small part of them. The
//! quotas that can be limited otherwise are limited where sandboxes are made (`sandbox::user_quotas`, `sandbox::seal`).

use super::counted::Counts;
use crate::constants::Answer;
use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;
use crate::inject::live::task::Task;
use crate::tracee::filter::{StopRule, Test};
use crate::tracee::{Stopped, TaskMemory, spawn};
use nix::fcntl::{FcntlArg, fcntl};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The calls about keys, and asynchronous input and output.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_setup,
    libc::SYS_io_destroy,
];

/// The call that changes the size of a pipe.
const PIPE_SIZE: StopRule = StopRule {
    nr: libc::SYS_fcntl,
    when: &[Test::Is(1, libc::F_SETPIPE_SZ as u32)],
};

/// The calls that stop with some arguments. Huge pages are the machine's, and few.
pub(super) const RULES: &[StopRule] = &[
    PIPE_SIZE,
    StopRule {
        nr: libc::SYS_mmap,
        when: &[Test::Any(3, libc::MAP_HUGETLB as u32)],
    },
    StopRule {
        nr: libc::SYS_memfd_create,
        when: &[Test::Any(1, libc::MFD_HUGETLB)],
    },
    StopRule {
        nr: libc::SYS_shmget,
        when: &[Test::Any(2, libc::SHM_HUGETLB as u32)],
    },
];

/// The keys and keyrings of a run at one time; a user has 200 (keyrings(7)).
const KEYS: usize = 16;

/// The bytes of their descriptions and payloads; a user has 20,000.
const KEY_BYTES: u64 = 4096;

/// The keys and keyrings of the machine that a run may know of.
const KNOWN: usize = 4096;

/// The bytes of a run's pipes that are larger than usual; a user has 64 MiB of pipes.
const PIPE_BYTES: u64 = 8 << 20;

/// The requests of a run's contexts for asynchronous input and output; the machine has 65,536 (`fs.aio-max-nr`).
const REQUESTS: u64 = 8192;

/// The size of a pipe, unless a program changes it.
const USUAL_PIPE: u64 = 16 << 12;

/// The quotas that a run has used.
#[derive(Default)]
pub(in crate::inject::live) struct Quotas {
    keys: BTreeMap<i32, Key>,
    /// The keyrings of threads and processes, by the kernel's number of that.
    own_keyrings: BTreeSet<(Special, i32)>,
    /// Other keys that the kernel has told the run of.
    known: BTreeSet<i32>,
    /// The pipes that are larger than usual, by device and inode.
    pipes: BTreeMap<(u64, u64), u64>,
    pub(super) counts: Counts,
    /// The requests of each context of io_setup(2), by process and context.
    contexts: BTreeMap<(i32, u64), u64>,
    /// The processes that nobody had waited for at the last look, and those that have ended since.
    pub(super) zombies: Cell<usize>,
    pub(super) ended: Cell<usize>,
}

struct Key {
    bytes: u64,
    /// The keyring that it was added to.
    keyring: i32,
    /// Whether it may be in more keyrings.
    is_linked: bool,
}

/// A keyring that a thread or process has (keyctl(2)), made when it is first used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Special {
    Thread = -1,
    Process = -2,
}

/// `KEY_SPEC_SESSION_KEYRING`, and the keyrings of the user.
const SESSION: i32 = -3;
const OF_USER: std::ops::RangeInclusive<i32> = -5..=-4;

/// Operations of keyctl(2) (linux/keyctl.h).
mod operation {
    pub const GET_KEYRING_ID: u64 = 0;
    pub const JOIN_SESSION_KEYRING: u64 = 1;
    pub const UPDATE: u64 = 2;
    pub const CLEAR: u64 = 7;
    pub const LINK: u64 = 8;
    pub const UNLINK: u64 = 9;
    pub const SEARCH: u64 = 10;
    pub const INSTANTIATE: u64 = 12;
    pub const NEGATE: u64 = 13;
    pub const SET_REQKEY_KEYRING: u64 = 14;
    pub const ASSUME_AUTHORITY: u64 = 16;
    pub const SESSION_TO_PARENT: u64 = 18;
    pub const REJECT: u64 = 19;
    pub const INSTANTIATE_IOV: u64 = 20;
    pub const INVALIDATE: u64 = 21;
    pub const GET_PERSISTENT: u64 = 22;
    pub const DH_COMPUTE: u64 = 23;
    pub const PKEY_VERIFY: u64 = 28;
    pub const RESTRICT_KEYRING: u64 = 29;
    pub const MOVE: u64 = 30;
    pub const CAPABILITIES: u64 = 31;
}

/// The arguments of an operation that are keys.
fn keys_of(operation: u64) -> &'static [usize] {
    match operation {
        operation::JOIN_SESSION_KEYRING
        | operation::SET_REQKEY_KEYRING
        | operation::CAPABILITIES => &[],
        operation::LINK | operation::UNLINK => &[1, 2],
        operation::SEARCH => &[1, 4],
        operation::MOVE => &[1, 2, 3],
        _ => &[1],
    }
}

impl Engine<'_> {
    /// Bounds what a run takes of the user's quotas.
    pub(super) fn guard_quotas(
        &mut self,
        me: &Task,
        task: &Stopped,
        seen: &mut Decided,
    ) -> Option<Answer> {
        let refused = match seen.call.name {
            "add_key" => self.guard_add_key(me, task, seen),
            "request_key" => self.guard_request_key(me, task, seen),
            "keyctl" => self.guard_keyctl(me, task, seen),
            "io_setup" => self.guard_contexts(seen),
            "mmap" | "memfd_create" | "shmget" => guard_huge_pages(seen),
            "fcntl" if seen.args[1] as u32 == libc::F_SETPIPE_SZ as u32 => {
                return Some(self.set_pipe_size(me, task, seen));
            }
            _ => return None,
        };
        refused.err().map(Answer::Errno)
    }

    /// Refuses a context for more requests than are left. The contexts of a process that has ended count: another one may
    /// have its memory.
    fn guard_contexts(&self, seen: &Decided) -> Result<(), i32> {
        let held: u64 = self.quotas.contexts.values().sum();
        match held + u64::from(seen.args[0] as u32) > REQUESTS {
            true => Err(libc::EAGAIN),
            false => Ok(()),
        }
    }

    /// Notes a context that a call made or removed.
    pub(super) fn note_contexts(&mut self, me: &Task, seen: &Decided, ret: i64) {
        let contexts = &mut self.quotas.contexts;
        match seen.call.name {
            "io_setup" if ret == 0 => {
                let requests = u64::from(seen.args[0] as u32);
                let context = seen.memory.word(seen.args[1]).unwrap_or(0);
                *contexts.entry((me.process, context)).or_default() += requests;
            }
            "io_destroy" if ret == 0 => {
                contexts.remove(&(me.process, seen.args[0]));
            }
            _ => {}
        }
    }

    fn guard_add_key(&mut self, me: &Task, task: &Stopped, seen: &mut Decided) -> Result<(), i32> {
        self.guard_key(me, task, &mut seen.args[4])?;
        let bytes = key_bytes(&seen.memory, &seen.args);
        self.quotas.has_room(1, bytes)
    }

    fn guard_request_key(
        &mut self,
        me: &Task,
        task: &Stopped,
        seen: &mut Decided,
    ) -> Result<(), i32> {
        if seen.args[3] != 0 {
            self.guard_key(me, task, &mut seen.args[3])?;
        }
        // With information for it, a program of the machine would be started outside of the sandbox to make the key.
        seen.args[2] = 0;
        Ok(())
    }

    fn guard_keyctl(&mut self, me: &Task, task: &Stopped, seen: &mut Decided) -> Result<(), i32> {
        use operation::*;
        let operation = seen.args[0] & u64::from(u32::MAX);
        match operation {
            SESSION_TO_PARENT | GET_PERSISTENT | ASSUME_AUTHORITY => return Err(libc::EPERM),
            // These are for the program that the machine starts to make a key.
            INSTANTIATE | NEGATE | REJECT | INSTANTIATE_IOV => return Err(libc::EPERM),
            // Their keys are in memory that other tasks can change meanwhile.
            DH_COMPUTE..=PKEY_VERIFY => return Err(libc::EOPNOTSUPP),
            0..=RESTRICT_KEYRING | MOVE | CAPABILITIES => {}
            _ => return Err(libc::EOPNOTSUPP),
        }
        for &arg in keys_of(operation) {
            // There need be no second keyring.
            if arg > 1 && seen.args[arg] as i32 == 0 {
                continue;
            }
            self.guard_key(me, task, &mut seen.args[arg])?;
        }
        match operation {
            JOIN_SESSION_KEYRING => self.quotas.has_room(1, 0),
            UPDATE => self.quotas.has_room(0, seen.args[3]),
            _ => Ok(()),
        }
    }

    /// Refuses a key or keyring that is not of the run. The keyrings of the user are the session's.
    fn guard_key(&mut self, me: &Task, task: &Stopped, arg: &mut u64) -> Result<(), i32> {
        let id = *arg as i32;
        let special = match id {
            -1 => (Special::Thread, task.tid()),
            -2 => (Special::Process, me.process),
            id if OF_USER.contains(&id) => {
                *arg = SESSION as u64;
                return Ok(());
            }
            id if id < 0 => return Ok(()),
            id if self.quotas.keys.contains_key(&id) || self.quotas.known.contains(&id) => {
                return Ok(());
            }
            _ => return Err(libc::ENOKEY),
        };
        if !self.quotas.own_keyrings.contains(&special) {
            self.quotas.has_room(1, 0)?;
            self.quotas.own_keyrings.insert(special);
        }
        Ok(())
    }

    /// Notes the keys that a call made, found or removed.
    pub(super) fn note_keys(&mut self, seen: &Decided, ret: i64) {
        use operation::*;
        if ret < 0 {
            return;
        }
        let quotas = &mut self.quotas;
        let [first, key, ..] = seen.args;
        let (made, key) = (ret as i32, key as i32);
        match seen.call.name {
            "add_key" => {
                let bytes = key_bytes(&seen.memory, &seen.args);
                quotas.made(made, bytes, seen.args[4] as i32);
            }
            "request_key" => quotas.knows(made),
            "keyctl" => match first & u64::from(u32::MAX) {
                GET_KEYRING_ID | SEARCH => quotas.knows(made),
                JOIN_SESSION_KEYRING => quotas.made(made, 0, 0),
                UPDATE => {
                    if let Some(key) = quotas.keys.get_mut(&key) {
                        key.bytes = key.bytes.max(seen.args[3]);
                    }
                }
                LINK => {
                    if let Some(key) = quotas.keys.get_mut(&key) {
                        key.is_linked = true;
                    }
                }
                UNLINK if quotas.keys.get(&key).is_some_and(|key| key.is_linked) => {}
                UNLINK | INVALIDATE => {
                    quotas.keys.remove(&key);
                    quotas.known.remove(&key);
                }
                // Each task has others of these.
                CLEAR if key < 0 && key != SESSION => {}
                CLEAR => {
                    let keyring = key;
                    let stays = |key: &Key| key.is_linked || key.keyring != keyring;
                    quotas.keys.retain(|_, key| stays(key));
                }
                MOVE => {
                    if let Some(key) = quotas.keys.get_mut(&key) {
                        key.keyring = seen.args[3] as i32;
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Sets the size of a pipe in the task's stead: so it is the pipe that was looked at.
    fn set_pipe_size(&mut self, me: &Task, task: &Stopped, seen: &Decided) -> Answer {
        let (fd, size) = (seen.args[0] as i32, seen.args[2] as u32);
        let own = fs::metadata(format!("/proc/{}/fd/{fd}", task.tid()));
        let (Ok(own), Ok(file)) = (own, spawn::borrow_fd(me.process, fd)) else {
            return Answer::Errno(libc::EBADF);
        };
        let Ok(meta) = file.metadata() else {
            return Answer::Errno(libc::EBADF);
        };
        if !meta.file_type().is_fifo() {
            return Answer::Errno(libc::EBADF);
        }
        let key = (meta.dev(), meta.ino());
        let errno = |error| Answer::Errno(error as i32);
        let now = match fcntl(&file, FcntlArg::F_GETPIPE_SZ) {
            Ok(now) => u64::from(now as u32),
            Err(error) => return errno(error),
        };
        let wanted = u64::from(size).next_power_of_two().max(4096);
        if wanted > now {
            let others = |quotas: &Quotas| {
                let others = quotas.pipes.iter().filter(|(pipe, _)| **pipe != key);
                others.map(|(_, size)| size).sum::<u64>()
            };
            if others(&self.quotas) + wanted > PIPE_BYTES {
                self.forget_closed_pipes(task.tid());
            }
            // A thread may have another table of descriptors than its process.
            let is_other = (own.dev(), own.ino()) != key;
            // rrapper may be allowed more than the task.
            let is_too_large = wanted > largest_pipe();
            if is_other || is_too_large || others(&self.quotas) + wanted > PIPE_BYTES {
                return Answer::Errno(libc::EPERM);
            }
        }
        match fcntl(&file, FcntlArg::F_SETPIPE_SZ(size as i32)) {
            Ok(size) => {
                match size as u64 > USUAL_PIPE {
                    true => self.quotas.pipes.insert(key, size as u64),
                    false => self.quotas.pipes.remove(&key),
                };
                Answer::Value(size.into())
            }
            Err(error) => errno(error),
        }
    }

    /// Forgets the pipes that no task has open, neither this one, which is not in the list now, nor another.
    fn forget_closed_pipes(&mut self, this: i32) {
        let mut open = BTreeSet::new();
        for tid in self.tasks.keys().chain([&this]) {
            let entries = fs::read_dir(format!("/proc/{tid}/fd"))
                .into_iter()
                .flatten();
            for entry in entries.flatten() {
                if let Ok(meta) = fs::metadata(entry.path()) {
                    open.insert((meta.dev(), meta.ino()));
                }
            }
        }
        self.quotas.pipes.retain(|pipe, _| open.contains(pipe));
    }
}

impl Quotas {
    /// A process has ended: until its parent waits for it, it is there.
    pub fn process_ended(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    /// A task has ended, and with it its keyring.
    pub fn task_ended(&mut self, tid: i32) {
        self.own_keyrings.retain(|&(_, owner)| owner != tid);
    }

    /// Refuses so many keys more with so many bytes, where that is too much.
    fn has_room(&self, keys: usize, bytes: u64) -> Result<(), i32> {
        let held: u64 = self.keys.values().map(|key| key.bytes).sum();
        let all = self.keys.len() + self.own_keyrings.len();
        match all + keys > KEYS || held.saturating_add(bytes) > KEY_BYTES {
            true => Err(libc::EDQUOT),
            false => Ok(()),
        }
    }

    fn made(&mut self, id: i32, bytes: u64, keyring: i32) {
        let key = Key {
            bytes,
            keyring,
            is_linked: false,
        };
        let known = self.keys.entry(id).or_insert(key);
        // add_key(2) updates a key of the same name.
        known.bytes = known.bytes.max(bytes);
    }

    fn knows(&mut self, id: i32) {
        if self.known.len() < KNOWN {
            self.known.insert(id);
        }
    }
}

/// Refuses huge pages, as where the machine has none.
fn guard_huge_pages(seen: &Decided) -> Result<(), i32> {
    let (arg, flag) = match seen.call.name {
        "mmap" => (3, libc::MAP_HUGETLB as u64),
        "memfd_create" => (1, u64::from(libc::MFD_HUGETLB)),
        _ => (2, libc::SHM_HUGETLB as u64),
    };
    match seen.args[arg] & flag {
        0 => Ok(()),
        _ => Err(libc::ENOMEM),
    }
}

/// The bytes that a key added with these arguments has in the quota, at least.
fn key_bytes(memory: &TaskMemory, args: &[u64; 6]) -> u64 {
    // KEY_MAX_DESC_SIZE.
    const LONGEST: usize = 4096;
    let description = memory.bytes(args[1], LONGEST);
    let len = description.iter().take_while(|&&byte| byte != 0).count();
    args[3].saturating_add(len as u64 + 1)
}

/// `/proc/sys/fs/pipe-max-size`.
fn largest_pipe() -> u64 {
    let text = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap_or_default();
    text.trim().parse().unwrap_or(1 << 20)
}
