//! The memory that is still available: on the machine, and within the memory cgroups that rrapper is in.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory cgroups above rrapper that have a limit.
#[derive(Debug, Default)]
pub(super) struct Cgroups(Vec<Cgroup>);

#[derive(Debug)]
pub(super) struct Cgroup {
    pub dir: PathBuf,
    pub files: &'static Files,
}

/// The files of a version of memory cgroups (Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst).
#[derive(Debug)]
pub(super) struct Files {
    /// The first one is that beyond which the kernel kills.
    pub limits: &'static [&'static str],
    usage: &'static str,
    /// The page cache in `memory.stat`, which the kernel gives back.
    cache: &'static [&'static str],
    /// What the kernel does not give back, in `memory.stat`.
    pub held: &'static [&'static str],
    /// The file that counts the processes that the kernel has killed.
    pub events: &'static str,
    /// The files that limit a group in some way, each with what stands for no limit; in a group without any, it does not
    /// matter whether a process is in it or beside it.
    pub all_limits: &'static [(&'static str, &'static str)],
}

pub(super) static V1: Files = Files {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cache: &["total_inactive_file ", "total_active_file "],
    held: &["total_rss ", "total_shmem ", "total_swap "],
    events: "memory.oom_control",
    all_limits: &[],
};

pub(super) static V2: Files = Files {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cache: &["inactive_file ", "active_file "],
    held: &[
        "anon ",
        "shmem ",
        "kernel_stack ",
        "pagetables ",
        "sock ",
        "slab_unreclaimable ",
    ],
    events: "memory.events",
    all_limits: &[
        ("memory.max", "max"),
        ("memory.high", "max"),
        ("memory.swap.max", "max"),
        ("pids.max", "max"),
        ("cpu.max", "max "),
        ("cpuset.cpus", "\n"),
    ],
};

/// Limits from here on mean that there is none.
const NO_LIMIT: u64 = 1 << 60;

impl Cgroups {
    /// Those of this process.
    pub fn of_self() -> Cgroups {
        let dirs = own_dirs();
        let limited = |cgroup: &Cgroup| cgroup.limit().is_some();
        Cgroups(dirs.into_iter().filter(limited).collect())
    }

    /// The available bytes, of the machine and of each of the cgroups; the least counts.
    pub fn available(&self) -> u64 {
        let own = self.0.iter().filter_map(Cgroup::available);
        own.fold(on_machine(), u64::min)
    }
}

impl Cgroup {
    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn limit(&self) -> Option<u64> {
        let limits = self.files.limits.iter();
        let limits = limits.filter_map(|name| self.number(name));
        limits.filter(|&limit| limit < NO_LIMIT).min()
    }

    fn available(&self) -> Option<u64> {
        let (limit, usage) = (self.limit()?, self.number(self.files.usage)?);
        let held = usage.saturating_sub(self.sum(self.files.cache)?);
        Some(limit.saturating_sub(held))
    }

    /// The sum of these numbers in `memory.stat`.
    pub fn sum(&self, names: &[&str]) -> Option<u64> {
        let stat = fs::read_to_string(self.dir.join("memory.stat")).ok()?;
        let numbers = names.iter().filter_map(|name| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        });
        Some(numbers.sum())
    }
}

/// The cgroups that this process is in, from the innermost on.
pub(super) fn own_dirs() -> Vec<Cgroup> {
    let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
    dirs(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// The files that may still be opened on the machine (`fs.file-nr`, `fs.file-max`).
pub(super) fn files_on_machine() -> u64 {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.nth(1)) {
        (Some(Ok(open)), Some(Ok(most))) => most.saturating_sub(open),
        _ => u64::MAX,
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn on_machine() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// The directories of the cgroups that limit memory, from the one that `/proc/self/cgroup` names up to the mount.
fn dirs(own: &str, mounts: &str) -> Vec<Cgroup> {
    let mut found = Vec::new();
    for line in own.lines() {
        // ID:controllers:path; without controllers, it is version 2.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let files = match controllers {
            "" => &V2,
            other if other.split(',').any(|name| name == "memory") => &V1,
            _ => continue,
        };
        let Some((root, top)) = mount(mounts, std::ptr::eq(files, &V2)) else {
            continue;
        };
        let Ok(below) = Path::new(path).strip_prefix(&root) else {
            continue;
        };
        let dir = top.join(below);
        let up_to_top = dir.ancestors().take_while(|dir| dir.starts_with(&top));
        found.extend(up_to_top.map(|dir| Cgroup {
            dir: dir.into(),
            files,
        }));
    }
    found
}

/// The root within the hierarchy and the mount point of a cgroup file system that limits memory, from
/// `/proc/self/mountinfo`.
fn mount(mounts: &str, is_v2: bool) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let is_it = match is_v2 {
            true => name == "cgroup2",
            false => name == "cgroup" && options.split(',').any(|option| option == "memory"),
        };
        let mut place = place.split(' ').skip(3);
        let (root, top) = (place.next()?, place.next()?);
        is_it.then(|| (root.into(), top.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,nosuid - proc proc rw\n\
31 30 0:27 /box /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn paths(own: &str) -> Vec<String> {
        let dirs = dirs(own, MOUNTS).into_iter();
        dirs.map(|cgroup| cgroup.dir.display().to_string())
            .collect()
    }

    #[test]
    fn a_cgroup_and_those_above_it_count() {
        assert_eq!(
            paths("4:cpu,memory:/box/a/b\n3:cpuset:/box\n"),
            [
                "/sys/fs/cgroup/memory/a/b",
                "/sys/fs/cgroup/memory/a",
                "/sys/fs/cgroup/memory"
            ]
        );
        assert_eq!(
            paths("0::/x\n"),
            ["/sys/fs/cgroup/unified/x", "/sys/fs/cgroup/unified"]
        );
        // A cgroup outside of the mount.
        assert_eq!(paths("4:memory:/other\n"), [""; 0]);
        assert_eq!(paths("nonsense\n4:memory\n"), [""; 0]);
    }

    #[test]
    fn the_page_cache_of_a_cgroup_is_available() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let cgroup = Cgroup {
            dir: dir.path().into(),
            files: &V2,
        };
        assert_eq!((cgroup.limit(), cgroup.available()), (None, None));
        write("memory.max", "1000\n");
        write("memory.high", "max\n");
        write("memory.current", "700\n");
        write(
            "memory.stat",
            "anon 500\ninactive_file 150\nactive_file 50\n",
        );
        assert_eq!(
            (cgroup.limit(), cgroup.available()),
            (Some(1000), Some(500))
        );
        write("memory.high", "600\n");
        assert_eq!(cgroup.available(), Some(100));
        write("memory.max", "max\n");
        write("memory.high", "max\n");
        assert_eq!(cgroup.limit(), None);
    }

    #[test]
    fn the_machine_has_memory() {
        let available = Cgroups::of_self().available();
        assert!(available > 1 << 20 && available < NO_LIMIT, "{available}");
    }
}
