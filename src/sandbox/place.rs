//! The directory of changed files: the files that a sandbox shows, and the layers' directories.

use super::enclosure::terminals::Terminal;
use super::root_plan::{Entry, Layer, RootPlan};
use crate::tracee::call_batch::HelperProcess;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Devices that are safe in a sandbox.
pub(super) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Names in the directory of changed files: the files that sandboxes show, an empty `/dev`, and what hides others.
pub(super) const ROOT: &str = "root";
pub(super) const DEV: &str = "dev";
pub(super) const NO_FILE: &str = "none";
pub(super) const NO_DIR: &str = "nothing";

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

/// The directory of changed files, which only rrapper and the keeper can reach.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    /// Opens it: the keeper has it open by this descriptor.
    pub(super) fn open(keeper: &HelperProcess, descriptor: i64) -> io::Result<Place> {
        let path = format!("/proc/{}/fd/{descriptor}", keeper.pid());
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
        let changed = self.path(upper(number));
        self.add_dir(&changed, layer.mode, layer.owner)?;
        if let Ok(meta) = fs::symlink_metadata(&layer.path) {
            let time = |time, nanoseconds| TimeSpec::new(time, nanoseconds);
            utimensat(
                AT_FDCWD,
                &changed,
                &time(meta.atime(), meta.atime_nsec()),
                &time(meta.mtime(), meta.mtime_nsec()),
                UtimensatFlags::NoFollowSymlink,
            )?;
        }
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
                Entry::Special(mode) => _ = make_special(path, &at, *mode),
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

/// Makes a socket or FIFO at which nobody is, with the owner and times of the machine's as far as it can have them.
pub(super) fn make_special(from: &Path, to: &Path, mode: u32) -> nix::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let kind = SFlag::from_bits_truncate(mode & libc::S_IFMT);
    mknod(to, kind, Mode::empty(), 0)?;
    if let Ok(meta) = fs::symlink_metadata(from) {
        _ = own(to, meta.uid(), meta.gid());
        let accessed = TimeSpec::new(meta.atime(), meta.atime_nsec());
        let modified = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
        let how = UtimensatFlags::NoFollowSymlink;
        utimensat(AT_FDCWD, to, &accessed, &modified, how)?;
    }
    // Whatever the umask of rrapper is.
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    fchmodat(AT_FDCWD, to, mode, FchmodatFlags::FollowSymlink)
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
            // A log may grow as fast as it is copied.
            io::copy(&mut source.by_ref().take(meta.len()), &mut made)?;
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

/// Whether the machine shows its message queues as files.
pub(super) fn shows_queues() -> bool {
    static SHOWN: OnceLock<bool> = OnceLock::new();
    let shown = || {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some("mqueue"))
    };
    *SHOWN.get_or_init(shown)
}
