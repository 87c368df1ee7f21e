//! What a call creates, lets grow and writes.

use super::target::Target;
use super::{Files, Made, is_regular, is_write};
use crate::syscall::plausible::Facts;
use crate::world::is_changed_by;

/// `O_TMPFILE` without `O_DIRECTORY`.
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// `RENAME_NOREPLACE` of linux/fs.h.
const RENAME_NOREPLACE: u64 = 1;

pub(super) fn note(made: &Made<'_>, target: &Target, world: &Files, facts: &mut Facts) {
    match made.name() {
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => {
            open(made, target, facts);
            return;
        }
        "access" | "faccessat" | "faccessat2" => {
            facts.writes = made.named("mode") as i32 & libc::W_OK != 0;
            return;
        }
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink" | "symlinkat" | "link" | "linkat" => {
            facts.creates = target.is_absent || made.succeeded();
        }
        "rename" | "renameat" | "renameat2" => {
            // A name that there is is given another file.
            facts.creates = target.is_absent;
            facts.insists_on_new = made.named("flags") & RENAME_NOREPLACE != 0;
        }
        "setxattr" | "lsetxattr" | "fsetxattr" | "setxattrat" => {
            facts.creates = true;
            facts.insists_on_new = made.named("flags") as i32 & libc::XATTR_CREATE != 0;
        }
        // What another user has grows.
        "chown" | "lchown" | "fchown" | "fchownat" => facts.grows = true,
        "mq_open" => {
            let new = libc::O_CREAT | libc::O_EXCL;
            facts.insists_on_new = made.arg(1) as i32 & new == new;
        }
        "mmap" => {
            let has = |flag: i32| made.named("flags") as i32 & flag != 0;
            facts.insists_on_new = has(libc::MAP_FIXED_NOREPLACE);
            facts.locks = has(libc::MAP_LOCKED);
            return;
        }
        "ioctl" => return,
        _ => facts.grows = is_regular(target.file) && grows(made, target, world),
    }
    facts.writes = match is_write(made) {
        true => is_regular(target.file),
        false => is_changed_by(made.name()) || CHANGED_BY_TOO.contains(&made.name()),
    };
}

/// Calls that change files, which the world does not follow.
const CHANGED_BY_TOO: [&str; 7] = [
    "setxattrat",
    "removexattrat",
    "file_setattr",
    "acct",
    "mount",
    "futimesat",
    "swapon",
];

fn open(made: &Made<'_>, target: &Target, facts: &mut Facts) {
    let flags = open_flags(made);
    let has = |flag: i32| flags & flag != 0;
    facts.unnamed = has(TMPFILE);
    facts.insists_on_new = has(libc::O_CREAT) && has(libc::O_EXCL);
    let is_new = target.is_absent || facts.insists_on_new && made.succeeded();
    facts.creates = facts.unnamed || has(libc::O_CREAT) && is_new;
    let for_writing = flags & libc::O_ACCMODE != libc::O_RDONLY;
    facts.writes = for_writing || has(libc::O_TRUNC) || facts.creates;
}

/// The flags with which a call opens a file.
pub(super) fn open_flags(made: &Made<'_>) -> i32 {
    match made.name() {
        "open" => made.arg(1) as i32,
        "creat" => libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        "openat2" => made.word(made.arg(2)).unwrap_or(0) as i32,
        // openat, open_by_handle_at.
        _ => made.arg(2) as i32,
    }
}

/// Whether a call makes its regular file larger, or takes room for what is in it.
fn grows(made: &Made<'_>, target: &Target, world: &Files) -> bool {
    let (flags, offset) = target.open.unwrap_or_default();
    let size = target.size(world);
    let here = match flags & libc::O_APPEND {
        0 => Some(offset),
        _ => size,
    };
    // -1 stands for the file's own offset.
    let given = |at: usize| Some(made.arg(at)).filter(|&at| at as i64 >= 0).or(here);
    let pointed = |at: usize| made.word(made.arg(at)).or(here);
    let end = match made.name() {
        "write" | "writev" | "sendfile" => here,
        "pwrite64" | "pwritev" | "pwritev2" => given(3),
        "copy_file_range" | "splice" => pointed(3),
        "truncate" | "ftruncate" => return size.is_none_or(|size| made.arg(1) > size),
        "fallocate" => {
            const TAKES_NO_ROOM: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_COLLAPSE_RANGE;
            return made.arg(1) as i32 & TAKES_NO_ROOM == 0;
        }
        _ => return false,
    };
    match (end, size) {
        (Some(start), Some(size)) => start.saturating_add(made.amount()) > size,
        _ => true,
    }
}
