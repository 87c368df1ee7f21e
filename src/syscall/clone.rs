//! The arguments of clone(2), clone3(2), fork(2) and vfork(2).

use super::Memory;

/// The arguments of fork, vfork, clone and clone3, in the same form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneArgs {
    /// The `CLONE_*` flags, also those that fork(2) and vfork(2) stand for.
    pub flags: u64,
    /// The new task's stack pointer; 0 for its creator's.
    pub stack: u64,
    /// The base of the new task's thread-local storage, with `CLONE_SETTLS`.
    pub tls: u64,
    /// The address in the creator's memory that gets the new tid, with `CLONE_PARENT_SETTID`.
    pub parent_tid: u64,
    /// The address in the new task's memory that gets the new tid, with `CLONE_CHILD_SETTID`, and zero when the task
    /// ends, with `CLONE_CHILD_CLEARTID`.
    pub child_tid: u64,
    /// The address in the creator's memory that gets a descriptor, with `CLONE_PIDFD`.
    pub pidfd: u64,
}

impl CloneArgs {
    /// The arguments of a call; `None` if the call creates no task.
    pub fn of(nr: u32, args: &[u64; 6], memory: &dyn Memory) -> Option<CloneArgs> {
        let [a, b, c, d, e, _] = *args;
        let none = CloneArgs::default();
        Some(match i64::from(nr) {
            libc::SYS_fork => none,
            libc::SYS_vfork => CloneArgs {
                flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
                ..none
            },
            libc::SYS_clone => CloneArgs {
                flags: a,
                stack: b,
                parent_tid: c,
                child_tid: d,
                tls: e,
                pidfd: c,
            },
            libc::SYS_clone3 => {
                // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
                let mut words = [0u8; 64];
                memory.read(a, &mut words);
                let word = |n: usize| {
                    let (words, _) = words.as_chunks::<8>();
                    words.get(n).map_or(0, |w| u64::from_le_bytes(*w))
                };
                CloneArgs {
                    flags: word(0),
                    pidfd: word(1),
                    child_tid: word(2),
                    parent_tid: word(3),
                    stack: word(5).wrapping_add(word(6)),
                    tls: word(7),
                }
            }
            _ => return None,
        })
    }

    /// Returns whether all of these flags are set.
    pub fn has(&self, flags: i32) -> bool {
        self.flags & flags as u64 == flags as u64
    }

    /// An address that counts with one of these flags only; 0 without them.
    pub fn given(&self, flags: i32, addr: u64) -> u64 {
        match self.flags & flags as u64 {
            0 => 0,
            _ => addr,
        }
    }
}
