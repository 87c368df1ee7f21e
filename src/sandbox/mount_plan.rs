//! The plan of a sandbox's overlay mounts, worked out from the machine's mounts before a process sets them up.

use super::id_map::IdMap;
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Directories in which programs always put files, and in which other programs listen at sockets.
const ALWAYS: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// Directories that cannot be overlaid.
const NEVER: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The limit on the entries of a directory with mounts below it.
const MOST_ENTRIES: usize = 256;

/// The limit on the files that are searched for sockets in directories that cannot be overlaid.
const MOST_SOUGHT: usize = 20_000;

/// An overlay: a directory with changeable content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    /// The permissions of the directory itself.
    pub(super) mode: u32,
    /// Whether the directory has content, which must stay visible.
    pub(super) filled: bool,
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct MountPlan {
    /// The overlays, outer ones before inner ones.
    pub(super) layers: Vec<Layer>,
    /// Sockets and pipes to hide, since they lead to other programs.
    pub(super) covers: Vec<PathBuf>,
    /// Sockets and pipes below the layers, which hide them.
    pub(super) covered: Vec<PathBuf>,
    /// Sentences about directories that are not writable, or not entirely.
    pub(super) notes: Vec<String>,
}

/// The mounts of this machine and the caller's ids.
pub(super) struct Machine<'a> {
    pub(super) ids: &'a IdMap,
    pub(super) mounts: Vec<PathBuf>,
}

impl Machine<'_> {
    fn has_mounts_below(&self, dir: &Path) -> bool {
        let below = |mount: &PathBuf| mount != dir && mount.starts_with(dir);
        self.mounts.iter().any(below)
    }
}

/// The mount points of `/proc/self/mountinfo`.
pub(super) fn mounts() -> std::io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let point = |line: &[u8]| {
        let field = line.split(|&b| b == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    };
    Ok(text.split(|&b| b == b'\n').filter_map(point).collect())
}

/// `\040` and the like are bytes in octal.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

impl MountPlan {
    pub(super) fn new<'p>(
        machine: &Machine<'_>,
        writable: impl Iterator<Item = &'p Path>,
    ) -> MountPlan {
        let mut plan = MountPlan::default();
        let mut wanted = BTreeSet::new();
        for dir in ALWAYS {
            wanted.extend(fs::canonicalize(dir).ok().filter(|dir| dir.is_dir()));
        }
        for path in writable {
            match nearest_dir(path) {
                Some(dir) if is_out_of_bounds(&dir) => {
                    plan.notes
                        .push(format!("{} stays read-only", path.display()));
                }
                Some(dir) => {
                    wanted.insert(dir);
                }
                None => {}
            }
        }
        // A path sorts before the paths that start with it.
        for dir in wanted {
            plan.lay(machine, &dir);
        }
        plan.covers = sockets();
        let uncovered: Vec<PathBuf> = ["/run", "/var/run"]
            .iter()
            .filter_map(|dir| fs::canonicalize(dir).ok())
            .filter(|dir| machine.has_mounts_below(dir))
            .collect();
        let mut left = MOST_SOUGHT;
        for dir in uncovered {
            plan.seek(&dir, &mut left);
        }
        let layers = &plan.layers;
        let mut seen = BTreeSet::new();
        plan.covers.retain(|path| seen.insert(path.clone()));
        let laid = |path: &PathBuf| layers.iter().any(|layer| path.starts_with(&layer.path));
        (plan.covered, plan.covers) = plan.covers.into_iter().partition(laid);
        plan
    }

    fn lay(&mut self, machine: &Machine<'_>, dir: &Path) {
        if self.is_laid(machine, dir) {
            return;
        }
        let Ok(meta) = fs::symlink_metadata(dir) else {
            return;
        };
        // The content of the directory can be neither changed nor reached.
        if access(dir, AccessFlags::X_OK).is_err() {
            return;
        }
        if !machine.has_mounts_below(dir) {
            let owned = machine.ids.contain(&meta);
            let entries = fs::read_dir(dir).map(|mut entries| entries.next().is_some());
            self.layers.push(Layer {
                path: dir.to_path_buf(),
                mode: if owned {
                    meta.mode() & 0o7777
                } else {
                    rights(dir, meta.mode())
                },
                filled: entries.unwrap_or(true),
            });
            return;
        }
        // The kernel overlays no directory with mounts below it.
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut inner: Vec<PathBuf> = entries
            .take(MOST_ENTRIES + 1)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        if inner.len() > MOST_ENTRIES {
            let dir = dir.display();
            self.notes.push(format!(
                "{dir} stays read-only: it has mounts and many directories in it"
            ));
            return;
        }
        if access(dir, AccessFlags::W_OK).is_ok() {
            let dir = dir.display();
            self.notes.push(format!(
                "{dir} has mounts in it: files in it stay read-only, its directories do not"
            ));
        }
        inner.sort_unstable();
        for dir in inner {
            self.lay(machine, &dir);
        }
    }

    /// Whether the overlay of an outer directory makes files in a directory possible: copying up a directory fails
    /// whose owner is not mapped.
    fn is_laid(&self, machine: &Machine<'_>, dir: &Path) -> bool {
        let mut layers = self.layers.iter().rev();
        let Some(outer) = layers.find(|layer| dir.starts_with(&layer.path)) else {
            return false;
        };
        let between = dir.ancestors().take_while(|&path| path != outer.path);
        let known =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| machine.ids.contain(&meta));
        between.into_iter().all(known)
    }

    /// Searches for sockets and pipes in a directory without an overlay.
    fn seek(&mut self, dir: &Path, left: &mut usize) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if *left == 0 {
                return;
            }
            *left -= 1;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.seek(&entry.path(), left),
                Ok(kind) if kind.is_socket() || kind.is_fifo() => self.covers.push(entry.path()),
                _ => {}
            }
        }
    }
}

/// The mode of a directory of another owner: the owner gets the caller's permissions.
fn rights(dir: &Path, mode: u32) -> u32 {
    let may = |flag, bit| if access(dir, flag).is_ok() { bit } else { 0 };
    let own = may(AccessFlags::R_OK, 0o400)
        | may(AccessFlags::W_OK, 0o200)
        | may(AccessFlags::X_OK, 0o100);
    mode & 0o7077 | own
}

fn is_out_of_bounds(dir: &Path) -> bool {
    let never = NEVER.iter().any(|never| dir.starts_with(never));
    dir == Path::new("/") || never && !dir.starts_with("/dev/shm")
}

/// The nearest existing directory of a path; symbolic links resolved.
fn nearest_dir(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    path.ancestors()
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| path.is_dir())
}

/// The paths of the sockets at which programs on this machine listen.
fn sockets() -> Vec<PathBuf> {
    // Num RefCount Protocol Flags Type St Inode Path
    let text = fs::read("/proc/net/unix").unwrap_or_default();
    let path = |line: &[u8]| {
        let at = line.iter().position(|&b| b == b'/')?;
        Some(PathBuf::from(OsString::from_vec(line[at..].to_vec())))
    };
    let lines = text.split(|&b| b == b'\n').filter_map(path);
    let there =
        |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    // A socket may be bound by a path with symbolic links.
    let resolved = |path: PathBuf| fs::canonicalize(path).ok();
    lines
        .filter_map(resolved)
        .filter(there)
        .filter(|path| path.as_os_str().as_bytes().len() < 4096)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_of_mount_points_are_bytes() {
        assert_eq!(unescape(br"/a\040b\134c"), b"/a b\\c");
        assert_eq!(unescape(br"/a\9"), br"/a\9");
        assert_eq!(unescape(br"/\777"), br"/\777");
    }

    #[test]
    fn missing_directories_stand_for_those_around_them() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(nearest_dir(&dir.path().join("no/such")), Some(real));
        assert_eq!(nearest_dir(Path::new("relative")), None);
    }
}
