//! Comparison of what a replayed task does with what was recorded, and descriptions of both for errors.

use super::context::Context;
use crate::constants;
use crate::recording::{CallEvent, ChunkMemory, Event, EventKind};
use crate::syscall::{self, Memory};
use crate::tracee::{Regs, Stop, Stopped, TaskMemory, proc};

/// Whether these registers make the recorded call.
pub fn same_call(recorded: &CallEvent, regs: &Regs) -> bool {
    let args = regs.args();
    let formal = syscall::by_nr(recorded.nr.into())
        .map_or(6, |call| call.resolve(&recorded.args).args.len());
    regs.nr() as u32 == recorded.nr
        && regs.ip() == recorded.ip
        && args[..formal.min(6)] == recorded.args[..formal.min(6)]
}

/// Whether memory holds the recorded inputs of the call.
pub fn same_inputs(recorded: &CallEvent, memory: TaskMemory) -> bool {
    let mut buf = Vec::new();
    recorded.ins.iter().all(|chunk| {
        buf.resize(chunk.data.len(), 0);
        memory.read(chunk.addr, &mut buf) == chunk.data.len() && buf == chunk.data
    })
}

/// The recorded event, in strace's syntax.
pub fn expected(event: &Event) -> String {
    match &event.kind {
        EventKind::Call(call) => text(call.nr, &call.args, &ChunkMemory(&call.ins)),
        EventKind::Signal(signal) => {
            format!("signal {}", constants::signal_name(signal.signal))
        }
    }
}

/// The call that a task with these registers makes.
pub fn made(regs: &Regs, memory: TaskMemory) -> String {
    text(regs.nr() as u32, &regs.args(), &memory)
}

/// A call in strace's syntax, as far as it is known at its entry.
fn text(nr: u32, args: &[u64; 6], memory: &dyn Memory) -> String {
    let Some(call) = syscall::of_number(nr) else {
        return syscall::name_of(nr);
    };
    let call = call.resolve(args);
    let values: Vec<String> = call
        .decode(args, None, memory, memory)
        .iter()
        .map(|value| value.brief().to_string())
        .collect();
    format!("{}({})", call.name, values.join(", "))
}

/// The action of a task at its stop, in strace's syntax.
pub fn describe(context: &Context, task: &Stopped) -> String {
    use crate::process::StopPoint;
    match (context.place, context.fault) {
        (StopPoint::Entry, _) => made(&context.regs, task.memory()),
        (StopPoint::Between, Some(signal)) => {
            describe_signal(signal, context.regs.ip(), task.tid())
        }
        (StopPoint::Between, None) => "nothing yet".into(),
    }
}

/// A stop at which no recorded task stops.
pub fn describe_stop(task: &Stopped, stop: Stop) -> String {
    match stop {
        Stop::Signal(signal) => {
            let ip = task.regs().map_or(0, |regs| regs.ip());
            describe_signal(signal, ip, task.tid())
        }
        other => format!("{other:?}"),
    }
}

fn describe_signal(signal: i32, ip: u64, tid: i32) -> String {
    let place = proc::maps(tid)
        .ok()
        .and_then(|maps| maps.into_iter().find(|m| (m.start..m.end).contains(&ip)))
        .map(|m| {
            let name = String::from_utf8_lossy(&m.name).into_owned();
            format!(" in {name}+{:#x}", (ip - m.start).wrapping_add(m.offset))
        })
        .unwrap_or_default();
    let name = constants::signal_name(signal);
    format!("signal {name} at {ip:#x}{place}")
}
