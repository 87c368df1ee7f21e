//! Runs the probes (`tests/fixtures/probes`) in every way in which a program can get into a sandbox.

use crate::common::{Done, Folder, RRAPPER};
use crate::table;
use crate::world::{Later, World};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The task that makes the attempts: the program's first, one made by `clone`, or a second thread.
const CONTEXTS: [&str; 3] = ["main", "child", "thread"];

/// Those that are tried together. What is tried with rrapper's own page, or by other entries to the kernel, may end the program.
const TOGETHER: [&str; 11] = [
    // Before others open more descriptors, and make objects that have the numbers of the machine's.
    "terminal",
    "ipc",
    "files",
    "devices",
    "sockets",
    "keys",
    "mounts",
    "namespaces",
    "tasks",
    "proc",
    "kernel",
];

/// Runs the probes; a hook has the tests do something when they ask for it, and another one tells who is hooked.
const SCRIPT: &str = r#"
local way, control, recording = arg[1], arg[2], arg[3]
local function wait(call)
  assert(io.open(control .. "/asked", "w")):close()
  repeat local answered = io.open(control .. "/answered") until answered
  call:skip(0)
end
local options = {
  getpgrp = { ret = 4242 },
  getpgid = { where = function(call) return call.args.pid == 77777777 end, enter = wait },
}
local outcome
if way == "live" then
  local program = { table.unpack(arg, 3) }
  program.timeout, program.hooks = 10, options
  outcome = live(program)
else
  local rec = rr.open(recording)
  local event = assert(rec:find{ syscall = "getppid" })
  local copy <close> = rec:replay_to(event):spin_off(event.pid)
  options.timeout = 10
  outcome = copy:live(options)
end
io.write(outcome.stdout, "\n--\n", tostring(outcome), " ", outcome.reason or "", "\n", outcome.stderr)
"#;

/// Compiles the probes into a folder.
fn compile(folder: &Folder) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probes");
    let sources = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let sources: Vec<PathBuf> = sources
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    let status = Command::new("cc")
        .args(["-O1", "-pthread", "-o"])
        .arg(folder.join("probes"))
        .args(sources)
        .arg("-lrt")
        .status()
        .expect("a C compiler");
    assert!(status.success());
}

impl World {
    /// A world with the program in it.
    fn with_probes() -> World {
        let world = World::new();
        compile(&world.folder);
        world.control.write("script.lua", SCRIPT);
        world
    }

    /// Records it up to where it looks whether it may begin.
    fn record(&self, context: &str, groups: &[&str]) -> String {
        let name = self.control.join(&format!("{context}-{}", groups[0]));
        let name = name.to_str().unwrap().to_string();
        let mut command = self.folder.command(RRAPPER);
        let how = ["-q", "record", "--world", "none", "-o", &name, "--"];
        command.args(how).args(["./probes", context]);
        command.args(groups);
        // What the tests were started with would be the recorded program's.
        let close = || {
            let flags = libc::CLOSE_RANGE_CLOEXEC;
            // SAFETY: close_range(2) with numbers.
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
            Ok(())
        };
        // SAFETY: the closure only makes a system call.
        unsafe { command.pre_exec(close) };
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        name
    }

    /// Runs it, and does what it waits for.
    fn run(&mut self, mut command: Command) -> (Done, Vec<String>) {
        let [asked, answered] = ["asked", "answered"].map(|name| self.control.join(name));
        for file in [&asked, &answered] {
            let _ = fs::remove_file(file);
        }
        let (output, errors) = (self.control.join("output"), self.control.join("errors"));
        let mut child = command
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let mut later = None;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            if later.is_none() && asked.exists() {
                later = Some(self.meanwhile());
                File::create(&answered).unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut seen = later.map_or_else(Vec::new, Later::changes);
        seen.extend(self.changes());
        let (stdout, stderr) = (fs::read(&output).unwrap(), fs::read(&errors).unwrap());
        let output = std::process::Output {
            status,
            stdout,
            stderr,
        };
        (output.into(), seen)
    }

    /// Runs some groups of probes. Returns what is wrong.
    fn check(&mut self, command: Command, groups: &[&str], what: &str) -> Vec<String> {
        let (done, seen) = self.run(command);
        let mut wrong = compare(&done, groups, what);
        let seen = seen.iter();
        wrong.extend(seen.map(|seen| format!("{what} {groups:?}: on the machine: {seen}")));
        wrong
    }

    fn command(&self, way: &str, rest: &[&str]) -> Command {
        let mut command = self.folder.command(RRAPPER);
        let script = self.control.join("script.lua");
        command.arg("-q").arg(script).arg(way);
        command.arg(self.control.path()).args(rest);
        // Its input is a file, and there is another descriptor: the same file, and it may be written to.
        let input = self.folder.join("input");
        let file = File::options().append(true).open(&input).unwrap();
        command.stdin(File::open(&input).unwrap());
        let pass = move || {
            // SAFETY: dup2(2) with numbers.
            unsafe { libc::dup2(file.as_raw_fd(), 200) };
            Ok(())
        };
        // SAFETY: the closure only makes a system call.
        unsafe { command.pre_exec(pass) };
        command
    }
}

/// Compares what a run printed with the table. Returns what is wrong.
fn compare(done: &Done, groups: &[&str], what: &str) -> Vec<String> {
    let text = done.text();
    let (said, outcome) = text.split_once("\n--\n").unwrap_or((&text, "no outcome"));
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    let results: BTreeMap<&str, &str> = pairs.collect();
    let mut wrong = Vec::new();
    if done.code != Some(0) {
        wrong.push(format!("{what}: {:?} {}", done.output.status, done.stderr));
    }
    for group in groups {
        for line in table::group(group) {
            let result = results.get(line.name).copied().unwrap_or("ended");
            if !line.allows(result) {
                let allowed = line.allowed().join("|");
                wrong.push(format!(
                    "{what}: {}: {result}, and not {allowed}",
                    line.name
                ));
            }
        }
    }
    for name in results.keys() {
        let is_known = *name == "end" || groups.iter().any(|g| is_in(name, g));
        if !is_known {
            wrong.push(format!("{what}: {name} is not in the table"));
        }
    }
    if wrong.iter().any(|line| line.contains(": ended,")) {
        wrong.push(format!("{what}: {outcome}"));
    }
    wrong
}

fn is_in(name: &str, group: &str) -> bool {
    table::group(group).any(|line| line.name == name)
}

/// The runs of one way.
const RUNS: [&[&str]; 4] = [&TOGETHER, &["locks", "later"], &["agent"], &["i386"]];

#[track_caller]
fn nothing_is_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn live_programs_reach_nothing() {
    let mut world = World::with_probes();
    world.folder.write("word", "go");
    world.freeze();
    let mut wrong = Vec::new();
    for context in CONTEXTS {
        for groups in RUNS {
            let argv = [&["./probes", context][..], groups].concat();
            let command = world.command("live", &argv);
            let what = format!("live{{}}, {context}");
            wrong.extend(world.check(command, groups, &what));
        }
    }
    nothing_is_wrong(&wrong);
}

#[test]
fn copies_reach_nothing() {
    let mut world = World::with_probes();
    let mut recordings = Vec::new();
    for context in CONTEXTS {
        for groups in RUNS {
            recordings.push((context, groups, world.record(context, groups)));
        }
    }
    world.folder.write("word", "go");
    world.freeze();
    let mut wrong = Vec::new();
    for (context, groups, recording) in recordings {
        let command = world.command("copy", &[&recording]);
        let what = format!("a copy, {context}");
        wrong.extend(world.check(command, groups, &what));
    }
    nothing_is_wrong(&wrong);
}

#[test]
fn a_terminal_is_not_touched() {
    let mut world = World::with_probes();
    let recording = world.record("main", &["terminal"]);
    world.folder.write("word", "go");
    world.type_in();
    world.freeze();
    let mut wrong = Vec::new();
    for (way, rest) in [
        ("live", &["./probes", "main", "terminal"][..]),
        ("copy", &[recording.as_str()][..]),
    ] {
        let mut command = world.command(way, rest);
        world.on_terminal(&mut command);
        let what = format!("{way} on a terminal");
        wrong.extend(world.check(command, &["terminal"], &what));
        wrong.extend(world.terminals_changes());
    }
    nothing_is_wrong(&wrong);
}
