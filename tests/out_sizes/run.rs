//! Makes a call in a child process of its own, and says what it wrote and what the table says that it wrote.

use super::arena::{Arena, Now, Place, Then};
use super::setup::Setup;
use rrapper::strace;
use rrapper::syscall::{self, Memory, Syscall};
use rrapper::trace::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::path::Path;

/// One way to make a call.
pub struct Case {
    /// The call's name.
    pub call: &'static str,
    /// What is special about it.
    pub what: &'static str,
    /// Prepares what the call needs, and says its arguments.
    pub make: fn(&mut Setup) -> Vec<u64>,
    /// The error that it is to end with.
    pub errno: Option<i32>,
}

/// A part of a buffer: its number, and where in it.
pub type Spot = (usize, i64);

/// What one run of a case found.
#[derive(Debug, Default)]
pub struct Found {
    /// The raw return value.
    pub ret: i64,
    /// Whether something stood in for a device or a right that there is not.
    pub lacking: bool,
    /// Whether the table describes the call, in this variant.
    pub described: bool,
    /// The call's place in the table: the name and the commands.
    pub key: String,
    /// What was written where the table does not say so.
    pub stray: Vec<Spot>,
    /// What the table says is written, by region: where it begins, and which of its bytes were.
    pub regions: BTreeMap<Spot, Vec<bool>>,
    /// What encoding makes of the decoded arguments where that is not what the kernel wrote.
    pub unlike: Vec<String>,
    /// Why the case could not be run.
    pub failed: Option<String>,
}

/// How a call and each of its variants are told apart: `ioctl 0x5401`, `getsockopt 0x1 0xd`.
pub fn key_of(call: &'static Syscall, wanted: &Syscall) -> Option<String> {
    fn below(call: &Syscall, wanted: &Syscall) -> Option<String> {
        if std::ptr::eq(call, wanted) {
            return Some(String::new());
        }
        call.variants().find_map(|(commands, variant)| {
            let rest = below(variant, wanted)?;
            let command = commands.first().copied().unwrap_or(0);
            Some(format!(" {command:#x}{rest}"))
        })
    }
    Some(format!("{}{}", call.name, below(call, wanted)?))
}

/// Runs a case in a child process, in a folder of its own.
pub fn run(case: &Case, folder: &Path, place: Place, poison: u8) -> Found {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(made, 0);
    // SAFETY: the child uses nothing that another thread may have had locked but the allocator, which libc's fork
    // takes care of, and ends without running anything of the test's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: this process's own.
        unsafe { libc::alarm(20) };
        let report = std::panic::catch_unwind(|| inside(case, folder, place, poison));
        let report = report.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
            format!("failed {}\n", text.unwrap_or_default().replace('\n', " "))
        });
        // SAFETY: the pipe's end is ours; the process ends without running what the parent would run, too.
        unsafe {
            std::fs::File::from_raw_fd(ends[1])
                .write_all(report.as_bytes())
                .ok();
            libc::_exit(0);
        }
    }
    // SAFETY: both ends are ours.
    let mut reader = unsafe {
        libc::close(ends[1]);
        std::fs::File::from_raw_fd(ends[0])
    };
    let mut report = String::new();
    reader.read_to_string(&mut report).expect("a report");
    let mut status = 0;
    // SAFETY: our child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    let mut found = read(&report);
    if status != 0 || report.is_empty() {
        found.failed = Some(format!("the child ended with {status:#x} {report}"));
    }
    found
}

/// The report, line by line.
fn read(report: &str) -> Found {
    let mut found = Found::default();
    for line in report.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split(' ').map_while(|n| n.parse::<i64>().ok());
        let mut number = || numbers.next().expect("a number");
        match word {
            "ret" => found.ret = number(),
            "lacking" => found.lacking = true,
            "key" => {
                found.key = rest.to_owned();
                found.described = true;
            }
            "stray" => found.stray.push((number() as usize, number())),
            "region" => {
                let spot = (number() as usize, number());
                let bits = rest.rsplit(' ').next().unwrap_or("");
                found
                    .regions
                    .insert(spot, bits.bytes().map(|b| b == b'#').collect());
            }
            "unlike" => found.unlike.push(rest.to_owned()),
            "failed" => found.failed = Some(rest.to_owned()),
            _ => panic!("{line}"),
        }
    }
    found
}

fn inside(case: &Case, folder: &Path, place: Place, poison: u8) -> String {
    std::env::set_current_dir(folder).expect("the folder");
    let call = syscall::by_name(case.call).expect(case.call);
    let mut setup = Setup::new(Arena::new(place, poison));
    let mut args = [0u64; 6];
    let made = (case.make)(&mut setup);
    args[..made.len()].copy_from_slice(&made);
    setup.arena.remember();
    // SAFETY: every pointer is into the arena or null, and each buffer is as large as the call is told.
    let ret = unsafe {
        let [a, b, c, d, e, f] = args;
        match libc::syscall(i64::from(call.nr), a, b, c, d, e, f) {
            -1 => -i64::from(*libc::__errno_location()),
            ret => ret,
        }
    };
    let changed = setup.arena.changed();
    let mut report = judge(call, &args, ret, &setup.arena, &changed);
    if setup.is_lacking() {
        report.push_str("lacking\n");
    }
    setup.clean(ret);
    report
}

fn judge(
    call: &'static Syscall,
    args: &[u64; 6],
    ret: i64,
    arena: &Arena,
    changed: &BTreeSet<u64>,
) -> String {
    let mut report = format!("ret {ret}\n");
    let resolved = call.resolve(args);
    if !resolved.described {
        return report;
    }
    let key = key_of(call, resolved).unwrap_or_else(|| format!("{} by _IOC", call.name));
    report.push_str(&format!("key {key}\n"));
    let then = Then(arena);
    let regions = resolved.outputs(args, ret, &then, &Now);
    let mut claimed = BTreeSet::new();
    for region in &regions {
        let range = region.addr..region.addr + region.len as u64;
        let bits: String = range
            .clone()
            .map(|a| if changed.contains(&a) { '#' } else { '.' })
            .collect();
        if let Some((slot, offset)) = arena.locate(region.addr)
            && arena.shows(region.addr)
        {
            report.push_str(&format!("region {slot} {offset} {bits}\n"));
        }
        claimed.extend(range);
    }
    for (slot, offset) in changed
        .difference(&claimed)
        .filter_map(|&addr| arena.locate(addr))
    {
        report.push_str(&format!("stray {slot} {offset}\n"));
    }
    for problem in round_trip(resolved, args, ret, arena, changed) {
        report.push_str(&format!("unlike {}\n", problem.replace('\n', " ")));
    }
    report
}

/// Decodes the call as strace would show it, reads that text back, encodes it, and compares with what was written.
fn round_trip(
    call: &'static Syscall,
    args: &[u64; 6],
    ret: i64,
    arena: &Arena,
    changed: &BTreeSet<u64>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let then = Then(arena);
    let values = call.decode(args, Some(ret), &then, &Now);
    let notes = call.notes(args, ret, &then, &Now);
    let text = |value: &Value| value.to_string();
    let read: Vec<Value> = values
        .iter()
        .map(|value| match strace::value_from_text(&text(value)) {
            Ok(read) => read,
            Err(error) => {
                problems.push(format!("{} is not read: {error}", text(value)));
                value.clone()
            }
        })
        .collect();
    for (source, values) in [("values", &values), ("text", &read)] {
        let whole = call.with_notes(values, &notes);
        let writes = match call.encode_outputs(args, &whole, ret, &then) {
            Ok(writes) => writes,
            Err(error) => {
                problems.push(format!("{source}: {error}"));
                continue;
            }
        };
        let mut told = BTreeMap::new();
        for (addr, bytes) in &writes {
            told.extend((*addr..).zip(bytes.iter().copied()));
        }
        for &addr in changed {
            let mut is = [0u8];
            Now.read(addr, &mut is);
            if told.get(&addr) != Some(&is[0]) {
                let (slot, offset) = arena.locate(addr).expect("a buffer");
                let said = told.get(&addr).map(|b| format!("{b:#x}"));
                problems.push(format!(
                    "{source}: buffer {slot} byte {offset} is {:#x}, encoded {said:?}: {}",
                    is[0],
                    values.iter().map(text).collect::<Vec<_>>().join(", ")
                ));
                break;
            }
        }
    }
    problems
}
