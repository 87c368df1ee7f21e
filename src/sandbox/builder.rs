//! Batches of calls that set a sandbox up.

use super::place::{NO_DIR, NO_FILE, aside, lower, upper, work};
use super::root_plan::Layer;
use super::{Error, Result, Settings};
use crate::tracee::call_batch::{Arg, Batch, CallId, HelperProcess, Outcome};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) const AT_RECURSIVE: u64 = 0x8000;
const OPEN_TREE_CLONE: u64 = 1;
pub(super) const MOVE_MOUNT_F_EMPTY_PATH: u64 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u64 = 0x40;
pub(super) const HERE: Arg<'static> = Arg::Value(libc::AT_FDCWD as u64);

/// The mount point of the changed files in the keeper's root, which no other process has. It hides the machine's
/// `/proc`.
pub(super) const PLACE: &str = "/proc";

/// The terminals of a sandbox; the machine has 4096 for all (`kernel.pty.max`).
pub(super) const TERMINALS: u32 = 256;

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

    pub(super) fn open_dir(&mut self, path: &[u8]) -> CallId {
        let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let step = format!("open {}", String::from_utf8_lossy(path));
        let args = [Arg::Text(path), Arg::Value(how as u64)];
        self.must(step, libc::SYS_open, &args)
    }

    /// Copies the mount of a file or directory, to be attached elsewhere.
    pub(super) fn tree(&mut self, path: &[u8], more: u64) -> CallId {
        let how = Arg::Value(OPEN_TREE_CLONE | libc::O_CLOEXEC as u64 | more);
        self.may(libc::SYS_open_tree, &[HERE, Arg::Text(path), how])
    }

    pub(super) fn put(&mut self, tree: Arg<'_>, at: &[u8]) -> CallId {
        let how = Arg::Value(MOVE_MOUNT_F_EMPTY_PATH);
        let args = [tree, Arg::Text(b""), HERE, Arg::Text(at), how];
        self.may(libc::SYS_move_mount, &args)
    }

    pub(super) fn mount(&mut self, kind: &str, at: &[u8], flags: u64, data: &str) -> CallId {
        let (kind, data) = (Arg::Text(kind.as_bytes()), Arg::Text(data.as_bytes()));
        let args = [kind, Arg::Text(at), kind, Arg::Value(flags), data];
        self.may(libc::SYS_mount, &args)
    }

    /// Sets attributes (`MOUNT_ATTR_*`) and the propagation of a mount.
    pub(super) fn set(
        &mut self,
        at: &[u8],
        attributes: u64,
        propagation: u64,
        more: u64,
    ) -> CallId {
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
    pub(super) fn close_behind(&mut self, last: i64) {
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
    pub(super) fn show_pseudo_terminal(&mut self, number: u32, tree: i64) {
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

pub(super) fn number(outcome: &Outcome, call: CallId) -> i64 {
    let missing = -i64::from(libc::ENOSYS);
    outcome.result(call).unwrap_or(missing)
}

pub(super) fn error(ret: i64) -> io::Error {
    io::Error::from_raw_os_error(ret.wrapping_neg() as i32)
}
