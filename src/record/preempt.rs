//! Preemption of tasks that do not stop by themselves: a task that spins until another has changed memory, or one for
//! which a signal handler is due.
//!
//! The position of such a stop among a task's instructions cannot be reproduced. So the task's state is recorded:
//! registers, and the memory that has changed since the last time.

use super::schedule::TaskStep;
use super::spin_points::SpinPoints;
use super::task::{CpuBurst, Task};
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{Frame, Jump};
use crate::tracee::{Regs, Running, Stopped, TaskMemory, agent, proc, ticker};
use std::collections::HashMap;

const PAGE: usize = 0x1000;

/// The number of ticks that a signal is held for the task's next call.
const PATIENCE: u64 = 20;

/// The number of ticks that a task may run while others wait, before it is preempted if it seems to spin.
const UNSEEN: u64 = 24;

/// The number of consecutive samples in the same code range that count as spinning, and the size of that range.
const SEEN: u32 = 6;
pub const PLACE: u64 = 512;

/// The number of ticks that any task may run while others wait.
const MOST: u64 = 100;

/// The minimal time before a preemption, as a multiple of the duration of the last one.
const SHARE: u64 = 8;

/// The limit on the memory in one frame.
const PIECE: usize = 8 << 20;

/// An address space, with the hashes of its pages at the last preemption.
#[derive(Default)]
pub struct AddressSpace {
    pages: HashMap<u64, u64>,
    /// The duration of the last preemption in ticks.
    cost: u64,
    /// The spin points of its tasks.
    pub points: SpinPoints,
}

impl AddressSpace {
    /// The address space of a new child process.
    pub fn child(&self) -> AddressSpace {
        AddressSpace {
            points: self.points.clone(),
            ..AddressSpace::default()
        }
    }
}

/// Notes the registers of a preempted task.
pub fn stands(current: &mut Task, regs: Regs) {
    current.unannounced = true;
    current.boundary = Some(regs);
    current.burst = CpuBurst::new();
    current.reads.begin_anew();
}

impl Recorder {
    /// Called at ticks while a task runs.
    pub(super) fn on_tick(&mut self, current: &mut Task, running: &Running) -> Result<()> {
        current.burst.ticked = ticker::ticks();
        let ticks = current.burst.ticks();
        let awaited = !current.held.is_empty() && ticks >= PATIENCE.max(self.cost(current) * SHARE);
        let watched = (!self.queue.is_empty() || !current.held.is_empty())
            && ticks >= current.burst.next_look;
        if awaited || watched {
            current.burst.interrupted = true;
            // The end of a task that was killed meanwhile is reported by the next wait.
            let _ = running.interrupt();
        }
        Ok(())
    }

    /// Returns whether a spinning task has run for long enough to be worth the cost of a preemption.
    pub(super) fn is_worth_it(&self, current: &Task) -> bool {
        current.burst.ticks() >= self.cost(current) * SHARE
    }

    fn cost(&self, current: &Task) -> u64 {
        self.spaces
            .get(&current.space)
            .map_or(0, |space| space.cost)
    }

    /// Handles the stop that [`Recorder::on_tick`] requested.
    pub(super) fn on_interrupt(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
    ) -> Result<TaskStep> {
        if !current.in_program() {
            return Ok(TaskStep::Running(task.resume_to_exit()?));
        }
        if current.watch.is_due(&task)? {
            return Ok(TaskStep::Running(task.resume()?));
        }
        let ip = task.regs()?.ip();
        let (ticks, cost) = (current.burst.ticks(), self.cost(current));
        current.burst.sample(ip);
        let enough = if current.held.is_empty() {
            let spins = current.burst.around.2 >= SEEN && ticks >= UNSEEN.max(cost * SHARE);
            !self.queue.is_empty() && (spins || ticks >= MOST.max(cost * SHARE))
        } else {
            ticks >= PATIENCE.max(cost * SHARE)
        };
        if !enough {
            self.suspect(current, &mut task, ip)?;
            return Ok(TaskStep::Running(task.resume()?));
        }
        self.write_preemption(current, &task)?;
        current.busy_since = Some(ticker::ticks());
        current.watch.expect_spinning();
        self.give_way(current, task)
    }

    /// Records the state of a task between calls.
    pub(super) fn write_preemption(&mut self, current: &mut Task, task: &Stopped) -> Result<()> {
        let began = ticker::ticks();
        self.ticker.set(true);
        self.write_tsc(current)?;
        let mut regs = task.regs()?;
        regs.set_ip(regs.ip());
        let blank = Jump {
            tid: current.tid,
            regs: regs.to_words().to_vec(),
            vector: task.vector()?,
            pages: Vec::new(),
            same: Vec::new(),
        };
        let mut space = self.spaces.remove(&current.space).unwrap_or_default();
        let written = self.write_pages(blank, task.memory(), &mut space.pages);
        space.cost = ticker::ticks() - began;
        tracing::debug!(
            "task {} is preempted after {} ms, which takes {} ms",
            current.tid,
            began - current.burst.begun,
            space.cost
        );
        self.spaces.insert(current.space, space);
        written?;
        current.watch.stands(task)?;
        stands(current, task.regs()?);
        Ok(())
    }

    /// Records the changed pages of a task's memory, in several frames if needed. `seen` are the hashes of the last
    /// time.
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
                let hash = hash(page);
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

/// The hash of a page: products of 16 bytes each, folded.
fn hash(page: &[u8]) -> u64 {
    const KEYS: [u64; 4] = [
        0xa076_1d64_78bd_642f,
        0xe703_7ed1_a0b4_28db,
        0x8ebc_6af0_9c88_c6e3,
        0x5899_65cc_7537_4cc3,
    ];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut lanes = KEYS;
    for block in page.as_chunks::<64>().0 {
        for (lane, (words, key)) in lanes
            .iter_mut()
            .zip(block.as_chunks::<16>().0.iter().zip(KEYS))
        {
            let (low, high) = words.split_at(8);
            let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
            *lane = fold(word(low) ^ key, word(high) ^ *lane).wrapping_add(lane.rotate_left(23));
        }
    }
    let [a, b, c, d] = lanes;
    fold(
        fold(a ^ KEYS[1], b ^ KEYS[2]),
        fold(c ^ KEYS[3], d ^ KEYS[0]),
    )
}

fn note_same(same: &mut Vec<(u64, u32)>, addr: u64) {
    match same.last_mut() {
        Some((first, count)) if *first + u64::from(*count) * PAGE as u64 == addr => *count += 1,
        _ => same.push((addr, 1)),
    }
}

/// The pages of a task's memory that may have been written, in runs: address and number.
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
