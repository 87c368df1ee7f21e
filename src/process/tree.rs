//! Moving a process with its family into a sandbox.
//!
//! The roots are copied from outside, and have no parent inside. All others are forked from their recorded parents, and then
//! get their own memory.

mod ended;
mod groups;

use super::moved_memory::{MappedFiles, move_memory};
use super::thread::SignalAction;
use super::{Process, Relative, SharedMemory, Thread, ThreadGroup, ThreadState, set_actions};
use crate::sandbox::{self, Sandbox, Sandboxes};
use crate::trace::Exit;
use crate::tracee::{Error, Result, Stopped};
use ended::StandIn;
use groups::control_by;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::rc::Rc;

/// The place of a process in its family, as it is to be in the sandbox. Pids are those by which the processes know each other.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its pid.
    pub pid: i32,
    /// Its parent, by its index in the order of the family; `None` where that is not in the family.
    pub parent: Option<usize>,
    /// The signal that its parent gets at its end.
    pub exit_signal: i32,
    /// The parent that it had in the recording, if that is not in the family.
    pub orphan_of: Option<i32>,
    /// Whether it leads a session.
    pub leads_session: bool,
    /// Its session, if that is known.
    pub session: Option<i32>,
    /// Whether a process of the recording led that, and has ended.
    pub outlives_session: bool,
    /// Its process group, if that is known.
    pub group: Option<i32>,
    /// Whether a process of the recording led that, and has ended.
    pub outlives_group: bool,
    /// The number of its controlling terminal, of which a process of the family has the master, if it leads a session.
    pub terminal: Option<u32>,
    /// The foreground process group of that.
    pub foreground: Option<i32>,
    /// Its children that have ended, and that it has not waited for.
    pub ended: Vec<Ended>,
    /// Whether it has been told of the last one's end.
    pub is_told: bool,
}

/// A process that has ended, and that its parent has not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its pid.
    pub pid: i32,
    /// Its end.
    pub exit: Exit,
    /// The signal that its parent gets.
    pub exit_signal: i32,
}

/// A process in the sandbox that has no other threads yet and stands between calls. Parents come before their children.
#[derive(Debug)]
pub struct Inside<'a> {
    /// What is known of it.
    pub group: &'a ThreadGroup,
    /// Its only task.
    pub task: &'a mut Stopped,
    /// The place in this order of an earlier one in whose memory it is.
    pub beside: Option<usize>,
}

/// The number of a pseudoterminal, and its size (`struct winsize`) if one was set.
pub type Terminal = (u32, Option<[u8; 8]>);

/// The masters of pseudoterminals in the sandbox, by their numbers.
pub type Masters = BTreeMap<u32, File>;

/// A process on its way into the sandbox.
struct Member {
    group: ThreadGroup,
    /// Its threads as they stood, the thread group's leader first.
    standing: Vec<ThreadState>,
    /// The thread whose fork it is; `None` where it was made by another process.
    forked: Option<i32>,
    /// A process outside with its memory, until it is inside.
    outside: Option<Stopped>,
    /// Its signal actions: from the start where no process outside has them, and otherwise once it is inside and is to make
    /// others.
    actions: Vec<SignalAction>,
    inside: Option<Stopped>,
    /// The index of the member that has brought its memory along.
    beside: Option<usize>,
}

impl Process {
    /// Moves the process into a new sandbox, with its relatives; `places` are theirs, its own first. The result is a copy,
    /// whose threads have the tids by which the program knows them (`number` maps the recorded tids to these) if the kernel
    /// can give them. `is_right` and `put` prepare the sandbox before the copy is inside
    /// ([`prepared`](sandbox::Sandboxes::prepared)), with the memory that it shares; `restore` is called once all are inside,
    /// while they are stopped between calls and have no other threads yet, with the masters of the pseudoterminals that have
    /// these numbers.
    ///
    /// # Errors
    /// If the system refuses a step.
    pub fn into_sandbox<R>(
        self,
        request: &sandbox::Request<'_>,
        (places, terminals): (&[Place], &[Terminal]),
        number: impl Fn(i32) -> i32,
        is_right: impl FnOnce(&dyn Any) -> bool,
        put: impl FnOnce(&mut Sandbox, Option<Rc<dyn Any>>, &SharedMemory) -> sandbox::Result<()>,
        restore: impl FnOnce(&Sandbox, &SharedMemory, Masters, &mut [Inside<'_>]) -> R,
    ) -> sandbox::Result<(Process, Sandbox, R)> {
        let Process {
            group,
            driven,
            threads,
            relatives,
            followed,
            changes,
            source,
        } = self;
        let tid = driven.tid;
        let relatives = relatives.into_iter().filter(|one| !one.threads.is_empty());
        let mut family = vec![(group, driven, threads)];
        family.extend(relatives.map(|Relative { group, mut threads }| {
            let first = threads.remove(0);
            (group, first, threads)
        }));
        let order = order(places, family.len());
        tracing::trace!(
            "of a family: {:?}",
            order
                .iter()
                .map(|&at| (family[at].0.pid, &places[at]))
                .collect::<Vec<_>>()
        );
        // Of those in one memory, the first to be made brings it along.
        let mut owners: HashMap<u64, usize> = HashMap::new();
        for &at in &order {
            owners.entry(family[at].0.memory).or_insert(at);
        }
        let mut members = Vec::new();
        for (at, (group, first, others)) in family.into_iter().enumerate() {
            let beside = owners.get(&group.memory).copied();
            let beside = beside.filter(|&owner| owner != at);
            members.push(Member::new(group, first, others, beside)?);
        }
        // Inside of the sandbox, a copy cannot open the shared memory in the /proc of this process.
        let mut shared: Option<SharedMemory> = None;
        for member in &mut members {
            let (objects, Some(task)) = (member.group.shared.clone(), &mut member.outside) else {
                continue;
            };
            match &shared {
                None => shared = Some(SharedMemory::of_copy(&objects.objects(), task)?),
                Some(shared) => _ = shared.join(&objects.objects(), task)?,
            }
        }
        let shared = shared.unwrap_or_default();
        let mut entry = Entry {
            members,
            places,
            first: order[0],
            stand_ins: BTreeMap::new(),
            adopted: BTreeSet::new(),
            files: MappedFiles::default(),
            masters: Masters::new(),
            missing: Vec::new(),
        };
        let put = |sandbox: &mut Sandbox, kept| put(sandbox, kept, &shared);
        let mut sandbox = entry.enter_first(order[0], request, is_right, put)?;
        entry.open_terminals(order[0], terminals)?;
        for &at in &order[1..] {
            if let Err(error) = entry.enter(at, &mut sandbox, request, &shared) {
                entry.lose(at, error)?;
            }
        }
        entry.join_groups()?;
        let Entry {
            members,
            missing,
            masters,
            stand_ins,
            ..
        } = entry;
        sandbox.notes.extend(missing);
        // The others go on without those that could not be made.
        let mut members: Vec<(usize, Member)> = members.into_iter().enumerate().collect();
        members.retain(|(_, member)| member.inside.is_some());
        let is_there: BTreeSet<usize> = members.iter().map(|&(at, _)| at).collect();
        let order: Vec<usize> = order
            .into_iter()
            .filter(|at| is_there.contains(at))
            .collect();
        let mut inside = Vec::new();
        for (at, member) in &mut members {
            let Some(task) = &mut member.inside else {
                return Err(gone().into());
            };
            member.group.real_pid = task.tid();
            let place = |at: usize| order.iter().position(|&other| other == at);
            inside.push((
                place(*at),
                Inside {
                    group: &member.group,
                    task,
                    beside: member.beside.and_then(place),
                },
            ));
        }
        inside.sort_by_key(|(place, _)| *place);
        let mut inside: Vec<Inside<'_>> = inside.into_iter().map(|(_, one)| one).collect();
        let restored = restore(&sandbox, &shared, masters, &mut inside);
        drop(inside);
        for (number, stand_in) in stand_ins {
            let maker = members.iter_mut().find(|(at, _)| *at == stand_in.maker);
            let is_told = places.get(stand_in.maker).is_some_and(|one| one.is_told);
            if let Some(maker) = maker.and_then(|(_, member)| member.inside.as_mut())
                && let Err(error) = stand_in.dismiss(number, maker, is_told)
            {
                let note = format!("process {number}, which has ended: {error}");
                sandbox.notes.push(note);
            }
        }
        // A task that is sealed cannot choose the numbers of new ones.
        let mut made = Vec::new();
        for (_, member) in members {
            made.push(member.with_threads(&sandbox, &number)?);
        }
        let mut settled = Vec::new();
        for (mut group, tasks) in made {
            let mut threads = Vec::new();
            for (thread, mut task) in tasks {
                sandbox.seal(&mut task)?;
                threads.push(thread.settle(task)?);
            }
            group.shared = shared.clone();
            settled.push((group, threads));
        }
        let (group, mut threads) = settled.remove(0);
        let at = threads.iter().position(|thread| thread.tid == tid);
        let driven = threads.remove(at.ok_or_else(gone)?);
        let mut process = Process::alone(group, driven, threads);
        process.followed = followed;
        process.changes = changes;
        process.source = source;
        let relatives = settled.into_iter();
        process.relatives = relatives
            .map(|(group, threads)| Relative { group, threads })
            .collect();
        Ok((process, sandbox, restored))
    }
}

fn gone() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
    Error::os("find a process of the family", 0, source)
}

impl Member {
    fn new(
        mut group: ThreadGroup,
        mut first: Thread,
        others: Vec<Thread>,
        beside: Option<usize>,
    ) -> Result<Member> {
        // Remote calls unblock SIGTRAP in the task, so the states are taken first.
        let mut standing = vec![ThreadState::of(&first)?];
        for thread in &others {
            standing.push(ThreadState::of(thread)?);
        }
        let (mut outside, mut actions) = (None, Vec::new());
        match beside {
            Some(_) => actions = first.actions()?,
            // A process with several threads cannot enter namespaces.
            None => {
                let is_alone = others.is_empty() && group.retired.is_empty();
                let mut remote = first.remote()?;
                outside = Some(match is_alone {
                    true => {
                        drop(remote);
                        first.task
                    }
                    false => remote.fork_between()?,
                });
            }
        }
        group.retired.clear();
        // The kernel takes the first task for the thread group leader.
        let forked = standing[0].tid;
        let leader = standing.iter().position(|thread| thread.tid == group.pid);
        standing.swap(0, leader.unwrap_or(0));
        Ok(Member {
            group,
            standing,
            forked: Some(forked),
            outside,
            actions,
            inside: None,
            beside,
        })
    }

    /// Makes its other threads. Returns the tasks, which have the attributes of these threads.
    fn with_threads(
        self,
        sandbox: &Sandbox,
        number: impl Fn(i32) -> i32,
    ) -> sandbox::Result<(ThreadGroup, Vec<(ThreadState, Stopped)>)> {
        let Member {
            group,
            standing,
            forked,
            inside,
            ..
        } = self;
        let mut standing = standing.into_iter();
        let (Some(leader), Some(mut first)) = (standing.next(), inside) else {
            return Err(gone().into());
        };
        leader
            .attributes
            .apply(&mut first, forked == Some(leader.tid))?;
        let mut others = Vec::new();
        for thread in standing {
            let (mut task, _) = sandbox.thread(&mut first, number(thread.tid))?;
            thread.attributes.apply(&mut task, false)?;
            others.push((thread, task));
        }
        others.insert(0, (leader, first));
        Ok((group, others))
    }
}

/// A family on its way into a sandbox.
struct Entry<'a> {
    members: Vec<Member>,
    places: &'a [Place],
    /// The index of the one that entered first.
    first: usize,
    /// By the numbers of the processes that they stand for.
    stand_ins: BTreeMap<i32, StandIn>,
    /// The indices of those that a stand-in has made.
    adopted: BTreeSet<usize>,
    files: MappedFiles,
    masters: Masters,
    missing: Vec<String>,
}

impl Entry<'_> {
    fn place(&self, at: usize) -> Place {
        self.places.get(at).cloned().unwrap_or_default()
    }

    fn parent(&self, at: usize) -> Option<usize> {
        parent(self.places, self.members.len(), at)
    }

    /// The process outside that is to enter, whose children will inherit its signal actions.
    fn leave(&mut self, at: usize) -> Result<Stopped> {
        let is_parent = (0..self.members.len()).any(|other| self.parent(other) == Some(at));
        let member = &mut self.members[at];
        let mut shell = member.outside.take().ok_or_else(gone)?;
        if is_parent {
            member.actions = Thread::actions_of(&mut shell)?;
        }
        Ok(shell)
    }

    /// Has the first one enter, which has no parent inside.
    fn enter_first(
        &mut self,
        at: usize,
        request: &sandbox::Request<'_>,
        is_right: impl FnOnce(&dyn Any) -> bool,
        put: impl FnOnce(&mut Sandbox, Option<Rc<dyn Any>>) -> sandbox::Result<()>,
    ) -> sandbox::Result<Sandbox> {
        let shell = self.leave(at)?;
        let request = sandbox::Request {
            pid: self.place(at).pid,
            ..*request
        };
        let sandboxes = Sandboxes::of_thread();
        let (task, sandbox) = sandboxes.enter_prepared(shell, &request, is_right, put)?;
        self.members[at].inside = Some(task);
        self.bury(at)?;
        Ok(sandbox)
    }

    /// Has one enter after its parent.
    fn enter(
        &mut self,
        at: usize,
        sandbox: &mut Sandbox,
        request: &sandbox::Request<'_>,
        shared: &SharedMemory,
    ) -> sandbox::Result<()> {
        let place = self.place(at);
        let parent = self.parent(at);
        let parent = parent.filter(|&parent| self.members[parent].inside.is_some());
        let beside = self.members[at].beside;
        let stand_in = match beside {
            Some(_) => None,
            None => self.stand_in_for(at, parent)?,
        };
        let adopts = stand_in.map(|(_, maker)| maker);
        let Some(parent) = adopts.or(parent).or(beside) else {
            let shell = self.leave(at)?;
            let request = sandbox::Request {
                pid: place.pid,
                ..*request
            };
            self.members[at].inside = Some(sandbox.enter(shell, &request)?);
            return self.bury(at);
        };
        let memory = self.members[at].group.memory;
        let is_in_memory = adopts.is_none() && self.members[parent].group.memory == memory;
        let flags = if is_in_memory {
            libc::CLONE_VM as u64
        } else {
            0
        };
        let tid = self.members[at].group.pid;
        let maker = match stand_in {
            Some((number, _)) => {
                self.adopted.insert(at);
                self.stand_ins.get_mut(&number).map(|one| &mut one.task)
            }
            None => self.members[parent].inside.as_mut(),
        };
        let mut remote = maker.ok_or_else(gone)?.remote_at_boundary()?;
        let made = remote.child_as(flags, place.exit_signal, place.pid)?;
        let made = made.map_err(|error| Error::os("make it in the sandbox", tid, error));
        remote.finish()?;
        let mut task = made?;
        let member = &mut self.members[at];
        member.forked = None;
        let mut actions = std::mem::take(&mut member.actions);
        match (&mut member.outside, is_in_memory) {
            (_, true) => {}
            (Some(outside), false) => {
                actions = Thread::actions_of(outside)?;
                let objects = shared.objects();
                self.missing
                    .extend(move_memory(outside, &mut task, &objects, &mut self.files)?);
                member.outside = None;
            }
            (None, false) => {
                let pid = place.pid;
                self.missing.push(format!(
                    "the memory that process {pid} shares with others: it has a copy"
                ));
                let other = beside.and_then(|other| self.members[other].inside.as_mut());
                let objects = shared.objects();
                let other = other.ok_or_else(gone)?;
                move_memory(other, &mut task, &objects, &mut self.files)?;
                self.members[at].beside = None;
            }
        }
        set_actions(&mut task, &actions, &self.members[parent].actions)?;
        self.members[at].actions = actions;
        if place.leads_session {
            let mut remote = task.remote_at_boundary()?;
            remote.call(libc::SYS_setsid, [0; 6])?;
            if let Some(number) = place.terminal.filter(|one| self.masters.contains_key(one)) {
                // Its children inherit it.
                control_by(&mut remote, number)?;
            }
            remote.finish()?;
        }
        self.members[at].inside = Some(task);
        self.bury(at)
    }

    /// Goes on without one that cannot be made, unless it is the one that was asked for.
    fn lose(&mut self, at: usize, error: sandbox::Error) -> sandbox::Result<()> {
        if at == 0 {
            return Err(error);
        }
        let member = &mut self.members[at];
        member.outside = None;
        member.inside = None;
        let pid = member.group.pid;
        self.missing
            .push(format!("process {pid} of its family: {error}"));
        Ok(())
    }
}

/// The order in which the processes of a family are made: parents before their children. A relation that leads nowhere (a
/// recording is untrusted) is none.
fn order(places: &[Place], count: usize) -> Vec<usize> {
    let mut order = Vec::new();
    let mut is_in = vec![false; count];
    while order.len() < count {
        let before = order.len();
        for at in 0..count {
            let parent = parent(places, count, at);
            if !is_in[at] && parent.is_none_or(|parent| is_in[parent]) {
                is_in[at] = true;
                order.push(at);
            }
        }
        if order.len() == before
            && let Some(at) = is_in.iter().position(|is_in| !is_in)
        {
            is_in[at] = true;
            order.push(at);
        }
    }
    order
}

fn parent(places: &[Place], count: usize, at: usize) -> Option<usize> {
    let parent = places.get(at)?.parent;
    parent.filter(|&parent| parent < count && parent != at)
}
