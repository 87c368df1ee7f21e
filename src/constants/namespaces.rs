//! The flags of namespaces: clone(2), linux/sched.h.

/// A new time namespace. For clone(2) the bit is a part of the exit signal.
pub const CLONE_NEWTIME: u64 = 0x80;

/// New namespaces of all kinds.
pub const NAMESPACES: u64 = CLONE_NEWTIME
    | (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET) as u64;
