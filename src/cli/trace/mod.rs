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

/// Exit status where something was not understood.
const NOT_UNDERSTOOD: i32 = 1;

#[derive(clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say whether traces are understood: counts, and each line that is not. Exit status 1 if there is any
    Check(check::Args),
    /// Print traces as they were read, or what a filter leaves of them
    Print(print::Args),
    /// Print traces as JSON, an object a line
    Json(json::Args),
    /// Count calls and errors, and add up times where the trace has them (`strace -T`)
    Stats(stats::Args),
}

#[derive(clap::Args)]
#[group(skip)]
struct Files {
    /// Files that strace wrote, with any of its options; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What is read, and what of it is meant.
#[derive(clap::Args)]
#[group(skip)]
struct Selected {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    filter: filter::Args,
}

impl Selected {
    /// The traces, each with a filter of its own. Mistakes in the options come before anything is read.
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

/// A trace that is read.
struct Source {
    /// The name, for messages.
    name: String,
    /// The task that all of it is about, where the name says so (`strace -ff -o NAME` writes `NAME.PID`); else 0.
    tid: i32,
    stream: Stream<Box<dyn BufRead>>,
    /// Whether anything in it is strace's.
    own: bool,
    /// Whether anything in it is somebody's remark.
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

    /// Whether it has text, and none of it is strace's, as far as it was read. Where some is, the rest is remarks.
    fn is_foreign(&self) -> bool {
        self.remarks && !self.own
    }

    /// The task that something is about: what the line says, else what the file's name says.
    fn tid(&self, of_line: i32) -> i32 {
        match of_line {
            0 => self.tid,
            tid => tid,
        }
    }
}

/// The longest part of a line in messages, in bytes.
const EXCERPT: usize = 200;

/// A line for messages: cut, and nothing in it that a terminal would obey.
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

/// What to say of a text that is no trace.
const FOREIGN: &str = "no line of this is strace's";

/// Complains of what a filter or a table leaves out without a word.
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
