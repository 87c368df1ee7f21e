//! The settings of a sandbox that a script may change, with their defaults.

use super::Limits;
use std::path::PathBuf;

/// The settings of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The resource limits.
    pub limits: Limits,
    /// Whether it has a network: a loopback of its own. Without one, sockets of the internet families cannot be made.
    pub network: bool,
    /// Whether its processes may make namespaces.
    pub namespaces: bool,
    /// Directories with changeable content although the machine's are read-only.
    pub writable: Vec<PathBuf>,
    /// Directories whose content cannot be changed.
    pub readonly: Vec<PathBuf>,
    /// Files and directories that are empty inside.
    pub hide: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            limits: Limits::default(),
            network: true,
            namespaces: false,
            writable: Vec::new(),
            readonly: Vec::new(),
            hide: Vec::new(),
        }
    }
}

impl Settings {
    /// The settings for a program that is recorded: the changed files may take half of the machine's memory, and its
    /// processes may make namespaces.
    pub fn for_recording() -> Settings {
        const PAGE: u64 = 0x1000;
        let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES);
        let pages = pages
            .ok()
            .flatten()
            .and_then(|pages| u64::try_from(pages).ok());
        let half = pages.map_or(1 << 18, |pages| pages / 2);
        Settings {
            limits: Limits {
                tmpfs_bytes: half.saturating_mul(PAGE),
                tmpfs_files: half,
                ..Limits::default()
            },
            namespaces: true,
            ..Settings::default()
        }
    }
}
