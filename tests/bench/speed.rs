//! Speed, as ratios measured in one run: `cargo bench`.
//!
//! Absolute times mean little on a shared machine; what else a user would pick runs beside ours, in turn, and
//! medians are compared. Nothing here fails for being slow.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rrapper::image::Chunk;
use rrapper::inject::{Action, Conditions, Options, Rule, RuleSet, Script, Selector, When, inject};
use rrapper::recording::{CallEvent, Effect, Event, EventKind, Frame, Recording, Start, Writer};
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
    let reads = compile(folder.path())?;
    calls(folder.path(), &reads)?;
    opening(folder.path())?;
    injections(folder.path())
}

fn compile(folder: &Path) -> Result<String> {
    let target = folder.join("reads");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reads.c");
    let status = Command::new("cc")
        .arg("-O1")
        .arg("-o")
        .arg(&target)
        .arg(source)
        .status()?;
    if !status.success() {
        return Err("cannot compile tests/fixtures/reads.c".into());
    }
    Ok(target.to_string_lossy().into_owned())
}

/// How long a command takes; on CPU 0 alone if it is to be pinned.
fn time(command: &[&str], folder: &Path, pinned: bool) -> Result<Duration> {
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
    process.status()?;
    Ok(begin.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn calls(folder: &Path, reads: &str) -> Result<()> {
    let (mut native, mut record, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    let (mut strace, mut pinned) = (Vec::new(), Vec::new());
    let plain = ["strace", "-f", "-o", "/dev/null", reads];
    for _ in 0..ROUNDS {
        native.push(time(&[reads], folder, false)?);
        let _ = std::fs::remove_dir_all(folder.join("rec"));
        record.push(time(
            &[RRAPPER, "-q", "record", "-o", "rec", reads],
            folder,
            false,
        )?);
        replay.push(time(&[RRAPPER, "replay", "rec"], folder, false)?);
        strace.push(time(&plain, folder, false)?);
        pinned.push(time(&plain, folder, true)?);
    }
    let [native, record, replay, strace, pinned] =
        [native, record, replay, strace, pinned].map(median);
    println!("a loop of {CALLS} reads, medians of {ROUNDS} runs");
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
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "  record / strace                {:8.2}   (aim: below 0.5)",
        ratio(record, strace)
    );
    println!(
        "  record / pinned strace         {:8.2}   (aim: at most 1.5)",
        ratio(record, pinned)
    );
    println!(
        "  replay / record                {:8.2}   (aim: below 1)",
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
        descriptors: Vec::new(),
        cpu: 0,
        time: 0,
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
    let mut replay = Replayer::new(recording)?;
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
