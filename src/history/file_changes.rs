//! What a copy has done to files otherwise than the recorded process: calls that had other effects, or that the recording
//! does not have; and the files that were given another content for it.

use super::{FileContent, RecordedFiles};
use crate::kernel::{DescriptorTable, Descriptors, OpenFile, ProcessTree};
use crate::recording::{CallEvent, Event};
use crate::world::{Attributes, Content, World};
use std::collections::BTreeMap;
use std::sync::Arc;

type Recorded = World<Arc<RecordedFiles>>;

/// The calls of a copy of a process since it was spun off, as they were told to it.
#[derive(Clone, Debug, Default)]
pub struct FileChanges {
    /// The event at which it was spun off.
    since: u64,
    calls: Vec<Told>,
    /// The bytes in the calls.
    size: usize,
    /// Whether calls were left out.
    is_cut: bool,
    /// Other processes that are not as recorded from an event on: what they did then has not happened.
    left_out: BTreeMap<i32, u64>,
}

#[derive(Clone, Debug)]
struct Told {
    /// The recorded event that it takes the place of, or before which it was made.
    event: u64,
    takes_place: bool,
    tid: i32,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Call(CallEvent, DescriptorTable),
    Gift(GivenFile),
}

/// A file that is given another content.
#[derive(Clone, Debug)]
pub struct GivenFile {
    /// Its absolute path, without symbolic links.
    pub path: Vec<u8>,
    /// The symbolic links that lead to it and that the recording does not know: their paths and texts.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The content.
    pub content: Arc<[u8]>,
    /// Whether there was no file.
    pub is_new: bool,
    /// The attributes of a file that the recording does not know.
    pub attributes: Attributes,
    /// Its numbers (`st_dev`, `st_ino`).
    pub inode: Option<(u64, u64)>,
}

impl GivenFile {
    /// Gives the content to the file in a world.
    pub fn put_into(&self, world: &mut Recorded) {
        for (path, text) in &self.links {
            world.add_link(path, text);
        }
        let bytes = FileContent::Bytes(Arc::clone(&self.content));
        let content = Content::of_file(bytes, self.content.len() as u64);
        world.give(&self.path, content, (&self.attributes, self.inode));
    }
}

/// The limit on the bytes of all calls.
const MOST: usize = 256 << 20;

impl FileChanges {
    /// No changes: the process has just been spun off at this event.
    pub fn new(event: u64) -> FileChanges {
        FileChanges {
            since: event,
            ..FileChanges::default()
        }
    }

    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// The first event that may not have happened as recorded.
    pub(super) fn first(&self) -> u64 {
        let left_out = self.left_out.values().copied();
        left_out.chain([self.since]).min().unwrap_or(self.since)
    }

    /// Those that were so already when the copy was spun off: processes that were never made.
    pub(super) fn before(&self) -> FileChanges {
        let early = self
            .left_out
            .iter()
            .filter(|(_, first)| **first < self.since);
        FileChanges {
            left_out: early.map(|(&pid, &first)| (pid, first)).collect(),
            ..FileChanges::new(self.since)
        }
    }

    /// Whether all was as recorded.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.left_out.is_empty()
    }

    /// Leaves out what these processes, each from an event on, did when they were recorded.
    pub fn leave_out(&mut self, processes: BTreeMap<i32, u64>) {
        self.left_out = processes;
    }

    /// Whether a call was told in the place of this event.
    pub fn has(&self, event: u64) -> bool {
        self.calls
            .iter()
            .any(|told| told.takes_place && told.event == event)
    }

    /// Whether there were too many of them.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Notes a call as it was told. It takes the place of a recorded event, or was made before that. The descriptors are those
    /// of the copy: after the call, if that [opens](crate::world::opens) a file, and before it if not.
    pub fn note(
        &mut self,
        (event, takes_place): (u64, bool),
        tid: i32,
        call: CallEvent,
        descriptors: DescriptorTable,
    ) {
        self.size += call
            .ins
            .iter()
            .chain(&call.outs)
            .map(|chunk| chunk.data.len())
            .sum::<usize>();
        if self.size > MOST {
            self.is_cut = true;
            return;
        }
        self.calls.push(Told {
            event,
            takes_place,
            tid,
            what: What::Call(call, descriptors),
        });
    }

    /// Notes that a file was given another content before an event.
    pub fn give(&mut self, event: u64, file: GivenFile) {
        self.calls.push(Told {
            event,
            takes_place: false,
            tid: 0,
            what: What::Gift(file),
        });
    }

    /// The files that were given another content.
    pub fn given(&self) -> impl Iterator<Item = &GivenFile> {
        self.calls.iter().filter_map(|told| match &told.what {
            What::Gift(file) => Some(file),
            What::Call(..) => None,
        })
    }

    /// Whether a file was given another content.
    pub fn gives(&self) -> bool {
        self.given().next().is_some()
    }

    /// Follows what was told in the place of a recorded event, and before it. Returns whether that takes its place.
    pub(super) fn follow(
        &self,
        number: u64,
        made: &Event,
        tree: &ProcessTree,
        world: &mut Recorded,
    ) -> bool {
        let left_out = tree.pid(made.tid).and_then(|pid| self.left_out.get(&pid));
        let mut takes_place = left_out.is_some_and(|&since| since <= number);
        for told in self.calls.iter().filter(|told| told.event == number) {
            told.follow(made.tid, tree, world);
            takes_place |= told.takes_place;
        }
        takes_place
    }

    /// Follows what was told from an event on, which is a part of it at most.
    pub(super) fn follow_rest(&self, event: u64, tree: &ProcessTree, world: &mut Recorded) {
        for told in self.calls.iter().filter(|told| told.event >= event) {
            told.follow(told.tid, tree, world);
        }
    }
}

impl Told {
    fn follow(&self, tid: i32, tree: &ProcessTree, world: &mut Recorded) {
        let (call, descriptors) = match &self.what {
            What::Call(call, descriptors) => (call, descriptors),
            What::Gift(file) => return file.put_into(world),
        };
        let umask = descriptors.umask().or_else(|| tree.umask(tid));
        let umask = umask.unwrap_or_default();
        let own = Own(descriptors);
        match self.takes_place {
            true => {
                let recorded = tree.view(tid);
                let both = Placed {
                    recorded: &recorded,
                    own,
                };
                world.follow(call, &both, umask);
            }
            false => world.follow(call, &own, umask),
        }
    }
}

/// The descriptors of a copy at a call that takes the place of a recorded one: the open files have the numbers of the
/// recorded ones, and the offsets that they have in the copy.
struct Placed<'a> {
    recorded: &'a dyn Descriptors,
    own: Own<'a>,
}

impl Descriptors for Placed<'_> {
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let (own, file) = self.own.file(fd)?;
        let recorded = self.recorded.file(fd).map(|(recorded, _)| recorded);
        Some((recorded.unwrap_or(own), file))
    }

    fn cwd(&self) -> &[u8] {
        self.own.cwd()
    }
}

/// The descriptors of a copy, whose open files have other numbers than those that the recorded processes opened since.
struct Own<'a>(&'a DescriptorTable);

impl Descriptors for Own<'_> {
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let (id, file) = self.0.file(fd)?;
        Some((id | 1 << 63, file))
    }

    fn cwd(&self) -> &[u8] {
        self.0.cwd()
    }
}
