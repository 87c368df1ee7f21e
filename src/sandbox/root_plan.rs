//! The plan of the file system that a sandbox shows: which directories are overlays, and what is around them.
//!
//! The kernel lays no overlay over a directory with mounts below it. Such a directory, the root for one, is made anew:
//! its subdirectories are overlays or made anew themselves, and its files are copies. So all that is shown is below an
//! overlay or a copy: no socket, FIFO or device of the machine is among it, and everything can be changed that could be
//! changed outside.

use super::id_map::IdMap;
use super::mounts::Mounts;
use nix::unistd::{AccessFlags, access};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Directories that a sandbox has its own of.
pub(super) const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A directory of `/dev` in which programs put files.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// File systems that are interfaces of the kernel. They are shown in their standard places only.
const INTERFACES: [&str; 22] = [
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// The limit on overlays.
const MOST_LAYERS: usize = 400;

/// The limit on the entries of a directory that is made anew.
const MOST_ENTRIES: usize = 4096;

/// The limit on a copied file, and on all of them, in bytes.
const LARGEST: u64 = 16 << 20;
const MOST_BYTES: u64 = 64 << 20;

/// A directory that is an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    /// The permissions of the directory itself.
    pub(super) mode: u32,
    /// The owner and group, where files inside can have them.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether its content can be changed.
    pub(super) is_writable: bool,
    /// Whether the machine's files in it never change.
    pub(super) is_frozen: bool,
    /// The device number of the machine's directory.
    pub(super) device: u64,
}

/// An entry of a directory that is made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory: a mount point, or made anew itself. Its permissions, and its owner where it can have it.
    Dir(u32, Option<(u32, u32)>),
    /// A symbolic link to this path.
    Link(PathBuf),
    /// A copy of the machine's file.
    Copy,
    /// A file of the machine that is too large for a copy: it is shown read-only.
    Bound,
    /// A socket or FIFO at which nobody is: `S_IFSOCK` or `S_IFIFO`, with permissions.
    Special(u32),
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct RootPlan {
    /// The overlays, outer ones before inner ones.
    pub(super) layers: Vec<Layer>,
    /// The entries that are made anew, outer ones before inner ones.
    pub(super) entries: Vec<(PathBuf, Entry)>,
    /// The directories of which `entries` has the content.
    pub(super) skeletons: Vec<PathBuf>,
    /// Sentences about what is not shown as it is.
    pub(super) notes: Vec<String>,
    copied: u64,
}

/// The mounts of this machine and the caller's ids.
pub(super) struct Machine<'a> {
    pub(super) ids: &'a IdMap,
    pub(super) mounts: &'a Mounts,
}

impl Machine<'_> {
    fn owner(&self, meta: &Metadata) -> Option<(u32, u32)> {
        self.ids.contain(meta).then(|| (meta.uid(), meta.gid()))
    }

    /// The permissions of a file for its owner inside: another owner's file belongs to the caller there.
    pub(super) fn mode(&self, path: &Path, meta: &Metadata) -> u32 {
        match self.ids.contain(meta) {
            true => meta.mode() & 0o7777,
            false => rights(path, meta.mode()),
        }
    }

    /// The overlay of a directory.
    pub(super) fn layer(&self, dir: &Path) -> Option<Layer> {
        let meta = fs::symlink_metadata(dir).ok().filter(Metadata::is_dir)?;
        let mount = self.mounts.of(dir);
        Some(Layer {
            path: dir.to_path_buf(),
            mode: self.mode(dir, &meta),
            owner: self.owner(&meta),
            is_writable: true,
            is_frozen: mount.is_some_and(|mount| mount.is_frozen),
            device: meta.dev(),
        })
    }
}

impl RootPlan {
    /// The plan for the whole file system.
    pub(super) fn new(machine: &Machine<'_>) -> RootPlan {
        let mut plan = RootPlan::default();
        let root = Path::new("/");
        if let Ok(meta) = fs::symlink_metadata(root) {
            let entry = Entry::Dir(machine.mode(root, &meta), machine.owner(&meta));
            plan.entries.push((root.to_path_buf(), entry));
        }
        plan.make_anew(machine, root);
        if let Some(layer) = machine.layer(Path::new(SHARED_MEMORY)) {
            plan.layers.push(layer);
        }
        plan
    }

    fn place(&mut self, machine: &Machine<'_>, dir: &Path, meta: &Metadata) {
        let entry = |mode| Entry::Dir(mode, machine.owner(meta));
        // What cannot be entered is neither seen nor changed.
        if access(dir, AccessFlags::X_OK).is_err() {
            self.entries.push((dir.to_path_buf(), entry(0)));
            return;
        }
        let mount = machine.mounts.at(dir);
        if mount.is_some_and(|mount| INTERFACES.contains(&mount.kind.as_str())) {
            self.entries
                .push((dir.to_path_buf(), entry(machine.mode(dir, meta) & !0o222)));
            return;
        }
        self.entries
            .push((dir.to_path_buf(), entry(machine.mode(dir, meta))));
        if machine.mounts.are_below(dir) {
            self.make_anew(machine, dir);
        } else if self.layers.len() >= MOST_LAYERS {
            let dir = dir.display();
            self.notes.push(format!(
                "{dir} is empty: there are too many mounts and directories beside them"
            ));
        } else {
            self.layers.extend(machine.layer(dir));
        }
    }

    fn make_anew(&mut self, machine: &Machine<'_>, dir: &Path) {
        let names: Option<Vec<PathBuf>> = fs::read_dir(dir).ok().map(|entries| {
            let entries = entries.flatten().take(MOST_ENTRIES + 1);
            entries.map(|entry| entry.path()).collect()
        });
        let mut names = names.unwrap_or_default();
        if names.len() > MOST_ENTRIES {
            let dir = dir.display();
            self.notes.push(format!(
                "{dir} is empty: it has mounts and too many files in it"
            ));
            return;
        }
        names.sort_unstable();
        self.skeletons.push(dir.to_path_buf());
        for path in names {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            let kind = meta.file_type();
            if OWN.iter().any(|own| path == Path::new(own)) {
                let entry = Entry::Dir(0o755, machine.owner(&meta));
                self.entries.push((path, entry));
            } else if kind.is_dir() {
                self.place(machine, &path, &meta);
            } else if kind.is_symlink() {
                if let Ok(target) = fs::read_link(&path) {
                    self.entries.push((path, Entry::Link(target)));
                }
            } else if kind.is_file() {
                let entry = self.file(&meta);
                self.entries.push((path, entry));
            } else if kind.is_socket() || kind.is_fifo() {
                let entry = Entry::Special(meta.mode());
                self.entries.push((path, entry));
            }
        }
    }

    fn file(&mut self, meta: &Metadata) -> Entry {
        let sum = self.copied.saturating_add(meta.len());
        if meta.len() > LARGEST || sum > MOST_BYTES {
            return Entry::Bound;
        }
        self.copied = sum;
        Entry::Copy
    }
}

/// The mode of a file of another owner: the owner gets the caller's permissions.
fn rights(path: &Path, mode: u32) -> u32 {
    let may = |flag, bit| if access(path, flag).is_ok() { bit } else { 0 };
    let own = may(AccessFlags::R_OK, 0o400)
        | may(AccessFlags::W_OK, 0o200)
        | may(AccessFlags::X_OK, 0o100);
    mode & 0o7077 | own
}

/// The nearest existing directory of a path; symbolic links resolved.
pub(super) fn nearest_dir(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    path.ancestors()
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_stand_for_those_around_them() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(nearest_dir(&dir.path().join("no/such")), Some(real));
        assert_eq!(nearest_dir(Path::new("relative")), None);
    }
}
