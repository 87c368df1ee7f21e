//! The calls of a copy that had other effects on files than the recorded ones, or that the recording does not have.

use crate::kernel::{DescriptorTable, Descriptors, OpenFile, ProcessTree};
use crate::recording::{CallEvent, Event};
use crate::world::{Base, World};

/// The calls of a copy of a process since it was spun off, as they were told to it.
#[derive(Clone, Debug, Default)]
pub struct FileChanges {
    /// The event at which it was spun off.
    since: u64,
    calls: Vec<Told>,
    /// The bytes in them.
    size: usize,
    /// Whether calls were left out.
    is_cut: bool,
}

#[derive(Clone, Debug)]
struct Told {
    /// The recorded event that it takes the place of, or before which it was made.
    event: u64,
    takes_place: bool,
    tid: i32,
    call: CallEvent,
    descriptors: DescriptorTable,
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

    /// Whether all was as recorded.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
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
    /// of the copy: after the call, if that [opens](World::opens) a file, and before it if not.
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
            call,
            descriptors,
        });
    }

    /// Follows what was told in the place of a recorded event, and before it. Returns whether that takes its place.
    pub(super) fn follow<B: Base>(
        &self,
        number: u64,
        made: &Event,
        tree: &ProcessTree,
        world: &mut World<B>,
    ) -> bool {
        let mut takes_place = false;
        for told in self.calls.iter().filter(|told| told.event == number) {
            told.follow(made.tid, tree, world);
            takes_place |= told.takes_place;
        }
        takes_place
    }

    /// Follows what was told from an event on, which is a part of it at most.
    pub(super) fn follow_rest<B: Base>(
        &self,
        event: u64,
        tree: &ProcessTree,
        world: &mut World<B>,
    ) {
        for told in self.calls.iter().filter(|told| told.event >= event) {
            told.follow(told.tid, tree, world);
        }
    }
}

impl Told {
    fn follow<B: Base>(&self, tid: i32, tree: &ProcessTree, world: &mut World<B>) {
        let umask = self.descriptors.umask().or_else(|| tree.umask(tid));
        let umask = umask.unwrap_or_default();
        match self.takes_place {
            true => world.follow(&self.call, &tree.view(tid), umask),
            false => world.follow(&self.call, &Own(&self.descriptors), umask),
        }
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
