//! Reading frames in order.

use super::blocks::{Block, Blocks};
use super::{Event, Frame, Result};
use std::sync::Arc;

/// An iteration over frames.
pub trait NextFrame {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

/// The frames of a recording in order, whichever source they are from.
pub struct Frames(Box<dyn NextFrame + Send>);

impl Frames {
    /// The frames that this iteration yields.
    pub fn new(frames: impl NextFrame + Send + 'static) -> Frames {
        Frames(Box::new(frames))
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        self.0.next_frame()
    }
}

/// The frames of a recording on disk, with one block in memory at a time.
pub(super) struct BlockFrames {
    blocks: Arc<Blocks>,
    /// The block that is being read, and the offset up to which it has been read.
    block: Option<Arc<Block>>,
    at: usize,
    /// The offset of the block behind it, and the number of that block's first event.
    next: (u64, u64),
    /// Whether [`Frame::Before`], [`Frame::Clock`] and [`Frame::User`] are among them: the schedule has nothing to do with these.
    has_files: bool,
}

impl BlockFrames {
    /// From the beginning of this block.
    pub(super) fn of(blocks: &Arc<Blocks>, block: Arc<Block>) -> BlockFrames {
        BlockFrames {
            next: (block.end, block.first.saturating_add(block.count.into())),
            blocks: Arc::clone(blocks),
            block: Some(block),
            at: 0,
            has_files: false,
        }
    }

    /// From the beginning of the block with this event.
    pub(super) fn with_event(blocks: &Arc<Blocks>, number: u64) -> Result<BlockFrames> {
        let block = blocks.with_event(number)?;
        let mut frames = BlockFrames::of(blocks, Arc::clone(&block));
        match block.event(number) {
            Some(at) => frames.at = at,
            None => return Err(blocks.damaged(block.offset, "an event is missing")),
        }
        Ok(frames)
    }

    /// The same, with all frames.
    pub(super) fn with_files(mut self) -> BlockFrames {
        self.has_files = true;
        self
    }

    /// Skips the next frame, if that is in the present block.
    pub(super) fn skip(&mut self) {
        if let Some(frame) = self.block.as_ref().and_then(|block| block.frame(self.at)) {
            self.at = frame.end;
        }
    }

    /// The next frame, which must be an event.
    pub(super) fn event(&mut self) -> Result<Event> {
        match self.next_frame()? {
            Some(Frame::Event(event)) => Ok(event),
            _ => Err(self.blocks.damaged(self.next.0, "an event is missing")),
        }
    }
}

impl NextFrame for BlockFrames {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(block) = &self.block
                && let Some(frame) = block.frame(self.at)
            {
                self.at = frame.end;
                match self.blocks.decode(block, frame)? {
                    Frame::Before(_) | Frame::Clock(_) | Frame::User(_) if !self.has_files => {
                        continue;
                    }
                    frame => return Ok(Some(frame)),
                }
            }
            // Freed before the next one is read: a block may be large.
            self.block = None;
            let (offset, first) = self.next;
            let Some(block) = self.blocks.at(offset, first)? else {
                return Ok(None);
            };
            let (blocks, has_files) = (Arc::clone(&self.blocks), self.has_files);
            *self = BlockFrames::of(&blocks, block);
            self.has_files = has_files;
        }
    }
}
