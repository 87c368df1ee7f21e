//! `rrapper events`.

use super::{Common, filter_args, output, recording_name};
use crate::history::{Filter, Found, Match, Recording};
use crate::inject::Selector;
use crate::strace;
use crate::trace::{Entry, Origin};
use crate::trace_report::{Object, abbreviate};
use anyhow::bail;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// The description of the output, for `--help`.
const FORMAT: &str = "\
Without -v, arguments are abbreviated as strace does: 32 bytes of a string, the
most important members of a structure, an address for an environment.

With --json, each line is an object as in `rrapper trace json` (see its --help),
with full arguments, and
  event    the event's number; the end of a task has none
  pid      the task
  process  its process";

/// The limit on listed processes.
const MOST_LISTED: usize = 20;

#[derive(clap::Args)]
#[command(after_long_help = FORMAT)]
pub(super) struct Args {
    /// The recording: a directory, a packed file, or a name such as `latest` or `cat-0` in the default place
    recording: PathBuf,
    /// Only these calls: a name, a list (read,write), a class (%file), or !name
    #[arg(long, value_name = "CALLS")]
    syscall: Option<String>,
    /// Only calls of this process or task
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
    /// Only calls that use a matching path, by name or by descriptor; a shell pattern
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only failed calls, or calls that failed with this errno
    #[arg(long, value_name = "ERRNO", num_args = 0..=1, require_equals = true)]
    failed: Option<Option<String>>,
    /// Only calls that use this descriptor
    #[arg(long, value_name = "N")]
    fd: Option<i32>,
    /// Only events from this number on
    #[arg(long, value_name = "EVENT")]
    from: Option<u64>,
    /// Only events up to this number
    #[arg(long, value_name = "EVENT")]
    to: Option<u64>,
    /// Only the nth of the selected events, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    nth: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let recording = Arc::clone(recording_name::open(&args.recording)?.recording());
    let printed = print(&recording, args, common)?;
    let status = output::finish(printed)?;
    if recording.exit().is_none() && !common.quiet {
        let last = recording.len();
        output::complain(format!(
            "the recording is incomplete: it ends at event {last}"
        ));
    }
    Ok(status)
}

fn filter(args: &Args) -> anyhow::Result<Filter> {
    let mut filter = Filter {
        pid: args.pid,
        fd: args.fd,
        from: args.from,
        to: args.to,
        nth: args.nth,
        ..Filter::default()
    };
    if let Some(text) = &args.syscall {
        let selector = Selector::parse(text)?;
        filter.calls = Some(Box::new(move |call| selector.matches(call)));
    }
    if let Some(text) = &args.path {
        filter.path = Some(filter_args::path(text)?);
    }
    filter.failed = filter_args::failed(args.failed.as_ref())?;
    Ok(filter)
}

/// Prints the lines. The outer error is that of the recording, the inner that of the output.
fn print(
    recording: &Arc<Recording>,
    args: &Args,
    common: &Common,
) -> anyhow::Result<io::Result<()>> {
    let width = recording.len().to_string().len();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut any = false;
    for met in recording.find_all(filter(args)?)? {
        any = true;
        let line = match (met?, args.json) {
            (met, true) => object(&met),
            (Match::Event(found), false) => {
                let mut line = format!("{:width$} {} ", found.number, found.event.tid).into_bytes();
                shown(&found, common.verbose, &mut line);
                line
            }
            (Match::Exit { tid, exit }, false) => {
                format!("{:width$} {tid} {exit}", "").into_bytes()
            }
        };
        if let Err(error) = out.write_all(&line).and_then(|()| out.write_all(b"\n")) {
            return Ok(Err(error));
        }
    }
    if let Some(pid) = args.pid.filter(|_| !any) {
        there_is(recording, pid)?;
    }
    Ok(out.flush())
}

/// Appends an event in strace's format.
fn shown(found: &Found, all: bool, line: &mut Vec<u8>) {
    let mut entry = found.event.to_entry(found.number);
    if all {
        line.extend_from_slice(entry.to_string().as_bytes());
        return;
    }
    if let (Entry::Call(call), Some(event)) = (&mut entry, found.event.call()) {
        abbreviate(call, &event.args);
        // The line has the task already.
        call.tid = 0;
        // A vector takes everything.
        let _ = strace::write_as_read(&entry, line);
    } else {
        line.extend_from_slice(entry.to_string().as_bytes());
    }
}

fn object(met: &Match) -> Vec<u8> {
    let object = match met {
        Match::Event(found) => {
            let entry = found.event.to_entry(found.number);
            let mut object = Object::of_entry(found.event.tid, &entry);
            object.number("event", found.number);
            object.number("process", found.pid);
            object
        }
        Match::Exit { tid, exit } => {
            let entry = Entry::Exit {
                tid: *tid,
                exit: *exit,
                origin: Origin::Made,
                line_info: None,
            };
            Object::of_entry(*tid, &entry)
        }
    };
    object.finish()
}

/// Fails where there is no such process or task.
fn there_is(recording: &Arc<Recording>, pid: i32) -> anyhow::Result<()> {
    let (mut pids, mut tids) = (BTreeSet::new(), BTreeSet::new());
    for met in recording.find_all(Filter::default())? {
        match met? {
            Match::Event(found) => {
                pids.insert(found.pid);
                tids.insert(found.event.tid);
            }
            Match::Exit { tid, .. } => {
                tids.insert(tid);
            }
        }
    }
    if pids.contains(&pid) || tids.contains(&pid) {
        return Ok(());
    }
    let listed = |all: &BTreeSet<i32>| {
        let shown = all.iter().take(MOST_LISTED).map(i32::to_string);
        let shown = shown.collect::<Vec<_>>().join(", ");
        match all.len().checked_sub(MOST_LISTED) {
            Some(more) if more > 0 => format!("{shown} and {more} more"),
            _ => shown,
        }
    };
    let threads: BTreeSet<i32> = tids.difference(&pids).copied().collect();
    let threads = match threads.is_empty() {
        true => String::new(),
        false => format!("; other tasks: {}", listed(&threads)),
    };
    bail!(
        "this recording has no process or task {pid}; processes: {}{threads}",
        listed(&pids)
    )
}
