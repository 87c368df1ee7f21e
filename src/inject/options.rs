//! How an injection is made: which part of a trace, for how long, and where.

use super::hook::Finally;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which part of the script to drive through, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The index of the first call, from 0.
    pub start: usize,
    /// The index of the last call, itself included; the end of the trace where there is none.
    pub end: Option<usize>,
    /// What happens at the end of the trace.
    pub finally: Finally,
    /// How long the injection may take in all.
    pub timeout: Duration,
    /// Where the process runs once it is live.
    pub sandbox: Sandbox,
    /// Which thread, by its recorded tid, is meant by which number of a trace (see [`Script`](super::Script)).
    pub pids: BTreeMap<i32, i32>,
}

/// Where a live process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// On a copy of the file system that is made where it writes, and thrown away.
    #[default]
    Cow,
    /// On the machine itself.
    None,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            start: 0,
            end: None,
            finally: Finally::Kill,
            timeout: Duration::from_secs(10),
            sandbox: Sandbox::default(),
            pids: BTreeMap::new(),
        }
    }
}
