//! The bytes that a call moved between the program's memory and an open file.

use crate::recording::{CallEvent, Effect, LeftMemory};
use crate::syscall::{self, Memory, MessageSlot, Moved};

/// The most bytes of one call that are returned.
const MOST: usize = 16 << 20;

/// The descriptor that a call read data from, if it read any.
pub(crate) fn reads_from(call: &CallEvent) -> Option<i32> {
    call.ret.filter(|&ret| ret > 0 && call.was_made())?;
    let nr = i64::from(call.nr);
    let takes = matches!(
        nr,
        libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_pread64
            | libc::SYS_preadv
            | libc::SYS_preadv2
            | libc::SYS_splice
    );
    let receives = match nr {
        libc::SYS_recvfrom => call.args[3],
        libc::SYS_recvmsg => call.args[2],
        _ => libc::MSG_PEEK as u64,
    };
    let taken = takes || receives & libc::MSG_PEEK as u64 == 0;
    match nr {
        // The kernel copied from one file to another.
        libc::SYS_sendfile => Some(call.args[1] as i32),
        _ => taken.then_some(call.args[0] as i32),
    }
}

/// The bytes that a call read, as far as they were recorded.
pub(crate) fn data_read(call: &CallEvent) -> Vec<u8> {
    if let Effect::Moved(data) = &call.effect {
        return data.clone();
    }
    moved(call, Moved::Out)
}

/// The bytes that a call moved in this direction.
pub(crate) fn moved(call: &CallEvent, way: Moved) -> Vec<u8> {
    let ret = call.ret.filter(|_| call.was_made());
    let len = ret.and_then(|ret| u64::try_from(ret).ok());
    let known = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args));
    let known = known.filter(|known| known.moves_data() == Some(way));
    let (Some(len), Some(known)) = (len, known) else {
        return Vec::new();
    };
    if known.moves_messages() {
        return moved_messages(call).concat();
    }
    let memory = LeftMemory {
        ins: &call.ins,
        outs: &call.outs,
    };
    let mut data = Vec::new();
    let recorded = recorded_bytes(call);
    for region in known.data_regions(&call.args, len, &memory) {
        let at = data.len();
        // The length may be wrong in a damaged recording: no more bytes exist than were recorded.
        data.resize(at + region.len.min(recorded), 0);
        let n = memory.read(region.addr, &mut data[at..]);
        data.truncate(at + n);
        if data.len() >= MOST {
            break;
        }
    }
    data
}

fn recorded_bytes(call: &CallEvent) -> usize {
    let chunks = call.ins.iter().chain(&call.outs);
    chunks.map(|chunk| chunk.data.len()).sum()
}

/// The messages that sendmmsg(2) or recvmmsg(2) moved.
pub(crate) fn moved_messages(call: &CallEvent) -> Vec<Vec<u8>> {
    let count = call.ret.and_then(|ret| usize::try_from(ret).ok());
    let known = syscall::by_nr(call.nr.into());
    let (Some(count), Some(known)) = (count, known) else {
        return Vec::new();
    };
    let memory = LeftMemory {
        ins: &call.ins,
        outs: &call.outs,
    };
    let recorded = recorded_bytes(call);
    let slots = known.message_slots(&call.args, &memory);
    let message = |slot: MessageSlot| {
        let mut len = [0; 4];
        memory.read(slot.len_at, &mut len);
        let mut left = u32::from_le_bytes(len) as usize;
        let mut data = Vec::new();
        for region in slot.data {
            // The length may be wrong in a damaged recording: no more bytes exist than were recorded.
            let mut here = vec![0; region.len.min(left).min(recorded)];
            let n = memory.read(region.addr, &mut here);
            here.truncate(n);
            left -= n;
            data.extend(here);
        }
        data
    };
    slots.into_iter().take(count).map(message).collect()
}
