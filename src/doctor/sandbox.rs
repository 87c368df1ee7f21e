//! A check of sandboxes: an empty process is put into one, and ends with the check.

use super::{Finding, child};
use crate::inject::Sandbox;
use crate::sandbox::{self, Error, Request, Sandboxes, Settings};
use crate::tracee::spawn;
use std::io;
use std::os::unix::ffi::OsStrExt;

const MEANS: &str =
    "copies that go live can be kept from the file system, the network and other processes";
const CANNOT: &str = "copies that go live can only do so without a sandbox (sandbox = \"none\", or RRAPPER_SANDBOX=none): they \
     then change the machine's own files, reach its network and its processes, and have no limits but that of time \
     (recording, replay and injection do not need it)";

pub(super) fn examine() -> Finding {
    let mut finding = try_sandbox();
    match Sandbox::of_environment() {
        Ok(Some(Sandbox::None)) => {
            finding.tried += "; RRAPPER_SANDBOX=none has live copies do without it";
        }
        Ok(_) => {}
        Err(wrong) => {
            finding.tried += "; ";
            finding.tried += &wrong;
        }
    }
    finding
}

fn try_sandbox() -> Finding {
    let name = "sandbox";
    match attempt() {
        Ok(()) => Finding::ok(
            name,
            "a child got namespaces of its own, a read-only view of all mounts, and an overlay on a directory",
            MEANS,
        ),
        Err(Error::Refused { step, source }) => {
            let tried = format!("a child could not {step}: {source}");
            Finding::lack(name, tried, CANNOT, sandbox::advice(&step, &source))
        }
        Err(error) => Finding::lack(
            name,
            format!("no sandbox could be tried: {error}"),
            CANNOT,
            "",
        ),
    }
}

fn attempt() -> Result<(), Error> {
    const PID: i32 = 12_345;
    let refused = |step: &str, source| Error::Refused {
        step: step.into(),
        source,
    };
    let temporary = std::env::temp_dir();
    let request = Request {
        writable: &[],
        cwd: temporary.as_os_str().as_bytes(),
        pid: PID,
        user: None,
        settings: &Settings::default(),
    };
    let shell = spawn::start_empty()?;
    let (mut process, sandbox) = Sandboxes::of_thread().enter(shell, &request)?;
    sandbox.seal(&mut process)?;
    let mut remote = process.remote_at_boundary()?;
    let step = "get the process number that was requested";
    match child::call(&mut remote, libc::SYS_getpid, [0; 6]) {
        Ok(pid) if pid == i64::from(PID) => {}
        Ok(other) => {
            let error = io::Error::other(format!("its number there is {other}"));
            return Err(refused(step, error));
        }
        Err(error) => return Err(refused(step, error)),
    }
    // A file that is created in the overlay must not appear outside of it.
    let file = temporary.join(format!("rrapper-doctor-{}", std::process::id()));
    let at = remote.put_str(file.as_os_str().as_bytes())?;
    let step = "write to its overlay";
    child::call(&mut remote, libc::SYS_creat, [at, 0o600, 0, 0, 0, 0])
        .map_err(|error| refused(step, error))?;
    if file.exists() {
        let _ = std::fs::remove_file(&file);
        let error = io::Error::other("the file appeared outside of it");
        return Err(refused(step, error));
    }
    Ok(())
}
