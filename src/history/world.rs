//! The files of a recording's processes at an event.

use super::{FileChanges, RecordedFiles, Recording};
use crate::kernel::ProcessTree;
use crate::recording::{Event, EventKind, Frame, Frames, Result, Source, User};
use crate::world::{self, Base, World};
use std::sync::{Arc, PoisonError};

/// The files at one event.
pub(super) struct WorldReached<B: Base> {
    tree: ProcessTree,
    world: World<B>,
    frames: Frames,
    /// The next event, if its frame has been read and not been followed.
    ahead: Option<Event>,
    /// The number of the event that comes next.
    next: u64,
}

impl<B: Base> WorldReached<B> {
    fn beginning(recording: &dyn Source, world: World<B>) -> Result<WorldReached<B>> {
        Ok(WorldReached {
            tree: ProcessTree::at_start(recording.start()),
            world,
            frames: recording.all_frames_from(1)?,
            ahead: None,
            next: 1,
        })
    }

    /// Another one at the same event; `None` at the end.
    fn again(&self, recording: &dyn Source) -> Result<Option<WorldReached<B>>>
    where
        World<B>: Clone,
    {
        let Some(ahead) = &self.ahead else {
            return Ok(None);
        };
        let mut frames = recording.all_frames_from(self.next)?;
        loop {
            match frames.next_frame()? {
                Some(Frame::Event(_)) => break,
                // Followed already.
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(WorldReached {
            tree: self.tree.clone(),
            world: self.world.clone(),
            frames,
            ahead: Some(ahead.clone()),
            next: self.next,
        }))
    }

    /// Follows the events before this one; `told` may take the place of a call.
    fn go_to(
        &mut self,
        event: u64,
        mut told: impl FnMut(u64, &Event, &ProcessTree, &mut World<B>) -> bool,
    ) -> Result<()> {
        loop {
            if self.ahead.is_none() {
                match self.frames.next_frame()? {
                    Some(Frame::Event(made)) => self.ahead = Some(made),
                    Some(Frame::Clock(time)) => {
                        self.world.set_time(time);
                        continue;
                    }
                    Some(frame) => {
                        self.tree.follow(&frame);
                        continue;
                    }
                    None => return Ok(()),
                }
            }
            if self.next >= event {
                return Ok(());
            }
            let Some(made) = self.ahead.take() else {
                continue;
            };
            let is_told = told(self.next, &made, &self.tree, &mut self.world);
            self.next += 1;
            let opens = made.call().is_some_and(world::opens);
            let frame = Frame::Event(made);
            if opens {
                self.tree.follow(&frame);
            }
            if let Frame::Event(made) = &frame
                && let EventKind::Call(call) = &made.kind
                && !is_told
            {
                let umask = self.tree.umask(made.tid).unwrap_or_default();
                self.world.follow(call, &self.tree.view(made.tid), umask);
            }
            if !opens {
                self.tree.follow(&frame);
            }
        }
    }
}

impl WorldReached<Arc<RecordedFiles>> {
    /// The beginning of a recording, with the files that were there before.
    pub(super) fn of_recorded(
        recording: &dyn Source,
        files: Arc<RecordedFiles>,
    ) -> Result<WorldReached<Arc<RecordedFiles>>> {
        let mut world = World::new(Arc::clone(&files));
        // Each has a name, also where a directory is renamed.
        for path in files.paths() {
            world.node(path);
        }
        WorldReached::beginning(recording, world)
    }

    /// Follows the events before this one as they were recorded.
    pub(super) fn go_to_recorded(&mut self, event: u64) -> Result<()> {
        self.go_to(event, |_, _, _, _| false)
    }

    /// The files.
    pub(super) fn world(&mut self) -> &mut World<Arc<RecordedFiles>> {
        &mut self.world
    }
}

impl Recording {
    /// The files as they were at an event, before its call is answered; at the end for an event behind the last one.
    /// `base` has the files before the recording.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn world_at<B: Base>(&self, event: u64, base: B) -> Result<World<B>> {
        let mut reached = WorldReached::beginning(&*self.source, World::new(base))?;
        reached.go_to(event, |_, _, _, _| false)?;
        Ok(reached.world)
    }

    /// The files before the recording, as far as they were kept.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn recorded_files(&self) -> Result<Arc<RecordedFiles>> {
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = &*known {
            return Ok(Arc::clone(files));
        }
        let files = Arc::new(RecordedFiles::new(self.files_before()?));
        Ok(Arc::clone(known.insert(files)))
    }

    /// Who has started the program, if it is somebody else than who runs rrapper now.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn other_user(&self) -> Result<Option<User>> {
        let user = match self.user.get() {
            Some(known) => *known,
            None => {
                let read = self.source.user()?;
                *self.user.get_or_init(|| read)
            }
        };
        Ok(user.filter(|user| *user != User::current()))
    }

    /// Passes the files at an event, before its call is answered, to `then`, together with the processes at that event.
    /// `changes` are the calls of a copy of a process since it was spun off, as far as they had other effects than the
    /// recorded ones.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn recorded_world<R>(
        &self,
        event: u64,
        changes: &FileChanges,
        then: impl FnOnce(&World<Arc<RecordedFiles>>, &ProcessTree) -> R,
    ) -> Result<R> {
        let mut kept = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match changes.is_empty() {
            true => event,
            false => changes.first().min(event),
        };
        let mut reached = match kept.take().filter(|reached| reached.next <= since) {
            Some(reached) => reached,
            None => WorldReached::of_recorded(&*self.source, self.recorded_files()?)?,
        };
        reached.go_to(since, |_, _, _, _| false)?;
        if changes.is_empty() {
            let result = then(&reached.world, &reached.tree);
            *kept = Some(reached);
            return Ok(result);
        }
        let mut own = match reached.again(&*self.source)? {
            Some(own) => std::mem::replace(&mut reached, own),
            // At the end of the recording.
            None => {
                changes.follow_rest(event, &reached.tree, &mut reached.world);
                return Ok(then(&reached.world, &reached.tree));
            }
        };
        *kept = Some(reached);
        drop(kept);
        own.go_to(event, |number, made, tree, world| {
            changes.follow(number, made, tree, world)
        })?;
        changes.follow_rest(event, &own.tree, &mut own.world);
        Ok(then(&own.world, &own.tree))
    }
}
