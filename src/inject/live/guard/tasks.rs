//! Processes and threads: each is traced, and in a sandbox their number is limited.
//!
//! `CLONE_UNTRACED` would let a child go unseen, and outlive the run. clone3(2) has its flags in memory, which other
//! threads can change at any time; so the kernel gets a copy in the agent's page, which they cannot change.

use super::namespaces;
use crate::constants::Answer;
use crate::inject::hook::HookCall;
use crate::inject::live::engine::Engine;
use crate::inject::live::task::Task;
use crate::sandbox::Sandbox;
use crate::syscall::Memory;
use crate::tracee::Stopped;
use crate::tracee::agent_page::AgentPiece;
use crate::tracee::filter::{StopRule, Test};
use std::collections::BTreeSet;

/// The calls that make tasks, and stop whatever their arguments are.
pub(super) const CALLS: &[i64] = &[libc::SYS_clone3];

/// Those that stop in a sandbox besides, to be counted.
pub(super) const COUNTED: &[i64] = &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone];

pub(super) const RULES: &[StopRule] = &[StopRule {
    nr: libc::SYS_clone,
    when: &[Test::Any(0, UNTRACED as u32)],
}];

const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// Puts the child into a control group by its descriptor.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// The sizes of `struct clone_args`: the first version, and the one that is known here (linux/sched.h).
const FIRST: usize = 64;
const KNOWN: usize = 88;

/// The size above which the kernel does not look at the structure.
const MOST: usize = 4096;

/// The arguments with which the kernel makes a call in place of the program's.
#[derive(Debug)]
pub(in crate::inject::live) struct CheckedArgs {
    pub args: [u64; 6],
    /// The program's.
    pub passed: [u64; 6],
    /// The number of the call, where that is another one.
    pub nr: Option<i64>,
    /// What they point to, where that was checked, too.
    _copy: Option<AgentPiece>,
}

impl CheckedArgs {
    pub(super) fn new(args: [u64; 6], passed: [u64; 6], copy: Option<AgentPiece>) -> CheckedArgs {
        CheckedArgs {
            args,
            passed,
            nr: None,
            _copy: copy,
        }
    }
}

/// A call that makes a task.
pub(super) enum Clone {
    /// clone, fork or vfork.
    Registers { flags: u64 },
    /// clone3, with a copy of its structure.
    Memory { flags: u64, copy: Vec<u8> },
}

impl Engine<'_> {
    /// Has a new task traced. In a sandbox, refuses it where it would be more than the limit or in namespaces of its
    /// own; the kernel applies no such limit to root.
    pub(super) fn guard_tasks(
        &self,
        me: &mut Task,
        task: &Stopped,
        seen: &HookCall,
    ) -> Option<Answer> {
        let clone = match seen.call.name {
            "fork" | "vfork" => Clone::Registers { flags: 0 },
            "clone" => Clone::Registers {
                flags: seen.args[0],
            },
            "clone3" => match clone_args(task, &seen.args) {
                Ok(copy) => Clone::Memory {
                    flags: word(&copy),
                    copy,
                },
                Err(errno) => return Some(Answer::Errno(errno)),
            },
            _ => return None,
        };
        if self.is_sandboxed() {
            if let Some(answer) = namespaces::guard_clone(&self.settings, &clone) {
                return Some(answer);
            }
            if let Clone::Memory { flags, .. } = clone
                && flags & INTO_CGROUP != 0
            {
                return Some(Answer::Errno(libc::EACCES));
            }
            if self.is_full() {
                return Some(Answer::Errno(libc::EAGAIN));
            }
        }
        let mut args = seen.args;
        let mut copied = None;
        match clone {
            Clone::Registers { flags } if flags & UNTRACED == 0 => return None,
            Clone::Registers { flags } => args[0] = flags & !UNTRACED,
            Clone::Memory { flags, mut copy } => {
                copy[..8].copy_from_slice(&(flags & !UNTRACED).to_le_bytes());
                let put = me.agent.as_ref().and_then(|page| page.put(&copy));
                let Some(piece) = put else {
                    // Programs then use clone.
                    return Some(Answer::Errno(libc::ENOSYS));
                };
                (args[0], args[1]) = (piece.addr(), copy.len() as u64);
                copied = Some(piece);
            }
        }
        me.checked = Some(CheckedArgs::new(args, seen.asked, copied));
        None
    }

    /// The processes that have ended and that nobody has waited for, if they may matter for this limit.
    fn zombies(&self, limit: usize) -> usize {
        let (ended, known) = (&self.quotas.ended, &self.quotas.zombies);
        if self.tasks.len() + 1 + ended.get() + known.get() >= limit
            && let Some(all) = self.sandbox.as_ref().and_then(Sandbox::processes)
        {
            let alive: BTreeSet<i32> = self.tasks.values().map(|task| task.process).collect();
            // The sandbox's first process, and the one that asks.
            known.set(all.saturating_sub(alive.len() + 2));
            ended.set(0);
        }
        known.get()
    }

    /// Whether the tasks that are there and those that are being made have reached the limit.
    fn is_full(&self) -> bool {
        let limit = usize::try_from(self.settings.limits.processes).unwrap_or(usize::MAX);
        // The task that asks is not in the list meanwhile.
        let there = self.tasks.len() + 1 + self.zombies(limit);
        let makes = |task: &&Task| {
            let pending = task.pending.as_ref();
            pending
                .is_some_and(|seen| matches!(seen.call.name, "fork" | "vfork" | "clone" | "clone3"))
        };
        there >= limit
            || 2 * there >= limit && there + self.tasks.values().filter(makes).count() >= limit
    }
}

/// Copies the structure of a clone3, as far as it is known here; the error is the kernel's.
fn clone_args(task: &Stopped, args: &[u64; 6]) -> Result<Vec<u8>, i32> {
    let size = usize::try_from(args[1]).unwrap_or(usize::MAX);
    if size > MOST {
        return Err(libc::E2BIG);
    }
    if size < FIRST {
        return Err(libc::EINVAL);
    }
    let mut copy = vec![0; size];
    if task.memory().read(args[0], &mut copy) < size {
        return Err(libc::EFAULT);
    }
    if copy.len() > KNOWN {
        if copy[KNOWN..].iter().any(|&byte| byte != 0) {
            return Err(libc::E2BIG);
        }
        copy.truncate(KNOWN);
    }
    Ok(copy)
}

/// The first word.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}
