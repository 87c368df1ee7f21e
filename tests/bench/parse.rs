//! How fast traces are read, beside a regular expression a line: `cargo bench --bench parse`.
//!
//! Both read the same file in the same run, in turn, on one CPU, and medians are compared. Ours builds the tree of values
//! of each line; the expression only finds where pid, name, arguments and result are. Nothing here fails for being slow.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use regex::bytes::Regex;
use rrapper::strace::{PieceKind, Stream};
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Bytes of each trace.
const SIZE: u64 = 64 << 20;

/// A line of strace's: pid, name, arguments, result.
const LINE: &str =
    r"^(?:(\d+) +)?([a-z_0-9]+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?: (E[A-Z0-9]+) \([^)]*\))?";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    pin()?;
    let folder = tempfile::tempdir()?;
    println!(
        "reading traces of {} MB, medians of {ROUNDS} runs on one CPU",
        SIZE >> 20
    );
    for (what, options) in [
        ("-f", &["-f"][..]),
        ("-f -xx", &["-f", "-xx"]),
        ("-f -yy -v", &["-f", "-yy", "-v"]),
    ] {
        let file = folder.path().join("trace");
        let lines = make(&folder.path().join("one"), &file, options)?;
        compare(what, &file, lines)?;
    }
    Ok(())
}

/// All of this, and what it starts, runs on the CPU that it is on now.
fn pin() -> Result<()> {
    let mut cpus = CpuSet::new();
    // SAFETY: takes nothing, returns a number.
    let cpu = unsafe { libc::sched_getcpu() };
    cpus.set(usize::try_from(cpu).unwrap_or(0))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Traces a few programs, and repeats that with other pids up to the size. Returns the number of lines.
fn make(one: &Path, file: &Path, options: &[&str]) -> Result<u64> {
    let mut text = Vec::new();
    for command in [
        &["ls", "-la", "/etc", "/usr/bin"][..],
        &[
            "sh",
            "-c",
            "sort /etc/passwd | head -n 3; grep -c root /etc/group; find /etc -name 'p*' > /dev/null",
        ],
        &["tar", "cf", "/dev/null", "/etc/default"],
        &[
            "/usr/bin/python3",
            "-S",
            "-c",
            "import os, json, socket; print(os.listdir('/')); socket.socket().close()",
        ],
        &["git", "--version"],
    ] {
        let status = Command::new("strace")
            .args(options)
            .arg("-o")
            .arg(one)
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !one.exists() {
            return Err(format!("strace {command:?}: {status}").into());
        }
        text.extend(std::fs::read(one)?);
        std::fs::remove_file(one)?;
    }
    let mut out = BufWriter::new(File::create(file)?);
    let (mut written, mut lines) = (0, 0);
    for round in 0.. {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // `12345 read(…`: the pids of each repetition are others.
            let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let pid: u64 = std::str::from_utf8(&line[..digits])?.parse().unwrap_or(0);
            let pid = (pid + round * 7) % 90_000 + 10_000;
            write!(out, "{pid}")?;
            out.write_all(&line[digits..])?;
            written += line.len() as u64;
            lines += 1;
        }
        if written >= SIZE {
            break;
        }
    }
    out.flush()?;
    Ok(lines)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The calls in the file, with the tree of their values.
fn ours(file: &Path) -> Result<u64> {
    let mut calls = 0;
    for piece in Stream::new(
        BufReader::with_capacity(1 << 16, File::open(file)?),
        "trace",
    ) {
        let piece = std::hint::black_box(piece?);
        calls += u64::from(matches!(
            piece.kind,
            PieceKind::Entry(_) | PieceKind::Resumed(_)
        ));
    }
    Ok(calls)
}

/// The lines that look like calls.
fn expression(file: &Path, line: &Regex) -> Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(file)?);
    let (mut text, mut calls) = (Vec::new(), 0);
    let mut places = line.capture_locations();
    while reader.read_until(b'\n', &mut text)? > 0 {
        let found = line.captures_read(&mut places, &text).is_some();
        calls += u64::from(std::hint::black_box(found));
        std::hint::black_box(&places);
        text.clear();
    }
    Ok(calls)
}

fn compare(what: &str, file: &Path, lines: u64) -> Result<()> {
    let line = Regex::new(LINE)?;
    let size = std::fs::metadata(file)?.len() as f64 / 1e6;
    let (mut tree, mut regex) = (Vec::new(), Vec::new());
    let (mut entries, mut matches) = (0, 0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        entries = ours(file)?;
        tree.push(begin.elapsed());
        let begin = Instant::now();
        matches = expression(file, &line)?;
        regex.push(begin.elapsed());
    }
    let (tree, regex) = (median(tree).as_secs_f64(), median(regex).as_secs_f64());
    println!(
        "  strace {what}: {size:.0} MB, {lines} lines, of {:.0} bytes",
        size * 1e6 / lines as f64
    );
    println!(
        "    rrapper, the tree of values  {:8.0} MB/s  {:8.0} ns a line   {entries} entries   (aim: 150 MB/s)",
        size / tree,
        tree * 1e9 / lines as f64
    );
    println!(
        "    a regular expression a line  {:8.0} MB/s  {:8.0} ns a line   {matches} matches",
        size / regex,
        regex * 1e9 / lines as f64
    );
    println!("    ours / the expression's time {:8.2}", tree / regex);
    Ok(())
}
