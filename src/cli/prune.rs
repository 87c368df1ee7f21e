//! `rrapper prune`.

use super::{Common, FAILED, list, output, sentence};
use crate::recording::{self, Prune, default_directory};
use std::fmt::Write as _;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Delete recordings that are older than this: 30d, 12h, 2w, 45m
    #[arg(long, value_name = "AGE", value_parser = age, conflicts_with = "keep")]
    older: Option<Duration>,
    /// Delete all recordings but the COUNT newest
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,
    /// Print the recordings that would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// Parses a number with a unit.
fn age(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "it is a number and a unit: 30d, 12h, 2w, 45m";
    const UNITS: [(char, u64); 4] = [('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let &(unit, seconds) = unit.ok_or(WRONG)?;
    let number = text.trim_end_matches(unit);
    if number.len() + 1 != text.len() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WRONG);
    }
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let seconds = number.checked_mul(seconds).ok_or(WRONG)?;
    Ok(Duration::from_secs(seconds))
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<i32> {
    let which = match (args.older, args.keep) {
        (Some(age), _) => Prune::Older(age),
        (None, Some(count)) => Prune::Keep(count),
        (None, None) => Prune::Nothing,
    };
    let done = recording::prune(&default_directory()?, which, args.dry_run)?;
    let mut text = String::new();
    for name in &done.removed {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", output::plain(&name.to_string_lossy()));
    }
    let status = output::finish(output::print(text.as_bytes()))?;
    for (name, error) in &done.failed {
        let name = output::plain(&name.to_string_lossy());
        output::complain(format!(
            "{name} is left: {}",
            sentence(&anyhow::anyhow!("{error}"))
        ));
    }
    if !common.quiet {
        let (removed, freed) = match args.dry_run {
            true => ("would remove", "would free"),
            false => ("removed", "freed"),
        };
        let count = match done.removed.len() {
            1 => String::from("1 recording"),
            count => format!("{count} recordings"),
        };
        let bytes = list::human(done.freed);
        output::complain(format!("{removed} {count}, {freed} {bytes}"));
    }
    Ok(match done.failed.is_empty() {
        true => status,
        false => FAILED,
    })
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("45m", 2700),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(age(text).map(|age| age.as_secs()), Ok(seconds));
        }
        for text in [
            "",
            "d",
            "30",
            "3.5d",
            "-1d",
            "+1d",
            "30dd",
            "30 d",
            "30s",
            "99999999999999999999d",
            "9999999999999999w",
        ] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
