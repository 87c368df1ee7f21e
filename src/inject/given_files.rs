//! Files that have another content for a process than they have on the machine, or had when it was recorded.
//!
//! What hooks ask for is worked out here, once, before the process goes on: the file that a path means to the process, and
//! its content. How calls are answered then is the matter of the engines.

use super::hook::Hooks;
use super::lost_content::lost;
use super::{Error, Result};
use crate::history::{FileContent, GivenFile, RecordedFiles, Recording};
use crate::image::FileId;
use crate::kernel::Descriptors;
use crate::process::ThreadGroup;
use crate::tracee::checked_open;
use crate::world::{Attributes, Kind, Node, NodeId, World, is_apart, walk};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The limit on the bytes of a file.
const MOST: u64 = 256 << 20;

/// A file that has another content for a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFile {
    /// Its path, as the process would name it: a relative one begins in the directory of the process, and symbolic links
    /// are followed. Where there is no file, there is one then.
    pub path: PathBuf,
    /// The content.
    pub content: OtherContent,
}

impl OtherFile {
    /// The name by which [`Outcome::unfired`](super::Outcome::unfired) has it where it was never read.
    pub fn name(&self) -> String {
        format!("files[{:?}]", self.path.to_string_lossy())
    }
}

/// The content of a file that has another one for a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherContent {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// That of another file, as it is now.
    File(PathBuf),
    /// What [`Hooks::content`] makes of it.
    Made,
}

/// The world of a process's files.
pub(super) type Recorded = World<Arc<RecordedFiles>>;

/// The files that have another content for a process that was recorded.
pub(super) struct GivenFiles {
    /// Its files as it has them now. The open files have the numbers of its own descriptors.
    pub world: Recorded,
    /// The files of the hooks: their numbers there, and their paths.
    pub asked_for: Vec<(usize, PathBuf)>,
    /// The same, by their nodes.
    pub numbers: HashMap<NodeId, usize>,
}

/// Gives files of a process another content, as its hooks ask for; `None` where no file has any. `tid` is one of its tasks.
///
/// # Errors
/// If a path cannot have a content, the content cannot be had, or the recording cannot be read.
pub(super) fn give(
    group: &mut ThreadGroup,
    tid: i32,
    hooks: &mut dyn Hooks,
) -> Result<Option<GivenFiles>> {
    let files = hooks.files();
    if files.is_empty() && !group.files.gives() {
        return Ok(None);
    }
    let recording = Arc::clone(&group.recording);
    let event = group.event.0;
    let base = recording.recorded_files()?;
    let descriptors = group.descriptors.clone();
    let mut given = recording.recorded_world(event, &group.files, |world, tree| {
        let view = tree.view(tid);
        let node = |fd: i32| {
            let own = descriptors.file_id(fd)?;
            let recorded = view.file(fd).map(|(recorded, _)| recorded);
            let node = recorded.and_then(|recorded| world.open_node(recorded));
            // Its own ones, which the recorded processes never opened.
            Some((own, node.or_else(|| world.open_node(own | 1 << 63))?))
        };
        let open: Vec<_> = descriptors.iter().filter_map(|(fd, ..)| node(fd)).collect();
        let mut world = world.clone();
        world.set_open(open);
        GivenFiles {
            world,
            asked_for: Vec::new(),
            numbers: HashMap::new(),
        }
    })?;
    let cwd = PathBuf::from(OsStr::from_bytes(descriptors.cwd()));
    for (number, file) in files.iter().enumerate() {
        let mut place = find(&mut given.world, &base, &cwd.join(&file.path))
            .map_err(|reason| refused(&file.path, reason))?;
        let node = given.world.node(&place.path);
        let node = node.and_then(|id| given.world.get(id).cloned());
        let shared = node.as_ref().and_then(|node| node.shared);
        let was = || {
            let objects = group.shared.objects();
            let memory = shared.and_then(|shared| objects.content(shared));
            match &node {
                Some(node) => content_of(node, memory, &recording).map(Some),
                None if place.is_new => Ok(None),
                None => read_file(&path_of(&place.path)).map(Some),
            }
        };
        let content = content(hooks, (number, file), was)?;
        place.content = content;
        if let Some(memory) = shared {
            // What the process has mapped shows it as well.
            let objects = group.shared.objects();
            let shown = objects.content(memory);
            let shown = shown.map_or(Ok(()), |memory| show(memory, &place.content));
            shown.map_err(|e| refused(&file.path, format!("cannot write its memory: {e}")))?;
        }
        place.put_into(&mut given.world);
        if let Some(id) = given.world.node(&place.path)
            && let Some(other) = given.numbers.insert(id, number)
        {
            return Err(twice(&files[other].path, &file.path));
        }
        given.asked_for.push((number, path_of(&place.path)));
        group.files.give(event, place);
    }
    Ok(Some(given))
}

/// The files that have another content for a program that is started now, in this directory, with their numbers.
///
/// # Errors
/// As for [`give`].
pub(super) fn of_program(hooks: &mut dyn Hooks, cwd: &Path) -> Result<Vec<(usize, GivenFile)>> {
    let base = Arc::new(RecordedFiles::default());
    let mut world = World::new(Arc::clone(&base));
    let files = hooks.files();
    let mut all: Vec<(usize, GivenFile)> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let mut place = find(&mut world, &base, &cwd.join(&file.path))
            .map_err(|reason| refused(&file.path, reason))?;
        let was = || match place.is_new {
            true => Ok(None),
            false => read_file(&path_of(&place.path)).map(Some),
        };
        let content = content(hooks, (number, file), was)?;
        place.content = content;
        if let Some((other, _)) = all.iter().find(|(_, other)| other.path == place.path) {
            return Err(twice(&files[*other].path, &file.path));
        }
        all.push((number, place));
    }
    Ok(all)
}

/// An error about a file that is to have another content.
pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::File {
        path: path.to_string_lossy().into_owned(),
        reason: reason.into(),
    }
}

fn twice(one: &Path, other: &Path) -> Error {
    let one = one.display();
    refused(
        other,
        format!("it is the same file as {one}, which has a content already"),
    )
}

/// Finds the file that a path means, with no content yet.
fn find(
    world: &mut Recorded,
    base: &RecordedFiles,
    path: &Path,
) -> std::result::Result<GivenFile, String> {
    let mut links = Vec::new();
    let resolved = walk(path.as_os_str().as_bytes(), |at, _| {
        if let Some(id) = world.node(at) {
            return match &world.get(id)?.kind {
                Kind::Link(text) => Some(text.clone()),
                _ => None,
            };
        }
        if world.knows(at) || base.knows(at) {
            return None;
        }
        let text = fs::read_link(path_of(at)).ok()?.into_os_string();
        links.push((at.to_vec(), text.as_bytes().to_vec()));
        Some(text.as_bytes().to_vec())
    });
    if is_apart(&resolved) {
        return Err("files of the kernel cannot have another content".into());
    }
    let kind = |path: &[u8], world: &mut Recorded| match world.node(path) {
        Some(id) => world.get(id).map(|node| match &node.kind {
            Kind::File(_) => libc::S_IFREG,
            Kind::Directory => libc::S_IFDIR,
            Kind::Link(_) => libc::S_IFLNK,
            Kind::Special(kind, _) => *kind,
        }),
        None if world.knows(path) => None,
        None => fs::symlink_metadata(path_of(path))
            .ok()
            .map(|meta| meta.mode() & libc::S_IFMT),
    };
    let is_new = match kind(&resolved, world) {
        Some(libc::S_IFREG) => false,
        None => true,
        Some(libc::S_IFDIR) => return Err("it is a directory".into()),
        Some(_) => return Err("it is not a regular file".into()),
    };
    let parent = path_of(&resolved);
    let parent = parent.parent().unwrap_or(Path::new("/"));
    if is_new && kind(parent.as_os_str().as_bytes(), world) != Some(libc::S_IFDIR) {
        return Err(format!("there is no directory {}", parent.display()));
    }
    let today = fs::symlink_metadata(path_of(&resolved));
    let today = today.ok().filter(|_| !is_new);
    Ok(GivenFile {
        attributes: attributes(today.as_ref(), &resolved),
        inode: today.map(|meta| (meta.dev(), meta.ino())),
        path: resolved,
        links,
        content: Arc::default(),
        is_new,
    })
}

/// The attributes of a file of the machine, or those of a new one.
fn attributes(today: Option<&Metadata>, path: &[u8]) -> Attributes {
    const NEW: u32 = 0o644;
    let mut attributes = Attributes {
        mode: Some(NEW),
        ..Attributes::default()
    };
    if let Some(meta) = today {
        attributes.mode = Some(meta.mode() & 0o7777);
        (attributes.uid, attributes.gid) = (Some(meta.uid()), Some(meta.gid()));
        let seconds = i128::from(meta.mtime()) * 1_000_000_000;
        attributes.modified = Some(seconds + i128::from(meta.mtime_nsec()));
        let path = path_of(path);
        for name in xattr::list(&path).into_iter().flatten() {
            if let Ok(Some(value)) = xattr::get(&path, &name) {
                attributes.extended.insert(name.as_bytes().to_vec(), value);
            }
        }
    }
    attributes
}

/// The content that a file is to have; `was` is the one that it has.
fn content(
    hooks: &mut dyn Hooks,
    (number, file): (usize, &OtherFile),
    was: impl FnOnce() -> io::Result<Option<Vec<u8>>>,
) -> Result<Arc<[u8]>> {
    let bytes = match &file.content {
        OtherContent::Bytes(bytes) => Arc::clone(bytes),
        OtherContent::File(source) => read_file(source)
            .map_err(|e| {
                let source = source.display();
                refused(
                    &file.path,
                    format!("cannot read its content from {source}: {e}"),
                )
            })?
            .into(),
        OtherContent::Made => {
            let was = was().map_err(|e| {
                refused(
                    &file.path,
                    format!("its present content cannot be had: {e}"),
                )
            })?;
            let made = hooks.content(number, was.as_deref());
            made.map_err(Error::Hook)?.into()
        }
    };
    match bytes.len() as u64 > MOST {
        true => Err(refused(&file.path, TOO_LARGE)),
        false => Ok(bytes),
    }
}

const TOO_LARGE: &str = "the content has more than 256 MiB";

fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

/// The content of a regular file of the machine.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = checked_open::regular(path, 0)?;
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST {
        true => Err(io::Error::other(TOO_LARGE)),
        false => Ok(bytes),
    }
}

/// The content that a file of a recorded process has; `memory` is the shared memory that shows it.
fn content_of(
    node: &Node<FileContent>,
    memory: Option<&File>,
    recording: &Recording,
) -> io::Result<Vec<u8>> {
    let Kind::File(content) = &node.kind else {
        return Err(io::Error::other("it is not a regular file"));
    };
    if let Some(lost) = content.files().find_map(|file| lost(file, recording, &[])) {
        return Err(io::Error::other(lost.reason()));
    }
    if !content.is_known() || node.is_mapped && memory.is_none() {
        let why = "what a call or a mapping wrote to it was not recorded";
        return Err(io::Error::other(why));
    }
    if content.len() > MOST {
        return Err(io::Error::other(TOO_LARGE));
    }
    Parts::of(recording, memory).read(node, 0, content.len())
}

/// Reads parts of files of a recorded process.
pub(super) struct Parts<'a> {
    recording: &'a Recording,
    memory: Option<&'a File>,
    opened: RefCell<HashMap<FileId, File>>,
}

impl<'a> Parts<'a> {
    /// Those of a file whose content shared memory shows, if there is some.
    pub fn of(recording: &'a Recording, memory: Option<&'a File>) -> Parts<'a> {
        Parts {
            recording,
            memory,
            opened: RefCell::default(),
        }
    }

    /// The content of a range of a regular file, as far as there is any.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, node: &Node<FileContent>, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let Kind::File(content) = &node.kind else {
            return Ok(Vec::new());
        };
        if let Some(memory) = self.memory {
            let len = len.min(content.len().saturating_sub(at));
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            let mut done = 0;
            while done < bytes.len() {
                match memory.read_at(&mut bytes[done..], at + done as u64)? {
                    0 => break,
                    n => done += n,
                }
            }
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        let then = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        content.read(
            at,
            len,
            |file, part, from| self.part(file, part, from),
            then,
        )?;
        Ok(bytes)
    }

    fn part(&self, file: &FileContent, part: &mut [u8], from: u64) -> io::Result<usize> {
        let id = match file {
            FileContent::Bytes(all) => {
                let rest = usize::try_from(from).ok().and_then(|from| all.get(from..));
                let rest = rest.unwrap_or_default();
                let n = rest.len().min(part.len());
                part[..n].copy_from_slice(&rest[..n]);
                return Ok(n);
            }
            FileContent::Itself(itself) => {
                return checked_open::regular(&path_of(&itself.path), 0)?.read_at(part, from);
            }
            FileContent::Kept(id, _) => *id,
        };
        let mut opened = self.opened.borrow_mut();
        if let Some(file) = opened.get(&id) {
            return file.read_at(part, from);
        }
        let file = checked_open::regular(&self.recording.kept_file(id)?, 0)?;
        let n = file.read_at(part, from);
        opened.insert(id, file);
        n
    }
}

/// Writes a content into the memory that shows it, and zeros behind it.
fn show(memory: &File, content: &[u8]) -> io::Result<()> {
    let len = memory.metadata()?.len().max(content.len() as u64);
    memory.set_len(0)?;
    memory.set_len(len)?;
    memory.write_all_at(content, 0)
}
