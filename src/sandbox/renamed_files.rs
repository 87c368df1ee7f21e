//! Which of the files that were changed in a sandbox are those that had other names before.
//!
//! A file is known by its inode, where its inode stays the same: one that was put into the sandbox, and one that the kernel
//! has copied up. Others are taken for the same if their kind, size, time of the last change and content are, and there are
//! no two of them. A directory is known by what is in it.

use super::changed_files::{Change, ChangeKind, DEEPEST, MOST, Origin};
use super::enclosure::Enclosure;
use super::{Sandbox, placed::Shown};
use crate::tracee::path_lookup::Root;
use crate::tracee::{checked_open, xattr};
use nix::sys::stat::{FileStat, fstat};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The limit on the bytes of files whose contents are compared; of longer ones, the size and the time are.
const MOST_COMPARED: u64 = 256 << 20;

/// What no two files share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inode {
    /// The number of the layer; `None` outside of all.
    layer: Option<usize>,
    number: u64,
    /// Whether it is the number of the machine's file.
    is_machines: bool,
}

/// What a file is known by if its inode is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    kind: u32,
    len: u64,
    modified: (i64, i64),
}

/// A file at one time.
#[derive(Clone, Copy, Debug)]
struct Seen {
    look: Look,
    mode: u32,
    inode: Option<Inode>,
    /// The number of its names.
    names: u64,
    /// Whether its content can still be read at the machine's path.
    is_machines: bool,
}

impl Seen {
    fn is_directory(&self) -> bool {
        self.look.kind == libc::S_IFDIR
    }

    fn is_altered(&self, now: &Seen) -> bool {
        self.mode != now.mode || !self.is_directory() && self.look != now.look
    }
}

/// The files of a sandbox, before and now.
struct Files<'s> {
    sandbox: &'s Sandbox,
    enclosure: &'s Enclosure,
    root: Root,
}

impl Sandbox {
    /// Adds what was in removed directories, and notes where changed files were before.
    pub(super) fn note_renames(&self, enclosure: &Enclosure, changes: &mut Vec<Change>) {
        let is_lost = |change: &&Change| change.kind != ChangeKind::Created;
        let Some(root) = self
            .root()
            .filter(|_| changes.iter().any(|one| is_lost(&one)))
        else {
            return;
        };
        let files = Files {
            sandbox: self,
            enclosure,
            root,
        };
        let mut found = Found {
            lost: files.lost(changes),
            ..Found::default()
        };
        if found.lost.is_empty() {
            return;
        }
        let known: BTreeSet<&Path> = changes.iter().map(|change| change.path.as_path()).collect();
        let more = found
            .lost
            .keys()
            .filter(|path| !known.contains(path.as_path()));
        let more: Vec<PathBuf> = more.cloned().collect();
        let more = more
            .into_iter()
            .map(|path| Change::new(path, ChangeKind::Removed));
        changes.extend(more);
        changes.sort_unstable();
        found.targets = files.targets(changes);
        found.by_inode();
        found.by_look(&files);
        found.directories(&files);
        found.note(changes);
    }
}

impl Files<'_> {
    /// A file before the processes ran.
    fn before(&self, path: &Path) -> Option<Seen> {
        let mut seen = self.untimed(path)?;
        if let Some(time) = self.sandbox.placed.time(path) {
            seen.look.modified = time;
        }
        Some(seen)
    }

    /// The same without the times that directories were given.
    fn untimed(&self, path: &Path) -> Option<Seen> {
        if let Some(placed) = self.sandbox.placed.get(path) {
            return placed.map(|shown| self.of_placed(path, &shown));
        }
        if self.sandbox.is_below_placed(path) {
            return None;
        }
        let meta = fs::symlink_metadata(path).ok()?;
        let inode = match self.enclosure.layer_of(path) {
            Some(laid) => Some(Inode {
                layer: Some(laid.number),
                number: meta.ino(),
                is_machines: true,
            }),
            None => self.enclosure.copied_inode(path).map(|number| Inode {
                layer: None,
                number,
                is_machines: false,
            }),
        };
        Some(Seen {
            look: Look {
                kind: meta.mode() & libc::S_IFMT,
                len: meta.len(),
                modified: (meta.mtime(), meta.mtime_nsec()),
            },
            mode: meta.mode(),
            inode: inode.filter(|_| !meta.is_dir()),
            names: meta.nlink(),
            is_machines: true,
        })
    }

    fn of_placed(&self, path: &Path, shown: &Shown) -> Seen {
        let (look, mode) = shown.look();
        let (kind, len, modified) = look;
        let layer = self.enclosure.layer_of(path).map(|laid| laid.number);
        // The numbers of directories are the overlay's, which change.
        let has_number = kind != libc::S_IFDIR || layer.is_none();
        Seen {
            look: Look {
                kind,
                len,
                modified,
            },
            mode: kind | mode,
            inode: has_number.then_some(Inode {
                layer,
                number: shown.inode(),
                is_machines: false,
            }),
            names: 1,
            is_machines: false,
        }
    }

    fn find(&self, path: &Path) -> Option<(OwnedFd, FileStat)> {
        let found = self.root.find(path.as_os_str().as_bytes(), false)?;
        let status = fstat(&found).ok()?;
        Some((found, status))
    }

    /// A file as it is now.
    fn now(&self, path: &Path) -> Option<Seen> {
        let (_, status) = self.find(path)?;
        let laid = self.enclosure.layer_of(path);
        let is_copied_up = laid.is_some_and(|laid| {
            let inner = path.strip_prefix(&laid.layer.path).unwrap_or(path);
            let upper = self.enclosure.upper(laid).join(inner);
            xattr::attribute(&upper, "user.overlay.origin").is_ok_and(|mark| mark.is_some())
        });
        Some(Seen {
            look: Look {
                kind: status.st_mode & libc::S_IFMT,
                len: status.st_size as u64,
                modified: (status.st_mtime, status.st_mtime_nsec),
            },
            mode: status.st_mode,
            inode: Some(Inode {
                layer: laid.map(|laid| laid.number),
                number: status.st_ino,
                is_machines: is_copied_up,
            }),
            names: status.st_nlink,
            is_machines: false,
        })
    }

    /// The files that may have been others' before.
    fn targets(&self, changes: &[Change]) -> BTreeMap<PathBuf, Seen> {
        let mut targets = BTreeMap::new();
        for change in changes {
            let is_possible = |now: &Seen| match change.kind {
                ChangeKind::Created => true,
                ChangeKind::Changed => !now.is_directory() && !self.is_in_place(&change.path, now),
                ChangeKind::Removed | ChangeKind::Renamed => false,
            };
            if let Some(now) = self.now(&change.path).filter(is_possible) {
                targets.insert(change.path.clone(), now);
            }
        }
        targets
    }

    /// Whether a file is still the one that was there.
    fn is_in_place(&self, path: &Path, now: &Seen) -> bool {
        self.before(path).is_some_and(|was| {
            let (Some(was), Some(now)) = (was.inode, now.inode) else {
                return false;
            };
            was == now || is_copied_up_of(was, now)
        })
    }

    /// The files that are not where they were.
    fn lost(&self, changes: &[Change]) -> BTreeMap<PathBuf, Seen> {
        let mut lost = BTreeMap::new();
        for change in changes {
            let is_lost = match change.kind {
                ChangeKind::Removed => true,
                ChangeKind::Changed => {
                    let now = self.now(&change.path);
                    !now.is_some_and(|now| {
                        now.is_directory() || self.is_in_place(&change.path, &now)
                    })
                }
                ChangeKind::Created | ChangeKind::Renamed => false,
            };
            if is_lost {
                self.add_below(&change.path, 0, &mut lost);
            }
        }
        lost
    }

    /// Adds what was at a path, with all below it.
    fn add_below(&self, path: &Path, depth: usize, lost: &mut BTreeMap<PathBuf, Seen>) {
        if lost.len() >= MOST || depth > DEEPEST || lost.contains_key(path) {
            return;
        }
        let Some(was) = self.before(path) else {
            return;
        };
        lost.insert(path.to_path_buf(), was);
        if was.is_directory() {
            for inner in self.entries_before(path) {
                self.add_below(&inner, depth + 1, lost);
            }
        }
    }

    /// What was in a directory.
    fn entries_before(&self, dir: &Path) -> BTreeSet<PathBuf> {
        let machines = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut all: BTreeSet<PathBuf> = machines.map(|entry| entry.path()).take(MOST).collect();
        let placed = self.sandbox.placed.iter().map(|(path, _)| path);
        all.extend(
            placed
                .filter(|path| path.parent() == Some(dir))
                .map(PathBuf::from),
        );
        all.retain(|path| self.before(path).is_some());
        all
    }

    fn is_empty_now(&self, dir: &Path) -> bool {
        let inside = self.sandbox.inside(dir);
        fs::read_dir(inside).is_ok_and(|mut entries| entries.next().is_none())
    }

    /// What tells the content of a file from others of the same size. Of files that were put there, it is gone.
    fn content_before(&self, path: &Path, was: &Seen) -> Option<Vec<u8>> {
        if !was.is_machines || was.look.len > MOST_COMPARED {
            return None;
        }
        match was.look.kind {
            libc::S_IFREG => hash(checked_open::regular(path, libc::O_NOFOLLOW)).ok(),
            libc::S_IFLNK => Some(fs::read_link(path).ok()?.as_os_str().as_bytes().to_vec()),
            _ => None,
        }
    }

    fn content_now(&self, path: &Path, now: &Seen) -> Option<Vec<u8>> {
        let (found, _) = self.find(path)?;
        match now.look.kind {
            libc::S_IFREG => hash(checked_open::reopen(found, libc::O_RDONLY)).ok(),
            libc::S_IFLNK => {
                let text = nix::fcntl::readlinkat(&found, "").ok()?;
                Some(text.as_bytes().to_vec())
            }
            _ => None,
        }
    }
}

/// Whether one file is the copy that the kernel has made of the other when that was changed.
fn is_copied_up_of(was: Inode, now: Inode) -> bool {
    // What was put there may be in a directory below the changed files.
    now.is_machines && (was.layer, was.number) == (now.layer, now.number)
}

/// The hash of a file's content.
pub(super) fn hash(file: io::Result<File>) -> io::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    io::copy(&mut file?, &mut hash)?;
    Ok(hash.finalize().to_vec())
}

/// Which files are the same.
#[derive(Default)]
struct Found {
    /// The files that are not where they were.
    lost: BTreeMap<PathBuf, Seen>,
    /// Those that were not there.
    targets: BTreeMap<PathBuf, Seen>,
    /// The latter with the former.
    pairs: BTreeMap<PathBuf, PathBuf>,
    used: BTreeSet<PathBuf>,
}

impl Found {
    fn pair(&mut self, target: &Path, from: &Path) {
        if !self.used.contains(from) && !self.pairs.contains_key(target) {
            self.used.insert(from.to_path_buf());
            self.pairs.insert(target.to_path_buf(), from.to_path_buf());
        }
    }

    fn by_inode(&mut self) {
        let mut known: HashMap<Inode, PathBuf> = HashMap::new();
        for (path, was) in &self.lost {
            if let Some(inode) = was.inode {
                known.entry(inode).or_insert_with(|| path.clone());
            }
        }
        let mut pairs = Vec::new();
        for (path, now) in &self.targets {
            let Some(inode) = now.inode else { continue };
            let plain = Inode {
                is_machines: false,
                ..inode
            };
            let from = known.get(&inode).or_else(|| known.get(&plain));
            let is_kind = |from: &&PathBuf| self.lost[*from].look.kind == now.look.kind;
            if let Some(from) = from.filter(is_kind) {
                pairs.push((path.clone(), from.clone()));
            }
        }
        for (path, from) in pairs {
            self.pair(&path, &from);
        }
    }

    /// Finds files other than directories that look the same, where there are no two of them. Two of the same name in other
    /// directories are told apart by that.
    fn by_look(&mut self, files: &Files<'_>) {
        let mut alike: BTreeMap<Look, (Vec<&Path>, Vec<&Path>)> = BTreeMap::new();
        for (path, was) in &self.lost {
            if !was.is_directory() && !self.used.contains(path) {
                alike.entry(was.look).or_default().0.push(path);
            }
        }
        let mut names: HashMap<Option<Inode>, u64> = HashMap::new();
        for now in self.targets.values() {
            *names.entry(now.inode).or_default() += 1;
        }
        // The names of one file count once, and a file that has another name, too, is still there.
        let mut seen = HashSet::new();
        for (path, now) in &self.targets {
            if let Some(alike) = alike.get_mut(&now.look)
                && !self.pairs.contains_key(path)
                && names[&now.inode] >= now.names
                && seen.insert(now.inode)
            {
                alike.1.push(path);
            }
        }
        let mut pairs = Vec::new();
        for (lost, targets) in alike.into_values() {
            for &target in &targets {
                let name = target.file_name();
                let is_only = lost.len() == 1 && targets.len() == 1;
                let named = |paths: &[&Path]| {
                    let paths = paths.iter().filter(|path| path.file_name() == name);
                    paths.count() == 1
                };
                if !(is_only || named(&lost) && named(&targets)) {
                    continue;
                }
                let from = lost
                    .iter()
                    .find(|from| is_only || from.file_name() == name)
                    .copied();
                let is_same = |from: &&Path| {
                    let before = files.content_before(from, &self.lost[*from]);
                    before.is_none() || before == files.content_now(target, &self.targets[target])
                };
                if let Some(from) = from.filter(is_same) {
                    pairs.push((target.to_path_buf(), from.to_path_buf()));
                }
            }
        }
        for (path, from) in pairs {
            self.pair(&path, &from);
        }
    }

    /// Finds directories by what is in them, the inner ones first; empty ones by their times. Then the rest of what is in
    /// them.
    fn directories(&mut self, files: &Files<'_>) {
        let mut dirs: Vec<PathBuf> = Vec::new();
        let mut inside: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for (path, now) in &self.targets {
            if now.is_directory() {
                dirs.push(path.clone());
            }
            if let Some(dir) = path.parent() {
                inside.entry(dir.into()).or_default().push(path.clone());
            }
        }
        dirs.sort_by_key(|dir| dir.components().count());
        for dir in dirs.iter().rev() {
            let mut votes: BTreeMap<&Path, usize> = BTreeMap::new();
            for inner in inside.get(dir).into_iter().flatten() {
                if let Some(from) = self.pairs.get(inner)
                    && from.file_name() == inner.file_name()
                    && let Some(was_in) = from.parent().filter(|dir| self.is_lost_directory(dir))
                {
                    *votes.entry(was_in).or_default() += 1;
                }
            }
            let most = votes.iter().max_by_key(|(_, votes)| **votes);
            let from = most.map(|(from, _)| from.to_path_buf());
            if let Some(from) = from.or_else(|| self.empty_like(dir, files)) {
                self.pair(dir, &from);
            }
        }
        for dir in &dirs {
            if let Some(from) = self.pairs.get(dir).cloned() {
                self.inside(&from, inside.get(dir).map_or(&[], Vec::as_slice));
            }
        }
    }

    fn is_lost_directory(&self, path: &Path) -> bool {
        self.lost.get(path).is_some_and(Seen::is_directory) && !self.used.contains(path)
    }

    /// The only empty directory that has the time of this one.
    fn empty_like(&self, dir: &Path, files: &Files<'_>) -> Option<PathBuf> {
        let modified = |seen: &Seen| seen.look.modified;
        let time = modified(self.targets.get(dir)?);
        let is_it = |(path, was): &(&PathBuf, &Seen)| {
            modified(was) == time
                && self.is_lost_directory(path)
                && files.entries_before(path).is_empty()
        };
        let mut alike = self.lost.iter().filter(is_it).map(|(path, _)| path);
        let only = alike.next().filter(|_| alike.next().is_none())?;
        files.is_empty_now(dir).then(|| only.clone())
    }

    /// Finds the rest of what is in a directory by its names: directories, and files that look the same.
    fn inside(&mut self, from: &Path, targets: &[PathBuf]) {
        for target in targets {
            let (Some(name), Some(now)) = (target.file_name(), self.targets.get(target)) else {
                continue;
            };
            let was = from.join(name);
            let is_same = |lost: &Seen| match lost.is_directory() {
                true => now.is_directory(),
                false => lost.look == now.look,
            };
            if self.lost.get(&was).is_some_and(is_same) {
                self.pair(target, &was);
            }
        }
    }

    /// Notes what was found.
    fn note(self, changes: &mut [Change]) {
        for change in changes.iter_mut() {
            if let Some(from) = self.pairs.get(&change.path) {
                change.from = Some(Origin {
                    is_altered: self.lost[from].is_altered(&self.targets[&change.path]),
                    path: from.clone(),
                });
            }
        }
    }
}

/// Changes as they are told: a file that has another name is renamed, and a directory together with what is in it.
pub fn with_renames(changes: Vec<Change>) -> Vec<Change> {
    let is_renamed = |change: &Change| change.kind == ChangeKind::Created && change.from.is_some();
    let renamed = changes.iter().filter(|change| is_renamed(change));
    let renamed: BTreeMap<PathBuf, PathBuf> = renamed
        .filter_map(|change| Some((change.path.clone(), change.from.as_ref()?.path.clone())))
        .collect();
    let sources: BTreeSet<&PathBuf> = renamed.values().collect();
    let is_in_renamed = |path: &Path, from: &Path| {
        path.ancestors().skip(1).any(|dir| {
            let rest = path.strip_prefix(dir).unwrap_or(path);
            renamed
                .get(dir)
                .is_some_and(|was| was.join(rest).as_path() == from)
        })
    };
    let mut told = Vec::new();
    for mut change in changes {
        match (change.kind, &change.from) {
            (ChangeKind::Removed, _) if sources.contains(&change.path) => continue,
            (ChangeKind::Created, Some(from)) => {
                let is_inner = is_in_renamed(&change.path, &from.path);
                if is_inner && !from.is_altered {
                    continue;
                }
                change.kind = match is_inner {
                    true => ChangeKind::Changed,
                    false => ChangeKind::Renamed,
                };
            }
            _ => {}
        }
        told.push(change);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (&'a str, ChangeKind, Option<(&'a str, bool)>);

    fn told(changes: &[Row<'_>]) -> Vec<String> {
        let changes = changes.iter().map(|(path, kind, from)| Change {
            path: path.into(),
            kind: *kind,
            from: from.map(|(path, is_altered)| Origin {
                path: path.into(),
                is_altered,
            }),
        });
        let told = with_renames(changes.collect()).into_iter();
        told.map(|change| {
            let from = change
                .from
                .map_or(String::new(), |from| format!(" < {}", from.path.display()));
            format!("{} {}{from}", change.kind.name(), change.path.display())
        })
        .collect()
    }

    #[test]
    fn a_renamed_directory_is_one_change() {
        use ChangeKind::{Changed, Created, Removed};
        let seen = told(&[
            ("/d", Removed, None),
            ("/d/a", Removed, None),
            ("/d/b", Removed, None),
            ("/d/gone", Removed, None),
            ("/d/out", Removed, None),
            ("/old", Removed, None),
            ("/over", Changed, Some(("/old", false))),
            ("/other", Created, Some(("/d/out", true))),
            ("/x", Created, Some(("/d", false))),
            ("/x/a", Created, Some(("/d/a", false))),
            ("/x/b", Created, Some(("/d/b", true))),
            ("/x/new", Created, None),
        ]);
        let expected = [
            "removed /d/gone",
            "removed /old",
            "changed /over < /old",
            "renamed /other < /d/out",
            "renamed /x < /d",
            "changed /x/b < /d/b",
            "created /x/new",
        ];
        assert_eq!(seen, expected);
    }
}
