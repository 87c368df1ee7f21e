//! Whether a call is about another process, sets its limits, and makes namespaces.

use super::Made;
use crate::constants::NAMESPACES;
use crate::kernel::ProcessTree;
use crate::syscall::CloneArgs;
use crate::syscall::plausible::Facts;

/// The lowest byte of clone's flags is a signal.
const SIGNAL: u64 = 0xff;

pub(super) fn note(made: &Made<'_>, tree: &ProcessTree, tid: i32, facts: &mut Facts) {
    let pid = tree.pid(tid).unwrap_or(tid);
    // 0 stands for the caller, or for its group.
    let own = [0, tree.own_number(tid), tree.own_number(pid)];
    facts.other_process = match made.name() {
        // The header of capabilities has the pid behind the version.
        "capget" | "capset" => {
            let header = made.word(made.arg(0)).unwrap_or(0);
            !own.contains(&((header >> 32) as i32))
        }
        _ => ["pid", "tid", "tgid", "who", "pid1", "pid2"]
            .iter()
            .filter_map(|name| made.known.arg(name))
            .any(|at| !own.contains(&(made.arg(at) as i32))),
    };
    facts.sets = made.name() == "prlimit64" && made.named("new_limit") != 0;
    let flags = match made.name() {
        "unshare" => made.arg(0),
        _ => CloneArgs::of(made.call.nr, &made.call.args, &made.memory())
            .map_or(0, |args| args.flags),
    };
    facts.makes_namespace = match made.name() {
        "clone" => flags & NAMESPACES & !SIGNAL != 0,
        _ => flags & NAMESPACES != 0,
    };
}
