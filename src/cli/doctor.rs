//! `rrapper doctor`.

use super::output;
use crate::doctor::{self, Finding};
use crate::recording::default_directory;
use crate::trace_report::Object;
use std::path::PathBuf;

/// The exit status where rrapper cannot work.
const BROKEN: i32 = 1;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let place = default_directory().unwrap_or_else(|_| PathBuf::from("rrapper"));
    let findings = doctor::examine(&place);
    let text: Vec<u8> = match args.json {
        true => findings.iter().flat_map(json).collect(),
        false => findings
            .iter()
            .flat_map(|finding| format!("{finding}\n").into_bytes())
            .collect(),
    };
    let status = output::finish(output::print(&text))?;
    Ok(if doctor::works(&findings) {
        status
    } else {
        BROKEN
    })
}

fn json(finding: &Finding) -> Vec<u8> {
    let mut object = Object::of_type(finding.state.name());
    object.text("name", finding.name.as_bytes());
    object.text("tried", finding.tried.as_bytes());
    object.text("means", finding.means.as_bytes());
    object.text("advice", finding.advice.as_bytes());
    let mut line = object.finish();
    line.push(b'\n');
    line
}
