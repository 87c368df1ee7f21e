//! The mounts of the machine, as `/proc/self/mountinfo` lists them: see proc(5).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    parent: u64,
    /// The device of the file system.
    device: String,
    /// The path in the file system that is mounted.
    root: PathBuf,
    /// The mount point, as rrapper's root shows it.
    pub(super) point: PathBuf,
    /// The type of the file system.
    pub(super) kind: String,
    /// Whether the file system itself is read-only.
    pub(super) is_frozen: bool,
}

/// The mounts whose content can be reached by path.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    visible: Vec<Mount>,
    /// The list, which is ready for an exception once it has changed.
    file: Option<File>,
}

impl Mounts {
    /// The mounts of rrapper's mount namespace.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub(super) fn of_machine() -> io::Result<Mounts> {
        let mut file = File::open("/proc/self/mountinfo")?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(Mounts {
            visible: visible(parse(&text)),
            file: Some(file),
        })
    }

    /// Whether the machine has had no change of its mounts since.
    pub(super) fn are_current(&self) -> bool {
        let Some(file) = &self.file else {
            return false;
        };
        let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut asked, PollTimeout::ZERO) == Ok(0)
    }

    /// The mount at exactly this path.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        self.visible.iter().find(|mount| mount.point == path)
    }

    /// The mount that holds the file at this path, which has no symbolic links in it.
    pub(super) fn of(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|path| self.at(path))
    }

    /// Whether there are mounts below a directory.
    pub(super) fn are_below(&self, dir: &Path) -> bool {
        let below = |mount: &Mount| mount.point != dir && mount.point.starts_with(dir);
        self.visible.iter().any(below)
    }
}

/// The numbers of the mounts of a sandbox, as one of its processes has them, that show files of its own; a file that is
/// bound, a device and what the kernel shows of the machine are the machine's, too.
///
/// # Errors
/// If the list cannot be read.
pub(super) fn own(pid: i32, has_own_proc: bool) -> io::Result<HashSet<u64>> {
    let all = parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?);
    let root = all.iter().rfind(|mount| mount.point == Path::new("/"));
    let is_own = |mount: &&Mount| match mount.kind.as_str() {
        "overlay" => mount.root == Path::new("/"),
        "tmpfs" => root.is_some_and(|root| root.device == mount.device),
        "devpts" | "mqueue" => true,
        "proc" => has_own_proc,
        _ => false,
    };
    Ok(all.iter().filter(is_own).map(|mount| mount.id).collect())
}

fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        // ID, parent, major:minor, root, mount point, options, optional fields …, "-", type, source, options.
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse().ok();
        let end = fields.iter().position(|field| *field == b"-")?;
        let options = fields.get(end + 3)?;
        Some(Mount {
            id: number(0)?,
            parent: number(1)?,
            device: String::from_utf8_lossy(fields.get(2)?).into_owned(),
            root: PathBuf::from(OsString::from_vec(unescape(fields.get(3)?))),
            point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
            kind: String::from_utf8_lossy(fields.get(end + 1)?).into_owned(),
            is_frozen: options.split(|&b| b == b',').any(|option| option == b"ro"),
        })
    };
    text.split(|&b| b == b'\n').filter_map(mount).collect()
}

/// Leaves out mounts that others cover.
fn visible(all: Vec<Mount>) -> Vec<Mount> {
    let mut children: HashMap<u64, Vec<&Mount>> = HashMap::new();
    for mount in all.iter().filter(|mount| mount.id != mount.parent) {
        children.entry(mount.parent).or_default().push(mount);
    }
    let is_known = |id: u64| all.iter().any(|mount| mount.id == id);
    let is_root = |mount: &&Mount| mount.id == mount.parent || !is_known(mount.parent);
    let mut left: Vec<&Mount> = all.iter().filter(is_root).collect();
    let mut found = Vec::new();
    while let Some(mount) = left.pop() {
        // No mount is its own ancestor, but the list may be inconsistent while mounts change.
        if found.len() > all.len() {
            break;
        }
        let inner = children.get(&mount.id).map_or(&[][..], Vec::as_slice);
        if let Some(over) = inner.iter().find(|over| over.point == mount.point) {
            left.push(over);
            continue;
        }
        found.push(mount.clone());
        let is_covered = |one: &Mount| {
            let mut others = inner.iter();
            others.any(|other| one.point != other.point && one.point.starts_with(&other.point))
        };
        left.extend(inner.iter().filter(|one| !is_covered(one)));
    }
    found.sort_by(|a, b| a.point.cmp(&b.point));
    found
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
    fn covered_mounts_are_left_out() {
        let text = b"\
            20 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
            21 20 0:5 / /proc rw - proc proc rw\n\
            22 20 0:6 / /x/y rw - tmpfs t rw\n\
            23 20 0:7 / /x rw - tmpfs t rw\n\
            24 23 0:8 / /x/z rw master:2 - squashfs s ro,errors=continue\n\
            25 21 0:9 / /proc rw - tmpfs t rw\n";
        let mounts = visible(parse(text));
        let points: Vec<_> = mounts
            .iter()
            .map(|m| (m.point.to_str().unwrap(), m.kind.as_str(), m.is_frozen))
            .collect();
        assert_eq!(
            points,
            [
                ("/", "ext4", false),
                ("/proc", "tmpfs", false),
                ("/x", "tmpfs", false),
                ("/x/z", "squashfs", true)
            ]
        );
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert_eq!(visible(parse(b"a b c\n1 1 - - /\n\n")), []);
    }
}
