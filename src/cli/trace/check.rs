//! `rrapper trace check`.

use super::{FOREIGN, Files, NOT_UNDERSTOOD, Source, excerpt};
use crate::cli::{FAILED, output, sentence};
use crate::strace::{OtherLine, Piece, PieceKind};
use crate::trace::{Entry, Value};
use std::io::{self, BufWriter, Write};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: Files,
    /// Stop at the first line that is not understood
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    for path in &args.files.files {
        match Source::open(path).and_then(|source| check(source, args.strict, &mut out)) {
            Ok(Ok(counts)) if counts.not_understood > 0 || counts.foreign => {
                status = status.max(NOT_UNDERSTOOD);
                if args.strict {
                    break;
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return output::finish(Err(error)),
            Err(error) => {
                // The output for earlier files comes first.
                if let Err(error) = out.flush() {
                    return output::finish(Err(error));
                }
                output::complain(sentence(&error));
                status = FAILED;
            }
        }
    }
    output::finish(out.flush())?;
    Ok(status)
}

#[derive(Default)]
struct Counts {
    lines: u64,
    calls: u64,
    signals: u64,
    exits: u64,
    others: u64,
    not_understood: u64,
    unknown: u64,
    /// Whether no line is strace's.
    foreign: bool,
}

/// Checks a trace. The outer error is that of reading, the inner that of the output.
fn check(
    mut source: Source,
    strict: bool,
    out: &mut impl Write,
) -> anyhow::Result<io::Result<Counts>> {
    let mut counts = Counts::default();
    while let Some(piece) = source.next()? {
        counts.add(&piece);
        if let Some(place) = wrong(&piece, &source.name) {
            counts.not_understood += 1;
            if let Err(error) = writeln!(out, "{place}\n    {}", excerpt(&piece.text)) {
                return Ok(Err(error));
            }
            if strict {
                break;
            }
        } else if let Some(line) = cut(&piece)
            && let Err(error) = writeln!(
                out,
                "{}:{line}: cut: the text ends in this line",
                source.name
            )
        {
            return Ok(Err(error));
        }
    }
    counts.foreign = source.is_foreign();
    if counts.foreign
        && let Err(error) = writeln!(out, "{}: {FOREIGN}", source.name)
    {
        return Ok(Err(error));
    }
    Ok(counts.print(&source.name, out).map(|()| counts))
}

/// The line in which the text is truncated, if it is. That is no mistake.
fn cut(piece: &Piece) -> Option<u64> {
    match &piece.kind {
        PieceKind::NeverResumed(entry)
            if entry.line_info().is_some_and(|line_info| line_info.cut) =>
        {
            Some(piece.line)
        }
        PieceKind::Other(OtherLine::Truncated) => Some(piece.line),
        _ => None,
    }
}

/// The problem of a piece: `FILE:LINE:COLUMN: MESSAGE`.
fn wrong(piece: &Piece, name: &str) -> Option<String> {
    match (&piece.kind, piece.doubts.first()) {
        (PieceKind::Problem(problem), _) | (_, Some(problem)) => Some(problem.to_string()),
        _ if piece.prints_back() => None,
        _ => {
            let mut printed = Vec::new();
            // A vector takes everything.
            let _ = piece.print(&mut printed);
            let same = printed.iter().zip(&piece.text);
            let column = 1 + same.take_while(|(a, b)| a == b).count();
            let line = piece.line;
            Some(format!(
                "{name}:{line}:{column}: this would not be printed as it is written"
            ))
        }
    }
}

impl Counts {
    fn add(&mut self, piece: &Piece) {
        let whole = piece.text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let part = piece.text.last().is_some_and(|byte| *byte != b'\n');
        self.lines += whole + u64::from(part);
        match &piece.kind {
            PieceKind::Entry(entry)
            | PieceKind::Resumed(entry)
            | PieceKind::NeverResumed(entry) => self.entry(entry),
            PieceKind::Other(_) => self.others += 1,
            PieceKind::Unfinished { .. } | PieceKind::Problem(_) => {}
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Call(call) => {
                self.calls += 1;
                let notes = call.notes.iter().map(|note| &note.value);
                self.unknown += call.args.iter().chain(notes).map(unknown).sum::<u64>();
            }
            Entry::Signal { info, .. } => {
                self.signals += 1;
                self.unknown += unknown(info);
            }
            Entry::Exit { .. } => self.exits += 1,
        }
    }

    fn print(&self, name: &str, out: &mut impl Write) -> io::Result<()> {
        let Counts {
            lines,
            calls,
            signals,
            exits,
            others,
            not_understood,
            unknown,
            foreign: _,
        } = self;
        writeln!(
            out,
            "{name}: {lines} lines, {calls} calls, {signals} signals, {exits} exits, {others} asides, \
             {not_understood} not understood; {unknown} constants without a known value"
        )
    }
}

/// The number of constants with unknown values: they are no mistakes, but cannot be written to a program's memory.
fn unknown(value: &Value) -> u64 {
    match value.meaning() {
        Value::Sym { value: None, .. } => 1,
        Value::Array { items, .. } => items.iter().map(unknown).sum(),
        Value::Struct { fields, .. } => fields.iter().map(|field| unknown(&field.value)).sum(),
        Value::Change { before, after } => unknown(before) + unknown(after),
        _ => 0,
    }
}
