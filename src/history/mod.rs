//! A recording together with the modelled state of the kernel at its events: tasks, descriptors, pipes, timers.
//!
//! [`Recording`] reads the events ([`recording`](crate::recording)), has the model ([`kernel`](crate::kernel)) follow
//! them, and answers questions that need both: processes, filtered events, segments as traces, standard input,
//! what a process changed since it was spun off. It knows nothing of how recordings are made or replayed.

mod births;
mod call_facts;
mod changed_files;
mod changes;
mod channels;
mod family_state;
mod file_changes;
mod filter;
mod kin;
mod processes;
mod program;
mod recorded_files;
mod segment;
mod stdin;
mod world;

pub use births::Birth;
pub use call_facts::CallFacts;
pub use changed_files::{ChangedPath, FileChange};
pub use changes::{KernelChanges, PendingChange};
pub use channels::{ChannelEvent, Channels, Dependency, RecordedConnection};
pub use family_state::{FamilyChanges, ToldCall};
pub use file_changes::{FileChanges, GivenFile};
pub use filter::{Failed, Filter, Found, Match, Predicate};
pub use kin::{Followed, Kin, ProcessPredicate};
pub use processes::RecordedProcess;
pub use recorded_files::{FileContent, FileItself, RecordedFiles};

use crate::image::FileId;
use crate::kernel::{DescriptorTable, Kernel, ProcessTree};
use crate::recording::{Event, Frame, Frames, Reader, Result, Source, User, events};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use stdin::Input;
use world::WorldReached;

/// An opened recording and the state of the kernel at its events.
pub struct Recording {
    source: Box<dyn Source>,
    /// The model at two events that were asked for last, the earlier one first: questions about rising events read the
    /// recording once, also those about an event and others soon behind it, in turn.
    reached: Mutex<Vec<Reached>>,
    input: Input,
    files: Mutex<Option<Arc<RecordedFiles>>>,
    /// Who has started the program, once that was asked.
    user: OnceLock<Option<User>>,
    /// The files at the event that was asked for last.
    world: Mutex<Option<WorldReached<Arc<RecordedFiles>>>>,
    lives: Mutex<Option<Arc<kin::Lives>>>,
    channels: Mutex<Option<Arc<Channels>>>,
    births: Mutex<Option<Arc<Vec<Birth>>>>,
    /// The event for which the passed time was last asked, and that time.
    passed: Mutex<Option<(u64, i64)>>,
}

impl Deref for Recording {
    type Target = dyn Source;

    fn deref(&self) -> &Self::Target {
        &*self.source
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Recording({}, {} events)",
            self.dir().display(),
            self.len()
        )
    }
}

/// The model at one event of a recording.
struct Reached {
    tree: ProcessTree,
    kernel: Kernel,
    frames: Frames,
    /// The next event, if its frame has been read and not been followed.
    ahead: Option<Frame>,
    /// The number of the event that comes next.
    next: u64,
}

impl Reached {
    fn beginning(recording: &dyn Source) -> Result<Reached> {
        Ok(Reached {
            tree: ProcessTree::at_start(recording.start()),
            kernel: Kernel::default(),
            frames: recording.frames_from(1)?,
            ahead: None,
            next: 1,
        })
    }

    /// Another one at the same event; `None` at the end.
    fn again(&self, recording: &dyn Source) -> Result<Option<Reached>> {
        if self.ahead.is_none() {
            return Ok(None);
        }
        let mut frames = recording.frames_from(self.next)?;
        let ahead = loop {
            match frames.next_frame()? {
                Some(Frame::Event(event)) => break Frame::Event(event),
                // Followed already.
                Some(_) => {}
                None => return Ok(None),
            }
        };
        Ok(Some(Reached {
            tree: self.tree.clone(),
            kernel: self.kernel.clone(),
            frames,
            ahead: Some(ahead),
            next: self.next,
        }))
    }

    /// Follows the frames before this event, and reads its own.
    fn go_to(&mut self, event: u64) -> Result<()> {
        loop {
            if self.ahead.is_none() {
                match self.frames.next_frame()? {
                    Some(frame @ Frame::Event(_)) => self.ahead = Some(frame),
                    Some(frame) => {
                        self.kernel.follow(&mut self.tree, &frame);
                        continue;
                    }
                    None => return Ok(()),
                }
            }
            if self.next >= event {
                return Ok(());
            }
            if let Some(frame) = self.ahead.take() {
                self.kernel.follow(&mut self.tree, &frame);
                self.next += 1;
            }
        }
    }
}

impl Recording {
    /// Opens a recording in this program's own format: see [`Reader::open`].
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn open(dir: &Path) -> Result<Recording> {
        Ok(Recording::of(Reader::open(dir)?))
    }

    /// A recording from any source.
    pub fn of(source: impl Source + 'static) -> Recording {
        Recording {
            source: Box::new(source),
            reached: Mutex::default(),
            input: Input::default(),
            files: Mutex::default(),
            user: OnceLock::new(),
            world: Mutex::default(),
            lives: Mutex::default(),
            channels: Mutex::default(),
            births: Mutex::default(),
            passed: Mutex::default(),
        }
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events from this one on, with their numbers.
    ///
    /// # Errors
    /// If the first is none of the recording's.
    pub fn events_from(
        &self,
        first: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, Event)>> + use<>> {
        Ok(events(self.frames_from(first)?, first))
    }

    /// The nanoseconds that have passed up to an event: `look` finds them out, where this is not the event that was asked about
    /// last.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn time_passed<E>(
        &self,
        event: u64,
        look: impl FnOnce() -> std::result::Result<i64, E>,
    ) -> std::result::Result<i64, E> {
        let known = *self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, passed)) = known.filter(|(known, _)| *known == event) {
            return Ok(passed);
        }
        let passed = look()?;
        let mut kept = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((event, passed));
        Ok(passed)
    }

    /// The path of a kept copy for [`image::restore`](crate::image::restore).
    ///
    /// # Errors
    /// If it cannot be unpacked.
    pub fn kept_file(&self, id: FileId) -> std::io::Result<PathBuf> {
        self.file_path(id).map_err(std::io::Error::other)
    }

    /// Passes the process tree at an event, before its call is answered, to `then`.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn process_tree_at<R>(
        &self,
        event: u64,
        then: impl FnOnce(&ProcessTree) -> R,
    ) -> Result<R> {
        self.kernel_at(event, |tree, _| then(tree))
    }

    /// Passes the process tree and the kernel's state at an event, before its call is answered, to `then`.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn kernel_at<R>(
        &self,
        event: u64,
        then: impl FnOnce(&ProcessTree, &Kernel) -> R,
    ) -> Result<R> {
        self.event(event)?;
        let mut all = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        // The latest one that is not behind the event.
        let before = all.iter().filter(|reached| reached.next <= event).count();
        let mut reached = match before.checked_sub(1) {
            None => {
                all.clear();
                Reached::beginning(&*self.source)?
            }
            Some(0) if all.len() == 1 && all[0].next < event => {
                match all[0].again(&*self.source)? {
                    Some(again) => again,
                    None => all.remove(0),
                }
            }
            Some(at) => all.remove(at),
        };
        reached.go_to(event)?;
        let result = then(&reached.tree, &reached.kernel);
        let at = all.partition_point(|other| other.next <= reached.next);
        all.insert(at, reached);
        Ok(result)
    }

    /// The descriptors of a task at an event, before its call is answered; `None` where there is no such task then.
    ///
    /// # Errors
    /// If there is no such event, or the recording cannot be read.
    pub fn descriptors_at(&self, event: u64, tid: i32) -> Result<Option<DescriptorTable>> {
        self.process_tree_at(event, |tree| tree.descriptors(tid))
    }
}
