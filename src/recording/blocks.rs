//! The file `events` as blocks: finding the one that an event is in, and unpacking it.

use super::block::{HEAD, Head, MOST, RATIO, Slice};
use super::index::{Entry, Index};
use super::{Error, Frame, HEADER, Result, SMALL_FRAME, io};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// An unpacked block, or the blocks that one large frame is in.
pub(super) struct Block {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one does.
    pub end: u64,
    /// The number of the first event in it.
    pub first: u64,
    /// How many events it has.
    pub count: u32,
    bytes: Vec<u8>,
    /// Where each of them begins.
    events: Vec<usize>,
}

/// The number of blocks that stay in memory.
const RECENT: usize = 4;

impl Block {
    /// A block with its frames; `None` unless it consists of frames, with as many events as its head says.
    fn of(group: &Group, bytes: Vec<u8>) -> Option<Block> {
        let mut block = Block {
            offset: group.offset,
            end: group.end,
            first: group.head.first,
            count: group.head.count,
            bytes,
            events: Vec::new(),
        };
        let mut at = 0;
        while let Some(frame) = block.frame(at) {
            // Longer encodings of the same number would not be counted.
            if block.bytes[frame.start] >= 0x80 {
                return None;
            }
            if block.is_event(&frame) {
                block.events.push(at);
            }
            at = frame.end;
        }
        (at == block.bytes.len() && block.events.len() == block.count as usize).then_some(block)
    }

    /// Where this event begins.
    pub fn event(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.events.get(at).copied()
    }

    /// The bytes of the frame at `at`, behind its length; `None` at the end.
    pub fn frame(&self, at: usize) -> Option<Range<usize>> {
        let from = at.checked_add(4)?;
        let len = self.bytes.get(at..from)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let end = from.checked_add(len)?;
        (len > 0 && end <= self.bytes.len()).then_some(from..end)
    }

    /// Whether the frame there is an event: the first byte of postcard's encoding of an enum is the
    /// variant's number.
    pub fn is_event(&self, frame: &Range<usize>) -> bool {
        self.bytes[frame.start] == 1
    }

    pub fn bytes(&self, frame: Range<usize>) -> &[u8] {
        &self.bytes[frame]
    }

    /// Where its last frame begins.
    fn last(&self) -> usize {
        let (mut at, mut last) = (0, 0);
        while let Some(frame) = self.frame(at) {
            last = at;
            at = frame.end;
        }
        last
    }
}

/// A group of blocks with whole frames: a block, and those that continue its last frame.
#[derive(Clone, Copy)]
struct Group {
    offset: u64,
    head: Head,
    end: u64,
}

pub(super) struct Blocks {
    pub path: PathBuf,
    /// The whole blocks of the file.
    events: Slice,
    index: Option<Index>,
    /// The index made from the heads, in place of a wrong or missing one.
    looked_up: OnceLock<Index>,
    /// The blocks that were used last, the latest one first: an injection goes back and forth between some.
    recent: Mutex<Vec<Arc<Block>>>,
}

impl Blocks {
    /// The blocks up to the last whole one; also that, if there is any.
    pub fn open(
        path: PathBuf,
        events: Slice,
        index: Option<Index>,
    ) -> Result<(Blocks, Option<Arc<Block>>)> {
        let mut blocks = Blocks {
            path,
            events,
            index,
            looked_up: OnceLock::new(),
            recent: Mutex::default(),
        };
        let mut end = blocks.events.len;
        let last = loop {
            let Some(group) = blocks.last_before(end)? else {
                end = HEADER;
                break None;
            };
            // A large one is only unpacked where its frame is wanted.
            let whole = match group.head.left {
                0 => blocks.unpack(group).map(Some),
                _ => blocks.verify(group).map(|()| None),
            };
            match whole {
                Ok(block) => {
                    end = group.end;
                    let number = group.head.next();
                    break Some(block.unwrap_or_else(|| {
                        Arc::new(Block {
                            offset: group.offset,
                            end: group.end,
                            first: number - u64::from(group.head.count),
                            count: group.head.count,
                            bytes: Vec::new(),
                            events: Vec::new(),
                        })
                    }));
                }
                Err(Error::Damaged { .. }) => end = group.offset,
                Err(error) => return Err(error),
            }
        };
        blocks.events.len = blocks.events.len.min(end);
        Ok((blocks, last))
    }

    /// The end of the last whole block.
    pub fn end(&self) -> u64 {
        self.events.len
    }

    /// The bytes of the file up to the end of the last whole block.
    pub fn slice(&self) -> &Slice {
        &self.events
    }

    fn recent(&self) -> MutexGuard<'_, Vec<Arc<Block>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block that was used recently.
    fn again(&self, is_it: impl Fn(&Block) -> bool) -> Option<Arc<Block>> {
        let mut recent = self.recent();
        let at = recent.iter().position(|block| is_it(block))?;
        recent[..=at].rotate_right(1);
        recent.first().cloned()
    }

    pub fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            offset,
            reason: reason.into(),
        }
    }

    fn head(&self, at: u64) -> Result<Option<Head>> {
        self.events.head(at).map_err(io("read", &self.path))
    }

    /// The group at this offset; `None` where there is no whole group.
    fn group(&self, offset: u64) -> Result<Option<Group>> {
        let Some(head) = self.head(offset)?.filter(|head| !head.continues) else {
            return Ok(None);
        };
        let (mut end, mut left) = (offset + head.len(), head.left);
        while left > 0 {
            let next = self.head(end)?.filter(|next| {
                next.continues
                    && next.first == head.next()
                    && next.count == 0
                    && u64::from(next.raw) + u64::from(next.left) == u64::from(left)
            });
            let Some(next) = next else { return Ok(None) };
            end += next.len();
            left = next.left;
        }
        Ok(Some(Group { offset, head, end }))
    }

    /// The group at this index entry.
    fn entered(&self, entry: Entry) -> Result<Option<Group>> {
        let group = self.group(entry.offset)?;
        Ok(group.filter(|group| group.head.first == entry.first))
    }

    /// The group behind this one.
    fn after(&self, group: Group) -> Result<Option<Group>> {
        let next = self.group(group.end)?;
        Ok(next.filter(|next| next.head.first == group.head.next()))
    }

    /// An index made from the heads of all blocks.
    fn looked_up(&self) -> Result<&Index> {
        if let Some(index) = self.looked_up.get() {
            return Ok(index);
        }
        let mut entries = Vec::new();
        let mut next = self.group(HEADER)?.filter(|group| group.head.first == 1);
        while let Some(group) = next {
            entries.push(Entry {
                first: group.head.first,
                offset: group.offset,
            });
            next = self.after(group)?;
        }
        Ok(self.looked_up.get_or_init(|| Index::Memory(entries)))
    }

    /// The group that `pick` picks from the index, or from the index made from the heads.
    fn picked(&self, pick: impl Fn(&Index) -> Option<Entry>) -> Result<Option<Group>> {
        if let Some(entry) = self.index.as_ref().and_then(&pick)
            && let Some(group) = self.entered(entry)?
        {
            return Ok(Some(group));
        }
        match pick(self.looked_up()?) {
            Some(entry) => self.entered(entry),
            None => Ok(None),
        }
    }

    /// The last group that ends at this offset or before.
    fn last_before(&self, end: u64) -> Result<Option<Group>> {
        let fits = |group: &Group| group.end <= end;
        let picked = self.picked(|index| index.before(end))?;
        let mut last = match picked.filter(fits) {
            Some(group) => group,
            // An entry does not say that the block is whole.
            None => match self.looked_up()?.before(end) {
                Some(entry) => match self.entered(entry)?.filter(fits) {
                    Some(group) => group,
                    None => return Ok(None),
                },
                None => return Ok(None),
            },
        };
        while let Some(next) = self.after(last)?.filter(fits) {
            last = next;
        }
        Ok(Some(last))
    }

    /// The group that this event is in.
    fn of_event(&self, number: u64) -> Result<Group> {
        let mut next = self.picked(|index| index.of_event(number, self.end()))?;
        while let Some(group) = next {
            if (group.head.first..group.head.next()).contains(&number) {
                return Ok(group);
            }
            next = self.after(group)?;
        }
        Err(self.damaged(self.end(), "an event is missing"))
    }

    /// Checks the checksums of a group.
    fn verify(&self, group: Group) -> Result<()> {
        let mut at = group.offset;
        while at < group.end {
            let Some(head) = self.head(at)? else {
                return Err(self.damaged(at, "a block is missing"));
            };
            let mut stored = vec![0; head.stored as usize];
            self.events
                .read(&mut stored, at + HEAD as u64)
                .map_err(io("read", &self.path))?;
            if crc32fast::hash(&stored) != head.crc {
                return Err(self.damaged(at, "its checksum is wrong"));
            }
            at += head.len();
        }
        Ok(())
    }

    fn unpack(&self, group: Group) -> Result<Arc<Block>> {
        if let Some(block) = self.again(|block| block.offset == group.offset) {
            return Ok(block);
        }
        let mut bytes = Vec::new();
        let mut at = group.offset;
        let much = group.head.raw as usize + group.head.left as usize > SMALL_FRAME;
        while at < group.end {
            let Some(head) = self.head(at)? else {
                return Err(self.damaged(at, "a block is missing"));
            };
            if much && head.is_dense() {
                let reason = format!("a large event is more than {RATIO} times as long as on disk");
                return Err(self.damaged(at, &reason));
            }
            self.events.unpack(at, head, &mut bytes, &self.path)?;
            at += head.len();
        }
        let Some(block) = Block::of(&group, bytes) else {
            return Err(self.damaged(group.offset, "a block does not hold what it says"));
        };
        let block = Arc::new(block);
        if block.bytes.len() <= MOST {
            let mut recent = self.recent();
            recent.truncate(RECENT - 1);
            recent.insert(0, Arc::clone(&block));
        }
        Ok(block)
    }

    /// The block that this event is in.
    pub fn with_event(&self, number: u64) -> Result<Arc<Block>> {
        match self.again(|block| block.event(number).is_some()) {
            Some(block) => Ok(block),
            None => self.unpack(self.of_event(number)?),
        }
    }

    /// The block at this offset, whose first event has this number; `None` at the end.
    pub fn at(&self, offset: u64, first: u64) -> Result<Option<Arc<Block>>> {
        if offset >= self.end() {
            return Ok(None);
        }
        match self.group(offset)? {
            Some(group) if group.head.first == first => self.unpack(group).map(Some),
            _ => Err(self.damaged(offset, "there is no block")),
        }
    }

    /// The content of the file `index` for these blocks with others before that at `at`: they are of these lengths, and
    /// have no events.
    pub fn index_with(&self, at: u64, lens: &[u64]) -> Result<Vec<u8>> {
        Ok(self.looked_up()?.with(at, lens).to_bytes())
    }

    /// The last frame of a block.
    pub fn last_frame(&self, block: &Block) -> Result<Option<Frame>> {
        match block.frame(block.last()) {
            Some(frame) => self.decode(block, frame).map(Some),
            None => Ok(None),
        }
    }

    pub fn decode(&self, block: &Block, frame: Range<usize>) -> Result<Frame> {
        postcard::from_bytes(block.bytes(frame))
            .map_err(|e| self.damaged(block.offset, &e.to_string()))
    }
}
