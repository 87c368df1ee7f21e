//! `rrapper trace`: reads traces that strace wrote.

mod check;
mod filter;
mod json;
mod print;
mod stats;

use super::{Common, output};
use crate::strace::{OtherLine, Piece, PieceKind, Stream};
use crate::trace_report::Filter;
use anyhow::Context;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The exit status where a line was not understood.
const NOT_UNDERSTOOD: i32 = 1;

#[derive(clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check that traces are understood: prints counts, and each line that is not. Exit status 1 if there is one
    Check(check::Args),
    /// Print traces as they were read, or the entries that a filter selects
    Print(print::Args),
    /// Print traces as JSON, one object per line
    Json(json::Args),
    /// Count calls and errors, and sum up times where the trace has them (`strace -T`)
    Stats(stats::Args),
}

#[derive(clap::Args)]
#[group(skip)]
struct Files {
    /// Traces written by strace, with any of its options; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// The files to read, and the filter.
#[derive(clap::Args)]
#[group(skip)]
struct Selected {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    filter: filter::Args,
}

impl Selected {
    /// The traces, each with a filter. Mistakes in the options are reported before any file is read.
    fn traces(&self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(Source, Filter)>>> {
        self.filter.filter()?;
        let files = self.files.files.iter();
        Ok(files.map(|path| Ok((Source::open(path)?, self.filter.filter()?))))
    }
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    match &args.command {
        Command::Check(args) => check::run(args),
        Command::Print(args) => print::run(args),
        Command::Json(args) => json::run(args, common),
        Command::Stats(args) => stats::run(args, common),
    }
}

/// An open trace.
struct Source {
    /// The name, for messages.
    name: String,
    /// The task of the whole file, where the name has it (`strace -ff -o NAME` writes `NAME.PID`); else 0.
    tid: i32,
    stream: Stream<Box<dyn BufRead>>,
    /// Whether any line is strace's.
    own: bool,
    /// Whether any line is a user comment.
    remarks: bool,
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Source> {
        let (name, reader): (String, Box<dyn BufRead>) = if path == "-" {
            ("<stdin>".into(), Box::new(io::stdin().lock()))
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot read the trace {name}"))?;
            (name, Box::new(BufReader::with_capacity(1 << 16, file)))
        };
        let pid = path.extension().and_then(OsStr::to_str);
        Ok(Source {
            tid: pid.and_then(|pid| pid.parse().ok()).unwrap_or(0),
            stream: Stream::new(reader, &name),
            name,
            own: false,
            remarks: false,
        })
    }

    fn next(&mut self) -> anyhow::Result<Option<Piece>> {
        let next = self.stream.next().transpose()?;
        match next.as_ref().map(|piece| &piece.kind) {
            Some(PieceKind::Other(OtherLine::Remark)) => self.remarks = true,
            None | Some(PieceKind::Other(OtherLine::Blank) | PieceKind::Problem(_)) => {}
            Some(_) => self.own = true,
        }
        Ok(next)
    }

    /// Whether the text so far has user comments and no line of strace's.
    fn is_foreign(&self) -> bool {
        self.remarks && !self.own
    }

    /// The task of an entry: the line's, else that of the file's name.
    fn tid(&self, of_line: i32) -> i32 {
        match of_line {
            0 => self.tid,
            tid => tid,
        }
    }
}

/// The longest part of a line in messages, in bytes.
const EXCERPT: usize = 200;

/// A line for messages: cut, and without control characters.
fn excerpt(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let cut = text.len() > EXCERPT;
    let mut out = String::new();
    for byte in text.iter().take(EXCERPT) {
        match byte {
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&byte.escape_ascii().to_string()),
        }
    }
    if cut {
        out.push_str("...");
    }
    out
}

/// The message about a text that is no trace.
const FOREIGN: &str = "no line of this is strace's";

/// Warns of lines that a filter or a table omits silently.
fn complain_of_lines(lines: u64, source: &Source, common: &Common) {
    let name = &source.name;
    if common.quiet {
        return;
    }
    if source.is_foreign() {
        output::complain(format!("{name}: {FOREIGN} (see rrapper trace check)"));
    } else if lines > 0 {
        let (lines, verb) = match lines {
            1 => ("1 line".to_string(), "was"),
            n => (format!("{n} lines"), "were"),
        };
        output::complain(format!(
            "{name}: {lines} {verb} not understood (see rrapper trace check)"
        ));
    }
}
