//! The calls by which the keeper sets up its sandbox.

use super::mount_plan::{Layer, MountPlan};
use super::user_quotas::QUOTAS;
use super::{Error, Limits, Result};
use crate::tracee::call_batch::{Arg, Batch, CallId, HelperProcess};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const AT_RECURSIVE: u64 = 0x8000;
const OPEN_TREE_CLONE: u64 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u64 = 4;
const HERE: Arg<'static> = Arg::Value(libc::AT_FDCWD as u64);

/// The mount point of the changed files during setup; another mount hides it afterwards.
const PLACE: &str = "/proc";

/// Devices that are safe in a sandbox.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

/// The result of the setup.
#[derive(Debug)]
pub(super) struct Built {
    /// The keeper's descriptor of the directory with the changed files.
    pub(super) place: i32,
    /// The layers that could not be mounted, by number, with the errors.
    pub(super) failed: Vec<(usize, std::io::Error)>,
    /// Whether `/proc` shows the sandbox's processes.
    pub(super) own_proc: bool,
}

/// A batch of calls, with the names of the steps that must succeed.
#[derive(Default)]
struct Builder {
    batch: Batch,
    steps: Vec<(CallId, String)>,
}

/// The name of a layer's directory of changed files.
pub(super) fn upper(index: usize) -> String {
    format!("u{index}")
}

impl Builder {
    fn must(&mut self, step: impl Into<String>, nr: i64, args: &[Arg<'_>]) -> CallId {
        let made = self.batch.must(nr, args);
        self.steps.push((made, step.into()));
        made
    }

    fn may(&mut self, nr: i64, args: &[Arg<'_>]) -> CallId {
        self.batch.may(nr, args)
    }

    /// Copies the mount of a file or directory, to be attached elsewhere.
    fn tree(&mut self, path: &[u8]) -> CallId {
        let how = OPEN_TREE_CLONE | libc::O_CLOEXEC as u64;
        self.may(
            libc::SYS_open_tree,
            &[HERE, Arg::Text(path), Arg::Value(how)],
        )
    }

    fn put(&mut self, tree: CallId, at: &[u8]) -> CallId {
        let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH);
        let args = [Arg::Result(tree), Arg::Text(b""), HERE, Arg::Text(at), how];
        self.may(libc::SYS_move_mount, &args)
    }

    fn make_dir(&mut self, path: &str, mode: u32) {
        let step = "make a directory in its tmpfs";
        let args = [Arg::Text(path.as_bytes()), Arg::Value(mode.into())];
        self.must(step, libc::SYS_mkdir, &args);
    }

    fn make_file(&mut self, path: &str) {
        let mode = Arg::Value((libc::S_IFREG | 0o666).into());
        self.may(libc::SYS_mknod, &[Arg::Text(path.as_bytes()), mode]);
    }

    fn mount(&mut self, step: &str, target: &[u8], kind: &str, flags: u64, data: &str) -> CallId {
        let args = mount_args(target, kind, flags, data);
        self.must(step, libc::SYS_mount, &args)
    }
}

fn mount_args<'a>(target: &'a [u8], kind: &'a str, flags: u64, data: &'a str) -> [Arg<'a>; 5] {
    let kind = Arg::Text(kind.as_bytes());
    let data = Arg::Text(data.as_bytes());
    [kind, Arg::Text(target), kind, Arg::Value(flags), data]
}

/// Sets up the sandbox of the process `keeper`.
pub(super) fn build(
    keeper: &mut HelperProcess,
    plan: &MountPlan,
    limits: &Limits,
) -> Result<Built> {
    let mut b = Builder::default();
    b.may(libc::SYS_umask, &[Arg::Value(0)]);
    let devices = DEVICES.map(|name| b.tree(format!("/dev/{name}").as_bytes()));
    let under: Vec<Option<CallId>> = plan
        .layers
        .iter()
        .map(|layer| open(&mut b, layer))
        .collect();
    read_only(&mut b);
    let place = tmpfs(&mut b, limits);
    for (i, layer) in plan.layers.iter().enumerate() {
        b.make_dir(&upper(i), layer.mode);
        if layer.filled {
            b.make_dir(&format!("w{i}"), 0o700);
        }
    }
    dev(&mut b, devices);
    let mut laid = Vec::new();
    for (i, (layer, under)) in plan.layers.iter().zip(under).enumerate() {
        laid.push(lay(&mut b, i, layer, under));
    }
    b.make_file("/proc/none");
    for path in &plan.covers {
        let nothing = b.tree(b"/proc/none");
        b.put(nothing, path.as_os_str().as_bytes());
    }
    let args = [
        Arg::Text(PLACE.as_bytes()),
        Arg::Value(libc::MNT_DETACH as u64),
    ];
    b.must("detach its tmpfs", libc::SYS_umount2, &args);
    b.may(libc::SYS_chdir, &[Arg::Text(b"/")]);
    let own_proc = proc(&mut b);
    loopback(&mut b);
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0]
        .map(u64::to_le_bytes)
        .concat();
    // Orphans in the sandbox become children of this process, which never waits for them.
    let args = [libc::SIGCHLD as u64, 0, 0, 8].map(Arg::Value);
    b.may(
        libc::SYS_rt_sigaction,
        &[args[0], Arg::Bytes(&ignore), args[2], args[3]],
    );

    let outcome = keeper.make(&b.batch)?;
    if let Some((call, error)) = outcome.failed {
        let step = b.steps.into_iter().find(|(made, _)| *made == call);
        return Err(Error::refused(
            step.map_or_else(String::new, |(_, step)| step),
            error,
        ));
    }
    let place = outcome.result(place).unwrap_or(-1);
    let result = |made| outcome.result(made).unwrap_or(0);
    let error = |ret: i64| std::io::Error::from_raw_os_error(ret.wrapping_neg() as i32);
    let results = laid.into_iter().map(result).enumerate();
    let mut failed: Vec<_> = results
        .filter(|&(_, ret)| ret < 0)
        .map(|(i, ret)| (i, error(ret)))
        .collect();
    if failed.len() == plan.layers.len()
        && let Some((i, error)) = failed.pop()
    {
        let step = format!("mount an overlay over {}", plan.layers[i].path.display());
        return Err(Error::refused(step, error));
    }
    cover(keeper, plan, &failed, place)?;
    Ok(Built {
        place: place as i32,
        failed,
        own_proc: outcome.result(own_proc) == Some(0),
    })
}

/// Opens the directory under a layer, while it is visible.
fn open(b: &mut Builder, layer: &Layer) -> Option<CallId> {
    layer.filled.then(|| {
        let path = layer.path.as_os_str().as_bytes();
        let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let step = format!("open {}", layer.path.display());
        b.must(
            step,
            libc::SYS_open,
            &[Arg::Text(path), Arg::Value(how as u64)],
        )
    })
}

fn read_only(b: &mut Builder) {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
    let attributes = [set, 0, libc::MS_PRIVATE, 0].map(u64::to_le_bytes).concat();
    let step = "make all mounts private and read-only (mount_setattr)";
    let recursive = Arg::Value(AT_RECURSIVE);
    let size = Arg::Value(attributes.len() as u64);
    let args = [
        HERE,
        Arg::Text(b"/"),
        recursive,
        Arg::Bytes(&attributes),
        size,
    ];
    b.must(step, libc::SYS_mount_setattr, &args);
}

/// Mounts the tmpfs for changed files and changes into it.
fn tmpfs(b: &mut Builder, limits: &Limits) -> CallId {
    let (size, inodes) = (
        limits.tmpfs_bytes.max(1 << 20),
        limits.tmpfs_files.max(1 << 10),
    );
    let options = format!("size={size},nr_inodes={inodes},mode=755");
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    b.mount("mount a tmpfs", PLACE.as_bytes(), "tmpfs", flags, &options);
    b.must(
        "enter its tmpfs",
        libc::SYS_chdir,
        &[Arg::Text(PLACE.as_bytes())],
    );
    let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let args = [Arg::Text(b"."), Arg::Value(how as u64)];
    b.must("open its tmpfs", libc::SYS_open, &args)
}

/// Mounts a `/dev` with safe devices only.
fn dev(b: &mut Builder, devices: [CallId; 6]) {
    for dir in ["dev", "dev/pts"] {
        b.make_dir(dir, 0o755);
    }
    b.make_dir("dev/shm", 0o1777);
    for name in DEVICES {
        b.make_file(&format!("dev/{name}"));
    }
    for (link, to) in LINKS {
        let args = [Arg::Text(to.as_bytes()), Arg::Text(link.as_bytes())];
        b.may(libc::SYS_symlink, &args);
    }
    let how = OPEN_TREE_CLONE | libc::O_CLOEXEC as u64;
    let step = "make its own /dev";
    let args = [HERE, Arg::Text(b"dev"), Arg::Value(how)];
    let dev = b.must(step, libc::SYS_open_tree, &args);
    let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH);
    let args = [
        Arg::Result(dev),
        Arg::Text(b""),
        HERE,
        Arg::Text(b"/dev"),
        how,
    ];
    b.must(step, libc::SYS_move_mount, &args);
    for (name, device) in DEVICES.iter().zip(devices) {
        b.put(device, format!("/dev/{name}").as_bytes());
    }
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    let options = "newinstance,ptmxmode=0666,mode=620";
    b.may(
        libc::SYS_mount,
        &mount_args(b"/dev/pts", "devpts", flags, options),
    );
}

/// Mounts a layer. Returns the call that decides on success.
fn lay(b: &mut Builder, index: usize, layer: &Layer, under: Option<CallId>) -> CallId {
    let path = layer.path.as_os_str().as_bytes();
    let upper = format!("{PLACE}/{}", upper(index));
    let Some(under) = under else {
        let tree = b.tree(upper.as_bytes());
        return b.put(tree, path);
    };
    let step = format!("enter {}", layer.path.display());
    b.must(step, libc::SYS_fchdir, &[Arg::Result(under)]);
    // Without `xino`, which makes the kernel write a line to its log each time.
    let options = format!("lowerdir=.,upperdir={upper},workdir={PLACE}/w{index},userxattr");
    b.may(libc::SYS_mount, &mount_args(path, "overlay", 0, &options))
}

/// Hides the sockets in directories that could not be overlaid, as on file systems that overlayfs does not accept.
fn cover(
    keeper: &mut HelperProcess,
    plan: &MountPlan,
    failed: &[(usize, std::io::Error)],
    place: i64,
) -> Result<()> {
    let mut b = Builder::default();
    let bare = |path: &Path| {
        let mut layers = failed.iter().map(|&(i, _)| &plan.layers[i]);
        layers.any(|layer| path.starts_with(&layer.path))
    };
    for path in plan.covered.iter().filter(|path| bare(path)) {
        let how = OPEN_TREE_CLONE | libc::O_CLOEXEC as u64;
        let args = [
            Arg::Value(place as u64),
            Arg::Text(b"none"),
            Arg::Value(how),
        ];
        let nothing = b.may(libc::SYS_open_tree, &args);
        b.put(nothing, path.as_os_str().as_bytes());
    }
    keeper.make(&b.batch)?;
    Ok(())
}

/// Mounts a `/proc` for the new pid namespace; refused where parts of the machine's are covered (in containers).
fn proc(b: &mut Builder) -> CallId {
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
    let own = b.may(libc::SYS_mount, &mount_args(b"/proc", "proc", flags, ""));
    quotas(b);
    // Root can write to its own files even without privileges.
    for path in writable_of_root() {
        let path = Arg::Text(path.as_os_str().as_bytes());
        let nothing = Arg::Value(0);
        let bind = libc::MS_BIND | libc::MS_REC;
        b.may(libc::SYS_mount, &[path, path, nothing, Arg::Value(bind)]);
        let bind = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | flags;
        b.may(libc::SYS_mount, &[nothing, path, nothing, Arg::Value(bind)]);
    }
    own
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
        let kind = std::fs::symlink_metadata(path);
        !name.iter().all(u8::is_ascii_digit)
            && kind.is_ok_and(|meta| meta.is_dir() || meta.is_file() && meta.mode() & 0o222 != 0)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| is_common(path))
        .collect()
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
