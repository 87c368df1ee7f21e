//! Dropping the privileges of a process in a sandbox, and its resource limits.

use super::{Error, Limits, Result};
use crate::tracee::Stopped;
use std::io;
use std::sync::LazyLock;

/// Capabilities that do no harm outside of a sandbox, and that root's programs need: `CAP_CHOWN`, `DAC_OVERRIDE`,
/// `DAC_READ_SEARCH`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `NET_BIND_SERVICE`
/// (linux/capability.h).
const HARMLESS: u64 = 0x1ff | 1 << 10;

/// What a recorded program of root's keeps besides: without `CAP_SETFCAP` it could map root into no user namespace of its own.
const RECORDED: u64 = HARMLESS | 1 << 31;

/// The capabilities of a recorded program.
pub(super) fn of_recorded() -> u64 {
    ours(RECORDED)
}

/// The harmless capabilities that rrapper itself has.
fn kept() -> u64 {
    ours(HARMLESS)
}

/// Those of these capabilities that rrapper has, if it is root.
fn ours(wanted: u64) -> u64 {
    static OURS: LazyLock<u64> = LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let ours = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        ours.unwrap_or(0)
    });
    match nix::unistd::geteuid().is_root() {
        true => *OURS & wanted,
        false => 0,
    }
}

/// Has a task of root's be another user's.
pub(super) fn become_user(task: &mut Stopped, (uid, gid): (u32, u32)) -> Result<()> {
    let (uid, gid) = (u64::from(uid), u64::from(gid));
    let mut remote = task.remote_at_boundary()?;
    let calls = [
        (libc::SYS_setgroups, [0; 6]),
        (libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0]),
        (libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]),
        // Its files in /proc are his, too.
        (
            libc::SYS_prctl,
            [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0, 0],
        ),
    ];
    for (nr, args) in calls {
        let ret = remote.call(nr, args)?;
        if ret < 0 {
            let error = io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::refused("become the user who recorded", error));
        }
    }
    Ok(remote.finish()?)
}

/// Leaves a task only the harmless privileges of the caller, or none if it is another user's.
pub(super) fn drop_privileges(task: &mut Stopped, user: Option<(u32, u32)>) -> Result<()> {
    const VERSION_3: u64 = 0x2008_0522;
    let is_other = user.is_some_and(|(uid, _)| uid != 0);
    let keep = if is_other { 0 } else { kept() as u32 };
    let mut remote = task.remote_at_boundary()?;
    let header = remote.put(&VERSION_3.to_le_bytes())?;
    // Effective, permitted and inheritable, of the lower 32 and then of the upper ones.
    let sets = [keep, keep, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    let sets = remote.put(&sets)?;
    let calls = [
        // No executed program regains a capability.
        (
            libc::SYS_prctl,
            [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0],
        ),
        (libc::SYS_capset, [header, sets, 0, 0, 0, 0]),
    ];
    for (nr, args) in calls {
        let ret = remote.call(nr, args)?;
        if ret < 0 {
            let error = io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::refused("give up its privileges", error));
        }
    }
    remote.finish()?;
    Ok(())
}

/// Limits that the kernel counts for all processes of a user: POSIX message queues (bytes), pending signals with timers, and
/// locked memory (bytes). Each with what a sandbox gets at least: two queues of the usual size, what large programs use,
/// and what libraries lock for secrets. A lower limit stays.
const OF_USER: [(u32, u64); 3] = [
    (libc::RLIMIT_MSGQUEUE, 200 << 10),
    (libc::RLIMIT_SIGPENDING, 1024),
    (libc::RLIMIT_MEMLOCK, 256 << 10),
];

/// The part of these limits that a sandbox gets.
const PART: u64 = 8;

pub(super) fn limit(task: &mut Stopped, limits: &Limits) -> Result<()> {
    // A limit of one byte prevents core files, and also the machine's core dump program: see core(5).
    const NO_CORE: u64 = 1;
    // The first signal for too much processor time can be caught, the second one cannot.
    let cpu = limits.cpu_seconds;
    for (resource, soft, hard) in [
        (libc::RLIMIT_CPU, cpu, cpu.saturating_add(1)),
        (libc::RLIMIT_DATA, limits.data_bytes, limits.data_bytes),
        (libc::RLIMIT_NPROC, limits.processes, limits.processes),
        (libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (libc::RLIMIT_CORE, NO_CORE, NO_CORE),
    ] {
        task.limit(resource, soft, hard)?;
    }
    for (resource, least) in OF_USER {
        let part = task.soft_limit(resource)? / PART;
        let bounded = part.max(least);
        task.limit(resource, bounded, bounded)?;
    }
    Ok(())
}
