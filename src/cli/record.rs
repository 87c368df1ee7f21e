//! `rrapper record`.

use super::interrupt::Interrupts;
use super::{Common, output};
use crate::lua::Watch as _;
use crate::record::{self, OnFull, Program};
use crate::recording::{default_dir, mark_latest};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory for the recording [default: $XDG_DATA_HOME/rrapper/NAME-N]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What to do when the disk is full: end the program, or let it go on unrecorded
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = on_full)]
    on_full: OnFull,
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

fn on_full(text: &str) -> Result<OnFull, &'static str> {
    match text {
        "stop" => Ok(OnFull::Stop),
        "continue" => Ok(OnFull::Continue),
        _ => Err("it is stop or continue"),
    }
}

pub(super) fn run(args: Args, common: &Common) -> anyhow::Result<i32> {
    let shown: Vec<_> = args
        .command
        .iter()
        .map(|arg| arg.to_string_lossy())
        .collect();
    let shown = output::plain(&shown.join(" "));
    let program = Program {
        argv: args.command,
        ..Program::default()
    };
    let name = program.name();
    let command = program.command()?;
    let dir = match &args.output {
        Some(dir) => dir.clone(),
        None => default_dir(&name)?,
    };
    let interrupts = Interrupts::listen(common.quiet);
    let (starting, there) = (interrupts.clone(), dir.clone());
    let result = record::record(record::Options {
        command,
        dir,
        on_full: args.on_full,
        on_start: Some(Box::new(move |pid| starting.started(pid, &there))),
        observer: None,
    });
    // The program has ended as it did; so do we, whatever signal there was.
    interrupts.forget();
    let recorded = result?;
    if args.output.is_none() {
        mark_latest(&recorded.dir);
    }
    if let Some(lost) = &recorded.lost {
        let (events, dir) = (recorded.events, recorded.dir.display());
        output::complain(format!(
            "{lost}; the program went on unrecorded, and the recording up to event {events} is in {dir}"
        ));
    } else if !common.quiet {
        let (events, dir) = (recorded.events, recorded.dir.display());
        output::complain(format!("recorded {events} events of \"{shown}\" in {dir}"));
    }
    Ok(output::end_as(recorded.exit))
}
