//! What of the machine must be the same before and after whatever a live process does.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to end, and what others do to pass.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tests that look at the whole machine take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A test's turn. It begins before the test makes anything that others would see.
pub struct Turn(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

/// Waits until no other test is at the machine.
pub fn turn() -> Turn {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: prctl(2) with numbers.
    let ret = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(ret, 0);
    Turn(turn)
}

/// The machine as it was, by facts with names. The processes that a test leaves become children of the tests' process.
pub struct Machine {
    facts: BTreeMap<String, String>,
    trees: Vec<PathBuf>,
    children: Vec<i32>,
    _turn: Turn,
}

impl Machine {
    /// The machine as it is now, with all files in these directories.
    pub fn now(turn: Turn, trees: &[&Path]) -> Machine {
        let trees: Vec<PathBuf> = trees.iter().map(|dir| dir.to_path_buf()).collect();
        Machine {
            facts: facts(&trees),
            trees,
            children: children(),
            _turn: turn,
        }
    }

    /// Checks that it is as it was, and that no process is left.
    #[track_caller]
    pub fn is_as_it_was(&mut self, what: &str) {
        let changes = self.changes();
        assert!(changes.is_empty(), "{what}: {changes:#?}");
    }

    /// What is not as it was, a sentence each, and the processes that are left. What others do at the same time passes
    /// in a moment; what does not is told once.
    pub fn changes(&mut self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let mut left = children();
            left.retain(|pid| !self.children.contains(pid));
            for &pid in &left {
                // SAFETY: waitpid(2) with no status wanted.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
            }
            let mut changes = self.differences();
            if left.is_empty() && changes.is_empty() {
                return changes;
            }
            if begun.elapsed() > PATIENCE {
                changes.extend(left.iter().map(|&pid| format!("left: {}", describe(pid))));
                self.facts = facts(&self.trees);
                return changes;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn differences(&self) -> Vec<String> {
        let now = facts(&self.trees);
        let names = self.facts.keys().chain(now.keys());
        let mut found: Vec<String> = names
            .filter(|&name| self.facts.get(name) != now.get(name))
            .map(|name| {
                format!(
                    "{name}: {:?}, now {:?}",
                    self.facts.get(name),
                    now.get(name)
                )
            })
            .collect();
        found.dedup();
        found
    }
}

fn describe(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.chars().take(60).collect()
}

/// All children of this process.
fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let words = lists.iter().flat_map(|list| list.split_whitespace());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn facts(trees: &[PathBuf]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for path in [
        "/proc/self/mountinfo",
        "/proc/swaps",
        "/proc/net/route",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/printk",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/swappiness",
        "/proc/sys/fs/suid_dumpable",
        "/proc/self/oom_score_adj",
        "/proc/self/limits",
        "/proc/self/cgroup",
    ] {
        facts.insert(path.into(), fs::read_to_string(path).unwrap_or_default());
    }
    for path in [
        "/etc/passwd",
        "/etc/group",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/ld.so.cache",
    ] {
        let content = fs::read(path).map(|bytes| crc32fast::hash(&bytes));
        let fact = format!("{content:?} {}", metadata(Path::new(path)));
        facts.insert(path.into(), fact);
    }
    for dir in ["/dev", "/dev/net", "/dev/cpu/0"] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            facts.insert(path.display().to_string(), node(&path));
        }
    }
    for dir in ["/dev/shm", "/dev/mqueue"] {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let names: std::collections::BTreeSet<_> = names.map(|entry| entry.file_name()).collect();
        facts.insert(format!("names in {dir}"), format!("{names:?}"));
    }
    facts.insert("control groups".into(), groups().join("\n"));
    facts.insert("modules".into(), columns("/proc/modules", &[0]));
    facts.insert("interfaces".into(), columns("/proc/net/dev", &[0]));
    facts.insert(
        "shm".into(),
        columns("/proc/sysvipc/shm", &[0, 1, 2, 3, 7, 8]),
    );
    facts.insert(
        "msg".into(),
        columns("/proc/sysvipc/msg", &[0, 1, 2, 3, 4, 7, 8]),
    );
    facts.insert(
        "sem".into(),
        columns("/proc/sysvipc/sem", &[0, 1, 2, 3, 4, 5]),
    );
    // Number, permissions, owner, group, type and description.
    facts.insert(
        "keys".into(),
        columns("/proc/keys", &[0, 4, 5, 6, 7, 8, 9, 10]),
    );
    facts.insert("quota of keys".into(), key_quota());
    for tree in trees {
        add_tree(tree, &mut facts);
    }
    facts
}

/// Some columns of a table, without those lines that change by themselves.
fn columns(path: &str, which: &[usize]) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| {
        // A module that rrapper needs, and the keys of a name server.
        !line.starts_with("overlay ") && !line.contains("dns_resolver")
    });
    let lines = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted = which.iter().filter_map(|&i| words.get(i).copied());
        wanted.collect::<Vec<_>>().join(" ")
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

/// How many keys this user has, and how many bytes of them.
fn key_quota() -> String {
    // SAFETY: getuid(2) takes nothing.
    let uid = unsafe { libc::getuid() };
    let text = fs::read_to_string("/proc/key-users").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{uid}:")));
    let words = line
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(3));
    words.collect::<Vec<_>>().join(" ")
}

/// All directories of the control groups, without those beside the tests' own groups: whoever has made these makes and
/// removes others all the time.
fn groups() -> Vec<String> {
    fn add(dir: &Path, own: &[PathBuf], found: &mut Vec<String>) {
        found.push(dir.display().to_string());
        let is_above = own
            .iter()
            .any(|group| dir.join("x").ends_with(group.with_file_name("x")));
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            // A group of a run goes with it.
            let name = entry.file_name().to_string_lossy().into_owned();
            let rrapper = name
                .strip_prefix("rrapper-")
                .and_then(|rest| rest.split_once('-'));
            if rrapper.is_some_and(|(pid, _)| Path::new("/proc").join(pid).join("stat").exists()) {
                continue;
            }
            let is_own = own.iter().any(|group| path.ends_with(group));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && (is_own || !is_above) {
                add(&path, own, found);
            }
        }
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let own = own.map(|group| PathBuf::from(group.trim_start_matches('/')));
    let own: Vec<PathBuf> = own.filter(|group| group.components().count() > 1).collect();
    let mut found = Vec::new();
    add(Path::new("/sys/fs/cgroup"), &own, &mut found);
    found.sort();
    found
}

/// A device: everything but the times of terminals, which writing changes.
fn node(path: &Path) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return "none".into();
    };
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let changes =
        name.starts_with("tty") || ["ptmx", "console", "pts", "shm"].contains(&name.as_str());
    if changes {
        return format!(
            "{:o} {} {} {}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev()
        );
    }
    metadata(path)
}

/// Everything of a file but its content and its time of access; of a directory or FIFO, in which the tests themselves make
/// and write something, no times.
fn metadata(path: &Path) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return "none".into();
    };
    if meta.is_dir() || meta.file_type().is_fifo() {
        let (mode, attributes) = (meta.mode(), attributes(path));
        return format!("{mode:o} {} {} {attributes}", meta.uid(), meta.gid());
    }
    format!(
        "{:o} {} {} {} links {} size {} mtime {}.{:09} ctime {}.{:09} {}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        attributes(path)
    )
}

/// The names of a file's extended attributes.
fn attributes(path: &Path) -> String {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return String::new();
    };
    let mut names = [0u8; 1024];
    // SAFETY: the path ends with a zero byte, and the buffer is as long as is said.
    let size = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    String::from_utf8_lossy(&names[..size.max(0) as usize]).replace('\0', " ")
}

/// All files in a directory.
fn add_tree(path: &Path, facts: &mut BTreeMap<String, String>) {
    let content = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => format!("{:?}", fs::read(path).map(|b| crc32fast::hash(&b))),
        Ok(meta) if meta.is_symlink() => format!("{:?}", fs::read_link(path)),
        _ => String::new(),
    };
    let fact = format!("{} {content}", metadata(path));
    facts.insert(path.display().to_string(), fact);
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add_tree(&entry.path(), facts);
        }
    }
}
