//! Re-creating a process's descriptors before it goes live.
//!
//! Files and directories are opened again by their paths, at their offsets, without creating or
//! truncating anything. Standard output and error are captured instead. What cannot come back stays
//! closed, so that its use answers EBADF, and is listed.

use super::Result;
use crate::recording::{DescriptorTable, OpenFile};
use crate::replay::Place;
use crate::tracee::{Remote, Stopped};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Devices that hold no state, so that opening them again is the same.
const STATELESS: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Opens in the process what its table says, and returns a sentence about each
/// descriptor that could not be.
pub fn recreate(task: &mut Stopped, place: Place, table: &DescriptorTable) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut remote = match place {
        Place::Entry => task.remote_at_entry()?,
        Place::Between => task.remote_at_boundary()?,
    };
    change_dir(&mut remote, table.cwd(), &mut missing)?;
    if let Some(umask) = table.umask() {
        remote.call(libc::SYS_umask, [umask.into(), 0, 0, 0, 0, 0])?;
    }
    let mut opened = Vec::new();
    for (fd, file, cloexec) in table.iter() {
        let flags = if cloexec { libc::O_CLOEXEC } else { 0 } as u64;
        let captured = table.output_stream(fd).is_some();
        let twin = table.duplicate_of(fd);
        if let Some(twin) = twin.filter(|&twin| table.output_stream(twin).is_some() == captured) {
            if opened.contains(&twin) {
                remote.must(
                    "duplicate a descriptor",
                    libc::SYS_dup3,
                    [twin as u64, fd as u64, flags, 0, 0, 0],
                )?;
                opened.push(fd);
            }
            continue;
        }
        match reopen(&mut remote, fd, file, cloexec, captured)? {
            Ok(()) => opened.push(fd),
            // What somebody else left open, and the program never asked for, is no news.
            Err(_) if file.inherited => {}
            Err(why) => missing.push(format!(
                "descriptor {fd} ({}): {why}",
                String::from_utf8_lossy(&file.path)
            )),
        }
    }
    remote.finish()?;
    Ok(missing)
}

fn change_dir(remote: &mut Remote<'_>, cwd: &[u8], missing: &mut Vec<String>) -> Result<()> {
    remote.reset_scratch();
    let at = remote.put_str(cwd)?;
    if remote.call(libc::SYS_chdir, [at, 0, 0, 0, 0, 0])? < 0 {
        missing.push(format!(
            "the current directory {}: it is not there any more",
            String::from_utf8_lossy(cwd)
        ));
    }
    Ok(())
}

/// Opens one file at its number.
fn reopen(
    remote: &mut Remote<'_>,
    fd: i32,
    file: &OpenFile,
    cloexec: bool,
    captured: bool,
) -> Result<std::result::Result<(), String>> {
    if captured && file.path != b"/dev/null" {
        return stand_in(remote, fd, file, cloexec).map(Ok);
    }
    // Captured streams are answered without the kernel; something has to be there for the rest.
    let (path, flags) = if captured {
        (&b"/dev/null"[..], libc::O_RDWR)
    } else {
        if let Err(why) = can_reopen(&file.path) {
            return Ok(Err(why));
        }
        let once = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;
        (file.path.as_slice(), file.flags & !once)
    };
    remote.reset_scratch();
    let at = remote.put_str(path)?;
    let how = (flags | if cloexec { libc::O_CLOEXEC } else { 0 }) as u64;
    let got = remote.call(libc::SYS_openat, [libc::AT_FDCWD as u64, at, how, 0, 0, 0])?;
    if got < 0 {
        let error = std::io::Error::from_raw_os_error(-got as i32);
        return Ok(Err(format!("it cannot be opened again: {error}")));
    }
    let wanted = fd as u64;
    place_at(remote, got as u64, wanted, how & libc::O_CLOEXEC as u64)?;
    if !captured && file.offset > 0 {
        remote.call(
            libc::SYS_lseek,
            [wanted, file.offset, libc::SEEK_SET as u64, 0, 0, 0],
        )?;
    }
    Ok(Ok(()))
}

/// Puts something of the same kind in the place of a captured stream: programs look at what their
/// output is (grep and cmp print nothing to `/dev/null`). An anonymous file stands for a file, and a pipe
/// with both of its ends for all else.
fn stand_in(remote: &mut Remote<'_>, fd: i32, file: &OpenFile, cloexec: bool) -> Result<()> {
    let cloexec = if cloexec { libc::O_CLOEXEC } else { 0 } as u64;
    remote.reset_scratch();
    let what = "make a place for its output";
    if file.path.starts_with(b"/") && !file.path.starts_with(b"/dev/") {
        let name = remote.put_str(b"output")?;
        let flag = u64::from(if cloexec == 0 { 0 } else { libc::MFD_CLOEXEC });
        let got = remote.must(what, libc::SYS_memfd_create, [name, flag, 0, 0, 0, 0])?;
        place_at(remote, got, fd as u64, cloexec)?;
        let args = [fd as u64, file.offset, libc::SEEK_SET as u64, 0, 0, 0];
        remote.call(libc::SYS_lseek, args)?;
        return Ok(());
    }
    let ends = remote.put(&[0; 8])?;
    remote.must(what, libc::SYS_pipe2, [ends, 0, 0, 0, 0, 0])?;
    let ends = remote.memory().word(ends)?;
    let (read, write) = (ends & 0xffff_ffff, ends >> 32);
    let path = remote.put_str(format!("/proc/self/fd/{write}").as_bytes())?;
    let flags = libc::O_RDWR as u64 | cloexec;
    let args = [libc::AT_FDCWD as u64, path, flags, 0, 0, 0];
    let both = remote.must(what, libc::SYS_openat, args)?;
    for end in [read, write] {
        remote.call(libc::SYS_close, [end, 0, 0, 0, 0, 0])?;
    }
    place_at(remote, both, fd as u64, cloexec)
}

/// Moves a descriptor to its number.
fn place_at(remote: &mut Remote<'_>, got: u64, wanted: u64, cloexec: u64) -> Result<()> {
    if got != wanted {
        let args = [got, wanted, cloexec, 0, 0, 0];
        remote.must("place a descriptor", libc::SYS_dup3, args)?;
        remote.call(libc::SYS_close, [got, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

/// Whether opening this path again gives the same thing.
fn can_reopen(path: &[u8]) -> std::result::Result<(), String> {
    let path = Path::new(OsStr::from_bytes(path));
    if !path.is_absolute() {
        return Err("only files that have a path can be opened again".into());
    }
    let meta = std::fs::symlink_metadata(path).map_err(|e| format!("it cannot be found: {e}"))?;
    let kind = meta.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    if kind.is_char_device() && STATELESS.iter().any(|device| path == Path::new(device)) {
        return Ok(());
    }
    Err("only regular files and directories can be opened again".into())
}
