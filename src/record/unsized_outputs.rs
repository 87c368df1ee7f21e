//! Outputs whose size neither the arguments nor the memory behind them have: it is queried from the kernel, or found in
//! structures of a single call, at the call's exit.

use super::cross_memory::{Range, first_of};
use super::task::Task;
use super::{Recorder, Result};
use crate::recording::{CallEvent, ChunkMemory, Frame};
use crate::syscall::{Memory, Syscall, ethtool_size};
use crate::tracee::{Stopped, proc};

/// `struct semid_ds`: its size, and the offset of the number of semaphores.
const SEMID_DS: (usize, usize) = (104, 80);

/// Options that replace a table of packet filters: level, option, the offset of the number of counters and of the
/// pointer to the old counters, and the size of a counter (linux/netfilter_{ipv4/ip,ipv6/ip6,arp/arp}_tables.h,
/// linux/netfilter_bridge/ebtables.h).
const COUNTERS: [(i32, i32, usize, usize, usize); 4] = [
    (libc::SOL_IP, 64, 84, 88, 16),
    (libc::SOL_IPV6, 64, 84, 88, 16),
    (libc::SOL_IP, 96, 68, 72, 16),
    (libc::SOL_IP, 128, 96, 104, 16),
];

impl Recorder {
    /// Adds the outputs of a successful call that the table cannot express. Returns a frame for writes to other
    /// processes' memory.
    pub(super) fn unsized_outputs(
        &self,
        current: &Task,
        task: &mut Stopped,
        call: &Syscall,
        event: &mut CallEvent,
    ) -> Result<Option<Frame>> {
        let ret = event.ret.unwrap_or(0);
        if ret < 0 {
            return Ok(None);
        }
        let range = match call.name {
            "process_vm_writev" => return self.written_by_writev(current, event),
            "vmsplice" if reads(current.tid, event.args[0] as i32) => {
                let ranges = first_of(&ChunkMemory(&event.ins), event.args[1], event.args[2], ret);
                return Ok(self.written_in(current, current.tid, &ranges, event));
            }
            "semctl" if event.args[2] as i32 & 0xff == libc::GETALL => {
                let count = semaphores(task, event.args[0])?;
                Some((event.args[3], count.saturating_mul(2)))
            }
            "setsockopt" => counters(event),
            "ioctl" if event.args[1] as u32 == SIOCETHTOOL => ethtool(task, event),
            "ioctl" if event.args[1] as u32 == SG_IO => {
                let ranges = scsi(task, event);
                return Ok(self.written_in(current, current.tid, &ranges, event));
            }
            _ => None,
        };
        Ok(range.and_then(|range| self.written_in(current, current.tid, &[range], event)))
    }
}

const SIOCETHTOOL: u32 = 0x8946;
const SG_IO: u32 = 0x2285;

/// Returns whether a descriptor is open for reading, such as the read end of a pipe.
fn reads(tid: i32, fd: i32) -> bool {
    let flags = proc::fd_flags(tid, fd).unwrap_or(libc::O_WRONLY);
    flags & libc::O_ACCMODE == libc::O_RDONLY
}

/// The number of semaphores of a set. Permission to read their values includes it.
fn semaphores(task: &mut Stopped, set: u64) -> Result<usize> {
    let (size, at) = SEMID_DS;
    let mut remote = task.remote_at_boundary()?;
    let place = remote.put(&vec![0; size])?;
    let args = [set, 0, libc::IPC_STAT as u64, place, 0, 0];
    let ret = remote.call(libc::SYS_semctl, args)?;
    let mut count = [0; 8];
    if ret == 0 {
        remote.memory().read_exact(place + at as u64, &mut count)?;
    }
    remote.finish()?;
    Ok(u64::from_le_bytes(count) as usize)
}

fn counters(event: &CallEvent) -> Option<(u64, usize)> {
    let [_, level, option, at, ..] = event.args;
    let known =
        |row: &&(i32, i32, usize, usize, usize)| (row.0, row.1) == (level as i32, option as i32);
    let &(.., count, pointer, each) = COUNTERS.iter().find(known)?;
    let memory = ChunkMemory(&event.ins);
    let mut words = ([0; 4], [0; 8]);
    let whole = memory.read(at.wrapping_add(count as u64), &mut words.0) == 4
        && memory.read(at.wrapping_add(pointer as u64), &mut words.1) == 8;
    let count = u32::from_le_bytes(words.0) as usize;
    whole.then(|| (u64::from_le_bytes(words.1), count.saturating_mul(each)))
}

/// The memory at `ifr_data` that the kernel may have written.
fn ethtool(task: &Stopped, event: &CallEvent) -> Option<(u64, usize)> {
    const IFR_DATA: u64 = 16;
    let mut pointer = [0; 8];
    let at = event.args[2].wrapping_add(IFR_DATA);
    (ChunkMemory(&event.ins).read(at, &mut pointer) == pointer.len()).then_some(())?;
    let data = u64::from_le_bytes(pointer);
    Some((data, ethtool_size(data, &task.memory())))
}

/// The memory that a SCSI command may have written: its data, and its sense or response. The structure is that of
/// scsi/sg.h or of linux/bsg.h.
fn scsi(task: &Stopped, event: &CallEvent) -> Vec<Range> {
    const NEWER: u64 = b'Q' as u64;
    let ins = ChunkMemory(&event.ins);
    let part = |at: u64, len: usize| {
        let mut word = [0; 8];
        ins.read(event.args[2].wrapping_add(at), &mut word[..len]);
        u64::from_le_bytes(word)
    };
    // The address of the data, the number of vectors, the length; then the sense.
    let (data, vectors, len, sense) = match part(0, 4) {
        NEWER => (
            part(80, 8),
            part(64, 4),
            part(68, 4),
            (part(48, 8), part(44, 4) as usize),
        ),
        _ => (
            part(16, 8),
            part(10, 2),
            part(12, 4),
            (part(32, 8), part(9, 1) as usize),
        ),
    };
    let mut ranges = match vectors {
        0 => vec![(data, len as usize)],
        _ => first_of(&task.memory(), data, vectors, len as i64),
    };
    ranges.push(sense);
    ranges
}
