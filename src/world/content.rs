//! The content of a file: what it was at first, and what has been written since.

use std::collections::BTreeMap;
use std::io::Result;
use std::sync::Arc;

/// The content of a file, whose parts may be those of files that stay elsewhere, named by a `B`. Copies share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content<B> {
    len: u64,
    /// What is in the file, by offset; pieces do not overlap, and there are zeros between them.
    pieces: BTreeMap<u64, Piece<B>>,
    /// Its size, if nothing has been changed.
    unchanged: Option<u64>,
}

/// The limit on the pieces of a file, of which parts of others are copied to it.
const MOST_PIECES: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece<B> {
    len: u64,
    data: Data<B>,
    /// Whether something else may have been written here since.
    is_doubtful: bool,
}

/// Where bytes of a content are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a, B> {
    /// Here.
    Bytes(&'a [u8]),
    /// In a file, from an offset on.
    File(&'a B, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Data<B> {
    /// These bytes, from an offset on.
    Bytes(Arc<[u8]>, usize),
    /// A file's, from an offset on.
    File(B, u64),
    /// Nobody saw what was written.
    Unknown,
}

impl<B: Clone> Data<B> {
    /// The part that begins so many bytes behind.
    fn behind(&self, by: u64) -> Data<B> {
        match self {
            Data::Bytes(bytes, from) => Data::Bytes(Arc::clone(bytes), from + by as usize),
            Data::File(file, from) => Data::File(file.clone(), from + by),
            Data::Unknown => Data::Unknown,
        }
    }
}

impl<B> Default for Content<B> {
    fn default() -> Content<B> {
        Content {
            len: 0,
            pieces: BTreeMap::new(),
            unchanged: None,
        }
    }
}

impl<B: Clone> Content<B> {
    /// The content of a file of this size.
    pub fn of_file(file: B, len: u64) -> Content<B> {
        let data = Data::File(file, 0);
        let piece = (len > 0).then_some((
            0,
            Piece {
                len,
                data,
                is_doubtful: false,
            },
        ));
        Content {
            len,
            pieces: piece.into_iter().collect(),
            unchanged: Some(len),
        }
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is that of the file that it was made of.
    pub fn is_unchanged(&self) -> bool {
        self.unchanged == Some(self.len)
    }

    /// Whether all of it is known.
    pub fn is_known(&self) -> bool {
        let mut pieces = self.pieces.values();
        !pieces.any(|piece| piece.is_doubtful || matches!(piece.data, Data::Unknown))
    }

    /// Notes that all of it may have been changed by somebody else.
    pub fn doubt(&mut self) {
        self.unchanged = None;
        let mut at = 0;
        for (start, piece) in std::mem::take(&mut self.pieces) {
            self.write_unknown(at, start - at);
            at = start + piece.len;
            let is_doubtful = true;
            self.pieces.insert(
                start,
                Piece {
                    is_doubtful,
                    ..piece
                },
            );
        }
        self.write_unknown(at, self.len.saturating_sub(at));
    }

    /// What is in it, by offset, but for the zeros between: the offset, the length, and where the bytes are.
    pub fn parts(&self) -> impl Iterator<Item = (u64, u64, Part<'_, B>)> {
        self.pieces.iter().filter_map(|(&at, piece)| {
            let len = piece.len.min(self.len.saturating_sub(at));
            let part = match &piece.data {
                Data::Bytes(bytes, from) => Part::Bytes(bytes.get(*from..)?.get(..len as usize)?),
                Data::File(file, from) => Part::File(file, *from),
                Data::Unknown => return None,
            };
            (len > 0).then_some((at, len, part))
        })
    }

    /// The files of which there are parts in it.
    pub fn files(&self) -> impl Iterator<Item = &B> {
        self.pieces.values().filter_map(|piece| match &piece.data {
            Data::File(file, _) => Some(file),
            _ => None,
        })
    }

    /// Writes bytes at an offset.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            let data = Data::Bytes(bytes.into(), 0);
            self.put(at, bytes.len() as u64, Some((data, false)));
        }
    }

    /// Writes zeros; the file grows only if `grows`.
    pub fn clear(&mut self, at: u64, len: u64, grows: bool) {
        let end = at.saturating_add(len);
        let end = if grows { end } else { end.min(self.len) };
        self.put(at, end.saturating_sub(at), None);
    }

    /// Notes that bytes were written which nobody saw.
    pub fn write_unknown(&mut self, at: u64, len: u64) {
        self.put(at, len, Some((Data::Unknown, false)));
    }

    fn put(&mut self, at: u64, len: u64, data: Option<(Data<B>, bool)>) {
        let end = at.saturating_add(len);
        if end <= at {
            return;
        }
        self.unchanged = None;
        self.split(at);
        self.split(end);
        let covered: Vec<u64> = self.pieces.range(at..end).map(|(&at, _)| at).collect();
        for at in covered {
            self.pieces.remove(&at);
        }
        if let Some((data, is_doubtful)) = data {
            self.pieces.insert(
                at,
                Piece {
                    len: end - at,
                    data,
                    is_doubtful,
                },
            );
        }
        self.len = self.len.max(end);
    }

    /// Has a piece begin at an offset that is inside of one.
    fn split(&mut self, at: u64) {
        let Some((&start, piece)) = self.pieces.range_mut(..at).next_back() else {
            return;
        };
        let before = at - start;
        if piece.len > before {
            let rest = Piece {
                len: piece.len - before,
                data: piece.data.behind(before),
                is_doubtful: piece.is_doubtful,
            };
            piece.len = before;
            self.pieces.insert(at, rest);
        }
    }

    /// Sets the size: the rest is cut off, or zeros are added.
    pub fn resize(&mut self, len: u64) {
        if len != self.len {
            self.unchanged = None;
        }
        self.split(len);
        self.pieces.split_off(&len);
        self.len = len;
    }

    /// Writes a part of another file's content; as unknown, if that is in too many pieces.
    pub fn copy(&mut self, at: u64, from: &Content<B>, start: u64, len: u64) {
        let end = start.saturating_add(len).min(from.len);
        // Copies of copies would grow without end.
        if self.pieces.len() + from.pieces.len() > MOST_PIECES {
            return self.write_unknown(at, end.saturating_sub(start));
        }
        self.clear(at, end.saturating_sub(start), true);
        for (&piece_at, piece) in &from.pieces {
            let (a, b) = (piece_at.max(start), (piece_at + piece.len).min(end));
            if a < b {
                self.put(
                    at.saturating_add(a - start),
                    b - a,
                    Some((piece.data.behind(a - piece_at), piece.is_doubtful)),
                );
            }
        }
    }

    /// Passes the content of a range to `then`, piece by piece; what is unknown is zeros. `read` reads a file at an offset,
    /// as [`read_at`](std::os::unix::fs::FileExt::read_at) does.
    ///
    /// # Errors
    /// Those of `read` and of `then`.
    pub fn read(
        &self,
        at: u64,
        len: u64,
        read: impl Fn(&B, &mut [u8], u64) -> Result<usize>,
        mut then: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        const BLOCK: u64 = 64 << 10;
        let end = at.saturating_add(len).min(self.len);
        let mut at = at;
        while at < end {
            let most = end.min(at + BLOCK);
            let inside = self.pieces.range(..=at).next_back();
            let inside = inside.filter(|(start, piece)| *start + piece.len > at);
            let to = match inside {
                Some((start, piece)) => most.min(start + piece.len),
                None => {
                    let behind = self.pieces.range(at..).next();
                    behind.map_or(most, |(start, _)| most.min(*start))
                }
            };
            let size = (to - at) as usize;
            match inside.map(|(start, piece)| (at - start, &piece.data)) {
                Some((by, Data::Bytes(bytes, from))) => {
                    then(&bytes[from + by as usize..][..size])?;
                }
                Some((by, Data::File(file, from))) => {
                    let mut bytes = vec![0; size];
                    let mut filled = 0;
                    while filled < size {
                        // A file that has become shorter has zeros there.
                        match read(file, &mut bytes[filled..], from + by + filled as u64)? {
                            0 => break,
                            n => filled += n,
                        }
                    }
                    then(&bytes)?;
                }
                _ => then(&vec![0; size])?,
            }
            at = to;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"0123456789";

    fn read(content: &Content<&'static [u8]>) -> Vec<u8> {
        let mut got = Vec::new();
        let from = |file: &&[u8], bytes: &mut [u8], at: u64| {
            let n = bytes.len().min(file.len() - at as usize).min(3);
            bytes[..n].copy_from_slice(&file[at as usize..][..n]);
            Ok(n)
        };
        let then = |bytes: &[u8]| {
            got.extend(bytes);
            Ok(())
        };
        content.read(0, u64::MAX, from, then).unwrap();
        got
    }

    #[test]
    fn writes_cover_what_was_there() {
        let mut content = Content::of_file(FILE, 10);
        assert!(content.is_unchanged());
        content.write(2, b"ab");
        content.write(3, b"cde");
        content.write(12, b"z");
        assert_eq!(read(&content), b"01acde6789\0\0z");
        content.clear(4, 3, false);
        assert_eq!(read(&content), b"01ac\0\0\x00789\0\0z");
        content.resize(5);
        content.resize(8);
        assert_eq!(read(&content), b"01ac\0\0\0\0");
        content.clear(7, 5, false);
        assert_eq!(content.len(), 8);
        content.clear(7, 5, true);
        assert_eq!(content.len(), 12);
        assert!(content.is_known());
        content.write_unknown(0, 3);
        assert!(!content.is_known());
        content.write(0, b"xyz");
        assert!(content.is_known() && !content.is_unchanged());
        content.doubt();
        content.write(0, b"abcd");
        content.resize(6);
        assert!(!content.is_known());
        content.write(3, b"defg");
        assert!(content.is_known());
        assert_eq!(read(&content), b"abcdefg");
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = Content::of_file(FILE, 10);
        content.resize(3);
        content.write(6, b"x");
        assert_eq!(read(&content), b"012\0\0\0x");
    }

    #[test]
    fn copies_share_what_is_known() {
        let mut source = Content::of_file(FILE, 10);
        source.write(4, b"ab");
        let mut copy = Content::default();
        copy.copy(0, &source, 0, 100);
        assert_eq!(read(&copy), b"0123ab6789");
        assert!(copy.is_known());
        let mut other = Content::default();
        other.write(0, b"--");
        other.copy(2, &source, 4, 2);
        assert_eq!(read(&other), b"--ab");
        other.copy(0, &source, 5, 2);
        assert_eq!(read(&other), b"b6ab");
        source.write_unknown(0, 1);
        other.copy(3, &source, 0, 1);
        assert!(!other.is_known());
    }

    #[test]
    fn copies_of_copies_have_an_end() {
        let mut content = Content::of_file(FILE, 10);
        for at in 0..60 {
            content.write(at * 3, b"x");
            let whole = content.clone();
            content.copy(content.len(), &whole, 0, u64::MAX);
        }
        assert!(content.pieces.len() <= MOST_PIECES + 200 && !content.is_known());
    }

    #[test]
    fn whatever_is_written_reads_as_in_an_array() {
        let mut content = Content::of_file(FILE, 10);
        let mut plain = FILE.to_vec();
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..3000 {
            let (at, len) = (random(40), random(12));
            match random(4) {
                0 => {
                    content.resize(at);
                    plain.resize(at as usize, 0);
                }
                1 => {
                    content.clear(at, len, false);
                    let end = plain.len().min((at + len) as usize);
                    if (at as usize) < end {
                        plain[at as usize..end].fill(0);
                    }
                }
                _ => {
                    let bytes: Vec<u8> = (0..len).map(|_| random(256) as u8).collect();
                    content.write(at, &bytes);
                    if len > 0 {
                        let end = (at + len) as usize;
                        if plain.len() < end {
                            plain.resize(end, 0);
                        }
                        plain[at as usize..end].copy_from_slice(&bytes);
                    }
                }
            }
            assert_eq!(read(&content), plain);
        }
    }
}
