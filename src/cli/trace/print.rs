//! `rrapper trace print`.

use super::{NOT_UNDERSTOOD, Selected, Source, excerpt};
use crate::cli::output;
use crate::strace::{OtherLine, Piece, PieceKind};
use crate::trace::{Entry, Origin};
use crate::trace_report::Filter;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

/// Without filters, the output is the input, byte for byte. With filters, only matching entries are printed, with their
/// stacks and dumps; the first part of an unfinished call is printed with its second part.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Stop at the first line that is not understood, with exit status 1
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for trace in args.selected.traces()? {
        let (source, filter) = trace?;
        let mut printer = Printer::new(filter, args.strict);
        match printer.print(source, &mut out)? {
            Ok(None) => {}
            Ok(Some(complaint)) => {
                output::finish(out.flush())?;
                output::complain(complaint);
                return Ok(NOT_UNDERSTOOD);
            }
            Err(error) => return output::finish(Err(error)),
        }
    }
    output::finish(out.flush())
}

/// The line on which an entry begins.
fn line(entry: &Entry) -> Option<u64> {
    match entry.origin() {
        Origin::Text { line, .. } => Some(u64::from(*line)),
        _ => None,
    }
}

struct Printer {
    filter: Filter,
    all: bool,
    strict: bool,
    /// The first parts of unfinished calls by line, since a call may be resumed under another pid: the filter decides
    /// when they are resumed.
    begun: HashMap<u64, Vec<u8>>,
    /// Whether the last entry was printed: its stack and dumps follow it.
    wanted: bool,
}

impl Printer {
    fn new(filter: Filter, strict: bool) -> Printer {
        Printer {
            all: filter.is_all(),
            filter,
            strict,
            begun: HashMap::new(),
            wanted: false,
        }
    }

    /// Prints a trace, up to the first line that is not understood if `strict`; returns the message about it.
    fn print(
        &mut self,
        mut source: Source,
        out: &mut impl Write,
    ) -> anyhow::Result<io::Result<Option<String>>> {
        while let Some(piece) = source.next()? {
            let problem = match &piece.kind {
                PieceKind::Problem(problem) => Some(problem),
                _ => piece.doubts.first(),
            };
            if let Some(problem) = problem.filter(|_| self.strict) {
                return Ok(Ok(Some(format!("{problem}: {}", excerpt(&piece.text)))));
            }
            if let Err(error) = self.piece(&source, piece, out) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(None))
    }

    fn piece(&mut self, source: &Source, piece: Piece, out: &mut impl Write) -> io::Result<()> {
        if self.all {
            return piece.print(out);
        }
        match &piece.kind {
            PieceKind::Unfinished { tid, name, args } => {
                self.filter.begun(source.tid(*tid), name, args);
                self.begun.insert(piece.line, piece.text);
                Ok(())
            }
            PieceKind::Entry(entry)
            | PieceKind::Resumed(entry)
            | PieceKind::NeverResumed(entry) => {
                let first = match piece.kind {
                    PieceKind::Entry(_) => None,
                    _ => line(entry).and_then(|line| self.begun.remove(&line)),
                };
                self.wanted = self.filter.next(source.tid(entry.tid()), entry);
                if !self.wanted {
                    return Ok(());
                }
                out.write_all(&first.unwrap_or_default())?;
                piece.print(out)
            }
            PieceKind::Other(OtherLine::Stack | OtherLine::Dump) if self.wanted => piece.print(out),
            PieceKind::Other(_) | PieceKind::Problem(_) => Ok(()),
        }
    }
}
