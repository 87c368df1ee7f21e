//! Conversion of strace's text to a [`Trace`], and of a [`Trace`] to strace's text.
//!
//! The parser reads the output of strace 4 to 7 with any options, byte by byte: UTF-8 is not assumed. A [`Stream`]
//! yields the text piece by piece, and each [`Piece`] prints back exactly the text that was read: the spelling of a
//! value is kept where it differs from ours ([`Value::Written`]), and the text around the values is kept as [line
//! info](crate::trace::LineInfo). [`parse`], [`load`] and [`Reader`] collect the pieces in a [`Trace`].
//!
//! Text within an argument that is not understood is kept as [`Value::Raw`] with a doubt; a line that is not understood
//! as a whole is a [`Problem`] and does not stop the rest. A strict caller stops at the first of either. Time and
//! memory are linear in the text, and the memory of a stream is bounded for any input.
//!
//! Pasted traces are accepted: lines may be indented or quoted (`pasted`), have user comments between and behind them
//! (`user_comments` tells these from calls that are not understood), and the text may be truncated (`truncation`).
//! Other programs may write into calls that block (`blocked_calls`). A text of user comments alone is no trace, and a
//! problem.
//!
//! From the outside in: `lines` reads lines and makes pieces of them (calls in two parts, foreign text in lines, tables,
//! the end of the text), `grammar` parses a single line and the values in it. `print` writes strace's spelling,
//! `verbatim` that of the source text.
//!
//! This module knows neither processes nor the meaning of arguments to a call.

mod grammar;
mod lines;
mod print;
mod reader;
mod verbatim;

pub use grammar::other_lines::OtherLine;
pub use lines::stream::{Piece, PieceKind, Stream};
pub use lines::summary::{Row, Tables};
pub use print::write;
pub use reader::Reader;
pub use verbatim::write_as_read;

use crate::trace::{Entry, Trace, Value};
use grammar::{context, value};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest line that [`load`] accepts, in bytes.
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
    /// The expected syntax.
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

/// The result of parsing a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The entries that were understood.
    pub trace: Trace,
    /// The problems, in the order of reading. Of more than 10,000, the last one has the number of all.
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
        /// The operating system's error.
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
/// If the file cannot be opened or read, or has a line longer than [`LONGEST_LINE`].
pub fn load(path: &Path) -> Result<Parsed, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let text = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let stream = Stream::new(text, &path.display().to_string());
    gather(stream, &path.display().to_string()).map_err(|error| match error {
        // The stream's name is lossy where the path is no UTF-8.
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

/// Reads a single line: `None` where it has no entry (an empty line, a message of strace's).
///
/// # Errors
///
/// If the line is not understood; the error has the column.
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
/// If the value is not understood, or something follows it.
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
