//! What hooks cost a program that runs now, against strace doing the same: `cargo bench --bench strace`.
//!
//! Ratios, medians of runs that take turns. Nothing here fails for being slow.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RRAPPER: &str = env!("CARGO_BIN_EXE_rrapper");
const ROUNDS: usize = 5;
const MEGABYTES: usize = 100;
const READS: u32 = 100_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    seldom(folder.path())?;
    often(folder.path())?;
    start(folder.path())
}

/// How long a command takes.
fn time(command: &[&str], folder: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let status = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let took = begin.elapsed();
    match status.success() {
        true => Ok(took),
        false => Err(format!("{} ended with {status}", command.join(" ")).into()),
    }
}

/// The medians of several commands that take turns.
fn medians(commands: &[(&str, &[&str])], folder: &Path) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); commands.len()];
    for _ in 0..ROUNDS {
        for ((_, command), times) in commands.iter().zip(&mut times) {
            times.push(time(command, folder)?);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    for ((name, _), took) in commands.iter().zip(&medians) {
        println!("  {name:44} {took:8.3} s");
    }
    Ok(medians)
}

fn script(folder: &Path, name: &str, argv: &str, options: &str) -> Result<()> {
    let text = format!("local o = live{{ {argv}, {options} }} assert(o.exit_code == 0, o)\n");
    Ok(std::fs::write(folder.join(name), text)?)
}

/// A program with no call that is hooked.
fn seldom(folder: &Path) -> Result<()> {
    let mut state = 1u64;
    let mut line = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("{:x} {}\n", state >> 40, state >> 34)
    };
    let mut text = String::new();
    while text.len() < MEGABYTES << 20 {
        text += &line();
    }
    std::fs::write(folder.join("text"), text)?;
    let argv = r#""gzip", "-1kf", "text""#;
    let hook = r#"timeout = 100, hooks = { fsync = { fail = "EIO" } }"#;
    script(
        folder,
        "gzip.lua",
        argv,
        &format!("{hook}, sandbox = 'none'"),
    )?;
    script(folder, "apart.lua", argv, hook)?;
    println!("gzip of {MEGABYTES} MB with fsync hooked, medians of {ROUNDS} runs");
    let strace = [
        "strace",
        "--seccomp-bpf",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
    ];
    let inject = ["-e", "inject=fsync:error=EIO", "gzip", "-1kf", "text"];
    let strace = [&strace[..], &inject[..]].concat();
    let took = medians(
        &[
            ("native", &["gzip", "-1kf", "text"]),
            ("live, sandbox = \"none\"", &[RRAPPER, "-q", "gzip.lua"]),
            ("live, sandbox = \"cow\"", &[RRAPPER, "-q", "apart.lua"]),
            ("strace --seccomp-bpf -f -e inject=fsync", &strace),
        ],
        folder,
    )?;
    println!(
        "  live / native                  {:8.3}   (aim: 1)",
        took[1] / took[0]
    );
    println!(
        "  live in a sandbox / native     {:8.3}   (aim: 1)",
        took[2] / took[0]
    );
    println!(
        "  live / strace                  {:8.3}   (aim: at most 1)",
        took[1] / took[3]
    );
    Ok(())
}

/// A program that makes nothing but hooked calls.
fn often(folder: &Path) -> Result<()> {
    let count = format!("count={READS}");
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", &count];
    let argv: Vec<String> = dd.iter().map(|arg| format!("{arg:?}")).collect();
    let argv = argv.join(", ");
    let options =
        |rule: &str| format!("timeout = 100, sandbox = 'none', hooks = {{ read = {rule} }}");
    script(
        folder,
        "rule.lua",
        &argv,
        &options("{ signal = 'SIGWINCH', when = '1' }"),
    )?;
    script(
        folder,
        "function.lua",
        &argv,
        &options("function(call) end"),
    )?;
    let strace = [
        "strace",
        "--seccomp-bpf",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=read",
    ];
    let inject = ["-e", "inject=read:signal=SIGWINCH:when=1"];
    let strace: Vec<&str> = [&strace[..], &inject[..], &dd[..]].concat();
    println!("dd with {READS} reads, all hooked, medians of {ROUNDS} runs");
    let took = medians(
        &[
            ("native", &dd),
            ("live, a rule", &[RRAPPER, "-q", "rule.lua"]),
            ("live, a function in Lua", &[RRAPPER, "-q", "function.lua"]),
            ("strace --seccomp-bpf -f -e inject=read", &strace),
        ],
        folder,
    )?;
    let each = |took: f64| took * 1e6 / f64::from(READS);
    println!(
        "  live / strace                  {:8.3}   (aim: at most 1)",
        took[1] / took[3]
    );
    println!("  with a function / strace       {:8.3}", took[2] / took[3]);
    println!(
        "  a hooked call: {:.2} us with a rule, {:.2} us with a function, {:.2} us in strace",
        each(took[1] - took[0]),
        each(took[2] - took[0]),
        each(took[3] - took[0])
    );
    Ok(())
}

/// Many short programs.
fn start(folder: &Path) -> Result<()> {
    const RUNS: u32 = 100;
    let runs = |name: &str, sandbox: &str| {
        let rule = "{ close = { fail = 'EIO', when = '9999' } }";
        let text = format!(
            "for _ = 1, {RUNS} do live{{ 'true', hooks = {rule}, sandbox = '{sandbox}' }} end\n"
        );
        std::fs::write(folder.join(name), text)
    };
    runs("starts.lua", "none")?;
    runs("apart.lua", "cow")?;
    let many = |command: &str| format!("for i in $(seq {RUNS}); do {command}; done");
    let native = many("/bin/true");
    let strace = many(
        "strace --seccomp-bpf -f -o /dev/null -e trace=close -e inject=close:error=EIO:when=9999 true",
    );
    println!("{RUNS} runs of true, medians of {ROUNDS}");
    let took = medians(
        &[
            ("native", &["sh", "-c", &native]),
            ("live, sandbox = \"none\"", &[RRAPPER, "-q", "starts.lua"]),
            ("live, sandbox = \"cow\"", &[RRAPPER, "-q", "apart.lua"]),
            (
                "strace --seccomp-bpf -f -e inject=close",
                &["sh", "-c", &strace],
            ),
        ],
        folder,
    )?;
    println!(
        "  live / strace                  {:8.3}   (aim: at most 1)",
        took[1] / took[3]
    );
    println!("  live in a sandbox / strace     {:8.3}", took[2] / took[3]);
    Ok(())
}
