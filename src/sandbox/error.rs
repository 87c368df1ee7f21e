//! Errors of sandboxes, with advice.

use crate::tracee;
use std::io;

/// Shorthand for this module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// A sandbox that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a step.
    #[error(
        "there is no sandbox to be had here: its first process could not {step}: {source}; {}, or choose sandbox = \"none\"",
        advice(step, source)
    )]
    Refused {
        /// The step, as the words after "could not".
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process could not be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
}

impl Error {
    pub(super) fn refused(step: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Refused {
            step: step.into(),
            source: source.into(),
        }
    }
}

/// The name of the step on which the advice depends.
pub(super) const NAMESPACES: &str = "get namespaces of its own";

/// A parameter of the kernel, as `kernel/pid_max`; `None` where there is none.
pub fn sysctl(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_string())
}

/// Advice on allowing a refused step.
pub fn advice(step: &str, error: &io::Error) -> String {
    let is = |name: &str, value: &str| sysctl(name).as_deref() == Some(value);
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0".into();
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return "sysctl kernel.unprivileged_userns_clone=1".into();
    }
    for kind in ["user", "mnt", "net", "pid", "ipc"] {
        let name = format!("user/max_{kind}_namespaces");
        if is(&name, "0") {
            return format!("sysctl user.max_{kind}_namespaces=10000");
        }
    }
    match (step, error.raw_os_error()) {
        (_, Some(libc::ENOSYS | libc::ENODEV | libc::EINVAL)) => {
            "use a kernel of 5.12 or later, with overlayfs and user namespaces"
        }
        (NAMESPACES, _) => {
            "in a container, allow the calls unshare and mount (Docker: --security-opt seccomp=unconfined \
             --cap-add SYS_ADMIN)"
        }
        _ => "in a container, allow mounts (Docker: --security-opt apparmor=unconfined --cap-add SYS_ADMIN)",
    }
    .into()
}
