//! Live execution: the kernel answers instead of the trace.
//!
//! All tasks of a process run at once, and so do the threads and processes that they create; each call stops,
//! is shown to the hooks, and is then made. The same engine runs the programs of `live{}`.

mod aftermath;
mod calls;
mod engine;
mod family;
mod files;
mod filters;
mod given;
mod guard;
mod half_done;
mod hang;
mod identity;
mod kept_files;
mod limits;
mod listings;
mod memory_limit;
mod own_terminal;
mod peers;
mod pending;
mod proc_self_exe;
mod program;
mod recorded_files;
mod servers;
mod signals;
mod standard_streams;
mod start;
mod streams;
mod task;
mod task_tree;
mod writable_dirs;

pub use aftermath::{Aftermath, AftermathFile};
pub use program::run;
pub(super) use servers::check as check_servers;

use super::clock::Clocks;
use super::exchange::Decided;
use super::hook::Hooks;
use super::options::{Options, Sandbox};
use super::outcome::Outcome;
use super::report::{Driven, Report};
use super::{Error, Result, given_files};
use crate::history::{ChangedPath, FileChange};
use crate::kernel::FileKind;
use crate::process::{Inside, Masters, Process, SharedMemory, StopPoint, ThreadGroup};
use crate::restore::{Member, Peers, Reopened, restore};
use crate::sandbox::{self, Change, ChangeKind, Origin, Part, Request, Settings};
use engine::Engine;
use identity::RecordedNumbers;
use peers::LivePeers;
use recorded_files::RecordedWorld;
use start::Start;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tracing::trace_span;

/// Options of a process that goes on live.
#[derive(Clone, Debug)]
pub(super) struct LiveOptions {
    /// The time limit.
    pub timeout: Duration,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The settings of that sandbox.
    pub settings: Arc<Settings>,
    /// What other ends of connections do that are not there.
    pub peers: Peers,
    /// A signal that ends the process at once.
    pub fatal: Option<i32>,
    /// The time by which its clocks are ahead.
    pub ahead: Duration,
    /// The files that hooks have given another content, by their numbers there.
    pub given: Vec<(usize, PathBuf)>,
}

impl From<&Options> for LiveOptions {
    fn from(options: &Options) -> LiveOptions {
        LiveOptions {
            timeout: options.timeout,
            sandbox: options.sandbox,
            settings: Arc::clone(&options.settings),
            peers: options.peers,
            fatal: None,
            ahead: Duration::ZERO,
            given: Vec::new(),
        }
    }
}

/// Lets a process go on live. Of the options, only the time limit and the sandbox are used.
///
/// # Errors
/// If a hook fails, the process cannot be traced, or it cannot have the sandbox. The process is then killed.
pub fn live(mut process: Process, hooks: &mut dyn Hooks, options: &Options) -> Result<Driven> {
    servers::check(hooks, options.sandbox, &options.settings)?;
    let mut how = LiveOptions::from(options);
    let tid = process.driven.tid;
    if let Some(given) = given_files::give(&mut process.group, tid, hooks)? {
        how.given = given.asked_for;
    }
    let outcome = go_on(process, None, hooks, Report::default(), how)?;
    let outcome = outcome.within(options.timeout);
    Ok(Driven {
        outcome,
        process: None,
        went_live: true,
    })
}

/// The same for a process in the middle of an injection; `met` is the call at whose entry its task stands,
/// if hooks have seen it already.
pub(super) fn go_on(
    mut process: Process,
    mut met: Option<Decided>,
    hooks: &mut dyn Hooks,
    mut report: Report,
    how: LiveOptions,
) -> Result<Outcome> {
    report.pid = process.group.pid;
    match (how.sandbox, process.source.take()) {
        // They are not live.
        (Sandbox::None, _) => process.relatives.clear(),
        (Sandbox::Cow, Some(source)) => {
            let event = process.group.event.0;
            family::note_unmade(&mut process)?;
            source.add(&mut process, event).map_err(Error::Family)?;
        }
        (Sandbox::Cow, None) => {}
    }
    let numbers = RecordedNumbers::of(&process)?;
    let mut clocks = Clocks::at(&process.group.recording, process.group.event.0)?;
    clocks.advance(how.ahead);
    // Before anything else is worked out from the calls: they are followed forwards.
    let earlier = match hooks.wants_aftermath() {
        true => changed_before(&process.group, process.group.event.0)?,
        false => BTreeMap::new(),
    };
    let pending;
    let mut sandbox = None;
    let mut listings = BTreeMap::new();
    let mut half_done = BTreeMap::new();
    let mut servers = Vec::new();
    let restored;
    let mut missing;
    match how.sandbox {
        Sandbox::None => {
            pending = pending::pending(&process, None, how.fatal.is_some())?;
            let group = &process.group;
            if let Some(given) = group.files.given().next() {
                return Err(given::needs_sandbox(given::path_of(given)));
            }
            if !group.retired.is_empty() || process.driven.task.tid() != group.real_pid {
                // Threads that have ended for the program still exist for the kernel.
                process = process.fork()?;
            }
            let Process { group, driven, .. } = &mut process;
            let member = Member {
                task: &mut driven.task,
                place: driven.place,
                state: group,
                is_inside: false,
                beside: None,
            };
            restored = restore(
                vec![member],
                None,
                Masters::new(),
                (Reopened::default(), how.peers),
            )?;
            missing = Vec::new();
        }
        Sandbox::Cow => {
            let group = &process.group;
            let has_masters = || {
                group
                    .descriptors
                    .iter()
                    .any(|(_, file, _)| file.is_master())
            };
            let kernel = match process.relatives.is_empty() {
                true if has_masters() => {
                    Some(group.changes.kernel(&group.recording, &group.descriptors)?)
                }
                true => None,
                false => Some(family::kernel(&mut process)?),
            };
            let family = kernel.as_ref().filter(|_| !process.relatives.is_empty());
            pending = pending::pending(&process, family, how.fatal.is_some())?;
            half_done = match &kernel {
                Some(kernel) => family::half_done(&process, kernel),
                // Only one of its own threads can have taken a part of it.
                None if process.threads.is_empty() || !family::may_be_half_done(&process) => {
                    BTreeMap::new()
                }
                None => {
                    let group = &process.group;
                    let kernel = group.changes.kernel(&group.recording, &group.descriptors)?;
                    family::half_done(&process, &kernel)
                }
            };
            let places = family::places(&process)?;
            let terminals = match &kernel {
                Some(kernel) => family::terminals(&process, kernel),
                None => Vec::new(),
            };
            let world = trace_span!("world").in_scope(|| {
                let relatives = process
                    .relatives
                    .iter()
                    .filter_map(|relative| Some((&relative.group, relative.threads.first()?.tid)));
                let own = (&process.group, process.driven.tid);
                let all: Vec<_> = [own].into_iter().chain(relatives).collect();
                RecordedWorld::of(&all, process.group.event.0, &how.settings)
            })?;
            let mut writable = writable_dirs::writable_dirs(&process);
            writable.extend(world.directories());
            writable.extend(servers::directories(hooks));
            let cwd = process.group.descriptors.cwd().to_vec();
            let request = Request {
                writable: &writable,
                cwd: &cwd,
                pid: numbers.own(process.group.pid),
                user: user_of(&process.group)?,
                settings: &how.settings,
            };
            let recording = Arc::clone(&process.group.recording);
            let wanted = world.wanted(&recording);
            let put = |sandbox: &mut sandbox::Sandbox, kept, shared: &SharedMemory| {
                trace_span!("put").in_scope(|| world.put_into(sandbox, kept, &wanted, shared))
            };
            let inside = |sandbox: &sandbox::Sandbox,
                          shared: &SharedMemory,
                          masters: Masters,
                          inside: &mut [Inside<'_>]| {
                let _span = trace_span!("restore").entered();
                for one in inside.iter_mut().filter(|one| one.beside.is_none()) {
                    world.map_shared(shared, one.task)?;
                }
                let groups = inside.iter().map(|one| one.group);
                let reopened = world.reopen(sandbox, groups);
                let members = inside.iter_mut().map(|one| Member {
                    task: one.task,
                    place: StopPoint::Between,
                    state: one.group,
                    is_inside: true,
                    beside: one.beside,
                });
                restore(members.collect(), kernel, masters, (reopened, how.peers))
            };
            let number = |tid| numbers.own(tid);
            let is_right = |what: &dyn std::any::Any| wanted.can_have(what);
            let (copy, made, done) = trace_span!("sandbox").in_scope(|| {
                process.into_sandbox(
                    &request,
                    (&places, &terminals),
                    number,
                    is_right,
                    put,
                    inside,
                )
            })?;
            process = copy;
            world.check()?;
            restored = done?;
            missing = made.notes.clone();
            for group in process.groups() {
                listings.insert(group.real_pid, world.listings(group));
            }
            missing.extend(world.into_missing());
            let mut made = made;
            let mut files = process.groups().flat_map(|group| group.descriptors.iter());
            if files.any(|(_, file, _)| file.kind() == FileKind::Socket) {
                made.note_use(Part::Network);
            }
            // What the processes have comes first.
            servers = servers::listen(hooks, &mut made, &mut missing)?;
            sandbox = Some(made);
        }
    }
    if let Some(seen) = &mut met {
        seen.memory = process.memory();
        seen.shared = process.group.shared.clone();
    }
    let mut agents = BTreeMap::new();
    let mut captured = Vec::new();
    let mut peers = Vec::new();
    for restored in restored {
        let mut relatives = process.relatives.iter_mut();
        let first = match restored.pid == process.group.pid {
            true => Some(&mut process.driven),
            false => relatives
                .find(|relative| relative.group.pid == restored.pid)
                .and_then(|relative| relative.threads.first_mut()),
        };
        let Some(first) = first else { continue };
        for sentence in restored.missing {
            if !missing.contains(&sentence) {
                missing.push(sentence);
            }
        }
        let started = restored.timers.start(&mut first.task, first.place)?;
        missing.extend(started);
        captured.extend(restored.streams);
        peers.extend(restored.peers);
        if let Some(agent) = restored.agent {
            agents.insert(first.tid, agent);
        }
    }
    missing.extend(pending::send(&mut process, &pending)?);
    let tables = process.groups().map(|group| &group.descriptors);
    let streams = Streams::of(captured, tables);
    report.missing = missing;
    if let Some(signal) = how.fatal {
        process.driven.task.send(signal);
    }
    let (settings, timeout) = (Arc::clone(&how.settings), how.timeout);
    let cwd = process.group.descriptors.cwd().to_vec();
    let start = Start {
        process,
        numbers,
        met,
        agents,
        half_done,
        fatal: how.fatal,
        peers: LivePeers::new(peers, how.peers, servers),
        streams,
        clocks,
        sandbox,
        listings,
        settings: how.settings,
    };
    let (engine, stopped) = Engine::new(start, hooks, report, how.timeout)?;
    let engine = engine.with_given(how.given.clone());
    let (report, ended, sandbox) = engine.run(stopped)?;
    given::note_read(sandbox.as_ref(), &how.given, hooks);
    let mut outcome = report.outcome(ended, hooks);
    if hooks.wants_aftermath() {
        let place = (&settings, &cwd[..], timeout);
        show_aftermath(sandbox, earlier, place, hooks, &mut outcome)?;
        outcome.unfired = hooks.unfired();
    }
    Ok(outcome)
}

/// Shows the hooks the files that a process has left which has not gone live: in a sandbox of their own.
pub(super) fn show_left(
    group: &ThreadGroup,
    (tid, event): (i32, u64),
    how: &LiveOptions,
    hooks: &mut dyn Hooks,
    outcome: &mut Outcome,
) -> Result<()> {
    if how.sandbox == Sandbox::None || !hooks.wants_aftermath() {
        return Ok(());
    }
    let earlier = changed_before(group, event)?;
    let world = RecordedWorld::of(&[(group, tid)], event, &how.settings)?;
    let writable: Vec<_> = world.directories().into_iter().collect();
    let cwd = group.descriptors.cwd().to_vec();
    let request = Request {
        writable: &writable,
        cwd: &cwd,
        pid: group.pid,
        user: user_of(group)?,
        settings: &how.settings,
    };
    let wanted = world.wanted(&group.recording);
    let put = |sandbox: &mut sandbox::Sandbox, kept| {
        world.put_into(sandbox, kept, &wanted, &group.shared)
    };
    let sandboxes = sandbox::Sandboxes::of_thread();
    let sandbox = sandboxes.prepared(&request, |what| wanted.can_have(what), put)?;
    world.check()?;
    outcome.missing.extend(world.into_missing());
    let place = (&how.settings, &cwd[..], how.timeout);
    show_aftermath(Some(sandbox), earlier, place, hooks, outcome)
}

/// The user and the group that a process knows itself by, where these are not the caller's: those that have recorded it.
fn user_of(group: &ThreadGroup) -> Result<Option<(u32, u32)>> {
    let user = group.recording.other_user()?;
    Ok(user.map(|user| (user.uid, user.gid)))
}

/// What a copy, as it was told, changed since it was spun off.
fn changed_before(group: &ThreadGroup, event: u64) -> Result<BTreeMap<PathBuf, Change>> {
    let changed = group.recording.changed_files(event, &group.files)?;
    let path_of = |path: Vec<u8>| PathBuf::from(OsString::from_vec(path));
    let change = |(path, now): (Vec<u8>, ChangedPath)| {
        let path = path_of(path);
        let kind = match now.change {
            FileChange::Created => ChangeKind::Created,
            FileChange::Changed => ChangeKind::Changed,
            FileChange::Removed => ChangeKind::Removed,
        };
        let from = now.from.map(|(from, is_altered)| Origin {
            path: path_of(from),
            is_altered,
        });
        (path.clone(), Change { path, kind, from })
    };
    Ok(changed.into_iter().map(change).collect())
}

/// Shows the hooks a sandbox after the run in it.
fn show_aftermath(
    sandbox: Option<sandbox::Sandbox>,
    earlier: BTreeMap<PathBuf, Change>,
    (settings, cwd, timeout): (&Arc<Settings>, &[u8], Duration),
    hooks: &mut dyn Hooks,
    outcome: &mut Outcome,
) -> Result<()> {
    let Some(sandbox) = sandbox.filter(|_| hooks.wants_aftermath()) else {
        return Ok(());
    };
    let settings = Arc::clone(settings);
    let mut aftermath = Aftermath::new(sandbox, settings, cwd, timeout, earlier);
    hooks.after(&mut aftermath, outcome).map_err(Error::Hook)
}
