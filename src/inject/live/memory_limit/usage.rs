//! The memory that the processes of a run have taken.
//!
//! What processes have mapped is counted by their page tables. What they hold otherwise is counted by its size: memory
//! files that are open ([memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)), segments of System
//! V shared memory, and the changed files of the sandbox.

use super::{Member, Members};
use crate::tracee::process_dir::ProcessDir;
use nix::sys::statfs::statfs;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Directories of the sandbox whose changed files are in its memory.
const CHANGED: [&str; 4] = ["tmp", "dev/shm", "run", "var/tmp"];

/// Bytes by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    private: u64,
    shared: u64,
    page_tables: u64,
    memfds: u64,
    segments: u64,
    files: u64,
    /// The process that has mapped the most: its name and pid in the sandbox, and its bytes.
    largest: Option<(String, String, u64)>,
}

/// Objects that are counted by their sizes: their mappings are not counted again.
#[derive(Debug, Default)]
struct Sized {
    /// The memory files, by device and inode.
    memfds: BTreeMap<(u64, u64), u64>,
    segments: BTreeSet<u64>,
}

impl Usage {
    pub fn total(&self) -> u64 {
        let Usage {
            private,
            shared,
            page_tables,
            memfds,
            segments,
            files,
            largest: _,
        } = *self;
        let parts = [private, shared, page_tables, memfds, segments, files];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// An upper bound: what several processes have mapped is counted for each of them.
    pub fn at_most(members: &Members) -> Usage {
        let (mut usage, _) = Usage::of_sized(members);
        for member in &members.processes {
            let status = member.dir.read("status").unwrap_or_default();
            usage.add(&status, anonymous(&status), kib(&status, "RssShmem:"));
        }
        usage
    }

    /// The exact usage, which takes longer: what several processes have mapped is counted once.
    pub fn exactly(members: &Members) -> Usage {
        let (mut usage, sized) = Usage::of_sized(members);
        for member in &members.processes {
            let status = member.dir.read("status").unwrap_or_default();
            let (private, shared) = match member.dir.read("smaps") {
                Ok(smaps) => sized.mapped(&smaps),
                Err(_) => (anonymous(&status), kib(&status, "RssShmem:")),
            };
            usage.add(&status, private, shared);
        }
        usage
    }

    fn add(&mut self, status: &str, private: u64, shared: u64) {
        self.private += private;
        self.shared += shared;
        self.page_tables += kib(status, "VmPTE:");
        let all = private + shared;
        if self.largest.as_ref().is_none_or(|(.., most)| all > *most) {
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let name = line("Name:").unwrap_or_default().trim().to_string();
            let pids = line("NSpid:").unwrap_or_default();
            let pid = pids.split_whitespace().last().unwrap_or_default();
            self.largest = Some((name, pid.to_string(), all));
        }
    }

    fn of_sized(members: &Members) -> (Usage, Sized) {
        let mut sized = Sized {
            segments: members.segments.keys().map(|&id| id as u64).collect(),
            ..Sized::default()
        };
        if members.has_memfds {
            for member in &members.processes {
                sized.memfds.extend(memfds(&member.dir));
            }
        }
        let usage = Usage {
            memfds: sized.memfds.values().sum(),
            segments: members.segments.values().sum(),
            files: changed_files(members),
            ..Usage::default()
        };
        (usage, sized)
    }
}

/// `742 MiB: 650 MiB of private memory, …; process 5 (python3) has mapped the most, 600 MiB`.
impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut kinds = [
            (self.private, "private memory"),
            (self.shared, "mapped shared memory"),
            (self.page_tables, "page tables"),
            (self.memfds, "memory files (memfd_create)"),
            (self.segments, "System V segments (shmget)"),
            (self.files, "changed files"),
        ];
        kinds.sort_by_key(|&(bytes, _)| std::cmp::Reverse(bytes));
        f.write_str(&mib(self.total()))?;
        let kinds = kinds.iter().filter(|(bytes, _)| *bytes >= 1 << 20);
        for (i, (bytes, kind)) in kinds.enumerate() {
            let before = if i == 0 { ": " } else { ", " };
            write!(f, "{before}{} of {kind}", mib(*bytes))?;
        }
        match &self.largest {
            Some((name, pid, bytes)) if *bytes >= 1 << 20 => {
                let mut plain = String::new();
                for c in name.chars() {
                    match c.is_control() {
                        true => write!(plain, "{}", c.escape_default())?,
                        false => plain.push(c),
                    }
                }
                let bytes = mib(*bytes);
                write!(f, "; process {pid} ({plain}) has mapped the most, {bytes}")
            }
            _ => Ok(()),
        }
    }
}

/// A size in MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A field of `/proc/PID/status` or of a mapping in `/proc/PID/smaps`, in bytes.
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(size).unwrap_or(0)
}

/// `123 kB` in bytes.
fn size(text: &str) -> Option<u64> {
    Some(text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The anonymous memory of a process, also that in swap and in huge pages, from its `/proc/PID/status`.
fn anonymous(status: &str) -> u64 {
    let fields = ["RssAnon:", "VmSwap:", "HugetlbPages:"];
    fields.iter().map(|name| kib(status, name)).sum()
}

/// The memory files that a process has open, by device and inode, with their sizes.
fn memfds(dir: &ProcessDir) -> BTreeMap<(u64, u64), u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir.path("fd")).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_memfd = fs::read_link(&path).is_ok_and(|link| {
            let link = link.as_os_str().as_bytes();
            link.starts_with(b"/memfd:") || link.starts_with(b"/secretmem")
        });
        if is_memfd && let Ok(meta) = fs::metadata(&path) {
            let of_file = meta.blocks().saturating_mul(512);
            // Secret memory has no blocks.
            let bytes = match of_file {
                0 => meta.len(),
                of_file => of_file,
            };
            found.insert((meta.dev(), meta.ino()), bytes);
        }
    }
    found
}

/// The bytes of the changed files: of the file system of this size that holds them, which an overlay tells.
fn changed_files(members: &Members) -> u64 {
    let used = |member: &Member, name: &str| {
        let told = statfs(&member.dir.path(&format!("root/{name}"))).ok()?;
        let unit = told.block_size() as u64;
        let bytes = |blocks: u64| blocks.saturating_mul(unit);
        let is_it = bytes(told.blocks()) == members.tmpfs_bytes.next_multiple_of(unit.max(1));
        is_it.then(|| bytes(told.blocks() - told.blocks_free().min(told.blocks())))
    };
    let of_member = |member| {
        CHANGED
            .iter()
            .filter_map(move |name| used(member, name))
            .max()
    };
    let all = members.processes.iter().map(|member| member.as_ref());
    all.filter_map(of_member).next().unwrap_or(0)
}

impl Sized {
    /// The private and the shared memory of the mappings in `/proc/PID/smaps`, without those of sized objects. Memory
    /// that several processes have mapped is divided among them.
    fn mapped(&self, smaps: &str) -> (u64, u64) {
        let (mut private, mut shared) = (0_u64, 0_u64);
        let mut kind = Kind::Sized;
        let (mut pss, mut anonymous) = (0, 0);
        for line in smaps.lines() {
            if let Some(size) = line.strip_prefix("Pss:").and_then(size) {
                pss = size;
            } else if let Some(size) = line.strip_prefix("Anonymous:").and_then(size) {
                anonymous = size;
            } else if let Some(size) = ["SwapPss:", "Private_Hugetlb:", "Shared_Hugetlb:"]
                .iter()
                .find_map(|name| line.strip_prefix(name).and_then(size))
            {
                match kind {
                    Kind::Shared => shared += size,
                    Kind::Private | Kind::File => private += size,
                    Kind::Sized => {}
                }
            } else if line.starts_with("VmFlags:") {
                match kind {
                    Kind::Shared => shared += pss,
                    Kind::Private => private += pss,
                    Kind::File => private += pss.min(anonymous),
                    Kind::Sized => {}
                }
                (pss, anonymous) = (0, 0);
            } else if line.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase()) {
                kind = self.kind(line);
            }
        }
        (private, shared)
    }

    /// The kind of a mapping, from its line: `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE NAME`.
    fn kind(&self, line: &str) -> Kind {
        let mut words = line.split_ascii_whitespace().skip(3);
        let device = words.next().and_then(|device| device.split_once(':'));
        let number = |text| u32::from_str_radix(text, 16).unwrap_or(0);
        let device = device.map_or((0, 0), |(major, minor)| (number(major), number(minor)));
        let inode: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let name = words.next().unwrap_or_default();
        let key = (libc::makedev(device.0, device.1), inode);
        let is_segment = name.starts_with("/SYSV");
        if self.memfds.contains_key(&key) || (is_segment && self.segments.contains(&inode)) {
            Kind::Sized
        } else if inode == 0 {
            Kind::Private
        } else if is_segment
            || name.starts_with("/memfd:")
            || name.starts_with("/secretmem")
            || line.ends_with("/dev/zero (deleted)")
        {
            Kind::Shared
        } else {
            Kind::File
        }
    }
}

enum Kind {
    Private,
    Shared,
    File,
    /// Counted by the size of its object.
    Sized,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55e0c0000000-55e0c0010000 r-xp 00000000 08:01 77                         /usr/bin/x y
Pss:                 400 kB
Anonymous:             8 kB
SwapPss:               4 kB
VmFlags: rd ex mr mw me sd
7f0000000000-7f0010000000 rw-p 00000000 00:00 0 [heap]
Pss:                 100 kB
Anonymous:           200 kB
SwapPss:               1 kB
VmFlags: rd wr
7f1000000000-7f1010000000 rw-s 00000000 00:01 5                          /dev/zero (deleted)
Pss:                  50 kB
Anonymous:             0 kB
SwapPss:               0 kB
VmFlags: rd wr
7f2000000000-7f2010000000 rw-s 00000000 00:01 6                          /memfd:a (deleted)
Pss:                1000 kB
VmFlags: rd wr
7f3000000000-7f3010000000 rw-s 00000000 00:01 9                          /SYSV00000000 (deleted)
Pss:                2000 kB
VmFlags: rd wr
7f4000000000-7f4010000000 rw-s 00000000 00:01 10                         /SYSV00000000 (deleted)
Pss:                  30 kB
VmFlags: rd wr
";

    #[test]
    fn mappings_of_counted_objects_are_not_counted_again() {
        let counted = Sized {
            memfds: BTreeMap::from([((libc::makedev(0, 1), 6), 7 << 20)]),
            segments: BTreeSet::from([9]),
        };
        assert_eq!(
            counted.mapped(SMAPS),
            ((8 + 4 + 100 + 1) << 10, (50 + 30) << 10)
        );
        let (_, shared) = Sized::default().mapped(SMAPS);
        assert_eq!(shared, (50 + 30 + 1000 + 2000) << 10);
    }

    #[test]
    fn the_usage_of_this_process_is_that_of_the_kernel() {
        let dir = ProcessDir::open(std::process::id() as i32).unwrap();
        let held = std::hint::black_box(vec![1_u8; 32 << 20]);
        let members = Members {
            processes: vec![std::sync::Arc::new(Member {
                pid: std::process::id() as i32,
                dir,
                run_time: std::sync::atomic::AtomicU64::new(0),
            })],
            segments: BTreeMap::new(),
            has_memfds: true,
            tmpfs_bytes: u64::MAX >> 20,
        };
        let (most, exact) = (Usage::at_most(&members), Usage::exactly(&members));
        assert!(
            exact.private >= std::hint::black_box(&held).len() as u64,
            "{exact}"
        );
        assert!(exact.private < most.private + (8 << 20), "{exact} {most}");
        assert!(
            exact.to_string().contains("MiB of private memory"),
            "{exact}"
        );
    }
}
