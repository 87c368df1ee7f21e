//! `rrapper doctor`: what it says is so, as other programs tell it, and nothing stays behind.

use crate::common::{Done, Folder, RRAPPER};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// What it found, by name: the state and the rest of the line.
fn findings(done: &Done) -> HashMap<String, (String, String)> {
    let text = done.text();
    let line = |line: &str| {
        let state = line[..6].trim().to_string();
        let name = line[6..25].trim().to_string();
        (name, (state, line[26..].to_string()))
    };
    text.lines().map(line).collect()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[track_caller]
fn state(found: &HashMap<String, (String, String)>, name: &str) -> (String, String) {
    let finding = found.get(name).cloned();
    finding.unwrap_or_else(|| panic!("{name} in {found:?}"))
}

#[test]
fn facts_are_those_that_other_programs_tell() {
    let folder = Folder::new();
    let found = findings(&folder.rrapper(["doctor"]).ok());

    let (_, kernel) = state(&found, "kernel");
    assert!(kernel.contains(&output("uname", &["-r"])), "{kernel}");
    let (_, processors) = state(&found, "processors");
    let count = output("nproc", &[]);
    assert!(
        processors.starts_with(&format!("{count} is usable"))
            || processors.starts_with(&format!("{count} are usable")),
        "{processors}"
    );
    let (_, strace) = state(&found, "strace");
    let version = output("strace", &["-V"]);
    let version = version.lines().next().unwrap();
    assert!(strace.contains(version), "{strace}");

    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let (core, _) = state(&found, "core files");
    assert_eq!(core == "note", pattern.starts_with('|'));

    // The recording tests of this suite run here, so that all of these work.
    for name in [
        "ptrace",
        "seccomp filter",
        "process_vm_readv",
        "rdtsc trap",
        "memory layout",
        "trial",
    ] {
        assert_eq!(state(&found, name).0, "ok", "{name}");
    }

    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap();
    let has = |flag| flags.split_whitespace().any(|word| word == flag);
    let (cpuid, _) = state(&found, "cpuid faulting");
    assert_eq!(cpuid == "ok", has("cpuid_fault") || !has("rdrand"));

    // The same steps, taken by a shell.
    let steps = "mount -t tmpfs none /tmp && mkdir /tmp/u /tmp/w && \
         mount -t overlay -o userxattr,lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w none /usr && touch /usr/x";
    let shell = Command::new("unshare")
        .args(["-Urmpnif", "--propagation", "private", "sh", "-c", steps])
        .output()
        .expect("unshare");
    let (sandbox, why) = state(&found, "sandbox");
    assert_eq!(
        sandbox == "ok",
        shell.status.success(),
        "{why}; {}",
        String::from_utf8_lossy(&shell.stderr)
    );
}

#[test]
fn place_of_recordings_is_tried() {
    let folder = Folder::new();
    let place = |data: &str| {
        let mut command = folder.command(RRAPPER);
        let done = command
            .env("XDG_DATA_HOME", data)
            .arg("doctor")
            .output()
            .unwrap();
        let found = findings(&done.into());
        state(&found, "place of recordings")
    };
    let (good, said) = place(folder.join("data").to_str().unwrap());
    assert_eq!(good, "ok", "{said}");
    assert!(said.contains("to be made in"), "{said}");
    // Not even root makes files there.
    let (bad, said) = place("/proc/sys");
    assert_eq!(bad, "lack", "{said}");
    assert!(said.contains("XDG_DATA_HOME"), "{said}");
}

#[test]
fn rr_is_asked_for_its_version() {
    let folder = Folder::new();
    let bin = folder.join("bin");
    fs::create_dir(&bin).unwrap();
    let rr = |version: &str| {
        fs::write(
            bin.join("rr"),
            format!("#!/bin/sh\necho 'rr version {version}'\n"),
        )
        .unwrap();
        fs::set_permissions(bin.join("rr"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = folder.command(RRAPPER);
        let done = command.env("PATH", path).arg("doctor").output().unwrap();
        state(&findings(&done.into()), "rr")
    };
    assert_eq!(rr("5.9.0").0, "ok");
    assert_eq!(rr("6.0").0, "ok");
    let (old, said) = rr("5.6.0");
    assert_eq!(old, "lack", "{said}");
    assert!(said.contains("5.6.0") && said.contains("5.9"), "{said}");
}

#[test]
fn a_machine_that_cannot_trace_is_told_by_the_exit_status() {
    let folder = Folder::new();
    // Whatever rrapper starts has a tracer already.
    let done = folder.plain(&["strace", "-f", "-o", "/dev/null", RRAPPER, "doctor"]);
    assert_eq!(done.code, Some(1), "{}\n{}", done.text(), done.stderr);
    let found = findings(&done);
    for name in ["ptrace", "trial"] {
        let (found, said) = state(&found, name);
        assert_eq!(found, "lack", "{said}");
    }
}

#[test]
fn json_says_the_same() {
    let folder = Folder::new();
    let lines = folder.rrapper(["doctor"]).ok().text();
    folder.write("json", folder.rrapper(["doctor", "--json"]).ok().stdout);
    let program = "import json\n\
                   for line in open('json'):\n  o = json.loads(line); print(o['type'], '', o['name'], sep='|')";
    let told = folder.plain(&["/usr/bin/python3", "-c", program]).ok();
    let expected = |line: &str| format!("{}||{}", line[..6].trim(), line[6..25].trim());
    let expected: Vec<String> = lines.lines().map(expected).collect();
    assert_eq!(told.text().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nothing_is_left_behind() {
    let folder = Folder::new();
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut child = folder
        .command(RRAPPER)
        .arg("doctor")
        .env("TMPDIR", &temporary)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(mounts(), before);
    let left = |dir| fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name());
    assert_eq!(left(&temporary).count(), 0);
    // Nor where recordings would be kept.
    assert!(!folder.join("data").exists());
}
