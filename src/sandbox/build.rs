//! The steps by which the keeper and the first process of a sandbox set it up.

use super::builder::{
    AT_RECURSIVE, Builder, HERE, MOVE_MOUNT_F_EMPTY_PATH, PLACE, TERMINALS, error, number, relative,
};
use super::enclosure::terminals::Terminal;
use super::place::{DEV, DEVICES, ROOT, shows_queues};
use super::root_plan::{Entry, RootPlan};
use super::user_quotas::QUOTAS;
use super::{Result, Settings};
use crate::tracee::call_batch::{Arg, CallId, HelperProcess};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The session keyring of all processes in a sandbox.
pub(super) const KEYRING: &[u8] = b"rrapper";
pub(super) const KEYCTL_JOIN_SESSION_KEYRING: u64 = 1;

/// The keeper's descriptors after its first steps.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// Its mount namespace.
    namespace: i64,
    /// The directory of changed files.
    pub(super) place: i64,
    /// Copies of mounts of the machine.
    devices: [i64; DEVICES.len()],
    terminals: Vec<(Terminal, i64)>,
    sys: i64,
    proc: i64,
}

/// The first steps of the keeper: makes the machine's mounts private, and mounts the tmpfs for changed files.
/// The sandbox has the terminals in `/dev`, besides those that are made in it.
pub(super) fn begin(
    keeper: &mut HelperProcess,
    settings: &Settings,
    terminals: &[Terminal],
) -> Result<Begun> {
    let mut b = Builder::default();
    b.may(libc::SYS_umask, &[Arg::Value(0)]);
    b.may(libc::SYS_setsid, &[]);
    let join = Arg::Value(KEYCTL_JOIN_SESSION_KEYRING);
    b.may(libc::SYS_keyctl, &[join, Arg::Text(KEYRING)]);
    let how = Arg::Value((libc::O_WRONLY | libc::O_CLOEXEC) as u64);
    let path = Arg::Text(b"/proc/sys/user/max_user_namespaces");
    let limit = b.may(libc::SYS_open, &[path, how]);
    let outcome = b.make(keeper)?;
    let limit = number(&outcome, limit);
    let mut b = Builder::default();
    if limit >= 0 {
        let file = Arg::Value(limit as u64);
        if !settings.namespaces {
            // Without a user namespace no process gets the capability that all others need.
            b.may(libc::SYS_write, &[file, Arg::Text(b"0"), Arg::Value(1)]);
        }
        b.may(libc::SYS_close, &[file]);
    }
    let devices = DEVICES.map(|name| b.tree(format!("/dev/{name}").as_bytes(), 0));
    let copy = |terminal: &Terminal| b.tree(terminal.path().as_os_str().as_bytes(), 0);
    let copies: Vec<CallId> = terminals.iter().map(copy).collect();
    let sys = b.tree(b"/sys", AT_RECURSIVE);
    let proc = b.tree(b"/proc", AT_RECURSIVE);
    let how = Arg::Value((libc::O_RDONLY | libc::O_CLOEXEC) as u64);
    let step = "find its mount namespace";
    let args = [Arg::Text(b"/proc/self/ns/mnt"), how];
    let namespace = b.must(step, libc::SYS_open, &args);
    let private = [
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        0,
        libc::MS_PRIVATE,
        0,
    ];
    let private = private.map(u64::to_le_bytes).concat();
    let step = "make all mounts private and read-only (mount_setattr)";
    let size = Arg::Value(private.len() as u64);
    let args = [
        HERE,
        Arg::Text(b"/"),
        Arg::Value(AT_RECURSIVE),
        Arg::Bytes(&private),
        size,
    ];
    b.must(step, libc::SYS_mount_setattr, &args);
    let bytes = settings.limits.tmpfs_bytes.max(1 << 20);
    let inodes = settings.limits.tmpfs_files.max(1 << 10);
    let options = format!("size={bytes},nr_inodes={inodes},mode=755");
    let flags = Arg::Value(libc::MS_NOSUID | libc::MS_NODEV);
    let kind = Arg::Text(b"tmpfs");
    let args = [
        kind,
        Arg::Text(PLACE.as_bytes()),
        kind,
        flags,
        Arg::Text(options.as_bytes()),
    ];
    b.must("mount a tmpfs", libc::SYS_mount, &args);
    let enter = [Arg::Text(PLACE.as_bytes())];
    b.must("enter its tmpfs", libc::SYS_chdir, &enter);
    let place = b.open_dir(b".");
    let outcome = b.make(keeper)?;
    Ok(Begun {
        namespace: number(&outcome, namespace),
        place: number(&outcome, place),
        devices: devices.map(|device| number(&outcome, device)),
        terminals: terminals
            .iter()
            .zip(copies)
            .map(|(terminal, copy)| (terminal.clone(), number(&outcome, copy)))
            .collect(),
        sys: number(&outcome, sys),
        proc: number(&outcome, proc),
    })
}

/// The layers and files that could not be shown, each with its path and the kernel's error.
pub(super) type Failed = Vec<(PathBuf, io::Error)>;

/// The keeper's steps after [`Place::fill`](super::place::Place::fill): mounts the layers, and puts the result over its root,
/// where it stands for all processes that enter its mount namespace. The keeper's present directory is that root then.
pub(super) fn show(
    keeper: &mut HelperProcess,
    plan: &RootPlan,
    begun: &Begun,
    settings: &Settings,
) -> Result<Failed> {
    let mut b = Builder::default();
    let bind = Arg::Value(libc::MS_BIND);
    let root = Arg::Text(ROOT.as_bytes());
    let step = "make a root of its own";
    b.must(step, libc::SYS_mount, &[root, root, Arg::Value(0), bind]);
    b.must(step, libc::SYS_chdir, &[root]);
    let mut made = Vec::new();
    let dev = b.tree(format!("{PLACE}/{DEV}").as_bytes(), 0);
    b.put(Arg::Result(dev), b"dev");
    for (name, tree) in DEVICES.iter().zip(begun.devices) {
        b.put(Arg::Value(tree as u64), format!("dev/{name}").as_bytes());
    }
    for (terminal, tree) in &begun.terminals {
        if let Terminal::Device(_) = terminal {
            b.put(Arg::Value(*tree as u64), relative(&terminal.path()));
        }
    }
    b.set(b"dev", libc::MOUNT_ATTR_RDONLY, 0, AT_RECURSIVE);
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    b.mount(
        "devpts",
        b"dev/pts",
        flags,
        &format!("newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"),
    );
    for (terminal, tree) in &begun.terminals {
        if let Terminal::Pseudo(number) = terminal {
            b.show_pseudo_terminal(*number, *tree);
        }
    }
    b.put(Arg::Value(begun.sys as u64), b"sys");
    let bare = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NOEXEC;
    b.set(b"sys", bare, 0, AT_RECURSIVE);
    for (i, layer) in plan.layers.iter().enumerate() {
        made.push((layer.path.clone(), b.lay(layer, i, &[])));
    }
    for (path, entry) in &plan.entries {
        if *entry == Entry::Bound {
            let tree = b.tree(path.as_os_str().as_bytes(), 0);
            made.push((path.clone(), b.put(Arg::Result(tree), relative(path))));
            b.set(relative(path), libc::MOUNT_ATTR_RDONLY, 0, 0);
        }
    }
    b.hide(settings, Path::new("/"));
    let args = [HERE, Arg::Text(b"."), HERE, Arg::Text(b"/"), Arg::Value(0)];
    b.must(step, libc::SYS_move_mount, &args);
    let outcome = b.make(keeper)?;
    let results = made
        .into_iter()
        .map(|(path, call)| (path, number(&outcome, call)));
    let failed = results.filter(|(_, ret)| *ret < 0);
    Ok(failed.map(|(path, ret)| (path, error(ret))).collect())
}

/// The descriptors of the first process, and what it could have.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Whether `/proc` shows the sandbox's processes.
    pub(super) own_proc: bool,
    /// The file that says which pid was given last; negative if there is none.
    pub(super) last_pid: i64,
}

fn enter_root(b: &mut Builder, begun: &Begun) {
    let kind = Arg::Value(libc::CLONE_NEWNS as u64);
    let args = [Arg::Value(begun.namespace as u64), kind];
    b.must("enter its own root (setns)", libc::SYS_setns, &args);
    b.may(libc::SYS_setsid, &[]);
}

/// The steps of the first process of the pid namespace.
pub(super) fn settle(
    init: &mut HelperProcess,
    begun: &Begun,
    settings: &Settings,
) -> Result<First> {
    let mut b = Builder::default();
    enter_root(&mut b, begun);
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
    let own = b.mount("proc", b"/proc", flags, "");
    // Orphans in the sandbox become children of this process, which never waits for them.
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0]
        .map(u64::to_le_bytes)
        .concat();
    let signal = Arg::Value(libc::SIGCHLD as u64);
    let args = [signal, Arg::Bytes(&ignore), Arg::Value(0), Arg::Value(8)];
    b.may(libc::SYS_rt_sigaction, &args);
    loopback(&mut b);
    let outcome = b.make(init)?;
    let own_proc = number(&outcome, own) == 0;
    let mut b = Builder::default();
    if !own_proc {
        // Refused where parts of the machine's are covered, as in containers.
        b.put(Arg::Value(begun.proc as u64), b"/proc");
        let bare = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
        b.set(b"/proc", bare, 0, AT_RECURSIVE);
    }
    let all = [3, u64::from(u32::MAX), 0].map(Arg::Value);
    b.may(libc::SYS_close_range, &all);
    let how = Arg::Value((libc::O_WRONLY | libc::O_CLOEXEC) as u64);
    let path = Arg::Text(b"/proc/sys/kernel/ns_last_pid");
    let last_pid = b.may(libc::SYS_open, &[path, how]);
    quotas(&mut b);
    protect_proc(&mut b, settings);
    queues(&mut b);
    let outcome = b.make(init)?;
    let last_pid = number(&outcome, last_pid);
    let mut b = Builder::default();
    b.close_behind(last_pid);
    b.make(init)?;
    Ok(First { own_proc, last_pid })
}

/// The steps of a process that has the mounts, the network and the objects of a recorded program, for which it is the way
/// in. `/proc` is the machine's, but for the files there by which root changes the machine.
pub(super) fn settle_recorded(
    member: &mut HelperProcess,
    begun: &Begun,
    own_network: bool,
) -> Result<First> {
    let mut b = Builder::default();
    enter_root(&mut b, begun);
    let step = "show the machine's processes in /proc";
    let at = Arg::Text(b"/proc");
    let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH);
    let tree = Arg::Value(begun.proc as u64);
    let args = [tree, Arg::Text(b""), HERE, at, how];
    b.must(step, libc::SYS_move_mount, &args);
    for path in writable_of_root() {
        copy_read_only(&mut b, path.as_os_str().as_bytes());
    }
    if own_network {
        loopback(&mut b);
    }
    queues(&mut b);
    let all = [3, u64::from(u32::MAX), 0].map(Arg::Value);
    b.may(libc::SYS_close_range, &all);
    b.make(member)?;
    Ok(First {
        own_proc: false,
        last_pid: -1,
    })
}

fn copy_read_only(b: &mut Builder, path: &[u8]) {
    let tree = b.tree(path, AT_RECURSIVE);
    b.put(Arg::Result(tree), path);
    b.set(path, libc::MOUNT_ATTR_RDONLY, 0, AT_RECURSIVE);
}

/// Makes `/proc` read-only: a process could give up being the first victim where memory runs out, and root can write to
/// its own files even without privileges. Where programs may make namespaces, they have to write to files of their own.
fn protect_proc(b: &mut Builder, settings: &Settings) {
    match settings.namespaces {
        false => copy_read_only(b, b"/proc"),
        true => {
            for path in writable_of_root() {
                copy_read_only(b, path.as_os_str().as_bytes());
            }
        }
    }
}

/// The files of `/proc` outside of processes that root may write to; searched once.
fn writable_of_root() -> &'static [PathBuf] {
    static THERE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    match nix::unistd::geteuid().is_root() {
        true => THERE.get_or_init(look_for_writable),
        false => &[],
    }
}

fn look_for_writable() -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let is_common = |path: &Path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let kind = fs::symlink_metadata(path);
        !name.iter().all(u8::is_ascii_digit)
            && kind.is_ok_and(|meta| meta.is_dir() || meta.is_file() && meta.mode() & 0o222 != 0)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| is_common(path))
        .collect()
}

/// What the first process takes anew before other processes come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// System V objects and message queues.
    pub(super) ipc: bool,
    /// Sockets of the network.
    pub(super) network: bool,
}

/// Ends all processes but the first, and takes what they used anew. Returns whether no process was left.
pub(super) fn renew(init: &mut HelperProcess, first: &First, used: Used) -> Result<bool> {
    let mut b = Builder::default();
    let kill = [Arg::Value(u64::MAX), Arg::Value(libc::SIGKILL as u64)];
    let killed = b.may(libc::SYS_kill, &kill);
    if used.ipc {
        let new = Arg::Value(libc::CLONE_NEWIPC as u64);
        b.must("get other IPC objects (unshare)", libc::SYS_unshare, &[new]);
        let detach = Arg::Value(libc::MNT_DETACH as u64);
        b.may(libc::SYS_umount2, &[Arg::Text(b"/dev/mqueue"), detach]);
        queues(&mut b);
    }
    if used.network {
        let new = Arg::Value(libc::CLONE_NEWNET as u64);
        b.must("get another network (unshare)", libc::SYS_unshare, &[new]);
        loopback(&mut b);
        b.close_behind(first.last_pid);
    }
    if first.last_pid >= 0 {
        let file = Arg::Value(first.last_pid as u64);
        let args = [file, Arg::Text(b"1"), Arg::Value(1), Arg::Value(0)];
        b.may(libc::SYS_pwrite64, &args);
    }
    let outcome = b.make(init)?;
    Ok(number(&outcome, killed) == -i64::from(libc::ESRCH))
}

fn queues(b: &mut Builder) {
    if shows_queues() {
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
        b.mount("mqueue", b"/dev/mqueue", flags, "");
    }
}

/// Limits what it takes of the user's quotas. A container may forbid to write to `/proc/sys`.
fn quotas(b: &mut Builder) {
    for (name, limit) in QUOTAS {
        let path = format!("/proc/sys/user/{name}");
        let how = (libc::O_WRONLY | libc::O_CLOEXEC) as u64;
        let file = b.may(
            libc::SYS_open,
            &[Arg::Text(path.as_bytes()), Arg::Value(how)],
        );
        let len = Arg::Value(limit.len() as u64);
        let args = [Arg::Result(file), Arg::Bytes(limit.as_bytes()), len];
        b.may(libc::SYS_write, &args);
    }
}

/// Brings the loopback interface up.
fn loopback(b: &mut Builder) {
    const SIOCSIFFLAGS: u64 = 0x8914;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let args = [libc::AF_INET as u64, kind as u64, 0].map(Arg::Value);
    let socket = b.may(libc::SYS_socket, &args);
    // struct ifreq: the name in 16 bytes, then the flags.
    let mut request = [0; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let args = [
        Arg::Result(socket),
        Arg::Value(SIOCSIFFLAGS),
        Arg::Bytes(&request),
    ];
    b.may(libc::SYS_ioctl, &args);
}
