//! The handlers of signals that recorded processes have installed.

use crate::kernel::ProcessTree;
use crate::recording::{CallEvent, ChunkMemory, EventKind, Frame};
use crate::syscall::Memory;
use std::collections::{BTreeMap, HashMap};

/// `CLONE_CLEAR_SIGHAND` of linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Signals that report a fault of the code that runs: they interrupt no call.
const FAULTS: [i32; 7] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// The handlers of all processes.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    /// By process and signal: whether calls are restarted after the handler.
    by_pid: HashMap<i32, BTreeMap<i32, bool>>,
}

impl Handlers {
    /// Whether a process has a handler.
    pub fn any(&self, pid: i32) -> bool {
        self.by_pid.get(&pid).is_some_and(|all| !all.is_empty())
    }

    /// Whether a process has a handler after which calls are not restarted.
    pub fn any_interrupting(&self, pid: i32) -> bool {
        let handlers = self.by_pid.get(&pid).into_iter().flatten();
        handlers.into_iter().any(|(_, restarts)| !restarts)
    }

    /// Follows a frame, before the process tree does.
    pub fn follow(&mut self, frame: &Frame, tree: &ProcessTree) {
        match frame {
            Frame::NewTask(born) if born.pid == born.tid => {
                let maker = tree.pid(born.maker).and_then(|pid| self.by_pid.get(&pid));
                let kept = maker.filter(|_| born.flags & CLONE_CLEAR_SIGHAND == 0);
                let kept = kept.cloned().unwrap_or_default();
                self.by_pid.insert(born.pid, kept);
            }
            Frame::Event(event) => {
                if let (EventKind::Call(call), Some(pid)) = (&event.kind, tree.pid(event.tid)) {
                    self.follow_call(pid, call);
                }
            }
            Frame::Gone { tid, .. } => _ = self.by_pid.remove(tid),
            _ => {}
        }
    }

    fn follow_call(&mut self, pid: i32, call: &CallEvent) {
        if call.ret != Some(0) {
            return;
        }
        match i64::from(call.nr) {
            libc::SYS_execve | libc::SYS_execveat => _ = self.by_pid.remove(&pid),
            libc::SYS_rt_sigaction if !FAULTS.contains(&(call.args[0] as i32)) => {
                // The kernel's struct sigaction: the handler, then the flags.
                let mut action = [0; 16];
                if ChunkMemory(&call.ins).read(call.args[1], &mut action) < action.len() {
                    return;
                }
                let word = |at: usize| -> u64 {
                    let bytes = action[at..].iter().take(8).rev();
                    bytes.fold(0, |word, &byte| word << 8 | u64::from(byte))
                };
                let handlers = self.by_pid.entry(pid).or_default();
                let signal = call.args[0] as i32;
                match word(0) as usize {
                    libc::SIG_DFL | libc::SIG_IGN => _ = handlers.remove(&signal),
                    _ => _ = handlers.insert(signal, word(8) as i32 & libc::SA_RESTART != 0),
                }
            }
            _ => {}
        }
    }
}
