//! Blocks, of which `events` and packed files consist after their headers. A block is a head of fixed size and a
//! payload, compressed with zstd where that makes it shorter.

use super::{Error, Result, io};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The length of a block's head.
pub(super) const HEAD: usize = 40;

/// The most bytes that a block unpacks to.
pub(super) const MOST: usize = 1 << 20;

/// The largest ratio of unpacked to stored bytes for large data: a small file cannot fill the memory or the disk.
pub(super) const RATIO: usize = 256;

const MAGIC: [u8; 4] = *b"\x1ablk";
const COMPRESSED: u32 = 1;
const CONTINUES: u32 = 2;

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether the payload is compressed.
    pub compressed: bool,
    /// Whether it continues the frame that the block before began.
    pub continues: bool,
    /// The payload's length on disk.
    pub stored: u32,
    /// The payload's length.
    pub raw: u32,
    /// The number of the first event in it, or of the next one where there is none in it.
    /// In a packed file: the offset of the payload in its kept file.
    pub first: u64,
    /// The number of events that begin in it.
    pub count: u32,
    /// The bytes of its last frame that are in the blocks behind it.
    pub left: u32,
    /// CRC-32 of the payload on disk.
    pub crc: u32,
}

impl Head {
    pub fn to_bytes(self) -> [u8; HEAD] {
        let flags = u32::from(self.compressed) * COMPRESSED + u32::from(self.continues) * CONTINUES;
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.stored.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.raw.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.left.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The head in these bytes; `None` where they are no valid head.
    pub fn from_bytes(bytes: &[u8; HEAD]) -> Option<Head> {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| u32::from_le_bytes(words[at]);
        let flags = word(1);
        let head = Head {
            compressed: flags & COMPRESSED != 0,
            continues: flags & CONTINUES != 0,
            stored: word(2),
            raw: word(3),
            first: u64::from(word(4)) | u64::from(word(5)) << 32,
            count: word(6),
            left: word(7),
            crc: word(8),
        };
        let sized = head.raw > 0
            && head.raw as usize <= MOST
            && match head.compressed {
                true => head.stored < head.raw,
                false => head.stored == head.raw,
            };
        let known = words[0] == MAGIC && flags & !(COMPRESSED | CONTINUES) == 0;
        let numbered = head.first.checked_add(u64::from(head.count)).is_some();
        let whole = word(9) == crc32fast::hash(&bytes[..36]);
        (known && whole && sized && numbered).then_some(head)
    }

    /// The length of head and payload on disk.
    pub fn len(self) -> u64 {
        HEAD as u64 + u64::from(self.stored)
    }

    /// The number of the first event behind it.
    pub fn next(self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Whether its ratio of compression is allowed for small data only.
    pub fn is_dense(self) -> bool {
        self.raw as usize > RATIO * (self.stored as usize + HEAD)
    }
}

/// Compresses payloads into blocks.
pub(super) struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    block: Vec<u8>,
}

impl Packer {
    pub fn new(level: i32) -> std::io::Result<Packer> {
        Ok(Packer {
            zstd: zstd::bulk::Compressor::new(level)?,
            block: vec![0; HEAD + zstd::zstd_safe::compress_bound(MOST)],
        })
    }

    /// The block with this payload, of at most [`MOST`] bytes. `head` has the fields that do not follow from the
    /// payload; with `is_large`, the payload is a part of large data.
    pub fn pack(&mut self, raw: &[u8], head: Head, is_large: bool) -> std::io::Result<&[u8]> {
        let len = self.zstd.compress_to_buffer(raw, &mut self.block[HEAD..])?;
        let mut head = Head {
            compressed: len < raw.len(),
            stored: len as u32,
            raw: raw.len() as u32,
            ..head
        };
        if !head.compressed || is_large && head.is_dense() {
            head.compressed = false;
            head.stored = head.raw;
            self.block[HEAD..HEAD + raw.len()].copy_from_slice(raw);
        }
        let end = HEAD + head.stored as usize;
        head.crc = crc32fast::hash(&self.block[HEAD..end]);
        self.block[..HEAD].copy_from_slice(&head.to_bytes());
        Ok(&self.block[..end])
    }
}

/// A head for [`Packer::pack`].
pub(super) const BLANK: Head = Head {
    compressed: false,
    continues: false,
    stored: 0,
    raw: 0,
    first: 0,
    count: 0,
    left: 0,
    crc: 0,
};

/// A part of a file, or all of it.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub file: Arc<File>,
    pub base: u64,
    pub len: u64,
}

impl Slice {
    /// All of a file, at its present length.
    pub fn of(file: File) -> std::io::Result<Slice> {
        let len = file.metadata()?.len();
        Ok(Slice {
            file: Arc::new(file),
            base: 0,
            len,
        })
    }

    /// A part of the slice; `None` where the slice ends before that.
    pub fn part(&self, at: u64, len: u64) -> Option<Slice> {
        let end = at.checked_add(len)?;
        (end <= self.len).then(|| Slice {
            file: Arc::clone(&self.file),
            base: self.base + at,
            len,
        })
    }

    /// Fills `buf` from this offset.
    pub fn read(&self, buf: &mut [u8], at: u64) -> std::io::Result<()> {
        if at
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buf, self.base + at)
    }

    /// The head at this offset; `None` where there is no valid head, or the block is incomplete.
    pub fn head(&self, at: u64) -> std::io::Result<Option<Head>> {
        let mut bytes = [0; HEAD];
        match self.read(&mut bytes, at) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let head = Head::from_bytes(&bytes);
        Ok(head.filter(|head| self.len - at >= head.len()))
    }

    /// Appends the payload of the block at this offset to `out`.
    pub fn unpack(&self, at: u64, head: Head, out: &mut Vec<u8>, path: &Path) -> Result<()> {
        let damaged = |reason: &str| Error::Damaged {
            path: path.into(),
            offset: at,
            reason: reason.into(),
        };
        let mut stored = vec![0; head.stored as usize];
        self.read(&mut stored, at + HEAD as u64)
            .map_err(io("read", path))?;
        if crc32fast::hash(&stored) != head.crc {
            return Err(damaged("its checksum is wrong"));
        }
        let raw = head.raw as usize;
        out.try_reserve(raw)
            .map_err(|_| damaged("there is not enough memory for it"))?;
        if !head.compressed {
            out.append(&mut stored);
            return Ok(());
        }
        let unpacked = zstd::bulk::decompress(&stored, raw)
            .ok()
            .filter(|unpacked| unpacked.len() == raw)
            .ok_or_else(|| damaged("it cannot be decompressed"))?;
        out.extend_from_slice(&unpacked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(raw: &[u8], is_large: bool) -> (Head, Vec<u8>) {
        let mut packer = Packer::new(1).unwrap();
        let block = packer.pack(raw, BLANK, is_large).unwrap().to_vec();
        let head = Head::from_bytes(block[..HEAD].try_into().unwrap()).unwrap();
        (head, block)
    }

    #[test]
    fn a_block_gives_back_its_payload() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("block");
        let noise: Vec<u8> = (0..5000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for raw in [vec![7], vec![0; MOST], noise] {
            for much in [false, true] {
                let (head, block) = packed(&raw, much);
                assert!(!much || !head.is_dense());
                std::fs::write(&path, &block).unwrap();
                let slice = Slice::of(File::open(&path).unwrap()).unwrap();
                assert_eq!(slice.head(0).unwrap(), Some(head));
                let mut out = Vec::new();
                slice.unpack(0, head, &mut out, &path).unwrap();
                assert_eq!(out, raw);
            }
        }
    }

    #[test]
    fn a_head_that_claims_too_much_is_none() {
        let (head, _) = packed(&[0; 1000], false);
        for wrong in [
            Head {
                raw: 2 << 20,
                ..head
            },
            Head { raw: 0, ..head },
            Head {
                stored: 1000,
                ..head
            },
            Head {
                stored: u32::MAX,
                ..head
            },
            Head {
                compressed: false,
                ..head
            },
            Head {
                first: u64::MAX,
                count: 1,
                ..head
            },
        ] {
            assert_eq!(Head::from_bytes(&wrong.to_bytes()), None, "{wrong:?}");
        }
        assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
    }

    #[test]
    fn more_than_a_head_says_is_not_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("block");
        let (head, mut block) = packed(&vec![0; MOST], false);
        let less = Head { raw: 4096, ..head };
        block[..HEAD].copy_from_slice(&less.to_bytes());
        std::fs::write(&path, &block).unwrap();
        let slice = Slice::of(File::open(&path).unwrap()).unwrap();
        let mut out = Vec::new();
        slice.unpack(0, less, &mut out, &path).unwrap_err();
        assert!(out.capacity() < MOST);
    }
}
