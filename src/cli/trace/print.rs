//! `rrapper trace print`.

use super::{NOT_UNDERSTOOD, Selected, Source, excerpt};
use crate::cli::output;
use crate::strace::{OtherLine, Piece, PieceKind};
use crate::trace::{Entry, Origin};
use crate::trace_report::Filter;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

/// Without filters, this is byte for byte what was read. With filters, only what matches is printed, with the
/// stacks and dumps that belong to it; the first part of an interrupted call is printed with its second part.
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

/// The line that an entry begins on.
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
    /// The first parts of calls that have begun, by line, since a call may end under another pid: whether they are
    /// wanted is known when they end.
    begun: HashMap<u64, Vec<u8>>,
    /// Whether the last entry was printed: what lies below it belongs to it.
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

    /// Prints a trace, up to the first line that is not understood if that counts: then what to say of it.
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
