//! Whether a call takes memory that it keeps: in the process, or in the kernel for the process.

use super::Made;

/// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` of asm-generic/mman-common.h.
const POPULATE: [i32; 2] = [22, 23];

pub(super) fn is_taken(made: &Made<'_>) -> bool {
    match made.name() {
        // New mappings, and those that are cut in two.
        "mmap" | "mprotect" | "pkey_mprotect" | "mlock" | "mlock2" | "mlockall" | "shmat"
        | "remap_file_pages" | "map_shadow_stack" => true,
        "mremap" => made.arg(2) > made.arg(1),
        "brk" => made.arg(0) != 0,
        "madvise" => {
            let advice = made.arg(2) as i32;
            POPULATE.contains(&advice) || advice == libc::MADV_WILLNEED
        }
        // Tasks and what belongs to them.
        "fork" | "vfork" | "clone" | "clone3" | "execve" | "execveat" | "unshare" | "setns"
        | "setgroups" | "seccomp" => true,
        // Objects of the kernel, and what they hold.
        "pipe"
        | "pipe2"
        | "socketpair"
        | "epoll_ctl"
        | "timer_create"
        | "inotify_add_watch"
        | "fanotify_mark"
        | "io_setup"
        | "shmget"
        | "semget"
        | "msgget"
        | "semop"
        | "semtimedop"
        | "msgsnd"
        | "mq_timedsend"
        | "add_key"
        | "request_key"
        | "landlock_add_rule"
        | "landlock_restrict_self"
        | "mount"
        | "init_module"
        | "finit_module"
        | "bpf" => true,
        "sendto" | "sendmsg" | "sendmmsg" | "bind" | "connect" => true,
        _ => made.known.returns_fd(),
    }
}
