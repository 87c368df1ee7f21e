//! Files that have another content for a live process: they are put into its sandbox before it runs, and it is noted whether
//! it was told of their contents.

use super::engine::Engine;
use super::recorded_files::{HIDDEN, hidden, placed_attributes};
use crate::history::GivenFile;
use crate::inject::given_files::refused;
use crate::inject::hook::{HookCall, Hooks};
use crate::inject::options::Options;
use crate::inject::{Error, Result};
use crate::sandbox::{Attributes, Content, Sandbox};
use crate::syscall::Syscall;
use nix::unistd::Gid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Calls that tell something of a content, and do not leave the time of that in the file.
pub(super) const CALLS: [i64; 6] = [
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_copy_file_range,
];

pub(super) fn path_of(file: &GivenFile) -> &Path {
    Path::new(OsStr::from_bytes(&file.path))
}

/// The error of a file that is to have another content for a process without a sandbox.
pub(super) fn needs_sandbox(path: &Path) -> Error {
    let why = "a process that is live without a sandbox has the machine's own files";
    refused(path, why)
}

/// The attributes of a file in the sandbox of a user without privileges, who is its owner there even if another is outside:
/// the owner's permissions are those that the user has. The process may know him by another id.
pub(super) fn for_user(attributes: Attributes, known_as: Option<u32>) -> Attributes {
    let user = nix::unistd::geteuid();
    let (Some(mode), (Some(uid), group)) = (attributes.mode, attributes.owner) else {
        return attributes;
    };
    if user.is_root() || known_as.unwrap_or(user.as_raw()) == uid {
        return attributes;
    }
    let is_member = group.is_some_and(|group| {
        let others = nix::unistd::getgroups().unwrap_or_default();
        nix::unistd::getegid().as_raw() == group || others.contains(&Gid::from_raw(group))
    });
    let own = if is_member { mode >> 3 } else { mode } & 0o7;
    Attributes {
        mode: Some(mode & 0o7077 | own << 6),
        ..attributes
    }
}

/// Puts the files of a program that was not recorded into its sandbox.
pub(super) fn put_given(
    made: &mut Sandbox,
    given: &[(usize, GivenFile)],
    options: &Options,
) -> Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    let hidden = hidden(&options.settings);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos() as i128);
    let mut placer = made.placer()?;
    for (_, file) in given {
        let path = path_of(file);
        if hidden.iter().any(|hidden| path.starts_with(hidden)) {
            return Err(refused(path, HIDDEN));
        }
        let fill = |to: &mut File| to.write_all(&file.content);
        let attributes = for_user(placed_attributes(&file.attributes, file.inode, now), None);
        placer
            .put(path, &Content::File(&fill), &attributes)
            .map_err(|e| refused(path, e.to_string()))?;
    }
    Ok(())
}

/// Tells the hooks which of these files were read in a sandbox.
pub(super) fn note_read(
    sandbox: Option<&Sandbox>,
    given: &[(usize, PathBuf)],
    hooks: &mut dyn Hooks,
) {
    let Some(sandbox) = sandbox else { return };
    for (number, path) in given {
        if sandbox.is_read(path) {
            hooks.met(*number);
        }
    }
}

impl<'a> Engine<'a> {
    /// Sets the files that have another content, with their numbers among those of the hooks.
    #[must_use]
    pub(super) fn with_given(mut self, given: Vec<(usize, PathBuf)>) -> Engine<'a> {
        self.given = given;
        self
    }

    /// Whether a call may tell something of the content of such a file that is noted here.
    pub(super) fn may_tell(&self, call: &Syscall) -> bool {
        !self.given.is_empty() && CALLS.contains(&call.nr.into())
    }

    /// Tells the hooks of such a call.
    pub(super) fn note_given(&mut self, seen: &HookCall) {
        if !self.may_tell(seen.call) {
            return;
        }
        let places = seen.places();
        for (number, path) in &self.given {
            let path = path.as_os_str().as_bytes();
            if places.iter().any(|place| place == path) {
                self.hooks.met(*number);
            }
        }
    }
}
