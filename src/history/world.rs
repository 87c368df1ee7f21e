//! The files of a recording's processes at an event.

use super::Recording;
use crate::kernel::ProcessTree;
use crate::recording::{EventKind, Frame, Result};
use crate::world::{Base, World};

impl Recording {
    /// The files as they were at an event, before its call is answered; at the end for an event behind the last one.
    /// `base` has the files before the recording.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn world_at<B: Base>(&self, event: u64, base: B) -> Result<World<B>> {
        let mut tree = ProcessTree::at_start(self.start());
        let mut world = World::new(base);
        let mut frames = self.frames_from(1)?;
        let mut next = 1;
        while let Some(frame) = frames.next_frame()? {
            let Frame::Event(made) = &frame else {
                tree.follow(&frame);
                continue;
            };
            if next >= event {
                break;
            }
            next += 1;
            let call = match &made.kind {
                EventKind::Call(call) => Some(call),
                EventKind::Signal(_) => None,
            };
            let opens = call.is_some_and(World::<B>::opens);
            if opens {
                tree.follow(&frame);
            }
            if let Some(call) = call {
                let umask = tree.umask(made.tid).unwrap_or_default();
                world.follow(call, &tree.view(made.tid), umask);
            }
            if !opens {
                tree.follow(&frame);
            }
        }
        Ok(world)
    }
}
