//! The calls by which the keeper and the first process of a sandbox set it up.

use super::enclosure::terminals::Terminal;
use super::root_plan::{Entry, Layer, RootPlan};
use super::user_quotas::QUOTAS;
use super::{Error, Result, Settings};
use crate::tracee::call_batch::{Arg, Batch, CallId, HelperProcess, Outcome};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const AT_RECURSIVE: u64 = 0x8000;
const OPEN_TREE_CLONE: u64 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u64 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u64 = 0x40;
const HERE: Arg<'static> = Arg::Value(libc::AT_FDCWD as u64);

/// The mount point of the changed files in the keeper's root, which no other process has. It hides the machine's
/// `/proc`.
const PLACE: &str = "/proc";

/// The terminals of a sandbox; the machine has 4096 for all (`kernel.pty.max`).
const TERMINALS: u32 = 256;

/// Devices that are safe in a sandbox.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Names in the directory of changed files: the files that sandboxes show, an empty `/dev`, and what hides others.
pub(super) const ROOT: &str = "root";
const DEV: &str = "dev";
const NO_FILE: &str = "none";
const NO_DIR: &str = "nothing";

/// The session keyring of all processes in a sandbox.
pub(super) const KEYRING: &[u8] = b"rrapper";
pub(super) const KEYCTL_JOIN_SESSION_KEYRING: u64 = 1;

/// The names of a layer's directories of changed files, and of the link to the directory below it.
pub(super) fn upper(number: usize) -> String {
    format!("u{number}")
}

pub(super) fn work(number: usize) -> String {
    format!("w{number}")
}

pub(super) fn lower(number: usize) -> String {
    format!("l{number}")
}

/// The name of the directory at which a layer is before it is moved to its place.
pub(super) fn aside(number: usize) -> String {
    format!("m{number}")
}

/// A batch of calls, with the names of the steps that must succeed.
#[derive(Default)]
pub(super) struct Builder {
    batch: Batch,
    steps: Vec<(CallId, String)>,
}

impl Builder {
    pub(super) fn must(&mut self, step: impl Into<String>, nr: i64, args: &[Arg<'_>]) -> CallId {
        let made = self.batch.must(nr, args);
        self.steps.push((made, step.into()));
        made
    }

    pub(super) fn may(&mut self, nr: i64, args: &[Arg<'_>]) -> CallId {
        self.batch.may(nr, args)
    }

    /// Has the process make the calls.
    pub(super) fn make(self, process: &mut HelperProcess) -> Result<Outcome> {
        let outcome = process.make(&self.batch)?;
        let Some((call, error)) = outcome.failed else {
            return Ok(outcome);
        };
        let step = self.steps.into_iter().find(|(made, _)| *made == call);
        let step = step.map_or_else(String::new, |(_, step)| step);
        Err(Error::refused(step, error))
    }

    fn open_dir(&mut self, path: &[u8]) -> CallId {
        let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let step = format!("open {}", String::from_utf8_lossy(path));
        let args = [Arg::Text(path), Arg::Value(how as u64)];
        self.must(step, libc::SYS_open, &args)
    }

    /// Copies the mount of a file or directory, to be attached elsewhere.
    fn tree(&mut self, path: &[u8], more: u64) -> CallId {
        let how = Arg::Value(OPEN_TREE_CLONE | libc::O_CLOEXEC as u64 | more);
        self.may(libc::SYS_open_tree, &[HERE, Arg::Text(path), how])
    }

    fn put(&mut self, tree: Arg<'_>, at: &[u8]) -> CallId {
        let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH);
        let args = [tree, Arg::Text(b""), HERE, Arg::Text(at), how];
        self.may(libc::SYS_move_mount, &args)
    }

    fn mount(&mut self, kind: &str, at: &[u8], flags: u64, data: &str) -> CallId {
        let (kind, data) = (Arg::Text(kind.as_bytes()), Arg::Text(data.as_bytes()));
        let args = [kind, Arg::Text(at), kind, Arg::Value(flags), data];
        self.may(libc::SYS_mount, &args)
    }

    /// Sets attributes (`MOUNT_ATTR_*`) and the propagation of a mount.
    fn set(&mut self, at: &[u8], attributes: u64, propagation: u64, more: u64) -> CallId {
        // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
        let words = [attributes, 0, propagation, 0]
            .map(u64::to_le_bytes)
            .concat();
        let size = Arg::Value(words.len() as u64);
        let args = [
            HERE,
            Arg::Text(at),
            Arg::Value(more),
            Arg::Bytes(&words),
            size,
        ];
        self.may(libc::SYS_mount_setattr, &args)
    }

    /// Mounts a layer's overlay; the present directory is the sandbox's root. The directories of changed files with the
    /// numbers `kept` are shown below its own, the first of them on top.
    pub(super) fn lay(&mut self, layer: &Layer, number: usize, kept: &[usize]) -> CallId {
        self.lay_at(relative(&layer.path), layer, number, kept)
    }

    fn lay_at(&mut self, at: &[u8], layer: &Layer, number: usize, kept: &[usize]) -> CallId {
        let kept: String = kept
            .iter()
            .map(|&number| format!("{PLACE}/{}:", upper(number)))
            .collect();
        // Without `xino`, which makes the kernel write a line to its log each time. The link spares the escaping of the
        // path.
        let options = format!(
            "lowerdir={kept}{PLACE}/{},upperdir={PLACE}/{},workdir={PLACE}/{},userxattr",
            lower(number),
            upper(number),
            work(number)
        );
        self.mount("overlay", at, flags(layer), &options)
    }

    /// Mounts a layer's overlay where no process sees it.
    pub(super) fn lay_aside(&mut self, layer: &Layer, number: usize) -> CallId {
        let at = format!("{PLACE}/{}", aside(number));
        self.lay_at(at.as_bytes(), layer, number, &[])
    }

    /// Moves such an overlay onto an open directory.
    pub(super) fn move_aside(&mut self, number: usize, onto: Arg<'_>) -> CallId {
        let at = format!("{PLACE}/{}", aside(number));
        let how = Arg::Value(MOVE_MOUNT_T_EMPTY_PATH);
        let args = [HERE, Arg::Text(at.as_bytes()), onto, Arg::Text(b""), how];
        self.may(libc::SYS_move_mount, &args)
    }

    /// Takes such an overlay away.
    pub(super) fn drop_aside(&mut self, number: usize) -> CallId {
        let at = format!("{PLACE}/{}", aside(number));
        let how = Arg::Value(libc::MNT_DETACH as u64);
        self.may(libc::SYS_umount2, &[Arg::Text(at.as_bytes()), how])
    }

    /// Moves the mount of an open directory onto another.
    pub(super) fn move_onto(&mut self, from: Arg<'_>, onto: Arg<'_>) -> CallId {
        let none = Arg::Text(b"");
        let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
        self.may(libc::SYS_move_mount, &[from, none, onto, none, how])
    }

    /// Opens a directory that the sandbox shows at this path, wherever processes make links to meanwhile.
    pub(super) fn open_inside(&mut self, path: &Path) -> CallId {
        let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // struct open_how: flags, mode, resolve.
        let how = [
            how as u64,
            0,
            libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS,
        ]
        .map(u64::to_le_bytes)
        .concat();
        let size = Arg::Value(how.len() as u64);
        let args = [HERE, Arg::Text(relative(path)), Arg::Bytes(&how), size];
        self.may(libc::SYS_openat2, &args)
    }

    /// Closes the descriptors behind this one, or all.
    fn close_behind(&mut self, last: i64) {
        let first = last.max(2) as u64 + 1;
        let all = [first, u64::from(u32::MAX), 0].map(Arg::Value);
        self.may(libc::SYS_close_range, &all);
    }

    /// Moves an overlay to a new directory.
    pub(super) fn move_overlay(&mut self, from: &Path, to: &Path) -> CallId {
        let (from, to) = (Arg::Text(relative(from)), Arg::Text(relative(to)));
        self.may(libc::SYS_mkdir, &[to, Arg::Value(0o755)]);
        let nothing = Arg::Value(0);
        let args = [from, to, nothing, Arg::Value(libc::MS_MOVE)];
        self.may(libc::SYS_mount, &args)
    }

    /// Removes the empty directory that an overlay is not at any more, or has not come to.
    pub(super) fn remove_place(&mut self, path: &Path) {
        self.may(libc::SYS_rmdir, &[Arg::Text(relative(path))]);
    }

    /// Hides what the settings say, as far as it is in this directory.
    pub(super) fn hide(&mut self, settings: &Settings, dir: &Path) {
        // A symbolic link would be resolved in the keeper's root.
        let hidden = settings
            .hide
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok());
        for path in hidden.filter(|path| path.starts_with(dir)) {
            let nothing = if path.is_dir() { NO_DIR } else { NO_FILE };
            let tree = self.tree(format!("{PLACE}/{nothing}").as_bytes(), 0);
            self.put(Arg::Result(tree), relative(&path));
            self.set(relative(&path), libc::MOUNT_ATTR_RDONLY, 0, 0);
        }
    }

    /// Has a layer's overlay forget what it knows of the machine's files.
    pub(super) fn refresh(&mut self, layer: &Layer) -> CallId {
        let at = relative(&layer.path);
        let flags = Arg::Value(libc::MS_REMOUNT | flags(layer));
        let none = Arg::Text(b"none");
        let args = [none, Arg::Text(at), none, flags, Arg::Value(0)];
        self.may(libc::SYS_mount, &args)
    }

    /// Shows a terminal of the machine in the sandbox's directory of terminals. The file that it covers is that of a terminal
    /// of the sandbox with this number, which the keeper keeps for good; those before it are given back.
    fn show_pseudo_terminal(&mut self, number: u32, tree: i64) {
        if number >= TERMINALS {
            return;
        }
        let how = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
        let args = [Arg::Text(b"dev/pts/ptmx"), Arg::Value(how)];
        let made: Vec<CallId> = (0..=number)
            .map(|_| self.may(libc::SYS_open, &args))
            .collect();
        let at = format!("dev/pts/{number}");
        self.put(Arg::Value(tree as u64), at.as_bytes());
        for before in &made[..made.len() - 1] {
            self.may(libc::SYS_close, &[Arg::Result(*before)]);
        }
    }

    /// Takes a layer's overlay away, with all that is mounted below it.
    pub(super) fn take_away(&mut self, layer: &Layer) -> CallId {
        let path = Arg::Text(relative(&layer.path));
        let args = [path, Arg::Value(libc::MNT_DETACH as u64)];
        self.must("take an overlay away", libc::SYS_umount2, &args)
    }
}

fn flags(layer: &Layer) -> u64 {
    match layer.is_writable {
        true => 0,
        false => libc::MS_RDONLY,
    }
}

/// A path for a process whose present directory is the sandbox's root.
pub(super) fn relative(path: &Path) -> &[u8] {
    let path = path.as_os_str().as_bytes();
    match path.strip_prefix(b"/").unwrap_or(path) {
        b"" => b".",
        path => path,
    }
}

fn number(outcome: &Outcome, call: CallId) -> i64 {
    let missing = -i64::from(libc::ENOSYS);
    outcome.result(call).unwrap_or(missing)
}

fn error(ret: i64) -> io::Error {
    io::Error::from_raw_os_error(ret.wrapping_neg() as i32)
}

/// The keeper's descriptors after its first steps.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// Its mount namespace.
    namespace: i64,
    /// The directory of changed files.
    place: i64,
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

/// The directory of changed files, which only rrapper and the keeper can reach.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    /// Opens it.
    pub(super) fn open(keeper: &HelperProcess, begun: &Begun) -> io::Result<Place> {
        let path = format!("/proc/{}/fd/{}", keeper.pid(), begun.place);
        let how = libc::O_PATH | libc::O_DIRECTORY;
        let dir = File::options().read(true).custom_flags(how).open(path)?;
        Ok(Place(dir.into()))
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }

    /// The path of a file of a directory that is made anew.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        let inner = path.strip_prefix("/").unwrap_or(path);
        self.path(ROOT).join(inner)
    }

    /// Makes the directories of a layer.
    pub(super) fn add_layer(&self, layer: &Layer, number: usize) -> io::Result<()> {
        self.add_dir(&self.path(upper(number)), layer.mode, layer.owner)?;
        self.add_dir(&self.path(work(number)), 0o700, None)?;
        let link = self.path(lower(number));
        match symlink(&layer.path, link) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn add_dir(&self, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        fs::create_dir(path)?;
        if let Some((uid, gid)) = owner {
            own(path, uid, gid)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Makes the directories and files that are not in layers.
    pub(super) fn fill(&self, plan: &RootPlan, terminals: &[Terminal]) -> io::Result<()> {
        // The copied files are as the machine's, whatever the umask of rrapper is.
        self.add_dir(&self.path(ROOT), 0o755, None)?;
        self.add_dir(&self.path(NO_DIR), 0o755, None)?;
        File::create(self.path(NO_FILE))?;
        let dev = self.path(DEV);
        self.add_dir(&dev, 0o755, None)?;
        self.add_dir(&dev.join("pts"), 0o755, None)?;
        if shows_queues() {
            self.add_dir(&dev.join("mqueue"), 0o1777, None)?;
        }
        self.add_dir(&dev.join("shm"), 0o1777, None)?;
        for name in DEVICES {
            File::create(dev.join(name))?;
        }
        for terminal in terminals {
            if let Terminal::Device(name) = terminal {
                File::create(dev.join(name))?;
            }
        }
        for (name, to) in LINKS {
            symlink(to, dev.join(name))?;
        }
        // Directories lose their write permissions last.
        let mut modes = Vec::new();
        for (path, entry) in &plan.entries {
            let at = self.shown(path);
            match entry {
                Entry::Dir(mode, owner) => {
                    if path != Path::new("/") {
                        fs::create_dir(&at)?;
                    }
                    modes.push((at, *mode, *owner));
                }
                Entry::Link(to) => symlink(to, &at)?,
                // A file may be gone meanwhile, or not be readable.
                Entry::Copy => _ = make_copy(path, &at),
                Entry::Bound => _ = File::create(&at)?,
                Entry::Special(mode) => {
                    _ = nix::sys::stat::mknod(
                        &at,
                        nix::sys::stat::SFlag::from_bits_truncate(mode & libc::S_IFMT),
                        nix::sys::stat::Mode::from_bits_truncate(mode & 0o7777),
                        0,
                    );
                }
            }
        }
        for (at, mode, owner) in modes.into_iter().rev() {
            if let Some((uid, gid)) = owner {
                own(&at, uid, gid)?;
            }
            fs::set_permissions(&at, Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    match lchown(path, Some(uid), Some(gid)) {
        // The group may be one that the caller is not in.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        owned => owned,
    }
}

/// Copies a file with its permissions, owner and times. A file that cannot be read is empty, and can neither be read
/// inside.
pub(super) fn make_copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(from)?;
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let how = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut mode = meta.mode() & 0o7777;
    match File::options().read(true).custom_flags(how).open(from) {
        Ok(mut source) if source.metadata()?.is_file() => {
            io::copy(&mut source, &mut made)?;
        }
        _ => mode = 0,
    }
    if fs::metadata(from).is_ok_and(|_| access_denied(from)) {
        mode &= !0o200;
    }
    own(to, meta.uid(), meta.gid())?;
    made.set_permissions(Permissions::from_mode(mode))?;
    let times = fs::FileTimes::new()
        .set_accessed(meta.accessed()?)
        .set_modified(meta.modified()?);
    made.set_times(times)
}

/// Whether the caller may not write to a file.
fn access_denied(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK) == Err(nix::errno::Errno::EACCES)
}

/// The layers and files that could not be shown, each with its path and the kernel's error.
pub(super) type Failed = Vec<(PathBuf, io::Error)>;

/// The keeper's steps after [`Place::fill`]: mounts the layers, and puts the result over its root, where it stands for
/// all processes that enter its mount namespace. The keeper's present directory is that root then.
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
    last_pid: i64,
}

/// The steps of the first process of the pid namespace.
pub(super) fn settle(
    init: &mut HelperProcess,
    begun: &Begun,
    settings: &Settings,
) -> Result<First> {
    let mut b = Builder::default();
    let kind = Arg::Value(libc::CLONE_NEWNS as u64);
    let args = [Arg::Value(begun.namespace as u64), kind];
    b.must("enter its own root (setns)", libc::SYS_setns, &args);
    b.may(libc::SYS_setsid, &[]);
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
    let kind = Arg::Value(libc::CLONE_NEWNS as u64);
    let args = [Arg::Value(begun.namespace as u64), kind];
    b.must("enter its own root (setns)", libc::SYS_setns, &args);
    b.may(libc::SYS_setsid, &[]);
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

/// Whether the machine shows its message queues as files.
fn shows_queues() -> bool {
    static SHOWN: OnceLock<bool> = OnceLock::new();
    let shown = || {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some("mqueue"))
    };
    *SHOWN.get_or_init(shown)
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
