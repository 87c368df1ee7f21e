//! The directories that a live process may change, as copies.

use crate::process::Process;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directories where it is likely to write: home, those of its open files, and those of its arguments.
pub(super) fn writable_dirs(process: &Process) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = Vec::new();
    let mut add = |dir: &Path| {
        let is_place = dir.is_absolute() && dir.parent().is_some();
        if is_place && !list.iter().any(|known| known == dir) && dir.is_dir() {
            list.push(dir.to_path_buf());
        }
    };
    if let Some(home) = std::env::var_os("HOME") {
        add(Path::new(&home));
    }
    let mut named = |path: &[u8]| {
        let path = Path::new(OsStr::from_bytes(path));
        if let Some(dir) = path.parent().filter(|_| path.is_absolute()) {
            add(dir);
        }
    };
    for (_, file, _) in process.groups().flat_map(|group| group.descriptors.iter()) {
        if file.flags & libc::O_ACCMODE != libc::O_RDONLY && !file.path.starts_with(b"/dev/") {
            named(&file.path);
        }
    }
    for arg in process.group.recording.start().argv.iter().skip(1) {
        named(arg);
    }
    list
}
