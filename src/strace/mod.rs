//! strace's text to a [`Trace`], and a [`Trace`] to strace's text.
//!
//! Reads what strace of versions 4 to 7 writes, whatever its options, byte by byte: UTF-8 is not assumed. A
//! [`Stream`] gives the text piece by piece, and each [`Piece`] prints back what was read, from what it was understood
//! as: how a value is written is kept where it differs from how we would write it ([`Value::Written`]), and
//! what is around the values is kept as [remarks](crate::trace::LineInfo). [`parse`], [`load`] and [`Reader`] make a
//! [`Trace`] of the pieces.
//!
//! What is not understood inside an argument is kept as [`Value::Raw`], and doubted; a line that is not
//! understood as a whole is a [`Problem`] and does not stop the rest. Whoever wants to be strict stops at the first of
//! either. Time and memory are linear in the text, and the memory of a stream is bounded, whatever it holds.
//!
//! People paste traces: lines may be indented or quoted (`pasted`), have remarks between them and behind them (`user_comments`
//! says what is one, and what is a call that is not understood), and break off at the end (`truncation`). Other programs write
//! into calls that wait (`blocked_calls`). A text of remarks alone is no trace, and a problem.
//!
//! From the outside in: `stream` reads lines; `assemble` and `incomplete_calls` make pieces of them, with what
//! `unfinished` remembers and what `source_line` takes apart; `line_grammar`, `prefix` and `result_grammar` know
//! lines, `summary` the tables of `-c`; `value`, `scalar` and `set` values; `tokens` the smallest pieces.
//!
//! This module knows nothing of processes, nor of what arguments mean to a call.

mod assemble;
mod blocked_calls;
mod context;
mod escape;
mod incomplete_calls;
mod line_grammar;
mod other_lines;
mod pasted;
mod prefix;
mod print;
mod program_output;
mod reader;
mod result_grammar;
mod scalar;
mod set;
mod source_line;
mod stream;
mod summary;
mod symbol;
mod tokens;
mod truncation;
mod unfinished;
mod user_comments;
mod value;
mod verbatim;

pub use print::write;
pub use reader::Reader;
pub use stream::{OtherLine, Piece, PieceKind, Stream};
pub use summary::{Row, Tables};
pub use verbatim::write_as_read;

use crate::trace::{Entry, Trace, Value};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest line that [`load`] takes, in bytes.
pub const LONGEST_LINE: u64 = 64 << 20;

/// A place in a text that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The byte in that line, from 1.
    pub column: u32,
    /// What was expected there.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            file,
            line,
            column,
            message,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// What a text says, and where it was not understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// What was understood.
    pub trace: Trace,
    /// What was not, in the order of reading. Of more than 10,000, the last one says how many there are.
    pub problems: Vec<Problem>,
}

/// Why a trace could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read the trace {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A line is longer than [`LONGEST_LINE`].
    #[error("{}:{line}: this line is longer than 64 MiB", path.display())]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
    },
}

/// Reads a text that is in memory; `file` is its name in messages.
pub fn parse(text: &[u8], file: &str) -> Parsed {
    // Reading from memory does not fail.
    gather(Stream::new(text, file), file).unwrap_or_default()
}

/// Reads a file, line by line.
///
/// # Errors
///
/// Where it cannot be opened or read, or has a line longer than [`LONGEST_LINE`].
pub fn load(path: &Path) -> Result<Parsed, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let text = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let stream = Stream::new(text, &path.display().to_string());
    gather(stream, &path.display().to_string()).map_err(|error| match error {
        // A path that is no UTF-8 is not what the stream is called.
        Error::Io { source, .. } => failed(source),
        Error::LongLine { line, .. } => Error::LongLine {
            path: path.to_owned(),
            line,
        },
    })
}

fn gather(stream: Stream<impl BufRead>, file: &str) -> Result<Parsed, Error> {
    let mut gathered = reader::Gathered::new(file);
    for piece in stream {
        let piece = piece?;
        if piece.text.len() as u64 > LONGEST_LINE && matches!(piece.kind, PieceKind::Problem(_)) {
            return Err(Error::LongLine {
                path: PathBuf::from(file),
                line: u32::try_from(piece.line).unwrap_or(u32::MAX),
            });
        }
        gathered.take(piece);
    }
    Ok(gathered.finish())
}

/// Reads a single line: `None` where it says nothing about what the program did (an empty line, a message of
/// strace's).
///
/// # Errors
///
/// What was not understood, with the column.
pub fn line(text: &[u8]) -> Result<Option<Entry>, Problem> {
    let mut reader = Reader::new("<line>");
    reader.line(text);
    let mut parsed = reader.finish_whole();
    match parsed.problems.pop() {
        Some(problem) => Err(problem),
        None => Ok(parsed.trace.entries().first().cloned()),
    }
}

/// Reads a single value in strace's syntax: `S_IFIFO|0644`, `{tv_sec=1, tv_nsec=0}`, `"abc\0"`.
///
/// # Errors
///
/// Where it is not understood, or something follows it.
pub fn value_from_text(text: &str) -> Result<Value, String> {
    let wrong =
        |at: usize, what: &str| format!("`{text}` is no value: at byte {at}, expected {what}");
    match value::value(&mut context::Context::default(), text.as_bytes()) {
        Ok(([], found)) if matches!(found.meaning(), Value::Raw(_)) => Err(wrong(
            1,
            "a number, a constant, a string, an array or a structure",
        )),
        Ok(([], value)) => Ok(value),
        Ok((rest, _)) => Err(wrong(text.len() - rest.len() + 1, "the end")),
        Err(nom::Err::Error(e) | nom::Err::Failure(e)) => {
            Err(wrong(text.len() - e.at.len() + 1, e.what))
        }
        Err(nom::Err::Incomplete(_)) => Err(wrong(text.len() + 1, "more")),
    }
}
