//! A sandbox after the run in it: its files can be looked at and changed, and programs be run in it.

use super::program;
use crate::inject::hook::NoHooks;
use crate::inject::options::{Options, Sandbox as Kind};
use crate::inject::{Outcome, Result};
use crate::sandbox::{Change, ChangeKind, Origin, Sandbox, Settings, with_renames};
use crate::tracee::path_lookup::Root;
use crate::tracee::{Command, checked_open};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::stat::fstat;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The limit on the bytes of a file that is read as a whole.
const MOST_READ: u64 = 256 << 20;

/// A sandbox after the run in it, before it goes.
#[derive(Debug, Default)]
pub struct Aftermath {
    sandbox: Option<Sandbox>,
    settings: Arc<Settings>,
    cwd: PathBuf,
    timeout: Duration,
    /// What was changed before the sandbox was made.
    earlier: BTreeMap<PathBuf, Change>,
}

/// A file that was changed in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AftermathFile {
    /// Its path.
    pub path: PathBuf,
    /// The change: `created`, `changed`, `removed` or `renamed`. A directory is renamed together with what is in it.
    pub kind: &'static str,
    /// The path that the file had before, if it had another one.
    pub from: Option<PathBuf>,
    /// Its size in bytes, where it is a regular file.
    pub size: Option<u64>,
    /// The SHA-256 of its content in hexadecimal digits, where it is a regular file that can be read.
    pub hash: Option<String>,
}

impl Aftermath {
    pub(super) fn new(
        sandbox: Sandbox,
        settings: Arc<Settings>,
        cwd: &[u8],
        timeout: Duration,
        earlier: BTreeMap<PathBuf, Change>,
    ) -> Aftermath {
        Aftermath {
            sandbox: Some(sandbox),
            settings,
            cwd: PathBuf::from(OsStr::from_bytes(cwd)),
            timeout,
            earlier,
        }
    }

    /// What was changed, in the sandbox and before, each file for itself.
    fn changes(&self) -> io::Result<BTreeMap<PathBuf, Change>> {
        let mut all = self.earlier.clone();
        for change in self.sandbox()?.changes().map_err(io::Error::other)? {
            let path = change.path.clone();
            match both(&self.earlier, change) {
                Some(change) => _ = all.insert(path, change),
                None => _ = all.remove(&path),
            }
        }
        Ok(all)
    }

    fn sandbox(&self) -> io::Result<&Sandbox> {
        self.sandbox
            .as_ref()
            .ok_or_else(|| io::Error::from(Errno::ESRCH))
    }

    fn root(&self) -> io::Result<Root> {
        self.sandbox()?.root().ok_or_else(|| Errno::ESRCH.into())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }

    fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = self.absolute(path);
        let found = self.root()?.find(path.as_os_str().as_bytes(), true);
        found.ok_or_else(|| Errno::ENOENT.into())
    }

    fn open(&self, path: &Path, flags: i32) -> io::Result<File> {
        let found = self.find(path)?;
        if fstat(&found)?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        checked_open::reopen(found, flags)
    }

    /// The content of a file. A relative path begins in the directory of the process.
    ///
    /// # Errors
    /// If there is no such file, it is not a regular one, or has more than 256 MiB.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path, libc::O_RDONLY)?
            .take(MOST_READ + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_READ {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it has more than 256 MiB",
            ));
        }
        Ok(bytes)
    }

    /// Writes a file, which is made if it does not exist.
    ///
    /// # Errors
    /// If the directory does not exist, or the file is not a regular one.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.open(path, libc::O_WRONLY | libc::O_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = self.absolute(path);
                let name = path.file_name().ok_or(Errno::EISDIR)?;
                let parent = self.find(path.parent().ok_or(Errno::EISDIR)?)?;
                let how = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let mode = Mode::from_bits_truncate(0o644);
                File::from(openat(&parent, name, how, mode)?)
            }
            opened => opened?,
        };
        file.write_all(bytes)
    }

    /// The files that were changed, against those at the event at which the copy was spun off (or, for a program that was not
    /// recorded, those of the machine), ordered by path.
    ///
    /// # Errors
    /// If the changed files cannot be listed.
    pub fn files(&self) -> io::Result<Vec<AftermathFile>> {
        let describe = |Change { path, kind, from }: Change| {
            let file = self.open(&path, libc::O_RDONLY).ok();
            let size = file
                .as_ref()
                .and_then(|file| file.metadata().ok())
                .map(|meta| meta.len());
            let hash = file.and_then(|mut file| {
                let mut hash = Sha256::new();
                io::copy(&mut file, &mut hash).ok()?;
                Some(format!("{:x}", hash.finalize()))
            });
            AftermathFile {
                path,
                kind: kind.name(),
                from: from.map(|from| from.path),
                size,
                hash,
            }
        };
        let changes = with_renames(self.changes()?.into_values().collect());
        Ok(changes.into_iter().map(describe).collect())
    }

    /// Copies files out of the sandbox, each to its whole path below `dir`: that at `what` with all below it, or the created
    /// and changed ones where that is `None`. Symbolic links are copied as such; what is neither a file, a directory nor a
    /// link is left out.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn save(&self, dir: &Path, what: Option<&Path>) -> io::Result<()> {
        let sandbox = self.sandbox()?;
        let all = match what {
            Some(path) => vec![self.absolute(path)],
            None => self.changes()?.into_keys().collect(),
        };
        for path in all {
            let target = make_way(dir, path.strip_prefix("/").unwrap_or(&path))?;
            match save(&sandbox.inside(&path), &target, what.is_some()) {
                // It was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && what.is_none() => {}
                saved => saved?,
            }
        }
        Ok(())
    }

    /// Runs a program in the sandbox to its end.
    ///
    /// # Errors
    /// If the program cannot be executed or traced.
    pub fn run(&mut self, mut command: Command, timeout: Option<Duration>) -> Result<Outcome> {
        command.cwd = Some(match &command.cwd {
            Some(dir) => self.absolute(dir),
            None => self.cwd.clone(),
        });
        let options = Options {
            timeout: timeout.unwrap_or(self.timeout),
            sandbox: Kind::Cow,
            settings: Arc::clone(&self.settings),
            ..Options::default()
        };
        let (outcome, sandbox) =
            program::run_in(self.sandbox.take(), &command, &mut NoHooks, &options)?;
        self.sandbox = sandbox;
        Ok(outcome)
    }
}

/// A change together with the earlier ones; `None` where nothing is left of them.
fn both(earlier: &BTreeMap<PathBuf, Change>, later: Change) -> Option<Change> {
    let Change { path, kind, from } = later;
    let before = earlier.get(&path);
    let from = match from {
        Some(from) => origin(earlier, from),
        None => before
            .filter(|_| kind == ChangeKind::Changed)
            .and_then(|before| before.from.clone())
            .map(|from| Origin {
                is_altered: true,
                ..from
            }),
    };
    // It has got back to where it was.
    if let Some(from) = from.as_ref().filter(|from| from.path == path) {
        let kind = ChangeKind::Changed;
        return from.is_altered.then_some(Change {
            path,
            kind,
            from: None,
        });
    }
    let kind = match (before.map(|before| before.kind), kind) {
        (None, kind) => kind,
        (Some(ChangeKind::Created), ChangeKind::Removed) => return None,
        (Some(ChangeKind::Created), _) => ChangeKind::Created,
        (Some(_), ChangeKind::Removed) => ChangeKind::Removed,
        (Some(_), _) => ChangeKind::Changed,
    };
    Some(Change { path, kind, from })
}

/// What a file was before the earlier changes; `None` for one that they have made.
fn origin(earlier: &BTreeMap<PathBuf, Change>, from: Origin) -> Option<Origin> {
    let Some(before) = earlier.get(&from.path) else {
        return Some(from);
    };
    match (&before.from, before.kind) {
        (Some(first), _) => Some(Origin {
            path: first.path.clone(),
            is_altered: first.is_altered || from.is_altered,
        }),
        (None, ChangeKind::Changed) => Some(Origin {
            is_altered: true,
            ..from
        }),
        (None, _) => None,
    }
}

/// Makes the directories around a path below `dir`. A link that an earlier box left there leads nowhere.
fn make_way(dir: &Path, rest: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let mut target = dir.to_path_buf();
    let mut parts = rest.components().peekable();
    while let Some(part) = parts.next() {
        target.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::create_dir(&target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_directory(&target)?,
            made => made?,
        }
    }
    Ok(target)
}

fn is_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(Errno::ENOTDIR.into()),
    }
}

/// All below a directory, the outer ones first.
fn below(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        into.push(entry.path());
        if entry.file_type()?.is_dir() {
            below(&entry.path(), into)?;
        }
    }
    Ok(())
}

/// Copies a file, or a directory with all in it if `whole`.
fn save(from: &Path, to: &Path, whole: bool) -> io::Result<()> {
    save_one(from, to)?;
    if !whole || !fs::symlink_metadata(from)?.is_dir() {
        return Ok(());
    }
    // All of them are known before the first is made: `to` may be among them.
    let mut all = Vec::new();
    below(from, &mut all)?;
    for path in all {
        if let Ok(rest) = path.strip_prefix(from) {
            save_one(&path, &to.join(rest))?;
        }
    }
    Ok(())
}

fn save_one(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let kind = meta.file_type();
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        match fs::create_dir(to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_directory(to)?,
            made => made?,
        }
        // What is in it can be made whatever its permissions are.
        let mut permissions = meta.permissions();
        permissions.set_mode(permissions.mode() | 0o700);
        return fs::set_permissions(to, permissions);
    }
    if kind.is_file() {
        let mut source = checked_open::regular(from, libc::O_NOFOLLOW)?;
        let mut target = File::options().write(true).create_new(true).open(to)?;
        io::copy(&mut source, &mut target)?;
        target.set_permissions(meta.permissions())?;
        target.set_modified(meta.modified()?)?;
    }
    Ok(())
}
