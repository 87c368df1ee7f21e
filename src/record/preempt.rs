//! Tasks that do not stop by themselves: one that waits for another by looking at memory again and again, or one
//! that a signal's handler waits for.
//!
//! There is no telling replay where in its instructions a task was stopped. So its state there is
//! written down: registers, and the memory that has changed since it was last done.

use super::schedule::Step;
use super::task::{Spell, Task};
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{Frame, Jump};
use crate::tracee::{Running, Stop, Stopped, TaskMemory, agent, proc, ticker};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

const PAGE: usize = 0x1000;

/// How many ticks a signal waits for the task's next call.
const PATIENCE: u64 = 4;

/// How many ticks a task may run while others wait, before it is looked at closely.
const UNSEEN: u64 = 10;

/// In how many looks in a row a task must be in the same place to count as spinning, and how large a place is.
const SEEN: u32 = 8;
const PLACE: u64 = 512;

/// How many ticks it may run anywhere while others wait.
const MOST: u64 = 40;

/// A preemption comes this many times later than the last one took.
const SHARE: u64 = 4;

/// The most memory that goes into one frame.
const PIECE: usize = 8 << 20;

/// The pages of an address space as they were when it was last looked at, by hash.
#[derive(Default)]
pub struct Space {
    pages: HashMap<u64, u64>,
    /// How many ticks the last preemption took.
    cost: u64,
}

impl Recorder {
    /// Called now and then while a task runs.
    pub(super) fn on_tick(&mut self, me: &mut Task, running: &Running) -> Result<()> {
        let cost = self.spaces.get(&me.space).map_or(0, |space| space.cost);
        let awaited = !me.held.is_empty() && me.spell.ticks() >= PATIENCE.max(cost * SHARE);
        let watched = !self.queue.is_empty() && me.spell.ticks() >= UNSEEN.max(cost);
        if awaited || watched {
            me.spell.interrupted = true;
            // One that was killed meanwhile says so itself.
            let _ = running.interrupt();
        }
        Ok(())
    }

    /// A task stands where [`Recorder::on_tick`] has stopped it.
    pub(super) fn on_interrupt(&mut self, me: &mut Task, task: Stopped) -> Result<Step> {
        let regs = task.regs()?;
        if !me.in_program() {
            return Ok(Step::Runs(task.resume_to_exit()?));
        }
        if me.held.is_empty() {
            let ip = regs.ip();
            let (low, high, seen) = me.spell.around;
            let (low, high) = (low.min(ip), high.max(ip));
            me.spell.around = if seen > 0 && high - low <= PLACE {
                (low, high, seen + 1)
            } else {
                (ip, ip, 1)
            };
            let cost = self.spaces.get(&me.space).map_or(0, |space| space.cost);
            let enough = me.spell.around.2 >= SEEN || me.spell.ticks() >= MOST.max(cost * SHARE);
            if !enough || self.queue.is_empty() {
                return Ok(Step::Runs(task.resume()?));
            }
        }
        self.jump(me, &task)?;
        if me.held.is_empty() {
            return Ok(self.put_off(me, task, Stop::Attached));
        }
        self.deliver_held(me, task)
    }

    /// Writes the state of a task between calls.
    pub(super) fn jump(&mut self, me: &mut Task, task: &Stopped) -> Result<()> {
        let began = ticker::ticks();
        self.ticker.set(true);
        self.write_tsc(me)?;
        let mut regs = task.regs()?;
        regs.set_ip(regs.ip());
        let blank = Jump {
            tid: me.tid,
            regs: regs.to_words().to_vec(),
            vector: task.vector()?,
            pages: Vec::new(),
            same: Vec::new(),
        };
        let mut space = self.spaces.remove(&me.space).unwrap_or_default();
        let written = self.write_pages(blank, task.memory(), &mut space.pages);
        space.cost = ticker::ticks() - began;
        self.spaces.insert(me.space, space);
        written?;
        me.unannounced = true;
        me.boundary = Some(task.regs()?);
        me.spell = Spell::new();
        Ok(())
    }

    /// Writes a task's memory, in as many frames as it takes. `seen` is what it was last time.
    fn write_pages(
        &mut self,
        blank: Jump,
        memory: TaskMemory,
        seen: &mut HashMap<u64, u64>,
    ) -> Result<()> {
        let mut jump = blank.clone();
        let mut len = 0;
        let mut buf = Vec::new();
        for (first, count) in written_pages(blank.tid)? {
            buf.resize(count * PAGE, 0);
            memory.read_exact(first, &mut buf)?;
            let pages = (first..).step_by(PAGE).zip(buf.chunks_exact(PAGE));
            for (addr, page) in pages {
                let mut hasher = DefaultHasher::new();
                hasher.write(page);
                let hash = hasher.finish();
                if seen.insert(addr, hash) == Some(hash) {
                    note_same(&mut jump.same, addr);
                    continue;
                }
                len += PAGE;
                match jump.pages.last_mut() {
                    Some(last) if last.addr + last.data.len() as u64 == addr => {
                        last.data.extend_from_slice(page);
                    }
                    _ => jump.pages.push(Chunk {
                        addr,
                        data: page.to_vec(),
                    }),
                }
            }
            if len >= PIECE {
                let full = std::mem::replace(&mut jump, blank.clone());
                self.write(Frame::Jump(full))?;
                len = 0;
            }
        }
        self.write(Frame::Jump(jump))
    }
}

fn note_same(same: &mut Vec<(u64, u32)>, addr: u64) {
    match same.last_mut() {
        Some((first, count)) if *first + u64::from(*count) * PAGE as u64 == addr => *count += 1,
        _ => same.push((addr, 1)),
    }
}

/// The pages of a task's memory that may have been written to, in runs: address and number.
fn written_pages(tid: i32) -> Result<Vec<(u64, usize)>> {
    let mut runs = Vec::new();
    let page_map = proc::PageMap::open(tid)?;
    for map in proc::maps(tid)? {
        let writable = map.prot & libc::PROT_WRITE != 0;
        if !writable || agent::overlaps(map.start, map.end) {
            continue;
        }
        let pages = match map.shared {
            true => page_map.present(map.start, map.end)?,
            false => page_map.private(map.start, map.end)?,
        };
        for run in pages.chunk_by(|a, b| a + PAGE as u64 == *b) {
            runs.extend(run.chunks(PIECE / PAGE).map(|part| (part[0], part.len())));
        }
    }
    Ok(runs)
}
