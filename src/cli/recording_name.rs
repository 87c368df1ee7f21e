//! Lookup of recordings by the names that users give.

use crate::recording::{default_directory, list, resolve};
use crate::replay::{self, Replay};
use anyhow::bail;
use std::path::{Path, PathBuf};

/// Opens the recording of this name: a path, or a name in the default directory.
///
/// # Errors
/// If there is none: the error has the searched directories, and a similar name.
pub(super) fn open(name: &Path) -> anyhow::Result<Box<dyn Replay>> {
    Ok(replay::open(&path(name)?)?)
}

/// The path of the recording of this name.
///
/// # Errors
/// As for [`open`].
pub(super) fn path(name: &Path) -> anyhow::Result<PathBuf> {
    let path = resolve(name);
    let bare = name.components().count() == 1 && path == name;
    if !bare || path.symlink_metadata().is_ok() {
        return Ok(path);
    }
    let Ok(place) = default_directory() else {
        return Ok(path);
    };
    let (name, shown) = (name.to_string_lossy(), place.display());
    let known = list(&place).unwrap_or_default();
    let known: Vec<String> = known
        .iter()
        .map(|listed| listed.name.to_string_lossy().into_owned())
        .collect();
    let distance = |known: &String| strsim::damerau_levenshtein(known, &name);
    let near = known
        .iter()
        .filter(|known| distance(known) <= 1 + name.len() / 4)
        .min_by_key(|known| distance(known));
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
    bail!(
        "cannot open the recording {name}: {missing}, neither in the current directory nor in {shown}{near}"
    )
}
