//! A program that makes any calls (`tests/fixtures/any_calls.c`), with one seed after the other.

use crate::common::machine::{self, Machine};
use crate::common::{Folder, RRAPPER};
use std::time::{Duration, Instant};

/// One run: it may end in any way, and the outcome tells how.
const SCRIPT: &str = r#"
local outcome = live{ "./any_calls", arg[1], "3000", "3", timeout = 5 }
print(outcome.status, tostring(outcome), outcome.reason)
"#;

/// Runs it with seeds from `first` on for so long. The machine is as it was after each.
pub fn check(first: u64, time: Duration) {
    let turn = machine::turn();
    let folder = Folder::new();
    folder.compile("any_calls", &["-pthread"]);
    for file in ["a", "b"] {
        folder.write(file, "kept\n");
    }
    let control = Folder::new();
    control.write("script.lua", SCRIPT);
    let mut machine = Machine::now(turn, &[folder.path()]);
    let begun = Instant::now();
    let mut seed = first;
    while begun.elapsed() < time {
        let mut command = folder.command(RRAPPER);
        command.arg("-q").arg(control.join("script.lua"));
        let mut child = command
            .arg(seed.to_string())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let mut late = false;
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(25) {
                late = true;
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        let what = format!("seed {seed}: {said}{complained}");
        assert!(!late, "it does not end: {what}");
        assert!(output.status.success(), "{:?}: {what}", output.status);
        assert!(!complained.contains("panicked"), "{what}");
        let status = said.split('\t').next().unwrap_or_default();
        let known = ["exited", "signaled", "timeout", "limit"];
        assert!(known.contains(&status), "{what}");
        machine.is_as_it_was(&what);
        seed += 1;
    }
}
