//! However rrapper ends, nothing stays behind: no process, no file. And what it says when it is interrupted.
//!
//! One test, since orphans are counted: the test's process adopts them all.

mod common;

use common::{Folder, RRAPPER};
use rrapper::history::Recording;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LATE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(2);

/// Our children that have not ended; those that have are reaped.
fn descendants() -> Vec<String> {
    // SAFETY: waitpid(2) with no status wanted.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let Ok(children) = fs::read_to_string(task.unwrap().path().join("children")) else {
            continue;
        };
        for pid in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", name.trim()));
        }
    }
    found
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LATE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running rrapper.
struct Run {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

/// A test that fails leaves nothing behind, either.
impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Place {
    folder: Folder,
    temporary: Folder,
}

impl Place {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.folder.command(RRAPPER);
        command
            .args(args)
            .env("TMPDIR", self.temporary.path())
            .process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, args: &[&str]) -> Run {
        let mut child = self.command(args).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Run { child, stdout }
    }

    fn script(&self, text: &str) -> Run {
        self.folder.write("s.lua", text);
        self.start(&["s.lua"])
    }

    /// Waits until the recorded program has made this call, or is in it.
    fn wait_for_recording(&self, name: &str) -> i32 {
        let mut pid = 0;
        eventually("the recording begins", || {
            let recording = Recording::open(&self.folder.join(name)).ok();
            recording
                .filter(|recording| recording.len() > 20)
                .is_some_and(|recording| {
                    pid = recording.start().pid;
                    // It blocks: in a call, for nobody's time.
                    fs::read_to_string(format!("/proc/{pid}/stat"))
                        .is_ok_and(|stat| stat.contains(") S "))
                })
        });
        pid
    }

    #[track_caller]
    fn nothing_is_left(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let left = descendants();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < GRACE, "{what} leaves {left:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let files: Vec<_> = fs::read_dir(self.temporary.path())
            .unwrap()
            .map(|f| f.unwrap().file_name())
            .collect();
        assert!(files.is_empty(), "{what} leaves {files:?}");
    }
}

impl Run {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) of our own child, which has not been reaped.
        unsafe { libc::kill(self.pid(), signal) };
    }

    fn signal_group(&self, signal: i32) {
        // SAFETY: kill(2) of the group that our child leads, which has not been reaped.
        unsafe { libc::kill(-self.pid(), signal) };
    }

    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LATE {
                self.child.kill().unwrap();
                panic!("rrapper does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (status, stderr)
    }

    /// It dies by this signal, after one sentence.
    #[track_caller]
    fn dies_of(self, signal: i32, what: &str) {
        let (status, stderr) = self.end();
        assert_eq!(status.signal(), Some(signal), "{what}: {status} {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
        // The program's own end by the signal is a recording's end as any other.
        let known = ["rrapper: interrupted by SIG", "rrapper: recorded "];
        assert!(
            known.iter().any(|begin| stderr.starts_with(begin)),
            "{what}: {stderr}"
        );
    }
}

/// At a read that fails, the program hangs; injected into at once.
fn injecting(recording: &str, hooks: &str) -> String {
    format!(
        r#"
        rr.open "{recording}"
        p = rr.replay_to(rr.find{{ syscall = "read", path = "*/data" }}):spin_off()
        q = rr.replay_to(rr.find{{ syscall = "read", path = "*/data" }}):spin_off()
        function say() print "here" io.stdout:flush() end
        {hooks}
        "#
    )
}

const LIVE: &str = r#"p:inject{ timeout = 100, finally = "live", on_divergence = "live", read = { fail = "EIO", when = "1" } }"#;

fn recording_is_interrupted(place: &Place) {
    type Send = fn(&Run, i32);
    let sends: [(&str, Send); 2] = [("alone", Run::signal), ("group", Run::signal_group)];
    for (i, (how, send)) in sends.into_iter().enumerate() {
        for (j, signal) in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP]
            .into_iter()
            .enumerate()
        {
            for program in [&["sleep", "100"][..], &["cat"]] {
                let what = format!("{program:?} recorded, {signal} to {how}");
                let name = format!("rec-{i}-{j}-{}", program[0]);
                let args = [&["record", "-o", &name, "--"][..], program].concat();
                let run = place.start(&args);
                place.wait_for_recording(&name);
                send(&run, signal);
                run.dies_of(signal, &what);
                place.nothing_is_left(&what);
                let recording = Recording::open(&place.folder.join(&name)).unwrap();
                assert!(recording.len() > 20, "{what}");
                let listed = place.folder.rrapper(["-q", "events", &name]).ok();
                assert!(listed.text().contains("execve("), "{what}");
            }
        }
    }
}

fn a_stubborn_program_is_interrupted_twice(place: &Place) {
    let hang = place.folder.join("hang");
    let mut run = place.start(&[
        "record",
        "-o",
        "stubborn",
        "--",
        hang.to_str().unwrap(),
        "nowhere",
        "stubborn",
    ]);
    assert_eq!(run.line(), "ignoring\n");
    place.wait_for_recording("stubborn");
    // The first is the program's, which ignores it; another ends it for sure. One that comes before the one
    // before it was taken is none, so there may have to be more than two.
    let begun = Instant::now();
    let mut sent = 0;
    while run.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < LATE, "a second signal ends it for sure");
        run.signal(libc::SIGINT);
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sent >= 2, "the first is the program's");
    run.dies_of(libc::SIGINT, "a stubborn program");
    place.nothing_is_left("a stubborn program");
    assert!(
        Recording::open(&place.folder.join("stubborn"))
            .unwrap()
            .len()
            > 20
    );
}

fn the_recorder_is_killed(place: &Place) {
    for program in [&["sleep", "100"][..], &["cat"]] {
        let name = format!("killed-{}", program[0]);
        let run = place.start(&[&["record", "-o", &name, "--"][..], program].concat());
        place.wait_for_recording(&name);
        run.signal(libc::SIGKILL);
        assert_eq!(run.end().0.signal(), Some(libc::SIGKILL));
        place.nothing_is_left("a killed recorder");
        assert!(Recording::open(&place.folder.join(&name)).unwrap().len() > 20);
    }
}

/// Whether some process below rrapper waits or works in the way wanted, after the hang began.
fn hangs(run: &Run, states: &str) -> bool {
    let pid = run.pid();
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(|state| states.contains(state)))
    })
}

fn scripts_are_ended_from_outside(place: &Place) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let cases = [
            ("a live program that sleeps", injecting("sleep", LIVE), "S"),
            ("a live program that spins", injecting("spin", LIVE), "R"),
            ("a live program that calls", injecting("calls", LIVE), "RS"),
            (
                "a script that loops",
                injecting("sleep", "say() while true do end"),
                "",
            ),
            (
                "a hook that loops",
                injecting(
                    "sleep",
                    "p:inject{ timeout = 100, read = function() say() while true do end end }",
                ),
                "",
            ),
            (
                "a hook that hangs in C",
                injecting(
                    "sleep",
                    "p:inject{ timeout = 100, read = function() say() \
                     string.find(string.rep('a', 100000), string.rep('a*', 100) .. 'b') end }",
                ),
                "",
            ),
            (
                "a script that waits for its input",
                injecting("sleep", "say() io.read()"),
                "",
            ),
            (
                "a script that runs a program",
                injecting(
                    "sleep",
                    "os.execute 'echo here; exec sleep 100' while true do end",
                ),
                "",
            ),
        ];
        for (what, text, states) in cases {
            // While system(3) runs a program, an interrupt is that program's.
            if signal == libc::SIGINT && text.contains("os.execute") {
                continue;
            }
            let what = format!("{what}, signal {signal}");
            let mut run = place.script(&text);
            if states.is_empty() {
                assert_eq!(run.line(), "here\n", "{what}");
            } else {
                eventually(&what, || hangs(&run, states));
            }
            run.signal_group(signal);
            if signal == libc::SIGKILL {
                assert_eq!(run.end().0.signal(), Some(signal), "{what}");
            } else {
                run.dies_of(signal, &what);
            }
            place.nothing_is_left(&what);
        }
        let mut run = place.script(
            "rr.record{ 'sleep', '100', out = 'by-script-' .. arg[0] }"
                .replace("arg[0]", &signal.to_string())
                .as_str(),
        );
        let name = format!("by-script-{signal}");
        place.wait_for_recording(&name);
        run.signal(signal);
        if signal == libc::SIGKILL {
            assert_eq!(run.child.wait().unwrap().signal(), Some(signal));
        } else {
            run.dies_of(signal, "a script that records");
        }
        place.nothing_is_left("a script that records");
        assert!(Recording::open(&place.folder.join(&name)).unwrap().len() > 20);
    }
}

fn scripts_end_themselves(place: &Place) {
    let cases = [
        ("error 'enough'", 2),
        ("p:inject{ read = function() error 'enough' end }", 2),
        (
            "p:inject{ timeout = 1, read = function() while true do end end }",
            2,
        ),
        ("os.exit(7)", 7),
        ("os.exit(true, true)", 0),
        ("os.exit(false)", 1),
        ("p:inject{ read = function() os.exit(8) end }", 8),
        ("p:inject{ read = function() os.exit(8, true) end }", 8),
        ("p:inject{ finally = 'keep' }", 0),
        ("kept = p:fork()", 0),
        (
            "coroutine.wrap(function() local r = p:fork() coroutine.yield() end)()",
            0,
        ),
        (
            "p:inject{ timeout = 1, finally = 'live', on_divergence = 'live', read = { fail = 'EIO', when = '1' } }",
            0,
        ),
    ];
    for (text, code) in cases {
        let (status, stderr) = place.script(&injecting("sleep", text)).end();
        assert_eq!(status.code(), Some(code), "{text}: {stderr}");
        place.nothing_is_left(text);
    }
}

fn ends_of_all_kinds(place: &Place) {
    let refused = place.folder.compile("refused", &[]);
    for how in ["foreign", "untraced"] {
        let (status, stderr) = place.start(&["record", "-o", how, &refused, how]).end();
        assert_eq!(status.code(), Some(2), "{stderr}");
        place.nothing_is_left(how);
    }
    for args in [
        &["record", "no-such-program"][..],
        &["record", "./data"],
        &["replay", "nowhere"],
        &["replay", "sleep"],
    ] {
        place.start(args).end();
        place.nothing_is_left(&format!("{args:?}"));
    }
    // Nobody reads what is replayed.
    let mut run = place.start(&["replay", "numbers-rec"]);
    run.stdout = None;
    run.end();
    place.nothing_is_left("a replay that nobody reads");
}

fn a_family_is_ended(place: &Place) {
    let lingering = place.folder.compile("lingering", &["-pthread"]);
    type End = fn(Run);
    let ends: [(&str, End); 3] = [
        ("killed", |run| {
            run.signal(libc::SIGKILL);
            run.end();
        }),
        ("interrupted", |run| {
            run.signal_group(libc::SIGINT);
            run.dies_of(libc::SIGINT, "a family interrupted");
        }),
        ("insisted", |run| {
            // The program takes the first, and its child lives on.
            run.signal(libc::SIGTERM);
            std::thread::sleep(Duration::from_millis(100));
            run.signal(libc::SIGTERM);
            run.dies_of(libc::SIGTERM, "a family asked twice");
        }),
    ];
    for (how, end) in ends {
        let run = place.start(&["record", "-o", how, &lingering]);
        place.wait_for_recording(how);
        end(run);
        place.nothing_is_left(how);
    }
}

#[test]
fn nothing_stays_behind() {
    // SAFETY: prctl(2) with numbers.
    let adopted = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(adopted, 0);
    let place = Place {
        folder: Folder::new(),
        temporary: Folder::new(),
    };
    place.folder.write("data", "one\ntwo\n");
    let hang = place.folder.compile("hang", &[]);
    for how in ["sleep", "spin", "calls"] {
        place.folder.record(how, &[&hang, "data", how]).ok();
    }
    let numbers = place.folder.numbers();
    place.folder.record("numbers-rec", &["sort", &numbers]).ok();
    place.nothing_is_left("compiling and recording");
    type Scenario = (&'static str, fn(&Place));
    let scenarios: [Scenario; 7] = [
        ("a family", a_family_is_ended),
        ("recording interrupted", recording_is_interrupted),
        (
            "a stubborn program",
            a_stubborn_program_is_interrupted_twice,
        ),
        ("the recorder killed", the_recorder_is_killed),
        ("scripts ended from outside", scripts_are_ended_from_outside),
        ("scripts that end themselves", scripts_end_themselves),
        ("other ends", ends_of_all_kinds),
    ];
    for (name, scenario) in scenarios {
        let begun = Instant::now();
        scenario(&place);
        eprintln!("{name}: {:?}", begun.elapsed());
    }
    let _ = std::io::stderr().flush();
}
