//! Renaming in and between overlays.
//!
//! The kernel renames only directories that were made in the overlay, and answers `EXDEV` for others. Such a directory
//! is replaced by a copy first, into which its files are moved. Between overlays files are copied.

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, faccessat, fchown, symlinkat, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use xattr::FileExt;

/// The limit on the files below a directory.
const MOST_FILES: usize = 20_000;

/// The limit on their bytes, all of which are copied.
const MOST_BYTES: u64 = 256 << 20;

/// The limit on the depth.
const DEEPEST: usize = 100;

/// The temporary name of the copy.
const NEW: &CStr = c".rrapper-renamed";

/// Replaces a directory in `parent` by a copy that can be renamed. No symbolic link is followed, whatever other
/// processes do meanwhile.
///
/// # Errors
/// If the directory cannot be read or written, or is too large; it is unchanged then, unless the disk is full.
pub fn make_renamable(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    // The other one of an exchange may be a file.
    let status = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Ok(());
    }
    check(parent, name, &mut Sum::default(), 0)?;
    move_files(parent, name, parent, NEW)?;
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)?;
    renameat(parent, NEW, parent, name)
}

/// Renames a file or directory to one in another overlay, as if both were one file system. No symbolic link is
/// followed, whatever other processes do meanwhile.
///
/// # Errors
/// If it cannot be read or written, or is too large; it may be there partly at its new place then.
pub fn move_between(
    (from, name): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
) -> nix::Result<()> {
    let status = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = status.st_mode & libc::S_IFMT;
    let sum = &mut Sum::default();
    if kind == libc::S_IFDIR {
        check(from, name, sum, 0)?;
        // Fails unless it is empty, as the rename would.
        match unlinkat(to, new, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    } else if status.st_size as u64 > MOST_BYTES {
        return Err(Errno::EXDEV);
    }
    copy_entry((from, name), (to, NEW), &status)?;
    renameat(to, NEW, to, new)?;
    let how = match kind {
        libc::S_IFDIR => return remove_tree(from, name),
        _ => UnlinkatFlags::NoRemoveDir,
    };
    unlinkat(from, name, how)
}

fn copy_entry(
    (from, name): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
    status: &FileStat,
) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(status.st_mode & 0o7777);
    let kind = status.st_mode & libc::S_IFMT;
    match kind {
        libc::S_IFDIR => {
            mkdirat(to, new, Mode::S_IRWXU)?;
            let (source, target) = (open(from, name)?, open(to, new)?);
            for (entry, _) in entries(&source)? {
                let entry = entry.as_c_str();
                let status = fstatat(&source, entry, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                copy_entry((source.as_fd(), entry), (target.as_fd(), entry), &status)?;
            }
            give(source.as_fd(), target.as_fd(), status, mode)
        }
        libc::S_IFREG => {
            let how = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            let source = openat(from, name, OFlag::O_RDONLY | how, Mode::empty())?;
            let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | how;
            let target = openat(to, new, make, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let (mut source, mut target) = (File::from(source), File::from(target));
            let copied = std::io::copy(&mut source, &mut target);
            copied.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            give(source.as_fd(), target.as_fd(), status, mode)
        }
        libc::S_IFLNK => {
            let text = readlinkat(from, name)?;
            symlinkat(text.as_os_str(), to, new)
        }
        kind => mknodat(
            to,
            new,
            SFlag::from_bits_truncate(kind),
            mode,
            status.st_rdev,
        ),
    }
}

/// Gives a copy the owner, the extended attributes, the permissions and the times of a file.
fn give(
    source: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    status: &FileStat,
    mode: Mode,
) -> nix::Result<()> {
    if let (Ok(source), Ok(file)) = (source.try_clone_to_owned(), file.try_clone_to_owned()) {
        give_attributes(&source.into(), &file.into());
    }
    // Only root may give files away, and only root meets those of others.
    _ = fchown(
        file,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
    );
    fchmod(file, mode)?;
    futimens(
        file,
        &TimeSpec::new(status.st_atime, status.st_atime_nsec),
        &TimeSpec::new(status.st_mtime, status.st_mtime_nsec),
    )
}

/// Gives a copy the extended attributes, as far as it can have them.
pub(super) fn give_attributes(source: &File, file: &File) {
    for name in source.list_xattr().into_iter().flatten() {
        let value = source.get_xattr(&name);
        let set = value.map(|value| value.map(|value| file.set_xattr(&name, &value)));
        tracing::trace!("{}: {set:?}", name.to_string_lossy());
    }
}

/// Removes a directory with all in it.
///
/// # Errors
/// If a file cannot be removed, or there are too many; some of them may be gone then.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    remove_some(parent, name, &mut Sum::default(), 0)
}

fn remove_some(
    parent: BorrowedFd<'_>,
    name: &CStr,
    sum: &mut Sum,
    depth: usize,
) -> nix::Result<()> {
    let dir = open(parent, name)?;
    for (entry, is_dir) in entries(&dir)? {
        sum.files += 1;
        if sum.files > MOST_FILES || depth > DEEPEST {
            return Err(Errno::E2BIG);
        }
        match is_dir {
            true => remove_some(dir.as_fd(), &entry, sum, depth + 1)?,
            false => unlinkat(&dir, entry.as_c_str(), UnlinkatFlags::NoRemoveDir)?,
        }
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

#[derive(Default)]
struct Sum {
    files: usize,
    bytes: u64,
}

/// Checks that the whole directory can be moved.
fn check(parent: BorrowedFd<'_>, name: &CStr, sum: &mut Sum, depth: usize) -> nix::Result<()> {
    faccessat(
        parent,
        name,
        AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    )?;
    if depth > DEEPEST {
        return Err(Errno::EXDEV);
    }
    let dir = open(parent, name)?;
    for (name, is_dir) in entries(&dir)? {
        sum.files += 1;
        if is_dir {
            check(dir.as_fd(), &name, sum, depth + 1)?;
        } else {
            let status = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            sum.bytes = sum.bytes.saturating_add(status.st_size as u64);
        }
        if sum.files > MOST_FILES || sum.bytes > MOST_BYTES {
            return Err(Errno::EXDEV);
        }
    }
    Ok(())
}

fn open(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, how, Mode::empty())
}

/// The names in a directory, and whether they are directories.
fn entries(dir: &OwnedFd) -> nix::Result<Vec<(CString, bool)>> {
    let mut list = Vec::new();
    let mut reader = Dir::from_fd(open(dir.as_fd(), c".")?)?;
    for entry in reader.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            None => {
                let status = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                status.st_mode & libc::S_IFMT == libc::S_IFDIR
            }
        };
        list.push((name.to_owned(), is_dir));
        if list.len() > MOST_FILES {
            return Err(Errno::EXDEV);
        }
    }
    Ok(list)
}

/// Moves the content of a directory into a new one.
fn move_files(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new: &CStr,
) -> nix::Result<()> {
    mkdirat(to, new, Mode::S_IRWXU)?;
    let (source, target) = (open(from, name)?, open(to, new)?);
    let status = fstat(&source)?;
    for (entry, is_dir) in entries(&source)? {
        let entry = entry.as_c_str();
        if is_dir {
            move_files(source.as_fd(), entry, target.as_fd(), entry)?;
            unlinkat(&source, entry, UnlinkatFlags::RemoveDir)?;
        } else {
            match renameat(&source, entry, &target, entry) {
                // The file of an owner who is not mapped.
                Err(Errno::EOVERFLOW) => {
                    let status = fstatat(&source, entry, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                    copy_entry((source.as_fd(), entry), (target.as_fd(), entry), &status)?;
                    unlinkat(&source, entry, UnlinkatFlags::NoRemoveDir)?;
                }
                renamed => renamed?,
            }
        }
    }
    let mode = Mode::from_bits_truncate(status.st_mode & 0o7777);
    give(source.as_fd(), target.as_fd(), &status, mode)
}
