//! Directories and files of owners who are not mapped in a sandbox.
//!
//! The kernel copies none of them up, nor what is below such a directory: calls that change it fail with `EOVERFLOW`. An
//! overlay at the directory itself needs no copy of it, and a file is replaced by a copy that belongs to the user.

use super::{Enclosure, Laid};
use crate::sandbox::builder::Builder;
use crate::sandbox::place::aside;
use crate::sandbox::renames::give_attributes;
use crate::sandbox::root_plan::{Layer, Machine};
use crate::sandbox::{Error, Result};
use crate::tracee::call_batch::Arg;
use nix::unistd::{AccessFlags, access};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The limit on overlays.
const MOST: usize = 400;

/// The temporary name of a copy.
const NEW: &[u8] = b".rrapper-copied";

impl Enclosure {
    /// See [`Sandbox::open_up`](crate::sandbox::Sandbox::open_up).
    pub(in crate::sandbox) fn open_up(&mut self, dir: &Path) -> Result<bool> {
        match self.missing_layer(dir) {
            Some(layer) => self.lay_over(layer),
            None => Ok(false),
        }
    }

    /// The overlay without which nothing can be changed in a directory.
    fn missing_layer(&self, dir: &Path) -> Option<Layer> {
        if self.ids.are_all() || self.layers.len() >= MOST {
            return None;
        }
        let outer = &self.layer_of(dir)?.layer;
        let inner: Vec<&Path> = dir
            .ancestors()
            .take_while(|path| *path != outer.path)
            .collect();
        let is_anothers =
            |path: &&Path| fs::symlink_metadata(path).is_ok_and(|meta| !self.ids.contain(&meta));
        let at = inner.iter().position(is_anothers)?;
        // Processes may be in the directory above already: where its own entries cannot be changed, they see no difference.
        let is_closed = access(inner[at], AccessFlags::W_OK).is_err();
        let place = inner[if is_closed { at.saturating_sub(1) } else { at }];
        match outer.is_writable && self.is_the_machines(place) {
            true => self.machine().layer(place),
            false => None,
        }
    }

    /// Whether the sandbox shows at a path what the machine has at that path, with nothing hidden in it: a program may have
    /// put a directory where the machine has a link.
    fn is_the_machines(&self, path: &Path) -> bool {
        let Some(laid) = self.layer_of(path) else {
            return false;
        };
        let inner = path.strip_prefix(&laid.layer.path).unwrap_or(path);
        let mut uppers = self.uppers(laid);
        let is_changed = uppers.any(|upper| fs::symlink_metadata(upper.join(inner)).is_ok());
        let is_hidden = |hidden: &PathBuf| {
            fs::canonicalize(hidden)
                .is_ok_and(|hidden| hidden.starts_with(path) || path.starts_with(hidden))
        };
        !is_changed
            && fs::canonicalize(path).is_ok_and(|real| real == path)
            && !self.settings.hide.iter().any(is_hidden)
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            ids: &self.ids,
            mounts: &self.mounts,
        }
    }

    /// Lays one more overlay while processes run. Those in it are moved onto it, with their changed files. Returns whether
    /// it could.
    fn lay_over(&mut self, layer: Layer) -> Result<bool> {
        let number = self.next;
        self.next += 1;
        let step = || format!("mount an overlay over {}", layer.path.display());
        let refused = |e| Error::refused(step(), e);
        self.place.add_layer(&layer, number).map_err(refused)?;
        fs::create_dir(self.place.path(aside(number))).map_err(refused)?;
        let is_inner = |laid: &mut Laid| laid.layer.path.starts_with(&layer.path);
        let inner: Vec<Laid> = self.layers.extract_if(.., is_inner).collect();
        let is_outermost = |path: &Path| {
            let mut others = inner.iter().map(|laid| laid.layer.path.as_path());
            !others.any(|other| other != path && path.starts_with(other))
        };
        let outermost = inner.iter().map(|laid| laid.layer.path.as_path());
        let outermost: Vec<&Path> = outermost.filter(|path| is_outermost(path)).collect();
        let mut b = Builder::default();
        let moved: Vec<_> = outermost.iter().map(|path| b.open_inside(path)).collect();
        let at = b.open_inside(&layer.path);
        let laid = b.lay_aside(&layer, number);
        let outcome = b.make(&mut self.keeper)?;
        let opened = |call| outcome.result(call).unwrap_or(-1);
        let mut files: Vec<i64> = moved.iter().copied().chain([at]).map(opened).collect();
        let mut is_laid = opened(laid) == 0 && files.iter().all(|file| *file >= 0);
        let mut b = Builder::default();
        if is_laid {
            let onto = Arg::Value(opened(at) as u64);
            let put = b.move_aside(number, onto);
            let targets: Vec<_> = outermost.iter().map(|path| b.open_inside(path)).collect();
            let outcome = b.make(&mut self.keeper)?;
            is_laid = outcome.result(put) == Some(0);
            let targets = targets
                .iter()
                .map(|call| outcome.result(*call).unwrap_or(-1));
            let targets: Vec<i64> = targets.collect();
            let mut b = Builder::default();
            let calls: Vec<_> = moved
                .iter()
                .zip(&targets)
                .filter(|_| is_laid)
                .map(|(from, to)| {
                    let from = Arg::Value(opened(*from) as u64);
                    b.move_onto(from, Arg::Value(*to as u64))
                })
                .collect();
            let outcome = b.make(&mut self.keeper)?;
            self.spoiled |= calls.iter().any(|call| outcome.result(*call) != Some(0));
            files.extend(targets);
        }
        let mut b = Builder::default();
        if !is_laid {
            b.drop_aside(number);
        }
        for file in files.into_iter().filter(|file| *file >= 0) {
            b.may(libc::SYS_close, &[Arg::Value(file as u64)]);
        }
        b.make(&mut self.keeper)?;
        fs::remove_dir(self.place.path(aside(number))).map_err(refused)?;
        if is_laid {
            let mut laid = Laid::new(&self.place, layer.clone(), number).map_err(refused)?;
            laid.is_late = true;
            self.layers.push(laid);
        } else {
            self.place.remove(number).map_err(refused)?;
        }
        self.layers.extend(inner);
        Ok(is_laid)
    }

    /// See [`Sandbox::take_over`](crate::sandbox::Sandbox::take_over).
    pub(in crate::sandbox) fn take_over(&mut self, file: &Path) -> Result<bool> {
        let meta = match fs::symlink_metadata(file) {
            Ok(meta) if meta.is_file() && !self.ids.contain(&meta) => meta,
            _ => return Ok(false),
        };
        let (Some(laid), Some(dir), Some(name)) =
            (self.layer_of(file), file.parent(), file.file_name())
        else {
            return Ok(false);
        };
        if !laid.layer.is_writable || !self.is_the_machines(file) {
            return Ok(false);
        }
        let how = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let source = File::options().read(true).custom_flags(how).open(file);
        let is_it = |found: &Metadata| (found.dev(), found.ino()) == (meta.dev(), meta.ino());
        let source = match source {
            Ok(source) if source.metadata().is_ok_and(|found| is_it(&found)) => source,
            _ => return Ok(false),
        };
        let mode = self.machine().mode(file, &meta);
        let mut b = Builder::default();
        let opened = b.open_inside(dir);
        let dir = b.make(&mut self.keeper)?.result(opened).unwrap_or(-1);
        if dir < 0 {
            return Ok(false);
        }
        let replaced = self.replace(dir as u64, name, &source, mode);
        let mut b = Builder::default();
        b.may(libc::SYS_close, &[Arg::Value(dir as u64)]);
        b.make(&mut self.keeper)?;
        replaced
    }

    /// Puts a copy in the place of a file of an open directory. The keeper does it: the user may be allowed to write to
    /// the file and not to the directory.
    fn replace(&mut self, dir: u64, name: &OsStr, source: &File, mode: u32) -> Result<bool> {
        let at = |fd: u64| format!("/proc/{}/fd/{fd}", self.keeper.pid());
        let times = fs::metadata(at(dir)).map(|meta| {
            [
                meta.atime(),
                meta.atime_nsec(),
                meta.mtime(),
                meta.mtime_nsec(),
            ]
            .map(i64::to_le_bytes)
            .concat()
        });
        let dir = || Arg::Value(dir);
        let how = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        let mut b = Builder::default();
        let args = [
            dir(),
            Arg::Text(NEW),
            Arg::Value(how as u64),
            Arg::Value(0o600),
        ];
        let made = b.may(libc::SYS_openat, &args);
        let made = b.make(&mut self.keeper)?.result(made).unwrap_or(-1);
        if made < 0 {
            return Ok(false);
        }
        let at = format!("/proc/{}/fd/{made}", self.keeper.pid());
        let copy = File::options().write(true).open(&at);
        let filled = copy.and_then(|copy| fill(source, &copy, mode));
        let numbers = fs::metadata(&at).map(|meta| (meta.dev(), meta.ino()));
        let mut b = Builder::default();
        let args = [dir(), Arg::Text(NEW), dir(), Arg::Text(name.as_bytes())];
        let renamed = filled.is_ok().then(|| b.may(libc::SYS_renameat, &args));
        b.may(libc::SYS_unlinkat, &[dir(), Arg::Text(NEW), Arg::Value(0)]);
        if let Ok(times) = times {
            let args = [dir(), Arg::Text(b"."), Arg::Bytes(&times), Arg::Value(0)];
            b.may(libc::SYS_utimensat, &args);
        }
        b.may(libc::SYS_close, &[Arg::Value(made as u64)]);
        let outcome = b.make(&mut self.keeper)?;
        let is_replaced = renamed.is_some_and(|call| outcome.result(call) == Some(0));
        let is_anothers = source.metadata().is_ok_and(|meta| is_anothers(&meta));
        self.taken
            .extend(numbers.ok().filter(|_| is_replaced && is_anothers));
        Ok(is_replaced)
    }

    /// Whether the user has got copies of others' files or directories while processes ran.
    pub(in crate::sandbox) fn has_anothers(&self) -> bool {
        !self.taken.is_empty() || self.layers.iter().any(Laid::is_late)
    }

    /// Whether a file, which is at `inside` for rrapper, is such a copy.
    pub(in crate::sandbox) fn is_anothers(&self, path: &Path, inside: &Path) -> bool {
        let taken = || fs::symlink_metadata(inside).is_ok_and(|meta| self.is_taken(&meta));
        self.anothers_dir(path).is_some() || taken()
    }

    /// Whether another's file can only be removed by its owner (`S_ISVTX`), although its directory is such a copy.
    pub(in crate::sandbox) fn is_sticky(&self, path: &Path, inside: &Path) -> bool {
        let dir = path.parent().and_then(|dir| self.anothers_dir(dir));
        dir.is_some_and(|dir| dir.mode() & libc::S_ISVTX != 0)
            && fs::symlink_metadata(inside)
                .is_ok_and(|meta| is_anothers(&meta) || self.is_taken(&meta))
    }

    fn is_taken(&self, meta: &Metadata) -> bool {
        self.taken.contains(&(meta.dev(), meta.ino()))
    }

    /// The machine's directory, if it is another's and has got an overlay while processes ran.
    fn anothers_dir(&self, path: &Path) -> Option<Metadata> {
        let is_at = |laid: &Laid| laid.is_late() && laid.layer.path == path;
        self.layers.iter().find(|laid| is_at(laid))?;
        fs::symlink_metadata(path).ok().filter(is_anothers)
    }
}

fn is_anothers(meta: &Metadata) -> bool {
    meta.uid() != nix::unistd::geteuid().as_raw()
}

/// Gives a copy the content, the extended attributes and the times of a file.
fn fill(mut source: &File, mut copy: &File, mode: u32) -> io::Result<()> {
    let meta = source.metadata()?;
    io::copy(&mut source, &mut copy)?;
    give_attributes(source, copy);
    copy.set_permissions(Permissions::from_mode(mode))?;
    let times = fs::FileTimes::new()
        .set_accessed(meta.accessed()?)
        .set_modified(meta.modified()?);
    copy.set_times(times)
}
