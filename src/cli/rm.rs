//! `rrapper rm`.

use super::{FAILED, output, sentence};
use crate::recording::{remove, resolve_latest};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Recordings: directories, packed files, or names such as `latest` or `cat-0` in the default place
    #[arg(required = true, value_name = "NAME")]
    recordings: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let mut status = 0;
    for name in &args.recordings {
        if let Err(error) = remove(&resolve_latest(name)) {
            output::complain(sentence(&error.into()));
            status = FAILED;
        }
    }
    Ok(status)
}
