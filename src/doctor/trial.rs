//! A trial of everything together: a small program is recorded and replayed, and a copy of it is driven to its end.

use super::Finding;
use crate::inject::{self, NoHooks, Script, Status};
use crate::record::{self, Program};
use crate::replay;
use crate::trace::Exit;
use anyhow::Context;
use std::path::Path;

pub(super) fn examine() -> Finding {
    let name = "trial";
    match in_temporary_folder() {
        Ok(events) => Finding::ok(
            name,
            format!("the program \"true\" was recorded ({events} events), replayed, and a copy of it driven to its end"),
            "rrapper works here",
        )
        .essential(),
        Err(error) => Finding::lack(
            name,
            format!("the program \"true\" could not be recorded, replayed and driven through its recording: {error:#}"),
            "rrapper does not work here",
            "see the lacks above; if there is none, please report this line",
        )
        .essential(),
    }
}

fn in_temporary_folder() -> anyhow::Result<u64> {
    let folder = tempfile::Builder::new().prefix("rrapper-doctor-").tempdir();
    let folder = folder
        .with_context(|| format!("cannot make a folder in {}", std::env::temp_dir().display()))?;
    // The recorder creates the directory of a recording itself.
    attempt(&folder.path().join("recording"))
}

fn attempt(dir: &Path) -> anyhow::Result<u64> {
    let command = Program::new(["true"]).command()?;
    let recorded = record::record(record::Options::new(command, dir.to_path_buf()))?;
    anyhow::ensure!(
        recorded.exit == Exit::Code(0),
        "it ended otherwise: {}",
        recorded.exit.in_words()
    );
    let mut replayer = replay::open(&recorded.dir)?;
    let replayed = replayer.run_to_end()?;
    anyhow::ensure!(
        replayed == Some(recorded.exit),
        "its replay ended otherwise: {replayed:?}"
    );
    replayer.replay_to(1)?;
    let copy = replayer.spin_off(None)?;
    let script = Script::of_recording(&copy)?;
    let options = inject::Options::default();
    let outcome = inject::inject(copy, script, &mut NoHooks, &options)?.outcome;
    let status = outcome.status;
    let right = matches!(status, Status::Exited | Status::Completed);
    anyhow::ensure!(right, "its copy {}", status.name());
    Ok(recorded.events)
}
