//! The recorder beside the program: whose signals are whose, what a terminal does, when a recording ends.

use crate::common::{Done, Folder, RRAPPER};
use rrapper::history::Recording;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LATE: Duration = Duration::from_secs(30);

/// A folder with the program that sends signals.
struct Place {
    folder: Folder,
    senders: String,
}

impl Place {
    fn new() -> Place {
        let folder = Folder::new();
        let senders = folder.compile("senders", &[]);
        Place { folder, senders }
    }

    /// Runs this in a process group of its own.
    fn run(&self, argv: &[&str]) -> Done {
        let mut command = self.folder.command(argv[0]);
        command.args(&argv[1..]).process_group(0);
        command.output().expect("it starts").into()
    }

    fn record(&self, name: &str, program: &[&str]) -> Done {
        self.run(&[&[RRAPPER, "-q", "record", "-o", name, "--"], program].concat())
    }

    /// Natively, recorded and replayed, it prints the same and ends the same.
    #[track_caller]
    fn same(&self, name: &str, program: &[&str]) {
        let native = ending(&self.run(program));
        assert_eq!(ending(&self.record(name, program)), native, "{program:?}");
        eventually(&format!("the recording {name} is whole"), || {
            self.recording(name).exit().is_some()
        });
        let replayed = self.folder.rrapper(["replay", name]);
        assert_eq!(
            ending(&replayed),
            native,
            "{program:?}: {}",
            replayed.stderr
        );
    }

    fn recording(&self, name: &str) -> Recording {
        Recording::open(&self.folder.join(name)).unwrap()
    }

    fn start(&self, name: &str, program: &[&str]) -> Running {
        let mut command = self.folder.command(RRAPPER);
        command
            .args(["record", "-o", name, "--", &self.senders])
            .args(program)
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, stdout };
        assert_eq!(running.line(), "ready\n");
        running
    }
}

fn ending(done: &Done) -> (String, Option<i32>, Option<i32>) {
    (done.text(), done.code, done.output.status.signal())
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LATE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) of our own child, which has not been reaped.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    fn signal_group(&self, signal: i32) {
        // SAFETY: kill(2) of the group that our child leads, which has not been reaped.
        unsafe { libc::kill(-(self.child.id() as i32), signal) };
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        eventually("it ends", || self.has_ended());
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap(), stderr)
    }
}

/// A test that fails leaves nothing behind.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_to_the_group_is_the_programs_alone() {
    let place = Place::new();
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let usual = (1..32).filter(|signal| !stops.contains(signal));
    for signal in usual.chain([34, 40, 64]) {
        let signal = signal.to_string();
        place.same(
            &format!("to-all-{signal}"),
            &[&place.senders, "group", &signal],
        );
    }
    for what in ["group-caught", "group-by-child"] {
        for signal in [libc::SIGINT, libc::SIGUSR1, libc::SIGTERM, libc::SIGSEGV] {
            let signal = signal.to_string();
            let name = format!("{what}-{signal}");
            place.same(&name, &[&place.senders, what, &signal]);
        }
    }
}

#[test]
fn a_signal_to_the_parent_is_for_who_started_the_recording() {
    let place = Place::new();
    for (name, number) in [("INT", 2), ("USR1", 10), ("TERM", 15)] {
        let senders = &place.senders;
        let record = format!("{RRAPPER} -q record -o {name} -- ");
        let [native, recorded] = ["", &record].map(|how| {
            let script =
                format!("trap 'echo told' {name}; {how}{senders} parent {number}; echo $?");
            place.run(&["sh", "-c", &script])
        });
        assert_eq!(native.text(), "goes on\ntold\n0\n", "{name}");
        assert_eq!(
            ending(&recorded),
            ending(&native),
            "{name}: {}",
            recorded.stderr
        );
        let replayed = place.folder.rrapper(["replay", name]).ok();
        assert_eq!(replayed.text(), "goes on\n");
    }
    // A script is not ended by what its program sends, nor is the recording by its parent's end.
    let script = format!(
        "for _, signal in ipairs{{ 2, 10, 15 }} do
            local rec = rr.record{{ {:?}, 'parent', signal }}
            print(rec.exit.code)
        end
        print(rr.record{{ {:?}, 'group', 10 }}.exit.signal)",
        place.senders, place.senders
    );
    place.folder.write("all.lua", &script);
    let done = place.run(&[RRAPPER, "all.lua"]).ok();
    assert_eq!(done.text(), "goes on\n0\n".repeat(3) + "sends\nSIGUSR1\n");
    let program = [place.senders.as_str(), "parent", "9"];
    assert_eq!(
        ending(&place.record("orphan", &program)).2,
        Some(libc::SIGKILL)
    );
    eventually("the recording goes on", || {
        place.recording("orphan").exit().is_some()
    });
    let replayed = place.folder.rrapper(["replay", "orphan"]).ok();
    assert_eq!(replayed.text(), "goes on\n");
}

#[test]
fn a_signal_from_outside_comes_once() {
    let place = Place::new();
    type Send = fn(&Running, i32);
    let sends: [(&str, Send); 2] = [("alone", Running::signal), ("all", Running::signal_group)];
    for (how, send) in sends {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGQUIT] {
            let name = format!("{how}-{signal}");
            let mut running = place.start(&name, &["counts", &signal.to_string()]);
            send(&running, signal);
            assert_eq!(running.line(), "1 times\n", "{name}");
            let (status, stderr) = running.end();
            assert_eq!(status.code(), Some(0), "{name}: {stderr}");
            let replayed = place.folder.rrapper(["replay", &name]).ok();
            assert_eq!(replayed.text(), "ready\n1 times\n");
        }
    }
}

/// It is ended by this signal, and its recording is whole: the program was killed.
#[track_caller]
fn is_ended(place: &Place, name: &str, running: Running, signal: i32) {
    let (status, stderr) = running.end();
    assert_eq!(status.signal(), Some(signal), "{name}: {stderr}");
    assert!(
        stderr.starts_with("rrapper: interrupted by SIG"),
        "{stderr}"
    );
    let replayed = place.folder.rrapper(["replay", name]);
    let killed = (String::from("ready\n"), None, Some(libc::SIGKILL));
    assert_eq!(ending(&replayed), killed, "{name}: {}", replayed.stderr);
}

#[test]
fn a_second_signal_ends_what_does_not_listen() {
    let place = Place::new();
    for what in ["stubborn", "spins"] {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let name = format!("{what}-{signal}");
            let mut running = place.start(&name, &[what, &signal.to_string()]);
            // Those that come at once count as one.
            let begun = Instant::now();
            while !running.has_ended() && begun.elapsed() < LATE {
                running.signal(signal);
                std::thread::sleep(Duration::from_millis(100));
            }
            is_ended(&place, &name, running, signal);
        }
    }
}

#[test]
fn sigterm_ends_it_at_any_time() {
    let place = Place::new();
    let term = libc::SIGTERM.to_string();
    let running = ["stubborn", "spins"].map(|what| place.start(what, &[what, &term]));
    for running in &running {
        running.signal_group(libc::SIGTERM);
    }
    for (name, running) in ["stubborn", "spins"].into_iter().zip(running) {
        is_ended(&place, name, running, libc::SIGTERM);
    }
}

#[test]
fn a_recording_ends_with_the_program() {
    let place = Place::new();
    for (number, signal) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGKILL, "SIGKILL")] {
        let program = [place.senders.as_str(), "leaves", &number.to_string()];
        let done = place.run(&[&[RRAPPER, "record", "-o", signal, "--"], &program[..]].concat());
        assert_eq!(ending(&done), (String::from("done\n"), Some(3), None));
        let said = ["the program left a process behind (senders ", "--wait-all"];
        assert!(
            said.iter().all(|said| done.stderr.contains(said)),
            "{}",
            done.stderr
        );
        let replayed = place.folder.rrapper(["replay", signal]);
        assert_eq!(ending(&replayed), ending(&done), "{}", replayed.stderr);
        let processes = place.folder.script(&format!(
            "local all = rr.open '{signal}':processes() print(#all, all[1].exit.code, all[2].exit.signal)"
        ));
        assert_eq!(processes.ok().text(), format!("2\t3\t{signal}\n"));
    }
}

#[test]
fn what_is_still_at_work_comes_to_its_end() {
    let place = Place::new();
    let script = "exec > >(cat > out); seq 1 30000";
    place.record("filter", &["bash", "-c", script]).ok();
    let out = std::fs::read_to_string(place.folder.join("out")).unwrap();
    assert_eq!(out.lines().count(), 30000);
    let late = "(sleep 1; echo late) & echo first";
    let all = ["record", "--wait-all", "-o", "all", "--", "sh", "-c", late];
    let done = place.folder.rrapper(all).ok();
    assert_eq!(done.text(), "first\nlate\n");
    assert!(!done.stderr.contains("behind"), "{}", done.stderr);
    let script =
        format!("print(#rr.record{{ 'sh', '-c', '{late}', wait_all = true }}:processes())");
    let done = place.folder.script(&script).ok();
    assert_eq!(done.text(), "first\nlate\n3\n");
    let wrong = place.folder.script("rr.record{ 'true', wait_all = 1 }");
    wrong.complains(&["wait_all is true or false, not 1"]);
}

/// An interactive shell at a terminal of its own.
struct Terminal {
    shell: Child,
    master: File,
    seen: String,
}

impl Terminal {
    const PROMPT: &str = "PROMPT> ";

    fn new(place: &Place) -> Terminal {
        let pair = nix::pty::openpty(None, None).unwrap();
        let (slave, master): (OwnedFd, OwnedFd) = (pair.slave, pair.master);
        // SAFETY: fcntl(2) with numbers: the shell is not to have our end.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        let mut command: Command = place.folder.command("bash");
        command
            .args(["--norc", "--noediting", "-i"])
            .env("PS1", Terminal::PROMPT)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let lead = || {
            // SAFETY: system calls with numbers only.
            let led = unsafe { libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 };
            led.then_some(()).ok_or_else(std::io::Error::last_os_error)
        };
        // SAFETY: the closure only makes system calls.
        unsafe { command.pre_exec(lead) };
        let mut terminal = Terminal {
            shell: command.spawn().unwrap(),
            master: master.into(),
            seen: String::new(),
        };
        terminal.expect(Terminal::PROMPT);
        terminal
    }

    /// Reads until this is there; all up to it.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(100u8)).unwrap();
            assert!(begun.elapsed() < LATE, "no {text:?} in {:?}", self.seen);
            if ready > 0 {
                let mut bytes = [0; 4096];
                let n = self.master.read(&mut bytes).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until keys are for another than the shell: it says so before it is.
    #[track_caller]
    fn wait_for_job(&self) {
        let shell = i32::try_from(self.shell.id()).unwrap();
        eventually("the job is in the foreground", || {
            nix::unistd::tcgetpgrp(&self.master).unwrap().as_raw() != shell
        });
    }

    /// The status of the last command.
    #[track_caller]
    fn status(&mut self) -> i32 {
        self.expect(Terminal::PROMPT);
        self.type_in("echo status=$?.\n");
        self.expect("status=$?.\r\n");
        self.expect("status=");
        let text = self.expect(".");
        self.expect(Terminal::PROMPT);
        text.trim_end_matches('.').parse().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_terminal_works_as_without_it() {
    let place = Place::new();
    let senders = &place.senders;
    let record = |name: &str| format!("{RRAPPER} -q record -o {name} -- ");
    let mut terminal = Terminal::new(&place);
    for how in ["", "recorded ", "discarded "] {
        let prefix = |name: &str| match how {
            "" => String::new(),
            "recorded " => record(name),
            _ => format!("{RRAPPER} -q record --discard -o discarded-{name} -- "),
        };
        let start = |name: &str, what: &str| format!("{}{senders} {what}\n", prefix(name));
        for (key, number) in [("\x03", libc::SIGINT), ("\x1c", libc::SIGQUIT)] {
            terminal.type_in(&start(&format!("key-{number}"), "waits"));
            terminal.expect("ready\r\n");
            terminal.type_in(key);
            assert_eq!(terminal.status(), 128 + number, "{how}{number}");
        }
        // Two of them are for the program: it is not ended by that.
        terminal.type_in(&start("counts", "counts 2"));
        terminal.expect("ready\r\n");
        terminal.type_in("\x03");
        terminal.expect("1 times\r\n");
        assert_eq!(terminal.status(), 0, "{how}");
        // Ctrl-Z, and a program that stops itself; fg.
        terminal.type_in(&start("paused", "counts 2"));
        terminal.expect("ready\r\n");
        terminal.type_in("\x1a");
        assert_eq!(terminal.status(), 128 + libc::SIGTSTP, "{how}");
        terminal.type_in("fg\n");
        terminal.expect("counts 2\r\n");
        terminal.wait_for_job();
        terminal.type_in("\x03");
        terminal.expect("1 times\r\n");
        assert_eq!(terminal.status(), 0, "{how}");
        for signal in [libc::SIGTSTP, libc::SIGSTOP] {
            let name = format!("stops-{signal}");
            terminal.type_in(&start(&name, &format!("stops {signal}")));
            terminal.expect("ready\r\n");
            assert_eq!(terminal.status(), 128 + signal, "{how}");
            terminal.type_in("fg\n");
            terminal.expect("goes on\r\n");
            assert_eq!(terminal.status(), 0, "{how}");
        }
        // In the background it is stopped as it reads.
        terminal.type_in(&format!("{}cat &\n", prefix("cat")));
        terminal.expect(Terminal::PROMPT);
        terminal.type_in("while ! jobs -s | grep -q cat; do sleep 0.05; done\n");
        terminal.expect(Terminal::PROMPT);
        terminal.type_in("fg\n");
        terminal.expect("cat\r\n");
        terminal.type_in("a line\n");
        terminal.expect("a line\r\na line\r\n");
        terminal.type_in("\x04");
        assert_eq!(terminal.status(), 0, "{how}");
    }
    for name in ["counts", "paused", "stops-19", "stops-20", "cat"] {
        place.folder.rrapper(["-q", "replay", name]).ok();
        let discarded = format!("discarded-{name}");
        place.folder.rrapper(["-q", "replay", &discarded]).ok();
    }
    // As it goes away, so does the program.
    terminal.type_in(&format!("exec {}{senders} waits\n", record("hangup")));
    terminal.expect("ready\r\n");
    let mut shell = std::mem::replace(&mut terminal.shell, Command::new("true").spawn().unwrap());
    drop(std::mem::replace(
        &mut terminal.master,
        File::open("/dev/null").unwrap(),
    ));
    assert_eq!(shell.wait().unwrap().signal(), Some(libc::SIGHUP));
    let replayed = place.folder.rrapper(["replay", "hangup"]);
    assert_eq!(replayed.output.status.signal(), Some(libc::SIGHUP));
}
