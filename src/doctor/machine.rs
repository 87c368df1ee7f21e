//! Checks of the machine: kernel, processors, disk, other programs.

use super::Finding;
pub(super) use crate::sandbox::sysctl;
use crate::tracee::probe;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) fn examine() -> Vec<Finding> {
    vec![kernel(), processors(), core_files()]
}

/// The numbers that a version begins with.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel() -> Finding {
    let name = "kernel";
    let release = sysctl("kernel/osrelease").unwrap_or_default();
    let tried = format!("Linux {release} on {}", std::env::consts::ARCH);
    match version(&release) {
        found if found < (5, 11) => Finding::lack(
            name,
            tried,
            "too old: calls that rrapper builds on came with 5.11",
            "use Linux 5.11 or later",
        ),
        found if found < (5, 12) => Finding::note(name, tried, "sandboxes need 5.12"),
        _ => Finding::ok(name, tried, "new enough"),
    }
}

fn processors() -> Finding {
    let name = "processors";
    match std::thread::available_parallelism() {
        Ok(count) if count.get() > 1 => Finding::ok(
            name,
            format!("{count} are usable"),
            "a recording uses one; several may run side by side",
        ),
        Ok(_) => Finding::note(
            name,
            "1 is usable",
            "a recording uses one; anything else that runs slows it",
        ),
        Err(error) => Finding::note(
            name,
            error.to_string(),
            "it is not known how many there are",
        ),
    }
}

fn core_files() -> Finding {
    let name = "core files";
    match sysctl("kernel/core_pattern") {
        Some(pattern) if pattern.starts_with('|') => Finding::note(
            name,
            format!("core_pattern is {pattern:?}"),
            "a program of the system gets the core files of recorded programs that crash; live ones leave none",
        )
        .advise("ulimit -c 0 keeps crashes from it"),
        Some(pattern) => Finding::ok(
            name,
            format!("core_pattern is {pattern:?}, a file"),
            "crashes start no other program",
        ),
        None => Finding::note(
            name,
            "core_pattern cannot be read",
            "crashes may start a program of the system",
        ),
    }
}

/// Checks the directory of recordings. Only files without a name are created there.
pub(super) fn recordings_dir(place: &Path) -> Vec<Finding> {
    let dir = place
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("/"));
    let shown = match dir == place {
        true => place.display().to_string(),
        false => format!("{} (to be made in {})", place.display(), dir.display()),
    };
    let name = "place of recordings";
    let (mut first, second) = match (nameless(dir), nameless(dir)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(error), _) | (_, Err(error)) => {
            let writable = nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok();
            let unsure = error.raw_os_error() == Some(libc::EOPNOTSUPP) && writable;
            let tried = format!("{shown}: no file can be made: {error}");
            return vec![match unsure {
                true => Finding::ok(
                    name,
                    format!("{shown} may be written"),
                    "recordings can be kept",
                ),
                false => Finding::lack(
                    name,
                    tried,
                    "no recording can be kept in the default place",
                    "set XDG_DATA_HOME to a writable directory, or name one with record -o",
                ),
            }];
        }
    };
    let written = first
        .write_all(&[1; 1 << 16])
        .and_then(|()| first.sync_data());
    let kept = match written {
        Ok(()) => Finding::ok(
            name,
            format!("a file was written in {shown}"),
            "recordings can be kept",
        ),
        Err(error) => Finding::lack(
            name,
            format!("a file in {shown} could not be written: {error}"),
            "no recording can be kept in the default place",
            "make room there, or set XDG_DATA_HOME to another directory",
        ),
    };
    let shared = match probe::share_content(&first, &second) {
        Ok(()) => Finding::ok(
            "reflinks",
            "two files there share their blocks (FICLONE)",
            "copies of mapped files cost nothing where they lie on that file system",
        ),
        Err(error) => Finding::note(
            "reflinks",
            format!("files there cannot share their blocks (FICLONE: {error})"),
            "mapped files are copied in full, once each",
        ),
    };
    vec![kept, shared]
}

/// A file without a name.
fn nameless(dir: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(dir)
}

pub(super) fn programs() -> Vec<Finding> {
    vec![rr(), counters(), strace()]
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
    files.find(|file| {
        file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
    })
}

/// The first line that a program prints.
fn first_line(file: &Path, arg: &str) -> std::io::Result<String> {
    let output = Command::new(file)
        .arg(arg)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_string())
}

fn rr() -> Finding {
    let name = "rr";
    let means = "rr's own recordings cannot be opened (rrapper's do not need it)";
    let advice = "install rr 5.9 or later";
    let Some(file) = in_path("rr") else {
        return Finding::note(name, "there is no rr in PATH", means).advise(advice);
    };
    let shown = file.display();
    match first_line(&file, "--version") {
        Err(error) => Finding::lack(
            name,
            format!("{shown} does not run: {error}"),
            means,
            advice,
        ),
        Ok(said) => {
            let found = version(said.trim_start_matches("rr version "));
            let tried = format!("{shown} is {said:?}");
            match found >= (5, 9) {
                true => Finding::ok(name, tried, "new enough to open rr's recordings with"),
                false => Finding::lack(name, format!("{tried}, before 5.9"), means, advice),
            }
        }
    }
}

fn counters() -> Finding {
    let name = "hardware counters";
    match probe::count_branches() {
        Ok(count) if count > 0 => Finding::ok(
            name,
            "branches were counted (perf_event_open)",
            "rr works as its authors meant it (rrapper's own engine does not need them)",
        ),
        Ok(_) => Finding::note(
            name,
            "a counter of branches stays at zero (perf_event_open)",
            "rr can record only what is never preempted (rrapper's own engine does not need them)",
        ),
        Err(error) => {
            let finding = Finding::note(
                name,
                format!("branches cannot be counted (perf_event_open: {error})"),
                "rr does not work here by itself (rrapper's own engine does not need them)",
            );
            match (error.raw_os_error(), sysctl("kernel/perf_event_paranoid")) {
                (Some(libc::EACCES), Some(level)) => finding.advise(format!(
                    "sysctl kernel.perf_event_paranoid=1 (it is {level}), if you want rr"
                )),
                _ => finding,
            }
        }
    }
}

fn strace() -> Finding {
    let name = "strace";
    match in_path("strace").map(|file| (first_line(&file, "-V"), file)) {
        Some((Ok(said), file)) => Finding::ok(
            name,
            format!("{} is {said:?}", file.display()),
            "traces for injecting can be made here",
        ),
        Some((Err(error), file)) => Finding::note(
            name,
            format!("{} does not run: {error}", file.display()),
            "traces for injecting cannot be made here",
        ),
        None => Finding::note(
            name,
            "there is no strace in PATH",
            "traces for injecting cannot be made here (recordings have their own)",
        ),
    }
}
