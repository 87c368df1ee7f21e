//! Whether a copy that goes live can be kept apart from the file system and the network: all of the steps
//! are taken, in a traced process that ends with the question, and its mounts with it.

use super::{Finding, child, machine};
use crate::tracee::{Remote, spawn};
use std::fs;
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MEANS: &str =
    "copies that go live can be kept from the file system, the network and other processes";
const CANNOT: &str = "copies that go live work on the real file system (recording, replay and injection do not need it)";

/// A step that failed, in words.
struct Failed {
    step: &'static str,
    error: Error,
}

pub(super) fn examine() -> Finding {
    let name = "sandbox";
    match attempt() {
        Ok(()) => Finding::ok(
            name,
            "a child got namespaces of its own, a read-only view of all mounts, and an overlay on a directory",
            MEANS,
        ),
        Err(Failed { step, error }) => {
            let tried = format!("a child could not {step}: {error}");
            Finding::lack(name, tried, CANNOT, advice(step, &error))
        }
    }
}

fn advice(step: &str, error: &Error) -> String {
    let is = |name: &str, value: &str| machine::sysctl(name).as_deref() == Some(value);
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0".into();
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return "sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if is("user/max_user_namespaces", "0") {
        return "sysctl user.max_user_namespaces=10000".into();
    }
    match (step, error.raw_os_error()) {
        (_, Some(libc::ENOSYS | libc::ENODEV)) => "use a kernel of 5.12 or later, with overlayfs",
        ("get namespaces of its own", _) => {
            "in a container, allow the calls unshare and mount (Docker: --security-opt seccomp=unconfined \
             --cap-add SYS_ADMIN)"
        }
        _ => "in a container, allow mounts (Docker: --security-opt apparmor=unconfined --cap-add SYS_ADMIN)",
    }
    .into()
}

fn attempt() -> std::result::Result<(), Failed> {
    let fail = |step| move |error| Failed { step, error };
    let begin = "be made";
    let mut task = spawn::start_empty().map_err(|e| fail(begin)(Error::other(e)))?;
    let pid = task.tid();
    let remote = task.remote_at_boundary();
    let mut remote = remote.map_err(|e| fail(begin)(Error::other(e)))?;
    let (under, upper) = directories().map_err(fail("find a directory for an overlay"))?;

    unshare(&mut remote).map_err(fail("get namespaces of its own"))?;
    map_ids(pid).map_err(fail("get its user and group (/proc/PID/uid_map)"))?;
    mount(
        &mut remote,
        None,
        Path::new("/"),
        None,
        libc::MS_REC | libc::MS_PRIVATE,
        None,
    )
    .map_err(fail("make its mounts private"))?;
    read_only(&mut remote).map_err(fail("make all mounts read-only (mount_setattr)"))?;
    mount(&mut remote, Some("tmpfs"), &upper, Some("tmpfs"), 0, None)
        .map_err(fail("mount a tmpfs"))?;
    overlay(&mut remote, &under, &upper).map_err(fail("mount an overlay"))?;
    write(&mut remote, &under).map_err(fail("write to its overlay"))?;
    isolated(remote).map_err(fail("make a process with a number of its own"))
}

/// The directory to lay something over, and another one to keep that in.
fn directories() -> Result<(PathBuf, PathBuf)> {
    let under = fs::canonicalize(std::env::temp_dir())?;
    let candidates = ["/mnt", "/media", "/srv", "/opt", "/home", "/tmp"];
    let mut candidates = candidates.iter().map(PathBuf::from);
    candidates
        .find(|upper| upper.is_dir() && !under.starts_with(upper))
        .map(|upper| (under, upper))
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

fn unshare(remote: &mut Remote<'_>) -> Result<()> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC;
    child::make(remote, libc::SYS_unshare, [flags as u64, 0, 0, 0, 0, 0]).map(drop)
}

/// Each id as itself: all that there are for root, else one's own.
fn map_ids(pid: i32) -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    for (file, id) in [("uid_map", uid.as_raw()), ("gid_map", gid.as_raw())] {
        let map = match uid.is_root() {
            true => known_ids(&fs::read_to_string(format!("/proc/self/{file}"))?),
            false => format!("{id} {id} 1"),
        };
        fs::write(format!("/proc/{pid}/{file}"), map)?;
    }
    Ok(())
}

/// Maps what this map knows onto itself: first id, any, how many.
fn known_ids(map: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

fn put(remote: &mut Remote<'_>, text: &[u8]) -> Result<u64> {
    remote.put_str(text).map_err(Error::other)
}

fn mount(
    remote: &mut Remote<'_>,
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: libc::c_ulong,
    data: Option<&[u8]>,
) -> Result<()> {
    remote.reset_scratch();
    let source = source.map_or(Ok(0), |text| put(remote, text.as_bytes()))?;
    let target = put(remote, target.as_os_str().as_bytes())?;
    let kind = kind.map_or(Ok(0), |text| put(remote, text.as_bytes()))?;
    let data = data.map_or(Ok(0), |text| put(remote, text))?;
    let args = [source, target, kind, flags, data, 0];
    child::make(remote, libc::SYS_mount, args).map(drop)
}

fn read_only(remote: &mut Remote<'_>) -> Result<()> {
    const AT_RECURSIVE: u64 = 0x8000;
    remote.reset_scratch();
    let root = put(remote, b"/")?;
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let attributes: Vec<u8> = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let at = remote.put(&attributes).map_err(Error::other)?;
    let size = attributes.len() as u64;
    let args = [libc::AT_FDCWD as u64, root, AT_RECURSIVE, at, size, 0];
    child::make(remote, libc::SYS_mount_setattr, args).map(drop)
}

fn overlay(remote: &mut Remote<'_>, under: &Path, upper: &Path) -> Result<()> {
    let mut options = b"userxattr,lowerdir=".to_vec();
    options.extend(under.as_os_str().as_bytes());
    for (name, option) in [("up", ",upperdir="), ("work", ",workdir=")] {
        let dir = upper.join(name);
        remote.reset_scratch();
        let at = put(remote, dir.as_os_str().as_bytes())?;
        child::make(remote, libc::SYS_mkdir, [at, 0o700, 0, 0, 0, 0])?;
        options.extend(option.as_bytes());
        options.extend(dir.as_os_str().as_bytes());
    }
    mount(
        remote,
        Some("overlay"),
        under,
        Some("overlay"),
        0,
        Some(&options),
    )
}

/// A file that is made in the overlay must not be outside of it.
fn write(remote: &mut Remote<'_>, under: &Path) -> Result<()> {
    let file = under.join(format!("rrapper-doctor-{}", std::process::id()));
    remote.reset_scratch();
    let at = put(remote, file.as_os_str().as_bytes())?;
    child::make(remote, libc::SYS_creat, [at, 0o600, 0, 0, 0, 0])?;
    match file.exists() {
        true => {
            let _ = fs::remove_file(&file);
            Err(Error::other("the file appeared outside of it"))
        }
        false => Ok(()),
    }
}

/// A process made now is the first one of its namespace.
fn isolated(mut remote: Remote<'_>) -> Result<()> {
    let mut copy = remote.fork().map_err(Error::other)?;
    let mut inner = copy.remote_at_boundary().map_err(Error::other)?;
    match child::make(&mut inner, libc::SYS_getpid, [0; 6])? {
        1 => Ok(()),
        other => Err(Error::other(format!("its number there is {other}, not 1"))),
    }
}
