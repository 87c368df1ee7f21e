//! The command line: one file a subcommand, each a thin caller of the library.

mod doc;
mod doctor;
mod events;
mod filter_args;
mod interrupt;
mod list;
mod log;
mod output;
mod pack;
mod prune;
mod record;
mod recording_name;
mod replay;
mod rm;
mod script;
mod trace;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser, Subcommand};
use std::ffi::OsString;

/// The exit status of usage errors, script errors, and all other errors of rrapper itself.
const FAILED: i32 = 2;

#[derive(Parser)]
#[command(
    name = "rrapper",
    version,
    about = "Record a program once; then let a Lua script go to any of its system calls, spin a live copy of the \
             process off there, and answer the next calls as it likes: as recorded, edited, or with errors that the \
             environment never produced.",
    override_usage = "rrapper [OPTIONS] SCRIPT.lua [ARGS]...\n       rrapper [OPTIONS] COMMAND ...",
    after_help = "A first argument that is no command is a script (`-` reads it from standard input):\n\n    \
                  rrapper scripts/quickstart.lua\n\n\
                  Exit status: 0 done, what the script gives os.exit, 2 usage or script error; `record` and `replay` \
                  exit as the program did.\n\
                  RRAPPER_LOG=rrapper=debug and the like say in detail what is logged.",
    subcommand_required = true,
    arg_required_else_help = true,
    allow_external_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    /// Print more: full arguments (events), Lua tracebacks, log messages; may be repeated
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Print only the requested output
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Record a program
    Record(record::Args),
    /// Replay a recording to its end: prints the program's output, exits with its status
    Replay(replay::Args),
    /// List a recording's events in strace's syntax, with their numbers
    Events(events::Args),
    /// Check which features this machine supports, with advice for missing ones
    Doctor(doctor::Args),
    /// Print what rrapper knows of system calls
    Doc(doc::Args),
    /// List the recordings in the default place, or in a directory
    List(list::Args),
    /// Delete recordings; refuses any other file or directory
    Rm(rm::Args),
    /// Delete old recordings, and stored files that no remaining recording uses
    Prune(prune::Args),
    /// Pack a recording into one file, which can be moved to another machine and used directly
    Pack(pack::Args),
    /// Check, print, convert or count traces written by strace
    Trace(trace::Args),
    #[command(external_subcommand)]
    Script(Vec<OsString>),
}

/// The options of all commands.
struct Common {
    verbose: bool,
    quiet: bool,
}

/// Runs the command line. Returns the exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // The first -v of `events` shows full arguments.
    let shows = u8::from(matches!(cli.command, Command::Events(_)));
    log::start(cli.verbose.saturating_sub(shows), cli.quiet);
    let common = Common {
        verbose: cli.verbose > 0,
        quiet: cli.quiet,
    };
    let result = match cli.command {
        Command::Record(args) => record::run(args, &common),
        Command::Replay(args) => replay::run(&args),
        Command::Events(args) => events::run(&args, &common),
        Command::Doctor(args) => doctor::run(&args),
        Command::Doc(args) => doc::run(&args),
        Command::List(args) => list::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Prune(args) => prune::run(&args, &common),
        Command::Pack(args) => pack::run(&args, &common),
        Command::Trace(args) => trace::run(&args, &common),
        Command::Script(args) => script::run(args, &common),
    };
    result.unwrap_or_else(|error| {
        output::complain(sentence(&error));
        FAILED
    })
}

/// An error with its causes, each once: many messages contain their cause.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            said if said.contains(&cause) => said.to_string(),
            said => format!("{said}: {cause}"),
        }
    })
}

/// Prints clap's help and version; its errors as one sentence.
fn usage(error: &clap::Error) -> i32 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::finish(output::print(error.to_string().as_bytes())).unwrap_or(FAILED)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", output::lines(&error.to_string()));
            FAILED
        }
        _ => {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.split_whitespace().collect();
            let sentence = words.join(" ");
            let near = near(error);
            let see = if near.is_empty() {
                " (see rrapper --help)"
            } else {
                ""
            };
            output::complain(format!(
                "{}{near}{see}",
                sentence.trim_start_matches("error: ")
            ));
            FAILED
        }
    }
}

/// Clap's suggestion: `; did you mean "--syscall"?`, or an empty text.
fn near(error: &clap::Error) -> String {
    let suggested = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let names = suggested.iter().filter_map(|kind| error.get(*kind));
    let names: Vec<String> = names
        .flat_map(|value| match value {
            ContextValue::String(name) => vec![format!("\"{name}\"")],
            ContextValue::Strings(names) => {
                names.iter().map(|name| format!("\"{name}\"")).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}
