//! `rrapper SCRIPT.lua`.

use super::interrupt::Interrupts;
use super::{Common, FAILED, output};
use crate::lua::{self, Script};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::io::Read;
use std::rc::Rc;

const COMMANDS: [&str; 10] = [
    "record", "replay", "events", "doctor", "doc", "list", "rm", "prune", "pack", "trace",
];

pub(super) fn run(args: Vec<OsString>, common: &Common) -> anyhow::Result<i32> {
    let mut args = args.into_iter();
    let name = args.next().context("no script is named")?;
    let text = read(&name)?;
    let script = Script {
        text,
        name: match name.to_string_lossy() {
            name if name == "-" => String::from("stdin"),
            name => name.into_owned(),
        },
        args: args.collect(),
    };
    let interrupts = Interrupts::listen_for_script(common.quiet);
    let ran = lua::run(&script, Rc::new(interrupts.clone()));
    interrupts.conclude();
    let Err(error) = ran else {
        return Ok(0);
    };
    interrupts.settle();
    interrupts.conclude();
    output::complain(&error.message);
    if let Some(traceback) = error.traceback.filter(|_| common.verbose) {
        let traceback = output::lines(traceback.trim_start());
        eprintln!("stack traceback:\n\t{traceback}");
    }
    Ok(FAILED)
}

/// Whether a name looks like a command rather than a file.
fn is_word(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn read(name: &OsString) -> anyhow::Result<Vec<u8>> {
    if name == "-" {
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .context("cannot read the script from standard input")?;
        return Ok(text);
    }
    match std::fs::read(name) {
        Ok(text) => Ok(text),
        Err(error) => {
            let name = name.to_string_lossy();
            let distance = |command: &str| strsim::damerau_levenshtein(command, &name);
            // In short names, one letter may be wrong: `run` is no misspelled `rm`.
            let near = COMMANDS
                .iter()
                .filter(|command| distance(command) <= command.len().max(name.len()) / 3)
                .min_by_key(|command| distance(command));
            match near {
                Some(command) if error.kind() == std::io::ErrorKind::NotFound => {
                    bail!("there is no script {name:?}; did you mean the command \"{command}\"?")
                }
                None if error.kind() == std::io::ErrorKind::NotFound && is_word(&name) => {
                    bail!("there is no script and no command {name:?} (see rrapper --help)")
                }
                _ => Err(error).with_context(|| format!("cannot read the script {name:?}")),
            }
        }
    }
}
