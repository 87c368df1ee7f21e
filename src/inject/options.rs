//! The options of an injection: the part of the trace, the time limit, and the sandbox.

use super::hook::Finally;
use crate::restore::Peers;
use crate::sandbox::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The options of an injection.
#[derive(Clone, Debug)]
pub struct Options {
    /// The index of the first call, from 0.
    pub start: usize,
    /// The index of the last call, inclusive; `None` for the end of the trace.
    pub end: Option<usize>,
    /// The treatment of the process at the end of the trace.
    pub finally: Finally,
    /// The time limit of the whole injection.
    pub timeout: Duration,
    /// The sandbox of the process once it is live.
    pub sandbox: Sandbox,
    /// The settings of that sandbox.
    pub settings: Arc<Settings>,
    /// The numbers by which a trace calls the threads, by the threads' recorded tids (see [`Script`](super::Script)).
    pub pids: BTreeMap<i32, i32>,
    /// What a connection's other end does in live that is not there.
    pub peers: Peers,
    /// Whether the injection lasts until all processes that are followed with the one that was asked for have ended.
    pub awaits_family: bool,
}

/// The sandbox of a live process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// A copy of the file system that is made on a write, and discarded.
    #[default]
    Cow,
    /// No sandbox: the machine itself.
    None,
}

/// The environment variable that names the sandbox of live processes for which nothing else is said.
pub const SANDBOX_VARIABLE: &str = "RRAPPER_SANDBOX";

impl Sandbox {
    /// The sandbox that [`SANDBOX_VARIABLE`] names; `None` where that is not set, or is empty.
    ///
    /// # Errors
    /// A sentence that names the value, if there is no such sandbox.
    pub fn of_environment() -> std::result::Result<Option<Sandbox>, String> {
        match std::env::var_os(SANDBOX_VARIABLE) {
            None => Ok(None),
            Some(name) => match name.to_str() {
                Some("") => Ok(None),
                Some("cow") => Ok(Some(Sandbox::Cow)),
                Some("none") => Ok(Some(Sandbox::None)),
                _ => Err(format!(
                    "{SANDBOX_VARIABLE} is \"cow\" or \"none\", not {name:?}"
                )),
            },
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            start: 0,
            end: None,
            finally: Finally::Kill,
            timeout: Duration::from_secs(10),
            sandbox: Sandbox::default(),
            settings: Arc::default(),
            pids: BTreeMap::new(),
            peers: Peers::default(),
            awaits_family: false,
        }
    }
}
