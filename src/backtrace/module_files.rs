//! The files behind a process's mappings: for a process made from a recording, the kept copies, by the paths that the
//! program knew; and separate files with debug information, beside the file or below `/usr/lib/debug`.

use super::elf::{Elf, Source};
use super::module::Origin;
use crate::history::Recording;
use crate::image::{FileId, kept_file_flags};
use crate::tracee::checked_open;
use crate::tracee::proc::Map;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory in which distributions keep files with debug information.
const DEBUG: &str = "/usr/lib/debug";

/// A mapping's file.
#[derive(Debug, Default)]
pub struct Mapped {
    /// The path, as the program knew it.
    pub name: Vec<u8>,
    /// The file, where it exists and can be opened.
    pub file: Option<File>,
}

/// Finds the files of a process made from a recording at this event. Files that it has mapped since then are found as
/// for any other process.
pub fn recorded(recording: &Recording, event: u64, tid: i32) -> impl Fn(&Map) -> Mapped + '_ {
    let names: OnceCell<BTreeMap<FileId, Vec<u8>>> = OnceCell::new();
    let others = real(tid);
    move |map| {
        let Some((ids, path)) = recording.kept_as(&map.name, map.inode) else {
            return others(map);
        };
        let names = names.get_or_init(|| {
            let event = event.clamp(1, recording.len().max(1));
            let names = recording.process_tree_at(event, |family| family.mapped().clone());
            names.unwrap_or_default()
        });
        let flags = kept_file_flags(&path);
        Mapped {
            name: ids
                .iter()
                .find_map(|id| names.get(id))
                .unwrap_or(&map.name)
                .clone(),
            file: checked_open::regular(&path, flags).ok(),
        }
    }
}

/// Finds the files of a process by their paths, from the process's root.
pub fn real(tid: i32) -> impl Fn(&Map) -> Mapped {
    move |map| {
        let mut path = PathBuf::from(format!("/proc/{tid}/root"));
        let there = map.inode != 0 && map.name.starts_with(b"/");
        path.push(OsStr::from_bytes(
            map.name.strip_prefix(b"/").unwrap_or_default(),
        ));
        Mapped {
            name: map.name.clone(),
            file: there.then(|| open_regular(&path)).flatten(),
        }
    }
}

/// Opens a regular file only: opening a device may have effects.
pub fn open_regular(path: &Path) -> Option<File> {
    checked_open::regular(path, 0).ok()
}

/// The separate file with debug information for a file, and its path.
pub fn debug_file(elf: &Elf, origin: &Origin<'_>) -> Option<(File, PathBuf)> {
    by_build_id(elf, origin).or_else(|| by_link(elf, origin))
}

fn by_build_id(elf: &Elf, origin: &Origin<'_>) -> Option<(File, PathBuf)> {
    let id = elf.build_id(origin.source)?;
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = PathBuf::from(format!("{DEBUG}/.build-id/{first:02x}/{rest}.debug"));
    let file = open_regular(&path)?;
    (build_id(&file)? == id).then_some((file, path))
}

fn build_id(file: &File) -> Option<Vec<u8>> {
    let source = Source::File(file);
    Elf::read(source).build_id(source)
}

/// Finds the debug file by `.gnu_debuglink`: a name, zeros up to a multiple of four, and the file's CRC-32.
fn by_link(elf: &Elf, origin: &Origin<'_>) -> Option<(File, PathBuf)> {
    let link = elf.content(origin.source, ".gnu_debuglink")?;
    let end = memchr::memchr(0, &link)?;
    let name = OsStr::from_bytes(&link[..end]);
    let crc = link.get((end + 1).next_multiple_of(4)..)?;
    let crc = u32::from_le_bytes(crc.get(..4)?.try_into().ok()?);
    // Only a name is accepted, no path.
    if Path::new(name).file_name() != Some(name) {
        return None;
    }
    let dir = Path::new(OsStr::from_bytes(origin.name)).parent()?;
    let below = Path::new(DEBUG).join(dir.strip_prefix("/").ok()?);
    [dir.to_path_buf(), dir.join(".debug"), below]
        .into_iter()
        .map(|dir| dir.join(name))
        .find_map(|path| {
            let file = open_regular(&path)?;
            (checksum(&file)? == crc).then_some((file, path))
        })
}

fn checksum(mut file: &File) -> Option<u32> {
    /// The limit on the size, since larger files take too long.
    const MOST: u64 = 256 << 20;
    const CHUNK: usize = 256 << 10;
    if file.metadata().ok()?.len() > MOST {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(hasher.finalize()),
            n => hasher.update(&chunk[..n]),
        }
    }
}

/// The file with debug information shared by several files: `.gnu_debugaltlink` has its path, relative to the file
/// itself, and its build id.
pub fn shared_debug_file(beside: Option<&Path>, link: &[u8]) -> Option<File> {
    let end = memchr::memchr(0, link)?;
    let path = Path::new(OsStr::from_bytes(&link[..end]));
    // The file itself is often reached through a symbolic link.
    let beside = beside.and_then(|path| std::fs::canonicalize(path).ok());
    let path = match beside.as_deref().and_then(Path::parent) {
        Some(dir) => dir.join(path),
        None => path.to_path_buf(),
    };
    let file = open_regular(&path).filter(|_| path.is_absolute())?;
    (build_id(&file)? == link[end + 1..]).then_some(file)
}
