//! Receive rings of packet sockets (packet(7), as libpcap uses them): the kernel writes packets into memory that a
//! program has mapped, at any time. The program gets private memory instead, and rrapper maps the ring. At the exit of
//! each call, new packets are copied into the program's memory as an output of the call; at the entry of the next call,
//! the slots that the program has returned are returned to the kernel.

use super::task::Task;
use super::{Recorder, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;
use crate::tracee::shared_mapping::SharedMapping;
use crate::tracee::{TaskMemory, proc, spawn};
use std::collections::HashMap;

/// Options of `SOL_PACKET`, and a status bit (linux/if_packet.h).
const PACKET_RX_RING: i32 = 5;
const PACKET_VERSION: i32 = 10;
const TPACKET_V3: u32 = 2;
const TP_STATUS_USER: u32 = 1;

/// The size of `struct tpacket_block_desc`, in bytes.
const BLOCK_DESC: usize = 48;

/// The limit on the size of a ring.
const MOST: u64 = 1 << 30;

/// The rings of the recorded programs.
#[derive(Default)]
pub struct PacketRings {
    /// The ring options of sockets, by the sockets' names in `/proc`.
    sockets: HashMap<Vec<u8>, Shape>,
    mapped: Vec<Ring>,
}

/// The options of a socket's ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    version: u32,
    /// The members of `struct tpacket_req`.
    block_size: u32,
    blocks: u32,
    frame_size: u32,
    frames: u32,
}

/// A slot of a ring, which belongs either to the kernel or to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    at: usize,
    size: usize,
    /// The offset of its status.
    status: usize,
    /// The offset of its length in use, if it has one.
    used: Option<usize>,
}

struct Ring {
    space: u32,
    at: u64,
    window: SharedMapping,
    slots: Vec<Slot>,
    /// The slots that belong to the program.
    given: Vec<bool>,
}

impl Shape {
    fn size(&self) -> u64 {
        u64::from(self.block_size) * u64::from(self.blocks)
    }

    fn slots(&self) -> Vec<Slot> {
        let blocks = (0..self.blocks as usize).map(|nth| nth * self.block_size as usize);
        if self.version >= TPACKET_V3 {
            // struct tpacket_block_desc: the status is its third word, its length in use its sixth.
            let slot = |at: usize| Slot {
                at,
                size: (self.block_size as usize).max(BLOCK_DESC),
                status: at + 8,
                used: Some(at + 20),
            };
            return blocks.map(slot).collect();
        }
        let size = (self.frame_size as usize).max(1);
        let each = self.block_size as usize / size;
        let all = blocks.flat_map(|block| (0..each).map(move |nth| block + nth * size));
        let slots = all.map(|at| Slot {
            at,
            size,
            status: at,
            used: None,
        });
        slots.take(self.frames as usize).collect()
    }
}

impl Recorder {
    /// Follows the ring options of a socket.
    pub(super) fn note_ring(&mut self, current: &Task, event: &CallEvent) {
        let [fd, level, option, at, ..] = event.args;
        let is_about = i64::from(event.nr) == libc::SYS_setsockopt
            && level as i32 == libc::SOL_PACKET
            && matches!(option as i32, PACKET_RX_RING | PACKET_VERSION)
            && event.ret == Some(0);
        let name = is_about.then(|| proc::fd_path(current.tid, fd as i32).ok());
        let Some(name) = name.flatten() else {
            return;
        };
        let word = |nth: u64| {
            let mut word = [0; 4];
            ChunkMemory(&event.ins).read(at.wrapping_add(nth * 4), &mut word);
            u32::from_le_bytes(word)
        };
        let shape = self.rings.sockets.entry(name).or_default();
        if option as i32 == PACKET_VERSION {
            shape.version = word(0);
        } else {
            let version = shape.version;
            *shape = Shape {
                version,
                block_size: word(0),
                blocks: word(1),
                frame_size: word(2),
                frames: word(3),
            };
        }
    }

    /// Returns whether an mmap maps a whole ring.
    pub(super) fn maps_ring(&self, current: &Task, event: &CallEvent) -> bool {
        self.shape_of(current, event).is_some()
    }

    fn shape_of(&self, current: &Task, event: &CallEvent) -> Option<Shape> {
        let [_, len, _, flags, fd, offset] = event.args;
        let shared = flags as i32 & libc::MAP_TYPE == libc::MAP_SHARED;
        if self.rings.sockets.is_empty() || i64::from(event.nr) != libc::SYS_mmap || !shared {
            return None;
        }
        let name = proc::fd_path(current.tid, fd as i32).ok()?;
        let shape = *self.rings.sockets.get(&name)?;
        let whole = offset == 0 && len == shape.size() && (1..=MOST).contains(&len);
        whole.then_some(shape)
    }

    /// Changes an mmap of a ring into one of private anonymous memory.
    pub(super) fn own_memory(args: &mut [u64; 6]) {
        let kept = args[3] as i32 & !libc::MAP_TYPE;
        args[3] = (kept | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        (args[4], args[5]) = (u64::MAX, 0);
    }

    /// Maps the ring into rrapper after the program has mapped the memory in its place.
    pub(super) fn mapped_ring(&mut self, current: &Task, event: &CallEvent) -> Result<bool> {
        let (Some(shape), Some(at)) = (self.shape_of(current, event), event.ret) else {
            return Ok(false);
        };
        let file = spawn::borrow_fd(current.pid, event.args[4] as i32)?;
        let window = SharedMapping::new(&file, shape.size() as usize).map_err(|e| {
            crate::tracee::Error::os("map the ring of its packet socket", current.tid, e)
        })?;
        let slots = shape.slots();
        self.rings.mapped.push(Ring {
            space: current.space,
            at: at as u64,
            window,
            given: vec![false; slots.len()],
            slots,
        });
        Ok(true)
    }

    /// At a call's entry: returns to the kernel the slots that the program has returned.
    pub(super) fn return_packets(&mut self, current: &Task) {
        let memory = TaskMemory::new(current.tid);
        for ring in &mut self.rings.mapped {
            if ring.space == current.space {
                ring.give_back(&memory);
            }
        }
    }

    /// At a call's exit: copies new packets into the program's memory.
    pub(super) fn pass_packets(&mut self, current: &Task, event: &mut CallEvent) {
        let memory = TaskMemory::new(current.tid);
        self.rings.mapped.retain_mut(|ring| {
            // The program may have unmapped the memory.
            ring.space != current.space || ring.pass_on(memory, &mut event.outs)
        });
    }
}

impl Ring {
    fn give_back(&mut self, memory: &TaskMemory) {
        for (slot, given) in self.slots.iter().zip(&mut self.given) {
            let mut status = [0; 4];
            let at = self.at + slot.status as u64;
            if *given
                && memory.read(at, &mut status) == status.len()
                && u32::from_le_bytes(status) & TP_STATUS_USER == 0
            {
                self.window.set_word(slot.status, 0);
                *given = false;
            }
        }
    }

    /// Copies new packets. Returns whether the program's memory is still mapped.
    fn pass_on(&mut self, memory: TaskMemory, outs: &mut Vec<Chunk>) -> bool {
        for (slot, given) in self.slots.iter().zip(&mut self.given) {
            if *given || self.window.word(slot.status) & TP_STATUS_USER == 0 {
                continue;
            }
            // The kernel writes the data before the status, so data read after the status is complete.
            std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
            let used = slot.used.map(|at| self.window.word(at) as usize);
            let size = used.map_or(slot.size, |used| used.clamp(BLOCK_DESC, slot.size));
            let data = self.window.bytes(slot.at, size);
            let addr = self.at + slot.at as u64;
            if memory.write(addr, &data).is_err() {
                return false;
            }
            outs.push(Chunk { addr, data });
            *given = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_do_not_cross_blocks() {
        let shape = Shape {
            version: 1,
            block_size: 4096,
            blocks: 2,
            frame_size: 1500,
            frames: 3,
        };
        let at = |slots: Vec<Slot>| slots.iter().map(|slot| slot.at).collect::<Vec<_>>();
        assert_eq!(at(shape.slots()), [0, 1500, 4096]);
        let blocks = Shape {
            version: TPACKET_V3,
            ..shape
        };
        assert_eq!(at(blocks.slots()), [0, 4096]);
        assert_eq!(blocks.slots()[1].status, 4104);
        assert!(Shape::default().slots().is_empty());
    }
}
