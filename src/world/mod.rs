//! The world: the files that the processes of a recording had before them at an event.
//!
//! It is what was there before the recording ([`Base`]), and what the recorded calls have changed since. A file is a node,
//! which has names (absolute paths) as long as it has links, and can be open without one. Nothing is read or written
//! here: contents refer to the base.

mod calls;
mod content;
mod names;
mod path;
mod seen;

pub use calls::{is_changed_by, opens, path_bound_by};
pub use content::{Content, Part};
pub use path::walk;

use names::Names;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whether a path is one of the kernel's objects rather than of a file: they are not a part of any world.
pub fn is_apart(path: &[u8]) -> bool {
    const APART: [&[u8]; 3] = [b"/proc/", b"/sys/", b"/dev/"];
    const FILES: &[u8] = b"/dev/shm";
    let is_file = path
        .strip_prefix(FILES)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    APART.iter().any(|dir| path.starts_with(dir)) && !is_file
}

/// A file before the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFile<B> {
    /// Its kind.
    pub kind: Kind<B>,
    /// Its attributes.
    pub attributes: Attributes,
    /// A number that the names of one file share.
    pub inode: (u64, u64),
}

/// The files before the recording.
pub trait Base {
    /// What contents refer to.
    type File: Clone;

    /// The file at an absolute path, whose last part is not followed; `None` where there was none, or nothing is known.
    fn file(&self, path: &[u8]) -> Option<BaseFile<Self::File>>;

    /// Whether it is known what was at an absolute path, be it nothing.
    fn knows(&self, _path: &[u8]) -> bool {
        true
    }
}

/// The attributes of a file, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The permissions (`07777`).
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The time of the last change of the content, in nanoseconds since 1970; `None` where it is not known.
    pub modified: Option<i128>,
    /// The extended attributes by name.
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The kind of a file, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<B> {
    /// A regular file.
    File(Content<B>),
    /// A directory.
    Directory,
    /// A symbolic link with this text.
    Link(Vec<u8>),
    /// Another file: its `S_IFMT` bits and its device number.
    Special(u32, u64),
}

/// The number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// A file of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<B> {
    /// Its kind and content.
    pub kind: Kind<B>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether it was there before the recording.
    pub is_old: bool,
    /// Whether a program has memory that shows its content and can be changed without a call.
    pub is_mapped: bool,
    /// Whether another program has made or changed it.
    pub is_foreign: bool,
    /// Whether a call may have changed it, or has opened it to do so.
    pub is_written: bool,
    /// The number of the shared memory that shows its content (see [`Effect::Share`](crate::recording::Effect::Share)).
    pub shared: Option<u32>,
    /// The numbers (`st_dev`, `st_ino`) of a file of the base.
    pub inode: Option<(u64, u64)>,
    /// Whether somebody has [given](World::give) it another content than it had.
    pub is_given: bool,
}

/// What has been read of an open directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// These names.
    Names(BTreeSet<Vec<u8>>),
    /// All.
    Over,
}

/// The world at an event.
#[derive(Clone, Debug)]
pub struct World<B: Base> {
    base: B,
    names: Names,
    nodes: HashMap<NodeId, Node<B::File>>,
    /// The nodes of files of the base that are known, by their numbers there.
    of_base: HashMap<(u64, u64), NodeId>,
    /// The nodes of open files, by the numbers of those.
    open: HashMap<u64, NodeId>,
    /// What has been read of open directories, by the numbers of those.
    listings: HashMap<u64, Listing>,
    /// The bytes that calls have written.
    held: usize,
    /// The time at which calls are made, in nanoseconds since 1970.
    time: Option<i128>,
    next: u64,
}

impl<B: Base> World<B> {
    /// The world before the recording.
    pub fn new(base: B) -> World<B> {
        World {
            base,
            names: Names::default(),
            nodes: HashMap::new(),
            of_base: HashMap::new(),
            open: HashMap::new(),
            listings: HashMap::new(),
            held: 0,
            time: None,
            next: 0,
        }
    }

    /// The node at an absolute path, whose last part is not followed; `None` where there is no file.
    pub fn node(&mut self, path: &[u8]) -> Option<NodeId> {
        if let Some(known) = self.names.get(path) {
            return known;
        }
        let there = self.names.original(path)?;
        let Some(found) = self.base.file(&there) else {
            if self.base.knows(&there) {
                self.names.put(path, None);
            }
            return None;
        };
        let id = match self.of_base.get(&found.inode) {
            Some(&known) => known,
            None => {
                let id = self.add(Node {
                    kind: found.kind,
                    attributes: found.attributes,
                    is_old: true,
                    is_mapped: false,
                    is_foreign: false,
                    is_written: false,
                    shared: None,
                    inode: Some(found.inode),
                    is_given: false,
                });
                self.of_base.insert(found.inode, id);
                id
            }
        };
        self.names.put(path, Some(id));
        Some(id)
    }

    /// Sets the time at which calls are made from now on, in nanoseconds since 1970.
    pub fn set_time(&mut self, time: i64) {
        self.time = Some(time.into());
    }

    /// Whether it is known what is at an absolute path.
    pub fn knows(&self, path: &[u8]) -> bool {
        let is_base_known = || {
            let there = self.names.original(path);
            there.is_none_or(|there| self.base.knows(&there))
        };
        self.names.get(path).is_some() || is_base_known()
    }

    /// The file with this number.
    pub fn get(&self, id: NodeId) -> Option<&Node<B::File>> {
        self.nodes.get(&id)
    }

    /// The node of an open file, by the number of that.
    pub fn open_node(&self, file: u64) -> Option<NodeId> {
        self.open.get(&file).copied()
    }

    /// What has been read of an open directory, by the number of that; `None` where that is nothing, or not clear.
    pub fn listing(&self, file: u64) -> Option<&Listing> {
        self.listings.get(&file)
    }

    /// All names that are not as before the recording, or that were asked for: with their nodes, or `None` where there is no
    /// file any more or yet.
    pub fn names(&self) -> impl Iterator<Item = (&[u8], Option<NodeId>)> {
        self.names.iter()
    }

    /// What the [names](World::names) have for a path; the outer `None` where it is not among them.
    pub fn known(&self, path: &[u8]) -> Option<Option<NodeId>> {
        self.names.get(path)
    }

    /// Whether the untouched files in a directory are those that were in it before the recording.
    pub fn is_in_place(&self, dir: &[u8]) -> bool {
        let inside = [dir, b"/x"].concat();
        self.names
            .original(&inside)
            .is_some_and(|original| original == inside)
    }

    /// Gives the file at an absolute path without symbolic links another content. Where there is none, this makes one with
    /// these attributes and numbers. Nothing happens where something else than a regular file is.
    pub fn give(
        &mut self,
        path: &[u8],
        content: Content<B::File>,
        otherwise: (&Attributes, Option<(u64, u64)>),
    ) {
        let id = self
            .node(path)
            .unwrap_or_else(|| self.give_new(path, otherwise));
        if let Some(node) = self.nodes.get_mut(&id)
            && matches!(node.kind, Kind::File(_))
        {
            node.kind = Kind::File(content);
            (node.is_given, node.is_foreign) = (true, false);
        }
    }

    fn give_new(
        &mut self,
        path: &[u8],
        (attributes, inode): (&Attributes, Option<(u64, u64)>),
    ) -> NodeId {
        let id = self.make(path, Kind::File(Content::default()), 0);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.attributes = attributes.clone();
            node.inode = inode;
        }
        id
    }

    /// Notes a symbolic link that the base does not know.
    pub fn add_link(&mut self, path: &[u8], text: &[u8]) {
        if !self.knows(path) {
            self.make(path, Kind::Link(text.to_vec()), 0o777);
        }
    }

    /// Has the open files of a process be these, by the numbers that they have there.
    pub fn set_open(&mut self, open: impl IntoIterator<Item = (u64, NodeId)>) {
        self.open = open.into_iter().collect();
    }

    fn add(&mut self, node: Node<B::File>) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    /// The absolute path that a path leads to, with the symbolic links in it followed; the last part only if `follows`.
    pub fn resolve(&mut self, path: &[u8], follows: bool) -> Vec<u8> {
        walk(path, |at, is_last| {
            if is_last && !follows {
                return None;
            }
            let id = self.node(at)?;
            match &self.nodes.get(&id)?.kind {
                Kind::Link(text) => Some(text.clone()),
                _ => None,
            }
        })
    }
}
