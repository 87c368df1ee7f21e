//! A recording in one file, which can be opened as it is.
//!
//! A header (magic, format version); each kept file as blocks with their offsets in it (between them are zeros); `events`
//! and an index as they are in a directory; then a table of all these ([`Table`] in postcard's encoding), and in the last
//! 24 bytes the table's offset (u64), length (u32) and CRC-32 (u32), and the magic again.
//!
//! The files of the machine of which the recording only has the status are among the kept ones, as far as they are still
//! the same: their entries ([`Frame::Before`]) are in blocks without events behind the start's.
//!
//! Kept files are unpacked when they are needed, to files without names, which vanish with rrapper, however it ends. A
//! packed file is untrusted like any recording: it unpacks to at most 256 times its size.

use super::block::{BLANK, Head, MOST, Packer, RATIO, Slice};
use super::copy::{Extents, checksum, same};
use super::reader::check_version;
use super::uncopied::{CHANGED, Uncopied, uncopied};
use super::{Error, Frame, HEADER, KeptLimits, PACK_MAGIC, Reader, Result, VERSION, io};
use crate::image::FileId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const TRAILER: u64 = 24;

/// Longer tables are refused.
const MAX_TABLE: u64 = 64 << 20;

/// The most kept files that a file is compared with, of those of its size.
const MOST_COMPARED: usize = 16;

/// zstd's level: files are packed once, to be kept.
const LEVEL: i32 = 9;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    events: Section,
    index: Section,
    files: Vec<Kept>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Section {
    at: u64,
    len: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    ids: Vec<FileId>,
    len: u64,
    blocks: Section,
}

/// An open packed file.
pub(super) struct Packed {
    path: PathBuf,
    all: Slice,
    files: Vec<Kept>,
    by_id: HashMap<FileId, usize>,
    unpacked: Mutex<HashMap<usize, File>>,
}

impl Packed {
    /// Opens a packed file; returns its events and their index as well.
    pub fn open(path: &Path) -> Result<(Packed, Slice, Slice)> {
        let not = |reason: &str| Error::NotARecording {
            path: path.into(),
            reason: reason.into(),
        };
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(io("open", path))?;
        if !file.metadata().map_err(io("look at", path))?.is_file() {
            return Err(not("it is neither a directory nor a packed recording"));
        }
        let all = Slice::of(file).map_err(io("look at", path))?;
        let mut header = [0; HEADER as usize];
        if all.read(&mut header, 0).is_err() || header[..8] != PACK_MAGIC {
            return Err(not(
                "it is not a directory, and does not begin like a packed recording",
            ));
        }
        check_version(path, [header[8], header[9], header[10], header[11]])?;
        let damaged = || not("it is packed, and its end is missing or damaged");
        let table = read_table(&all).ok_or_else(damaged)?;
        let part = |place: Section| all.part(place.at, place.len).ok_or_else(damaged);
        let (events, index) = (part(table.events)?, part(table.index)?);
        let mut by_id = HashMap::new();
        let mut end = 0;
        for (i, kept) in table.files.iter().enumerate() {
            part(kept.blocks)?;
            // In order and apart: the same bytes cannot be unpacked twice.
            if kept.blocks.at < end {
                return Err(damaged());
            }
            end = kept.blocks.at + kept.blocks.len;
            by_id.extend(kept.ids.iter().map(|&id| (id, i)));
        }
        let packed = Packed {
            path: path.into(),
            all: all.clone(),
            files: table.files,
            by_id,
            unpacked: Mutex::default(),
        };
        Ok((packed, events, index))
    }

    fn find(&self, id: FileId) -> Result<usize> {
        let found = self.by_id.get(&id).copied();
        found.ok_or_else(|| Error::Damaged {
            path: self.path.clone(),
            offset: 0,
            reason: format!("the kept file {id} is not in it"),
        })
    }

    /// Whether it has a kept file. The blocks of that have checksums of their own.
    pub fn has(&self, id: FileId) -> Result<()> {
        self.find(id).map(drop)
    }

    /// A path at which this process and those that it traces find a kept file, for as long as this lives.
    pub fn file_path(&self, id: FileId) -> Result<PathBuf> {
        let which = self.find(id)?;
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match unpacked.get(&which) {
            Some(file) => file,
            None => {
                let file = self.unpack(&self.files[which])?;
                unpacked.entry(which).or_insert(file)
            }
        };
        let (pid, fd) = (std::process::id(), file.as_raw_fd());
        Ok(PathBuf::from(format!("/proc/{pid}/fd/{fd}")))
    }

    /// The numbers of the kept file with this inode, of those that have been asked for, and its path.
    pub fn unpacked_as(&self, inode: u64) -> Option<(Vec<FileId>, PathBuf)> {
        let unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let (which, file) = unpacked
            .iter()
            .find(|(_, file)| file.metadata().is_ok_and(|meta| meta.ino() == inode))?;
        let ids = self.files.get(*which)?.ids.clone();
        let (pid, fd) = (std::process::id(), file.as_raw_fd());
        Some((ids, PathBuf::from(format!("/proc/{pid}/fd/{fd}"))))
    }

    /// Copies a part of a kept file, which needs not be unpacked for that, to an offset of another file. The zeros between
    /// blocks are left out.
    pub fn copy(&self, id: FileId, part: Range<u64>, target: &File, to: u64) -> Result<()> {
        let which = self.find(id)?;
        self.for_each_block(&self.files[which], |at, bytes| {
            let from = part.start.max(at);
            let end = part.end.min(at + bytes.len() as u64);
            if from >= end {
                return Ok(());
            }
            let bytes = &bytes[(from - at) as usize..(end - at) as usize];
            target.write_all_at(bytes, to + (from - part.start))
        })
    }

    fn unpack(&self, kept: &Kept) -> Result<File> {
        let file = nameless().map_err(io("unpack a file of", &self.path))?;
        self.for_each_block(kept, |at, bytes| file.write_all_at(bytes, at))?;
        file.set_len(kept.len)
            .map_err(io("unpack a file of", &self.path))?;
        Ok(file)
    }

    /// Passes the blocks of a kept file, with their offsets in it.
    fn for_each_block(
        &self,
        kept: &Kept,
        mut then: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
    ) -> Result<()> {
        let damaged = |offset: u64, reason: &str| Error::Damaged {
            path: self.path.clone(),
            offset,
            reason: reason.into(),
        };
        let end = kept.blocks.at + kept.blocks.len;
        let (mut at, mut filled) = (kept.blocks.at, 0);
        let mut raw = Vec::new();
        while at < end {
            let head = self.all.head(at).map_err(io("read", &self.path))?;
            let head = head
                .filter(|head| head.len() <= end - at)
                .ok_or_else(|| damaged(at, "there is no block"))?;
            if head.is_dense() {
                let reason = format!("a block is more than {RATIO} times as long as on disk");
                return Err(damaged(at, &reason));
            }
            let to = head.first.checked_add(head.raw.into());
            if head.first < filled || to.is_none_or(|to| to > kept.len) {
                return Err(damaged(at, "a block is out of place"));
            }
            raw.clear();
            self.all.unpack(at, head, &mut raw, &self.path)?;
            then(head.first, &raw).map_err(io("unpack a file of", &self.path))?;
            filled = head.first + u64::from(head.raw);
            at += head.len();
        }
        Ok(())
    }
}

fn read_table(all: &Slice) -> Option<Table> {
    let mut trailer = [0; TRAILER as usize];
    all.read(&mut trailer, all.len.checked_sub(TRAILER)?).ok()?;
    let ([at, lens, magic], _) = trailer.as_chunks::<8>() else {
        return None;
    };
    let lens = u64::from_le_bytes(*lens);
    let (len, crc) = (lens & 0xffff_ffff, (lens >> 32) as u32);
    if *magic != PACK_MAGIC || len > MAX_TABLE {
        return None;
    }
    let table = all.part(u64::from_le_bytes(*at), len)?;
    let mut bytes = vec![0; len as usize];
    table.read(&mut bytes, 0).ok()?;
    (crc32fast::hash(&bytes) == crc)
        .then(|| postcard::from_bytes(&bytes).ok())
        .flatten()
}

/// A file without a name, which vanishes when it is closed: on disk if programs can be mapped from there, or else in
/// memory.
fn nameless() -> std::io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::statvfs::{FsFlags, statvfs};
    let dir = std::env::temp_dir();
    let mappable = statvfs(&dir).is_ok_and(|fs| !fs.flags().contains(FsFlags::ST_NOEXEC));
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(&dir);
    if let Some(file) = file.ok().filter(|_| mappable) {
        return Ok(file);
    }
    // A kernel before 6.3 does not know MFD_EXEC, and needs none.
    let plain = MFdFlags::MFD_CLOEXEC;
    let file = memfd_create(
        "rrapper",
        plain | MFdFlags::from_bits_retain(libc::MFD_EXEC),
    )
    .or_else(|_| memfd_create("rrapper", plain))?;
    Ok(file.into())
}

/// The files of the machine that a recording knows without having their content, once it is packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedFiles {
    /// The number of those that the packed recording has.
    pub copied: usize,
    /// Those that it has no copy of, and why.
    pub left_out: Vec<(PathBuf, String)>,
}

/// Packs a recording into a new file; an incomplete block at its end is left out. Files of the machine of which it only
/// has the status are copied, if they have not changed since, and the recording is the user's own.
///
/// # Errors
/// If it is packed already, something cannot be read, or `target` cannot be made (it must not exist).
pub fn pack(recording: &Reader, target: &Path) -> Result<PackedFiles> {
    if recording.is_packed() {
        return Err(Error::NotARecording {
            path: recording.dir().into(),
            reason: "it is packed already".into(),
        });
    }
    if target.symlink_metadata().is_ok() {
        return Err(Error::Exists {
            path: target.into(),
        });
    }
    let new = NewFile::create(target)?;
    let out = Out {
        path: target,
        file: new.file.try_clone().map_err(io("open", target))?,
        at: 0,
    };
    let files = out.pack(recording)?;
    new.keep()?;
    Ok(files)
}

/// A file that gets its name once it is complete.
struct NewFile {
    path: PathBuf,
    file: File,
    named: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<NewFile> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mut options = File::options();
        options.read(true).write(true).mode(0o600);
        if let Ok(file) = options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
            let path = path.into();
            return Ok(NewFile {
                path,
                file,
                named: false,
            });
        }
        let file = options.create_new(true).open(path);
        Ok(NewFile {
            file: file.map_err(io("create", path))?,
            path: path.into(),
            named: true,
        })
    }

    fn keep(mut self) -> Result<()> {
        use nix::fcntl::{AT_FDCWD, AtFlags};
        if !self.named {
            let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(AT_FDCWD, link.as_str(), AT_FDCWD, &self.path, follow)
                .map_err(|e| io("create", &self.path)(e.into()))?;
        }
        self.named = false;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.named
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

struct Out<'a> {
    path: &'a Path,
    file: File,
    at: u64,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(io("write", self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn section_from(&self, at: u64) -> Section {
        Section {
            at,
            len: self.at - at,
        }
    }

    fn pack(mut self, recording: &Reader) -> Result<PackedFiles> {
        let mut table = Table::default();
        self.write(&PACK_MAGIC)?;
        self.write(&VERSION.to_le_bytes())?;
        let mut packer = Packer::new(LEVEL).map_err(io("write", self.path))?;
        let own = kept_files(&recording.dir().join("files"))?;
        for (ids, path) in &own {
            let file = open_kept(path)?;
            let kept = self.kept(ids.clone(), &file, path, &mut packer)?;
            table.files.push(kept);
        }
        let mut done = PackedFiles::default();
        let frames = self.uncopied(recording, &own, &mut table, &mut packer, &mut done)?;
        let entries = blocks_without_events(&frames, &mut packer);
        let entries = entries.map_err(io("write", self.path))?;
        let begin = self.at;
        let behind_start = recording.behind_start()?;
        self.events(recording, 0..behind_start)?;
        for block in &entries {
            self.write(block)?;
        }
        self.events(recording, behind_start..u64::MAX)?;
        table.events = self.section_from(begin);
        let begin = self.at;
        let lens: Vec<u64> = entries.iter().map(|block| block.len() as u64).collect();
        self.write(&recording.blocks().index_with(behind_start, &lens)?)?;
        table.index = self.section_from(begin);
        let bytes = postcard::to_stdvec(&table)
            .map_err(|e| io("write", self.path)(std::io::Error::other(e)))?;
        let at = self.at;
        self.write(&bytes)?;
        self.write(&at.to_le_bytes())?;
        self.write(&(bytes.len() as u32).to_le_bytes())?;
        self.write(&crc32fast::hash(&bytes).to_le_bytes())?;
        self.write(&PACK_MAGIC)?;
        Ok(done)
    }

    /// Copies the files of the machine that the recording has no content of; returns the frames that say so.
    fn uncopied(
        &mut self,
        recording: &Reader,
        own: &[(Vec<FileId>, PathBuf)],
        table: &mut Table,
        packer: &mut Packer,
        done: &mut PackedFiles,
    ) -> Result<Vec<Frame>> {
        let files = uncopied(recording.files_before()?);
        // A recording of another user might name files that only this one can read.
        let dir = recording.dir();
        let owner = fs::metadata(dir).map_err(io("look at", dir))?.uid();
        let is_own = owner == nix::unistd::geteuid().as_raw();
        let mut names = Unused::of(table);
        let mut alike = Alike::of(own);
        let limits = KeptLimits::default();
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for file in files {
            let opened = match is_own {
                true => file.open_within(limits, bytes).map_err(|e| e.to_string()),
                false => Err("the recording is another user's".into()),
            };
            let copied = match opened {
                Ok((opened, on_disk)) => {
                    bytes += on_disk;
                    self.copied(&file, &opened, table, &mut names, &mut alike, packer)?
                }
                Err(reason) => Err(reason),
            };
            match copied {
                Ok((id, sum)) => {
                    done.copied += 1;
                    frames.extend(file.kept(id, sum));
                }
                Err(reason) => {
                    let path = PathBuf::from(OsString::from_vec(file.path));
                    done.left_out.push((path, reason));
                }
            }
        }
        Ok(frames)
    }

    /// The number of the kept file with the content of a file of the machine, and its checksum; or why there is none.
    fn copied(
        &mut self,
        file: &Uncopied,
        opened: &File,
        table: &mut Table,
        names: &mut Unused,
        alike: &mut Alike,
        packer: &mut Packer,
    ) -> Result<std::result::Result<(FileId, u32), String>> {
        let sum = match checksum(opened) {
            Ok(sum) => sum,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(id) = alike.find(opened) {
            return Ok(Ok((id, sum)));
        }
        let path = PathBuf::from(OsString::from_vec(file.path.clone()));
        let begin = self.at;
        let id = names.next();
        let kept = self.kept(vec![id], opened, &path, packer);
        let is_same = || file.is(opened).unwrap_or(false);
        match kept {
            Ok(kept) if is_same() => {
                table.files.push(kept);
                alike.add(id, path, file.status.size);
                Ok(Ok((id, sum)))
            }
            // It could not be written.
            Err(Error::Io { path, source, what }) if path == self.path => {
                Err(Error::Io { what, path, source })
            }
            other => {
                self.back_to(begin)?;
                Ok(Err(match other {
                    Ok(_) => CHANGED.into(),
                    Err(error) => error.to_string(),
                }))
            }
        }
    }

    /// Takes back what was written from an offset on.
    fn back_to(&mut self, at: u64) -> Result<()> {
        let back = self.file.set_len(at);
        back.and_then(|()| self.file.seek(SeekFrom::Start(at)))
            .map_err(io("write", self.path))?;
        self.at = at;
        Ok(())
    }

    fn events(&mut self, recording: &Reader, part: Range<u64>) -> Result<()> {
        let events = recording.blocks().slice();
        let mut buf = vec![0; MOST];
        let mut at = part.start;
        let end = part.end.min(events.len);
        while at < end {
            let n = (end - at).min(MOST as u64) as usize;
            events
                .read(&mut buf[..n], at)
                .map_err(io("read", &recording.blocks().path))?;
            self.write(&buf[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    fn kept(
        &mut self,
        ids: Vec<FileId>,
        file: &File,
        path: &Path,
        packer: &mut Packer,
    ) -> Result<Kept> {
        let begin = self.at;
        let len = file.metadata().map_err(io("look at", path))?.len();
        let mut raw = vec![0; MOST];
        for extent in Extents::of(file).map_err(io("look at", path))? {
            let mut at = extent.start;
            while at < extent.end.min(len) {
                let n = (extent.end.min(len) - at).min(MOST as u64) as usize;
                file.read_exact_at(&mut raw[..n], at)
                    .map_err(io("read", path))?;
                if raw[..n].iter().any(|&byte| byte != 0) {
                    let head = Head { first: at, ..BLANK };
                    let block = packer
                        .pack(&raw[..n], head, true)
                        .map_err(io("write", self.path))?;
                    let written = self.file.write_all(block);
                    written.map_err(io("write", self.path))?;
                    self.at += block.len() as u64;
                }
                at += n as u64;
            }
        }
        Ok(Kept {
            ids,
            len,
            blocks: self.section_from(begin),
        })
    }
}

/// Numbers of kept files that nothing in a recording refers to: the recorder counts from 0.
struct Unused {
    taken: BTreeSet<FileId>,
    last: FileId,
}

impl Unused {
    fn of(table: &Table) -> Unused {
        Unused {
            taken: table
                .files
                .iter()
                .flat_map(|kept| &kept.ids)
                .copied()
                .collect(),
            last: FileId::MAX,
        }
    }

    fn next(&mut self) -> FileId {
        while self.taken.contains(&self.last) {
            self.last -= 1;
        }
        self.taken.insert(self.last);
        self.last
    }
}

/// Kept files by size: a file that was mapped as well is there already.
struct Alike(HashMap<u64, Vec<(FileId, PathBuf)>>);

impl Alike {
    fn of(kept: &[(Vec<FileId>, PathBuf)]) -> Alike {
        let mut alike = Alike(HashMap::new());
        for (ids, path) in kept {
            if let (Some(&id), Ok(meta)) = (ids.first(), fs::symlink_metadata(path)) {
                alike.add(id, path.clone(), meta.len());
            }
        }
        alike
    }

    fn add(&mut self, id: FileId, path: PathBuf, size: u64) {
        self.0.entry(size).or_default().push((id, path));
    }

    /// One with the same content.
    fn find(&self, file: &File) -> Option<FileId> {
        let size = file.metadata().ok()?.len();
        let found = self.0.get(&size)?.iter().rev().take(MOST_COMPARED);
        let is_same =
            |path: &Path| open_kept(path).is_ok_and(|kept| same(file, &kept).unwrap_or(false));
        found
            .into_iter()
            .find(|(_, path)| is_same(path))
            .map(|(id, _)| *id)
    }
}

/// Blocks that have these frames, and no event.
fn blocks_without_events(frames: &[Frame], packer: &mut Packer) -> std::io::Result<Vec<Vec<u8>>> {
    let mut blocks = Vec::new();
    let mut raw: Vec<u8> = Vec::new();
    let mut cut = |raw: &mut Vec<u8>| {
        let head = Head { first: 1, ..BLANK };
        blocks.push(packer.pack(raw, head, false)?.to_vec());
        raw.clear();
        std::io::Result::Ok(())
    };
    for frame in frames {
        let bytes = postcard::to_stdvec(frame).map_err(std::io::Error::other)?;
        if raw.len() + 4 + bytes.len() > MOST && !raw.is_empty() {
            cut(&mut raw)?;
        }
        raw.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        raw.extend_from_slice(&bytes);
    }
    if !raw.is_empty() {
        cut(&mut raw)?;
    }
    Ok(blocks)
}

fn open_kept(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(io("open", path))?;
    if !file.metadata().map_err(io("look at", path))?.is_file() {
        let other = std::io::Error::other("it is not a regular file");
        return Err(io("pack", path)(other));
    }
    Ok(file)
}

/// The kept files of a recording: all numbers that stand for one, and its path.
fn kept_files(dir: &Path) -> Result<Vec<(Vec<FileId>, PathBuf)>> {
    let mut found: Vec<(FileId, PathBuf, (u64, u64))> = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("look into", dir))? {
        let entry = entry.map_err(io("look into", dir))?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.parse::<FileId>().ok());
        // Nothing else is ever opened.
        if let Some(id) = id.filter(|id| name == id.to_string().as_str()) {
            let path = entry.path();
            let meta = entry.metadata().map_err(io("look at", &path))?;
            found.push((id, path, (meta.dev(), meta.ino())));
        }
    }
    found.sort_unstable_by_key(|(id, ..)| *id);
    let mut files: Vec<(Vec<FileId>, PathBuf)> = Vec::new();
    let mut known = HashMap::new();
    for (id, path, inode) in found {
        let which = *known.entry(inode).or_insert(files.len());
        match files.get_mut(which) {
            Some((ids, _)) => ids.push(id),
            None => files.push((vec![id], path)),
        }
    }
    Ok(files)
}
