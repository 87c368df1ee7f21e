//! `rrapper record`.

use super::{Common, interrupt, output};
use crate::record::{self, Discard, Front, KeptFiles, OnFull, Program};
use crate::recording::{KeptLimits, mark_latest, new_directory, size_of_text};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory for the recording [default: $XDG_DATA_HOME/rrapper/NAME-N]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// On a full disk: stop ends the program, continue lets it run unrecorded
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = on_full)]
    on_full: OnFull,
    /// Record until the last process ends rather than the program: daemons, background jobs
    #[arg(long)]
    wait_all: bool,
    /// Files whose content before the recording is kept, for live continuations: touched (also those that it reads), written
    /// or none
    #[arg(long, value_name = "WHICH", default_value = "touched", value_parser = kept)]
    world: KeptFiles,
    /// Run the program in a copy-on-write sandbox: what it changes of the machine's files is forgotten
    #[arg(long)]
    discard: bool,
    /// With --discard: a command for sh -c, run in the sandbox before the program and not recorded; may be given several times
    #[arg(long, value_name = "CMD", requires = "discard")]
    setup: Vec<OsString>,
    /// With --discard: the machine's network, instead of a loopback of its own
    #[arg(long, requires = "discard")]
    network: bool,
    /// The limit on the bytes on disk of one of them, as 512M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    world_file_limit: Option<u64>,
    /// The limit on the bytes on disk of all of them [default: 256M for one, 2G for all]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    world_limit: Option<u64>,
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

fn kept(text: &str) -> Result<KeptFiles, String> {
    KeptFiles::named(text).ok_or_else(|| format!("it is {}", KeptFiles::NAMES.join(", ")))
}

fn size(text: &str) -> Result<u64, &'static str> {
    size_of_text(text).ok_or("it is a number of bytes, or as 512M or 2G")
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
    let discard = args.discard.then(|| Discard {
        machines_network: args.network,
        setup: args.setup,
        ..Discard::default()
    });
    let command = match &discard {
        Some(discard) if !discard.setup.is_empty() => program.command_after_setup()?,
        _ => program.command()?,
    };
    let dir = match &args.output {
        Some(dir) => dir.clone(),
        None => new_directory(&name)?,
    };
    let default = KeptLimits::default();
    let kept_limits = KeptLimits {
        one: args.world_file_limit.unwrap_or(default.one),
        all: args.world_limit.unwrap_or(default.all),
    };
    let options = record::Options {
        command,
        dir: dir.clone(),
        on_full: args.on_full,
        on_start: None,
        observer: None,
        wait_all: args.wait_all,
        alone: false,
        kept: args.world,
        discard,
        kept_limits,
    };
    let ended = record::record_in_separate_process(options, Front::StandsForProgram);
    if let Some(signal) = ended.forced {
        interrupt::end(signal, Some(&dir));
    }
    // rrapper ends as the program ended, whatever signal there was.
    let recorded = ended.result?;
    if args.output.is_none() {
        mark_latest(&recorded.dir);
    }
    // A requested end needs no message.
    let unasked = ended.signal.is_none() && !common.quiet;
    if let Some(note) = recorded.leftovers().filter(|_| unasked) {
        output::complain(format!(
            "{note}; with --wait-all, the recording ends with the last one"
        ));
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
