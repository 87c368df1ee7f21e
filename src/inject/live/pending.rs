//! The signals that are pending when processes go live.

use crate::inject::Result;
use crate::kernel::{Kernel, PendingSignal};
use crate::process::{Process, Relative};
use crate::recording::EventKind;
use crate::restore::send_pending;
use std::collections::BTreeMap;

/// By recorded pid.
pub(super) type Pending = BTreeMap<i32, Vec<PendingSignal>>;

/// The pending signals of a process and its relatives, of whom the kernel's state is known. `is_delivered`: the signal is
/// delivered at which the process is.
pub(super) fn pending(
    process: &Process,
    family: Option<&Kernel>,
    is_delivered: bool,
) -> Result<Pending> {
    let recording = &process.group.recording;
    let event = process.group.event.0;
    let pids: Vec<i32> = process.groups().map(|group| group.pid).collect();
    let of = |kernel: &Kernel| -> Pending {
        let all = pids.iter().map(|&pid| (pid, kernel.pending_signals(pid)));
        let some = all.filter(|(_, signals)| !signals.is_empty());
        some.map(|(pid, signals)| (pid, signals.to_vec())).collect()
    };
    let mut all = match family {
        Some(kernel) => of(kernel),
        None => recording.kernel_at(event, |_, kernel| of(kernel))?,
    };
    if family.is_none() && !all.is_empty() && !process.changes.told.is_empty() {
        // It was told otherwise of what it has sent itself, or of what it has taken.
        let span = (process.group.changes.event(), event);
        all = recording.family_at(span, &process.changes, |_, kernel| of(kernel))?;
    }
    if is_delivered && let Some(signals) = all.get_mut(&process.group.pid) {
        let now = recording.event(event)?;
        if let EventKind::Signal(signal) = &now.kind
            && let Some(at) = signals.iter().position(|one| one.signal == signal.signal)
        {
            signals.remove(at);
        }
    }
    Ok(all)
}

/// Makes them pending. Returns a sentence about each that cannot come back.
pub(super) fn send(process: &mut Process, pending: &Pending) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if pending.is_empty() {
        return Ok(missing);
    }
    let Process {
        group,
        driven,
        threads,
        relatives,
        ..
    } = process;
    let own = std::iter::once(&mut *driven).chain(threads.iter_mut());
    let mut all = vec![(group.pid, own.collect::<Vec<_>>())];
    for Relative { group, threads } in relatives {
        all.push((group.pid, threads.iter_mut().collect()));
    }
    for (pid, threads) in all {
        let Some(signals) = pending.get(&pid) else {
            continue;
        };
        let has_leader = threads.iter().any(|thread| thread.tid == pid);
        for (at, thread) in threads.into_iter().enumerate() {
            let is_first = thread.tid == pid || !has_leader && at == 0;
            let meant = signals.iter().filter(|one| match one.to {
                Some(tid) => tid == thread.tid,
                None => is_first,
            });
            let meant: Vec<&PendingSignal> = meant.collect();
            missing.extend(send_pending(&mut thread.task, thread.place, &meant)?);
        }
    }
    Ok(missing)
}
