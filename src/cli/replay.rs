//! `rrapper replay`.

use super::interrupt::Interrupts;
use super::{FAILED, output, recording_name};
use crate::kernel::Stream;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The recording: a directory, a packed file, or a name such as `latest` or `cat-0` in the default place
    recording: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    Interrupts::listen(false);
    let mut replayer = recording_name::open(&args.recording)?;
    replayer.set_output(Box::new(pass_on));
    let Some(exit) = replayer.run_to_end()? else {
        let last = replayer.recording().len();
        output::complain(format!(
            "the recording is incomplete: it ends at event {last}"
        ));
        return Ok(FAILED);
    };
    drop(replayer);
    Ok(output::end_as(exit))
}

/// Writes the program's output. Where the reader has closed the pipe, the replay ends by SIGPIPE as other programs end.
fn pass_on(stream: Stream, bytes: &[u8]) {
    let written = match stream {
        Stream::Stderr => io::stderr().write_all(bytes),
        _ => output::print(bytes),
    };
    if let Err(error) = written {
        let status = if error.kind() == ErrorKind::BrokenPipe {
            output::die(libc::SIGPIPE)
        } else {
            output::complain(format!("cannot write what the program wrote: {error}"));
            FAILED
        };
        std::process::exit(status);
    }
}
