//! Moving a process with its family into a sandbox.
//!
//! The roots are copied from outside, and have no parent inside. All others are forked from their recorded parents, and then
//! get their own memory.

use super::moved_memory::{MappedFiles, move_memory};
use super::thread::SignalAction;
use super::{Process, Relative, SharedMemory, Thread, ThreadGroup, ThreadState, set_actions};
use crate::sandbox::{self, Sandbox, Sandboxes};
use crate::trace::Exit;
use crate::tracee::default_action::is_fatal;
use crate::tracee::spawn::borrow_fd;
use crate::tracee::{Error, Remote, Result, Stopped, terminal_settings};
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
            if let Some(maker) = maker.and_then(|(_, member)| member.inside.as_mut()) {
                stand_in.dismiss(number, maker, is_told)?;
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

/// A process in the place of one that has ended and that others descend from, or that led their session or process group. It
/// ends when they have that.
struct StandIn {
    task: Stopped,
    /// The index of its parent.
    maker: usize,
    /// Its end, if its parent has not waited for it.
    ended: Option<Ended>,
}

impl StandIn {
    /// Lets it end, as a child of this process, which may have been told of that end.
    fn dismiss(self, number: i32, maker: &mut Stopped, is_told: bool) -> Result<()> {
        if let Some(ended) = self.ended {
            let exit = ended.exit;
            let signals = told_by(&ended);
            return among_children(maker, (signals, is_told), |_| end(self.task, exit, false));
        }
        end(self.task, Exit::Code(0), false)?;
        let mut remote = maker.remote_at_boundary()?;
        let args = [number as u64, 0, libc::__WALL as u64, 0, 0, 0];
        remote.call(libc::SYS_wait4, args)?;
        remote.finish()
    }
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

    /// The number of a process that is made to be this one's parent for a while, and the index of that process's own parent:
    /// where one that has ended led its session or was its parent. `None` where it needs none, or there cannot be one.
    fn stand_in_for(&mut self, at: usize, parent: Option<usize>) -> Result<Option<(i32, usize)>> {
        let place = self.place(at);
        let is_inside = |&at: &usize| self.members[at].inside.is_some();
        let has_session = |at: usize| self.place(at).session == place.session;
        let (number, leads, maker) = match (place.outlives_session, place.session, parent) {
            (true, Some(session), _) if !parent.is_some_and(has_session) => {
                (session, true, parent.unwrap_or(self.first))
            }
            (_, _, Some(_)) => return Ok(None),
            _ if place.leads_session => return Ok(None),
            _ => {
                let Some(number) = place.orphan_of else {
                    return Ok(None);
                };
                let all = 0..self.members.len();
                let leader = { all }.find(|&at| Some(self.place(at).pid) == place.session);
                let maker = leader.filter(is_inside).unwrap_or(self.first);
                (number, false, maker)
            }
        };
        self.stand_in(number, leads, maker)
    }

    /// Makes a process of this number that stands for one which has ended. Returns its number and its parent's index, or
    /// `None` if it cannot be had.
    fn stand_in(&mut self, number: i32, leads: bool, maker: usize) -> Result<Option<(i32, usize)>> {
        if let Some(known) = self.stand_ins.get(&number) {
            return Ok(Some((number, known.maker)));
        }
        let task = self.members[maker].inside.as_mut().ok_or_else(gone)?;
        let mut remote = task.remote_at_boundary()?;
        let made = remote.child_as(0, 0, number)?;
        remote.finish()?;
        let Ok(mut task) = made else {
            return Ok(None);
        };
        lead(&mut task, leads, false)?;
        let ended = None;
        let stand_in = StandIn { task, maker, ended };
        self.stand_ins.insert(number, stand_in);
        Ok(Some((number, maker)))
    }

    /// Makes leaders of the process groups whose own have ended.
    fn lead_groups(&mut self) -> Result<()> {
        for at in 0..self.members.len() {
            let place = self.place(at);
            let is_there = self.members[at].inside.is_some();
            let Some(group) = place.group.filter(|_| is_there && place.outlives_group) else {
                continue;
            };
            let known = self.stand_ins.contains_key(&group);
            if !known && self.stand_in(group, false, at)?.is_none() {
                continue;
            }
            if let Some(StandIn { task, .. }) = self.stand_ins.get_mut(&group) {
                // The leader of a session is that already.
                lead(task, false, true)?;
            }
        }
        Ok(())
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

    /// Opens pseudoterminals of these numbers. Those that cannot be had are missing.
    fn open_terminals(&mut self, at: usize, terminals: &[Terminal]) -> sandbox::Result<()> {
        if terminals.is_empty() {
            return Ok(());
        }
        let task = self.members[at].inside.as_mut().ok_or_else(gone)?;
        let tid = task.tid();
        let mut remote = task.remote_at_boundary()?;
        let path = remote.put_str(b"/dev/ptmx")?;
        let word = remote.put(&[0; 8])?;
        let how = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
        let mut open = Vec::new();
        while terminals
            .iter()
            .any(|(number, _)| !self.masters.contains_key(number))
        {
            let args = [libc::AT_FDCWD as u64, path, how, 0, 0, 0];
            let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) else {
                break;
            };
            open.push(fd);
            let ask = [fd, libc::TIOCGPTN, word, 0, 0, 0];
            if remote.call(libc::SYS_ioctl, ask)? < 0 {
                break;
            }
            let number = remote.memory().word(word)? as u32;
            let known = terminals.iter().find(|(known, _)| *known == number);
            if let Some((_, size)) = known {
                remote.memory().write(word, &[0; 8])?;
                let unlock = [fd, libc::TIOCSPTLCK, word, 0, 0, 0];
                remote.call(libc::SYS_ioctl, unlock)?;
                let master = borrow_fd(tid, fd as i32)?;
                if let Some(size) = size {
                    // Before anybody has it, who would be told of a change.
                    let set = terminal_settings::set_size(&master, *size);
                    set.map_err(|e| Error::os("set the size of a terminal", tid, e))?;
                }
                self.masters.insert(number, master);
            }
        }
        for fd in open {
            remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        Ok(remote.finish()?)
    }

    /// Makes the children of one that have ended, and lets them end.
    fn bury(&mut self, at: usize) -> sandbox::Result<()> {
        let place = self.place(at);
        if place.ended.is_empty() {
            return Ok(());
        }
        tracing::trace!("{} has ended children: {:?}", place.pid, place.ended);
        let led: Vec<i32> = self.places.iter().filter_map(|place| place.group).collect();
        let heads_session = |pid: i32| {
            let is_it = |one: &Place| one.outlives_session && one.session == Some(pid);
            self.places.iter().any(is_it)
        };
        let has_orphans = |pid: i32| self.places.iter().any(|one| one.orphan_of == Some(pid));
        let task = self.members[at].inside.as_mut().ok_or_else(gone)?;
        let (missing, stand_ins) = (&mut self.missing, &mut self.stand_ins);
        let signals = place.ended.iter().fold(0, |all, one| all | told_by(one));
        among_children(task, (signals, place.is_told), |remote| {
            for &ended in &place.ended {
                remote.reset_scratch();
                let pid = ended.pid;
                let made = remote.child_as(0, ended.exit_signal, pid)?;
                let done = made
                    .map_err(|error| error.to_string())
                    .and_then(|mut child| {
                        let stays = heads_session(pid) || has_orphans(pid);
                        let done = match stays {
                            true => lead(&mut child, heads_session(pid), led.contains(&pid)),
                            false => {
                                return end(child, ended.exit, led.contains(&pid))
                                    .map_err(|error| error.to_string());
                            }
                        };
                        let ended = Some(ended);
                        stand_ins.insert(
                            pid,
                            StandIn {
                                task: child,
                                maker: at,
                                ended,
                            },
                        );
                        done.map_err(|error| error.to_string())
                    });
                if let Err(error) = done {
                    missing.push(format!(
                        "process {pid}, which has ended and was not waited for: {error}"
                    ));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Puts all into their process groups.
    fn join_groups(&mut self) -> sandbox::Result<()> {
        // Processes that have the group of one that was not made by the family stay together.
        let roots = (0..self.members.len()).filter(|&at| self.parent(at).is_none());
        let outer: Vec<i32> = roots
            .map(|at| self.place(at))
            .filter(|place| !place.outlives_group)
            .filter_map(|place| place.group.filter(|&group| group != place.pid))
            .collect();
        self.lead_groups()?;
        let is_leader = |place: &Place| place.group == Some(place.pid) && !place.leads_session;
        for leads in [true, false] {
            for at in 0..self.members.len() {
                let place = self.place(at);
                let Some(group) = place.group.filter(|group| !outer.contains(group)) else {
                    continue;
                };
                let is_made_inside = self.parent(at).is_some() || self.adopted.contains(&at);
                if is_leader(&place) != leads || !is_made_inside || place.leads_session {
                    continue;
                }
                let Some(task) = self.members[at].inside.as_mut() else {
                    continue;
                };
                let mut remote = task.remote_at_boundary()?;
                let ret = remote.call(libc::SYS_setpgid, [0, group as u64, 0, 0, 0, 0])?;
                remote.finish()?;
                if ret < 0 {
                    let pid = place.pid;
                    self.missing.push(format!(
                        "the process group {group} of process {pid}: it is in its parent's"
                    ));
                }
            }
        }
        for at in 0..self.members.len() {
            let place = self.place(at);
            let (Some(_), Some(group)) = (place.terminal, place.foreground) else {
                continue;
            };
            let Some(task) = self.members[at].inside.as_mut() else {
                continue;
            };
            let mut remote = task.remote_at_boundary()?;
            let path = remote.put_str(b"/dev/tty")?;
            let args = [libc::AT_FDCWD as u64, path, libc::O_RDWR as u64, 0, 0, 0];
            if let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) {
                let group = remote.put(&group.to_le_bytes())?;
                let args = [fd, libc::TIOCSPGRP, group, 0, 0, 0];
                remote.call(libc::SYS_ioctl, args)?;
                remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
            }
            remote.finish()?;
        }
        Ok(())
    }
}

/// Makes a pseudoterminal the controlling one of a process, which leads a session.
fn control_by(remote: &mut Remote<'_>, number: u32) -> Result<()> {
    remote.reset_scratch();
    let path = remote.put_str(format!("/dev/pts/{number}").as_bytes())?;
    let args = [libc::AT_FDCWD as u64, path, libc::O_RDWR as u64, 0, 0, 0];
    if let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) {
        remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    Ok(())
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

/// Makes and ends children of a process, whose ends send it these signals. Those that it has been told of are taken back.
fn among_children(
    task: &mut Stopped,
    (signals, is_told): (u64, bool),
    then: impl FnOnce(&mut Remote<'_>) -> Result<()>,
) -> Result<()> {
    let signals = signals | 1 << (libc::SIGCHLD - 1);
    let mask = task.sigmask()?;
    task.set_sigmask(mask | signals)?;
    let mut remote = task.remote_at_boundary()?;
    // A child of whom nobody is to hear leaves nothing.
    let (none, before) = (remote.put(&[0; 32])?, remote.put(&[0; 32])?);
    let set = |new, old| [libc::SIGCHLD as u64, new, old, 8, 0, 0];
    remote.call(libc::SYS_rt_sigaction, set(none, before))?;
    let mut action = SignalAction::default();
    remote.memory().read_exact(before, &mut action)?;
    then(&mut remote)?;
    remote.reset_scratch();
    let told = remote.put(&signals.to_le_bytes())?;
    let now = remote.put(&[0; 16])?;
    let take = [told, 0, now, 8, 0, 0];
    // Each of them once, but those of real time queue.
    while is_told && remote.call(libc::SYS_rt_sigtimedwait, take)? > 0 {}
    let before = remote.put(&action)?;
    remote.call(libc::SYS_rt_sigaction, set(before, 0))?;
    remote.finish()?;
    task.set_sigmask(mask)
}

/// The signal, as a mask, that a process gets at the end of a child.
fn told_by(ended: &Ended) -> u64 {
    match ended.exit_signal {
        signal @ 1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

/// Has a process lead a session or a process group.
fn lead(task: &mut Stopped, session: bool, group: bool) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    if session {
        remote.call(libc::SYS_setsid, [0; 6])?;
    } else if group {
        remote.call(libc::SYS_setpgid, [0; 6])?;
    }
    remote.finish()
}

/// Lets a process that has just been made end like this.
fn end(mut task: Stopped, exit: Exit, leads_group: bool) -> Result<()> {
    if let Exit::Signal { signal, .. } = exit
        && !is_fatal(signal)
    {
        let why = std::io::Error::from_raw_os_error(libc::EINVAL);
        return Err(Error::os(
            format!("end it by signal {signal}"),
            task.tid(),
            why,
        ));
    }
    lead(&mut task, false, leads_group)?;
    let mut remote = task.remote_at_boundary()?;
    let result = match exit {
        Exit::Code(code) => remote
            .call(libc::SYS_exit_group, [code as u64, 0, 0, 0, 0, 0])
            .map(|_| ()),
        Exit::Signal { signal, .. } => {
            let none = remote.put(&[0; 32])?;
            let args = [signal as u64, none, 0, 8, 0, 0];
            remote.call(libc::SYS_rt_sigaction, args)?;
            remote.finish()?;
            task.set_sigmask(0)?;
            return task.die_of(signal);
        }
    };
    match result {
        Err(Error::Ended { .. }) => Ok(()),
        other => other,
    }
}
