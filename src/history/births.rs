//! The beginnings and the ends of the processes of a recording: who made each, and until when its end was not asked for.

use super::Recording;
use crate::kernel::ProcessTree;
use crate::recording::{CallEvent, ChunkMemory, Event, EventKind, Frame, NewTask, Result};
use crate::syscall::Memory;
use crate::trace::Exit;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// A process that another one made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Its pid.
    pub pid: i32,
    /// The process that was its parent when it began.
    pub parent: i32,
    /// The task that made it.
    pub maker: i32,
    /// The number by which its maker knows it.
    pub named: i32,
    /// The number of the event before it began.
    pub after: u64,
    /// The event of its maker that made it; `None` where the recording does not reach so far.
    pub answered: Option<u64>,
    /// The signal that its parent gets at its end.
    pub exit_signal: i32,
    /// Whether its maker waits until it executes a program or ends: vfork(2).
    pub holds_maker: bool,
    /// The event at which it first executed a program.
    pub executed: Option<u64>,
    /// The number of the last event before its end, and the end.
    pub ended: Option<(u64, Exit)>,
    /// The event at which its parent was told of the end: a signal, or wait4(2) and kin.
    pub told: Option<u64>,
    /// The event at which its parent waited for it, so that nothing is left of it.
    pub waited_for: Option<u64>,
}

impl Birth {
    /// Whether it is alive at an event, before its call is answered.
    pub fn is_alive(&self, event: u64) -> bool {
        self.after < event && self.ended.is_none_or(|(last, _)| last >= event)
    }

    /// Whether it has ended before an event, and its parent has not waited for it yet.
    pub fn is_unreaped(&self, event: u64) -> bool {
        self.ended.is_some_and(|(last, _)| last < event)
            && self.waited_for.is_none_or(|waited| waited >= event)
    }

    /// Whether it is there, and the call that made it has not returned to its maker yet.
    pub fn is_unanswered(&self, event: u64) -> bool {
        self.after < event && self.answered.is_none_or(|answered| answered >= event)
    }

    /// Whether its maker still waits for it to execute a program.
    pub fn holds(&self, event: u64) -> bool {
        self.holds_maker
            && self.is_alive(event)
            && self.executed.is_none_or(|executed| executed >= event)
    }
}

impl Recording {
    /// The processes that others made, in order.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn births(&self) -> Result<Arc<Vec<Birth>>> {
        let mut known = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(births) = &*known {
            return Ok(Arc::clone(births));
        }
        let births = Arc::new(read(self)?);
        *known = Some(Arc::clone(&births));
        Ok(births)
    }
}

fn read(recording: &Recording) -> Result<Vec<Birth>> {
    let mut reading = Reading::default();
    if recording.is_empty() {
        return Ok(reading.births);
    }
    let mut tree = ProcessTree::at_start(recording.start());
    let mut frames = recording.frames_from(1)?;
    while let Some(frame) = frames.next_frame()? {
        match &frame {
            Frame::Event(event) => {
                reading.event += 1;
                reading.follow(&tree, event);
                tree.follow(&frame);
            }
            Frame::NewTask(born) => {
                tree.follow(&frame);
                reading.born(&tree, born);
            }
            Frame::Gone { tid, exit, .. } => {
                let pid = tree.pid(*tid);
                tree.follow(&frame);
                if let Some(pid) = pid.filter(|&pid| !tree.is_alive(pid)) {
                    reading.ended(pid, *exit);
                }
            }
            _ => tree.follow(&frame),
        }
    }
    Ok(reading.births)
}

#[derive(Default)]
struct Reading {
    births: Vec<Birth>,
    /// The latest birth of each pid.
    latest: HashMap<i32, usize>,
    /// The births of which their makers, the tasks, have not been told yet.
    unanswered: HashMap<i32, usize>,
    event: u64,
}

impl Reading {
    fn born(&mut self, tree: &ProcessTree, born: &NewTask) {
        if born.pid != born.tid || tree.pid(born.tid) != Some(born.pid) {
            return;
        }
        let signal = match (born.flags & 0xff) as i32 {
            0 => libc::SIGCHLD,
            signal => signal,
        };
        self.latest.insert(born.pid, self.births.len());
        self.unanswered.insert(born.maker, self.births.len());
        self.births.push(Birth {
            pid: born.pid,
            parent: tree.ppid(born.tid).unwrap_or(0),
            maker: born.maker,
            named: born.named,
            after: self.event,
            answered: None,
            exit_signal: signal,
            holds_maker: born.flags & libc::CLONE_VFORK as u64 != 0,
            executed: None,
            ended: None,
            told: None,
            waited_for: None,
        });
    }

    fn ended(&mut self, pid: i32, exit: Exit) {
        let event = self.event;
        if let Some(birth) = self.latest(pid) {
            birth.ended = Some((event, exit));
        }
    }

    fn latest(&mut self, pid: i32) -> Option<&mut Birth> {
        self.births.get_mut(*self.latest.get(&pid)?)
    }

    fn follow(&mut self, tree: &ProcessTree, event: &Event) {
        let Some(pid) = tree.pid(event.tid) else {
            return;
        };
        let number = self.event;
        if let Some(at) = self.unanswered.remove(&event.tid) {
            self.births[at].answered = Some(number);
        }
        match &event.kind {
            EventKind::Signal(signal) => {
                let told = self.births.iter_mut().rev().take(MOST_CHILDREN);
                let told = told.filter(|birth| {
                    birth.parent == pid
                        && birth.exit_signal == signal.signal
                        && birth.ended.is_some()
                        && birth.told.is_none()
                });
                for birth in told {
                    birth.told = Some(number);
                }
            }
            EventKind::Call(call) if call.was_made() => match i64::from(call.nr) {
                libc::SYS_execve | libc::SYS_execveat if call.ret == Some(0) => {
                    if let Some(birth) = self.latest(pid) {
                        birth.executed.get_or_insert(number);
                    }
                }
                libc::SYS_wait4 | libc::SYS_waitid => {
                    let Some(child) = waited_for(call) else {
                        return;
                    };
                    let mut births = self.births.iter_mut().rev();
                    let birth = births.find(|birth| {
                        birth.parent == pid
                            && birth.named == child
                            && birth.ended.is_some()
                            && birth.waited_for.is_none()
                    });
                    if let Some(birth) = birth {
                        birth.told.get_or_insert(number);
                        birth.waited_for = Some(number);
                    }
                }
                _ => {}
            },
            EventKind::Call(_) => {}
        }
    }
}

/// The children that a signal may be about: one signal stands for many.
const MOST_CHILDREN: usize = 4096;

/// The child whose end a call took away, by its number.
fn waited_for(call: &CallEvent) -> Option<i32> {
    // struct siginfo: si_pid behind si_signo, si_errno, si_code and padding.
    const SI_CODE: u64 = 8;
    const SI_PID: u64 = 16;
    const CLD_TRAPPED: i32 = 4;
    let ret = call.ret?;
    if i64::from(call.nr) == libc::SYS_wait4 {
        let status = ChunkMemory(&call.outs);
        let mut word = [0; 4];
        // A stopped child, or one that goes on, stays.
        let known = call.args[1] != 0 && status.read(call.args[1], &mut word) == word.len();
        let status = i32::from_le_bytes(word);
        let is_end = !known || !libc::WIFSTOPPED(status) && !libc::WIFCONTINUED(status);
        return i32::try_from(ret).ok().filter(|&pid| pid > 0 && is_end);
    }
    let leaves = call.args[3] as i32 & libc::WNOWAIT != 0;
    if ret != 0 || leaves {
        return None;
    }
    let memory = ChunkMemory(&call.outs);
    let word = |at: u64| {
        let mut word = [0; 4];
        (memory.read(call.args[2] + at, &mut word) == word.len()).then(|| i32::from_le_bytes(word))
    };
    let is_end = word(SI_CODE).is_some_and(|code| code < CLD_TRAPPED);
    word(SI_PID).filter(|&pid| pid > 0 && is_end)
}
