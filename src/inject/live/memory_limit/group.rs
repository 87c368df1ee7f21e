//! Memory cgroups for runs: the kernel's own count of their memory, and its limit.
//!
//! A cgroup also counts what no process has mapped or opened: pages of shared memory that were taken out of all page tables,
//! files in sockets on their way, memory in the kernel. To put a process into one takes longer than a short run, and holds
//! up forks; so the thread that looks at runs does it, for those that it sees twice. What was taken before that, only the
//! accounting counts.
//!
//! A cgroup is made where that takes nothing from the limits that rrapper is under, and changes no setting of the
//! machine's cgroups: below rrapper's own, or beside it where its own has no limits. With version 2, that needs a cgroup
//! that gives the memory controller to those below it (`cgroup.subtree_control`).

use super::Members;
use super::available::{Cgroup, V1, V2, own_dirs};
use crate::tracee::outliving::Remover;
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The cgroups at one time; further runs have none.
const MOST: usize = 64;

/// What the kernel's limit is above the run's, as a part of that, and at least: the accounting comes first, and can tell
/// what has taken the memory.
const ABOVE_PART: u64 = 4;
const ABOVE: u64 = 256 << 20;

/// The time to wait for the last processes of a run to be out of its cgroup.
const PATIENCE: Duration = Duration::from_millis(5);

/// The cgroup of a run, if it has one.
#[derive(Debug, Default)]
pub(super) struct GroupOfRun(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Made(Group),
    /// None can be made, or the run is over.
    Never,
}

/// A cgroup, which is removed on drop.
#[derive(Debug)]
struct Group {
    cgroup: Cgroup,
    number: usize,
    /// The kernel's limit.
    bytes: u64,
}

/// The place for cgroups.
struct Place {
    /// The process that may use it: forks have the names of their parent.
    process: u32,
    files: &'static super::available::Files,
    /// The paths, by number.
    paths: Vec<PathBuf>,
    free: Vec<usize>,
}

static PLACE: LazyLock<Option<Mutex<Place>>> = LazyLock::new(|| Place::find().map(Mutex::new));

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GroupOfRun {
    /// Makes a cgroup for these processes where there is none yet, with a limit by that of the run, and puts them into it.
    pub fn take_in(&self, members: &Members, limit: u64) {
        let mut state = lock(&self.0);
        if matches!(*state, State::None) {
            *state = Group::new().map_or(State::Never, State::Made);
        }
        if let State::Made(group) = &mut *state
            && group.take_in(members, limit).is_err()
        {
            *state = State::Never;
        }
    }

    /// The bytes that the kernel counts for it and would not give back.
    pub fn held(&self) -> Option<u64> {
        match &*lock(&self.0) {
            State::Made(group) => group.cgroup.sum(group.cgroup.files.held),
            _ => None,
        }
    }

    /// The kernel's limit, if it has killed one of the processes for it.
    pub fn killed_at(&self) -> Option<u64> {
        match &*lock(&self.0) {
            State::Made(group) => group.has_killed().then_some(group.bytes),
            _ => None,
        }
    }

    /// Removes the cgroup: the run is over.
    pub fn end(&self) {
        *lock(&self.0) = State::Never;
    }
}

impl Group {
    fn new() -> Option<Group> {
        let place = PLACE.as_ref()?;
        let mut place = lock(place);
        if place.process != std::process::id() {
            return None;
        }
        let number = place.free.pop()?;
        let dir = place.paths.get(number)?.clone();
        if let Err(error) = fs::create_dir(&dir) {
            tracing::debug!("cannot make {}: {error}", dir.display());
            return None;
        }
        let files = place.files;
        let group = Group {
            cgroup: Cgroup { dir, files },
            number,
            bytes: 0,
        };
        // Version 2 only: all of them are killed where the kernel kills one.
        _ = fs::write(group.cgroup.dir.join("memory.oom.group"), "1");
        Some(group)
    }

    fn take_in(&mut self, members: &Members, limit: u64) -> std::io::Result<()> {
        let bytes = limit.saturating_add(ABOVE.max(limit / ABOVE_PART));
        if bytes != self.bytes {
            fs::write(self.path(self.cgroup.files.limits[0]), bytes.to_string())?;
            self.bytes = bytes;
        }
        let there = fs::read_to_string(self.path("cgroup.procs"))?;
        let there: BTreeSet<&str> = there.lines().collect();
        for member in &members.processes {
            let pid = member.pid.to_string();
            // The number may be another process's once this one has been waited for.
            if there.contains(pid.as_str()) || member.dir.read("stat").is_err() {
                continue;
            }
            match fs::write(self.path("cgroup.procs"), &pid) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cgroup.dir.join(name)
    }

    fn has_killed(&self) -> bool {
        let text = fs::read_to_string(self.path(self.cgroup.files.events)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = std::time::Instant::now() + PATIENCE;
        let mut removed = fs::remove_dir(&self.cgroup.dir);
        while removed.is_err() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
            removed = fs::remove_dir(&self.cgroup.dir);
        }
        match (removed, PLACE.as_ref()) {
            (Ok(()), Some(place)) => lock(place).free.push(self.number),
            // It is removed when rrapper has ended.
            (Err(error), _) => {
                tracing::debug!("cannot remove {}: {error}", self.cgroup.dir.display());
            }
            _ => {}
        }
    }
}

impl Place {
    fn find() -> Option<Place> {
        let parent = parent(&own_dirs())?;
        let process = std::process::id();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let name = |i| parent.dir.join(format!("rrapper-{process}-{now:x}-{i}"));
        let paths: Vec<PathBuf> = (0..MOST).map(name).collect();
        let texts = paths
            .iter()
            .map(|path| CString::new(path.as_os_str().as_bytes()));
        let texts: Vec<CString> = texts.collect::<Result<_, _>>().ok()?;
        let remover = Remover::start(&texts);
        let failed = |error: &_| tracing::debug!("cannot make groups, which would stay: {error}");
        remover.inspect_err(failed).ok()?.keep();
        Some(Place {
            process,
            files: parent.files,
            paths,
            free: (0..MOST).rev().collect(),
        })
    }
}

/// The cgroup below which a run's can be made, of those that rrapper is in, from the innermost on.
fn parent(own: &[Cgroup]) -> Option<Cgroup> {
    let mut is_free = false;
    let mut innermost = true;
    for cgroup in own {
        let copy = || Cgroup {
            dir: cgroup.dir.clone(),
            files: cgroup.files,
        };
        if std::ptr::eq(cgroup.files, &V1) {
            // The first one is rrapper's own, below which others may be.
            return may_make(&cgroup.dir).then(copy);
        }
        if (innermost || is_free) && gives_memory(&cgroup.dir) && may_make(&cgroup.dir) {
            return Some(copy());
        }
        is_free = (innermost || is_free) && !is_limited(&cgroup.dir);
        innermost = false;
    }
    None
}

/// Whether this user may make cgroups in it, and take processes into them.
fn may_make(dir: &Path) -> bool {
    let may = |path: &Path, how| access(path, how).is_ok();
    may(dir, AccessFlags::W_OK | AccessFlags::X_OK)
        && may(&dir.join("cgroup.procs"), AccessFlags::W_OK)
}

/// Whether those below a cgroup of version 2 have the memory controller.
fn gives_memory(dir: &Path) -> bool {
    let given = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    given.split_whitespace().any(|name| name == "memory")
}

/// Whether a cgroup of version 2 has a limit, which processes beside it would not be under.
fn is_limited(dir: &Path) -> bool {
    V2.all_limits.iter().any(|(name, none)| {
        let limit = fs::read_to_string(dir.join(name));
        limit.is_ok_and(|limit| !limit.starts_with(none))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of cgroups of version 2, as files.
    fn tree(dirs: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (dir, files) in dirs {
            let dir = root.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), "").unwrap();
            for (name, text) in *files {
                fs::write(dir.join(name), text).unwrap();
            }
        }
        root
    }

    fn parent_of(root: &Path, own: &str) -> Option<String> {
        let dirs = root.join(own);
        let dirs = dirs.ancestors().take_while(|dir| dir.starts_with(root));
        let dirs = dirs.map(|dir| Cgroup {
            dir: dir.into(),
            files: &V2,
        });
        let found = parent(&dirs.collect::<Vec<_>>())?;
        let below = found.dir.strip_prefix(root).unwrap();
        Some(below.display().to_string())
    }

    #[test]
    fn a_group_is_made_where_the_memory_controller_is_given() {
        let gives = ("cgroup.subtree_control", "cpu memory pids\n");
        let root = tree(&[
            ("user", &[gives]),
            ("user/app", &[gives]),
            (
                "user/app/terminal",
                &[
                    ("memory.max", "max\n"),
                    ("cpu.max", "max 100000\n"),
                    ("cpuset.cpus", "\n"),
                ],
            ),
            ("user/app/limited", &[("pids.max", "100\n")]),
            ("user/app/limited/inner", &[("memory.max", "max\n")]),
            ("user/app/root", &[gives, ("memory.max", "1000\n")]),
            ("other", &[("cgroup.subtree_control", "cpu\n")]),
            ("other/terminal", &[("memory.max", "max\n")]),
        ]);
        let is = |own, expected: Option<&str>| {
            assert_eq!(parent_of(root.path(), own).as_deref(), expected, "{own}");
        };
        is("user/app/terminal", Some("user/app"));
        // Beside its own, it would not be under its own's limits.
        is("user/app/limited", None);
        is("user/app/limited/inner", None);
        is("user/app/root", Some("user/app/root"));
        is("other/terminal", None);
    }
}
