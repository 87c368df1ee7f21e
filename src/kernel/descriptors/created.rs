//! The descriptors that calls create: whether exec closes them, and the flags that fdinfo shows of them.
//!
//! Sources: fs/open.c (`build_open_flags`, `do_dentry_open`), fs/anon_inodes.c, net/socket.c, and the
//! places in the kernel that make each of the others.

use crate::kernel::memory::{read_i32, read_u64};
use crate::recording::{CallEvent, ChunkMemory, LeftMemory};
use crate::syscall::{self, Memory};

/// `O_LARGEFILE`, which every open file of a 64-bit process has; libc calls it 0.
pub(super) const LARGEFILE: i32 = 0o100_000;

/// A new descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewDescriptor {
    pub cloexec: bool,
    pub flags: i32,
}

impl NewDescriptor {
    /// `flags` as open(2) takes them.
    fn opened(flags: i32) -> NewDescriptor {
        // openat2(2) has no use for O_LARGEFILE with O_PATH, and drops all but these.
        const WITH_PATH: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        const ONCE: i32 =
            libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC | libc::O_CLOEXEC;
        NewDescriptor {
            cloexec: flags & libc::O_CLOEXEC != 0,
            flags: if flags & libc::O_PATH != 0 {
                flags & WITH_PATH
            } else {
                flags & !ONCE | LARGEFILE
            },
        }
    }

    /// A file that the kernel itself opens for a call, with `flags` as open(2) takes them.
    fn inside(flags: i32) -> NewDescriptor {
        let NewDescriptor { cloexec, flags } = NewDescriptor::opened(flags);
        NewDescriptor {
            cloexec,
            flags: flags & !LARGEFILE,
        }
    }

    /// A socket or an anonymous inode. The many names of `O_CLOEXEC` and `O_NONBLOCK` have the same values.
    fn anonymous(mode: i32, flags: i32) -> NewDescriptor {
        NewDescriptor {
            cloexec: flags & libc::O_CLOEXEC != 0,
            flags: mode | flags & libc::O_NONBLOCK,
        }
    }

    /// A descriptor that exec closes if flag 1 is set.
    fn with_flag_1(mode: i32, flags: i32) -> NewDescriptor {
        NewDescriptor {
            cloexec: flags & 1 != 0,
            flags: mode,
        }
    }

    fn closed_by_exec(flags: i32) -> NewDescriptor {
        NewDescriptor {
            cloexec: true,
            flags,
        }
    }
}

/// The new descriptor that a call returned; `None` where it returned none, or an existing one.
pub(super) fn new_descriptor(call: &CallEvent) -> Option<NewDescriptor> {
    const RDWR: i32 = libc::O_RDWR;
    let arg = |index: usize| call.args[index] as i32;
    Some(match i64::from(call.nr) {
        libc::SYS_open => NewDescriptor::opened(arg(1)),
        libc::SYS_openat | libc::SYS_open_by_handle_at => NewDescriptor::opened(arg(2)),
        libc::SYS_creat => NewDescriptor::opened(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC),
        libc::SYS_openat2 => {
            let mut how = [0; 8];
            ChunkMemory(&call.ins).read(call.args[2], &mut how);
            NewDescriptor::opened(u64::from_le_bytes(how) as i32)
        }
        libc::SYS_socket => NewDescriptor::anonymous(RDWR, arg(1)),
        libc::SYS_accept4 => NewDescriptor::anonymous(RDWR, arg(3)),
        libc::SYS_accept
        | libc::SYS_eventfd
        | libc::SYS_epoll_create
        // The kernel keeps none of its flags but the one for exec.
        | libc::SYS_io_uring_setup => NewDescriptor::anonymous(RDWR, 0),
        libc::SYS_eventfd2 | libc::SYS_timerfd_create | libc::SYS_userfaultfd => {
            let at = usize::from(call.nr != libc::SYS_userfaultfd as u32);
            NewDescriptor::anonymous(RDWR, arg(at))
        }
        libc::SYS_epoll_create1 => NewDescriptor::anonymous(RDWR, arg(0) & libc::O_CLOEXEC),
        libc::SYS_signalfd | libc::SYS_signalfd4 if arg(0) != -1 => return None,
        libc::SYS_signalfd => NewDescriptor::anonymous(RDWR, 0),
        libc::SYS_signalfd4 => NewDescriptor::anonymous(RDWR, arg(3)),
        libc::SYS_inotify_init => NewDescriptor::anonymous(libc::O_RDONLY, 0),
        libc::SYS_inotify_init1 => NewDescriptor::anonymous(libc::O_RDONLY, arg(0)),
        libc::SYS_fanotify_init => NewDescriptor {
            cloexec: arg(0) & libc::FAN_CLOEXEC as i32 != 0,
            flags: match arg(0) & libc::FAN_NONBLOCK as i32 {
                0 => RDWR,
                _ => RDWR | libc::O_NONBLOCK,
            },
        },
        libc::SYS_memfd_create => NewDescriptor::with_flag_1(RDWR | LARGEFILE, arg(1)),
        libc::SYS_memfd_secret => NewDescriptor::anonymous(RDWR | LARGEFILE, arg(0) & libc::O_CLOEXEC),
        libc::SYS_perf_event_open => NewDescriptor {
            cloexec: call.args[4] & PERF_FLAG_FD_CLOEXEC != 0,
            flags: RDWR,
        },
        // Its flag for threads is O_EXCL.
        libc::SYS_pidfd_open => {
            NewDescriptor::closed_by_exec(RDWR | arg(1) & (libc::O_NONBLOCK | libc::O_EXCL))
        }
        libc::SYS_pidfd_getfd => NewDescriptor::closed_by_exec(RDWR),
        libc::SYS_mq_open => NewDescriptor::closed_by_exec(NewDescriptor::inside(arg(1)).flags),
        libc::SYS_landlock_create_ruleset if arg(2) == 0 => NewDescriptor::closed_by_exec(RDWR),
        libc::SYS_fsopen => NewDescriptor::with_flag_1(RDWR, arg(1)),
        libc::SYS_fspick => NewDescriptor::with_flag_1(RDWR, arg(2)),
        libc::SYS_fsmount => NewDescriptor::with_flag_1(libc::O_PATH, arg(1)),
        libc::SYS_open_tree | OPEN_TREE_ATTR => NewDescriptor::opened(libc::O_PATH | arg(2) & libc::O_CLOEXEC),
        libc::SYS_ioctl | libc::SYS_bpf => return by_request(call),
        _ => return None,
    })
}

/// The size of a `struct mmsghdr`.
const MMSGHDR: u64 = 64;

const PERF_FLAG_FD_CLOEXEC: u64 = 8;
const OPEN_TREE_ATTR: i64 = 467;

fn by_request(call: &CallEvent) -> Option<NewDescriptor> {
    // Nearly all requests answer 0, which is hardly ever the number of a new descriptor.
    if call.ret.is_none_or(|ret| ret <= 0) {
        return None;
    }
    if i64::from(call.nr) == libc::SYS_ioctl && call.args[1] & 0xffff_ffff == libc::TIOCGPTPEER {
        return Some(NewDescriptor::inside(call.args[2] as i32));
    }
    let known = syscall::by_nr(call.nr.into())?.resolve(&call.args);
    let mode = match i64::from(call.nr) {
        libc::SYS_bpf => libc::O_RDWR,
        // Namespaces, for the most part.
        _ => libc::O_RDONLY,
    };
    known
        .returns_fd()
        .then(|| NewDescriptor::closed_by_exec(mode))
}

/// The descriptors that a call created and wrote to its outputs, rather than or besides returning one: pipe(2),
/// socketpair(2), those passed by `SCM_RIGHTS`, pidfds of clone(2).
pub fn output_descriptors(call: &CallEvent) -> Vec<i32> {
    let left = LeftMemory {
        ins: &call.ins,
        outs: &call.outs,
    };
    match i64::from(call.nr) {
        libc::SYS_pipe | libc::SYS_pipe2 => numbers(&left, call.args[0], 2),
        libc::SYS_socketpair => numbers(&left, call.args[3], 2),
        libc::SYS_recvmsg => passed(&left, call.args[1]),
        libc::SYS_clone => pidfd(&left, call.args[0], call.args[2]),
        libc::SYS_clone3 => {
            let field = |at: u64| read_u64(&left, call.args[0].wrapping_add(at)).unwrap_or(0);
            pidfd(&left, field(0), field(8))
        }
        libc::SYS_recvmmsg => {
            let count = call.ret.and_then(|ret| u64::try_from(ret).ok());
            // The kernel takes no more messages at once.
            let count = count.unwrap_or(0).min(1024);
            let headers = (0..count).map(|i| call.args[1].wrapping_add(i * MMSGHDR));
            headers.flat_map(|at| passed(&left, at)).collect()
        }
        _ => Vec::new(),
    }
}

/// The descriptors that a call passes with one of its messages.
pub(in crate::kernel) fn passed_descriptors(call: &CallEvent, message: usize) -> Vec<i32> {
    let memory = ChunkMemory(&call.ins);
    match i64::from(call.nr) {
        libc::SYS_sendmsg => passed(&memory, call.args[1]),
        libc::SYS_sendmmsg => {
            let header = call.args[1].wrapping_add(message as u64 * MMSGHDR);
            passed(&memory, header)
        }
        _ => Vec::new(),
    }
}

/// The descriptor of `CLONE_PIDFD`.
fn pidfd(memory: &dyn Memory, flags: u64, at: u64) -> Vec<i32> {
    match flags & libc::CLONE_PIDFD as u64 {
        0 => Vec::new(),
        _ => numbers(memory, at, 1),
    }
}

fn numbers(memory: &dyn Memory, at: u64, count: usize) -> Vec<i32> {
    let each = (0..count as u64).map_while(|i| read_i32(memory, at.wrapping_add(i * 4)));
    each.collect()
}

/// The descriptors in the control messages of a `struct msghdr`.
fn passed(memory: &dyn Memory, header: u64) -> Vec<i32> {
    const HEADER: u64 = 16;
    const SCM_PIDFD: i32 = 4;
    /// The kernel's limit of descriptors in a message (`SCM_MAX_FD`).
    const MOST: u64 = 253;
    let mut all = Vec::new();
    let field = |at: u64| read_u64(memory, header.wrapping_add(at));
    let (Some(control), Some(len)) = (field(32), field(40)) else {
        return all;
    };
    let mut at = 0u64;
    while at.saturating_add(HEADER) <= len && (all.len() as u64) < MOST {
        let base = control.wrapping_add(at);
        let (Some(size), Some(level), Some(kind)) = (
            read_u64(memory, base),
            read_i32(memory, base.wrapping_add(8)),
            read_i32(memory, base.wrapping_add(12)),
        ) else {
            break;
        };
        if size < HEADER || size > len - at {
            break;
        }
        if level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
            let count = ((size - HEADER) / 4).min(MOST) as usize;
            all.extend(numbers(memory, base.wrapping_add(HEADER), count));
        }
        at = at.saturating_add(size.checked_next_multiple_of(8).unwrap_or(len));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Effect;
    use crate::syscall::Replay;

    #[test]
    fn every_call_that_returns_a_descriptor_is_known() {
        const OTHERS: [&str; 4] = ["dup", "dup2", "dup3", "fcntl"];
        let mut seen = 0;
        for nr in 0..1024u32 {
            let Some(known) = syscall::by_nr(nr.into()) else {
                continue;
            };
            let mut call = CallEvent {
                nr,
                args: [0; 6],
                ip: 0,
                ret: Some(7),
                ins: Vec::new(),
                outs: Vec::new(),
                effect: Effect::None,
            };
            if known.name.starts_with("signalfd") {
                call.args[0] = u64::MAX;
            }
            let known = known.resolve(&call.args);
            let recorded = known.replay != Replay::Unsupported;
            if !recorded || !known.returns_fd() || OTHERS.contains(&known.name) {
                continue;
            }
            assert!(new_descriptor(&call).is_some(), "{}", known.name);
            seen += 1;
        }
        assert!(seen > 25, "{seen}");
    }
}
