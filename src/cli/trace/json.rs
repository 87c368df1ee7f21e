//! `rrapper trace json`.

use super::{NOT_UNDERSTOOD, Selected, Source, complain_of_lines, excerpt};
use crate::cli::{Common, output};
use crate::strace::{OtherLine, Piece, PieceKind, Problem, Row, Tables};
use crate::trace_report::{Filter, Object};
use std::io::{self, BufWriter, Write};

/// The format, for `--help`.
const FORMAT: &str = "\
Each line is an object. Its \"type\" determines its other members; unknown
members are omitted.

call     line, pid, name, args, result, errno, notes: the call, on the line
         where it began; a call in two parts is printed with its end.
         \"result\" is null where the call did not return; \"errno\" is a name
         (or a number without one) where it failed; \"restart\" is the
         kernel's code where it is restarted; \"notes\" is the text in
         parentheses behind the result
signal   line, pid, name, signal (its number), info
exit     line, pid, status; or name, signal, core
problem  line, column, message, text: a line that is not understood
message, stack, dump, stopped, superseded, overlong, orphan (the end of a call
         without its beginning), remark (a user's comment in the trace),
         output (of other programs, within a blocked call), cut (a truncated
         last line)
         line, text: a line without an entry
summary  line, text: a line of a table of strace -c. A row has name (or
         \"total\": true), calls, errors, seconds and the other columns by
         their titles: \"percent\", \"usecs_per_call\", ...; \"mode\" where each
         personality has a table

Where the trace has them: time (seconds since 1970), clock (seconds since
midnight), since (seconds since the line before), spent (seconds), command,
context, number (the call's), address (of the instruction), and \"injected\",
\"poked\", \"delayed\" and \"cut\" (the trace ends in it), which are true. A call
with arguments that are not understood has \"doubts\": an array of objects with
line, column, message.

Values: a number is a number, NULL is null, a string is a string. Also
  {\"text\": ..., \"cut\": true}        a string that strace cut
  {\"hex\": \"00ff\"}                   a string whose bytes are no UTF-8
  {\"address\": \"0x7f\"}               a number written in hexadecimal
  {\"octal\": \"644\", \"value\": 420}   a number written in octal
  {\"fd\": 3, \"path\": ...}            a descriptor; -100 is AT_FDCWD
  {\"symbol\": \"O_RDONLY\", \"value\": 0}
                                     without a value where it is unknown
  [...], or {\"array\": [...], \"cut\": true}
  {\"struct\": {...}, \"cut\": true}    members without a name, or with a
                                     repeated one, are named #0, #1, ... after
                                     their positions
  {\"set\": [...], \"negated\": true}
  {\"before\": ..., \"after\": ...}     a value changed by the kernel
  {\"raw\": ...}                       text that is not understood";

#[derive(clap::Args)]
#[command(after_long_help = FORMAT)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Stop at the first line that is not understood, with exit status 1
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for trace in args.selected.traces()? {
        let (mut source, mut filter) = trace?;
        let mut tables = Tables::default();
        let mut problems = 0;
        while let Some(piece) = source.next()? {
            let problem = problem(&piece);
            if let Some(problem) = problem.filter(|_| args.strict) {
                output::finish(out.flush())?;
                output::complain(format!("{problem}: {}", excerpt(&piece.text)));
                return Ok(NOT_UNDERSTOOD);
            }
            problems += u64::from(problem.is_some());
            if let Some(object) = object(&source, &piece, &mut filter, &mut tables) {
                let mut line = object.finish();
                line.push(b'\n');
                if let Err(error) = out.write_all(&line) {
                    return output::finish(Err(error));
                }
            }
        }
        if let Err(error) = out.flush() {
            return output::finish(Err(error));
        }
        complain_of_lines(problems, &source, common);
    }
    Ok(0)
}

fn problem(piece: &Piece) -> Option<&Problem> {
    match &piece.kind {
        PieceKind::Problem(problem) => Some(problem),
        _ => piece.doubts.first(),
    }
}

/// The object of a piece; `None` where it is not selected, or is part of another object.
fn object(
    source: &Source,
    piece: &Piece,
    filter: &mut Filter,
    tables: &mut Tables,
) -> Option<Object> {
    let all = filter.is_all();
    match &piece.kind {
        PieceKind::Entry(entry) | PieceKind::Resumed(entry) | PieceKind::NeverResumed(entry) => {
            let tid = source.tid(entry.tid());
            let mut object = filter
                .next(tid, entry)
                .then(|| Object::of_entry(tid, entry))?;
            if !piece.doubts.is_empty() {
                object.objects("doubts", piece.doubts.iter().map(doubt));
            }
            Some(object)
        }
        PieceKind::Unfinished { tid, name, args } => {
            filter.begun(source.tid(*tid), name, args);
            None
        }
        PieceKind::Other(OtherLine::Blank) => None,
        PieceKind::Other(other) => all.then(|| {
            let mut object = Object::of_type(name(*other));
            object.number("line", piece.line);
            text(&mut object, piece);
            if *other == OtherLine::Summary
                && let Some(row) = tables.row(&piece.text)
            {
                cells(&mut object, &row);
            }
            object
        }),
        PieceKind::Problem(problem) => all.then(|| {
            let mut object = Object::of_type("problem");
            place(&mut object, problem);
            text(&mut object, piece);
            object
        }),
    }
}

/// Adds the cells of a table's row.
fn cells(object: &mut Object, row: &Row) {
    match row.total {
        true => object.number("total", true),
        false => object.text("name", row.name.as_bytes()),
    }
    if let Some(mode) = &row.mode {
        object.text("mode", mode.as_bytes());
    }
    for (title, cell) in &row.cells {
        let name = match title.as_str() {
            "% time" => "percent".to_owned(),
            "usecs/call" => "usecs_per_call".to_owned(),
            "errs" => "errors".to_owned(),
            other => other.replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        };
        let number = cell.replace(',', ".");
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => object.number(&name, value),
            _ => object.text(&name, cell.as_bytes()),
        }
    }
}

fn doubt(problem: &Problem) -> Object {
    let mut object = Object::default();
    place(&mut object, problem);
    object
}

fn place(object: &mut Object, problem: &Problem) {
    object.number("line", problem.line);
    object.number("column", problem.column);
    object.text("message", problem.message.as_bytes());
}

fn text(object: &mut Object, piece: &Piece) {
    let text = piece.text.strip_suffix(b"\n").unwrap_or(&piece.text);
    object.text("text", text);
}

fn name(other: OtherLine) -> &'static str {
    match other {
        OtherLine::Blank | OtherLine::Message => "message",
        OtherLine::Stopped => "stopped",
        OtherLine::Superseded => "superseded",
        OtherLine::Stack => "stack",
        OtherLine::Dump => "dump",
        OtherLine::Summary => "summary",
        OtherLine::Orphan => "orphan",
        OtherLine::Overlong => "overlong",
        OtherLine::Remark => "remark",
        OtherLine::Output => "output",
        OtherLine::Truncated => "cut",
    }
}
