//! A text as a stream of pieces: lines, or parts of lines with a meaning of their own.

use super::assemble::Assembler;
use crate::strace::grammar::other_lines::OtherLine;
use crate::strace::{Error, LONGEST_LINE, Problem, verbatim};
use crate::trace::{Entry, Value};
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::PathBuf;

/// The rest of a line that is too long comes in pieces of this many bytes.
const CHUNK: u64 = 1 << 20;

/// Reads a text in strace's syntax piece by piece. Memory does not grow with the text: a stream keeps one line, the
/// unfinished calls (the oldest are given up where there are too many), and foreign text in a line.
///
/// The pieces' texts in a row are the text that was read, byte for byte.
#[derive(Debug)]
pub struct Stream<R> {
    reader: R,
    file: PathBuf,
    assembler: Assembler,
    ready: VecDeque<Piece>,
    /// Whether the reader is within a line that is too long.
    inside: bool,
    ended: bool,
}

/// A piece of a text.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The line on which the piece begins, from 1.
    pub line: u64,
    /// The bytes, with the line ends. There may be several lines: a message or output of the program within a call.
    pub text: Vec<u8>,
    /// The kind of the piece, with its content.
    pub kind: PieceKind,
    /// Arguments and constants that were not understood; they are kept as they are.
    pub doubts: Vec<Problem>,
    /// The placement of the entry in the text, where the text is more than the entry.
    pub(in crate::strace) placement: Option<Box<Placement>>,
}

/// The placement of an entry in its text.
#[derive(Clone, Debug, Default)]
pub(in crate::strace) struct Placement {
    /// The foreign texts and their offsets in the piece, in order.
    pub foreign: Vec<(usize, Vec<u8>)>,
    /// Of a call in two parts: the text of the call from its name on, and the length of its first part.
    pub joined: Option<(Vec<u8>, usize)>,
}

/// The kind of a piece, with its content.
#[derive(Clone, Debug, PartialEq)]
pub enum PieceKind {
    /// A whole entry.
    Entry(Entry),
    /// The first part of a call. A [`PieceKind::Resumed`] or a [`PieceKind::NeverResumed`] follows sooner or later.
    Unfinished {
        /// The task; 0 where unknown.
        tid: i32,
        /// The call's name.
        name: String,
        /// The arguments so far; the last one may lack its end.
        args: Vec<Value>,
    },
    /// A call whose rest is here; its origin has the line where it began. The text is that of the rest only.
    Resumed(Entry),
    /// An unfinished call that is never resumed: its task died, or the text ended. The piece has no text.
    NeverResumed(Entry),
    /// A line without an entry.
    Other(OtherLine),
    /// Text that was not understood.
    Problem(Problem),
}

impl<R: BufRead> Stream<R> {
    /// The pieces of a text; the file's name is for messages.
    pub fn new(reader: R, file: &str) -> Stream<R> {
        Stream {
            reader,
            file: PathBuf::from(file),
            assembler: Assembler::new(file),
            ready: VecDeque::new(),
            inside: false,
            ended: false,
        }
    }

    /// The next line with its end, or at most `most` bytes of it. The standard library's function for this is slow.
    fn read_line(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let room = usize::try_from(most).unwrap_or(usize::MAX) - text.len();
            let part = buffer.get(..room).unwrap_or(buffer);
            let end = memchr::memchr(b'\n', part);
            let used = end.map_or(part.len(), |n| n + 1);
            text.extend_from_slice(part.get(..used).unwrap_or_default());
            self.reader.consume(used);
            if end.is_some() || used == 0 || used == room {
                return Ok(text);
            }
        }
    }

    /// Takes the next line, or a part of one that is too long.
    fn take_line(&mut self) -> io::Result<()> {
        let most = if self.inside { CHUNK } else { LONGEST_LINE + 1 };
        let text = self.read_line(most)?;
        if text.is_empty() {
            self.ended = true;
            self.assembler.finish(&mut self.ready);
            return Ok(());
        }
        let goes_on = text.len() as u64 == most && text.last() != Some(&b'\n');
        match (self.inside, goes_on) {
            (false, false) => self.assembler.line(text, &mut self.ready),
            (false, true) => self.assembler.too_long(text, &mut self.ready),
            (true, _) => self.assembler.overlong(text, &mut self.ready),
        }
        self.inside = goes_on;
        Ok(())
    }
}

impl<R: BufRead> Iterator for Stream<R> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if self.ended {
                return None;
            }
            if let Err(source) = self.take_line() {
                self.ended = true;
                let path = self.file.clone();
                return Some(Err(Error::Io { path, source }));
            }
        }
    }
}

impl Piece {
    /// Writes the piece, line ends included: an entry from its values, other text as it is.
    ///
    /// # Errors
    ///
    /// The writer's errors.
    pub fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        match self.printed() {
            Some(printed) => out.write_all(&printed),
            None => out.write_all(&self.text),
        }
    }

    /// Whether printing gives the text that was read, byte for byte.
    pub fn prints_back(&self) -> bool {
        self.printed().is_none_or(|printed| printed == self.text)
    }

    /// The printed entry; `None` where there is none.
    fn printed(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.text.len());
        match &self.kind {
            PieceKind::Entry(entry) => verbatim::as_written(&mut out, entry),
            PieceKind::Resumed(Entry::Call(entry)) => {
                let (joined, first) = self.placement.as_ref()?.joined.as_ref()?;
                let mut call = Vec::with_capacity(joined.len());
                verbatim::body_as_written(&mut call, entry);
                // The prefix and `<... read resumed>` belong to the line, not the call.
                let rest = joined.len().saturating_sub(*first);
                let text = without_end(&self.text);
                let head = text.len().saturating_sub(rest + self.foreign_len());
                // Foreign text comes behind that.
                out.extend_from_slice(text.get(..head).unwrap_or_default());
                if joined.get(..*first) != call.get(..*first) {
                    out.extend_from_slice(call.get(..*first).unwrap_or_default());
                }
                out.extend_from_slice(call.get(*first..).unwrap_or_default());
            }
            _ => return None,
        }
        if let Some(place) = &self.placement
            && !place.foreign.is_empty()
        {
            out = place.woven(&out);
        }
        out.extend_from_slice(self.text.get(without_end(&self.text).len()..)?);
        Some(out)
    }

    fn foreign_len(&self) -> usize {
        let foreign = self.placement.iter().flat_map(|place| &place.foreign);
        foreign.map(|(_, f)| f.len()).sum()
    }
}

impl Placement {
    /// The printed entry with the foreign texts in their places.
    fn woven(&self, own: &[u8]) -> Vec<u8> {
        let foreign: usize = self.foreign.iter().map(|(_, f)| f.len()).sum();
        let mut out = Vec::with_capacity(own.len() + foreign);
        let mut done = 0;
        for (at, foreign) in &self.foreign {
            let at = (*at).clamp(done, own.len());
            out.extend_from_slice(own.get(done..at).unwrap_or_default());
            out.extend_from_slice(foreign);
            done = at;
        }
        out.extend_from_slice(own.get(done..).unwrap_or_default());
        out
    }
}

/// A text without its last line end.
pub(in crate::strace) fn without_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}
