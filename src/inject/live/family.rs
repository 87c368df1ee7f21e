//! The family of a process that goes live: its place in the tree, and what of it is under way.

use super::engine::Engine;
use super::half_done::HalfDone;
use super::task::Task;
use crate::backtrace::Frame;
use crate::history::{Birth, FamilyChanges, Recording};
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::inject::log::Log;
use crate::inject::outcome::{ProcessOutcome, Status};
use crate::inject::report::{Ended as End, Report, of_relative};
use crate::kernel::{FileKind, Kernel, OpenFile, Program};
use crate::process::{Ended, Place, Process, StopPoint, Terminal, Thread, ThreadGroup};
use crate::trace::Exit;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A recorded process of a family, as it goes on.
pub(super) struct LiveMember {
    /// Its recorded pid.
    pub pid: i32,
    /// That of its parent.
    pub ppid: i32,
    /// The program that it was recorded with, as long as it runs that.
    pub program: Option<Arc<Program>>,
    /// What it writes.
    log: Log,
    /// What it did before it went live.
    before: Option<ProcessOutcome>,
    exit: Option<Exit>,
    backtrace: Vec<Frame>,
}

impl LiveMember {
    /// Takes over from a report what a process did before.
    pub fn new(group: &ThreadGroup, report: &mut Report) -> LiveMember {
        let known = report.relatives.iter();
        let known = known
            .clone()
            .position(|one| one.pid == group.pid && one.status.is_none());
        let before = known.map(|at| report.relatives.remove(at));
        let log = match group.pid == report.pid {
            true => report.log.of_output(),
            false => Log::default(),
        };
        LiveMember {
            pid: group.pid,
            ppid: group.ppid,
            program: Some(Arc::clone(&group.program)),
            log,
            before,
            exit: None,
            backtrace: Vec::new(),
        }
    }

    /// Notes that it has ended.
    pub fn ended(&mut self, exit: Exit) {
        self.exit = Some(exit);
    }

    /// Notes where it is when a signal ends it.
    pub fn dies_at(&mut self, backtrace: Vec<Frame>) {
        self.backtrace = backtrace;
    }

    fn outcome(self) -> ProcessOutcome {
        let end = self.exit.map(|exit| End {
            status: match exit {
                Exit::Code(_) => Status::Exited,
                Exit::Signal { .. } => Status::Signaled,
            },
            exit: Some(exit),
        });
        let now = of_relative(self.pid, end, self.log, self.backtrace);
        match self.before {
            Some(before) => ProcessOutcome {
                stdout: [before.stdout, now.stdout].concat(),
                stderr: [before.stderr, now.stderr].concat(),
                injected: before.injected,
                ..now
            },
            None => now,
        }
    }
}

impl Engine<'_> {
    /// Notes what a process of a family has written to a standard stream.
    pub(super) fn note_written(&mut self, me: &Task, seen: &HookCall, ret: i64) {
        let Some(member) = self.members.get_mut(&me.process).filter(|_| ret > 0) else {
            return;
        };
        let fd = seen.fd();
        let Some(stream) = fd.and_then(|fd| self.streams.stream_of(seen.memory.tid(), fd)) else {
            return;
        };
        let (data, len) = seen.passed_data(ret as u64, member.log.room(Some(stream)));
        member.log.output(stream, &data);
        member.log.more_output(stream, len - data.len() as u64);
    }

    /// The outcomes of the recorded processes.
    pub(super) fn tell_of_members(&mut self) {
        let members = std::mem::take(&mut self.members).into_values();
        self.report
            .relatives
            .extend(members.map(LiveMember::outcome));
        self.report.relatives.sort_by_key(|one| one.pid);
    }
}

/// The state of the kernel for all processes of a family. The open files of those that were driven get the numbers by which
/// the others know them.
pub(super) fn kernel(process: &mut Process) -> Result<Kernel> {
    let recording = Arc::clone(&process.group.recording);
    let span = (process.group.changes.event(), process.group.event.0);
    let Process {
        group,
        driven,
        relatives,
        changes,
        ..
    } = process;
    let kernel = recording.family_at(span, changes, |tree, kernel| {
        let own = [(&mut *group, driven.tid)].into_iter();
        let others = relatives.iter_mut();
        let others = others.filter_map(|one| Some((&mut one.group, one.threads.first()?.tid)));
        for (group, tid) in own.chain(others) {
            group.descriptors.renumber(group.pid, |fd| {
                let file = tree.open_file(tid, fd)?;
                Some((tree.file_id(tid, fd)?, file.path.as_slice()))
            });
        }
        kernel.clone()
    })?;
    Ok(kernel)
}

/// The threads of a process and its relatives.
fn threads(process: &Process) -> impl Iterator<Item = (&ThreadGroup, &Thread)> {
    let own = std::iter::once(&process.driven).chain(&process.threads);
    let own = own.map(|thread| (&process.group, thread));
    own.chain(process.relatives.iter().flat_map(|one| {
        let group = &one.group;
        one.threads.iter().map(move |thread| (group, thread))
    }))
}

/// The open file to which a call sends at whose entry a task stands, and its number.
fn sends_to<'a>(group: &'a ThreadGroup, thread: &Thread) -> Option<(u64, &'a OpenFile)> {
    let regs = thread.task.regs().ok()?;
    let is_meant = thread.place == StopPoint::Entry && HalfDone::is_possible(regs.nr());
    let fd = regs.args()[0] as i32;
    let file = group.descriptors.get(fd).filter(|_| is_meant)?;
    let may_wait = file.is_pipe() || file.kind() == FileKind::Socket;
    Some((group.descriptors.file_id(fd)?, file)).filter(|_| may_wait)
}

/// Whether a call may be half done.
pub(super) fn may_be_half_done(process: &Process) -> bool {
    threads(process).any(|(group, thread)| sends_to(group, thread).is_some())
}

/// The bytes that were taken already of what calls send at whose entries tasks stand: by the recorded tids.
pub(super) fn half_done(process: &Process, kernel: &Kernel) -> BTreeMap<i32, u64> {
    let mut seen = BTreeSet::new();
    let half_done = threads(process).filter_map(|(group, thread)| {
        let (id, file) = sends_to(group, thread)?;
        let taken = kernel.taken_early(id, file) as u64;
        // Of several that send to one place, one has begun.
        (taken > 0 && seen.insert(id)).then_some((thread.tid, taken))
    });
    half_done.collect()
}

/// Whether a task stands at the entry of a call that makes one.
pub(super) fn is_making(thread: &Thread) -> bool {
    let makes = |nr: i64| {
        matches!(
            nr,
            libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork | libc::SYS_vfork
        )
    };
    let regs = thread.task.regs();
    thread.place == StopPoint::Entry && regs.is_ok_and(|regs| makes(regs.nr()))
}

/// Notes the recorded processes that were never made: those of driven tasks that make something else, and what these made.
pub(super) fn note_unmade(process: &mut Process) -> Result<()> {
    let event = process.group.event.0;
    let births = process.group.recording.births()?;
    let driven: BTreeMap<i32, bool> = threads(process)
        .map(|(_, thread)| (thread.tid, is_making(thread)))
        .collect();
    let changes = &mut process.changes;
    for birth in births.iter().filter(|birth| birth.after < event) {
        let is_skipped =
            birth.is_unanswered(event) && driven.get(&birth.maker).is_some_and(|makes| !makes);
        let is_unmade = changes.unmade.contains(&birth.pid);
        if is_skipped || is_unmade || changes.has_left(birth.parent, birth.after + 1) {
            changes.left.insert(birth.pid, birth.after + 1);
            changes.unmade.insert(birth.pid);
        }
    }
    let ended = changes.ended.iter().map(|(&pid, &(since, _))| (pid, since));
    let gone = ended.chain(changes.left.iter().map(|(&pid, &since)| (pid, since)));
    process.group.files.leave_out(gone.collect());
    Ok(())
}

/// The places of a process and its relatives in the tree of processes, in this order.
pub(super) fn places(process: &Process) -> Result<Vec<Place>> {
    let births = process.group.recording.births()?;
    let changes = &process.changes;
    tracing::trace!("of a family: {changes:?} {:?}", births);
    let groups: Vec<&ThreadGroup> = process.groups().collect();
    let pids: Vec<i32> = groups.iter().map(|group| group.pid).collect();
    let places = groups
        .iter()
        .map(|group| place(group, &pids, &births, changes));
    places.collect()
}

/// The pseudoterminals of which processes of a family have the masters.
pub(super) fn terminals(process: &Process, kernel: &Kernel) -> Vec<Terminal> {
    let all = process.groups().flat_map(|group| {
        let table = &group.descriptors;
        let ids = table.iter().filter_map(|(fd, ..)| table.file_id(fd));
        ids.filter_map(|id| kernel.terminal_of_master(id))
    });
    let all: BTreeMap<u32, _> = all
        .map(|(number, terminal)| (number, terminal.size))
        .collect();
    all.into_iter().collect()
}

/// The number of the pseudoterminal with this device number.
fn pseudo_terminal(device: i32) -> Option<u32> {
    const PSEUDO: u32 = 136;
    let device = device as u32;
    let major = device >> 8 & 0xfff;
    (major == PSEUDO).then_some(device & 0xff | device >> 12 & 0xfff00)
}

fn place(
    group: &ThreadGroup,
    family: &[i32],
    births: &[Birth],
    changes: &FamilyChanges,
) -> Result<Place> {
    let event = group.event.0;
    let own = births.iter().rev().filter(|birth| birth.after < event);
    let birth = { own }.find(|birth| birth.pid == group.pid);
    let ended: Vec<&Birth> = births
        .iter()
        .filter(|birth| birth.parent == group.pid && birth.after < event)
        .filter(|birth| match changes.ended.get(&birth.pid) {
            Some((_, exit)) => exit.is_some() && birth.waited_for.is_none_or(|at| at >= event),
            None => birth.is_unreaped(event) && !changes.left.contains_key(&birth.pid),
        })
        .collect();
    let is_told = |birth: &&Birth| birth.told.is_some_and(|told| told < event);
    Ok(group.recording.process_tree_at(event, |tree| {
        let parent = tree.ppid(group.pid);
        let job = tree.job_control(group.pid).unwrap_or_default();
        let first = group.recording.start().pid;
        let has_ended = |pid: i32| {
            let was_there = || births.iter().any(|one| one.pid == pid && one.after < event);
            !tree.is_alive(pid) && (pid == first || was_there())
        };
        let parent = family.iter().position(|&pid| Some(pid) == parent);
        Place {
            pid: tree.own_number(group.pid),
            parent,
            orphan_of: birth
                .map(|birth| birth.parent)
                .filter(|&pid| parent.is_none() && has_ended(pid)),
            exit_signal: birth.map_or(libc::SIGCHLD, |birth| birth.exit_signal),
            leads_session: job.sid == Some(group.pid),
            session: job.sid,
            outlives_session: job.sid.is_some_and(has_ended),
            group: job.pgid,
            outlives_group: job.pgid.is_some_and(has_ended),
            terminal: match job.sid == Some(group.pid) {
                true => job.tty.and_then(pseudo_terminal),
                false => None,
            },
            foreground: job.foreground,
            is_told: ended.last().is_none_or(is_told),
            ended: ended
                .iter()
                .filter_map(|birth| {
                    Some(Ended {
                        pid: birth.named,
                        exit: match changes.ended.get(&birth.pid) {
                            Some((_, exit)) => (*exit)?,
                            None => birth.ended?.1,
                        },
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
