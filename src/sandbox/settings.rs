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
