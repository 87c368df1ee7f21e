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
    pub(crate) fn refused(step: impl Into<String>, source: impl Into<io::Error>) -> Error {
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

/// What forbids a refused step, and advice on allowing it.
pub fn advice(step: &str, error: &io::Error) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let profile = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    advice_for(
        step,
        error,
        &Machine {
            sysctl: &sysctl,
            status: &status,
            profile: &profile,
        },
    )
}

/// What may forbid a step.
struct Machine<'a> {
    sysctl: &'a dyn Fn(&str) -> Option<String>,
    /// `/proc/self/status`.
    status: &'a str,
    /// The profile of the security module: `/proc/self/attr/current`.
    profile: &'a str,
}

impl Machine<'_> {
    fn has_filter(&self) -> bool {
        let mode = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        mode.is_some_and(|mode| mode.trim() == "2")
    }

    /// The AppArmor profile that confines this process.
    fn profile(&self) -> Option<&str> {
        let profile = self.profile.trim_end_matches(['\n', '\0']);
        profile.strip_suffix(" (enforce)")
    }
}

fn advice_for(step: &str, error: &io::Error, machine: &Machine<'_>) -> String {
    let is = |name: &str, value: &str| (machine.sysctl)(name).as_deref() == Some(value);
    let restricted = "kernel/apparmor_restrict_unprivileged_userns";
    let mut settings = vec![
        (restricted.to_string(), "1", "0"),
        ("kernel/unprivileged_userns_clone".to_string(), "0", "1"),
    ];
    for kind in ["user", "mnt", "net", "pid", "ipc"] {
        settings.push((format!("user/max_{kind}_namespaces"), "0", "10000"));
    }
    for (name, forbids, allows) in settings {
        if is(&name, forbids) {
            let name = name.replace('/', ".");
            return format!("{name} is {forbids}, which forbids it: sysctl {name}={allows}");
        }
    }
    let docker = match (step, error.raw_os_error()) {
        (_, Some(libc::ENOSYS | libc::ENODEV | libc::EINVAL)) => {
            return "use a kernel of 5.12 or later, with overlayfs and user namespaces".into();
        }
        (NAMESPACES, _) => {
            "in a container, allow the calls unshare and mount (Docker: --security-opt seccomp=unconfined \
             --cap-add SYS_ADMIN)"
        }
        _ => {
            "in a container, allow mounts (Docker: --security-opt apparmor=unconfined --cap-add SYS_ADMIN)"
        }
    };
    let filter = "a seccomp filter is in force, as in containers, and probably forbids it";
    match (machine.profile(), machine.has_filter()) {
        (Some(profile), true) if step == NAMESPACES => {
            format!("{filter}, or the AppArmor profile {profile} does: {docker}")
        }
        (Some(profile), _) => {
            format!("the AppArmor profile {profile} probably forbids it: {docker}")
        }
        (None, true) => format!("{filter}: {docker}"),
        (None, false) => docker.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(step: &str, set: (&str, &str), status: &str, profile: &str) -> String {
        let sysctl = |name: &str| (name == set.0).then(|| set.1.to_string());
        let error = io::Error::from_raw_os_error(libc::EPERM);
        advice_for(
            step,
            &error,
            &Machine {
                sysctl: &sysctl,
                status,
                profile,
            },
        )
    }

    #[test]
    fn what_forbids_is_named() {
        let name = "kernel/apparmor_restrict_unprivileged_userns";
        assert_eq!(
            told(NAMESPACES, (name, "1"), "Seccomp:\t0\n", "unconfined\n"),
            "kernel.apparmor_restrict_unprivileged_userns is 1, which forbids it: sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0"
        );
        let name = "user/max_pid_namespaces";
        let said = told(NAMESPACES, (name, "0"), "", "");
        assert!(said.starts_with("user.max_pid_namespaces is 0"), "{said}");
        let said = told(
            NAMESPACES,
            (name, "7"),
            "Name:\tx\nSeccomp:\t2\n",
            "unconfined\n",
        );
        assert!(said.starts_with("a seccomp filter is in force"), "{said}");
        assert!(said.contains("seccomp=unconfined"), "{said}");
        let said = told(
            "mount",
            ("", ""),
            "Seccomp:\t2\n",
            "docker-default (enforce)\n",
        );
        assert!(
            said.starts_with("the AppArmor profile docker-default"),
            "{said}"
        );
        assert!(said.contains("apparmor=unconfined"), "{said}");
        let said = told("mount", ("", ""), "Seccomp:\t0\n", "unconfined\n");
        assert!(said.starts_with("in a container"), "{said}");
    }
}
