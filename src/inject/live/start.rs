//! How live processes begin: an engine for what goes on, or for a program.

use super::engine::{Engine, StoppedTasks};
use super::family::{self, LiveMember};
use super::guard::core_files::CoreFiles;
use super::guard::{Locks, Quotas};
use super::half_done::HalfDone;
use super::identity::{Identity, RecordedNumbers};
use super::limits::DeadlyLimits;
use super::listings::Listings;
use super::memory_limit::MemoryLimit;
use super::peers::LivePeers;
use super::streams::Streams;
use super::task::Task;
use crate::inject::Result;
use crate::inject::clock::Clocks;
use crate::inject::exchange::Decided;
use crate::inject::hook::Hooks;
use crate::inject::report::Report;
use crate::kernel::Kernel;
use crate::process::{Process, SharedMemory, StopPoint, Thread, ThreadGroup};
use crate::sandbox::{Sandbox, Settings};
use crate::tracee::agent_page::AgentPage;
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{KillOnDrop, Stopped, proc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A process that goes on live, and its surroundings.
pub(in crate::inject) struct Start {
    /// The process.
    pub process: Process,
    /// The recorded numbers of it and its relatives.
    pub numbers: RecordedNumbers,
    /// The call at whose entry its task stands, if hooks have seen it already.
    pub met: Option<Decided>,
    /// The agent's pages of it and its relatives, by the recorded tid of a thread of each.
    pub agents: BTreeMap<i32, AgentPage>,
    /// The bytes that were taken already of what calls send at whose entries its and its relatives' tasks stand, by recorded tid.
    pub half_done: BTreeMap<i32, u64>,
    /// The signal that was sent to its task, and of which hooks know already.
    pub fatal: Option<i32>,
    /// The other ends of connections that nobody has.
    pub peers: LivePeers,
    /// The captured standard output and error of it and its children.
    pub streams: Streams,
    /// The times of its clocks.
    pub clocks: Clocks,
    /// Its sandbox.
    pub sandbox: Option<Sandbox>,
    /// The directories that it and its relatives were listing, by the kernel's numbers of these.
    pub listings: BTreeMap<i32, Listings>,
    /// The settings of the sandbox.
    pub settings: Arc<Settings>,
}

impl<'a> Engine<'a> {
    /// An engine for a process that was spun off, with its relatives.
    pub fn new(
        start: Start,
        hooks: &'a mut dyn Hooks,
        report: Report,
        timeout: Duration,
    ) -> Result<(Engine<'a>, StoppedTasks)> {
        let Process {
            group,
            driven,
            threads,
            relatives,
            ..
        } = start.process;
        let event = group.event.0;
        // The family is judged by the recording's first process.
        let judged = group.recording.start().pid;
        let judged = relatives.iter().find(|one| one.group.pid == judged);
        let judged = judged.map_or(&group, |one| &one.group);
        let (first, first_pid) = (judged.real_pid, judged.pid);
        let asked_for = group.real_pid;
        let driven_task = driven.task.tid();
        let numbers = start.numbers;
        let is_sandboxed = start.sandbox.is_some();
        let mut engine = Engine {
            kill_on_drop: KillOnDrop::of(driven_task),
            hooks,
            report,
            limit: Limit::new(first, timeout)?,
            tasks: BTreeMap::new(),
            early: HashMap::new(),
            first,
            exit: None,
            began: group.recording.start().cwd.as_slice().into(),
            recording: Some(Arc::clone(&group.recording)),
            shared: group.shared.clone(),
            identity: Identity::of(first, numbers.own(first_pid))?,
            streams: start.streams,
            clocks: start.clocks,
            shows_clocks: true,
            event,
            memory: limit_memory(start.sandbox.as_ref(), &start.settings, first),
            deadly: DeadlyLimits::default(),
            quotas: Quotas::default(),
            locks: Locks::default(),
            sandbox: start.sandbox,
            listings: start.listings,
            settings: start.settings,
            core_files: CoreFiles::new(first, recorded_limits(judged)?, is_sandboxed),
            program: Arc::clone(&judged.program),
            asked_for,
            // The credentials of that time are not recorded, and the program was allowed to install filters.
            privileged: true,
            given: Vec::new(),
            met: start.met.map(|met| (driven_task, met)),
            children: 0,
            members: BTreeMap::new(),
            holding: BTreeSet::new(),
            peers: start.peers,
        };
        let mut threads = threads;
        threads.push(driven);
        let mut family = vec![(group, threads)];
        let relatives = relatives.into_iter();
        family.extend(relatives.map(|relative| (relative.group, relative.threads)));
        // All of them, before anything can fail.
        for thread in family.iter_mut().flat_map(|(_, threads)| threads) {
            engine.kill_on_drop.0.insert(thread.task.tid());
            thread.task.release();
        }
        let real: BTreeMap<i32, i32> = family
            .iter()
            .map(|(group, _)| (group.pid, group.real_pid))
            .collect();
        let mut stopped = Vec::new();
        for (group, threads) in family {
            let added = engine.add(
                &group,
                threads,
                &numbers,
                &start.agents,
                &start.half_done,
                &real,
            )?;
            stopped.extend(added);
        }
        if let Some(me) = engine.tasks.get_mut(&driven_task) {
            me.asked = start.fatal;
        }
        if let Some(memory) = &engine.memory {
            // Those that it had in its recording.
            memory.has_memfds();
        }
        Ok((engine, stopped))
    }

    /// Adds a recorded process with its tasks. Returns these.
    fn add(
        &mut self,
        group: &ThreadGroup,
        threads: Vec<Thread>,
        numbers: &RecordedNumbers,
        agents: &BTreeMap<i32, AgentPage>,
        half_done: &BTreeMap<i32, u64>,
        pids: &BTreeMap<i32, i32>,
    ) -> Result<StoppedTasks> {
        let (process, event) = (group.real_pid, group.event.0);
        let tids: Vec<i32> = threads.iter().map(|thread| thread.tid).collect();
        let ((led, hidden, parent), mut filters) =
            group.recording.kernel_at(event, |tree, kernel| {
                let own = kernel.process(group.pid);
                let own = own.map_or((false, false), |own| (own.leads_session, own.not_dumpable));
                let filters = tids.iter().map(|&tid| (tid, tree.filters(tid)));
                let parent = tree.ppid(group.pid);
                let own = (own.0, own.1, parent);
                (own, filters.collect::<HashMap<_, _>>())
            })?;
        let pid = numbers.own(group.pid);
        let is_root = parent.is_none_or(|parent| !pids.contains_key(&parent));
        let leads = self.sandbox.is_some() && is_root && !led && {
            let [_, session, ..] = proc::job_control(process)?;
            session == process
        };
        let parent = is_root.then(|| numbers.parent(group.pid));
        self.identity.add(process, parent, leads, hidden);
        if pids.len() > 1 {
            let member = LiveMember::new(group, &mut self.report);
            self.members.insert(process, member);
        }
        if process != self.first {
            self.core_files.add(process, recorded_limits(group)?);
            if let Some(memory) = &self.memory {
                memory.add(process);
            }
        }
        let unanswered = family::unanswered(&group.recording, event)?;
        let agent = tids.iter().find_map(|tid| agents.get(tid)).cloned();
        let mut stopped = Vec::new();
        for mut thread in threads {
            let tid = thread.task.tid();
            let made = unanswered.get(&thread.tid).filter(|made| {
                let is_there = pids.contains_key(&made.pid) || made.has_ended;
                is_there && pids.len() > 1 && family::is_making(&thread)
            });
            let holder = made.and_then(|made| made.holder);
            let holder = holder.and_then(|holder| pids.get(&holder)).copied();
            self.holding.extend(holder);
            let me = Task {
                filters: filters.remove(&thread.tid).unwrap_or_default(),
                made: thread
                    .attributes
                    .take_made()
                    .or(made.map(|made| made.named)),
                holder,
                is_relative: process != self.asked_for,
                half_done: half_done.get(&thread.tid).map(|&sent| HalfDone::new(sent)),
                agent: agent.clone(),
                ..Task::new(process, pid, numbers.own(thread.tid), thread.segv)
            };
            self.tasks.insert(tid, me);
            stopped.push((tid, thread.task, thread.place));
        }
        Ok(stopped)
    }

    /// An engine for a program that was just executed; `kept` is its sandbox, the settings of that, and whether the hooks
    /// name calls that read clocks. `peers` are the servers that are played for it.
    pub fn of_program(
        mut task: Stopped,
        hooks: &'a mut dyn Hooks,
        report: Report,
        timeout: Duration,
        kept: (Option<Sandbox>, Arc<Settings>, bool),
        peers: LivePeers,
    ) -> Result<(Engine<'a>, StoppedTasks)> {
        let (sandbox, settings, shows_clocks) = kept;
        let first = task.tid();
        let privileged = proc::administers(std::process::id() as i32)?;
        task.release();
        let kill_on_drop = KillOnDrop::of(first);
        let identity = Identity::of_program(first)?;
        let mut me = Task::new(first, identity.pid(), identity.pid(), SegvState::default());
        me.fresh = true;
        let engine = Engine {
            kill_on_drop,
            hooks,
            report,
            limit: Limit::new(first, timeout)?,
            tasks: BTreeMap::from([(first, me)]),
            early: HashMap::new(),
            first,
            exit: None,
            began: proc::cwd(first).unwrap_or_default().into(),
            recording: None,
            shared: SharedMemory::default(),
            identity,
            streams: Streams::default(),
            clocks: Clocks::default(),
            shows_clocks,
            event: 0,
            core_files: CoreFiles::new(first, None, sandbox.is_some()),
            memory: limit_memory(sandbox.as_ref(), &settings, first),
            deadly: DeadlyLimits::default(),
            quotas: Quotas::default(),
            locks: Locks::default(),
            sandbox,
            listings: BTreeMap::new(),
            settings,
            program: Arc::default(),
            asked_for: first,
            privileged,
            given: Vec::new(),
            met: None,
            children: 0,
            members: BTreeMap::new(),
            holding: BTreeSet::new(),
            peers,
        };
        Ok((engine, vec![(first, task, StopPoint::Between)]))
    }
}

/// The limits on core files that a recorded process had set.
fn recorded_limits(group: &ThreadGroup) -> Result<Option<(u64, u64)>> {
    let of = |kernel: &Kernel| {
        let limits = &kernel.process(group.pid)?.limits;
        limits.get(&libc::RLIMIT_CORE).copied()
    };
    Ok(match group.changes.is_empty() {
        true => group
            .recording
            .kernel_at(group.event.0, |_, kernel| of(kernel))?,
        false => of(&group.changes.kernel(&group.recording, &group.descriptors)?),
    })
}

/// Starts to limit the memory of the processes in a sandbox.
fn limit_memory(sandbox: Option<&Sandbox>, settings: &Settings, first: i32) -> Option<MemoryLimit> {
    let memory = sandbox.map(|_| MemoryLimit::new(&settings.limits))?;
    memory.add(first);
    Some(memory)
}
