//! The effects of a settled call on the model of its process: the output that the call wrote, and the kernel's state.

use super::is_unmade;
use crate::constants::is_error;
use crate::image::Chunk;
use crate::inject::exchange::Settled;
use crate::inject::hook::{Decision, HookCall};
use crate::inject::log::Log;
use crate::kernel::{DescriptorTable, output_descriptors};
use crate::process::ThreadGroup;
use crate::recording::{CallEvent, Effect};
use crate::syscall::{Moved, Region};
use crate::trace::file_names;

/// The return value that belongs to the call's effects, which may differ from the one that the process gets.
pub(super) fn done(seen: &Settled) -> i64 {
    seen.done.unwrap_or(seen.ret)
}

/// Applies a call to the descriptors of its process, and to the kernel changes that a restore makes again. With
/// `tells`, returns the call if it changed anything of these.
pub(super) fn state(group: &mut ThreadGroup, seen: &Settled, tells: bool) -> Option<CallEvent> {
    let ret = done(seen);
    // Drops the call's reference to the table, which is copied on a write while it is shared.
    seen.files.take();
    if seen.call.name == "close" && matches!(seen.decision, Decision::Answer(_)) {
        // A hook answered the close: the descriptor stays open.
        return None;
    }
    let outs = match seen.call.name {
        "pipe" | "pipe2" | "socketpair" | "getdents" | "getdents64" | "recvmsg" | "recvmmsg" => {
            outputs(seen, ret)
        }
        // The descriptor table reads the outputs of no other call.
        _ => Vec::new(),
    };
    let ins = match seen.call.name {
        "open" | "openat" | "creat" | "openat2" | "ioctl" | "recvmsg" | "recvmmsg" | "rename"
        | "renameat" | "renameat2" => inputs(seen),
        _ => Vec::new(),
    };
    let mut call = CallEvent {
        nr: seen.call.nr,
        args: seen.args,
        ip: 0,
        ret: Some(ret),
        ins,
        outs,
        effect: Effect::None,
    };
    call.effect = opened(&group.descriptors, seen, &call);
    let is_unmade = is_unmade(seen);
    // What a hook says was moved was not.
    let moves = || seen.call.moves_data().is_some();
    let noted = match is_unmade && moves() {
        true => None,
        false => group.changes.concerns(&group.descriptors, &call),
    };
    if noted.is_some() {
        call.ins = inputs(seen);
        call.outs = outputs(seen, ret);
    }
    group.descriptors.apply(&call);
    let is_effective = seen.event.is_some() || noted.is_some();
    let told = tells && is_effective && !is_unmade && !is_error(ret);
    let told = told.then(|| call.clone());
    if let Some(noted) = noted {
        let ThreadGroup {
            recording,
            descriptors,
            changes,
            ..
        } = group;
        changes.note(noted, call, recording, descriptors);
    }
    told
}

/// The effect of a call that opened something, as far as it is known.
fn opened(table: &DescriptorTable, seen: &HookCall, call: &CallEvent) -> Effect {
    if let Some(known @ (Effect::Unmade | Effect::Moved(_))) = &seen.opened {
        return known.clone();
    }
    let ret = call.ret.unwrap_or(0);
    if let Some(recorded @ Effect::Opened(list)) = &seen.opened {
        // A hook may have changed the numbers of the descriptors.
        let now = match output_descriptors(call) {
            none if none.is_empty() => vec![ret as i32],
            written => written,
        };
        let same = list.iter().map(|opened| opened.fd).eq(now);
        return match same {
            true => recorded.clone(),
            false => Effect::None,
        };
    }
    opened_path(table, seen, ret).map_or(Effect::None, Effect::Path)
}

fn inputs(seen: &HookCall) -> Vec<Chunk> {
    chunks(seen, seen.call.inputs(&seen.args, &seen.memory))
}

fn outputs(seen: &HookCall, ret: i64) -> Vec<Chunk> {
    let memory = &seen.memory;
    chunks(seen, seen.call.outputs(&seen.args, ret, memory, memory))
}

fn chunks(seen: &HookCall, regions: Vec<Region>) -> Vec<Chunk> {
    let chunk = |region: Region| Chunk {
        addr: region.addr,
        data: seen.memory.bytes(region.addr, region.len),
    };
    regions.into_iter().map(chunk).collect()
}

/// Logs the data that a call wrote to the standard streams, to sockets and to pipes; `moved` is the data that the call
/// moved inside the kernel.
pub(super) fn written(
    table: &DescriptorTable,
    log: &mut Log,
    seen: &Settled,
    moved: Option<&[u8]>,
) {
    let ret = done(seen);
    if ret <= 0 || seen.opened == Some(Effect::Unmade) {
        return;
    }
    let target = match seen.call.name {
        "copy_file_range" | "splice" => Some(seen.args[2] as i32),
        "tee" => Some(seen.args[1] as i32),
        _ => seen.fd(),
    };
    let Some(target) = target else { return };
    let stream = table.output_stream(target);
    let is_sent = table.get(target).is_some_and(|file| goes_away(&file.path));
    if stream.is_none() && !is_sent {
        return;
    }
    let (mut data, mut len) = (Vec::new(), 0);
    if let Some(moved) = moved {
        data.extend_from_slice(&moved[..moved.len().min(ret as usize)]);
        len = data.len() as u64;
    } else if seen.call.moves_data() == Some(Moved::In) {
        (data, len) = seen.passed_data(ret as u64, log.room(stream));
    }
    let more = len - data.len() as u64;
    match stream {
        Some(stream) => {
            log.output(stream, &data);
            log.more_output(stream, more);
        }
        None if len == 0 => {}
        None => log.sent(target, &data, more),
    }
}

/// The path of the file that a call opened, or of the directory that it changed to: the recorded path if there is one,
/// otherwise the path in the call's arguments.
fn opened_path(table: &DescriptorTable, seen: &HookCall, ret: i64) -> Option<Vec<u8>> {
    if ret < 0 {
        return None;
    }
    let recorded = matches!(seen.opened, Some(Effect::Path(_)));
    let moves_dir = match seen.call.name {
        "chdir" | "fchdir" => true,
        // Only a recording has the new directory of these calls.
        "setns" | "pivot_root" => recorded,
        _ => false,
    };
    if !seen.call.returns_fd() && !moves_dir {
        return None;
    }
    if let Some(Effect::Path(path)) = &seen.opened {
        return Some(path.clone());
    }
    let path = seen.path()?;
    let base = match seen.call.name {
        "openat" | "openat2" => table
            .get(seen.args[0] as i32)
            .map(|dir| dir.path.as_slice()),
        _ => None,
    };
    Some(file_names::join(base.unwrap_or(table.cwd()), &path))
}

/// True if data written to this file leaves the process: the file is a pipe or a socket.
fn goes_away(path: &[u8]) -> bool {
    path.starts_with(b"pipe:[") || path.starts_with(b"socket:[")
}
