//! What the tests of faults share: limits of time and memory, chance, and what must never happen.

use super::{Done, Folder, RRAPPER};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const LATE: Duration = Duration::from_secs(20);

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LATE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether there is such a process, and it has not ended.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// Runs the binary with a limit of its time, its memory and its open files.
pub fn limited(folder: &Folder, args: &[&str]) -> Done {
    let mut child = folder
        .command("sh")
        .args([
            "-c",
            "ulimit -v 4000000; ulimit -n 512; exec \"$@\"",
            "sh",
            RRAPPER,
        ])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let begun = Instant::now();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
    let (out, err) = (read(out), read(err));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LATE {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
    std::process::Output {
        status,
        stdout,
        stderr,
    }
    .into()
}

/// Numbers that are the same in each run.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// It may say what is wrong or get through, but not break.
#[track_caller]
pub fn is_sane(done: &Done, what: &str) {
    assert!(
        done.code.is_some() && done.code != Some(101),
        "{what}: {:?} {}",
        done.output.status,
        done.stderr
    );
    assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
}
