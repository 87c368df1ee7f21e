//! Speed of injections whose process goes on live, as ratios measured in one run: `cargo bench --bench live`.
//!
//! One injection: spin off, one failed call, live continuation in a sandbox to the exit, outcome. Beside it, in turn, a
//! run of the program from its start under strace, which makes the same call fail. Then the same with the files as they were
//! recorded beside those of today, a program that is started live, two workers beside one, and all of it on a machine with
//! more mounts and sockets. Nothing here fails for being slow.

use rrapper::history::{Filter, Recording};
use rrapper::inject::{
    Action, Conditions, Finally, OnDivergence, Options, Rule, RuleSet, Script, Selector, Status,
    When, inject,
};
use rrapper::replay::{Replay, Replayer};
use rrapper::tracee;
use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

const RRAPPER: &str = env!("CARGO_BIN_EXE_rrapper");
const ROUNDS: usize = 7;
const INJECTIONS: usize = 60;
const RERUNS: usize = 10;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A program, and the call of it that fails.
struct Case {
    command: &'static [&'static str],
    /// Makes the files.
    setup: &'static str,
    syscall: &'static str,
    /// How the path of the file ends.
    path: &'static str,
    error: (&'static str, i32),
    /// What it says then.
    says: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        command: &["cat", "text"],
        setup: "seq 1000 > text",
        syscall: "read",
        path: "/text",
        error: ("EIO", libc::EIO),
        says: "Input/output error",
    },
    Case {
        command: &["sqlite3", "t.db", "insert into t values (2)"],
        setup: "rm -f t.db; sqlite3 t.db 'create table t (n); insert into t values (1)'",
        syscall: "pwrite64",
        path: "/t.db-journal",
        error: ("ENOSPC", libc::ENOSPC),
        says: "database or disk is full",
    },
    Case {
        command: &["/usr/bin/python3", "-I", "calls.py"],
        setup: "seq 1000 > text; echo 'import os\nfor _ in range(10000): os.stat(\".\")\nopen(\"text\").read()' > calls.py",
        syscall: "read",
        path: "/text",
        error: ("EIO", libc::EIO),
        says: "Input/output error",
    },
];

/// A program with many files.
const MANY: Case = Case {
    command: &["/usr/bin/python3", "-I", "many.py"],
    setup: "mkdir -p files; for i in $(seq 300); do seq $i > files/f$i; done; seq 10 > text; \
            echo 'for i in range(300): open(f\"files/f{i + 1}\").read()\nopen(\"text\").read()' > many.py",
    syscall: "read",
    path: "/text",
    error: ("EIO", libc::EIO),
    says: "Input/output error",
};

/// The argument of a run on a machine with more mounts and sockets.
const CROWDED: &str = "crowded";
const MOUNTS: usize = 50;
const SOCKETS: usize = 500;

/// The argument of a run that only compares the worlds.
const WORLDS: &str = "worlds";

fn main() -> Result<()> {
    let times = Times::default();
    tracing::subscriber::set_global_default(Registry::default().with(times.clone()))?;
    println!(
        "spin off, one failed call, live to the exit in a sandbox, outcome: medians of {ROUNDS} times {INJECTIONS}"
    );
    let is_asked = |name| std::env::args().any(|arg| arg == name);
    let (crowded, only_worlds) = (is_asked(CROWDED), is_asked(WORLDS));
    let all = match (crowded, only_worlds) {
        (true, _) => &CASES[..1],
        (_, true) => &[],
        _ => &CASES[..],
    };
    for case in all {
        let folder = tempfile::tempdir()?;
        std::env::set_current_dir(folder.path())?;
        let _sockets = if crowded { crowd()? } else { Vec::new() };
        measure(case, folder.path(), &times)?;
    }
    if crowded {
        return Ok(());
    }
    println!(
        "the same in the recorded world, all of whose files were written anew since / with today's files:"
    );
    for case in CASES[..2].iter().chain([&MANY]) {
        let folder = tempfile::tempdir()?;
        std::env::set_current_dir(folder.path())?;
        worlds(case, folder.path(), &times)?;
    }
    if only_worlds {
        return Ok(());
    }
    programs()?;
    let folder = tempfile::tempdir()?;
    std::env::set_current_dir(folder.path())?;
    workers(&CASES[0], folder.path(), &times)?;
    println!("the same, with {MOUNTS} more mounts and {SOCKETS} more sockets on the machine:");
    // The mounts end with the namespace.
    let namespace = ["--user", "--map-root-user", "--mount"];
    let me = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(namespace)
        .arg(me)
        .arg(CROWDED)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("with more mounts: {status}").into()),
    }
}

/// Makes mounts and sockets in the present directory.
fn crowd() -> Result<Vec<UnixListener>> {
    let mounts =
        format!("for i in $(seq {MOUNTS}); do mkdir mount$i; mount -t tmpfs none mount$i; done");
    if !run(&["sh", "-ec", &mounts])?.status.success() {
        return Err("cannot mount".into());
    }
    (0..SOCKETS)
        .map(|i| Ok(UnixListener::bind(format!("socket{i}"))?))
        .collect()
}

/// The shortest program, started live, beside the same under strace.
fn programs() -> Result<()> {
    const TRUE: &str = "/bin/true";
    let rule = "inject=read:error=EIO:when=100";
    let strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=read",
        "-e",
        rule,
        TRUE,
    ];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..INJECTIONS {
            let command = tracee::Command {
                exe: TRUE.into(),
                argv: vec![TRUE.into()],
                stdin: tracee::Stdin::Bytes(Vec::new()),
                ..tracee::Command::default()
            };
            let mut hooks = RuleSet::new(vec![Rule {
                name: "read".into(),
                selector: Selector::parse("read")?,
                conditions: Conditions::new(When::parse("100")?, None, None),
                actions: vec![Action::Fail(libc::EIO)],
                executed: None,
            }]);
            let began = Instant::now();
            let outcome = rrapper::inject::run(&command, &mut hooks, &Options::default())?;
            ours.push(began.elapsed());
            if outcome.exit_code() != Some(0) {
                return Err(format!("{outcome:?}").into());
            }
        }
        for _ in 0..RERUNS {
            let began = Instant::now();
            if !run(&strace)?.status.success() {
                return Err("strace true".into());
            }
            theirs.push(began.elapsed());
        }
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "live{{\"true\"}} / strace of the same: {:.3}   ({:.2} ms)",
        ours.as_secs_f64() / theirs.as_secs_f64(),
        theirs.as_secs_f64() * 1e3
    );
    Ok(())
}

/// The injections per second of two threads beside those of one.
fn workers(case: &Case, folder: &Path, times: &Times) -> Result<()> {
    record(case)?;
    let alone = (0..ROUNDS).map(|_| together(1, case, folder, times));
    let mut alone: Vec<f64> = alone.collect::<Result<_>>()?;
    let both = (0..ROUNDS).map(|_| together(2, case, folder, times));
    let mut both: Vec<f64> = both.collect::<Result<_>>()?;
    alone.sort_by(f64::total_cmp);
    both.sort_by(f64::total_cmp);
    let (alone, both) = (alone[ROUNDS / 2], both[ROUNDS / 2]);
    println!(
        "two workers / one: {:.2}   ({both:.0} and {alone:.0} injections per second)",
        both / alone
    );
    Ok(())
}

/// The injections per second of so many threads.
fn together(threads: usize, case: &Case, folder: &Path, times: &Times) -> Result<f64> {
    const EACH: usize = 4 * INJECTIONS;
    let ready = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let work = |cpu: usize| -> std::result::Result<(), String> {
            // The thread that starts this one is on one processor, as this one will be.
            let mut own = nix::sched::CpuSet::new();
            let pinned = own
                .set(cpu)
                .and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &own));
            let prepared = open(case, folder).and_then(|(mut replay, _)| {
                once(case, &mut replay, times)?;
                Ok(replay)
            });
            ready.wait();
            pinned.map_err(|e| e.to_string())?;
            let mut replay = prepared.map_err(|e| e.to_string())?;
            for _ in 0..EACH {
                once(case, &mut replay, times).map_err(|e| e.to_string())?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads)
            .map(|cpu| scope.spawn(move || work(cpu)))
            .collect();
        ready.wait();
        let began = Instant::now();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok((threads * EACH) as f64 / began.elapsed().as_secs_f64())
    })
}

/// How long each of the spans took that the library has for its steps, and how often it was in them.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<BTreeMap<&'static str, (Duration, u32)>>>);

struct Began(Duration);

/// The time, asked of the kernel: the counter that clocks else read is one that rrapper does without now and then.
fn now() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) with a valid pointer.
    unsafe {
        libc::syscall(
            libc::SYS_clock_gettime,
            libc::CLOCK_MONOTONIC,
            &raw mut time,
        )
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Times {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Began(now()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        if let Some(Began(began)) = span.extensions().get() {
            self.add(span.name(), now() - *began);
        }
    }
}

impl Times {
    fn add(&self, name: &'static str, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let (sum, count) = all.entry(name).or_default();
        *sum += took;
        *count += 1;
    }

    fn take(&self) -> BTreeMap<&'static str, (Duration, u32)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(|broken| broken.into_inner()))
    }
}

fn run(command: &[&str]) -> Result<std::process::Output> {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).env("LC_ALL", "C");
    Ok(process.stdin(Stdio::null()).output()?)
}

fn set_up(case: &Case) -> Result<()> {
    match run(&["sh", "-ec", case.setup])?.status.success() {
        true => Ok(()),
        false => Err(format!("cannot run {}", case.setup).into()),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn record(case: &Case) -> Result<()> {
    record_as(case, "recording", "--world=touched")
}

fn record_as(case: &Case, name: &str, world: &str) -> Result<()> {
    set_up(case)?;
    let record = [
        &[RRAPPER, "-q", "record", world, "-o", name, "--"],
        case.command,
    ]
    .concat();
    if !run(&record)?.status.success() {
        return Err(format!("cannot record {:?}", case.command).into());
    }
    set_up(case)
}

/// Injections into a program with its recorded files, in turn with injections into one that finds today's.
fn worlds(case: &Case, folder: &Path, times: &Times) -> Result<()> {
    record_as(case, "plain", "--world=none")?;
    record(case)?;
    let (mut plain, _) = open_as(case, folder, "plain")?;
    let (mut recorded, _) = open(case, folder)?;
    let (mut today, mut then, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut split = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (replay, took) in [(&mut plain, &mut today), (&mut recorded, &mut then)] {
            // The first one finds a sandbox that the other one has used.
            once(case, replay, times)?;
            times.take();
            took.clear();
            for _ in 0..INJECTIONS {
                let began = Instant::now();
                once(case, replay, times)?;
                took.push(began.elapsed());
            }
            split = times.take();
        }
        ratios.push(median(&mut then).as_secs_f64() / median(&mut today).as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "  {:.3}   ({:.2} ms)   {}",
        ratios[ROUNDS / 2],
        median(&mut then).as_secs_f64() * 1e3,
        case.command.join(" ")
    );
    for step in ["world", "take", "put", "restore", "run", "changes", "clean"] {
        let sum = split.get(step).map_or(Duration::ZERO, |(sum, _)| *sum);
        let mean = sum.as_secs_f64() * 1e6 / INJECTIONS as f64;
        println!("    {step:28} {mean:8.0}");
    }
    Ok(())
}

/// A replay at the call that is to fail, and how many of its name there are up to it.
fn open(case: &Case, folder: &Path) -> Result<(Replayer, usize)> {
    open_as(case, folder, "recording")
}

fn open_as(case: &Case, folder: &Path, name: &str) -> Result<(Replayer, usize)> {
    let recording = Arc::new(Recording::open(&folder.join(name))?);
    let (event, nth) = find(case, &recording)?;
    let mut replay = Replayer::new(recording);
    replay.replay_to(event)?;
    Ok((replay, nth))
}

fn measure(case: &Case, folder: &Path, times: &Times) -> Result<()> {
    record(case)?;
    let (mut replay, nth) = open(case, folder)?;
    let (mut ours, mut theirs, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    let alone = format!("trace={}", case.syscall);
    times.take();
    for _ in 0..ROUNDS {
        for _ in 0..INJECTIONS {
            let began = Instant::now();
            once(case, &mut replay, times)?;
            ours.push(began.elapsed());
        }
        for _ in 0..RERUNS {
            let began = Instant::now();
            rerun(case, nth, &alone)?;
            theirs.push(began.elapsed());
            let began = Instant::now();
            rerun(case, nth, "trace=all")?;
            shown.push(began.elapsed());
        }
    }
    let one = median(&mut ours);
    println!("{}", case.command.join(" "));
    println!(
        "  injections per second          {:8.0}",
        1.0 / one.as_secs_f64()
    );
    println!("  one of ours {:.2} ms", one.as_secs_f64() * 1e3);
    for (times, what) in [
        (
            &mut shown,
            "strace -f --seccomp-bpf -e inject= from the start",
        ),
        (&mut theirs, "the same, that shows no other call"),
    ] {
        let took = median(times).as_secs_f64();
        println!(
            "  / a run of {what:50} {:6.3}   ({:.2} ms)",
            one.as_secs_f64() / took,
            took * 1e3
        );
    }
    println!("  the mean of its steps, in us (the indented ones are parts of the one above):");
    let split = times.take();
    for step in STEPS {
        let Some((sum, _)) = split.get(step.trim_start()) else {
            return Err(format!("nobody tells of the step {:?}", step.trim_start()).into());
        };
        let mean = sum.as_secs_f64() * 1e6 / (ROUNDS * INJECTIONS) as f64;
        println!("    {step:28} {mean:8.0}");
    }
    let anew = split.get(ANEW).map_or(0, |(_, count)| *count);
    println!("    sandboxes made anew          {anew:8}");
    Ok(())
}

/// The span in which a sandbox is made.
const ANEW: &str = "build";

/// The names of the spans.
const STEPS: [&str; 9] = [
    "spin off",
    "inject",
    "  sandbox",
    "    take",
    "    take in",
    "    restore",
    "  run",
    "  changes",
    "  clean",
];

/// The event of the call that is to fail, and how many of its name there are up to it.
fn find(case: &Case, recording: &Arc<Recording>) -> Result<(u64, usize)> {
    let syscall = case.syscall;
    let filter = Filter {
        calls: Some(Box::new(move |call| call.name == syscall)),
        ..Filter::default()
    };
    for (before, found) in recording.find(filter)?.enumerate() {
        let found = found?;
        let is_meant = |path: &[u8]| path.ends_with(case.path.as_bytes());
        if found.about.paths().any(is_meant) {
            return Ok((found.number, before + 1));
        }
    }
    Err(format!("{:?} makes no {syscall} of {}", case.command, case.path).into())
}

fn once(case: &Case, replay: &mut Replayer, times: &Times) -> Result<()> {
    let mut hooks = RuleSet::new(vec![Rule {
        name: case.syscall.into(),
        selector: Selector::parse(case.syscall)?,
        conditions: Conditions::new(When::parse("1")?, None, None),
        actions: vec![Action::Fail(case.error.1)],
        executed: None,
    }])
    .on_divergence(OnDivergence::Live);
    let options = Options {
        finally: Finally::Live,
        ..Options::default()
    };
    let began = Instant::now();
    let process = replay.spin_off(None)?;
    let script = Script::of_recording(&process)?;
    times.add("spin off", began.elapsed());
    let began = Instant::now();
    let driven = inject(process, script, &mut hooks, &options)?;
    times.add("inject", began.elapsed());
    let outcome = driven.outcome;
    let said = String::from_utf8_lossy(&outcome.stderr);
    if outcome.status != Status::Exited || !said.contains(case.says) {
        return Err(format!("{:?}: {outcome:?}", case.command).into());
    }
    Ok(())
}

fn rerun(case: &Case, nth: usize, traced: &str) -> Result<()> {
    let rule = format!("inject={}:error={}:when={nth}", case.syscall, case.error.0);
    let strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        traced,
        "-e",
        &rule,
    ];
    let output = run(&[&strace, case.command].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    match said.contains(case.says) {
        true => Ok(()),
        false => Err(format!("{rule}: {said}").into()),
    }
}
