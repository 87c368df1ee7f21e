//! A reader and writer of a recording's blocks for the tests, on its own so that it does not share mistakes.

use std::ops::Range;

/// A block of `events`.
#[derive(Clone)]
pub struct Block {
    /// Where it is.
    pub at: Range<usize>,
    /// Its payload, unpacked.
    pub payload: Vec<u8>,
    pub first: u64,
    pub count: u32,
    pub flags: u32,
    pub left: u32,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// All blocks of a whole file.
pub fn blocks(events: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = 12;
    while at < events.len() {
        let head = &events[at..at + 40];
        assert_eq!(&head[..4], b"\x1ablk");
        assert_eq!(crc32fast::hash(&head[..36]), word(head, 36));
        let end = at + 40 + word(head, 8) as usize;
        let stored = &events[at + 40..end];
        assert_eq!(crc32fast::hash(stored), word(head, 32));
        let payload = match word(head, 4) & 1 {
            1 => zstd::bulk::decompress(stored, word(head, 12) as usize).unwrap(),
            _ => stored.to_vec(),
        };
        assert_eq!(payload.len(), word(head, 12) as usize);
        blocks.push(Block {
            at: at..end,
            payload,
            first: u64::from_le_bytes(head[16..24].try_into().unwrap()),
            count: word(head, 24),
            flags: word(head, 4) & !1,
            left: word(head, 28),
        });
        at = end;
    }
    blocks
}

/// The payloads of the frames in a block, which begins with a frame and ends with one.
pub fn frames(block: &Block) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < block.payload.len() {
        let len = word(&block.payload, at) as usize;
        frames.push(at + 4..at + 4 + len);
        at += 4 + len;
    }
    assert_eq!(at, block.payload.len());
    frames
}

/// A block with this on disk, under right checksums.
pub fn with_block(block: &Block, stored: &[u8], compressed: bool) -> Vec<u8> {
    let raw = match compressed {
        true => block.payload.len(),
        false => stored.len(),
    };
    let mut head = Vec::from(*b"\x1ablk");
    let flags = block.flags | u32::from(compressed);
    for word in [flags, stored.len() as u32, raw as u32] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    head.extend_from_slice(&block.first.to_le_bytes());
    for word in [block.count, block.left, crc32fast::hash(stored)] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    let crc = crc32fast::hash(&head);
    head.extend_from_slice(&crc.to_le_bytes());
    head.extend_from_slice(stored);
    head
}

/// `events` with another payload in one of its blocks, under right checksums.
pub fn with_payload(events: &[u8], block: &Block, payload: &[u8]) -> Vec<u8> {
    let block_bytes = with_block(block, payload, false);
    let (before, behind) = (&events[..block.at.start], &events[block.at.end..]);
    [before, &block_bytes, behind].concat()
}
