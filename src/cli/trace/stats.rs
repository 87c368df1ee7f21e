//! `rrapper trace stats`.

use super::{Selected, complain_of_lines};
use crate::cli::{Common, output};
use crate::constants;
use crate::strace::{OtherLine, PieceKind, Row, Tables};
use crate::trace_report::{CallCounts, Object, Stats};
use std::fmt::Write as _;
use std::time::Duration;

/// The counts are those of all files together.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Count by process or thread, too
    #[arg(long)]
    by_pid: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let mut stats = Stats::default();
    // Counts from tables of strace -c, without entries of calls.
    let mut told = Stats::default();
    for trace in args.selected.traces()? {
        let (mut source, mut filter) = trace?;
        let mut tables = Tables::default();
        let mut problems = 0;
        while let Some(piece) = source.next()? {
            match &piece.kind {
                PieceKind::Entry(entry)
                | PieceKind::Resumed(entry)
                | PieceKind::NeverResumed(entry) => {
                    let tid = source.tid(entry.tid());
                    if filter.next(tid, entry) {
                        stats.add(tid, entry);
                    }
                }
                PieceKind::Problem(_) => problems += 1,
                PieceKind::Unfinished { tid, name, args } => {
                    filter.begun(source.tid(*tid), name, args)
                }
                PieceKind::Other(OtherLine::Summary) => {
                    let row = tables.row(&piece.text);
                    let row = row.filter(|row| !row.total && filter.is_of_name(&row.name));
                    if let Some(row) = row {
                        told.add_counts(&row.name, counts(&row));
                    }
                }
                PieceKind::Other(_) => {}
            }
        }
        complain_of_lines(problems, &source, common);
    }
    let text = match args.json {
        true => json(&stats, &told, args.by_pid),
        false => text(&stats, &told, args.by_pid).into_bytes(),
    };
    output::finish(output::print(&text))
}

/// The counts of a table's row.
fn counts(row: &Row) -> CallCounts {
    let calls = row.calls.unwrap_or(0);
    let spent = row
        .seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    CallCounts {
        calls,
        errors: row.errors.unwrap_or(0),
        timed: spent.map_or(0, |_| calls.max(1)),
        spent: spent.unwrap_or_default(),
    }
}

/// The counts of a trace, and of the tables in it.
fn text(stats: &Stats, told: &Stats, by_pid: bool) -> String {
    let entries = stats.all.calls + stats.signals + stats.exits;
    let tables = (told.all.calls > 0).then(|| {
        let mut out = String::from("tables of strace -c\n");
        let names = told.by_name().into_iter();
        let names = names.map(|(name, counts)| (named(name).to_string(), counts));
        count_table(&mut out, &told.all, "call", names);
        out
    });
    match tables {
        Some(tables) if entries == 0 => tables,
        Some(tables) => format!("{}\n{tables}", table(stats, by_pid)),
        None => table(stats, by_pid),
    }
}

/// The name of the shared count where there are too many names.
const OTHERS: &str = "(others)";

fn named(name: &str) -> &str {
    if name.is_empty() { OTHERS } else { name }
}

fn errno(number: i32) -> String {
    match constants::errno_name(number) {
        Some(name) => name.to_string(),
        None => format!("errno {number}"),
    }
}

/// A duration in seconds.
fn seconds(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}

/// Rows of cells, each column as wide as its widest cell; numbers to the right, the last column to the left.
fn rows(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            // A string takes everything.
            let _ = match i + 1 == columns {
                true => write!(line, "{gap}{cell}"),
                false => write!(line, "{gap}{cell:>width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn count_table<'a>(
    out: &mut String,
    all: &CallCounts,
    title: &str,
    counts: impl Iterator<Item = (String, CallCounts)> + 'a,
) {
    let timed = all.timed > 0;
    let row = |counts: &CallCounts, name: String| {
        let mut row = Vec::new();
        if timed {
            let part = 100.0 * counts.spent.as_secs_f64() / all.spent.as_secs_f64().max(1e-9);
            row.push(format!("{part:.2}"));
            row.push(seconds(counts.spent));
            row.push(counts.mean().map_or_else(String::new, |mean| {
                format!("{:.1}", mean.as_secs_f64() * 1e6)
            }));
        }
        row.push(counts.calls.to_string());
        row.push(counts.errors.to_string());
        row.push(name);
        row
    };
    let mut table = Vec::new();
    let head: &[&str] = if timed {
        &["% time", "seconds", "us/call", "calls", "errors", title]
    } else {
        &["calls", "errors", title]
    };
    table.push(head.iter().map(|cell| (*cell).to_string()).collect());
    table.extend(counts.map(|(name, counts)| row(&counts, name)));
    table.push(row(all, "total".into()));
    rows(out, &table);
}

fn table(stats: &Stats, by_pid: bool) -> String {
    let mut out = String::new();
    let names = stats.by_name().into_iter();
    let names = names.map(|(name, counts)| (named(name).to_string(), counts));
    count_table(&mut out, &stats.all, "call", names);
    if by_pid {
        out.push('\n');
        let tasks = stats.by_task().into_iter().map(|(tid, counts)| match tid {
            -1 => (OTHERS.to_string(), counts),
            0 => ("unknown".to_string(), counts),
            tid => (tid.to_string(), counts),
        });
        count_table(&mut out, &stats.all, "pid", tasks);
    }
    let errnos = stats.by_errno();
    if !errnos.is_empty() {
        out.push('\n');
        let mut table = vec![vec!["errors".to_string(), "errno".to_string()]];
        table.extend(errnos.iter().map(|(e, n)| vec![n.to_string(), errno(*e)]));
        rows(&mut out, &table);
    }
    if stats.signals + stats.exits > 0 {
        let _ = writeln!(out, "\n{} signals, {} exits", stats.signals, stats.exits);
    }
    out
}

fn json(stats: &Stats, told: &Stats, by_pid: bool) -> Vec<u8> {
    let of_share = |object: &mut Object, counts: &CallCounts| {
        object.number("calls", counts.calls);
        object.number("errors", counts.errors);
        if counts.timed > 0 {
            object.number("seconds", format_args!("{:.9}", counts.spent.as_secs_f64()));
        }
    };
    let mut object = Object::default();
    of_share(&mut object, &stats.all);
    object.number("signals", stats.signals);
    object.number("exits", stats.exits);
    object.objects(
        "by_name",
        stats.by_name().into_iter().map(|(name, counts)| {
            let mut object = Object::default();
            object.text("name", named(name).as_bytes());
            of_share(&mut object, &counts);
            object
        }),
    );
    object.objects(
        "by_errno",
        stats.by_errno().into_iter().map(|(number, errors)| {
            let mut object = Object::default();
            object.text("errno", errno(number).as_bytes());
            object.number("errors", errors);
            object
        }),
    );
    if told.all.calls > 0 {
        let names = told.by_name().into_iter();
        let rows = names.map(|(name, counts)| {
            let mut object = Object::default();
            object.text("name", named(name).as_bytes());
            of_share(&mut object, &counts);
            object
        });
        object.objects("tables", rows);
    }
    if by_pid {
        object.objects(
            "by_pid",
            stats.by_task().into_iter().map(|(tid, counts)| {
                let mut object = Object::default();
                object.number("pid", tid);
                of_share(&mut object, &counts);
                object
            }),
        );
    }
    let mut text = object.finish();
    text.push(b'\n');
    text
}
