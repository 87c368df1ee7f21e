//! The family of a process that goes live: its place in the tree, and what of it is under way.

use crate::history::{Birth, Recording};
use crate::inject::Result;
use crate::process::{Ended, Place, Process, ThreadGroup};
use std::collections::BTreeMap;

/// The places of a process and its relatives in the tree of processes, in this order.
pub(super) fn places(process: &Process) -> Result<Vec<Place>> {
    let births = process.group.recording.births()?;
    let relatives = process.relatives.iter().map(|relative| &relative.group);
    let groups: Vec<&ThreadGroup> = [&process.group].into_iter().chain(relatives).collect();
    let pids: Vec<i32> = groups.iter().map(|group| group.pid).collect();
    let places = groups.iter().map(|group| place(group, &pids, &births));
    places.collect()
}

fn place(group: &ThreadGroup, family: &[i32], births: &[Birth]) -> Result<Place> {
    let event = group.event.0;
    let own = births.iter().rev().filter(|birth| birth.after < event);
    let birth = { own }.find(|birth| birth.pid == group.pid);
    let ended: Vec<&Birth> = births
        .iter()
        .filter(|birth| birth.parent == group.pid && birth.is_unreaped(event))
        .collect();
    let is_told = |birth: &&Birth| birth.told.is_some_and(|told| told < event);
    Ok(group.recording.process_tree_at(event, |tree| {
        let parent = tree.ppid(group.pid);
        let job = tree.job_control(group.pid).unwrap_or_default();
        Place {
            pid: tree.own_number(group.pid),
            parent: family.iter().position(|&pid| Some(pid) == parent),
            exit_signal: birth.map_or(libc::SIGCHLD, |birth| birth.exit_signal),
            leads_session: job.sid == Some(group.pid),
            group: job.pgid,
            is_told: ended.last().is_none_or(is_told),
            ended: ended
                .iter()
                .filter_map(|birth| {
                    Some(Ended {
                        pid: birth.named,
                        exit: birth.ended?.1,
                        exit_signal: birth.exit_signal,
                    })
                })
                .collect(),
        }
    })?)
}

/// A process that a call has made at whose entry its maker still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Its recorded pid.
    pub pid: i32,
    /// Whether it has ended already.
    pub has_ended: bool,
    /// The number that the call returns.
    pub named: i32,
    /// The process, by its recorded pid, for which the maker waits until it executes a program or ends.
    pub holder: Option<i32>,
}

/// The processes that have been made by calls that have not returned at an event, by the recorded tids of their makers.
pub(super) fn unanswered(recording: &Recording, event: u64) -> Result<BTreeMap<i32, Made>> {
    let births = recording.births()?;
    let open = births.iter().filter(|birth| birth.is_unanswered(event));
    let made = open.map(|birth| {
        let made = Made {
            pid: birth.pid,
            has_ended: !birth.is_alive(event),
            named: birth.named,
            holder: birth.holds(event).then_some(birth.pid),
        };
        (birth.maker, made)
    });
    Ok(made.collect())
}
