//! inotify(7): the watches of an inotify instance.

use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;

/// The most watches of one instance that are modelled.
const MOST_WATCHES: usize = 100_000;

/// The state of an inotify instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inotify {
    /// Its watches.
    pub watches: Vec<Watch>,
}

/// A watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its watch descriptor.
    pub wd: i32,
    /// The path.
    pub path: Vec<u8>,
    /// `IN_*`.
    pub mask: u32,
}

impl Inotify {
    /// Follows a call on it, of a process in this directory.
    pub(super) fn follow(&mut self, call: &CallEvent, cwd: &[u8]) {
        let [_, b, c, ..] = call.args;
        match i64::from(call.nr) {
            libc::SYS_inotify_add_watch => {
                let mut path = vec![0; 4096];
                let n = ChunkMemory(&call.ins).read(b, &mut path);
                path.truncate(path[..n].iter().position(|&b| b == 0).unwrap_or(n));
                if !path.starts_with(b"/") {
                    path = [cwd, b"/", &path].concat();
                }
                let wd = call.ret.unwrap_or(0) as i32;
                self.watches.retain(|watch| watch.wd != wd);
                if self.watches.len() < MOST_WATCHES {
                    let mask = c as u32;
                    self.watches.push(Watch { wd, path, mask });
                }
            }
            libc::SYS_inotify_rm_watch => self.watches.retain(|watch| watch.wd != b as i32),
            _ => {}
        }
    }
}
