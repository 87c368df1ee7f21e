//! Recordings in a directory: listing and removing them.

use super::store::Store;
use super::{Error, MAGIC, PACK_MAGIC, Reader, Result, io, locations};
use crate::trace::Exit;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A recording in a directory of recordings.
#[derive(Debug)]
pub struct Listed {
    /// The name of its directory or file.
    pub name: OsString,
    /// The bytes that it takes on disk.
    pub size: u64,
    /// Its summary, or the reason why it cannot be opened.
    pub content: Result<Summary>,
}

/// A summary of a recording.
#[derive(Debug)]
pub struct Summary {
    /// The program's arguments, with its name first.
    pub argv: Vec<Vec<u8>>,
    /// When it began, in seconds since 1970.
    pub time: u64,
    /// The number of its events.
    pub events: u64,
    /// How the program ended; `None` where the recording is incomplete.
    pub exit: Option<Exit>,
    /// Whether it is being made.
    pub growing: bool,
}

/// The recordings in a directory, oldest first. Other files are left out.
///
/// # Errors
/// If the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("look into", dir))? {
        let entry = entry.map_err(io("look into", dir))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) || !looks_like_one(&path) {
            continue;
        }
        found.push(Listed {
            name: entry.file_name(),
            size: size(&path),
            content: summary(&path),
        });
    }
    found.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(found)
}

fn order(listed: &Listed) -> (u64, &OsStr) {
    let time = listed.content.as_ref().map_or(0, |summary| summary.time);
    (time, &listed.name)
}

fn summary(path: &Path) -> Result<Summary> {
    let recording = Reader::open(path)?;
    let start = recording.start();
    Ok(Summary {
        argv: start.argv.clone(),
        time: start.time,
        events: recording.len(),
        exit: recording.exit(),
        growing: recording.exit().is_none() && is_growing(&path.join("events")),
    })
}

/// Whether it begins like a recording of any version.
fn looks_like_one(path: &Path) -> bool {
    let (file, magic) = match path.is_dir() {
        true => (path.join("events"), MAGIC),
        false => (path.to_path_buf(), PACK_MAGIC),
    };
    let regular = file.symlink_metadata().is_ok_and(|meta| meta.is_file());
    regular && File::open(file).is_ok_and(|file| begins_with(&file, magic))
}

fn begins_with(file: &File, magic: [u8; 8]) -> bool {
    let mut begin = [0; 8];
    file.read_exact_at(&mut begin, 0).is_ok() && begin == magic
}

/// Whether a recorder has its lock.
fn is_growing(events: &Path) -> bool {
    let Ok(file) = File::open(events) else {
        return false;
    };
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

/// The metadata of the regular files of a recording.
pub(super) fn regular_files(path: &Path) -> Vec<fs::Metadata> {
    let inside = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let own = path.symlink_metadata().into_iter();
    let below = inside(path).chain(inside(&path.join("files")));
    let all = own.chain(below.filter_map(|entry| entry.metadata().ok()));
    all.filter(fs::Metadata::is_file).collect()
}

/// The bytes on disk; content that several names stand for counts once.
fn size(path: &Path) -> u64 {
    let mut files: Vec<(u64, u64, u64)> = regular_files(path)
        .iter()
        .map(|meta| (meta.dev(), meta.ino(), meta.blocks() * 512))
        .collect();
    files.sort_unstable();
    files.dedup();
    files.iter().map(|(.., size)| size).sum()
}

/// Removes a recording, and the files in the store that no other recording has; refuses any other directory.
///
/// # Errors
/// If the path is no recording, has other files in it, is being recorded, or cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    remove_alone(path)?;
    let store = locations::default_directory().map(|directory| Store::beside(&directory));
    if let Ok(store) = store
        && let Err(error) = store.collect()
    {
        tracing::warn!("cannot look after what recordings share: {error}");
    }
    Ok(())
}

/// Removes a recording and leaves the store alone.
///
/// # Errors
/// As for [`remove`].
pub(super) fn remove_alone(path: &Path) -> Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| not(path, "it has no name"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let at = OpenDir {
        dir: open_dir(None, parent.as_os_str(), parent, OFlag::empty())?,
        path: parent.into(),
    };
    let kind = at.kind(name)?;
    if kind == SFlag::S_IFLNK {
        return Err(not(path, "it is a symbolic link"));
    }
    if kind == SFlag::S_IFDIR {
        at.remove_recording(name)?;
    } else {
        at.check_magic(name, PACK_MAGIC, path)?;
        at.unlink(name)?;
    }
    locations::relink_latest(path);
    Ok(())
}

fn not(path: &Path, reason: &str) -> Error {
    Error::NotARecording {
        path: path.into(),
        reason: reason.into(),
    }
}

/// An open directory: operations stay in it even if its path changes meanwhile.
struct OpenDir {
    dir: OwnedFd,
    path: PathBuf,
}

fn open_dir(at: Option<&OwnedFd>, name: &OsStr, path: &Path, how: OFlag) -> Result<OwnedFd> {
    let how = how | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let opened = match at {
        Some(at) => openat(at, name, how, Mode::empty()),
        None => openat(nix::fcntl::AT_FDCWD, name, how, Mode::empty()),
    };
    opened.map_err(|e| io("open", path)(e.into()))
}

impl OpenDir {
    fn inside(&self, name: &OsStr) -> Result<OpenDir> {
        let path = self.path.join(name);
        Ok(OpenDir {
            dir: open_dir(Some(&self.dir), name, &path, OFlag::O_NOFOLLOW)?,
            path,
        })
    }

    fn kind(&self, name: &OsStr) -> Result<SFlag> {
        let stat: FileStat = fstatat(self.dir.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|e| io("look at", self.path.join(name))(e.into()))?;
        Ok(SFlag::from_bits_truncate(
            stat.st_mode & SFlag::S_IFMT.bits(),
        ))
    }

    fn names(&self) -> Result<Vec<OsString>> {
        let fail = |e: Errno| io("look into", &self.path)(e.into());
        let how = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", how, Mode::empty()).map_err(fail)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = OsStr::from_bytes(entry.map_err(fail)?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &OsStr) -> Result<File> {
        let how = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.dir, name, how, Mode::empty());
        let file = opened.map_err(|e| io("open", self.path.join(name))(e.into()))?;
        Ok(file.into())
    }

    fn check_magic(&self, name: &OsStr, magic: [u8; 8], recording: &Path) -> Result<File> {
        let strange = || not(recording, "it does not begin like one");
        if self.kind(name)? != SFlag::S_IFREG {
            return Err(strange());
        }
        let file = self.open(name)?;
        match begins_with(&file, magic) {
            true => Ok(file),
            false => Err(strange()),
        }
    }

    fn unlink(&self, name: &OsStr) -> Result<()> {
        unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir)
            .map_err(|e| io("remove", self.path.join(name))(e.into()))
    }

    fn remove_dir(&self, name: &OsStr) -> Result<()> {
        unlinkat(&self.dir, name, UnlinkatFlags::RemoveDir)
            .map_err(|e| io("remove", self.path.join(name))(e.into()))
    }

    fn remove_recording(&self, name: &OsStr) -> Result<()> {
        let inside = self.inside(name)?;
        let strange = |what: &OsStr, of: &OpenDir| {
            let what = of.path.join(what);
            not(
                &inside.path,
                &format!("{} does not belong to one", what.display()),
            )
        };
        let has = |name: &str| inside.kind(OsStr::new(name)).is_ok();
        if !has("events") {
            return Err(not(&inside.path, "it has no file `events`"));
        }
        let events = inside.check_magic(OsStr::new("events"), MAGIC, &inside.path)?;
        for name in inside.names()? {
            let wanted = match name.to_str() {
                Some("events" | "index") => SFlag::S_IFREG,
                Some("files") => SFlag::S_IFDIR,
                _ => return Err(strange(&name, &inside)),
            };
            if inside.kind(&name)? != wanted {
                return Err(strange(&name, &inside));
            }
        }
        let files = has("files")
            .then(|| inside.inside(OsStr::new("files")))
            .transpose()?;
        let mut kept = Vec::new();
        if let Some(files) = &files {
            kept = files.names()?;
            for name in &kept {
                // A recorder that was killed may leave one as it is being replaced.
                let number = name
                    .to_str()
                    .map(|name| name.strip_suffix(".new").unwrap_or(name));
                let is_ours = number.is_some_and(|number| number.parse::<u32>().is_ok());
                if !is_ours || files.kind(name)? != SFlag::S_IFREG {
                    return Err(strange(name, files));
                }
            }
        }
        // There are file systems without locks.
        let lock = Flock::lock(events, FlockArg::LockExclusiveNonblock);
        if let Err((_, Errno::EWOULDBLOCK)) = lock {
            let path = inside.path;
            return Err(Error::Growing { path });
        }
        if let Some(files) = &files {
            for name in &kept {
                files.unlink(name)?;
            }
            inside.remove_dir(OsStr::new("files"))?;
        }
        if has("index") {
            inside.unlink(OsStr::new("index"))?;
        }
        // Last: until then the directory is recognised as a recording.
        inside.unlink(OsStr::new("events"))?;
        self.remove_dir(name)
    }
}
