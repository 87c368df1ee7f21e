//! `rrapper pack`.

use super::{Common, output, recording_name};
use crate::recording::{PackedFiles, Reader, pack, resolve_latest};
use anyhow::Context;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The recording: a directory, or a name such as `latest` or `cat-0` in the default place
    recording: PathBuf,
    /// The file to write [default: NAME.rrp]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let recording = match resolve_latest(&args.recording) {
        path if path == args.recording => recording_name::path(&path)?,
        path => path,
    };
    let recording = Reader::open(&recording)?;
    let target = match &args.output {
        Some(target) => target.clone(),
        None => {
            let name = recording.dir().file_name();
            let mut name = name
                .context("the recording has no name: say one with -o")?
                .to_owned();
            name.push(".rrp");
            name.into()
        }
    };
    let files = pack(&recording, &target)?;
    if let Some(note) = left_out(&files).filter(|_| !common.quiet) {
        output::complain(note);
    }
    if !common.quiet {
        let (dir, target) = (recording.dir().display(), target.display());
        let with = match files.copied {
            0 => String::new(),
            1 => String::from(" with a file of the machine"),
            copied => format!(" with {copied} files of the machine"),
        };
        output::complain(format!("packed {dir} into {target}{with}"));
    }
    Ok(0)
}

/// A sentence about the files of the machine that are not in the packed recording, if there are any.
fn left_out(files: &PackedFiles) -> Option<String> {
    const NAMED: usize = 3;
    let (_, reason) = files.left_out.first()?;
    let names = files.left_out.iter().map(|(path, _)| path.display());
    let mut names: Vec<String> = names.take(NAMED).map(|name| name.to_string()).collect();
    if files.left_out.len() > NAMED {
        names.push(format!("{} more", files.left_out.len() - NAMED));
    }
    let one = files.left_out.iter().all(|(_, other)| other == reason);
    let first = if one { "" } else { "the first: " };
    let names = names.join(", ");
    Some(format!(
        "no copy of files that the recording names is packed ({first}{reason}): {names}"
    ))
}
