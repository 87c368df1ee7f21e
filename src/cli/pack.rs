//! `rrapper pack`.

use super::{Common, output, recording_name};
use crate::recording::{Reader, pack, resolve_latest};
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
    pack(&recording, &target)?;
    if !common.quiet {
        let (dir, target) = (recording.dir().display(), target.display());
        output::complain(format!("packed {dir} into {target}"));
    }
    Ok(0)
}
