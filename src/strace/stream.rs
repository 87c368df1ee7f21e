//! A text as a stream of pieces: lines, or the parts of them that say something by themselves.

use super::assemble::Assembler;
use super::{Error, LONGEST_LINE, Problem, verbatim};
use crate::trace::{Entry, Value};
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::PathBuf;

/// What is left of a line that is too long comes in pieces of this many bytes.
const CHUNK: u64 = 1 << 20;

/// Reads a text in strace's syntax piece by piece. Memory does not grow with the text: what is kept is one
/// line, what is known of the calls that have begun and not ended (the oldest are given up where those are too many),
/// and text that ran into a line.
///
/// The pieces' texts in a row are the text that was read, byte for byte.
#[derive(Debug)]
pub struct Stream<R> {
    reader: R,
    file: PathBuf,
    assembler: Assembler,
    ready: VecDeque<Piece>,
    /// Whether this is the midst of a line that is too long.
    inside: bool,
    ended: bool,
}

/// A piece of a text.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The line that it begins on, from 1.
    pub line: u64,
    /// The bytes, with the line ends. There may be several lines: a message that ran into a call, what the
    /// program itself wrote in the midst of a call.
    pub text: Vec<u8>,
    /// What it says.
    pub kind: PieceKind,
    /// Arguments and constants in it that were not understood; they are kept as they are.
    pub doubts: Vec<Problem>,
    /// How it goes into the text, where that is not plain.
    pub(super) placement: Option<Box<Placement>>,
}

/// How an entry goes into its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    /// What is foreign to the entry, and at which byte of the piece it stands, in order.
    pub foreign: Vec<(usize, Vec<u8>)>,
    /// Of a call in two parts: the text of the call from its name on, and the length of its first part.
    pub joined: Option<(Vec<u8>, usize)>,
}

/// What a piece of a text says.
#[derive(Clone, Debug, PartialEq)]
pub enum PieceKind {
    /// An entry, whole.
    Entry(Entry),
    /// The first part of a call. It is followed by a [`PieceKind::Resumed`] or a [`PieceKind::NeverResumed`], sooner or later.
    Unfinished {
        /// The task; 0 where unknown.
        tid: i32,
        /// The call's name.
        name: String,
        /// The arguments so far; the last one may lack its end.
        args: Vec<Value>,
    },
    /// The call that ends here; its origin has the line where it began. The text is that of the last part only.
    Resumed(Entry),
    /// A call that has begun and will not end: its task died, or the text ended. Has no text.
    NeverResumed(Entry),
    /// Nothing about what the program did.
    Other(OtherLine),
    /// It was not understood.
    Problem(Problem),
}

/// Lines that say nothing about what the program did, or not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherLine {
    /// An empty line.
    Blank,
    /// A message of strace's (`strace: Process 12 attached`).
    Message,
    /// The task has stopped (`--- stopped by SIGSTOP ---`).
    Stopped,
    /// Another task's execve took over this line's pid (`+++ superseded by execve in pid 12 +++`).
    Superseded,
    /// A frame of a stack (`-k`).
    Stack,
    /// Part of a dump of what was read or written (`-e read=`).
    Dump,
    /// Part of the table of `-c` or `-C`.
    Summary,
    /// The rest of a call whose beginning is not in the text.
    Orphan,
    /// The rest of a line that is too long.
    Overlong,
    /// What somebody wrote into the text (`# here it fails`), or the program without a call of its own.
    Remark,
    /// What other programs wrote in the midst of a call that waits.
    Output,
    /// A line that the end of the text cut off, before it said anything or in the rest of a call.
    Truncated,
}

impl<R: BufRead> Stream<R> {
    /// The pieces of what this reads; the file's name is for messages.
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

    /// The next line with its end, or as much of it as this. The standard library's way of doing so is slow.
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
    /// Writes it, line ends included: an entry from its values, what is none as it is.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        match self.printed() {
            Some(printed) => out.write_all(&printed),
            None => out.write_all(&self.text),
        }
    }

    /// Whether that is what was read, byte for byte.
    pub fn prints_back(&self) -> bool {
        self.printed().is_none_or(|printed| printed == self.text)
    }

    /// An entry as printed; `None` where there is none.
    fn printed(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.text.len());
        match &self.kind {
            PieceKind::Entry(entry) => verbatim::as_written(&mut out, entry),
            PieceKind::Resumed(Entry::Call(entry)) => {
                let (joined, first) = self.placement.as_ref()?.joined.as_ref()?;
                let mut call = Vec::with_capacity(joined.len());
                verbatim::body_as_written(&mut call, entry);
                // In front there are columns and `<... read resumed>`, which belong to the line, not the call.
                let rest = joined.len().saturating_sub(*first);
                let text = without_end(&self.text);
                let head = text.len().saturating_sub(rest + self.foreign_len());
                // What ran into the line did so behind that.
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
    /// What is printed of the entry, with what is foreign to it in its places.
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
pub(super) fn without_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}
