//! Spin points: addresses at which the tasks of a program wait for others by reading memory again and again.
//!
//! A task that runs for long while others wait is a suspect: it is stopped each time it comes back to its present
//! instruction. If its registers are the same then, but for a counter at most, it spins there, and so will others of
//! its program. From then on each of them has a breakpoint there (see
//! [`tracee::breakpoints`](crate::tracee::breakpoints)), set when an event resumes it. So the number of its visits is
//! known, replay can count the same, and a spinning task is preempted at once for the price of a few registers.
//!
//! An address that only looks like a spin point costs time, and is dropped after a while.

use super::schedule::TaskStep;
use super::task::Task;
use super::{Recorder, Result, preempt};
use crate::recording::{Frame, Reach};
use crate::tracee::breakpoints::MOST;
use crate::tracee::{Regs, Stop, Stopped, proc};

/// The number of consecutive unchanged visits that prove a spin point.
const PROOF: u32 = 3;

/// The number of changed visits that refute it.
const DOUBTS: u32 = 8;

/// The largest step of a counter: pointers that walk over data make larger steps.
const COUNTER_STEP: i64 = 1;

/// After so many consecutive preemptions at one address without a call, a task may visit it twice as often before the
/// next preemption; up to a limit.
const ROUNDS: u32 = 8;
const MOST_PATIENCE: u32 = 256;

/// After so many preemptions a task has no breakpoint until its next call.
const MOST_ROUNDS: u32 = 96;

/// The limit on visits between two calls without a preemption.
const MOST_TIMES: u32 = 512;

/// The number of vain uses after which a spin point is dropped.
const MISSES: u32 = 4;

/// The spin points of an address space.
#[derive(Clone, Default)]
pub struct SpinPoints {
    known: Vec<SpinPoint>,
    /// The count of uses, as a clock for the points' last uses.
    clock: u64,
    /// True if the program handles SIGTRAP, the signal of breakpoints.
    disturbs: bool,
}

#[derive(Clone)]
struct SpinPoint {
    addr: u64,
    /// True if no register changes while a task spins there, not even a counter.
    pure: bool,
    used: u64,
    misses: u32,
}

impl SpinPoints {
    fn at(&mut self, addr: u64) -> Option<&mut SpinPoint> {
        self.known.iter_mut().find(|point| point.addr == addr)
    }

    fn learn(&mut self, addr: u64, pure: bool) {
        self.known.retain(|point| point.addr != addr);
        if self.known.len() == MOST
            && let Some(oldest) = (0..MOST).min_by_key(|&at| self.known[at].used)
        {
            self.known.remove(oldest);
        }
        self.clock += 1;
        self.known.push(SpinPoint {
            addr,
            pure,
            used: self.clock,
            misses: 0,
        });
    }

    fn use_of(&mut self, addr: u64) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(point) = self.at(addr) {
            point.used = clock;
            point.misses = 0;
        }
    }

    /// Counts a vain use: a task visited the address often and did not spin.
    fn disappoint(&mut self, addr: u64) {
        if let Some(point) = self.at(addr) {
            point.misses += 1;
        }
        self.known.retain(|point| point.misses < MISSES);
    }
}

/// The breakpoints of a task at spin points.
#[derive(Default)]
pub struct SpinWatch {
    /// The breakpoints.
    slots: Vec<Slot>,
    /// True if the last breakpoint is that of a suspect, which was not counted from the beginning.
    probes: bool,
    /// The number of consecutive turns without progress.
    rounds: u32,
    /// The signal mask, if it blocks SIGTRAP.
    mask: Option<u64>,
    /// True if another stop preceded the breakpoint's: its SIGTRAP is pending, and must be ignored.
    late: bool,
}

/// A breakpoint at a spin point.
#[derive(Clone, Default)]
struct Slot {
    addr: u64,
    /// The number of visits since the task was last resumed by an event.
    times: u32,
    /// The registers at the last visit.
    last: Option<Regs>,
    /// The number of consecutive visits with the same registers.
    same: u32,
    /// The number of visits with other registers.
    doubts: u32,
}

impl Slot {
    fn of(addr: u64) -> Slot {
        Slot {
            addr,
            ..Slot::default()
        }
    }

    /// Compares the registers of a visit with those of the last one.
    fn compare(&mut self, regs: Regs, pure: bool) -> Option<Alike> {
        self.times += 1;
        let alike = self.last.replace(regs).and_then(|last| alike(&last, &regs));
        let alike = alike.filter(|&alike| alike == Alike::Same || !pure);
        match alike {
            Some(_) => self.same += 1,
            None => (self.same, self.doubts) = (0, self.doubts + 1),
        }
        alike
    }
}

impl SpinWatch {
    /// Resets the counts after a call.
    pub fn begin_anew(&mut self) {
        self.rounds = 0;
        self.slots.iter_mut().for_each(|slot| slot.last = None);
    }

    /// Resets the visits when an event resumes the task.
    pub fn count_anew(&mut self) {
        for slot in &mut self.slots {
            (slot.times, slot.same) = (0, 0);
        }
    }

    /// Returns whether there is a breakpoint at this address.
    pub fn stops_at(&self, addr: u64) -> bool {
        self.slots.iter().any(|slot| slot.addr == addr)
    }

    /// Returns whether there is any breakpoint.
    pub fn stops_anywhere(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Allows proofs again after a long turn: the task may be spinning by now.
    pub fn expect_spinning(&mut self) {
        self.rounds /= 2;
    }

    fn set(&mut self, task: &mut Stopped, slots: Vec<Slot>) -> Result<()> {
        let addresses = |slots: &[Slot]| -> Vec<u64> { slots.iter().map(|s| s.addr).collect() };
        let points = addresses(&slots);
        if addresses(&self.slots) != points {
            task.set_breakpoints(&points)?;
        }
        self.slots = slots;
        self.note_mask(task)
    }

    /// Returns whether the task stands at a breakpoint whose signal is pending.
    pub fn is_due(&self, task: &Stopped) -> Result<bool> {
        Ok(!self.slots.is_empty() && proc::is_pending(task.tid(), libc::SIGTRAP)?)
    }

    /// Handles the recording of the task's state.
    pub fn stands(&mut self, task: &Stopped) -> Result<()> {
        self.late = self.is_due(task)?;
        Ok(())
    }

    fn note_mask(&mut self, task: &Stopped) -> Result<()> {
        if self.late {
            return Ok(());
        }
        const BIT: u64 = 1 << (libc::SIGTRAP - 1);
        self.mask = match self.slots.is_empty() {
            true => None,
            false => Some(task.sigmask()?).filter(|mask| mask & BIT != 0),
        };
        Ok(())
    }

    /// The breakpoints without that of a suspect.
    fn proven(&self) -> Vec<Slot> {
        let mut slots = self.slots.clone();
        slots.truncate(slots.len() - usize::from(self.probes));
        slots
    }

    fn patience(&self) -> u32 {
        1 << (self.rounds / ROUNDS).min(MOST_PATIENCE.ilog2())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    Same,
    /// The registers are the same except for one counter.
    Counting,
}

fn alike(before: &Regs, now: &Regs) -> Option<Alike> {
    match now.changed_since(before).as_slice() {
        [] => Some(Alike::Same),
        &[(_, by)] if (-COUNTER_STEP..=COUNTER_STEP).contains(&(by as i64)) => {
            Some(Alike::Counting)
        }
        _ => None,
    }
}

impl Recorder {
    /// Gives up breakpoints in a program that handles SIGTRAP.
    pub(super) fn stop_watching(&mut self, current: &Task) {
        self.spaces.entry(current.space).or_default().points = SpinPoints {
            disturbs: true,
            ..SpinPoints::default()
        };
    }

    /// Sets a task's breakpoints when an event resumes it.
    pub(super) fn watch(&mut self, current: &mut Task, task: &mut Stopped) -> Result<()> {
        let known = self
            .spaces
            .get(&current.space)
            .map(|space| &space.points.known);
        let known = known.filter(|_| current.watch.rounds < MOST_ROUNDS && !self.no_points);
        let known = known.map_or(&[][..], Vec::as_slice);
        current.watch.count_anew();
        current.watch.probes = false;
        let places = known.iter().map(|point| point.addr);
        if places
            .clone()
            .eq(current.watch.slots.iter().map(|slot| slot.addr))
        {
            return current.watch.note_mask(task);
        }
        current.watch.set(task, places.map(Slot::of).collect())
    }

    /// Makes a task that was stopped after a long run a suspect, or drops the suspicion.
    pub(super) fn suspect(
        &mut self,
        current: &mut Task,
        task: &mut Stopped,
        ip: u64,
    ) -> Result<()> {
        let disturbs = self
            .spaces
            .get(&current.space)
            .is_some_and(|s| s.points.disturbs);
        if self.no_points || disturbs {
            return Ok(());
        }
        let mut slots = current.watch.proven();
        let is_known = slots.iter().any(|slot| slot.addr == ip);
        let probes = !current.watch.probes && !is_known && current.watch.rounds < MOST_ROUNDS;
        if probes {
            slots.truncate(MOST - 1);
            slots.push(Slot::of(ip));
        }
        current.watch.probes = probes;
        if let Err(error) = current.watch.set(task, slots) {
            task.regs()?;
            // The task exists, so the machine has no debug registers.
            tracing::debug!("no task is stopped where it waits: {error}");
            self.no_points = true;
            current.watch = SpinWatch::default();
        }
        Ok(())
    }

    /// Handles a task at a breakpoint.
    pub(super) fn on_point(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
        regs: Regs,
    ) -> Result<TaskStep> {
        if let Some(mask) = current.watch.mask {
            task.set_sigmask(mask)?;
        }
        let is_late = std::mem::take(&mut current.watch.late);
        let which = current
            .watch
            .slots
            .iter()
            .position(|slot| slot.addr == regs.ip());
        let Some(which) = which.filter(|_| !is_late) else {
            return Ok(TaskStep::Running(task.resume()?));
        };
        let space = self.spaces.entry(current.space).or_default();
        let pure = space.points.at(regs.ip()).is_some_and(|point| point.pure);
        let patience = current.watch.patience();
        let is_suspect = current.watch.probes && which + 1 == current.watch.slots.len();
        let slot = &mut current.watch.slots[which];
        let has_come_before = slot.last.is_some();
        let alike = slot.compare(regs, pure);
        let &mut Slot {
            times,
            same,
            doubts,
            ..
        } = slot;
        if has_come_before && alike.is_none() {
            current.watch.rounds = 0;
        }
        let others_wait = !self.queue.is_empty() || !current.held.is_empty();
        if is_suspect {
            if same >= PROOF && others_wait && !handles_trap(current.tid)? {
                tracing::debug!("task {} waits at {:#x}", current.tid, regs.ip());
                space.points.learn(regs.ip(), alike == Some(Alike::Same));
                if self.is_worth_it(current) {
                    self.write_preemption(current, &task)?;
                    return self.give_way(current, task);
                }
            }
            if same >= PROOF || doubts >= DOUBTS {
                let proven = current.watch.proven();
                current.watch.probes = false;
                current.watch.set(&mut task, proven)?;
            }
        } else if others_wait && same >= patience {
            space.points.use_of(regs.ip());
            current.watch.rounds += 1;
            self.reached(current, times, regs)?;
            return self.give_way(current, task);
        } else if times >= MOST_TIMES {
            if others_wait {
                space.points.disappoint(regs.ip());
            }
            current.watch.probes = false;
            current.watch.set(&mut task, Vec::new())?;
        }
        Ok(TaskStep::Running(task.resume()?))
    }

    /// Records a task's arrival at its present address after so many visits.
    fn reached(&mut self, current: &mut Task, times: u32, regs: Regs) -> Result<()> {
        self.write_tsc(current)?;
        self.write(Frame::Reach(Reach {
            tid: current.tid,
            times,
            regs: regs.to_words().to_vec(),
        }))?;
        preempt::stands(current, regs);
        Ok(())
    }

    /// Lets other tasks run after a preemption, or delivers a held signal.
    pub(super) fn give_way(&mut self, current: &mut Task, task: Stopped) -> Result<TaskStep> {
        if current.held.is_empty() {
            return Ok(self.requeue(current, task, Stop::Attached));
        }
        self.deliver_held(current, task)
    }
}

/// Returns whether a program handles or ignores SIGTRAP.
fn handles_trap(tid: i32) -> Result<bool> {
    Ok(proc::catches(tid, libc::SIGTRAP)? || proc::ignores(tid, libc::SIGTRAP)?)
}
