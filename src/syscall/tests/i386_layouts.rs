//! i386's structures, compared with a C compiler's reading of the kernel's headers, and with random bytes.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::syscall::layout::layouts_in;

const HEADERS: &str = "
    typedef unsigned long size_t;
    #include <asm/stat.h>
    #include <asm/statfs.h>
    #include <asm/signal.h>
    #include <asm/siginfo.h>
    #include <asm/poll.h>
    #include <asm/termbits.h>
    #include <asm/termios.h>
    #include <asm/ldt.h>
    #include <asm/msgbuf.h>
    #include <asm/sembuf.h>
    #include <asm/shmbuf.h>
    #include <linux/aio_abi.h>
    #include <linux/blkpg.h>
    #include <linux/blktrace_api.h>
    #include <linux/capability.h>
    #include <linux/cdrom.h>
    #include <linux/eventpoll.h>
    #include <linux/dqblk_xfs.h>
    #include <linux/fcntl.h>
    #include <linux/filter.h>
    #include <linux/fs.h>
    #include <linux/futex.h>
    #include <linux/hdreg.h>
    #include <linux/in.h>
    #include <linux/kexec.h>
    #include <linux/keyctl.h>
    #include <linux/landlock.h>
    #include <linux/loop.h>
    #include <linux/mount.h>
    #include <linux/mqueue.h>
    #include <linux/msg.h>
    #include <linux/openat2.h>
    #include <linux/prctl.h>
    #include <linux/ptrace.h>
    #include <linux/quota.h>
    #include <linux/resource.h>
    #include <linux/rtc.h>
    #include <linux/sched.h>
    #include <linux/sched/types.h>
    #include <linux/seccomp.h>
    #include <linux/sem.h>
    #include <linux/serial.h>
    #include <linux/stat.h>
    #include <linux/sysctl.h>
    #include <linux/sysinfo.h>
    #include <linux/time.h>
    #include <linux/times.h>
    #include <linux/time_types.h>
    #include <linux/timex.h>
    #include <linux/userfaultfd.h>
    #include <linux/utime.h>
    #include <linux/utsname.h>
    #undef sa_handler
    /* What the headers for programs do not have. */
    struct rt_sigaction { void *sa_handler; unsigned long sa_flags; void *sa_restorer; sigset_t sa_mask[2]; };
    struct old_sigaction { void *sa_handler; unsigned long sa_mask, sa_flags; void *sa_restorer; };
    struct sigset_arg { void *sigmask; unsigned long sigsetsize; };
    struct ifconf { int ifc_len; void *ifc_buf; };
    struct sockaddr { unsigned short sa_family; char sa_data[14]; };
    struct ifmap { unsigned long mem_start, mem_end; unsigned short base_addr; unsigned char irq, dma, port; };
    struct ifreq { char ifr_name[16]; union { struct sockaddr ifr_addr, ifr_dstaddr, ifr_broadaddr, ifr_netmask, ifr_hwaddr;
        short ifr_flags; int ifr_ifindex, ifr_metric, ifr_mtu, ifr_qlen; struct ifmap ifr_map;
        char ifr_slave[16], ifr_newname[16], ifr_data[16]; }; };
    struct rtentry { unsigned long rt_pad1; struct sockaddr rt_dst, rt_gateway, rt_genmask; unsigned short rt_flags;
        short rt_pad2; unsigned long rt_pad3; void *rt_pad4; short rt_metric; char *rt_dev;
        unsigned long rt_mtu, rt_window; unsigned short rt_irtt; };
    struct shm_info { int used_ids; unsigned long shm_tot, shm_rss, shm_swp, swap_attempts, swap_successes; };
    struct iovec { void *iov_base; unsigned long iov_len; };
    struct user_regs { long ebx, ecx, edx, esi, edi, ebp, eax, xds, xes, xfs, xgs, orig_eax, eip, xcs, eflags, esp, xss; };
    struct user_fpregs { long cwd, swd, twd, fip, fcs, foo, fos, st_space[20]; };
    /* The kernel's compat_if_dqblk, compat_fs_qfilestat and compat_fs_quota_stat say the same. */
    struct timespec64 { long long tv_sec, tv_nsec; };
    struct itimerspec64 { struct timespec64 it_interval, it_value; };
";

/// The type in C of each structure.
const TYPES: &[(&str, &str)] = &[
    ("timespec", "struct timespec"),
    ("timespec64", "struct timespec64"),
    ("utimespec", "struct timespec"),
    ("utimespec64", "struct timespec64"),
    ("itimerspec", "struct itimerspec"),
    ("itimerspec64", "struct itimerspec64"),
    ("timeval", "struct timeval"),
    ("itimerval", "struct itimerval"),
    ("timezone", "struct timezone"),
    ("utimbuf", "struct utimbuf"),
    ("tms", "struct tms"),
    ("oldstat", "struct __old_kernel_stat"),
    ("stat", "struct stat"),
    ("stat64", "struct stat64"),
    ("statx", "struct statx"),
    ("statx_timestamp", "struct statx_timestamp"),
    ("statfs", "struct statfs"),
    ("statfs64", "struct statfs64"),
    ("fsid", "__kernel_fsid_t"),
    ("pollfd", "struct pollfd"),
    ("sigaction", "struct rt_sigaction"),
    ("old_sigaction", "struct old_sigaction"),
    ("stack", "stack_t"),
    ("siginfo", "siginfo_t"),
    ("sigevent", "struct sigevent"),
    ("sigval", "sigval_t"),
    ("sigset_arg", "struct sigset_arg"),
    ("utsname", "struct new_utsname"),
    ("old_utsname", "struct old_utsname"),
    ("oldold_utsname", "struct oldold_utsname"),
    ("rlimit", "struct rlimit"),
    ("rlimit64", "struct rlimit64"),
    ("rusage", "struct rusage"),
    ("sysinfo", "struct sysinfo"),
    ("flock", "struct flock"),
    ("flock_get", "struct flock"),
    ("flock64", "struct flock64"),
    ("flock64_get", "struct flock64"),
    ("f_owner_ex", "struct f_owner_ex"),
    ("epoll_event", "struct epoll_event"),
    ("winsize", "struct winsize"),
    ("termios", "struct termios"),
    ("sched_attr", "struct sched_attr"),
    ("sched_param", "struct sched_param"),
    ("file_clone_range", "struct file_clone_range"),
    ("robust_list_head", "struct robust_list_head"),
    ("open_how", "struct open_how"),
    ("clone_args", "struct clone_args"),
    ("timex", "struct timex"),
    ("timex64", "struct __kernel_timex"),
    ("sembuf", "struct sembuf"),
    ("ifreq", "struct ifreq"),
    ("ifconf", "struct ifconf"),
    ("ifreq_addr", "struct ifreq"),
    ("ifreq_dstaddr", "struct ifreq"),
    ("ifreq_broadaddr", "struct ifreq"),
    ("ifreq_netmask", "struct ifreq"),
    ("ifreq_hwaddr", "struct ifreq"),
    ("ifreq_flags", "struct ifreq"),
    ("ifreq_ifindex", "struct ifreq"),
    ("ifreq_metric", "struct ifreq"),
    ("ifreq_mtu", "struct ifreq"),
    ("ifreq_qlen", "struct ifreq"),
    ("ifreq_slave", "struct ifreq"),
    ("ifreq_newname", "struct ifreq"),
    ("ifreq_map", "struct ifreq"),
    ("ifreq_name", "struct ifreq"),
    ("ifreq_port", "struct ifreq"),
    ("ifreq_tun", "struct ifreq"),
    ("ifmap", "struct ifmap"),
    ("rtentry", "struct rtentry"),
    ("group_req", "struct group_req"),
    ("group_source_req", "struct group_source_req"),
    ("serial_struct", "struct serial_struct"),
    ("rtc_pll_info", "struct rtc_pll_info"),
    ("prctl_mm_map", "struct prctl_mm_map"),
    ("blkpg_partition", "struct blkpg_partition"),
    ("blkpg_ioctl_arg", "struct blkpg_ioctl_arg"),
    ("blk_user_trace_setup", "struct blk_user_trace_setup"),
    ("hd_geometry", "struct hd_geometry"),
    ("loop_info", "struct loop_info"),
    ("loop_info64", "struct loop_info64"),
    ("seccomp_notif", "struct seccomp_notif"),
    ("seccomp_notif_resp", "struct seccomp_notif_resp"),
    ("uffdio_copy", "struct uffdio_copy"),
    ("ipc_perm", "struct ipc64_perm"),
    ("ipc_perm_set", "struct ipc64_perm"),
    ("shmid_ds", "struct shmid64_ds"),
    ("shmid_ds_set", "struct shmid64_ds"),
    ("shminfo", "struct shminfo64"),
    ("shm_info", "struct shm_info"),
    ("semid_ds", "struct semid64_ds"),
    ("semid_ds_set", "struct semid64_ds"),
    ("seminfo", "struct seminfo"),
    ("msqid_ds", "struct msqid64_ds"),
    ("msqid_ds_set", "struct msqid64_ds"),
    ("msginfo", "struct msginfo"),
    ("mq_attr", "struct mq_attr"),
    ("mq_attr_open", "struct mq_attr"),
    ("if_dqblk", "struct if_dqblk"),
    ("if_nextdqblk", "struct if_nextdqblk"),
    ("if_dqinfo", "struct if_dqinfo"),
    ("fs_disk_quota", "struct fs_disk_quota"),
    ("fs_qfilestat", "struct fs_qfilestat"),
    ("fs_quota_stat", "struct fs_quota_stat"),
    ("fs_quota_statv", "struct fs_quota_statv"),
    ("ustat", "struct ustat"),
    (
        "landlock_path_beneath_attr",
        "struct landlock_path_beneath_attr",
    ),
    ("mount_attr", "struct mount_attr"),
    ("kexec_segment", "struct kexec_segment"),
    ("sysctl_args", "struct __sysctl_args"),
    ("sock_fprog", "struct sock_fprog"),
    ("sock_fprog_seccomp", "struct sock_fprog"),
    ("keyctl_kdf_params", "struct keyctl_kdf_params"),
    ("iovec_addr", "struct iovec"),
    ("iovec_remote", "struct iovec"),
    ("regset", "struct iovec"),
    ("regset_general", "struct iovec"),
    ("regset_floating", "struct iovec"),
    ("iocb", "struct iocb"),
    ("io_event", "struct io_event"),
    ("futex_waitv", "struct futex_waitv"),
    (
        "ptrace_peeksiginfo_args",
        "struct __ptrace_peeksiginfo_args",
    ),
    ("ptrace_syscall_info", "struct ptrace_syscall_info"),
    ("seccomp_metadata", "struct seccomp_metadata"),
    ("cdrom_read_audio", "struct cdrom_read_audio"),
    ("cdrom_generic_command", "struct cdrom_generic_command"),
    ("user_regs", "struct user_regs"),
    ("user_fpregs", "struct user_fpregs"),
];

/// Members of which the table has only the lower part, or the padding as well.
const PARTS: &[(&str, &str)] = &[
    ("ipc_perm", "mode"),
    ("ipc_perm_set", "mode"),
    ("open_how", "mode"),
    ("clone_args", "exit_signal"),
    ("mount_attr", "userns_fd"),
    ("iocb", "aio_buf"),
];

/// Structures that differ from x86-64's and have no type in C to compare with.
const NO_TYPE: &[&str] = &[
    "waitinfo",
    "ptrace_syscall_exit",
    "ptrace_syscall_seccomp",
    "ifreq_with_12",
    "ifreq_with_28",
    "brctl_args",
    "iwreq_bytes",
    "iwreq_addresses",
    "iwreq_privates",
];

fn assertions() -> String {
    let layouts = layouts_in(Abi::I386);
    let mut text = HEADERS.to_owned();
    for (name, c_type) in TYPES {
        let Some(layout) = layouts.get(name) else {
            continue;
        };
        let size = layout.size;
        text += &format!("_Static_assert(sizeof({c_type}) == {size}, \"{name}\");\n");
        for member in layout.members.iter().filter(|m| !m.hidden) {
            let (c_name, offset) = (member.name, member.offset);
            let offset_of = format!("__builtin_offsetof({c_type}, {c_name})");
            text += &format!("_Static_assert({offset_of} == {offset}, \"{name}.{c_name}\");\n");
            let in_part = PARTS.contains(&(*name, member.name));
            if let (Some(size), false) = (member.size, in_part) {
                let size_of = format!("sizeof((({c_type} *)0)->{c_name})");
                text +=
                    &format!("_Static_assert({size_of} == {size}, \"{name}.{c_name} size\");\n");
            }
        }
    }
    text
}

/// The compiler's messages; `None` if it does not run.
fn compile(text: &str) -> Option<String> {
    let mut gcc = Command::new("gcc")
        .args(["-m32", "-ffreestanding", "-fsyntax-only", "-w", "-x", "c"])
        .args(["-nostdinc", "-isystem", "/usr/include"])
        // The directory of asm/*.h on Debian, which are for both ABIs.
        .args(["-isystem", "/usr/include/x86_64-linux-gnu", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    gcc.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let output = gcc.wait_with_output().ok()?;
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn structures_are_those_of_the_kernel_headers_compiled_for_i386() {
    let ready = compile("#include <linux/openat2.h>\n");
    assert_eq!(
        ready.as_deref(),
        Some(""),
        "gcc and libc6-dev are installed"
    );
    let complaints = compile(&assertions()).unwrap();
    // Older headers do not have the newest members; the compiler then reports these.
    let wrong = |line: &&str| line.contains("static assertion failed");
    let errors: Vec<&str> = complaints.lines().filter(wrong).collect();
    let absent = complaints.matches("has no member named").count();
    assert!(absent < 40, "{complaints}");
    assert_eq!(errors, [] as [&str; 0]);
}

/// The structures in a table; true for those with offsets or a size.
fn in_table(text: &str) -> BTreeMap<&str, bool> {
    let mut found = BTreeMap::new();
    let mut last = "";
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["struct", name, rest @ ..] => {
                last = name;
                found.insert(*name, !rest.is_empty());
            }
            [first, ..] if !first.starts_with('#') && line.contains('@') => {
                found.insert(last, true);
            }
            _ => {}
        }
    }
    found
}

/// Offsets and sizes in `structs.tbl` are x86-64's. `structs_i386.tbl` must have those of i386, even if they are the
/// same.
#[test]
fn structures_with_offsets_have_a_form_for_i386() {
    let own = include_str!("../structs_i386.tbl");
    let own: Vec<&str> = own
        .lines()
        .filter(|line| {
            ["struct ", "same ", "moved "]
                .iter()
                .any(|w| line.starts_with(w))
        })
        .flat_map(|line| line.split_whitespace().skip(1))
        .flat_map(|word| word.split('='))
        .collect();
    let theirs = in_table(include_str!("../structs.tbl"));
    let missing: Vec<&str> = theirs
        .into_iter()
        .filter(|&(name, explicit)| explicit && !own.contains(&name))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
}

/// A form that is derived from x86-64's may be wrong: a `ulong` may have meant 64 bits there.
#[test]
fn structures_that_differ_on_i386_are_compared_with_c() {
    let theirs = layouts_in(Abi::X86_64);
    let differs = |name: &str, layout: &Layout| {
        let Some(theirs) = theirs.get(name) else {
            return false;
        };
        let shape = |layout: &Layout| {
            let members = layout.members.iter();
            let members: Vec<_> = members.map(|m| (m.offset, m.size)).collect();
            (layout.size, members)
        };
        shape(theirs) != shape(layout)
    };
    let mut unknown: Vec<&str> = layouts_in(Abi::I386)
        .iter()
        .filter(|(name, layout)| differs(name, layout))
        .map(|(&name, _)| name)
        .filter(|name| !NO_TYPE.contains(name) && TYPES.iter().all(|(known, _)| known != name))
        .collect();
    unknown.sort_unstable();
    assert_eq!(unknown, [] as [&str; 0]);
}

/// A call that returns this structure.
fn giving(name: &str) -> &'static Syscall {
    let base = by_name_in(Abi::I386, "uname").unwrap();
    let text = format!("(buf out[{name}]) int").leak();
    Box::leak(Box::new(Syscall::made(base, text).unwrap()))
}

proptest::proptest! {
    #![proptest_config(cases(48))]

    /// Bytes that were decoded and encoded again decode to the same value.
    #[test]
    fn structures_survive_encoding(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 700),
    ) {
        static CALLS: std::sync::LazyLock<Vec<(&'static Syscall, usize)>> = std::sync::LazyLock::new(|| {
            // Data behind a pointer is not written with its structure; the members of iocb_head depend on flags that
            // are not shown.
            let whole = |(name, layout): &(&&str, &&Layout)| !layout.has_pointers() && **name != "iocb_head";
            let layouts = layouts_in(Abi::I386).iter().filter(whole);
            layouts.map(|(name, layout)| (giving(name), layout.size)).collect()
        });
        let args = [0x1000, 0, 0, 0, 0, 0];
        for &(call, size) in CALLS.iter() {
            let none = Pieces::default();
            let there = Pieces::default().with(0x1000, &bytes[..size.min(bytes.len())]);
            let values = call.decode(&args, Some(0), &none, &there);
            let Ok(writes) = call.encode_outputs(&args, &values, 0, &none) else {
                proptest::prop_assert!(false, "{values:?}");
                continue;
            };
            let back = call.decode(&args, Some(0), &none, &none.clone().apply(&writes));
            proptest::prop_assert_eq!(back, values);
        }
    }
}
