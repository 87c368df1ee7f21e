//! Collects pieces in a trace in memory: calls stand where they began, problems are gathered.

use super::grammar::other_lines::OtherLine;
use super::lines::assemble::Assembler;
use super::lines::stream::{Piece, PieceKind};
use super::{Parsed, Problem};
use crate::trace::{Entry, Origin, Trace};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The number of problems that are kept; of the rest only their number.
const MOST_PROBLEMS: usize = 10_000;

/// Reads a trace line by line; [`super::parse`] and [`super::load`] do that for whole texts.
#[derive(Debug)]
pub struct Reader {
    assembler: Assembler,
    ready: VecDeque<Piece>,
    gathered: Gathered,
}

/// The trace gathered from pieces so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    file: Arc<str>,
    /// The entries; unfinished calls are `None`.
    entries: Vec<Option<Entry>>,
    /// The indices of unfinished calls, by the lines on which they began.
    begun: HashMap<u64, usize>,
    problems: Vec<Problem>,
    /// The number of problems that are not in `problems`.
    more: usize,
    last_line: u64,
    /// The line of the first user comment, until a line is strace's.
    remark: Option<u64>,
    /// Whether any line is strace's.
    own: bool,
}

impl Reader {
    /// A reader for a new text; the file's name is for messages.
    pub fn new(file: &str) -> Reader {
        Reader {
            assembler: Assembler::new(file),
            ready: VecDeque::new(),
            gathered: Gathered::new(file),
        }
    }

    /// Takes the next line, with or without the line feed.
    pub fn line(&mut self, line: &[u8]) {
        self.assembler.line(line.to_vec(), &mut self.ready);
        self.gather();
    }

    /// Takes the end of the text: unfinished calls are never resumed.
    pub fn finish(self) -> Parsed {
        self.gather_end()
    }

    /// Takes the end of whole lines: a truncated line is a problem, as is a user comment.
    pub(super) fn finish_whole(mut self) -> Parsed {
        self.assembler.settle(&mut self.ready);
        self.gather_end()
    }

    fn gather_end(mut self) -> Parsed {
        self.assembler.finish(&mut self.ready);
        self.gather();
        self.gathered.finish()
    }

    fn gather(&mut self) {
        for piece in self.ready.drain(..) {
            self.gathered.take(piece);
        }
    }
}

impl Gathered {
    pub(super) fn new(file: &str) -> Gathered {
        Gathered {
            file: Arc::from(file),
            ..Gathered::default()
        }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: Piece) {
        self.last_line = self.last_line.max(piece.line);
        match piece.kind {
            PieceKind::Entry(entry) => self.entries.push(Some(entry)),
            PieceKind::Unfinished { .. } => {
                self.begun.insert(piece.line, self.entries.len());
                self.entries.push(None);
            }
            PieceKind::Resumed(entry) | PieceKind::NeverResumed(entry) => {
                let line = match entry.origin() {
                    Origin::Text { line, .. } => u64::from(*line),
                    _ => 0,
                };
                let index = self.begun.remove(&line);
                match index.and_then(|index| self.entries.get_mut(index)) {
                    Some(place) => *place = Some(entry),
                    None => self.entries.push(Some(entry)),
                }
            }
            PieceKind::Problem(problem) if self.problems.len() < MOST_PROBLEMS => {
                self.problems.push(problem);
            }
            PieceKind::Problem(_) => self.more += 1,
            PieceKind::Other(OtherLine::Remark) => {
                self.remark.get_or_insert(piece.line);
            }
            PieceKind::Other(OtherLine::Blank) => {}
            PieceKind::Other(_) => self.own = true,
        }
    }

    /// The gathered trace, without calls whose rest was not understood.
    pub(super) fn finish(mut self) -> Parsed {
        // User comments are only accepted between lines of strace's.
        let alone = self.entries.is_empty() && self.problems.is_empty() && !self.own;
        if let Some(line) = self.remark.filter(|_| alone) {
            self.problems.push(Problem {
                file: self.file.clone(),
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: 1,
                message: "expected a system call, a signal or an exit".to_owned(),
            });
        }
        if self.more > 0 {
            self.problems.push(Problem {
                file: self.file,
                line: u32::try_from(self.last_line).unwrap_or(u32::MAX),
                column: 1,
                message: format!("{} more lines were not understood", self.more),
            });
        }
        Parsed {
            trace: Trace::new(self.entries.into_iter().flatten().collect()),
            problems: self.problems,
        }
    }
}
