//! Programs that are started live, without a recording: only the calls that a hook may mean stop them.

use super::engine::Engine;
use super::given::{self, path_of, put_given};
use super::guard;
use super::peers::LivePeers;
use super::servers;
use super::standard_streams::StandardStreams;
use crate::inject::given_files;
use crate::inject::hook::Hooks;
use crate::inject::options::{Options, Sandbox};
use crate::inject::report::Report;
use crate::inject::{Outcome, Result};
use crate::sandbox::{self, Request, Sandboxes, calls as file_calls};
use crate::syscall::{self, Syscall};
use crate::tracee::exec::{self, StopCalls};
use crate::tracee::{Command, spawn};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The pid of the program in its sandbox.
const PID: i32 = 2;

/// Runs a program and all processes that it starts to their end. Of the options, only the time limit
/// and the sandbox are used.
///
/// # Errors
/// If a hook fails, the program cannot be executed or traced, or it cannot have the sandbox. All processes are
/// then killed.
pub fn run(command: &Command, hooks: &mut dyn Hooks, options: &Options) -> Result<Outcome> {
    let (mut outcome, sandbox) = run_in(None, command, hooks, options)?;
    let cwd = std::env::current_dir().unwrap_or_default();
    let cwd = command
        .cwd
        .as_ref()
        .map_or(cwd.clone(), |dir| cwd.join(dir));
    let cwd = cwd.as_os_str().as_encoded_bytes();
    super::show_aftermath(
        sandbox,
        Default::default(),
        (&options.settings, cwd, options.timeout),
        hooks,
        &mut outcome,
    )?;
    outcome.unfired = hooks.unfired();
    Ok(outcome)
}

/// The same in a sandbox that is there already, if one is given. Returns the sandbox as well.
pub(super) fn run_in(
    mut sandbox: Option<sandbox::Sandbox>,
    command: &Command,
    hooks: &mut dyn Hooks,
    options: &Options,
) -> Result<(Outcome, Option<sandbox::Sandbox>)> {
    let here = std::env::current_dir().unwrap_or_default();
    let cwd = match &command.cwd {
        Some(dir) => here.join(dir),
        None => here,
    };
    servers::check(hooks, options.sandbox, &options.settings)?;
    let given = given_files::of_program(hooks, &cwd)?;
    if let Some((_, file)) = given.first()
        && options.sandbox == Sandbox::None
    {
        return Err(given::needs_sandbox(path_of(file)));
    }
    let (mut streams, theirs) = StandardStreams::new(&command.stdin)?;
    let mut task = spawn::start_shell(theirs)?;
    let mut missing = Vec::new();
    let mut peers = LivePeers::default();
    if options.sandbox == Sandbox::Cow {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let dirs = given.iter().filter_map(|(_, file)| path_of(file).parent());
        let writable: Vec<PathBuf> = home
            .into_iter()
            .chain(dirs.map(Path::to_path_buf))
            .chain(servers::directories(hooks))
            .collect();
        let request = Request {
            writable: &writable,
            cwd: cwd.as_os_str().as_encoded_bytes(),
            pid: PID,
            user: None,
            settings: &options.settings,
        };
        let (inside, mut made) = match sandbox.take() {
            Some(mut there) => (there.enter(task, &request)?, there),
            None => {
                let mut put = Ok(());
                let put_all = |made: &mut sandbox::Sandbox, _| {
                    put = put_given(made, &given, options);
                    Ok(())
                };
                let sandboxes = Sandboxes::of_thread();
                let entered = sandboxes.enter_prepared(task, &request, |_| false, put_all)?;
                put?;
                entered
            }
        };
        task = inside;
        made.seal(&mut task)?;
        missing.extend(made.notes.iter().cloned());
        let servers = servers::listen(hooks, &mut made, &mut missing)?;
        peers = LivePeers::new(Vec::new(), options.peers, servers);
        sandbox = Some(made);
    }
    let wanted = wanted(hooks);
    let shows_clocks = wanted
        .iter()
        .any(|call| in_vdso(call.name) && hooks.names(call));
    let mut calls: Vec<u32> = wanted.iter().map(|call| call.nr).collect();
    // These calls change the program's own filters.
    calls.extend([libc::SYS_prctl, libc::SYS_seccomp].map(|nr| nr as u32));
    if !given.is_empty() {
        calls.extend(given::CALLS.map(|nr| nr as u32));
    }
    let mut rules = guard::rules(sandbox.is_some());
    if sandbox.is_some() {
        calls.extend(file_calls::REFUSED.map(|nr| nr as u32));
        rules.push(file_calls::REFUSED_RULE);
        if file_calls::has_unmapped_owners() {
            calls.extend(file_calls::CALLS_OF_OWNERS.iter().map(|&nr| nr as u32));
            rules.extend_from_slice(file_calls::RULES_OF_OWNERS);
        }
    }
    calls.extend(guard::calls(sandbox.is_some()).map(|nr| nr as u32));
    calls.sort_unstable();
    calls.dedup();
    let shown = StopCalls { calls, rules };
    streams.give_devices(&mut task)?;
    exec::execute(&mut task, command, &shown)?;
    let streams = streams.begin();
    let report = Report {
        missing,
        ..Report::default()
    };
    let (engine, stopped) = Engine::of_program(
        task,
        hooks,
        report,
        options.timeout,
        (sandbox, Arc::clone(&options.settings), shows_clocks),
        peers,
    )?;
    let given: Vec<(usize, PathBuf)> = given
        .iter()
        .map(|(number, file)| (*number, path_of(file).into()))
        .collect();
    let ended = engine.with_given(given.clone()).run(stopped);
    let output = streams.end();
    let (mut report, ended, sandbox) = ended?;
    given::note_read(sandbox.as_ref(), &given, hooks);
    output(&mut report);
    let outcome = report.outcome(ended, hooks);
    Ok((outcome.within(options.timeout), sandbox))
}

/// The calls that a hook may mean.
fn wanted(hooks: &dyn Hooks) -> Vec<&'static Syscall> {
    const LAST: u64 = 1023;
    let all = (0..=LAST).filter_map(syscall::by_nr);
    all.filter(|call| hooks.wants(call)).collect()
}

/// Whether the vdso answers this call without the kernel.
fn in_vdso(call: &str) -> bool {
    matches!(
        call,
        "clock_gettime" | "clock_getres" | "gettimeofday" | "time" | "getcpu" | "getrandom"
    )
}
