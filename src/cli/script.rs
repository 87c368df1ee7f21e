//! `rrapper SCRIPT.lua`.

use super::interrupt::Interrupts;
use super::{Common, FAILED, output};
use crate::lua::{self, Script};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::io::Read;
use std::rc::Rc;

const COMMANDS: [&str; 9] = [
    "record", "replay", "events", "doctor", "list", "rm", "prune", "pack", "trace",
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
    let interrupts = Interrupts::listen(common.quiet);
    let Err(error) = lua::run(&script, Rc::new(interrupts.clone())) else {
        return Ok(0);
    };
    interrupts.settle();
    output::complain(&error.message);
    if let Some(traceback) = error.traceback.filter(|_| common.verbose) {
        eprintln!("stack traceback:\n\t{}", traceback.trim_start());
    }
    Ok(FAILED)
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
            let near = COMMANDS
                .iter()
                .find(|command| strsim::damerau_levenshtein(command, &name) <= 2);
            match near {
                Some(command) if error.kind() == std::io::ErrorKind::NotFound => {
                    bail!("there is no script {name:?}; did you mean the command \"{command}\"?")
                }
                _ => Err(error).with_context(|| format!("cannot read the script {name:?}")),
            }
        }
    }
}
