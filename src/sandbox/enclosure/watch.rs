//! What may have changed of files, told by the kernel (inotify(7)): looking at each of them after each use would take as long as
//! there are many.
//!
//! It tells of opened files, too, since a change by ioctl(2) or by a mapping tells nothing itself. It is by inode: a file
//! that has got another name is still watched.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Watches files, which the caller has numbered.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Option<Inotify>,
    /// The files, by the kernel's number of their watch.
    files: HashMap<i32, usize>,
    /// Files that the kernel does not watch for rrapper: those that it may not read.
    unwatched: HashSet<usize>,
    touched: RefCell<HashSet<usize>>,
    /// Those that were open for writing: a mapping changes no time of a file in memory.
    written: RefCell<HashSet<usize>>,
    /// Whether the kernel has told too much to keep all.
    lost: Cell<bool>,
}

impl Watch {
    /// A user has few instances (`fs.inotify.max_user_instances`). Where none is left, every file may have changed.
    pub fn new() -> Watch {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        Watch {
            lost: Cell::new(inotify.is_err()),
            inotify: inotify.ok(),
            files: HashMap::new(),
            unwatched: HashSet::new(),
            touched: RefCell::default(),
            written: RefCell::default(),
        }
    }

    /// Watches a file, or the entries of a directory and itself.
    pub fn add(&mut self, file: usize, path: &Path) {
        let told = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_OPEN
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DONT_FOLLOW;
        let Some(inotify) = &self.inotify else {
            return;
        };
        match inotify.add_watch(path, told) {
            Ok(watch) => {
                self.files.insert(watch.as_raw(), file);
                self.unwatched.remove(&file);
            }
            Err(_) => _ = self.unwatched.insert(file),
        }
    }

    /// Takes what the kernel tells.
    pub fn look(&self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let (mut touched, mut written) = (self.touched.borrow_mut(), self.written.borrow_mut());
        while let Ok(events) = inotify.read_events() {
            for event in events {
                match self.files.get(&event.wd.as_raw()) {
                    Some(&file) => {
                        touched.insert(file);
                        // A directory tells of its entries.
                        if event.name.is_none()
                            && event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE)
                        {
                            written.insert(file);
                        }
                    }
                    // The queue was full, or the watch is one that is gone.
                    None if event.mask.contains(AddWatchFlags::IN_IGNORED) => {}
                    None => self.lost.set(true),
                }
            }
        }
    }

    /// Whether a file may have changed before the last look.
    pub fn is_touched(&self, file: usize) -> bool {
        self.lost.get() || self.unwatched.contains(&file) || self.touched.borrow().contains(&file)
    }

    /// Whether a file may have been changed through a mapping.
    pub fn is_written(&self, file: usize) -> bool {
        self.inotify.is_some() && self.lost.get() || self.written.borrow().contains(&file)
    }

    /// Notes that all is known that has been told until now.
    pub fn forget(&self) {
        self.look();
        self.touched.borrow_mut().clear();
        self.written.borrow_mut().clear();
        self.lost.set(self.inotify.is_none());
    }
}
