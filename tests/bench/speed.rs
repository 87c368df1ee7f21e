//! Speed, as ratios measured in one run: `cargo bench`.
//!
//! Absolute times mean little on a shared machine; what else a user would pick runs beside ours, in turn, and
//! medians are compared. Nothing here fails for being slow.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rrapper::history::Recording;
use rrapper::image::Chunk;
use rrapper::inject::{Action, Conditions, Options, Rule, RuleSet, Script, Selector, When, inject};
use rrapper::recording::{CallEvent, Effect, Event, EventKind, Frame, Start, Writer};
use rrapper::replay::{Replay, Replayer};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RRAPPER: &str = env!("CARGO_BIN_EXE_rrapper");
const ROUNDS: usize = 5;
const CALLS: u32 = 100_000;
const INJECTIONS: u32 = 1_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mix = compile(folder.path())?;
    calls(folder.path(), &mix)?;
    stops(folder.path())?;
    families(folder.path())?;
    memory(folder.path(), &mix)?;
    opening(folder.path())?;
    hooks(folder.path())?;
    injections(folder.path())
}

/// An injection through many reads, with an empty hook in Lua on each and without one.
fn hooks(folder: &Path) -> Result<()> {
    let count = format!("count={CALLS}");
    let dd = [
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=1",
        &count,
        "status=none",
    ];
    let record = [&[RRAPPER, "-q", "record", "-o", "reads", "--"], &dd[..]].concat();
    time(&record, folder, false)?;
    for (name, hook) in [
        ("none", ""),
        ("exit", "read = function(call) end,"),
        ("enter", "read = { enter = function(call) end },"),
    ] {
        let script = format!(
            r#"rr.open "reads"
            rr.replay_to(1)
            local outcome = spin_off():inject {{ {hook} timeout = 300 }}
            assert(outcome.status == "exited", tostring(outcome))"#
        );
        std::fs::write(folder.join(format!("{name}.lua")), script)?;
    }
    let (mut none, mut exit, mut enter) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (name, times) in [
            ("none.lua", &mut none),
            ("exit.lua", &mut exit),
            ("enter.lua", &mut enter),
        ] {
            times.push(work(&[RRAPPER, name], folder)?);
        }
    }
    let [none, exit, enter] = [none, exit, enter].map(median);
    let cost = |with: Duration| (with.as_secs_f64() - none.as_secs_f64()) * 1e6 / f64::from(CALLS);
    println!("injecting {CALLS} reads, processor time, medians of {ROUNDS} runs");
    println!(
        "  without hooks                  {:8.3} s",
        none.as_secs_f64()
    );
    println!(
        "  an empty Lua hook at exit      {:8.2} us a call (aim: below 2)",
        cost(exit)
    );
    println!(
        "  an empty Lua hook at enter     {:8.2} us a call (aim: below 2)",
        cost(enter)
    );
    Ok(())
}

fn compile(folder: &Path) -> Result<String> {
    let target = folder.join("mix");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mix.c");
    let status = Command::new("cc")
        .arg("-O1")
        .arg("-o")
        .arg(&target)
        .arg(source)
        .status()?;
    if !status.success() {
        return Err("cannot compile tests/fixtures/mix.c".into());
    }
    Ok(target.to_string_lossy().into_owned())
}

/// How long a command takes, and the most memory that it took in KiB; on CPU 0 alone if it is to be pinned.
fn measure(command: &[&str], folder: &Path, pinned: bool) -> Result<(Duration, i64)> {
    let (took, usage) = usage(command, folder, pinned)?;
    Ok((took, usage.ru_maxrss))
}

/// How much processor time a command takes, its own and the kernel's, on CPU 0 alone.
fn work(command: &[&str], folder: &Path) -> Result<Duration> {
    let (_, usage) = usage(command, folder, true)?;
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

fn usage(command: &[&str], folder: &Path, pinned: bool) -> Result<(Duration, libc::rusage)> {
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if pinned {
        let pin = || {
            let mut cpus = CpuSet::new();
            cpus.set(0)?;
            Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
        };
        // SAFETY: the closure only makes a system call on a set of its own.
        unsafe { process.pre_exec(pin) };
    }
    let begin = Instant::now();
    let child = process.spawn()?;
    let mut status = 0;
    // SAFETY: wait4(2) of a child of ours with valid pointers; a zeroed rusage is a valid one.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = child.id() as i32;
        let waited = libc::wait4(pid, &raw mut status, 0, &raw mut usage);
        (waited, usage)
    };
    let took = begin.elapsed();
    if waited < 0 || status != 0 {
        return Err(format!("{} ended with status {status:#x}", command.join(" ")).into());
    }
    Ok((took, usage))
}

fn time(command: &[&str], folder: &Path, pinned: bool) -> Result<Duration> {
    Ok(measure(command, folder, pinned)?.0)
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn calls(folder: &Path, mix: &str) -> Result<()> {
    let (mut native, mut record, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    let (mut strace, mut pinned) = (Vec::new(), Vec::new());
    let plain = ["strace", "-f", "-o", "/dev/null", mix];
    for _ in 0..ROUNDS {
        native.push(time(&[mix], folder, false)?);
        let _ = std::fs::remove_dir_all(folder.join("rec"));
        record.push(time(
            &[RRAPPER, "-q", "record", "-o", "rec", mix],
            folder,
            false,
        )?);
        replay.push(time(&[RRAPPER, "replay", "rec"], folder, false)?);
        strace.push(time(&plain, folder, false)?);
        pinned.push(time(&plain, folder, true)?);
    }
    let [native, record, replay, strace, pinned] =
        [native, record, replay, strace, pinned].map(median);
    println!("{CALLS} calls (pread, write, fstat, clock_gettime), medians of {ROUNDS} runs");
    for (what, took) in [
        ("native", native),
        ("rrapper record", record),
        ("rrapper replay", replay),
        ("strace -f -o /dev/null", strace),
        ("the same, pinned to one CPU", pinned),
    ] {
        let each = took.as_secs_f64() * 1e6 / f64::from(CALLS);
        println!(
            "  {what:30} {:8.3} s {each:8.2} us a call",
            took.as_secs_f64()
        );
    }
    println!(
        "  record / strace                {:8.2}   (aim: below 0.5)",
        ratio(record, strace)
    );
    println!(
        "  record / pinned strace         {:8.2}   (aim: at most 1.2)",
        ratio(record, pinned)
    );
    println!(
        "  replay / record                {:8.2}   (aim: at most 0.7)",
        ratio(replay, record)
    );
    println!(
        "  record / native                {:8.2}",
        ratio(record, native)
    );
    let recording = Recording::open(&folder.join("rec"))?;
    println!(
        "  bytes per event                {:8.1}",
        on_disk(&folder.join("rec"))? as f64 / recording.len() as f64
    );
    Ok(())
}

/// Going to events in rising order over the recording of [`calls`], against one replay of it.
fn stops(folder: &Path) -> Result<()> {
    const STOPS: u64 = 1_000;
    let recording = Arc::new(Recording::open(&folder.join("rec"))?);
    let (mut plain, mut stopping) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        Replayer::new(Arc::clone(&recording)).run_to_end()?;
        plain.push(begin.elapsed());
        let begin = Instant::now();
        let mut replay = Replayer::new(Arc::clone(&recording));
        for stop in 1..=STOPS {
            replay.replay_to(stop * recording.len() / STOPS)?;
        }
        stopping.push(begin.elapsed());
    }
    println!(
        "  {STOPS} stops / one replay        {:8.2}   (aim: at most 1.5)",
        ratio(median(stopping), median(plain))
    );
    Ok(())
}

/// Programs of several threads and processes.
fn families(folder: &Path) -> Result<()> {
    let numbers: String = (0..300_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(folder.join("numbers"), numbers)?;
    std::fs::write(
        folder.join("loop.sh"),
        "for i in $(seq 200); do /bin/true; done\n",
    )?;
    let commands: [(&str, &[&str]); 2] = [
        (
            "xz -T2",
            &["xz", "-T2", "--block-size=400000", "-kf", "numbers"],
        ),
        ("200 times true in sh", &["sh", "loop.sh"]),
    ];
    for (name, command) in commands {
        let strace = [&["strace", "-f", "-o", "/dev/null"], command].concat();
        let record = [&[RRAPPER, "-q", "record", "-o", "family", "--"], command].concat();
        let (mut native, mut ours, mut theirs, mut pinned) = (vec![], vec![], vec![], vec![]);
        let mut replay = Vec::new();
        for _ in 0..ROUNDS {
            native.push(time(command, folder, false)?);
            let _ = std::fs::remove_dir_all(folder.join("family"));
            ours.push(time(&record, folder, false)?);
            replay.push(time(&[RRAPPER, "replay", "family"], folder, false)?);
            theirs.push(time(&strace, folder, false)?);
            pinned.push(time(&strace, folder, true)?);
        }
        let [native, ours, replay, theirs, pinned] =
            [native, ours, replay, theirs, pinned].map(median);
        println!(
            "{name}, medians of {ROUNDS} runs: {:.3} s",
            ours.as_secs_f64()
        );
        println!(
            "  record / pinned strace -f      {:8.2}   (aim: at most 1.5)",
            ratio(ours, pinned)
        );
        println!(
            "  record / strace -f             {:8.2}",
            ratio(ours, theirs)
        );
        println!(
            "  record / native                {:8.2}",
            ratio(ours, native)
        );
        println!(
            "  replay / record                {:8.2}",
            ratio(replay, ours)
        );
    }
    Ok(())
}

/// The most memory that recording and replaying take does not grow with the number of events.
fn memory(folder: &Path, mix: &str) -> Result<()> {
    println!("most memory of recorder and replayer, in MiB");
    for calls in ["100000", "1000000"] {
        let _ = std::fs::remove_dir_all(folder.join("long"));
        let (_, record) = measure(
            &[RRAPPER, "-q", "record", "-o", "long", mix, calls],
            folder,
            false,
        )?;
        let (_, replay) = measure(&[RRAPPER, "replay", "long"], folder, false)?;
        println!(
            "  {calls:>8} calls                 {:8.1} {:8.1}",
            record as f64 / 1024.0,
            replay as f64 / 1024.0
        );
    }
    Ok(())
}

/// The bytes of a recording's events and their index.
fn on_disk(dir: &Path) -> Result<u64> {
    let len = |name: &str| std::fs::metadata(dir.join(name)).map(|meta| meta.len());
    Ok(len("events")? + len("index")?)
}

/// Writing a recording of a million events, opening it, and going to events of it. What is read does not compress.
fn opening(folder: &Path) -> Result<()> {
    const EVENTS: u64 = 1_000_000;
    const DATA: usize = 32;
    let dir = folder.join("million");
    let mut state = 1u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let call = |number: u64, data: Vec<u8>| CallEvent {
        nr: libc::SYS_read as u32,
        args: [3, 0x7ffd_0000_0000 + number % 7 * 64, DATA as u64, 0, 0, 0],
        ip: 0x7f00_0000_1234,
        ret: Some(DATA as i64),
        ins: Vec::new(),
        outs: vec![Chunk {
            addr: 0x7ffd_0000_0000 + number % 7 * 64,
            data,
        }],
        effect: Effect::None,
    };
    let begin = Instant::now();
    let mut writer = Writer::create(&dir)?;
    writer.write(&Frame::Start(Start {
        argv: vec![b"reads".to_vec()],
        pid: 1000,
        ppid: 1,
        cwd: b"/".to_vec(),
        umask: 0o022,
        ..Start::default()
    }))?;
    for number in 1..=EVENTS {
        let data = (0..DATA / 8).flat_map(|_| noise().to_le_bytes()).collect();
        writer.write(&Frame::Event(Event {
            tid: 1000,
            kind: EventKind::Call(call(number, data)),
        }))?;
    }
    writer.flush()?;
    drop(writer);
    let written = begin.elapsed();
    let mut opened = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        Recording::open(&dir)?;
        opened.push(begin.elapsed());
    }
    let recording = Recording::open(&dir)?;
    let begin = Instant::now();
    const SEEKS: u32 = 1_000;
    for _ in 0..SEEKS {
        recording.event(1 + noise() % EVENTS)?;
    }
    let sought = begin.elapsed() / SEEKS;
    let begin = Instant::now();
    if recording.events_from(1)?.count() as u64 != EVENTS {
        return Err("not all events were read".into());
    }
    let read = begin.elapsed();
    println!("a recording of {EVENTS} events, {DATA} bytes of noise in each");
    println!(
        "  bytes per event                {:8.1}",
        on_disk(&dir)? as f64 / EVENTS as f64
    );
    for (what, took) in [
        ("writing it", written),
        ("opening it", median(opened)),
        ("going to any event of it", sought),
        ("reading it all", read),
    ] {
        println!("  {what:30} {:11.6} s", took.as_secs_f64());
    }
    Ok(())
}

/// Spins off, injects one failed call, kills; at one event of cat.
fn injections(folder: &Path) -> Result<()> {
    let dir = folder.join("cat");
    let dir_text = dir.to_string_lossy();
    time(
        &[
            RRAPPER,
            "-q",
            "record",
            "-o",
            &dir_text,
            "cat",
            "/etc/passwd",
        ],
        folder,
        false,
    )?;
    let recording = Arc::new(Recording::open(&dir)?);
    let mut event = 0;
    for item in recording.events_from(1)? {
        let (number, item) = item?;
        if item.call().is_some_and(|call| call.name() == "read") {
            event = number;
        }
    }
    let mut replay = Replayer::new(recording);
    replay.replay_to(event)?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..INJECTIONS {
            let mut hooks = RuleSet::new(vec![Rule {
                name: "read".into(),
                selector: Selector::parse("read")?,
                conditions: Conditions::new(When::parse("1")?, None, None),
                actions: vec![Action::Fail(libc::EIO)],
                executed: None,
            }]);
            let process = replay.spin_off(None)?;
            let script = Script::of_recording(&process)?;
            let options = Options {
                end: Some(0),
                ..Options::default()
            };
            let driven = inject(process, script, &mut hooks, &options)?;
            if driven.outcome.injected.len() != 1 {
                return Err("nothing was injected".into());
            }
        }
        rates.push(begin.elapsed());
    }
    let took = median(rates);
    let rate = f64::from(INJECTIONS) / took.as_secs_f64();
    let strace = [
        "strace",
        "-o",
        "/dev/null",
        "-e",
        "inject=read:error=EIO:when=3",
        "cat",
        "/etc/passwd",
    ];
    let rerun = (0..20)
        .map(|_| time(&strace, folder, true))
        .collect::<Result<Vec<_>>>()
        .map(median)?;
    println!(
        "spin off, inject one failed call, kill: {INJECTIONS} times at one event of cat, median of {ROUNDS}"
    );
    println!("  injections per second          {rate:8.0}   (aim: at least 500)");
    println!(
        "  one of ours / a run of strace -e inject= from the start {:.4}",
        took.as_secs_f64() / f64::from(INJECTIONS) / rerun.as_secs_f64()
    );
    Ok(())
}
