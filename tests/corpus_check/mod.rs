//! The check of a trace, for the tests that have some.

use rrapper::strace::{self, Piece, PieceKind, Stream};
use rrapper::trace::{Origin, Trace};
use std::fmt;
use std::path::Path;

/// What traces held.
#[derive(Default)]
pub struct Counts {
    pub files: usize,
    pub bytes: usize,
    pub lines: usize,
    pub calls: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.calls += other.calls;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            files,
            bytes,
            lines,
            calls,
        } = self;
        write!(
            f,
            "{files} files, {bytes} bytes, {lines} lines, {calls} calls"
        )
    }
}

fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(400)].escape_ascii().to_string()
}

/// What is wrong with a piece, with the file, line and column.
fn wrong(piece: &Piece, name: &str) -> Option<String> {
    let problem = match (&piece.kind, piece.doubts.first()) {
        (PieceKind::Problem(problem), _) | (_, Some(problem)) => problem.to_string(),
        _ if piece.prints_back() => return None,
        _ => {
            let mut printed = Vec::new();
            piece
                .print(&mut printed)
                .expect("a vector takes everything");
            let line = piece.line;
            format!("{name}:{line}: is printed as {}", excerpt(&printed))
        }
    };
    Some(format!("{problem}\n    {}", excerpt(&piece.text)))
}

/// Checks a file: what it holds, and what is wrong.
pub fn check(file: &Path, name: &str) -> (Counts, Vec<String>) {
    let text = std::fs::read(file).expect("a readable file");
    let (mut complaints, mut printed) = (Vec::new(), Vec::with_capacity(text.len()));
    for piece in Stream::new(&*text, name) {
        let piece = piece.expect("memory can be read");
        complaints.extend(wrong(&piece, name));
        piece
            .print(&mut printed)
            .expect("a vector takes everything");
    }
    if complaints.is_empty() && printed != text {
        complaints.push(format!("{name}: the pieces in a row are not the text"));
    }
    let parsed = strace::parse(&text, name);
    if complaints.is_empty() {
        complaints.extend(same_after_printing(&parsed.trace, name));
    }
    let counts = Counts {
        files: 1,
        bytes: text.len(),
        lines: text.iter().filter(|byte| **byte == b'\n').count(),
        calls: parsed.trace.len(),
    };
    (counts, complaints)
}

/// What is different after printing in our way, without how it was written, and reading that.
fn same_after_printing(trace: &Trace, name: &str) -> Option<String> {
    let mut text = Vec::new();
    strace::write(trace, &mut text).expect("a vector takes everything");
    let again = strace::parse(&text, "printed");
    if let Some(problem) = again.problems.first() {
        return Some(format!("{name}: printed: {problem}"));
    }
    let made = |trace: &Trace| trace.clone().with_origin(&Origin::Made);
    let (first, second) = (made(trace), made(&again.trace));
    let mut pairs = first.entries().iter().zip(second.entries());
    if let Some((first, second)) = pairs.find(|(first, second)| first != second) {
        let (first, second) = (format!("{first:?}"), format!("{second:?}"));
        let at = first
            .bytes()
            .zip(second.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let near = |text: &str| excerpt(&text.as_bytes()[at.saturating_sub(60).min(text.len())..]);
        return Some(format!(
            "{name}: after printing and reading\n    {}\n    is {}",
            near(&first),
            near(&second)
        ));
    }
    (first.entries().len() != second.entries().len()).then(|| {
        let (n, m) = (first.entries().len(), second.entries().len());
        format!("{name}: {n} entries are {m} after printing and reading")
    })
}
