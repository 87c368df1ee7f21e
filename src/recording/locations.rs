//! The default directory of recordings, `$XDG_DATA_HOME/rrapper/NAME-N`, and the link `latest`.

use super::{Error, Result, io};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The default directory of recordings: `$XDG_DATA_HOME/rrapper`, or `~/.local/share/rrapper`. It need not exist yet.
///
/// # Errors
/// If neither variable is set to an absolute path.
pub fn default_directory() -> Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("rrapper"))
        .ok_or_else(|| Error::Io {
            what: "find a place for recordings: set HOME or XDG_DATA_HOME, or name a directory; not",
            path: PathBuf::from("~"),
            source: std::io::ErrorKind::NotFound.into(),
        })
}

/// Creates an empty directory for a new recording of the program of this name.
///
/// # Errors
/// If it cannot be made.
pub fn new_directory(program: &str) -> Result<PathBuf> {
    let root = default_directory()?;
    fs::create_dir_all(&root).map_err(io("create the directory", &root))?;
    let name: String = program
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._+-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let mut n = 0u64;
    loop {
        let dir = root.join(format!("{name}-{n}"));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(e) => return Err(io("create the directory", dir)(e)),
        }
    }
}

/// Makes `latest` point to this recording, if it is in the default directory.
pub fn mark_latest(dir: &Path) {
    let Ok(root) = default_directory() else {
        return;
    };
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return;
    };
    if fs::canonicalize(&root).ok().as_deref() != Some(parent) {
        return;
    }
    let link = root.join("latest");
    let fresh = root.join(format!(".latest-{}", std::process::id()));
    let made = std::os::unix::fs::symlink(name, &fresh).and_then(|()| fs::rename(&fresh, &link));
    if let Err(error) = made {
        tracing::warn!(
            "cannot make {} point to {}: {error}",
            link.display(),
            dir.display()
        );
    }
}

/// Makes `latest` point to the newest recording that is left, if it pointed to this removed one.
pub(super) fn relink_latest(gone: &Path) {
    let Ok(root) = default_directory() else {
        return;
    };
    let link = root.join("latest");
    let was_it = fs::read_link(&link).is_ok_and(|name| Some(name.as_os_str()) == gone.file_name());
    let parent = gone
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok());
    if !was_it || parent.is_none() || parent != fs::canonicalize(&root).ok() {
        return;
    }
    let left = super::list(&root).unwrap_or_default();
    match left.iter().rfind(|listed| listed.content.is_ok()) {
        Some(newest) => mark_latest(&root.join(&newest.name)),
        None => {
            if let Err(error) = fs::remove_file(&link) {
                tracing::warn!("cannot remove {}: {error}", link.display());
            }
        }
    }
}

/// The recording of a name, with the link `latest` followed.
pub fn resolve_latest(name: &Path) -> PathBuf {
    let path = resolve(name);
    let of_ours = default_directory().is_ok_and(|root| path == root.join("latest"));
    match fs::read_link(&path) {
        Ok(target) if of_ours && target.components().count() == 1 => path.with_file_name(target),
        _ => path,
    }
}

/// The link to the recording made last in the default directory.
///
/// # Errors
/// As for [`default_directory`].
pub fn latest() -> Result<PathBuf> {
    Ok(default_directory()?.join("latest"))
}

/// The recording of a name that a user gives: a path, or else a bare name (`latest`, `cat-0`) in the default directory.
pub fn resolve(name: &Path) -> PathBuf {
    let bare = name.components().count() == 1;
    if bare
        && !name.exists()
        && let Ok(root) = default_directory()
        && root.join(name).exists()
    {
        return root.join(name);
    }
    name.to_path_buf()
}
