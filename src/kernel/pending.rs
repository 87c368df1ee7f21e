//! Signals that processes have sent each other and that are pending: blocked, or not delivered yet.
//!
//! Nothing is known here of signal masks. A signal that its receiver neither blocked nor wanted is pending here, too, and is
//! dropped by who looks at the mask. Signals that stop or continue processes are not followed.

use super::memory::{read_i32, read_u64};
use super::signal::{FIRST_REAL_TIME, Told, sends_signal};
use super::{Descriptors, Kernel, Object, ProcessTree};
use crate::constants::default_action::{is_harmless, is_stop};
use crate::kernel::call_data::moved;
use crate::recording::{CallEvent, ChunkMemory, SignalEvent};
use crate::syscall::{Memory, Moved};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// The size of a `siginfo_t`.
const INFO: usize = 128;

/// The most signals that are pending for a process in the model.
const MOST: usize = 4096;

/// The most signals that were received before the calls which sent them returned.
const MOST_EARLY: usize = 64;

/// A signal that was sent and not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSignal {
    /// Its number.
    pub signal: i32,
    /// The thread that it was sent to; `None` where it is any of the process.
    pub to: Option<i32>,
    /// Its `siginfo_t`.
    pub info: Vec<u8>,
    /// Whether the user in that is to be filled in: the one that all processes of the recording have.
    pub lacks_user: bool,
}

/// The pending signals of all processes.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingSignals {
    /// By pid, in order.
    all: BTreeMap<i32, Vec<PendingSignal>>,
    /// What was received before it was sent: the receiver, the signal, and the sender as the receiver knows it.
    early: VecDeque<(i32, i32, i32)>,
    /// The processes behind pidfds, by open file.
    behind: HashMap<u64, i32>,
}

impl PendingSignals {
    /// Forgets the pidfds other than these.
    pub(super) fn forget_closed(&mut self, alive: &HashSet<u64>) {
        self.behind.retain(|file, _| alive.contains(file));
    }

    fn add(&mut self, to: i32, sender: i32, new: PendingSignal) {
        let early = (to, new.signal, sender);
        if let Some(at) = self.early.iter().position(|one| *one == early) {
            self.early.remove(at);
            return;
        }
        let all = self.all.entry(to).or_default();
        let is_same = |one: &PendingSignal| (one.signal, one.to) == (new.signal, new.to);
        // A standard signal that is pending is not queued again.
        let is_merged = new.signal < FIRST_REAL_TIME && all.iter().any(is_same);
        if !is_merged && all.len() < MOST {
            all.push(new);
        }
    }

    /// A task has taken a signal, as it was told from this sender, if that is known and recorded.
    fn take(&mut self, (pid, tid): (i32, i32), signal: i32, sender: Option<i32>) {
        let all = self.all.entry(pid).or_default();
        let find = |to: Option<i32>| {
            let mut all = all.iter();
            all.position(|one| one.signal == signal && one.to == to)
        };
        match find(Some(tid)).or_else(|| find(None)) {
            Some(at) => _ = all.remove(at),
            None => {
                let Some(sender) = sender else { return };
                self.early.push_back((pid, signal, sender));
                if self.early.len() > MOST_EARLY {
                    self.early.pop_front();
                }
            }
        }
    }
}

impl Kernel {
    /// The signals that a process has been sent and that it has not taken yet, in order.
    pub fn pending_signals(&self, pid: i32) -> &[PendingSignal] {
        self.pending.all.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// Follows the signals that a call sends, takes or drops; `tree` has not followed it.
    pub(super) fn follow_pending(
        &mut self,
        tree: &ProcessTree,
        (pid, tid): (i32, i32),
        call: &CallEvent,
    ) {
        let Some(ret @ 0..) = call.ret else { return };
        let view = tree.view(tid);
        match i64::from(call.nr) {
            nr if sends_signal(nr) => self.follow_sent(tree, (pid, tid), call),
            libc::SYS_rt_sigtimedwait => {
                if let Some(Told::Sent { signal, by }) = Told::by_call(call) {
                    let by = by.filter(|&by| tree.named(tid, by).is_some());
                    self.pending.take((pid, tid), signal, by);
                }
            }
            libc::SYS_read | libc::SYS_readv => {
                let file = view.file(call.args[0] as i32).map(|(id, _)| id);
                let object = file.and_then(|id| self.object(id));
                if let Some(Object::Signalfd(_)) = object {
                    for told in Told::by_signalfd(&moved(call, Moved::Out)) {
                        if let Told::Sent { signal, by } = told {
                            let by = by.filter(|&by| tree.named(tid, by).is_some());
                            self.pending.take((pid, tid), signal, by);
                        }
                    }
                }
            }
            libc::SYS_rt_sigaction if call.args[1] != 0 && ret == 0 => {
                let signal = call.args[0] as i32;
                let handler = read_u64(&ChunkMemory(&call.ins), call.args[1]);
                if handler.is_some_and(|handler| is_ignored(signal, handler)) {
                    let all = self.pending.all.entry(pid).or_default();
                    all.retain(|one| one.signal != signal);
                }
            }
            _ => {}
        }
    }

    /// Notes the process behind a pidfd; `tree` has followed the call.
    pub(super) fn follow_pidfd(&mut self, tree: &ProcessTree, tid: i32, call: &CallEvent) {
        if i64::from(call.nr) != libc::SYS_pidfd_open {
            return;
        }
        let fd = call.ret.filter(|&ret| ret >= 0);
        let file = fd.and_then(|fd| tree.file_id(tid, fd as i32));
        let of = tree.named(tid, call.args[0] as i32);
        if let (Some(file), Some(pid)) = (file, of.and_then(|tid| tree.pid(tid))) {
            self.pending.behind.insert(file, pid);
        }
    }

    /// Follows a signal that a task got.
    pub(super) fn take_pending(
        &mut self,
        tree: &ProcessTree,
        (pid, tid): (i32, i32),
        signal: &SignalEvent,
    ) {
        let info = [crate::image::Chunk {
            addr: 0,
            data: signal.info.clone(),
        }];
        let told = Told::by_info(signal.signal, &ChunkMemory(&info), 0);
        if let (Some(Told::Sent { signal, by }), false) = (told, signal.fault) {
            let by = by.filter(|&by| tree.named(tid, by).is_some());
            self.pending.take((pid, tid), signal, by);
        }
    }

    /// Drops the signals of a task that is gone; `tree` has followed that.
    pub(super) fn drop_pending(&mut self, tree: &ProcessTree, pid: i32, tid: i32) {
        if !tree.is_alive(pid) {
            self.pending.all.remove(&pid);
        } else if let Some(all) = self.pending.all.get_mut(&pid) {
            all.retain(|one| one.to != Some(tid));
        }
    }

    fn follow_sent(&mut self, tree: &ProcessTree, (pid, tid): (i32, i32), call: &CallEvent) {
        let behind = &self.pending.behind;
        let of_descriptor = |fd: i32| behind.get(&tree.file_id(tid, fd)?).copied();
        let Some((signal, target)) = tree.sent_signal(tid, call, of_descriptor) else {
            return;
        };
        if !(1..=64).contains(&signal) || stops_or_continues(signal) {
            return;
        }
        let [_, second, third, fourth, ..] = call.args;
        let (given, thread) = match i64::from(call.nr) {
            libc::SYS_tkill => (None, Some(call.args[0])),
            libc::SYS_tgkill => (None, Some(second)),
            libc::SYS_rt_sigqueueinfo => (Some(third), None),
            libc::SYS_rt_tgsigqueueinfo => (Some(fourth), Some(second)),
            libc::SYS_pidfd_send_signal if third != 0 => (Some(third), None),
            _ => (None, None),
        };
        let code = match thread {
            Some(_) => libc::SI_TKILL,
            None => libc::SI_USER,
        };
        for to in tree.receivers(tid, target) {
            let sender = tree.number_for(to, pid);
            let mut info = vec![0; INFO];
            match given {
                Some(at) => _ = ChunkMemory(&call.ins).read(at, &mut info),
                None => {
                    info[8..12].copy_from_slice(&code.to_le_bytes());
                    info[16..20].copy_from_slice(&sender.to_le_bytes());
                }
            }
            info[..4].copy_from_slice(&signal.to_le_bytes());
            let chunk = [crate::image::Chunk {
                addr: 0,
                data: info.clone(),
            }];
            let named = read_i32(&ChunkMemory(&chunk), 16).unwrap_or(sender);
            let new = PendingSignal {
                signal,
                to: thread.and_then(|number| tree.named(tid, number as i32)),
                info,
                lacks_user: given.is_none(),
            };
            self.pending.add(to, named, new);
        }
    }
}

/// Whether a signal stops or continues a process by default, or kills it whatever it does.
fn stops_or_continues(signal: i32) -> bool {
    [libc::SIGKILL, libc::SIGCONT].contains(&signal) || is_stop(signal)
}

/// Whether a signal with this handler is ignored: signal(7).
pub(crate) fn is_ignored(signal: i32, handler: u64) -> bool {
    handler == libc::SIG_IGN as u64 || handler == libc::SIG_DFL as u64 && is_harmless(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(signal: i32, to: Option<i32>) -> PendingSignal {
        PendingSignal {
            signal,
            to,
            info: vec![0; INFO],
            lacks_user: true,
        }
    }

    #[test]
    fn standard_signals_are_merged_and_real_time_ones_are_queued() {
        let mut pending = PendingSignals::default();
        for _ in 0..3 {
            pending.add(11, 10, sent(libc::SIGUSR1, None));
            pending.add(11, 10, sent(40, None));
        }
        pending.add(11, 10, sent(libc::SIGUSR1, Some(12)));
        assert_eq!(pending.all[&11].len(), 5);
        // What was sent to the thread comes first.
        pending.take((11, 12), libc::SIGUSR1, Some(10));
        assert!(pending.all[&11].contains(&sent(libc::SIGUSR1, None)));
        pending.take((11, 12), libc::SIGUSR1, Some(10));
        pending.take((11, 12), 40, None);
        assert_eq!(pending.all[&11], [sent(40, None), sent(40, None)]);
    }

    #[test]
    fn what_was_taken_before_it_was_sent_is_not_pending() {
        let mut pending = PendingSignals::default();
        pending.take((11, 11), libc::SIGUSR1, Some(10));
        pending.take((11, 11), libc::SIGUSR2, None);
        pending.add(11, 10, sent(libc::SIGUSR1, None));
        assert!(pending.all[&11].is_empty());
        pending.add(11, 10, sent(libc::SIGUSR1, None));
        pending.add(11, 10, sent(libc::SIGUSR2, None));
        assert_eq!(pending.all[&11].len(), 2);
    }
}
