//! Places at which the tasks of a program wait for others by looking at memory again and again.
//!
//! A task that runs for long while others wait is suspected: it is stopped, and whenever it comes back to that
//! instruction. If its registers are the same then, but for a counter at most, it waits there, and so will others of its
//! program. From then on each of them stops when it comes there (see [`tracee::breakpoints`](crate::tracee::breakpoints)), from the
//! moment on at which an event sets it going. So it is known how many times it has, replay can do the same, and
//! a task that waits is preempted at once and for the price of a few registers.
//!
//! What only looks like waiting costs time, and is let go after a while.

use super::schedule::TaskStep;
use super::task::Task;
use super::{Recorder, Result, preempt};
use crate::recording::{Frame, Reach};
use crate::tracee::breakpoints::MOST;
use crate::tracee::{Regs, Stop, Stopped, proc};

/// How often in a row a suspect must come back unchanged.
const PROOF: u32 = 3;

/// How often it may come back changed.
const DOUBTS: u32 = 8;

/// A counter changes by no more than this: pointers that walk over data make larger steps.
const COUNTER_STEP: i64 = 1;

/// A task that was preempted so often in a row, without having made a call or gone anywhere else, may come back
/// twice as often until it is again; up to so often.
const ROUNDS: u32 = 8;
const MOST_PATIENCE: u32 = 256;

/// After so many it is not stopped any more, until it makes a call.
const MOST_ROUNDS: u32 = 96;

/// How often a task may come to places, between two calls, without being preempted there.
const MOST_TIMES: u32 = 512;

/// After how many such disappointments a place is forgotten.
const MISSES: u32 = 4;

/// The places of an address space.
#[derive(Clone, Default)]
pub struct SpinPoints {
    known: Vec<SpinPoint>,
    /// When one was last of use, counted in uses.
    clock: u64,
    /// The program handles the signal with which a task stops.
    disturbs: bool,
}

#[derive(Clone)]
struct SpinPoint {
    addr: u64,
    /// Nothing changes while a task waits there, not even a counter.
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

    /// A task has come by there all the time, and never waited.
    fn disappoint(&mut self, addr: u64) {
        if let Some(point) = self.at(addr) {
            point.misses += 1;
        }
        self.known.retain(|point| point.misses < MISSES);
    }
}

/// Where a task stops.
#[derive(Default)]
pub struct SpinWatch {
    /// The places.
    slots: Vec<Slot>,
    /// The last of them is that of a suspect, who was not stopped there all the time.
    probes: bool,
    /// In how many turns in a row it has got nowhere.
    rounds: u32,
    /// Its signal mask, if it blocks the signal with which it stops.
    mask: Option<u64>,
    /// It came to a place, but was stopped there in another way: the signal waits, and means nothing any more.
    late: bool,
}

/// A place at which a task stops.
#[derive(Clone, Default)]
struct Slot {
    addr: u64,
    /// How often it has come there since it was last set going.
    times: u32,
    /// Its registers when it did last.
    last: Option<Regs>,
    /// How often in a row they were the same.
    same: u32,
    /// How often they were not.
    doubts: u32,
}

impl Slot {
    fn of(addr: u64) -> Slot {
        Slot {
            addr,
            ..Slot::default()
        }
    }

    /// Takes note of the registers with which the task has come; whether they are those that it had before.
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
    /// It has made a call.
    pub fn begin_anew(&mut self) {
        self.rounds = 0;
        self.slots.iter_mut().for_each(|slot| slot.last = None);
    }

    /// An event sets it going.
    pub fn count_anew(&mut self) {
        for slot in &mut self.slots {
            (slot.times, slot.same) = (0, 0);
        }
    }

    /// Whether this is a place at which it stops.
    pub fn stops_at(&self, addr: u64) -> bool {
        self.slots.iter().any(|slot| slot.addr == addr)
    }

    /// Whether there is any place at which it stops.
    pub fn stops_anywhere(&self) -> bool {
        !self.slots.is_empty()
    }

    /// It has had a long turn: it may be waiting by now.
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

    /// Whether it stands at a place, and the signal that says so waits.
    pub fn is_due(&self, task: &Stopped) -> Result<bool> {
        Ok(!self.slots.is_empty() && proc::is_pending(task.tid(), libc::SIGTRAP)?)
    }

    /// Its state is written down as it is.
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

    /// What is left of the places without that of a suspect.
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
    /// But for one that counts.
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
    /// A program will see the signal with which its tasks stop: they do not stop any more.
    pub(super) fn stop_watching(&mut self, current: &Task) {
        self.spaces.entry(current.space).or_default().points = SpinPoints {
            disturbs: true,
            ..SpinPoints::default()
        };
    }

    /// An event sets a task going: it stops where tasks of its program wait.
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

    /// A task that has run for long stands where it was stopped: it becomes a suspect, or is none any more.
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
            // It is there, so it is the machine.
            tracing::debug!("no task is stopped where it waits: {error}");
            self.no_points = true;
            current.watch = SpinWatch::default();
        }
        Ok(())
    }

    /// A task stands at a place.
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

    /// Writes down that a task has come to where it stands, for this many times.
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

    /// A task that was preempted has the others go on, or gets the signal that it waits for.
    pub(super) fn give_way(&mut self, current: &mut Task, task: Stopped) -> Result<TaskStep> {
        if current.held.is_empty() {
            return Ok(self.requeue(current, task, Stop::Attached));
        }
        self.deliver_held(current, task)
    }
}

/// Whether a program would see the signal with which its tasks stop.
fn handles_trap(tid: i32) -> Result<bool> {
    Ok(proc::catches(tid, libc::SIGTRAP)? || proc::ignores(tid, libc::SIGTRAP)?)
}
