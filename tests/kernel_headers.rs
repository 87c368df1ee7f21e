//! The tables of calls, structures and constants against the kernel's own headers, as the C compiler reads them.
//!
//! Every comparison is a `_Static_assert` in a generated file that includes one header. What the installed headers
//! do not have (they may be older than the table) is listed and counted: it may not be much.

use crate::common::Folder;
use rrapper::syscall::{self, Kind, Layout, Member};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the compiler says about C source.
fn cc(args: &[&str], source: &Path) -> Output {
    let mut command = Command::new("cc");
    command.args(args).arg(source).env("LC_ALL", "C");
    command.output().expect("a C compiler")
}

/// What came of one assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Wrong,
    /// The header does not have what it speaks of.
    Absent,
}

/// C source: what to include, then an assertion on each line of its own.
fn judge(folder: &Folder, name: &str, prelude: &str, asserts: &[String]) -> Vec<Verdict> {
    let before = prelude.lines().count();
    let mut source = String::from(prelude);
    for assert in asserts {
        writeln!(source, "{assert}").unwrap();
    }
    let file = folder.write(name, source);
    let output = cc(&["-fsyntax-only", "-w", "-D_GNU_SOURCE"], &file);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut verdicts = vec![Verdict::Holds; asserts.len()];
    for line in said.lines() {
        if line.contains("fatal error") {
            return vec![Verdict::Absent; asserts.len()];
        }
        let Some(rest) = line.strip_prefix(&format!("{}:", file.display())) else {
            continue;
        };
        let Some((number, message)) = rest.split_once(": error:") else {
            continue;
        };
        let number: usize = number.split(':').next().unwrap().parse().unwrap();
        if let Some(verdict) = verdicts.get_mut(number.wrapping_sub(before + 1)) {
            *verdict = match message.contains("static assertion failed") {
                true => Verdict::Wrong,
                false => Verdict::Absent,
            };
        }
    }
    verdicts
}

/// A header as it is included, and its text.
struct Header {
    name: String,
    text: String,
}

/// The folders of the kernel's interface, those with the machine's own definitions first.
const KERNEL: &[&str] = &[
    "asm",
    "linux",
    "asm-generic",
    "scsi",
    "sound",
    "mtd",
    "drm",
    "misc",
    "rdma",
    "video",
    "xen",
    "cxl",
    "fwctl",
    "regulator",
];

/// All headers of the kernel's interface, where the compiler looks for them.
fn kernel_headers(folder: &Folder) -> Vec<Header> {
    let empty = folder.write("empty.c", "");
    let output = cc(&["-E", "-Wp,-v"], &empty);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let dirs: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix(' ')).collect();
    let mut headers = Vec::new();
    for part in KERNEL {
        for dir in &dirs {
            let mut pending = vec![PathBuf::from(part)];
            while let Some(below) = pending.pop() {
                let Ok(entries) = std::fs::read_dir(Path::new(dir).join(&below)) else {
                    continue;
                };
                for entry in entries.flatten() {
                    let name = below.join(entry.file_name());
                    if entry.path().is_dir() {
                        pending.push(name);
                    } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                        let name = name.to_str().unwrap().to_owned();
                        headers.push(Header { name, text });
                    }
                }
            }
        }
    }
    assert!(headers.len() > 300, "the kernel's headers are installed");
    headers
}

/// libc's headers, for what is not in the kernel's.
const LIBC: &[&str] = &[
    "errno.h",
    "fcntl.h",
    "grp.h",
    "limits.h",
    "net/if.h",
    "net/if_arp.h",
    "netinet/in.h",
    "netinet/tcp.h",
    "netinet/udp.h",
    "netpacket/packet.h",
    "poll.h",
    "sched.h",
    "signal.h",
    "spawn.h",
    "stdio.h",
    "stdlib.h",
    "sys/auxv.h",
    "sys/epoll.h",
    "sys/eventfd.h",
    "sys/fanotify.h",
    "sys/file.h",
    "sys/fsuid.h",
    "sys/inotify.h",
    "sys/ioctl.h",
    "sys/ipc.h",
    "sys/klog.h",
    "sys/mman.h",
    "sys/mount.h",
    "sys/msg.h",
    "sys/personality.h",
    "sys/prctl.h",
    "sys/ptrace.h",
    "sys/quota.h",
    "sys/random.h",
    "sys/reboot.h",
    "sys/resource.h",
    "sys/sem.h",
    "sys/shm.h",
    "sys/signalfd.h",
    "sys/socket.h",
    "sys/stat.h",
    "sys/statfs.h",
    "sys/statvfs.h",
    "sys/swap.h",
    "sys/sysinfo.h",
    "sys/time.h",
    "sys/timerfd.h",
    "sys/times.h",
    "sys/timex.h",
    "sys/uio.h",
    "sys/un.h",
    "sys/utsname.h",
    "sys/vfs.h",
    "sys/wait.h",
    "sys/xattr.h",
    "syslog.h",
    "termios.h",
    "time.h",
    "unistd.h",
    "utime.h",
    "mqueue.h",
    "dirent.h",
    "ustat.h",
    "sys/soundcard.h",
    "pty.h",
];

fn libc_prelude() -> String {
    let lines = LIBC
        .iter()
        .map(|h| format!("#if __has_include(<{h}>)\n#include <{h}>\n#endif\n"));
    lines.collect()
}

/// Before each kernel header: what some of them take for granted.
const NEEDED: &str = "#include <stddef.h>\n#include <linux/types.h>\n#include <asm/ioctls.h>\n\
#include <asm/termbits.h>\n#include <linux/ioctl.h>\n#include <linux/fiemap.h>\n#include <linux/major.h>\n\
#include <linux/atmioc.h>\ntypedef unsigned short domid_t;\n";

fn includes(headers: &[&str]) -> String {
    let lines = headers.iter().map(|h| format!("#include <{h}>\n"));
    format!("{NEEDED}{}", lines.collect::<String>())
}

#[test]
fn the_numbers_are_those_of_unistd() {
    let folder = Folder::new();
    let file = folder.write("numbers.c", "#include <asm/unistd_64.h>\n");
    let output = cc(&["-E", "-dM"], &file);
    assert!(output.status.success(), "asm/unistd_64.h");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut known = BTreeMap::new();
    for line in text.lines() {
        let Some(definition) = line.strip_prefix("#define __NR_") else {
            continue;
        };
        let (name, number) = definition.split_once(' ').unwrap();
        if let Ok(number) = number.parse::<u64>() {
            known.insert(number, name);
        }
    }
    assert!(known.len() > 350, "{} numbers in the header", known.len());
    let mut wrong = Vec::new();
    for (&number, &name) in &known {
        match syscall::by_nr(number) {
            Some(call) if call.name == name && u64::from(call.nr) == number => {}
            other => wrong.push(format!("{number} {name}: {:?}", other.map(|c| c.name))),
        }
        if syscall::by_name(name).map(|c| u64::from(c.nr)) != Some(number) {
            wrong.push(format!("{name} is not {number} by name"));
        }
    }
    // Up to here numbers have no gaps; behind, the header may lack what is newer than it is.
    for number in 0..335 {
        if let (Some(call), None) = (syscall::by_nr(number), known.get(&number)) {
            wrong.push(format!("{number} {} is not in the header", call.name));
        }
    }
    let ours = (0..1024).filter_map(syscall::by_nr).count();
    println!("{} numbers compared of {ours}", known.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A structure whose name in C, header or members are others: ours, C's type, the header (empty: libc's),
/// and members that C calls otherwise (an empty name: it has none).
type Other = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const OTHERS: &[Other] = &[
    ("ipc_perm", "struct ipc64_perm", "asm-generic/ipcbuf.h", &[]),
    ("msqid_ds", "struct msqid64_ds", "asm-generic/msgbuf.h", &[]),
    ("semid_ds", "struct semid64_ds", "asm/sembuf.h", &[]),
    ("shmid_ds", "struct shmid64_ds", "asm-generic/shmbuf.h", &[]),
    ("shminfo", "struct shminfo64", "asm-generic/shmbuf.h", &[]),
    (
        "utimespec",
        "struct __kernel_timespec",
        "linux/time_types.h",
        &[],
    ),
    ("fsid", "__kernel_fsid_t", "asm-generic/posix_types.h", &[]),
    ("stack", "stack_t", "asm/signal.h", &[]),
    ("siginfo", "siginfo_t", "asm-generic/siginfo.h", &[]),
    ("waitinfo", "siginfo_t", "asm-generic/siginfo.h", &[]),
    ("sigval", "sigval_t", "asm-generic/siginfo.h", &[]),
    ("sigevent", "sigevent_t", "asm-generic/siginfo.h", &[]),
    ("utsname", "struct new_utsname", "linux/utsname.h", &[]),
    ("flock_get", "struct flock", "asm-generic/fcntl.h", &[]),
    ("epoll_data", "epoll_data_t", "", &[]),
    (
        "cap_header",
        "struct __user_cap_header_struct",
        "linux/capability.h",
        &[],
    ),
    (
        "cap_data",
        "struct __user_cap_data_struct",
        "linux/capability.h",
        &[],
    ),
    (
        "ifreq",
        "struct ifreq",
        "linux/if.h",
        &[("ifr_data", "ifr_ifru")],
    ),
    ("timex", "struct __kernel_timex", "linux/timex.h", &[]),
    (
        "tpacket_stats",
        "struct tpacket_stats_v3",
        "linux/if_packet.h",
        &[],
    ),
];

/// Structures of which the table describes the first part only, or which are no structure in C.
const PARTS: &[(&str, &str)] = &[
    (
        "waitinfo",
        "waitid stores these members of siginfo_t and no others",
    ),
    ("sched_attr", "it grows; what is newer follows"),
    (
        "landlock_ruleset_attr",
        "it grows; the header may have less of it",
    ),
    (
        "perf_event_attr",
        "it grows; the header may have less of it",
    ),
    (
        "tcp_info",
        "it grows; the header may have less of it, or more",
    ),
];

/// Members of which the table shows the lower half, since the kernel refuses or ignores what is above.
const HALVES: &[&str] = &[
    "file_dedupe_range_info.dest_fd",
    "clone_args.exit_signal",
    "file_dedupe_range_info.dest_fd",
    "iocb.aio_buf",
    "mount_attr.userns_fd",
    "open_how.mode",
];

/// Whether this is one of several ways to read a union, and another one is larger.
fn is_smaller_in_a_union(layout: &Layout, member: &Member) -> bool {
    layout.members.iter().any(|other| {
        (other.name, other.offset) == (member.name, member.offset)
            && other.kind.fixed_size() > member.kind.fixed_size()
    })
}

/// The assertions about a structure: its size, then each member's offset and size.
fn assertions(layout: &Layout, c_type: &str, members: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut asserts = Vec::new();
    if !PARTS.iter().any(|(name, _)| *name == layout.name) {
        let text = format!("_Static_assert(sizeof({c_type}) == {}, \"\");", layout.size);
        asserts.push((layout.name.to_owned(), text));
    }
    for member in &layout.members {
        let renamed = members.iter().find(|(ours, _)| *ours == member.name);
        let name = renamed.map_or(member.name, |(_, c)| c);
        if name.is_empty() {
            continue;
        }
        let what = format!("{}.{}", layout.name, member.name);
        let offset = format!("offsetof({c_type}, {name}) == {}", member.offset);
        let size = match (member.kind.fixed_size(), &member.kind) {
            // A flexible array has no size of its own, and what is counted elsewhere is of any size.
            (None, _) | (_, Kind::Sockaddr(_)) => String::new(),
            _ if HALVES.contains(&what.as_str()) => String::new(),
            (Some(size), _) => {
                let compare = match is_smaller_in_a_union(layout, member) {
                    true => ">",
                    false => "==",
                };
                format!(" && sizeof((({c_type} *)0)->{name}) {compare} {size}")
            }
        };
        asserts.push((what, format!("_Static_assert({offset}{size}, \"\");")));
    }
    asserts
}

#[test]
fn structures_are_those_of_the_compiler() {
    let folder = Folder::new();
    let headers = kernel_headers(&folder);
    let libc = libc_prelude();
    let mut all: Vec<&Layout> = syscall::layouts().collect();
    all.sort_by_key(|layout| layout.name);
    let (mut compared, mut members) = (0, 0);
    let (mut lacking, mut unknown, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for layout in &all {
        let other = OTHERS.iter().find(|(name, ..)| *name == layout.name);
        let c_type = other.map_or(format!("struct {}", layout.name), |o| o.1.to_owned());
        let renamed = other.map_or(&[][..], |o| o.3);
        let mut preludes: Vec<String> = Vec::new();
        match other {
            Some((_, _, "", _)) => {}
            Some((_, _, header, _)) => preludes.push(includes(&[header])),
            None => {
                let wanted =
                    regex::Regex::new(&format!(r"struct\s+{}\s*\{{", layout.name)).unwrap();
                let found = headers.iter().filter(|h| wanted.is_match(&h.text));
                preludes.extend(found.map(|h| includes(&[&h.name])));
            }
        }
        preludes.push(format!("#include <stddef.h>\n{libc}"));
        let asserts = assertions(layout, &c_type, renamed);
        // The last of them says whether the header has the structure at all.
        let mut texts: Vec<String> = asserts.iter().map(|(_, text)| text.clone()).collect();
        texts.push(format!("_Static_assert(sizeof({c_type}) > 0, \"\");"));
        // Several headers may have a structure of this name: the one that fits best is meant.
        let mut best: Option<Vec<Verdict>> = None;
        for prelude in &preludes {
            let mut verdicts = judge(&folder, "layout.c", prelude, &texts);
            if verdicts.pop() != Some(Verdict::Holds) {
                continue;
            }
            let bad = |v: &[Verdict]| v.iter().filter(|v| **v != Verdict::Holds).count();
            if best.as_ref().is_none_or(|best| bad(&verdicts) < bad(best)) {
                best = Some(verdicts);
            }
            if best.as_ref().is_some_and(|best| bad(best) == 0) {
                break;
            }
        }
        let Some(verdicts) = best else {
            lacking.push(layout.name);
            continue;
        };
        compared += 1;
        for ((what, text), verdict) in asserts.iter().zip(verdicts) {
            match verdict {
                Verdict::Holds => members += 1,
                Verdict::Wrong => wrong.push(format!("{what}: {text}")),
                Verdict::Absent => unknown.push(what.clone()),
            }
        }
    }
    println!("{compared} structures compared, {members} sizes and members");
    println!("not in the headers: {}", first(&lacking));
    println!("members not in the headers: {}", first(&unknown));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        compared * 10 >= all.len() * 6,
        "{compared} of {} compared",
        all.len()
    );
    assert!(unknown.len() * 6 <= members, "{unknown:?}");
}

/// Constants of which a header says another value, which is not meant here.
const OTHER_VALUES: &[(&str, &str)] = &[
    (
        "EM_AVR32",
        "libc has the registered number; the kernel had its own while it knew the machine",
    ),
    (
        "F_GETLK64",
        "libc has no command of its own for it where longs have 64 bits; the kernel has",
    ),
    ("F_SETLK64", "as F_GETLK64"),
    ("F_SETLKW64", "as F_GETLK64"),
    ("TEE_MAX_ARG_SIZE", "newer kernels allow more"),
];

/// A list's length and its first entries.
fn first<T: std::fmt::Debug>(list: &[T]) -> String {
    let shown = &list[..list.len().min(20)];
    format!("{}, first of them {shown:?}", list.len())
}

#[test]
fn constants_are_those_of_the_headers() {
    let folder = Folder::new();
    let mut values: BTreeSet<(String, i64)> = BTreeSet::new();
    for set in rrapper::constants::sets() {
        values.extend(set.names().map(|(name, value)| (name.to_owned(), value)));
    }
    for table in [
        include_str!("../src/constants/errno.tbl"),
        include_str!("../src/constants/signals.tbl"),
    ] {
        let rows = table
            .lines()
            .filter(|l| !l.starts_with('#') && !l.trim().is_empty());
        for row in rows {
            let mut words = row.split_whitespace();
            let (name, value) = (words.next().unwrap(), words.next().unwrap());
            values.insert((name.to_owned(), value.parse().unwrap()));
        }
    }
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let values: Vec<(String, i64)> = values.into_iter().filter(|v| is_name(&v.0)).collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, (name, _)) in values.iter().enumerate() {
        by_name.entry(name).or_default().push(index);
    }
    let assert = |index: usize| {
        let (name, value) = &values[index];
        let full = format!(
            "(unsigned long long)(long long)({name}) == {}ull",
            *value as u64
        );
        let half = format!(
            "{} && (unsigned)({name}) == {}u && (unsigned long long)(long long)({name}) + 0x80000000ull < 0x180000000ull",
            u8::from((i64::from(i32::MIN)..1 << 32).contains(value)),
            *value as u32
        );
        format!("_Static_assert({full} || ({half}), \"\");")
    };
    let mut verdicts = vec![Verdict::Absent; values.len()];
    let mut settle = |index: usize, verdict: Verdict| match (verdicts[index], verdict) {
        (Verdict::Holds, _) | (_, Verdict::Absent) => {}
        _ => verdicts[index] = verdict,
    };
    let word = regex::Regex::new(r"[A-Za-z_][A-Za-z0-9_]*").unwrap();
    for header in &kernel_headers(&folder) {
        let words: HashSet<&str> = word.find_iter(&header.text).map(|m| m.as_str()).collect();
        let here: BTreeSet<usize> = words
            .iter()
            .filter_map(|w| by_name.get(w))
            .flatten()
            .copied()
            .collect();
        if here.is_empty() {
            continue;
        }
        let asserts: Vec<String> = here.iter().map(|&i| assert(i)).collect();
        let found = judge(&folder, "constants.c", &includes(&[&header.name]), &asserts);
        here.iter()
            .zip(found)
            .for_each(|(&i, verdict)| settle(i, verdict));
    }
    // libc's constants may be libc's own where the kernel has others: they count only where the kernel is silent.
    let left: Vec<usize> = (0..values.len())
        .filter(|&i| verdicts[i] == Verdict::Absent)
        .collect();
    let asserts: Vec<String> = left.iter().map(|&i| assert(i)).collect();
    let found = judge(&folder, "constants.c", &libc_prelude(), &asserts);
    left.iter()
        .zip(found)
        .for_each(|(&i, verdict)| verdicts[i] = verdict);

    let with = |wanted: Verdict| {
        let chosen = values
            .iter()
            .zip(&verdicts)
            .filter(move |(_, v)| **v == wanted);
        chosen
            .map(|((name, value), _)| format!("{name} {value:#x}"))
            .collect::<Vec<_>>()
    };
    let (right, wrong, absent) = (
        with(Verdict::Holds),
        with(Verdict::Wrong),
        with(Verdict::Absent),
    );
    println!("{} constants have the headers' value", right.len());
    println!("not in the headers: {}", first(&absent));
    let wrong: Vec<&String> = wrong
        .iter()
        .filter(|entry| {
            let name = entry.split(' ').next();
            !OTHER_VALUES.iter().any(|(other, _)| Some(*other) == name)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The rest is what newer kernels have, what no header shows to programs, and what there no longer is.
    let share = right.len() * 100 / values.len();
    println!("{share} % of the constants are in the headers");
    assert!(
        share >= 75,
        "only {share} % of the constants are in the headers"
    );
}
