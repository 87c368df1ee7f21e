//! Whether a call can wait, for how long, and what else its flags ask for: locks, descriptors, data.

use super::Made;
use super::creation::open_flags;
use super::target::Target;
use crate::syscall::Memory;
use crate::syscall::plausible::{Facts, FileType};

/// `SPLICE_F_NONBLOCK` of linux/splice.h.
const SPLICE_NONBLOCK: u64 = 2;

/// `GRND_NONBLOCK` of linux/random.h; so many bytes come at once, whatever the flags: random(7).
const RANDOM_NONBLOCK: u64 = 1;
const RANDOM_AT_ONCE: u64 = 256;

/// The operations of futex(2) that wait: FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI,
/// FUTEX_LOCK_PI2.
const FUTEX_WAITS: [u64; 5] = [0, 6, 9, 11, 13];
const FUTEX_OPERATION: u64 = 0x7f;

/// The commands of fcntl(2) that ask for a lock, and whether they wait for it.
const LOCKS: [(i32, bool); 4] = [
    (libc::F_SETLK, false),
    (libc::F_SETLKW, true),
    (libc::F_OFD_SETLK, false),
    (libc::F_OFD_SETLKW, true),
];

pub(super) fn note(made: &Made<'_>, targets: &[Target], facts: &mut Facts) {
    match made.name() {
        "open" | "openat" | "openat2" | "creat" => {
            facts.nonblocking = open_flags(made) & libc::O_NONBLOCK != 0;
            let is_slow = matches!(facts.file, Some(FileType::Fifo | FileType::Terminal));
            facts.waits = is_slow && !facts.nonblocking;
        }
        "fcntl" => {
            let command = made.arg(1) as i32;
            let lock = LOCKS.iter().find(|(name, _)| *name == command);
            if let Some((_, waits)) = lock.filter(|_| is_lock(made)) {
                (facts.locks, facts.waits, facts.nonblocking) = (true, *waits, !waits);
            }
            facts.duplicates = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&command);
        }
        "flock" => {
            let operation = made.arg(1) as i32;
            facts.locks = operation & (libc::LOCK_SH | libc::LOCK_EX) != 0;
            facts.nonblocking = facts.locks && operation & libc::LOCK_NB != 0;
            facts.waits = facts.locks && !facts.nonblocking;
        }
        "lseek" => {
            facts.seeks_data = [libc::SEEK_DATA, libc::SEEK_HOLE].contains(&(made.arg(2) as i32));
        }
        "poll" => facts.waits = made.arg(2) as i32 != 0,
        "epoll_wait" | "epoll_pwait" => facts.waits = made.arg(3) as i32 != 0,
        "ppoll" => facts.waits = is_time(made, made.arg(2)),
        "select" | "pselect6" => facts.waits = is_time(made, made.arg(4)),
        "epoll_pwait2" => facts.waits = is_time(made, made.arg(3)),
        "rt_sigtimedwait" => {
            facts.waits = is_time(made, made.arg(2));
            facts.timed = made.arg(2) != 0;
        }
        "nanosleep" | "clock_nanosleep" | "pause" | "rt_sigsuspend" | "io_getevents"
        | "io_pgetevents" | "request_key" => facts.waits = true,
        "wait4" | "waitid" => {
            facts.waits = made.named("options") as i32 & libc::WNOHANG == 0;
        }
        "futex" => {
            facts.waits = FUTEX_WAITS.contains(&(made.arg(1) & FUTEX_OPERATION));
            facts.timed = facts.waits && made.arg(3) != 0;
        }
        "futex_wait" => (facts.waits, facts.timed) = (true, made.arg(4) != 0),
        "futex_waitv" => (facts.waits, facts.timed) = (true, made.arg(3) != 0),
        "semop" | "semtimedop" => {
            facts.nonblocking = has_operation_without_waiting(made);
            facts.waits = !facts.nonblocking;
            facts.timed = made.name() == "semtimedop" && made.arg(3) != 0;
        }
        "msgsnd" | "msgrcv" => {
            facts.nonblocking = made.named("msgflg") as i32 & libc::IPC_NOWAIT != 0;
            facts.waits = !facts.nonblocking;
        }
        "mq_timedsend" | "mq_timedreceive" => {
            facts.nonblocking = targets.iter().any(is_nonblocking);
            facts.waits = !facts.nonblocking;
            facts.timed = made.arg(4) != 0;
        }
        "getrandom" => {
            facts.nonblocking = made.arg(2) & RANDOM_NONBLOCK != 0;
            facts.waits = made.arg(1) > RANDOM_AT_ONCE;
        }
        "syslog" => facts.waits = made.arg(0) == 2,
        name if is_transfer(made) => {
            let flags = made.named("flags");
            let asked = match name {
                "splice" | "tee" | "vmsplice" => flags & SPLICE_NONBLOCK != 0,
                _ => flags as i32 & libc::MSG_DONTWAIT != 0 && targets.iter().any(is_socket),
            };
            let slow = || targets.iter().filter(|target| is_slow(target));
            let never = |target: &Target| asked || is_nonblocking(target);
            facts.nonblocking = slow().any(|target| never(target) || target.is_limited);
            facts.waits = slow().any(|target| !never(target));
        }
        _ => {}
    }
}

/// Whether a call moves data or connections through its descriptors.
fn is_transfer(made: &Made<'_>) -> bool {
    let moves = made.known.moves_data().is_some() || made.known.moves_messages();
    moves
        || matches!(
            made.name(),
            "accept"
                | "accept4"
                | "connect"
                | "copy_file_range"
                | "sendfile"
                | "splice"
                | "tee"
                | "vmsplice"
        )
}

/// Whether calls on a file can wait.
fn is_slow(target: &Target) -> bool {
    !matches!(
        target.file,
        None | Some(FileType::Regular | FileType::Directory | FileType::Symlink)
    )
}

fn is_socket(target: &Target) -> bool {
    matches!(target.file, Some(FileType::Socket(_)))
}

fn is_nonblocking(target: &Target) -> bool {
    let flags = target.open.map_or(0, |(flags, _)| flags);
    flags & libc::O_NONBLOCK != 0
}

/// Whether a pointer to a time stands for any: a null pointer for no limit.
fn is_time(made: &Made<'_>, address: u64) -> bool {
    let seconds = made.word(address);
    let rest = made.word(address.wrapping_add(8));
    address == 0 || seconds != Some(0) || rest != Some(0)
}

/// Whether the struct flock asks for a lock, rather than giving one back.
fn is_lock(made: &Made<'_>) -> bool {
    let kind = made.word(made.arg(2)).unwrap_or(0) as i16;
    i32::from(kind) != libc::F_UNLCK
}

/// Whether one of the operations of semop(2) has `IPC_NOWAIT`: struct sembuf has the flags at 4, and 6 bytes.
fn has_operation_without_waiting(made: &Made<'_>) -> bool {
    const SIZE: u64 = 6;
    // The kernel's limit is 500 by default, and 1000 of these are enough for any.
    let all = (0..made.arg(2).min(1000)).map(|n| made.arg(1).wrapping_add(n * SIZE));
    let mut flags = all.map(|operation| {
        let mut bytes = [0; 2];
        made.memory().read(operation.wrapping_add(4), &mut bytes);
        i32::from(i16::from_le_bytes(bytes))
    });
    flags.any(|flags| flags & libc::IPC_NOWAIT != 0)
}
