//! Programs that are started live, without a recording: only the calls that a hook may mean stop them.

use super::engine::Engine;
use super::guard;
use crate::inject::hook::Hooks;
use crate::inject::options::{Options, Sandbox};
use crate::inject::report::Report;
use crate::inject::{Outcome, Result};
use crate::kernel::Stream;
use crate::sandbox::{Request, Sandboxes};
use crate::syscall::{self, Syscall};
use crate::tracee::exec::{self, StopCalls};
use crate::tracee::{Command, Error, Stdin, spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The pid of the program in its sandbox.
const PID: i32 = 2;

/// The maximum size of the output that is kept of each stream.
const MOST: usize = 64 << 20;

/// The interval at which the end of the run is checked, in milliseconds.
const LOOK: u8 = 100;

/// Runs a program and all processes that it starts to their end. Of the options, only the time limit
/// and the sandbox are used.
///
/// # Errors
/// If a hook fails, the program cannot be executed or traced, or it cannot have the sandbox. All processes are
/// then killed.
pub fn run(command: &Command, hooks: &mut dyn Hooks, options: &Options) -> Result<Outcome> {
    let pipes = || io::pipe().map_err(|e| Error::os("make a pipe for its output", 0, e));
    let (out, theirs_out) = pipes()?;
    let (err, theirs_err) = pipes()?;
    let stdin = stdin(&command.stdin).map_err(|e| Error::os("open its standard input", 0, e))?;
    let mut task = spawn::start_shell([stdin, theirs_out.into(), theirs_err.into()])?;
    let mut sandbox = None;
    let mut missing = Vec::new();
    if options.sandbox == Sandbox::Cow {
        let here = std::env::current_dir().unwrap_or_default();
        let cwd = match &command.cwd {
            Some(dir) => here.join(dir),
            None => here,
        };
        let home: Vec<PathBuf> = std::env::var_os("HOME")
            .map(PathBuf::from)
            .into_iter()
            .collect();
        let request = Request {
            writable: &home,
            cwd: cwd.as_os_str().as_encoded_bytes(),
            pid: PID,
            settings: &options.settings,
        };
        let (inside, made) = Sandboxes::of_thread().enter(task, &request)?;
        task = inside;
        made.seal(&mut task)?;
        missing.extend(made.notes.iter().cloned());
        sandbox = Some(made);
    }
    let wanted = wanted(hooks);
    let shows_clocks = wanted
        .iter()
        .any(|call| in_vdso(call.name) && hooks.names(call));
    let mut calls: Vec<u32> = wanted.iter().map(|call| call.nr).collect();
    // These calls change the program's own filters.
    calls.extend([libc::SYS_prctl, libc::SYS_seccomp].map(|nr| nr as u32));
    if sandbox.is_some() {
        // The kernel does not rename directories in an overlay.
        let rename = [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
        calls.extend(rename.map(|nr| nr as u32));
    }
    calls.extend(guard::calls(sandbox.is_some()).map(|nr| nr as u32));
    calls.sort_unstable();
    calls.dedup();
    let shown = StopCalls {
        calls,
        rules: guard::rules(),
    };
    exec::execute(&mut task, command, &shown)?;
    let report = Report {
        missing,
        ..Report::default()
    };
    let over = Arc::new(AtomicBool::new(false));
    let reader = read_all(out, err, Arc::clone(&over));
    let (engine, stopped) = Engine::of_program(
        task,
        hooks,
        report,
        options.timeout,
        (sandbox, Arc::clone(&options.settings), shows_clocks),
    )?;
    let ended = engine.run(stopped);
    over.store(true, Ordering::SeqCst);
    let (mut report, ended) = ended?;
    if let Ok([out, err]) = reader.join() {
        for (stream, name, written) in [
            (Stream::Stdout, "standard output", out),
            (Stream::Stderr, "standard error", err),
        ] {
            report.log.output(stream, &written.text);
            if written.more > 0 {
                report.missing.push(format!(
                    "the last {} bytes of its {name}: the first {MOST} are kept",
                    written.more
                ));
            }
        }
    }
    Ok(report.outcome(ended, hooks))
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

fn stdin(stdin: &Stdin) -> io::Result<OwnedFd> {
    match stdin {
        Stdin::Inherit => io::stdin().as_fd().try_clone_to_owned().or_else(|_| {
            // Standard input is closed.
            Ok(File::open("/dev/null")?.into())
        }),
        Stdin::File(file) => Ok(file.try_clone()?.into()),
        Stdin::Bytes(bytes) => spawn::memfd("stdin", bytes).map_err(io::Error::other),
    }
}

/// The captured output of a stream.
#[derive(Default)]
struct CapturedOutput {
    text: Vec<u8>,
    /// The number of bytes beyond the limit.
    more: u64,
}

/// Reads both streams until all writers have closed them; or until they are empty and the run is over, should
/// a process outside of the run hold them open.
fn read_all(
    out: PipeReader,
    err: PipeReader,
    over: Arc<AtomicBool>,
) -> JoinHandle<[CapturedOutput; 2]> {
    std::thread::spawn(move || {
        let mut ends = [Some(out), Some(err)];
        let mut texts = [CapturedOutput::default(), CapturedOutput::default()];
        let mut part = vec![0; 64 << 10];
        while ends.iter().any(Option::is_some) {
            let mut asked: Vec<PollFd<'_>> = ends
                .iter()
                .flatten()
                .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN))
                .collect();
            let was_over = over.load(Ordering::SeqCst);
            match poll(&mut asked, PollTimeout::from(LOOK)) {
                Ok(0) if was_over => break,
                Ok(1..) => {}
                _ => continue,
            }
            let mut ready = asked
                .iter()
                .map(|fd| fd.any().unwrap_or(true))
                .collect::<Vec<_>>()
                .into_iter();
            for (end, text) in ends.iter_mut().zip(&mut texts) {
                if end.is_none() || ready.next() != Some(true) {
                    continue;
                }
                match end.as_mut().map(|end| end.read(&mut part)) {
                    Some(Ok(n @ 1..)) => {
                        let kept = n.min(MOST.saturating_sub(text.text.len()));
                        text.text.extend_from_slice(&part[..kept]);
                        text.more += (n - kept) as u64;
                    }
                    Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                    _ => *end = None,
                }
            }
        }
        texts
    })
}
