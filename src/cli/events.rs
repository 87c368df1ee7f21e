//! `rrapper events`.

use super::{Common, output, select};
use crate::inject::Selector;
use crate::recording::{Filter, Met, Recording, resolve};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The recording: a directory, a packed file, or a name such as `latest` or `cat-0` in the default place
    recording: PathBuf,
    /// Only these calls: a name, a list (read,write), a class (%file), or !name
    #[arg(long, value_name = "CALLS")]
    syscall: Option<String>,
    /// Only those of this process, or of this task
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
    /// Only calls about such a path, by name or by descriptor; a shell pattern
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only calls that failed, or that failed with this errno
    #[arg(long, value_name = "ERRNO", num_args = 0..=1, require_equals = true)]
    failed: Option<Option<String>>,
    /// Only calls about this descriptor
    #[arg(long, value_name = "N")]
    fd: Option<i32>,
    /// From this event on
    #[arg(long, value_name = "EVENT")]
    from: Option<u64>,
    /// Up to this event
    #[arg(long, value_name = "EVENT")]
    to: Option<u64>,
    /// Of those, only the nth, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    nth: Option<u64>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let recording = Arc::new(Recording::open(&resolve(&args.recording))?);
    let printed = print(&recording, args)?;
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
        filter.path = Some(select::path(text)?);
    }
    filter.failed = select::failed(args.failed.as_ref())?;
    Ok(filter)
}

/// Lines; what is wrong with the recording is the outer error, what is wrong with the output the inner.
fn print(recording: &Arc<Recording>, args: &Args) -> anyhow::Result<io::Result<()>> {
    let width = recording.len().to_string().len();
    let mut out = BufWriter::new(io::stdout().lock());
    for met in recording.find_all(filter(args)?)? {
        let line = match met? {
            Met::Event(found) => {
                let entry = found.event.to_entry(found.number);
                writeln!(out, "{:width$} {} {entry}", found.number, found.event.tid)
            }
            Met::Exit { tid, exit } => writeln!(out, "{:width$} {tid} {exit}", ""),
        };
        if line.is_err() {
            return Ok(line);
        }
    }
    Ok(out.flush())
}
